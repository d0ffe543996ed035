//! Messages that are due over some minutes, and a broker that is killed meanwhile.
//!
//! ```text
//!   sent ───── due one after another ── killed ─ up ── due … ──► received: when, by the same clock
//!   lateness = received - due - the time in between in which the broker was down
//! ```
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use tokio::sync::watch;
use yard_client::wire::operation::TopicCreate;
use yard_client::wire::units::SizeLimit;
use yard_client::{Client, Consumer, Start};

use super::beside::Beside;
use super::{Bar, Report, fill, keep_if_wrong, lag, number_of, numbered, topic};
use crate::Failed;
use crate::server::{Server, ServerOptions};
use crate::wait::{PATIENCE, until};

/// Name of the topic.
const TOPIC: &str = "later";
/// Name of the topic that is written to beside it, of which little is kept.
const LOAD: &str = "load";
const LOAD_BYTES_KEPT: u64 = 256 << 20;
/// Name of the group.
const GROUP: &str = "readers";
/// Fewer say nothing about memory: the broker's own moves by more.
const MEMORY_MESSAGES_MIN: u64 = 100_000;
/// Bytes of a message that waits, at most.
const MEMORY_BAR: Bar = Bar::AtMost(200.0);
/// Milliseconds that 99 of 100 are late, at most.
const LATENESS_BAR: Bar = Bar::AtMost(50.0);
const LATE_US: u64 = 50_000;
/// Of the seconds in which messages were late, the worst are told.
const SPELLS_TOLD: usize = 12;
/// Messages that are sent in a second at least, or the first are due before they are sent.
const SENT_A_SECOND: u64 = 50_000;
/// The first is due so long after the sending began, and the time that sending takes.
const LEAD: Duration = Duration::from_secs(2);
/// Times up to this are told apart, in microseconds.
const TIME_US_MAX: u64 = 3_600_000_000;
/// Neighbours in time are sent so far apart; a prime.
const STRIDE: u64 = 611_953;
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// How often the load beside is sent.
const TICK: Duration = Duration::from_millis(2);

/// What to run.
#[derive(Clone, Debug)]
pub struct DelayedOptions {
    /// The program.
    pub yard: PathBuf,
    /// Messages.
    pub messages: u64,
    /// From when the first is due to when the last is.
    pub span: Duration,
    /// Messages a second that are sent to another topic meanwhile.
    pub load: u64,
}

/// The wall clock, in microseconds.
fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// When messages are due.
#[derive(Clone, Copy, Debug)]
struct Plan {
    messages: u64,
    first: SystemTime,
    span: Duration,
}

impl Plan {
    /// When a message is due, in whole milliseconds, as the broker takes it.
    fn due(&self, number: u64) -> SystemTime {
        let place = number * STRIDE % self.messages;
        let after_us = u128::from(place) * self.span.as_micros() / u128::from(self.messages);
        let since = self.first.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_us = since.as_micros() + after_us;
        UNIX_EPOCH + Duration::from_millis(u64::try_from(at_us / 1_000).unwrap_or(u64::MAX))
    }

    fn due_us(&self, number: u64) -> u64 {
        self.due(number).duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
    }
}

/// What a consumer has seen.
#[derive(Debug)]
struct Seen {
    /// When each message came first, in microseconds; 0: never.
    first_us: Vec<u64>,
    different: u64,
    again: u64,
    early: u64,
}

