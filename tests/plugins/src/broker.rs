//! What a broker does with plugins in time: a push until its version decides, and consuming with a
//! filter on every message beside consuming without.
use std::path::Path;
use std::time::{Duration, Instant};

use wasm_encoder::{CustomSection, Section};
use yard_client::wire::operation::{PluginPush, TopicCreate};
use yard_client::wire::plugin::Blob;
use yard_client::{Client, Message, Start};
use yard_it::life::{Bar, Report};
use yard_it::wait::within;
use yard_it::{Failed, Server, ServerOptions, yard};

use crate::sandbox::Tools;

const TOPIC: &str = "orders";
/// Bytes of a message's body.
const BODY_BYTES: usize = 1 << 10;
/// One message in so many is what the selective filter wants.
const SELECTED: usize = 10;
/// Receipts that are waited for at a time.
const PIPELINED: usize = 8_192;

/// A filter of a consumer.
struct Filter {
    name: &'static str,
    text: Option<&'static str>,
    /// One message in so many arrives.
    every: usize,
}

const FILTERS: [Filter; 3] = [
    Filter { name: "without a filter", text: None, every: 1 },
    Filter { name: "of which all are wanted", text: Some("kind IN ('usual', 'rare')"), every: 1 },
    Filter { name: "of which a tenth is wanted", text: Some("kind = 'rare'"), every: SELECTED },
];

async fn start(given: Option<&Path>) -> Result<(Server, Client), Failed> {
    let server = Server::start(ServerOptions::new(yard::locate(given)?)).await?;
    let client = server.client("plugins").await?;
    Ok((server, client))
}

/// Pushes versions of a plugin that nobody has compiled yet; how long it takes until one decides.
///
/// # Errors
/// Where the plugin is not there, or the broker does not take it.
pub async fn uploads(tools: &Tools, given: Option<&Path>, rounds: usize) -> Result<Report, Failed> {
    let (_server, client) = start(given).await?;
    let file = tools.file("examples/dedupe-rust")?;
    let mut times = Vec::new();
    for round in 0..rounds {
        let mut wasm = file.clone();
        let number = round.to_le_bytes();
        CustomSection { name: "round".into(), data: number[..].into() }.append_to(&mut wasm);
        let began = Instant::now();
        // Answered when every thread that asks it finds the new version.
        let push = PluginPush { wasm: Blob(wasm.into()), ..PluginPush::default() };
        let row = client.admin().call(push).await?;
        times.push(began.elapsed());
        if row.active != round as u32 + 1 {
            return Err(Failed(format!("version {} decides after {round} pushes", row.active)));
        }
    }
    client.close().await;
    times.sort_unstable();
    let mut report = Report::new("uploads", format!("{} bytes, {rounds} times", file.len()));
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    let text = format!("median; the slowest {:.2} s", most.as_secs_f64());
    report.figure("seconds until it decides", (median.as_secs_f64(), &text), Bar::AtMost(1.0));
    Ok(report)
}

/// Consumes all messages of a topic, again and again with another group: without a filter, with
/// one that wants all, with one that wants a tenth.
///
/// # Errors
/// When the broker does not answer.
pub async fn consume(
    given: Option<&Path>,
    messages: usize,
    rounds: usize,
) -> Result<Report, Failed> {
    let (server, client) = start(given).await?;
    let create = TopicCreate { name: TOPIC.into(), queues: 8, ..TopicCreate::default() };
    client.admin().call(create).await?;
    fill(&client, messages).await?;
    let mut found: [Vec<(f64, f64)>; FILTERS.len()] = Default::default();
    for round in 0..=rounds {
        for (number, filter) in FILTERS.iter().enumerate() {
            let group = format!("g{round}-{number}");
            let spent = server.processor_time()?;
            let took = one(&client, &group, filter, messages).await?;
            let spent = server.processor_time()?.saturating_sub(spent);
            // The first fills what readers share.
            if round > 0 {
                found[number].push((took.as_secs_f64(), spent.as_secs_f64()));
            }
        }
    }
    client.close().await;
    let much = format!("{messages} messages of {BODY_BYTES} bytes, {rounds} rounds");
    let mut report = Report::new("consume", much);
    let [plain, filtered @ ..] = &found;
    let rate = |times: &[(f64, f64)]| {
        let mut rates: Vec<f64> = times.iter().map(|(took, _)| messages as f64 / took).collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    report.tell("messages a second without a filter", &format!("{:.0}", rate(plain)));
    for (filter, times) in FILTERS[1..].iter().zip(filtered) {
        let pairs = plain.iter().zip(times);
        let (mut ratios, mut costs): (Vec<f64>, Vec<f64>) =
            pairs.map(|(without, with)| (without.0 / with.0, with.1 / without.1)).unzip();
        ratios.sort_by(f64::total_cmp);
        costs.sort_by(f64::total_cmp);
        let text = format!(
            "{:.0} messages a second; processor time of the broker {:.2} of that without",
            rate(times),
            costs[costs.len() / 2],
        );
        let ratio = ratios[ratios.len() / 2];
        report.figure(filter.name, (ratio, &text), Bar::AtLeast(0.9));
    }
    Ok(report)
}

async fn fill(client: &Client, messages: usize) -> Result<(), Failed> {
    let producer = client.producer(TOPIC).build().await?;
    let mut receipts = std::collections::VecDeque::new();
    for number in 0..messages {
        // The last of each queue is wanted, so that whoever has all that is wanted has gone past
        // all others: queues take turns by number.
        let (queue, at) = (number % 8, number / 8);
        let is_rare = at % SELECTED == SELECTED - 1;
        let kind = if is_rare { "rare" } else { "usual" };
        let message = Message::new(vec![7; BODY_BYTES]).queue(queue as u16).property("kind", kind);
        receipts.push_back(producer.enqueue(message).await?);
        if receipts.len() >= PIPELINED {
            receipts.pop_front().expect("there are many").await?;
        }
    }
    for receipt in receipts {
        receipt.await?;
    }
    producer.close().await?;
    Ok(())
}

/// From the first message until the last that is wanted.
async fn one(
    client: &Client,
    group: &str,
    filter: &Filter,
    messages: usize,
) -> Result<Duration, Failed> {
    let mut consumer = client.consumer(TOPIC, group).start(Start::Earliest);
    if let Some(text) = filter.text {
        consumer = consumer.expression("sql", text);
    }
    let mut consumer = consumer.build().await?;
    let began = Instant::now();
    for _ in 0..messages / filter.every {
        within("a message", consumer.recv()).await??.ack_later();
    }
    let took = began.elapsed();
    consumer.close().await?;
    Ok(took)
}
