//! The benchmark of bad lines: what loss on a long way costs, by controller and number of streams.
//!
//! ```text
//!   process 1: yard serve --dev                        ◄─┐
//!   process 2: a client ──► relay: 25 ms each way, loss ─┘ bulk, then 200 messages a second
//! ```
//!
//! Every row is a broker, a relay and a client of its own, so that none inherits what another has
//! found out. The relay's losses are repeated by their seed as far as the machine repeats its
//! timing.
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use yard_client::transport::Controller;
use yard_client::wire::operation::TopicCreate;
use yard_client::{Client, Message, PathReport, Producer, Receipt};
use yard_relay::Weather;

use crate::Failed;
use crate::far::Far;

/// Name of the topic.
const TOPIC: &str = "load";
/// Bytes of a message's body.
const BODY_BYTES: usize = 1 << 10;
/// Messages of the bulk that are under way.
const PIPELINED: usize = 8_192;
/// The bulk goes on so long before it is measured: controllers and streams find their way.
const WARM: Duration = Duration::from_secs(4);
/// The pace, in messages a second.
const PACE: u64 = 200;
/// Times up to this are told apart, in microseconds.
const TIME_US_MAX: u64 = 60_000_000;

/// What to measure.
#[derive(Clone, Debug)]
pub struct LossyOptions {
    /// The program.
    pub yard: PathBuf,
    /// Queues of the topic.
    pub queues: u16,
    /// How long each of the two measurements of a row is.
    pub length: Duration,
    /// Of the relay.
    pub seed: u64,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Packets lost in each direction, of 100.
    pub loss_percent: u32,
    /// The controller of both sides.
    pub controller: Controller,
    /// Streams that the client was told to have; as many as the path asks for without.
    pub streams: Option<u16>,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Bytes of bodies acknowledged each second when all is sent that can be.
    pub bulk_bytes: f64,
    /// Packets that the client sent again, of all that it sent, in the bulk.
    pub lost_of_sent: f64,
    /// Packets that found the relay's queue full.
    pub overflowed: u64,
    /// Half of the paced messages took longer, in microseconds.
    pub p50_us: u64,
    /// One in a hundred took longer.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// Streams at the end of the bulk, and at the end of the paced messages.
    pub streams: (u16, u16),
    /// Connections beyond the first, of both.
    pub reconnected: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.streams.map_or("adapted".to_owned(), |streams| streams.to_string());
        write!(f, "{:>3} %  {:<6} {streams:>7}", self.loss_percent, self.controller.name())
    }
}

/// The head of the table.
pub const HEAD: &str = " loss  ctrl   streams    MB/s  resent  overfl    p50     p99     max ms  \
                        K bulk,paced  reconnected";

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        let Self { bulk_bytes, lost_of_sent, overflowed, streams, reconnected, .. } = self;
        let (rate, lost) = (bulk_bytes / 1e6, lost_of_sent * 100.0);
        write!(f, "{rate:>7.2} {lost:>6.1}% {overflowed:>7} ")?;
        let (p50, p99, max) = (ms(self.p50_us), ms(self.p99_us), ms(self.max_us));
        write!(f, "{p50:>6.1} {p99:>7.1} {max:>7.1}    ")?;
        write!(f, "{:>6},{:<5} {reconnected:>12}", streams.0, streams.1)
    }
}

/// A broker at the other end of the line, and a client at this one.
struct Stage {
    far: Far,
    client: Client,
}

impl Stage {
    async fn build(options: &LossyOptions, row: Row) -> Result<Self, Failed> {
        let weather = Weather::WAN.losing_percent(row.loss_percent);
        let far = Far::start(&options.yard, row.controller, (weather, options.seed)).await?;
        let operator = far.server.client("operator").await?;
        let (name, queues) = (TOPIC.to_owned(), options.queues);
        operator.admin().call(TopicCreate { name, queues, ..TopicCreate::default() }).await?;
        operator.close().await;
        let mut client = far.builder("lossy")?;
        if let Some(streams) = row.streams {
            client = client.streams(streams);
        }
        let client = client.connect().await?;
        Ok(Self { far, client })
    }

    fn path(&self) -> PathReport {
        self.client.paths().first().copied().unwrap_or_default()
    }
}

/// Measures one row.
///
/// # Errors
/// When the run could not be carried out, or a message was not stored.
pub async fn measure(options: &LossyOptions, row: Row) -> Result<Found, Failed> {
    let stage = Stage::build(options, row).await?;
    let producer = stage.client.producer(TOPIC).build().await?;
    bulk(&producer, WARM).await?;
    let before = stage.path();
    let overflowed = stage.far.relay.counts().overflowed;
    let bulk_bytes = bulk(&producer, options.length).await?;
    let after = stage.path();
    let overflowed = stage.far.relay.counts().overflowed - overflowed;
    producer.flush().await?;
    stage.client.close().await;
    let paced_stage = Stage::build(options, row).await?;
    let producer = paced_stage.client.producer(TOPIC).build().await?;
    paced(&producer, WARM).await?;
    let times = paced(&producer, options.length).await?;
    let last = paced_stage.path();
    paced_stage.client.close().await;
    let sent = after.sent.saturating_sub(before.sent).max(1);
    Ok(Found {
        bulk_bytes,
        lost_of_sent: after.lost.saturating_sub(before.lost) as f64 / sent as f64,
        overflowed,
        p50_us: times.value_at_quantile(0.5),
        p99_us: times.value_at_quantile(0.99),
        max_us: times.max(),
        streams: (after.streams, last.streams),
        reconnected: after.connections.max(1) - 1 + last.connections.max(1) - 1,
    })
}

/// Sends all it can for so long; bytes of bodies acknowledged a second.
async fn bulk(producer: &Producer, length: Duration) -> Result<f64, Failed> {
    let body = Bytes::from(vec![7; BODY_BYTES]);
    let mut waiting = VecDeque::<Receipt>::new();
    let (began, mut acked) = (Instant::now(), 0usize);
    while began.elapsed() < length {
        while waiting.len() < PIPELINED {
            waiting.push_back(producer.enqueue(Message::new(body.clone())).await?);
        }
        if let Some(receipt) = waiting.pop_front() {
            receipt.await?;
            acked += 1;
        }
    }
    // What is under way is the next measurement's.
    Ok((acked * BODY_BYTES) as f64 / began.elapsed().as_secs_f64())
}

/// Sends at the pace, whatever the answers do; a message's time runs from when it was due.
async fn paced(producer: &Producer, length: Duration) -> Result<Histogram<u64>, Failed> {
    let mut times = Histogram::new_with_bounds(1, TIME_US_MAX, 3)
        .map_err(|error| Failed(format!("no histogram: {error}")))?;
    let body = Bytes::from(vec![7; BODY_BYTES]);
    let mut waiting = JoinSet::new();
    let began = Instant::now();
    for number in 0..length.as_millis() as u64 * PACE / 1_000 {
        let due = began + Duration::from_micros(number * 1_000_000 / PACE);
        tokio::time::sleep_until(due.into()).await;
        let receipt = producer.enqueue(Message::new(body.clone())).await?;
        waiting.spawn(async move { receipt.await.map(|_| due.elapsed()) });
    }
    while let Some(took) = waiting.join_next().await {
        let took = took.map_err(|error| Failed(format!("a task ended: {error}")))??;
        times.saturating_record(took.as_micros() as u64);
    }
    Ok(times)
}
