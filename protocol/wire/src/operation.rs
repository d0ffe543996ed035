//! The operations that operators run: name, arguments, result, right, risk, help and example of
//! each in one place. The verbs of the command line, and what else offers them, are generated
//! from here.
use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::dedupe::BusinessKey;
use crate::order::{AfterLast, OrderRetry, TopicType, Unblock};
use crate::plugin::{
    Blob, Digest, PluginCopy, PluginDifferenceRow, PluginKeyRow, PluginLogRow, PluginReport,
    PluginRow,
};
use crate::plugin_use::PluginChoice;
use crate::request::Right;
use crate::retry::{Attempts, RetryPolicy};
use crate::share::Share;
use crate::transaction::{CheckPolicy, CheckSpan, TxId};
use crate::units::{AgeLimit, CountLimit, SizeLimit};
use crate::value::{ToValue, Value, plain};
use crate::{Code, MessageId, Refusal, Timestamp};

mod rows;

pub use rows::*;

impl ToValue for Timestamp {
    fn to_value(&self) -> Value {
        Value::Number(self.0)
    }
}

word! {
    /// What running an operation by mistake could cost.
    pub enum Risk {
        /// Nothing: it only reads.
        Reads = 0 "reads",
        /// Something is there that was not.
        Adds = 1 "adds",
        /// Something behaves otherwise; it can be set back.
        Changes = 2 "changes",
        /// Something is gone.
        Removes = 3 "removes",
    }
}

/// Whether an argument must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It must; on a command line it stands by its place.
    Required,
    /// It may; on a command line it is a flag.
    Optional,
    /// It is this text unless given; on a command line it is a flag.
    Default(&'static str),
    /// Yes when the flag is there.
    Switch,
    /// The program fills it in; people never write it.
    Hidden,
    /// Every word that follows, whatever it looks like; none is fine. Only programs have it.
    Rest,
}

/// One argument of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, words joined by `_`.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub help: &'static str,
    /// What may be written, for example `NUMBER`.
    pub kind: &'static str,
    /// Whether it must be given.
    pub presence: Presence,
}

/// Types that can be arguments.
pub trait Arg: Sized {
    /// What may be written, for example `NUMBER`.
    const KIND: &'static str;

    /// Reads what was written, `None` where nothing was.
    ///
    /// # Errors
    /// [`Code::BadArgument`] that says what may be written.
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal>;
}

pub(crate) fn bad(name: &str, kind: &str, text: Option<&str>) -> Refusal {
    let name = name.replace('_', "-");
    let detail = match text {
        Some(text) => format!("{name} takes {kind}, not {text:?}"),
        None => format!("{name} is missing; it takes {kind}"),
    };
    Refusal::new(Code::BadArgument, detail)
}

impl Arg for String {
    const KIND: &'static str = "TEXT";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        text.map(str::to_owned).ok_or_else(|| bad(name, Self::KIND, text))
    }
}

macro_rules! number_arg {
    ($($type:ty),*) => { $(
        impl Arg for $type {
            const KIND: &'static str = "NUMBER";
            fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
                text.and_then(|t| t.parse().ok()).ok_or_else(|| bad(name, Self::KIND, text))
            }
        }
    )* };
}
number_arg!(u16, u32, u64);

impl Arg for MessageId {
    const KIND: &'static str = "ID";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        text.and_then(MessageId::parse).ok_or_else(|| bad(name, Self::KIND, text))
    }
}

impl Arg for bool {
    const KIND: &'static str = "true|false";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        match text {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(bad(name, Self::KIND, text)),
        }
    }
}

impl<T: Arg> Arg for Option<T> {
    const KIND: &'static str = T::KIND;
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        text.map(|_| T::parse(name, text)).transpose()
    }
}

/// The arguments of one operation, as a type.
pub trait Operate: Wire {
    /// Which operation it is.
    const OPERATION: Operation;
    /// What it results in.
    type Result: Wire + ToValue;
}

