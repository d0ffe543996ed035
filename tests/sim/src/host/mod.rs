//! The process of the broker: shards, their disks, and the runner between them, inline.
//!
//! ```text
//!   frame ──► dispatch ──► inbox ─┐                       ┌─► network
//!                                 ├─► Shard::step ─► outputs ─► reads of the log
//!   results of I/O ──► results ───┘                       └─► line of the disk ─► results
//! ```
mod begin;
mod decide;
mod dispatch;
mod io;
mod judge;
mod key;
mod lag;
mod life;
mod operator;
mod oracle;
mod outputs;
mod reads;
mod rot;
mod show;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use yard_broker::{Asking, DeliverItem, Origin, Rounds, SessionId};
use yard_checker::CrashKind;
use yard_client::Failures;
use yard_shard::{Input, Shard};
use yard_store::disk::lying::{Fault, LyingDisk};
use yard_store::{Io, LogState, ShardState};
use yard_wire::request::Reply;
use yard_wire::{QueueIndex, Refusal, SubscriptionId, Timestamp, TopicId};

use crate::agenda::{Happening, MS, Micros};
use crate::base::Base;
use crate::random::Random;
use begin::Beginnings;
pub(crate) use judge::{expression, is_wanted};
use oracle::Oracle;

/// Wall time at the beginning of a run, in milliseconds since 1970: 2026-01-01.
pub(crate) const WALL_MS: u64 = 1_767_225_600_000;
/// Once in so many steps the broker checks itself, in any build. Where somebody reads what happens
/// it is after every step.
const CHECK_ONE_IN: u64 = 200;

/// The process, whether it runs or not.
pub(crate) struct Host {
    slots: Vec<Slot>,
    /// How often it was started: what belongs to an earlier life is void.
    life: u32,
    /// An orderly shutdown is under way, and for how long it stays down then.
    closing: Option<Micros>,
    /// The shutdown began with a log that could not record what was given back.
    closing_unrecorded: bool,
    /// A death that comes after some more outputs.
    doom: Option<Doom>,
    /// Changes of the disk that a start may make before it dies.
    recovery: Option<(u64, CrashKind)>,
    /// The power goes before the next sync of a group.
    dies_at_sync: bool,
    /// Milliseconds by which somebody has moved the clock.
    clock_ms: i64,
    /// Of a million seconds, how many more it counts.
    drift_ppm: i64,
    /// A clock that somebody else keeps.
    pace: Option<Pace>,
    /// Times as long as usual that the disk takes, and until when.
    slow: (u64, Micros),
    random: Random,
    steps: u64,
    /// What groups have not settled, by shard and group, as far as it was answered.
    lags: Vec<Option<u64>>,
    /// What groups report as expired, by shard and group.
    expired: BTreeMap<(u64, u64), u64>,
    /// What is known of groups that begin.
    beginnings: Beginnings,
}

/// A death that was planned.
#[derive(Clone, Debug)]
pub(crate) struct Doom {
    pub(crate) kind: CrashKind,
    pub(crate) outputs: u64,
    pub(crate) recovery: Option<u64>,
    pub(crate) down: Micros,
}

impl Doom {
    /// It comes because a log was fenced, not after some outputs.
    fn is_of_fenced(&self) -> bool {
        self.outputs > u64::MAX / 2
    }
}

/// A clock that is slower than time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Micros,
    /// What it said then.
    wall: Timestamp,
    slower: u64,
}

