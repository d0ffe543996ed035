//! `yard msg show` and `yard topic find`: messages by their id, or by a key of theirs.
use std::io::{self, BufWriter, Write};

use serde_json::json;
use yard_client::wire::{Code, MessageId, Timestamp};
use yard_client::{Client, Covered, FoundMessage, Record, SearchCursor, SearchResult, Wanted};
use yard_console::show::page;

use super::Session;
use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::message::{Printer, Received, Style, WHOLE};
use crate::terminal::Interrupts;
use crate::text;

/// Messages asked for at once.
const BATCH_MAX: u64 = 100;

/// What one command looks for.
struct Plan {
    wanted: Wanted,
    after: Option<SearchCursor>,
    /// Messages at most.
    count: u64,
    style: Style,
    /// Whether people see each message on a page of its own.
    pages: bool,
}

/// `yard msg show`.
pub(crate) async fn show(session: &Session, written: &Written) -> Result<(), Failure> {
    let id = written.required("id")?;
    let id = MessageId::parse(id)
        .ok_or_else(|| bad_argument("id", &format!("takes 32 hexadecimal digits, not {id:?}")))?;
    let style = Style::new(session.format, written.switch("raw"))?;
    let wanted = Wanted::Id(id);
    let plan = Plan { wanted, after: None, count: u64::MAX, style, pages: true };
    let ended = run(session, &plan).await?;
    if ended.messages == 0 {
        let sentence = format!("no message has the id {id}: {}", ended.text());
        return Err(Failure::local(sentence).with_code(Code::NoSuchMessage));
    }
    Ok(())
}

/// `yard topic find`.
pub(crate) async fn by_key(session: &Session, written: &Written) -> Result<(), Failure> {
    let key = written.text("key").ok_or_else(|| bad_argument("key", "is missing"))?;
    let from = super::time(written, "from")?.unwrap_or(Timestamp(0));
    let to = super::time(written, "to")?.unwrap_or(Timestamp(u64::MAX));
    if from >= to {
        let why = format!("{} is not after {}", text::instant(to), text::instant(from));
        return Err(bad_argument("to", &why));
    }
    let after = written.read("after", |text| {
        text.parse().map_err(|_| format!("takes what a search has ended with, not {text:?}"))
    })?;
    let plan = Plan {
        wanted: Wanted::Key {
            topic: written.required("topic")?.to_owned(),
            key: key.to_owned(),
            from,
            to,
        },
        after,
        count: written.number("count", 1, u64::MAX)?.unwrap_or(BATCH_MAX),
        style: Style::new(session.format, written.switch("raw"))?,
        pages: false,
    };
    run(session, &plan).await.map(|_| ())
}

async fn run(session: &Session, plan: &Plan) -> Result<Ended, Failure> {
    let mut interrupts = Interrupts::catch()?;
    let client = session.connect(Some(1)).await?;
    let result = search(&client, plan, &mut interrupts).await;
    super::leave(&client).await;
    result
}

/// How far a command has come.
#[derive(Debug, Default)]
struct Ended {
    messages: u64,
    covered: Covered,
    next: Option<SearchCursor>,
}

impl Ended {
    /// What was looked at, and how to go on.
    fn text(&self) -> String {
        let mut out = text::covered(&self.covered);
        if let Some(next) = &self.next {
            out.push_str(&format!("; go on with --after {next}"));
        }
        out
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "segments": self.covered.segments,
            "from_ms": self.covered.from.0,
            "to_ms": self.covered.to.0,
            "unreadable_bytes": self.covered.unreadable_bytes,
        })
    }
}

