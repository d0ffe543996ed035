//! A delivery's messages on their way through a filter, frame by frame and turn by turn.
//!
//! ```text
//!   messages ─► frame of at most 256, 64 KiB ─► Worker::judge ─┬─ more ──► next turn, same frame
//!                    ▲                                         ├─ done ──► verdicts, next frame
//!                    └─────────────────────────────────────────┘ held ──► what is left waits
//! ```
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use yard_abi::manifest::Point;
use yard_abi::{Delivery, FrameBuilder, Room};
use yard_broker::DeliverItem;
use yard_wasm::canary::{Arm, Traffic};
use yard_wasm::{
    Ask, Batch, Binding, ColdError, FaultKind, Hold, Judging, PluginId, Policy, Role, Turn,
};
use yard_wire::{Code, QueueIndex, Refusal, TenantId, Timestamp, TopicId};

use super::journal::{Journal, Whose};
use super::pool::{Job, Next};
use super::{Needs, PolicyWorker};
use crate::deliver::records_of;

/// What is asked about a delivery.
pub(crate) struct Question {
    /// Whose messages they are.
    pub tenant: TenantId,
    /// Topic of the queue.
    pub topic: TopicId,
    /// The queue.
    pub queue: QueueIndex,
    /// The messages.
    pub items: Vec<DeliverItem>,
    /// Their records, as a delivery has them.
    pub messages: Bytes,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The subscription gets it.
    Wanted,
    /// It does not.
    Unwanted,
    /// The plugin cannot bear it.
    Poison,
}

/// What came of a question: about the first messages a verdict each; about the others nothing, and
/// they are to be asked about after a while.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Of the first messages, all of them unless `wait_ms` says otherwise.
    pub verdicts: Vec<Verdict>,
    /// Of each that is poison: its number, and what it does to the plugin.
    pub poison: Vec<(usize, String)>,
    /// When to ask about the others, in milliseconds from now.
    pub wait_ms: Option<u32>,
}

/// Which plugin is asked, with what it is told.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) plugin: PluginId,
    pub(crate) whose: Whose,
    pub(crate) binding: Arc<Binding>,
}

impl Asked {
    /// What the plugin wants to see of a message's body, or how long to wait until it can say.
    /// Several versions may want different things; a frame may have more than was asked for.
    pub(super) fn body_bytes(
        &self,
        worker: &mut PolicyWorker,
        ask: &Ask<'_>,
        point: Point,
        version: Option<u32>,
        (needs, journal): (&Needs, &Journal),
    ) -> Result<u32, Unanswered> {
        if let Some(known) = needs.get(self, version) {
            return Ok(known);
        }
        let asked = worker.needs(ask, &self.binding, point);
        worker.heard(&self.whose, asked.event.into_iter().collect());
        match asked.answer {
            Ok(wanted) => {
                let version = version.or(asked.version).unwrap_or_default();
                Ok(needs.put(self, version, wanted.body))
            }
            Err(why) => Err(self.unanswered(why, asked.version, (ask, journal))),
        }
    }

    /// Notes that a question has no answer.
    pub(super) fn unanswered(
        &self,
        why: ColdError,
        version: Option<u32>,
        (ask, journal): (&Ask<'_>, &Journal),
    ) -> Unanswered {
        match why {
            ColdError::Absent => Unanswered::Absent,
            ColdError::Held { until_ms } => {
                Unanswered::Held { wait_ms: wait_ms(until_ms, ask.now_ms) }
            }
            ColdError::Fault(fault) if fault.kind == FaultKind::NoRoom => {
                Unanswered::Busy { wait_ms: ABSENT_MS }
            }
            ColdError::Fault(fault) => {
                if let Some(version) = version {
                    journal.fault(&self.whose, version, &fault);
                    journal.say(&self.whose, Timestamp(ask.now_ms), version, fault.to_string());
                }
                Unanswered::Failed
            }
        }
    }
}

/// Why nobody says anything about messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// No version decides.
    Absent,
    /// Its tenant has used up its share, or there is no place for an instance.
    Busy {
        /// For how long, in milliseconds.
        wait_ms: u32,
    },
    /// It failed too often and is kept from running.
    Held {
        /// For how long, in milliseconds.
        wait_ms: u32,
    },
    /// It failed at saying what it wants to see.
    Failed,
}

impl Unanswered {
    /// When to ask again, in milliseconds from now.
    pub(super) fn wait_ms(self) -> u32 {
        match self {
            Self::Absent | Self::Failed => ABSENT_MS,
            Self::Busy { wait_ms } | Self::Held { wait_ms } => wait_ms,
        }
    }
}

/// A plugin without a version that decides is asked again after so long, in milliseconds.
const ABSENT_MS: u32 = 500;
/// Nobody is asked again sooner, in milliseconds,
const WAIT_MS_MIN: u64 = 5;
/// or later than this.
const WAIT_MS_MAX: u64 = 300_000;

