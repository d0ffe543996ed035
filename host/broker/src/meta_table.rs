//! Tenants, topics, settings of groups. A name is resolved inside a tenant, so a foreign one is as
//! good as none.
use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::{Malformed, QueueIndex, ShardId, TenantId, Timestamp, TopicId, Wire};

use crate::meta::{GroupSettings, MetaChange, Tenant, Topic};

/// The tenant that always exists.
pub(crate) const DEFAULT_TENANT: TenantId = TenantId(0);

/// The metadata as this shard knows it.
#[derive(Debug)]
pub(crate) struct MetaTable {
    tenants: BTreeMap<TenantId, Tenant>,
    topics: BTreeMap<TopicId, Topic>,
    topic_names: BTreeMap<TenantId, BTreeMap<String, TopicId>>,
    tenant_names: BTreeMap<String, TenantId>,
    /// Settings of groups that somebody has set.
    groups: BTreeMap<TenantId, BTreeMap<String, GroupSettings>>,
    /// Queues of the topics of each tenant.
    queue_counts: BTreeMap<TenantId, usize>,
    next_tenant: u32,
    next_topic: u32,
    version: u64,
}

impl MetaTable {
    pub(crate) fn new() -> Self {
        let mut table = Self {
            tenants: BTreeMap::new(),
            topics: BTreeMap::new(),
            topic_names: BTreeMap::new(),
            tenant_names: BTreeMap::new(),
            groups: BTreeMap::new(),
            queue_counts: BTreeMap::new(),
            next_tenant: 0,
            next_topic: 1,
            version: 0,
        };
        table.apply(&MetaChange::TenantPut(Tenant {
            tenant: DEFAULT_TENANT,
            name: "default".to_owned(),
            auto_create_topics: false,
            created: Timestamp(0),
        }));
        assert_eq!(table.next_tenant, 1, "the default tenant has the first number");
        table
    }

    /// A topic of this tenant by name.
    pub(crate) fn topic_named(&self, tenant: TenantId, name: &str) -> Option<&Topic> {
        let id = self.topic_names.get(&tenant)?.get(name)?;
        self.topics.get(id)
    }

    /// A topic of this tenant by id.
    pub(crate) fn topic_of(&self, tenant: TenantId, topic: TopicId) -> Option<&Topic> {
        self.topics.get(&topic).filter(|topic| topic.tenant == tenant)
    }

    /// A topic of whichever tenant, for what is not an answer to one.
    pub(crate) fn topic(&self, topic: TopicId) -> Option<&Topic> {
        self.topics.get(&topic)
    }

    pub(crate) fn topics_of(&self, tenant: TenantId) -> impl Iterator<Item = &Topic> {
        let names = self.topic_names.get(&tenant).into_iter().flat_map(BTreeMap::values);
        names.filter_map(|topic| self.topics.get(topic))
    }

