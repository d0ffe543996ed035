//! `yard group seek`: a group goes on from elsewhere. The plan is shown, done, and read back.
use yard_client::wire::limits::QUEUES_MAX;
use yard_client::wire::value::{ToValue, Value};
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{QueueMove, QueueSought, SeekPlan, SeekReport, SeekTo, Start};

use super::Session;
use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::{output, text};

/// What the command line asks for.
struct Wanted {
    group: String,
    topic: String,
    to: SeekTo,
    /// This queue only.
    queue: Option<QueueIndex>,
    only_plan: bool,
}

impl Wanted {
    fn read(written: &Written) -> Result<Self, Failure> {
        let now = super::now();
        let to = written.read("to", |text| text::read_from(text, now))?.map(seek_to);
        let like = written.text("like").map(|group| SeekTo::Like(group.to_owned()));
        let skip = written.number("skip", 0, u64::MAX)?.map(SeekTo::Skip);
        let mut given = [to, like, skip].into_iter().flatten();
        let to = match (given.next(), given.next()) {
            (Some(to), None) => to,
            (None, _) | (Some(_), Some(_)) => {
                return Err(bad_argument("to", "give one of --to, --like and --skip"));
            }
        };
        let queue = written.number("queue", 0, u64::from(QUEUES_MAX) - 1)?;
        Ok(Self {
            group: written.required("group")?.to_owned(),
            topic: written.required("topic")?.to_owned(),
            to,
            queue: queue
                .map(|queue| QueueIndex(u16::try_from(queue).expect("checked against the most"))),
            only_plan: written.switch("plan"),
        })
    }
}

fn seek_to(start: Start) -> SeekTo {
    match start {
        Start::Earliest => SeekTo::Earliest,
        Start::Latest => SeekTo::Latest,
        Start::Offset(offset) => SeekTo::Offset(offset),
        Start::Offsets(offsets) => SeekTo::Offsets(offsets),
        Start::Time(time) => SeekTo::Time(time),
    }
}

pub(crate) async fn run(session: &Session, written: &Written) -> Result<(), Failure> {
    let wanted = Wanted::read(written)?;
    let client = session.connect(Some(1)).await?;
    let admin = client.admin();
    let done = async {
        // Of an offset in one queue the others need not have anything.
        let to = match (&wanted.to, wanted.queue) {
            (SeekTo::Offset(offset), Some(queue)) => SeekTo::Offsets(vec![(queue, *offset)]),
            (to, _) => to.clone(),
        };
        let mut plan = admin.plan_seek(&wanted.topic, &wanted.group, &to).await?;
        plan.queues.retain(|row| wanted.queue.is_none_or(|queue| row.queue == queue));
        if plan.queues.is_empty() {
            return Err(bad_argument("queue", "the topic has no such queue"));
        }
        if wanted.only_plan {
            return Ok((show_plan(&plan), None));
        }
        let report = admin.seek_group(&plan).await?;
        Ok((show_report(&plan, &report), Some(report)))
    };
    let result = done.await;
    super::leave(&client).await;
    let (value, report) = result?;
    output::show(&value, session.format)?;
    report.map_or(Ok(()), |report| outcome(&report))
}

/// Some queues may be where they should be, and others not.
fn outcome(report: &SeekReport) -> Result<(), Failure> {
    let failed = report.queues.iter().find_map(|queue| queue.error.as_ref());
    let Some(error) = failed else {
        return Ok(());
    };
    let sentence = format!("{} of {} queues: {}", report.failed(), report.matched(), error.detail);
    let failure = match report.done() {
        0 => Failure::local(sentence),
        _ => Failure::partial(sentence),
    };
    Err(failure.with_code(error.code))
}

/// Messages that come again, and messages that are passed over.
fn change(queue: &QueueMove) -> [(&'static str, Value); 2] {
    let span = |from: QueueOffset, to: QueueOffset| Value::Number(to.0.saturating_sub(from.0));
    [("again", span(queue.to, queue.before)), ("skipped", span(queue.before, queue.to))]
}

fn row(queue: &QueueMove) -> Vec<(&'static str, Value)> {
    let mut row = vec![
        ("queue", queue.queue.to_value()),
        ("shard", queue.shard.to_value()),
        ("before", queue.before.to_value()),
        ("to", queue.to.to_value()),
        ("end", queue.end.to_value()),
    ];
    row.extend(change(queue));
    row
}

fn show_plan(plan: &SeekPlan) -> Value {
    let rows = plan.queues.iter().map(|queue| Value::Record(row(queue))).collect();
    Value::Record(vec![
        ("group", Value::Text(plan.group.clone())),
        ("topic", Value::Text(plan.topic.clone())),
        ("exists", Value::Bool(plan.exists)),
        ("members", Value::Number(plan.members as u64)),
        ("queues", Value::List(rows)),
    ])
}

fn show_report(plan: &SeekPlan, report: &SeekReport) -> Value {
    let sought = |sought: &QueueSought| {
        let mut row = row(&sought.planned);
        row.push(("found", sought.found.to_value()));
        row.push(("error", sought.error.as_ref().map(ToString::to_string).to_value()));
        Value::Record(row)
    };
    Value::Record(vec![
        ("group", Value::Text(plan.group.clone())),
        ("topic", Value::Text(plan.topic.clone())),
        ("matched", Value::Number(report.matched() as u64)),
        ("done", Value::Number(report.done() as u64)),
        ("failed", Value::Number(report.failed() as u64)),
        ("subscriptions", report.ended.to_value()),
        ("queues", Value::List(report.queues.iter().map(sought).collect())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_client::wire::{Code, ShardId};

    fn planned(before: u64, to: u64) -> QueueMove {
        let (before, to, end) = (QueueOffset(before), QueueOffset(to), QueueOffset(9));
        QueueMove { queue: QueueIndex(0), shard: ShardId(0), before, to, end }
    }

    #[test]
    fn what_comes_again_and_what_is_skipped_is_counted() {
        let check = |before: u64, to: u64, again: u64, skipped: u64| {
            let found = change(&planned(before, to)).map(|(_, value)| value);
            assert_eq!(found, [Value::Number(again), Value::Number(skipped)]);
        };
        check(7, 2, 5, 0);
        check(2, 7, 0, 5);
        check(3, 3, 0, 0);
    }

    #[test]
    fn a_part_that_failed_is_told_with_its_code() {
        let sought = |error: Option<yard_client::Error>| QueueSought {
            planned: planned(0, 0),
            found: None,
            error,
        };
        let error = || Some(yard_client::Error::new(Code::WrongShard, "elsewhere"));
        let check = |queues: Vec<QueueSought>, expect: Option<crate::failure::Exit>| {
            let report = SeekReport { queues, ended: 0 };
            assert_eq!(report.matched(), report.done() + report.failed());
            assert_eq!(outcome(&report).err().map(|failure| failure.exit), expect);
        };
        check(vec![sought(None)], None);
        check(vec![sought(None), sought(error())], Some(crate::failure::Exit::Partial));
        check(vec![sought(error())], Some(crate::failure::Exit::Failed));
    }
}
