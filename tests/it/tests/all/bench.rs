//! `yard bench` as a process: what it says, and that what it records is judged clean.
use std::fs::File;
use std::io::BufReader;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use yard_checker::{History, Options, Verdict, check};
use yard_it::wait::until;
use yard_it::{Scratch, yard};

/// A measurement in a folder of its own.
struct Bench {
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        Self { scratch: Scratch::new("bench").unwrap() }
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(yard::locate(None).unwrap());
        let home = self.scratch.path().join("home");
        command.arg("bench").args(line.split(' ')).current_dir(self.scratch.path());
        command.env("YARD_HOME", home).env_remove("YARD_CONTEXT").stdin(Stdio::null());
        command.output().unwrap()
    }

    /// The result of a measurement that must succeed and leaves nothing behind.
    fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} -o json"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        let left: Vec<_> = self.scratch.path().read_dir().unwrap().flatten().collect();
        let left = left.iter().filter(|entry| entry.path().is_dir()).count();
        assert_eq!(left, 0, "the temporary folder is removed");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn verdict(&self, options: &Options) -> Verdict {
        let file = File::open(self.scratch.path().join("history")).unwrap();
        let history = History::read_from(BufReader::new(file)).unwrap();
        check(&history, options)
    }
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).unwrap_or_else(|| panic!("no {path} in {value:#}"));
    found.as_f64().unwrap_or_else(|| panic!("{path} is {found}"))
}

const SMALL: &str = "--size 200 --batch 50 --queues 4 --warm-up 0.1 --seconds 1";

#[test]
fn producing_is_measured_beside_its_limits_and_recorded() {
    let bench = Bench::new();
    let line = format!("produce {SMALL} --connections 2 --streams 2 --rounds 2 --record history");
    let report = bench.json(&line);
    assert_eq!(report["bench"], "produce");
    assert_eq!(report["valid"], true);
    assert_eq!(number(&report, "/frame/records"), 50.0);
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
    for round in ["/rounds/0", "/rounds/1"] {
        for side in ["broker", "raw"] {
            let at = |name: &str| number(&report, &format!("{round}/{side}/{name}"));
            assert!(at("messages") > 0.0 && at("messages_per_second") > 0.0, "{report:#}");
            assert!(at("server/rss_anon_bytes_max") > 0.0, "{report:#}");
            assert!(at("times_us/p50") <= at("times_us/p99_99"), "{report:#}");
            assert!(at("times_us/p99_99") <= at("times_us/max") * 1.01, "{report:#}");
            let seconds = &report.pointer(&format!("{round}/{side}/per_second")).unwrap();
            let sum: f64 = seconds.as_array().unwrap().iter().filter_map(Value::as_f64).sum();
            assert_eq!(sum, at("messages"), "every message is in one second");
        }
        assert!(number(&report, &format!("{round}/ratio")) > 0.0);
        assert!(number(&report, &format!("{round}/log/groups")) > 0.0);
        assert!(number(&report, &format!("{round}/disk/0/sync_us/p50")) > 0.0);
    }
    let spread = |name: &str| number(&report, &format!("/summary/ratio/{name}"));
    assert!(spread("min") <= spread("median") && spread("median") <= spread("max"));
    let verdict = bench.verdict(&Options::default());
    assert!(verdict.is_clean(), "{verdict}");
    let counts = verdict.counts;
    assert!(counts.acked > 0 && counts.acked == counts.stored, "{counts:?}");
    assert_eq!((counts.queues_scanned, counts.queues_not_scanned), (8, 0));
}

