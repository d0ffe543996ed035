//! Groups that are removed and made again under the same name. In the history each is another one,
//! so that everything that holds of a group holds of it alone.
use std::collections::{BTreeMap, BTreeSet};

use yard_broker::SessionId;
use yard_checker::{AckLevel, Event, Outcome, Queue, Removal, Skip};
use yard_wire::ShardId;

use crate::agenda::Micros;
use crate::base::Base;

/// Groups of the same name are so far apart in the history.
const LIVES_APART: u64 = 1_000_000;

/// A group that was made again with the latest messages.
#[derive(Debug)]
struct Latest {
    /// When that can first have been.
    since: Micros,
    /// Where it began in each queue, by the earliest answer.
    starts: BTreeMap<Queue, u64>,
}

/// What is known of groups that are removed, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// Groups of which the members leave, until they are removed; whether they begin with the
    /// latest messages then.
    leaving: BTreeMap<u64, bool>,
    /// How often each was removed.
    lives: BTreeMap<u64, u64>,
    /// Connections of members that were told that they are some.
    members: BTreeMap<(u64, ShardId), BTreeSet<SessionId>>,
    /// Connections on which members may have asked to be some.
    asking: BTreeMap<u64, BTreeSet<SessionId>>,
    /// By the numbers of the history.
    latest: BTreeMap<u64, Latest>,
}

impl Removals {
    /// The members of a group shall leave it. False where they do already.
    pub(crate) fn begin(&mut self, group: u64, latest: bool) -> bool {
        self.leaving.insert(group, latest).is_none()
    }

    /// Whether nobody is to consume with a group now.
    pub(crate) fn is_leaving(&self, group: u64) -> bool {
        self.leaving.contains_key(&group)
    }

    /// The next group to be removed.
    pub(crate) fn next(&self) -> Option<u64> {
        self.leaving.keys().next().copied()
    }

    /// The number in the history of the group that has this number now.
    pub(crate) fn called(&self, group: u64) -> u64 {
        group + LIVES_APART * self.lives.get(&group).copied().unwrap_or(0)
    }

    /// All that ever had this number.
    pub(crate) fn all_called(&self, group: u64) -> impl Iterator<Item = u64> + use<> {
        let lives = self.lives.get(&group).copied().unwrap_or(0);
        (0..=lives).map(move |life| group + LIVES_APART * life)
    }

    /// Somebody asks to be a member.
    pub(crate) fn asks(&mut self, group: u64, session: SessionId) {
        self.asking.entry(group).or_default().insert(session);
    }

    /// Somebody was told to be one.
    pub(crate) fn is_member(&mut self, group: u64, shard: ShardId, session: SessionId) {
        self.members.entry((group, shard)).or_default().insert(session);
    }

    /// Whether a group begins with the latest messages.
    pub(crate) fn is_latest(&self, group: u64) -> bool {
        self.latest.contains_key(&self.called(group))
    }

    /// Where a group begins in a queue, as somebody was told.
    pub(crate) fn starts(&mut self, group: u64, queue: Queue, offset: u64) {
        let called = self.called(group);
        if let Some(latest) = self.latest.get_mut(&called) {
            let start = latest.starts.entry(queue).or_insert(offset);
            *start = offset.min(*start);
        }
    }
}

/// Whether a group may still have members at the broker, or get some that nobody knows of.
pub(crate) fn has_members(base: &Base, group: u64) -> bool {
    let asking = base.removals.asking.get(&group).into_iter().flatten();
    let mut open = asking.filter(|session| base.network.is_open_at_broker(**session));
    open.next().is_some()
}

/// Whether a shard has told somebody whom it has not found gone yet that he is a member.
pub(crate) fn has_member_here(base: &Base, group: u64, shard: ShardId) -> bool {
    let members = base.removals.members.get(&(group, shard)).into_iter().flatten();
    let mut open = members.filter(|session| base.network.is_open_at_broker(**session));
    open.next().is_some()
}

/// A group is removed in every shard: what has its name from now on is another one.
pub(crate) fn removed(base: &mut Base, group: u64) {
    let (now, removals) = (base.now, &mut base.removals);
    let Some(latest) = removals.leaving.remove(&group) else { return };
    let called = removals.called(group);
    *removals.lives.entry(group).or_default() += 1;
    if latest {
        let latest = Latest { since: now, starts: BTreeMap::new() };
        removals.latest.insert(removals.called(group), latest);
    }
    base.history.push(Event::Removal(Removal { group: called, at: now }));
    base.trace.line(now, || format!("group {group} is removed"));
}

/// What was stored for certain before a group was made again with the latest messages does not come
/// to it; what came later does.
pub(crate) fn finish(base: &mut Base) {
    let all = std::mem::take(&mut base.removals.latest);
    let mut early = None;
    for (group, Latest { since, starts }) in all {
        for (queue, to) in starts {
            base.history.push(Event::Skip(Skip { group, queue, from: 0, to }));
        }
        let is_before = |it: &&yard_checker::Sent| {
            let is_placed = matches!(it.outcome, Outcome::Ok { offset: Some(_) });
            let is_sure = is_placed && it.level == AckLevel::Synced && it.due.is_none();
            is_sure && it.completed.is_some_and(|at| at < since)
        };
        let before = base.history.sends.iter().filter(is_before);
        let before: BTreeSet<(u64, u64)> = before.map(|it| (it.producer, it.seq)).collect();
        let polls = base.history.polls.iter().filter(|poll| poll.group == group);
        let mut given = polls.flat_map(|poll| &poll.deliveries);
        if let Some(it) = given.find(|it| before.contains(&(it.producer, it.seq))) {
            early = Some((group, since, *it));
        }
    }
    if let Some((group, since, it)) = early {
        base.fail(|| format!("group {group} began with the latest at {since}, and got {it:?}"));
    }
}
