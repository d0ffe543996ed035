//! One seed: a world is made, clients live in it while things go wrong, and when nothing does any
//! more, everything must have arrived.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use yard_checker::{DeadLetter, Event, History, Options, Queue, Scan, Verdict};
use yard_client::transport::TransportOptions;
use yard_client::{Client, Code, Error};
use yard_sim::Random;
use yard_wire::name::DEAD_PREFIX;
use yard_wire::operation::{DelayLs, GroupInfo, GroupSet, TopicCreate, TxLs, TxSet};
use yard_wire::order::{OrderRetry, TopicType};
use yard_wire::retry::{Attempts, RetryPolicy};
use yard_wire::transaction::CheckSpan;

use crate::counts::Counts;
use crate::ledger::Ledger;
use crate::load::{self, Crew, GROUP, GROUP_NUMBER, PRODUCERS, Reads, TOPIC};
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
/// In an ordered topic, a message that failed comes again after this.
const ORDER_RETRY: OrderRetry = OrderRetry(100);
/// Looks in a row that must find everything settled.
const CALM_LOOKS: u32 = 2;
/// How often the group is asked whether it has settled everything.
const DRAINED_LOOK: Duration = Duration::from_millis(200);

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Of everything that happened.
    pub hash: u64,
    /// How much there was.
    pub counts: Counts,
    /// What went wrong.
    pub failure: Option<String>,
}

impl Outcome {
    /// As one process tells another: a line of figures, then what went wrong.
    #[must_use]
    pub fn write(&self) -> String {
        let Self { hash, counts, failure, .. } = self;
        format!("{hash} {}\n{}", counts.write(), failure.as_deref().unwrap_or_default())
    }

