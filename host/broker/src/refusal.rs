//! What can stand against a request: facts, one enum for each request made of them, and the one
//! place that gives them codes and words.
mod reached;

use yard_wire::limits::{DELAY_MS_MAX, TX_MESSAGES_MAX};

use crate::bounds::{BACKLOG_LOOK_MS, DAY_MS, DEDUPE_WAIT_MS, DISK_FULL_WAIT_MS};
use crate::relocate::MOVED_WAIT_MS;
use yard_wire::order::TopicType;
use yard_wire::requests::AckNodes;
use yard_wire::{
    Code, Epoch, MessageId, QueueIndex, QueueOffset, Refusal, Sequence, ShardId, SubscriptionId,
    Timestamp, TopicId, TxId,
};

/// The tenant has no such topic. Says what the caller said, nothing else: whether another tenant
/// has one is nobody's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoTopic {
    Named(String),
    Numbered(TopicId),
}

/// The topic has no such queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoQueue {
    pub(crate) queue: QueueIndex,
    pub(crate) queues: usize,
}

/// The request came to a shard that does not hold what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotHere {
    pub(crate) here: ShardId,
}

/// An argument is outside its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadArgument(pub(crate) String);

/// The topic is the system's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemTopic(pub(crate) String);

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached {
    pub(crate) what: &'static str,
    pub(crate) max: usize,
}

/// Why a batch was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProduceError {
    AckUnavailable(AckNodes),
    NoTopic(NoTopic),
    NoQueue(NoQueue),
    NotHere(NotHere),
    BadArgument(BadArgument),
    LimitReached(LimitReached),
    TooFar {
        due: Timestamp,
        now: Timestamp,
    },
    /// Those that are sent after it would overtake it.
    DelayInOrder {
        topic: String,
    },
    SystemTopic(SystemTopic),
    Record(Refusal),
    DiskMark,
    Backlog {
        name: String,
        limit: u64,
    },
    Fenced {
        known: Epoch,
    },
    Stale {
        expected: Sequence,
    },
    Ahead {
        expected: Sequence,
    },
    UnknownTransaction(TxId),
    TransactionTooLarge(TxId),
    PreparedKey,
    NoDedupeWindow {
        name: String,
    },
    DedupeFull {
        max: usize,
    },
}

/// Why a transaction did not begin, or was not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TxError {
    NotHere(NotHere),
    BadName(Refusal),
    BadArgument(BadArgument),
    LimitReached(LimitReached),
    Unknown(TxId),
    Foreign(TxId),
    Finished { tx: TxId, committed: bool },
    Stale(TxId),
    Fenced { known: Epoch },
}

/// Why a subscription did not begin, or is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubscribeError {
    NoTopic(NoTopic),
    NoQueue(NoQueue),
    NotHere(NotHere),
    BadName(Refusal),
    BadArgument(BadArgument),
    Expression(Refusal),
    OtherExpression {
        theirs: String,
        ours: String,
    },
    OtherMode {
        is_theirs_exclusive: bool,
    },
    LimitReached(LimitReached),
    /// The topic in which the group goes on is not known here yet.
    Moving,
}

/// Why a group was not moved: most of it stands against subscribing as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MoveError {
    Subscribing(SubscribeError),
    BeyondEnd { queue: QueueIndex, offset: QueueOffset, end: QueueOffset },
    Drained { group: String, to: String },
}

/// Why nothing was settled, credited, extended or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberError {
    NotHere(NotHere),
    NoSubscription(SubscriptionId),
    BadArgument(BadArgument),
    /// An error text, or all of a request, has so many bytes.
    LongError {
        bytes: usize,
        max: usize,
    },
}

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchError {
    NoTopic(NoTopic),
    NoQueue(NoQueue),
    NotHere(NotHere),
    Below { from: QueueOffset, first: QueueOffset },
}

/// Why nothing was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FindError {
    NoTopic(NoTopic),
    NotHere(NotHere),
    BadArgument(BadArgument),
}

