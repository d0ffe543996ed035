//! The process around the shards: threads, sockets, settings. It wires, it does not decide.
//!
//! ```text
//!   transport ──► dispatch ──► inbox (a queue a tenant) ──► writer thread: Shard::step
//!       ▲                                                        │ outputs
//!       └──────────────── hub: sessions ◄────── replies, deliveries, fetches
//! ```
//!
//! Invariants:
//! - The writer never waits for a socket, the network never waits for a disk.
//! - Every queue between threads is bounded; full means an answer, not waiting.
//! - A change of the metadata reaches every shard before its answer reaches the client.
//!
//! Start reading at [`start`], then `dispatch.rs` and `threads/mod.rs`.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod bare;
pub mod config;

mod before;
mod bodies;
mod boot;
mod deliver;
mod dispatch;
mod fairness;
mod fan_out;
mod find;
mod folder;
mod hub;
mod inbox;
pub mod offline;
pub mod os;
mod outputs;
mod policy;
mod rest;
mod routes;
mod runner;
mod tasks;
mod threads;
mod time;
mod watermark;
mod within;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;

use yard_transport::Transport;
use yard_wire::{Code, Refusal};

pub use boot::{COMPILE_ARGUMENT, StartError, compile_child, start};
pub use folder::Connection;
pub use policy::PolicyError;
pub use within::{Surroundings, start_within};

use hub::Hub;
use policy::Policies;
use runner::RunningShard;

/// A broker that runs in this process.
pub struct Running {
    transport: Transport,
    hub: Arc<Hub>,
    shards: Vec<RunningShard>,
    connection: Connection,
    local: SocketAddr,
    /// Holds the lock of the data folder for as long as the broker runs.
    folder: Option<folder::Folder>,
    /// Last, so that whoever drops a broker that runs as tasks has ended these before.
    _ends_policies: EndsPolicies,
}

/// Ends the threads of the policies of a broker that was dropped instead of stopped.
struct EndsPolicies(Arc<Policies>);

impl Drop for EndsPolicies {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Running {
    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What a client needs to connect as an operator of the default tenant. Certificate and key
    /// are there in development mode only.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ends the broker: no more requests, then what was taken in is made durable.
    pub async fn stop(self) {
        let Self { transport, hub, shards, folder, .. } = self;
        transport.shutdown(&Refusal::from(Code::ShuttingDown)).await;
        stop_shards(&hub, shards).await;
        drop(folder);
        tracing::info!("broker stopped");
    }
}

/// Makes durable what the shards have taken in, and ends their threads.
async fn stop_shards(hub: &Hub, shards: Vec<RunningShard>) {
    for inbox in &hub.inboxes {
        inbox.close();
    }
    runner::ended(shards).await;
    let policies = Arc::clone(&hub.policies);
    if tokio::task::spawn_blocking(move || policies.close()).await.is_err() {
        tracing::error!("the policies did not end");
    }
    // Who still reads holds the files, and with them the lock of the folder.
    for log in &hub.logs {
        log.unread().await;
    }
}
