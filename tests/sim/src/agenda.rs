//! What will happen, in order of virtual time; what is due at the same instant happens in the
//! order in which it was entered.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use yard_broker::{Held, Reads, SessionId, Ticket};
use yard_shard::FetchPlan;
use yard_store::{IndexRead, IoDone};

use crate::network::{ToBroker, ToClient};

/// Virtual time: microseconds since the beginning of the run.
pub(crate) type Micros = u64;

/// A millisecond.
pub(crate) const MS: Micros = 1_000;
/// A second.
pub(crate) const SECOND: Micros = 1_000_000;

/// Messages of a group, by group, producer and number.
pub(crate) type HeldMessages = Vec<(u64, u64, u64)>;

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
    /// What records say is read for a shard.
    ReadLabels {
        /// The shard.
        shard: usize,
        /// The life of the broker that this belongs to.
        life: u32,
        /// The question.
        ticket: Ticket,
        /// What is wanted of them.
        reads: Reads,
        /// What to read.
        plan: Box<FetchPlan>,
    },
    /// A shard hears of messages about which nobody could say anything.
    Held {
        /// The shard.
        shard: usize,
        /// The life of the broker that this belongs to.
        life: u32,
        /// The messages.
        held: Box<Held>,
        /// They are these, and were held at this time.
        since: (HeldMessages, Micros),
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

/// When something happens, its number in the order of entering, and where it is kept, from the
/// highest bit to the lowest: entries are compared more often than anything else.
type Entry = u128;

/// Bits of the place in an entry.
const PLACE_BITS: u32 = 24;
/// Bits of the number.
const NUMBER_BITS: u32 = 40;

const _: () = assert!(Micros::BITS + NUMBER_BITS + PLACE_BITS == Entry::BITS);

fn entry(at: Micros, number: u64, place: usize) -> Entry {
    assert!(number < 1 << NUMBER_BITS && place < 1 << PLACE_BITS, "a run ends before that");
    u128::from(at) << (NUMBER_BITS + PLACE_BITS) | u128::from(number) << PLACE_BITS | place as u128
}

fn time_of(entry: Entry) -> Micros {
    (entry >> (NUMBER_BITS + PLACE_BITS)) as Micros
}

/// The list.
#[derive(Default)]
pub(crate) struct Agenda {
    /// The earliest is the first to leave.
    entries: BinaryHeap<Reverse<Entry>>,
    /// What will happen, apart: it is large, and need not move while the entries are put in order.
    kept: Vec<Option<Happening>>,
    /// Places in it that are free.
    free: Vec<usize>,
    entered: u64,
}

impl Agenda {
    /// Enters something for a time.
    pub(crate) fn enter(&mut self, at: Micros, happening: Happening) {
        self.entered += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.kept[place] = Some(happening);
                place
            }
            None => {
                self.kept.push(Some(happening));
                self.kept.len() - 1
            }
        };
        self.entries.push(Reverse(entry(at, self.entered, place)));
    }

    /// When something happens next.
    #[must_use]
    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.entries.peek().map(|Reverse(entry)| time_of(*entry))
    }

    /// Whether nothing is under way: no frame, no I/O, no work of the broker. What it only waits
    /// for is not.
    #[must_use]
    pub(crate) fn is_calm(&self) -> bool {
        let waits = |happening: &Happening| match happening {
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
            | Happening::ReadLabels { .. }
            | Happening::Held { .. }
            | Happening::Start
            | Happening::RoomAgain
            | Happening::Replace => false,
        };
        self.kept.iter().flatten().all(waits)
    }

    /// Takes what happens next.
    pub(crate) fn next(&mut self) -> Option<(Micros, Happening)> {
        let Reverse(entry) = self.entries.pop()?;
        let (at, place) = (time_of(entry), entry as usize & ((1 << PLACE_BITS) - 1));
        self.free.push(place);
        let happening = self.kept[place].take();
        Some((at, happening.expect("what is entered is kept until it happens")))
    }
}
