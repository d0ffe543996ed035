//! The operations of the catalogue that concern topics, tenants and the settings of groups.
use yard_wire::limits::{GROUPS_MAX, QUEUES_MAX, RETRY_DELAY_MS_MAX, TOPICS_MAX};
use yard_wire::name::is_system;
use yard_wire::operation::{
    Arguments, GroupSet, GroupSettingsRow, Operation, QueueRow, TenantAdd, TenantAdded, TenantRow,
    TenantSet, TopicCreate, TopicReport, TopicRow, TopicSet,
};
use yard_wire::plugin_use::PluginChoice;
use yard_wire::request::Reply;
use yard_wire::requests::{Call, Called};
use yard_wire::{Code, MessageId, Refusal, TenantId, Timestamp, TopicId, Wire};

use crate::bounds::{
    GROUP_QUEUES_MAX, NOTE_BYTES_MAX, RESULT_BYTES_MAX, TENANTS_MAX, TOPIC_QUEUES_MAX,
};
use crate::broker::{Broker, METADATA_SHARD};
use crate::business::GroupKey;
use crate::effect::{Effect, Then};
use crate::entry::Entry;
use crate::event::Origin;
use crate::meta::{
    DedupeBy, DedupeWindow, MetaChange, Tenant, Topic, TopicLimits, TopicOrder, TopicSettings,
};
use crate::meta_table::{place_queues, queues_on};
use crate::refusal::{BadArgument, LimitReached, NoTopic, OperateError, SystemTopic};
use crate::transaction::prepared::TxName;

/// What an operation comes to.
pub(crate) enum Outcome {
    /// A result that can be given now.
    Now(Reply),
    /// A report that the log has to fill in.
    Describe(TopicId, TopicReport),
    /// Nothing has to change, but what is told may have been appended just now.
    Unchanged(Reply),
    /// A change, and the result once it is durable.
    Change(MetaChange, Reply),
    /// An entry of this shard, and the result once it is durable.
    Record(Entry, Reply),
    /// A group of the system's, what it says first, and the result once both are durable.
    Found { group: Entry, says: Entry, reply: Reply },
    /// A transaction is committed, or rolled back, and the result once that is durable.
    Decide(TxName, bool, Reply),
    /// The log is searched for a message, and the result made of what it says.
    Trace(MessageId),
}

pub(crate) fn called(result: &impl Wire) -> Reply {
    Reply::Call(Called { result: result.to_bytes() })
}

/// A list as a result, if it fits a frame.
pub(crate) fn listed<T: Wire>(
    rows: impl Iterator<Item = Result<T, OperateError>>,
) -> Result<Reply, OperateError> {
    let mut count = 0u32;
    let mut out = count.to_bytes().to_vec();
    for row in rows {
        row?.put(&mut out);
        count += 1;
        check_result(&out)?;
    }
    out[..4].copy_from_slice(&count.to_le_bytes());
    Ok(Reply::Call(Called { result: out.into() }))
}

/// Whether a result may become as large as what was encoded of it so far.
pub(crate) fn check_result(encoded: &[u8]) -> Result<(), OperateError> {
    if encoded.len() <= RESULT_BYTES_MAX {
        return Ok(());
    }
    let fact = LimitReached { what: "bytes of the list", max: RESULT_BYTES_MAX };
    Err(OperateError::LimitReached(fact))
}

