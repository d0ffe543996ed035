//! Slowing the tenant that takes more than its share, while others are there and the machine is
//! short of time.
//!
//! ```text
//!   probe ──► how late is this process? ─┐
//!   paces ──► who sends how much? ───────┴─► rates ──► a stream of a limited tenant is read later,
//!                                                      so QUIC's flow control holds its sender
//! ```
//!
//! The inbox shares out the log; it cannot share out what is spent before: packets, decryption,
//! checksums, the tasks of a hundred connections. A tenant alone is never slowed. Of several, the
//! one that sends the most is, at once to its even share and then by a factor a turn, until
//! requests are in time again; then it gets back a little each turn. It is never slowed below an
//! eighth of its even share of what the machine was seen to carry. Who comes to others begins with
//! an even share.
//!
//! Source of the shape: additive increase, multiplicative decrease (Chiu and Jain, 1989), with
//! lateness as the signal, as in Nichols and Jacobson, "Controlling Queue Delay" (2012).
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use yard_wire::TenantId;

use crate::hub::lock;

/// How often the rates are set, in milliseconds.
const TURN_MS: u64 = 25;
/// How often lateness is measured, in milliseconds: some times a turn.
const PROBE_MS: u64 = 2;
/// How often a broker with one tenant looks whether it still is there, in milliseconds.
const IDLE_MS: u64 = 1_000;
/// Who comes to others may begin with so much whatever they send, in bytes a second.
const RATE_FIRST: f64 = 32_000_000.0;
/// A tenant that has sent within so many turns is there.
const PRESENT_TURNS: u32 = 20;
/// Later than this, on average over a turn, the machine is short of time, in microseconds.
const LATE_US: u64 = 500;
/// What the rate of the largest sender is multiplied by when it is.
const SLOWER: f64 = 0.7;
/// What a rate is multiplied by when it is not.
const FASTER: f64 = 1.004;
/// What a tenant keeps of its even share of the capacity, however late the process runs.
const SHARE_KEPT: f64 = 0.125;
/// What the capacity that was seen is multiplied by each turn: half of it is gone in 7 seconds.
const FADES: f64 = 0.9975;
/// The share of what was sent before in what is sent lately, each turn: a burst is no capacity.
const SMOOTH: f64 = 0.9;
/// The machine carries at least so much, in bytes a second.
const RATE_MIN: f64 = 256_000.0;
/// A limited tenant may have so much time saved up, in milliseconds.
const BURST_MS: u64 = 5;

/// What one tenant sends, and how fast it may.
#[derive(Debug, Default)]
struct Pace {
    /// Bytes since the last turn.
    bytes: u64,
    /// Turns since it sent something.
    silent_turns: u32,
    /// Bytes a second; `None`: as fast as it can.
    rate: Option<f64>,
    /// It was found to be the largest while the process ran late.
    is_slowed: bool,
    /// When everything that was let in so far will have been sent at the rate.
    paid_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Paces {
    of: BTreeMap<TenantId, Pace>,
    /// What all tenants together sent lately, in bytes a second.
    sent: f64,
    /// The most that it was seen to be; fades.
    capacity: f64,
}

/// The paces of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    paces: Mutex<Paces>,
    /// Somebody came who was not there.
    came: Notify,
}

impl Fairness {
    /// Notes a request of so many bytes; the instant before which it should not be let in, for a
    /// tenant that is limited.
    pub(crate) fn pace(&self, tenant: TenantId, bytes: usize, now: Instant) -> Option<Instant> {
        let mut paces = lock(&self.paces);
        if !paces.of.contains_key(&tenant) {
            self.came.notify_one();
            // Who comes to others begins with an even share, and is given more when there is.
            let present = paces.of.len() as f64;
            let share = (paces.capacity / (present + 1.0)).max(RATE_FIRST);
            let rate = (present > 0.0).then_some(share);
            paces.of.insert(tenant, Pace { rate, ..Pace::default() });
        }
        let pace = paces.of.get_mut(&tenant).expect("it was there or inserted");
        pace.bytes += bytes as u64;
        let rate = pace.rate?;
        let saved = now.checked_sub(Duration::from_millis(BURST_MS)).unwrap_or(now);
        let begin = pace.paid_until.map_or(saved, |until| until.max(saved));
        pace.paid_until = Some(begin + Duration::from_secs_f64(bytes as f64 / rate));
        (begin > now).then_some(begin)
    }

    /// Sets the rates for the next turn, by what was sent in `turn` and by how late things were.
    fn set_rates(&self, turn: Duration, late: bool) {
        if turn < Duration::from_millis(TURN_MS) {
            // Too short to tell a rate from a burst: it counts in the next one.
            return;
        }
        let mut paces = lock(&self.paces);
        for pace in paces.of.values_mut() {
            pace.silent_turns = if pace.bytes > 0 { 0 } else { pace.silent_turns + 1 };
        }
        paces.of.retain(|_, pace| pace.silent_turns < PRESENT_TURNS);
        let seconds = turn.as_secs_f64();
        let sent = |pace: &Pace| pace.bytes as f64 / seconds;
        let all: f64 = paces.of.values().map(sent).sum();
        paces.sent = paces.sent * SMOOTH + all * (1.0 - SMOOTH);
        paces.capacity = (paces.capacity * FADES).max(paces.sent).max(RATE_MIN);
        let present = paces.of.len().max(1) as f64;
        let least = (paces.capacity / present * SHARE_KEPT).max(RATE_MIN);
        // Whoever was found to be the one stays it until it is held no more: slowed, it may well
        // send less than somebody whom it is being slowed for.
        let one = paces.of.iter().max_by_key(|(_, pace)| (pace.is_slowed, pace.bytes));
        let one = one.map(|(tenant, _)| *tenant);
        let alone = paces.of.len() < 2;
        let share = paces.capacity / present;
        for (tenant, pace) in &mut paces.of {
            let sent = sent(pace);
            let slower = late && one == Some(*tenant) && sent > least;
            pace.rate = match pace.rate {
                _ if alone => None,
                rate if slower => {
                    let now = rate.map_or(sent, |rate| rate.min(sent)).min(share);
                    Some((now * SLOWER).max(least))
                }
                Some(rate) if late => Some(rate),
                // A tenant that does not use its rate is not held by it.
                Some(rate) if rate > 4.0 * sent.max(least) => None,
                Some(rate) => Some(rate * FASTER),
                None => None,
            };
            pace.is_slowed = pace.rate.is_some() && (pace.is_slowed || slower);
            if pace.rate.is_none() {
                pace.paid_until = None;
            }
            pace.bytes = 0;
        }
    }
}