/// One shard with its disk.
struct Slot {
    disk: LyingDisk,
    shard: Option<Shard>,
    /// Results of I/O and what else is no request: taken in whatever the budget.
    results: Vec<Input>,
    /// Requests, with their bytes.
    inbox: VecDeque<(Input, usize)>,
    step_is_due: bool,
    /// Writes and syncs, in order.
    line: VecDeque<Io>,
    /// I/O that may take its time.
    others: BTreeMap<u64, Io>,
    others_begun: u64,
    wake_at: Option<Timestamp>,
    wishes: u64,
    oracle: Oracle,
    /// Which queues of subscriptions were held, and how often.
    rounds: Rounds,
    /// Order groups of which a message could not be read.
    unread: BTreeMap<SubscriptionId, Failures>,
    /// Messages that were held from a group of several members, and since when: by group, producer
    /// and number, because it may get them in another topic.
    held_since: BTreeMap<(u64, u64, u64), Micros>,
    /// When it hears of what was held last: it hears in the order in which that was held.
    held_told_at: Micros,
    /// Sessions that have joined each group and were not closed here since: of one consumer there
    /// are two until the broker has found out about the first.
    members: BTreeSet<(String, SessionId)>,
    /// One in so many reads fails, until then.
    unreadable: (u64, Micros),
    /// Its disk was full in this life: ends of leases may not be recorded.
    was_full: bool,
    /// Bits of what is derived from the log have flipped.
    has_rotted: bool,
    /// State of the checkpoint before, for a planted bug.
    checkpoint_before: Option<ShardState>,
    /// What waits for a sync, for a planted bug.
    held: Vec<Held>,
}

/// What a planted bug holds back.
enum Held {
    Answer(Origin, Result<Reply, Refusal>),
    Delivery(Place, Vec<DeliverItem>, Option<Asking>),
}

/// Where a delivery goes: connection, subscription, topic and queue.
type Place = (SessionId, SubscriptionId, TopicId, QueueIndex);

impl Host {
    /// A process that was never started, with empty disks.
    #[must_use]
    pub(crate) fn new(base: &mut Base) -> Self {
        let mut random = base.random.split();
        let slots = (0..base.plan.shards).map(|_| Slot {
            disk: LyingDisk::new(random.word()),
            shard: None,
            results: Vec::new(),
            inbox: VecDeque::new(),
            step_is_due: false,
            line: VecDeque::new(),
            others: BTreeMap::new(),
            others_begun: 0,
            wake_at: None,
            wishes: 0,
            oracle: Oracle::default(),
            rounds: Rounds::default(),
            unread: BTreeMap::new(),
            held_since: BTreeMap::new(),
            held_told_at: 0,
            members: BTreeSet::new(),
            unreadable: (0, 0),
            was_full: false,
            has_rotted: false,
            checkpoint_before: None,
            held: Vec::new(),
        });
        Self {
            slots: slots.collect(),
            life: 0,
            closing: None,
            closing_unrecorded: false,
            doom: None,
            recovery: None,
            dies_at_sync: false,
            clock_ms: 0,
            drift_ppm: base.plan.drift_ppm,
            pace: None,
            slow: (1, 0),
            random,
            steps: 0,
            lags: Vec::new(),
            expired: BTreeMap::new(),
            beginnings: Beginnings::default(),
        }
    }

    /// Does what happens to the broker; gives back what does not.
    pub(crate) fn happen(&mut self, base: &mut Base, happening: Happening) -> Option<Happening> {
        match happening {
            Happening::ToBroker { session, stream, frame } => {
                self.arrive(base, session, stream, *frame);
            }
            Happening::BrokerLost(session) => self.lost(base, session),
            Happening::Step { shard, life } => self.step(base, shard, life),
            Happening::Wake { shard, life, wish } => self.wake(base, shard, life, wish),
            Happening::Perform { shard, life, number } => self.perform(base, shard, life, number),
            Happening::Done { shard, life, done } => self.done(base, shard, life, done),
            Happening::ReadIndex { shard, life, ticket, read } => {
                self.read_index(base, (shard, life), ticket, &read);
            }
            Happening::ReadLabels { shard, life, ticket, reads, plan } => {
                self.read_labels(base, (shard, life), (ticket, reads), *plan);
            }
            Happening::Held { shard, life, held, since } => {
                self.tell_held(base, (shard, life), *held, &since);
            }
            Happening::Start => self.start(base),
            Happening::ShutDown => self.end_shut_down(base),
            Happening::RoomAgain => self.free_disks(),
            Happening::Replace => self.replace_fenced(base),
            others @ (Happening::ToClient { .. }
            | Happening::ClientLost(_)
            | Happening::Timer { .. }
            | Happening::Fault(_)
            | Happening::Review) => return Some(others),
        }
        None
    }

