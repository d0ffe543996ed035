//! `yard fetch`: messages of a queue from an offset on, without a group.
use std::io::{self, BufWriter, Write};

use yard_client::wire::record::Record;
use yard_client::wire::{QueueIndex, QueueOffset, Timestamp};
use yard_client::{Client, FetchedRecord};

use super::Session;
use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::message::{Printer, Received, Style};

/// Messages asked for at once.
const BATCH_MAX: u64 = 1_000;

enum From {
    Offset(QueueOffset),
    Time(Timestamp),
}

struct Plan {
    topic: String,
    queue: QueueIndex,
    from: From,
    count: u64,
    style: Style,
}

pub(crate) async fn run(session: &Session, written: &Written) -> Result<(), Failure> {
    let time = super::time(written, "time")?;
    if time.is_some() && written.is_given("from") {
        return Err(bad_argument("time", "give either --from or --time, not both"));
    }
    let offset = QueueOffset(written.number("from", 0, u64::MAX)?.unwrap_or(0));
    let plan = Plan {
        topic: written.required("topic")?.to_owned(),
        queue: super::queue(written)?,
        from: time.map_or(From::Offset(offset), From::Time),
        count: written.number("count", 1, u64::MAX)?.unwrap_or(1),
        style: Style::new(session.format, written.switch("raw"))?,
    };
    let client = session.connect(Some(1)).await?;
    let result = print(&client, &plan).await;
    super::leave(&client).await;
    result
}

async fn print(client: &Client, plan: &Plan) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut printer = Printer::new(plan.style);
    let result = print_all(client, plan, &mut printer, &mut out).await;
    // What was printed before an error is whole as well.
    printer.finish(&mut out)?;
    result
}

async fn print_all(
    client: &Client,
    plan: &Plan,
    printer: &mut Printer,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut from = match plan.from {
        From::Offset(offset) => offset,
        From::Time(time) => client.seek(&plan.topic, plan.queue, time).await?.offset,
    };
    let mut left = plan.count;
    while left > 0 {
        let count = u32::try_from(left.min(BATCH_MAX)).expect("at most a batch");
        let fetched = client.fetch(&plan.topic, plan.queue, from, count).await?;
        let Some(last) = fetched.records.last() else {
            break;
        };
        from = QueueOffset(last.offset.0 + 1);
        left -= fetched.records.len() as u64;
        for record in fetched.records {
            print_one(plan, record, printer, out)?;
        }
        out.flush()?;
    }
    Ok(())
}

fn print_one(
    plan: &Plan,
    fetched: FetchedRecord,
    printer: &mut Printer,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let received = Received {
        topic: &plan.topic,
        queue: plan.queue,
        offset: fetched.offset,
        stored: fetched.stored,
        attempt: None,
        record: &Record::parse(fetched.record)?,
    };
    Ok(printer.print(&received, out)?)
}
