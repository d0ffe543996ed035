//! One partition of the broker as a value: decisions (`yard_broker`) and log (`yard_store`)
//! together, without I/O, clock, threads or async.
//!
//! ```text
//!   inputs ──► step(now) ──► outputs
//!                │
//!                ├─ Broker::handle ──► Effect::Append ──► Store::append ──► Broker::apply
//!                └─ Store::done    ──► committed tails ──► Broker::handle(Committed)
//! ```
//!
//! Invariants:
//! - Equal inputs at equal times give equal outputs.
//! - An answer that promises a place leaves after the log reached it, never before.
//! - After a failed write or sync nothing is acknowledged any more.
//! - The durable state of the broker is what `apply` made of the entries of the log.
//!
//! Start reading at [`Shard::step`], then [`waiting`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod effect;
mod find;
mod input;
mod labels;
mod mark;
mod open;
mod operate;
mod output;
mod retention;
#[cfg(test)]
mod tests;
mod waiting;

pub use effect::sought;
pub use find::{FIND_READ_BYTES_MAX, FindPlan, SeekPlan};
pub use input::Input;
pub use mark::marks;
pub use open::{OpenError, OpenedShard, ShardConfig};
pub use output::{FetchPlan, Output};
pub use retention::{REMOVE_AFTER_MS, RETENTION_MS};

use yard_broker::{Broker, Effect, Event, QueueTail};
use yard_store::config::GATHER_BYTES_MAX;
use yard_store::{Carried, IoDone, LogState, ShardState, Store};
use yard_wire::{GroupNumber, ShardId, Timestamp};

use waiting::Waiting;

/// After this long without anything to write, an empty group is written, so that the group
/// before it is known to be durable. In milliseconds.
pub const IDLE_GROUP_MS: u64 = 10;
/// How often a full disk is tried again, in milliseconds.
pub const SPACE_RETRY_MS: u64 = 500;

/// One shard.
pub struct Shard {
    shard: ShardId,
    broker: Broker,
    store: Store,
    waiting: Waiting,
    now: Timestamp,
    /// The group that the last entry went to.
    appended: Option<GroupNumber>,
    /// The last group that was written.
    written: Option<GroupNumber>,
    /// When the broker wants a tick.
    broker_wakes_at: Option<Timestamp>,
    /// When an empty group is due.
    idle_group_at: Option<Timestamp>,
    retention: retention::Clock,
    /// The hour of the day, UTC, in which messages go; none: any.
    retention_hour: Option<u8>,
    /// When the disk is tried again for space.
    space_retry_at: Option<Timestamp>,
    /// The last instant that was asked for, so that it is asked for once.
    announced_wake: Option<Timestamp>,
    /// Empty between two events; kept for their memory.
    effects: Vec<Effect>,
    events: Vec<Event>,
}

