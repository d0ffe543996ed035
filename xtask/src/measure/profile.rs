//! Where the processor time of a message goes, client and broker apart.
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Measuring;
use super::stages::{self, Frame};
use crate::run::{self, Failed};

/// Samples a second of each processor that works.
const HERTZ: f64 = 1_999.0;
/// Threads that only the broker has.
const BROKER_THREAD: &str = "writer-";
/// Addresses from here on are the kernel's.
const KERNEL_FROM: u64 = 0x8000_0000_0000_0000;

/// Samples of one process, by stage.
type Samples = BTreeMap<&'static str, u64>;

/// Runs and profiles one kind of measurement.
pub(super) fn run(measuring: &Measuring, what: &str) -> Result<Value, Failed> {
    let data = measuring.folder.join(format!("profile-{what}.data"));
    let hertz = HERTZ.to_string();
    let mut record = Command::new("perf");
    // The kernel's stack says which call it was; the clock on the wall says when.
    record.args(["record", "-q", "-e", "cpu-clock", "-g", "-k", "CLOCK_REALTIME", "-F", &hertz]);
    record.arg("-o").arg(&data).arg("--").arg(&measuring.yard);
    record.args(["bench", what, "--size", "1024", "--seconds", "6", "--no-limits", "-o", "json"]);
    record.arg("--dir").arg(&measuring.folder).stdin(Stdio::null());
    println!("{}", run::line_of(&record));
    let output = record.output().map_err(|error| run::not_started(&record, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failed(format!("`{}`: {}", run::line_of(&record), said.trim())));
    }
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failed(format!("cannot read what yard bench says: {error}.")))?;
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let window =
        (number("/rounds/0/broker/window_unix_s/0"), number("/rounds/0/broker/window_unix_s/1"));
    let samples = samples(&data, window)?;
    let messages = number("/rounds/0/broker/messages").max(1.0);
    // Figures of the next run would be added to these.
    fs::remove_file(&data).map_err(|error| Failed(format!("{}: {error}.", data.display())))?;
    Ok(table(&samples, messages))
}

/// The samples of the window, of client and broker.
fn samples(data: &std::path::Path, window: (f64, f64)) -> Result<[Samples; 2], Failed> {
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "-F", "pid,tid,comm,time,ip,sym", "-i"]).arg(data);
    script.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = script.spawn().map_err(|error| run::not_started(&script, &error))?;
    let out = child.stdout.take().expect("it was piped");
    let mut folded = Folded::default();
    for line in BufReader::new(out).lines() {
        let line = line.map_err(|error| Failed(format!("perf script: {error}.")))?;
        folded.take(&line, window);
    }
    folded.end_sample();
    run_to_end(&mut child)?;
    let broker = folded.broker.ok_or_else(|| Failed("no sample of a broker.".to_owned()))?;
    let mut of = [Samples::new(), Samples::new()];
    for (pid, stages) in folded.samples {
        let side = &mut of[usize::from(pid == broker)];
        for (stage, count) in stages {
            *side.entry(stage).or_default() += count;
        }
    }
    Ok(of)
}

fn run_to_end(child: &mut std::process::Child) -> Result<(), Failed> {
    let status = child.wait().map_err(|error| Failed(format!("perf script: {error}.")))?;
    if status.success() { Ok(()) } else { Err(Failed(format!("perf script failed ({status})."))) }
}

/// The text of `perf script`, read line by line: a heading, its stack, an empty line.
#[derive(Default)]
struct Folded {
    samples: BTreeMap<u32, Samples>,
    broker: Option<u32>,
    current: Option<u32>,
    stack: Vec<Frame>,
}

impl Folded {
    fn take(&mut self, line: &str, window: (f64, f64)) {
        if line.trim().is_empty() {
            self.end_sample();
        } else if line.starts_with(char::is_whitespace) {
            self.stack.extend(frame(line));
        } else {
            self.end_sample();
            let Some((thread, pid, time)) = heading(line) else { return };
            if thread.starts_with(BROKER_THREAD) {
                self.broker = Some(pid);
            }
            self.current = (window.0..window.1).contains(&time).then_some(pid);
        }
    }

    fn end_sample(&mut self) {
        if let Some(pid) = self.current.take() {
            let stages = self.samples.entry(pid).or_default();
            *stages.entry(stages::of(&self.stack)).or_default() += 1;
        }
        self.stack.clear();
    }
}

/// `name of the thread  12/34 567.890: `
fn heading(line: &str) -> Option<(&str, u32, f64)> {
    let line = line.trim_end().strip_suffix(':')?;
    let (rest, time) = line.rsplit_once(' ')?;
    let (thread, ids) = rest.trim_end().rsplit_once(' ')?;
    let (pid, _) = ids.split_once('/')?;
    Some((thread.trim(), pid.parse().ok()?, time.parse().ok()?))
}

/// `    ffffffff81000130 symbol`
fn frame(line: &str) -> Option<Frame> {
    let (address, symbol) = line.trim().split_once(' ')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    Some(Frame { is_kernel: address >= KERNEL_FROM, symbol: symbol.to_owned() })
}

/// Nanoseconds a message, the largest stage first.
fn table([client, broker]: &[Samples; 2], messages: f64) -> Value {
    let ns = |count: u64| (count as f64 * 1e9 / HERTZ / messages).round();
    let stages: std::collections::BTreeSet<_> = client.keys().chain(broker.keys()).collect();
    let count = |side: &Samples, stage: &str| side.get(stage).copied().unwrap_or(0);
    let mut rows: Vec<(&str, u64, u64)> = stages
        .into_iter()
        .map(|stage| (*stage, count(client, stage), count(broker, stage)))
        .collect();
    rows.sort_by_key(|(_, client, broker)| std::cmp::Reverse(client + broker));
    let rows: Vec<Value> = rows
        .into_iter()
        .map(|(stage, client, broker)| {
            json!({ "stage": stage, "client_ns": ns(client), "broker_ns": ns(broker) })
        })
        .collect();
    let all = |side: &Samples| ns(side.values().sum());
    json!({ "client_ns": all(client), "broker_ns": all(broker), "stages": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
writer-0    7/9    100.5: 
\tffffffff81000130 entry
\tffffffff81000140 __x64_sys_pwrite64
\t           12884 __libc_pwrite

tokio rt    3/4    101.0: 
\t           12884 crc32c::hw_x86_64::crc32c

tokio rt    3/4    999.0: 
\t           12884 malloc
";

    #[test]
    fn samples_of_the_window_are_folded_by_process() {
        let mut folded = Folded::default();
        TEXT.lines().for_each(|line| folded.take(line, (100.0, 102.0)));
        folded.end_sample();
        assert_eq!(folded.broker, Some(7));
        assert_eq!(folded.samples[&7], Samples::from([("pwrite", 1)]));
        assert_eq!(folded.samples[&3], Samples::from([("CRC, xxh3", 1)]));
        let sides = [folded.samples[&3].clone(), folded.samples[&7].clone()];
        let table = table(&sides, 1e9 / HERTZ);
        assert_eq!(
            (table["client_ns"].as_f64(), table["broker_ns"].as_f64()),
            (Some(1.0), Some(1.0))
        );
        assert_eq!(table["stages"][0]["stage"], "CRC, xxh3");
    }
}
