//! The page that people read, out of the figures.
use std::fmt::Write as _;

use serde_json::Value;

const HEAD: &str = "\
# How fast it is

Written by `cargo xtask bench` and `cargo xtask profile` from `performance.json` beside it; run them
on your own machine. Every figure stands beside the limit of the same machine in the same run: raw
QUIC is a bare server in a process of its own with the broker's transport settings, TLS and frames,
one small answer a batch; the raw disk is `pwrite` and `fdatasync` of groups of the same size. Read
ratios, not rates. A ratio is that of one pair; the table has the median of the pairs, and the least
and the most. Everything, raw QUIC included, is built with the `release` profile.
";

/// The whole page.
pub(super) fn write(figures: &Value) -> String {
    let mut out = HEAD.to_owned();
    machine(&mut out, figures);
    if let Some(rows) = figures["rows"].as_array() {
        out.push_str("\n## What it must show\n\n");
        out.push_str("| figure | median | least to most | bar | met |\n|---|---:|---:|---:|---|\n");
        rows.iter().for_each(|row| self::row(&mut out, row));
    }
    if let Some(runs) = figures["runs"].as_object() {
        speeds(&mut out, runs);
        times(&mut out, runs);
        commands(&mut out, runs);
    }
    for what in ["produce", "consume"] {
        if figures["profile"][what].is_object() {
            profile(&mut out, what, &figures["profile"][what]);
        }
    }
    out
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a string can be written to");
}

fn machine(out: &mut String, figures: &Value) {
    let machine = &figures["machine"];
    let Some(model) = machine["model"].as_str() else { return };
    out.push_str("\n## The machine\n\n");
    put(out, format_args!("- {} x {model}", machine["processors"]));
    let kernel = machine["kernel"].as_str().unwrap_or_default();
    put(out, format_args!("- {} GiB of memory, Linux {kernel}", machine["memory_gib"]));
    put(out, format_args!("- {}", machine["rustc"].as_str().unwrap_or_default()));
    let (pairs, seconds) = (&figures["pairs"], &figures["seconds"]);
    put(out, format_args!("- {pairs} pairs of {seconds} s each, all runs in turn"));
    let priority = match figures["priority"].as_bool() {
        Some(true) => "under `chrt -f 10`",
        _ => "without a real-time priority, which was not allowed",
    };
    put(out, format_args!("- latency {priority}; saturating runs never"));
}

fn row(out: &mut String, row: &Value) {
    let value = &row["value"];
    let met = if row["met"] == true { "yes" } else { "**no**" };
    let says = row["says"].as_str().unwrap_or_default();
    let (min, max) = (digits(&value["min"]), digits(&value["max"]));
    let (median, bar) = (digits(&value["median"]), row["bar"].as_str().unwrap_or_default());
    put(out, format_args!("| {says} | {median} | {min} to {max} | {bar} | {met} |"));
}

/// Three digits.
fn digits(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn thousands(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |value| format!("{:.1}", value / 1_000.0))
}

type Runs = serde_json::Map<String, Value>;

fn speeds(out: &mut String, runs: &Runs) {
    out.push_str("\n## Rates and processor time\n\n");
    out.push_str(
        "Thousands of messages a second, and microseconds of processor a message; CPU is the ",
    );
    out.push_str("share of\nraw QUIC's time in that of broker and client together.\n\n");
    out.push_str("| run | broker k/s | raw k/s | ratio | CPU | broker us | client us | raw us |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for (name, run) in runs {
        let at = |figure: &str| &run[figure]["median"];
        let raw = [at("raw_server_cpu_us"), at("raw_client_cpu_us")];
        let raw = raw[0].as_f64().zip(raw[1].as_f64()).map(|(one, other)| one + other);
        let raw = digits(&raw.map_or(Value::Null, Value::from));
        let is_paced = run["line"].as_str().is_some_and(|line| line.contains("--rate"));
        let ratio = |figure: &str| if is_paced { "-".into() } else { digits(at(figure)) };
        put(
            out,
            format_args!(
                "| {name} | {} | {} | {} | {} | {} | {} | {raw} |",
                thousands(at("broker_per_second")),
                thousands(at("raw_per_second")),
                ratio("ratio"),
                ratio("cpu_ratio"),
                digits(at("server_cpu_us")),
                digits(at("client_cpu_us")),
            ),
        );
    }
}

