//! A history as text: one event a line, `name=value` words first, then the bare ones.
//!
//! ```text
//! # a comment
//! send q=3/0 p=7 s=12 at=10..20 ok@42             accepted at offset 42, at level synced
//! send q=3/0 p=7 s=13 at=11.. unknown             no answer
//! send q=3/0 p=7 s=14 o=5 h=ab level=memory due=99 exp=120 c=1 t=2 at=12..22 ok
//! poll q=3/0 g=1 c=2 t=2 at=30..31 42=7.12 43=7.13:ab:2     offset=producer.seq:hash:attempt
//! settle q=3/0 g=1 c=2 a=1 at=40..41 ack 42..43 ok          a: the attempt
//! hold q=3/0 g=1 c=2 at=18..20 until=90 42..43
//! skip q=3/0 g=1 0..42
//! reset q=3/0 g=1 at=50
//! removed g=1 at=55
//! crash at=60 process
//! scan q=3/0 at=70 from=42 42=7.12 43=7.13:ab
//! dead g=1 source=3 topic=4
//! ```
//!
//! Left out: client, tenant, group, hash, attempt of a settlement 0; attempt of a delivery 1; level
//! `synced`; `from=0`; no order group, no due time, no time of expiry. Hashes are hexadecimal. A
//! queue is `topic/queue`.

use crate::event::{
    AckLevel, Crash, CrashKind, DeadLetter, Delivery, Event, Hold, Outcome, Poll, Queue, Removal,
    Reset, Scan, Sent, Settle, SettleVerdict, Skip, Stored, Time,
};
use crate::history::History;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::str::FromStr;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextError {
    /// The first word names no event.
    UnknownEvent(String),
    /// A `name=value` word that this event does not have.
    UnknownField(String),
    /// A required word is missing; this is its name.
    Missing(&'static str),
    /// A word that cannot be read as what stands there.
    Invalid(String),
}

/// Why a history could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The source failed.
    Io(io::Error),
    /// A line is not an event.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        error: TextError,
    },
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextError::UnknownEvent(word) => write!(f, "'{word}' is no event"),
            TextError::UnknownField(word) => write!(f, "'{word}' does not belong to this event"),
            TextError::Missing(name) => write!(f, "'{name}' is missing"),
            TextError::Invalid(word) => write!(f, "'{word}' cannot be read"),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "reading the history: {error}"),
            ReadError::Line { number, error } => write!(f, "line {number}: {error}"),
        }
    }
}

impl std::error::Error for TextError {}
impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

impl History {
    /// Writes all events, by kind, each as a line.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        self.sends.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.polls.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.settles.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.holds.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.skips.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.resets.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.removals.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.crashes.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.scans.iter().try_for_each(|event| writeln!(to, "{event}"))?;
        self.dead_letters.iter().try_for_each(|event| writeln!(to, "{event}"))
    }

    /// Reads events until the end. Empty lines and those that begin with `#` are skipped. A cut
    /// last line is an error: a recorder that was killed has not recorded everything.
    pub fn read_from(mut from: impl BufRead) -> Result<History, ReadError> {
        let mut history = History::new();
        let mut line = String::new();
        let mut number = 0;
        while from.read_line(&mut line)? > 0 {
            number += 1;
            let text = line.trim();
            if !text.is_empty() && !text.starts_with('#') {
                let event = text.parse().map_err(|error| ReadError::Line { number, error })?;
                history.push(event);
            }
            line.clear();
        }
        Ok(history)
    }
}

/// The words of a line after the first: `name=value` with a name of letters, and the rest.
struct Words<'a> {
    fields: Vec<(&'a str, &'a str)>,
    bare: Vec<&'a str>,
    used: usize,
}

impl<'a> Words<'a> {
    fn new(words: impl Iterator<Item = &'a str>) -> Words<'a> {
        let mut split = Words { fields: Vec::new(), bare: Vec::new(), used: 0 };
        for word in words {
            match word.split_once('=') {
                Some((name, value)) if name.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    split.fields.push((name, value));
                }
                Some(_) | None => split.bare.push(word),
            }
        }
        split
    }

