//! An operator who removes groups: shard by shard, again until each says that it is done, and sets
//! what was set of the group once more. A shard that has members of it refuses.
use std::collections::BTreeSet;

use yard_broker::SessionId;
use yard_wire::operation::GroupRm;
use yard_wire::request::Reply;
use yard_wire::{Code, Correlation, Refusal, ShardId};

use super::steward::settings_of;
use super::{CALL_STREAM, Link, call};
use crate::agenda::{MS, Micros};
use crate::base::{Base, Phase};
use crate::client::group_name;
use crate::network::ToClient;
use crate::removal;

/// How often it looks what there is to do.
const PAUSE: Micros = 40 * MS;
/// An answer that does not come is asked for again after this.
const PATIENCE: Micros = 500 * MS;

/// What it has asked.
#[derive(Clone, Copy)]
enum Asked {
    /// That a shard removes the group, and whether it may have members there.
    Remove { shard: ShardId, is_final: bool },
    /// What is set of it.
    Set,
}

/// An operator.
pub(crate) struct Remover {
    pub(super) link: Link,
    /// The group that it removes.
    group: Option<u64>,
    /// Where that is done.
    done: BTreeSet<ShardId>,
    asked: Option<(Correlation, Asked, Micros)>,
    /// Connections on which it has asked for it.
    sessions: BTreeSet<SessionId>,
}

impl Remover {
    /// One with this number among the clients.
    #[must_use]
    pub(crate) fn new(client: usize) -> Self {
        Self {
            link: Link::new(client),
            group: None,
            done: BTreeSet::new(),
            asked: None,
            sessions: BTreeSet::new(),
        }
    }

    /// Whether there is nothing to remove.
    pub(super) fn is_done(base: &Base) -> bool {
        base.removals.next().is_none()
    }

    pub(super) fn lost(&mut self) {
        self.asked = None;
    }

    pub(super) fn work(&mut self, base: &mut Base) {
        let Some(session) = self.link.session else { return };
        if base.phase > Phase::Drain {
            return;
        }
        self.link.work_at(base, base.now + PAUSE);
        self.asked.take_if(|(_, _, until)| *until <= base.now);
        if self.group != base.removals.next() {
            (self.group, self.asked) = (base.removals.next(), None);
            self.done.clear();
        }
        let Some(group) = self.group.filter(|_| self.asked.is_none()) else { return };
        let shards = (0..base.plan.shards).map(ShardId);
        let next = shards.into_iter().find(|shard| !self.done.contains(shard));
        let (stream, request, asked) = match next {
            Some(shard) => {
                self.sessions.insert(session);
                let is_final = !removal::has_members(base, group);
                let request = call(&GroupRm { name: group_name(group) });
                (CALL_STREAM + shard.0, request, Asked::Remove { shard, is_final })
            }
            // What it asked for on an earlier connection may still arrive.
            None if self.is_on_its_way(base, session) => return,
            None => (0, call(&settings_of(base, group)), Asked::Set),
        };
        if let Some(correlation) = self.link.request(base, stream, request) {
            self.asked = Some((correlation, asked, base.now + PATIENCE));
        }
    }

    fn is_on_its_way(&self, base: &Base, session: SessionId) -> bool {
        let mut others = self.sessions.iter().filter(|other| **other != session);
        others.any(|other| base.network.is_open_at_broker(*other))
    }

    pub(super) fn receive(&mut self, base: &mut Base, frame: ToClient) {
        let ToClient::Reply(correlation, result) = frame else { return };
        let asked = self.asked.take_if(|(asked, ..)| *asked == correlation);
        let (Some((_, asked, _)), Some(group)) = (asked, self.group) else { return };
        let goes_on = result.is_ok();
        match asked {
            Asked::Remove { shard, is_final } => {
                self.removed(base, (group, shard, is_final), result);
            }
            Asked::Set => match result {
                Ok(_) => removal::removed(base, group),
                Err(refusal) => may_fail(base, &refusal),
            },
        }
        // Who refuses is asked again after a while.
        if goes_on {
            self.work(base);
        }
    }

    fn removed(
        &mut self,
        base: &mut Base,
        (group, shard, is_final): (u64, ShardId, bool),
        result: Result<Reply, Refusal>,
    ) {
        match result {
            Ok(Reply::Call(_)) if removal::has_member_here(base, group, shard) => {
                base.fail(|| format!("{shard} has removed group {group}, which has members there"));
            }
            Ok(Reply::Call(_)) => {}
            // It was removed by what nobody has heard of, and no crash brings it back.
            Err(refusal) if refusal.code == Code::UnknownGroup => {}
            Err(refusal) if refusal.code == Code::GroupHasMembers && !is_final => return,
            Err(refusal) => return may_fail(base, &refusal),
            Ok(other) => return base.fail(|| format!("a removal was answered by {other:?}")),
        }
        if is_final {
            self.done.insert(shard);
        }
    }
}

/// What the storm does.
fn may_fail(base: &mut Base, refusal: &Refusal) {
    if ![Code::LogFenced, Code::DiskFull, Code::Busy].contains(&refusal.code) {
        base.fail(|| format!("a group was not removed: {refusal}"));
    }
}
