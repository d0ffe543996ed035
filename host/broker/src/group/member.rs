//! The subscriptions of a group and whose turn it is.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use yard_wire::limits::{CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX};
use yard_wire::requests::Expression;
use yard_wire::{QueueIndex, SubscriptionId};

use crate::event::SessionId;
use crate::group::owners::Owners;
use crate::judged::About;

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) session: SessionId,
    /// Name of the consumer, for people.
    pub(crate) name: String,
    pub(crate) lease_ms: u32,
    /// Credit: messages.
    pub(crate) messages: u32,
    /// Credit: bytes of records.
    pub(crate) bytes: u32,
    /// Credit that came back for messages that were not wanted, and waits for more.
    pub(crate) withheld: (u32, u32),
    /// Credit, as messages and bytes, that is worth a delivery.
    pub(crate) piece: (u32, u32),
    /// Messages that it holds a lease of.
    pub(crate) leased: u32,
    /// How often messages of a queue were held back from it.
    pub(crate) rounds: BTreeMap<QueueIndex, u32>,
}

impl Member {
    pub(crate) fn has_credit(&self) -> bool {
        self.messages > 0 && self.bytes > 0
    }

    pub(crate) fn add_credit(&mut self, messages: u32, bytes: u32) {
        self.messages = self.messages.saturating_add(messages).min(CREDIT_MESSAGES_MAX);
        self.bytes = self.bytes.saturating_add(bytes).min(CREDIT_BYTES_MAX);
    }

    /// Whether what it would have with what is withheld is worth a delivery.
    fn is_worth_it(&self) -> bool {
        let ((messages, bytes), (enough, enough_bytes)) = (self.withheld, self.piece);
        self.messages.saturating_add(messages) >= enough
            && self.bytes.saturating_add(bytes) >= enough_bytes
    }

    pub(crate) fn spend(&mut self, messages: u32, bytes: u64) {
        assert!(messages <= self.messages, "what is delivered had credit");
        self.messages -= messages;
        self.bytes -= u64::from(self.bytes).min(bytes) as u32;
        self.leased += messages;
    }
}

/// The members of a group that has any, and what is left to look at for them.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) members: BTreeMap<SubscriptionId, Member>,
    /// Which messages they want; none: all.
    pub(crate) filter: Option<Arc<Expression>>,
    /// Where members have queues of their own: whose each is.
    pub(crate) owners: Option<Box<Owners>>,
    /// What deliveries were of when plugins were asked last, so that no name is copied for each.
    pub(crate) about: Option<Arc<About>>,
    /// Members with credit, in the order of their turns; each once.
    turns: VecDeque<SubscriptionId>,
    /// Queues that may have something to deliver or to ask the index for.
    available: BTreeMap<QueueIndex, Option<Front>>,
    /// The same in the order in which they are looked at: those first of which it is not known.
    by_front: BTreeSet<(Option<Front>, QueueIndex)>,
}

/// Where the log has what a queue delivers next: segment, and offset in it.
pub(crate) type Front = (u32, u32);

impl Live {
    pub(crate) fn join(&mut self, id: SubscriptionId, member: Member) {
        let credit = member.has_credit();
        let old = self.members.insert(id, member);
        assert!(old.is_none(), "the number of a subscription is new");
        if credit {
            self.turns.push_back(id);
        }
    }

    pub(crate) fn leave(&mut self, id: SubscriptionId) -> Member {
        self.turns.retain(|turn| *turn != id);
        self.members.remove(&id).expect("a member leaves once")
    }

    pub(crate) fn add_credit(&mut self, id: SubscriptionId, messages: u32, bytes: u32) {
        let member = self.members.get_mut(&id).expect("the caller looked it up");
        let had = member.has_credit();
        member.add_credit(messages, bytes);
        if !had && member.has_credit() {
            self.turns.push_back(id);
        }
    }

    /// Credit comes back for messages that were not wanted. Whether it is the first that waits for
    /// more.
    pub(crate) fn take_back(&mut self, id: SubscriptionId, messages: u32, bytes: u32) -> bool {
        let member = self.members.get_mut(&id).expect("the caller looked it up");
        let is_first = member.withheld == (0, 0);
        let (all, sum) = &mut member.withheld;
        (*all, *sum) = (all.saturating_add(messages), sum.saturating_add(bytes));
        if member.is_worth_it() {
            self.give_withheld(id);
            return false;
        }
        is_first
    }

    /// Credit that waited for more counts, if there is any and the member is there.
    pub(crate) fn give_withheld(&mut self, id: SubscriptionId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let (messages, bytes) = std::mem::take(&mut member.withheld);
        self.add_credit(id, messages, bytes);
    }

