//! A year of flights through the real program: sent with `yard pub`, received with `yard sub`.
//!
//! ```text
//!   flights.ndjson.gz ─► yard pub --order .tailnum ─► yard serve ─► yard sub --until-end ─► lines
//!                                   (killed and started again meanwhile)                     │
//!   flights.ndjson.gz ─────────────────────────────────────────────► every line once? ◄──────┘
//!                                                       each aircraft in order?
//! ```
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use yard_client::wire::operation::{TopicCreate, TopicInfo};
use yard_client::{Client, Code};

use crate::server::{Server, ServerOptions};
use crate::wait::{PATIENCE, until};
use crate::{Failed, Scratch, yard};

/// Name of the topic.
pub const TOPIC: &str = "flights";
/// Lines that are named when they are wrong.
const EXAMPLES_MAX: usize = 5;

/// The lines of the file, in its order.
#[derive(Debug)]
pub struct Flights {
    path: PathBuf,
    lines: HashMap<Box<[u8]>, Flight>,
}

#[derive(Debug)]
struct Flight {
    /// Number of the line.
    number: u32,
    /// Number of the aircraft, where the line names one.
    aircraft: Option<u32>,
}

/// What a group received, compared with the file.
#[derive(Debug, Default)]
pub struct Received {
    /// Lines received.
    pub lines: u64,
    /// Lines of the file that were never received.
    pub missing: u64,
    /// Lines received again.
    pub twice: u64,
    /// Lines that are not in the file.
    pub foreign: u64,
    /// Lines that came after a later one of the same aircraft.
    pub disordered: u64,
    /// Some of them.
    pub examples: Vec<String>,
}

impl Received {
    /// Whether every line came once, and each aircraft's in the order of the file.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing + self.twice + self.foreign + self.disordered == 0
    }

    fn example(&mut self, what: &str, line: &[u8]) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{what}: {}", String::from_utf8_lossy(line)));
        }
    }
}

/// The field of a line, as its text.
fn tail_number(line: &[u8]) -> Result<Option<String>, Failed> {
    let value: serde_json::Value = serde_json::from_slice(line)
        .map_err(|error| Failed(format!("a line of the flights: {error}")))?;
    Ok(value.get("tailnum").and_then(serde_json::Value::as_str).map(str::to_owned))
}

/// A line of the file.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its bytes.
    pub text: Vec<u8>,
    /// The aircraft, where it names one.
    pub aircraft: Option<String>,
}

/// The lines of the file, packed or not, in its order.
///
/// # Errors
/// When it cannot be read; a line's where it is no JSON.
pub fn lines(path: &Path) -> Result<impl Iterator<Item = Result<Line, Failed>> + use<>, Failed> {
    let file = File::open(path).map_err(Failed::file(path))?;
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> =
        if is_packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let read = |line: std::io::Result<Vec<u8>>| {
        let text = line?;
        let aircraft = tail_number(&text)?;
        Ok(Line { text, aircraft })
    };
    Ok(BufReader::new(reader).split(b'\n').map(read))
}

