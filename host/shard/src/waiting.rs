//! Answers that wait for the log: each for a group to be written or synced.
use std::collections::VecDeque;

use yard_broker::{MetaChange, Notice, Origin};
use yard_wire::request::Reply;
use yard_wire::requests::AckPlace;
use yard_wire::{Code, GroupNumber, Refusal, ShardId};

use crate::output::Output;

/// What to do when a group has come far enough.
#[derive(Debug)]
pub(crate) enum Waiter {
    Reply { origin: Origin, result: Result<Reply, Refusal> },
    Broadcast(MetaChange),
    Notify { to: ShardId, notice: Notice },
}

impl Waiter {
    /// What it waited for.
    pub(crate) fn output(self) -> Output {
        match self {
            Self::Reply { origin, result } => Output::Reply { origin, result },
            Self::Broadcast(change) => Output::Broadcast(change),
            Self::Notify { to, notice } => Output::Notify { to, notice },
        }
    }
}

/// Two lines of waiters, each in the order of the groups. Bounded by the bytes that the groups
/// themselves may gather: every waiter belongs to an entry or a request that was let in.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    written: VecDeque<(GroupNumber, Waiter)>,
    synced: VecDeque<(GroupNumber, Waiter)>,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.synced.is_empty()
    }

    /// Somebody waits for a group to be written only.
    pub(crate) fn awaits_write(&self) -> bool {
        !self.written.is_empty()
    }

    /// Lets `waiter` wait until `group` is in `place`, which is not memory.
    pub(crate) fn push(&mut self, group: GroupNumber, place: AckPlace, waiter: Waiter) {
        let line = match place {
            AckPlace::Memory => unreachable!("memory is reached at once"),
            AckPlace::Written => &mut self.written,
            AckPlace::Synced => &mut self.synced,
        };
        assert!(line.back().is_none_or(|(last, _)| *last <= group), "groups are numbered upwards");
        line.push_back((group, waiter));
    }

    pub(crate) fn written(&mut self, group: GroupNumber, outputs: &mut Vec<Output>) {
        release(&mut self.written, group, outputs);
    }

    pub(crate) fn synced(&mut self, group: GroupNumber, outputs: &mut Vec<Output>) {
        // What is synced was written.
        release(&mut self.written, group, outputs);
        release(&mut self.synced, group, outputs);
    }

    /// The log is fenced: nothing that waits will come true.
    pub(crate) fn fence(&mut self, outputs: &mut Vec<Output>) {
        for (_, waiter) in self.written.drain(..).chain(self.synced.drain(..)) {
            yard_wire::mark!(WaiterFenced);
            refuse(waiter, outputs);
        }
        assert!(self.is_empty(), "nobody waits for a fenced log");
    }

    /// The same for one that has not begun to wait.
    pub(crate) fn refuse(&self, waiter: Waiter, outputs: &mut Vec<Output>) {
        assert!(self.is_empty(), "nobody waits for a fenced log");
        refuse(waiter, outputs);
    }
}

fn refuse(waiter: Waiter, outputs: &mut Vec<Output>) {
    match waiter {
        Waiter::Reply { origin, .. } => {
            let result = Err(Refusal::from(Code::LogFenced));
            outputs.push(Output::Reply { origin, result });
        }
        Waiter::Broadcast(_) | Waiter::Notify { .. } => {}
    }
}

fn release(
    line: &mut VecDeque<(GroupNumber, Waiter)>,
    group: GroupNumber,
    outputs: &mut Vec<Output>,
) {
    while line.front().is_some_and(|(first, _)| *first <= group) {
        let (first, waiter) = line.pop_front().expect("looked at just now");
        assert!(first <= group, "nobody is answered early");
        outputs.push(waiter.output());
    }
}
