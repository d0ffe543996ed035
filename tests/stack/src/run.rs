//! One seed: a world is made, clients live in it while things go wrong, and when nothing does any
//! more, everything must have arrived.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use yard_checker::{Event, History, Options, Verdict};
use yard_client::transport::TransportOptions;
use yard_client::{Client, Error};
use yard_sim::Random;
use yard_wire::operation::{GroupInfo, GroupSet, TopicCreate};
use yard_wire::retry::{Attempts, RetryPolicy};

use crate::load::{self, Crew, GROUP, Reads, TOPIC};
use crate::network::{BROKER, Network};
use crate::plan::{Fault, Line, Plan};
use crate::planted::Plant;
use crate::recorder::Recorder;
use crate::world::{Life, World};
use crate::{faults, identity};

/// The line before and after anything goes wrong.
const CLEAR: Line =
    Line { delay_ms: 1, jitter_ms: 0, lost: 0, doubled: 0, overtaken: 0, mtu_bytes: 1_500 };
/// How long a run may take until its faults are over, in time of the world.
const FAULTY_MAX: Duration = Duration::from_secs(1_200);
/// How long it may take from then on until everything was sent, received and settled.
const MENDED_MAX: Duration = Duration::from_secs(120);
/// Longer than any write and sync takes.
const SYNCED_AFTER: Duration = Duration::from_secs(2);
/// How often the group is asked whether it has settled everything.
const DRAINED_LOOK: Duration = Duration::from_millis(200);

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Of everything that happened.
    pub hash: u64,
    /// Operations of clients.
    pub operations: u64,
    /// Deaths of the broker.
    pub crashes: u64,
    /// Messages that are stored at the end.
    pub stored: u64,
    /// What went wrong.
    pub failure: Option<String>,
}

impl Outcome {
    /// As one process tells another: a line of figures, then what went wrong.
    #[must_use]
    pub fn write(&self) -> String {
        let Self { hash, operations, crashes, stored, failure, .. } = self;
        let failure = failure.as_deref().unwrap_or_default();
        format!("{hash} {operations} {crashes} {stored}\n{failure}")
    }

    /// What [`Outcome::write`] wrote; `None` where it is something else.
    #[must_use]
    pub fn read(seed: u64, text: &str) -> Option<Self> {
        let (figures, failure) = text.split_once('\n')?;
        let figures: Vec<u64> = figures.split(' ').filter_map(|one| one.parse().ok()).collect();
        let [hash, operations, crashes, stored] = figures[..] else { return None };
        let failure = (!failure.is_empty()).then(|| failure.to_owned());
        Some(Self { seed, hash, operations, crashes, stored, failure })
    }
}

thread_local! {
    /// Panics of the seed that this thread runs, if it runs one: tasks swallow theirs.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Notes every panic of threads that run seeds.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| match panics {
                Some(panics) => panics.push(panic.to_string()),
                None => usual(panic),
            });
        }));
    });
}

/// Runs a seed; a panic of what is under test is a failure like any other.
#[must_use]
pub fn run_seed(seed: u64, operations: u64, plant: Option<Plant>, printing: bool) -> Outcome {
    note_panics();
    PANICS.set(Some(Vec::new()));
    let plan = Plan::draw(seed, operations);
    let ran = yard_sim::sweep::guarded(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(runtime.block_on(run(plan, plant, printing)))
    });
    let mut outcome =
        ran.unwrap_or_else(|panic| Outcome { failure: Some(panic), ..Outcome::default() });
    outcome.seed = seed;
    if let Some(panic) = PANICS.take().and_then(|panics| panics.into_iter().next()) {
        outcome.failure = Some(panic);
    }
    outcome
}

async fn run(plan: Plan, plant: Option<Plant>, printing: bool) -> Outcome {
    let recorder = Recorder::new(printing);
    let mut random = Random::new(plan.seed);
    let network = Network::new(random.split(), CLEAR, recorder.clone());
    let world = Arc::new(World::new(plan, network, plant, random.split()));
    let lived = live(&world, &recorder, &mut random).await;
    let (history, hash, wrongs) = recorder.take();
    let failure = match lived {
        Err(why) => Some(why),
        Ok(_) if !wrongs.is_empty() => Some(wrongs.join("; ")),
        Ok(lived) => judge(&history, &lived),
    };
    let crashes = history.crashes.len() as u64;
    let stored = history.scans.iter().map(|scan| scan.messages.len() as u64).sum();
    let operations = history.operations() as u64;
    Outcome { seed: 0, hash, operations, crashes, stored, failure }
}

/// What a run leaves beside its history.
struct Lived {
    reads: Reads,
    /// Connections that each client has made.
    connections: Vec<u64>,
    is_moved_only: bool,
}

/// What is wrong with a history, if anything.
fn judge(history: &History, lived: &Lived) -> Option<String> {
    let verdict: Verdict = yard_checker::check(history, &Options::drained());
    if !verdict.is_clean() {
        return Some(verdict.to_string());
    }
    let mut at: BTreeMap<(u32, u64), (u64, u64, u64)> = BTreeMap::new();
    for scan in &history.scans {
        let of = scan.queue.index;
        at.extend(scan.messages.iter().map(|m| ((of, m.offset), (m.producer, m.seq, m.hash))));
    }
    for (queue, read) in &lived.reads {
        let found = at.get(&(u32::from(*queue), read.offset));
        if found != Some(&(read.producer, read.seq, read.hash)) {
            return Some(format!("a reader got {read:?} of queue {queue}; there is {found:?}"));
        }
    }
    if lived.is_moved_only && lived.connections.iter().any(|made| *made != 1) {
        let made = &lived.connections;
        return Some(format!("clients only moved, and made {made:?} connections"));
    }
    None
}