impl Broker {
    pub(crate) fn call(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        call: Call,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let operation = Operation::from_number(call.operation).ok_or_else(|| {
            Refusal::new(Code::UnknownRequest, format!("no operation {}", call.operation))
        })?;
        let arguments = Arguments::from_bytes(operation, call.args)
            .map_err(|malformed| malformed.refusal(Code::BadArgument))?;
        match self.operate(tenant, arguments).map_err(Refusal::from)? {
            Outcome::Now(reply) => effects.push(Effect::Reply { origin, result: Ok(reply) }),
            Outcome::Describe(topic, report) => {
                effects.push(Effect::Describe { origin, topic, report });
            }
            Outcome::Unchanged(reply) => Self::reply_durable(origin, reply, effects),
            Outcome::Record(entry, reply) => {
                // An order group may go on by it.
                self.wake(self.now);
                let then = vec![Then::Reply { origin, reply }];
                effects.push(Effect::Append { entry, then });
            }
            Outcome::Found { group, says, reply } => {
                let then = vec![Then::Reply { origin, reply }];
                let then = vec![Then::Append { entry: Box::new(says), then }];
                effects.push(Effect::Append { entry: group, then });
            }
            Outcome::Decide(name, commit, reply) => {
                self.append_decision(name, commit, Some((origin, reply)), effects);
            }
            Outcome::Trace(id) => self.begin_trace(origin, tenant, id, effects),
            Outcome::Change(change, reply) => {
                if let MetaChange::TopicRemoved { .. } | MetaChange::GroupPut(_) = change {
                    // The subscriptions end when the entry was applied; then they are told. What
                    // groups compare messages by has changed then.
                    self.wake(self.now);
                }
                Self::append_meta(vec![change], origin, reply, effects);
            }
        }
        Ok(())
    }

    /// Appends changes of the metadata; when they are durable, the others hear of them, then the
    /// caller.
    pub(crate) fn append_meta(
        changes: Vec<MetaChange>,
        origin: Origin,
        reply: Reply,
        effects: &mut Vec<Effect>,
    ) {
        assert!(!changes.is_empty(), "an entry says something");
        let mut then: Vec<Then> = changes.iter().cloned().map(Then::Broadcast).collect();
        then.push(Then::Reply { origin, reply });
        effects.push(Effect::Append { entry: Entry::Meta { changes }, then });
    }

    fn operate(&self, tenant: TenantId, arguments: Arguments) -> Result<Outcome, OperateError> {
        match arguments {
            Arguments::TopicCreate(arguments) => self.topic_create(tenant, &arguments),
            Arguments::TopicLs(_) => {
                listed(self.meta.topics_of(tenant).map(topic_row).map(Ok)).map(Outcome::Now)
            }
            Arguments::TopicInfo(arguments) => self.topic_info(tenant, &arguments.name),
            Arguments::TopicSet(arguments) => self.topic_set(tenant, arguments),
            Arguments::TopicRm(arguments) => self.topic_rm(tenant, &arguments.name),
            Arguments::GroupLs(_) => self.group_ls(tenant).map(Outcome::Now),
            Arguments::GroupInfo(arguments) => {
                self.group_info(tenant, arguments.name).map(Outcome::Now)
            }
            Arguments::GroupSet(arguments) => self.group_set(tenant, arguments),
            Arguments::GroupRm(arguments) => self.group_rm(tenant, arguments),
            Arguments::GroupStopped(arguments) => self.group_stopped(tenant, &arguments.name),
            Arguments::GroupUnblock(arguments) => self.group_unblock(tenant, arguments),
            Arguments::GroupDrain(arguments) => self.group_drain(tenant, &arguments),
            Arguments::GroupDrained(_) => self.group_drained(tenant),
            Arguments::GroupReturn(arguments) => self.group_return(tenant, &arguments),
            Arguments::DelayLs(arguments) => self.delay_ls(tenant, &arguments),
            Arguments::DelayCancel(arguments) => self.delay_cancel(tenant, &arguments),
            Arguments::DlqLs(_) => self.dlq_ls(tenant),
            Arguments::DlqWaiting(arguments) => self.dlq_waiting(tenant, &arguments),
            Arguments::DlqDone(arguments) => self.dlq_done(tenant, &arguments),
            Arguments::TxLs(arguments) => self.tx_ls(tenant, &arguments),
            Arguments::TxInfo(arguments) => self.tx_info(tenant, arguments.id),
            Arguments::TxCommit(arguments) => self.tx_settle(tenant, arguments.id, true),
            Arguments::TxRollback(arguments) => self.tx_settle(tenant, arguments.id, false),
            Arguments::TxSet(arguments) => self.tx_set(tenant, arguments),
            Arguments::MsgTrace(arguments) => Ok(Outcome::Trace(arguments.id)),
            Arguments::TenantAdd(arguments) => self.tenant_add(arguments),
            Arguments::TenantLs(_) => {
                listed(self.meta.tenants().map(tenant_row).map(Ok)).map(Outcome::Now)
            }
            Arguments::TenantSet(arguments) => self.tenant_set(arguments),
            Arguments::PluginLs(_) => self.plugin_ls(tenant),
            Arguments::PluginGet(arguments) => self.plugin_get(tenant, &arguments),
            Arguments::PluginInfo(arguments) => self.plugin_info(tenant, &arguments.name),
            Arguments::PluginPromote(arguments) => self.plugin_promote(tenant, &arguments),
            Arguments::PluginRollback(arguments) => self.plugin_rollback(tenant, &arguments.name),
            Arguments::PluginDisable(arguments) => self.plugin_disable(tenant, &arguments.name),
            Arguments::PluginRm(arguments) => self.plugin_rm(tenant, &arguments),
            Arguments::PluginShadow(arguments) => self.plugin_shadow(tenant, &arguments),
            Arguments::PluginCanary(arguments) => self.plugin_canary(tenant, &arguments),
            Arguments::PluginTrust(arguments) => self.plugin_trust(tenant, &arguments),
            Arguments::PluginDistrust(arguments) => self.plugin_distrust(tenant, &arguments),
            Arguments::PluginKeys(_) => self.plugin_keys(tenant),
            Arguments::PluginLogs(arguments) => self.plugin_logs(tenant, &arguments.name),
            Arguments::PluginDifferences(of) => self.plugin_differences(tenant, &of.name),
            Arguments::BrokerInfo(_) | Arguments::ClientLs(_) | Arguments::PluginPush(_) => {
                Err(OperateError::NotOurs)
            }
        }
    }

