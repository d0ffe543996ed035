//! A short slice of the crash run; `cargo xtask crash` is the long one.
use yard_it::crash::{self, CrashOptions};
use yard_it::yard;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_keeps_what_it_promised() {
    let options = CrashOptions {
        yard: yard::locate(None).unwrap(),
        rounds: 5,
        seed: 20_130_101,
        shards: 2,
        verbose: false,
    };
    let report = crash::run(&options).await.unwrap();
    assert!(report.is_clean(), "{}{:?}", report.verdict, report.refusals);
    let counts = report.verdict.counts;
    // A clean verdict over nothing would prove nothing. A round waits for 100 messages at least,
    // most rounds do; what comes beyond that is a matter of the machine.
    assert!(counts.crashes >= 5 && counts.acked > 200 && counts.delivered > 200, "{counts:?}");
    assert!(counts.queues_not_scanned == 0 && counts.stored > 200, "{counts:?}");
}
