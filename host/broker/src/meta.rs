//! The metadata: tenants, topics, settings of groups, plugins. The metadata shard owns it; the
//! others receive its changes.
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use yard_wire::dedupe::check_window;
use yard_wire::limits::{
    DEDUPE_COUNT_DEFAULT, DEDUPE_COUNT_MAX, DEDUPE_WINDOW_MS_DEFAULT, ORDER_RETRY_MS_DEFAULT,
};
use yard_wire::order::{AfterLast, OrderRetry, TopicType};
use yard_wire::plugin::Digest;
use yard_wire::plugin_use::PluginUse;
use yard_wire::retry::{Attempts, RetryPolicy};
use yard_wire::share::Share;
use yard_wire::transaction::{CheckPolicy, Checks};
use yard_wire::units::{AgeLimit, CountLimit, SizeLimit};
use yard_wire::{Code, Malformed, Refusal, ShardId, TenantId, Timestamp, TopicId, Wire};

use crate::business::GroupKey;

yard_wire::message! {
    /// What a topic keeps, and how far its groups may be behind.
    #[derive(Copy, Default)]
    pub struct TopicLimits {
        /// Messages older than this may go.
        pub retain: AgeLimit,
        /// The newest so many bytes are kept; what is older may go.
        pub retain_bytes: SizeLimit,
        /// Whether they go though a group has not settled them.
        pub discard_unconsumed: bool,
        /// Messages that a group may be behind before producers are refused.
        pub backlog_max: CountLimit,
    }

    /// What a topic promises about order.
    #[derive(Copy, Default)]
    pub struct TopicOrder {
        /// Whether there is an order. It never changes.
        pub r#type: TopicType,
        /// When a message that failed comes again, in an ordered topic.
        pub retry: OrderRetry,
        /// What becomes of its order group after a message's last attempt, in an ordered topic.
        pub after_last: AfterLast,
    }

    /// Which dedupe keys of a topic are remembered: the newest so many, for so long.
    #[derive(Copy)]
    pub struct DedupeWindow {
        /// For how long; none: messages with such keys are refused.
        pub window: AgeLimit,
        /// How many, over all shards.
        pub count: CountLimit,
    }

    /// Who says which messages of a topic are the same.
    #[derive(Default)]
    pub struct DedupeBy {
        /// A plugin; none: whoever sends them.
        pub plugin: Option<PluginUse>,
        /// What it says nothing about is refused.
        pub strict: bool,
    }

    /// What can be set of a topic.
    #[derive(Default)]
    pub struct TopicSettings {
        /// A remark for people.
        pub note: String,
        /// What it keeps.
        pub limits: TopicLimits,
        /// The plugin that sees messages before they are stored.
        pub interceptor: Option<PluginUse>,
        /// What it promises about order.
        pub order: TopicOrder,
        /// Which dedupe keys are remembered.
        pub dedupe: DedupeWindow,
        /// Who says what they are.
        pub dedupe_by: DedupeBy,
        /// Of which share of its messages it is noted what happens to them.
        pub trace: Share,
    }

    /// A tenant.
    pub struct Tenant {
        /// Its id.
        pub tenant: TenantId,
        /// Its name.
        pub name: String,
        /// Whether its topics are created on first use.
        pub auto_create_topics: bool,
        /// Whether its plugins must be signed by a key that it trusts.
        pub require_signed: bool,
        /// When it was added.
        pub created: Timestamp,
    }

    /// A topic.
    pub struct Topic {
        /// Its id.
        pub topic: TopicId,
        /// The tenant that it belongs to.
        pub tenant: TenantId,
        /// Its name, unique in the tenant.
        pub name: Box<str>,
        /// The shard of each queue, queue 0 first. Topics that have the same share it.
        pub shards: Arc<[ShardId]>,
        /// How many queues it had when it was created; the others were added.
        pub created_queues: u16,
        /// What was set of it.
        pub settings: Settings,
        /// When it was created.
        pub created: Timestamp,
        /// Version of the metadata in which it last changed.
        pub version: u64,
    }

    /// What becomes of messages that fail in a group, and which are the same for it, in all topics
    /// that it consumes.
    pub struct GroupSettings {
        /// The tenant that it belongs to.
        pub tenant: TenantId,
        /// Name of the group.
        pub name: String,
        /// When a message comes again.
        pub retry: RetryPolicy,
        /// How often it is delivered at most.
        pub attempts: Attempts,
        /// Which messages are the same for it.
        pub key: GroupKey,
    }
}

