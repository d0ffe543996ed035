//! What comes out: one JSON object, or a table for people.
//!
//! ```text
//! bench        what was measured: produce, consume, e2e, rr, idle
//! valid        whether the figures mean what they say
//! why          if not: why not, and all that follows stands under `not_valid`
//! options      size batch batch_bytes connections queues streams in_flight rate seconds warm_up
//!              rounds ack messages fetch groups commit shards segment_bytes running
//! frame        record_bytes records bytes: the full batch of the broker, the frame of raw QUIC
//! rounds[]     broker   a Side
//!              raw      a Side: raw QUIC, null with --no-limits
//!              log      groups group_bytes segments: of the broker's log; null where it has none
//!              disk[]   bytes bytes_per_second sync_us: raw writes and syncs of one size
//!              ratio    messages_per_second of the broker / of raw QUIC
//!              cpu_ratio  processor time a message, of both processes: raw QUIC's / the broker's;
//!                       where processors are the limit it says the same, with less noise
//! summary      broker, raw    median min max of messages_per_second
//!              ratio          median min max of the rounds' ratios: the figure to quote
//!              cpu_ratio      the same of the rounds' cpu_ratios
//!              broker_p50_us broker_p99_us raw_p50_us raw_p99_us sync_4k_p50_us
//!              server_cpu_us client_cpu_us raw_server_cpu_us raw_client_cpu_us: per message
//!              bytes_per_connection   idle only: of the broker, median min max
//! Side         messages seconds messages_per_second bytes_per_second (of bodies)
//!              window_unix_s[]  when the window began and ended, by the clock on the wall
//!              times_us  count mean p50 p90 p99 p99_9 p99_99 max: of one message, from when it
//!                        was due; with raw QUIC of the frame that it is in; null for consume
//!                        (produce without --rate: the clock is read before the first of up to
//!                        32 messages and after the last; times are longer by that, never shorter)
//!              per_second[]  messages in each second of the window
//!              server, client  cpu_user_ms cpu_system_ms rss_anon_bytes_max of each process
//!              server_cpu_us client_cpu_us  processor time per message
//!              offered_per_second lag_us: with --rate, how it was kept; else null
//! ```
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde_json::json;

use super::disk::DiskFigures;
use super::figures::{Spread, Tally, Times};
use super::load::Paced;
use super::meter::Used;
use super::plan::{Plan, What};
use crate::text;

/// How far an offered rate may fall short of the one that was asked for.
const SHORT_MAX: f64 = 0.01;

/// One side of a comparison, in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) window_unix_s: [f64; 2],
    pub(crate) messages_per_second: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) times_us: Option<Times>,
    pub(crate) per_second: Vec<u64>,
    pub(crate) server: Used,
    pub(crate) client: Used,
    pub(crate) server_cpu_us: f64,
    pub(crate) client_cpu_us: f64,
    pub(crate) offered_per_second: Option<f64>,
    pub(crate) lag_us: Option<Times>,
}

impl Side {
    pub(crate) fn new(
        plan: &Plan,
        tally: &Tally,
        (began, took): (Instant, Duration),
        (server, client): (Used, Used),
    ) -> Self {
        let (messages, seconds) = (tally.messages(), took.as_secs_f64());
        let rate = messages as f64 / seconds;
        let each = |used: &Used| used.cpu_ms() * 1_000.0 / (messages.max(1)) as f64;
        Self {
            messages,
            seconds,
            window_unix_s: [unix_s(began), unix_s(began) + seconds],
            messages_per_second: rate,
            bytes_per_second: rate * plan.body_bytes as f64,
            times_us: tally.times().filter(|_| plan.what != What::Consume),
            per_second: tally.per_second().to_vec(),
            server_cpu_us: each(&server),
            client_cpu_us: each(&client),
            server,
            client,
            offered_per_second: None,
            lag_us: None,
        }
    }

    pub(crate) fn with_pace(self, pace: &Paced) -> Self {
        Self { offered_per_second: Some(pace.offered.rate), lag_us: pace.lag.times(), ..self }
    }

    /// Why these figures are the client's and not the broker's.
    fn not_offered(&self, plan: &Plan) -> Option<String> {
        let (rate, offered) = (plan.rate?, self.offered_per_second?);
        let lag_ms = self.lag_us.map_or(0.0, |lag| lag.p99 / 1_000.0);
        if offered < rate * (1.0 - SHORT_MAX) {
            return Some(format!("{rate} messages/s were asked for, {offered:.0} were offered"));
        }
        let lag_max_ms = plan.lag_max.as_secs_f64() * 1_000.0;
        (lag_ms > lag_max_ms).then(|| {
            format!(
                "one message in a hundred was sent {lag_ms:.1} ms late or more, by the client \
                 itself; {lag_max_ms} ms are allowed"
            )
        })
    }
}

