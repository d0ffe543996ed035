//! Tenants, topics, settings of groups, plugins. A name is resolved inside a tenant, so a foreign
//! one is as good as none.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use yard_tables::Paged;
use yard_wire::plugin_use::PluginUse;
use yard_wire::transaction::{CheckPolicy, Checks};
use yard_wire::{Malformed, QueueIndex, ShardId, TenantId, Timestamp, TopicId, Wire};

use crate::meta::{GroupSettings, MetaChange, ProducerGroup, Tenant, Topic};
use crate::plugin_table::PluginTable;

/// The tenant that always exists.
pub(crate) const DEFAULT_TENANT: TenantId = TenantId(0);

/// What a tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    topics: usize,
    queues: usize,
}

/// The metadata as this shard knows it.
#[derive(Debug)]
pub(crate) struct MetaTable {
    tenants: BTreeMap<TenantId, Tenant>,
    topics: Paged<TopicId, Topic>,
    /// Topics by the hashes of their names: the names themselves are in the topics.
    topic_names: Paged<(TenantId, u64, TopicId), ()>,
    /// Seed of the hashes: nobody outside can make names of equal hashes.
    seed: u64,
    /// Where the queues of topics are: each such list once, and how many topics share it.
    places: BTreeMap<Arc<[ShardId]>, usize>,
    tenant_names: BTreeMap<String, TenantId>,
    /// Topics of each tenant that has any, and their queues.
    counts: BTreeMap<TenantId, Counts>,
    /// Settings of groups that somebody has set.
    groups: BTreeMap<TenantId, BTreeMap<String, GroupSettings>>,
    /// When producers are asked about open transactions, of groups for which somebody has set it.
    checks: BTreeMap<TenantId, BTreeMap<String, (Checks, CheckPolicy)>>,
    pub(crate) plugins: PluginTable,
    next_tenant: u32,
    next_topic: u32,
    version: u64,
}

impl MetaTable {
    pub(crate) fn new(seed: u64) -> Self {
        let mut table = Self {
            tenants: BTreeMap::new(),
            topics: Paged::default(),
            topic_names: Paged::default(),
            seed,
            places: BTreeMap::new(),
            tenant_names: BTreeMap::new(),
            counts: BTreeMap::new(),
            groups: BTreeMap::new(),
            checks: BTreeMap::new(),
            plugins: PluginTable::default(),
            next_tenant: 0,
            next_topic: 1,
            version: 0,
        };
        table.apply(MetaChange::TenantPut(Tenant {
            tenant: DEFAULT_TENANT,
            name: "default".to_owned(),
            auto_create_topics: false,
            require_signed: false,
            created: Timestamp(0),
        }));
        assert_eq!(table.next_tenant, 1, "the default tenant has the first number");
        table
    }

    /// A topic of this tenant by name.
    pub(crate) fn topic_named(&self, tenant: TenantId, name: &str) -> Option<&Topic> {
        let hash = self.hash(name);
        let (first, last) = ((tenant, hash, TopicId(0)), (tenant, hash, TopicId(u32::MAX)));
        let mut same = self.topic_names.range(first..=last);
        same.find_map(|((_, _, id), ())| self.topics.get(id).filter(|it| *it.name == *name))
    }

