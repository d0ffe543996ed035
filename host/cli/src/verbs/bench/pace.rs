//! Sending at a constant rate, whatever the answers do.
//!
//! A message's time runs from the moment at which it was due, not from when it was sent: a pause
//! of the broker counts for every message that it held up, also for those that were sent late
//! because of it. (Gil Tene calls the opposite mistake coordinated omission.)
use std::time::{Duration, Instant};

/// When each message is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    rate: f64,
    count: u64,
}

impl Schedule {
    /// All messages of `length` at `rate` a second.
    pub(crate) fn new(rate: f64, length: Duration) -> Self {
        Self { rate, count: (rate * length.as_secs_f64()).floor().max(1.0) as u64 }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// When a message is due, from the start on.
    pub(crate) fn due(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }
}

/// A clock and a way to wait for it.
pub(crate) trait Clock {
    /// Time since the start.
    fn now(&mut self) -> Duration;
    /// Waits until then; may wake late.
    fn sleep_until(&mut self, at: Duration);
}

/// The machine's clock.
#[derive(Debug)]
pub(crate) struct RealClock(pub(crate) Instant);

impl Clock for RealClock {
    fn now(&mut self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&mut self, at: Duration) {
        // A thread sleeps to some 50 us where tokio's timers know whole milliseconds only.
        std::thread::sleep(at.saturating_sub(self.0.elapsed()));
    }
}

/// How far the load was what was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offered {
    /// Messages that were sent.
    pub(crate) count: u64,
    /// Messages a second.
    pub(crate) rate: f64,
}

/// The shortest sleep. A sleep costs some 15 us of a processor, so at a high rate a sender that
/// slept before each message would have no time left for sending. What falls due meanwhile is sent
/// late by so much at most, and its time runs from when it was due.
const SLEEP_MIN: Duration = Duration::from_micros(100);

/// A load that is later than this, or than it is long, is given up: it was not offered.
const LATE_MAX: Duration = Duration::from_secs(10);

/// Sends every message of the schedule when it is due, late ones at once. `send` gets the number
/// of a message, when it was due and when it is sent; `false` ends it early.
pub(crate) fn run(
    schedule: Schedule,
    clock: &mut impl Clock,
    mut send: impl FnMut(u64, Duration, Duration) -> bool,
) -> Offered {
    let mut count = 0;
    for number in 0..schedule.count() {
        let due = schedule.due(number);
        let mut now = clock.now();
        if now < due {
            clock.sleep_until(due.max(now + SLEEP_MIN));
            now = clock.now();
        }
        let is_hopeless = now - due > LATE_MAX.max(schedule.due(schedule.count()));
        if is_hopeless || !send(number, due, now) {
            break;
        }
        count += 1;
    }
    // The last message stands for its share of the time, as every other does.
    let took = clock.now().max(schedule.due(count));
    Offered { count, rate: count as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Time that passes only when somebody waits or works.
    struct Virtual<'a>(&'a Cell<Duration>);

    impl Clock for Virtual<'_> {
        fn now(&mut self) -> Duration {
            self.0.get()
        }
        fn sleep_until(&mut self, at: Duration) {
            self.0.set(self.0.get().max(at));
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pause_counts_for_every_message_that_it_held_up() {
        let time = Cell::new(Duration::ZERO);
        let mut waited = Vec::new();
        // 1,000 a second for 100 ms; each takes 0.1 ms, but the eleventh takes 50 ms.
        let offered =
            run(Schedule::new(1_000.0, 100 * MS), &mut Virtual(&time), |number, due, _| {
                let takes = if number == 10 { 50 * MS } else { MS / 10 };
                time.set(time.get() + takes);
                waited.push(time.get() - due);
                true
            });
        assert_eq!(waited.len(), 100);
        assert_eq!(waited[9], MS / 10);
        assert_eq!(waited[10], 50 * MS);
        // The next was due 1 ms later and was sent when the pause was over.
        assert_eq!(waited[11], 49 * MS + MS / 10);
        let late = waited.iter().filter(|waited| **waited > MS).count();
        assert!((50..=60).contains(&late), "{late} messages felt the pause");
        // The load caught up, so it was offered.
        assert_eq!(offered.count, 100);
        assert!((999.0..=1_000.5).contains(&offered.rate), "{offered:?}");
    }

    #[test]
    fn a_rate_that_cannot_be_kept_is_seen() {
        let time = Cell::new(Duration::ZERO);
        let offered = run(Schedule::new(1_000.0, 100 * MS), &mut Virtual(&time), |_, _, _| {
            time.set(time.get() + 2 * MS);
            true
        });
        assert_eq!(offered.count, 100);
        assert!((499.0..=501.0).contains(&offered.rate), "{offered:?}");
    }

    #[test]
    fn a_load_that_is_hopelessly_late_is_given_up() {
        let time = Cell::new(Duration::ZERO);
        let offered = run(Schedule::new(1_000.0, 100 * MS), &mut Virtual(&time), |_, _, _| {
            time.set(time.get() + LATE_MAX / 2);
            true
        });
        assert_eq!(offered.count, 3);
        assert!(offered.rate < 1.0, "{offered:?}");
    }

    #[test]
    fn nothing_is_sent_early() {
        let time = Cell::new(Duration::ZERO);
        run(Schedule::new(3.0, 2_000 * MS), &mut Virtual(&time), |_, due, now| {
            assert!(now >= due);
            true
        });
        assert_eq!(Schedule::new(3.0, 2_000 * MS).count(), 6);
    }
}
