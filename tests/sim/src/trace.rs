//! Everything that happened, as one hash; and, where somebody wants to read it, as lines.
use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::agenda::Micros;
use crate::log::Log;

/// Collects what happens. Equal runs have equal hashes, in every build.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    printing: bool,
    log: Option<Log>,
}

impl Trace {
    /// A trace of nothing; `printing`: write lines to standard output as well.
    #[must_use]
    pub fn new(printing: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, printing, log: None }
    }

    /// The hash of everything until now.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Adds numbers.
    pub fn mix(&mut self, words: &[u64]) {
        for word in words {
            // FNV-1a with words for bytes, and a rotation so that high bits come down.
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
        }
    }

    /// Adds bytes.
    pub fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(&[xxhash_rust::xxh3::xxh3_64(bytes)]);
    }

    /// Whether somebody reads what happens.
    #[must_use]
    pub(crate) fn is_read(&self) -> bool {
        self.printing || self.log.is_some()
    }

    /// From now on an event log is written as well.
    pub(crate) fn log_to(&mut self, log: Log) {
        self.log = Some(log);
    }

    /// A step is over; `look` says all that is to be seen of the state, if somebody logs.
    pub(crate) fn step(
        &mut self,
        step: u64,
        now: Micros,
        look: impl FnOnce() -> BTreeMap<String, String>,
    ) {
        if let Some(log) = &mut self.log {
            log.step(step, now, look());
        }
    }

    /// Everything that was logged is in its file.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.log.take().map_or(Ok(()), Log::close)
    }

    /// Writes a line of what happened so many microseconds after the beginning, if somebody reads.
    pub fn line(&self, now: Micros, text: impl FnOnce() -> String) {
        if !self.is_read() {
            return;
        }
        let text = text();
        if self.printing {
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            let line = format!("{seconds:4}.{micros:06}  {text}\n");
            // A reader who has seen enough closes the pipe; that is no failure of the run.
            let _ = io::stdout().lock().write_all(line.as_bytes());
        }
        if let Some(log) = &self.log {
            log.note(text);
        }
    }
}
