//! The benchmark of isolation: what a tenant notices of another one that sends all it can.
//!
//! ```text
//!   process 1: yard serve --dev
//!   process 2: 128 connections of tenant `noise`, each pipelining  ◄── "go", "stop"
//!   process 3: one connection of tenant `victim`, at a steady rate: p50 and p99 of durable acks,
//!              measured in rounds with and without the noise, one after the other
//! ```
//!
//! All of them share the machine's processors, so the ratio holds what the processors cost, too.
mod hostile;
mod noise;
mod victim;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use yard_client::Context;
use yard_client::wire::operation::TopicCreate;

use crate::server::{Server, ServerOptions};
use crate::{Failed, tenant};

pub use noise::{Kind, serve as serve_noise};
pub use victim::Round;
pub(crate) use victim::{rate_max, round};

/// Name of the topic of both tenants.
pub(crate) const TOPIC: &str = "load";
/// Queues of it.
const QUEUES: u16 = 8;
/// Bytes of a message's body.
pub const BODY_BYTES: usize = 1 << 10;

/// What to measure.
#[derive(Clone, Debug)]
pub struct NeighbourOptions {
    /// The program.
    pub yard: PathBuf,
    /// This program: it is started again for the noise.
    pub me: PathBuf,
    /// What the noisy tenant does.
    pub kind: Kind,
    /// Its connections.
    pub connections: usize,
    /// The victim sends the part of what it can alone that one over this is.
    pub part: u64,
    /// How far the noisy process gives way to others on the processors, 0 to 19: with 19 what is
    /// left of the ratio is the broker's own, not the sender's share of the machine.
    pub niceness: u8,
    /// Rounds without the noise, and as many with it.
    pub rounds: usize,
    /// How long a round is.
    pub round: Duration,
    /// Commit logs of the broker.
    pub shards: u16,
}

/// What was measured.
#[derive(Debug)]
pub struct NeighbourReport {
    /// Messages a second of the victim when it sent all it could, alone.
    pub rate_max: u64,
    /// Messages a second at which it was measured.
    pub rate: u64,
    /// It is that rate over this.
    pub part: u64,
    /// Rounds without the noise.
    pub quiet: Vec<Round>,
    /// Rounds with it.
    pub noisy: Vec<Round>,
    /// Messages a second of the noise, round by round.
    pub noise: Vec<u64>,
}

/// The middle one; of two, the higher.
fn median(rounds: &[Round], of: impl Fn(&Round) -> u64) -> u64 {
    let mut values: Vec<u64> = rounds.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl NeighbourReport {
    /// How much longer the victim's acks took with the noise: of the medians of p50, of p99.
    #[must_use]
    pub fn ratios(&self) -> (f64, f64) {
        let ratio = |of: fn(&Round) -> u64| {
            median(&self.noisy, of) as f64 / median(&self.quiet, of).max(1) as f64
        };
        (ratio(|round| round.p50_us), ratio(|round| round.p99_us))
    }
}

impl fmt::Display for NeighbourReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate_max, rate, part, .. } = self;
        writeln!(f, "victim: {rate} messages/s, 1/{part} of the {rate_max} that it can alone")?;
        writeln!(f, "round          p50 ms   p99 ms   acked  Busy  noise /s")?;
        let ms = |us: u64| us as f64 / 1_000.0;
        let mut line = |name: String, round: &Round, noise: u64| {
            let (p50, p99) = (ms(round.p50_us), ms(round.p99_us));
            let Round { acked, busy, .. } = round;
            writeln!(f, "{name:<12} {p50:>8.2} {p99:>8.2} {acked:>7} {busy:>5}  {noise:>9}")
        };
        for (number, (quiet, noisy)) in self.quiet.iter().zip(&self.noisy).enumerate() {
            line(format!("{} quiet", number + 1), quiet, 0)?;
            line(format!("{} noisy", number + 1), noisy, self.noise[number])?;
        }
        let medians = |rounds: &[Round]| Round {
            p50_us: median(rounds, |round| round.p50_us),
            p99_us: median(rounds, |round| round.p99_us),
            acked: median(rounds, |round| round.acked),
            busy: rounds.iter().map(|round| round.busy).sum(),
        };
        line("median quiet".to_owned(), &medians(&self.quiet), 0)?;
        let mut noise = self.noise.clone();
        noise.sort_unstable();
        let noise = noise.get(noise.len() / 2).copied().unwrap_or_default();
        line("median noisy".to_owned(), &medians(&self.noisy), noise)?;
        let (p50, p99) = self.ratios();
        writeln!(f, "ratio of the medians: p50 {p50:.2}, p99 {p99:.2}; Busy: sum of the rounds")
    }
}

pub(crate) async fn tenant_with_topic(server: &Server, name: &str) -> Result<Context, Failed> {
    let operator = server.client("operator").await?;
    let context = tenant::add(&operator, &server.context()?, name, false).await?;
    operator.close().await;
    let client = yard_client::Client::builder().context(context.clone()).connect().await?;
    let topic = TopicCreate { name: TOPIC.to_owned(), queues: QUEUES, ..TopicCreate::default() };
    client.admin().call(topic).await?;
    client.close().await;
    Ok(context)
}

/// Measures.
///
/// # Errors
/// When the run could not be carried out.
pub async fn run(options: &NeighbourOptions) -> Result<NeighbourReport, Failed> {
    let mut server_options = ServerOptions::new(options.yard.clone());
    server_options.shards = options.shards;
    let server = Server::start(server_options).await?;
    let victim = tenant_with_topic(&server, "victim").await?;
    let noisy = tenant_with_topic(&server, "noise").await?;
    let rate_max = victim::rate_max(&victim, options.round).await?;
    let part = options.part.max(1);
    let rate = (rate_max / part).max(1);
    let heard = (options.kind, options.connections, options.niceness);
    let mut noise = noise::Noise::start(&options.me, &noisy, heard, server.data()).await?;
    let (quiet, noisy) = (Vec::new(), Vec::new());
    let mut report = NeighbourReport { rate_max, rate, part, quiet, noisy, noise: Vec::new() };
    for round in 0..options.rounds {
        report.quiet.push(victim::round(&victim, rate, options.round).await?);
        noise.go().await?;
        report.noisy.push(victim::round(&victim, rate, options.round).await?);
        report.noise.push(noise.stop().await?);
        // What hostile plugins left under way ends within their limits only: that takes its time.
        let ms = |round: Option<&Round>| round.map_or(0.0, |it| it.p99_us as f64 / 1_000.0);
        let (quiet, noisy) = (ms(report.quiet.last()), ms(report.noisy.last()));
        eprintln!("round {}: p99 {quiet:.2} ms quiet, {noisy:.2} ms noisy", round + 1);
    }
    noise.end().await?;
    Ok(report)
}
