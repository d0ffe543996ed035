//! Tests of the whole broker: a log that is a list, and a script that talks to both.
mod bounds;
mod business;
mod checking;
mod consuming;
mod dead_letters;
mod deduping;
mod delayed;
mod draining;
mod extending;
mod finding;
mod judging;
mod metadata;
mod order_random;
mod ordered;
mod plugins;
mod producing;
mod random;
mod relocating;
mod retention;
mod retrying;
mod scale;
mod script;
mod told;
mod tracing;
mod transactions;
mod world;

/// Randomness from a seed. Source: xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
