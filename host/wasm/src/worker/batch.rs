//! Batches: filters, dedupe keys and interceptors, with what happens when a message is poison.
use std::ops::Range;
use std::sync::Arc;

use yard_abi::frame::{FRAME_MESSAGES_MAX, HEADER_BYTES, MAGIC};
use yard_abi::manifest::Point;
use yard_abi::verdict;
use yard_abi::{FrameBuilder, Message, Shown, View};

use super::{Ask, HealthEvent, NO_ROOM_MS, Worker};
use crate::bisect::{Bisect, Found};
use crate::bits::Bits;
use crate::fault::{Fault, FaultKind};
use crate::guest::{Binding, Failed, Instance, Usage};
use crate::lifecycle::VersionNumber;
use crate::table::{Choice, Installed, Role, Rollout, Went};

/// What a call about a part of a batch ends in; its answer is where the caller put it.
type Called = Result<(), Failed>;

/// Faults of one turn: what a batch that hurts costs others is so many times a call's limit.
const TURN_FAULTS_MAX: usize = 2;

/// A frame, as its builder made it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    frame: &'a Vec<u8>,
    count: usize,
    view: View,
}

impl<'a> Batch<'a> {
    /// The frame of a builder.
    #[must_use]
    pub fn new(builder: &'a FrameBuilder) -> Self {
        let count = builder.count() as usize;
        assert!(count <= FRAME_MESSAGES_MAX, "a frame has no more messages");
        Self { frame: builder.bytes(), count, view: builder.view() }
    }

    /// Messages in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Where each message begins, and where the last ends.
    fn starts(&self) -> Vec<usize> {
        let mut starts = vec![HEADER_BYTES];
        let mut at = HEADER_BYTES;
        for _ in 0..self.count {
            let length = self.frame[at..].first_chunk().expect("a frame has whole messages");
            at += u32::from_le_bytes(*length) as usize;
            starts.push(at);
        }
        assert_eq!(at, self.frame.len(), "a frame ends with its last message");
        starts
    }

    /// The frame of a part of it, for a version that reads these properties: whoever reads none
    /// gets none, also where the frame was made for others too. Made in `part` where it is not
    /// the frame of the batch.
    fn part<'b>(
        &self,
        range: &Range<usize>,
        reads: Shown,
        starts: &mut Vec<usize>,
        part: &'b mut Vec<u8>,
    ) -> &'b Vec<u8>
    where
        'a: 'b,
    {
        let has_more = reads < self.view.properties;
        if range.len() == self.count && !has_more {
            return self.frame;
        }
        if starts.is_empty() {
            *starts = self.starts();
        }
        part.clear();
        part.extend_from_slice(&MAGIC);
        part.extend_from_slice(&(range.len() as u32).to_le_bytes());
        let mut messages = &self.frame[starts[range.start]..starts[range.end]];
        if !has_more {
            part.extend_from_slice(messages);
            return part;
        }
        while !messages.is_empty() {
            let (message, after) = Message::take(messages).expect("a frame has whole messages");
            message.put_without_properties(part);
            messages = after;
        }
        part
    }
}

/// A message that the plugin cannot bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Its index in the batch.
    pub index: usize,
    /// What it does to the plugin.
    pub fault: Fault,
}

/// How far a batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Every message is judged, or is poison.
    Done,
    /// There is more to do: give others their turn, and then go on with the same batch.
    More,
    /// Nothing is to be done with this batch before a time; begin it anew then.
    Held {
        /// When.
        until_ms: u64,
        /// Why.
        hold: Hold,
    },
    /// The frame is without properties, and the version that is to judge it reads them: make
    /// another, by what [`Worker::needs`] says, and begin anew.
    Blind,
    /// The plugin has no active version.
    Absent,
}

/// Why a batch waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The tenant has used its share of this thread.
    Budget,
    /// The plugin failed with everything, or is quarantined for that.
    Plugin(Option<Fault>),
    /// There is no place for an instance.
    NoRoom,
}

/// What a plugin knows when it is asked about a batch.
#[derive(Clone, Copy, Debug)]
enum Bound<'a> {
    /// One of the expressions that an instance knows.
    Expression(&'a Arc<Binding>),
    /// The settings that an instance was opened with.
    Settings(&'a Arc<Binding>),
}

impl<'a> Bound<'a> {
    fn expression(self) -> Option<&'a Arc<Binding>> {
        match self {
            Self::Expression(expression) => Some(expression),
            Self::Settings(_) => None,
        }
    }

    fn settings(self) -> Option<&'a Arc<Binding>> {
        match self {
            Self::Expression(_) => None,
            Self::Settings(settings) => Some(settings),
        }
    }
}

