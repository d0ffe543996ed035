//! Producing through the client library, pipelined, as an application would.
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use yard_client::{Ack, Client, Message, Producer, Receipt};
use yard_server::os::{self, Priority};

use super::figures::{Belongs, Tally, Window};
use super::pace::{self, Offered, RealClock, Schedule};
use super::plan::{Plan, STAMP_BYTES};
use super::raw::client::gather;
use super::record::{self, Recorder};
use crate::failure::Failure;

/// Receipts that may wait for the settling task beside those without an answer.
const RECEIPTS: usize = 1_024;
/// Receipts that are handed to a settling task at a time, while the sender need not wait.
const HANDED: usize = 64;
/// Messages for which the clock is read once while nothing is waited for: before the first is
/// sent, and after the last is settled. The times come out longer than they were, never shorter,
/// by what it takes to send and to settle so many.
const CLOCKED: usize = 32;
/// With a rate, so many bytes may wait: a pause of the broker must not hold up the sender.
const PACED_BUFFER_BYTES: usize = 256 << 20;

/// How long is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// As fast as possible, until then.
    Time(Instant),
    /// As fast as possible, so many on each connection.
    Count(u64),
}

/// What came out of a load.
#[derive(Debug)]
pub(crate) struct Sent {
    /// All that were sent, also outside of the window.
    pub(crate) count: u64,
    pub(crate) tally: Tally,
    /// With a rate: whether it was kept.
    pub(crate) pace: Option<Paced>,
}

/// How a rate was kept.
#[derive(Debug)]
pub(crate) struct Paced {
    pub(crate) offered: Offered,
    /// How late messages were sent.
    pub(crate) lag: Tally,
}

/// Whom something is sent to or received from.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) clients: &'a [Client],
    pub(crate) topic: &'a str,
    pub(crate) recorder: Option<&'a Arc<Recorder>>,
}

/// The number of a message: which line sent it, and where in the line's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    const SEQUENCE_BITS: u32 = 40;

    fn first(line: usize) -> Self {
        Self((line as u64) << Self::SEQUENCE_BITS)
    }

    pub(crate) fn line(self) -> u64 {
        self.0 >> Self::SEQUENCE_BITS
    }

    pub(crate) fn sequence(self) -> u64 {
        self.0 & ((1 << Self::SEQUENCE_BITS) - 1)
    }
}

/// A message's receipt, its number and when it was due.
struct Due {
    due: Instant,
    stamp: Stamp,
    receipt: Receipt,
}

/// One connection's producer and the tasks that settle its receipts: one for each lane, because
/// lanes do not wait for each other.
struct Line {
    producer: Producer,
    stamp: Stamp,
    lane_of_queue: Vec<usize>,
    lanes: Vec<Settling>,
}

/// The way to the task that settles the receipts of a lane.
struct Settling {
    /// Not handed over yet.
    gathered: Vec<Due>,
    to: mpsc::Sender<Vec<Due>>,
}

/// Bodies of messages.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    plain: Bytes,
    /// Where each message has its number and when it was due: since when.
    epoch: Option<Instant>,
}

impl Bodies {
    pub(crate) fn new(bytes: usize, epoch: Option<Instant>) -> Self {
        // Compressible or not makes no difference to anything on the way.
        Self { plain: (0..bytes).map(|at| at as u8).collect(), epoch }
    }

    fn body(&self, stamp: Stamp, due: Instant) -> Bytes {
        let Some(epoch) = self.epoch else { return self.plain.clone() };
        let since = due.saturating_duration_since(epoch).as_nanos() as u64;
        let mut body = Vec::with_capacity(self.plain.len());
        body.extend_from_slice(&stamp.0.to_le_bytes());
        body.extend_from_slice(&since.to_le_bytes());
        body.extend_from_slice(&self.plain[STAMP_BYTES..]);
        body.into()
    }

    /// The number of a message.
    pub(crate) fn stamp(body: &[u8]) -> Option<Stamp> {
        Some(Stamp(u64::from_le_bytes(*body.first_chunk()?)))
    }

    /// When a message was due.
    pub(crate) fn due(epoch: Instant, body: &[u8]) -> Option<Instant> {
        let since = u64::from_le_bytes(*body.get(8..)?.first_chunk()?);
        Some(epoch + Duration::from_nanos(since))
    }
}

/// Producers, ready to send.
pub(crate) struct Load {
    lines: Vec<Line>,
    settling: JoinSet<Result<Tally, Failure>>,
    window: Window,
    belongs: Belongs,
    bodies: Bodies,
    queues: u16,
}

