//! `yard dlq peek`, `resend` and `drop`: dead letters of a group, those that a predicate chooses.
//!
//! ```text
//!   what waits, queue by queue ──► fetch ──► predicate ──► show │ send again │ nothing
//!                                                                    └──► dlq done, by places
//! ```
//!
//! A letter is said to be done after it was stored in its topic, so one that is sent again is never
//! lost by it: a program that ends between the two sends it twice.
use std::collections::BTreeMap;
use std::io;

use yard_client::wire::name::DEAD_PREFIX;
use yard_client::wire::operation::{DlqDone, DlqRange, DlqWaiting};
use yard_client::wire::value::Value;
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Code, Producer, Record};

use super::Session;
use crate::args::Written;
use crate::failure::Failure;
use crate::message::{Printer, Received, Style};
use crate::output;
use crate::terminal::Interrupts;

mod letter;

use letter::{Letter, Predicate};

/// Messages fetched at once: so many are sent again at a time.
const BATCH_MAX: u32 = 500;

/// What is done with what was chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Count only: a plan.
    Count,
    Drop,
    Resend,
}

/// What a command has come to: all that matched is one of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    matched: u64,
    done: u64,
    /// Somebody else had dealt with them, or they were only counted.
    skipped: u64,
    failed: u64,
}

/// A command at work.
struct Work<'a> {
    client: &'a Client,
    group: String,
    topic: String,
    predicate: Predicate,
    /// Letters at most.
    count: u64,
}

/// What was asked for: read before anybody is connected to.
struct Wanted {
    group: String,
    predicate: Predicate,
    count: u64,
}

impl Wanted {
    fn read(written: &Written) -> Result<Self, Failure> {
        let group = written.required("group")?.to_owned();
        let predicate = Predicate::read(written)?;
        let count = written.number("count", 1, u64::MAX)?.unwrap_or(u64::MAX);
        Ok(Self { group, predicate, count })
    }
}

impl<'a> Work<'a> {
    fn new(client: &'a Client, wanted: Wanted) -> Self {
        let Wanted { group, predicate, count } = wanted;
        let topic = format!("{DEAD_PREFIX}{group}");
        Self { client, group, topic, predicate, count }
    }

    /// The next letters that wait and match, of one queue and in order; what was looked through is
    /// behind `from` afterwards. Empty when there are no more.
    async fn next(
        &self,
        queue: QueueIndex,
        from: &mut QueueOffset,
        most: u64,
    ) -> Result<Vec<Letter>, Failure> {
        let group = self.group.clone();
        loop {
            let wanted = DlqWaiting { group: group.clone(), queue: queue.0, from: from.0 };
            let ranges = self.client.admin().call(wanted).await?;
            if ranges.is_empty() {
                return Ok(Vec::new());
            }
            for DlqRange { from: first, to, .. } in ranges {
                *from = first;
                while *from < to {
                    let letters = self.fetch(queue, from, to, most).await?;
                    if !letters.is_empty() {
                        return Ok(letters);
                    }
                }
            }
        }
    }

    /// The matching ones of the next letters of a range; there may be none among them.
    async fn fetch(
        &self,
        queue: QueueIndex,
        from: &mut QueueOffset,
        to: QueueOffset,
        most: u64,
    ) -> Result<Vec<Letter>, Failure> {
        let left = to.0 - from.0;
        let count = u32::try_from(left).map_or(BATCH_MAX, |left| left.min(BATCH_MAX));
        let fetched = self.client.fetch(&self.topic, queue, *from, count).await?;
        let (mut letters, before) = (Vec::new(), *from);
        for found in fetched.records.into_iter().filter(|found| found.offset < to) {
            *from = QueueOffset(found.offset.0 + 1);
            let record = Record::parse(found.record)?;
            let letter = Letter { queue, offset: found.offset, stored: found.stored, record };
            if self.predicate.matches(&letter) {
                letters.push(letter);
            }
            if letters.len() as u64 == most {
                return Ok(letters);
            }
        }
        if *from == before {
            // What is missing there was damaged or removed.
            *from = to;
        }
        Ok(letters)
    }

