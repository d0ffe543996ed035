//! Numbers that plugins count, by name.
use std::collections::BTreeMap;

use crate::limits::{METRIC_NAME_BYTES_MAX, METRICS_MAX};

/// One metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metric {
    /// Sum of what was added.
    pub added: u64,
    /// Values observed.
    pub count: u64,
    /// Sum of the values observed.
    pub sum: f64,
    /// The largest value observed; 0 before the first.
    pub max: f64,
}

/// The metrics of one plugin of one tenant, since somebody last asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// By name.
    pub metrics: BTreeMap<String, Metric>,
    /// Calls that were ignored: too many names, one too long, or a value that is no number.
    pub ignored: u64,
}

impl Metrics {
    pub(crate) fn add(&mut self, name: &str, by: u64) {
        if let Some(metric) = self.metric(name) {
            metric.added = metric.added.saturating_add(by);
        }
    }

    pub(crate) fn observe(&mut self, name: &str, value: f64) {
        if !value.is_finite() {
            self.ignored += 1;
        } else if let Some(metric) = self.metric(name) {
            metric.max = if metric.count == 0 { value } else { metric.max.max(value) };
            metric.count += 1;
            metric.sum += value;
        }
    }

    /// Adds those of another instance of the same plugin, and leaves it empty. Names beyond as many
    /// as one plugin may have are ignored, and counted as such.
    pub fn append(&mut self, other: &mut Metrics) {
        self.ignored += std::mem::take(&mut other.ignored);
        for (name, more) in std::mem::take(&mut other.metrics) {
            let Some(metric) = self.metric(&name) else { continue };
            let is_first = metric.count == 0;
            metric.max = if is_first { more.max } else { metric.max.max(more.max) };
            metric.added = metric.added.saturating_add(more.added);
            metric.count += more.count;
            metric.sum += more.sum;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.metrics.is_empty() && self.ignored == 0
    }

    fn metric(&mut self, name: &str) -> Option<&mut Metric> {
        let is_known = self.metrics.contains_key(name);
        if !is_known && (self.metrics.len() == METRICS_MAX || name.len() > METRIC_NAME_BYTES_MAX) {
            self.ignored += 1;
            return None;
        }
        if !is_known {
            self.metrics.insert(name.to_owned(), Metric::default());
        }
        self.metrics.get_mut(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_values_are_numbers() {
        let mut metrics = Metrics::default();
        for index in 0..METRICS_MAX + 5 {
            metrics.add(&format!("m{index}"), 1);
        }
        metrics.add("m0", u64::MAX);
        metrics.add(&"n".repeat(METRIC_NAME_BYTES_MAX + 1), 1);
        metrics.observe("m1", f64::NAN);
        metrics.observe("m1", -2.0);
        metrics.observe("m1", -3.0);
        assert_eq!((metrics.metrics.len(), metrics.ignored), (METRICS_MAX, 7));
        assert_eq!(metrics.metrics["m0"].added, u64::MAX);
        let expect = Metric { added: 1, count: 2, sum: -5.0, max: -2.0 };
        assert_eq!(metrics.metrics["m1"], expect);
        let mut all = Metrics::default();
        all.append(&mut metrics);
        assert!(metrics.is_empty());
        assert_eq!((all.metrics["m1"], all.ignored), (expect, 7));
    }
}