impl Flights {
    /// Reads the file, packed or not.
    ///
    /// # Errors
    /// When it cannot be read, or has a line twice.
    pub fn read(path: &Path) -> Result<Self, Failed> {
        let mut aircraft: HashMap<String, u32> = HashMap::new();
        let mut file = HashMap::new();
        for (number, line) in lines(path)?.enumerate() {
            let Line { text, aircraft: name } = line?;
            let next = aircraft.len() as u32;
            let aircraft = name.map(|name| *aircraft.entry(name).or_insert(next));
            let flight = Flight { number: number as u32, aircraft };
            if file.insert(text.into_boxed_slice(), flight).is_some() {
                return Err(Failed(format!("line {} is there twice", number + 1)));
            }
        }
        Ok(Self { path: path.to_owned(), lines: file })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Compares what was received, line by line, with the file.
    ///
    /// # Errors
    /// When the reader fails.
    pub fn compare(&self, received: impl BufRead) -> Result<Received, Failed> {
        let mut result = Received::default();
        let mut seen = vec![false; self.lines.len()];
        let mut latest: HashMap<u32, u32> = HashMap::new();
        for line in received.split(b'\n') {
            let line = line?;
            result.lines += 1;
            let Some(flight) = self.lines.get(line.as_slice()) else {
                result.foreign += 1;
                result.example("not in the file", &line);
                continue;
            };
            if std::mem::replace(&mut seen[flight.number as usize], true) {
                result.twice += 1;
                result.example("twice", &line);
                continue;
            }
            let Some(aircraft) = flight.aircraft else { continue };
            let latest = latest.entry(aircraft).or_default();
            if *latest > flight.number {
                result.disordered += 1;
                result.example("after a later one", &line);
            }
            *latest = flight.number.max(*latest);
        }
        result.missing = seen.iter().filter(|seen| !**seen).count() as u64;
        Ok(result)
    }
}

/// When the broker is killed during the sending.
#[derive(Clone, Copy, Debug)]
pub enum Kills {
    /// Never.
    None,
    /// After 20, 50 and 80 in a hundred messages; the sending is slowed to take about as long.
    Three {
        /// Messages a second.
        rate: u64,
    },
}

/// What came out.
#[derive(Debug)]
pub struct FlightsReport {
    /// What each group received.
    pub groups: Vec<(&'static str, Received)>,
    /// Messages that the broker says it holds.
    pub stored: u64,
    /// How long the sending took.
    pub sending: Duration,
    /// How long each group's receiving took.
    pub receiving: Vec<Duration>,
}

impl FlightsReport {
    /// Whether every group received exactly what the file holds.
    #[must_use]
    pub fn is_exact(&self, flights: &Flights) -> bool {
        self.stored == flights.count() && self.groups.iter().all(|(_, group)| group.is_exact())
    }
}

/// A program that is killed when this is dropped.
struct Program(Child);

impl Program {
    /// Waits for its end.
    async fn ends(&mut self, what: &str) -> Result<ExitStatus, Failed> {
        let ended = until(what, || {
            let ended = self.0.try_wait();
            async move { ended.ok().flatten() }
        });
        ended.await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, unless the run failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends the file and receives it for two groups.
///
/// # Errors
/// When the run could not be carried out, or a program ended badly.
pub async fn run(
    flights: &Flights,
    yard: &Path,
    shards: u16,
    kills: Kills,
) -> Result<FlightsReport, Failed> {
    let mut options = ServerOptions::new(yard.to_owned());
    options.shards = shards;
    let mut server = Server::start(options).await?;
    let result = run_on(flights, yard, kills, &mut server).await;
    if !result.as_ref().is_ok_and(|report| report.is_exact(flights)) {
        eprintln!("the broker's folder and log: {}", server.keep().display());
    }
    result
}

async fn run_on(
    flights: &Flights,
    yard: &Path,
    kills: Kills,
    server: &mut Server,
) -> Result<FlightsReport, Failed> {
    let operator = server.client("flights").await?;
    let topic = TopicCreate { name: TOPIC.to_owned(), queues: 8, ..TopicCreate::default() };
    operator.admin().call(topic).await?;
    let scratch = Scratch::new("flights")?;
    let began = Instant::now();
    publish(flights, yard, kills, server, &operator, scratch.path()).await?;
    let sending = began.elapsed();
    let mut report =
        FlightsReport { groups: Vec::new(), stored: 0, sending, receiving: Vec::new() };
    report.stored = operator.admin().call(TopicInfo { name: TOPIC.to_owned() }).await?.messages;
    for group in ["a", "b"] {
        let began = Instant::now();
        let path = scratch.path().join(group);
        let out = File::create(&path).map_err(Failed::file(&path))?;
        let mut command = yard::command(yard, &server.context_path());
        command.args(["sub", TOPIC, "--group", group, "--from", "earliest"]);
        command.args(["--until-end", "--raw"]).stdout(out).stderr(Stdio::inherit());
        let mut program = Program(command.spawn()?);
        let status = program.ends("yard sub ends").await?;
        if !status.success() {
            return Err(Failed(format!("yard sub ended with {status}")));
        }
        report.receiving.push(began.elapsed());
        let received = File::open(&path).map_err(Failed::file(&path))?;
        report.groups.push((group, flights.compare(BufReader::new(received))?));
    }
    operator.close().await;
    Ok(report)
}

async fn publish(
    flights: &Flights,
    yard: &Path,
    kills: Kills,
    server: &mut Server,
    operator: &Client,
    folder: &Path,
) -> Result<(), Failed> {
    let path = folder.join("pub.log");
    let log = File::create(&path).map_err(Failed::file(&path))?;
    let mut command = yard::command(yard, &server.context_path());
    command.args(["pub", TOPIC, "--from"]).arg(&flights.path);
    command.args(["--tag", ".carrier", "--key", ".tailnum", "--order", ".tailnum"]);
    command.args(["--props", "all"]).stdout(log.try_clone()?).stderr(log);
    if let Kills::Three { rate } = kills {
        command.arg("--rate").arg(rate.to_string());
    }
    let mut program = Program(command.spawn()?);
    if let Kills::Three { .. } = kills {
        for percent in [20, 50, 80] {
            let wanted = flights.count() * percent / 100;
            progress(operator, &mut program, wanted).await?;
            server.kill9()?;
            server.restart().await?;
        }
    }
    let deadline = Instant::now() + 2 * PATIENCE;
    let status = loop {
        match program.ends("yard pub ends").await {
            Ok(status) => break status,
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => {}
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = std::fs::read_to_string(&path).unwrap_or_default();
    Err(Failed(format!("yard pub ended with {status}; it said:\n{said}")))
}

/// Waits until the broker holds so many messages.
async fn progress(operator: &Client, program: &mut Program, wanted: u64) -> Result<(), Failed> {
    let what = format!("{wanted} messages are stored");
    let ended = program.0.try_wait()?;
    if let Some(status) = ended {
        return Err(Failed(format!("yard pub ended early with {status}")));
    }
    let reached = until(&what, || async {
        match operator.admin().call(TopicInfo { name: TOPIC.to_owned() }).await {
            Ok(report) => (report.messages >= wanted).then_some(Ok(())),
            Err(error) if error.is_retryable() || error.code == Code::Closed => None,
            Err(error) => Some(Err(Failed::from(error))),
        }
    });
    reached.await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn every_way_to_be_wrong_is_counted() {
        let line = |tail: &str, n: u32| format!("{{\"tailnum\":{tail},\"n\":{n}}}");
        let lines = [line("\"a\"", 1), line("\"b\"", 2), line("\"a\"", 3), line("null", 4)];
        let scratch = Scratch::new("flights-unit").unwrap();
        let path = scratch.path().join("flights.ndjson");
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let flights = Flights::read(&path).unwrap();
        assert_eq!(flights.count(), 4);
        let check = |received: &[&str], expect: [u64; 4]| {
            let text: String = received.iter().map(|line| format!("{line}\n")).collect();
            let found = flights.compare(Cursor::new(text)).unwrap();
            let counts = [found.missing, found.twice, found.foreign, found.disordered];
            assert_eq!(counts, expect, "{received:?}");
        };
        let [a, b, c, d] = [&lines[0][..], &lines[1], &lines[2], &lines[3]];
        check(&[a, b, c, d], [0, 0, 0, 0]);
        check(&[d, b, a, c], [0, 0, 0, 0]);
        check(&[a, b, d], [1, 0, 0, 0]);
        check(&[a, b, c, c, d], [0, 1, 0, 0]);
        check(&[c, b, a, d], [0, 0, 0, 1]);
        check(&[a, b, c, d, "x"], [0, 0, 1, 0]);
    }
}