async fn live(
    world: &Arc<World>,
    recorder: &Recorder,
    random: &mut Random,
) -> Result<Lived, String> {
    let plan = Arc::new(world.plan.clone());
    let life = Life::begin(world).await?;
    let said = |error: Error| error.to_string();
    // The last one, which consumes, is also who prepares, looks and asks.
    let others = plan.clients() - 1;
    let operator = connect(world, others).await.map_err(said)?;
    prepare(&operator, plan.queues).await.map_err(said)?;
    let route = operator.route(TOPIC).await.map_err(said)?;
    world.network.set_line(plan.line);
    let mut clients = Vec::new();
    for number in 0..others {
        clients.push(connect(world, number).await.map_err(said)?);
    }
    clients.push(operator.clone());
    let (end, ends) = watch::channel(false);
    let crew = Crew {
        plan: Arc::clone(&plan),
        recorder: recorder.clone(),
        topic: route.topic.0,
        shards: route.shards.iter().map(|shard| shard.0).collect(),
        ends,
    };
    let mut producers = JoinSet::new();
    let mut consumers = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        let (crew, client, random) = (crew.clone(), client.clone(), random.split());
        if number < plan.producers.len() {
            producers.spawn(load::produce(crew, number, client, random));
        } else {
            consumers.spawn(load::consume(crew, number, client, random));
        }
    }
    let reader = tokio::spawn(load::look(crew.clone(), operator.clone(), random.split()));
    let striking = faults::strike(Arc::clone(world), recorder.clone(), life);
    let striking = tokio::time::timeout(FAULTY_MAX, striking).await;
    let (life, _) = striking.map_err(|_| "the broker did not start in time".to_owned())??;
    world.network.mend();
    world.network.set_line(CLEAR);
    recorder.note(&[7], || "all is well again".to_owned());
    let rest = async {
        all(&mut producers).await?;
        // What was acknowledged from memory is not counted before it is synced.
        tokio::time::sleep(SYNCED_AFTER).await;
        drain(&operator).await?;
        end.send_replace(true);
        all(&mut consumers).await?;
        let reads = reader.await.map_err(|error| error.to_string())?.map_err(said)?;
        for queue in 0..plan.queues {
            let scan = load::scan(&crew, &operator, queue).await.map_err(said)?;
            recorder.push(Event::Scan(scan));
        }
        Ok::<_, String>(reads)
    };
    let rest = tokio::time::timeout(MENDED_MAX, rest).await;
    let reads =
        rest.map_err(|_| format!("not all was done {MENDED_MAX:?} after the last fault"))??;
    let connections = clients.iter().map(load::connections).collect();
    world.let_go();
    life.stop(world).await;
    Ok(Lived { reads, connections, is_moved_only: is_moved_only(&plan) })
}

/// Whether nothing happens in a run but that clients get other addresses, on a line that loses
/// nothing.
fn is_moved_only(plan: &Plan) -> bool {
    let moves = |fault: &Fault| matches!(fault, Fault::Move { .. } | Fault::Rebind { .. });
    plan.line.lost == 0 && plan.faults.iter().all(|(_, fault)| moves(fault))
}

async fn connect(world: &Arc<World>, number: usize) -> Result<Client, Error> {
    let plan = &world.plan;
    let transport = TransportOptions {
        idle_ms: plan.idle_ms,
        keep_alive_ms: plan.idle_ms / 3,
        ..TransportOptions::default()
    };
    let builder = Client::builder()
        .bootstrap([BROKER.to_string()])
        .tls(identity::client())
        .name(format!("client-{number}"))
        .transport(transport)
        .connect_timeout(MENDED_MAX)
        .within(world.client(number));
    let builder = match plan.streams {
        Some(streams) => builder.streams(streams),
        None => builder,
    };
    builder.connect().await
}

async fn prepare(client: &Client, queues: u16) -> Result<(), Error> {
    let name = TOPIC.to_owned();
    client.admin().call(TopicCreate { name, queues, ..TopicCreate::default() }).await?;
    // What is dropped comes back soon after its lease.
    let (retry, max_attempts) = (Some(RetryPolicy::List(vec![1])), Some(Attempts(0)));
    let name = GROUP.to_owned();
    client.admin().call(GroupSet { name, retry, max_attempts, ..GroupSet::default() }).await?;
    Ok(())
}

/// Waits until the group has settled everything.
async fn drain(client: &Client) -> Result<(), String> {
    loop {
        match client.admin().call(GroupInfo { name: GROUP.to_owned() }).await {
            Ok(report) if report.lag == 0 => return Ok(()),
            Ok(_) => {}
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.to_string()),
        }
        tokio::time::sleep(DRAINED_LOOK).await;
    }
}

/// Waits until all have ended well.
async fn all(tasks: &mut JoinSet<Result<(), Error>>) -> Result<(), String> {
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(|error: JoinError| error.to_string())?;
        ended.map_err(|error| error.to_string())?;
    }
    Ok(())
}
