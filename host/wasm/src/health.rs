//! How well a version does for a tenant: from faults to a state, as a value.
//!
//! ```text
//!              3 faults a minute            10, or 12 failures in a row
//!   healthy ────────────────────► degraded ────────────────────► quarantined ◄──┐
//!      ▲                             │ ▲                              │          │ fails again,
//!      └──── a minute without ───────┘ └───── the probe passed ── until passed ──┘ twice as long
//! ```
//!
//! Faults that one message each explains are counted; a version that nothing comes back from
//! *fails*. Quarantine by counted faults needs a version to return to: without one, isolating each
//! message is better than holding them all. Figures: `Failure semantics` of the design.
use std::collections::VecDeque;

/// Faults within [`WINDOW_MS`] from which a version is degraded.
pub const DEGRADED_FAULTS: usize = 3;
/// Faults within [`WINDOW_MS`] from which a version is quarantined.
pub const QUARANTINED_FAULTS: usize = 10;
/// Failures in a row from which a version is quarantined, as the last has waited long enough.
pub const QUARANTINED_FAILURES: u32 = 12;
/// For so long a fault is counted.
pub const WINDOW_MS: u64 = 60_000;
/// A first failure holds up the queue for so long; each further one twice as long.
pub const HOLD_MS_MIN: u64 = 10;
/// Failures hold up no longer than this before quarantine.
pub const HOLD_MS_MAX: u64 = 10_000;
/// The first quarantine lasts so long; each further one twice as long.
pub const QUARANTINE_MS_MIN: u64 = 1_000;
/// No quarantine lasts longer.
pub const QUARANTINE_MS_MAX: u64 = 300_000;

const _: () = assert!(DEGRADED_FAULTS < QUARANTINED_FAULTS);
const _: () = assert!(HOLD_MS_MIN < HOLD_MS_MAX && QUARANTINE_MS_MIN < QUARANTINE_MS_MAX);

/// The state of a version, by the faults of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// It does what it should.
    #[default]
    Healthy,
    /// It has faults and goes on.
    Degraded,
    /// It is not asked until a time; then one batch is its probe.
    Quarantined,
}

/// A change of state, for the journal, metrics and the author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// When.
    pub at_ms: u64,
    /// State until now.
    pub from: HealthState,
    /// State from now on.
    pub to: HealthState,
    /// Faults of the last minute, at most [`QUARANTINED_FAULTS`].
    pub faults: usize,
    /// When it will be asked again; 0 unless quarantined.
    pub until_ms: u64,
}

/// Whether there is another good version to return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// A previous version can take over.
    Previous,
    /// There is none.
    Missing,
}

/// The health of one version for one tenant.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: HealthState,
    /// Times of the latest faults, at most [`QUARANTINED_FAULTS`].
    faults: VecDeque<u64>,
    /// Failures since something last came back.
    failures: u32,
    /// Poison since a message last passed.
    poisoned_in_a_row: usize,
    /// Quarantines since it was last healthy.
    quarantines: u32,
    /// Not to be asked before this time.
    until_ms: u64,
}

