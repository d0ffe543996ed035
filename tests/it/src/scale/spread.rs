//! Batches of equal bytes into one topic, and spread over many.
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use yard_client::wire::TopicId;

use super::Spread;
use super::load::{Load, Shape};
use crate::Failed;
use crate::server::{Server, ServerOptions};

/// What to measure.
#[derive(Clone, Debug)]
pub struct SpreadOptions {
    /// The program.
    pub yard: PathBuf,
    /// How many topics; compared with one.
    pub topics: Vec<usize>,
    /// Rounds of each broker and shape.
    pub rounds: usize,
    /// Bodies of a round, in MiB.
    pub mebibytes: usize,
    /// Bytes of a message's body.
    pub body_bytes: usize,
    /// Messages of a batch.
    pub batch_messages: usize,
    /// Bytes of a segment of the log; the default without.
    pub segment_bytes: Option<u64>,
}

/// A broker with its topics.
struct Side {
    server: Server,
    load: Load,
    topics: Vec<TopicId>,
    created: Duration,
}

impl Side {
    async fn start(options: &SpreadOptions, count: usize) -> Result<Self, Failed> {
        let mut server_options = ServerOptions::new(options.yard.clone());
        server_options.segment_bytes = options.segment_bytes;
        let server = Server::start(server_options).await?;
        let mut load = Load::connect(&server, count as u64).await?;
        let began = std::time::Instant::now();
        let topics = load.create_topics(count).await?;
        let created = began.elapsed();
        // Every queue has held a message before anything is measured.
        load.touch(&topics, 1).await?;
        Ok(Self { server, load, topics, created })
    }

    /// Messages a second, and the broker's processor time for each in microseconds.
    async fn round(&mut self, options: &SpreadOptions, shape: Shape) -> Result<[f64; 2], Failed> {
        let batches = shape.batches(options.mebibytes << 20);
        let before = self.server.processor_time()?;
        let took = self.load.produce(&self.topics, shape, batches).await?;
        let spent = self.server.processor_time()?.saturating_sub(before);
        let messages = (batches * shape.batch_messages) as f64;
        Ok([messages / took.as_secs_f64(), spent.as_secs_f64() * 1e6 / messages])
    }
}

/// Measures; what is returned is for people.
///
/// # Errors
/// When the run could not be carried out.
pub async fn measure(options: &SpreadOptions) -> Result<String, Failed> {
    let mut sides = Vec::new();
    for count in std::iter::once(1).chain(options.topics.iter().copied()) {
        sides.push(Side::start(options, count).await?);
    }
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string can be written to");
    for side in &sides[1..] {
        let seconds = side.created.as_secs_f64();
        line(format!("{} topics created in {seconds:.1} s", side.topics.len()));
    }
    for batch_topics in [1, options.batch_messages] {
        let &SpreadOptions { body_bytes, batch_messages, .. } = options;
        let shape = Shape { body_bytes, batch_messages, batch_topics };
        let rounds = rounds(options, &mut sides, shape).await?;
        let of = |side: usize, figure: usize| rounds.iter().map(move |r| r[side][figure]);
        let (rate, cost) = (Spread::of(of(0, 0).collect()), Spread::of(of(0, 1).collect()));
        line(format!(
            "batches of {batch_messages} x {body_bytes} B, a batch for {batch_topics} of them: \
             1 topic {:.0} messages/s, broker {:.2} us each",
            rate.median, cost.median
        ));
        for (number, side) in sides.iter().enumerate().skip(1) {
            let ratio = |figure: usize| {
                let pairs = of(number, figure).zip(of(0, figure));
                Spread::of(pairs.map(|(many, one)| many / one).collect())
            };
            let topics = side.topics.len();
            line(format!("  {topics} topics: rate {}, processor {}", ratio(0), ratio(1)));
        }
    }
    for Side { mut server, load, topics, .. } in sides {
        load.close();
        server.stop().await?;
        let said = server.log();
        let longest = said.rsplit_once("longest_step_us=").map_or("?", |(_, rest)| rest);
        let longest = longest.split_whitespace().next().unwrap_or("?");
        line(format!("longest step of the writer, {} topics: {longest} us", topics.len()));
    }
    Ok(out)
}

/// Rounds of all sides in turn, beginning with another one each time.
async fn rounds(
    options: &SpreadOptions,
    sides: &mut [Side],
    shape: Shape,
) -> Result<Vec<Vec<[f64; 2]>>, Failed> {
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let mut figures = vec![[0.0; 2]; sides.len()];
        for turn in 0..sides.len() {
            let number = (turn + round) % sides.len();
            figures[number] = sides[number].round(options, shape).await?;
        }
        rounds.push(figures);
    }
    Ok(rounds)
}
