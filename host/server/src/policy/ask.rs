//! A delivery's messages on their way through a filter, frame by frame and turn by turn.
//!
//! ```text
//!   messages ─► frame of at most 256, 64 KiB ─► Worker::judge ─┬─ more ──► next turn, same frame
//!                    ▲                                         ├─ done ──► verdicts, next frame
//!                    └─────────────────────────────────────────┘ held ──► what is left waits
//! ```
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use yard_abi::manifest::Point;
use yard_abi::{Delivery, FrameBuilder, Room, View};
use yard_broker::{About, DeliverItem};
use yard_wasm::canary::Traffic;
use yard_wasm::{
    Ask, Asked as Said, Batch, Binding, ColdError, FaultKind, Hold, Judging, PluginId, Policy,
    Turn, early,
};
use yard_wire::record::Record;
use yard_wire::{Code, QueueIndex, Refusal, TenantId, Timestamp, TopicId};

use super::generate::Heat;
use super::journal::{Differing, Journal, Whose};
use super::pool::{Job, Next};
use super::sides::{QueueOf, Sides};
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
    /// What they are of.
    pub about: Arc<About>,
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
    /// What counts how much it judges, where code may be made for it.
    pub(crate) heat: Option<Arc<Heat>>,
}

impl Asked {
    /// What the plugin wants to see of a message, or how long to wait until it can say. Several
    /// versions may want different things; a frame may have more than was asked for.
    pub(super) fn view(
        &self,
        worker: &mut PolicyWorker,
        ask: &Ask,
        point: Point,
        version: Option<u32>,
        (needs, journal): (&Needs, &Journal),
    ) -> Result<View, Unanswered> {
        if let Some(known) = needs.get(self, version) {
            return Ok(known);
        }
        let asked = worker.needs(ask, &self.binding, point);
        let by = self.heard(worker, journal, &asked, 0);
        match asked.answer {
            // Whoever answered, which need not be who was meant: a canary may have failed.
            Ok(wanted) => Ok(needs.put(self, by.or(version).unwrap_or_default(), wanted)),
            Err(why) => Err(self.unanswered(why, by, (ask, journal))),
        }
    }

    /// Notes what came with the answer to a question about so many messages: who gave it.
    pub(super) fn heard<T>(
        &self,
        worker: &mut PolicyWorker,
        journal: &Journal,
        said: &Said<T>,
        messages: u64,
    ) -> Option<u32> {
        worker.heard(&self.whose, said.events.clone());
        let (version, role) = said.version?;
        let is_fault = matches!(said.answer, Err(ColdError::Fault(_)));
        let did = (messages, u64::from(is_fault), said.usage.spent_ns);
        journal.weigh(&self.whose, role, did, said.canary_fault.as_ref());
        Some(version)
    }

    /// Notes that a question has no answer.
    pub(super) fn unanswered(
        &self,
        why: ColdError,
        version: Option<u32>,
        (ask, journal): (&Ask, &Journal),
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

/// Messages that one version is to judge.
struct Part {
    frame: FrameBuilder,
    /// Their numbers in the question.
    messages: Vec<usize>,
    traffic: Traffic,
}

/// A question on a worker.
pub(crate) struct Filtering {
    pub(crate) asked: Asked,
    pub(crate) question: Question,
    pub(crate) needs: Arc<Needs>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) to: Option<oneshot::Sender<Answer>>,
    /// The frame that is being judged, once it was begun.
    part: Option<Part>,
    judging: Judging,
    verdicts: Vec<Option<Verdict>>,
    poison: Vec<(usize, String)>,
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
        let verdicts = vec![None; question.items.len()];
        let (part, judging, poison) = (None, Judging::default(), Vec::new());
        Self { asked, question, needs, journal, to: Some(to), part, judging, verdicts, poison }
    }

