//! Removing a group: every shard forgets what it has of it, in an entry of its own log.
//!
//! ```text
//!   group rm ─► each shard: members? ─► refused
//!                           └──► entry GroupRemoved ─► offsets, retries, keys of all its topics;
//!                                                      in the metadata's shard its settings too
//! ```
//!
//! What became a dead letter is a message of a topic of its own, and stays.
use yard_wire::TenantId;
use yard_wire::operation::{GroupRemoved, GroupRm};

use crate::broker::{Broker, METADATA_SHARD};
use crate::entry::{Entry, GroupId};
use crate::meta::MetaChange;
use crate::operate::{Outcome, called};
use crate::refusal::OperateError;

impl Broker {
    /// Removes a group without members, as far as this shard has it.
    pub(crate) fn group_rm(
        &self,
        tenant: TenantId,
        arguments: GroupRm,
    ) -> Result<Outcome, OperateError> {
        let GroupRm { name } = arguments;
        let is_metadata = self.config.shard == METADATA_SHARD;
        let ids = self.groups.named(tenant, &name).unwrap_or_default();
        let has_settings = is_metadata && self.meta.group_set(tenant, &name).is_some();
        if ids.is_empty() && !has_settings {
            return Err(OperateError::NoGroup(name));
        }
        let mut removed = GroupRemoved { name, lag: 0, waiting: 0 };
        for id in ids {
            let group = self.groups.get(id).expect("a listed group exists");
            let (group_name, members) = (removed.name.clone(), group.member_count());
            if members > 0 {
                return Err(OperateError::HasMembers { group: group_name, members });
            }
            if let Some(drain) = &group.drain {
                let to = self.topic_name(drain.to);
                return Err(OperateError::Drained { group: group_name, to });
            }
            let (lag, waiting) = self.left_of(id);
            removed.lag += lag;
            removed.waiting += waiting;
        }
        assert!(!removed.name.is_empty(), "a group that is known has a name");
        let reply = called(&removed);
        let change = MetaChange::GroupRemoved { tenant, name: removed.name };
        if is_metadata {
            return Ok(Outcome::Change(change, reply));
        }
        Ok(Outcome::Record(Entry::Meta { changes: vec![change] }, reply))
    }

    /// Takes in that a group was removed. It has no members when that is decided, and gets none
    /// before it is appended.
    pub(crate) fn drop_group(&mut self, tenant: TenantId, name: &str) {
        for id in self.groups.named(tenant, name).unwrap_or_default() {
            yard_wire::mark!(GroupRemoved);
            let topic = self.groups.get(id).expect("a listed group exists").topic;
            self.forget_group(id);
            // Producers may have waited for it.
            self.headroom.remove(&topic);
        }
        assert!(self.groups.named(tenant, name).is_none(), "nothing of the group is left");
    }

    /// Forgets a group without members, and what was to be done for it.
    pub(crate) fn forget_group(&mut self, id: GroupId) {
        self.to_pump.remove(&id);
        self.to_trim.remove(&id);
        self.burials.forget(id);
        self.forget_drains(id);
        self.settled_keys.drop_owner(id);
        let topic = self.groups.get(id).expect("the caller has the group").topic;
        let queues_here = self.queue_count_here(topic);
        let removed = self.groups.remove(id, queues_here);
        assert!(removed.is_some(), "the caller has the group");
        assert!(self.groups.get(id).is_none(), "an id is of one group");
    }
}
