//! One order group over a long line: how many messages a second when many are in flight, beside one
//! at a time.
//!
//! ```text
//!   client ──► relay: so long each way ──► yard serve      rounds: one in flight, then many
//! ```
use std::path::PathBuf;
use std::time::{Duration, Instant};

use yard_client::transport::Controller;
use yard_client::wire::operation::TopicCreate;
use yard_client::wire::order::TopicType;
use yard_client::{Client, Producer, Start};
use yard_relay::Weather;

use super::{Bar, Report, lag, number_of, numbered, rate, topic};
use crate::Failed;
use crate::far::Far;
use crate::scale::Spread;
use crate::wait::within;

/// Name of the topic, and of its one order group.
const TOPIC: &str = "line";
/// At least so many times what one message in flight gives.
const BAR: Bar = Bar::AtLeast(20.0);

/// What to run.
#[derive(Clone, Debug)]
pub struct OrderOptions {
    /// The program.
    pub yard: PathBuf,
    /// Messages that a round with many in flight sends, and receives.
    pub messages: u64,
    /// Messages that one with a single one in flight does.
    pub alone: u64,
    /// Rounds of each.
    pub rounds: usize,
    /// What a packet takes in each direction.
    pub way: Duration,
    /// Of the relay.
    pub seed: u64,
}

/// Messages a second of each kind of round.
#[derive(Default)]
struct Rates {
    one: Vec<f64>,
    many: Vec<f64>,
}

impl Rates {
    fn tell(self, what: &str, report: &mut Report) {
        let ratios = self.many.iter().zip(&self.one).map(|(many, one)| many / one).collect();
        let (ratio, one, many) = (Spread::of(ratios), Spread::of(self.one), Spread::of(self.many));
        let (one, many) = (one.median, many.median);
        let text = format!("times one in flight, {ratio}; {many:.0} and {one:.1} a second");
        report.figure(what, (ratio.median, &text), BAR);
    }
}

/// What a consumer of the order group has seen that it should not.
#[derive(Default)]
struct Line {
    next: u64,
    disordered: u64,
}

impl Line {
    fn saw(&mut self, number: u64) {
        self.disordered += u64::from(number != self.next);
        self.next = number + 1;
    }
}

/// Sends one message after another; the first waits for whatever has to be found out.
async fn send_alone(producer: &Producer, from: u64, count: u64) -> Result<Duration, Failed> {
    producer.send(numbered(from).order_group(TOPIC)).await?;
    let began = Instant::now();
    for number in from + 1..from + count {
        producer.send(numbered(number).order_group(TOPIC)).await?;
    }
    Ok(began.elapsed())
}

async fn send_many(producer: &Producer, from: u64, count: u64) -> Result<Duration, Failed> {
    let began = Instant::now();
    let mut waiting = Vec::with_capacity(count as usize);
    for number in from..from + count {
        waiting.push(producer.enqueue(numbered(number).order_group(TOPIC)).await?);
    }
    for receipt in waiting {
        receipt.await?;
    }
    Ok(began.elapsed())
}

/// Receives with a window of one, each after the one before was acknowledged.
async fn take_alone(
    client: &Client,
    group: &str,
    count: u64,
    line: &mut Line,
) -> Result<Duration, Failed> {
    let builder = client.consumer(TOPIC, group).start(Start::Earliest);
    let mut consumer = builder.credit(1, 1).build().await?;
    let mut began = Instant::now();
    for taken in 0..count {
        let delivery = within("a delivery", consumer.recv()).await??;
        line.saw(number_of(&delivery));
        delivery.ack().await?;
        if taken == 0 {
            began = Instant::now();
        }
    }
    let took = began.elapsed();
    consumer.close().await?;
    Ok(took)
}

/// Receives with the window that consumers have; all of it is acknowledged when this returns.
async fn take_many(
    client: &Client,
    group: &str,
    count: u64,
    line: &mut Line,
) -> Result<Duration, Failed> {
    let began = Instant::now();
    let mut consumer = client.consumer(TOPIC, group).start(Start::Earliest).build().await?;
    for _ in 0..count {
        let delivery = within("a delivery", consumer.recv()).await??;
        line.saw(number_of(&delivery));
        delivery.ack_later();
    }
    consumer.close().await?;
    Ok(began.elapsed())
}

/// Measures.
///
/// # Errors
/// When the run could not be carried out.
pub async fn run(options: &OrderOptions) -> Result<Report, Failed> {
    let weather = Weather { delay_us: options.way.as_micros() as u64, ..Weather::WAN };
    let far = Far::start(&options.yard, Controller::default(), (weather, options.seed)).await?;
    let client = far.builder("order")?.connect().await?;
    let create = TopicCreate { r#type: TopicType::Ordered, ..topic(TOPIC) };
    client.admin().call(create).await?;
    let OrderOptions { messages, alone, rounds, .. } = *options;
    let mut report = Report::new("order", format!("{rounds} x {messages} messages"));
    let producer = client.producer(TOPIC).build().await?;
    let (mut sent, mut produced, mut consumed) = (0, Rates::default(), Rates::default());
    for _ in 0..rounds {
        let took = send_alone(&producer, sent, alone).await?;
        produced.one.push(rate(alone - 1, took));
        let took = send_many(&producer, sent + alone, messages).await?;
        produced.many.push(rate(messages, took));
        sent += alone + messages;
    }
    producer.close().await?;
    let (mut disordered, mut left) = (0, 0);
    for round in 0..rounds {
        let mut line = Line::default();
        let took = take_alone(&client, &format!("one-{round}"), alone, &mut line).await?;
        consumed.one.push(rate(alone - 1, took));
        disordered += line.disordered;
        let (group, mut line) = (format!("many-{round}"), Line::default());
        let took = take_many(&client, &group, sent, &mut line).await?;
        consumed.many.push(rate(sent, took));
        disordered += line.disordered;
        left += lag(&client, &group).await?;
    }
    let way = options.way.as_millis();
    let trip = 1_000.0 / Spread::of(produced.one.clone()).median;
    report
        .tell("a send", &format!("{trip:.1} ms there and back, of which {} on the line", 2 * way));
    consumed.tell("consumed", &mut report);
    produced.tell("produced", &mut report);
    report.account("order", &[(disordered, "lost, again or out of order"), (left, "unsettled")]);
    client.close().await;
    Ok(report)
}
