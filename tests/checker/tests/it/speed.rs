//! A hundred thousand operations take no time, which catches a quadratic path; `yard-judge` takes
//! the time of ten million.

use std::time::{Duration, Instant};
use yard_checker::{Options, check, made};

#[test]
fn a_hundred_thousand_operations_take_no_time() {
    let history = made::history(100_000);
    let began = Instant::now();
    let verdict = check(&history, &Options::drained());
    let taken = began.elapsed();
    assert!(verdict.is_clean(), "{verdict}");
    assert!(verdict.counts.redelivered > 1_000, "some fail: {verdict}");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
}