/// What is common to all batches on their way.
#[derive(Debug, Default)]
struct Progress {
    chosen: Option<Chosen>,
    /// How code for one expression failed with the batch, which its plugin then judged.
    generated_fault: Option<Fault>,
    poison: Vec<Poison>,
    canary_fault: Option<(VersionNumber, Fault)>,
    events: Vec<HealthEvent>,
    usage: Usage,
}

#[derive(Clone, Debug)]
struct Chosen {
    installed: Arc<Installed>,
    /// Where that is code for one expression: the version in whose place it is.
    instead_of: Option<Arc<Installed>>,
    rollout: Arc<Rollout>,
    role: Role,
    bisect: Bisect,
    starts: Vec<usize>,
}

macro_rules! progress {
    ($name:ident) => {
        impl $name {
            /// The version that judges this batch, all of it; none before it began.
            #[must_use]
            pub fn version(&self) -> Option<(VersionNumber, Role)> {
                let chosen = self.progress.chosen.as_ref();
                chosen.map(|it| (it.installed.version(), it.role))
            }

            /// Messages for the dead-letter topic, each with the text of its fault.
            #[must_use]
            pub fn poison(&self) -> &[Poison] {
                &self.progress.poison
            }

            /// How a canary failed with this batch, which the version in use then judged.
            #[must_use]
            pub fn canary_fault(&self) -> Option<&(VersionNumber, Fault)> {
                self.progress.canary_fault.as_ref()
            }

            /// Changes of health, to be taken after every turn.
            pub fn take_events(&mut self) -> Vec<HealthEvent> {
                std::mem::take(&mut self.progress.events)
            }

            /// What it took so far.
            #[must_use]
            pub fn usage(&self) -> &Usage {
                &self.progress.usage
            }
        }
    };
}

/// A batch on its way through a filter.
#[derive(Debug, Default)]
pub struct Judging {
    progress: Progress,
    delivered: Bits,
    shadowed: Option<Shadowed>,
}
progress!(Judging);

/// What a shadow said of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The version.
    pub version: VersionNumber,
    /// What it decides by: where a frame has less, its verdicts mean nothing.
    pub view: View,
    /// Its verdicts, or how it failed; none where the frame lacks the properties that it reads.
    pub verdicts: Result<Option<Bits>, Fault>,
    /// What it took.
    pub usage: Usage,
}

impl Judging {
    /// Messages that the subscription gets.
    #[must_use]
    pub fn delivered(&self) -> Bits {
        self.delivered
    }

    /// Whether code for this one expression judged it.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        let chosen = self.progress.chosen.as_ref();
        chosen.is_some_and(|it| it.installed.expression().is_some())
    }

    /// How code for this one expression failed with the batch, which its plugin then judged.
    #[must_use]
    pub fn generated_fault(&self) -> Option<&Fault> {
        self.progress.generated_fault.as_ref()
    }

    /// What a shadow says beside, for batches that it looked at.
    #[must_use]
    pub fn shadowed(&self) -> Option<&Shadowed> {
        self.shadowed.as_ref()
    }
}

/// A batch on its way to its dedupe keys.
#[derive(Debug, Default)]
pub struct Keying {
    progress: Progress,
    keys: Vec<Vec<u8>>,
}
progress!(Keying);

impl Keying {
    /// The key of each message; empty where it has none, or is poison.
    #[must_use]
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }
}

/// A batch on its way through an interceptor.
#[derive(Debug, Default)]
pub struct Intercepting {
    progress: Progress,
    answers: Vec<Vec<u8>>,
}
progress!(Intercepting);

impl Intercepting {
    /// The answer to each message, as an answer list of one; empty where it is poison.
    #[must_use]
    pub fn answers(&self) -> &[Vec<u8>] {
        &self.answers
    }
}

