//! Order groups of a queue: which messages of an ordered topic may be delivered now, and to whom.
//!
//! ```text
//!   an order group     leased ≤ leased < ready < ready … barred … ready
//!                      └ all in one member's hands       └ waits, or has stopped the order group
//! ```
//!
//! The next message of an order group is delivered when everything before it is settled or in the
//! hands of the member that gets it. What failed bars those behind it; and what was behind it in
//! somebody's hands is settled or given up before it comes again, so nobody works on two ends of an
//! order group. Volatile like the flight that it belongs to.
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use yard_wire::record::Record;
use yard_wire::{QueueOffset, SubscriptionId};

use crate::retry::mix;

/// The lowest hash of a name.
const FIRST: NonZeroU32 = OrderKey::NONE.0.saturating_add(1);

/// An order group, by a hash of its name: names that share one are one order group, so their
/// messages wait for each other and nothing else comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(NonZeroU32);

impl Default for OrderKey {
    fn default() -> Self {
        Self::NONE
    }
}

impl OrderKey {
    /// Of the messages that name no order group.
    pub const NONE: Self = Self(NonZeroU32::MIN);

    /// Of the record that fills `record`; one that is malformed names no order group.
    #[must_use]
    pub fn peek(record: &[u8]) -> Self {
        let name = Record::peek_order_group(record).ok().flatten();
        name.map_or(Self::NONE, Self::named)
    }

    /// Of messages that name this order group.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) as u32;
        NonZeroU32::new(hash).filter(|hash| *hash > Self::NONE.0).map_or(Self(FIRST), Self)
    }

    /// A number that is spread over all 64 bits: the hash itself has chosen the queue already.
    #[must_use]
    pub fn spread(self) -> u64 {
        mix(self.0.get().into())
    }
}

/// Where a message of an order group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It can be delivered, when its turn comes.
    Ready,
    /// It is not delivered now, and holds up those behind it.
    Barred,
    /// Somebody has it.
    Leased(SubscriptionId),
}

/// The messages of an order group that are under way.
#[derive(Debug, Default)]
struct Line {
    ready: BTreeSet<QueueOffset>,
    barred: BTreeSet<QueueOffset>,
    leased: BTreeSet<QueueOffset>,
    holder: Option<SubscriptionId>,
    /// Its holder has more than its share: it gets no more of it, so that others may.
    drains: bool,
    /// The message under which it is listed as open.
    listed: Option<QueueOffset>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.barred.is_empty() && self.leased.is_empty()
    }

    /// The next message, if it may be delivered.
    fn open(&self) -> Option<QueueOffset> {
        let next = *self.ready.first()?;
        let is_barred = self.barred.first().is_some_and(|barred| *barred < next);
        let is_ahead = self.leased.last().is_some_and(|leased| next < *leased);
        (!is_barred && !is_ahead && !self.drains).then_some(next)
    }

    fn first(&self) -> Option<QueueOffset> {
        let firsts = [self.ready.first(), self.barred.first(), self.leased.first()];
        firsts.into_iter().flatten().min().copied()
    }

    fn remove(&mut self, offset: QueueOffset) {
        let _ = self.ready.remove(&offset) || self.barred.remove(&offset);
        if self.leased.remove(&offset) && self.leased.is_empty() {
            self.holder = None;
            self.drains = false;
        }
    }
}

/// What a member has of the order groups of a queue.
#[derive(Debug, Default)]
struct Share {
    /// Order groups in its hands.
    lines: usize,
    /// Those of them that it gets no more of until they are free.
    draining: usize,
    open: BTreeSet<(QueueOffset, OrderKey)>,
}

/// The order groups of a queue that have something under way.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// The order group of each message that is under way.
    keys: BTreeMap<QueueOffset, OrderKey>,
    /// Messages under way whose order group is not known yet: nothing behind them is delivered.
    unknown: BTreeSet<QueueOffset>,
    /// New messages below this offset are in line: what came back is not delivered before them.
    lined_up: QueueOffset,
    lines: BTreeMap<OrderKey, Line>,
    /// Nobody's, by their next message.
    free: BTreeSet<(QueueOffset, OrderKey)>,
    shares: BTreeMap<SubscriptionId, Share>,
}