#[test]
fn consuming_takes_everything_and_acknowledges_it() {
    let bench = Bench::new();
    let line = format!("consume {SMALL} --messages 3000 --rounds 2 --record history");
    let report = bench.json(&line);
    assert_eq!(number(&report, "/rounds/0/broker/messages"), 3_000.0);
    assert!(number(&report, "/rounds/1/raw/messages") > 0.0);
    assert!(report.pointer("/rounds/0/broker/times_us").unwrap().is_null());
    let verdict = bench.verdict(&Options::drained());
    assert!(verdict.is_clean(), "{verdict}");
    // Each round is a group of its own.
    assert!(verdict.counts.delivered >= 6_000, "{:?}", verdict.counts);
    let fetched = bench.json(&format!("consume {SMALL} --messages 3000 --fetch --no-limits"));
    assert_eq!(number(&fetched, "/rounds/0/broker/messages"), 3_000.0);
    assert!(fetched.pointer("/rounds/0/raw").unwrap().is_null());
}

#[test]
fn both_at_once_is_measured_from_when_a_message_was_due() {
    let bench = Bench::new();
    let rate = "--rate 200 --seconds 1 --warm-up 0 --lag-max 1m";
    let line = format!("e2e --size 64 --queues 2 --groups 1 {rate} --record history -o json");
    let output = bench.run(&line);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // On a machine that is too busy to send 200 a second the figures are refused, and still there.
    let figures = if report["valid"] == true { &report } else { &report["not_valid"] };
    assert_eq!(output.status.success(), report["valid"] == true);
    assert_eq!(number(figures, "/rounds/0/broker/messages"), 200.0);
    assert_eq!(number(figures, "/rounds/0/broker/times_us/count"), 200.0);
    assert_eq!(number(figures, "/rounds/0/broker/lag_us/count"), 200.0);
    let verdict = bench.verdict(&Options::drained());
    assert!(verdict.is_clean(), "{verdict}");
    assert!(verdict.counts.delivered >= 400, "a tail follows as well: {:?}", verdict.counts);
}

#[test]
fn a_rate_that_was_not_offered_is_no_result() {
    let bench = Bench::new();
    let line = "produce --size 64 --rate 10000000 --warm-up 0 --seconds 0.005 --no-limits -o json";
    let output = bench.run(line);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], false);
    assert!(report["why"].as_str().unwrap().contains("were asked for"), "{report:#}");
    assert!(report.get("summary").is_none() && report.get("rounds").is_none());
    assert!(number(&report, "/not_valid/rounds/0/broker/offered_per_second") > 0.0);
    let said: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(said["error"]["code"], "E0806");
}

#[test]
fn round_trips_wait_for_a_group_commit_and_idle_connections_for_nothing() {
    let bench = Bench::new();
    let line = format!("rr {SMALL} --connections 4 --commit");
    let report = bench.json(&line);
    assert_eq!(number(&report, "/frame/records"), 1.0);
    assert!(number(&report, "/rounds/0/raw/messages") > 0.0);
    let report = bench.json("idle --connections 5 --seconds 0.1");
    assert!(number(&report, "/summary/bytes_per_connection/median") > 0.0);
}

#[tokio::test]
async fn what_it_started_ends_with_it_however_it_ends() {
    let bench = Bench::new();
    let mut command = Command::new(yard::locate(None).unwrap());
    command.args(["bench", "produce", "--seconds", "600"]).current_dir(bench.scratch.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let folders = || {
        let entries = bench.scratch.path().read_dir().unwrap().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let runs = until("its broker runs", || {
        let file = folders().first().map(|folder| folder.join("data/context.toml"));
        async move { file.filter(|file| file.is_file()) }
    });
    runs.await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Broker and raw server remove their files as the last thing that they do.
    let ended = until("its folder is gone", || {
        let is_gone = folders().is_empty();
        async move { is_gone.then_some(()) }
    });
    ended.await.unwrap();
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    let cases = [
        ("nothing", "takes produce, consume, e2e, rr or idle"),
        ("produce --size 8", "takes 16 to 4194304 bytes"),
        ("produce --seconds 0", "is more than 0"),
        ("rr --rate 5", "rr has no rate"),
        ("produce --commit", "is for rr"),
        ("produce --fetch", "is for consume"),
        ("consume --groups 2", "is for e2e"),
        ("rr --record x", "is for produce, consume and e2e"),
        ("a-broker", "this is started by `yard bench` itself"),
    ];
    for (line, why) in cases {
        let output = bench.run(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(why), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}