impl Worker {
    /// Takes a batch through a filter, or a turn further. A batch is judged by one version,
    /// whatever is published meanwhile.
    pub fn judge(
        &mut self,
        ask: &Ask,
        binding: &Arc<Binding>,
        batch: &Batch<'_>,
        judging: &mut Judging,
    ) -> Turn {
        let Judging { progress, delivered, shadowed } = judging;
        let bound = Bound::Expression(binding);
        let turn = self.turn(ask, bound, batch, progress, |instance, frame, range, usage| {
            if range.len() == batch.count {
                *delivered = Bits::default();
            }
            let bits = evaluate(instance, binding, frame, range.len(), ask.now_ms, usage)?;
            delivered.add_from(&bits, range.start);
            Ok(())
        });
        if turn == Turn::Done {
            *shadowed = self.shadow(ask, binding, batch, progress);
        }
        turn
    }

    /// Asks a dedupe plugin for the keys of a batch, or a turn further.
    pub fn keys(
        &mut self,
        ask: &Ask,
        binding: &Arc<Binding>,
        batch: &Batch<'_>,
        keying: &mut Keying,
    ) -> Turn {
        let Keying { progress, keys } = keying;
        keys.resize(batch.count, Vec::new());
        let bound = Bound::Settings(binding);
        self.turn(ask, bound, batch, progress, |instance, frame, range, usage| {
            instance.open(Point::Dedupe, binding, ask.now_ms, usage)?;
            let count = range.len() as u32;
            let list = instance.call(count, ask.now_ms, usage, |store, exports| {
                exports.keys(store, frame, count)
            })?;
            let found = verdict::keys(&list, count).map_err(|error| malformed("keys", &error))?;
            for (to, key) in keys[range].iter_mut().zip(found) {
                *to = key.to_vec();
            }
            Ok(())
        })
    }

    /// Takes a batch through an interceptor, or a turn further.
    pub fn intercept(
        &mut self,
        ask: &Ask,
        binding: &Arc<Binding>,
        batch: &Batch<'_>,
        intercepting: &mut Intercepting,
    ) -> Turn {
        let Intercepting { progress, answers } = intercepting;
        answers.resize(batch.count, Vec::new());
        let bound = Bound::Settings(binding);
        self.turn(ask, bound, batch, progress, |instance, frame, range, usage| {
            instance.open(Point::Interceptor, binding, ask.now_ms, usage)?;
            let count = range.len() as u32;
            let list = instance.call(count, ask.now_ms, usage, |store, exports| {
                exports.apply(store, frame, count)
            })?;
            verdict::answers(&list, count).map_err(|error| malformed("answers", &error))?;
            let mut rest = &list[..];
            for to in &mut answers[range] {
                // Kind and length come first; that they are right was checked above.
                let length = rest[1..].first_chunk().expect("a checked answer has its length");
                let (answer, after) = rest.split_at(5 + u32::from_le_bytes(*length) as usize);
                *to = answer.to_vec();
                rest = after;
            }
            Ok(())
        })
    }

    /// A turn of a batch: calls until it is done, or has had its faults.
    fn turn(
        &mut self,
        ask: &Ask,
        bound: Bound<'_>,
        batch: &Batch<'_>,
        progress: &mut Progress,
        mut call: impl FnMut(&mut Instance, &Vec<u8>, Range<usize>, &mut Usage) -> Called,
    ) -> Turn {
        if progress.chosen.is_none() {
            self.refresh();
        }
        let wait_ms = self.over_budget_ms(ask);
        if wait_ms > 0 {
            return Turn::Held { until_ms: ask.now_ms + wait_ms, hold: Hold::Budget };
        }
        if progress.chosen.is_none()
            && let Some(turn) = self.begin(ask, bound, batch, progress)
        {
            return turn;
        }
        let burnt = progress.usage.fuel;
        let turn = self.ranges(ask, bound.settings(), batch, progress, &mut call);
        self.bill(ask.tenant, progress.usage.fuel - burnt);
        if turn == Turn::Done {
            Self::end(ask, progress);
        }
        turn
    }

