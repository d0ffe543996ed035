//! The metadata: tenants and topics. The metadata shard owns it; the others receive its changes.
use std::sync::Arc;

use yard_wire::units::{AgeLimit, CountLimit, SizeLimit};
use yard_wire::{ShardId, TenantId, Timestamp, TopicId};

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

    /// A tenant.
    pub struct Tenant {
        /// Its id.
        pub tenant: TenantId,
        /// Its name.
        pub name: String,
        /// Whether its topics are created on first use.
        pub auto_create_topics: bool,
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
        /// A remark for people.
        pub note: Box<str>,
        /// What it keeps.
        pub limits: TopicLimits,
        /// When it was created.
        pub created: Timestamp,
        /// Version of the metadata in which it last changed.
        pub version: u64,
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
}

impl TopicLimits {
    /// Whether messages go by age or size.
    pub(crate) fn expire(&self) -> bool {
        self.retain.get().is_some() || self.retain_bytes.get().is_some()
    }
}