impl Shard {
    /// Which shard this is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.shard
    }

    /// The latest time that the shard has seen; its wake-up calls are in this time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The broker's state, for looking at it.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The log's bookkeeping, for looking at it.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Bytes of requests that the next step should bring at most. 0: bring none, only results of
    /// I/O and what else is not a request.
    #[must_use]
    pub fn input_budget(&self) -> usize {
        match self.store.state() {
            LogState::Open => self.store.input_budget(),
            // Requests must come in to be refused, and what has reserved space to be done.
            LogState::Fenced | LogState::Full => GATHER_BYTES_MAX,
        }
    }

    /// Takes in what happened, in order, and lists what must be done, in order.
    ///
    /// `now` is wall time that goes on without jumps; where it goes backwards all the same, the
    /// latest time seen is used instead, and everything timed stands still.
    pub fn step(
        &mut self,
        now: Timestamp,
        inputs: impl IntoIterator<Item = Input>,
        outputs: &mut Vec<Output>,
    ) {
        self.hear(now, inputs, outputs);
        self.run_timers(outputs);
        self.run_retention(outputs);
        self.close_group(outputs);
        self.announce_wake(outputs);
    }

    /// Takes in what is not a request, and lists what follows at once: answers above all, which
    /// then need not wait until the next requests were worked on. The caller goes on with
    /// [`Shard::step`], which closes the next group.
    pub fn hear(
        &mut self,
        now: Timestamp,
        inputs: impl IntoIterator<Item = Input>,
        outputs: &mut Vec<Output>,
    ) {
        if now < self.now {
            yard_wire::mark!(ClockBack);
        }
        self.now = self.now.max(now);
        for input in inputs {
            self.take(input, outputs);
        }
    }

    /// Somebody waits for a group to be written, and not for its sync.
    #[must_use]
    pub fn awaits_write(&self) -> bool {
        self.waiting.awaits_write()
    }

    fn take(&mut self, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Event(event) => {
                if !self.answer_here(&event, outputs) {
                    self.handle(event, outputs);
                }
            }
            Input::Io(done) => self.io_done(done, outputs),
            Input::Index { ticket, places } => {
                let labels = Vec::new();
                self.handle(Event::Located { ticket, places, labels }, outputs);
            }
            Input::Labels { ticket, places, labels } => {
                self.handle(Event::Located { ticket, places, labels }, outputs);
            }
        }
    }

    fn io_done(&mut self, done: IoDone, outputs: &mut Vec<Output>) {
        let mut ios = Vec::new();
        let mut report = self.store.done(done, &mut ios);
        outputs.extend(ios.into_iter().map(Output::Io));
        if report.fenced {
            self.waiting.fence(outputs);
            return;
        }
        self.tell_retired(&mut report, outputs);
        // Delivery comes after the answers: a producer hears of its message before a consumer.
        if let Some(group) = report.written {
            self.written = Some(group);
            self.waiting.written(group, outputs);
        }
        if let Some(group) = report.synced {
            self.waiting.synced(group, outputs);
            self.idle_group_at = None;
        }
        if !report.committed.is_empty() {
            let tails = report
                .committed
                .into_iter()
                .map(|(topic, queue, end)| QueueTail { topic, queue, end })
                .collect();
            self.handle(Event::Committed(tails), outputs);
        }
    }

    fn run_timers(&mut self, outputs: &mut Vec<Output>) {
        let due = |at: Option<Timestamp>, now: Timestamp| at.is_some_and(|at| at <= now);
        // What is due waits while enough is gathered: it appends as well.
        let has_room = self.store.gathered_bytes() < GATHER_BYTES_MAX;
        if due(self.broker_wakes_at, self.now) && has_room {
            self.broker_wakes_at = None;
            self.handle(Event::Tick, outputs);
        }
        if self.store.wants_retry() {
            let at = *self.space_retry_at.get_or_insert(self.now.plus_ms(SPACE_RETRY_MS));
            if at <= self.now {
                yard_wire::mark!(DiskTriedAgain);
                self.space_retry_at = None;
                let mut ios = Vec::new();
                self.store.retry(&mut ios);
                outputs.extend(ios.into_iter().map(Output::Io));
            }
        } else {
            self.space_retry_at = None;
        }
    }

    fn close_group(&mut self, outputs: &mut Vec<Output>) {
        let idle_is_due = self.idle_group_at.is_some_and(|at| at <= self.now);
        let mut ios = Vec::new();
        if self.store.close_group(self.now, idle_is_due, &mut ios).is_some() {
            self.idle_group_at = None;
            let parked = self.store.take_parked();
            if !parked.is_empty() {
                self.handle(Event::Parked(parked), outputs);
            }
            for Carried { token, target } in self.store.take_carried() {
                self.broker.apply_carried(token.0, target);
            }
        } else if self.wants_idle_group() && self.idle_group_at.is_none() {
            self.idle_group_at = Some(self.now.plus_ms(IDLE_GROUP_MS));
        }
        if self.store.wants_state() {
            yard_wire::mark!(StatePut);
            let state = self.state();
            self.store.put_state(state);
            self.tell_what_stays();
            self.store.close_group(self.now, false, &mut ios);
        }
        if self.store.checkpoint_due() {
            assert_eq!(self.store.gathered_bytes(), 0, "a snapshot is taken between groups");
            let state = self.state();
            self.store.checkpoint(state, &mut ios);
        }
        outputs.extend(ios.into_iter().map(Output::Io));
    }

    fn state(&self) -> ShardState {
        let snapshot = self.broker.snapshot();
        ShardState::new(move |out| snapshot.put(out))
    }

    fn announce_wake(&mut self, outputs: &mut Vec<Output>) {
        let wakes = [self.broker_wakes_at, self.idle_group_at, self.space_retry_at];
        let wakes = wakes.into_iter().chain(self.retention.wakes());
        // What is due and could not be done yet is tried again soon, not at once.
        let soon = self.now.plus_ms(1);
        let wake = wakes.flatten().min().map(|at| at.max(soon));
        if wake != self.announced_wake {
            self.announced_wake = wake;
            outputs.extend(wake.map(Output::WakeAt));
        }
    }

    /// Nothing is under way, and the last group is not proven durable by one after it.
    fn wants_idle_group(&self) -> bool {
        self.store.state() == LogState::Open
            && !self.store.is_busy()
            && self.store.gathered_bytes() == 0
            && !self.store.tail_is_proven()
    }

    /// Whether a write or sync failed: nothing is acknowledged until the shard was opened again.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.store.state() == LogState::Fenced
    }

    /// Whether everything that was taken in is durable, proven so, and answered: the process can
    /// end without leaving work to the next start.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
            && self.store.gathered_bytes() == 0
            && !self.store.is_busy()
            && self.store.tail_is_proven()
    }
}
