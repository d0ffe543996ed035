//! Transactions whose producers are processes that are killed at random.
//!
//! ```text
//!   producers: claim ─► begin ─► a message to each of two topics ─► record what shall become of it
//!      │ killed anywhere, replaced                                     ─► commit, roll back, leave
//!      ▼                                                                            │
//!   checks, answered by whoever lives, from the record         left ─► `tx ls` ─► an operator
//!      ▼                                                                            ▼
//!   at the end, and after a kill of the broker: what is visible is what is recorded
//! ```
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use yard_client::wire::operation::{TopicCreate, TxCommit, TxList, TxLs, TxRollback, TxRow, TxSet};
use yard_client::wire::record::Record;
use yard_client::wire::transaction::CheckSpan;
use yard_client::{
    Client, Code, Error, Message, PendingTransaction, QueueIndex, QueueOffset, Transactions, TxId,
    TxVerdict,
};

use super::crew::{Crew, PartOptions};
use super::work::{Fate, Work};
use super::{Report, keep_if_wrong, rate, topic, watchful};
use crate::server::{Server, patient, read_context};
use crate::wait::until;
use crate::{Failed, Seeded};

/// The part that a producing process does.
pub(super) const PART: &str = "producer";
/// Names of the topics, and their queues; those lie in all shards.
const TOPICS: [&str; 2] = ["orders", "bills"];
const QUEUES: u16 = 4;
const SHARDS: u16 = 2;
/// Name of the producer group.
const GROUP: &str = "payments";
/// Producers at a time, and transactions that each has open.
const PRODUCERS: usize = 4;
const AT_ONCE: usize = 16;
/// Of 100 transactions so many are committed, and so many neither that nor rolled back.
const COMMITTED: u64 = 70;
const LEFT: u64 = 2;
/// When the group is asked, and how often.
const CHECK: CheckSpan = CheckSpan(500);
const CHECKS: u16 = 10;
/// What is not recorded by then is rolled back: its producer is dead, or too slow.
const UNRECORDED_CHECK: u16 = 3;
/// A kill comes at most so long after enough has been done since the one before.
const KILL_MS_MAX: u64 = 100;
/// Messages of one fetch.
const FETCHED: u32 = 4_096;
/// Rows of one list.
const ROWS: u32 = 1_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct TransactionsOptions {
    /// The program.
    pub yard: PathBuf,
    /// The program that does parts: `yard-life`.
    pub life: PathBuf,
    /// Transactions.
    pub transactions: u64,
    /// How often a producer is killed.
    pub kills: u64,
    /// Chooses everything that is random here.
    pub seed: u64,
}

/// What a transaction is meant to come to.
fn meant(number: u64, seed: u64) -> Fate {
    match Seeded::new(seed).part(number).within(0..100) {
        drawn if drawn < COMMITTED => Fate::Commit,
        drawn if drawn < 100 - LEFT => Fate::Rollback,
        _ => Fate::Left,
    }
}

/// Answers a check by what is recorded.
fn answer(work: &Work, pending: &PendingTransaction) -> TxVerdict {
    let Ok(number) = pending.note.parse() else { return TxVerdict::Unknown };
    let fate = match work.fate(number) {
        Ok(None) if pending.check >= UNRECORDED_CHECK => work.decide(number, Fate::Rollback),
        known => known,
    };
    match fate {
        Ok(Some(Fate::Commit)) => TxVerdict::Commit,
        Ok(Some(Fate::Rollback)) => TxVerdict::Rollback,
        // A table that cannot be read now may be readable later.
        Ok(Some(Fate::Left) | None) | Err(_) => TxVerdict::Unknown,
    }
}

async fn group(client: &Client, work: &Work) -> Result<Transactions, Error> {
    let work = work.clone();
    let group = client.transactions(GROUP).check(move |pending| {
        let verdict = answer(&work, &pending);
        async move { verdict }
    });
    group.build().await
}

