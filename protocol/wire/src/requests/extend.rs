//! Holding delivered messages for longer than their lease.
use crate::{Code, QueueIndex, QueueOffset, ShardId, SubscriptionId, Timestamp};

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

    /// Messages of one queue that follow each other, all of the same attempt.
    pub struct HeldRange {
        /// The queue.
        pub queue: QueueIndex,
        /// Offset of the first message.
        pub from: QueueOffset,
        /// Offset after the last message.
        pub to: QueueOffset,
        /// By which of their deliveries they are held: [`super::Delivered::attempt`].
        pub attempt: u32,
    }

    /// What an extend request did. Every offset of its ranges is in `done`, in `spent`, in `lost`
    /// or in `other`.
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
        /// Messages that it holds by another delivery than the one named: their leases are left
        /// as they are.
        pub other: Vec<HeldRange>,
    }
}

impl HeldRange {
    /// Why a delivery of these messages with another attempt number counts for nothing: a later one
    /// is held, or the number was never given.
    ///
    /// # Panics
    /// When it is the delivery by which they are held.
    #[must_use]
    pub fn refuses(&self, attempt: u32) -> Code {
        assert_ne!(attempt, self.attempt, "what is held is not refused");
        if attempt < self.attempt { Code::LeaseSuperseded } else { Code::LeaseForged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_delivery_is_superseded_and_a_later_one_was_never_made() {
        let (queue, from, to) = (QueueIndex(0), QueueOffset(4), QueueOffset(5));
        let held = HeldRange { queue, from, to, attempt: 2 };
        assert_eq!(held.refuses(1), Code::LeaseSuperseded);
        assert_eq!(held.refuses(3), Code::LeaseForged);
        assert_eq!(held.refuses(0), Code::LeaseSuperseded);
    }
}