/// Why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OperateError {
    NoTopic(NoTopic),
    NotHere(NotHere),
    BadName(Refusal),
    BadArgument(BadArgument),
    BadRetryPolicy(Refusal),
    BadWindow(Refusal),
    SystemTopic(SystemTopic),
    LimitReached(LimitReached),
    TopicExists {
        name: String,
        queues: usize,
        order: TopicType,
    },
    NoGroup(String),
    NoMessage(MessageId),
    NoQueue(NoQueue),
    /// No message there has stopped its order group.
    NotStopped {
        queue: QueueIndex,
        offset: QueueOffset,
    },
    NoTenant(String),
    TenantExists(String),
    /// The message was sent just now, and where it lies is not known yet.
    Arriving,
    NoPlugin(String),
    PluginState {
        name: String,
        why: &'static str,
    },
    Transaction(TxError),
    /// The group passes its messages on to this topic.
    Drained {
        group: String,
        to: String,
    },
    BadDrainTarget {
        name: String,
        why: String,
    },
    NotDrained {
        group: String,
        topic: String,
    },
    /// The group has so many members here.
    HasMembers {
        group: String,
        members: usize,
    },
    /// The broker's shell answers it, or nobody does.
    NotOurs,
}

/// A caller's own text, short enough for a sentence.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(yard_wire::limits::NAME_BYTES_MAX).collect();
    format!("{short:?}")
}

impl From<NoTopic> for Refusal {
    fn from(fact: NoTopic) -> Self {
        let detail = match fact {
            NoTopic::Named(name) => format!("no topic {}", quoted(&name)),
            NoTopic::Numbered(topic) => format!("no topic with the id {topic}"),
        };
        Self::new(Code::UnknownTopic, detail)
    }
}

impl From<NoQueue> for Refusal {
    fn from(fact: NoQueue) -> Self {
        let NoQueue { queue, queues } = fact;
        let detail = format!("queue {queue} of a topic with {queues} queues");
        Self::new(Code::QueueOutOfRange, detail)
    }
}

impl From<NotHere> for Refusal {
    fn from(fact: NotHere) -> Self {
        Self::new(Code::WrongShard, format!("shard {} does not hold this", fact.here))
    }
}

impl From<BadArgument> for Refusal {
    fn from(fact: BadArgument) -> Self {
        Self::new(Code::BadArgument, fact.0)
    }
}

impl From<SystemTopic> for Refusal {
    fn from(fact: SystemTopic) -> Self {
        Self::new(Code::SystemTopic, format!("the topic {} is the system's", quoted(&fact.0)))
    }
}

impl From<LimitReached> for Refusal {
    fn from(fact: LimitReached) -> Self {
        Self::new(Code::LimitReached, format!("{}: the limit is {}", fact.what, fact.max))
    }
}

impl From<ProduceError> for Refusal {
    fn from(error: ProduceError) -> Self {
        error.reach();
        match error {
            ProduceError::AckUnavailable(nodes) => {
                let detail = format!("this broker is alone; it cannot acknowledge for {nodes}");
                Self::new(Code::AckUnavailable, detail)
            }
            ProduceError::NoTopic(fact) => fact.into(),
            ProduceError::NoQueue(fact) => fact.into(),
            ProduceError::NotHere(fact) => fact.into(),
            ProduceError::BadArgument(fact) => fact.into(),
            ProduceError::LimitReached(fact) => fact.into(),
            ProduceError::TooFar { due, now } => {
                let days = due.0.saturating_sub(now.0).div_ceil(DAY_MS);
                let max = DELAY_MS_MAX / DAY_MS;
                let detail = format!("{days} days away, at {due}; it is {now}, and {max} may be");
                Self::new(Code::DelayTooLong, detail)
            }
            ProduceError::DelayInOrder { topic } => {
                let topic = quoted(&topic);
                let detail = format!("a delayed message in the ordered topic {topic}");
                Self::new(Code::UnfitForTopic, detail)
            }
            ProduceError::SystemTopic(fact) => fact.into(),
            ProduceError::Record(refusal) => refusal,
            ProduceError::DiskMark => {
                let detail = "the disk of this broker is nearly full";
                Self::after(Code::DiskFull, DISK_FULL_WAIT_MS, detail)
            }
            ProduceError::Backlog { name, limit } => {
                let detail = format!("topic {}: a group is {limit} messages behind", quoted(&name));
                Self::after(Code::BacklogFull, BACKLOG_LOOK_MS, detail)
            }
            ProduceError::Fenced { known } => fenced(known),
            ProduceError::Stale { expected } => {
                Self::new(Code::StaleSequence, format!("expected was {expected}"))
            }
            ProduceError::Ahead { expected } => {
                Self::new(Code::OutOfSequence, format!("expected was {expected}"))
            }
            ProduceError::PreparedKey => {
                let detail = "a message of a transaction cannot have a dedupe key";
                Self::new(Code::BadDedupeKey, detail)
            }
            ProduceError::NoDedupeWindow { name } => {
                let detail = format!("topic {} remembers no dedupe keys", quoted(&name));
                Self::new(Code::NoDedupeWindow, detail)
            }
            ProduceError::DedupeFull { max } => {
                let detail = format!("{max} dedupe keys are remembered");
                Self::after(Code::DedupeFull, DEDUPE_WAIT_MS, detail)
            }
            ProduceError::UnknownTransaction(tx) => unknown_transaction(tx),
            ProduceError::TransactionTooLarge(tx) => {
                let detail = format!("{tx} has {TX_MESSAGES_MAX} messages in this shard at most");
                Self::new(Code::TransactionTooLarge, detail)
            }
        }
    }
}

