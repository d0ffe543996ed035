//! Rounds: the broker, raw QUIC and the raw disk in turn, so that what the machine does meanwhile
//! meets all of them.
use std::sync::Arc;
use std::time::{Duration, Instant};

use yard_client::wire::operation::BrokerReport;
use yard_client::{Client, Context};
use yard_server::os::{self, Priority};

use super::broker::Broker;
use super::child::{Folder, Helper};
use super::disk::{self, DiskFigures};
use super::drain::{self, CREDIT_BYTES, Drain, Goal, Group};
use super::figures::{Belongs, Tally, Window};
use super::load::{self, Load, Sent, Target, Until};
use super::meter::{Process, Watch};
use super::plan::{Plan, What};
use super::raw::client::{self as raw_client, Raw, Shape};
use super::raw::server as raw_server;
use super::record::Recorder;
use super::report::{LogFigures, Round, Side};
use crate::failure::Failure;

/// How long each size is written to the raw disk.
const DISK_EACH: Duration = Duration::from_millis(300);
/// Sizes that are always written.
const DISK_BYTES: [usize; 3] = [4 << 10, 64 << 10, 256 << 10];
/// What is filled goes in at least for so long.
const NO_TIME: Duration = Duration::ZERO;

/// What all rounds have in common.
struct Rounds<'a> {
    plan: &'a Plan,
    folder: &'a Folder,
    running: Option<Context>,
    raw: Option<Helper>,
    recorder: Option<Arc<Recorder>>,
}

/// Measures all rounds.
pub(crate) async fn all(
    plan: &Plan,
    folder: &Folder,
    running: Option<Context>,
) -> Result<Vec<Round>, Failure> {
    let own = || folder.path().to_owned();
    let raw = plan.limits.then(|| raw_server::start(own())).transpose()?;
    let recorder = plan.record.as_deref().map(Recorder::create).transpose()?.map(Arc::new);
    let rounds = Rounds { plan, folder, running, raw, recorder };
    // What is read stays; what is written would fill the disk.
    let filled = match plan.what {
        What::Consume => {
            let broker = rounds.broker().await?;
            let messages = rounds.fill(&broker).await?;
            Some((broker, messages))
        }
        What::Produce | What::EndToEnd | What::RoundTrip | What::Idle => None,
    };
    let mut measured = Vec::new();
    for number in 0..plan.rounds {
        let round = match (&filled, plan.what) {
            (Some((broker, messages)), _) => rounds.consume(broker, number, *messages).await?,
            (None, What::Idle) => rounds.idle().await?,
            (None, _) => rounds.fresh(number).await?,
        };
        measured.push(round);
    }
    if let Some((broker, _)) = filled {
        rounds.scan(&broker).await?;
        broker.end().await;
    }
    rounds.recorder.as_ref().map_or(Ok(()), |recorder| recorder.finish())?;
    Ok(measured)
}

async fn leave(clients: &[Client]) {
    for client in clients {
        super::super::leave(client).await;
    }
}

/// Everything that shards have written, together.
fn written(report: &BrokerReport) -> (u64, u64, u32) {
    report.shards.iter().fold((0, 0, 0), |(groups, bytes, segments), shard| {
        (groups + shard.groups, bytes + shard.appended, segments + shard.segments)
    })
}