/// What a log did in a round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct LogFigures {
    pub(crate) groups: u64,
    pub(crate) group_bytes: u64,
    pub(crate) segments: u32,
}

/// One round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) broker: Side,
    pub(crate) raw: Option<Side>,
    pub(crate) log: Option<LogFigures>,
    pub(crate) disk: Vec<DiskFigures>,
    pub(crate) ratio: Option<f64>,
    pub(crate) cpu_ratio: Option<f64>,
    /// With idle: bytes of the broker for each connection.
    pub(crate) bytes_per_connection: Option<f64>,
}

impl Round {
    pub(crate) fn new(broker: Side, raw: Option<Side>, log: Option<LogFigures>) -> Self {
        let ratio = raw.as_ref().map(|raw| broker.messages_per_second / raw.messages_per_second);
        let cpu = |side: &Side| side.server_cpu_us + side.client_cpu_us;
        let cpu_ratio = raw.as_ref().map(|raw| cpu(raw) / cpu(&broker));
        Self { broker, raw, log, disk: Vec::new(), ratio, cpu_ratio, bytes_per_connection: None }
    }
}

/// The rounds together.
#[derive(Clone, Debug, Serialize)]
struct Summary {
    broker: Option<Spread>,
    raw: Option<Spread>,
    ratio: Option<Spread>,
    cpu_ratio: Option<Spread>,
    broker_p50_us: Option<Spread>,
    broker_p99_us: Option<Spread>,
    raw_p50_us: Option<Spread>,
    raw_p99_us: Option<Spread>,
    sync_4k_p50_us: Option<Spread>,
    server_cpu_us: Option<Spread>,
    client_cpu_us: Option<Spread>,
    raw_server_cpu_us: Option<Spread>,
    raw_client_cpu_us: Option<Spread>,
    bytes_per_connection: Option<Spread>,
}

impl Summary {
    fn of(rounds: &[Round]) -> Self {
        let broker = |of: fn(&Side) -> Option<f64>| {
            Spread::of(rounds.iter().filter_map(|round| of(&round.broker)))
        };
        let raw = |of: fn(&Side) -> Option<f64>| {
            Spread::of(rounds.iter().filter_map(|round| of(round.raw.as_ref()?)))
        };
        let rate = |side: &Side| Some(side.messages_per_second).filter(|rate| *rate > 0.0);
        let p50 = |side: &Side| side.times_us.map(|times| times.p50);
        let p99 = |side: &Side| side.times_us.map(|times| times.p99);
        let server = |side: &Side| Some(side.server_cpu_us).filter(|_| side.messages > 0);
        let client = |side: &Side| Some(side.client_cpu_us).filter(|_| side.messages > 0);
        let sync = |round: &Round| Some(round.disk.first()?.sync_us?.p50);
        Self {
            broker: broker(rate),
            raw: raw(rate),
            ratio: Spread::of(rounds.iter().filter_map(|round| round.ratio)),
            cpu_ratio: Spread::of(rounds.iter().filter_map(|round| round.cpu_ratio)),
            broker_p50_us: broker(p50),
            broker_p99_us: broker(p99),
            raw_p50_us: raw(p50),
            raw_p99_us: raw(p99),
            sync_4k_p50_us: Spread::of(rounds.iter().filter_map(sync)),
            server_cpu_us: broker(server),
            client_cpu_us: broker(client),
            raw_server_cpu_us: raw(server),
            raw_client_cpu_us: raw(client),
            bytes_per_connection: Spread::of(
                rounds.iter().filter_map(|round| round.bytes_per_connection),
            ),
        }
    }
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Report {
    plan: Plan,
    rounds: Vec<Round>,
}

impl Report {
    pub(crate) fn new(plan: Plan, rounds: Vec<Round>) -> Self {
        Self { plan, rounds }
    }

    /// Why the figures are of no use, where they are.
    pub(crate) fn not_valid(&self) -> Option<String> {
        self.rounds.iter().find_map(|round| round.broker.not_offered(&self.plan))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let plan = &self.plan;
        let figures = json!({
            "options": options(plan),
            "frame": {
                "record_bytes": plan.record_bytes(),
                "records": plan.batch_records(),
                "bytes": plan.frame_bytes(),
            },
            "rounds": self.rounds,
            "summary": Summary::of(&self.rounds),
        });
        let mut all = json!({ "bench": plan.what.word(), "valid": true });
        match (self.not_valid(), figures) {
            (Some(why), figures) => {
                all["valid"] = false.into();
                all["why"] = why.into();
                all["not_valid"] = figures;
            }
            (None, serde_json::Value::Object(figures)) => {
                for (name, value) in figures {
                    all[name] = value;
                }
            }
            (None, _) => unreachable!("it is an object"),
        }
        all
    }

