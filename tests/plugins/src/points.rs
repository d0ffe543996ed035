//! What a message costs at each point: by batch size and by what bounds the calls, beside the same
//! source run natively over the same stored bytes, as it is and with what comes next asked for
//! early.
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use switchyard_plugin::{
    Attempt, Config, Dedupe, Filter, Half, Interceptor, Message, Retry, TxnCheck, abi,
};
use yard_abi::manifest::Point;
use yard_it::Failed;
use yard_it::life::{Bar, Report};
use yard_wasm::bench::{BenchRow, Native, Subject, bench};
use yard_wasm::{Binding, Limits, Source};

use crate::sandbox::{Tools, failed};
use crate::traffic::{PREDICATE, TAGS, records};

/// Messages of a batch.
const SIZES: [usize; 3] = [1, 32, 256];
/// Messages that a native loop asks for in advance.
const AHEAD: usize = 8;
/// Bytes of a message that are asked for: all but its body.
const AHEAD_BYTES: usize = 320;
const LINE_BYTES: usize = 64;
/// Questions of a round at the points that are asked one by one.
const QUESTIONS: usize = 10_000;

/// A plugin with its settings, at a point.
struct Case {
    plugin: &'static str,
    point: Point,
    expression: &'static str,
    settings: &'static [(&'static str, &'static str)],
    /// Bytes of each body that it sees.
    body_bytes: u32,
    /// Whether code of the expression's own stands for the plugin.
    is_generated: bool,
}

const SQL: Case = Case {
    plugin: "filter-sql",
    point: Point::Filter,
    expression: PREDICATE,
    settings: &[],
    body_bytes: 0,
    is_generated: false,
};

const CASES: [Case; 7] = [
    Case {
        plugin: "filter-tag",
        point: Point::Filter,
        expression: TAGS,
        settings: &[],
        body_bytes: 0,
        is_generated: false,
    },
    SQL,
    Case { is_generated: true, ..SQL },
    Case {
        plugin: "dedupe-window",
        point: Point::Dedupe,
        expression: "",
        settings: &[("fields", "customer, amount")],
        body_bytes: 0,
        is_generated: false,
    },
    Case {
        plugin: "redact",
        point: Point::Interceptor,
        expression: "",
        settings: &[("mask", "customer"), ("body-digits", "12")],
        body_bytes: 1 << 16,
        is_generated: false,
    },
    Case {
        plugin: "retry-ladder",
        point: Point::Retry,
        expression: "",
        settings: &[("steps", "1s 10s 1m 10m"), ("errors", "invalid: dead-letter")],
        body_bytes: 0,
        is_generated: false,
    },
    Case {
        plugin: "txn-check",
        point: Point::TxnCheck,
        expression: "",
        settings: &[("commit", "state = 'paid'"), ("ask", "$age_ms > 60000")],
        body_bytes: 0,
        is_generated: false,
    },
];

/// What was measured of one plugin in batches of one size.
pub struct Cost {
    plugin: &'static str,
    size: usize,
    rows: Vec<BenchRow>,
}

impl Cost {
    fn ns(&self, name: &str) -> f64 {
        self.rows.iter().find(|row| row.name == name).map_or(f64::NAN, |row| row.ns)
    }

    /// How much longer a message takes than natively.
    fn ratio(&self, name: &str) -> f64 {
        self.ns(name) / self.ns(NATIVE)
    }
}

const NATIVE: &str = "native";
/// Code that is made of an expression for `filter-sql`.
const GENERATED: &str = "filter-sql, generated";
const EARLY: &str = "native, asked for early";

impl Case {
    /// What it is called in the report.
    fn name(&self) -> &'static str {
        if self.is_generated { GENERATED } else { self.plugin }
    }

    fn config(&self) -> Config {
        self.settings.iter().copied().collect()
    }

    fn binding(&self) -> Arc<Binding> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = self.settings.iter().map(owned).collect();
        Binding::new(self.expression.to_owned(), settings)
    }

    /// The plugin's own source, natively: a function over one stored message.
    fn twin(&self) -> Result<Twin, Failed> {
        let config = self.config();
        fn kept<F: Filter>(text: &str, config: &Config) -> Result<Twin, Failed> {
            let filter = F::compile(text, config).map_err(Failed)?;
            Ok(Box::new(move |message| u64::from(filter.keep(message))))
        }
        match self.plugin {
            "filter-tag" => kept::<filter_tag::FilterPoint>(self.expression, &config),
            "filter-sql" => kept::<filter_sql::FilterPoint>(self.expression, &config),
            "dedupe-window" => {
                let dedupe = dedupe_window::DedupePoint::open(&config).map_err(Failed)?;
                let mut key = Vec::new();
                Ok(Box::new(move |message| {
                    key.clear();
                    dedupe.key(message, &mut key);
                    key.len() as u64
                }))
            }
            _ => {
                let redact = redact::InterceptorPoint::open(&config).map_err(Failed)?;
                Ok(Box::new(move |message| {
                    u64::from(matches!(redact.apply(message), switchyard_plugin::Answer::Pass))
                }))
            }
        }
    }
}

