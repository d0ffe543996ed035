//! What operators do with drains, and see of them: this shard's share.
use yard_wire::name::is_system;
use yard_wire::operation::{DrainRow, GroupDrain, GroupReturn};
use yard_wire::{QueueIndex, QueueOffset, ShardId, TenantId, TopicId};

use crate::broker::Broker;
use crate::drain::{DrainBegun, DrainEntry};
use crate::entry::{Entry, GroupId};
use crate::group::Group;
use crate::meta::Topic;
use crate::meta_table::queues_on;
use crate::operate::{Outcome, called, listed};
use crate::refusal::{OperateError, SubscribeError, SystemTopic};

impl Broker {
    /// Begins to pass a group's backlog on. Asked again it says how far that is.
    pub(crate) fn group_drain(
        &self,
        tenant: TenantId,
        arguments: &GroupDrain,
    ) -> Result<Outcome, OperateError> {
        let GroupDrain { name, topic, to } = arguments;
        let topic = self.topic_named(tenant, topic)?;
        let wide = self.own_topic_named(tenant, to)?;
        if is_system(&topic.name) {
            return Err(OperateError::SystemTopic(SystemTopic(topic.name.to_string())));
        }
        check_target(topic, wide)?;
        if queues_on(topic, self.config.shard).next().is_none() {
            return Ok(Outcome::Now(called(&row_of(name, topic, &wide.name))));
        }
        let id = self.groups.find(tenant, name, topic.topic);
        let id = id.ok_or_else(|| OperateError::NoGroup(name.clone()))?;
        let group = self.groups.get(id).expect("a group that was found exists");
        if let Some(drain) = &group.drain {
            if drain.to != wide.topic {
                let (group, to) = (name.clone(), self.topic_name(drain.to));
                return Err(OperateError::Drained { group, to });
            }
            if !drain.returning {
                return Ok(Outcome::Unchanged(called(&self.drain_row(group, topic))));
            }
        }
        let begun = self.drain_begun(tenant, group, wide)?;
        let mut row = self.drain_row(group, topic);
        "draining".clone_into(&mut row.state);
        row.to = wide.name.to_string();
        row.since_ms = group.drain.as_ref().map_or(self.now, |drain| drain.since);
        let entry = Entry::Drain { tenant, entry: DrainEntry::Begun(id, begun) };
        Ok(Outcome::Record(entry, called(&row)))
    }

    fn drain_begun(
        &self,
        tenant: TenantId,
        group: &Group,
        wide: &Topic,
    ) -> Result<DrainBegun, OperateError> {
        let bad = |why: &str| {
            let (name, why) = (wide.name.to_string(), why.to_owned());
            Err(OperateError::BadDrainTarget { name, why })
        };
        let here = queues_on(wide, self.config.shard);
        let ends = here.map(|queue| (queue, self.ends_of(wide.topic, queue).end));
        let ends: Vec<(QueueIndex, QueueOffset)> = ends.collect();
        let known = self.groups.find(tenant, &group.name, wide.topic);
        let target = known.and_then(|id| self.groups.get(id));
        if group.source.is_some() {
            return bad("the group gets another topic's messages already");
        }
        if group.drain.is_none() && target.is_some_and(|it| it.source.is_some()) {
            return bad("the group gets the messages of a third topic there");
        }
        if target.is_some_and(|it| it.drain.is_some()) {
            return bad("the group passes messages on from there");
        }
        if known.is_none() {
            self.check_new_group(tenant, ends.len()).map_err(room)?;
        }
        assert!(!ends.is_empty(), "the wide topic was checked");
        let floors = ends.into_iter().filter(|(_, end)| *end > QueueOffset(0)).collect();
        Ok(DrainBegun {
            target: known.unwrap_or_else(|| self.groups.next_id()),
            to: wide.topic,
            wide: wide.shards.len() as u16,
            since: self.now,
            floors,
        })
    }

