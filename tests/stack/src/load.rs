//! What clients do: send, consume, look; each with a client of its own, but for who looks.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;
use yard_checker::{AckLevel, Delivery, Event, Outcome, Poll, Queue, Sent, Settle};
use yard_checker::{Scan, SettleVerdict, Stored, Time};
use yard_client::{Ack, Client, Consumer, Error, Message, Record, SendResult, Start};
use yard_client::{QueueIndex, QueueOffset};
use yard_sim::Random;
use yard_wire::limits::FETCH_RECORDS_MAX;

use crate::plan::Plan;
use crate::recorder::Recorder;

/// The topic of a run.
pub(crate) const TOPIC: &str = "orders";
/// The group that consumes it.
pub(crate) const GROUP: &str = "workers";
/// Messages that the broker may send ahead: few, so that most deliveries are asked for late.
const CREDIT_MESSAGES: u32 = 4;
/// Bytes that it may send ahead.
const CREDIT_BYTES: u32 = 256 << 10;
/// The lease: short, because some messages are forgotten and must come back.
const LEASE: Duration = Duration::from_secs(3);
/// A message is sent again for so long: whatever happens, it arrives in the end.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3_600);
/// After a refusal that may pass.
const PAUSE: Duration = Duration::from_millis(50);
/// Order groups of a producer.
const ORDER_GROUPS: u64 = 3;
/// Bytes of a body that name it.
const NAME_BYTES: usize = 16;

