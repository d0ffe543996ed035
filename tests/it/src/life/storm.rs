//! Every message fails three times before it is handled, beside as many deliveries that do not.
//!
//! ```text
//!   round: plain  ◄── 4 N messages, each acknowledged
//!          storm  ◄── N messages, each failed three times, 100 ms between, then acknowledged
//! ```
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use yard_client::wire::operation::{DlqLs, GroupInfo, GroupSet};
use yard_client::wire::retry::{Attempts, RetryPolicy};
use yard_client::{Client, Delivery, Start};

use super::{Bar, Report, fill, keep_if_wrong, number_of, numbered, rate, topic};
use crate::Failed;
use crate::scale::Spread;
use crate::server::{Server, ServerOptions};
use crate::wait::PATIENCE;

/// Names of the topics.
const PLAIN: &str = "plain";
const STORM: &str = "storm";
/// How often each message of the storm is delivered.
const DELIVERIES: u64 = 4;
/// How long a message that has failed waits.
const DELAY_MS: u32 = 100;
/// It may come so much earlier by our clock: the broker's counts whole milliseconds.
const CLOCK_US: u64 = 1_000;
/// Deliveries a second of those without a failure, at least.
const BAR: Bar = Bar::AtLeast(0.6);
/// As much as may come ahead, so that no round waits for credit.
const CREDIT: (u32, u32) = (65_536, 8 << 20);
/// However slow the machine is, no lease ends.
const LEASE: Duration = Duration::from_secs(3_600);
/// Handlers at a time; they wait for nothing.
const HANDLERS: usize = 64;

/// What to run.
#[derive(Clone, Debug)]
pub struct StormOptions {
    /// The program.
    pub yard: PathBuf,
    /// Messages that fail.
    pub messages: u64,
    /// Rounds of each kind.
    pub rounds: usize,
}

/// What happened to the messages of a round.
struct Tally {
    /// How often each was delivered.
    deliveries: Vec<AtomicU32>,
    /// When each failed last, in microseconds of the round.
    failed_us: Vec<AtomicU64>,
    began: Instant,
    /// Deliveries of each message, as it should be.
    wanted: u64,
    done: AtomicU64,
    /// Deliveries that say another number than they have.
    misnumbered: AtomicU64,
    early: AtomicU64,
    foreign: AtomicU64,
    all_done: Notify,
}

impl Tally {
    fn new(messages: u64, wanted: u64) -> Self {
        let count = messages as usize;
        Self {
            deliveries: std::iter::repeat_with(AtomicU32::default).take(count).collect(),
            failed_us: std::iter::repeat_with(AtomicU64::default).take(count).collect(),
            began: Instant::now(),
            wanted,
            done: AtomicU64::default(),
            misnumbered: AtomicU64::default(),
            early: AtomicU64::default(),
            foreign: AtomicU64::default(),
            all_done: Notify::new(),
        }
    }

    /// Handles a delivery: fails it, but for the last.
    fn handle(&self, delivery: &Delivery) -> Result<(), &'static str> {
        let number = number_of(delivery) as usize;
        let Some(deliveries) = self.deliveries.get(number) else {
            self.foreign.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        let now_us = self.began.elapsed().as_micros() as u64;
        let count = u64::from(deliveries.fetch_add(1, Ordering::Relaxed)) + 1;
        if count != u64::from(delivery.attempt()) {
            self.misnumbered.fetch_add(1, Ordering::Relaxed);
        }
        let failed_us = &self.failed_us[number];
        let waited_us = now_us.saturating_sub(failed_us.load(Ordering::Relaxed));
        if count > 1 && waited_us + CLOCK_US < u64::from(DELAY_MS) * 1_000 {
            self.early.fetch_add(1, Ordering::Relaxed);
        }
        if count < self.wanted {
            failed_us.store(now_us, Ordering::Relaxed);
            return Err("not yet");
        }
        delivery.ack_later();
        let done = self.done.fetch_add(1, Ordering::AcqRel) + 1;
        if done == self.deliveries.len() as u64 {
            self.all_done.notify_one();
        }
        Ok(())
    }

    /// Messages that were not delivered as often as they should have been.
    fn miscounted(&self) -> u64 {
        let is_wrong = |count: &&AtomicU32| u64::from(count.load(Ordering::Relaxed)) != self.wanted;
        self.deliveries.iter().filter(is_wrong).count() as u64
    }

    fn deliveries(&self) -> u64 {
        let count = |count: &AtomicU32| u64::from(count.load(Ordering::Relaxed));
        self.deliveries.iter().map(count).sum()
    }
}

/// What was wrong over all rounds.
#[derive(Default)]
struct Wrong {
    miscounted: u64,
    misnumbered: u64,
    early: u64,
    foreign: u64,
    unsettled: u64,
    dead: u64,
}