    /// Fills a frame with the next messages of one side; empty when there are none.
    fn fill(&mut self, view: View, sides: &Sides) -> Part {
        let mut frame = FrameBuilder::of(view);
        let (mut numbers, mut first) = (Vec::new(), None);
        let Question { items, messages, queue, topic, about, .. } = &self.question;
        let of = QueueOf { topic: *topic, queue: queue.0, queues: about.queues };
        let begin = self.verdicts.iter().position(Option::is_none).unwrap_or(items.len());
        let records = records_of(items, messages).enumerate().zip(items).skip(begin);
        for ((at, record), item) in early(records, view, |((_, record), _)| record) {
            if self.verdicts[at].is_some() {
                continue;
            }
            let traffic = sides.traffic(of, record);
            let side = sides.is_canarys(&traffic);
            if first.is_some_and(|(_, other)| other != side) {
                continue;
            }
            let delivery = Delivery {
                offset: item.offset.0,
                stored_ms: item.place.stored.0,
                queue: queue.0.into(),
                attempts: item.attempt - 1,
            };
            match frame.push(record, delivery) {
                Ok(Room::Taken) => {
                    numbers.push(at);
                    first.get_or_insert((traffic, side));
                }
                Ok(Room::Full) => break,
                // What is stored was checked; its consumer says what is wrong with it.
                Err(_) if numbers.is_empty() => self.verdicts[at] = Some(Verdict::Wanted),
                Err(_) => break,
            }
        }
        let traffic = first.map_or(Traffic::ALONE, |(traffic, _)| traffic);
        Part { frame, messages: numbers, traffic }
    }

    /// The answer: about the first messages, up to one of which nobody has said anything.
    fn finish(&mut self, wait_ms: Option<u32>) -> Next {
        let verdicts: Vec<Verdict> = self.verdicts.iter().map_while(|it| *it).collect();
        let mut poison = std::mem::take(&mut self.poison);
        poison.retain(|(at, _)| *at < verdicts.len());
        poison.sort_unstable();
        if let Some(to) = self.to.take() {
            // Whoever asked may have gone.
            let _ = to.send(Answer { verdicts, poison, wait_ms });
        }
        Next::Done
    }

    /// The frame was judged: its verdicts, and what is counted.
    fn judged(&mut self, messages: &[usize], view: View) {
        let judging = std::mem::take(&mut self.judging);
        let delivered = judging.delivered();
        for (at, number) in messages.iter().enumerate() {
            let verdict = if delivered.has(at) { Verdict::Wanted } else { Verdict::Unwanted };
            self.verdicts[*number] = Some(verdict);
        }
        for poison in judging.poison() {
            let number = messages[poison.index];
            self.verdicts[number] = Some(Verdict::Poison);
            self.poison.push((number, poison.fault.to_string()));
        }
        if let Some(heat) = &self.asked.heat {
            heat.judged(messages.len() as u64, &judging);
        }
        let Some((version, role)) = judging.version() else { return };
        let (whose, usage) = (&self.asked.whose, *judging.usage());
        let counts = (messages.len(), delivered.count() as usize);
        self.journal.frame(whose, version, counts, judging.poison(), &usage);
        let did = (messages.len() as u64, judging.poison().len() as u64, usage.spent_ns);
        self.journal.weigh(whose, role, did, judging.canary_fault());
        self.compare(&judging, messages, (version, view));
    }

    /// What a version in shadow said.
    fn compare(&self, judging: &Judging, messages: &[usize], (against, view): (u32, View)) {
        let whose = &self.asked.whose;
        let Some(shadow) = judging.shadowed() else { return };
        let (version, count) = (shadow.version, messages.len() as u64);
        let bits = match &shadow.verdicts {
            Ok(Some(bits)) if view.covers(shadow.view) => bits,
            Ok(_) => {
                // It could not see what it decides by; it can from now on.
                self.needs.put(&self.asked, version, shadow.view);
                return;
            }
            Err(fault) => return self.journal.fault(whose, version, fault),
        };
        // Of what the other fails at nobody says whether it is wanted.
        let poison = judging.poison().iter().map(|poison| poison.index);
        let differing = judging.delivered().differing(*bits);
        let differing = poison.fold(differing, |left, at| left.without(at));
        self.journal.count(whose, version, |run| {
            run.batches += 1;
            run.messages += count;
            run.matched += bits.count() as u64;
            run.compared += count - judging.poison().len() as u64;
            run.differing += differing.count() as u64;
            run.busy_us += shadow.usage.spent_ns / 1_000;
        });
        if differing.count() == 0 {
            return;
        }
        let Question { items, messages: records, topic, queue, about, .. } = &self.question;
        let records: Vec<&[u8]> = records_of(items, records).collect();
        for at in differing.iter() {
            let number = messages[at];
            let Ok((id, _)) = Record::peek_keys(records[number]) else { continue };
            let (offset, is_wanted) = (items[number].offset, bits.has(at));
            let (topic, queue, about) = (*topic, *queue, Arc::clone(about));
            let found = Differing { topic, queue, offset, id, version, against, is_wanted, about };
            self.journal.differs(whose, found);
        }
    }
}

