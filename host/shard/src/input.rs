//! What can happen to a shard: one closed enum.
use yard_broker::{Event, OrderKey, Ticket};
use yard_store::IoDone;
use yard_wire::RecordPlace;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A request, a closed connection, a change of the metadata.
    Event(Event),
    /// The result of an `Output::Io`.
    Io(IoDone),
    /// The answer to `Output::ReadIndex`; empty where the index could not be read.
    Index {
        /// The question.
        ticket: Ticket,
        /// The entries, from the offset asked for on.
        places: Vec<RecordPlace>,
    },
    /// The answer to `Output::ReadOrders`; empty where nothing could be read.
    Orders {
        /// The question.
        ticket: Ticket,
        /// The entries, from the offset asked for on.
        places: Vec<RecordPlace>,
        /// The order group of each.
        orders: Vec<OrderKey>,
    },
}
