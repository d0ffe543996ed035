//! Queues of groups with something to do that needs the index: what dies and what is passed on.
//!
//! ```text
//!   queues   (group, queue) ─► not before this instant      by_time  the same, soonest first
//!   asked    question ─► (group, queue), from which offset  tickets  the last question of each
//! ```
//!
//! Volatile: what there is to do follows from the progress of groups.
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::{QueueIndex, QueueOffset, Timestamp};

use crate::bounds::ERRAND_RETRY_MS;
use crate::entry::GroupId;
use crate::event::Ticket;

pub(crate) type GroupQueueId = (GroupId, QueueIndex);

/// A question to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) of: GroupQueueId,
    pub(crate) from: QueueOffset,
}

/// The queues of groups with one kind of thing to do.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    /// Not looked at before this instant.
    queues: BTreeMap<GroupQueueId, Timestamp>,
    by_time: BTreeSet<(Timestamp, GroupQueueId)>,
    asked: BTreeMap<Ticket, Asked>,
    /// The last question about each.
    tickets: BTreeMap<GroupQueueId, Ticket>,
}

impl Errands {
    pub(crate) fn put(&mut self, of: GroupQueueId, at: Timestamp) {
        self.remove(of);
        self.queues.insert(of, at);
        self.by_time.insert((at, of));
        assert_eq!(self.queues.len(), self.by_time.len(), "what is to do has an instant");
    }

    pub(crate) fn remove(&mut self, of: GroupQueueId) {
        if let Some(at) = self.queues.remove(&of) {
            self.by_time.remove(&(at, of));
        }
    }

    /// There is nothing to do for a group any more.
    pub(crate) fn forget(&mut self, id: GroupId) {
        let all = (id, QueueIndex(0))..=(id, QueueIndex(u16::MAX));
        let queues: Vec<GroupQueueId> = self.queues.range(all.clone()).map(|(of, _)| *of).collect();
        queues.into_iter().for_each(|of| self.remove(of));
        assert!(self.queues.range(all).next().is_none(), "nothing of it is left");
    }

    /// Every queue is looked at as soon as can be.
    pub(crate) fn hurry(&mut self) {
        let queues: Vec<GroupQueueId> = self.queues.keys().copied().collect();
        queues.into_iter().for_each(|of| self.put(of, Timestamp(0)));
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The next that is due; it is due again a while later, unless somebody says otherwise.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<GroupQueueId> {
        let (_, of) = self.by_time.first().filter(|(at, _)| *at <= now).copied()?;
        self.put(of, now.plus_ms(ERRAND_RETRY_MS));
        Some(of)
    }

    /// Questions that were not answered yet.
    pub(crate) fn asked_count(&self) -> usize {
        self.asked.len()
    }

    /// Notes a question; the answer to one before it is of no interest any more.
    pub(crate) fn ask(&mut self, ticket: Ticket, asked: Asked) {
        if let Some(before) = self.tickets.insert(asked.of, ticket) {
            self.asked.remove(&before);
        }
        self.asked.insert(ticket, asked);
        assert_eq!(self.asked.len(), self.tickets.len(), "of each queue one is asked");
    }

    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<Asked> {
        let asked = self.asked.remove(&ticket)?;
        self.tickets.remove(&asked.of);
        assert_eq!(self.asked.len(), self.tickets.len(), "of each queue one is asked");
        Some(asked)
    }

    /// Those with something to do.
    pub(crate) fn queues(&self) -> impl Iterator<Item = GroupQueueId> {
        self.queues.keys().copied()
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.queues.len(), self.by_time.len(), "what is to do has an instant");
        assert_eq!(self.asked.len(), self.tickets.len(), "of each queue one is asked");
    }
}
