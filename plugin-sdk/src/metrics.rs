//! Counters and distributions of a plugin, beside the broker's own. Capability `metrics`.

/// Adds to a counter.
pub fn add(name: &str, by: u64) {
    crate::host::add(name, by);
}

/// Adds a value to a distribution.
pub fn observe(name: &str, value: f64) {
    crate::host::observe(name, value);
}
