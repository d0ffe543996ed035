//! Messages that a consumer works on for longer than their leases last: these it extends, by the
//! client's own rule, and writes down until when it was told that it holds them.
use std::collections::BTreeMap;

use yard_broker::SessionId;
use yard_checker::{Event, Hold};
use yard_client::Keeping;
use yard_wire::requests::{Extend, Extended, HeldRange};
use yard_wire::{Correlation, QueueIndex, QueueOffset, ShardId, SubscriptionId, TopicId};

use crate::agenda::{MS, Micros};
use crate::base::{Base, queue_name};
use crate::host::WALL_MS;
use crate::random::Random;

/// Whose messages they are.
type To = (ShardId, SubscriptionId);

/// A request to extend leases, without an answer.
pub(super) struct Extending {
    pub(super) to: To,
    at: Micros,
    ranges: Vec<HeldRange>,
}

/// Something that a consumer was told, and on which connection.
struct Told {
    session: SessionId,
    subscription: SubscriptionId,
    hold: Hold,
}

/// What a consumer keeps.
pub(super) struct Keeper {
    random: Random,
    keeping: BTreeMap<To, Keeping>,
    asked: BTreeMap<Correlation, Extending>,
    told: Vec<Told>,
}

impl Keeper {
    /// Its numbers are drawn from nobody else's.
    pub(super) fn new(seed: u64, client: usize) -> Self {
        let random = Random::new(seed ^ 0x4b45_4550_4552_2e2e ^ (client as u64) << 32);
        Self { random, keeping: BTreeMap::new(), asked: BTreeMap::new(), told: Vec::new() }
    }

    /// For how long a message is worked on, if it is one of those that are kept.
    pub(super) fn keep(
        &mut self,
        base: &Base,
        (percent, lease_ms): (u64, u32),
        to: To,
        place: (QueueIndex, QueueOffset, u32),
    ) -> Option<Micros> {
        if percent == 0 || !self.random.percent(percent) {
            return None;
        }
        let lease = u64::from(lease_ms);
        self.keeping.entry(to).or_default().keep(place, base.now / MS, lease);
        Some(self.random.range(lease / 2, lease * 5 / 2) * MS)
    }

    /// A message is worked on no more.
    pub(super) fn release(&mut self, to: To, place: (QueueIndex, QueueOffset, u32)) {
        if let Some(keeping) = self.keeping.get_mut(&to) {
            keeping.release(place);
        }
    }

    /// When leases are to be extended next.
    pub(super) fn due(&self) -> Option<Micros> {
        self.keeping.values().filter_map(Keeping::due_ms).min().map(|due_ms| due_ms * MS)
    }

    /// What is to be extended now.
    pub(super) fn take_due(&mut self, now: Micros, lease_ms: u32) -> Vec<Extend> {
        let all = self.keeping.iter_mut().map(|((shard, subscription), keeping)| {
            let ranges = keeping.take_due(now / MS, lease_ms.into());
            Extend { shard: *shard, subscription: *subscription, lease_ms, ranges }
        });
        all.filter(|extend| !extend.ranges.is_empty()).collect()
    }

    /// It was asked for.
    pub(super) fn asked(&mut self, at: Micros, correlation: Correlation, extend: Extend) {
        let Extend { shard, subscription, ranges, .. } = extend;
        self.asked.insert(correlation, Extending { to: (shard, subscription), at, ranges });
    }

    /// What was asked for by a request.
    pub(super) fn answered(&mut self, correlation: Correlation) -> Option<Extending> {
        self.asked.remove(&correlation)
    }

    /// Leases were extended, of messages of a topic.
    pub(super) fn extended(
        &mut self,
        base: &mut Base,
        extending: &Extending,
        extended: &Extended,
        (session, client, group, topic): (Option<SessionId>, u64, u64, TopicId),
    ) {
        let Extending { to, at: asked, ranges } = extending;
        if let Some(keeping) = self.keeping.get_mut(to) {
            keeping.answered(extended);
        }
        let Extended { done, until, spent, lost, other } = extended;
        let not = || spent.iter().chain(lost).chain(other);
        let is_held = |queue: QueueIndex, offset: QueueOffset| {
            !not().any(|it| it.queue == queue && (it.from..it.to).contains(&offset))
        };
        let each = ranges.iter().flat_map(|range| {
            let offsets = (range.from.0..range.to.0).map(QueueOffset);
            offsets.map(|offset| (range.queue, offset))
        });
        let held: Vec<_> = each.filter(|(queue, offset)| is_held(*queue, *offset)).collect();
        // Of a message that is held by another delivery two may have been asked for.
        if other.is_empty() && held.len() as u64 != *done {
            base.fail(|| format!("{ranges:?} were extended: {extended:?}"));
        }
        // By a clock that is ahead it ends earlier; what is passed on lies elsewhere.
        let is_judged = base.plan.is_clock_late() && base.plan.wide_queues == 0;
        let Some(session) = session.filter(|_| is_judged && !held.is_empty()) else { return };
        let until = until.0.saturating_sub(WALL_MS) * MS;
        for (queue, offset) in held {
            let (queue, from, to) = (queue_name(topic, queue), offset.0, offset.0 + 1);
            let (asked, at) = (*asked, base.now);
            let hold = Hold { client, group, queue, from, to, asked, at, until };
            self.told.push(Told { session, subscription: extending.to.1, hold });
        }
    }

    /// A subscription has ended, since when is not known.
    pub(super) fn ended(&mut self, to: To) {
        self.keeping.remove(&to);
        self.told.retain(|told| told.subscription != to.1);
    }

    /// The connection is gone: what it was told held until the broker found out.
    pub(super) fn lost(&mut self, base: &mut Base) {
        self.keeping.clear();
        self.asked.clear();
        for Told { session, mut hold, .. } in self.told.drain(..) {
            let closed = base.closed.get(&session).copied().unwrap_or(base.now);
            hold.until = hold.until.min(base.now).min(closed);
            if hold.at < hold.until {
                base.history.push(Event::Hold(hold));
            }
        }
    }
}
