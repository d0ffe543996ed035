//! `yard sub`: receives for a group. A message is acked when its line has left this program.
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use yard_client::wire::limits::{LEASE_MS_MAX, LEASE_MS_MIN};
use yard_client::wire::name::temporary_group;
use yard_client::wire::operation::{GroupInfo, GroupReport, GroupRm, TopicInfo};
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Broadcast, Client, Consumer, Delivery, Start};

use super::Session;
use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::message::{Printer, Received, Style};
use crate::terminal::Interrupts;
use crate::text;

/// Messages that are printed before they are acked, if so many are there.
const BATCH_MAX: usize = 1_024;
/// What the broker may send ahead.
const CREDIT_MESSAGES: u32 = 4_096;
const CREDIT_BYTES: u32 = 8 << 20;
/// With `--until-end`: after so long without a message the broker is asked how far the group is.
const IDLE: Duration = Duration::from_millis(200);
/// With `--until-end`: it is asked at least this often, also where messages keep coming.
const LOOK: Duration = Duration::from_secs(1);
/// After Ctrl-C, the last acknowledgements get this long.
const GRACE: Duration = Duration::from_millis(500);

/// What the command line asks for.
struct Plan {
    topic: String,
    group: String,
    /// The group was made for this run.
    is_own: bool,
    /// Name of the group at the broker.
    reads_as: String,
    broadcast: Option<Broadcast>,
    /// What cannot be printed does not come again.
    drops_failed: bool,
    exclusive: bool,
    start: Start,
    until_end: bool,
    printer: Printer,
    /// Messages still to be received.
    left: u64,
    lease: Duration,
    streams: Option<u16>,
    /// Dialect and text.
    filter: Option<(String, String)>,
}

impl Plan {
    fn read(session: &Session, written: &Written) -> Result<Self, Failure> {
        let now = super::now();
        let start = written.read("from", |from| text::read_from(from, now))?;
        let bound = |ms: u32| Duration::from_millis(u64::from(ms));
        let (lease_min, lease_max) = (bound(LEASE_MS_MIN), bound(LEASE_MS_MAX));
        let lease =
            written.read("lease", |text| text::read_duration(text, lease_min, lease_max))?;
        let group = written.text("group").map_or_else(own_group, str::to_owned);
        let member = written.text("broadcast");
        let exclusive = written.switch("exclusive");
        if exclusive && member.is_some() {
            return Err(bad_argument("exclusive", "give either --exclusive or --broadcast"));
        }
        let drops_failed = written.switch("drop_failed");
        if drops_failed && member.is_none() {
            let why = "members who share their messages leave it to each other; give --broadcast";
            return Err(bad_argument("drop_failed", why));
        }
        Ok(Self {
            topic: written.required("topic")?.to_owned(),
            reads_as: member.map_or(group.clone(), |member| format!("{group}.{member}")),
            is_own: !written.is_given("group"),
            group,
            broadcast: member.map(Broadcast::to),
            drops_failed,
            exclusive,
            start: start.unwrap_or(Start::Latest),
            until_end: written.switch("until_end"),
            printer: Printer::new(Style::new(session.format, written.switch("raw"))?),
            left: written.number("count", 1, u64::MAX)?.unwrap_or(u64::MAX),
            lease: lease.unwrap_or(lease_min),
            streams: super::streams(written)?,
            filter: match written.text("filter") {
                Some(text) => Some((written.required("dialect")?.to_owned(), text.to_owned())),
                None => None,
            },
        })
    }
}

/// A group that nobody else uses.
fn own_group() -> String {
    temporary_group(RandomState::new().hash_one(super::now().0) as u32)
}

/// Removes the group that was made for this run. Where that does not succeed it stays in the lists,
/// and holds nothing up.
async fn forget_group(client: &Client, name: String, interrupts: &mut Interrupts) {
    let _ = interrupts.unless(timeout(GRACE, client.admin().call(GroupRm { name }))).await;
}