/// Looks on until everything was looked at, enough was found or the user wants it to end.
async fn search(
    client: &Client,
    plan: &Plan,
    interrupts: &mut Interrupts,
) -> Result<Ended, Failure> {
    let mut shown = Shown::new(plan);
    let mut ended = Ended { next: plan.after.clone(), ..Ended::default() };
    let mut failed = None;
    while ended.messages < plan.count {
        let left = plan.count - ended.messages;
        let count = u32::try_from(left.min(BATCH_MAX)).expect("at most a batch");
        let find = client.find(plan.wanted.clone(), ended.next.clone(), count);
        let SearchResult { messages, covered, next } = match interrupts.unless(find).await {
            Some(Ok(result)) => result,
            Some(Err(error)) => {
                failed = Some(Failure::from(error));
                break;
            }
            None => break,
        };
        ended.messages += messages.len() as u64;
        ended.covered = ended.covered.and(covered);
        ended.next = next;
        for message in messages {
            shown.message(message)?;
        }
        if ended.next.is_none() {
            break;
        }
    }
    // What was printed before an error is whole as well.
    match failed {
        Some(failure) if ended.messages == 0 => Err(failure),
        failed => {
            shown.finish(&ended)?;
            failed.map_or(Ok(ended), Err)
        }
    }
}

/// Messages on their way to stdout.
struct Shown<'p> {
    plan: &'p Plan,
    printer: Printer,
    out: BufWriter<io::Stdout>,
    is_begun: bool,
}

impl<'p> Shown<'p> {
    fn new(plan: &'p Plan) -> Self {
        let (printer, out) = (Printer::new(plan.style), BufWriter::new(io::stdout()));
        Self { plan, printer, out, is_begun: false }
    }

    fn is_page(&self) -> bool {
        self.plan.pages && matches!(self.plan.style, Style::Line { .. })
    }

    fn begin(&mut self) -> io::Result<bool> {
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        if is_first && self.plan.style == Style::Json {
            self.out.write_all(b"{\"messages\":\n")?;
        }
        Ok(is_first)
    }

    fn message(&mut self, found: FoundMessage) -> Result<(), Failure> {
        let is_first = self.begin()?;
        let received = Received {
            topic: &found.topic,
            queue: found.queue,
            offset: found.offset,
            stored: found.stored,
            attempt: None,
            record: &Record::parse(found.record)?,
        };
        if self.is_page() {
            if !is_first {
                self.out.write_all(b"\n")?;
            }
            self.out.write_all(page::text_of(&received, WHOLE).as_bytes())?;
        } else {
            self.printer.print(&received, &mut self.out)?;
        }
        Ok(self.out.flush()?)
    }

    /// Nothing more comes. Data is on stdout only; what was looked at is part of it in JSON.
    fn finish(mut self, ended: &Ended) -> Result<(), Failure> {
        if self.plan.pages && ended.messages == 0 {
            return Ok(());
        }
        self.begin()?;
        self.printer.finish(&mut self.out)?;
        if self.plan.style == Style::Json {
            let next = ended.next.as_ref().map(ToString::to_string);
            let (covered, next) = (ended.json(), json!(next));
            writeln!(self.out, ",\"covered\":{covered},\"next\":{next}}}")?;
            self.out.flush()?;
        } else {
            let _ = writeln!(io::stderr(), "{}", ended.text());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_at_is_said() {
        let check = |covered: Covered, next: Option<&str>, expected: &str| {
            let next = next.map(|text| text.parse().expect("a cursor"));
            assert_eq!(Ended { messages: 0, covered, next }.text(), expected);
        };
        let covered = Covered {
            segments: 3,
            from: Timestamp(1_357_034_400_000),
            to: Timestamp(1_357_034_401_000),
            unreadable_bytes: 0,
        };
        let looked = "looked at 3 segments, 2013-01-01T10:00:00.000Z..2013-01-01T10:00:01.000Z";
        check(Covered::default(), None, "nothing of that time is stored");
        check(covered, None, looked);
        check(covered, Some("0:3.64"), &format!("{looked}; go on with --after 0:3.64"));
        let damaged = Covered { unreadable_bytes: 4_096, ..covered };
        let unread = "; 4.1 kB of it cannot be read, see the broker's log";
        check(damaged, None, &format!("{looked}{unread}"));
    }
}
