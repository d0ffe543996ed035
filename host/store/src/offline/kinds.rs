//! The kinds of entries that are the store's own: one row each. All others belong to who appends
//! them, and are walked over.
use crate::format::entry::{BATCH, RELEASE};
use crate::format::retire::{CARRIED, MOVED, RETIRED, SNAPSHOT};

/// How an entry says where its messages went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A batch: runs of messages, each continuing its queue.
    Batch,
    /// Releases: runs of places of messages that lie elsewhere, each continuing its queue.
    Releases,
    /// Copies of messages that outlive their segments, each with its place.
    Copies,
    /// Copies of messages that wait for their release.
    Carried,
    /// No messages, but which segments are gone.
    Retired,
    /// No messages.
    Other,
}

struct Row {
    kind: u16,
    name: &'static str,
    means: Kind,
}

const ROWS: &[Row] = &[
    Row { kind: BATCH, name: "batch", means: Kind::Batch },
    Row { kind: MOVED, name: "moved", means: Kind::Copies },
    Row { kind: CARRIED, name: "carried", means: Kind::Carried },
    Row { kind: SNAPSHOT, name: "snapshot", means: Kind::Other },
    Row { kind: RELEASE, name: "release", means: Kind::Releases },
    Row { kind: RETIRED, name: "retired", means: Kind::Retired },
];

pub(super) fn kind_of(kind: u16) -> Kind {
    ROWS.iter().find(|row| row.kind == kind).map_or(Kind::Other, |row| row.means)
}

/// What people call a kind of the store's own; `None` for the kinds of others.
#[must_use]
pub fn kind_name(kind: u16) -> Option<&'static str> {
    ROWS.iter().find(|row| row.kind == kind).map(|row| row.name)
}
