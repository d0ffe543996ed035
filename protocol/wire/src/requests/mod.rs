//! The requests, their replies and the pushes: one file per subject.
pub mod call;
pub mod extend;
pub mod fetch;
pub mod find;
pub mod group;
pub mod hello;
pub mod produce;
pub mod route;
pub mod settle;
pub mod subscribe;
pub mod transaction;

pub use call::{Call, Called};
pub use extend::{Extend, Extended, HeldRange};
pub use fetch::{Fetch, Fetched, FetchedRecord};
pub use find::{Covered, Find, FindCursor, Found, FoundMessage, Seek, Sought, Wanted};
pub use group::{GroupMoved, MoveGroup, MovedQueue};
pub use hello::{Hello, Welcome};
pub use produce::{
    AckNodes, AckPlace, OpenProducer, Original, Placed, Produce, Produced, ProducerOpened,
};
pub use route::{FindRoute, Node, Route, TopicRoute};
pub use settle::{Settle, SettleRange, Settled, Verdict};
pub use subscribe::{
    Credit, Credited, Deliver, Delivered, Ended, Expression, QueueStart, Start, Subscribe,
    Subscribed, Unsubscribe, Unsubscribed,
};
pub use transaction::{
    JoinProducers, JoinedProducers, TxBegin, TxBegun, TxCheck, TxDecide, TxDecided, TxVerdict,
};
