//! Versions of a filter that change hands under load. Every message is judged once: what is wanted
//! arrives once and in order, what is not is settled, and the counts of both versions add up.
//!
//! ```text
//!   sender ──► a b a b … until enough was sent and swapped        swapper: promote 1, 2, 1, 2 …
//!   consumer ◄── a a a …                                          counts of the versions
//! ```
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use yard_client::wire::operation::{PluginInfo, PluginPromote, PluginPush, TopicCreate};
use yard_client::wire::plugin::Blob;
use yard_client::{Client, Consumer, Message, Start};

use crate::wait::until;
use crate::{Failed, Server, guests};

/// Name of the topic, of the plugin and of the group.
const TOPIC: &str = "swapped";
const PLUGIN: &str = "letters";
/// How often somebody who receives nothing looks whether all was sent.
const LOOK: Duration = Duration::from_millis(200);
/// After so long without a message the rest is lost.
const PATIENCE_LOOKS: u32 = 300;

/// How much is to happen at least.
#[derive(Clone, Copy, Debug)]
pub struct Swaps {
    /// Messages that are sent.
    pub messages: usize,
    /// Times that another version decides from then on.
    pub swaps: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Messages that were sent; every other one is wanted.
    pub sent: usize,
    /// Swaps that were made.
    pub swaps: u32,
    /// Wanted messages that did not come.
    pub lost: usize,
    /// Messages that came again.
    pub repeated: usize,
    /// Messages that came and were not wanted.
    pub unwanted: usize,
    /// Messages that came before one that was in front of them in their queue.
    pub reordered: usize,
    /// Messages that both versions were asked about, added up.
    pub judged: u64,
    /// Versions that decided about something.
    pub versions: usize,
    /// Times that a version failed.
    pub faults: u64,
}

impl Found {
    /// Whether every message was judged once, by one of two versions.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let Self { lost, repeated, unwanted, reordered, faults, .. } = *self;
        let none = (lost, repeated, unwanted, reordered, faults) == (0, 0, 0, 0, 0);
        none && self.judged == self.sent as u64 && self.versions == 2
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, lost, repeated, unwanted, reordered, judged, versions, faults, .. } = self;
        write!(
            f,
            "{sent} messages: {lost} lost, {repeated} repeated, {unwanted} unwanted, {reordered} \
             reordered; {judged} judged by {versions} versions, {faults} faults"
        )
    }
}

/// Swaps two versions while messages flow, on a server of which nothing else is wanted.
///
/// # Errors
/// When the server refuses something, or does not answer.
pub async fn run(server: &Server, wanted: Swaps) -> Result<Found, Failed> {
    let client = server.client("swaps").await?;
    let create = TopicCreate { name: TOPIC.into(), queues: 4, ..TopicCreate::default() };
    client.admin().call(create).await?;
    for label in ["1.0.0", "2.0.0"] {
        let wasm = Blob(guests::filter(PLUGIN, label, 'a', None).into());
        client.admin().call(PluginPush { wasm, ..PluginPush::default() }).await?;
    }
    let consumer = client.consumer(TOPIC, "g").start(Start::Earliest);
    let mut consumer = consumer.expression("plugin", PLUGIN).build().await?;
    let swaps = Arc::new(AtomicU32::new(0));
    // What was sent, once that is known.
    let sent = Arc::new(AtomicUsize::new(usize::MAX));
    let swapping = tokio::spawn(swap(
        server.client("swapper").await?,
        wanted,
        Arc::clone(&swaps),
        Arc::clone(&sent),
    ));
    let sender = server.client("sender").await?;
    let sending = tokio::spawn(send(sender, wanted, Arc::clone(&swaps), Arc::clone(&sent)));
    let mut found = receive(&mut consumer, &sent).await?;
    swapping.await??;
    sending.await??;
    found.sent = sent.load(Ordering::Acquire);
    found.swaps = swaps.load(Ordering::Acquire);
    let all = found.sent as u64;
    let counted = until("the versions have counted everything", || async {
        let info = client.admin().call(PluginInfo { name: PLUGIN.into() }).await.ok()?;
        let judged: u64 = info.runs.iter().map(|run| run.messages).sum();
        (judged >= all).then_some(info)
    });
    let info = counted.await?;
    found.judged = info.runs.iter().map(|run| run.messages).sum();
    found.versions = info.runs.iter().filter(|run| run.messages > 0).count();
    found.faults = info.runs.iter().map(|run| run.faults).sum();
    client.close().await;
    Ok(found)
}

async fn swap(
    client: Client,
    wanted: Swaps,
    swaps: Arc<AtomicU32>,
    sent: Arc<AtomicUsize>,
) -> Result<(), Failed> {
    let mut count = 0;
    while count < wanted.swaps || sent.load(Ordering::Acquire) == usize::MAX {
        let version = Some(1 + count % 2);
        client.admin().call(PluginPromote { name: PLUGIN.into(), version }).await?;
        count += 1;
        swaps.store(count, Ordering::Release);
    }
    client.close().await;
    Ok(())
}

async fn send(
    client: Client,
    wanted: Swaps,
    swaps: Arc<AtomicU32>,
    sent: Arc<AtomicUsize>,
) -> Result<(), Failed> {
    let producer = client.producer(TOPIC).build().await?;
    let mut receipts = std::collections::VecDeque::new();
    let mut count = 0;
    while count < wanted.messages || swaps.load(Ordering::Acquire) < wanted.swaps {
        let tag = if count % 2 == 0 { "a" } else { "b" };
        let message = Message::new(count.to_string()).tag(tag);
        receipts.push_back(producer.enqueue(message).await?);
        count += 1;
        // Receipts are looked at on the way, so that they do not pile up.
        if receipts.len() > 10_000 {
            receipts.pop_front().expect("there are many").await?;
        }
    }
    for receipt in receipts {
        receipt.await?;
    }
    sent.store(count, Ordering::Release);
    producer.close().await?;
    client.close().await;
    Ok(())
}

async fn receive(consumer: &mut Consumer, sent: &AtomicUsize) -> Result<Found, Failed> {
    let mut found = Found::default();
    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
    let (mut seen, mut came, mut looks) = (Vec::new(), 0, 0);
    loop {
        let all = sent.load(Ordering::Acquire);
        let due = if all == usize::MAX { usize::MAX } else { all.div_ceil(2) };
        if came >= due || looks > PATIENCE_LOOKS {
            found.lost = due.saturating_sub(came);
            return Ok(found);
        }
        let Ok(delivery) = tokio::time::timeout(LOOK, consumer.recv()).await else {
            looks += 1;
            continue;
        };
        looks = 0;
        let delivery = delivery?;
        let body = delivery.body()?;
        let number = std::str::from_utf8(&body).ok().and_then(|text| text.parse().ok());
        let number: usize = number.ok_or_else(|| Failed("a message of others".to_owned()))?;
        if seen.len() <= number {
            seen.resize(number + 1, false);
        }
        let is_again = std::mem::replace(&mut seen[number], true);
        found.repeated += usize::from(is_again);
        came += usize::from(!is_again && number.is_multiple_of(2));
        found.unwanted += usize::from(number % 2 == 1);
        let (queue, offset) = (delivery.queue().0, delivery.offset().0);
        let before = last.insert(queue, offset);
        found.reordered += usize::from(before.is_some_and(|before| before >= offset));
        delivery.ack_later();
    }
}