impl Orders {
    /// The first message whose order group the index must be asked for.
    pub(crate) fn first_unknown(&self) -> Option<QueueOffset> {
        self.unknown.first().copied()
    }

    /// New messages below this offset are in line.
    pub(crate) fn line_up_to(&mut self, to: QueueOffset) {
        assert!(self.lined_up <= to, "messages are put in line in their order");
        self.lined_up = to;
    }

    /// Only messages below this offset may be delivered.
    fn limit(&self) -> QueueOffset {
        self.unknown.first().map_or(self.lined_up, |unknown| self.lined_up.min(*unknown))
    }

    /// Messages of `from..to` whose order group is not known.
    pub(crate) fn unknown_in(&self, from: QueueOffset, to: QueueOffset) -> Vec<QueueOffset> {
        self.unknown.range(from..to).copied().collect()
    }

    /// Takes in where a message is whose order group is known now.
    pub(crate) fn learn(&mut self, offset: QueueOffset, key: OrderKey, stand: Stand) {
        self.unknown.remove(&offset);
        let before = self.keys.insert(offset, key);
        assert!(before.is_none_or(|before| before == key), "a message stays in its order group");
        self.put(offset, stand);
    }

    /// Takes in where a message is.
    pub(crate) fn put(&mut self, offset: QueueOffset, stand: Stand) {
        let Some(key) = self.keys.get(&offset).copied() else {
            assert!(!matches!(stand, Stand::Leased(_)), "what is delivered is known");
            self.unknown.insert(offset);
            return;
        };
        self.change(key, |line| {
            line.remove(offset);
            match stand {
                Stand::Ready => {
                    line.ready.insert(offset);
                }
                Stand::Barred => {
                    line.barred.insert(offset);
                }
                Stand::Leased(holder) => {
                    let before = line.holder.replace(holder);
                    assert!(before.is_none_or(|it| it == holder), "an order group is one member's");
                    line.leased.insert(offset);
                }
            }
        });
    }

    /// Messages are not under way any more.
    pub(crate) fn forget(&mut self, from: QueueOffset, to: QueueOffset) {
        while let Some((offset, key)) = self.keys.range(from..to).next() {
            let (offset, key) = (*offset, *key);
            self.keys.remove(&offset);
            self.change(key, |line| line.remove(offset));
        }
        while let Some(offset) = self.unknown.range(from..to).next().copied() {
            self.unknown.remove(&offset);
        }
    }

    /// Changes an order group, and what is listed of it.
    fn change(&mut self, key: OrderKey, change: impl FnOnce(&mut Line)) {
        let line = self.lines.entry(key).or_default();
        let before = (line.holder, line.drains, line.listed);
        change(line);
        line.listed = line.open();
        let after = (line.holder, line.drains, line.listed);
        if line.is_empty() {
            self.lines.remove(&key);
        }
        if before == after {
            return;
        }
        let (holder, drains, listed) = before;
        match holder {
            None => {
                if let Some(next) = listed {
                    self.free.remove(&(next, key));
                }
            }
            Some(holder) => {
                let share = self.shares.get_mut(&holder).expect("who holds something has a share");
                share.lines -= 1;
                share.draining -= usize::from(drains);
                if let Some(next) = listed {
                    share.open.remove(&(next, key));
                }
                if share.lines == 0 {
                    self.shares.remove(&holder);
                }
            }
        }
        let (holder, drains, listed) = after;
        match holder {
            None => {
                if let Some(next) = listed {
                    self.free.insert((next, key));
                }
            }
            Some(holder) => {
                let share = self.shares.entry(holder).or_default();
                share.lines += 1;
                share.draining += usize::from(drains);
                if let Some(next) = listed {
                    share.open.insert((next, key));
                }
            }
        }
    }

    /// How many order groups each of so many members should have.
    fn fair(&self, takers: usize) -> usize {
        self.lines.len().div_ceil(takers.max(1))
    }