pub(crate) async fn run(session: &Session, written: &Written) -> Result<(), Failure> {
    let mut plan = Plan::read(session, written)?;
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout());
    let mut interrupts = Interrupts::catch()?;
    let Some(client) = interrupts.unless(session.connect(plan.streams)).await else {
        return Ok(plan.printer.finish(&mut out)?);
    };
    let client = client?;
    let consumer = interrupts.unless(subscribe(&client, &plan)).await;
    let result = match consumer {
        None => Ok(plan.printer.finish(&mut out)?),
        Some(Err(failure)) => Err(failure),
        Some(Ok((mut consumer, end))) => {
            let received =
                receive(&client, &mut plan, &mut consumer, end, &mut out, &mut interrupts).await;
            // What was printed before an error is whole as well.
            let printed = plan.printer.finish(&mut out);
            let closed = close(consumer, &received, &mut interrupts).await;
            if closed.is_ok() && plan.is_own {
                forget_group(&client, plan.reads_as, &mut interrupts).await;
            }
            received.and(printed.map_err(Failure::from)).and(closed)
        }
    };
    super::leave(&client).await;
    result
}

/// A consumer, and the end that it shall reach.
async fn subscribe(client: &Client, plan: &Plan) -> Result<(Consumer, Option<End>), Failure> {
    // Before the subscription: what comes later is after the end.
    let end = if plan.until_end { Some(End::now(client, plan).await?) } else { None };
    // With `--count`, no more is leased than will be printed.
    let credit = u32::try_from(plan.left).unwrap_or(u32::MAX).min(CREDIT_MESSAGES);
    let consumer = client
        .consumer(plan.topic.as_str(), plan.group.as_str())
        .start(plan.start.clone())
        .lease(plan.lease)
        .credit(credit, CREDIT_BYTES);
    let consumer = match &plan.filter {
        Some((dialect, text)) => consumer.expression(dialect, text),
        None => consumer,
    };
    let consumer = match &plan.broadcast {
        Some(broadcast) => consumer.broadcast(broadcast.clone()),
        None => consumer,
    };
    let consumer = if plan.exclusive { consumer.exclusive() } else { consumer };
    Ok((consumer.build().await?, end))
}

/// Why nothing more is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All that was asked for was.
    Complete,
    /// The user wants it.
    Interrupted,
}

async fn receive(
    client: &Client,
    plan: &mut Plan,
    consumer: &mut Consumer,
    end: Option<End>,
    out: &mut impl Write,
    interrupts: &mut Interrupts,
) -> Result<Ended, Failure> {
    let mut looked = Instant::now();
    while plan.left > 0 {
        let look = (Instant::now() + IDLE).min(looked + LOOK);
        let first = tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Ended::Interrupted),
            () = sleep_until(look), if end.is_some() => None,
            delivery = consumer.recv() => Some(delivery?),
        };
        match (first, &end) {
            (Some(first), _) => {
                let (printed, failure) = print_batch(plan, consumer, first, out);
                if let Some(failure) = failure {
                    if plan.drops_failed {
                        // Until that is durable, or the user does not wait for it.
                        let acked = try_join_all(printed.iter().map(Delivery::ack));
                        interrupts.unless(acked).await.transpose()?;
                    }
                    return Err(failure.into());
                }
                for delivery in printed {
                    delivery.ack_later();
                }
            }
            (None, Some(end)) => {
                match interrupts.unless(end.is_settled(client, &plan.reads_as)).await {
                    None => return Ok(Ended::Interrupted),
                    Some(Ok(true)) => break,
                    Some(Ok(false)) => looked = Instant::now(),
                    Some(Err(failure)) => return Err(failure),
                }
            }
            (None, None) => {}
        }
    }
    Ok(Ended::Complete)
}

/// Ends the subscription. A user who wants it to end does not wait for a broker that is gone.
async fn close(
    consumer: Consumer,
    received: &Result<Ended, Failure>,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let patience = match received {
        Ok(Ended::Complete) => Duration::MAX,
        Ok(Ended::Interrupted) | Err(_) => GRACE,
    };
    match interrupts.unless(timeout(patience, consumer.close())).await {
        Some(Ok(closed)) => Ok(closed?),
        Some(Err(_)) | None => Err(Failure::partial(
            "ended without an answer of the broker: it is not known whether the last messages \
             count as acknowledged, they may be delivered again",
        )),
    }
}