impl Wrong {
    fn add(&mut self, tally: &Tally) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.miscounted += tally.miscounted();
        self.misnumbered += read(&tally.misnumbered);
        self.early += read(&tally.early);
        self.foreign += read(&tally.foreign);
    }
}

/// Handles a topic with a new group, until all is acknowledged and durable; deliveries a second.
async fn handle_all(
    client: &Client,
    (topic, group): (&str, &str),
    tally: Tally,
    wrong: &mut Wrong,
) -> Result<f64, Failed> {
    let tally = Arc::new(tally);
    let builder = client.consumer(topic, group).start(Start::Earliest).lease(LEASE);
    let mut consumer = builder.credit(CREDIT.0, CREDIT.1).build().await?;
    let handler = |delivery: Delivery| {
        let handled = tally.handle(&delivery);
        async move { handled }
    };
    tokio::select! {
        ended = consumer.run(HANDLERS, handler) => ended?,
        () = tally.all_done.notified() => {}
        () = stuck(&tally) => {}
    }
    consumer.close().await?;
    let rate = rate(tally.deliveries(), tally.began.elapsed());
    wrong.add(&tally);
    let report = client.admin().call(GroupInfo { name: group.to_owned() }).await?;
    wrong.unsettled += report.lag;
    wrong.dead += report.queues.iter().map(|queue| queue.rejected).sum::<u64>();
    let letters = client.admin().call(DlqLs {}).await?;
    let letters = letters.iter().filter(|row| row.group == group);
    wrong.dead += letters.map(|row| row.waiting + row.done).sum::<u64>();
    Ok(rate)
}

/// Resolves when nothing has been delivered for so long that nothing will.
async fn stuck(tally: &Tally) {
    let mut before = u64::MAX;
    while before != tally.deliveries() {
        before = tally.deliveries();
        tokio::time::sleep(PATIENCE).await;
    }
}

/// Runs it.
///
/// # Errors
/// When the run could not be carried out.
pub async fn run(options: &StormOptions) -> Result<Report, Failed> {
    let mut server = Server::start(ServerOptions::new(options.yard.clone())).await?;
    let result = run_on(options, &server).await;
    keep_if_wrong(&mut server, &result);
    result
}

async fn run_on(options: &StormOptions, server: &Server) -> Result<Report, Failed> {
    let StormOptions { messages, rounds, .. } = *options;
    let client = server.client("storm").await?;
    for (name, count) in [(PLAIN, DELIVERIES * messages), (STORM, messages)] {
        client.admin().call(topic(name)).await?;
        fill(&client, name, count, numbered, |_| {}).await?;
    }
    let mut wrong = Wrong::default();
    let (mut plain, mut storm) = (Vec::new(), Vec::new());
    let (mut plain_busy, mut storm_busy) = (Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        let group = format!("plain-{round}");
        let tally = Tally::new(DELIVERIES * messages, 1);
        let before = server.processor_time()?;
        plain.push(handle_all(&client, (PLAIN, &group), tally, &mut wrong).await?);
        let between = server.processor_time()?;
        plain_busy += between.saturating_sub(before);
        let name = format!("storm-{round}");
        let retry = Some(RetryPolicy::List(vec![DELAY_MS]));
        // One more would be a dead letter.
        let max_attempts = Some(Attempts(DELIVERIES as u32));
        client.admin().call(GroupSet { name: name.clone(), retry, max_attempts }).await?;
        let tally = Tally::new(messages, DELIVERIES);
        storm.push(handle_all(&client, (STORM, &name), tally, &mut wrong).await?);
        storm_busy += server.processor_time()?.saturating_sub(between);
    }
    let mut report = Report::new("storm", format!("{rounds} x {messages} messages"));
    let ratios = storm.iter().zip(&plain).map(|(storm, plain)| storm / plain).collect();
    let (ratio, plain, storm) = (Spread::of(ratios), Spread::of(plain), Spread::of(storm));
    let (plain, storm) = (plain.median, storm.median);
    let text =
        format!("of the deliveries without a failure, {ratio}; {storm:.0} and {plain:.0} a second");
    report.figure("deliveries", (ratio.median, &text), BAR);
    let deliveries = (DELIVERIES * messages * rounds as u64) as f64;
    let us = |busy: Duration| busy.as_secs_f64() * 1e6 / deliveries;
    let (plain, storm) = (us(plain_busy), us(storm_busy));
    report.tell(
        "the broker's processor time",
        &format!("{storm:.2} us a delivery, {plain:.2} without a failure"),
    );
    let Wrong { miscounted, misnumbered, early, foreign, unsettled, dead } = wrong;
    let account = [
        (miscounted, "not delivered as often as they failed and once more"),
        (misnumbered, "with a wrong attempt"),
        (early, "early"),
        (foreign, "foreign"),
        (unsettled, "unsettled"),
        (dead, "dead letters"),
    ];
    report.account("account", &account);
    client.close().await;
    Ok(report)
}
