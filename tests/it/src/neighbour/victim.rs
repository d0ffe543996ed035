//! The tenant that is measured: it speaks raw frames, so that every `Busy` is seen, which the
//! client library would answer by waiting.
//!
//! It sends at its rate whatever the answers do (an open loop), and a message's time runs from
//! the moment at which it was due, so that a pause of the broker counts for every message that it
//! held up, also for those that were sent late because of it.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use quinn::SendStream;
use yard_client::wire::batch::{self, BatchHeader};
use yard_client::wire::limits::LANES_MAX;
use yard_client::wire::request::Reply;
use yard_client::wire::{Lane, ProducerId, Sequence, ShardId, TopicId};
use yard_client::{Client, Code, Context, Message, Receipt};

use super::{BODY_BYTES, QUEUES, TOPIC};
use crate::raw::{Answer, Raw, RawReceiver, RawWindows, produce, record, request_bytes};
use crate::wait::within;
use crate::{Failed, Seeded};

/// One batch is due so often.
const EVERY: Duration = Duration::from_millis(2);
/// Times up to this are told apart, in microseconds.
const TIME_US_MAX: u64 = 60_000_000;
/// Messages that are under way when the most is measured.
const PIPELINED: usize = 8_192;

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Half of the durable acks took longer, in microseconds.
    pub p50_us: u64,
    /// One in a hundred took longer.
    pub p99_us: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Batches that were refused because the tenant's queue was full.
    pub busy: u64,
}

/// Messages a second that one client of the tenant gets acknowledged when it sends all it can.
pub(crate) async fn rate_max(context: &Context, round: Duration) -> Result<u64, Failed> {
    let client = Client::builder().name("victim").context(context.clone()).connect().await?;
    let producer = client.producer(TOPIC).build().await?;
    let body = Bytes::from(vec![7; BODY_BYTES]);
    let mut waiting = std::collections::VecDeque::<Receipt>::new();
    let (began, mut acked) = (Instant::now(), 0u64);
    while began.elapsed() < round {
        if waiting.len() == PIPELINED
            && let Some(receipt) = waiting.pop_front()
        {
            receipt.await?;
            acked += 1;
        }
        waiting.push_back(producer.enqueue(Message::new(body.clone())).await?);
    }
    let rate = acked as f64 / began.elapsed().as_secs_f64();
    producer.close().await?;
    client.close().await;
    Ok(rate as u64)
}

/// Batches on their way, by the number of their request.
type Waiting = Arc<Mutex<BTreeMap<u64, Instant>>>;

/// What the answers were.
struct Answers {
    times: Histogram<u64>,
    busy: u64,
    batches: u64,
}

/// Sends at a rate for as long as a round is.
pub(crate) async fn round(context: &Context, rate: u64, length: Duration) -> Result<Round, Failed> {
    let client = Client::builder().name("victim").context(context.clone()).connect().await?;
    let route = client.route(TOPIC).await?;
    client.close().await;
    let raw = Raw::connect(context, RawWindows::default()).await?;
    let (_control, data, _) = raw.welcomed().await?;
    let (send, receive) = data.into_halves();
    let waiting = Waiting::default();
    let per_batch = (rate * EVERY.as_micros() as u64 / 1_000_000).max(1);
    let batches = length.as_micros() as u64 / EVERY.as_micros() as u64;
    let answering = tokio::spawn(answers(receive, waiting.clone(), batches));
    let shards = route.shards;
    send_all(send, (route.topic, &shards), (per_batch, batches), &waiting).await?;
    let answers = within("the victim's answers", answering).await???;
    raw.close();
    Ok(Round {
        p50_us: answers.times.value_at_quantile(0.5),
        p99_us: answers.times.value_at_quantile(0.99),
        acked: answers.batches * per_batch,
        busy: answers.busy,
    })
}

/// Every batch is the first of a producer of its own, so that one that was refused holds up no
/// other.
async fn send_all(
    mut send: SendStream,
    (topic, shards): (TopicId, &[ShardId]),
    (per_batch, batches): (u64, u64),
    waiting: &Waiting,
) -> Result<(), Failed> {
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut random = Seeded::new(clock.as_nanos() as u64);
    let body = vec![7; BODY_BYTES];
    let began = Instant::now();
    let mut producer = ProducerId(random.next_u64());
    for number in 0..batches {
        let due = began + EVERY * u32::try_from(number).unwrap_or(u32::MAX);
        tokio::time::sleep_until(due.into()).await;
        let lane = number % u64::from(LANES_MAX);
        if lane == 0 {
            producer = ProducerId(random.next_u64());
        }
        let queue = (number % u64::from(QUEUES)) as u16;
        let record = record(topic, queue, &body).map_err(|refusal| Failed(refusal.to_string()))?;
        let header = BatchHeader {
            producer,
            lane: Lane(lane as u16),
            shard: shards.get(usize::from(queue)).copied().unwrap_or_default(),
            sequence: Sequence(0),
            ..BatchHeader::default()
        };
        let batch = batch::encode(&header, per_batch as usize, &record.repeat(per_batch as usize));
        let bytes = request_bytes(number + 1, &produce(batch));
        waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number + 1, due);
        let sent = send.write_all(&bytes).await;
        sent.map_err(|error| Failed(format!("the victim cannot send: {error}")))?;
    }
    Ok(())
}

async fn answers(
    mut receive: RawReceiver,
    waiting: Waiting,
    batches: u64,
) -> Result<Answers, Failed> {
    let times = Histogram::new_with_bounds(1, TIME_US_MAX, 3)
        .map_err(|error| Failed(format!("no histogram: {error}")))?;
    let mut answers = Answers { times, busy: 0, batches: 0 };
    for _ in 0..batches {
        let (number, answer) = receive.numbered().await?;
        let due = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let took = due.map(|due| due.elapsed()).unwrap_or_default();
        match answer {
            Answer::Reply(Reply::Produce(_)) => {
                answers.batches += 1;
                answers.times.saturating_record(took.as_micros() as u64);
            }
            Answer::Refused(refusal) if refusal.code == Code::Busy => answers.busy += 1,
            other => return Err(Failed(format!("the victim was answered {other:?}"))),
        }
    }
    Ok(answers)
}
