//! What can happen to the broker: one closed enum.
use yard_wire::batch::Batch;
use yard_wire::release::Target;
use yard_wire::request::Request;
use yard_wire::requests::{AckNodes, AckPlace};
use yard_wire::{
    Correlation, QueueIndex, QueueOffset, RecordPlace, Sequence, SubscriptionId, TenantId,
    Timestamp, TopicId,
};

use crate::entry::Progress;
use crate::find::{Asked, Findings};
use crate::group::label::Label;
use crate::judged::Range;
use crate::meta::MetaChange;
use crate::plugins::Pushed;
use crate::policy::PolicyAnswer;
use crate::retention::DiskLevel;
use crate::transaction::Notice;

/// A connection, by a number that the transport never uses again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Which request of which stream of which connection an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The connection.
    pub session: SessionId,
    /// The stream of the connection: 0 is the control stream, `n + 1` is data stream `n`.
    pub stream: u16,
    /// The request; 0: no answer is wanted.
    pub correlation: Correlation,
}

impl Origin {
    /// Whether somebody hears the answer.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.correlation != Correlation(0)
    }
}

/// A question about the queue index that the broker asked by `Effect::Locate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The committed end of a queue after a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueTail {
    /// Topic of the queue.
    pub topic: TopicId,
    /// The queue.
    pub queue: QueueIndex,
    /// Offset after its newest committed message.
    pub end: QueueOffset,
}

/// What a policy said about messages on their way to a subscription. Those that it wants were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The connection.
    pub session: SessionId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The queue.
    pub queue: QueueIndex,
    /// Messages that it does not want.
    pub skipped: Vec<Range>,
    /// Messages that nobody can decide about, each with what it does to the policy: at most
    /// `ERROR_TEXT_BYTES_MAX`.
    pub poison: Vec<(QueueOffset, String)>,
    /// Bytes of credit that all of these took.
    pub bytes: u64,
}

/// Messages on their way to a subscription about which no policy could be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The connection.
    pub session: SessionId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The queue.
    pub queue: QueueIndex,
    /// The messages.
    pub ranges: Vec<Range>,
    /// Bytes of credit that they took.
    pub bytes: u64,
    /// How long the queue waits, in milliseconds.
    pub wait_ms: u32,
}

/// Something that happened. Time is an argument of `handle`, not part of it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A batch arrived. Its bytes are checked; whether its topics and queues exist is not.
    Produce {
        /// Where it came from.
        origin: Origin,
        /// The tenant of the connection.
        tenant: TenantId,
        /// Where the bytes must be before the answer.
        place: AckPlace,
        /// On how many nodes.
        nodes: AckNodes,
        /// See [`yard_wire::requests::Produce::floor`].
        floor: Sequence,
        /// The batch.
        batch: Batch,
    },
    /// Any other request that concerns this shard. `Hello` and `Produce` never come this way.
    Request {
        /// Where it came from.
        origin: Origin,
        /// The tenant of the connection.
        tenant: TenantId,
        /// The request.
        request: Request,
    },
    /// A plugin was pushed, and checked. Sent to the metadata shard only.
    PluginPushed {
        /// The request.
        origin: Origin,
        /// The tenant of the connection.
        tenant: TenantId,
        /// The plugin.
        pushed: Box<Pushed>,
    },
    /// A connection is gone, whatever the reason.
    SessionClosed(SessionId),
    /// Messages became visible.
    Committed(Vec<QueueTail>),
    /// The answer to `Effect::Locate`: entries of the queue index from the offset asked for on,
    /// without gaps; fewer than asked where the queue or the index block ends, none when the
    /// index could not be read (ask again later).
    Located {
        /// The question.
        ticket: Ticket,
        /// Consecutive entries.
        places: Vec<RecordPlace>,
        /// Of each, what its record says, where that was asked for; else empty.
        labels: Vec<Label>,
    },
    /// What came of `Effect::Find`, later.
    Found {
        /// Who asked.
        asked: Asked,
        /// What was found, of all tenants.
        findings: Findings,
    },
    /// The other answer to `Effect::Locate`: the log does not hold the message asked for, nor those
    /// after it up to this offset.
    Gap {
        /// The question.
        ticket: Ticket,
        /// Offset after the last message that is gone.
        until: QueueOffset,
    },
    /// The bytes of a message that was to be delivered are damaged, and no later reading will give
    /// others.
    Unreadable {
        /// The connection.
        session: SessionId,
        /// The subscription that it was on its way to.
        subscription: SubscriptionId,
        /// The queue.
        queue: QueueIndex,
        /// The message.
        offset: QueueOffset,
    },
    /// A policy has decided about messages of a delivery.
    Judged(Judged),
    /// It could not be asked.
    Held(Held),
    /// A plugin has decided what becomes of messages that failed, or of a transaction.
    PolicyAnswered(PolicyAnswer),
    /// The log had no room for what was settled.
    NotRecorded {
        /// What was not recorded.
        progress: Progress,
        /// Whoever settled it is not told of that, and has let go of it.
        unanswered: bool,
        /// When there may be room, in milliseconds from now.
        wait_ms: u32,
    },
    /// The metadata shard has committed a change. Never sent to the metadata shard itself.
    Metadata(MetaChange),
    /// A shard wants a topic of the system. Sent to the metadata shard only; nobody waits for an
    /// answer but for the change of the metadata.
    EnsureTopic {
        /// The tenant.
        tenant: TenantId,
        /// Its name.
        name: String,
    },
    /// The groups of parked records were closed: where the next of them lie, in the order in which
    /// they were appended.
    Parked(Vec<Target>),
    /// Another shard, or this one, says something about a transaction.
    Notice(Notice),
    /// Time has passed; sent at or after the instant of the last `Effect::WakeAt`.
    Tick,
    /// Queues hold nothing below these offsets any more (retention).
    Trimmed(Vec<(TopicId, QueueIndex, QueueOffset)>),
    /// Segments below this number are gone; what is kept of them lies elsewhere.
    Retired {
        /// The first segment that there is.
        below: u32,
    },
    /// The disk is so full.
    Disk(DiskLevel),
}

/// What the log says about an entry when it is applied, live or at recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// For a batch and releases: queue by queue, in order of first use, where the records went.
    pub placed: Vec<yard_wire::requests::Placed>,
    /// When it was stored.
    pub stored: Timestamp,
}