impl Load {
    pub(crate) async fn new(
        plan: &Plan,
        ack: Ack,
        target: Target<'_>,
        window: Window,
        epoch: Option<Instant>,
    ) -> Result<Self, Failure> {
        let Target { clients, topic, recorder } = target;
        // Without a number in it a message could not be recognised.
        let epoch = epoch.or(recorder.map(|_| window.begin));
        let bodies = Bodies::new(plan.body_bytes, epoch);
        let belongs = if plan.rate.is_some() { Belongs::Due } else { Belongs::Done };
        let (mut lines, mut settling) = (Vec::new(), JoinSet::new());
        for (number, client) in clients.iter().enumerate() {
            let route = client.route(topic).await?;
            let mut known: Vec<(u16, u16)> = Vec::new();
            let mut lane_of_queue = Vec::new();
            for (queue, shard) in (0..).zip(&route.shards) {
                let key = (shard.0, queue % plan.streams);
                let found = known.iter().position(|lane| *lane == key);
                lane_of_queue.push(found.unwrap_or(known.len()));
                if found.is_none() {
                    known.push(key);
                }
            }
            let buffer = if plan.rate.is_some() { PACED_BUFFER_BYTES } else { plan.buffer_bytes() };
            let producer = client.producer(topic).ack(ack).batch_records(plan.batch);
            let producer = producer.batch_bytes(plan.batch_bytes()).in_flight(plan.in_flight);
            let producer = producer.buffer_bytes(buffer).build().await?;
            let mut lanes = Vec::new();
            for _ in &known {
                // As many as the producer lets wait, and some that were answered.
                let waiting = buffer / plan.record_bytes() + RECEIPTS;
                let handed = if plan.rate.is_some() { 1 } else { HANDED };
                let (to, receipts) = mpsc::channel(waiting.div_ceil(handed));
                let record = recorder.map(|recorder| (recorder.clone(), bodies.clone()));
                settling.spawn(settle(receipts, Tally::new(window, belongs), record));
                lanes.push(Settling { gathered: Vec::new(), to });
            }
            lines.push(Line { producer, stamp: Stamp::first(number), lane_of_queue, lanes });
        }
        Ok(Self { lines, settling, window, belongs, bodies, queues: plan.queues })
    }

    /// Sends as fast as possible.
    pub(crate) async fn flood(self, until: Until) -> Result<Sent, Failure> {
        let Self { lines, settling, window, belongs, bodies, queues } = self;
        let mut sending = JoinSet::new();
        for mut line in lines {
            let bodies = bodies.clone();
            sending.spawn(async move {
                let mut sent = 0;
                let mut clock = SparseClock::default();
                loop {
                    let due = clock.now();
                    match until {
                        Until::Time(end) if due >= end => break,
                        Until::Count(count) if sent == count => break,
                        Until::Time(_) | Until::Count(_) => {}
                    }
                    let (message, stamp, lane) = line.next(&bodies, queues, due);
                    let receipt = {
                        let mut enqueuing = pin!(line.producer.enqueue(message));
                        match enqueuing.as_mut().now_or_never() {
                            Some(receipt) => receipt?,
                            None => {
                                line.hand_over().await;
                                clock.look_again();
                                enqueuing.await?
                            }
                        }
                    };
                    line.lanes[lane].push(Due { due, stamp, receipt }).await;
                    sent += 1;
                }
                line.hand_over().await;
                let producer = line.producer.clone();
                drop(line);
                producer.close().await?;
                Ok::<_, Failure>(sent)
            });
        }
        let mut count = 0;
        while let Some(ended) = sending.join_next().await {
            count += ended.map_err(|why| Failure::local(format!("sending: {why}")))??;
        }
        Ok(Sent { count, tally: gather(settling, window, belongs).await?, pace: None })
    }

    /// Sends at a rate, from a thread that has nothing else to do.
    pub(crate) async fn paced(self, rate: f64, start: Instant) -> Result<Sent, Failure> {
        let Self { mut lines, settling, window, belongs, bodies, queues } = self;
        let schedule = Schedule::new(rate, window.end - start);
        let runtime = Handle::current();
        let (done, paced) = tokio::sync::oneshot::channel();
        let thread = move || {
            // It is the clock of the measurement: it must not stand in line with what it measures.
            os::prefer(Priority::Log);
            os::run_before_equals();
            let mut lag = Tally::new(window, Belongs::Due);
            let mut failure = None;
            let count = lines.len() as u64;
            let offered = pace::run(schedule, &mut RealClock(start), |number, due, now| {
                let line = &mut lines[(number % count) as usize];
                let due = start + due;
                lag.add(due, start + now);
                let (message, stamp, lane) = line.next(&bodies, queues, due);
                let enqueued = {
                    let mut enqueuing = pin!(line.producer.enqueue(message));
                    let at_once = enqueuing.as_mut().now_or_never();
                    at_once.unwrap_or_else(|| runtime.block_on(enqueuing))
                };
                match enqueued {
                    Ok(receipt) => {
                        let due = vec![Due { due, stamp, receipt }];
                        let _ = line.lanes[lane].to.blocking_send(due);
                    }
                    Err(error) => failure = Some(error),
                }
                failure.is_none()
            });
            let producers: Vec<_> = lines.iter().map(|line| line.producer.clone()).collect();
            drop(lines);
            // Whoever waits for it may have been interrupted.
            let _ = done.send((producers, failure, Paced { offered, lag }));
        };
        std::thread::Builder::new()
            .name("pace".into())
            .spawn(thread)
            .map_err(|why| Failure::local(format!("no thread: {why}")))?;
        let (producers, failure, pace) =
            paced.await.map_err(|_| Failure::local("the sending thread panicked"))?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        for producer in producers {
            producer.close().await?;
        }
        let tally = gather(settling, window, belongs).await?;
        Ok(Sent { count: pace.offered.count, tally, pace: Some(pace) })
    }
}