    /// The same for people.
    pub(crate) fn text(&self) -> String {
        let summary = Summary::of(&self.rounds);
        let mut out = String::new();
        let plan = &self.plan;
        let mut line = |line: String| writeln!(out, "{line}").expect("a string can be written to");
        let rounds = match self.rounds.len() {
            1 => "1 round".to_owned(),
            count => format!("{count} rounds"),
        };
        let rate = plan.rate.map_or(String::new(), |rate| format!(", {rate} messages/s"));
        line(format!(
            "{}: {} B, {} connections, {} queues, {} streams, {} of {:.1} s{rate}",
            plan.what.word(),
            plan.body_bytes,
            plan.connections,
            plan.queues,
            plan.streams,
            rounds,
            plan.seconds.as_secs_f64(),
        ));
        if let Some(each) = summary.bytes_per_connection {
            line(format!("each connection costs the broker {}", text::bytes(each.median as u64)));
            return out;
        }
        line(format!("{:<26}{:>14}{:>14}{:>24}", "", "broker", "raw QUIC", "ratio (min to max)"));
        let is_flood = plan.rate.is_none();
        let ratio = summary.ratio.filter(|_| is_flood);
        line(row("messages/s", (summary.broker, summary.raw), ratio, text::rate));
        let us = |us: f64| format!("{us:.0} us");
        let none = None;
        line(row("p50", (summary.broker_p50_us, summary.raw_p50_us), none, us));
        line(row("p99", (summary.broker_p99_us, summary.raw_p99_us), none, us));
        let cpu = |us: f64| format!("{us:.2} us");
        let server = (summary.server_cpu_us, summary.raw_server_cpu_us);
        let client = (summary.client_cpu_us, summary.raw_client_cpu_us);
        line(row("server, each message", server, none, cpu));
        line(row("client, each message", client, none, cpu));
        let both = (None, None);
        line(row("processor time, both", both, summary.cpu_ratio.filter(|_| is_flood), cpu));
        if let Some(round) = self.rounds.last() {
            let memory = round.broker.server.rss_anon_bytes_max;
            line(format!("broker: {} of anonymous memory at most", text::bytes(memory)));
            if let Some(log) = round.log {
                line(format!(
                    "log: {} groups of {}, {} segments",
                    log.groups,
                    text::bytes(log.group_bytes),
                    log.segments
                ));
            }
            for disk in &round.disk {
                let (p50, p99) = disk.sync_us.map_or((0.0, 0.0), |times| (times.p50, times.p99));
                line(format!(
                    "raw disk: {:>8}  p50 {p50:.0} us  p99 {p99:.0} us  {}/s",
                    text::bytes(disk.bytes as u64),
                    text::bytes(disk.bytes_per_second as u64)
                ));
            }
        }
        out
    }
}

/// One line: a figure beside its limit and the ratio.
fn row(
    name: &str,
    (broker, raw): (Option<Spread>, Option<Spread>),
    ratio: Option<Spread>,
    show: impl Fn(f64) -> String,
) -> String {
    let cell = |spread: Option<Spread>| spread.map_or("-".to_owned(), |s| show(s.median));
    let ratio =
        ratio.map_or(String::new(), |s| format!("{:.2} ({:.2} to {:.2})", s.median, s.min, s.max));
    let line = format!("{name:<26}{:>14}{:>14}{ratio:>24}", cell(broker), cell(raw));
    line.trim_end().to_owned()
}

/// An instant of the past by the clock on the wall.
fn unix_s(at: Instant) -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs_f64() - at.elapsed().as_secs_f64()
}

fn options(plan: &Plan) -> serde_json::Value {
    json!({
        "size": plan.body_bytes,
        "batch": plan.batch,
        "batch_bytes": plan.batch_bytes(),
        "connections": plan.connections,
        "queues": plan.queues,
        "streams": plan.streams,
        "in_flight": plan.in_flight,
        "rate": plan.rate,
        "seconds": plan.seconds.as_secs_f64(),
        "warm_up": plan.warm_up.as_secs_f64(),
        "rounds": plan.rounds,
        "ack": plan.ack.text(),
        "messages": plan.messages,
        "fetch": plan.fetch,
        "groups": plan.groups,
        "commit": plan.commit,
        "shards": plan.shards,
        "segment_bytes": plan.segment_bytes,
        "running": plan.running,
    })
}
