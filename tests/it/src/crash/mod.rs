//! The crash run: a real broker under load is killed at random instants and started again; what
//! its clients saw is judged by the checker.
//!
//! ```text
//!   producers ──┐                 ┌─ kill -9, start again ◄── rounds, by the seed
//!               ├──► yard serve ◄─┘
//!   consumers ──┘        │ at the end: drained, then every queue fetched
//!        └── Recorder ◄──┘ ─► History ─► yard_checker::check ─► Verdict
//! ```
//!
//! A killed process loses what was acknowledged from `memory` and nothing else: the operating
//! system keeps what was `written`.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use yard_checker::{Crash, CrashKind, Event, History, Options, Scan, Stored, Verdict};
use yard_client::wire::operation::{GroupInfo, GroupSet, TopicCreate};
use yard_client::wire::record::Record;
use yard_client::wire::retry::{Attempts, RetryPolicy};
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Ack, Client, Code};

use crate::server::{Server, ServerOptions};
use crate::wait::until;
use crate::{Failed, Seeded};

mod consumers;
mod message;
mod producers;
mod recorder;

use consumers::ConsumerPlan;
use producers::ProducerPlan;
use recorder::Recorder;

/// How long a life of the broker is at most, in milliseconds after it answers.
const LIFE_MS_MAX: u64 = 800;
/// One start in so many is killed before it answers.
const EARLY_ONCE_IN: u64 = 6;
/// How long such a start lives at most, in milliseconds.
const EARLY_MS_MAX: u64 = 60;
/// One life in so many begins to end before clients have found the new process.
const UNLOADED_ONCE_IN: u64 = 8;
/// Messages sent, and messages received, that show that clients have found it.
const LOAD_MIN: usize = 100;
/// Topics and their queues.
const TOPICS: [(&str, u16); 2] = [("crash-a", 8), ("crash-b", 3)];
/// The groups; each consumes every topic.
const GROUPS: [&str; 2] = ["first", "second"];
/// Consumers of each group on each topic.
const CONSUMERS: u64 = 2;
/// Messages in one fetch of the final scan.
const SCAN_RECORDS: u32 = 4_096;

/// What to run.
#[derive(Clone, Debug)]
pub struct CrashOptions {
    /// The program.
    pub yard: PathBuf,
    /// How often the broker is killed, early deaths not counted.
    pub rounds: u64,
    /// Chooses everything that is random here.
    pub seed: u64,
    /// Commit logs of the broker.
    pub shards: u16,
    /// Whether each round is reported on stderr.
    pub verbose: bool,
}

/// What came out.
#[derive(Debug)]
pub struct CrashReport {
    /// The checker's judgement.
    pub verdict: Verdict,
    /// What it judged.
    pub history: History,
    /// Messages that an earlier attempt had stored, as the broker said.
    pub resent: u64,
    /// Sends that were refused for good; the run gives no reason for any.
    pub refusals: Vec<String>,
    /// How long each start took until the broker answered a client.
    pub restarts: Vec<Duration>,
}

/// What all parts of the load look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    /// Deaths of the broker so far.
    pub(crate) crashes: u64,
    /// Producers go on.
    pub(crate) produce: bool,
    /// Consumers go on.
    pub(crate) consume: bool,
}

/// Runs it.
///
/// # Errors
/// When the run could not be carried out, which says nothing good about the broker either.
pub async fn run(options: &CrashOptions) -> Result<CrashReport, Failed> {
    let mut server_options = ServerOptions::new(options.yard.clone());
    server_options.shards = options.shards;
    let mut server = Server::start(server_options).await?;
    let result = run_on(options, &mut server).await;
    let is_good = result.as_ref().is_ok_and(CrashReport::is_clean);
    if !is_good {
        eprintln!("the broker's folder and log: {}", server.keep().display());
    }
    result
}

impl CrashReport {
    /// Whether no promise was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.refusals.is_empty()
    }
}

