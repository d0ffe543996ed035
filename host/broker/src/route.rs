//! Where topics are. The nodes are left empty: the server knows them.
use std::collections::BTreeMap;

use yard_wire::limits::{QUEUES_DEFAULT, ROUTE_TOPICS_MAX, TOPICS_MAX};
use yard_wire::request::Reply;
use yard_wire::requests::{FindRoute, Route, TopicRoute};
use yard_wire::{TenantId, TopicId};

use crate::bounds::TOPIC_QUEUES_MAX;
use crate::broker::{Broker, METADATA_SHARD};
use crate::effect::Effect;
use crate::event::Origin;
use crate::meta::{MetaChange, Settings, Topic};
use crate::meta_table::place_queues;
use crate::refusal::{BadArgument, OperateError};

impl Broker {
    pub(crate) fn find_route(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: FindRoute,
        effects: &mut Vec<Effect>,
    ) -> Result<(), OperateError> {
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        if request.topics.len() > ROUTE_TOPICS_MAX {
            let detail = format!("more than {ROUTE_TOPICS_MAX} topics");
            return Err(OperateError::BadArgument(BadArgument(detail)));
        }
        let created = self.missing_topics(tenant, &request.topics);
        let find = |name: &String| {
            let known = self.meta.topic_named(tenant, name);
            known.or_else(|| created.get(name.as_str())).map(route_of)
        };
        let topics: Vec<Option<TopicRoute>> = request.topics.iter().map(find).collect();
        let found = topics.iter().any(Option::is_some);
        let reply = Reply::FindRoute(Route { nodes: Vec::new(), topics });
        if !created.is_empty() {
            let changes = created.into_values().map(MetaChange::TopicPut).collect();
            Self::append_meta(changes, origin, reply, effects);
        } else if found {
            // A topic may have been created just now, by somebody else.
            Self::reply_durable(origin, reply, effects);
        } else {
            effects.push(Effect::Reply { origin, result: Ok(reply) });
        }
        Ok(())
    }

    /// The topics to create for a tenant that has them created on first use.
    fn missing_topics<'a>(
        &self,
        tenant: TenantId,
        names: &'a [String],
    ) -> BTreeMap<&'a str, Topic> {
        let mut created: BTreeMap<&str, Topic> = BTreeMap::new();
        if !self.meta.tenant(tenant).is_some_and(|tenant| tenant.auto_create_topics) {
            return created;
        }
        for name in names {
            let added = (created.len() + 1) * usize::from(QUEUES_DEFAULT);
            let room = self.meta.topic_count_of(tenant) + created.len() < TOPICS_MAX
                && self.meta.queue_count_of(tenant) + added <= TOPIC_QUEUES_MAX;
            let known = self.meta.topic_named(tenant, name).is_some()
                || created.contains_key(name.as_str());
            if known || !room || yard_wire::name::check(name).is_err() {
                continue;
            }
            let before = created.len() as u32;
            let topic = self.new_topic(tenant, name, QUEUES_DEFAULT, before);
            created.insert(name, topic);
        }
        created
    }

    /// A topic to create, the `before`-th of one entry.
    pub(crate) fn new_topic(
        &self,
        tenant: TenantId,
        name: &str,
        queues: u16,
        before: u32,
    ) -> Topic {
        assert!(queues >= 1, "a topic has a queue");
        let topic = TopicId(self.meta.next_topic().0 + before);
        Topic {
            topic,
            tenant,
            name: name.into(),
            shards: place_queues(topic, queues, self.config.shards).into(),
            created_queues: queues,
            settings: Settings::default(),
            created: self.now,
            version: self.meta.next_version() + u64::from(before),
        }
    }
}

fn route_of(topic: &Topic) -> TopicRoute {
    assert!(!topic.shards.is_empty(), "a topic has a queue");
    TopicRoute {
        name: topic.name.to_string(),
        topic: topic.topic,
        shards: topic.shards.to_vec(),
        created_queues: topic.created_queues,
        version: topic.version,
    }
}
