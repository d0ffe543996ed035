//! What clients do: send, consume, look; each with a client of its own, but for who looks.
mod consume;
mod look;
mod send;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;
use yard_checker::Queue;
use yard_client::{Client, Error, Message, Record};
use yard_sim::Random;

use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::planted::Plant;
use crate::recorder::Recorder;

pub(crate) use consume::consume;
pub(crate) use look::{Reads, look, scan};
pub(crate) use send::produce;

/// The topic of a run.
pub(crate) const TOPIC: &str = "orders";
/// The group that consumes it.
pub(crate) const GROUP: &str = "workers";
/// Its number in the history.
pub(crate) const GROUP_NUMBER: u64 = 1;
/// The group of all producers.
pub(crate) const PRODUCERS: &str = "payments";
/// After a refusal that may pass.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a body that name it.
const NAME_BYTES: usize = 16;

/// What all clients of a run have.
#[derive(Clone)]
pub(crate) struct Crew {
    pub(crate) plan: Arc<Plan>,
    pub(crate) recorder: Recorder,
    pub(crate) ledger: Ledger,
    pub(crate) topic: u32,
    /// The shard of each queue.
    pub(crate) shards: Vec<u16>,
    /// Becomes true when consumers and readers shall end.
    pub(crate) ends: watch::Receiver<bool>,
    pub(crate) plant: Option<Plant>,
}

impl Crew {
    fn queue(&self, index: u16) -> Queue {
        Queue { topic: self.topic, index: u32::from(index) }
    }
}

/// A message: who sent it, its number, and filler. And the hash of what must arrive.
fn message(producer: u64, seq: u64, filler: u64, random: &mut Random) -> (Message, u64) {
    let mut body = Vec::with_capacity(NAME_BYTES + filler as usize + 8);
    body.extend_from_slice(&producer.to_le_bytes());
    body.extend_from_slice(&seq.to_le_bytes());
    while body.len() < NAME_BYTES + filler as usize {
        body.extend_from_slice(&random.word().to_le_bytes());
    }
    body.truncate(NAME_BYTES + filler as usize);
    let hash = xxh3_64(&body);
    (Message::new(body), hash)
}

/// Producer, number and hash of what arrived.
fn named(record: &Record) -> (u64, u64, u64) {
    let body = record.body();
    let word = |at: usize| {
        let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    (word(0), word(8), xxh3_64(&body))
}

/// Does something until it is not refused for now.
async fn until_done<T, F>(work: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match work().await {
            Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}

/// The connections that a client has made.
pub(crate) fn connections(client: &Client) -> u64 {
    client.paths().iter().map(|path| path.connections).sum()
}