    /// Takes out a field.
    fn text(&mut self, name: &str) -> Option<&'a str> {
        let at = self.fields.iter().position(|field| field.0 == name)?;
        Some(self.fields.swap_remove(at).1)
    }

    fn number<N: FromStr>(&mut self, name: &str) -> Result<Option<N>, TextError> {
        self.text(name).map(number).transpose()
    }

    fn required<N: FromStr>(&mut self, name: &'static str) -> Result<N, TextError> {
        self.number(name)?.ok_or(TextError::Missing(name))
    }

    fn or_zero<N: FromStr + Default>(&mut self, name: &str) -> Result<N, TextError> {
        Ok(self.number(name)?.unwrap_or_default())
    }

    fn queue(&mut self) -> Result<Queue, TextError> {
        let text = self.text("q").ok_or(TextError::Missing("q"))?;
        let (topic, index) = text.split_once('/').ok_or_else(|| invalid(text))?;
        Ok(Queue { topic: number(topic)?, index: number(index)? })
    }

    fn interval(&mut self) -> Result<(Time, Option<Time>), TextError> {
        let text = self.text("at").ok_or(TextError::Missing("at"))?;
        let (invoked, completed) = text.split_once("..").ok_or_else(|| invalid(text))?;
        let completed = if completed.is_empty() { None } else { Some(number(completed)?) };
        Ok((number(invoked)?, completed))
    }

    fn level(&mut self) -> Result<AckLevel, TextError> {
        match self.text("level") {
            None => Ok(AckLevel::Synced),
            Some(text) => (AckLevel::ALL.into_iter().find(|level| level_name(*level) == text))
                .ok_or_else(|| invalid(text)),
        }
    }

    /// The next bare word.
    fn next(&mut self, name: &'static str) -> Result<&'a str, TextError> {
        let word = self.bare.get(self.used).ok_or(TextError::Missing(name))?;
        self.used += 1;
        Ok(word)
    }

    fn range(&mut self) -> Result<(u64, u64), TextError> {
        let text = self.next("from..to")?;
        let (from, to) = text.split_once("..").ok_or_else(|| invalid(text))?;
        Ok((number(from)?, number(to)?))
    }

    fn outcome(&mut self) -> Result<Outcome, TextError> {
        match self.next("outcome")? {
            "ok" => Ok(Outcome::Ok { offset: None }),
            "refused" => Ok(Outcome::Refused),
            "unknown" => Ok(Outcome::Unknown),
            word => {
                let offset = word.strip_prefix("ok@").ok_or_else(|| invalid(word))?;
                Ok(Outcome::Ok { offset: Some(number(offset)?) })
            }
        }
    }

    /// All bare words as `offset=producer.seq`, each with at most `parts_max` parts after it.
    fn messages(&mut self, parts_max: usize) -> Result<Vec<Delivery>, TextError> {
        self.used = self.bare.len();
        self.bare.iter().map(|word| message(word, parts_max)).collect()
    }

    /// Fails if a word was not taken.
    fn finish(self) -> Result<(), TextError> {
        if let Some((name, _)) = self.fields.first() {
            return Err(TextError::UnknownField((*name).to_owned()));
        }
        self.bare.get(self.used).map_or(Ok(()), |word| Err(invalid(word)))
    }
}

fn invalid(word: &str) -> TextError {
    TextError::Invalid(word.to_owned())
}

fn number<N: FromStr>(text: &str) -> Result<N, TextError> {
    text.parse().map_err(|_| invalid(text))
}

fn hexadecimal(text: &str) -> Result<u64, TextError> {
    u64::from_str_radix(text, 16).map_err(|_| invalid(text))
}

fn message(word: &str, parts_max: usize) -> Result<Delivery, TextError> {
    let (offset, rest) = word.split_once('=').ok_or_else(|| invalid(word))?;
    let mut parts = rest.split(':');
    let key = parts.next().unwrap_or_default();
    let (producer, seq) = key.split_once('.').ok_or_else(|| invalid(word))?;
    let (hash, attempt) = (parts.next(), parts.next().filter(|_| parts_max > 1));
    if parts.next().is_some() || rest.split(':').count() > 1 + parts_max {
        return Err(invalid(word));
    }
    Ok(Delivery {
        offset: number(offset)?,
        producer: number(producer)?,
        seq: number(seq)?,
        hash: hash.map_or(Ok(0), hexadecimal)?,
        attempt: attempt.map_or(Ok(1), number)?,
    })
}

impl FromStr for Event {
    type Err = TextError;