async fn run_on(options: &CrashOptions, server: &mut Server) -> Result<CrashReport, Failed> {
    let random = Seeded::new(options.seed);
    let recorder = Arc::new(Recorder::new());
    let operator = server.client("crash-operator").await?;
    for (name, queues) in TOPICS {
        let (name, note) = (name.to_owned(), String::new());
        operator.admin().call(TopicCreate { name, queues, note, ..TopicCreate::default() }).await?;
    }
    for name in GROUPS {
        // What is dropped comes back soon after its lease.
        let (retry, max_attempts) = (Some(RetryPolicy::List(vec![1])), Some(Attempts(0)));
        let name = name.to_owned();
        let set = GroupSet { name, retry, max_attempts, ..GroupSet::default() };
        operator.admin().call(set).await?;
    }
    let phase = watch::Sender::new(Phase { crashes: 0, produce: true, consume: true });
    let producers = start_producers(server, &recorder, &phase, &random).await?;
    let consumers = start_consumers(server, &recorder, &phase, &random).await?;
    let restarts = rounds(options, server, &recorder, &phase, random.part(1)).await?;
    phase.send_modify(|phase| phase.produce = false);
    for producer in producers {
        producer.await??;
    }
    drain(&operator, options.verbose).await?;
    phase.send_modify(|phase| phase.consume = false);
    for consumer in consumers {
        consumer.await??;
    }
    for (topic, queues) in TOPICS {
        for queue in 0..queues {
            scan(&operator, topic, queue, &recorder).await?;
        }
    }
    operator.close().await;
    server.stop().await?;
    let (history, resent, refusals) = recorder.take();
    let verdict = yard_checker::check(&history, &Options::drained());
    Ok(CrashReport { verdict, history, resent, refusals, restarts })
}

type Tasks = Vec<tokio::task::JoinHandle<Result<(), Failed>>>;

async fn start_producers(
    server: &Server,
    recorder: &Arc<Recorder>,
    phase: &watch::Sender<Phase>,
    random: &Seeded,
) -> Result<Tasks, Failed> {
    let levels = [Ack::Synced, Ack::Memory, Ack::Written, Ack::Synced, Ack::Written, Ack::Memory];
    let mut tasks = Vec::new();
    for (number, ack) in (1u64..).zip(levels) {
        let (topic, queues) = TOPICS[usize::from(number.is_multiple_of(3))];
        // One lane, and several: both numberings.
        let streams = if number.is_multiple_of(2) { 4 } else { 1 };
        let builder = server.builder(&format!("producer-{number}"))?.streams(streams);
        let client = builder.connect().await?;
        let route = client.route(topic).await?;
        let plan = ProducerPlan {
            number,
            topic,
            topic_id: route.topic.0,
            queues,
            ack,
            client,
            recorder: recorder.clone(),
            phase: phase.subscribe(),
            random: random.part(100 + number),
        };
        tasks.push(tokio::spawn(producers::run(plan)));
    }
    Ok(tasks)
}

async fn start_consumers(
    server: &Server,
    recorder: &Arc<Recorder>,
    phase: &watch::Sender<Phase>,
    random: &Seeded,
) -> Result<Tasks, Failed> {
    let mut tasks = Vec::new();
    let mut number = 0;
    for (group_number, group) in (1u64..).zip(GROUPS) {
        for (topic, _) in TOPICS {
            for member in 0..CONSUMERS {
                number += 1;
                let client = server.client(&format!("consumer-{number}")).await?;
                let route = client.route(topic).await?;
                let plan = ConsumerPlan {
                    number,
                    group,
                    group_number,
                    topic,
                    topic_id: route.topic.0,
                    shards: route.shards.iter().map(|shard| shard.0).collect(),
                    // One lives on through every crash, the other is made anew after each.
                    anew: member == 1,
                    client,
                    recorder: recorder.clone(),
                    phase: phase.subscribe(),
                    random: random.part(200 + number),
                };
                tasks.push(tokio::spawn(consumers::run(plan)));
            }
        }
    }
    Ok(tasks)
}

