//! What the log holds of transactions, and what shards say to each other about them.
use bytes::Bytes;
use yard_wire::{Malformed, ShardId, TenantId, Timestamp, TxId, Wire};

yard_wire::message! {
    /// A step of a transaction.
    ///
    /// ```text
    /// offset size field
    ///      0   22 tx      u16 coordinator, u64 producer, u32 epoch, u64 number
    ///     22    1 step    0 begun, 1 checked, 2 decided, 3 done, 4 settled
    ///     23    . fields  begun: u32 bytes, group; u32 bytes, note; u64 begun_ms; u64 next_ms
    ///                     checked: u16 checks, u64 next_ms
    ///                     decided, settled: u8 whether it is committed
    /// ```
    pub struct TxEntry {
        /// The transaction.
        pub tx: TxId,
        /// What happened to it.
        pub step: TxStep,
    }
}

/// What happened to a transaction: in its coordinator, but for the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxStep {
    /// It began.
    Begun {
        /// The group whose producers can decide about it.
        group: String,
        /// What its producer said.
        note: String,
        /// When.
        begun: Timestamp,
        /// When a producer is asked first; 0: none is, it waits for an operator.
        next: Timestamp,
    },
    /// A producer was asked, a plugin wants to wait, or nobody is asked any more.
    Checked {
        /// How often that was so by now.
        checks: u16,
        /// When it is looked at again; 0: not any more, it waits for an operator.
        next: Timestamp,
    },
    /// It is decided, once and for all.
    Decided {
        /// Its messages become visible; else they are dropped.
        commit: bool,
    },
    /// Every shard has carried the decision out.
    Done,
    /// In a shard with prepared messages of it: the decision was carried out. Where messages
    /// became visible by it, the releases say so instead.
    Settled {
        /// Those that are not visible wait until they are due; else they are dropped.
        commit: bool,
    },
}

impl Wire for TxStep {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Begun { group, note, begun, next } => {
                out.push(0);
                group.put(out);
                note.put(out);
                begun.put(out);
                next.put(out);
            }
            Self::Checked { checks, next } => {
                out.push(1);
                checks.put(out);
                next.put(out);
            }
            Self::Decided { commit } => {
                out.push(2);
                commit.put(out);
            }
            Self::Done => out.push(3),
            Self::Settled { commit } => {
                out.push(4);
                commit.put(out);
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            0 => Ok(Self::Begun {
                group: String::take(input)?,
                note: String::take(input)?,
                begun: Timestamp::take(input)?,
                next: Timestamp::take(input)?,
            }),
            1 => Ok(Self::Checked { checks: u16::take(input)?, next: Timestamp::take(input)? }),
            2 => Ok(Self::Decided { commit: bool::take(input)? }),
            3 => Ok(Self::Done),
            4 => Ok(Self::Settled { commit: bool::take(input)? }),
            other => Err(Malformed::Field { what: "step of a transaction", value: other.into() }),
        }
    }
}

/// What one shard tells another about a transaction. May be lost and said again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whose transaction it is.
    pub tenant: TenantId,
    /// The transaction.
    pub tx: TxId,
    /// Who says it.
    pub from: ShardId,
    /// What.
    pub what: NoticeWhat,
}

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeWhat {
    /// The coordinator: it is decided.
    Decided {
        /// Its messages become visible; else they are dropped.
        commit: bool,
    },
    /// A participant: nothing of it waits here any more, and that is durable.
    Settled,
    /// A participant: messages of it wait here; what became of it?
    Asked,
    /// The coordinator: no such transaction is known.
    Unknown,
}