    /// Chooses the version for a batch; `Some` where there is none for now.
    fn begin(
        &mut self,
        ask: &Ask,
        bound: Bound<'_>,
        batch: &Batch<'_>,
        progress: &mut Progress,
    ) -> Option<Turn> {
        self.batches += 1;
        let (rollout, choice) = self.choose(ask);
        let (installed, role) = match choice {
            Choice::Use(installed, role) => (installed, role),
            Choice::WaitUntil(until_ms) => {
                return Some(Turn::Held { until_ms, hold: Hold::Plugin(None) });
            }
            Choice::Nobody => return Some(Turn::Absent),
        };
        let rollout = rollout.expect("a version was chosen from a rollout");
        let before = installed.poisoned_in_a_row(ask.tenant);
        let (bisect, starts) = (Bisect::new(batch.count, before), Vec::new());
        let expression = bound.expression().filter(|_| role == Role::Active);
        let code = expression.and_then(|it| self.table.generated(ask.tenant, it, &installed));
        let (installed, instead_of) = match code {
            Some(code) => (Arc::clone(code), Some(installed)),
            None => (installed, None),
        };
        progress.chosen = Some(Chosen { installed, instead_of, rollout, role, bisect, starts });
        None
    }

    fn ranges(
        &mut self,
        ask: &Ask,
        binding: Option<&Arc<Binding>>,
        batch: &Batch<'_>,
        progress: &mut Progress,
        call: &mut impl FnMut(&mut Instance, &Vec<u8>, Range<usize>, &mut Usage) -> Called,
    ) -> Turn {
        let mut part = std::mem::take(&mut self.part);
        let mut faults = 0;
        let turn = loop {
            let chosen = progress.chosen.as_mut().expect("a batch that began has its version");
            let Some(range) = chosen.bisect.next() else {
                break Turn::Done;
            };
            if faults == TURN_FAULTS_MAX {
                break Turn::More;
            }
            let reads = chosen.reads();
            if reads > batch.view.properties {
                break Turn::Blind;
            }
            let (installed, usage) = (Arc::clone(&chosen.installed), &mut progress.usage);
            let frame = batch.part(&range, reads, &mut chosen.starts, &mut part);
            let result = self.in_slot(ask, &installed, binding, usage, |instance, usage| {
                call(instance, frame, range.clone(), usage)
            });
            let Err(failed) = result else {
                chosen.bisect.passed();
                continue;
            };
            faults += 1;
            if let Some(turn) = progress.fault(ask, failed) {
                break turn;
            }
        };
        self.part = part;
        if matches!(turn, Turn::Held { .. }) {
            // Begun anew, possibly by another version: what was found counts for nothing.
            progress.chosen = None;
            progress.poison.clear();
        }
        turn
    }

    /// A batch is through: notes how that went.
    fn end(ask: &Ask, progress: &mut Progress) {
        let Some(Chosen { installed, rollout, role, bisect, .. }) = &progress.chosen else {
            return;
        };
        let went = match progress.poison.len() {
            0 => Went::Well,
            count => Went::Poisoned { count, any_passed: bisect.any_passed() },
        };
        let fault = progress.poison.last().map(|poison| &poison.fault);
        let event = Self::record(ask, installed, rollout, *role, went, fault);
        progress.events.extend(event);
    }

    /// Asks the shadow about a batch that was judged, where its sample takes it.
    fn shadow(
        &mut self,
        ask: &Ask,
        binding: &Arc<Binding>,
        batch: &Batch<'_>,
        progress: &mut Progress,
    ) -> Option<Shadowed> {
        let rollout = Arc::clone(&progress.chosen.as_ref()?.rollout);
        let (shadow, sample) = rollout.shadow.as_ref()?;
        let rests = shadow.wait_until_ms(ask.tenant, ask.now_ms) > 0;
        if rests || !sample.takes(self.batches) || batch.count == 0 {
            return None;
        }
        let mut usage = Usage::default();
        let mut view = shadow.compiled().manifest().view(0);
        let (mut starts, mut part) = (Vec::new(), Vec::new());
        // What it would say of a frame that lacks what it reads says nothing about it.
        let frame = batch
            .view
            .covers(view)
            .then(|| batch.part(&(0..batch.count), view.properties, &mut starts, &mut part));
        let verdicts = self.in_slot(ask, shadow, None, &mut usage, |instance, usage| {
            view = instance.wanted(binding, ask.now_ms, usage)?;
            let Some(frame) = frame else { return Ok(None) };
            evaluate(instance, binding, frame, batch.count, ask.now_ms, usage).map(Some)
        });
        self.bill(ask.tenant, usage.fuel);
        let verdicts = verdicts.map_err(Failed::into_fault);
        let went = if verdicts.is_ok() { Went::Well } else { Went::Failed };
        let fault = verdicts.as_ref().err();
        // As with a canary, there is the version in use besides.
        let event = Self::record(ask, shadow, &rollout, Role::Canary, went, fault);
        progress.events.extend(event);
        Some(Shadowed { version: shadow.version(), view, verdicts, usage })
    }
}

