//! What an idle queue costs in memory, and many of them at a start.
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use yard_client::wire::TopicId;

use super::load::{Load, Shape};
use crate::Failed;
use crate::server::{Server, ServerOptions};

/// What to measure.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// The program.
    pub yard: PathBuf,
    /// Topics of one queue.
    pub topics: usize,
    /// Messages that each has held.
    pub messages: usize,
}

/// A broker, and what was measured of it.
struct Side {
    server: Server,
    topics: Vec<TopicId>,
    bytes: Vec<u64>,
    started: Duration,
}

impl Side {
    async fn start(options: &MemoryOptions, topics: usize) -> Result<Self, Failed> {
        let server = Server::start(ServerOptions::new(options.yard.clone())).await?;
        let mut load = Load::connect(&server, 1).await?;
        let topics = load.create_topics(topics).await?;
        // The same messages on either side: what differs is how many queues they are in.
        load.touch(&topics, options.topics * options.messages / topics.len()).await?;
        load.close();
        let (bytes, started) = (Vec::new(), Duration::ZERO);
        let mut side = Self { server, topics, bytes, started };
        side.note().await?;
        // Two segments more: what the queues hold is in sealed ones.
        let shape = Shape { body_bytes: 4 << 10, batch_messages: 16, batch_topics: 1 };
        let mut load = Load::connect(&side.server, 2).await?;
        load.produce(&side.topics[..1], shape, shape.batches(130 << 20)).await?;
        load.close();
        side.note().await?;
        side.server.kill9()?;
        let began = Instant::now();
        side.server.restart().await?;
        side.started = began.elapsed();
        side.note().await?;
        Ok(side)
    }

    /// Notes the process's memory when it has settled.
    async fn note(&mut self) -> Result<(), Failed> {
        self.bytes.push(self.server.rss_anon_at_rest().await?);
        Ok(())
    }
}

/// Measures; what is returned is for people.
///
/// # Errors
/// When the run could not be carried out.
pub async fn measure(options: &MemoryOptions) -> Result<String, Failed> {
    let one = Side::start(options, 1).await?;
    let many = Side::start(options, options.topics).await?;
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string can be written to");
    let (topics, messages) = (options.topics, options.messages);
    line(format!("{topics} idle queues that have held {messages} messages each:"));
    let states = ["just written", "in sealed segments", "after a restart"];
    for (number, state) in states.into_iter().enumerate() {
        let (alone, all) = (one.bytes[number], many.bytes[number]);
        let each = (all as f64 - alone as f64) / topics as f64;
        line(format!("  {state}: {each:.0} bytes each ({alone} -> {all})"));
    }
    let ms = |side: &Side| side.started.as_millis();
    line(format!("  restart until it answers: {} ms, with one queue {}", ms(&many), ms(&one)));
    Ok(out)
}
