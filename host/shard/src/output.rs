//! What a shard wants done: one closed enum.
use yard_broker::{
    Asked, Asking, DeliverItem, MetaChange, Notice, Origin, Reading, RetryQuestion, SessionId,
    Ticket,
};
use yard_store::{IndexRead, Io};
use yard_wire::request::Reply;
use yard_wire::requests::TxCheck;
use yard_wire::{
    QueueIndex, QueueOffset, RecordPlace, Refusal, ShardId, SubscriptionId, TenantId, Timestamp,
    TopicId,
};

use crate::find::{FindPlan, SeekPlan};

/// How records of a queue are come by.
#[derive(Clone, Debug)]
pub enum FetchPlan {
    /// By reading these records.
    Records(Vec<RecordPlace>),
    /// By reading these index entries, then the records that they name.
    Index(IndexRead),
}

/// Something that must be done.
#[derive(Debug)]
pub enum Output {
    /// Do this to the disk and bring the result as `Input::Io`. Writes of groups and syncs are
    /// done in the order listed; the others may take their time.
    Io(Io),
    /// Answer a request.
    Reply {
        /// The request.
        origin: Origin,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// Read index entries and bring them as `Input::Index`.
    ReadIndex {
        /// Names the question.
        ticket: Ticket,
        /// What to read.
        read: IndexRead,
    },
    /// Read records and bring their places and order groups, or keys, as `Input::Orders`, see
    /// [`FetchPlan::orders`].
    ReadOrders {
        /// Names the question.
        ticket: Ticket,
        /// What to read.
        plan: FetchPlan,
        /// What to find out of them.
        reading: Reading,
    },
    /// Read records and push them to a subscription.
    Deliver {
        /// The connection.
        session: SessionId,
        /// The subscription.
        subscription: SubscriptionId,
        /// Topic of the queue.
        topic: TopicId,
        /// The queue.
        queue: QueueIndex,
        /// The messages.
        items: Vec<DeliverItem>,
        /// Who is asked first which of them are wanted; answered by `Event::Judged` and
        /// `Event::Held`. None: all are.
        asking: Option<Asking>,
    },
    /// Read records and answer a fetch request with them.
    Fetch {
        /// The request.
        origin: Origin,
        /// Offset of the first record read.
        from: QueueOffset,
        /// Oldest offset of the queue.
        first: QueueOffset,
        /// Offset after the newest committed message.
        end: QueueOffset,
        /// Bytes of records at most, but always one record.
        bytes_max: u32,
        /// Where they are.
        plan: FetchPlan,
    },
    /// Search the log, and bring what came of it as `Event::Found`; answer the request with a
    /// refusal where the log cannot be read.
    Find {
        /// Who asks.
        asked: Asked,
        /// What to look at.
        plan: FindPlan,
    },
    /// Search the index by time and answer the request.
    Seek {
        /// The request.
        origin: Origin,
        /// Oldest offset of the queue.
        first: QueueOffset,
        /// Offset after the newest committed message.
        end: QueueOffset,
        /// What to look at.
        plan: SeekPlan,
    },
    /// Tell a consumer that its subscription ended.
    Ended {
        /// The connection.
        session: SessionId,
        /// The subscription.
        subscription: SubscriptionId,
        /// Why.
        why: Refusal,
    },
    /// A change of the metadata is durable: give it to every other shard, before any answer that
    /// follows in the list.
    Broadcast(MetaChange),
    /// Ask a plugin and bring what it decides as `Event::PolicyAnswered`; where it decides nothing
    /// in time, nothing is brought.
    AskPolicy(Box<RetryQuestion>),
    /// Give a shard, perhaps this one, `Event::Notice`.
    Notify {
        /// The shard.
        to: ShardId,
        /// What it is told.
        notice: Notice,
    },
    /// Ask a producer what is to become of a transaction.
    TxCheck {
        /// The connection.
        session: SessionId,
        /// The question.
        check: TxCheck,
    },
    /// Give the metadata shard `Event::EnsureTopic`.
    EnsureTopic {
        /// The tenant.
        tenant: TenantId,
        /// Name of the topic.
        name: String,
    },
    /// Call `step` at this instant or soon after, even without inputs. Replaces earlier ones.
    WakeAt(Timestamp),
}