/// A question on a worker.
pub(crate) struct Filtering {
    pub(crate) asked: Asked,
    pub(crate) question: Question,
    pub(crate) needs: Arc<Needs>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) to: Option<oneshot::Sender<Answer>>,
    /// The frame that is judged, once it is known what it must have, and the bytes of bodies in it.
    frame: Option<(FrameBuilder, u32)>,
    judging: Judging,
    answer: Answer,
}

impl Filtering {
    pub(crate) fn new(
        asked: Asked,
        question: Question,
        needs: Arc<Needs>,
        journal: Arc<Journal>,
        to: oneshot::Sender<Answer>,
    ) -> Self {
        assert!(!question.items.is_empty(), "a question is about something");
        let (frame, judging, answer) = (None, Judging::default(), Answer::default());
        Self { asked, question, needs, journal, to: Some(to), frame, judging, answer }
    }

    /// Fills a frame with the next messages; empty when there are none.
    fn fill(&mut self, body_bytes: u32) -> FrameBuilder {
        let mut frame = FrameBuilder::new(body_bytes);
        let Question { items, messages, queue, .. } = &self.question;
        let done = self.answer.verdicts.len();
        let records = records_of(items, messages);
        for (item, record) in items.iter().zip(records).skip(done) {
            let delivery = Delivery {
                offset: item.offset.0,
                stored_ms: item.place.stored.0,
                queue: queue.0.into(),
                attempts: item.attempt - 1,
            };
            match frame.push(record, delivery) {
                Ok(Room::Taken) => {}
                Ok(Room::Full) => break,
                // What is stored was checked; its consumer says what is wrong with it.
                Err(_) if frame.count() == 0 => self.answer.verdicts.push(Verdict::Wanted),
                Err(_) => break,
            }
        }
        frame
    }

    fn finish(&mut self, wait_ms: Option<u32>) -> Next {
        self.answer.wait_ms = wait_ms;
        if let Some(to) = self.to.take() {
            // Whoever asked may have gone.
            let _ = to.send(std::mem::take(&mut self.answer));
        }
        Next::Done
    }

    /// The frame was judged: its verdicts, and what is counted.
    fn judged(&mut self, count: usize) {
        let judging = std::mem::take(&mut self.judging);
        let delivered = judging.delivered();
        let begin = self.answer.verdicts.len();
        let verdict = |at| if delivered.has(at) { Verdict::Wanted } else { Verdict::Unwanted };
        self.answer.verdicts.extend((0..count).map(verdict));
        for poison in judging.poison() {
            self.answer.verdicts[begin + poison.index] = Verdict::Poison;
            self.answer.poison.push((begin + poison.index, poison.fault.to_string()));
        }
        let Some((version, role)) = judging.version() else { return };
        let (whose, usage) = (&self.asked.whose, *judging.usage());
        let counts = (count, delivered.count() as usize);
        self.journal.frame(whose, version, counts, judging.poison(), &usage);
        self.compare(&judging, begin..begin + count, version, role);
    }

    /// What a version on trial did.
    fn compare(&self, judging: &Judging, frame: Range<usize>, version: u32, role: Role) {
        let count = frame.len();
        let whose = &self.asked.whose;
        let (ns, faults) = (judging.usage().spent_ns, judging.poison().len() as u64);
        let add = |arm: &mut Arm| arm.add(count as u64, faults, ns);
        match role {
            Role::Canary => self.journal.weigh(whose, |evidence| add(&mut evidence.canary)),
            Role::Active => self.journal.weigh(whose, |evidence| add(&mut evidence.active)),
            Role::Previous => {}
        }
        if let Some((canary, fault)) = judging.canary_fault() {
            self.journal.weigh(whose, |evidence| evidence.canary.add(0, 1, 0));
            self.journal.fault(whose, *canary, fault);
        }
        let Some(shadow) = judging.shadowed() else { return };
        match &shadow.verdicts {
            Ok(bits) => {
                let differing = judging.delivered().differing(*bits).count() as u64;
                self.journal.count(whose, shadow.version, |run| {
                    run.batches += 1;
                    run.messages += count as u64;
                    run.matched += bits.count() as u64;
                    run.compared += count as u64;
                    run.differing += differing;
                    run.busy_us += shadow.usage.spent_ns / 1_000;
                });
                for at in judging.delivered().differing(*bits).iter() {
                    let item = &self.question.items[frame.start + at];
                    self.differs(version, shadow.version, item, bits.has(at));
                }
            }
            Err(fault) => self.journal.fault(whose, shadow.version, fault),
        }
    }

    /// A message about which a version beside the active one says something else.
    fn differs(&self, active: u32, version: u32, item: &DeliverItem, wanted: bool) {
        let (word, other) = if wanted { ("wants", "does not") } else { ("does not want", "does") };
        let text = format!(
            "version {version} {word} message {} of queue {}, version {active} {other}",
            item.offset, self.question.queue
        );
        self.journal.say(&self.asked.whose, crate::time::now(), version, text);
    }
}

pub(super) fn wait_ms(until_ms: u64, now_ms: u64) -> u32 {
    let wait_ms = until_ms.saturating_sub(now_ms).clamp(WAIT_MS_MIN, WAIT_MS_MAX);
    u32::try_from(wait_ms).expect("clamped to minutes")
}

