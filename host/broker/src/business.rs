//! Groups with a business key: of the messages with a key that a group has acked lately no other is
//! delivered to it, whatever its id.
//!
//! ```text
//!   Locate(key) ──► records are read ──► ready ──► claims ─┬─ leased ──► ack ─► Settled: progress
//!                                                          │                     │   and keys
//!                                                          └─ duplicate          ▼
//!            keys that the group has acked (durable, bounded) ◄──────────────────┘
//! ```
//!
//! A key counts from the ack of its message on, for the window of the group; what was nacked,
//! rejected, expired or is a dead letter leaves none. While somebody has a message with a key, the
//! others wait for it (`group/claims.rs`): else two consumers would work on the same thing at the
//! same time. What is remembered is of one group, one topic and one shard; where the group's
//! messages are passed on to another topic, of both topics. Where a group is moved, the keys of
//! messages that it shall get again are forgotten.
use std::collections::BTreeMap;
use std::sync::Arc;

use yard_wire::operation::GroupSet;
use yard_wire::{
    BusinessKey, Code, DedupeKey, QueueIndex, QueueOffset, Refusal, TenantId, Timestamp,
};

use crate::bounds::SETTLED_KEYS_OF_TENANT_MAX;
use crate::broker::Broker;
use crate::effect::Effect;
use crate::entry::{Entry, GroupId, Moved, Outcome, Progress, Step};
use crate::group::Group;
use crate::group::claims::{Acked, Claims, Spot};
use crate::meta::{DedupeWindow, GroupSettings, MetaChange};
use crate::windows::Row;

yard_wire::message! {
    /// Which messages are the same for a group: those whose property has the same value.
    #[derive(Default)]
    pub struct GroupKey {
        /// The property.
        pub property: BusinessKey,
        /// Which of its values are remembered once a message with them was acked.
        pub window: DedupeWindow,
    }

    /// The key of a message that was acked.
    #[derive(Copy)]
    pub struct AckedKey {
        /// Queue of the message.
        pub queue: QueueIndex,
        /// Its place there.
        pub offset: QueueOffset,
        /// Its key.
        pub key: DedupeKey,
    }

    /// A group's progress, and the keys of what was acked by it.
    ///
    /// ```text
    /// offset size field
    ///      0    . progress
    ///      .    4 count
    ///      .    . keys       (u16 queue, u64 offset, 16 key)*
    ///      .    4 forgotten
    /// ```
    pub struct Settled {
        /// What happened.
        pub progress: Progress,
        /// The keys, in the order of the steps.
        pub keys: Vec<AckedKey>,
        /// How many of the oldest keys of the group are forgotten once these were taken in.
        pub forgotten: u32,
    }
}

impl GroupKey {
    /// With what is given in place of its own.
    pub(crate) fn with(self, given: &GroupSet) -> Result<Self, Refusal> {
        let property = given.key.clone().unwrap_or(self.property);
        property.check()?;
        let window = self.window.with(given.key_window, given.key_count)?;
        if window.window.get().is_none() {
            let detail = "a key window has an end: 1s to 7d may be; --key none stops comparing";
            yard_wire::mark!(GroupKeyWindow);
            return Err(Refusal::new(Code::BadArgument, detail));
        }
        Ok(Self { property, window })
    }
}

impl Group {
    /// Whether anything waits until a business key is free.
    pub(crate) fn waits_for_keys(&self) -> bool {
        self.claims.as_ref().is_some_and(|claims| claims.has_waiters())
    }

    /// Leases of a queue may have ended: their keys are free, and what waited for them is ready.
    /// Whether there was anything.
    pub(crate) fn free_keys(&mut self, queue: QueueIndex) -> bool {
        let Some(claims) = &mut self.claims else { return false };
        let flight = self.queues.get_mut(&queue).and_then(|state| state.flight.as_mut());
        let Some(flight) = flight else { return false };
        let mut waiters = Vec::new();
        for (from, to) in flight.leases.take_noted() {
            let held = claims.within(queue, from, to).map(|(spot, _)| spot);
            let ended: Vec<Spot> = held.filter(|it| !flight.leases.holds(it.offset)).collect();
            waiters.extend(ended.into_iter().flat_map(|spot| claims.free(spot)));
        }
        let live = self.live.as_mut().expect("only a group with members has keys in hands");
        for Spot { queue, offset } in &waiters {
            let flight = self.queues.get_mut(queue).and_then(|state| state.flight.as_mut());
            if flight.is_some_and(|flight| flight.unbar(*offset)) {
                live.make_available(*queue);
            }
        }
        !waiters.is_empty()
    }

    /// The keys of what these steps say was acked.
    fn keys_acked(&self, steps: &[Step]) -> Vec<AckedKey> {
        let Some(claims) = &self.claims else { return Vec::new() };
        let acked = steps.iter().filter(|step| step.outcome == Outcome::Acked);
        assert!(self.live.is_some(), "only a group with members has keys in hands");
        let keys = acked.flat_map(|step| claims.within(step.queue, step.from, step.to));
        keys.map(|(Spot { queue, offset }, key)| AckedKey { queue, offset, key }).collect()
    }

    /// Messages are compared by another property from now on, or not at all.
    fn compare(&mut self, by: Option<Arc<str>>) {
        let Some(live) = &mut self.live else { return };
        self.claims = by.map(|by| Box::new(Claims::new(by)));
        for (queue, state) in &mut self.queues {
            if let Some(flight) = &mut state.flight {
                flight.compare(self.claims.is_some());
                live.make_available(*queue);
            }
        }
    }

