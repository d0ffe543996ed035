//! Random numbers: seeded by the operating system once, then drawn without a lock.
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::crypto::CryptoProvider;
use yard_wire::Code;

use crate::Error;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Two SplitMix64 counters, together 128 bits of state. Good for ids that must not collide, not
/// for secrets.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Debug)]
pub(crate) struct Random {
    high: AtomicU64,
    low: AtomicU64,
}

impl Random {
    /// A source that is seeded by the secure random numbers of the TLS library.
    pub(crate) fn from_system(provider: &CryptoProvider) -> Result<Self, Error> {
        let mut seed = [0u8; 16];
        provider.secure_random.fill(&mut seed).map_err(|_| {
            Error::new(Code::Internal, "the operating system gave no random numbers")
        })?;
        Ok(Self::new(u128::from_le_bytes(seed)))
    }

    /// The numbers of this seed.
    pub(crate) fn new(seed: u128) -> Self {
        Self { high: AtomicU64::new((seed >> 64) as u64), low: AtomicU64::new(seed as u64) }
    }

    pub(crate) fn next_u64(&self) -> u64 {
        mix(self.high.fetch_add(STEP, Ordering::Relaxed))
    }

    /// A source of its own, for whoever draws often.
    pub(crate) fn split(&self) -> OwnRandom {
        let low = mix(self.low.fetch_add(STEP, Ordering::Relaxed));
        OwnRandom { high: self.next_u64(), low }
    }
}

/// The same numbers for one owner, without atomics.
#[derive(Debug)]
pub(crate) struct OwnRandom {
    high: u64,
    low: u64,
}

impl OwnRandom {
    pub(crate) fn next_u128(&mut self) -> u128 {
        self.high = self.high.wrapping_add(STEP);
        self.low = self.low.wrapping_add(STEP);
        u128::from(mix(self.high)) << 64 | u128::from(mix(self.low))
    }
}

fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_do_not_repeat() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let one = Random::from_system(&provider).unwrap();
        let other = Random::from_system(&provider).unwrap();
        let mut sources = [one.split(), one.split(), other.split(), other.split()];
        let mut drawn: Vec<u128> =
            sources.iter_mut().flat_map(|s| (0..1_000).map(|_| s.next_u128())).collect();
        drawn.extend((0..1_000).map(|_| u128::from(one.next_u64())));
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 5_000);
    }
}
