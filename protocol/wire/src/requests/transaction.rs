//! Transactions: begun and decided by a producer of a group, asked about by the broker.
use crate::transaction::TxId;
use crate::{ShardId, Timestamp};

word! {
    /// What is to become of a transaction.
    pub enum TxVerdict {
        /// Its messages become visible.
        Commit = 0 "commit",
        /// Its messages are dropped.
        Rollback = 1 "rollback",
        /// Whoever was asked does not know. It is asked again later.
        Unknown = 2 "unknown",
    }
}

message! {
    /// Be one of the producers of a group that this shard may ask about open transactions, by
    /// [`TxCheck`], for as long as the connection lives. Doing it twice is doing it once.
    pub struct JoinProducers {
        /// The shard.
        pub shard: ShardId,
        /// Name of the producer group.
        pub group: String,
    }

    /// The connection is one of the group's producers.
    pub struct JoinedProducers {}

    /// Begin a transaction. Answered when it is synced; prepared messages may be sent then. The
    /// same request again is answered again while the transaction is open.
    pub struct TxBegin {
        /// Its name; the request goes to its coordinator.
        pub tx: TxId,
        /// The group whose producers can say what is to become of it.
        pub group: String,
        /// What reminds the application of its work, for example an order's number; at most
        /// [`crate::limits::TX_NOTE_BYTES_MAX`] bytes. It comes with each check.
        pub note: String,
    }

    /// The transaction is open.
    pub struct TxBegun {}

    /// Decide about a transaction: by its producer, or in answer to a check by any of its group.
    /// Answered when the decision is synced: it then holds whatever happens, and messages become
    /// visible or are dropped soon after. The same decision again is answered again.
    pub struct TxDecide {
        /// The transaction; the request goes to its coordinator.
        pub tx: TxId,
        /// The group of whoever decides.
        pub group: String,
        /// What is to become of it.
        pub verdict: TxVerdict,
        /// Number of the check that this answers; 0: none, its producer decides by itself.
        pub check: u16,
    }

    /// The decision is recorded, or was before.
    pub struct TxDecided {
        /// What was decided: the verdict of the request. `unknown` changes nothing.
        pub verdict: TxVerdict,
    }

    /// The broker asks what is to become of a transaction.
    pub struct TxCheck {
        /// The transaction.
        pub tx: TxId,
        /// Its group.
        pub group: String,
        /// Number of the check, from 1.
        pub check: u16,
        /// When it began.
        pub begun: Timestamp,
        /// What its producer said when it began.
        pub note: String,
    }
}
