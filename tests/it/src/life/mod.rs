//! What can happen to a message between send and acknowledgement, much of it at a time: what must
//! be exact is counted, and what must be quick is measured beside its bar.
//!
//! ```text
//!   order          one order group over a long line: many in flight beside one
//!   delayed        due over minutes, the broker killed meanwhile: never early, how late, memory
//!   storm          every message fails three times: beside as many deliveries without a failure
//!   transactions   producers in processes of their own, killed at random; checks; an operator
//!   flights        aircraft in order while consumers are killed, effects in SQLite
//! ```
//!
//! All of it is a real broker in a process of its own, over loopback. Nothing here depends on how
//! fast the machine is but the figures, and they fail nothing.
mod beside;
mod crew;
mod delayed;
mod flights;
mod order;
mod storm;
mod transactions;
mod work;

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::path::Path;
use std::time::{Duration, Instant};

use yard_client::wire::limits::QUEUES_DEFAULT;
use yard_client::wire::operation::{GroupInfo, TopicCreate};
use yard_client::{Client, Code, Delivery, Message, Receipt};

use crate::program::Verdict;
use crate::server::{Server, ServerOptions};
use crate::{Failed, Scratch};

pub use crew::{PartOptions, part};
pub use delayed::{DelayedOptions, run as delayed};
pub use flights::{FlightsOptions, run as flights};
pub use order::{OrderOptions, run as order};
pub use storm::{StormOptions, run as storm};
pub use transactions::{TransactionsOptions, run as transactions};

/// Bytes of a message's body.
const BODY_BYTES: usize = 100;
/// Messages under way while a topic is filled.
const PIPELINED: usize = 16_384;
/// A process that was killed is given up by the broker after so much silence.
const IDLE: &str = "3s";

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// No less than this.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

/// What came of a run: a row a figure, `row|what|how much|what was found|verdict`. The verdict is
/// `ok`, or `FOUND` of what is wrong, or `missed` of a figure that is not what it should be.
#[derive(Debug)]
pub struct Report {
    run: &'static str,
    much: String,
    rows: Vec<String>,
    wrong: usize,
}

impl Report {
    /// A run of so much, in which nothing was found yet.
    #[must_use]
    pub fn new(run: &'static str, much: String) -> Self {
        Self { run, much, rows: Vec::new(), wrong: 0 }
    }

    fn row(&mut self, what: &str, found: &str, verdict: &str) {
        let Self { run, much, .. } = self;
        self.rows.push(format!("row|{run}: {what}|{much}|{found}|{verdict}"));
    }

    /// What has no bar.
    pub fn tell(&mut self, what: &str, found: &str) {
        self.row(what, found, "ok");
    }

    /// A figure, and how it came about.
    pub fn figure(&mut self, what: &str, (found, text): (f64, &str), bar: Bar) {
        let (is_met, bar) = match bar {
            Bar::AtLeast(least) => (found >= least, format!(">= {least}")),
            Bar::AtMost(most) => (found <= most, format!("<= {most}")),
        };
        let verdict = if is_met { "ok" } else { "missed" };
        self.row(what, &format!("{found:.2} (bar {bar}): {text}"), verdict);
    }

    /// What must be exact: counts, each of which says how much is wrong.
    fn account(&mut self, what: &str, wrong: &[(u64, &str)]) {
        let text: Vec<String> = wrong.iter().map(|(n, name)| format!("{n} {name}")).collect();
        let is_good = wrong.iter().all(|(count, _)| *count == 0);
        self.wrong += usize::from(!is_good);
        self.row(what, &text.join(", "), if is_good { "ok" } else { "FOUND" });
    }
}

impl Verdict for Report {
    fn is_good(&self) -> bool {
        self.wrong == 0
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// A topic that is like most.
fn topic(name: &str) -> TopicCreate {
    TopicCreate { name: name.to_owned(), queues: QUEUES_DEFAULT, ..TopicCreate::default() }
}

/// The message of a number.
fn numbered(number: u64) -> Message {
    let mut body = vec![7; BODY_BYTES];
    body[..8].copy_from_slice(&number.to_le_bytes());
    Message::new(body)
}

/// The number of a message; one that has none is beyond all.
fn number_of(delivery: &Delivery) -> u64 {
    let body = delivery.record().body();
    let bytes = body.get(..8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(u64::MAX, u64::from_le_bytes)
}

/// Sends so many messages, made by their number, and says of each when it was stored. How long it
/// took.
async fn fill(
    client: &Client,
    topic: &str,
    count: u64,
    make: impl Fn(u64) -> Message,
    mut stored: impl FnMut(u64),
) -> Result<Duration, Failed> {
    let producer = client.producer(topic).build().await?;
    let mut waiting = VecDeque::<(u64, Receipt)>::new();
    let began = Instant::now();
    for number in 0..count {
        if waiting.len() == PIPELINED
            && let Some((number, receipt)) = waiting.pop_front()
        {
            receipt.await?;
            stored(number);
        }
        waiting.push_back((number, producer.enqueue(make(number)).await?));
    }
    for (number, receipt) in waiting {
        receipt.await?;
        stored(number);
    }
    let took = began.elapsed();
    producer.close().await?;
    Ok(took)
}

/// How many messages a group has not settled; of one that nobody knows yet all.
async fn lag(client: &Client, group: &str) -> Result<u64, Failed> {
    match client.admin().call(GroupInfo { name: group.to_owned() }).await {
        Ok(report) => Ok(report.lag),
        Err(error) if error.code == Code::UnknownGroup => Ok(u64::MAX),
        Err(error) => Err(error.into()),
    }
}

/// A broker that gives up a killed client after [`IDLE`], and a folder for what else there is.
async fn watchful(yard: &Path, shards: u16) -> Result<(Server, Scratch), Failed> {
    let scratch = Scratch::new("life")?;
    let path = scratch.path().join("yard.toml");
    std::fs::write(&path, format!("idle_ms = \"{IDLE}\"\n")).map_err(Failed::file(&path))?;
    let mut options = ServerOptions::new(yard.to_owned());
    options.shards = shards;
    options.flags = vec!["--config".to_owned(), path.display().to_string()];
    Ok((Server::start(options).await?, scratch))
}

/// Keeps the broker's folder where something is wrong.
fn keep_if_wrong(server: &mut Server, report: &Result<Report, Failed>) {
    if !report.as_ref().is_ok_and(Verdict::is_good) {
        eprintln!("the broker's folder and log: {}", server.keep().display());
    }
}

/// A rate in messages a second.
fn rate(messages: u64, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_fails_and_what_is_slow_does_not() {
        let mut report = Report::new("storm", "10 messages".to_owned());
        report.figure("speed", (0.5, "half"), Bar::AtLeast(0.6));
        report.figure("memory", (0.5, "half"), Bar::AtMost(0.6));
        report.account("account", &[(0, "lost"), (0, "twice")]);
        assert!(report.is_good());
        let text = report.to_string();
        assert!(text.contains("row|storm: speed|10 messages|0.50 (bar >= 0.6): half|missed\n"));
        assert!(text.contains("row|storm: account|10 messages|0 lost, 0 twice|ok\n"), "{text}");
        report.account("account", &[(0, "lost"), (1, "twice")]);
        assert!(!report.is_good() && report.to_string().ends_with("|0 lost, 1 twice|FOUND\n"));
    }
}