impl Rounds<'_> {
    async fn broker(&self) -> Result<Broker, Failure> {
        if let Some(recorder) = &self.recorder {
            recorder.next_topic();
        }
        Broker::start(self.plan, self.folder, self.running.clone()).await
    }

    fn target<'b>(&'b self, clients: &'b [Client], broker: &'b Broker) -> Target<'b> {
        Target { clients, topic: broker.topic(), recorder: self.recorder.as_ref() }
    }

    /// Records what is stored.
    async fn scan(&self, broker: &Broker) -> Result<(), Failure> {
        let Some(recorder) = &self.recorder else { return Ok(()) };
        let client = broker.client(1).await?;
        recorder.scan(&client, broker.topic(), self.plan.queues).await?;
        super::super::leave(&client).await;
        Ok(())
    }

    /// Sends what is to be consumed; how many there are.
    async fn fill(&self, broker: &Broker) -> Result<u64, Failure> {
        let plan = self.plan;
        let clients = broker.clients(plan).await?;
        let start = Instant::now();
        let until = match plan.messages {
            Some(count) => Until::Count(count.div_ceil(clients.len() as u64)),
            None => Until::Time(start + plan.seconds),
        };
        let window = Window::new(start, NO_TIME, Duration::from_secs(24 * 3_600));
        let load = Load::new(plan, plan.ack, self.target(&clients, broker), window, None).await?;
        let sent = load.flood(until).await?;
        leave(&clients).await;
        Ok(sent.count)
    }

    /// A round with a broker that begins empty.
    async fn fresh(&self, number: usize) -> Result<Round, Failure> {
        let plan = self.plan;
        let broker = self.broker().await?;
        let before = written(&broker.info().await?);
        let side = match plan.what {
            What::EndToEnd => self.end_to_end(&broker).await?,
            What::RoundTrip => self.round_trip(&broker).await?,
            What::Produce | What::Consume | What::Idle => self.produce(&broker).await?,
        };
        let after = written(&broker.info().await?);
        let groups = after.0 - before.0;
        let group_bytes = (after.1 - before.1) / groups.max(1);
        let log = LogFigures { groups, group_bytes, segments: after.2 };
        self.scan(&broker).await?;
        broker.end().await;
        let raw = self.raw(number).await?;
        let mut round = Round::new(side, raw, Some(log));
        round.disk = self.disk(Some(group_bytes)).await?;
        Ok(round)
    }

    async fn produce(&self, broker: &Broker) -> Result<Side, Failure> {
        let plan = self.plan;
        let clients = broker.clients(plan).await?;
        let start = Instant::now();
        let window = Window::new(start, plan.warm_up, plan.seconds);
        let load = Load::new(plan, plan.ack, self.target(&clients, broker), window, None).await?;
        let sending = send(load, plan, start, window);
        let (sent, server, client) =
            tokio::join!(sending, broker.process().watch(window), Process::this().watch(window));
        leave(&clients).await;
        Ok(side_of(plan, &sent?, window, (server, client)))
    }

    async fn round_trip(&self, broker: &Broker) -> Result<Side, Failure> {
        let plan = self.plan;
        let clients = broker.clients(plan).await?;
        let window = Window::new(Instant::now(), plan.warm_up, plan.seconds);
        let (tally, server, client) = tokio::join!(
            load::round_trips(plan, self.target(&clients, broker), window),
            broker.process().watch(window),
            Process::this().watch(window)
        );
        leave(&clients).await;
        Ok(Side::new(plan, &tally?, (window.begin, plan.seconds), (server, client)))
    }

    async fn end_to_end(&self, broker: &Broker) -> Result<Side, Failure> {
        let plan = self.plan;
        let (from, to) = (broker.clients(plan).await?, broker.clients(plan).await?);
        let mut others = Vec::new();
        for _ in 0..plan.groups {
            others.push(vec![broker.client(plan.streams).await?]);
        }
        let start = Instant::now();
        let window = Window::new(start, plan.warm_up, plan.seconds);
        let belongs = if plan.rate.is_some() { Belongs::Due } else { Belongs::Done };
        let epoch = Some(start);
        let goal = Goal::unknown();
        let group = Group { name: "bench".to_owned(), number: 1 };
        let counted = (window, belongs);
        let drain = Drain::start(self.target(&to, broker), &group, counted, (epoch, &goal)).await?;
        let mut tails = Vec::new();
        for (number, clients) in (0..).zip(&others) {
            let (name, goal) = (format!("bench-tail-{number}"), Goal::unknown());
            let (target, group) =
                (self.target(clients, broker), Group { name, number: 2 + number });
            let drain = Drain::start(target, &group, counted, (epoch, &goal)).await?;
            tails.push((drain, goal));
        }
        let load = Load::new(plan, plan.ack, self.target(&from, broker), window, epoch).await?;
        let (done, all_sent) = tokio::sync::oneshot::channel();
        let working = async {
            let sent = send(load, plan, start, window).await;
            // With a rate all that was sent is waited for; else there is no end to it, unless a
            // history is to be complete.
            let is_awaited = plan.rate.is_some() || plan.record.is_some();
            let target = sent.as_ref().map_or(0, |sent| if is_awaited { sent.count } else { 0 });
            goal.set(target);
            tails.iter().for_each(|(_, goal)| goal.set(target));
            // Consumers that have ended by themselves have nobody left who waits.
            let _ = done.send(());
            sent
        };
        let all_sent = async {
            let _ = all_sent.await;
        };
        let (sent, tally, server, client) = tokio::join!(
            working,
            drain.finish_after(all_sent),
            broker.process().watch(window),
            Process::this().watch(window)
        );
        let (sent, tally) = (sent?, tally?);
        for (drain, _) in tails {
            drain.finish_after(std::future::ready(())).await?;
        }
        for clients in [from, to].iter().chain(&others) {
            leave(clients).await;
        }
        let received = Sent { count: sent.count, tally, pace: sent.pace };
        Ok(side_of(plan, &received, window, (server, client)))
    }

    /// A round of reading what was filled in.
    async fn consume(
        &self,
        broker: &Broker,
        number: usize,
        messages: u64,
    ) -> Result<Round, Failure> {
        let plan = self.plan;
        let clients = broker.clients(plan).await?;
        let name = format!("{}-{number}", broker.topic());
        let group = Group { name, number: 1 + number as u64 };
        let reading = async {
            match plan.fetch {
                true => drain::fetch_all(plan, self.target(&clients, broker), messages).await,
                false => drain::drain_all(self.target(&clients, broker), &group, messages).await,
            }
        };
        let client = Watch::begin(Process::this()).await;
        let server = Watch::begin(broker.process()).await;
        let ((read, client), server) = server.during(client.during(reading)).await;
        let (tally, began, took) = read?;
        leave(&clients).await;
        let side = Side::new(plan, &tally, (began, took), (server, client));
        let segments = written(&broker.info().await?).2;
        let raw = self.raw(number).await?;
        let log = LogFigures { groups: 0, group_bytes: 0, segments };
        let mut round = Round::new(side, raw, Some(log));
        round.disk = self.disk(None).await?;
        Ok(round)
    }

    /// A round of raw QUIC.
    async fn raw(&self, number: usize) -> Result<Option<Side>, Failure> {
        let (plan, Some(helper)) = (self.plan, &self.raw) else { return Ok(None) };
        let connections = Raw::connect_all(&helper.reach, plan.connections).await?;
        let others = match (plan.what, plan.rate) {
            (What::EndToEnd, None) => Raw::connect_all(&helper.reach, plan.connections).await?,
            _ => Vec::new(),
        };
        let window = Window::new(Instant::now(), plan.warm_up, plan.seconds);
        let shape = shape(plan);
        let working = async {
            match (plan.what, plan.rate) {
                // Beside a rate stands the round trip of a single message.
                (What::RoundTrip, _) | (_, Some(_)) => {
                    raw_client::round_trips(&connections, shape, window, plan.commit).await
                }
                (What::EndToEnd, None) => {
                    let ways = (&connections[..], &others[..]);
                    raw_client::relay(ways, shape, window, number as u32).await
                }
                (What::Consume, None) => raw_client::consume(&connections, shape, window).await,
                (What::Produce | What::Idle, None) => {
                    raw_client::produce(&connections, shape, window).await
                }
            }
        };
        let (tally, server, client) = tokio::join!(
            working,
            Process::Here(helper.id()).watch(window),
            Process::this().watch(window)
        );
        for raw in connections.into_iter().chain(others) {
            raw.close().await;
        }
        let mut side = Side::new(plan, &tally?, (window.begin, plan.seconds), (server, client));
        if matches!((plan.what, plan.rate), (What::EndToEnd, None)) {
            // A frame says not when it was due.
            side.times_us = None;
        }
        Ok(Some(side))
    }

    async fn disk(&self, group_bytes: Option<u64>) -> Result<Vec<DiskFigures>, Failure> {
        if !self.plan.limits {
            return Ok(Vec::new());
        }
        let path = self.folder.path().join("raw-disk");
        let mut sizes = DISK_BYTES.to_vec();
        sizes.extend(group_bytes.map(|bytes| bytes as usize));
        let failed = |why: &dyn std::fmt::Display| Failure::local(format!("raw disk: {why}"));
        let (done, measured) = tokio::sync::oneshot::channel();
        let measuring = move || {
            // As the broker's log has it.
            os::prefer(Priority::Log);
            // Whoever waits for it may have been interrupted.
            let _ = done.send(disk::measure(&path, &sizes, DISK_EACH));
        };
        let thread = std::thread::Builder::new().name("disk".into());
        thread.spawn(measuring).map_err(|why| failed(&why))?;
        measured.await.map_err(|why| failed(&why))?.map_err(|why| failed(&why))
    }

    /// What connections cost that do nothing.
    async fn idle(&self) -> Result<Round, Failure> {
        let plan = self.plan;
        let broker = self.broker().await?;
        let process = broker.process();
        let before = process.rss_anon_bytes().await;
        let begun = Instant::now();
        let clients = broker.clients(plan).await?;
        tokio::time::sleep(plan.seconds).await;
        let after = process.rss_anon_bytes().await;
        let window = Window::new(begun, NO_TIME, plan.seconds);
        let server = super::meter::Used { rss_anon_bytes_max: after, ..Default::default() };
        let nothing = Tally::new(window, Belongs::Done);
        let side = Side::new(plan, &nothing, (begun, plan.seconds), (server, Default::default()));
        leave(&clients).await;
        broker.end().await;
        let mut round = Round::new(side, None, None);
        let bytes = after.saturating_sub(before) as f64;
        round.bytes_per_connection = Some(bytes / plan.connections as f64);
        Ok(round)
    }
}

