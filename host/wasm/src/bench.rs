//! What a message costs at each point: by batch size, by what bounds the calls, beside a native
//! twin of the same source.
//!
//! Everything begins with stored records, as in the broker: building the frame is part of it. The
//! variants take turns, round by round, over the same records, so that they meet the same machine;
//! what is reported is the median of the rounds. Time is processor time of the thread: what others
//! do on the machine costs caches, and is not counted itself.
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use yard_abi::manifest::Point;
use yard_abi::{Delivery, FrameBuilder, Room};
use yard_wire::TenantId;

use crate::accept::Accepted;
use crate::bindings::{Attempt, Half};
use crate::cache::Cache;
use crate::canary::Traffic;
use crate::compile::Compiler;
use crate::compiled::{Compiled, LoadError};
use crate::early::early;
use crate::engine::{Engine, EngineError, Metering};
use crate::guest::{Binding, Usage};
use crate::limits::Limits;
use crate::table::{Directory, Installed, PluginId, Rollout};
use crate::worker::{Ask, Batch, ColdError, Intercepting, Judging, Keying, Turn, Worker};

const PLUGIN: PluginId = PluginId(0);
const TENANT: TenantId = TenantId(0);
/// A batch comes so long after the last that no tenant's share of a thread holds it up.
const STEP_MS: u64 = 1_000;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Batches of stored records, each with the bytes of bodies that the plugin needs.
    Batches {
        /// Which of the points that take batches.
        point: Point,
        /// Records, as the log has them.
        records: &'a [Vec<u8>],
        /// Bytes of each body that the plugin sees.
        body_bytes: u32,
        /// Messages of a batch.
        size: usize,
    },
    /// Retry, one question at a time.
    Retry(&'a [Attempt]),
    /// Transaction check, one question at a time.
    TxnCheck(&'a [Half]),
}

impl Subject<'_> {
    fn messages(&self) -> usize {
        match self {
            Self::Batches { records, .. } => records.len(),
            Self::Retry(attempts) => attempts.len(),
            Self::TxnCheck(halves) => halves.len(),
        }
    }
}

/// A native function over all messages of a subject, and what it is called in the report. What
/// it returns is compared with nothing, and keeps the compiler from leaving it out.
pub struct Native<'a> {
    /// Its name, such as `native` or `native, prefetched`.
    pub name: &'a str,
    /// The function.
    pub run: &'a mut dyn FnMut() -> u64,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchRow {
    /// What bounded the calls, or the name of the native twin.
    pub name: String,
    /// Nanoseconds of processor time a message, the median of the rounds.
    pub ns: f64,
    /// The quickest round.
    pub ns_min: f64,
    /// The slowest round.
    pub ns_max: f64,
    /// Fuel a message; 0 where it is not metered.
    pub fuel: f64,
    /// Calls into the plugin in one round.
    pub calls: u64,
}

/// Why a bench has no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No plugin.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The plugin failed with the messages of the bench.
    #[error("the plugin fails in the bench: {0}")]
    Failed(String),
    /// There is nothing to measure with.
    #[error("a bench needs messages and rounds")]
    Empty,
}

/// One metering's worker.
struct Variant {
    metering: Metering,
    worker: Worker,
    builder: FrameBuilder,
    now_ms: u64,
    rounds_ns: Vec<f64>,
    usage: Usage,
}

