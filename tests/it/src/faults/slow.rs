//! A slow disk: each fdatasync of a broker under load takes a fifth of a second longer for a
//! while; nothing acknowledged is lost, and then all goes on as before.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
/// How long the rate is measured, before and after.
const WINDOW: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Messages acknowledged, and found again.
    pub acknowledged: u64,
    /// Messages a second before, while syncs were late, and once all was well again.
    pub rates: (f64, f64, f64),
    /// How long after the last late sync half the rate of before was there again.
    pub back_after: Duration,
}

/// Runs it; syncs are late for so long.
///
/// # Errors
/// When something acknowledged is missing, or the load does not come back at all.
pub async fn run(yard: &Path, late: Duration) -> Result<Report, Failed> {
    let mut server = Server::start(ServerOptions::new(yard.to_owned())).await?;
    let client = server.client("slow").await?;
    let (name, note) = (TOPIC.to_owned(), String::new());
    client.admin().call(TopicCreate { name, queues: 1, note, ..TopicCreate::default() }).await?;
    let count = Arc::new(AtomicU64::new(0));
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let stop = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let client = server.client(&format!("sender-{sender}")).await?;
        let shared = (count.clone(), acknowledged.clone(), stop.clone());
        senders.spawn(send(client, sender, shared));
    }
    until("the load has begun", || async { (count.load(Ordering::Relaxed) > 100).then_some(()) })
        .await?;
    let before = rate(&count, WINDOW).await;
    let id = server.process_id().ok_or_else(|| Failed("the broker is gone".to_owned()))?;
    let slow = Late::begin(id, "fdatasync", DELAY_US)?;
    let during = rate(&count, late).await;
    drop(slow);
    let freed = Instant::now();
    let mut after = rate(&count, WINDOW / 4).await;
    while after < before / 2.0 {
        if freed.elapsed() > PATIENCE {
            return Err(Failed(format!("{after:.0} messages a second, {before:.0} before")));
        }
        after = rate(&count, WINDOW / 4).await;
    }
    let back_after = freed.elapsed();
    stop.store(1, Ordering::Relaxed);
    while senders.join_next().await.transpose()?.transpose()?.is_some() {}
    server.kill9()?;
    server.restart().await?;
    let client = server.client("after").await?;
    let found: BTreeSet<Vec<u8>> =
        fetch(&client, TOPIC, 0).await?.into_iter().map(|(_, body)| body).collect();
    let acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(lost) = acknowledged.difference(&found).next() {
        return Err(Failed(format!("acknowledged and not there: {lost:?}")));
    }
    client.close().await;
    server.stop().await?;
    let acknowledged = acknowledged.len() as u64;
    Ok(Report { acknowledged, rates: (before, during, after), back_after })
}

type Shared = (Arc<AtomicU64>, Arc<Mutex<BTreeSet<Vec<u8>>>>, Arc<AtomicU64>);

async fn send(client: Client, sender: u64, shared: Shared) -> Result<(), Failed> {
    let (count, acknowledged, stop) = shared;
    let producer = client.producer(TOPIC).ack(Ack::Synced).build().await?;
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) != 0 {
            break;
        }
        let mut body = sender.to_le_bytes().to_vec();
        body.extend_from_slice(&number.to_le_bytes());
        producer.send(Message::new(body.clone())).await?;
        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(body);
        count.fetch_add(1, Ordering::Relaxed);
    }
    producer.close().await?;
    client.close().await;
    Ok(())
}

/// Messages a second over this time.
async fn rate(count: &AtomicU64, time: Duration) -> f64 {
    let (began, before) = (Instant::now(), count.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    (count.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64()
}