impl Filtering {
    fn body_bytes(
        &self,
        worker: &mut PolicyWorker,
        ask: &Ask<'_>,
        version: Option<u32>,
    ) -> Result<u32, u32> {
        let known = (&*self.needs, &*self.journal);
        let wanted = self.asked.body_bytes(worker, ask, Point::Filter, version, known);
        wanted.map_err(Unanswered::wait_ms)
    }
}

impl Job<PolicyWorker> for Filtering {
    fn step(&mut self, worker: &mut PolicyWorker) -> Next {
        let now_ms = crate::time::now().0;
        let (topic, queue) = (self.question.topic.0, u32::from(self.question.queue.0));
        let traffic = Traffic::Queue { topic, queue };
        let (tenant, plugin) = (self.question.tenant, self.asked.plugin);
        let ask = Ask { tenant, plugin, traffic, now_ms };
        let (frame, body_bytes) = match self.frame.take() {
            Some(frame) => frame,
            None => match self.body_bytes(worker, &ask, None) {
                Ok(body_bytes) => (self.fill(body_bytes), body_bytes),
                Err(wait_ms) => return self.finish(Some(wait_ms)),
            },
        };
        if frame.count() == 0 {
            return self.finish(None);
        }
        let batch = Batch::new(&frame);
        let turn = worker.plugins.judge(&ask, &self.asked.binding, &batch, &mut self.judging);
        let events = self.judging.take_events();
        worker.heard(&self.asked.whose, events);
        if let Some((version, _)) = self.judging.version() {
            // The version that judged may have been published after the frame was made.
            match self.body_bytes(worker, &ask, Some(version)) {
                Ok(wanted) if wanted > body_bytes => {
                    self.judging = Judging::default();
                    return Next::Again;
                }
                Ok(_) => {}
                Err(wait_ms) => return self.finish(Some(wait_ms)),
            }
        }
        match turn {
            Turn::More => {
                self.frame = Some((frame, body_bytes));
                Next::Again
            }
            Turn::Done => {
                self.judged(batch.count());
                let is_over = self.answer.verdicts.len() == self.question.items.len();
                if is_over { self.finish(None) } else { Next::Again }
            }
            Turn::Held { until_ms, hold } => {
                if let Hold::Plugin(Some(fault)) = &hold {
                    tracing::warn!(plugin = %self.asked.whose.1, %fault, "a plugin fails");
                }
                self.finish(Some(wait_ms(until_ms, now_ms)))
            }
            Turn::Absent => self.finish(Some(ABSENT_MS)),
        }
    }
}

/// Whether a plugin understands an expression, or its settings.
pub(crate) struct Checking {
    pub(crate) asked: Asked,
    pub(crate) tenant: TenantId,
    pub(crate) point: Point,
    pub(crate) to: Option<oneshot::Sender<Result<Option<Policy>, Refusal>>>,
}

impl Checking {
    /// Whether it does; at the dedupe point what it wants of keys and duplicates, too.
    fn look(&self, worker: &mut PolicyWorker) -> Result<Option<Policy>, Refusal> {
        let now_ms = crate::time::now().0;
        let traffic = Traffic::Queue { topic: 0, queue: 0 };
        let ask = Ask { tenant: self.tenant, plugin: self.asked.plugin, traffic, now_ms };
        let asked = worker.needs(&ask, &self.asked.binding, self.point);
        worker.heard(&self.asked.whose, asked.event.into_iter().collect());
        asked.answer.map_err(|why| self.refusal(why, now_ms))?;
        if self.point != Point::Dedupe {
            return Ok(None);
        }
        let described = worker.plugins.describe(&ask, &self.asked.binding);
        worker.heard(&self.asked.whose, described.event.into_iter().collect());
        described.answer.map(Some).map_err(|why| self.refusal(why, now_ms))
    }

    fn refusal(&self, why: ColdError, now_ms: u64) -> Refusal {
        let name = &self.asked.whose.1;
        match why {
            ColdError::Absent => {
                let detail = format!("plugin {name}: no version of it is active");
                Refusal::new(Code::PluginNotRunning, detail)
            }
            ColdError::Held { until_ms } => {
                let detail = format!("plugin {name} failed too often and is kept from running");
                Refusal::after(Code::PluginNotRunning, wait_ms(until_ms, now_ms), detail)
            }
            ColdError::Fault(fault) if fault.kind == FaultKind::Refused => {
                let is_filter = self.point == Point::Filter;
                let code = if is_filter { Code::BadExpression } else { Code::BadPluginUse };
                Refusal::new(code, format!("{name}: {}", fault.text))
            }
            ColdError::Fault(fault) => Refusal::new(Code::PluginFailed, format!("{name}: {fault}")),
        }
    }
}

impl Job<PolicyWorker> for Checking {
    fn step(&mut self, worker: &mut PolicyWorker) -> Next {
        let result = self.look(worker);
        if let Some(to) = self.to.take() {
            let _ = to.send(result);
        }
        Next::Done
    }
}
