//! What can happen to a shard: one closed enum.
use yard_broker::{Event, Label, Ticket};
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
    /// The answer to `Output::ReadLabels`; empty where nothing could be read.
    Labels {
        /// The question.
        ticket: Ticket,
        /// The entries, from the offset asked for on.
        places: Vec<RecordPlace>,
        /// What each record says.
        labels: Vec<Label>,
    },
}
