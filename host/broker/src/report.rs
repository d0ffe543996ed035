//! What operators see of groups: this shard's share, which the server puts together.
use yard_wire::operation::{GroupQueueRow, GroupReport, GroupRow, MemberRow};
use yard_wire::request::Reply;
use yard_wire::{QueueIndex, TenantId, Wire};

use crate::bounds::REPORT_QUEUES_MAX;
use crate::broker::Broker;
use crate::entry::GroupId;
use crate::group::Group;
use crate::meta::Topic;
use crate::meta_table::queues_on;
use crate::operate::{called, check_result, listed};
use crate::refusal::{LimitReached, OperateError};

/// What a report has cost so far.
#[derive(Default)]
struct Cost {
    /// Queues looked at.
    queues: usize,
    /// The rows, encoded.
    encoded: Vec<u8>,
}

impl Cost {
    fn look(&mut self) -> Result<(), OperateError> {
        self.queues += 1;
        if self.queues <= REPORT_QUEUES_MAX {
            return Ok(());
        }
        let fact = LimitReached { what: "queues of a report", max: REPORT_QUEUES_MAX };
        Err(OperateError::LimitReached(fact))
    }

    fn add(&mut self, row: &impl Wire) -> Result<(), OperateError> {
        row.put(&mut self.encoded);
        check_result(&self.encoded)
    }
}

impl Broker {
    pub(crate) fn group_ls(&self, tenant: TenantId) -> Result<Reply, OperateError> {
        let mut cost = Cost::default();
        // A group of a topic that is being removed has no name to show for it.
        let rows = self.groups.of_tenant(tenant).filter_map(|id| {
            let (group, topic) = self.group_and_topic(id)?;
            Some(self.group_row(group, topic, &mut cost))
        });
        listed(rows)
    }

    pub(crate) fn group_info(&self, tenant: TenantId, name: String) -> Result<Reply, OperateError> {
        self.check_known_group(tenant, &name)?;
        let ids = self.groups.named(tenant, &name).unwrap_or_default();
        let mut cost = Cost::default();
        let settings = self.meta.group(tenant, &name);
        let mut report = GroupReport {
            retry: settings.retry.clone(),
            max_attempts: settings.attempts,
            key: settings.key.property.clone(),
            key_window: settings.key.window.window,
            key_count: settings.key.window.count,
            keys: ids.iter().map(|id| self.settled_keys.counting_in(*id) as u64).sum(),
            name,
            lag: 0,
            queues: Vec::new(),
            members: Vec::new(),
        };
        for (group, topic) in ids.into_iter().filter_map(|id| self.group_and_topic(id)) {
            assert_eq!(group.tenant, tenant, "groups are looked up inside a tenant");
            for queue in queues_on(topic, self.config.shard) {
                cost.look()?;
                let row = self.queue_row(group, topic, queue);
                cost.add(&row)?;
                report.lag += row.lag;
                report.queues.push(row);
            }
            for row in self.member_rows(group, topic) {
                cost.add(&row)?;
                report.members.push(row);
            }
        }
        Ok(called(&report))
    }

    /// Whether a group of this name consumes something here, or has settings.
    pub(crate) fn check_known_group(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<(), OperateError> {
        let consumes = self.groups.named(tenant, name).is_some();
        if consumes || self.meta.group_set(tenant, name).is_some() {
            return Ok(());
        }
        Err(OperateError::NoGroup(name.to_owned()))
    }

    fn group_and_topic(&self, id: GroupId) -> Option<(&Group, &Topic)> {
        let group = self.groups.get(id).expect("a listed group exists");
        Some((group, self.meta.topic(group.topic)?))
    }

    fn group_row(
        &self,
        group: &Group,
        topic: &Topic,
        cost: &mut Cost,
    ) -> Result<GroupRow, OperateError> {
        let mut row = GroupRow {
            name: group.name.clone(),
            topic: topic.name.to_string(),
            members: group.member_count() as u32,
            lag: 0,
            in_flight: 0,
            rejected: 0,
        };
        for queue in queues_on(topic, self.config.shard) {
            cost.look()?;
            let QueueCounts { lag, in_flight, rejected, .. } = self.queue_counts(group, queue);
            row.lag += lag;
            row.in_flight += in_flight;
            row.rejected += rejected;
        }
        Ok(row)
    }

    /// Messages that a group has not settled, and those of them that wait to come again.
    pub(crate) fn left_of(&self, id: GroupId) -> (u64, u64) {
        let Some((group, topic)) = self.group_and_topic(id) else {
            return (0, 0);
        };
        let counts = queues_on(topic, self.config.shard).map(|it| self.queue_counts(group, it));
        counts.fold((0, 0), |(lag, waiting), it| (lag + it.lag, waiting + it.waiting))
    }

    fn queue_row(&self, group: &Group, topic: &Topic, queue: QueueIndex) -> GroupQueueRow {
        let ends = self.ends_of(topic.topic, queue);
        let settled_below = group.settled_below(queue).max(ends.first);
        let counts = self.queue_counts(group, queue);
        GroupQueueRow {
            topic: topic.name.to_string(),
            queue,
            shard: self.config.shard,
            settled_below,
            end: ends.end,
            lag: counts.lag,
            in_flight: counts.in_flight,
            waiting: counts.waiting,
            rejected: counts.rejected,
            expired: counts.expired,
            filtered: counts.filtered,
            duplicates: counts.duplicates,
        }
    }

    fn queue_counts(&self, group: &Group, queue: QueueIndex) -> QueueCounts {
        let ends = self.ends_of(group.topic, queue);
        assert!(ends.first <= ends.end, "a queue does not end before it begins");
        let Some(state) = group.queues.get(&queue) else {
            return QueueCounts { lag: ends.end.0 - ends.first.0, ..QueueCounts::default() };
        };
        let progress = &state.progress;
        let mut counts = QueueCounts {
            lag: progress.lag(ends.first, ends.end),
            in_flight: 0,
            waiting: progress.returned().len() as u64,
            rejected: progress.dead_count(),
            expired: progress.expired_count(),
            filtered: progress.filtered_count(),
            duplicates: progress.duplicate_count(),
        };
        if let Some(flight) = &state.flight {
            counts.in_flight = flight.leases.len() as u64;
            let doomed = progress.returned().doomed_count();
            counts.waiting = (flight.waiting_count() + doomed) as u64;
        }
        counts
    }

    fn member_rows(&self, group: &Group, topic: &Topic) -> impl Iterator<Item = MemberRow> {
        let filter = group.live.as_ref().and_then(|live| live.filter.as_deref());
        let filter = crate::judged::shown(filter);
        let members = group.live.iter().flat_map(|live| live.members.values());
        members.map(move |member| MemberRow {
            member: member.name.clone(),
            topic: topic.name.to_string(),
            shard: self.config.shard,
            session: member.session.0,
            in_flight: member.leased.into(),
            credit: member.messages.into(),
            filter: filter.clone(),
        })
    }
}

/// Messages of a group in one queue.
#[derive(Clone, Copy, Default)]
struct QueueCounts {
    lag: u64,
    in_flight: u64,
    waiting: u64,
    rejected: u64,
    expired: u64,
    filtered: u64,
    duplicates: u64,
}