/// Receives until it has seen all, or is told to end.
async fn receive(
    mut consumer: Consumer,
    plan: Plan,
    mut stop: watch::Receiver<bool>,
) -> Result<Seen, Failed> {
    let first_us = vec![0; plan.messages as usize];
    let mut seen = Seen { first_us, different: 0, again: 0, early: 0 };
    while seen.different < plan.messages {
        let delivery = tokio::select! {
            delivery = consumer.recv() => delivery?,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (number, now_us) = (number_of(&delivery), wall_us());
        delivery.ack_later();
        let Some(first_us) = seen.first_us.get_mut(number as usize) else {
            return Err(Failed(format!("message {number} was never sent")));
        };
        let due_us = plan.due_us(number);
        seen.early += u64::from(now_us < due_us);
        if *first_us > 0 {
            seen.again += 1;
            continue;
        }
        *first_us = now_us;
        seen.different += 1;
    }
    consumer.close().await?;
    Ok(seen)
}

/// Sends to another topic at a pace, until it is dropped.
async fn load(client: Client, a_second: u64) -> Result<(), Failed> {
    if a_second == 0 {
        return std::future::pending().await;
    }
    let producer = client.producer(LOAD).build().await?;
    let (mut tick, mut sent) = (tokio::time::interval(TICK), 0);
    let began = tokio::time::Instant::now();
    loop {
        let now = tick.tick().await;
        let due = now.duration_since(began).as_micros() as u64 * a_second / 1_000_000;
        while sent < due {
            // What the broker makes of it, the account of the other topic shows.
            drop(producer.enqueue(numbered(sent)).await?);
            sent += 1;
        }
    }
}

/// Bytes of a broker at rest, before and after a restart, that holds so many messages; those that
/// are due after `delay`, where there is one, wait.
async fn memory(options: &DelayedOptions, delay: Option<Duration>) -> Result<[u64; 2], Failed> {
    let mut server = Server::start(ServerOptions::new(options.yard.clone())).await?;
    let client = server.client("memory").await?;
    client.admin().call(topic(TOPIC)).await?;
    let due = SystemTime::now() + delay.unwrap_or_default();
    let make = |number: u64| match delay {
        Some(_) => numbered(number).deliver_at(due + Duration::from_millis(number)),
        None => numbered(number),
    };
    fill(&client, TOPIC, options.messages, make, |_| {}).await?;
    client.close().await;
    let before = server.rss_anon_at_rest().await?;
    server.kill9()?;
    server.restart().await?;
    Ok([before, server.rss_anon_at_rest().await?])
}

async fn tell_memory(options: &DelayedOptions, report: &mut Report) -> Result<(), Failed> {
    if options.messages < MEMORY_MESSAGES_MIN {
        report.tell("memory", &format!("not measured below {MEMORY_MESSAGES_MIN} messages"));
        return Ok(());
    }
    let plain = memory(options, None).await?;
    let waiting = memory(options, Some(DAY)).await?;
    for (number, state) in ["as written", "after a restart"].into_iter().enumerate() {
        let (plain, waiting) = (plain[number], waiting[number]);
        let each = (waiting as f64 - plain as f64) / options.messages as f64;
        let text = format!(
            "bytes each, of {waiting}; a broker with as many that wait for nothing \
                            has {plain}"
        );
        report.figure(&format!("memory {state}"), (each, &text), MEMORY_BAR);
    }
    Ok(())
}

/// Runs it.
///
/// # Errors
/// When the run could not be carried out.
pub async fn run(options: &DelayedOptions) -> Result<Report, Failed> {
    let much = format!("{} messages over {} s", options.messages, options.span.as_secs());
    let mut report = Report::new("delayed", much);
    tell_memory(options, &mut report).await?;
    let mut server = Server::start(ServerOptions::new(options.yard.clone())).await?;
    let result = run_on(options, &mut server, report).await;
    keep_if_wrong(&mut server, &result);
    result
}

async fn run_on(
    options: &DelayedOptions,
    server: &mut Server,
    mut report: Report,
) -> Result<Report, Failed> {
    let client = server.client("delayed").await?;
    client.admin().call(topic(TOPIC)).await?;
    let (retain_bytes, discard_unconsumed) = (SizeLimit(LOAD_BYTES_KEPT), true);
    let create = TopicCreate { retain_bytes, discard_unconsumed, ..topic(LOAD) };
    client.admin().call(create).await?;
    let lead = LEAD + Duration::from_secs(options.messages / SENT_A_SECOND);
    let (messages, span) = (options.messages, options.span);
    let plan = Plan { messages, first: SystemTime::now() + lead, span };
    let consumer = client.consumer(TOPIC, GROUP).start(Start::Earliest).build().await?;
    let (stop, stopped) = watch::channel(false);
    let receiving = tokio::spawn(receive(consumer, plan, stopped));
    let loading = tokio::spawn(load(client.clone(), options.load));
    // What was due before it was stored is late by its sender.
    let mut sent_late = vec![false; messages as usize];
    let make = |number| numbered(number).deliver_at(plan.due(number));
    let late = |number| sent_late[number as usize] = wall_us() > plan.due_us(number);
    fill(&client, TOPIC, messages, make, late).await?;
    let beside = Beside::begin()?;
    let half = plan.first + span / 2;
    tokio::time::sleep(half.duration_since(SystemTime::now()).unwrap_or_default()).await;
    let killed_us = wall_us();
    server.kill9()?;
    server.restart().await?;
    let down = (killed_us, wall_us());
    let last = (plan.first + span).duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(last).await;
    let all = until("all of it comes", || async { receiving.is_finished().then_some(()) });
    if all.await.is_err() {
        stop.send_replace(true);
    }
    let seen = receiving.await??;
    loading.abort();
    report.tell("the disk beside", &beside.end()?.to_string());
    lateness(&plan, &seen, &sent_late, down, &mut report)?;
    let settled = || async { matches!(lag(&client, GROUP).await, Ok(0)).then_some(()) };
    let unsettled = u64::from(until("all of it is settled", settled).await.is_err());
    let missing = messages - seen.different;
    let waited = PATIENCE.as_secs();
    report.tell("again", &format!("{} came again after the kill", seen.again));
    let missing_text = format!("missing {waited} s after the last was due");
    report.account(
        "account",
        &[(seen.early, "early"), (missing, &missing_text), (unsettled, "groups that lag")],
    );
    client.close().await;
    Ok(report)
}

/// Seconds of the run in which messages were later than the bar, with how many and the worst.
#[derive(Debug, Default)]
struct Spells(BTreeMap<u64, (u64, u64)>);

impl Spells {
    fn count(&mut self, since_first_us: u64, late_us: u64) {
        if late_us > LATE_US {
            let (count, most_us) = self.0.entry(since_first_us / 1_000_000).or_default();
            *count += 1;
            *most_us = late_us.max(*most_us);
        }
    }
}

impl fmt::Display for Spells {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: u64 = self.0.values().map(|(count, _)| count).sum();
        write!(out, "{count} over {} ms, in {} s of the run", LATE_US / 1_000, self.0.len())?;
        let mut worst: Vec<_> = self.0.iter().collect();
        worst.sort_unstable_by_key(|(_, (count, _))| Reverse(*count));
        for (second, (count, most_us)) in worst.into_iter().take(SPELLS_TOLD) {
            write!(out, "; second {second}: {count}, at most {} ms", most_us / 1_000)?;
        }
        Ok(())
    }
}