/// Measures a plugin with every metering, and native twins beside it.
///
/// # Errors
/// [`BenchError`].
pub fn bench(
    plugin: (&Accepted, &[u8]),
    (cache, compiler): (&Cache, &Compiler),
    binding: &Arc<Binding>,
    subject: &Subject<'_>,
    native: &mut [Native<'_>],
    rounds: usize,
) -> Result<Vec<BenchRow>, BenchError> {
    if subject.messages() == 0 || rounds == 0 {
        return Err(BenchError::Empty);
    }
    let mut variants = Vec::new();
    for metering in Metering::ALL {
        variants.push(Variant::new(metering, plugin, cache, compiler, subject)?);
    }
    let mut native_ns = vec![Vec::new(); native.len()];
    // One round more than is counted: the first meets cold instances.
    for round in 0..=rounds {
        for variant in &mut variants {
            variant.round(binding, subject, round > 0)?;
        }
        for (twin, rounds_ns) in native.iter_mut().zip(&mut native_ns) {
            let started_ns = processor_ns();
            std::hint::black_box((twin.run)());
            let ns = (processor_ns() - started_ns) as f64 / subject.messages() as f64;
            if round > 0 {
                rounds_ns.push(ns);
            }
        }
    }
    let twins = native.iter().zip(native_ns);
    let twins = twins.map(|(twin, ns)| row(twin.name, ns, &Usage::default(), 1.0));
    let counted = (rounds * subject.messages()) as f64;
    let variants = variants.into_iter().map(|it| {
        let mut row = row(it.metering.name(), it.rounds_ns, &it.usage, counted);
        row.calls = it.usage.calls / rounds as u64;
        row
    });
    Ok(variants.chain(twins).collect())
}

/// Processor time of this thread, nanoseconds.
fn processor_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn row(name: &str, mut rounds_ns: Vec<f64>, usage: &Usage, messages: f64) -> BenchRow {
    rounds_ns.sort_by(f64::total_cmp);
    let at = |index: usize| rounds_ns.get(index).copied().unwrap_or_default();
    BenchRow {
        name: name.to_owned(),
        ns: at(rounds_ns.len() / 2),
        ns_min: at(0),
        ns_max: at(rounds_ns.len().saturating_sub(1)),
        fuel: usage.fuel as f64 / messages,
        calls: usage.calls,
    }
}

impl Variant {
    fn new(
        metering: Metering,
        (accepted, wasm): (&Accepted, &[u8]),
        cache: &Cache,
        compiler: &Compiler,
        subject: &Subject<'_>,
    ) -> Result<Self, BenchError> {
        let engine = Engine::new(metering)?;
        let (compiled, _) = Compiled::prepare(&engine, cache, compiler, accepted, wasm)?;
        let directory = Arc::new(Directory::default());
        directory.publish(|table| {
            let limits = Limits { fuel_per_s: Limits::MAX.fuel_per_s, ..accepted.limits };
            table.limits.insert(TENANT, limits);
            let active = Some(Installed::new(PLUGIN, 1, compiled));
            let rollout = Rollout { active, ..Rollout::default() };
            table.plugins.insert(PLUGIN, Arc::new(rollout));
        });
        let body_bytes = match subject {
            Subject::Batches { body_bytes, .. } => *body_bytes,
            Subject::Retry(_) | Subject::TxnCheck(_) => 0,
        };
        Ok(Self {
            metering,
            worker: Worker::new(&engine, &directory),
            builder: FrameBuilder::of(accepted.manifest.view(body_bytes)),
            now_ms: 0,
            rounds_ns: Vec::new(),
            usage: Usage::default(),
        })
    }

    fn round(
        &mut self,
        binding: &Arc<Binding>,
        subject: &Subject<'_>,
        counts: bool,
    ) -> Result<(), BenchError> {
        let started_ns = processor_ns();
        let usage = match subject {
            Subject::Batches { point, records, size, .. } => {
                self.batches(*point, records, *size, binding)?
            }
            Subject::Retry(attempts) => self.questions(attempts, |worker, ask, attempt| {
                let asked = worker.decide(ask, binding, attempt);
                (asked.answer.err(), asked.usage)
            })?,
            Subject::TxnCheck(halves) => self.questions(halves, |worker, ask, half| {
                let asked = worker.check(ask, binding, half);
                (asked.answer.err(), asked.usage)
            })?,
        };
        let ns = (processor_ns() - started_ns) as f64 / subject.messages() as f64;
        if counts {
            self.rounds_ns.push(ns);
            self.usage.add(&usage);
        }
        Ok(())
    }

    fn batches(
        &mut self,
        point: Point,
        records: &[Vec<u8>],
        size: usize,
        binding: &Arc<Binding>,
    ) -> Result<Usage, BenchError> {
        let mut usage = Usage::default();
        let mut rest = records;
        while !rest.is_empty() {
            self.builder.clear();
            // As in a broker, where what comes after a frame is asked for with the next.
            let ones = rest[..rest.len().min(size)].iter();
            for record in early(ones, self.builder.view(), |record| record) {
                match self.builder.push(record, Delivery::default()) {
                    Ok(Room::Taken) => {}
                    Ok(Room::Full) => break,
                    Err(error) => return Err(BenchError::Failed(error.to_string())),
                }
            }
            rest = &rest[self.builder.count() as usize..];
            usage.add(&self.batch(point, binding)?);
        }
        Ok(usage)
    }

    fn batch(&mut self, point: Point, binding: &Arc<Binding>) -> Result<Usage, BenchError> {
        let ask = self.ask();
        let batch = Batch::new(&self.builder);
        let (turn, usage) = match point {
            Point::Dedupe => {
                let mut keying = Keying::default();
                let turn = self.worker.keys(&ask, binding, &batch, &mut keying);
                (turn, *keying.usage())
            }
            Point::Interceptor => {
                let mut intercepting = Intercepting::default();
                let turn = self.worker.intercept(&ask, binding, &batch, &mut intercepting);
                (turn, *intercepting.usage())
            }
            Point::Filter | Point::Retry | Point::TxnCheck => {
                let mut judging = Judging::default();
                let turn = self.worker.judge(&ask, binding, &batch, &mut judging);
                std::hint::black_box(judging.delivered());
                (turn, *judging.usage())
            }
        };
        match turn {
            Turn::Done => Ok(usage),
            turn => Err(BenchError::Failed(format!("{turn:?}"))),
        }
    }

    fn questions<Q>(
        &mut self,
        questions: &[Q],
        mut ask_one: impl FnMut(&mut Worker, &Ask, &Q) -> (Option<ColdError>, Usage),
    ) -> Result<Usage, BenchError> {
        let mut usage = Usage::default();
        for question in questions {
            let ask = self.ask();
            let (error, took) = ask_one(&mut self.worker, &ask, question);
            usage.add(&took);
            if let Some(error) = error {
                return Err(BenchError::Failed(error.to_string()));
            }
        }
        Ok(usage)
    }

    fn ask(&mut self) -> Ask {
        self.now_ms += STEP_MS;
        Ask { tenant: TENANT, plugin: PLUGIN, traffic: Traffic::ALONE, now_ms: self.now_ms }
    }
}
