//! The durable state at one moment, while the broker goes on.
//!
//! ```text
//!   broker ──(copies that share what neither has changed)──► Snapshot ──► bytes, where they are
//!                                                                          written
//! ```
//!
//! Maps that grow with messages are such that a copy costs next to nothing (`imbl`): the log does
//! not wait until a million rows are bytes. What is small is bytes at once.
use std::fmt;

use bytes::Bytes;

/// Maps with fewer rows are not worth sharing; tests share all of them.
const SHARED_MIN: usize = if cfg!(test) { 1 } else { 64 };

/// The durable state of a broker at one moment.
#[derive(Default)]
pub struct Snapshot {
    /// They follow each other.
    parts: Vec<Part>,
    /// What follows them.
    bytes: Vec<u8>,
}

/// Bytes, and what comes behind them.
struct Part {
    before: Vec<u8>,
    shared: Box<Put>,
}

type Put = dyn Fn(&mut Vec<u8>) + Send + Sync;

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} shared parts)", self.parts.len())
    }
}

impl Snapshot {
    /// Appends it to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        for Part { before, shared } in &self.parts {
            out.extend_from_slice(before);
            shared(out);
        }
        out.extend_from_slice(&self.bytes);
    }

    /// As bytes: the same for a broker that lived through the entries of a log as for one that
    /// replayed them.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        self.put(&mut out);
        assert!(!out.is_empty(), "a snapshot begins with its magic");
        Bytes::from(out)
    }

    /// Where bytes are appended that are made at once.
    pub(crate) fn now(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends what has so many rows, as `put` does: at once where they are few.
    pub(crate) fn share<T: Clone + Send + Sync + 'static>(
        &mut self,
        rows: usize,
        what: &T,
        put: impl Fn(&T, &mut Vec<u8>) + Send + Sync + 'static,
    ) {
        if rows < SHARED_MIN {
            put(what, &mut self.bytes);
            return;
        }
        let (before, copy) = (std::mem::take(&mut self.bytes), what.clone());
        self.parts.push(Part { before, shared: Box::new(move |out| put(&copy, out)) });
    }
}