    pub(crate) fn topic_named(&self, tenant: TenantId, name: &str) -> Result<&Topic, OperateError> {
        let topic = self.meta.topic_named(tenant, name);
        topic.ok_or_else(|| OperateError::NoTopic(NoTopic::Named(name.to_owned())))
    }

    /// A topic that applications may change.
    pub(crate) fn own_topic_named(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<&Topic, OperateError> {
        let topic = self.topic_named(tenant, name)?;
        if is_system(&topic.name) {
            return Err(OperateError::SystemTopic(SystemTopic(topic.name.to_string())));
        }
        Ok(topic)
    }

    fn topic_create(
        &self,
        tenant: TenantId,
        arguments: &TopicCreate,
    ) -> Result<Outcome, OperateError> {
        let TopicCreate { name, queues, note, interceptor, trace, .. } = arguments;
        let limits = TopicLimits {
            retain: arguments.retain,
            retain_bytes: arguments.retain_bytes,
            discard_unconsumed: arguments.discard_unconsumed,
            backlog_max: arguments.backlog_max,
        };
        let order = TopicOrder {
            r#type: arguments.r#type,
            retry: arguments.order_retry,
            after_last: arguments.after_last,
        };
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        yard_wire::name::check(name).map_err(OperateError::BadName)?;
        check_queues(*queues)?;
        check_note(note)?;
        check_order(order)?;
        let dedupe = DedupeWindow::default()
            .with(arguments.dedupe_window, arguments.dedupe_count)
            .map_err(OperateError::BadWindow)?;
        let (plugin, strict) = (arguments.dedupe_plugin.0.clone(), arguments.dedupe_strict);
        let dedupe_by = DedupeBy { plugin, strict };
        check_dedupe(name, dedupe, &dedupe_by)?;
        if let Some(topic) = self.meta.topic_named(tenant, name) {
            let has = &*topic.settings;
            let same_keys = has.dedupe == dedupe && has.dedupe_by == dedupe_by;
            let same_plugins = has.interceptor == interceptor.0 && same_keys;
            let same_limits = has.limits == limits && has.trace == *trace;
            let is_same = same_plugins && same_limits && has.order == order;
            if topic.shards.len() == usize::from(*queues) && is_same {
                return Ok(Outcome::Unchanged(called(&topic_row(topic))));
            }
            let queues = topic.shards.len();
            let order = topic.settings.order.r#type;
            return Err(OperateError::TopicExists { name: name.clone(), queues, order });
        }
        if self.meta.tenant(tenant).is_none() {
            return Err(OperateError::NoTenant(tenant.to_string()));
        }
        if self.meta.topic_count_of(tenant) >= TOPICS_MAX {
            let fact = LimitReached { what: "topics of the tenant", max: TOPICS_MAX };
            return Err(OperateError::LimitReached(fact));
        }
        self.check_room(tenant, usize::from(*queues))?;
        let mut topic = self.new_topic(tenant, name, *queues, 0);
        let (note, interceptor, trace) = (note.clone(), interceptor.0.clone(), *trace);
        let settings = TopicSettings { note, limits, interceptor, order, dedupe, dedupe_by, trace };
        topic.settings = settings.into();
        let reply = called(&topic_row(&topic));
        Ok(Outcome::Change(MetaChange::TopicPut(topic), reply))
    }

    fn topic_info(&self, tenant: TenantId, name: &str) -> Result<Outcome, OperateError> {
        let topic = self.topic_named(tenant, name)?;
        let shard = self.config.shard;
        let rows = queues_on(topic, shard).map(|queue| {
            let ends = self.ends_of(topic.topic, queue);
            assert!(ends.first <= ends.end, "a queue does not end before it begins");
            let messages = ends.end.0 - ends.first.0;
            let (bytes, oldest_ms, newest_ms) = (0, Timestamp(0), Timestamp(0));
            let (first, end) = (ends.first, ends.end);
            QueueRow { queue, shard, first, end, messages, bytes, oldest_ms, newest_ms }
        });
        let queues: Vec<QueueRow> = rows.collect();
        let TopicSettings { note, limits, interceptor, order, dedupe, dedupe_by, trace } =
            &*topic.settings;
        let report = TopicReport {
            name: topic.name.to_string(),
            id: topic.topic,
            note: note.clone(),
            retain: limits.retain,
            retain_bytes: limits.retain_bytes,
            discard_unconsumed: limits.discard_unconsumed,
            backlog_max: limits.backlog_max,
            interceptor: PluginChoice(interceptor.clone()),
            dedupe_window: dedupe.window,
            dedupe_count: dedupe.count,
            dedupe_plugin: PluginChoice(dedupe_by.plugin.clone()),
            dedupe_strict: dedupe_by.strict,
            trace: *trace,
            created_ms: topic.created,
            dedupe_keys: self.windows.count_in(topic.topic) as u64,
            messages: queues.iter().map(|queue| queue.messages).sum(),
            r#type: order.r#type,
            order_retry: order.retry,
            after_last: order.after_last,
            queues,
        };
        Ok(Outcome::Describe(topic.topic, report))
    }

    fn topic_set(&self, tenant: TenantId, arguments: TopicSet) -> Result<Outcome, OperateError> {
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        let old = self.own_topic_named(tenant, &arguments.name)?;
        let mut topic = old.clone();
        if let Some(queues) = arguments.queues {
            check_queues(queues)?;
            if usize::from(queues) < old.shards.len() {
                let detail = format!("{queues} queues; it has {} already", old.shards.len());
                return Err(OperateError::BadArgument(BadArgument(detail)));
            }
            // The queues that exist stay where they are.
            let placed = place_queues(old.topic, queues, self.config.shards);
            topic.shards = [&old.shards[..], &placed[old.shards.len()..]].concat().into();
            assert_eq!(topic.shards.len(), usize::from(queues), "queues were added");
            self.check_room(tenant, topic.shards.len() - old.shards.len())?;
            self.check_group_room(old, &topic)?;
        }
        let mut settings = (*topic.settings).clone();
        if let Some(note) = arguments.note {
            check_note(&note)?;
            settings.note = note;
        }
        let limits = &mut settings.limits;
        limits.retain = arguments.retain.unwrap_or(limits.retain);
        limits.retain_bytes = arguments.retain_bytes.unwrap_or(limits.retain_bytes);
        limits.backlog_max = arguments.backlog_max.unwrap_or(limits.backlog_max);
        if let Some(discard_unconsumed) = arguments.discard_unconsumed {
            limits.discard_unconsumed = discard_unconsumed;
        }
        if let Some(PluginChoice(interceptor)) = arguments.interceptor {
            settings.interceptor = interceptor;
        }
        let order = &mut settings.order;
        order.retry = arguments.order_retry.unwrap_or(order.retry);
        order.after_last = arguments.after_last.unwrap_or(order.after_last);
        check_order(*order)?;
        settings.trace = arguments.trace.unwrap_or(settings.trace);
        settings.dedupe = settings
            .dedupe
            .with(arguments.dedupe_window, arguments.dedupe_count)
            .map_err(OperateError::BadWindow)?;
        let by = &mut settings.dedupe_by;
        if let Some(PluginChoice(plugin)) = arguments.dedupe_plugin {
            by.plugin = plugin;
        }
        by.strict = arguments.dedupe_strict.unwrap_or(by.strict);
        check_dedupe(&arguments.name, settings.dedupe, by)?;
        topic.settings = settings.into();
        let reply = called(&topic_row(&topic));
        if topic == *old {
            return Ok(Outcome::Unchanged(reply));
        }
        topic.version = self.meta.next_version();
        Ok(Outcome::Change(MetaChange::TopicPut(topic), reply))
    }

    /// Whether a tenant may have so many more queues.
    fn check_room(&self, tenant: TenantId, added: usize) -> Result<(), OperateError> {
        if self.meta.queue_count_of(tenant) + added <= TOPIC_QUEUES_MAX {
            return Ok(());
        }
        let fact = LimitReached { what: "queues of the tenant's topics", max: TOPIC_QUEUES_MAX };
        Err(OperateError::LimitReached(fact))
    }

    /// Whether the groups of a topic may have the queues that are added to it. This shard looks at
    /// its own: groups are on all shards of a topic, and its queues are spread evenly.
    fn check_group_room(&self, old: &Topic, new: &Topic) -> Result<(), OperateError> {
        let shard = self.config.shard;
        let added = queues_on(new, shard).count() - queues_on(old, shard).count();
        let added = added * self.groups.of_topic(old.topic).len();
        if self.groups.queue_count_of(old.tenant) + added <= GROUP_QUEUES_MAX {
            return Ok(());
        }
        let fact = LimitReached { what: "queues of the tenant's groups", max: GROUP_QUEUES_MAX };
        Err(OperateError::LimitReached(fact))
    }

    fn topic_rm(&self, tenant: TenantId, name: &str) -> Result<Outcome, OperateError> {
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        let topic = self.own_topic_named(tenant, name)?;
        self.check_no_drain_into(topic.topic)?;
        let version = self.meta.next_version();
        let change = MetaChange::TopicRemoved { topic: topic.topic, version };
        Ok(Outcome::Change(change, called(&topic_row(topic))))
    }

    fn group_set(&self, tenant: TenantId, arguments: GroupSet) -> Result<Outcome, OperateError> {
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        let key = self.meta.group(tenant, &arguments.name).key.clone();
        let key = key.with(&arguments).map_err(OperateError::BadWindow)?;
        let GroupSet { name, retry, max_attempts, .. } = arguments;
        yard_wire::name::check(&name).map_err(OperateError::BadName)?;
        let old = self.meta.group(tenant, &name);
        let is_new = self.meta.group_set(tenant, &name).is_none();
        if is_new && self.meta.group_count_of(tenant) >= GROUPS_MAX {
            let fact = LimitReached { what: "groups of the tenant", max: GROUPS_MAX };
            return Err(OperateError::LimitReached(fact));
        }
        let mut settings = old.clone().into_owned();
        if let Some(retry) = retry {
            retry.check().map_err(OperateError::BadRetryPolicy)?;
            settings.retry = retry;
        }
        settings.attempts = max_attempts.unwrap_or(settings.attempts);
        settings.key = key;
        let (retry, max_attempts) = (settings.retry.clone(), settings.attempts);
        let GroupKey { property: key, window } = settings.key.clone();
        let (key_window, key_count) = (window.window, window.count);
        let row = GroupSettingsRow { name, retry, max_attempts, key, key_window, key_count };
        let reply = called(&row);
        if settings == *old {
            return Ok(Outcome::Unchanged(reply));
        }
        Ok(Outcome::Change(MetaChange::GroupPut(settings), reply))
    }

    fn tenant_add(&self, arguments: TenantAdd) -> Result<Outcome, OperateError> {
        let TenantAdd { name, auto_create_topics, request: _ } = arguments;
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        yard_wire::name::check(&name).map_err(OperateError::BadName)?;
        if self.meta.tenant_named(&name).is_some() {
            return Err(OperateError::TenantExists(name));
        }
        if self.meta.tenants().len() >= TENANTS_MAX {
            let fact = LimitReached { what: "tenants", max: TENANTS_MAX };
            return Err(OperateError::LimitReached(fact));
        }
        let id = self.meta.next_tenant();
        let (require_signed, created) = (false, self.now);
        let tenant =
            Tenant { tenant: id, name: name.clone(), auto_create_topics, require_signed, created };
        // The server makes the certificate when it passes the answer on.
        let (certificate, authority) = (String::new(), String::new());
        let added = TenantAdded { name, id, auto_create_topics, certificate, authority };
        Ok(Outcome::Change(MetaChange::TenantPut(tenant), called(&added)))
    }

    fn tenant_set(&self, arguments: TenantSet) -> Result<Outcome, OperateError> {
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        let found = self.meta.tenant_named(&arguments.name);
        let old = found.ok_or(OperateError::NoTenant(arguments.name))?;
        let mut tenant = old.clone();
        if let Some(auto_create_topics) = arguments.auto_create_topics {
            tenant.auto_create_topics = auto_create_topics;
        }
        tenant.require_signed = arguments.require_signed.unwrap_or(tenant.require_signed);
        assert_eq!(tenant.tenant, old.tenant, "a tenant keeps its number");
        let reply = called(&tenant_row(&tenant));
        if tenant == *old {
            return Ok(Outcome::Unchanged(reply));
        }
        Ok(Outcome::Change(MetaChange::TenantPut(tenant), reply))
    }
}

fn check_queues(queues: u16) -> Result<(), OperateError> {
    if (1..=QUEUES_MAX).contains(&queues) {
        return Ok(());
    }
    let detail = format!("{queues} queues: 1 to {QUEUES_MAX}");
    Err(OperateError::BadArgument(BadArgument(detail)))
}

fn check_order(order: TopicOrder) -> Result<(), OperateError> {
    if order.retry.is_valid() {
        return Ok(());
    }
    let detail = format!("a retry after {} ms: 1 to {RETRY_DELAY_MS_MAX}", order.retry.0);
    Err(OperateError::BadArgument(BadArgument(detail)))
}

/// Whether keys that a plugin gives are remembered at all.
fn check_dedupe(name: &str, window: DedupeWindow, by: &DedupeBy) -> Result<(), OperateError> {
    if by.plugin.is_none() || window.window.get().is_some() {
        return Ok(());
    }
    let detail = format!("topic {name} would have a dedupe plugin and remember none of its keys");
    yard_wire::mark!(PluginKeysUnremembered);
    Err(OperateError::BadWindow(Refusal::new(Code::NoDedupeWindow, detail)))
}

pub(crate) fn check_note(note: &str) -> Result<(), OperateError> {
    if note.len() <= NOTE_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("a note of {} bytes, the limit is {NOTE_BYTES_MAX}", note.len());
    Err(OperateError::BadArgument(BadArgument(detail)))
}

fn topic_row(topic: &Topic) -> TopicRow {
    assert!(topic.shards.len() <= usize::from(QUEUES_MAX), "queues are bounded");
    let TopicSettings { note, limits, interceptor, order, dedupe, dedupe_by, trace } =
        &*topic.settings;
    TopicRow {
        name: topic.name.to_string(),
        id: topic.topic,
        queues: topic.shards.len() as u16,
        note: note.clone(),
        retain: limits.retain,
        retain_bytes: limits.retain_bytes,
        discard_unconsumed: limits.discard_unconsumed,
        backlog_max: limits.backlog_max,
        interceptor: PluginChoice(interceptor.clone()),
        dedupe_window: dedupe.window,
        dedupe_count: dedupe.count,
        dedupe_plugin: PluginChoice(dedupe_by.plugin.clone()),
        dedupe_strict: dedupe_by.strict,
        trace: *trace,
        created_ms: topic.created,
        r#type: order.r#type,
        order_retry: order.retry,
        after_last: order.after_last,
    }
}

fn tenant_row(tenant: &Tenant) -> TenantRow {
    TenantRow {
        name: tenant.name.clone(),
        id: tenant.tenant,
        auto_create_topics: tenant.auto_create_topics,
        require_signed: tenant.require_signed,
        created_ms: tenant.created,
    }
}