/// What all clients of a run have.
#[derive(Clone)]
pub(crate) struct Crew {
    pub(crate) plan: Arc<Plan>,
    pub(crate) recorder: Recorder,
    pub(crate) topic: u32,
    /// The shard of each queue.
    pub(crate) shards: Vec<u16>,
    /// Becomes true when consumers and readers shall end.
    pub(crate) ends: watch::Receiver<bool>,
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

/// Sends this producer's share of the messages, spread over the time of sending, and waits for
/// every answer.
pub(crate) async fn produce(
    crew: Crew,
    number: usize,
    client: Client,
    mut random: Random,
) -> Result<(), Error> {
    let plan = Arc::clone(&crew.plan);
    let ack = plan.producers[number];
    let producer = loop {
        let builder = client.producer(TOPIC).ack(ack).delivery_timeout(DELIVERY_TIMEOUT);
        match builder.build().await {
            Ok(producer) => break producer,
            Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    };
    let count = plan.messages() / plan.producers.len() as u64;
    let mut waiting: JoinSet<()> = JoinSet::new();
    for seq in 0..count {
        let order_group = (!random.once_in(3)).then(|| random.below(ORDER_GROUPS));
        let queue = order_group.unwrap_or_else(|| random.word()) % u64::from(plan.queues);
        let filler = random.below(plan.body_bytes);
        let (message, hash) = message(number as u64, seq, filler, &mut random);
        let sent = Sent {
            client: number as u64,
            tenant: 0,
            queue: crew.queue(queue as u16),
            producer: number as u64,
            seq,
            order_group: order_group.map(|group| number as u64 * ORDER_GROUPS + group),
            hash,
            due: None,
            invoked: crew.recorder.now(),
            completed: None,
            outcome: Outcome::Unknown,
            level: match ack {
                Ack::Memory => AckLevel::Memory,
                Ack::Written => AckLevel::Written,
                Ack::Synced => AckLevel::Synced,
            },
        };
        let receipt = producer.enqueue(message.queue(queue as u16)).await;
        let recorder = crew.recorder.clone();
        waiting.spawn(async move {
            let result = match receipt {
                Ok(receipt) => receipt.await,
                Err(error) => Err(error),
            };
            answered(&recorder, sent, result);
        });
        // Bursts and pauses.
        if random.once_in(3) {
            let pause = random.below(2 * 3 * plan.sending_ms / count.max(1) + 1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
    while waiting.join_next().await.is_some() {}
    producer.close().await
}

fn answered(recorder: &Recorder, sent: Sent, result: Result<SendResult, Error>) {
    let completed = Some(recorder.now());
    let outcome = match result {
        Ok(result) => {
            if u32::from(result.queue.0) != sent.queue.index {
                let (found, wanted) = (result.queue, sent.queue.index);
                recorder.wrong(format!("sent to queue {wanted}, stored in {found}"));
            }
            Outcome::Ok { offset: result.offset.map(|offset| offset.0) }
        }
        Err(error) => {
            // Nothing in a run gives a reason to refuse a message, or to give it up.
            recorder.wrong(format!("message {}.{}: {error}", sent.producer, sent.seq));
            Outcome::Unknown
        }
    };
    recorder.push(Event::Send(Sent { completed, outcome, ..sent }));
}

/// When messages were taken, by shard: what bounds how early a delivery was asked for.
struct Taken {
    since: Time,
    connections: u64,
    times: BTreeMap<u16, Vec<Time>>,
}

impl Taken {
    /// When the next delivery of a shard can first have been asked for. A subscription begins with
    /// all the credit, and there is a new one after each connection that was lost; beyond that
    /// every message was paid for by one that was taken.
    fn asked(&mut self, shard: u16, connections: u64, now: Time) -> Time {
        let free = u64::from(CREDIT_MESSAGES) * (2 + connections.saturating_sub(self.connections));
        let times = self.times.entry(shard).or_default();
        let paid = times.len().checked_sub(free as usize);
        let asked = paid.map_or(self.since, |at| times[at]);
        times.push(now);
        asked
    }
}

pub(crate) fn connections(client: &Client) -> u64 {
    client.paths().iter().map(|path| path.connections).sum()
}

/// Receives and settles until the run ends. Some members leave and come back.
pub(crate) async fn consume(
    mut crew: Crew,
    number: usize,
    client: Client,
    mut random: Random,
) -> Result<(), Error> {
    let leaves_after = random.percent(30).then(|| 1 + random.below(crew.plan.messages()));
    for life in 0.. {
        let since = crew.recorder.now();
        let counted = connections(&client);
        let builder = client.consumer(TOPIC, GROUP).start(Start::Earliest);
        let builder = builder.credit(CREDIT_MESSAGES, CREDIT_BYTES).lease(LEASE);
        let mut consumer = match builder.build().await {
            Ok(consumer) => consumer,
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let taken = Taken { since, connections: counted, times: BTreeMap::new() };
        let member = Member { number: (number as u64) << 16 | life, client: &client, taken };
        let stays = leaves_after.filter(|_| life == 0);
        let goes_on = member.receive(&mut crew, &mut consumer, stays, &mut random).await?;
        // A broker that is away at the end of a subscription is no mistake.
        let closed = consumer.close().await;
        if !goes_on {
            return closed;
        }
    }
    Ok(())
}

struct Member<'a> {
    number: u64,
    client: &'a Client,
    taken: Taken,
}

impl Member<'_> {
    /// Receives until the run ends (false), or so many deliveries (true).
    async fn receive(
        mut self,
        crew: &mut Crew,
        consumer: &mut Consumer,
        count_max: Option<u64>,
        random: &mut Random,
    ) -> Result<bool, Error> {
        let mut settling: JoinSet<()> = JoinSet::new();
        let mut count = 0;
        let goes_on = loop {
            if count_max == Some(count) {
                break true;
            }
            let delivery = tokio::select! {
                biased;
                _ = crew.ends.wait_for(|ends| *ends) => break false,
                delivery = consumer.recv() => delivery?,
            };
            count += 1;
            self.received(crew, &delivery);
            let Some((verdict, delay)) = decide(random, crew.plan.failing, delivery.attempt())
            else {
                continue;
            };
            let settle = Settle {
                client: self.number,
                group: 1,
                queue: crew.queue(delivery.queue().0),
                from: delivery.offset().0,
                to: delivery.offset().0 + 1,
                verdict,
                invoked: crew.recorder.now(),
                completed: None,
                outcome: Outcome::Unknown,
                level: AckLevel::Synced,
            };
            let work = Duration::from_millis(random.pick(&[0, 0, 5, 100]));
            let recorder = crew.recorder.clone();
            settling.spawn(async move {
                tokio::time::sleep(work).await;
                let result = match verdict {
                    SettleVerdict::Ack => delivery.ack().await,
                    SettleVerdict::Nack => delivery.nack(delay).await,
                    SettleVerdict::Reject => delivery.reject().await,
                };
                // An error leaves it open: an answer that was lost looks like a lease that was.
                let outcome = match result {
                    Ok(()) => Outcome::Ok { offset: None },
                    Err(_) => Outcome::Unknown,
                };
                let completed = Some(recorder.now());
                recorder.push(Event::Settle(Settle { completed, outcome, ..settle }));
            });
        };
        while settling.join_next().await.is_some() {}
        Ok(goes_on)
    }

    fn received(&mut self, crew: &Crew, delivery: &yard_client::Delivery) {
        let now = crew.recorder.now();
        let queue = delivery.queue().0;
        let (producer, seq, hash) = named(delivery.record());
        let (offset, attempt) = (delivery.offset().0, delivery.attempt());
        let shard = crew.shards.get(usize::from(queue)).copied().unwrap_or_default();
        crew.recorder.push(Event::Poll(Poll {
            client: self.number,
            tenant: 0,
            group: 1,
            queue: crew.queue(queue),
            invoked: self.taken.asked(shard, connections(self.client), now),
            completed: now,
            deliveries: vec![Delivery { offset, producer, seq, hash, attempt }],
        }));
    }
}

/// What becomes of a delivery; `None`: it is dropped, and comes back when its lease ends.
fn decide(random: &mut Random, failing: u64, attempt: u32) -> Option<(SettleVerdict, Duration)> {
    let delay = Duration::from_millis(random.range(1, 200));
    // Most failures end with the second attempt, so that the run can be drained.
    if attempt > 1 || random.below(1_000) >= failing {
        return Some((SettleVerdict::Ack, delay));
    }
    match random.below(4) {
        0 => None,
        1 => Some((SettleVerdict::Reject, delay)),
        _ => Some((SettleVerdict::Nack, delay)),
    }
}

/// What somebody read, to be compared with what is there at the end.
pub(crate) type Reads = Vec<(u16, Stored)>;

/// Reads queues by offset now and then until the run ends.
pub(crate) async fn look(
    mut crew: Crew,
    client: Client,
    mut random: Random,
) -> Result<Reads, Error> {
    let mut reads = Vec::new();
    loop {
        let pause = Duration::from_millis(random.range(1, 1 + crew.plan.sending_ms / 4));
        let is_over = tokio::time::timeout(pause, crew.ends.wait_for(|ends| *ends)).await.is_ok();
        if is_over {
            return Ok(reads);
        }
        let queue = random.below(crew.plan.queues.into()) as u16;
        let from = QueueOffset(random.below(8));
        match client.fetch(TOPIC, QueueIndex(queue), from, 8).await {
            Ok(fetched) => reads.extend(stored(&fetched)?.map(|stored| (queue, stored))),
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
    }
}

fn stored(fetched: &yard_client::Fetched) -> Result<impl Iterator<Item = Stored> + use<>, Error> {
    let one = |fetched: &yard_client::FetchedRecord| {
        let malformed =
            |malformed: yard_wire::Malformed| malformed.refusal(yard_client::Code::BadReply);
        let record = Record::parse(fetched.record.clone()).map_err(malformed)?;
        let (producer, seq, hash) = named(&record);
        Ok(Stored { offset: fetched.offset.0, producer, seq, hash })
    };
    let all: Result<Vec<Stored>, Error> = fetched.records.iter().map(one).collect();
    Ok(all?.into_iter())
}

/// Reads a whole queue, as the checker wants it at the end.
pub(crate) async fn scan(crew: &Crew, client: &Client, queue: u16) -> Result<Scan, Error> {
    let (at, index) = (crew.recorder.now(), QueueIndex(queue));
    let mut scan = Scan { queue: crew.queue(queue), at, start: 0, messages: Vec::new() };
    let mut from = QueueOffset(0);
    loop {
        let fetched = client.fetch(TOPIC, index, from, FETCH_RECORDS_MAX).await?;
        scan.start = fetched.first.0;
        scan.messages.extend(stored(&fetched)?);
        match fetched.records.last() {
            Some(last) => from = QueueOffset(last.offset.0 + 1),
            None => return Ok(scan),
        }
    }
}