    pub(crate) fn check_claims(&self) {
        let leases = |queue| self.queues.get(&queue)?.flight.as_ref().map(|flight| &flight.leases);
        if let Some(claims) = &self.claims {
            assert!(self.live.is_some(), "only a group with members has keys in hands");
            claims.check(|spot| leases(spot.queue).is_some_and(|it| it.holds(spot.offset)));
        }
    }
}

impl Broker {
    /// By which property a group compares messages, as far as this shard knows.
    pub(crate) fn compared_by(&self, tenant: TenantId, name: &str) -> Option<Arc<str>> {
        self.meta.group_set(tenant, name)?.key.property.property().map(Arc::from)
    }

    /// For how long an acked key counts, in milliseconds.
    pub(crate) fn key_window_ms(&self, id: GroupId) -> u64 {
        let group = self.groups.get(id).filter(|group| group.claims.is_some());
        let settings = group.and_then(|group| self.meta.group_set(group.tenant, &group.name));
        settings.map_or(0, |settings| settings.key.window.window.0)
    }

    /// Takes in the settings of a group.
    pub(crate) fn put_group(&mut self, settings: &GroupSettings) {
        let change = MetaChange::GroupPut(settings.clone());
        self.change_settings(settings.tenant, &settings.name, change);
    }

    /// Takes in that a group has no settings of its own any more.
    pub(crate) fn forget_settings(&mut self, tenant: TenantId, name: &str) {
        let change = MetaChange::GroupRemoved { tenant, name: name.to_owned() };
        self.change_settings(tenant, name, change);
    }

    fn change_settings(&mut self, tenant: TenantId, name: &str, change: MetaChange) {
        let before = self.compared_by(tenant, name);
        self.meta.apply(change);
        let by = self.compared_by(tenant, name);
        if before == by {
            return;
        }
        for id in self.groups.named(tenant, name).unwrap_or_default() {
            let group = self.groups.get_mut(id).expect("a listed group exists");
            group.compare(by.clone());
            self.to_pump.insert(id);
        }
    }

    /// The entry of a settlement, with the keys of what was acked by it.
    pub(crate) fn settled_entry(&self, tenant: TenantId, progress: Progress) -> Entry {
        let group = self.groups.get(progress.group).expect("the caller has the group");
        let keys = group.keys_acked(&progress.steps);
        if keys.is_empty() {
            return Entry::Progress { tenant, progress };
        }
        let topic = self.meta.topic(group.topic).expect("a group with members has its topic");
        let count = self.meta.group(tenant, &group.name).key.window.count.0;
        let queues = u16::try_from(topic.shards.len()).expect("queues are counted in 16 bits");
        let max = self.keys_here(topic, count, queues);
        let owner = self.keys_owner(progress.group);
        let own = (self.settled_keys.count_in(owner) + keys.len()).saturating_sub(max);
        let all = self.settled_keys.count_of(tenant) + keys.len();
        assert!(max >= 1, "a group remembers a key at least");
        let over = own.max(all.saturating_sub(SETTLED_KEYS_OF_TENANT_MAX));
        let forgotten = u32::try_from(over).expect("keys are bounded");
        Entry::Settled { tenant, settled: Box::new(Settled { progress, keys, forgotten }) }
    }

    /// Under whose name the keys of a group are remembered: its own, or that of the group whose
    /// messages it gets.
    fn keys_owner(&self, id: GroupId) -> GroupId {
        let group = self.groups.get(id).expect("the caller has the group");
        group.source.unwrap_or(id)
    }

    /// Takes in that messages with these keys were acked.
    pub(crate) fn remember_settled(
        &mut self,
        tenant: TenantId,
        settled: &Settled,
        stored: Timestamp,
    ) {
        let id = settled.progress.group;
        if self.groups.get(id).is_none() {
            return;
        }
        let owner = self.keys_owner(id);
        for AckedKey { queue, offset, key } in &settled.keys {
            let spot = Spot { queue: *queue, offset: *offset };
            let acked = Acked { spot, is_wide: owner != id };
            self.settled_keys.remember(tenant, owner, Row::new(*key, acked, stored));
        }
        self.settled_keys.forget(owner, settled.forgotten);
    }

    /// A group goes on from other offsets: what it shall get again is nobody's duplicate.
    pub(crate) fn forget_moved(&mut self, moved: &Moved) {
        let floors: BTreeMap<QueueIndex, QueueOffset> = moved.floors.iter().copied().collect();
        let owner = self.keys_owner(moved.group);
        let is_wide = owner != moved.group;
        let comes_again = |acked: &Acked| {
            let floor = floors.get(&acked.spot.queue);
            acked.is_wide == is_wide && floor.is_some_and(|at| *at <= acked.spot.offset)
        };
        self.settled_keys.take_back(owner, comes_again);
    }

    /// Has what was found to be duplicates settled. Nobody waits for it.
    pub(crate) fn settle_duplicates(
        &mut self,
        id: GroupId,
        duplicates: &[Step],
        effects: &mut Vec<Effect>,
    ) {
        if !duplicates.is_empty() {
            self.append_steps(id, duplicates, effects);
            // Others may go on once it was applied.
            self.wake(self.now);
        }
    }

    /// Asks that keys of groups be forgotten that were acked for long enough.
    pub(crate) fn sweep_settled_keys(&mut self, effects: &mut Vec<Effect>) {
        let (groups, meta) = (&self.groups, &self.meta);
        let window_ms = |id| {
            let group = groups.get(id)?;
            Some(meta.group_set(group.tenant, &group.name)?.key.window.window.0)
        };
        let forgotten = self.settled_keys.sweep(self.now, window_ms);
        if !forgotten.is_empty() {
            let entry = Entry::ForgetSettled { forgotten };
            effects.push(Effect::Append { entry, then: Vec::new() });
        }
    }
}
