//! Everything that happened, as one hash; and, where somebody wants to read it, as lines.
use std::io::Write;

/// Collects what happens. Equal runs have equal hashes, in every build.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    printing: bool,
}

impl Trace {
    /// A trace of nothing; `printing`: write lines to standard output as well.
    #[must_use]
    pub fn new(printing: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, printing }
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

    /// Writes a line of what happened so many microseconds after the beginning, if somebody reads.
    pub fn line(&self, now: u64, text: impl FnOnce() -> String) {
        if self.printing {
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            let line = format!("{seconds:4}.{micros:06}  {}\n", text());
            // A reader who has seen enough closes the pipe; that is no failure of the run.
            let _ = std::io::stdout().lock().write_all(line.as_bytes());
        }
    }
}