    fn hash(&self, name: &str) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), self.seed)
    }

    /// A topic of this tenant by id.
    pub(crate) fn topic_of(&self, tenant: TenantId, topic: TopicId) -> Option<&Topic> {
        self.topics.get(&topic).filter(|topic| topic.tenant == tenant)
    }

    /// A topic of whichever tenant, for what is not an answer to one.
    pub(crate) fn topic(&self, topic: TopicId) -> Option<&Topic> {
        self.topics.get(&topic)
    }

    /// The topics of a tenant, by name.
    pub(crate) fn topics_of(&self, tenant: TenantId) -> impl Iterator<Item = &Topic> {
        let all = (tenant, 0, TopicId(0))..=(tenant, u64::MAX, TopicId(u32::MAX));
        let listed = self.topic_names.range(all).map(|((_, _, id), ())| *id);
        let mut topics: Vec<&Topic> = listed.filter_map(|id| self.topics.get(&id)).collect();
        topics.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        topics.into_iter()
    }

    /// Every topic.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    pub(crate) fn topic_count_of(&self, tenant: TenantId) -> usize {
        self.counts.get(&tenant).map_or(0, |counts| counts.topics)
    }

    /// Queues of all topics of a tenant.
    pub(crate) fn queue_count_of(&self, tenant: TenantId) -> usize {
        self.counts.get(&tenant).map_or(0, |counts| counts.queues)
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

    /// When producers of a group are asked about open transactions.
    pub(crate) fn checks(&self, tenant: TenantId, group: &str) -> Checks {
        self.checks_set(tenant, group).map(|(checks, _)| *checks).unwrap_or_default()
    }

    /// The plugin that is asked about open transactions of a group before its producers are.
    pub(crate) fn check_plugin(&self, tenant: TenantId, group: &str) -> Option<&PluginUse> {
        self.checks_set(tenant, group).and_then(|(_, policy)| policy.plugin())
    }

    fn checks_set(&self, tenant: TenantId, group: &str) -> Option<&(Checks, CheckPolicy)> {
        self.checks.get(&tenant)?.get(group)
    }

    /// Whether somebody has set that.
    pub(crate) fn has_checks(&self, tenant: TenantId, group: &str) -> bool {
        self.checks_set(tenant, group).is_some()
    }

    /// Producer groups of a tenant for which somebody has set it.
    pub(crate) fn checks_count_of(&self, tenant: TenantId) -> usize {
        self.checks.get(&tenant).map_or(0, BTreeMap::len)
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
    pub(crate) fn apply(&mut self, change: MetaChange) {
        match change {
            MetaChange::TenantPut(tenant) => self.put_tenant(tenant),
            MetaChange::TopicPut(topic) => self.put_topic(topic),
            MetaChange::TopicRemoved { topic, version } => {
                self.version = self.version.max(version);
                self.next_topic = self.next_topic.max(topic.0.saturating_add(1));
                if let Some(removed) = self.topics.remove(&topic) {
                    self.unlist(&removed);
                    self.forget_places(&removed.shards);
                }
            }
            MetaChange::GroupPut(settings) => {
                let groups = self.groups.entry(settings.tenant).or_default();
                groups.insert(settings.name.clone(), settings);
            }
            MetaChange::GroupRemoved { tenant, name } => {
                if let Some(groups) = self.groups.get_mut(&tenant) {
                    groups.remove(&name);
                    if groups.is_empty() {
                        self.groups.remove(&tenant);
                    }
                }
            }
            MetaChange::ChecksPut(ProducerGroup { tenant, name, checks, check }) => {
                self.checks.entry(tenant).or_default().insert(name, (checks, check));
            }
            MetaChange::PluginFile(file) => self.plugins.put_file(&file),
            MetaChange::PluginPut(plugin) => {
                self.version = self.version.max(plugin.version);
                self.plugins.put(&plugin);
            }
            MetaChange::PluginRemoved { tenant, name, version } => {
                self.version = self.version.max(version);
                self.plugins.remove(tenant, &name, version);
            }
            MetaChange::KeyPut(key) => self.plugins.trust(&key),
            MetaChange::KeyRemoved { tenant, key } => self.plugins.distrust(tenant, &key),
        }
    }

    fn put_tenant(&mut self, tenant: Tenant) {
        let id = tenant.tenant;
        self.next_tenant = self.next_tenant.max(id.0.saturating_add(1));
        let name = tenant.name.clone();
        if let Some(old) = self.tenants.insert(id, tenant) {
            self.tenant_names.remove(&old.name);
        }
        self.tenant_names.insert(name, id);
        assert_eq!(self.tenant_names.len(), self.tenants.len(), "a name is one tenant's");
    }

    fn put_topic(&mut self, mut topic: Topic) {
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
        topic.shards = self.share_places(topic.shards);
        assert!(self.topic_named(topic.tenant, &topic.name).is_none(), "a name is one topic's");
        let key = (topic.tenant, self.hash(&topic.name), id);
        self.topic_names.insert(key, ());
        let counts = self.counts.entry(topic.tenant).or_default();
        counts.topics += 1;
        counts.queues += topic.shards.len();
        if let Some(old) = self.topics.insert(id, topic) {
            self.forget_places(&old.shards);
        }
    }

    /// The same list, of which no other topic has a copy of its own.
    fn share_places(&mut self, shards: Arc<[ShardId]>) -> Arc<[ShardId]> {
        let shared = self.places.get_key_value(&shards).map(|(shared, _)| Arc::clone(shared));
        let shared = shared.unwrap_or(shards);
        *self.places.entry(Arc::clone(&shared)).or_default() += 1;
        shared
    }

    /// A topic is no more, or has others.
    fn forget_places(&mut self, shards: &Arc<[ShardId]>) {
        let topics = self.places.get_mut(shards).expect("the topic's list is kept");
        *topics -= 1;
        if *topics == 0 {
            self.places.remove(shards);
        }
    }

    fn unlist(&mut self, topic: &Topic) {
        let key = (topic.tenant, self.hash(&topic.name), topic.topic);
        let listed = self.topic_names.remove(&key);
        assert!(listed.is_some(), "a topic is listed by name");
        let counts = self.counts.get_mut(&topic.tenant).expect("topics are counted");
        counts.topics -= 1;
        counts.queues -= topic.shards.len();
        if counts.topics == 0 {
            assert_eq!(counts.queues, 0, "only topics have queues");
            self.counts.remove(&topic.tenant);
        }
    }

    /// Everything, as changes. Whoever knows a topic knows the settings of its groups: nobody is
    /// given a message that they forbid.
    pub(crate) fn changes(&self) -> Vec<MetaChange> {
        let tenants = self.tenants.values().cloned().map(MetaChange::TenantPut);
        let topics = self.topics.values().cloned().map(MetaChange::TopicPut);
        tenants.chain(self.group_puts()).chain(topics).chain(self.rest()).collect()
    }

    /// What there is beside tenants and topics, as changes.
    fn others(&self) -> impl Iterator<Item = MetaChange> {
        self.group_puts().chain(self.rest())
    }

    fn group_puts(&self) -> impl Iterator<Item = MetaChange> {
        self.groups.values().flat_map(BTreeMap::values).cloned().map(MetaChange::GroupPut)
    }

    fn rest(&self) -> impl Iterator<Item = MetaChange> {
        let checks = self.checks.iter().flat_map(|(tenant, groups)| {
            let put = |(name, (checks, check)): (&String, &(Checks, CheckPolicy))| {
                let (tenant, name, checks, check) = (*tenant, name.clone(), *checks, check.clone());
                MetaChange::ChecksPut(ProducerGroup { tenant, name, checks, check })
            };
            groups.iter().map(put)
        });
        checks.chain(self.plugins.changes())
    }

    pub(crate) fn check(&self) {
        assert!(self.tenants.contains_key(&DEFAULT_TENANT), "the default tenant exists");
        self.plugins.check();
        assert_eq!(self.tenant_names.len(), self.tenants.len(), "a name is one tenant's");
        assert_eq!(self.topic_names.len(), self.topics.len(), "every topic is listed by name");
        let mut counted: BTreeMap<TenantId, Counts> = BTreeMap::new();
        let mut places: BTreeMap<Arc<[ShardId]>, usize> = BTreeMap::new();
        for (id, topic) in self.topics.iter() {
            *places.entry(Arc::clone(&topic.shards)).or_default() += 1;
            let counts = counted.entry(topic.tenant).or_default();
            counts.topics += 1;
            counts.queues += topic.shards.len();
            assert!(id.0 < self.next_topic, "numbers are given out upwards");
            assert!(topic.version <= self.version, "a topic is not newer than the metadata");
            let found = self.topic_named(topic.tenant, &topic.name);
            assert_eq!(found.map(|found| found.topic), Some(*id), "a topic is found by its name");
        }
        assert_eq!(places, self.places, "topics share their lists of places");
        assert_eq!(counted, self.counts, "topics and queues are counted");
        for (name, settings) in self.groups.values().flatten() {
            assert_eq!(*name, settings.name, "settings are found by the group's name");
            assert!(settings.retry.check().is_ok(), "a retry policy was checked");
            assert!(settings.key.property.check().is_ok(), "a business key was checked");
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
impl MetaTable {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.next_tenant.put(out);
        self.next_topic.put(out);
        self.version.put(out);
        let others: Vec<MetaChange> = self.others().collect();
        ((self.tenants.len() + self.topics.len() + others.len()) as u32).put(out);
        self.tenants.values().for_each(|tenant| MetaChange::put_tenant(tenant, out));
        self.topics.values().for_each(|topic| MetaChange::put_topic(topic, out));
        others.iter().for_each(|other| other.put(out));
    }

    /// Reads a table whose hashes are to have this seed.
    pub(crate) fn take(seed: u64, input: &mut Bytes) -> Result<Self, Malformed> {
        let mut table = Self::new(seed);
        table.next_tenant = u32::take(input)?.max(table.next_tenant);
        table.next_topic = u32::take(input)?.max(table.next_topic);
        table.version = u64::take(input)?;
        // One by one: there may be hundreds of thousands.
        for _ in 0..u32::take(input)? {
            let change = MetaChange::take(input)?;
            let fits = match &change {
                MetaChange::TenantPut(tenant) => {
                    let same = |other: &Tenant| other.tenant == tenant.tenant;
                    table.tenant_named(&tenant.name).is_none_or(same)
                }
                MetaChange::TopicPut(topic) => {
                    table.topic_named(topic.tenant, &topic.name).is_none()
                        && table.topic(topic.topic).is_none()
                }
                MetaChange::GroupPut(settings) => {
                    table.group_set(settings.tenant, &settings.name).is_none()
                        && settings.retry.check().is_ok()
                        && settings.key.property.check().is_ok()
                }
                MetaChange::ChecksPut(settings) => {
                    !table.has_checks(settings.tenant, &settings.name)
                }
                MetaChange::PluginFile(_) | MetaChange::PluginPut(_) | MetaChange::KeyPut(_) => {
                    true
                }
                MetaChange::TopicRemoved { .. }
                | MetaChange::GroupRemoved { .. }
                | MetaChange::PluginRemoved { .. }
                | MetaChange::KeyRemoved { .. } => false,
            };
            if !fits {
                return Err(Malformed::Field { what: "metadata of a snapshot", value: 0 });
            }
            table.apply(change);
        }
        Ok(table)
    }
}
