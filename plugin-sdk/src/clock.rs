//! The broker's time, for retry and transaction check. Capability `clock`.

/// Milliseconds since 1970 UTC: the time of the batch, fixed during a call. In a test it is what
/// `testing::set_now_ms` says, and 0 before.
#[must_use]
pub fn now_ms() -> u64 {
    crate::host::now_ms()
}
