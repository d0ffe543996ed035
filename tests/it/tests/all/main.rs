//! Everything that holds between real parts: the real client and raw frames against the server in
//! this process, and the program `yard` as a process of its own.
//!
//! ```text
//!   basics, delivery, holding, ordered, seeking, sending, topics, tenants, restart, transactions,
//!   bad_input
//!                                                  server in this process
//!   authoring, backup, console, contexts, dead_letters, deduping, draining, finding, identity,
//!   policies, sql_code, trials, slow_consumer, disk_full, retention, crash, flights, life
//!                                                  `yard serve`, killed if need be
//! ```
//!
//! No test depends on how fast the machine is: what must happen is waited for with a deadline of a
//! minute, what must not happen is ruled out by something that happens after it.
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod assigned;
mod authoring;
mod backup;
mod bad_input;
mod basics;
mod bench;
mod console;
mod contexts;
mod crash;
mod dead_letters;
mod deduping;
mod delivery;
mod disk_full;
mod draining;
mod finding;
mod flights;
mod holding;
mod identity;
mod life;
mod local;
mod lossy;
mod ordered;
mod points;
mod policies;
mod program;
mod restart;
mod retention;
mod seeking;
mod sending;
mod slow_consumer;
mod slow_peer;
mod sql_code;
mod tenants;
mod topics;
mod tracing;
mod transactions;
mod trials;