    fn from_str(line: &str) -> Result<Event, TextError> {
        let mut words = line.split_ascii_whitespace();
        let event = words.next().unwrap_or_default();
        let mut words = Words::new(words);
        let w = &mut words;
        let event = match event {
            "send" => Event::Send(read_send(w)?),
            "poll" => Event::Poll(read_poll(w)?),
            "settle" => Event::Settle(read_settle(w)?),
            "hold" => {
                let (from, to) = w.range()?;
                let (asked, at) = w.interval()?;
                Event::Hold(Hold {
                    client: w.or_zero("c")?,
                    group: w.or_zero("g")?,
                    queue: w.queue()?,
                    from,
                    to,
                    asked,
                    at: at.ok_or(TextError::Missing("completed"))?,
                    until: w.required("until")?,
                })
            }
            "skip" => {
                let (from, to) = w.range()?;
                Event::Skip(Skip { group: w.or_zero("g")?, queue: w.queue()?, from, to })
            }
            "reset" => Event::Reset(Reset {
                group: w.or_zero("g")?,
                queue: w.queue()?,
                at: w.required("at")?,
            }),
            "removed" => Event::Removal(Removal { group: w.or_zero("g")?, at: w.required("at")? }),
            "crash" => Event::Crash(read_crash(w)?),
            "scan" => Event::Scan(read_scan(w)?),
            "dead" => Event::DeadLetter(DeadLetter {
                group: w.or_zero("g")?,
                source: w.required("source")?,
                topic: w.required("topic")?,
            }),
            word => return Err(TextError::UnknownEvent(word.to_owned())),
        };
        words.finish()?;
        Ok(event)
    }
}

fn read_send(w: &mut Words) -> Result<Sent, TextError> {
    let (invoked, completed) = w.interval()?;
    Ok(Sent {
        client: w.or_zero("c")?,
        tenant: w.or_zero("t")?,
        queue: w.queue()?,
        producer: w.required("p")?,
        seq: w.required("s")?,
        order_group: w.number("o")?,
        hash: w.text("h").map_or(Ok(0), hexadecimal)?,
        due: w.number("due")?,
        expires: w.number("exp")?,
        invoked,
        completed,
        outcome: w.outcome()?,
        level: w.level()?,
    })
}

fn read_poll(w: &mut Words) -> Result<Poll, TextError> {
    let (invoked, completed) = w.interval()?;
    Ok(Poll {
        client: w.or_zero("c")?,
        tenant: w.or_zero("t")?,
        group: w.or_zero("g")?,
        queue: w.queue()?,
        invoked,
        completed: completed.ok_or(TextError::Missing("completed"))?,
        deliveries: w.messages(2)?,
    })
}

fn read_settle(w: &mut Words) -> Result<Settle, TextError> {
    let (invoked, completed) = w.interval()?;
    let verdict = match w.next("verdict")? {
        "ack" => SettleVerdict::Ack,
        "nack" => SettleVerdict::Nack,
        "reject" => SettleVerdict::Reject,
        "expire" => SettleVerdict::Expire,
        word => return Err(invalid(word)),
    };
    let (from, to) = w.range()?;
    Ok(Settle {
        client: w.or_zero("c")?,
        group: w.or_zero("g")?,
        queue: w.queue()?,
        from,
        to,
        attempt: w.or_zero("a")?,
        verdict,
        invoked,
        completed,
        outcome: w.outcome()?,
        level: w.level()?,
    })
}

fn read_crash(w: &mut Words) -> Result<Crash, TextError> {
    let kind = match w.next("process or power")? {
        "process" => CrashKind::Process,
        "power" => CrashKind::Power,
        word => return Err(invalid(word)),
    };
    Ok(Crash { at: w.required("at")?, kind })
}

fn read_scan(w: &mut Words) -> Result<Scan, TextError> {
    let stored = |message: Delivery| Stored {
        offset: message.offset,
        producer: message.producer,
        seq: message.seq,
        hash: message.hash,
    };
    Ok(Scan {
        queue: w.queue()?,
        at: w.required("at")?,
        start: w.or_zero("from")?,
        messages: w.messages(1)?.into_iter().map(stored).collect(),
    })
}

fn level_name(level: AckLevel) -> &'static str {
    match level {
        AckLevel::Memory => "memory",
        AckLevel::Written => "written",
        AckLevel::Synced => "synced",
    }
}

/// Writes ` name=value` unless the value is the one that is left out.
fn field(f: &mut fmt::Formatter<'_>, name: &str, value: u64) -> fmt::Result {
    if value == 0 { Ok(()) } else { write!(f, " {name}={value}") }
}