fn fenced(known: Epoch) -> Refusal {
    let detail = format!("epoch {known} of this producer is newer");
    Refusal::new(Code::ProducerFenced, detail)
}

fn unknown_transaction(tx: TxId) -> Refusal {
    Refusal::new(Code::UnknownTransaction, format!("no open transaction {tx}"))
}

impl From<TxError> for Refusal {
    fn from(error: TxError) -> Self {
        error.reach();
        match error {
            TxError::NotHere(fact) => fact.into(),
            TxError::BadName(refusal) => refusal,
            TxError::BadArgument(fact) => fact.into(),
            TxError::LimitReached(fact) => fact.into(),
            TxError::Unknown(tx) => unknown_transaction(tx),
            TxError::Foreign(tx) => {
                Self::new(Code::ForeignTransaction, format!("{tx} is another group's"))
            }
            TxError::Finished { tx, committed } => {
                let what = if committed { "committed" } else { "rolled back" };
                Self::new(Code::TransactionFinished, format!("{tx} was {what}"))
            }
            TxError::Stale(tx) => {
                let detail = format!("{tx}: its number or check is not one that is open");
                Self::new(Code::StaleTransaction, detail)
            }
            TxError::Fenced { known } => fenced(known),
        }
    }
}

impl From<SubscribeError> for Refusal {
    fn from(error: SubscribeError) -> Self {
        error.reach();
        match error {
            SubscribeError::NoTopic(fact) => fact.into(),
            SubscribeError::NoQueue(fact) => fact.into(),
            SubscribeError::NotHere(fact) => fact.into(),
            SubscribeError::BadName(refusal) => refusal,
            SubscribeError::BadArgument(fact) => fact.into(),
            SubscribeError::Expression(refusal) => refusal,
            SubscribeError::OtherExpression { theirs, ours } => {
                let wants = |text: &str| match text {
                    "" => "every message".to_owned(),
                    text => format!("{:?}", text.chars().take(512).collect::<String>()),
                };
                let (theirs, ours) = (wants(&theirs), wants(&ours));
                let detail = format!("the group's members want {theirs}, this one {ours}");
                Self::new(Code::OtherExpression, detail)
            }
            SubscribeError::OtherMode { is_theirs_exclusive } => {
                let detail = if is_theirs_exclusive {
                    "the group's members have queues of their own, this one would share them"
                } else {
                    "the group's members share the queues, this one wants queues of its own"
                };
                Self::new(Code::OtherMode, detail)
            }
            SubscribeError::LimitReached(fact) => fact.into(),
            SubscribeError::Moving => {
                let detail = "the group goes on in a topic that this shard does not know yet";
                Self::after(Code::GroupMoved, MOVED_WAIT_MS, detail)
            }
        }
    }
}

impl From<NotHere> for SubscribeError {
    fn from(fact: NotHere) -> Self {
        Self::NotHere(fact)
    }
}

impl From<MoveError> for Refusal {
    fn from(error: MoveError) -> Self {
        error.reach();
        match error {
            MoveError::Subscribing(error) => error.into(),
            MoveError::BeyondEnd { queue, offset, end } => {
                let detail = format!("offset {offset} of queue {queue}, which ends at {end}");
                Self::new(Code::SeekBeyondEnd, detail)
            }
            MoveError::Drained { group, to } => drained(&group, &to),
        }
    }
}

