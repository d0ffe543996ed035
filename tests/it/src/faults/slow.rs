//! A slow disk: each fdatasync of a broker under load takes a fifth of a second longer for a
//! while; nothing acknowledged is lost, and then all goes on as before.
//!
//! Beside it runs a broker with the same load and a healthy disk. What the machine does to both is
//! nobody's recovery: rates are those of the one for each message of the other, and how long it
//! takes until all is well again is told by the clock of the other: by what it stored meanwhile.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use yard_client::wire::operation::TopicCreate;
use yard_client::{Ack, Client, Message};

use super::script::fetch;
use super::strace::Late;
use crate::Failed;
use crate::server::{Server, ServerOptions};
use crate::wait::{PATIENCE, until};

const TOPIC: &str = "slow";
const SENDERS: u64 = 8;
/// How much longer a sync takes, in microseconds.
const DELAY_US: u64 = 200_000;
/// How long both are compared before.
const BEFORE: Duration = Duration::from_secs(1);
/// What the healthy one stores in a look at both, in parts of what it stored before.
const LOOKS: u64 = 8;

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Messages acknowledged, and found again.
    pub acknowledged: u64,
    /// Messages for each of the healthy broker: before, while syncs were late, and once all was
    /// well again.
    pub shares: (f64, f64, f64),
    /// How long after the last late sync half the share of before was there again, by what the
    /// healthy broker stored meanwhile and how fast it did so before.
    pub back_after: Duration,
}

/// A broker under load.
struct Side {
    server: Server,
    senders: JoinSet<Result<(), Failed>>,
    noted: Arc<Noted>,
}

/// What its senders say.
#[derive(Default)]
struct Noted {
    count: AtomicU64,
    acknowledged: Mutex<BTreeSet<Vec<u8>>>,
    stop: AtomicBool,
}

impl Side {
    async fn start(yard: &Path) -> Result<Self, Failed> {
        let server = Server::start(ServerOptions::new(yard.to_owned())).await?;
        let client = server.client("slow").await?;
        let args = TopicCreate { name: TOPIC.to_owned(), queues: 1, ..TopicCreate::default() };
        client.admin().call(args).await?;
        client.close().await;
        let (mut senders, noted) = (JoinSet::new(), Arc::new(Noted::default()));
        for sender in 0..SENDERS {
            let client = server.client(&format!("sender-{sender}")).await?;
            senders.spawn(send(client, sender, Arc::clone(&noted)));
        }
        Ok(Self { server, senders, noted })
    }

    fn count(&self) -> u64 {
        self.noted.count.load(Ordering::Relaxed)
    }

    /// Lets the load end.
    async fn rest(&mut self) -> Result<(), Failed> {
        self.noted.stop.store(true, Ordering::Relaxed);
        while self.senders.join_next().await.transpose()?.transpose()?.is_some() {}
        Ok(())
    }

    /// Kills and starts it, and looks for what was acknowledged; returns how many.
    async fn verify(mut self) -> Result<u64, Failed> {
        self.server.kill9()?;
        self.server.restart().await?;
        let client = self.server.client("after").await?;
        let found: BTreeSet<Vec<u8>> =
            fetch(&client, TOPIC, 0).await?.into_iter().map(|(_, body)| body).collect();
        client.close().await;
        self.server.stop().await?;
        let acknowledged = &self.noted.acknowledged;
        let acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        match acknowledged.difference(&found).next() {
            Some(lost) => Err(Failed(format!("acknowledged and not there: {lost:?}"))),
            None => Ok(acknowledged.len() as u64),
        }
    }
}

/// Runs it; syncs are late for so long.
///
/// # Errors
/// When something acknowledged is missing, or the load does not come back at all.
pub async fn run(yard: &Path, late: Duration) -> Result<Report, Failed> {
    let (mut struck, mut healthy) = (Side::start(yard).await?, Side::start(yard).await?);
    let begun = || struck.count().min(healthy.count()) > 100;
    until("the load has begun", || async { begun().then_some(()) }).await?;
    let (stored, before) = share(&struck, &healthy, pass(BEFORE)).await?;
    let id = struck.server.process_id().ok_or_else(|| Failed("the broker is gone".to_owned()))?;
    let slow = Late::begin(id, "fdatasync", DELAY_US)?;
    let (_, during) = share(&struck, &healthy, pass(late)).await?;
    drop(slow);
    let look = (stored / LOOKS).max(1);
    let (mut after, mut seen) = (0.0, 0);
    // As much as they lent each other before was chance.
    while after < before.min(1.0) / 2.0 {
        if seen > stored * PATIENCE.as_secs() / BEFORE.as_secs() {
            return Err(Failed(format!("{after:.3} for each of the other, {before:.3} before")));
        }
        let until_stored = healthy.count() + look;
        let looking = until("the healthy broker stores", || async {
            (healthy.count() >= until_stored).then_some(())
        });
        let more;
        (more, after) = share(&struck, &healthy, looking).await?;
        seen += more;
    }
    let back_after = BEFORE.mul_f64(seen as f64 / stored.max(1) as f64);
    struck.rest().await?;
    healthy.rest().await?;
    healthy.server.stop().await?;
    let acknowledged = struck.verify().await?;
    Ok(Report { acknowledged, shares: (before, during, after), back_after })
}

async fn send(client: Client, sender: u64, noted: Arc<Noted>) -> Result<(), Failed> {
    let producer = client.producer(TOPIC).ack(Ack::Synced).build().await?;
    for number in 0u64.. {
        if noted.stop.load(Ordering::Relaxed) {
            break;
        }
        let mut body = sender.to_le_bytes().to_vec();
        body.extend_from_slice(&number.to_le_bytes());
        producer.send(Message::new(body.clone())).await?;
        noted.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(body);
        noted.count.fetch_add(1, Ordering::Relaxed);
    }
    producer.close().await?;
    client.close().await;
    Ok(())
}

/// What the healthy broker stores meanwhile, and how much the other for each of that.
async fn share(
    struck: &Side,
    healthy: &Side,
    meanwhile: impl Future<Output = Result<(), Failed>>,
) -> Result<(u64, f64), Failed> {
    let before = (struck.count(), healthy.count());
    meanwhile.await?;
    let stored = healthy.count() - before.1;
    Ok((stored, (struck.count() - before.0) as f64 / stored.max(1) as f64))
}

async fn pass(time: Duration) -> Result<(), Failed> {
    tokio::time::sleep(time).await;
    Ok(())
}