macro_rules! operations {
    ($( $(#[doc = $doc:literal])+ $name:ident = $number:literal,
        [$($word:literal),+], $right:ident, $risk:ident, $example:literal,
        { $( $(#[doc = $field_doc:literal])+
             $field:ident : $type:ty = $presence:expr ),* $(,)? } -> $result:ty;
    )*) => {
        /// An operation's number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation { $( $(#[doc = $doc])+ $name = $number ),* }

        impl Operation {
            /// Every operation, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$( Self::$name ),*];

            /// The operation with this number, if there is one.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )* _ => None }
            }

            /// Noun and verb.
            #[must_use]
            pub fn words(self) -> &'static [&'static str] {
                match self { $( Self::$name => &[$($word),+] ),* }
            }

            /// What it does, in a sentence.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+).trim_ascii() ),* }
            }

            /// A command line that works.
            #[must_use]
            pub fn example(self) -> &'static str {
                match self { $( Self::$name => $example ),* }
            }

            /// The right that it needs.
            #[must_use]
            pub fn right(self) -> Right {
                match self { $( Self::$name => Right::$right ),* }
            }

            /// What a mistake could cost.
            #[must_use]
            pub fn risk(self) -> Risk {
                match self { $( Self::$name => Risk::$risk ),* }
            }

            /// Its arguments, in order.
            #[must_use]
            pub fn fields(self) -> &'static [Field] {
                match self { $( Self::$name => const { &[ $( Field {
                    name: plain(stringify!($field)),
                    help: concat!($($field_doc),+).trim_ascii(),
                    kind: <$type as Arg>::KIND,
                    presence: $presence,
                } ),* ] } ),* }
            }

            /// Encodes arguments from what was written; `written` gives an argument's text.
            ///
            /// # Errors
            /// [`Code::BadArgument`] for the first that is missing or cannot be read.
            #[allow(unused_variables, reason = "an operation may have no arguments")]
            pub fn encode_args(
                self,
                written: &dyn Fn(&str) -> Option<String>,
            ) -> Result<Bytes, Refusal> {
                let text = |field: &Field| written(field.name).or(match field.presence {
                    Presence::Default(text) => Some(text.to_owned()),
                    Presence::Required | Presence::Optional
                    | Presence::Switch | Presence::Hidden | Presence::Rest => None,
                });
                let mut fields = self.fields().iter();
                match self { $( Self::$name => Ok($name { $( $field: {
                    let field = fields.next().expect("one field an argument");
                    <$type as Arg>::parse(field.name, text(field).as_deref())?
                } ),* }.to_bytes()) ),* }
            }

            /// Whether its result is a list of rows, rather than one row.
            #[must_use]
            pub fn gives_list(self) -> bool {
                match self { $( Self::$name => <$result>::IS_LIST ),* }
            }

            /// Reads a result for showing it.
            ///
            /// # Errors
            /// [`Malformed`] when the bytes are not such a result.
            pub fn decode_result(self, result: Bytes) -> Result<Value, Malformed> {
                match self { $(
                    Self::$name => Ok(<$result>::from_bytes(result)?.to_value())
                ),* }
            }
        }

        /// An operation with its arguments.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Arguments { $( $(#[doc = $doc])+ $name($name) ),* }

        impl Arguments {
            /// Which operation they are for.
            #[must_use]
            pub fn operation(&self) -> Operation {
                match self { $( Self::$name(_) => Operation::$name ),* }
            }

            /// Appends the arguments.
            pub fn put(&self, out: &mut Vec<u8>) {
                match self { $( Self::$name(args) => args.put(out) ),* }
            }

            /// Reads the arguments of an operation; they must fill `args`.
            ///
            /// # Errors
            /// [`Malformed`] when they do not.
            pub fn from_bytes(operation: Operation, args: Bytes) -> Result<Self, Malformed> {
                match operation { $(
                    Operation::$name => Ok(Self::$name($name::from_bytes(args)?))
                ),* }
            }
        }

        $( message! {
            $(#[doc = $doc])+
            #[derive(Default)]
            pub struct $name { $( $(#[doc = $field_doc])+ pub $field: $type ),* }
        }
        impl Operate for $name {
            const OPERATION: Operation = Operation::$name;
            type Result = $result;
        } )*
    };
}

use Presence::{Default, Hidden, Optional, Required, Switch};

operations! {
    /// Create a topic.
    TopicCreate = 1, ["topic", "create"], Manage, Adds,
    "yard topic create orders --queues 16 --retain 3d", {
        /// Name of the topic: 1 to 127 of a-z A-Z 0-9 . _ -
        name: String = Required,
        /// Queues of the topic, 1 to 1,024: how many consumers can be kept busy in order.
        queues: u16 = Default("8"),
        /// A remark for people.
        note: String = Default(""),
        /// Messages older than this are removed once every group has settled them.
        retain: AgeLimit = Default("none"),
        /// The newest so many bytes are kept; older messages are removed as above.
        retain_bytes: SizeLimit = Default("none"),
        /// Remove messages whether groups have settled them or not.
        discard_unconsumed: bool = Switch,
        /// Producers are refused while a group is so many messages behind.
        backlog_max: CountLimit = Default("none"),
        /// A plugin that sees messages before they are stored, with its settings.
        interceptor: PluginChoice = Default("none"),
        /// What it promises about order: nothing, or messages of an order group one after another.
        r#type: TopicType = Default("normal"),
        /// Ordered only: a message that failed comes again after this.
        order_retry: OrderRetry = Default("1s"),
        /// Ordered only: after a message's last attempt its order group goes on, or stops.
        after_last: AfterLast = Default("go-on"),
        /// For how long dedupe keys are remembered, 1s to 7d; an hour unless given.
        dedupe_window: Option<AgeLimit> = Optional,
        /// How many of them, at most 1,000,000; 100,000 unless given.
        dedupe_count: Option<CountLimit> = Optional,
        /// A plugin that says which messages are the same, in place of their senders.
        dedupe_plugin: PluginChoice = Default("none"),
        /// Messages about which that plugin says nothing are refused, not stored unchecked.
        dedupe_strict: bool = Switch,
        /// Of which share of the messages it is noted what happens to them, 0 to 1.
        trace: Share = Default("0"),
    } -> TopicRow;
    /// List the topics.
    TopicLs = 2, ["topic", "ls"], Read, Reads, "yard topic ls -o json", {} -> Vec<TopicRow>;
    /// Show a topic and each of its queues.
    TopicInfo = 3, ["topic", "info"], Read, Reads, "yard topic info orders", {
        /// Name of the topic.
        name: String = Required,
    } -> TopicReport;
    /// Change settings of a topic; queues can only become more.
    TopicSet = 4, ["topic", "set"], Manage, Changes, "yard topic set orders --queues 32", {
        /// Name of the topic.
        name: String = Required,
        /// Queues from now on. Keys and order groups stay in the queues that they are in.
        queues: Option<u16> = Optional,
        /// A remark for people.
        note: Option<String> = Optional,
        /// Messages older than this are removed once every group has settled them.
        retain: Option<AgeLimit> = Optional,
        /// The newest so many bytes are kept; older messages are removed as above.
        retain_bytes: Option<SizeLimit> = Optional,
        /// Remove messages whether groups have settled them or not.
        discard_unconsumed: Option<bool> = Optional,
        /// Producers are refused while a group is so many messages behind.
        backlog_max: Option<CountLimit> = Optional,
        /// A plugin that sees messages before they are stored, with its settings.
        interceptor: Option<PluginChoice> = Optional,
        /// Ordered only: a message that failed comes again after this.
        order_retry: Option<OrderRetry> = Optional,
        /// Ordered only: after a message's last attempt its order group goes on, or stops.
        after_last: Option<AfterLast> = Optional,
        /// For how long dedupe keys are remembered, 1s to 7d; none: such messages are refused.
        dedupe_window: Option<AgeLimit> = Optional,
        /// How many of them, at most 1,000,000.
        dedupe_count: Option<CountLimit> = Optional,
        /// A plugin that says which messages are the same, in place of their senders.
        dedupe_plugin: Option<PluginChoice> = Optional,
        /// Messages about which that plugin says nothing are refused, not stored unchecked.
        dedupe_strict: Option<bool> = Optional,
        /// Of which share of the messages it is noted what happens to them, 0 to 1.
        trace: Option<Share> = Optional,
    } -> TopicRow;
    /// Remove a topic; its messages can no longer be read.
    TopicRm = 5, ["topic", "rm"], Manage, Removes, "yard topic rm orders", {
        /// Name of the topic.
        name: String = Required,
    } -> TopicRow;
    /// List the groups, one row for each topic that a group consumes.
    GroupLs = 10, ["group", "ls"], Read, Reads, "yard group ls", {} -> Vec<GroupRow>;
    /// Show a group: its progress in each queue, and its members.
    GroupInfo = 11, ["group", "info"], Read, Reads, "yard group info billing", {
        /// Name of the group.
        name: String = Required,
    } -> GroupReport;
    /// List delayed messages that wait, by when they are due.
    DelayLs = 12, ["delay", "ls"], Read, Reads, "yard delay ls --topic orders", {
        /// Of this topic only.
        topic: Option<String> = Optional,
        /// How many rows, 1 to 1000.
        limit: u32 = Default("100"),
        /// Go on behind this: the `next` of a list, or the `place` of a row.
        after: Option<String> = Optional,
    } -> DelayReport;
    /// Take a delayed message back; says whether it was still waiting.
    DelayCancel = 13, ["delay", "cancel"], Manage, Removes,
    "yard delay cancel 0197f3a2b4c5d6e7f8091a2b3c4d5e6f", {
        /// Id of the message, as its send result says.
        id: MessageId = Required,
    } -> DelayCancelled;
    /// List the messages that have stopped their order groups, in all topics of a group.
    GroupStopped = 14, ["group", "stopped"], Read, Reads, "yard group stopped billing", {
        /// Name of the group.
        name: String = Required,
    } -> Vec<StoppedRow>;
    /// Let an order group go on that a message has stopped.
    GroupUnblock = 15, ["group", "unblock"], Manage, Changes,
    "yard group unblock billing orders 3 1042 --then bury", {
        /// Name of the group.
        name: String = Required,
        /// Name of the topic.
        topic: String = Required,
        /// The queue of the message.
        queue: u16 = Required,
        /// Offset of the message that stopped it.
        offset: u64 = Required,
        /// What becomes of the message: delivered once more, or a dead letter.
        then: Unblock = Default("retry"),
    } -> UnblockRow;
    /// Change what becomes of messages that fail in a group, and which are the same for it, in all
    /// its topics.
    GroupSet = 16, ["group", "set"], Manage, Changes,
    "yard group set billing --retry 10s,1m,10m --max-attempts 5", {
        /// Name of the group; it need not consume anything yet.
        name: String = Required,
        /// When a message that failed comes again: 16 levels, growing delays, a list, or a plugin.
        retry: Option<RetryPolicy> = Optional,
        /// Deliveries of a message, the first included; what fails then becomes a dead letter.
        max_attempts: Option<Attempts> = Optional,
        /// Property whose value makes messages the same for the group: of those with a value that
        /// it has acked no other is delivered.
        key: Option<BusinessKey> = Optional,
        /// For how long a value counts once a message with it was acked: 1s to 7d; 1h unless set.
        key_window: Option<AgeLimit> = Optional,
        /// Values that are remembered of each topic, at most 1,000,000; 100,000 unless set.
        key_count: Option<CountLimit> = Optional,
    } -> GroupSettingsRow;
    /// List the groups that have dead letters, and how many of them wait for somebody.
    DlqLs = 17, ["dlq", "ls"], Read, Reads, "yard dlq ls", {} -> Vec<DlqRow>;
    /// List where the dead letters of a group lie that nobody has dealt with.
    DlqWaiting = 18, ["dlq", "waiting"], Read, Reads, "yard dlq waiting billing", {
        /// Name of the group.
        group: String = Required,
        /// The queue of the group's dead-letter topic.
        queue: u16 = Default("0"),
        /// Offset to begin at.
        from: u64 = Default("0"),
    } -> Vec<DlqRange>;
    /// Say of dead letters that they were dealt with, by their places.
    DlqDone = 19, ["dlq", "done"], Manage, Removes, "yard dlq done billing 3 5", {
        /// Name of the group.
        group: String = Required,
        /// Offset of the first.
        from: u64 = Required,
        /// Offset after the last.
        to: u64 = Required,
        /// The queue of the group's dead-letter topic.
        queue: u16 = Default("0"),
    } -> DlqCounts;
    /// Add a tenant and make a certificate for it.
    TenantAdd = 20, ["tenant", "add"], Operate, Adds, "yard tenant add acme", {
        /// Name of the tenant: 1 to 127 of a-z A-Z 0-9 . _ -
        name: String = Required,
        /// Create topics of this tenant on first use.
        auto_create_topics: bool = Switch,
        /// Certificate request (PEM) of the tenant's own key.
        request: String = Hidden,
    } -> TenantAdded;
    /// List the tenants.
    TenantLs = 21, ["tenant", "ls"], Operate, Reads, "yard tenant ls", {} -> Vec<TenantRow>;
    /// Change settings of a tenant.
    TenantSet = 22, ["tenant", "set"], Operate, Changes,
    "yard tenant set acme --auto-create-topics true", {
        /// Name of the tenant.
        name: String = Required,
        /// Create topics of this tenant on first use.
        auto_create_topics: Option<bool> = Optional,
        /// Take plugins of this tenant only when they are signed by a key that it trusts.
        require_signed: Option<bool> = Optional,
    } -> TenantRow;
    /// List the connections: all of them for an operator, else the tenant's own.
    ClientLs = 30, ["client", "ls"], Read, Reads, "yard client ls", {} -> Vec<ClientRow>;
    /// Show the broker and the state of its logs.
    BrokerInfo = 40, ["broker", "info"], Operate, Reads, "yard broker info", {} -> BrokerReport;
    /// Check a plugin, compile it and make it the active version of its name.
    PluginPush = 60, ["plugin", "push"], Manage, Adds,
    "yard plugin push big-orders.wasm --sign author.pem", {
        /// The plugin: a component, or a core module that says which world it is made for.
        wasm: Blob = Required,
        /// Sign with this private key: Ed25519, PKCS#8, PEM.
        sign: Option<Blob> = Optional,
        /// Keep it, and let the version that is active go on.
        inactive: bool = Switch,
    } -> PluginRow;
    /// List the plugins.
    PluginLs = 61, ["plugin", "ls"], Read, Reads, "yard plugin ls", {} -> Vec<PluginRow>;
    /// Show a plugin, its versions, and what they did.
    PluginInfo = 62, ["plugin", "info"], Read, Reads, "yard plugin info big-orders", {
        /// Name of the plugin.
        name: String = Required,
    } -> PluginReport;
    /// Show what a plugin logged, and what happened to it.
    PluginLogs = 63, ["plugin", "logs"], Read, Reads, "yard plugin logs big-orders", {
        /// Name of the plugin.
        name: String = Required,
    } -> Vec<PluginLogRow>;
    /// Make a version the active one: the one on trial, else the newest.
    PluginPromote = 64, ["plugin", "promote"], Manage, Changes,
    "yard plugin promote big-orders --version 3", {
        /// Name of the plugin.
        name: String = Required,
        /// Number of the version.
        version: Option<u32> = Optional,
    } -> PluginRow;
    /// End a trial, or go back to the version that was active before.
    PluginRollback = 65, ["plugin", "rollback"], Manage, Changes,
    "yard plugin rollback big-orders", {
        /// Name of the plugin.
        name: String = Required,
    } -> PluginRow;
    /// Let no version of a plugin run; what it would decide waits.
    PluginDisable = 66, ["plugin", "disable"], Manage, Changes,
    "yard plugin disable big-orders", {
        /// Name of the plugin.
        name: String = Required,
    } -> PluginRow;
    /// Remove a version that is not in use, or a plugin that is disabled.
    PluginRm = 67, ["plugin", "rm"], Manage, Removes,
    "yard plugin rm big-orders --version 2", {
        /// Name of the plugin.
        name: String = Required,
        /// Number of the version; without, the plugin with all of them.
        version: Option<u32> = Optional,
    } -> PluginRow;
    /// Let a version decide beside the active one, without effect, and count where they differ.
    PluginShadow = 68, ["plugin", "shadow"], Manage, Changes,
    "yard plugin shadow big-orders --share 10", {
        /// Name of the plugin.
        name: String = Required,
        /// Number of the version; without, the newest.
        version: Option<u32> = Optional,
        /// Share of the batches that both decide about, in percent.
        share: u16 = Default("100"),
    } -> PluginRow;
    /// Let a version decide for a share of the queues, and make it active when it proved itself.
    PluginCanary = 69, ["plugin", "canary"], Manage, Changes,
    "yard plugin canary big-orders --share 10 --bake 10m", {
        /// Name of the plugin.
        name: String = Required,
        /// Number of the version; without, the newest.
        version: Option<u32> = Optional,
        /// Share of the queues, in percent.
        share: u16 = Default("10"),
        /// It is made active after this long, unless it was ended by then.
        bake: AgeLimit = Default("none"),
    } -> PluginRow;
    /// Trust a key: what it signed may be pushed where signatures are required.
    PluginTrust = 70, ["plugin", "trust"], Manage, Adds,
    "yard plugin trust author.pub.pem", {
        /// The public key of Ed25519: its 32 bytes, or for `yard` the path of its PEM file.
        key: Digest = Required,
        /// A remark for people.
        note: String = Default(""),
    } -> Vec<PluginKeyRow>;
    /// Trust a key no longer; what it signed stays.
    PluginDistrust = 71, ["plugin", "distrust"], Manage, Removes,
    "yard plugin distrust 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29", {
        /// The public key, as when it was trusted.
        key: Digest = Required,
    } -> Vec<PluginKeyRow>;
    /// List the keys that are trusted.
    PluginKeys = 72, ["plugin", "keys"], Read, Reads, "yard plugin keys",
    {} -> Vec<PluginKeyRow>;
    /// Fetch the file of a version of a plugin.
    PluginGet = 73, ["plugin", "get"], Read, Reads, "yard plugin get big-orders --version 2", {
        /// Name of the plugin.
        name: String = Required,
        /// Number of the version; without, the one that is active.
        version: Option<u32> = Optional,
    } -> PluginCopy;
    /// List the messages about which a version in shadow says something else, the first 10,000.
    PluginDifferences = 110, ["plugin", "differences"], Read, Reads,
    "yard plugin differences big-orders", {
        /// Name of the plugin.
        name: String = Required,
    } -> Vec<PluginDifferenceRow>;
    /// List open transactions, in the order of their names.
    TxLs = 80, ["tx", "ls"], Read, Reads, "yard tx ls --undecided", {
        /// Of this producer group only.
        group: Option<String> = Optional,
        /// Only those that nobody is asked about any more: they wait for an operator.
        undecided: bool = Switch,
        /// How many rows, 1 to 1000.
        limit: u32 = Default("100"),
        /// Go on behind this transaction: the `next` of a list.
        after: Option<TxId> = Optional,
    } -> TxList;
    /// Show a transaction and its messages.
    TxInfo = 81, ["tx", "info"], Read, Reads,
    "yard tx info 0001-8f14e45fceea167a-00000000-000000000000002a", {
        /// The transaction.
        id: TxId = Required,
    } -> TxReport;
    /// Commit an open transaction: its messages become visible.
    TxCommit = 82, ["tx", "commit"], Manage, Removes,
    "yard tx commit 0001-8f14e45fceea167a-00000000-000000000000002a", {
        /// The transaction.
        id: TxId = Required,
    } -> TxDecidedRow;
    /// Roll an open transaction back: its messages are dropped.
    TxRollback = 83, ["tx", "rollback"], Manage, Removes,
    "yard tx rollback 0001-8f14e45fceea167a-00000000-000000000000002a", {
        /// The transaction.
        id: TxId = Required,
    } -> TxDecidedRow;
    /// Change when producers of a group are asked about their open transactions.
    TxSet = 84, ["tx", "set"], Manage, Changes,
    "yard tx set payments --first 10s --every 1m --checks 30", {
        /// Name of the producer group.
        group: String = Required,
        /// So long after it began they are asked about a transaction for the first time.
        first: Option<CheckSpan> = Optional,
        /// And again each time this has passed.
        every: Option<CheckSpan> = Optional,
        /// So often, at most 1000 times; then the transaction waits for an operator.
        checks: Option<u16> = Optional,
        /// Who says first what becomes of it: native (ask a producer), or plugin:NAME.
        check: Option<CheckPolicy> = Optional,
    } -> TxSettingsRow;
    /// Show the life of a message: what the log says of any, and what was noted of traced ones.
    MsgTrace = 90, ["msg", "trace"], Read, Reads,
    "yard msg trace 0197f3a2b4c5d6e7f8091a2b3c4d5e6f", {
        /// Id of the message, as its send result says.
        id: MessageId = Required,
    } -> Vec<TraceRow>;
    /// Pass a group's backlog on to a wider topic, by key; its consumers go on there.
    GroupDrain = 95, ["group", "drain"], Manage, Changes,
    "yard group drain billing orders orders.wide", {
        /// Name of the group.
        name: String = Required,
        /// Name of the topic that it consumes.
        topic: String = Required,
        /// Name of the wide topic: of the same type, with a queue in each shard of the other.
        to: String = Required,
    } -> DrainRow;
    /// List the groups whose backlogs are passed on to other topics, and how far that is.
    GroupDrained = 96, ["group", "drained"], Read, Reads, "yard group drained",
    {} -> Vec<DrainRow>;
    /// Let a group go on in its own topic, once it has settled what was passed on.
    GroupReturn = 97, ["group", "return"], Manage, Changes,
    "yard group return billing orders", {
        /// Name of the group.
        name: String = Required,
        /// Name of its own topic.
        topic: String = Required,
    } -> DrainRow;
    /// Remove a group without members: its offsets, retries and settings, in all its topics. Its
    /// dead letters stay.
    GroupRm = 118, ["group", "rm"], Manage, Removes, "yard group rm billing", {
        /// Name of the group.
        name: String = Required,
    } -> GroupRemoved;
}

#[cfg(test)]
mod tests;
