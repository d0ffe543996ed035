//! How long a broker that was killed takes until it stores messages again.
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use super::load::{Load, Shape};
use super::percentile;
use crate::server::{Server, ServerOptions};
use crate::{Failed, Seeded};

/// What to measure.
#[derive(Clone, Debug)]
pub struct RestartOptions {
    /// The program.
    pub yard: PathBuf,
    /// Bodies that the log holds before the first kill, in MiB.
    pub mebibytes: usize,
    /// Bytes of a message's body.
    pub body_bytes: usize,
    /// Topics of one queue.
    pub topics: usize,
    /// How often it is killed.
    pub restarts: usize,
    /// Bodies that are stored between two kills, in MiB, at most.
    pub between_mebibytes: usize,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
}

/// Measures; what is returned is for people.
///
/// # Errors
/// When the run could not be carried out.
pub async fn measure(options: &RestartOptions) -> Result<String, Failed> {
    let mut server_options = ServerOptions::new(options.yard.clone());
    server_options.segment_bytes = Some(options.segment_bytes);
    let mut server = Server::start(server_options).await?;
    let batch_messages = ((256 << 10) / options.body_bytes).clamp(1, 1_000);
    let shape = Shape { body_bytes: options.body_bytes, batch_messages, batch_topics: 1 };
    let one = Shape { batch_messages: 1, ..shape };
    let mut load = Load::connect(&server, 0).await?;
    let topics = load.create_topics(options.topics).await?;
    load.touch(&topics, 1).await?;
    let filled = load.produce(&topics, shape, shape.batches(options.mebibytes << 20)).await?;
    let mut random = Seeded::new(7);
    let mut times = Vec::new();
    for restart in 0..options.restarts {
        let between = random.within(0..(options.between_mebibytes as u64) + 1) as usize;
        load.produce(&topics, shape, shape.batches(between << 20)).await?;
        load.close();
        server.kill9()?;
        let began = Instant::now();
        server.restart().await?;
        load = Load::connect(&server, 1 + restart as u64).await?;
        load.produce(&topics, one, 1).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    load.close();
    times.sort_by(f64::total_cmp);
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string can be written to");
    let bytes = folder_bytes(server.data())?;
    line(format!(
        "{} restarts with {} MiB of bodies of {} B in {} topics ({:.2} GB of files, filled in \
         {:.0} s, segments of {} MiB)",
        options.restarts,
        options.mebibytes,
        options.body_bytes,
        options.topics,
        bytes as f64 / 1e9,
        filled.as_secs_f64(),
        options.segment_bytes >> 20,
    ));
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| percentile(&times, share));
    line(format!(
        "  from kill to the first durable answer: p50 {p50:.0} ms, p99 {p99:.0}, most {max:.0}"
    ));
    let opened: Vec<f64> = opened_ms(&server.log()).collect();
    let mut opened = opened.get(1..).unwrap_or_default().to_vec();
    opened.sort_by(f64::total_cmp);
    if !opened.is_empty() {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| percentile(&opened, share));
        line(format!("  of these to open the log: p50 {p50:.0} ms, p99 {p99:.0}, most {max:.0}"));
    }
    Ok(out)
}

/// What the broker said at its starts.
fn opened_ms(log: &str) -> impl Iterator<Item = f64> {
    let lines = log.lines().filter(|line| line.contains("log opened"));
    lines.filter_map(|line| {
        let (_, rest) = line.split_once(" ms=")?;
        rest.split_whitespace().next()?.parse().ok()
    })
}

fn folder_bytes(path: &std::path::Path) -> Result<u64, Failed> {
    let mut bytes = 0;
    for item in std::fs::read_dir(path).map_err(Failed::file(path))? {
        let item = item?;
        let about = item.metadata()?;
        bytes += if about.is_dir() { folder_bytes(&item.path())? } else { about.len() };
    }
    Ok(bytes)
}
