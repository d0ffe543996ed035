//! Holding delivered messages for longer than their lease.
use crate::{QueueIndex, QueueOffset, ShardId, SubscriptionId, Timestamp};

message! {
    /// Hold delivered messages for longer, by ranges: their leases end `lease_ms` from now, but no
    /// later than [`crate::limits::LEASE_MS_MAX`] after they were delivered. No lease becomes
    /// shorter by it. Nothing is recorded: like the lease itself, it does not survive a restart.
    pub struct Extend {
        /// The shard of the subscription.
        pub shard: ShardId,
        /// The subscription that the messages were delivered to.
        pub subscription: SubscriptionId,
        /// From now on, in milliseconds: [`crate::limits::LEASE_MS_MIN`] to
        /// [`crate::limits::LEASE_MS_MAX`].
        pub lease_ms: u32,
        /// At most [`crate::limits::SETTLE_RANGES_MAX`].
        pub ranges: Vec<HeldRange>,
    }

    /// Messages of one queue that follow each other.
    pub struct HeldRange {
        /// The queue.
        pub queue: QueueIndex,
        /// Offset of the first message.
        pub from: QueueOffset,
        /// Offset after the last message.
        pub to: QueueOffset,
    }

    /// What an extend request did. Every offset of its ranges is in `done`, in `spent` or in
    /// `lost`.
    pub struct Extended {
        /// Messages that are held for longer now, or as long already.
        pub done: u64,
        /// The earliest end of their leases; 0 where there is none.
        pub until: Timestamp,
        /// Messages that are still held, but have been for so long that their leases end before
        /// what was asked for.
        pub spent: Vec<HeldRange>,
        /// Messages that this subscription holds no lease of.
        pub lost: Vec<HeldRange>,
    }
}