impl Line {
    /// The next message, its number, and the lane that its receipt belongs to.
    fn next(&mut self, bodies: &Bodies, queues: u16, due: Instant) -> (Message, Stamp, usize) {
        let stamp = self.stamp;
        let queue = (stamp.sequence() % u64::from(queues)) as u16;
        self.stamp = Stamp(stamp.0 + 1);
        let message = Message::new(bodies.body(stamp, due)).queue(queue);
        (message, stamp, self.lane_of_queue[usize::from(queue)])
    }

    /// Lets every receipt be settled: the sender has to wait, or is done.
    async fn hand_over(&mut self) {
        for lane in &mut self.lanes {
            lane.hand_over().await;
        }
    }
}

impl Settling {
    async fn push(&mut self, due: Due) {
        self.gathered.push(due);
        if self.gathered.len() >= HANDED {
            self.hand_over().await;
        }
    }

    async fn hand_over(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let gathered = std::mem::replace(&mut self.gathered, Vec::with_capacity(HANDED));
        // The task ends early only with an error, reported where it is gathered.
        let _ = self.to.send(gathered).await;
    }
}

/// A clock that is read for the first of [`CLOCKED`] messages.
#[derive(Default)]
struct SparseClock {
    read: Option<Instant>,
    used: usize,
}

impl SparseClock {
    fn now(&mut self) -> Instant {
        if self.used >= CLOCKED {
            self.look_again();
        }
        self.used += 1;
        *self.read.get_or_insert_with(Instant::now)
    }

    /// Time has passed.
    fn look_again(&mut self) {
        *self = Self::default();
    }
}

/// Waits for every receipt of a lane; they come in order.
async fn settle(
    mut receipts: mpsc::Receiver<Vec<Due>>,
    tally: Tally,
    record: Option<(Arc<Recorder>, Bodies)>,
) -> Result<Tally, Failure> {
    let mut settled = Settled { tally, due: Vec::with_capacity(CLOCKED) };
    while let Some(handed) = receipts.recv().await {
        for Due { due, stamp, mut receipt } in handed {
            let result = match (&mut receipt).now_or_never() {
                Some(result) => result?,
                None => {
                    settled.count();
                    receipt.await?
                }
            };
            settled.due.push(due);
            if let Some((recorder, bodies)) = &record {
                let hash = record::hash(&bodies.body(stamp, due));
                recorder.sent(stamp, hash, (due, Instant::now()), &result);
            }
            if settled.due.len() >= CLOCKED {
                settled.count();
            }
        }
        settled.count();
    }
    Ok(settled.tally)
}

/// Messages that have their answers and are not counted yet.
struct Settled {
    tally: Tally,
    due: Vec<Instant>,
}

impl Settled {
    fn count(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let at = Instant::now();
        for same in self.due.chunk_by(|a, b| a == b) {
            self.tally.add_many(same[0], at, same.len() as u64);
        }
        self.due.clear();
    }
}

/// One message in flight for each task: `in_flight` of them on each connection.
pub(crate) async fn round_trips(
    plan: &Plan,
    Target { clients, topic, .. }: Target<'_>,
    window: Window,
) -> Result<Tally, Failure> {
    let mut tasks = JoinSet::new();
    let bodies = Arc::new(Bodies::new(plan.body_bytes, None));
    for (number, client) in clients.iter().enumerate() {
        let producer = client.producer(topic).ack(plan.ack).build().await?;
        for task in 0..plan.in_flight {
            let (producer, bodies, queues) = (producer.clone(), bodies.clone(), plan.queues);
            let mut turn = number * plan.in_flight + task;
            tasks.spawn(async move {
                let mut tally = Tally::new(window, Belongs::Done);
                let mut due = Instant::now();
                while due < window.end {
                    let queue = (turn % usize::from(queues)) as u16;
                    turn += 1;
                    let message = Message::new(bodies.body(Stamp::default(), due)).queue(queue);
                    producer.send(message).await?;
                    let at = Instant::now();
                    tally.add(due, at);
                    due = at;
                }
                Ok(tally)
            });
        }
    }
    gather(tasks, window, Belongs::Done).await
}