impl Health {
    /// Whether nothing speaks against it: no fault is remembered.
    #[must_use]
    pub fn is_spotless(&self) -> bool {
        self.state == HealthState::Healthy && self.faults.is_empty()
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// When the version may be asked: at once if that has passed.
    #[must_use]
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Messages that were poison since one last passed.
    #[must_use]
    pub fn poisoned_in_a_row(&self) -> usize {
        self.poisoned_in_a_row
    }

    /// Single messages had so many faults; the rest of their batch, if any, passed.
    pub fn poisoned(
        &mut self,
        now: u64,
        count: usize,
        any_passed: bool,
        back: Fallback,
    ) -> Option<HealthChange> {
        self.count(now, count);
        let before = if any_passed { 0 } else { self.poisoned_in_a_row };
        self.poisoned_in_a_row = before.saturating_add(if any_passed { 0 } else { count });
        self.failures = 0;
        let many = self.faults.len() >= QUARANTINED_FAULTS && back == Fallback::Previous;
        // The probe after a quarantine must pass whole.
        let again = self.state == HealthState::Quarantined && back == Fallback::Previous;
        if many || again { self.quarantine(now) } else { self.settle(now) }
    }

    /// Nothing came back: no instance, a trap when opened, or a batch in which all messages trap.
    pub fn failed(&mut self, now: u64, back: Fallback) -> Option<HealthChange> {
        self.count(now, 1);
        self.failures = self.failures.saturating_add(1);
        let in_a_row = self.failures >= QUARANTINED_FAILURES;
        let many = self.faults.len() >= QUARANTINED_FAULTS && back == Fallback::Previous;
        if in_a_row || many || self.state == HealthState::Quarantined {
            return self.quarantine(now);
        }
        self.until_ms = now + doubled(HOLD_MS_MIN, self.failures - 1, HOLD_MS_MAX);
        self.settle(now)
    }

    /// A whole batch was judged without a fault.
    pub fn passed(&mut self, now: u64) -> Option<HealthChange> {
        self.failures = 0;
        self.poisoned_in_a_row = 0;
        self.settle(now)
    }

    fn count(&mut self, now: u64, count: usize) {
        self.forget(now);
        for _ in 0..count.min(QUARANTINED_FAULTS) {
            if self.faults.len() == QUARANTINED_FAULTS {
                self.faults.pop_front();
            }
            self.faults.push_back(now);
        }
        assert!(self.faults.len() <= QUARANTINED_FAULTS, "what is remembered is bounded");
    }

    fn forget(&mut self, now: u64) {
        while self.faults.front().is_some_and(|at| at + WINDOW_MS <= now) {
            self.faults.pop_front();
        }
    }

    fn quarantine(&mut self, now: u64) -> Option<HealthChange> {
        self.until_ms = now + doubled(QUARANTINE_MS_MIN, self.quarantines, QUARANTINE_MS_MAX);
        self.quarantines = self.quarantines.saturating_add(1);
        self.failures = 0;
        self.enter(now, HealthState::Quarantined)
    }

    /// The state that the faults of the last minute say.
    fn settle(&mut self, now: u64) -> Option<HealthChange> {
        self.forget(now);
        let probed = self.state == HealthState::Quarantined;
        let to = match self.faults.len() {
            // One good batch is a start, not health.
            0..DEGRADED_FAULTS if !probed => {
                if self.state == HealthState::Degraded && !self.faults.is_empty() {
                    HealthState::Degraded
                } else {
                    HealthState::Healthy
                }
            }
            _ => HealthState::Degraded,
        };
        if to == HealthState::Healthy {
            self.quarantines = 0;
        }
        self.enter(now, to)
    }

    fn enter(&mut self, now: u64, to: HealthState) -> Option<HealthChange> {
        let from = std::mem::replace(&mut self.state, to);
        let again = to == HealthState::Quarantined;
        let until_ms = if again { self.until_ms } else { 0 };
        let change = HealthChange { at_ms: now, from, to, faults: self.faults.len(), until_ms };
        (from != to || again).then_some(change)
    }
}

fn doubled(first_ms: u64, times: u32, max_ms: u64) -> u64 {
    first_ms.saturating_mul(1 << times.min(32)).min(max_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What changes when faults come at these times, as `at: state until`.
    fn check(script: &[(u64, &str)], back: Fallback, expect: &[&str]) {
        let mut health = Health::default();
        let changes = script.iter().filter_map(|(at, what)| match *what {
            "poison" => health.poisoned(*at, 1, true, back),
            "fail" => health.failed(*at, back),
            _ => health.passed(*at),
        });
        let says = |it: HealthChange| format!("{}: {:?} {}", it.at_ms, it.to, it.until_ms);
        assert_eq!(changes.map(says).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn poison_degrades_and_returns_to_the_previous_version() {
        let script: Vec<_> = (1..=11).map(|at| (at, "poison")).collect();
        check(&script[..2], Fallback::Previous, &[]);
        check(&script[..9], Fallback::Previous, &["3: Degraded 0"]);
        check(&script[..10], Fallback::Previous, &["3: Degraded 0", "10: Quarantined 1010"]);
        check(&script, Fallback::Missing, &["3: Degraded 0"]);
    }

    #[test]
    fn a_minute_without_faults_heals() {
        let script = [(1, "poison"), (2, "poison"), (3, "poison"), (60_002, "ok"), (60_003, "ok")];
        check(&script, Fallback::Missing, &["3: Degraded 0", "60003: Healthy 0"]);
    }

    #[test]
    fn failures_in_a_row_quarantine_and_each_probe_doubles() {
        let mut script: Vec<_> = (1..=12).map(|at| (at, "fail")).collect();
        script.push((2_000, "fail"));
        script.push((5_000, "ok"));
        script.push((70_000, "ok"));
        let expect = [
            "3: Degraded 0",
            "12: Quarantined 1012",
            "2000: Quarantined 4000",
            "5000: Degraded 0",
            "70000: Healthy 0",
        ];
        check(&script, Fallback::Missing, &expect);
    }

    #[test]
    fn failures_hold_for_longer_and_longer() {
        let mut health = Health::default();
        let mut waits = Vec::new();
        for _ in 0..11 {
            health.failed(1_000_000, Fallback::Missing);
            waits.push(health.until_ms() - 1_000_000);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_000]);
    }

    proptest! {
        #[test]
        fn waiting_is_bounded_and_health_returns(
            script in prop::collection::vec((0_u64..20_000, 0_u8..3, any::<bool>()), 0..300)
        ) {
            let mut health = Health::default();
            let mut now = 0;
            for (pause, what, previous) in script {
                now += pause;
                let back = if previous { Fallback::Previous } else { Fallback::Missing };
                match what {
                    0 => health.poisoned(now, 1, false, back),
                    1 => health.failed(now, back),
                    _ => health.passed(now),
                };
                prop_assert!(health.until_ms() <= now + QUARANTINE_MS_MAX);
            }
            now += QUARANTINE_MS_MAX;
            health.passed(now);
            health.passed(now + WINDOW_MS);
            prop_assert_eq!(health.state(), HealthState::Healthy);
        }
    }
}
