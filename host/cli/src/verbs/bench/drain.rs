//! Receiving through the client library, everything acknowledged.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use yard_client::wire::operation::GroupInfo;
use yard_client::{Consumer, Delivery, QueueIndex, QueueOffset, Start};

use super::figures::{Belongs, Tally, Window};
use super::load::{Bodies, Target};
use super::plan::Plan;
use super::raw::client::gather;
use super::record::{Given, Member, Recorder};
use crate::failure::Failure;

/// Messages that a consumer lets come ahead.
pub(crate) const CREDIT_MESSAGES: u32 = 65_536;
/// Bytes that a consumer lets come ahead: the library's default.
pub(crate) const CREDIT_BYTES: u32 = 8 << 20;
/// Messages that are taken from a consumer at a time.
const TAKEN: usize = 256;
/// What was sent must have arrived after this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than anything that is measured.
const LONG: Duration = Duration::from_secs(7 * 24 * 3_600);

/// When consumers end: when together they have had so many messages.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    had: Arc<AtomicU64>,
    target: Arc<watch::Sender<u64>>,
}

impl Goal {
    pub(crate) fn unknown() -> Self {
        Self::of(u64::MAX)
    }

    pub(crate) fn of(messages: u64) -> Self {
        Self { had: Arc::default(), target: Arc::new(watch::Sender::new(messages)) }
    }

    pub(crate) fn set(&self, messages: u64) {
        self.target.send_replace(messages);
    }

    fn add(&self, messages: u64) {
        let had = self.had.fetch_add(messages, Ordering::AcqRel) + messages;
        if had >= *self.target.borrow() {
            // Wakes the others, who may have nothing to receive.
            self.target.send_modify(|_| {});
        }
    }

    async fn reached(&self) {
        let mut target = self.target.subscribe();
        let is_reached = |target: &u64| self.had.load(Ordering::Acquire) >= *target;
        // The sender lives as long as this does.
        let _ = target.wait_for(is_reached).await;
    }
}

/// Consumers of one group, ready to receive.
pub(crate) struct Drain {
    tasks: JoinSet<Result<Tally, Failure>>,
    window: Window,
    belongs: Belongs,
}

impl Drain {
    /// Subscribes on each connection and begins to receive.
    pub(crate) async fn start(
        Target { clients, topic, recorder }: Target<'_>,
        group: &Group,
        (window, belongs): (Window, Belongs),
        (epoch, goal): (Option<Instant>, &Goal),
    ) -> Result<Self, Failure> {
        let mut tasks = JoinSet::new();
        for (line, client) in clients.iter().enumerate() {
            let group_name = &group.name[..];
            let begun = Instant::now();
            let consumer = client.consumer(topic, group_name).start(Start::Earliest);
            let consumer = consumer.credit(CREDIT_MESSAGES, CREDIT_BYTES).build().await?;
            let member = Member { group: group.number, client: group.number << 20 | line as u64 };
            let log = recorder.map(|recorder| Log {
                recorder: recorder.clone(),
                member,
                begun,
                given: Given::new(),
            });
            let tally = Tally::new(window, belongs);
            tasks.spawn(receive(consumer, goal.clone(), (tally, epoch), log));
        }
        Ok(Self { tasks, window, belongs })
    }

    /// Waits until the goal is reached and every acknowledgement is durable.
    pub(crate) async fn finish(self) -> Result<Tally, Failure> {
        gather(self.tasks, self.window, self.belongs).await
    }

    /// The same, but not for long after everything was sent that will come.
    pub(crate) async fn finish_after(
        self,
        all_sent: impl Future<Output = ()>,
    ) -> Result<Tally, Failure> {
        let too_late = async {
            all_sent.await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            finished = self.finish() => finished,
            () = too_late => {
                let seconds = PATIENCE.as_secs();
                let what = "not everything that was sent arrived within";
                Err(Failure::local(format!("{what} {seconds} s")))
            }
        }
    }
}