impl DedupeWindow {
    const DEFAULT: Self = Self {
        window: AgeLimit(DEDUPE_WINDOW_MS_DEFAULT),
        count: CountLimit(DEDUPE_COUNT_DEFAULT),
    };
}

impl DedupeWindow {
    /// With what is given in place of its own.
    pub(crate) fn with(
        self,
        window: Option<AgeLimit>,
        count: Option<CountLimit>,
    ) -> Result<Self, Refusal> {
        let (window, count) = (window.unwrap_or(self.window), count.unwrap_or(self.count));
        window.get().map_or(Ok(()), check_window)?;
        if !(1..=DEDUPE_COUNT_MAX).contains(&count.0) {
            let detail = format!("a dedupe count of {}: 1 to {DEDUPE_COUNT_MAX}", count.0);
            return Err(Refusal::new(Code::BadArgument, detail));
        }
        Ok(Self { window, count })
    }
}

impl Default for DedupeWindow {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl GroupSettings {
    /// Those of a group for which nobody has set anything.
    pub(crate) fn default_for(tenant: TenantId, name: &str) -> Self {
        let (retry, attempts) = (RetryPolicy::default(), Attempts::default());
        Self { tenant, name: name.to_owned(), retry, attempts, key: GroupKey::default() }
    }
}

yard_wire::word! {
    /// How a version of a plugin is tried.
    pub enum TrialKind {
        /// It decides for a share of the queues.
        Canary = 0 "canary",
        /// It decides beside the active one, without effect.
        Shadow = 1 "shadow",
    }
}

yard_wire::message! {
    /// When producers of a group are asked about their open transactions.
    pub struct ProducerGroup {
        /// The tenant that it belongs to.
        pub tenant: TenantId,
        /// Its name, unique in the tenant.
        pub name: String,
        /// When they are asked.
        pub checks: Checks,
        /// Who is asked before them.
        pub check: CheckPolicy,
    }

    /// A plugin: the versions of one name, and which of them decides.
    pub struct Plugin {
        /// The tenant that it belongs to.
        pub tenant: TenantId,
        /// Its name, unique in the tenant.
        pub name: String,
        /// Its versions, oldest first.
        pub versions: Vec<PluginVersion>,
        /// Number of the version that decides; 0: none was made active.
        pub active: u32,
        /// Number of the version that was active before; 0: none.
        pub previous: u32,
        /// Nothing of it runs.
        pub disabled: bool,
        /// The version on trial.
        pub trial: Option<Trial>,
        /// Number of the next version.
        pub next: u32,
        /// When it last changed.
        pub changed: Timestamp,
        /// Version of the metadata in which it last changed.
        pub version: u64,
    }

    /// A version of a plugin.
    pub struct PluginVersion {
        /// Its number: 1, 2, 3 and so on, never used again.
        pub number: u32,
        /// SHA-256 of its file.
        pub hash: Digest,
        /// Bytes of its file.
        pub bytes: u32,
        /// What its author calls it.
        pub label: String,
        /// Its points, joined by commas.
        pub points: String,
        /// The key that signed it; none: nobody did.
        pub signer: Digest,
        /// When it was pushed.
        pub pushed: Timestamp,
    }

    /// A version on trial.
    #[derive(Copy)]
    pub struct Trial {
        /// Its number.
        pub version: u32,
        /// How it is tried.
        pub kind: TrialKind,
        /// Share of the queues, or of the batches, in percent.
        pub share: u16,
        /// A canary becomes active at this instant; 0: when somebody says so.
        pub until: Timestamp,
    }

    /// A plugin's file. It comes right before the plugin that has it, in one entry of the log; a
    /// file that no plugin has is forgotten when any plugin changes.
    pub struct PluginFile {
        /// SHA-256 of its bytes.
        pub hash: Digest,
        /// Its bytes.
        pub bytes: Bytes,
    }

    /// A key that a tenant trusts.
    pub struct TrustedKey {
        /// The tenant.
        pub tenant: TenantId,
        /// The public key.
        pub key: Digest,
        /// A remark for people.
        pub note: String,
        /// When it was added.
        pub added: Timestamp,
    }
}

/// The settings of a topic. Most topics have none, which then take no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Option<Box<TopicSettings>>);

/// What a topic has where nothing was set.
static UNSET: TopicSettings = TopicSettings {
    note: String::new(),
    limits: TopicLimits {
        retain: AgeLimit(0),
        retain_bytes: SizeLimit(0),
        discard_unconsumed: false,
        backlog_max: CountLimit(0),
    },
    interceptor: None,
    order: TopicOrder {
        r#type: TopicType::Normal,
        retry: OrderRetry(ORDER_RETRY_MS_DEFAULT),
        after_last: AfterLast::GoOn,
    },
    dedupe: DedupeWindow::DEFAULT,
    dedupe_by: DedupeBy { plugin: None, strict: false },
    trace: Share(0),
};

impl From<TopicSettings> for Settings {
    fn from(settings: TopicSettings) -> Self {
        Self((settings != UNSET).then(|| Box::new(settings)))
    }
}

impl Deref for Settings {
    type Target = TopicSettings;
    fn deref(&self) -> &TopicSettings {
        self.0.as_deref().unwrap_or(&UNSET)
    }
}

/// As the settings themselves.
impl Wire for Settings {
    fn put(&self, out: &mut Vec<u8>) {
        TopicSettings::put(self, out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        TopicSettings::take(input).map(Self::from)
    }
}

/// One change of the metadata. Applying a change twice is applying it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaChange {
    /// A tenant was added or changed.
    TenantPut(Tenant),
    /// A topic was created or changed.
    TopicPut(Topic),
    /// A topic was removed; the id is never used again.
    TopicRemoved {
        /// The topic.
        topic: TopicId,
        /// Version of the metadata from which on it is gone.
        version: u64,
    },
    /// The settings of a group were changed.
    GroupPut(GroupSettings),
    /// A group was removed; whoever subscribes with its name begins a new one.
    GroupRemoved {
        /// Whose it was.
        tenant: TenantId,
        /// Its name.
        name: String,
    },
    /// It was changed when producers of a group are asked about open transactions.
    ChecksPut(ProducerGroup),
    /// A plugin's file.
    PluginFile(PluginFile),
    /// A plugin was added or changed.
    PluginPut(Plugin),
    /// A plugin was removed.
    PluginRemoved {
        /// Whose it was.
        tenant: TenantId,
        /// Its name.
        name: String,
        /// Version of the metadata from which on it is gone.
        version: u64,
    },
    /// A key is trusted.
    KeyPut(TrustedKey),
    /// A key is trusted no longer.
    KeyRemoved {
        /// Whose it was.
        tenant: TenantId,
        /// The public key.
        key: Digest,
    },
}

impl TopicLimits {
    /// Whether messages go by age or size.
    pub(crate) fn expire(&self) -> bool {
        self.retain.get().is_some() || self.retain_bytes.get().is_some()
    }
}

impl Topic {
    /// How many queues it has.
    #[must_use]
    pub fn queues(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("queues are counted in 16 bits")
    }
}

impl Plugin {
    /// The version with a number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&PluginVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// Bytes of its files.
    pub(crate) fn bytes(&self) -> u64 {
        self.versions.iter().map(|version| u64::from(version.bytes)).sum()
    }
}
