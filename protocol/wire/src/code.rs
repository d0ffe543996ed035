//! The registry of error codes. One row adds one; its page is `protocol/errors/E<number>.md`.
use std::fmt;

use bytes::Bytes;

use crate::codec::{Malformed, Wire};

/// What a client may do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// The same request will be refused again.
    Never,
    /// Ask the same broker again, after the refusal's `retry_after_ms`.
    SamePlace,
    /// Another broker may accept, or this one after an operator has acted.
    Elsewhere,
}

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $name:ident = $number:literal, $retry:ident; )*) => {
        /// Why a request was refused. The number is stable for ever.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $( $(#[doc = $doc])+ $name = $number ),* }

        impl Code {
            /// Every code, in the order of the registry.
            pub const ALL: &'static [Self] = &[$( Self::$name ),*];

            /// The code with this number, if there is one.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )* _ => None }
            }

            /// The name of the code, as in this registry.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name) ),* }
            }

            /// What happened, in a sentence.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+).trim_ascii() ),* }
            }

            /// What a client may do about it.
            #[must_use]
            pub fn retry(self) -> RetryClass {
                match self { $( Self::$name => RetryClass::$retry ),* }
            }
        }
    };
}

codes! {
    /// The stream does not begin with Switchyard's magic number.
    BadMagic = 101, Never;
    /// The peer speaks a version of the protocol that this broker does not.
    BadVersion = 102, Never;
    /// A frame announces more bytes than allowed.
    FrameTooLarge = 103, Never;
    /// A frame's contents are not what its kind says.
    MalformedFrame = 104, Never;
    /// No request has this number.
    UnknownRequest = 105, Never;
    /// A checksum does not match its bytes.
    BadChecksum = 106, Never;
    /// A frame was begun and not finished in time.
    TooSlow = 107, Never;
    /// The first request of a connection must be the hello.
    HelloExpected = 108, Never;
    /// The request cannot be sent on this stream.
    WrongStream = 109, Never;

    /// No topic of this name or id exists for this tenant.
    UnknownTopic = 201, Never;
    /// A topic of this name exists already, with other settings.
    TopicExists = 202, Never;
    /// A name breaks the rules for names.
    BadName = 203, Never;
    /// The topic has no queue of this number.
    QueueOutOfRange = 204, Never;
    /// The body is larger than allowed.
    BodyTooLarge = 205, Never;
    /// The properties or the tag are larger than allowed.
    PropertiesTooLarge = 206, Never;
    /// A batch is not well-formed.
    MalformedBatch = 207, Never;
    /// The request reached a shard that does not hold the queue; ask for the route again.
    WrongShard = 208, SamePlace;
    /// No group of this name exists for this tenant.
    UnknownGroup = 209, Never;
    /// The queue holds no such offset.
    OffsetOutOfRange = 210, Never;
    /// This broker does not know the dialect of the filter expression.
    UnsupportedExpression = 211, Never;
    /// An argument is missing, malformed or outside its bounds.
    BadArgument = 212, Never;
    /// A limit of the tenant is reached.
    LimitReached = 213, Never;
    /// No message of this tenant is what was looked for, in all that was looked at.
    NoSuchMessage = 214, Never;
    /// A message is to be delivered later than allowed.
    DelayTooLong = 215, Never;
    /// A retry policy is not one that is known, or a part of it is outside its bounds.
    BadRetryPolicy = 220, Never;
    /// The topic is the system's: applications read it, and neither send to it nor change it.
    SystemTopic = 221, Never;
    /// A property has a name that is reserved for the system.
    ReservedProperty = 225, Never;
    /// A tag is blank, or has a bar or a control character in it.
    BadTag = 226, Never;
    /// A group cannot go on from an offset beyond the end of a queue.
    SeekBeyondEnd = 227, Never;
    /// No type of a topic has this name.
    UnknownTopicType = 228, Never;
    /// A dedupe key is empty or too long, or of a message that cannot have one.
    BadDedupeKey = 236, Never;
    /// The topic remembers no dedupe keys, so a message with one cannot be checked.
    NoDedupeWindow = 237, Never;
    /// The message does not fit the type of its topic.
    UnfitForTopic = 240, Never;

    /// The queue of this tenant is full; nothing was stored.
    Busy = 301, SamePlace;
    /// The disk of this broker is full; nothing was stored.
    DiskFull = 302, SamePlace;
    /// A write or flush failed earlier: this log refuses more until the broker was restarted.
    LogFenced = 303, Elsewhere;
    /// The broker is shutting down.
    ShuttingDown = 304, Elsewhere;
    /// The disk could not be read at this place.
    ReadFailed = 305, Elsewhere;
    /// The message is damaged on the disk; those behind it can be fetched.
    MessageDamaged = 306, Never;
    /// A group of the topic is too far behind; nothing was stored.
    BacklogFull = 307, SamePlace;
    /// A log that this data folder had is not there; the broker does not start without it.
    LogMissing = 308, Elsewhere;
    /// The data folder does not have the shards that it should have.
    ShardsDiffer = 309, Elsewhere;
    /// So many dedupe keys of the tenant are remembered that no more are taken; nothing was stored.
    DedupeFull = 310, SamePlace;

    /// This broker cannot give the acknowledgement that was asked for; nothing was stored.
    AckUnavailable = 401, Never;
    /// Batches before this one in its lane have not arrived; send the lane again from there.
    OutOfSequence = 402, SamePlace;
    /// A newer incarnation of this producer exists.
    ProducerFenced = 403, Never;
    /// The batch was stored long ago; its offsets are no longer remembered.
    StaleSequence = 404, Never;

    /// The connection brought no client certificate.
    NoCertificate = 501, Never;
    /// The client certificate names no tenant of this broker.
    UnknownTenant = 502, Never;
    /// The right to do this is not granted.
    Forbidden = 503, Never;
    /// A tenant of this name exists already.
    TenantExists = 504, Never;

    /// The lease of the message has ended; it is or will be delivered again.
    LeaseLost = 601, Never;
    /// The connection has no such subscription.
    UnknownSubscription = 602, Never;
    /// The error text of a nack or reject is longer than allowed; nothing was settled.
    ErrorTextTooLarge = 603, Never;
    /// The lease of this delivery has ended, and the message was delivered again: that one counts.
    LeaseSuperseded = 604, Never;
    /// The message has no delivery with this attempt number.
    LeaseForged = 605, Never;
    /// The delivery was settled before.
    AlreadySettled = 607, Never;
    /// The message has been held for as long as any message may be.
    HeldTooLong = 608, Never;
    /// The group was moved to other offsets; subscribe again.
    GroupMoved = 609, SamePlace;
    /// No message of the group has stopped its order group there.
    NotStopped = 618, Never;
    /// Members of the group share the queues, or have queues of their own; not both.
    OtherMode = 619, Never;
    /// A group's business key is not the name of a property that messages may have.
    BadBusinessKey = 622, Never;
    /// The group's backlog is passed on to another topic.
    GroupDrained = 630, Never;
    /// The topic cannot take the backlog of this group.
    BadDrainTarget = 631, Never;
    /// The group's backlog is not passed on to another topic.
    NotDrained = 632, Never;

    /// The broker failed at something that should not fail; its log says what.
    Internal = 701, SamePlace;
    /// No plugin of this name, or no such version of it, exists for this tenant.
    UnknownPlugin = 702, Never;
    /// The plugin does not run now: it was disabled, is being loaded, or fails too often.
    PluginNotRunning = 703, SamePlace;
    /// The file is not WebAssembly.
    NotWasm = 704, Never;
    /// The file is a core module that does not say which world it is made for.
    NoComponentType = 705, Never;
    /// The plugin imports what the host does not have.
    PluginImports = 706, Never;
    /// The plugin exports no point that the host knows, or not the one that is asked for.
    PluginExports = 707, Never;
    /// The plugin's manifest is missing, malformed, or not that of the file.
    PluginManifest = 708, Never;
    /// The plugin's manifest asks for what it may not have.
    PluginCapability = 709, Never;
    /// The plugin is not signed by a key that the tenant trusts.
    PluginSignature = 710, Never;
    /// The plugin is larger than allowed, in its file, compiled or in what it declares.
    PluginTooLarge = 711, Never;
    /// The plugin could not be compiled within its limits.
    PluginCompile = 712, Never;
    /// The plugin did not decide as the examples in its manifest say.
    PluginSelfTest = 713, Never;
    /// The filter expression cannot be read.
    BadExpression = 714, Never;
    /// Members of the group want other messages of this topic.
    OtherExpression = 715, Never;
    /// The plugin is made for an interface that this broker does not have.
    PluginAbi = 716, Never;
    /// This broker was built without its own plugins.
    BuiltWithoutPlugins = 717, Never;
    /// The plugin failed while it was asked; it may be asked again.
    PluginFailed = 718, SamePlace;
    /// The version of the plugin is in use, or nothing is there that could be.
    PluginState = 719, Never;
    /// A plugin is not named as it must be, or does not take its settings.
    BadPluginUse = 720, Never;
    /// The plugin before the topic refused the message; nothing was stored.
    MessageRefused = 721, Never;
    /// The plugin that says which messages are the same fails at this one; nothing was stored.
    NotComparable = 725, Never;
    /// The plugin is being compiled; nothing was done.
    PluginCompiling = 736, SamePlace;

    /// The client has no connection to a broker at the moment.
    Disconnected = 801, SamePlace;
    /// No answer came within the time allowed; whether the request was done is not known.
    TimedOut = 802, SamePlace;
    /// The client was closed.
    Closed = 803, Never;
    /// The broker answered with something that this client does not understand.
    BadReply = 804, Never;
    /// The broker's certificate is not one that the client's authority signed for this name.
    Untrusted = 805, Never;
    /// A load was to be offered at a rate that this client could not keep.
    RateNotOffered = 806, Never;
    /// The body is packed in a way that this client does not know, or it is broken.
    BadEncoding = 811, Never;
    /// The body would become larger than allowed when it is unpacked.
    UnpackedTooLarge = 812, Never;
    /// The producer's buffer is full; the message was not taken.
    BufferFull = 813, SamePlace;
    /// No assignment strategy has this name, or it lacks what it needs.
    UnknownStrategy = 814, Never;
    /// Whoever took the request answered that it failed.
    RequestFailed = 815, Never;

    /// The text of a script is not of the language.
    ScriptMalformed = 901, Never;
    /// A script stopped at something that it does itself.
    ScriptFailed = 902, Never;
    /// A script met a limit of the console.
    ScriptLimit = 903, Never;
    /// The run was interrupted.
    Interrupted = 904, Never;
    /// What a plan would change is not as it was when the plan was made; nothing was done to it.
    PlanOutdated = 905, Never;
    /// A change was accepted, but reading back does not show it.
    NotVerified = 906, Never;
    /// The journal of the console cannot be written; nothing was changed.
    JournalUnwritable = 907, Never;
    /// A plan was not applied: it was not confirmed.
    NotConfirmed = 908, Never;

    /// No open transaction of this name is known.
    UnknownTransaction = 1001, Never;
    /// The transaction is another producer group's.
    ForeignTransaction = 1002, Never;
    /// The transaction was decided otherwise before.
    TransactionFinished = 1003, Never;
    /// The number or the check of the transaction is older than what is known.
    StaleTransaction = 1004, Never;
    /// The transaction has more messages than one may have.
    TransactionTooLarge = 1005, Never;

    /// Members of the group are connected; nothing was removed.
    GroupHasMembers = 1010, Never;

    /// No message with this id is known.
    UnknownMessage = 1101, Never;
}