impl Chosen {
    /// Which properties its version reads.
    fn reads(&self) -> Shown {
        self.installed.compiled().manifest().properties
    }
}

impl Progress {
    /// What follows from a fault; `Some` where that ends the turn.
    fn fault(&mut self, ask: &Ask, failed: Failed) -> Option<Turn> {
        let chosen = self.chosen.as_mut().expect("a batch that began has its version");
        if let Some(version) = chosen.instead_of.take() {
            // Whatever it is: the version that understands every expression judges all of it.
            chosen.bisect =
                Bisect::new(chosen.bisect.count(), version.poisoned_in_a_row(ask.tenant));
            chosen.installed = version;
            self.generated_fault = Some(failed.into_fault());
            return Some(Turn::More);
        }
        if failed.fault().kind == FaultKind::NoRoom {
            let until_ms = ask.now_ms + NO_ROOM_MS;
            return Some(Turn::Held { until_ms, hold: Hold::NoRoom });
        }
        let chosen = self.chosen.as_mut().expect("a batch that began has its version");
        if chosen.role == Role::Canary {
            return Some(self.leave_canary(ask, failed.into_fault()));
        }
        let found = match &failed {
            Failed::Opening(_) => Found::Hopeless,
            // What a plugin refuses it refuses for every message.
            Failed::Answering(fault) if fault.kind == FaultKind::Refused => Found::Hopeless,
            Failed::Answering(_) => chosen.bisect.failed(),
        };
        let fault = failed.into_fault();
        match found {
            Found::Suspects => None,
            Found::Poison(index) => {
                self.poison.push(Poison { index, fault });
                None
            }
            Found::Hopeless => {
                let Chosen { installed, rollout, role, .. } = chosen;
                let event =
                    Worker::record(ask, installed, rollout, *role, Went::Failed, Some(&fault));
                self.events.extend(event);
                let until_ms = installed.wait_until_ms(ask.tenant, ask.now_ms);
                let until_ms = until_ms.max(ask.now_ms + 1);
                Some(Turn::Held { until_ms, hold: Hold::Plugin(Some(fault)) })
            }
        }
    }

    /// A canary harms no message: the version in use judges the whole batch.
    fn leave_canary(&mut self, ask: &Ask, fault: Fault) -> Turn {
        let chosen = self.chosen.as_mut().expect("a batch that began has its version");
        let Chosen { installed, rollout, role, .. } = &*chosen;
        let event = Worker::record(ask, installed, rollout, *role, Went::Failed, Some(&fault));
        self.events.extend(event);
        self.canary_fault = Some((installed.version(), fault.clone()));
        let without = Rollout { canary: None, ..Rollout::clone(rollout) };
        match without.choose(ask.tenant, &ask.traffic, ask.now_ms) {
            Choice::Use(installed, role) => {
                let before = installed.poisoned_in_a_row(ask.tenant);
                chosen.bisect = Bisect::new(chosen.bisect.count(), before);
                (chosen.installed, chosen.role) = (installed, role);
                Turn::More
            }
            Choice::WaitUntil(until_ms) => Turn::Held { until_ms, hold: Hold::Plugin(Some(fault)) },
            Choice::Nobody => Turn::Absent,
        }
    }
}

/// Asks a predicate about a frame.
fn evaluate(
    instance: &mut Instance,
    binding: &Arc<Binding>,
    frame: &Vec<u8>,
    count: usize,
    now_ms: u64,
    usage: &mut Usage,
) -> Result<Bits, Failed> {
    let predicate = instance.predicate(binding, now_ms, usage)?;
    let messages = count as u32;
    let bitmap = instance.call(messages, now_ms, usage, |store, exports| {
        exports.evaluate(store, predicate, frame, messages)
    })?;
    Bits::read(&bitmap, messages).map_err(|error| malformed("verdicts", &error))
}

fn malformed(what: &str, error: &yard_abi::Malformed) -> Failed {
    let says = format!("the {what} that it returned: {error}");
    Failed::Answering(Fault::new(FaultKind::BadAnswer, &says))
}
