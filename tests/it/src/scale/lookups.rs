//! What producing notices of somebody who looks for messages all the time.
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use yard_client::wire::requests::Wanted;
use yard_client::wire::{MessageId, QueueIndex, Timestamp};
use yard_client::{Client, Message};

use super::Spread;
use crate::neighbour::{BODY_BYTES, Round, rate_max, round, tenant_with_topic};
use crate::server::{Server, ServerOptions};
use crate::{Failed, Seeded};

/// Messages that are looked for: every so many of those that are stored before.
const NOTED_EVERY: usize = 64;
/// Messages that may wait for their answers meanwhile.
const WAITING_MAX: usize = 4_096;

/// What to measure.
#[derive(Clone, Debug)]
pub struct LookupOptions {
    /// The program.
    pub yard: PathBuf,
    /// Messages that are stored before, of 1 KiB each.
    pub messages: usize,
    /// Rounds with lookups, and as many without.
    pub rounds: usize,
    /// How long a round is.
    pub round: Duration,
    /// Lookups a second; 0: the next when the one before is answered.
    pub per_second: u64,
}

/// A message that can be looked for.
#[derive(Clone)]
struct Noted {
    id: MessageId,
    key: String,
    queue: QueueIndex,
    stored: Timestamp,
}

/// Measures; what is returned is for people.
///
/// # Errors
/// When the run could not be carried out, or something was not found.
pub async fn measure(options: &LookupOptions) -> Result<String, Failed> {
    let server = Server::start(ServerOptions::new(options.yard.clone())).await?;
    let context = tenant_with_topic(&server, "producer").await?;
    let client = Client::builder().name("finder").context(context.clone()).connect().await?;
    let topic = crate::neighbour::TOPIC;
    let noted = Arc::new(fill(&client, topic, options.messages).await?);
    let rate = (rate_max(&context, options.round).await? / 2).max(1);
    let (is_on, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let finder = Finder { client, topic, noted, is_on: is_on.clone(), count: count.clone() };
    let finding = tokio::spawn(finder.run(options.per_second));
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        is_on.store(false, Ordering::Release);
        quiet.push(round(&context, rate, options.round).await?);
        is_on.store(true, Ordering::Release);
        busy.push(round(&context, rate, options.round).await?);
        if finding.is_finished() {
            break;
        }
    }
    let seconds = options.round.as_secs_f64() * busy.len() as f64;
    let lookups = count.load(Ordering::Acquire) as f64 / seconds;
    if finding.is_finished() {
        finding.await??;
    } else {
        finding.abort();
    }
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string can be written to");
    let ms = |rounds: &[Round], of: fn(&Round) -> u64| {
        Spread::of(rounds.iter().map(|round| of(round) as f64 / 1e3).collect())
    };
    let p99 = |round: &Round| round.p99_us;
    let pairs =
        quiet.iter().zip(&busy).map(|(one, other)| other.p99_us as f64 / one.p99_us.max(1) as f64);
    let (quiet_ms, busy_ms) = (ms(&quiet, p99), ms(&busy, p99));
    line(format!("{rate} messages/s of {BODY_BYTES} B, half of the most, synced:"));
    line(format!("  p99 {quiet_ms} ms, with {lookups:.0} lookups a second {busy_ms}"));
    line(format!("  ratio of the medians {:.3}", busy_ms.median / quiet_ms.median));
    line(format!("  ratio round by round {}", Spread::of(pairs.collect())));
    Ok(out)
}

/// Stores messages that have a key each.
async fn fill(client: &Client, topic: &str, messages: usize) -> Result<Vec<Noted>, Failed> {
    let producer = client.producer(topic).build().await?;
    let body = bytes::Bytes::from(vec![7; BODY_BYTES]);
    let mut waiting = std::collections::VecDeque::new();
    let mut noted = Vec::new();
    for number in 0..messages {
        if waiting.len() == WAITING_MAX
            && let Some(receipt) = waiting.pop_front()
        {
            note(receipt, &mut noted).await?;
        }
        let key = format!("order-{number}");
        let receipt = producer.enqueue(Message::new(body.clone()).key(&key)).await?;
        let wanted = number.is_multiple_of(NOTED_EVERY);
        waiting.push_back((receipt, key, wanted));
    }
    for receipt in waiting {
        note(receipt, &mut noted).await?;
    }
    producer.close().await?;
    Ok(noted)
}

async fn note(
    (receipt, key, wanted): (yard_client::Receipt, String, bool),
    noted: &mut Vec<Noted>,
) -> Result<(), Failed> {
    let sent = receipt.await?;
    if wanted {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let stored = Timestamp(now.as_millis() as u64);
        noted.push(Noted { id: sent.id, key, queue: sent.queue, stored });
    }
    Ok(())
}

/// Looks for one message after another, by id, by key and by time in turn.
struct Finder {
    client: Client,
    topic: &'static str,
    noted: Arc<Vec<Noted>>,
    is_on: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Finder {
    async fn run(self, per_second: u64) -> Result<(), Failed> {
        let mut random = Seeded::new(3);
        let every = Duration::from_secs(1).checked_div(per_second as u32).unwrap_or_default();
        let mut due = Instant::now();
        loop {
            if !self.is_on.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                due = Instant::now();
                continue;
            }
            due += every;
            tokio::time::sleep_until(due.into()).await;
            let noted = &self.noted[random.within(0..self.noted.len() as u64) as usize];
            self.find(noted, random.within(0..3)).await?;
            self.count.fetch_add(1, Ordering::AcqRel);
        }
    }

    async fn find(&self, noted: &Noted, how: u64) -> Result<(), Failed> {
        let topic = self.topic.to_owned();
        let (from, to) = (Timestamp(0), Timestamp(u64::MAX));
        let wanted = match how {
            0 => Wanted::Id(noted.id),
            1 => Wanted::Key { topic, key: noted.key.clone(), from, to },
            _ => {
                self.client.seek(self.topic, noted.queue, noted.stored).await?;
                return Ok(());
            }
        };
        let mut after = None;
        loop {
            let found = self.client.find(wanted.clone(), after, 1).await?;
            if found.messages.len() == 1 {
                return Ok(());
            }
            // One request looks as far as its budget goes.
            after = found.next;
            if after.is_none() {
                return Err(Failed(format!("{} was not found", noted.key)));
            }
        }
    }
}