    async fn queues(&self) -> Result<Vec<QueueIndex>, Failure> {
        match self.client.route(&self.topic).await {
            Ok(route) => Ok((0..).zip(&route.shards).map(|(queue, _)| QueueIndex(queue)).collect()),
            Err(error) if error.code == Code::UnknownTopic => {
                // There is no letter yet; where there is no group either, the broker says so.
                let wanted = DlqWaiting { group: self.group.clone(), ..DlqWaiting::default() };
                self.client.admin().call(wanted).await?;
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// `yard dlq peek`.
pub(crate) async fn peek(session: &Session, written: &Written) -> Result<(), Failure> {
    let style = Style::new(session.format, written.switch("raw"))?;
    let wanted = Wanted::read(written)?;
    let client = session.connect(Some(1)).await?;
    let result = show(&Work::new(&client, wanted), style).await;
    super::leave(&client).await;
    result
}

async fn show(work: &Work<'_>, style: Style) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut printer = Printer::new(style);
    let mut left = work.count;
    for queue in work.queues().await? {
        let mut from = QueueOffset(0);
        while left > 0 {
            let letters = work.next(queue, &mut from, left).await?;
            if letters.is_empty() {
                break;
            }
            left -= letters.len() as u64;
            for Letter { queue, offset, stored, record } in &letters {
                let (topic, attempt) = (&work.topic[..], None);
                let (queue, offset, stored) = (*queue, *offset, *stored);
                let received = Received { topic, queue, offset, stored, attempt, record };
                printer.print(&received, &mut out)?;
            }
        }
    }
    Ok(printer.finish(&mut out)?)
}

/// `yard dlq resend`.
pub(crate) async fn resend(session: &Session, written: &Written) -> Result<(), Failure> {
    change(session, written, Does::Resend).await
}

/// `yard dlq drop`.
pub(crate) async fn discard(session: &Session, written: &Written) -> Result<(), Failure> {
    change(session, written, Does::Drop).await
}

async fn change(session: &Session, written: &Written, does: Does) -> Result<(), Failure> {
    let does = if written.switch("apply") { does } else { Does::Count };
    let to = written.text("topic").map(str::to_owned);
    let wanted = Wanted::read(written)?;
    let mut interrupts = Interrupts::catch()?;
    let client = session.connect(Some(1)).await?;
    let work = Work::new(&client, wanted);
    let mut tally = Tally::default();
    let mut changing = Changing { work: &work, does, to, producers: BTreeMap::new(), why: None };
    let result = interrupts.unless(changing.run(&mut tally)).await;
    let why = changing.why.take();
    if result.is_none() {
        tally.break_off();
    }
    super::leave(&client).await;
    // What was done before an error was done. Where nothing was looked at, the error says it all.
    let is_refused = matches!(result, Some(Err(_))) && tally == Tally::default();
    if !is_refused {
        output::show(&tally.row(), session.format)?;
    }
    if does == Does::Count && tally.matched > 0 {
        eprintln!("nothing was changed; --apply does it");
    }
    match result {
        Some(Ok(())) => {}
        Some(Err(failure)) if tally.done == 0 => return Err(failure),
        Some(Err(failure)) => return Err(failure.after_a_part()),
        None => {
            let why = "interrupted: what counts as failed was under way and may be done, and \
                       later dead letters were not looked at";
            return Err(Failure::partial(why));
        }
    }
    match why {
        Some(why) if tally.done > 0 => Err(Failure::partial(why)),
        Some(why) => Err(Failure::local(why)),
        None => Ok(()),
    }
}

struct Changing<'a> {
    work: &'a Work<'a>,
    does: Does,
    /// Another topic than their own.
    to: Option<String>,
    producers: BTreeMap<String, Producer>,
    /// Why the first that failed did.
    why: Option<String>,
}

impl Changing<'_> {
    async fn run(&mut self, tally: &mut Tally) -> Result<(), Failure> {
        for queue in self.work.queues().await? {
            let mut from = QueueOffset(0);
            while tally.matched < self.work.count {
                let left = self.work.count - tally.matched;
                let letters = self.work.next(queue, &mut from, left).await?;
                if letters.is_empty() {
                    break;
                }
                tally.matched += letters.len() as u64;
                match self.deal_with(&letters, tally).await {
                    Ok(()) => assert!(tally.is_exact(), "each is one of the others"),
                    Err(failure) => {
                        tally.break_off();
                        return Err(failure);
                    }
                }
            }
        }
        Ok(())
    }

    async fn deal_with(&mut self, letters: &[Letter], tally: &mut Tally) -> Result<(), Failure> {
        let done: Vec<QueueOffset> = match self.does {
            Does::Count => {
                tally.skipped += letters.len() as u64;
                return Ok(());
            }
            Does::Drop => letters.iter().map(|letter| letter.offset).collect(),
            Does::Resend => self.send(letters).await,
        };
        tally.failed += (letters.len() - done.len()) as u64;
        let queue = letters[0].queue;
        for run in runs(&done) {
            self.say_done(queue, run, tally).await?;
        }
        Ok(())
    }

    /// Sends letters again; returns those that were stored.
    async fn send(&mut self, letters: &[Letter]) -> Vec<QueueOffset> {
        let mut sent = Vec::new();
        let mut waiting = Vec::new();
        for letter in letters {
            match self.begin_send(letter).await {
                Ok(receipt) => waiting.push((letter.offset, receipt)),
                Err(why) => self.note(why),
            }
        }
        for (offset, receipt) in waiting {
            match receipt.await {
                Ok(_) => sent.push(offset),
                Err(error) => self.note(error.to_string()),
            }
        }
        sent
    }

    fn note(&mut self, why: String) {
        self.why.get_or_insert(why);
    }

    async fn begin_send(&mut self, letter: &Letter) -> Result<yard_client::Receipt, String> {
        let own = || letter.record.property("$dead.topic").map(str::to_owned);
        let topic = self.to.clone().or_else(own).ok_or("a dead letter names no topic")?;
        if !self.producers.contains_key(&topic) {
            let producer = self.work.client.producer(topic.clone()).build().await;
            self.producers.insert(topic.clone(), producer.map_err(|error| error.to_string())?);
        }
        let producer = &self.producers[&topic];
        producer.enqueue(letter.message()).await.map_err(|error| error.to_string())
    }

    /// Says of neighbours that they are done, also where the broker does it in several steps.
    async fn say_done(
        &self,
        queue: QueueIndex,
        (from, to): (QueueOffset, QueueOffset),
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let (mut at, mut done) = (from.0, 0);
        while at < to.0 {
            let (group, queue) = (self.work.group.clone(), queue.0);
            let wanted = DlqDone { group, queue, from: at, to: to.0 };
            let counts = self.work.client.admin().call(wanted).await?;
            tally.done += counts.done;
            done += counts.done;
            at = to.0 - counts.left.min(to.0 - at);
        }
        // Somebody else was quicker, or it was removed meanwhile.
        tally.skipped += to.0 - from.0 - done;
        Ok(())
    }
}

/// Offsets that follow each other, from one to before another.
fn runs(offsets: &[QueueOffset]) -> Vec<(QueueOffset, QueueOffset)> {
    let mut runs: Vec<(QueueOffset, QueueOffset)> = Vec::new();
    for offset in offsets {
        let after = QueueOffset(offset.0 + 1);
        match runs.last_mut().filter(|(_, to)| to == offset) {
            Some((_, to)) => *to = after,
            None => runs.push((*offset, after)),
        }
    }
    runs
}

impl Tally {
    fn is_exact(&self) -> bool {
        self.matched == self.done + self.skipped + self.failed
    }

    /// Nobody knows what became of those that are under way.
    fn break_off(&mut self) {
        self.failed = self.matched - self.done - self.skipped;
    }

    fn row(&self) -> Value {
        assert!(self.is_exact(), "each is one of the others");
        Value::Record(vec![
            ("matched", Value::Number(self.matched)),
            ("done", Value::Number(self.done)),
            ("skipped", Value::Number(self.skipped)),
            ("failed", Value::Number(self.failed)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever was under way when somebody pressed Ctrl-C.
    #[test]
    fn a_tally_is_exact_where_it_breaks_off() {
        let some = Tally { matched: 100, done: 40, skipped: 9, failed: 3 };
        for mut tally in [Tally::default(), Tally { matched: 100, ..Tally::default() }, some] {
            tally.break_off();
            assert!(tally.is_exact(), "{tally:?}");
            tally.row();
        }
    }

    #[test]
    fn neighbours_are_told_together() {
        let check = |offsets: &[u64], expected: &[(u64, u64)]| {
            let offsets: Vec<QueueOffset> = offsets.iter().copied().map(QueueOffset).collect();
            let found: Vec<_> = runs(&offsets).into_iter().map(|(a, b)| (a.0, b.0)).collect();
            assert_eq!(found, expected);
        };
        check(&[], &[]);
        check(&[3], &[(3, 4)]);
        check(&[0, 1, 2, 5, 6, 9], &[(0, 3), (5, 7), (9, 10)]);
    }
}
