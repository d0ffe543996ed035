//! What much costs: many topics, a long log.
//!
//! ```text
//!   spread   brokers with 1, 10,000 and 100,000 topics, loaded in turn: rates, processor time
//!   memory   a broker with many idle queues beside one that holds as much in one queue
//!   restart  killed again and again with a long log: how long until it takes messages again
//!   lookups  producing at half of the most, with and without somebody who looks for messages
//! ```
//!
//! All of it is measured on brokers in processes of their own, over loopback. Ratios are of runs
//! that took turns; they are what to read.
mod load;
mod lookups;
mod memory;
mod restart;
mod spread;

pub use lookups::{LookupOptions, measure as lookups};
pub use memory::{MemoryOptions, measure as memory};
pub use restart::{RestartOptions, measure as restart};
pub use spread::{SpreadOptions, measure as spread};

/// The middle one, and the least and the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "something was measured");
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Self { median, least: values[0], most: values[values.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, least, most } = self;
        write!(f, "{median:.3} ({least:.3} to {most:.3})")
    }
}

/// The value so far below the largest that `share` of all are at most as large.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    assert!(sorted.is_sorted() && !sorted.is_empty(), "values come in order");
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_and_percentiles() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0, 10.0]);
        assert_eq!((spread.median, spread.least, spread.most), (2.5, 1.0, 10.0));
        assert_eq!(Spread::of(vec![7.0]).to_string(), "7.000 (7.000 to 7.000)");
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!((percentile(&values, 1.0), percentile(&values, 0.0)), (100.0, 1.0));
    }
}