    /// Every topic.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    pub(crate) fn topic_count_of(&self, tenant: TenantId) -> usize {
        self.topic_names.get(&tenant).map_or(0, BTreeMap::len)
    }

    /// Queues of all topics of a tenant.
    pub(crate) fn queue_count_of(&self, tenant: TenantId) -> usize {
        self.queue_counts.get(&tenant).copied().unwrap_or(0)
    }

    pub(crate) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn tenant(&self, tenant: TenantId) -> Option<&Tenant> {
        self.tenants.get(&tenant)
    }

    pub(crate) fn tenant_named(&self, name: &str) -> Option<&Tenant> {
        self.tenants.get(self.tenant_names.get(name)?)
    }

    pub(crate) fn tenants(&self) -> impl ExactSizeIterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// The settings of a group that somebody has set.
    pub(crate) fn group_set(&self, tenant: TenantId, name: &str) -> Option<&GroupSettings> {
        self.groups.get(&tenant)?.get(name)
    }

    /// The settings of a group.
    pub(crate) fn group(&self, tenant: TenantId, name: &str) -> Cow<'_, GroupSettings> {
        match self.group_set(tenant, name) {
            Some(settings) => Cow::Borrowed(settings),
            None => Cow::Owned(GroupSettings::default_for(tenant, name)),
        }
    }

    /// Groups of a tenant with settings.
    pub(crate) fn group_count_of(&self, tenant: TenantId) -> usize {
        self.groups.get(&tenant).map_or(0, BTreeMap::len)
    }

    pub(crate) fn next_tenant(&self) -> TenantId {
        TenantId(self.next_tenant)
    }

    pub(crate) fn next_topic(&self) -> TopicId {
        TopicId(self.next_topic)
    }

    pub(crate) fn next_version(&self) -> u64 {
        self.version + 1
    }

    /// Takes a change in. One that is older than what is known changes nothing.
    pub(crate) fn apply(&mut self, change: &MetaChange) {
        match change {
            MetaChange::TenantPut(tenant) => self.put_tenant(tenant),
            MetaChange::TopicPut(topic) => self.put_topic(topic),
            MetaChange::TopicRemoved { topic, version } => {
                self.version = self.version.max(*version);
                self.next_topic = self.next_topic.max(topic.0.saturating_add(1));
                if let Some(removed) = self.topics.remove(topic) {
                    self.unlist(&removed);
                }
            }
            MetaChange::GroupPut(settings) => {
                let groups = self.groups.entry(settings.tenant).or_default();
                groups.insert(settings.name.clone(), settings.clone());
            }
        }
    }

    fn put_tenant(&mut self, tenant: &Tenant) {
        let id = tenant.tenant;
        self.next_tenant = self.next_tenant.max(id.0.saturating_add(1));
        if let Some(old) = self.tenants.insert(id, tenant.clone()) {
            self.tenant_names.remove(&old.name);
        }
        self.tenant_names.insert(tenant.name.clone(), id);
        assert_eq!(self.tenant_names.len(), self.tenants.len(), "a name is one tenant's");
    }

    fn put_topic(&mut self, topic: &Topic) {
        let id = topic.topic;
        self.next_topic = self.next_topic.max(id.0.saturating_add(1));
        self.version = self.version.max(topic.version);
        if let Some(old) = self.topics.get(&id) {
            if old.version > topic.version {
                return;
            }
            let old = old.clone();
            self.unlist(&old);
        }
        let names = self.topic_names.entry(topic.tenant).or_default();
        let other = names.insert(topic.name.clone(), id);
        assert!(other.is_none(), "a name is one topic's");
        *self.queue_counts.entry(topic.tenant).or_default() += topic.shards.len();
        self.topics.insert(id, topic.clone());
    }

    fn unlist(&mut self, topic: &Topic) {
        let names = self.topic_names.get_mut(&topic.tenant).expect("a topic is listed by name");
        let listed = names.remove(&topic.name);
        assert_eq!(listed, Some(topic.topic), "a topic is listed by name");
        let queues = self.queue_counts.get_mut(&topic.tenant).expect("queues are counted");
        *queues -= topic.shards.len();
        if names.is_empty() {
            assert_eq!(*queues, 0, "only topics have queues");
            self.topic_names.remove(&topic.tenant);
            self.queue_counts.remove(&topic.tenant);
        }
    }

    /// Everything, as changes.
    pub(crate) fn changes(&self) -> Vec<MetaChange> {
        let tenants = self.tenants.values().cloned().map(MetaChange::TenantPut);
        let topics = self.topics.values().cloned().map(MetaChange::TopicPut);
        let groups = self.groups.values().flat_map(BTreeMap::values);
        tenants.chain(topics).chain(groups.cloned().map(MetaChange::GroupPut)).collect()
    }

    pub(crate) fn check(&self) {
        assert!(self.tenants.contains_key(&DEFAULT_TENANT), "the default tenant exists");
        assert_eq!(self.tenant_names.len(), self.tenants.len(), "a name is one tenant's");
        let named: usize = self.topic_names.values().map(BTreeMap::len).sum();
        assert_eq!(named, self.topics.len(), "every topic is listed by name");
        let queues: usize = self.topics.values().map(|topic| topic.shards.len()).sum();
        assert_eq!(self.queue_counts.values().sum::<usize>(), queues, "queues are counted");
        for (id, topic) in &self.topics {
            assert!(id.0 < self.next_topic, "numbers are given out upwards");
            assert!(topic.version <= self.version, "a topic is not newer than the metadata");
            let found = self.topic_named(topic.tenant, &topic.name);
            assert_eq!(found.map(|found| found.topic), Some(*id), "a topic is found by its name");
        }
        for (name, settings) in self.groups.values().flatten() {
            assert_eq!(*name, settings.name, "settings are found by the group's name");
            assert!(settings.retry.check().is_ok(), "a retry policy was checked");
        }
    }
}

/// The shard of each of `queues` queues: one after another, beginning at a place that differs from
/// topic to topic, so that topics of few queues spread over the shards.
pub(crate) fn place_queues(topic: TopicId, queues: u16, shards: u16) -> Vec<ShardId> {
    assert!(shards >= 1, "there is a shard");
    let shard = |queue: u16| (u32::from(queue) + topic.0 % u32::from(shards)) % u32::from(shards);
    (0..queues).map(|queue| ShardId(shard(queue) as u16)).collect()
}

/// The shard of a queue, if the topic has it.
pub(crate) fn shard_of(topic: &Topic, queue: QueueIndex) -> Option<ShardId> {
    topic.shards.get(usize::from(queue.0)).copied()
}

/// The queues of a topic that a shard holds.
pub(crate) fn queues_on(topic: &Topic, shard: ShardId) -> impl Iterator<Item = QueueIndex> {
    assert!(topic.shards.len() <= usize::from(u16::MAX), "queues are counted in 16 bits");
    let shards = topic.shards.iter().zip(0u16..);
    shards.filter(move |(at, _)| **at == shard).map(|(_, queue)| QueueIndex(queue))
}

/// `u32` next tenant, `u32` next topic, `u64` version, then everything as changes.
impl Wire for MetaTable {
    fn put(&self, out: &mut Vec<u8>) {
        self.next_tenant.put(out);
        self.next_topic.put(out);
        self.version.put(out);
        self.changes().put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut table = Self::new();
        table.next_tenant = u32::take(input)?.max(table.next_tenant);
        table.next_topic = u32::take(input)?.max(table.next_topic);
        table.version = u64::take(input)?;
        for change in Vec::<MetaChange>::take(input)? {
            let fits = match &change {
                MetaChange::TenantPut(tenant) => {
                    let same = |other: &Tenant| other.tenant == tenant.tenant;
                    table.tenant_named(&tenant.name).is_none_or(same)
                }
                MetaChange::TopicPut(topic) => {
                    table.topic_named(topic.tenant, &topic.name).is_none()
                        && table.topic(topic.topic).is_none()
                }
                MetaChange::TopicRemoved { .. } => false,
                MetaChange::GroupPut(settings) => {
                    table.group_set(settings.tenant, &settings.name).is_none()
                        && settings.retry.check().is_ok()
                }
            };
            if !fits {
                return Err(Malformed::Field { what: "metadata of a snapshot", value: 0 });
            }
            table.apply(&change);
        }
        Ok(table)
    }
}
