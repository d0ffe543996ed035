//! Moving a group to other offsets.
use crate::{QueueIndex, QueueOffset, ShardId};

message! {
    /// Let a group go on from other offsets in queues of one shard, whether it has members or
    /// not; one that does not exist is created, and begins at the oldest message of the queues
    /// that are not named. Everything below such an offset counts as settled then, nothing above
    /// it does. Subscriptions of the group end with [`crate::Code::GroupMoved`], so that nothing
    /// that was delivered before can settle anything. Answered when it is synced.
    pub struct MoveGroup {
        /// The shard.
        pub shard: ShardId,
        /// Name of the group.
        pub group: String,
        /// Name of the topic.
        pub topic: String,
        /// Queues of this shard, each once, at most [`crate::limits::QUEUES_MAX`]. An offset below
        /// the oldest message means the oldest; one beyond the end is refused.
        pub to: Vec<(QueueIndex, QueueOffset)>,
    }

    /// The group was moved.
    pub struct GroupMoved {
        /// The queues that were named.
        pub queues: Vec<MovedQueue>,
        /// Subscriptions that ended by it.
        pub ended: u32,
    }

    /// A queue in which a group was moved.
    pub struct MovedQueue {
        /// The queue.
        pub queue: QueueIndex,
        /// Every message below was settled before; the oldest message where the group is new.
        pub before: QueueOffset,
        /// Every message below is settled now, none above.
        pub after: QueueOffset,
        /// Offset after the newest committed message.
        pub end: QueueOffset,
    }
}