    /// Ends a drain, when all that was passed on is settled.
    pub(crate) fn group_return(
        &self,
        tenant: TenantId,
        arguments: &GroupReturn,
    ) -> Result<Outcome, OperateError> {
        let topic = self.topic_named(tenant, &arguments.topic)?;
        let (name, topic_name) = (arguments.name.clone(), topic.name.to_string());
        let found = self.groups.find(tenant, &name, topic.topic);
        let group = found.and_then(|id| Some((id, self.groups.get(id)?)));
        let group = group.and_then(|(id, it)| Some((id, it, it.drain.as_ref()?)));
        let Some((id, group, drain)) = group else {
            return Err(OperateError::NotDrained { group: name, topic: topic_name });
        };
        let mut row = self.drain_row(group, topic);
        if drain.returning {
            return Ok(Outcome::Unchanged(called(&row)));
        }
        "returning".clone_into(&mut row.state);
        let entry = Entry::Drain { tenant, entry: DrainEntry::Returning(id) };
        Ok(Outcome::Record(entry, called(&row)))
    }

    /// The groups whose messages are passed on, as this shard knows them.
    pub(crate) fn group_drained(&self, tenant: TenantId) -> Result<Outcome, OperateError> {
        let drained = self.groups.drained().filter_map(|id: GroupId| self.groups.get(id));
        let rows = drained.filter(|group| group.tenant == tenant).filter_map(|group| {
            // Of a topic that is being removed there is no name to show.
            Some(Ok(self.drain_row(group, self.meta.topic(group.topic)?)))
        });
        listed(rows).map(Outcome::Now)
    }

    /// How far a drain is, here.
    fn drain_row(&self, group: &Group, topic: &Topic) -> DrainRow {
        let to = group.drain.as_ref().map(|drain| self.topic_name(drain.to));
        let mut row = row_of(&group.name, topic, &to.unwrap_or_default());
        assert_eq!(group.topic, topic.topic, "a group is shown with its topic");
        for queue in queues_on(topic, self.config.shard) {
            let ends = self.ends_of(topic.topic, queue);
            let state = group.queues.get(&queue);
            let all = ends.end.0 - ends.first.0;
            row.backlog += state.map_or(all, |it| it.progress.lag(ends.first, ends.end));
            let flight = state.and_then(|state| state.flight.as_ref());
            row.in_flight += flight.map_or(0, |flight| flight.leases.len() as u64);
        }
        if let Some(drain) = &group.drain {
            row.moved = drain.moved;
            row.wide_lag = self.wide_lag(drain);
            row.since_ms = drain.since;
            let state = match drain.returning {
                true => "returning",
                false if row.backlog > 0 => "draining",
                false => "forwarding",
            };
            state.clone_into(&mut row.state);
        }
        row
    }

    /// Whether a topic may be removed as far as drains are concerned: this shard looks at its own.
    pub(crate) fn check_no_drain_into(&self, topic: TopicId) -> Result<(), OperateError> {
        match self.drained_into(topic) {
            Some(group) => {
                Err(OperateError::Drained { group: group.name.clone(), to: self.topic_name(topic) })
            }
            None => Ok(()),
        }
    }
}

fn row_of(group: &str, topic: &Topic, to: &str) -> DrainRow {
    let (group, topic, to) = (group.to_owned(), topic.name.to_string(), to.to_owned());
    DrainRow { group, topic, to, state: "returned".to_owned(), ..DrainRow::default() }
}

fn room(error: SubscribeError) -> OperateError {
    match error {
        SubscribeError::LimitReached(fact) => OperateError::LimitReached(fact),
        other => unreachable!("room for a group is a matter of limits: {other:?}"),
    }
}

/// Whether a topic can take the messages of another one.
fn check_target(topic: &Topic, wide: &Topic) -> Result<(), OperateError> {
    let bad = |why: String| {
        let name = wide.name.to_string();
        Err(OperateError::BadDrainTarget { name, why })
    };
    if topic.topic == wide.topic {
        return bad("it is the group's own topic".to_owned());
    }
    let (ours, theirs) = (topic.settings.order.r#type, wide.settings.order.r#type);
    if ours != theirs {
        return bad(format!("it is {theirs}, and {} is {ours}", topic.name));
    }
    let is_there = |shard: &ShardId| wide.shards.contains(shard);
    match topic.shards.iter().find(|shard| !is_there(shard)) {
        Some(shard) => bad(format!("it has no queue in shard {shard}, where {} has", topic.name)),
        None => Ok(()),
    }
}
