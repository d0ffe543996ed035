//! The scenarios on a real server: a process, QUIC, the shipped client. Those that need no broker
//! of their own share one, each with tenants of its own.
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod host;
mod lasting;
mod member;
mod program;
mod transacting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use yard_it::{Server, ServerOptions, yard};
use yard_scenarios::files::{all, of_host};
use yard_scenarios::steps::Verb;
use yard_scenarios::{Kind, Scenario, run};

use host::{Broker, Real};

/// Scenarios at a time: most of them wait most of the time.
const AT_A_TIME: usize = 20;

fn is_about_the_process(scenario: &Scenario) -> bool {
    let ends = |verb: Verb| matches!(verb, Verb::Restart | Verb::Down);
    scenario.steps.iter().any(|step| ends(step.form.verb))
}

fn options(scenario: Option<&Scenario>) -> ServerOptions {
    let mut options = ServerOptions::new(yard::locate(None).expect("there is a program"));
    options.segment_bytes = scenario.map(|scenario| scenario.segment_bytes.max(8 << 20));
    options
}

/// What came of all of them.
#[derive(Default)]
struct Results {
    steps: usize,
    not_judged: usize,
    failures: Vec<String>,
}

fn carry_out(scenario: &Scenario, number: usize, shared: &Server, runtime: &Handle) -> Results {
    let mut results = Results::default();
    let broker = if is_about_the_process(scenario) {
        let server = runtime.block_on(Server::start(options(Some(scenario))));
        Broker::Own(Box::new(server.expect("a broker starts")))
    } else {
        Broker::Shared(shared)
    };
    let mut host = Real::new(runtime.clone(), broker, number);
    match catch_unwind(AssertUnwindSafe(|| run(scenario, &mut host))) {
        Ok(Ok(counts)) => (results.steps, results.not_judged) = (counts.steps, counts.not_judged),
        Ok(Err(failure)) => results.failures.push(failure.to_string()),
        Err(_) => results.failures.push(format!("{}: it panicked, see above", scenario.file)),
    }
    results
}

#[test]
fn on_a_real_server() {
    let read = all().unwrap_or_else(|wrong| panic!("files cannot be read: {wrong:?}"));
    let (scenarios, left_out) = of_host(Kind::Real, read);
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let shared = runtime.block_on(Server::start(options(None))).expect("a broker starts");
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Results::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = scenarios.get(number) else { return };
                    let one = carry_out(scenario, number, &shared, runtime.handle());
                    let mut all = results.lock().unwrap();
                    all.steps += one.steps;
                    all.not_judged += one.not_judged;
                    all.failures.extend(one.failures);
                }
            });
        }
    });
    let Results { steps, not_judged, mut failures } = results.into_inner().unwrap();
    failures.sort();
    let count = scenarios.len();
    println!(
        "real: {count} scenarios, {left_out} left out; {steps} steps, {not_judged} not judged"
    );
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
