//! What operators see of groups: this shard's share, which the server puts together.
use yard_wire::TenantId;
use yard_wire::operation::{GroupQueueRow, GroupReport, GroupRow, MemberRow};
use yard_wire::request::Reply;

use crate::broker::Broker;
use crate::entry::GroupId;
use crate::group::Group;
use crate::meta::Topic;
use crate::meta_table::queues_on;
use crate::operate::{called, listed};
use crate::refusal::OperateError;

impl Broker {
    pub(crate) fn group_ls(&self, tenant: TenantId) -> Result<Reply, OperateError> {
        // A group of a topic that is being removed has no name to show for it.
        let rows = self.groups.of_tenant(tenant).filter_map(|id| {
            let (group, topic) = self.group_and_topic(id)?;
            let queues = self.queue_rows(group, topic);
            let sum = |count: fn(&GroupQueueRow) -> u64| queues.iter().map(count).sum();
            Some(GroupRow {
                name: group.name.clone(),
                topic: topic.name.clone(),
                members: group.member_count() as u32,
                lag: sum(|row| row.lag),
                in_flight: sum(|row| row.in_flight),
                rejected: sum(|row| row.rejected),
            })
        });
        listed(rows)
    }

    pub(crate) fn group_info(&self, tenant: TenantId, name: String) -> Result<Reply, OperateError> {
        let Some(ids) = self.groups.named(tenant, &name) else {
            return Err(OperateError::NoGroup(name));
        };
        let mut report = GroupReport { name, lag: 0, queues: Vec::new(), members: Vec::new() };
        for (group, topic) in ids.into_iter().filter_map(|id| self.group_and_topic(id)) {
            assert_eq!(group.tenant, tenant, "groups are looked up inside a tenant");
            report.queues.extend(self.queue_rows(group, topic));
            report.members.extend(self.member_rows(group, topic));
        }
        report.lag = report.queues.iter().map(|row| row.lag).sum();
        Ok(called(&report))
    }

    fn group_and_topic(&self, id: GroupId) -> Option<(&Group, &Topic)> {
        let group = self.groups.get(id).expect("a listed group exists");
        Some((group, self.meta.topic(group.topic)?))
    }

    fn queue_rows(&self, group: &Group, topic: &Topic) -> Vec<GroupQueueRow> {
        let shard = self.config.shard;
        let row = |queue| {
            let ends = self.ends_of(topic.topic, queue);
            let mut row = GroupQueueRow {
                topic: topic.name.clone(),
                queue,
                shard,
                settled_below: ends.first,
                end: ends.end,
                lag: ends.end.0 - ends.first.0,
                in_flight: 0,
                waiting: 0,
                rejected: 0,
            };
            let Some(state) = group.queues.get(&queue) else {
                return row;
            };
            let progress = &state.progress;
            row.settled_below = progress.settled_below().max(ends.first);
            row.lag = progress.lag(ends.first, ends.end);
            row.waiting = progress.returned().len() as u64;
            row.rejected = progress.rejected_count();
            if let Some(flight) = &state.flight {
                row.in_flight = flight.leases.len() as u64;
                row.waiting = flight.waiting_count() as u64;
            }
            row
        };
        queues_on(topic, shard).map(row).collect()
    }

    fn member_rows(&self, group: &Group, topic: &Topic) -> Vec<MemberRow> {
        let members = group.live.iter().flat_map(|live| live.members.values());
        let rows = members.map(|member| MemberRow {
            member: member.name.clone(),
            topic: topic.name.clone(),
            shard: self.config.shard,
            session: member.session.0,
            in_flight: member.leased.into(),
            credit: member.messages.into(),
        });
        rows.collect()
    }
}
