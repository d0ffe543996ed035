//! What a consumer answers.
use super::HeldRange;
use crate::{QueueIndex, QueueOffset, ShardId, SubscriptionId};

word! {
    /// What became of a delivered message.
    pub enum Verdict {
        /// Done: it is not delivered to the group again.
        Ack = 0 "ack",
        /// Failed: it comes back after a delay; after its last attempt it counts as rejected.
        Nack = 1 "nack",
        /// Hopeless: it is not delivered again and is kept apart for an operator.
        Reject = 2 "reject",
        /// Nobody wants it any more: it is not delivered again, and counted apart. Its
        /// [`crate::property::EXPIRES`] has passed.
        Expire = 8 "expire",
        /// Given back as it came: it is delivered again at once, nothing is recorded, and the
        /// delivery does not count as an attempt. So a consumer parts with what it has not begun.
        Release = 9 "release",
    }
}

message! {
    /// Settle delivered messages, by ranges. Answered when the settlement is synced.
    pub struct Settle {
        /// The shard of the subscription.
        pub shard: ShardId,
        /// The subscription that the messages were delivered to.
        pub subscription: SubscriptionId,
        /// At most [`crate::limits::SETTLE_RANGES_MAX`].
        pub ranges: Vec<SettleRange>,
    }

    /// Messages of one queue that follow each other, all of the same attempt.
    pub struct SettleRange {
        /// The queue.
        pub queue: QueueIndex,
        /// Offset of the first message.
        pub from: QueueOffset,
        /// Offset after the last message.
        pub to: QueueOffset,
        /// Which of their deliveries it is about: [`super::Delivered::attempt`]. Once a message was
        /// delivered again, what is said of an earlier delivery changes nothing.
        pub attempt: u32,
        /// What became of them.
        pub verdict: Verdict,
        /// For a nack, when they come back, in milliseconds from now; `None`: the group's own
        /// delay, see [`crate::retry::RetryPolicy`]. Meaningless otherwise.
        pub delay_ms: Option<u32>,
        /// Why it failed, for a nack or reject, as the consumer says it: kept as the messages' last
        /// error. At most [`crate::limits::ERROR_TEXT_BYTES_MAX`] bytes, all of a request at most
        /// [`crate::limits::SETTLE_ERRORS_BYTES_MAX`].
        pub error: Option<String>,
    }

    /// What a settle request did. Every offset of its ranges is in `done`, in `lost` or in `other`.
    pub struct Settled {
        /// Messages settled.
        pub done: u64,
        /// Queue, first and after-last offset of messages that this subscription holds no lease
        /// of: they were settled already, or their lease ended.
        pub lost: Vec<(QueueIndex, (QueueOffset, QueueOffset))>,
        /// Messages that this subscription holds by another delivery than the one named, and goes
        /// on to hold; see [`HeldRange::refuses`].
        pub other: Vec<HeldRange>,
    }
}
