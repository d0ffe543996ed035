//! What an endpoint counts.
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($( $(#[$doc:meta])+ $name:ident, )*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $( pub(crate) $name: Counter ),* }

        /// What happened at an endpoint since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            /// Connections now, with those in the handshake.
            pub open: usize,
            $( $(#[$doc])+ pub $name: u64 ),*
        }

        impl Counters {
            pub(crate) fn read(&self, open: usize) -> Counts {
                Counts { open, $( $name: self.$name.get() ),* }
            }
        }
    };
}

counters! {
    /// Connections whose handshake was begun.
    accepted,
    /// Handshakes that failed or took too long.
    handshakes_failed,
    /// Connections refused because there were too many.
    refused,
    /// Handshakes sent back to prove their address.
    retried,
    /// Hellos that the service welcomed.
    sessions,
    /// Connections that this side closed with a code because of what the peer did.
    closed_by_code,
    /// Tasks that panicked, each with its own connection.
    panics,
}