pub(super) fn wait_ms(until_ms: u64, now_ms: u64) -> u32 {
    let wait_ms = until_ms.saturating_sub(now_ms).clamp(WAIT_MS_MIN, WAIT_MS_MAX);
    u32::try_from(wait_ms).expect("clamped to minutes")
}

impl Filtering {
    fn view(
        &self,
        worker: &mut PolicyWorker,
        ask: &Ask,
        version: Option<u32>,
    ) -> Result<View, u32> {
        let known = (&*self.needs, &*self.journal);
        let wanted = self.asked.view(worker, ask, Point::Filter, version, known);
        wanted.map_err(Unanswered::wait_ms)
    }

    /// Judges a part, or a turn further.
    fn turn(&mut self, worker: &mut PolicyWorker, ask: &Ask, part: Part, sides: &Sides) -> Next {
        let batch = Batch::new(&part.frame);
        let is_begun = self.judging.version().is_some();
        let turn = worker.plugins.judge(ask, &self.asked.binding, &batch, &mut self.judging);
        let events = self.judging.take_events();
        worker.heard(&self.asked.whose, events);
        if !is_begun && !sides.holds(&worker.plugins) {
            // Others may go together by now.
            self.judging = Judging::default();
            return Next::Again;
        }
        if let Some((version, _)) = self.judging.version() {
            // The version that judged may have been published after the frame was made.
            match self.view(worker, ask, Some(version)) {
                Ok(wanted) if !part.frame.view().covers(wanted) => {
                    self.judging = Judging::default();
                    return Next::Again;
                }
                Ok(_) => {}
                Err(wait_ms) => return self.finish(Some(wait_ms)),
            }
        }
        match turn {
            Turn::More => {
                self.part = Some(part);
                Next::Again
            }
            Turn::Done => {
                self.judged(&part.messages, part.frame.view());
                let is_over = self.verdicts.iter().all(Option::is_some);
                if is_over { self.finish(None) } else { Next::Again }
            }
            Turn::Held { until_ms, hold } => {
                if let Hold::Plugin(Some(fault)) = &hold {
                    tracing::warn!(plugin = %self.asked.whose.1, %fault, "a plugin fails");
                }
                self.finish(Some(wait_ms(until_ms, ask.now_ms)))
            }
            Turn::Blind => {
                if let Some((version, _)) = self.judging.version() {
                    self.needs.put(&self.asked, version, part.frame.view().with_properties());
                }
                self.judging = Judging::default();
                Next::Again
            }
            Turn::Absent => self.finish(Some(ABSENT_MS)),
        }
    }
}

impl Job<PolicyWorker> for Filtering {
    fn step(&mut self, worker: &mut PolicyWorker) -> Next {
        let now_ms = crate::time::now().0;
        let (tenant, plugin) = (self.question.tenant, self.asked.plugin);
        let ask = |traffic| Ask { tenant, plugin, traffic, now_ms };
        let sides = Sides::of(&mut worker.plugins, plugin);
        let part = match self.part.take() {
            Some(part) => part,
            None => match self.view(worker, &ask(Traffic::ALONE), None) {
                Ok(view) => self.fill(view, &sides),
                Err(wait_ms) => return self.finish(Some(wait_ms)),
            },
        };
        if part.messages.is_empty() {
            return self.finish(None);
        }
        self.turn(worker, &ask(part.traffic), part, &sides)
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
        let (tenant, plugin) = (self.tenant, self.asked.plugin);
        let ask = Ask { tenant, plugin, traffic: Traffic::ALONE, now_ms };
        let asked = worker.needs(&ask, &self.asked.binding, self.point);
        worker.heard(&self.asked.whose, asked.events);
        asked.answer.map_err(|why| self.refusal(why, now_ms))?;
        if self.point != Point::Dedupe {
            return Ok(None);
        }
        let described = worker.plugins.describe(&ask, &self.asked.binding);
        worker.heard(&self.asked.whose, described.events);
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
