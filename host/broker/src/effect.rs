//! What the broker wants done: one closed enum.
use std::sync::Arc;

use yard_wire::operation::TopicReport;
use yard_wire::request::Reply;
use yard_wire::requests::{AckNodes, AckPlace, FindCursor, TxCheck};
use yard_wire::{
    QueueIndex, QueueOffset, RecordPlace, Refusal, ShardId, SubscriptionId, TenantId, Timestamp,
    TopicId,
};

use crate::entry::Entry;
use crate::event::{Origin, SessionId, Ticket};
use crate::find::{Asked, Search};
use crate::group::order::OrderKey;
use crate::judged::Asking;
use crate::meta::MetaChange;
use crate::policy::PolicyQuestion;
use crate::transaction::Notice;

/// Something that must be done. The shard does the effects of one `handle` in order, and all of
/// them before it calls `handle` again.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Append to the log, then call `Broker::apply` with the same entry at once, then do `then`
    /// when its time has come.
    Append {
        /// What to append.
        entry: Entry,
        /// What to do afterwards.
        then: Vec<Then>,
    },
    /// Answer a request now.
    Reply {
        /// The request.
        origin: Origin,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// Answer a request when everything appended so far is in the given place: for a duplicate
    /// whose first copy may not be durable yet, and a refusal that speaks of what may not be.
    ReplyAfter {
        /// The request.
        origin: Origin,
        /// Where everything appended so far must be.
        place: AckPlace,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// Look up the queue index; answered by `Event::Located`, possibly later.
    Locate {
        /// Names the question.
        ticket: Ticket,
        /// Topic of the queue.
        topic: TopicId,
        /// The queue.
        queue: QueueIndex,
        /// First offset wanted; it is committed.
        from: QueueOffset,
        /// Entries wanted at most.
        count: u32,
        /// Whether what the records say is wanted as well.
        reads: Option<Reads>,
    },
    /// Read records and push them to a subscription. Leases and credit are already taken.
    Deliver {
        /// The connection.
        session: SessionId,
        /// The subscription.
        subscription: SubscriptionId,
        /// Topic of the queue.
        topic: TopicId,
        /// The queue.
        queue: QueueIndex,
        /// What to deliver, at most `DELIVER_RECORDS_MAX` and, unless it is a single one,
        /// `DELIVER_BYTES_MAX`.
        items: Vec<DeliverItem>,
        /// Who is asked first which of them are wanted; answered by `Event::Judged` where some are
        /// not, by `Event::Held` where nobody could say. None: all are.
        asking: Option<Asking>,
    },
    /// Read records for a fetch request and answer it. Topic and queue are checked.
    Fetch {
        /// The request.
        origin: Origin,
        /// Topic of the queue.
        topic: TopicId,
        /// The queue.
        queue: QueueIndex,
        /// First offset wanted.
        from: QueueOffset,
        /// Oldest offset of the queue.
        first: QueueOffset,
        /// Offset after the newest committed message.
        end: QueueOffset,
        /// Records at most, already bounded.
        records_max: u32,
        /// Bytes at most, already bounded.
        bytes_max: u32,
    },
    /// Search the log; answered by `Event::Found`, later, or by a refusal where it cannot be read.
    Find {
        /// Who asks.
        asked: Asked,
        /// What is looked for.
        search: Search,
        /// Where to go on.
        after: Option<FindCursor>,
    },
    /// Find the first record of a queue that was stored at a time or later, and answer with its
    /// offset. Topic and queue are checked.
    Seek {
        /// The request.
        origin: Origin,
        /// Topic of the queue.
        topic: TopicId,
        /// The queue.
        queue: QueueIndex,
        /// The time.
        time: Timestamp,
        /// Oldest offset of the queue.
        first: QueueOffset,
        /// Offset after the newest committed message.
        end: QueueOffset,
    },
    /// Answer with this report, once what each queue holds was filled in: bytes and times, which
    /// the log knows.
    Describe {
        /// The request.
        origin: Origin,
        /// The topic.
        topic: TopicId,
        /// The report.
        report: TopicReport,
    },
    /// Ask a plugin what becomes of messages that failed, or of a transaction; answered by
    /// `Event::PolicyAnswered`, or not at all.
    AskPolicy(Box<PolicyQuestion>),
    /// Ask the metadata shard for a topic of the system, by `Event::EnsureTopic`.
    EnsureTopic {
        /// The tenant.
        tenant: TenantId,
        /// Its name.
        name: String,
    },
    /// Give a shard, perhaps this one, `Event::Notice`, when everything appended so far is synced.
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
    /// Tell a consumer that the broker ended its subscription.
    Ended {
        /// The connection.
        session: SessionId,
        /// The subscription.
        subscription: SubscriptionId,
        /// Why.
        why: Refusal,
    },
    /// Send `Event::Tick` at this instant or soon after; a later `WakeAt` replaces it.
    WakeAt(Timestamp),
}

/// What follows an append.
#[derive(Clone, Debug)]
pub enum Then {
    /// Answer a produce request with where its records went, when the entry is in `place`.
    Produced {
        /// The request.
        origin: Origin,
        /// Where the entry must be first.
        place: AckPlace,
        /// On how many nodes.
        nodes: AckNodes,
    },
    /// Answer any other request when the entry is synced.
    Reply {
        /// The request.
        origin: Origin,
        /// The answer.
        reply: Reply,
    },
    /// Give a shard, perhaps this one, `Event::Notice`, when the entry is synced.
    Notify {
        /// The shard.
        to: ShardId,
        /// What it is told.
        notice: Notice,
    },
    /// Give a committed change of the metadata to every other shard and to the server, when the
    /// entry is synced and before any reply that follows in the list.
    Broadcast(MetaChange),
    /// Append another entry at once, as by [`Effect::Append`]. Where there was no room for the one
    /// before it there is none for this one either, and whoever waits is refused.
    Append {
        /// What to append.
        entry: Box<Entry>,
        /// What to do afterwards.
        then: Vec<Then>,
    },
}

impl Then {
    /// Whether this answers a request of somebody who hears no answer.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        matches!(self, Self::Reply { origin, .. } if !origin.is_answered())
    }
}

/// What is wanted of records, see [`crate::Label`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The property by which messages are compared, if they are.
    pub property: Option<Arc<str>>,
    /// Of a message that names no order group, its first key stands for one.
    pub keys: bool,
}

/// One message to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverItem {
    /// Its place in the queue.
    pub offset: QueueOffset,
    /// 1 for the first delivery to the group.
    pub attempt: u32,
    /// Of an ordered topic, its order group: where it cannot be read, none of those behind it in
    /// its order group may be delivered before it.
    pub order: Option<OrderKey>,
    /// Its place in the log.
    pub place: RecordPlace,
}