impl Code {
    /// Whether the same request may succeed later, here or elsewhere.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.retry() != RetryClass::Never
    }

    /// The code as people see it: `E0301`.
    #[must_use]
    pub fn label(self) -> String {
        format!("E{:04}", self as u16)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04} {}", *self as u16, self.name())
    }
}

impl Wire for Code {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u16).put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let number = u16::take(input)?;
        Self::from_number(number)
            .ok_or(Malformed::Field { what: "error code", value: number.into() })
    }
}

message! {
    /// A structured "no": the code for programs, the detail for people.
    pub struct Refusal {
        /// Which rule or fact stands against the request.
        pub code: Code,
        /// Ask again after this many milliseconds; 0 where asking again is of no use or the
        /// client should choose.
        pub retry_after_ms: u32,
        /// What exactly was wrong, at most [`crate::limits::TEXT_BYTES_MAX`] bytes.
        pub detail: String,
    }
}

impl Refusal {
    /// A refusal with a sentence of its own.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, retry_after_ms: 0, detail: detail.into() }
    }

    /// The same, to be asked again after `retry_after_ms` milliseconds.
    #[must_use]
    pub fn after(code: Code, retry_after_ms: u32, detail: impl Into<String>) -> Self {
        Self { code, retry_after_ms, detail: detail.into() }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code, code.sentence())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Refusal {}
