//! Who runs a shard, turn by turn: what it gets, what becomes of what it puts out.
//!
//! ```text
//!   inbox ──► Writer::turn ──► Outputs   replies, deliveries
//!     ▲            └─────────► Hands ──► disk ─┐
//!     └──────────── results ◄──────────────────┘
//! ```
//!
//! A thread of its own runs it (`threads`), or a task where everything is one thread (`tasks`).
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use yard_shard::{Input, Output, Shard};
use yard_store::{Io, IoDone};
use yard_wire::Timestamp;

use crate::inbox::{Inbox, Taken};
use crate::time::Clock;

/// What a writer does with outputs that are not I/O.
pub(crate) trait Outputs: Send + 'static {
    /// Does one thing; never blocks.
    fn put(&mut self, output: Output);

    /// Sees a group that is about to be written at `offset` of a segment: readers take it from
    /// memory. Never blocks for long.
    fn group(&mut self, segment: u32, offset: u32, bytes: &Bytes);
}

/// Who does for a writer what takes a disk.
pub(crate) trait Hands: Send + 'static {
    /// Begins it. What was done at once is among the `results`; the inbox gets the others.
    /// `tell_write`: somebody waits for the write of this group, and not for its sync.
    fn begin(&mut self, io: Io, tell_write: bool, results: &mut Vec<IoDone>);

    /// Somebody else has the group that is on its way to the disk.
    fn is_handed_over(&self) -> bool;
}

/// What a writer wants to be given next.
pub(crate) struct Wants {
    /// Bytes of requests, at most.
    pub budget_bytes: usize,
    /// See [`Inbox::take`].
    pub is_patient: bool,
    /// It wants a turn then, also with nothing.
    pub wake_at: Option<Instant>,
}

/// A shard and what it is connected to.
pub(crate) struct Writer<O, H> {
    shard: Shard,
    clock: Clock,
    inbox: Arc<Inbox>,
    outputs: O,
    hands: H,
    /// What came of I/O that was done at once, for the next turn.
    results: Vec<IoDone>,
    wake_at: Option<Timestamp>,
    spare: Vec<Output>,
    /// The longest that the shard has taken for its inputs, told at the end.
    longest: Duration,
}

impl<O: Outputs, H: Hands> Writer<O, H> {
    pub(crate) fn new(shard: Shard, clock: Clock, inbox: Arc<Inbox>, outputs: O, hands: H) -> Self {
        let (results, spare) = (Vec::new(), Vec::new());
        let (wake_at, longest) = (None, Duration::ZERO);
        Self { shard, clock, inbox, outputs, hands, results, wake_at, spare, longest }
    }

    /// Where it hears from.
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Does what the shard wants done to begin with.
    pub(crate) fn begin(&mut self, mut first: Vec<Output>) {
        self.put(&mut first);
    }

    /// What to take out of the inbox for the next turn; `None`: it has results to go on with.
    pub(crate) fn wants(&self) -> Option<Wants> {
        self.results.is_empty().then(|| Wants {
            budget_bytes: self.shard.input_budget(),
            is_patient: self.hands.is_handed_over() && self.shard.store().is_busy(),
            wake_at: self.wake_at.map(|at| self.clock.instant(at)),
        })
    }

    /// A turn with what was taken as it [wants](Writer::wants). True at the end: the inbox is
    /// closed, and what was taken in is durable, or never will be.
    pub(crate) fn turn(&mut self, taken: Option<Taken>) -> bool {
        let is_last = taken.as_ref().is_some_and(|taken| taken.closing);
        match taken {
            Some(Taken { first, requests, .. }) => {
                if !first.is_empty() {
                    self.hear(first);
                }
                self.step(requests);
            }
            None => {
                let heard = self.results.drain(..).map(Input::Io).collect();
                self.step(heard);
            }
        }
        if is_last && self.shard.is_quiet() && self.results.is_empty() {
            let longest_step_us = self.longest.as_micros() as u64;
            tracing::info!(shard = self.shard.id().0, longest_step_us, "shard closed");
            return true;
        }
        if self.shard.is_fenced() && self.inbox.is_closing() {
            self.give_up();
            return true;
        }
        false
    }

    /// It ends though not everything is durable.
    pub(crate) fn give_up(&self) {
        tracing::warn!(shard = self.shard.id().0, "closed with writes under way");
    }

    fn step(&mut self, inputs: Vec<Input>) {
        let now = self.clock.now();
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
        }
        let mut outputs = std::mem::take(&mut self.spare);
        let began = Instant::now();
        self.shard.step(now, inputs, &mut outputs);
        self.longest = self.longest.max(began.elapsed());
        self.put(&mut outputs);
        self.spare = outputs;
    }

    /// Results first, and what they allow at once: the answers to requests before it turns to the
    /// next ones.
    fn hear(&mut self, first: Vec<Input>) {
        let mut outputs = std::mem::take(&mut self.spare);
        let began = Instant::now();
        self.shard.hear(self.clock.now(), first, &mut outputs);
        self.longest = self.longest.max(began.elapsed());
        self.put(&mut outputs);
        self.spare = outputs;
    }

    fn put(&mut self, outputs: &mut Vec<Output>) {
        for output in outputs.drain(..) {
            match output {
                Output::Io(io) => self.start_io(io),
                Output::WakeAt(at) => self.wake_at = Some(at),
                other => self.outputs.put(other),
            }
        }
    }

    fn start_io(&mut self, io: Io) {
        let mut tell_write = false;
        if let Io::WriteGroup { segment, offset, ref bytes, .. } = io {
            self.outputs.group(segment, offset, bytes);
            tell_write = self.shard.awaits_write();
        }
        self.hands.begin(io, tell_write, &mut self.results);
    }
}