fn interval(f: &mut fmt::Formatter<'_>, invoked: Time, completed: Option<Time>) -> fmt::Result {
    match completed {
        Some(completed) => write!(f, " at={invoked}..{completed}"),
        None => write!(f, " at={invoked}.."),
    }
}

fn level(f: &mut fmt::Formatter<'_>, level: AckLevel) -> fmt::Result {
    if level == AckLevel::Synced { Ok(()) } else { write!(f, " level={}", level_name(level)) }
}

fn outcome(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    match outcome {
        Outcome::Ok { offset: None } => f.write_str(" ok"),
        Outcome::Ok { offset: Some(offset) } => write!(f, " ok@{offset}"),
        Outcome::Refused => f.write_str(" refused"),
        Outcome::Unknown => f.write_str(" unknown"),
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Send(event) => event.fmt(f),
            Event::Poll(event) => event.fmt(f),
            Event::Settle(event) => event.fmt(f),
            Event::Hold(event) => event.fmt(f),
            Event::Skip(event) => event.fmt(f),
            Event::Reset(event) => event.fmt(f),
            Event::Removal(event) => event.fmt(f),
            Event::Crash(event) => event.fmt(f),
            Event::Scan(event) => event.fmt(f),
            Event::DeadLetter(event) => event.fmt(f),
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "send q={} p={} s={}", self.queue, self.producer, self.seq)?;
        if let Some(order_group) = self.order_group {
            write!(f, " o={order_group}")?;
        }
        if self.hash != 0 {
            write!(f, " h={:x}", self.hash)?;
        }
        if let Some(due) = self.due {
            write!(f, " due={due}")?;
        }
        if let Some(expires) = self.expires {
            write!(f, " exp={expires}")?;
        }
        field(f, "c", self.client)?;
        field(f, "t", self.tenant.into())?;
        level(f, self.level)?;
        interval(f, self.invoked, self.completed)?;
        outcome(f, &self.outcome)
    }
}

impl fmt::Display for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "poll q={}", self.queue)?;
        field(f, "g", self.group)?;
        field(f, "c", self.client)?;
        field(f, "t", self.tenant.into())?;
        interval(f, self.invoked, Some(self.completed))?;
        for message in &self.deliveries {
            write!(f, " {}={}.{}", message.offset, message.producer, message.seq)?;
            match (message.hash, message.attempt) {
                (0, 1) => {}
                (hash, 1) => write!(f, ":{hash:x}")?,
                (hash, attempt) => write!(f, ":{hash:x}:{attempt}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "settle q={}", self.queue)?;
        field(f, "g", self.group)?;
        field(f, "c", self.client)?;
        field(f, "a", self.attempt.into())?;
        level(f, self.level)?;
        interval(f, self.invoked, self.completed)?;
        f.write_str(match self.verdict {
            SettleVerdict::Ack => " ack",
            SettleVerdict::Nack => " nack",
            SettleVerdict::Reject => " reject",
            SettleVerdict::Expire => " expire",
        })?;
        write!(f, " {}..{}", self.from, self.to)?;
        outcome(f, &self.outcome)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hold q={}", self.queue)?;
        field(f, "g", self.group)?;
        field(f, "c", self.client)?;
        interval(f, self.asked, Some(self.at))?;
        write!(f, " until={} {}..{}", self.until, self.from, self.to)
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skip q={}", self.queue)?;
        field(f, "g", self.group)?;
        write!(f, " {}..{}", self.from, self.to)
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reset q={}", self.queue)?;
        field(f, "g", self.group)?;
        write!(f, " at={}", self.at)
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("removed")?;
        field(f, "g", self.group)?;
        write!(f, " at={}", self.at)
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            CrashKind::Process => "process",
            CrashKind::Power => "power",
        };
        write!(f, "crash at={} {kind}", self.at)
    }
}

impl fmt::Display for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scan q={} at={}", self.queue, self.at)?;
        field(f, "from", self.start)?;
        for message in &self.messages {
            write!(f, " {}={}.{}", message.offset, message.producer, message.seq)?;
            if message.hash != 0 {
                write!(f, ":{:x}", message.hash)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dead")?;
        field(f, "g", self.group)?;
        write!(f, " source={} topic={}", self.source, self.topic)
    }
}