    /// Every shard looks at the clock.
    pub(crate) fn look(&mut self, base: &mut Base) {
        for shard in 0..self.slots.len() {
            self.want_step(base, shard);
        }
    }

    /// How often it was started.
    pub(crate) fn life(&self) -> u32 {
        self.life
    }

    /// From now on the clock is so many times slower than time.
    pub(crate) fn slow_clock(&mut self, now: Micros, slower: u64) {
        self.pace = Some(Pace { since: now, wall: self.wall(now), slower });
    }

    /// Whether a shard wants to be woken now, or in a moment.
    #[must_use]
    pub(crate) fn is_due(&self, now: Micros) -> bool {
        let soon = self.wall(now).plus_ms(1);
        self.slots.iter().any(|slot| slot.wake_at.is_some_and(|at| at <= soon))
    }

    /// Wall time as the process reads it.
    pub(crate) fn wall(&self, now: Micros) -> Timestamp {
        if let Some(Pace { since, wall, slower }) = self.pace {
            return wall.plus_ms((now - since) / MS / slower);
        }
        let drifted = now.saturating_add_signed(now as i64 * self.drift_ppm / 1_000_000);
        Timestamp((WALL_MS + drifted / MS).saturating_add_signed(self.clock_ms))
    }

    /// How many delayed messages wait; `None` while the broker is down.
    pub(crate) fn delayed(&self) -> Option<u64> {
        let count = |slot: &Slot| slot.shard.as_ref().map(|shard| shard.broker().stats().delayed);
        self.slots.iter().map(count).sum()
    }

    /// How many transactions are open, and how many prepared messages wait; `None` while the
    /// broker is down.
    pub(crate) fn transactions(&self) -> Option<u64> {
        let count = |slot: &Slot| {
            let stats = slot.shard.as_ref().map(|shard| shard.broker().stats());
            stats.map(|stats| stats.transactions + stats.prepared)
        };
        self.slots.iter().map(count).sum()
    }

    /// Moves the clock.
    pub(crate) fn move_clock(&mut self, by_ms: i64) {
        self.clock_ms += by_ms;
    }

    /// Makes the disk slow for a while.
    pub(crate) fn slow_down(&mut self, factor: u64, until: Micros) {
        self.slow = (factor, until);
    }

    /// Whether it runs and nothing is under way.
    #[must_use]
    pub(crate) fn is_quiet(&self) -> bool {
        self.slots.iter().all(|slot| slot.shard.is_some() && slot.is_quiet())
    }

    /// The disk of a shard fails at something.
    pub(crate) fn fail_disk(&mut self, shard: usize, what: Fault, count: u32) {
        for _ in 0..count {
            self.slots[shard].disk.fail_next(what);
        }
    }