/// What a twin says of a message, as a number, so that nothing is left out by the compiler.
type Twin = Box<dyn FnMut(&Message<'_>) -> u64>;

fn over(records: &[Vec<u8>], twin: &mut Twin) -> u64 {
    let mut sum = 0;
    for record in records {
        let message = abi::Message::parse(record).expect("a stored record");
        sum += twin(&message.into());
    }
    sum
}

fn over_early(records: &[Vec<u8>], twin: &mut Twin) -> u64 {
    let mut sum = 0;
    for (at, record) in records.iter().enumerate() {
        if let Some(ahead) = records.get(at + AHEAD) {
            let ahead = &ahead[..ahead.len().min(AHEAD_BYTES)];
            black_box(ahead.iter().step_by(LINE_BYTES).fold(0, |sum, byte| sum ^ byte));
        }
        let message = abi::Message::parse(record).expect("a stored record");
        sum += twin(&message.into());
    }
    sum
}

/// What is measured: all, unless something is named.
#[derive(Clone, Copy, Debug, Default)]
pub struct Only<'a> {
    /// One plugin.
    pub plugin: Option<&'a str>,
    /// Batches of one size, in messages; of those that are measured anyway.
    pub batch: Option<usize>,
}

/// Measures plugins.
///
/// # Errors
/// Where a plugin is not there, or fails.
pub fn measure(
    tools: &Tools,
    only: Only<'_>,
    messages: usize,
    rounds: usize,
) -> Result<Vec<Cost>, Failed> {
    if let Some(name) = only.plugin
        && !CASES.iter().any(|case| case.plugin == name)
    {
        let names: Vec<&str> = CASES.iter().map(|case| case.plugin).collect();
        return Err(Failed(format!("--plugin takes one of {}, not {name}", names.join(", "))));
    }
    if let Some(size) = only.batch
        && !SIZES.contains(&size)
    {
        return Err(Failed(format!("--batch takes one of {SIZES:?}, not {size}")));
    }
    let records = records(messages);
    let mut costs = Vec::new();
    for case in CASES.iter().filter(|case| only.plugin.is_none_or(|name| name == case.plugin)) {
        let measured = match case.point {
            Point::Filter | Point::Dedupe | Point::Interceptor => {
                batches(tools, case, &records, (only.batch, rounds))?
            }
            Point::Retry | Point::TxnCheck => vec![questions(tools, case, rounds)?],
        };
        costs.extend(measured);
    }
    Ok(costs)
}

fn batches(
    tools: &Tools,
    case: &Case,
    records: &[Vec<u8>],
    (only, rounds): (Option<usize>, usize),
) -> Result<Vec<Cost>, Failed> {
    let mut costs = Vec::new();
    for size in SIZES.into_iter().filter(|size| only.is_none_or(|only| only == *size)) {
        let (point, body_bytes) = (case.point, case.body_bytes);
        let subject = Subject::Batches { point, records, body_bytes, size };
        let (mut plain, mut early) = (case.twin()?, case.twin()?);
        let mut plain = || over(records, &mut plain);
        let mut early = || over_early(records, &mut early);
        let mut native =
            [Native { name: NATIVE, run: &mut plain }, Native { name: EARLY, run: &mut early }];
        let rows = run(tools, case, &subject, &mut native, rounds)?;
        costs.push(Cost { plugin: case.name(), size, rows });
    }
    Ok(costs)
}

