//! What the operations answer: rows and reports.
use crate::dedupe::BusinessKey;
use crate::order::{AfterLast, OrderRetry, TopicType, Unblock};
use crate::plugin_use::PluginChoice;
use crate::retry::{Attempts, RetryPolicy};
use crate::share::Share;
use crate::transaction::{CheckPolicy, CheckSpan, TxId};
use crate::units::{AgeLimit, CountLimit, SizeLimit};
use crate::{QueueIndex, QueueOffset, ShardId, TenantId, Timestamp, TopicId};

report! {
    /// A topic in a list.
    pub struct TopicRow {
        /// Its name.
        pub name: String,
        /// Its id.
        pub id: TopicId,
        /// How many queues it has.
        pub queues: u16,
        /// A remark for people.
        pub note: String,
        /// Age at which messages are removed.
        pub retain: AgeLimit,
        /// The newest so many bytes are kept.
        pub retain_bytes: SizeLimit,
        /// Whether messages are removed that a group has not settled.
        pub discard_unconsumed: bool,
        /// Messages that a group may be behind before producers are refused.
        pub backlog_max: CountLimit,
        /// The plugin that sees messages before they are stored.
        pub interceptor: PluginChoice,
        /// For how long dedupe keys are remembered.
        pub dedupe_window: AgeLimit,
        /// How many of them are.
        pub dedupe_count: CountLimit,
        /// The plugin that says which messages are the same.
        pub dedupe_plugin: PluginChoice,
        /// Whether messages about which it says nothing are refused.
        pub dedupe_strict: bool,
        /// Of which share of its messages it is noted what happens to them.
        pub trace: Share,
        /// When it was created.
        pub created_ms: Timestamp,
        /// What it promises about order.
        pub r#type: TopicType,
        /// In an ordered topic, a message that failed comes again after this.
        pub order_retry: OrderRetry,
        /// In an ordered topic, what becomes of an order group after a message's last attempt.
        pub after_last: AfterLast,
    }

    /// A topic with its queues.
    pub struct TopicReport {
        /// Its name.
        pub name: String,
        /// Its id.
        pub id: TopicId,
        /// A remark for people.
        pub note: String,
        /// Age at which messages are removed.
        pub retain: AgeLimit,
        /// The newest so many bytes are kept.
        pub retain_bytes: SizeLimit,
        /// Whether messages are removed that a group has not settled.
        pub discard_unconsumed: bool,
        /// Messages that a group may be behind before producers are refused.
        pub backlog_max: CountLimit,
        /// The plugin that sees messages before they are stored.
        pub interceptor: PluginChoice,
        /// For how long dedupe keys are remembered.
        pub dedupe_window: AgeLimit,
        /// How many of them are.
        pub dedupe_count: CountLimit,
        /// The plugin that says which messages are the same.
        pub dedupe_plugin: PluginChoice,
        /// Whether messages about which it says nothing are refused.
        pub dedupe_strict: bool,
        /// Of which share of its messages it is noted what happens to them.
        pub trace: Share,
        /// When it was created.
        pub created_ms: Timestamp,
        /// Dedupe keys that are remembered now.
        pub dedupe_keys: u64,
        /// Committed messages that it holds.
        pub messages: u64,
        /// What it promises about order.
        pub r#type: TopicType,
        /// In an ordered topic, a message that failed comes again after this.
        pub order_retry: OrderRetry,
        /// In an ordered topic, what becomes of an order group after a message's last attempt.
        pub after_last: AfterLast,
        /// Its queues, in order.
        pub queues: Vec<QueueRow>,
    }

    /// A queue of a topic.
    pub struct QueueRow {
        /// The queue.
        pub queue: QueueIndex,
        /// The shard that holds it.
        pub shard: ShardId,
        /// Offset of its oldest message.
        pub first: QueueOffset,
        /// Offset after its newest committed message.
        pub end: QueueOffset,
        /// Committed messages that it holds.
        pub messages: u64,
        /// Bytes of these messages in the log.
        pub bytes: u64,
        /// When the oldest of them was stored; 0 when it holds none.
        pub oldest_ms: Timestamp,
        /// When the newest of them was stored; 0 when it holds none.
        pub newest_ms: Timestamp,
    }

    /// What a group does with a topic, in a list.
    pub struct GroupRow {
        /// Name of the group.
        pub name: String,
        /// Name of the topic.
        pub topic: String,
        /// Subscriptions now.
        pub members: u32,
        /// Committed messages that are not settled.
        pub lag: u64,
        /// Those of them that a member holds a lease of.
        pub in_flight: u64,
        /// Messages that were rejected.
        pub rejected: u64,
    }

    /// The settings of a group.
    pub struct GroupSettingsRow {
        /// Name of the group.
        pub name: String,
        /// When a message that failed comes again.
        pub retry: RetryPolicy,
        /// Deliveries of a message at most, the first included.
        pub max_attempts: Attempts,
        /// Property whose value makes messages the same for it.
        pub key: BusinessKey,
        /// For how long a value counts once a message with it was acked.
        pub key_window: AgeLimit,
        /// Values that are remembered of each topic.
        pub key_count: CountLimit,
    }

    /// A group in detail.
    pub struct GroupReport {
        /// Name of the group.
        pub name: String,
        /// When a message that failed comes again.
        pub retry: RetryPolicy,
        /// Deliveries of a message at most, the first included.
        pub max_attempts: Attempts,
        /// Property whose value makes messages the same for it.
        pub key: BusinessKey,
        /// For how long a value counts once a message with it was acked.
        pub key_window: AgeLimit,
        /// Values that are remembered of each topic.
        pub key_count: CountLimit,
        /// Values of the property that are remembered now, over all its topics.
        pub keys: u64,
        /// Committed messages that are not settled, over all its queues.
        pub lag: u64,
        /// Its progress, queue by queue.
        pub queues: Vec<GroupQueueRow>,
        /// Its members.
        pub members: Vec<MemberRow>,
    }

    /// A group's progress in a queue.
    pub struct GroupQueueRow {
        /// Name of the topic.
        pub topic: String,
        /// The queue.
        pub queue: QueueIndex,
        /// The shard that holds it.
        pub shard: ShardId,
        /// Every message below this offset is settled.
        pub settled_below: QueueOffset,
        /// Offset after the newest committed message.
        pub end: QueueOffset,
        /// Committed messages that are not settled.
        pub lag: u64,
        /// Those of them that a member holds a lease of.
        pub in_flight: u64,
        /// Those of them that wait to be delivered again.
        pub waiting: u64,
        /// Messages that were rejected.
        pub rejected: u64,
        /// Messages that had expired before anybody handled them.
        pub expired: u64,
        /// Messages that the group's expression did not want: settled, never delivered.
        pub filtered: u64,
        /// Messages with a key that the group had acked: settled, not delivered any more.
        pub duplicates: u64,
    }

    /// A member of a group.
    pub struct MemberRow {
        /// Name of the consumer, as it gave it.
        pub member: String,
        /// Name of the topic.
        pub topic: String,
        /// The shard of the subscription.
        pub shard: ShardId,
        /// Number of the connection, as in `yard client ls`.
        pub session: u64,
        /// Messages that it holds a lease of.
        pub in_flight: u64,
        /// Messages that it may still be sent.
        pub credit: u64,
        /// Which messages it wants: dialect and expression; nothing: all.
        pub filter: String,
    }

    /// A message that has stopped its order group.
    pub struct StoppedRow {
        /// Name of the topic.
        pub topic: String,
        /// The queue.
        pub queue: QueueIndex,
        /// Its offset.
        pub offset: QueueOffset,
        /// How often it was delivered.
        pub attempts: u32,
        /// Why it is not delivered again: failed, lease-ended, rejected.
        pub reason: String,
        /// What a consumer said last.
        pub error: String,
        /// When it was delivered last.
        pub last_ms: Timestamp,
    }

    /// A group that was removed.
    pub struct GroupRemoved {
        /// Its name.
        pub name: String,
        /// Messages of its topics that it had not settled.
        pub lag: u64,
        /// Of those, the ones that waited to be delivered again.
        pub waiting: u64,
    }

    /// What came of unblocking an order group.
    pub struct UnblockRow {
        /// Name of the group.
        pub name: String,
        /// Name of the topic.
        pub topic: String,
        /// The queue.
        pub queue: QueueIndex,
        /// Offset of the message that had stopped it.
        pub offset: QueueOffset,
        /// What becomes of the message.
        pub then: Unblock,
        /// Whether this shard, or one of all, has done it.
        pub done: bool,
    }

    /// Delayed messages that wait.
    pub struct DelayReport {
        /// How many wait: of the topic, else of the tenant.
        pub waiting: u64,
        /// Some of them, by when they are due.
        pub rows: Vec<DelayRow>,
        /// Where a list goes on that this one did not come to the end of; else empty.
        pub next: String,
    }

    /// A delayed message that waits.
    pub struct DelayRow {
        /// When it is due.
        pub due_ms: Timestamp,
        /// Name of its topic.
        pub topic: String,
        /// Its queue.
        pub queue: QueueIndex,
        /// Its id.
        pub id: String,
        /// Bytes of its record.
        pub bytes: u32,
        /// Its place in the list.
        pub place: String,
    }

    /// What came of taking a delayed message back.
    pub struct DelayCancelled {
        /// Its id.
        pub id: String,
        /// It waited, and will not be delivered. Else it was delivered, taken back before, or no
        /// such message was ever stored.
        pub cancelled: bool,
        /// Name of its topic, where it waited.
        pub topic: String,
        /// When it was due, where it waited.
        pub due_ms: Timestamp,
    }

    /// A group whose backlog is passed on to another topic.
    #[derive(Default)]
    pub struct DrainRow {
        /// Name of the group.
        pub group: String,
        /// Name of its own topic.
        pub topic: String,
        /// Name of the wide topic.
        pub to: String,
        /// `draining` (there is something left to pass on), `forwarding` (only what is new is),
        /// `returning` (nothing is; what was is being settled), or `returned`.
        pub state: String,
        /// Messages of its own topic that were not passed on.
        pub backlog: u64,
        /// Those of them that a member still has, from before. Nothing is passed on until they are
        /// settled or their leases end.
        pub in_flight: u64,
        /// Messages that were passed on since it began.
        pub moved: u64,
        /// Messages of the wide topic up to the last of these that the group has not settled.
        pub wide_lag: u64,
        /// When it began.
        pub since_ms: Timestamp,
    }

    /// The dead letters of a group, in a list.
    pub struct DlqRow {
        /// Name of the group.
        pub group: String,
        /// Those that nobody has dealt with.
        pub waiting: u64,
        /// Those that were sent again or dropped.
        pub done: u64,
    }

    /// Dead letters that wait and lie one after another.
    pub struct DlqRange {
        /// The queue of the group's dead-letter topic.
        pub queue: QueueIndex,
        /// Offset of the first.
        pub from: QueueOffset,
        /// Offset after the last.
        pub to: QueueOffset,
    }

    /// What came of saying that dead letters were dealt with: together as many as were named and
    /// are there.
    #[derive(Copy, Default)]
    pub struct DlqCounts {
        /// They waited until now.
        pub done: u64,
        /// They did not wait any more.
        pub skipped: u64,
        /// They were not looked at: ask again for the last of them.
        pub left: u64,
    }

    /// Transactions of a tenant that are not decided, or whose decision is being carried out.
    pub struct TxList {
        /// How many there are.
        pub open: u64,
        /// Those of them that wait for an operator.
        pub undecided: u64,
        /// Some of them, in the order of their names.
        pub rows: Vec<TxRow>,
        /// Where a list goes on that this one did not come to the end of; else empty.
        pub next: String,
    }

    /// A transaction in a list.
    pub struct TxRow {
        /// Its name.
        pub id: TxId,
        /// Name of its producer group; empty of one that its coordinator does not know.
        pub group: String,
        /// `open`, `undecided` (nobody is asked any more), `committing`, `rolling-back`, or
        /// `unknown` (messages wait here that no coordinator knows of).
        pub state: String,
        /// When it began.
        pub begun_ms: Timestamp,
        /// How often a producer was asked, or a plugin wanted to wait.
        pub checks: u16,
        /// When it is looked at again; 0: not any more.
        pub next_check_ms: Timestamp,
        /// What its producer said when it began.
        pub note: String,
    }

    /// A transaction with its messages.
    pub struct TxReport {
        /// Its name.
        pub id: TxId,
        /// Name of its producer group.
        pub group: String,
        /// As in a list; empty where this shard only has messages of it.
        pub state: String,
        /// When it began.
        pub begun_ms: Timestamp,
        /// How often a producer was asked, or a plugin wanted to wait.
        pub checks: u16,
        /// When it is looked at again; 0: not any more.
        pub next_check_ms: Timestamp,
        /// What its producer said when it began.
        pub note: String,
        /// Prepared messages that wait, of all shards.
        pub messages: Vec<TxMessageRow>,
    }

    /// A prepared message.
    pub struct TxMessageRow {
        /// Name of its topic.
        pub topic: String,
        /// Its queue.
        pub queue: QueueIndex,
        /// Its id.
        pub id: String,
        /// Bytes of its record.
        pub bytes: u32,
        /// When it is due, of a delayed message; else 0.
        pub due_ms: Timestamp,
        /// The shard that holds it.
        pub shard: ShardId,
        /// Number of the segment of that shard's log in which its record lies,
        pub segment: u32,
        /// and at which byte.
        pub at: u32,
    }

    /// A transaction that was decided.
    pub struct TxDecidedRow {
        /// Its name.
        pub id: TxId,
        /// Whether its messages become visible; else they are dropped.
        pub committed: bool,
    }

    /// When producers of a group are asked about their open transactions.
    pub struct TxSettingsRow {
        /// Name of the producer group.
        pub group: String,
        /// The first time so long after the transaction began.
        pub first: CheckSpan,
        /// Again so long after each time.
        pub every: CheckSpan,
        /// So often at most.
        pub checks: u16,
        /// Who says first what becomes of a transaction.
        pub check: CheckPolicy,
    }

    /// A tenant in a list.
    pub struct TenantRow {
        /// Its name.
        pub name: String,
        /// Its id.
        pub id: TenantId,
        /// Whether its topics are created on first use.
        pub auto_create_topics: bool,
        /// Whether its plugins must be signed by a key that it trusts.
        pub require_signed: bool,
        /// When it was added.
        pub created_ms: Timestamp,
    }

    /// A tenant that was added.
    pub struct TenantAdded {
        /// Its name.
        pub name: String,
        /// Its id.
        pub id: TenantId,
        /// Whether its topics are created on first use.
        pub auto_create_topics: bool,
        /// The certificate of its key, PEM.
        pub certificate: String,
        /// The authority that signed it and the broker's own certificate, PEM.
        pub authority: String,
    }

    /// A connection.
    pub struct ClientRow {
        /// Its number.
        pub session: u64,
        /// Name of its tenant.
        pub tenant: String,
        /// Name that the client gave itself.
        pub client: String,
        /// Name and version of its library.
        pub library: String,
        /// Address that it comes from.
        pub address: String,
        /// When it connected.
        pub connected_ms: Timestamp,
        /// Round trip as the transport measures it, in microseconds.
        pub round_trip_us: u64,
    }

    /// The broker.
    pub struct BrokerReport {
        /// Name and version.
        pub broker: String,
        /// When it started.
        pub started_ms: Timestamp,
        /// Connections now.
        pub connections: u32,
        /// Processor time of its process since its start, of user and system, in microseconds; 0
        /// where the system does not say.
        pub cpu_us: u64,
        /// Memory that its process has for itself (`RssAnon` of Linux), in bytes; 0 where the
        /// system does not say.
        pub rss_anon_bytes: u64,
        /// Its shards.
        pub shards: Vec<ShardRow>,
    }

    /// A shard and its log.
    pub struct ShardRow {
        /// The shard.
        pub shard: ShardId,
        /// `open`, `full` (no space for messages) or `fenced` (refuses until a restart).
        pub state: String,
        /// Byte address of the end of what was appended.
        pub appended: u64,
        /// Byte address below which everything is synced.
        pub synced: u64,
        /// Groups written.
        pub groups: u64,
        /// Messages appended since the start of the process.
        pub messages: u64,
        /// Segments of the log.
        pub segments: u32,
    }

    /// Something that happened to a message, or how it stands.
    pub struct TraceRow {
        /// When, by the broker's clock; `sent`: by the producer's.
        pub at_ms: Timestamp,
        /// What; see docs/trace.md for the words.
        pub event: String,
        /// Name of the topic in which it happened.
        pub topic: String,
        /// The queue.
        pub queue: QueueIndex,
        /// Its place there; none while it has no place.
        pub offset: Option<QueueOffset>,
        /// The group that it is about; empty: none.
        pub group: String,
        /// The delivery that it is about, from 1; 0: none.
        pub attempt: u32,
        /// More, for people.
        pub detail: String,
    }
}

impl TraceRow {
    /// How a group stands at this moment.
    pub const NOW: &'static str = "now";

    /// Rows of a life are in the order of this: by time, and what follows from something after it.
    /// What the producer did comes first whatever its clock says, and how things stand comes last.
    #[must_use]
    pub fn order(&self) -> (u8, Timestamp, u8) {
        let (part, step) = match self.event.as_str() {
            "sent" => (0, 0),
            "stored" | "released" | "committed" => (1, 0),
            "dead-lettered" => (1, 2),
            Self::NOW => (2, 0),
            _ => (1, 1),
        };
        (part, self.at_ms, step)
    }
}