    /// What [`Outcome::write`] wrote; `None` where it is something else.
    #[must_use]
    pub fn read(seed: u64, text: &str) -> Option<Self> {
        let (figures, failure) = text.split_once('\n')?;
        let (hash, counts) = figures.split_once(' ')?;
        let (hash, counts) = (hash.parse().ok()?, Counts::read(counts)?);
        let failure = (!failure.is_empty()).then(|| failure.to_owned());
        Some(Self { seed, hash, counts, failure })
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
    let ledger = Ledger::new(recorder.clone(), plant);
    let lived = live(&world, &recorder, &ledger, &mut random).await;
    let (history, hash, mut wrongs) = recorder.take();
    let failure = match &lived {
        Err(why) => {
            wrongs.push(why.clone());
            Some(wrongs.join("; "))
        }
        Ok(_) if !wrongs.is_empty() => Some(wrongs.join("; ")),
        Ok(lived) => judge(&history, lived, &world.plan),
    };
    let counts = lived.map_or_else(|_| Counts::default(), |lived| lived.counts);
    let deliveries = history.polls.iter().flat_map(|poll| &poll.deliveries);
    let counts = Counts {
        operations: history.operations() as u64,
        crashes: history.crashes.len() as u64,
        redelivered: deliveries.filter(|delivery| delivery.attempt > 1).count() as u64,
        ..counts
    };
    Outcome { seed: 0, hash, counts, failure }
}

/// What a run leaves beside its history.
struct Lived {
    reads: Reads,
    /// The topic.
    topic: u32,
    /// What only the applications know, and how much is stored.
    counts: Counts,
    /// Connections that each client has made.
    connections: Vec<u64>,
    is_moved_only: bool,
}

/// What is wrong with a history, if anything.
fn judge(history: &History, lived: &Lived, plan: &Plan) -> Option<String> {
    let options = Options {
        ordered: if plan.is_ordered { vec![lived.topic] } else { Vec::new() },
        limited: plan.attempts > 0,
        ..Options::drained()
    };
    let verdict: Verdict = yard_checker::check(history, &options);
    if !verdict.is_clean() {
        return Some(verdict.to_string());
    }
    let mut at: BTreeMap<(u32, u64), (u64, u64, u64)> = BTreeMap::new();
    for scan in history.scans.iter().filter(|scan| scan.queue.topic == lived.topic) {
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
    ledger: &Ledger,
    random: &mut Random,
) -> Result<Lived, String> {
    let plan = Arc::new(world.plan.clone());
    let life = Life::begin(world).await?;
    let said = |error: Error| error.to_string();
    // The last one, which consumes, is also who prepares, looks and asks.
    let others = plan.clients() - 1;
    let operator = connect(world, others).await.map_err(said)?;
    prepare(&operator, &plan).await.map_err(said)?;
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
        ledger: ledger.clone(),
        topic: route.topic.0,
        shards: route.shards.iter().map(|shard| shard.0).collect(),
        ends,
        plant: world.plant,
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
    let life = striking.map_err(|_| "the broker did not start in time".to_owned())??;
    world.network.mend();
    world.slow_down(1, Duration::ZERO);
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
        let scans = read_all(&crew, &operator).await.map_err(said)?;
        Ok::<_, String>((reads, scans))
    };
    let rest = tokio::time::timeout(MENDED_MAX, rest).await;
    let (reads, scans) =
        rest.map_err(|_| format!("not all was done {MENDED_MAX:?} after the last fault"))??;
    let connections = clients.iter().map(load::connections).collect();
    let (own, dead): (Vec<Scan>, Vec<Scan>) =
        scans.into_iter().partition(|scan| scan.queue.topic == crew.topic);
    let mut counts = ledger.finish(&own);
    let all = |scans: &[Scan]| scans.iter().map(|scan| scan.messages.len() as u64).sum();
    (counts.stored, counts.dead) = (all(&own), all(&dead));
    own.into_iter().chain(dead).for_each(|scan| recorder.push(Event::Scan(scan)));
    world.let_go();
    life.stop(world).await;
    let topic = crew.topic;
    Ok(Lived { reads, topic, counts, connections, is_moved_only: is_moved_only(&plan) })
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

async fn prepare(client: &Client, plan: &Plan) -> Result<(), Error> {
    let topic = TopicCreate {
        name: TOPIC.to_owned(),
        queues: plan.queues,
        r#type: if plan.is_ordered { TopicType::Ordered } else { TopicType::Normal },
        order_retry: ORDER_RETRY,
        ..TopicCreate::default()
    };
    client.admin().call(topic).await?;
    let group = GroupSet {
        name: GROUP.to_owned(),
        retry: Some(RetryPolicy::List(plan.retry_ms.to_vec())),
        max_attempts: Some(Attempts(plan.attempts)),
        ..GroupSet::default()
    };
    client.admin().call(group).await?;
    if plan.transactional > 0 {
        let (first, every) = (Some(CheckSpan(300)), Some(CheckSpan(500)));
        // Nothing in a run takes so long that nobody is asked any more.
        let (group, checks) = (PRODUCERS.to_owned(), Some(1_000));
        client.admin().call(TxSet { group, first, every, checks, ..TxSet::default() }).await?;
    }
    Ok(())
}

/// Reads everything that is stored, dead letters too, and says so where there are any.
async fn read_all(crew: &Crew, client: &Client) -> Result<Vec<Scan>, Error> {
    let dead = format!("{DEAD_PREFIX}{GROUP}");
    let route = match client.route(&dead).await {
        Ok(route) => Some(route),
        Err(error) if error.code == Code::UnknownTopic => None,
        Err(error) => return Err(error),
    };
    let mut topics = vec![(TOPIC, crew.topic, crew.plan.queues)];
    if let Some(route) = &route {
        let (group, source, topic) = (GROUP_NUMBER, crew.topic, route.topic.0);
        crew.recorder.push(Event::DeadLetter(DeadLetter { group, source, topic }));
        topics.push((&dead, topic, route.shards.len() as u16));
    }
    let mut scans = Vec::new();
    for (name, topic, queues) in topics {
        for index in 0..u32::from(queues) {
            scans.push(load::scan(crew, client, name, Queue { topic, index }).await?);
        }
    }
    Ok(scans)
}

/// Waits until every transaction is carried out, every delayed message is there, and the group has
/// settled everything.
async fn drain(client: &Client) -> Result<(), String> {
    let mut calm = 0;
    while calm < CALM_LOOKS {
        match is_drained(client).await {
            Ok(true) => {
                calm += 1;
                // What waits no longer counts as a backlog when it is synced.
                tokio::time::sleep(SYNCED_AFTER).await;
                continue;
            }
            Ok(false) => calm = 0,
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.to_string()),
        }
        tokio::time::sleep(DRAINED_LOOK).await;
    }
    Ok(())
}

/// Nothing becomes of anything any more: what a transaction leaves may be delayed, and what was
/// delayed is to be settled.
async fn is_drained(client: &Client) -> Result<bool, Error> {
    let (admin, limit) = (client.admin(), 1);
    Ok(admin.call(TxLs { limit, ..TxLs::default() }).await?.open == 0
        && admin.call(DelayLs { limit, ..DelayLs::default() }).await?.waiting == 0
        && admin.call(GroupInfo { name: GROUP.to_owned() }).await?.lag == 0)
}

/// Waits until all have ended well.
async fn all(tasks: &mut JoinSet<Result<(), Error>>) -> Result<(), String> {
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(|error: JoinError| error.to_string())?;
        ended.map_err(|error| error.to_string())?;
    }
    Ok(())
}