/// Tells how late messages were.
fn lateness(
    plan: &Plan,
    seen: &Seen,
    sent_late: &[bool],
    down: (u64, u64),
    report: &mut Report,
) -> Result<(), Failed> {
    let new = || {
        Histogram::<u64>::new_with_bounds(1, TIME_US_MAX, 3)
            .map_err(|error| Failed(format!("no histogram: {error}")))
    };
    let (mut all, mut apart, mut back_us, mut late) = (new()?, new()?, 0, 0);
    let mut spells = Spells::default();
    for (number, received_us) in seen.first_us.iter().copied().enumerate() {
        if received_us == 0 || sent_late[number] {
            late += u64::from(sent_late[number]);
            continue;
        }
        let due_us = plan.due_us(number as u64);
        let waited_us = received_us.min(down.1).saturating_sub(due_us.max(down.0));
        let late_us = received_us.saturating_sub(due_us + waited_us);
        all.saturating_record(late_us.max(1));
        spells.count(due_us.saturating_sub(plan.due_us(0)), late_us);
        if waited_us == 0 {
            apart.saturating_record(late_us.max(1));
        } else {
            back_us = back_us.max(late_us);
        }
    }
    let ms = |us: u64| us as f64 / 1_000.0;
    let down_ms = ms(down.1 - down.0);
    let text = format!(
        "killed, and answered again after {down_ms:.0} ms; the last of what was due \
                        meanwhile came {:.0} ms after that",
        ms(back_us)
    );
    report.tell("down", &text);
    if late > 0 {
        report.tell("sent late", &format!("{late} were due when they were stored: left out"));
    }
    report.tell("late spells", &spells.to_string());
    let figures = [("lateness", all), ("lateness, what waited for the restart left out", apart)];
    for (name, times) in figures {
        let at = |share| ms(times.value_at_quantile(share));
        let (p50, p99, most) = (at(0.5), at(0.99), ms(times.max()));
        let text = format!("ms at p99; p50 {p50:.2}, most {most:.1}, of {}", times.len());
        report.figure(name, (p99, &text), LATENESS_BAR);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_evenly_and_each_at_a_time_of_its_own() {
        let first = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let plan = Plan { messages: 1_000, first, span: Duration::from_secs(1) };
        let mut dues: Vec<u64> = (0..1_000).map(|number| plan.due_us(number)).collect();
        assert!(!dues.is_sorted(), "they are not sent in the order in which they are due");
        dues.sort_unstable();
        let expected: Vec<u64> = (0..1_000).map(|ms| 1_700_000_000_000_000 + ms * 1_000).collect();
        assert_eq!(dues, expected);
    }

    #[test]
    fn the_time_without_a_broker_counts_for_nobody() {
        let plan = Plan { messages: 4, first: UNIX_EPOCH, span: Duration::from_secs(4) };
        // Down from 1.5 s to 2.5 s.
        assert_eq!([0, 1, 2, 3].map(|n| plan.due_us(n)), [0, 1_000_000, 2_000_000, 3_000_000]);
        let first_us = vec![4_000, 2_600_000, 2_507_000, 3_005_000];
        let seen = Seen { first_us, different: 4, again: 0, early: 0 };
        let mut report = Report::new("delayed", "4".to_owned());
        let down = (1_500_000, 2_500_000);
        lateness(&plan, &seen, &[false, false, false, false], down, &mut report).unwrap();
        let text = report.to_string();
        assert!(text.contains("came 600 ms after that"), "{text}");
        assert!(text.contains("ms at p99; p50 5.00, most 600.1, of 4"), "{text}");
        assert!(text.contains("left out|4|5.00 (bar <= 50)"), "{text}");
        lateness(&plan, &seen, &[false, false, false, true], down, &mut report).unwrap();
        assert!(report.to_string().contains("|1 were due when they were stored"), "{report}");
    }
}
