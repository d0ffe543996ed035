//! What will happen, in order of virtual time; what is due at the same instant happens in the
//! order in which it was entered.
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use yard_broker::{Reading, SessionId, Ticket};
use yard_shard::FetchPlan;
use yard_store::{IndexRead, IoDone};

use crate::network::{ToBroker, ToClient};

/// Virtual time: microseconds since the beginning of the run.
pub(crate) type Micros = u64;

/// A millisecond.
pub(crate) const MS: Micros = 1_000;
/// A second.
pub(crate) const SECOND: Micros = 1_000_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A frame reaches the broker.
    ToBroker {
        /// The connection.
        session: SessionId,
        /// Its stream.
        stream: u16,
        /// The frame.
        frame: Box<ToBroker>,
    },
    /// A frame reaches a client.
    ToClient {
        /// The connection.
        session: SessionId,
        /// The frame.
        frame: Box<ToClient>,
    },
    /// The broker finds out that a connection is gone.
    BrokerLost(SessionId),
    /// A client finds out that a connection is gone.
    ClientLost(SessionId),
    /// A client does what it planned; an old `generation` means that it changed its mind.
    Timer {
        /// The client.
        client: usize,
        /// What it planned.
        kind: u8,
        /// When it planned it.
        generation: u32,
    },
    /// A shard takes in what has arrived.
    Step {
        /// The shard.
        shard: usize,
        /// The life of the broker that this belongs to.
        life: u32,
    },
    /// A shard wanted to be woken now.
    Wake {
        /// The shard.
        shard: usize,
        /// The life of the broker that this belongs to.
        life: u32,
        /// Which of its wishes.
        wish: u64,
    },
    /// The disk does the I/O at the head of a shard's line, or one of the others.
    Perform {
        /// The shard.
        shard: usize,
        /// The life of the broker that this belongs to.
        life: u32,
        /// Number of the I/O; 0: the one at the head of the line.
        number: u64,
    },
    /// The result of an I/O reaches its shard.
    Done {
        /// The shard.
        shard: usize,
        /// The life of the broker that this belongs to.
        life: u32,
        /// The result.
        done: IoDone,
    },
    /// Index entries are read for a shard.
    ReadIndex {
        /// The shard.
        shard: usize,
        /// The life of the broker that this belongs to.
        life: u32,
        /// The question.
        ticket: Ticket,
        /// What to read.
        read: Box<IndexRead>,
    },
    /// Order groups are read for a shard.
    ReadOrders {
        /// The shard.
        shard: usize,
        /// The life of the broker that this belongs to.
        life: u32,
        /// The question.
        ticket: Ticket,
        /// What to read.
        plan: Box<FetchPlan>,
        /// What to find out of it.
        reading: Reading,
    },
    /// Something goes wrong, by the plan's number.
    Fault(usize),
    /// The broker starts.
    Start,
    /// The broker begins to shut down.
    ShutDown,
    /// Disks have room again.
    RoomAgain,
    /// A process whose log is fenced is replaced.
    Replace,
    /// The run looks whether it can go on to its next phase.
    Review,
}

struct Item {
    at: Micros,
    number: u64,
    happening: Happening,
}

/// The list.
#[derive(Default)]
pub(crate) struct Agenda {
    items: BinaryHeap<Item>,
    entered: u64,
}

impl Agenda {
    /// Enters something for a time.
    pub(crate) fn enter(&mut self, at: Micros, happening: Happening) {
        self.entered += 1;
        self.items.push(Item { at, number: self.entered, happening });
    }

    /// When something happens next.
    #[must_use]
    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.items.peek().map(|item| item.at)
    }

    /// Whether nothing is under way: no frame, no I/O, no work of the broker. What it only waits
    /// for is not.
    #[must_use]
    pub(crate) fn is_calm(&self) -> bool {
        let waits = |item: &Item| match &item.happening {
            // Nobody waits for the answer of what somebody else sent again.
            Happening::ToBroker { frame, .. } => frame.correlation.0 == 0,
            Happening::Wake { .. }
            | Happening::ClientLost(_)
            | Happening::Timer { .. }
            | Happening::Fault(_)
            | Happening::ShutDown
            | Happening::Review => true,
            Happening::ToClient { .. }
            | Happening::BrokerLost(_)
            | Happening::Step { .. }
            | Happening::Perform { .. }
            | Happening::Done { .. }
            | Happening::ReadIndex { .. }
            | Happening::ReadOrders { .. }
            | Happening::Start
            | Happening::RoomAgain
            | Happening::Replace => false,
        };
        self.items.iter().all(waits)
    }

    /// Takes what happens next.
    pub(crate) fn next(&mut self) -> Option<(Micros, Happening)> {
        self.items.pop().map(|item| (item.at, item.happening))
    }
}

impl Item {
    fn key(&self) -> (Micros, u64) {
        (self.at, self.number)
    }
}

// The heap gives its greatest first, so that the earliest is the greatest.
impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Item {}