fn times(out: &mut String, runs: &Runs) {
    out.push_str("\n## Times\n\nMicroseconds, from when a message was due to its durable ");
    out.push_str("answer, or to its receipt by a consumer.\n\n");
    out.push_str("| run | p50 | p99 | p99.99 | raw round trip p50 | 4 KiB sync p50 | p99 |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    for (name, run) in runs.iter().filter(|(_, run)| run["priority"] == true) {
        let at = |figure: &str| digits(&run[figure]["median"]);
        put(
            out,
            format_args!(
                "| {name} | {} | {} | {} | {} | {} | {} |",
                at("broker_p50_us"),
                at("broker_p99_us"),
                at("broker_p99_99_us"),
                at("raw_p50_us"),
                at("sync_4k_p50_us"),
                at("sync_4k_p99_us"),
            ),
        );
    }
}

fn commands(out: &mut String, runs: &Runs) {
    out.push_str("\n## Commands\n\n```sh\n");
    for (name, run) in runs {
        let before = if run["priority"] == true { "chrt -f 10 " } else { "" };
        let line = run["line"].as_str().unwrap_or_default();
        put(out, format_args!("# {name}\n{before}yard bench {line}"));
    }
    out.push_str("```\n");
}

fn profile(out: &mut String, what: &str, table: &Value) {
    put(out, format_args!("\n## Where the time goes: {what}\n"));
    out.push_str(
        "Nanoseconds of processor time for each message of 1 KiB, of what the profiler saw ",
    );
    out.push_str("in both\nprocesses while messages flowed.\n\n");
    out.push_str("| stage | client | broker |\n|---|---:|---:|\n");
    let whole =
        |value: &Value| value.as_f64().map_or("-".to_owned(), |value| format!("{value:.0}"));
    for row in table["stages"].as_array().into_iter().flatten() {
        let (client, broker) = (&row["client_ns"], &row["broker_ns"]);
        let is_nothing = client.as_f64() < Some(1.0) && broker.as_f64() < Some(1.0);
        if !is_nothing {
            let stage = row["stage"].as_str().unwrap_or_default();
            put(out, format_args!("| {stage} | {} | {} |", whole(client), whole(broker)));
        }
    }
    let (client, broker) = (whole(&table["client_ns"]), whole(&table["broker_ns"]));
    put(out, format_args!("| **all** | {client} | {broker} |"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_says_what_is_met_and_what_is_not() {
        let spread = json!({ "median": 0.612, "min": 0.5, "max": 123.4 });
        let row = |met: bool| json!({ "says": "x", "value": spread, "bar": ">= 0.6", "met": met });
        let run = json!({ "line": "rr", "priority": true, "broker_p50_us": spread });
        let stage = json!({ "stage": "copy", "client_ns": 12.0, "broker_ns": 0.0 });
        let profile = json!({ "client_ns": 12.0, "broker_ns": 0.0, "stages": [stage] });
        let page = write(&json!({
            "rows": [row(true), row(false)],
            "runs": { "rr": run },
            "profile": { "produce": profile },
        }));
        for expected in [
            "| x | 0.612 | 0.500 to 123 | >= 0.6 | yes |",
            "| x | 0.612 | 0.500 to 123 | >= 0.6 | **no** |",
            "| rr | 0.612 | - | - | - | - | - |",
            "chrt -f 10 yard bench rr",
            "| copy | 12 | 0 |",
            "| **all** | 12 | 0 |",
        ] {
            assert!(page.contains(expected), "{expected:?} is not in:\n{page}");
        }
        assert!(!page.contains("consume\n"), "what was not profiled has no table");
    }
}