/// A process that produces until no number is left.
pub(super) async fn produce(options: &PartOptions) -> Result<(), Failed> {
    let context = read_context(&options.context)?;
    let client = patient(context).name(&options.name).connect().await?;
    let work = Work::open(&options.database)?;
    let group = group(&client, &work).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (group, work) = (group.clone(), work.clone());
        let (count, seed) = (options.messages, options.seed);
        tasks.spawn(async move {
            while let Some(number) = work.claim(count)? {
                one(&group, &work, (number, seed)).await?;
            }
            Ok::<(), Failed>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    client.close().await;
    Ok(())
}

async fn one(group: &Transactions, work: &Work, (number, seed): (u64, u64)) -> Result<(), Failed> {
    let tx = group.begin(number.to_string()).await?;
    let message = || Message::new(number.to_string());
    let (one, other) = tokio::join!(tx.send(TOPICS[0], message()), tx.send(TOPICS[1], message()));
    // A check may have come first and had it rolled back; then nothing more can be sent.
    let fate = if one.and(other).is_ok() { meant(number, seed) } else { Fate::Rollback };
    let decided = match work.decide(number, fate)? {
        Some(Fate::Commit) => tx.commit().await,
        Some(Fate::Rollback) => tx.rollback().await,
        // It stays open.
        Some(Fate::Left) | None => Ok(()),
    };
    match decided {
        // By a check. Whether that was right, the account at the end says.
        Err(error) if error.code == Code::TransactionFinished => Ok(()),
        decided => Ok(decided?),
    }
}

/// Runs it.
///
/// # Errors
/// When the run could not be carried out.
pub async fn run(options: &TransactionsOptions) -> Result<Report, Failed> {
    let (mut server, scratch) = watchful(&options.yard, SHARDS).await?;
    let database = scratch.path().join("work.db");
    let result = run_on(options, &mut server, database).await;
    keep_if_wrong(&mut server, &result);
    result
}

async fn run_on(
    options: &TransactionsOptions,
    server: &mut Server,
    database: PathBuf,
) -> Result<Report, Failed> {
    let client = server.client("operator").await?;
    for name in TOPICS {
        client.admin().call(TopicCreate { queues: QUEUES, ..topic(name) }).await?;
    }
    let (first, every, checks) = (Some(CHECK), Some(CHECK), Some(CHECKS));
    let set = TxSet { group: GROUP.to_owned(), first, every, checks, check: None };
    client.admin().call(set).await?;
    let work = Work::open(&database)?;
    // One that lives answers for those that died.
    let answering = group(&client, &work).await?;
    let part = PartOptions {
        context: server.context_path(),
        database,
        name: String::new(),
        messages: options.transactions,
        seed: options.seed,
    };
    let began = Instant::now();
    let crew = Crew::start(&options.life, PART, part, PRODUCERS)?;
    kill_some(options, &work, crew).await?;
    let speed = rate(options.transactions, began.elapsed());
    let open = until("all but the undecided are decided", || async {
        let listed = list(&client, false, None).await.ok()?;
        (listed.open == listed.undecided).then_some(listed.open)
    });
    let open = open.await?;
    let much = format!("{} transactions, {} kills", options.transactions, options.kills);
    let mut report = Report::new("transactions", much);
    report.tell("speed", &format!("{speed:.0} a second, those of the killed included"));
    let by_operator = decide_rest(&client, &work, &mut report).await?;
    let none_open = || async { (list(&client, false, None).await.ok()?.open == 0).then_some(()) };
    until("none is open", none_open).await?;
    drop(answering);
    let fates = work.all()?;
    let count = |fate| fates.iter().filter(|it| **it == fate).count();
    let (commits, rollbacks) = (count(Some(Fate::Commit)), count(Some(Fate::Rollback)));
    let none = count(None);
    report.tell("fates", &format!(
        "{commits} committed, {rollbacks} rolled back, {by_operator} of them by an operator from a \
         list of {open}; {none} never begun"
    ));
    visible(&client, &fates, ("what is visible", &mut report)).await?;
    client.close().await;
    server.kill9()?;
    server.restart().await?;
    let client = server.client("afterwards").await?;
    visible(&client, &fates, ("and after a kill of the broker", &mut report)).await?;
    client.close().await;
    Ok(report)
}

/// Kills producers, at random instants spread over the run, until nothing is left to do.
async fn kill_some(
    options: &TransactionsOptions,
    work: &Work,
    mut crew: Crew,
) -> Result<(), Failed> {
    let mut random = Seeded::new(options.seed);
    for kill in 1..=options.kills {
        let wanted = options.transactions * kill / (options.kills + 1);
        let what = format!("{wanted} transactions are begun");
        let enough = || async { (work.claimed().ok()? >= wanted).then_some(()) };
        until(&what, enough).await?;
        tokio::time::sleep(Duration::from_millis(random.within(0..KILL_MS_MAX))).await;
        crew.replace(random.within(0..PRODUCERS as u64) as usize).await?;
    }
    let all = || async { (work.claimed().ok()? >= options.transactions).then_some(()) };
    until("all transactions are begun", all).await?;
    crew.ends().await
}

async fn list(client: &Client, undecided: bool, after: Option<TxId>) -> Result<TxList, Error> {
    let group = Some(GROUP.to_owned());
    client.admin().call(TxLs { group, undecided, limit: ROWS, after }).await
}

/// The number of a transaction in a list.
fn number_of(row: &TxRow) -> Result<u64, Failed> {
    row.note.parse().map_err(|_| Failed(format!("{} has the note {:?}", row.id, row.note)))
}

/// An operator decides what is listed: what is recorded, and of what was left every other one each
/// way. How many those were.
async fn decide_rest(client: &Client, work: &Work, report: &mut Report) -> Result<usize, Failed> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let listed = list(client, true, after).await?;
        rows.extend(listed.rows);
        after = TxId::parse(&listed.next);
        if after.is_none() {
            break;
        }
    }
    let mut unlisted = std::collections::BTreeSet::new();
    for (fate, number) in work.all()?.into_iter().zip(1u64..) {
        if fate == Some(Fate::Left) {
            unlisted.insert(number);
        }
    }
    let (left, mut not_undecided) = (unlisted.len(), 0);
    for row in &rows {
        let number = number_of(row)?;
        unlisted.remove(&number);
        not_undecided += u64::from(row.state != "undecided");
        let fate = match work.decide(number, Fate::Rollback)? {
            Some(Fate::Left) | None => {
                let fate = if number % 2 == 0 { Fate::Commit } else { Fate::Rollback };
                work.overrule(number, fate)?;
                fate
            }
            Some(known) => known,
        };
        match fate {
            Fate::Commit => client.admin().call(TxCommit { id: row.id }).await?,
            Fate::Rollback | Fate::Left => client.admin().call(TxRollback { id: row.id }).await?,
        };
    }
    report.tell("left undecided", &format!("{left} on purpose, {} listed", rows.len()));
    let account = [(unlisted.len() as u64, "not listed"), (not_undecided, "in another state")];
    report.account("`tx ls --undecided`", &account);
    Ok(rows.len())
}

