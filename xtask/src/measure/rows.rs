//! What is run, and what must come out.
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::Measuring;
use crate::run::{self, Failed};

/// How much is measured.
pub(super) struct Options {
    pub(super) pairs: usize,
    pub(super) seconds: u32,
    /// Only runs whose name contains this, and the rows that need no other.
    only: Option<String>,
}

impl Options {
    /// Whether only some runs are wanted.
    pub(super) fn is_partial(&self) -> bool {
        self.only.is_some()
    }

    pub(super) fn read(arguments: &[String]) -> Result<Self, Failed> {
        let mut options = Self { pairs: 9, seconds: 4, only: None };
        for argument in arguments {
            match argument.strip_prefix("--only=") {
                Some(name) => options.only = Some(name.to_owned()),
                None if argument == "--quick" => (options.pairs, options.seconds) = (3, 2),
                None => {
                    let why = format!("bench takes --quick and --only=NAME, not {argument:?}.");
                    return Err(Failed(why));
                }
            }
        }
        Ok(options)
    }
}

/// One command.
struct Run {
    name: &'static str,
    arguments: &'static [&'static str],
    kind: Kind,
}

/// How a command is run.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// As fast as possible, never under a real-time priority.
    Saturating,
    /// Under a real-time priority, where that is allowed.
    Latency,
    /// The same, at this share of what another run did at most.
    LatencyAt(&'static str, f64),
    /// At this share of what another run did at most; only processor time counts.
    CostAt(&'static str, f64),
}

const RUNS: &[Run] = &[
    run("produce-1k", &["produce", "--size", "1024"], Kind::Saturating),
    run("produce-1k-memory", &["produce", "--size", "1024", "--ack", "memory"], Kind::Saturating),
    run("produce-128", &["produce", "--size", "128", "--batch", "4096"], Kind::Saturating),
    run("produce-1m", &["produce", "--size", "1024", "--batch-bytes", "1MiB"], Kind::Saturating),
    run("consume", &["consume", "--size", "1024"], Kind::Saturating),
    run("fetch", &["consume", "--size", "1024", "--fetch"], Kind::Saturating),
    run("e2e", &["e2e", "--size", "1024"], Kind::Saturating),
    run(
        "commit-16",
        &["rr", "--size", "256", "--connections", "16", "--queues", "16", "--commit"],
        Kind::Saturating,
    ),
    run("rr", &["rr", "--size", "1024"], Kind::Latency),
    run("produce-half", &["produce", "--size", "1024"], Kind::LatencyAt("produce-1k", 0.5)),
    run("e2e-half", &["e2e", "--size", "1024"], Kind::LatencyAt("e2e", 0.5)),
    run("tail-0", &["e2e", "--size", "1024"], Kind::CostAt("e2e", 0.1)),
    run("tail-10", &["e2e", "--size", "1024", "--groups", "10"], Kind::CostAt("e2e", 0.1)),
    run("idle", &["idle", "--connections", "1000"], Kind::Saturating),
];

const fn run(name: &'static str, arguments: &'static [&'static str], kind: Kind) -> Run {
    Run { name, arguments, kind }
}

/// What a figure must be.
#[derive(Clone, Copy)]
enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure of each pair.
struct Row {
    says: &'static str,
    bar: Bar,
    of: fn(&Pair) -> Option<f64>,
}

/// The results of one pair, by the name of the run.
type Pair = BTreeMap<&'static str, Value>;

fn number(pair: &Pair, name: &str, path: &str) -> Option<f64> {
    pair.get(name)?.pointer(path)?.as_f64()
}

fn ratio(pair: &Pair, name: &str) -> Option<f64> {
    number(pair, name, "/rounds/0/ratio")
}

fn rate(pair: &Pair, name: &str) -> Option<f64> {
    number(pair, name, "/rounds/0/broker/messages_per_second")
}

fn time(pair: &Pair, name: &str, which: &str) -> Option<f64> {
    number(pair, name, &format!("/rounds/0/broker/times_us/{which}"))
}

/// A round trip over raw QUIC and, so often, the time of a bare 4 KiB fdatasync.
fn limit(pair: &Pair, name: &str, syncs: f64) -> Option<f64> {
    let trip = number(pair, name, "/rounds/0/raw/times_us/p50")?;
    Some(trip + syncs * number(pair, name, "/rounds/0/disk/0/sync_us/p50")?)
}

const ROWS: &[Row] = &[
    Row {
        says: "produce 1 KiB, synced / raw QUIC",
        bar: Bar::AtLeast(0.60),
        of: |pair| ratio(pair, "produce-1k"),
    },
    Row {
        says: "produce 1 KiB, memory / raw QUIC",
        bar: Bar::AtLeast(0.70),
        of: |pair| ratio(pair, "produce-1k-memory"),
    },
    Row {
        says: "produce 1 KiB, synced / memory",
        bar: Bar::AtLeast(0.80),
        of: |pair| Some(rate(pair, "produce-1k")? / rate(pair, "produce-1k-memory")?),
    },
    Row {
        says: "produce 128 B, synced / raw QUIC",
        bar: Bar::AtLeast(0.50),
        of: |pair| ratio(pair, "produce-128"),
    },
    Row {
        says: "produce 1 MiB batches / raw QUIC",
        bar: Bar::AtLeast(0.75),
        of: |pair| ratio(pair, "produce-1m"),
    },
    Row {
        says: "consume, all acked and durable / raw QUIC",
        bar: Bar::AtLeast(0.75),
        of: |pair| ratio(pair, "consume"),
    },
    Row { says: "fetch / raw QUIC", bar: Bar::AtLeast(0.80), of: |pair| ratio(pair, "fetch") },
    Row {
        says: "produce and consume at once / raw QUIC",
        bar: Bar::AtLeast(0.35),
        of: |pair| ratio(pair, "e2e"),
    },
    Row {
        says: "16 connections, 256 B / raw group commit",
        bar: Bar::AtLeast(0.60),
        of: |pair| ratio(pair, "commit-16"),
    },
    Row {
        says: "one in flight: p50 / (round trip + sync)",
        bar: Bar::AtMost(1.5),
        of: |pair| Some(time(pair, "rr", "p50")? / limit(pair, "rr", 1.0)?),
    },
    Row {
        says: "half load: p99 / (round trip + 5 syncs)",
        bar: Bar::AtMost(1.0),
        of: |pair| Some(time(pair, "produce-half", "p99")? / limit(pair, "produce-half", 5.0)?),
    },
    Row {
        says: "half load, end to end: p50 in ms",
        bar: Bar::AtMost(9.99),
        of: |pair| Some(time(pair, "e2e-half", "p50")? / 1_000.0),
    },
    Row {
        says: "each of 10 more groups: broker's CPU, share",
        bar: Bar::AtMost(0.10),
        of: |pair| {
            let cpu = |name| number(pair, name, "/rounds/0/broker/server_cpu_us");
            Some((cpu("tail-10")? / cpu("tail-0")? - 1.0) / 10.0)
        },
    },
    Row {
        says: "idle connection: KiB of the broker",
        bar: Bar::AtMost(64.0),
        of: |pair| Some(number(pair, "idle", "/rounds/0/bytes_per_connection")? / 1_024.0),
    },
];

/// Measures pair after pair; the runs' figures and the rows.
pub(super) fn measure(measuring: &Measuring, options: &Options) -> Result<(Value, Value), Failed> {
    let is_wanted = |run: &&Run| options.only.as_deref().is_none_or(|n| run.name.contains(n));
    let runs: Vec<&Run> = RUNS.iter().filter(is_wanted).collect();
    if runs.is_empty() {
        let names: Vec<_> = RUNS.iter().map(|run| run.name).collect();
        return Err(Failed(format!("there are the runs {}.", names.join(", "))));
    }
    let mut most = BTreeMap::new();
    for run in &runs {
        if let Kind::LatencyAt(of, _) | Kind::CostAt(of, _) = run.kind
            && !most.contains_key(of)
        {
            let other = RUNS.iter().find(|other| other.name == of).expect("it is in the table");
            let result = once(measuring, other, &line(other, options, None))?;
            let rate = result.pointer("/summary/broker/median").and_then(Value::as_f64);
            most.insert(of, rate.unwrap_or(0.0));
        }
    }
    let mut lines = BTreeMap::new();
    let mut pairs: Vec<Pair> = Vec::new();
    for number in 1..=options.pairs {
        let mut pair = Pair::new();
        for run in &runs {
            let line = line(run, options, Some(&most));
            println!("pair {number} of {}: yard bench {}", options.pairs, line.join(" "));
            pair.insert(run.name, once(measuring, run, &line)?);
            lines.insert(run.name, line);
        }
        for row in ROWS {
            if let Some(value) = (row.of)(&pair) {
                println!("    {value:>8.3}  {}", row.says);
            }
        }
        pairs.push(pair);
    }
    let runs: Map<_, _> =
        runs.iter().map(|run| (run.name.to_owned(), kept(run, &lines[run.name], &pairs))).collect();
    let rows: Vec<Value> = ROWS.iter().filter_map(|row| row.value(&pairs)).collect();
    Ok((Value::Object(runs), Value::Array(rows)))
}

/// What follows `yard bench`.
fn line(run: &Run, options: &Options, most: Option<&BTreeMap<&str, f64>>) -> Vec<String> {
    let mut line: Vec<String> = run.arguments.iter().map(|text| (*text).to_owned()).collect();
    line.extend(["--seconds".to_owned(), options.seconds.to_string()]);
    if let (Kind::LatencyAt(of, share) | Kind::CostAt(of, share), Some(most)) = (run.kind, most) {
        // Two digits: the same command on the next run of the same machine.
        let rate = most.get(of).copied().unwrap_or(0.0) * share;
        let unit = 10f64.powf(rate.max(10.0).log10().floor() - 1.0);
        line.extend(["--rate".to_owned(), ((rate / unit).round() * unit).to_string()]);
        if matches!(run.kind, Kind::CostAt(..)) {
            line.extend(["--lag-max".to_owned(), "1m".to_owned()]);
        }
    }
    line
}

/// Runs it once; figures that are not valid have no place in any row.
fn once(measuring: &Measuring, run: &Run, line: &[String]) -> Result<Value, Failed> {
    let is_latency = matches!(run.kind, Kind::Latency | Kind::LatencyAt(..));
    let mut command = if is_latency && measuring.priority {
        let mut command = Command::new("chrt");
        command.args(["-f", "10"]).arg(&measuring.yard);
        command
    } else {
        Command::new(&measuring.yard)
    };
    command.arg("bench").args(line).args(["-o", "json"]);
    command.arg("--dir").arg(&measuring.folder).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().map_err(|error| run::not_started(&command, &error))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.stdout.is_empty() {
        return Err(Failed(format!("`{}`: {}", run::line_of(&command), said.trim())));
    }
    if !output.status.success() {
        println!("    not valid: {}", said.trim());
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failed(format!("cannot read what {} says: {error}.", run.name)))
}

/// What is kept of a run.
fn kept(run: &Run, line: &[String], pairs: &[Pair]) -> Value {
    let spread = |path: &str| {
        let values = pairs.iter().filter_map(|pair| number(pair, run.name, path));
        spread(values.collect())
    };
    let at = |name: &str| spread(&format!("/rounds/0/{name}"));
    let is_latency = matches!(run.kind, Kind::Latency | Kind::LatencyAt(..));
    json!({
        "line": line.join(" "),
        "priority": is_latency,
        "valid_pairs": pairs.iter().filter(|pair| pair[run.name]["valid"] == true).count(),
        "broker_per_second": at("broker/messages_per_second"),
        "raw_per_second": at("raw/messages_per_second"),
        "ratio": at("ratio"),
        "cpu_ratio": at("cpu_ratio"),
        "server_cpu_us": at("broker/server_cpu_us"),
        "client_cpu_us": at("broker/client_cpu_us"),
        "raw_server_cpu_us": at("raw/server_cpu_us"),
        "raw_client_cpu_us": at("raw/client_cpu_us"),
        "broker_p50_us": at("broker/times_us/p50"),
        "broker_p99_us": at("broker/times_us/p99"),
        "broker_p99_99_us": at("broker/times_us/p99_99"),
        "raw_p50_us": at("raw/times_us/p50"),
        "sync_4k_p50_us": at("disk/0/sync_us/p50"),
        "sync_4k_p99_us": at("disk/0/sync_us/p99"),
        "rss_anon_bytes": at("broker/server/rss_anon_bytes_max"),
        "group_bytes": at("log/group_bytes"),
        "segments": at("log/segments"),
    })
}

impl Row {
    fn value(&self, pairs: &[Pair]) -> Option<Value> {
        let values: Vec<f64> = pairs.iter().filter_map(self.of).collect();
        let count = values.len();
        let found = spread(values);
        let median = found.pointer("/median")?.as_f64()?;
        let (bar, is_met) = match self.bar {
            Bar::AtLeast(bar) => (format!(">= {bar}"), median >= bar),
            Bar::AtMost(bar) => (format!("<= {bar}"), median <= bar),
        };
        Some(json!({
            "says": self.says, "value": found, "pairs": count, "bar": bar, "met": is_met,
        }))
    }
}

/// Median, least and most, to four digits; null of nothing.
fn spread(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let (Some(min), Some(max)) = (values.first(), values.last()) else { return Value::Null };
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    };
    json!({ "median": digits(median), "min": digits(*min), "max": digits(*max) })
}

fn digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let text = format!("{value:.3e}");
    text.parse().expect("a number was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ratios_of_pairs_beside_their_bars() {
        let pair = |ratio: f64| {
            let result = json!({ "valid": true, "rounds": [{ "ratio": ratio }] });
            Pair::from([("produce-1k", result)])
        };
        let pairs = [pair(0.5), pair(0.7), pair(0.61)];
        let row = ROWS[0].value(&pairs).expect("there are values");
        assert_eq!(row["value"], json!({ "median": 0.61, "min": 0.5, "max": 0.7 }));
        assert_eq!((row["met"].as_bool(), row["pairs"].as_u64()), (Some(true), Some(3)));
        assert_eq!(ROWS[0].value(&pairs[..1]).expect("there is one")["met"], json!(false));
        // Figures that are not valid stand elsewhere, and make no row.
        let not = Pair::from([("produce-1k", json!({ "valid": false, "not_valid": {} }))]);
        assert!(ROWS[0].value(&[not]).is_none());
    }

    #[test]
    fn every_run_is_of_use_and_every_rate_comes_from_a_run() {
        for run in RUNS {
            if let Kind::LatencyAt(of, share) | Kind::CostAt(of, share) = run.kind {
                assert!(RUNS.iter().any(|other| other.name == of), "{}", run.name);
                assert!(share <= 0.5, "latency is measured at half the maximum at most");
            }
        }
    }

    #[test]
    fn four_digits() {
        assert_eq!(
            [digits(123_456.0), digits(0.000_123_46), digits(0.0)],
            [123_500.0, 0.0001235, 0.0]
        );
    }
}
