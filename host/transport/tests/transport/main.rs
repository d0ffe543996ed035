//! The transport against clients that behave, and many that do not, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may give up")]

mod bounds;
mod hostile;
mod life;
mod support;
mod tls;