/// Sets the rates, turn by turn, for as long as anybody else holds `fairness`.
pub(crate) async fn run(fairness: Arc<Fairness>) {
    while Arc::strong_count(&fairness) > 1 {
        let began = Instant::now();
        let present = lock(&fairness.paces).of.len();
        if present < 2 {
            // Nothing is decided, so nothing is measured, and an idle broker sleeps.
            let came = fairness.came.notified();
            let _ = tokio::time::timeout(Duration::from_millis(IDLE_MS), came).await;
            fairness.set_rates(began.elapsed(), false);
            continue;
        }
        let mut probes = 0u32;
        let mut late = Duration::ZERO;
        while began.elapsed() < Duration::from_millis(TURN_MS) {
            late += lateness().await;
            probes += 1;
        }
        let late_us = (late / probes.max(1)).as_micros() as u64;
        fairness.set_rates(began.elapsed(), late_us > LATE_US);
    }
}

/// How much later than asked for this task runs: by the timer, and behind the tasks that are
/// ready.
async fn lateness() -> Duration {
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(PROBE_MS)).await;
    tokio::task::yield_now().await;
    // The timer counts whole milliseconds and begins in the middle of one.
    began.elapsed().saturating_sub(Duration::from_millis(PROBE_MS + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISY: TenantId = TenantId(1);
    const QUIET: TenantId = TenantId(2);
    const TURN: Duration = Duration::from_millis(TURN_MS);

    fn rate(fairness: &Fairness, tenant: TenantId) -> Option<f64> {
        lock(&fairness.paces).of.get(&tenant).and_then(|pace| pace.rate)
    }

    fn turn(fairness: &Fairness, noisy: usize, quiet: usize, late: bool) {
        let now = Instant::now();
        for (tenant, bytes) in [(NOISY, noisy), (QUIET, quiet)] {
            if bytes > 0 {
                fairness.pace(tenant, bytes, now);
            }
        }
        fairness.set_rates(TURN, late);
    }

    #[test]
    fn a_tenant_alone_is_never_slowed() {
        let fairness = Fairness::default();
        for _ in 0..100 {
            turn(&fairness, 10 << 20, 0, true);
            assert_eq!(rate(&fairness, NOISY), None);
        }
    }

    #[test]
    fn the_largest_is_slowed_and_keeps_a_part_of_its_share_of_the_capacity() {
        let fairness = Fairness::default();
        let mut sent = 11 << 20;
        for _ in 0..50 {
            turn(&fairness, sent, 1 << 20, false);
        }
        for _ in 0..100 {
            turn(&fairness, sent, 1 << 20, true);
            let rate = rate(&fairness, NOISY).expect("limited");
            sent = (rate * TURN.as_secs_f64()) as usize;
        }
        let quiet = rate(&fairness, QUIET).is_none_or(|rate| rate >= RATE_FIRST);
        assert!(quiet, "only the largest is slowed");
        // The capacity was 12 MiB a turn and has faded by a fifth; an eighth of the half is kept.
        let mib = sent as f64 / f64::from(1 << 20);
        assert!((0.5..0.8).contains(&mib), "{mib} MiB a turn beside 1 MiB");
    }

    #[test]
    fn what_is_in_time_again_is_given_back() {
        let fairness = Fairness::default();
        turn(&fairness, 10 << 20, 1 << 20, true);
        assert!(rate(&fairness, NOISY).is_some());
        for _ in 0..2_000 {
            turn(&fairness, 10 << 20, 1 << 20, false);
        }
        assert_eq!(rate(&fairness, NOISY), None);
    }

    #[test]
    fn a_limited_tenant_waits_in_proportion() {
        let fairness = Fairness::default();
        for _ in 0..10 {
            turn(&fairness, 10 << 20, 1 << 20, true);
        }
        let rate = rate(&fairness, NOISY).expect("limited");
        // Later than everything that was let in so far takes.
        let now = Instant::now() + Duration::from_secs(60);
        let second = rate as usize;
        assert_eq!(fairness.pace(NOISY, second, now), None, "what is saved up is let in");
        let until = fairness.pace(NOISY, second, now).expect("a second was taken");
        let wait = until - now;
        assert!((0.9..1.01).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(fairness.pace(QUIET, 1 << 10, now), None);
    }

    #[test]
    fn a_tenant_that_left_is_forgotten() {
        let fairness = Fairness::default();
        turn(&fairness, 10 << 20, 1 << 20, true);
        for _ in 0..PRESENT_TURNS {
            turn(&fairness, 10 << 20, 0, true);
        }
        assert_eq!(rate(&fairness, NOISY), None);
        assert_eq!(lock(&fairness.paces).of.len(), 1);
    }
}