/// How often a topic has the message of each transaction.
async fn count(client: &Client, topic: &str, counts: &mut [u32]) -> Result<(), Failed> {
    for queue in (0..QUEUES).map(QueueIndex) {
        let mut from = QueueOffset(0);
        loop {
            let fetched = client.fetch(topic, queue, from, FETCHED).await?;
            let Some(last) = fetched.records.last() else { break };
            from = QueueOffset(last.offset.0 + 1);
            for found in &fetched.records {
                let record = Record::parse(found.record.clone());
                let record = record.map_err(|error| Failed(error.to_string()))?;
                let body = record.body();
                let number = std::str::from_utf8(&body).ok().and_then(|text| text.parse().ok());
                let place = number.and_then(|number: usize| number.checked_sub(1));
                let count = place.and_then(|place| counts.get_mut(place));
                *count.ok_or_else(|| Failed("a message that nobody sent".to_owned()))? += 1;
            }
        }
    }
    Ok(())
}

/// Compares what is visible with what is recorded.
async fn visible(
    client: &Client,
    fates: &[Option<Fate>],
    (what, report): (&str, &mut Report),
) -> Result<(), Failed> {
    let (mut one, mut other) = (vec![0; fates.len()], vec![0; fates.len()]);
    count(client, TOPICS[0], &mut one).await?;
    count(client, TOPICS[1], &mut other).await?;
    let (mut half, mut twice, mut lost, mut resurrected) = (0, 0, 0, 0);
    for ((fate, one), other) in fates.iter().zip(one).zip(other) {
        half += u64::from(one != other);
        twice += u64::from(one > 1 || other > 1);
        let is_committed = *fate == Some(Fate::Commit);
        lost += u64::from(is_committed && one + other == 0);
        resurrected += u64::from(!is_committed && one + other > 0);
    }
    let account =
        [(half, "half visible"), (twice, "twice"), (lost, "lost"), (resurrected, "resurrected")];
    report.account(what, &account);
    Ok(())
}
