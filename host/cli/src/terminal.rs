//! What the terminal is asked: how wide it is, and whether the user wants to stop.
use std::io::{self, IsTerminal};

use comfy_table::Table;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Columns of the terminal that stdout is, `None` where it is none.
pub(crate) fn width() -> Option<usize> {
    io::stdout().is_terminal().then(|| Table::new().width()).flatten().map(usize::from)
}

/// The signals that end a program. They are caught from when this is made.
pub(crate) struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    pub(crate) fn catch() -> Result<Self, Failure> {
        let caught =
            |kind| signal(kind).map_err(|error| Failure::local(format!("signals: {error}")));
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
        })
    }

    /// Waits for something; `None` when a signal came first.
    pub(crate) async fn unless<T>(&mut self, waited_for: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.next() => None,
            found = waited_for => Some(found),
        }
    }

    /// Returns at the next Ctrl-C or SIGTERM.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