async fn send(load: Load, plan: &Plan, start: Instant, window: Window) -> Result<Sent, Failure> {
    match plan.rate {
        Some(rate) => load.paced(rate, start).await,
        None => load.flood(Until::Time(window.end)).await,
    }
}

fn side_of(
    plan: &Plan,
    sent: &Sent,
    window: Window,
    used: (super::meter::Used, super::meter::Used),
) -> Side {
    let took = window.end - window.begin;
    let side = Side::new(plan, &sent.tally, (window.begin, took), used);
    match &sent.pace {
        Some(pace) => side.with_pace(pace),
        None => side,
    }
}

/// The frames of raw QUIC that correspond to the plan.
fn shape(plan: &Plan) -> Shape {
    let (frame_bytes, records) = (plan.frame_bytes(), plan.batch_records() as u64);
    let lanes = plan.lanes();
    match (plan.what, plan.rate) {
        (What::RoundTrip, _) => Shape { frame_bytes, records, lanes, window: plan.in_flight },
        (_, Some(_)) => {
            let frame_bytes = frame_bytes - (plan.batch_records() - 1) * plan.record_bytes();
            Shape { frame_bytes, records: 1, lanes, window: 1 }
        }
        // As many bytes ahead as a consumer gives credit for, or as many fetches as are asked.
        (What::Consume | What::EndToEnd, None) if !plan.fetch => {
            let ahead = CREDIT_BYTES as usize / frame_bytes / lanes;
            let window = match plan.what {
                What::EndToEnd => plan.in_flight,
                _ => ahead.max(2),
            };
            Shape { frame_bytes, records, lanes, window }
        }
        (What::Consume, None) => {
            let window = usize::from(plan.queues).div_ceil(plan.connections * lanes);
            Shape { frame_bytes, records, lanes, window }
        }
        (_, None) => Shape { frame_bytes, records, lanes, window: plan.in_flight },
    }
}