fn run(
    tools: &Tools,
    case: &Case,
    subject: &Subject<'_>,
    native: &mut [Native<'_>],
    rounds: usize,
) -> Result<Vec<BenchRow>, Failed> {
    let with = (&tools.cache, &tools.compiler);
    let (accepted, file) = if case.is_generated {
        let source = Source::new(case.expression);
        (source.accepted(&Limits::DEFAULT), source.bytes().to_vec())
    } else {
        let file = tools.file(case.plugin)?;
        (tools.accept(&file)?, file)
    };
    bench((&accepted, &file), with, &case.binding(), subject, native, rounds).map_err(failed)
}

fn questions(tools: &Tools, case: &Case, rounds: usize) -> Result<Cost, Failed> {
    let properties = || vec![("state".to_owned(), "open".to_owned())];
    let (topic, group) = ("orders".to_owned(), "billing".to_owned());
    let config = case.config();
    let rows = if case.point == Point::Retry {
        let attempt = Attempt {
            count: 2,
            max: 16,
            age_ms: 5_000,
            topic,
            group,
            reason: "timeout".to_owned(),
            last_delay_ms: 1_000,
            properties: properties(),
        };
        let Attempt { count, max, age_ms, last_delay_ms, .. } = attempt;
        let (topic, group) = (attempt.topic.clone(), attempt.group.clone());
        let (reason, properties) = (attempt.reason.clone(), properties());
        let asked = yard_wasm::Attempt {
            count,
            max,
            age_ms,
            topic,
            group,
            reason,
            last_delay_ms,
            properties,
        };
        let asked = vec![asked; QUESTIONS];
        let ladder = retry_ladder::RetryPoint::open(&config).map_err(Failed)?;
        let mut twin = || {
            (0..QUESTIONS).fold(0, |sum, _| {
                let next = ladder.decide(black_box(&attempt));
                sum + u64::from(matches!(next, switchyard_plugin::Next::Drop))
            })
        };
        let mut native = [Native { name: NATIVE, run: &mut twin }];
        run(tools, case, &Subject::Retry(&asked), &mut native, rounds)?
    } else {
        let id = "0001-8f14e45fceea167a".to_owned();
        let half = Half {
            id,
            topic,
            group,
            age_ms: 5_000,
            checks: 2,
            properties: properties(),
            body: None,
        };
        let Half { id, topic, group, age_ms, checks, properties, body } = half.clone();
        let asked = yard_wasm::Half { id, topic, group, age_ms, checks, properties, body };
        let asked = vec![asked; QUESTIONS];
        let rules = txn_check::TxnCheckPoint::open(&config).map_err(Failed)?;
        let mut twin =
            || (0..QUESTIONS).fold(0, |sum, _| sum + rules.check(black_box(&half)) as u64);
        let mut native = [Native { name: NATIVE, run: &mut twin }];
        run(tools, case, &Subject::TxnCheck(&asked), &mut native, rounds)?
    };
    Ok(Cost { plugin: case.name(), size: 1, rows })
}

/// The table for people: how much longer a message takes than natively.
#[must_use]
pub fn table(costs: &[Cost]) -> String {
    let mut out = String::from(
        "| plugin | batch | native | early | none | epoch | fuel | both | fuel units |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for cost in costs {
        let early = match cost.ratio(EARLY) {
            ratio if ratio.is_nan() => String::new(),
            ratio => format!("{ratio:.2}"),
        };
        let ratio = |name: &str| format!("{:.2}", cost.ratio(name));
        let fuel = cost.rows.iter().find(|row| row.name == "both").map_or(0.0, |row| row.fuel);
        writeln!(
            out,
            "| `{}` | {} | {:.1} ns | {early} | {} | {} | {} | {} | {fuel:.0} |",
            cost.plugin,
            cost.size,
            cost.ns(NATIVE),
            ratio("none"),
            ratio("epoch"),
            ratio("fuel"),
            ratio("both"),
        )
        .expect("memory takes it");
    }
    out
}

/// What of it has a bar.
#[must_use]
pub fn report(costs: &[Cost], messages: usize, rounds: usize) -> Report {
    let mut report = Report::new("points", format!("{messages} messages, {rounds} rounds"));
    for (plugin, bar) in [("filter-tag", 1.0), ("filter-sql", 2.5), (GENERATED, 1.0)] {
        let of = |cost: &&Cost| cost.plugin == plugin && cost.size == SIZES[2];
        let Some(cost) = costs.iter().find(of) else { continue };
        let what = format!("{plugin}, both limits, beside its native twin");
        let text = format!("{:.1} and {:.1} ns a message", cost.ns("both"), cost.ns(NATIVE));
        report.figure(&what, (cost.ratio("both"), &text), Bar::AtMost(bar));
    }
    report
}