fn drained(group: &str, to: &str) -> Refusal {
    let detail = format!("group {} passes its messages on to {to:?}", quoted(group));
    Refusal::new(Code::GroupDrained, detail)
}

impl From<MemberError> for Refusal {
    fn from(error: MemberError) -> Self {
        error.reach();
        match error {
            MemberError::NotHere(fact) => fact.into(),
            MemberError::NoSubscription(id) => {
                Self::new(Code::UnknownSubscription, format!("no subscription {id}"))
            }
            MemberError::BadArgument(fact) => fact.into(),
            MemberError::LongError { bytes, max } => {
                let detail = format!("an error text of {bytes} bytes, the limit is {max}");
                Self::new(Code::ErrorTextTooLarge, detail)
            }
        }
    }
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        error.reach();
        match error {
            FetchError::NoTopic(fact) => fact.into(),
            FetchError::NoQueue(fact) => fact.into(),
            FetchError::NotHere(fact) => fact.into(),
            FetchError::Below { from, first } => {
                let detail = format!("offset {from}; the oldest message has {first}");
                Self::new(Code::OffsetOutOfRange, detail)
            }
        }
    }
}

impl From<FindError> for Refusal {
    fn from(error: FindError) -> Self {
        error.reach();
        match error {
            FindError::NoTopic(fact) => fact.into(),
            FindError::NotHere(fact) => fact.into(),
            FindError::BadArgument(fact) => fact.into(),
        }
    }
}

impl From<OperateError> for Refusal {
    fn from(error: OperateError) -> Self {
        error.reach();
        match error {
            OperateError::NoTopic(fact) => fact.into(),
            OperateError::NotHere(fact) => fact.into(),
            OperateError::BadName(refusal)
            | OperateError::BadRetryPolicy(refusal)
            | OperateError::BadWindow(refusal) => refusal,
            OperateError::BadArgument(fact) => fact.into(),
            OperateError::SystemTopic(fact) => fact.into(),
            OperateError::LimitReached(fact) => fact.into(),
            OperateError::TopicExists { name, queues, order } => {
                let name = quoted(&name);
                let detail = format!("topic {name} has {queues} queues and is {order}");
                Self::new(Code::TopicExists, detail)
            }
            OperateError::NoGroup(name) => {
                Self::new(Code::UnknownGroup, format!("no group {}", quoted(&name)))
            }
            OperateError::NoMessage(id) => {
                Self::new(Code::UnknownMessage, format!("no message {id} is known"))
            }
            OperateError::NoQueue(fact) => fact.into(),
            OperateError::NotStopped { queue, offset } => {
                let detail = format!("offset {offset} of queue {queue} stops no order group");
                Self::new(Code::NotStopped, detail)
            }
            OperateError::NoTenant(name) => {
                Self::new(Code::UnknownTenant, format!("no tenant {}", quoted(&name)))
            }
            OperateError::TenantExists(name) => {
                Self::new(Code::TenantExists, format!("tenant {} exists", quoted(&name)))
            }
            OperateError::Arriving => {
                Self::after(Code::Busy, 10, "the message is being stored; ask again")
            }
            OperateError::NoPlugin(name) => {
                Self::new(Code::UnknownPlugin, format!("no plugin {}", quoted(&name)))
            }
            OperateError::PluginState { name, why } => {
                Self::new(Code::PluginState, format!("plugin {}: {why}", quoted(&name)))
            }
            OperateError::Transaction(error) => error.into(),
            OperateError::Drained { group, to } => drained(&group, &to),
            OperateError::BadDrainTarget { name, why } => {
                Self::new(Code::BadDrainTarget, format!("topic {}: {why}", quoted(&name)))
            }
            OperateError::NotDrained { group, topic } => {
                let (group, topic) = (quoted(&group), quoted(&topic));
                let detail = format!("group {group} consumes topic {topic} itself");
                Self::new(Code::NotDrained, detail)
            }
            OperateError::HasMembers { group, members } => {
                let are = if members == 1 { "member is" } else { "members are" };
                let detail = format!("group {}: {members} {are} connected", quoted(&group));
                Self::new(Code::GroupHasMembers, detail)
            }
            OperateError::NotOurs => {
                let detail = "this request is not one that a shard answers";
                Self::new(Code::UnknownRequest, detail)
            }
        }
    }
}