    /// So many of its leases ended.
    pub(crate) fn leases_ended(&mut self, id: SubscriptionId, count: u32) {
        let member = self.members.get_mut(&id).expect("a lease is a member's");
        assert!(member.leased >= count, "a lease that ends was counted");
        member.leased -= count;
    }

    /// Messages of a queue are held back from a member once more.
    pub(crate) fn next_round(&mut self, id: SubscriptionId, queue: QueueIndex) {
        let member = self.members.get_mut(&id).expect("the caller looked it up");
        *member.rounds.entry(queue).or_default() += 1;
    }

    /// How often messages of a queue were held back from a member.
    pub(crate) fn round(&self, id: SubscriptionId, queue: QueueIndex) -> u32 {
        self.members.get(&id).and_then(|member| member.rounds.get(&queue)).copied().unwrap_or(0)
    }

    /// How many members have credit.
    pub(crate) fn takers(&self) -> usize {
        self.turns.len()
    }

    /// The next member in turns of which `may` is true: the first, in most topics.
    pub(crate) fn next_turn(&self, may: impl Fn(SubscriptionId) -> bool) -> Option<SubscriptionId> {
        self.turns.iter().copied().find(|id| may(*id))
    }

    /// A member that has a turn got something.
    pub(crate) fn end_turn(&mut self, id: SubscriptionId) {
        let at = self.turns.iter().position(|turn| *turn == id).expect("it had a turn");
        self.turns.remove(at);
        if self.members[&id].has_credit() {
            self.turns.push_back(id);
        }
    }

    /// Shares these queues out anew, where members have queues of their own.
    pub(crate) fn share_queues(&mut self, queues: impl FnOnce() -> Vec<QueueIndex>, turn: usize) {
        let Some(owners) = &mut self.owners else { return };
        let queues = queues();
        let mut members: Vec<(&str, SubscriptionId)> =
            self.members.iter().map(|(id, member)| (&*member.name, *id)).collect();
        members.sort_unstable();
        let members: Vec<SubscriptionId> = members.into_iter().map(|(_, id)| id).collect();
        owners.share(&members, &queues, turn);
        queues.into_iter().for_each(|queue| self.make_available(queue));
    }

    /// Whether what becomes of a message there may let a queue go to another member.
    pub(crate) fn is_moving(&self, queue: QueueIndex) -> bool {
        self.owners.as_ref().is_some_and(|owners| owners.is_moving(queue))
    }

    /// There may be something in a queue, or something else than before.
    pub(crate) fn make_available(&mut self, queue: QueueIndex) {
        self.put_front(queue, None);
    }

    fn put_front(&mut self, queue: QueueIndex, front: Option<Front>) {
        if let Some(old) = self.available.insert(queue, front) {
            let was = self.by_front.remove(&(old, queue));
            assert!(was, "what is available has a place in the order");
        }
        self.by_front.insert((front, queue));
    }

    pub(crate) fn exhausted(&mut self, queue: QueueIndex) {
        let front = self.available.remove(&queue);
        let front = front.expect("a queue was available before it was exhausted");
        let was = self.by_front.remove(&(front, queue));
        assert!(was, "what is available has a place in the order");
    }

    /// The queue whose next message is the oldest of the log, or one that has none whose place is
    /// known. So what lies together is read together: queues that went through the log each at
    /// its own pace would read all of it once each.
    pub(crate) fn next_queue(
        &mut self,
        front: impl Fn(QueueIndex) -> Option<Front>,
    ) -> Option<QueueIndex> {
        loop {
            let (known, queue) = *self.by_front.first()?;
            let found = if known.is_some() { known } else { front(queue) };
            if found == known {
                return Some(queue);
            }
            self.put_front(queue, found);
        }
    }

    pub(crate) fn check(&self) {
        for (id, member) in &self.members {
            let turns = self.turns.iter().filter(|turn| *turn == id).count();
            assert_eq!(turns, usize::from(member.has_credit()), "who has credit has a turn");
            assert!(member.messages <= CREDIT_MESSAGES_MAX, "credit is bounded");
            assert!(member.bytes <= CREDIT_BYTES_MAX, "credit is bounded");
            assert!(member.piece.0 > 0 && member.piece.1 > 0, "a piece is worth a delivery");
        }
        assert!(self.turns.len() <= self.members.len(), "turns are the members'");
        assert_eq!(self.by_front.len(), self.available.len(), "each queue has one place");
        if let Some(owners) = &self.owners {
            owners.check(|id| self.members.contains_key(&id));
        }
    }
}
