//! `yard topic peek`: one message of a queue, by its offset or by when it was stored.
use std::io::{self, Write};

use yard_client::wire::{Code, QueueIndex, QueueOffset, Timestamp};
use yard_client::{Client, FetchedRecord, Record};
use yard_console::show::page;

use super::Session;
use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::message::{Printer, Received, Style, WHOLE};
use crate::text;

/// Which message is meant.
enum Which {
    Offset(QueueOffset),
    Time(Timestamp),
}

struct Plan {
    topic: String,
    queue: QueueIndex,
    which: Which,
    style: Style,
}

pub(crate) async fn run(session: &Session, written: &Written) -> Result<(), Failure> {
    let offset = written.number("offset", 0, u64::MAX)?;
    let which = match (offset, super::time(written, "time")?) {
        (Some(offset), None) => Which::Offset(QueueOffset(offset)),
        (None, Some(time)) => Which::Time(time),
        (Some(_), Some(_)) => {
            return Err(bad_argument("time", "give either --offset or --time, not both"));
        }
        (None, None) => return Err(bad_argument("offset", "give --offset or --time")),
    };
    let plan = Plan {
        topic: written.required("topic")?.to_owned(),
        queue: super::queue(written)?,
        which,
        style: Style::new(session.format, written.switch("raw"))?,
    };
    let client = session.connect(Some(1)).await?;
    let result = look(&client, &plan).await;
    super::leave(&client).await;
    show(&plan, result?)
}

/// The message, with where its queue begins and ends.
struct Peeked {
    found: FetchedRecord,
    first: QueueOffset,
    end: QueueOffset,
}

async fn look(client: &Client, plan: &Plan) -> Result<Peeked, Failure> {
    let Plan { topic, queue, .. } = plan;
    let offset = match plan.which {
        Which::Offset(offset) => offset,
        Which::Time(time) => {
            let sought = client.seek(topic, *queue, time).await?;
            if sought.offset >= sought.end {
                let (first, end) = (sought.first, sought.end);
                let time = text::instant(time);
                let sentence = format!(
                    "no message of queue {queue} was stored at {time} or later; \
                     it holds {first}..{end}"
                );
                return Err(Failure::local(sentence).with_code(Code::NoSuchMessage));
            }
            sought.offset
        }
    };
    let fetched = client.fetch(topic, *queue, offset, 1).await?;
    let (first, end) = (fetched.first, fetched.end);
    let holds = format!("queue {queue} holds {first}..{end}");
    let found = fetched.records.into_iter().next().ok_or_else(|| {
        Failure::local(format!("no message has offset {offset}; {holds}"))
            .with_code(Code::OffsetOutOfRange)
    })?;
    if found.offset != offset {
        let next = found.offset;
        let sentence = format!("no message has offset {offset}, the next is {next}; {holds}");
        return Err(Failure::local(sentence).with_code(Code::OffsetOutOfRange));
    }
    Ok(Peeked { found, first, end })
}

fn show(plan: &Plan, peeked: Peeked) -> Result<(), Failure> {
    let Peeked { found, first, end } = peeked;
    let received = Received {
        topic: &plan.topic,
        queue: plan.queue,
        offset: found.offset,
        stored: found.stored,
        attempt: None,
        record: &Record::parse(found.record)?,
    };
    let mut out = io::stdout().lock();
    if let Style::Line { .. } = plan.style {
        out.write_all(page::text_of(&received, WHOLE).as_bytes())?;
        out.flush()?;
    } else {
        // One message is one object, not a list of one.
        let style = if plan.style == Style::Json { Style::Ndjson } else { plan.style };
        let mut printer = Printer::new(style);
        printer.print(&received, &mut out)?;
        printer.finish(&mut out)?;
    }
    let _ = writeln!(io::stderr(), "queue {} holds {first}..{end}", plan.queue);
    Ok(())
}