    /// Disks are as large as they need to be.
    pub(crate) fn free_disks(&mut self) {
        for slot in &self.slots {
            slot.disk.set_capacity(u64::MAX);
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.doom.take_if(|doom| !doom.is_of_fenced());
        self.recovery = None;
        self.dies_at_sync = false;
        self.slow = (1, 0);
        self.slots.iter_mut().for_each(|slot| slot.unreadable = (0, 0));
        self.free_disks();
    }

    /// Looks at the whole state of the brokers that run.
    pub(crate) fn check_brokers(&self) {
        self.slots.iter().filter_map(|slot| slot.shard.as_ref()).for_each(|it| it.broker().check());
    }

    /// A shard takes in what has arrived, and what it wants is done.
    pub(crate) fn step(&mut self, base: &mut Base, shard: usize, life: u32) {
        if life != self.life {
            return;
        }
        let now = self.wall(base.now);
        let closing = self.closing.is_some();
        let slot = &mut self.slots[shard];
        slot.step_is_due = false;
        let Some(running) = &mut slot.shard else { return };
        let mut inputs = std::mem::take(&mut slot.results);
        let mut budget = if closing { 0 } else { running.input_budget() };
        while let Some((_, bytes)) = slot.inbox.front()
            && budget > 0
        {
            budget = budget.saturating_sub(*bytes);
            inputs.extend(slot.inbox.pop_front().map(|(input, _)| input));
        }
        let mut outputs = Vec::new();
        self.beginnings.look(base, shard, running.store(), &inputs);
        running.step(now, inputs, &mut outputs);
        slot.was_full |= running.store().state() == LogState::Full;
        self.steps += 1;
        if base.trace.is_read() || self.steps.is_multiple_of(CHECK_ONE_IN) {
            running.broker().check();
        }
        self.do_outputs(base, shard, outputs);
        self.after_step(base, shard, life);
    }

    fn after_step(&mut self, base: &mut Base, shard: usize, life: u32) {
        if life != self.life {
            return;
        }
        let closing = self.closing.is_some();
        let slot = &mut self.slots[shard];
        let Some(running) = &slot.shard else { return };
        let fenced = running.is_fenced();
        if !closing && !slot.inbox.is_empty() && running.input_budget() > 0 {
            self.want_step(base, shard);
        }
        if fenced && self.doom.as_ref().is_none_or(|doom| !doom.is_of_fenced()) {
            // Whoever watches the process starts it anew.
            let down = self.random.range(10 * MS, 300 * MS);
            let kind = CrashKind::Process;
            self.doom = Some(Doom { kind, outputs: u64::MAX, recovery: None, down });
            base.after(down, Happening::Replace);
        }
        if closing && self.slots.iter().all(Slot::is_quiet) {
            self.end_orderly(base);
        }
    }

    fn want_step(&mut self, base: &mut Base, shard: usize) {
        let delay = self.random.range(1, 30);
        let slot = &mut self.slots[shard];
        if slot.shard.is_some() && !slot.step_is_due {
            slot.step_is_due = true;
            base.after(delay, Happening::Step { shard, life: self.life });
        }
    }

    /// A result or the like for a shard.
    fn give(&mut self, base: &mut Base, shard: usize, input: Input) {
        self.slots[shard].results.push(input);
        self.want_step(base, shard);
    }

    /// A shard had asked to be woken.
    pub(crate) fn wake(&mut self, base: &mut Base, shard: usize, life: u32, wish: u64) {
        if life != self.life || self.slots[shard].wishes != wish {
            return;
        }
        let now = self.wall(base.now);
        let slot = &mut self.slots[shard];
        match slot.wake_at {
            // Somebody has set the clock back meanwhile.
            Some(at) if at > now => self.want_wake(base, shard, at),
            Some(_) | None => {
                slot.wake_at = None;
                self.want_step(base, shard);
            }
        }
    }

    fn want_wake(&mut self, base: &mut Base, shard: usize, at: Timestamp) {
        let wait_ms = at.0.saturating_sub(self.wall(base.now).0);
        let slot = &mut self.slots[shard];
        slot.wake_at = Some(at);
        slot.wishes += 1;
        let wish = slot.wishes;
        let due = (base.now / MS + wait_ms) * MS;
        let due = due.max(base.now + 1);
        base.agenda.enter(due, Happening::Wake { shard, life: self.life, wish });
    }
}

impl Slot {
    fn is_quiet(&self) -> bool {
        self.results.is_empty() && self.shard.as_ref().is_none_or(Shard::is_quiet)
    }

    fn is_syncing(&self) -> bool {
        self.line.iter().any(|io| matches!(io, Io::SyncGroup { .. }))
    }
}