/// Prints a message and what else is there already; gives what was to be printed, and why not all
/// of it is out.
fn print_batch(
    plan: &mut Plan,
    consumer: &mut Consumer,
    first: Delivery,
    out: &mut impl Write,
) -> (Vec<Delivery>, Option<io::Error>) {
    let (mut taken, mut failure) = (Vec::new(), None);
    let mut next = Some(first);
    while let Some(delivery) = next {
        failure = plan.printer.print(&Received::of(&plan.topic, &delivery), out).err();
        plan.left -= 1;
        taken.push(delivery);
        let more = plan.left > 0 && taken.len() < BATCH_MAX && failure.is_none();
        next = if more { consumer.next().now_or_never().flatten() } else { None };
    }
    let failure = failure.or_else(|| out.flush().err());
    (taken, failure)
}

/// The end of each queue at one time.
struct End {
    topic: String,
    queues: BTreeMap<QueueIndex, QueueOffset>,
}

impl End {
    async fn now(client: &Client, plan: &Plan) -> Result<Self, Failure> {
        let report = client.admin().call(TopicInfo { name: plan.topic.clone() }).await?;
        let queues = report.queues.iter().map(|row| (row.queue, row.end)).collect();
        Ok(Self { topic: plan.topic.clone(), queues })
    }

    /// Whether the group has settled everything before the end.
    async fn is_settled(&self, client: &Client, group: &str) -> Result<bool, Failure> {
        let report = client.admin().call(GroupInfo { name: group.to_owned() }).await?;
        Ok(self.is_reached(&report))
    }

    fn is_reached(&self, report: &GroupReport) -> bool {
        let settled: BTreeMap<QueueIndex, QueueOffset> = report
            .queues
            .iter()
            .filter(|row| row.topic == self.topic)
            .map(|row| (row.queue, row.settled_below))
            .collect();
        let reached = |(queue, end): (&QueueIndex, &QueueOffset)| {
            settled.get(queue).copied().unwrap_or_default() >= *end
        };
        self.queues.iter().all(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_client::wire::BusinessKey;
    use yard_client::wire::ShardId;
    use yard_client::wire::operation::GroupQueueRow;
    use yard_client::wire::retry::{Attempts, RetryPolicy};
    use yard_client::wire::units::{AgeLimit, CountLimit};

    #[test]
    fn the_end_is_reached_when_every_queue_of_the_topic_is_settled_up_to_it() {
        let row = |topic: &str, queue: u16, settled_below: u64| GroupQueueRow {
            topic: topic.into(),
            queue: QueueIndex(queue),
            shard: ShardId(0),
            settled_below: QueueOffset(settled_below),
            end: QueueOffset(100),
            lag: 0,
            in_flight: 0,
            waiting: 0,
            rejected: 0,
            expired: 0,
            filtered: 0,
            duplicates: 0,
        };
        let check = |ends: &[(u16, u64)], rows: Vec<GroupQueueRow>, expected: bool| {
            let queues = ends.iter().map(|(q, end)| (QueueIndex(*q), QueueOffset(*end))).collect();
            let end = End { topic: "t".into(), queues };
            let report = GroupReport {
                name: "g".into(),
                retry: RetryPolicy::Levels,
                max_attempts: Attempts(17),
                key: BusinessKey(None),
                key_window: AgeLimit(0),
                key_count: CountLimit(0),
                keys: 0,
                lag: 0,
                queues: rows,
                members: vec![],
            };
            assert_eq!(end.is_reached(&report), expected, "{ends:?}");
        };
        check(&[(0, 0), (1, 0)], vec![], true);
        check(&[(0, 5)], vec![], false);
        check(&[(0, 5), (1, 7)], vec![row("t", 0, 5), row("t", 1, 9)], true);
        check(&[(0, 5), (1, 7)], vec![row("t", 0, 5), row("t", 1, 6)], false);
        check(&[(0, 5)], vec![row("other", 0, 5)], false);
    }

    #[test]
    fn own_groups_are_temporary_and_differ() {
        assert!(yard_client::wire::name::is_temporary_group(&own_group()));
        assert_ne!(own_group(), own_group());
    }
}