    /// Whether a member may be given something, where so many want something.
    pub(crate) fn has_for(&self, member: SubscriptionId, takers: usize) -> bool {
        let share = self.shares.get(&member);
        let own = share.and_then(|share| share.open.first());
        let has_room = share.is_none_or(|share| share.lines < self.fair(takers));
        let free = self.free.first().filter(|_| has_room);
        let next = [own, free].into_iter().flatten().min();
        next.is_some_and(|(next, _)| *next < self.limit())
    }

    /// The next message for a member, where so many want something, and its order group.
    pub(crate) fn next_for(
        &mut self,
        member: SubscriptionId,
        takers: usize,
    ) -> Option<(QueueOffset, OrderKey)> {
        let fair = self.fair(takers);
        loop {
            if !self.has_for(member, takers) {
                return None;
            }
            let share = self.shares.get(&member);
            let (lines, draining) = share.map_or((0, 0), |share| (share.lines, share.draining));
            let own = share.and_then(|share| share.open.first()).copied();
            let free = self.free.first().filter(|_| lines < fair).copied();
            let (next, key) = [own, free].into_iter().flatten().min().expect("it has something");
            if Some((next, key)) != own || lines - draining <= fair {
                return Some((next, key));
            }
            self.change(key, |line| line.drains = true);
        }
    }

    /// Whether anybody may be given anything.
    pub(crate) fn is_open(&self) -> bool {
        let limit = self.limit();
        let is_before = |open: &BTreeSet<(QueueOffset, OrderKey)>| {
            open.first().is_some_and(|(next, _)| *next < limit)
        };
        is_before(&self.free) || self.shares.values().any(|share| is_before(&share.open))
    }

    /// Whether an earlier message of the same order group is under way.
    pub(crate) fn is_behind(&self, offset: QueueOffset) -> bool {
        let line = self.keys.get(&offset).and_then(|key| self.lines.get(key));
        line.and_then(Line::first).is_some_and(|first| first < offset)
    }

    /// Checks itself; `stand` says where the flight has a message.
    pub(crate) fn check(&self, count: usize, stand: impl Fn(QueueOffset) -> Option<Stand>) {
        assert_eq!(self.keys.len() + self.unknown.len(), count, "what is under way is in line");
        assert!(self.unknown.iter().all(|offset| stand(*offset).is_some()), "it is under way");
        let mut messages = 0;
        let mut open = 0;
        for (key, line) in &self.lines {
            messages += line.ready.len() + line.barred.len() + line.leased.len();
            assert!(!line.is_empty(), "an order group has something under way");
            assert_eq!(line.holder.is_none(), line.leased.is_empty(), "who holds has a lease");
            assert_eq!(line.listed, line.open(), "what is open is listed");
            let has = |offsets: &BTreeSet<QueueOffset>, wanted: Stand| {
                let is_there = |offset: &QueueOffset| stand(*offset) == Some(wanted);
                offsets.iter().all(is_there)
                    && offsets.iter().all(|offset| self.keys.get(offset) == Some(key))
            };
            assert!(has(&line.ready, Stand::Ready), "what is ready can be delivered");
            assert!(has(&line.barred, Stand::Barred), "what is barred cannot");
            if let Some(holder) = line.holder {
                assert!(has(&line.leased, Stand::Leased(holder)), "an order group is one member's");
            }
            let Some(next) = line.listed else { continue };
            open += 1;
            let listed = match line.holder {
                Some(holder) => self.shares[&holder].open.contains(&(next, *key)),
                None => self.free.contains(&(next, *key)),
            };
            assert!(listed, "what is open is listed");
        }
        assert_eq!(messages, self.keys.len(), "each is in one order group");
        let listed = self.shares.values().map(|share| share.open.len()).sum::<usize>();
        assert_eq!(listed + self.free.len(), open, "what is listed is open");
        for (holder, share) in &self.shares {
            let own = || self.lines.values().filter(|line| line.holder == Some(*holder));
            assert_eq!(share.lines, own().count(), "a share is counted");
            assert_eq!(share.draining, own().filter(|line| line.drains).count());
        }
    }
}