/// A consumer group of a measurement.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// Its number in the history.
    pub(crate) number: u64,
}

/// What a consumer records.
struct Log {
    recorder: Arc<Recorder>,
    member: Member,
    begun: Instant,
    given: Given,
}

async fn receive(
    consumer: Consumer,
    goal: Goal,
    (mut tally, epoch): (Tally, Option<Instant>),
    mut log: Option<Log>,
) -> Result<Tally, Failure> {
    let reached = goal.reached();
    let mut reached = std::pin::pin!(reached);
    let mut chunks = consumer.ready_chunks(TAKEN);
    loop {
        let taken = tokio::select! {
            biased;
            taken = chunks.next() => taken,
            () = &mut reached => break,
        };
        let Some(taken) = taken else {
            let error = chunks.into_inner().error();
            return Err(error.map_or_else(|| Failure::local("the consumer ended"), Failure::from));
        };
        let (count, at) = (taken.len() as u64, Instant::now());
        if let Some(Log { recorder, member, begun, given }) = &mut log {
            recorder.polled(*member, (*begun, at), &taken, given);
        }
        match epoch {
            Some(epoch) => taken.iter().for_each(|delivery| {
                tally.add(Bodies::due(epoch, &delivery.record().body()).unwrap_or(at), at);
            }),
            // How old each is, nobody asks.
            None => tally.add_many(at, at, count),
        }
        taken.iter().for_each(Delivery::ack_later);
        goal.add(count);
    }
    // Returns when what was acknowledged is durable.
    chunks.into_inner().close().await?;
    if let Some(Log { recorder, member, begun, given }) = log {
        recorder.acknowledged(member, (begun, Instant::now()), given);
    }
    Ok(tally)
}

/// Receives all that is there with a new group; when it began, and the time until the last
/// acknowledgement was durable.
pub(crate) async fn drain_all(
    target: Target<'_>,
    group: &Group,
    messages: u64,
) -> Result<(Tally, Instant, Duration), Failure> {
    let begun = Instant::now();
    let window = Window::new(begun, Duration::ZERO, LONG);
    let goal = Goal::of(messages);
    let drain = Drain::start(target, group, (window, Belongs::Done), (None, &goal)).await?;
    let tally = drain.finish().await?;
    let took = begun.elapsed();
    let info = target.clients[0].admin().call(GroupInfo { name: group.name.clone() }).await?;
    if info.lag != 0 || tally.messages() != messages {
        let sentence = format!(
            "{} of {messages} messages were received, and {} are not settled",
            tally.messages(),
            info.lag
        );
        return Err(Failure::local(sentence));
    }
    Ok((tally, begun, took))
}

/// Reads all that is there without a group, every queue for itself.
pub(crate) async fn fetch_all(
    plan: &Plan,
    Target { clients, topic, .. }: Target<'_>,
    messages: u64,
) -> Result<(Tally, Instant, Duration), Failure> {
    let begun = Instant::now();
    let window = Window::new(begun, Duration::ZERO, LONG);
    let mut tasks = JoinSet::new();
    for queue in 0..plan.queues {
        let client = clients[usize::from(queue) % clients.len()].clone();
        let (topic, count) = (topic.to_owned(), plan.batch_records() as u32);
        tasks.spawn(async move {
            let mut tally = Tally::new(window, Belongs::Done);
            let mut from = QueueOffset(0);
            loop {
                let asked = Instant::now();
                let fetched = client.fetch(&topic, QueueIndex(queue), from, count).await?;
                let Some(last) = fetched.records.last() else { break };
                from = QueueOffset(last.offset.0 + 1);
                tally.add_many(asked, Instant::now(), fetched.records.len() as u64);
            }
            Ok(tally)
        });
    }
    let tally = gather(tasks, window, Belongs::Done).await?;
    let took = begun.elapsed();
    if tally.messages() != messages {
        let found = tally.messages();
        return Err(Failure::local(format!("{found} of {messages} messages were fetched")));
    }
    Ok((tally, begun, took))
}
