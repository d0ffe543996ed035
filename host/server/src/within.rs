//! A broker inside a world from outside: its disks, its network, its clocks and its randomness
//! are what it is given, and it runs as tasks of the runtime that it was started in.
//!
//! What is decided is decided by the same code as in a process of its own: only who does the work
//! differs, and what is done for the machine alone is left out (slowing tenants when processors
//! are short, watching the disk's use, giving memory back).
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use yard_store::{Disk, Io};
use yard_transport::{RESET_KEY_BYTES, ServerIdentity};
use yard_wire::Timestamp;

use crate::Running;
use crate::boot::{self, Ground, StartError};
use crate::config::Settings;
use crate::folder::{Keys, SHARDS};
use crate::time::Wall;

/// The world. A broker may be started in one again and again: what its disks hold stays.
pub trait Surroundings: Send + Sync + 'static {
    /// The disk of a shard, for this life of the broker.
    fn disk(&self, shard: u16) -> Arc<dyn Disk>;

    /// How long something takes on it.
    fn takes(&self, io: &Io) -> Duration;

    /// An endpoint on the world's network at the address of the settings.
    ///
    /// # Errors
    /// When the address cannot be had.
    fn endpoint(
        &self,
        config: quinn::EndpointConfig,
        server: quinn::ServerConfig,
    ) -> io::Result<quinn::Endpoint>;

    /// The broker's certificate, and whom it lets in.
    fn identity(&self) -> ServerIdentity;

    /// The secret behind stateless resets, the same in every life.
    fn reset_key(&self) -> [u8; RESET_KEY_BYTES];

    /// The clock on the wall, in milliseconds since 1970.
    fn wall(&self) -> Timestamp;

    /// Where a shard's random numbers begin, in this life.
    fn seed(&self, shard: u16) -> u64;

    /// A folder for compiled plugins, which brokers may share.
    fn plugins(&self) -> PathBuf;
}

/// Starts a broker in a world; must be called inside a tokio runtime with timers, whose threads
/// then do all its work. Of the settings it takes those that are not about files.
///
/// What is returned ends the broker when it is dropped, as if it had been killed: nothing that it
/// has begun is done, nobody is told.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start_within(
    settings: Settings,
    surroundings: Arc<dyn Surroundings>,
) -> Result<Running, StartError> {
    let ground = Ground {
        disks: (0..settings.shards.unwrap_or(SHARDS)).map(|it| surroundings.disk(it)).collect(),
        keys: Keys { server: surroundings.identity(), authority: None, operator: None },
        reset_key: surroundings.reset_key(),
        policies: boot::start_policies(&surroundings.plugins(), &settings)?,
        wall: Wall::Within(surroundings),
        folder: None,
    };
    boot::start_on(settings, ground).await
}
