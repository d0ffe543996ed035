//! What is counted while something is measured, and what becomes of it.
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times are told apart up to this, in nanoseconds; longer ones count as this.
const TIME_NS_MAX: u64 = 120_000_000_000;

/// The seconds that are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Window {
    pub(crate) fn new(start: Instant, warm_up: Duration, length: Duration) -> Self {
        let begin = start + warm_up;
        Self { begin, end: begin + length }
    }

    pub(crate) fn has(&self, at: Instant) -> bool {
        (self.begin..self.end).contains(&at)
    }

    pub(crate) fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }
}

/// Which messages belong to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// Those that were due in it: of these all are waited for, however long they take.
    Due,
    /// Those whose answer came in it.
    Done,
}

/// What one task has counted.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    window: Window,
    belongs: Belongs,
    times: Histogram<u64>,
    per_second: Vec<u64>,
    messages: u64,
}

impl Tally {
    pub(crate) fn new(window: Window, belongs: Belongs) -> Self {
        let times = Histogram::new_with_bounds(1, TIME_NS_MAX, 3).expect("the bounds are valid");
        Self { window, belongs, times, per_second: Vec::new(), messages: 0 }
    }

    /// A message that was due at `due` was answered at `at`.
    pub(crate) fn add(&mut self, due: Instant, at: Instant) {
        self.add_many(due, at, 1);
    }

    /// The same of several that went together.
    pub(crate) fn add_many(&mut self, due: Instant, at: Instant, count: u64) {
        let decisive = match self.belongs {
            Belongs::Due => due,
            Belongs::Done => at,
        };
        if !self.window.has(decisive) {
            return;
        }
        self.messages += count;
        let waited = at.saturating_duration_since(due).as_nanos();
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        self.times.saturating_record_n(waited.clamp(1, TIME_NS_MAX), count);
        let second = (decisive - self.window.begin).as_secs() as usize;
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += count;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.times.add(&other.times).expect("histograms of the same bounds");
        self.messages += other.messages;
        let seconds = self.per_second.len().max(other.per_second.len());
        self.per_second.resize(seconds, 0);
        for (second, count) in other.per_second.iter().enumerate() {
            self.per_second[second] += count;
        }
    }

    /// The tallies of several tasks as one.
    pub(crate) fn all(window: Window, belongs: Belongs, parts: &[Self]) -> Self {
        let mut all = Self::new(window, belongs);
        parts.iter().for_each(|part| all.merge(part));
        all
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) fn per_second(&self) -> &[u64] {
        &self.per_second
    }

    pub(crate) fn times(&self) -> Option<Times> {
        Times::of(&self.times)
    }
}

/// How long something took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) p99_99: f64,
    pub(crate) max: f64,
}

impl Times {
    fn of(times: &Histogram<u64>) -> Option<Self> {
        let us = |ns: f64| (ns / 100.0).round() / 10.0;
        let at = |quantile| us(times.value_at_quantile(quantile) as f64);
        (!times.is_empty()).then(|| Self {
            count: times.len(),
            mean: us(times.mean()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.999_9),
            max: us(times.max() as f64),
        })
    }
}

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing. Of an even number of values the median is the mean of the two in the
    /// middle.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_what_belongs_to_the_window_counts() {
        let start = Instant::now();
        let window = Window::new(start, 100 * MS, 2_000 * MS);
        let counted = |belongs, due_ms: u32, at_ms: u32| {
            let mut tally = Tally::new(window, belongs);
            tally.add(start + MS * due_ms, start + MS * at_ms);
            (tally.messages(), tally.per_second().to_vec())
        };
        assert_eq!(counted(Belongs::Due, 99, 500), (0, vec![]));
        assert_eq!(counted(Belongs::Due, 1_100, 9_000), (1, vec![0, 1]));
        assert_eq!(counted(Belongs::Done, 99, 500), (1, vec![1]));
        assert_eq!(counted(Belongs::Done, 2_000, 2_100), (0, vec![]));
    }

    #[test]
    fn tallies_add_up() {
        let start = Instant::now();
        let window = Window::new(start, Duration::ZERO, 2_000 * MS);
        let mut parts = [Tally::new(window, Belongs::Done), Tally::new(window, Belongs::Done)];
        parts[0].add(start, start + 10 * MS);
        parts[1].add_many(start, start + 1_500 * MS, 3);
        let all = Tally::all(window, Belongs::Done, &parts);
        assert_eq!((all.messages(), all.per_second()), (4, &[1, 3][..]));
        let times = all.times().expect("four were counted");
        assert_eq!(times.count, 4);
        assert!((1_498_000.0..=1_502_000.0).contains(&times.p50), "{times:?}");
        assert!((1_126_000.0..=1_129_000.0).contains(&times.mean), "{times:?}");
    }

    #[test]
    fn the_middle_of_values() {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|s| s.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[f64::NAN, 2.0]), Some(2.0));
    }
}