async fn rounds(
    options: &CrashOptions,
    server: &mut Server,
    recorder: &Recorder,
    phase: &watch::Sender<Phase>,
    mut random: Seeded,
) -> Result<Vec<Duration>, Failed> {
    let mut seen = (0, 0);
    let mut restarts = Vec::new();
    for round in 1..=options.rounds {
        if !random.once_in(UNLOADED_ONCE_IN) {
            loaded(server, recorder, seen).await?;
        }
        let life = Duration::from_millis(random.within(0..LIFE_MS_MAX));
        tokio::time::sleep(life).await;
        if !server.is_alive() {
            return Err(Failed(format!("the broker died by itself; it said:\n{}", server.log())));
        }
        kill(server, recorder, phase)?;
        seen = (recorder.sends(), recorder.polls());
        while random.once_in(EARLY_ONCE_IN) {
            server.spawn()?;
            tokio::time::sleep(Duration::from_millis(random.within(0..EARLY_MS_MAX))).await;
            kill(server, recorder, phase)?;
        }
        let began = Instant::now();
        server.restart().await?;
        restarts.push(began.elapsed());
        if options.verbose {
            let (ms, sends, deliveries) = (life.as_millis(), recorder.sends(), recorder.polls());
            eprintln!("round {round}: lived {ms} ms; {sends} sends, {deliveries} deliveries");
        }
    }
    Ok(restarts)
}

/// Waits until clients have sent and received more than they had: most have found the new process.
async fn loaded(server: &Server, recorder: &Recorder, seen: (usize, usize)) -> Result<(), Failed> {
    let busy = until("clients go on after a restart", || async {
        let now = (recorder.sends(), recorder.polls());
        (now.0 > seen.0 + LOAD_MIN && now.1 > seen.1 + LOAD_MIN).then_some(())
    });
    busy.await.map_err(|Failed(why)| Failed(format!("{why}; it said:\n{}", server.log())))
}

fn kill(
    server: &mut Server,
    recorder: &Recorder,
    phase: &watch::Sender<Phase>,
) -> Result<(), Failed> {
    server.kill9()?;
    recorder.push(Event::Crash(Crash { at: recorder.now(), kind: CrashKind::Process }));
    phase.send_modify(|phase| phase.crashes += 1);
    Ok(())
}

/// Waits until every group has settled everything.
async fn drain(operator: &Client, verbose: bool) -> Result<(), Failed> {
    for group in GROUPS {
        let what = format!("group {group} settles everything");
        let settled = until(&what, || async {
            let name = group.to_owned();
            match operator.admin().call(GroupInfo { name }).await {
                Ok(report) => (report.lag == 0).then_some(report),
                Err(error) if error.code == Code::UnknownGroup => None,
                Err(error) => {
                    eprintln!("group info: {error}");
                    None
                }
            }
        });
        let report = settled.await?;
        if verbose {
            let rejected: u64 = report.queues.iter().map(|row| row.rejected).sum();
            eprintln!("group {group}: drained, {rejected} rejected");
        }
    }
    Ok(())
}

/// Reads a whole queue, as the checker wants it at the end.
async fn scan(client: &Client, topic: &str, queue: u16, recorder: &Recorder) -> Result<(), Failed> {
    let at = recorder.now();
    let topic_id = client.route(topic).await?.topic.0;
    let mut scan = Scan {
        queue: yard_checker::Queue { topic: topic_id, index: u32::from(queue) },
        at,
        start: 0,
        messages: Vec::new(),
    };
    let mut from = QueueOffset(0);
    loop {
        let fetched = client.fetch(topic, QueueIndex(queue), from, SCAN_RECORDS).await?;
        scan.start = fetched.first.0;
        for fetched in &fetched.records {
            let record = Record::parse(fetched.record.clone())
                .map_err(|malformed| Failed(format!("a stored record: {malformed}")))?;
            let (producer, seq) = message::name(&record);
            let hash = message::hash(&record);
            scan.messages.push(Stored { offset: fetched.offset.0, producer, seq, hash });
        }
        match fetched.records.last() {
            Some(last) => from = QueueOffset(last.offset.0 + 1),
            None if from < fetched.end => {
                let end = fetched.end;
                return Err(Failed(format!("queue {queue} ends at {end}, nothing is at {from}")));
            }
            None => break,
        }
    }
    recorder.push(Event::Scan(scan));
    Ok(())
}
