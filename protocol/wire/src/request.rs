//! The registry of requests. One row adds one: its number, the stream it travels on, whether a
//! replay of its bytes can do harm, the right it needs, its type and its reply's.
use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::frame::Role;
use crate::requests::{
    Call, Called, Credit, Credited, Deliver, Ended, Extend, Extended, Fetch, Fetched, Find,
    FindRoute, Found, GroupMoved, Hello, JoinProducers, JoinedProducers, MoveGroup, OpenProducer,
    Produce, Produced, ProducerOpened, Route, Seek, Settle, Settled, Sought, Subscribe, Subscribed,
    TxBegin, TxBegun, TxCheck, TxDecide, TxDecided, Unsubscribe, Unsubscribed, Welcome,
};

/// What a replay of a request's bytes by somebody who recorded them could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing: it changes nothing, or the same thing again.
    Harmless,
    /// Nothing, where its numbering or its dedupe key is known to the broker.
    NeedsDedupe,
    /// It would do harm; it is refused in early data.
    Refused,
}

word! {
    /// What a principal must be granted to make a request or run an operation.
    pub enum Right {
        /// Nothing but a tenant.
        Connect = 0 "connect",
        /// To send to a topic.
        Produce = 1 "produce",
        /// To receive for a group and settle.
        Consume = 2 "consume",
        /// To read from any offset, and to see topics and groups.
        Read = 3 "read",
        /// To create, change and remove topics and groups.
        Manage = 4 "manage",
        /// To act on the installation: tenants, connections of others, logs.
        Operate = 5 "operate",
    }
}

macro_rules! requests {
    ($( $(#[doc = $doc:literal])+
        $name:ident = $number:literal, $role:ident, $replay:ident, $right:ident => $reply:ident;
    )*) => {
        /// The number of a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $( $(#[doc = $doc])+ $name = $number ),* }

        impl Kind {
            /// Every request, in the order of the registry.
            pub const ALL: &'static [Self] = &[$( Self::$name ),*];

            /// The request with this number, if there is one.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )* _ => None }
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name) ),* }
            }

            /// What it does, in a sentence.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+).trim_ascii() ),* }
            }

            /// The stream that it travels on.
            #[must_use]
            pub fn role(self) -> Role {
                match self { $( Self::$name => Role::$role ),* }
            }

            /// What a replay of its bytes could do.
            #[must_use]
            pub fn replay(self) -> Replay {
                match self { $( Self::$name => Replay::$replay ),* }
            }

            /// The right that it needs. An operator's call needs its operation's right as well.
            #[must_use]
            pub fn right(self) -> Right {
                match self { $( Self::$name => Right::$right ),* }
            }
        }

        /// A request with its contents.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Request { $( $(#[doc = $doc])+ $name($name) ),* }

        impl Request {
            /// The number of the request.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $( Self::$name(_) => Kind::$name ),* }
            }

            /// Appends the contents.
            pub fn put_body(&self, out: &mut Vec<u8>) {
                match self { $( Self::$name(body) => body.put(out) ),* }
            }

            /// Reads the contents of a request of this kind; they must fill `body`.
            ///
            /// # Errors
            /// [`Malformed`] when they do not.
            pub fn from_body(kind: Kind, body: Bytes) -> Result<Self, Malformed> {
                match kind { $( Kind::$name => Ok(Self::$name($name::from_bytes(body)?)) ),* }
            }
        }

        /// A good answer with its contents.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Reply { $(
            #[doc = concat!("Answers `", stringify!($name), "`.")]
            $name($reply)
        ),* }

        impl Reply {
            /// The number of the request that it answers.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $( Self::$name(_) => Kind::$name ),* }
            }

            /// Appends the contents.
            pub fn put_body(&self, out: &mut Vec<u8>) {
                match self { $( Self::$name(body) => body.put(out) ),* }
            }

            /// Reads the contents of a reply to a request of this kind; they must fill `body`.
            ///
            /// # Errors
            /// [`Malformed`] when they do not.
            pub fn from_body(kind: Kind, body: Bytes) -> Result<Self, Malformed> {
                match kind { $( Kind::$name => Ok(Self::$name($reply::from_bytes(body)?)) ),* }
            }
        }
    };
}

requests! {
    /// Say who the client is; the first request of a connection.
    Hello = 1, Control, Harmless, Connect => Welcome;
    /// Ask where topics are.
    FindRoute = 2, Control, Harmless, Connect => Route;
    /// Run an operation of the catalogue.
    Call = 3, Control, Refused, Connect => Called;
    /// Begin to receive messages for a group.
    Subscribe = 4, Control, Refused, Consume => Subscribed;
    /// Let the broker deliver more.
    Credit = 5, Control, Refused, Consume => Credited;
    /// End a subscription.
    Unsubscribe = 6, Control, Refused, Consume => Unsubscribed;
    /// Let a group go on from other offsets.
    MoveGroup = 12, Control, Refused, Manage => GroupMoved;
    /// Store a batch of messages.
    Produce = 16, Data, NeedsDedupe, Produce => Produced;
    /// Settle delivered messages.
    Settle = 17, Data, Refused, Consume => Settled;
    /// Read messages from an offset on.
    Fetch = 18, Data, Harmless, Read => Fetched;
    /// Look for messages by id or by key, in one shard.
    Find = 19, Data, Harmless, Read => Found;
    /// Find the offset at which a queue was at a time.
    Seek = 20, Data, Harmless, Read => Sought;
    /// Begin a new incarnation of a producer: earlier ones store nothing more.
    OpenProducer = 21, Data, Refused, Produce => ProducerOpened;
    /// Hold delivered messages for longer.
    Extend = 26, Data, Refused, Consume => Extended;
    /// Be asked about open transactions of a producer group.
    JoinProducers = 30, Control, Harmless, Produce => JoinedProducers;
    /// Begin a transaction.
    TxBegin = 31, Data, Refused, Produce => TxBegun;
    /// Commit a transaction or roll it back.
    TxDecide = 32, Data, Refused, Produce => TxDecided;
}

/// Something that the broker sends unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Messages for a subscription; on a data stream.
    Deliver(Deliver),
    /// A subscription ended; on the control stream.
    Ended(Ended),
    /// What is to become of a transaction? On the control stream.
    TxCheck(TxCheck),
}

impl Push {
    /// The number of a deliver push.
    pub const DELIVER: u16 = 1;
    /// The number of an ended push.
    pub const ENDED: u16 = 2;
    /// The number of a check of a transaction.
    pub const TX_CHECK: u16 = 3;

    /// The number of the push.
    #[must_use]
    pub fn number(&self) -> u16 {
        match self {
            Self::Deliver(_) => Self::DELIVER,
            Self::Ended(_) => Self::ENDED,
            Self::TxCheck(_) => Self::TX_CHECK,
        }
    }

    /// Appends the contents.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Deliver(body) => body.put(out),
            Self::Ended(body) => body.put(out),
            Self::TxCheck(body) => body.put(out),
        }
    }

    /// Reads the contents of the push with this number; they must fill `body`.
    ///
    /// # Errors
    /// [`Malformed`] when they do not, or when no push has this number.
    pub fn from_body(number: u16, body: Bytes) -> Result<Self, Malformed> {
        match number {
            Self::DELIVER => Ok(Self::Deliver(Deliver::from_bytes(body)?)),
            Self::ENDED => Ok(Self::Ended(Ended::from_bytes(body)?)),
            Self::TX_CHECK => Ok(Self::TxCheck(TxCheck::from_bytes(body)?)),
            other => Err(Malformed::Field { what: "push", value: other.into() }),
        }
    }
}
