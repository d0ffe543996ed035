//! A year of flights, each aircraft in order, while the processes that handle them are killed.
//!
//! ```text
//!   flights ─► order group .tailnum ─► 8 processes ─► SQLite: ledger and effect, one transaction
//!                                      │ one killed every second, and replaced
//!                                      ▼
//!   at the end: each flight once, those of an aircraft in order, no more redelivered than was held
//! ```
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ledger_sqlite::SqliteLedger;
use rusqlite::params;
use yard_client::ledger::{self, HandleError};
use yard_client::wire::operation::{GroupInfo, TopicCreate};
use yard_client::wire::order::TopicType;
use yard_client::{Client, Message, Start};

use super::crew::{Crew, PartOptions};
use super::{Report, fill, keep_if_wrong, lag, topic, watchful};
use crate::Failed;
use crate::flights::{Line, TOPIC, lines};
use crate::server::{Server, patient, read_context};
use crate::wait::until;

/// The part that a handling process does.
pub(super) const PART: &str = "handler";
/// Name of the group.
const GROUP: &str = "books";
const SHARDS: u16 = 2;
/// Handling processes at a time.
const HANDLERS: usize = 8;
/// What may be on its way to each, over all shards.
const CREDIT: u32 = 64;
/// The property with the number of a flight.
const NUMBER: &str = "n";
/// The order group of flights that name no aircraft.
const NO_AIRCRAFT: &str = "none";
/// Longer than processes wait for each other.
const BUSY: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Clone, Debug)]
pub struct FlightsOptions {
    /// The program.
    pub yard: PathBuf,
    /// The program that does parts: `yard-life`.
    pub life: PathBuf,
    /// The flights, a line each.
    pub file: PathBuf,
    /// How many of them, from the first on.
    pub messages: usize,
    /// One process is killed so long after another,
    pub every: Duration,
    /// so often at most.
    pub kills_max: u64,
}

/// The database of effects.
fn open(path: &Path) -> Result<SqliteLedger, Failed> {
    let books = SqliteLedger::open(path)?;
    books.connection().busy_timeout(BUSY)?;
    books.connection().execute_batch(
        "CREATE TABLE IF NOT EXISTS effects (
             place INTEGER PRIMARY KEY, number INTEGER NOT NULL, aircraft TEXT NOT NULL
         );
         CREATE TABLE IF NOT EXISTS again (number INTEGER NOT NULL, attempt INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS lost (name TEXT NOT NULL);",
    )?;
    Ok(books)
}

/// A process that handles flights until it is killed. Its thread may wait for the database: that of
/// the connection is another.
pub(super) async fn consume(options: &PartOptions) -> Result<(), Failed> {
    let mut books = open(&options.database)?;
    let context = read_context(&options.context)?;
    let client = patient(context).name(&options.name).connect().await?;
    let builder = client.consumer(TOPIC, GROUP).start(Start::Earliest);
    let mut flights = builder.credit(CREDIT, 1 << 20).build().await?;
    let mut known = connections(&client);
    loop {
        let flight = flights.recv().await?;
        // A machine that stands still for seconds ends connections, and what is held goes back.
        let now = connections(&client);
        for _ in known..now {
            let insert = "INSERT INTO lost (name) VALUES (?1)";
            books.connection().execute(insert, params![options.name])?;
        }
        known = now;
        let number = flight.property(NUMBER).and_then(|number| number.parse::<u64>().ok());
        let number = number.ok_or_else(|| Failed("a flight without a number".to_owned()))?;
        let aircraft = flight.order_group().unwrap_or_default().to_owned();
        if flight.attempt() > 1 {
            let insert = "INSERT INTO again (number, attempt) VALUES (?1, ?2)";
            books.connection().execute(insert, params![number, flight.attempt()])?;
        }
        let handled = ledger::handle(&mut books, &flight, |transaction| {
            let insert = "INSERT INTO effects (number, aircraft) VALUES (?1, ?2)";
            transaction.execute(insert, params![number, aircraft])
        });
        match handled.await {
            // Where the lease was lost, somebody else has it now, and finds it in the ledger.
            Ok(_) | Err(HandleError::Settle(_)) => {}
            Err(HandleError::Effect(error)) => return Err(error.into()),
        }
    }
}

/// Connections that a client has made.
fn connections(client: &Client) -> u64 {
    client.paths().iter().map(|path| path.connections).sum()
}

/// Runs it.
///
/// # Errors
/// When the run could not be carried out.
pub async fn run(options: &FlightsOptions) -> Result<Report, Failed> {
    let (mut server, scratch) = watchful(&options.yard, SHARDS).await?;
    let database = scratch.path().join("books.db");
    let result = run_on(options, &mut server, database).await;
    keep_if_wrong(&mut server, &result);
    result
}

async fn run_on(
    options: &FlightsOptions,
    server: &mut Server,
    database: PathBuf,
) -> Result<Report, Failed> {
    let client = server.client("flights").await?;
    let create = TopicCreate { r#type: TopicType::Ordered, ..topic(TOPIC) };
    client.admin().call(create).await?;
    let flights: Vec<Line> =
        lines(&options.file)?.take(options.messages).collect::<Result<_, _>>()?;
    let make = |number: u64| {
        let Line { text, aircraft } = &flights[number as usize];
        let aircraft = aircraft.as_deref().unwrap_or(NO_AIRCRAFT);
        Message::new(text.clone()).property(NUMBER, number.to_string()).order_group(aircraft)
    };
    let count = flights.len() as u64;
    fill(&client, TOPIC, count, make, |_| {}).await?;
    let books = open(&database)?;
    let part = PartOptions {
        context: server.context_path(),
        database,
        name: String::new(),
        messages: count,
        seed: 0,
    };
    let mut crew = Crew::start(&options.life, PART, part, HANDLERS)?;
    let (mut kills, mut held) = (0, 0);
    while lag(&client, GROUP).await? > 0 {
        tokio::time::sleep(options.every).await;
        // However slow the machine is, they get on between two kills.
        let before = effects(&books)?;
        let get_on = || async {
            let has_moved = effects(&books).ok()? > before + HANDLERS as u64;
            (has_moved || lag(&client, GROUP).await.ok()? == 0).then_some(())
        };
        until("the others get on", get_on).await?;
        if kills == options.kills_max {
            continue;
        }
        let dead = crew.replace(kills as usize % HANDLERS).await?;
        held += held_by(&client, &dead).await?;
        kills += 1;
    }
    drop(crew);
    let mut report = Report::new("flights", format!("{count} flights, {kills} kills"));
    account(&books, flights.len(), (kills, held), &mut report)?;
    client.close().await;
    Ok(report)
}

/// How many effects there are.
fn effects(books: &SqliteLedger) -> rusqlite::Result<u64> {
    let query = "SELECT coalesce(max(place), 0) FROM effects";
    books.connection().query_row(query, [], |row| row.get(0))
}

/// Messages that a dead member has, as the broker knows it.
async fn held_by(client: &Client, name: &str) -> Result<u64, Failed> {
    let report = client.admin().call(GroupInfo { name: GROUP.to_owned() }).await?;
    let its = report.members.iter().filter(|member| member.member == name);
    Ok(its.map(|member| member.in_flight).sum())
}

fn account(
    books: &SqliteLedger,
    count: usize,
    (kills, held): (u64, u64),
    report: &mut Report,
) -> Result<(), Failed> {
    let mut query =
        books.connection().prepare("SELECT number, aircraft FROM effects ORDER BY place")?;
    let mut times = vec![0u64; count];
    let mut latest: HashMap<String, u64> = HashMap::new();
    let (mut disordered, mut foreign) = (0, 0);
    let rows = query.query_map([], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (number, aircraft) = row?;
        let Some(times) = times.get_mut(number as usize) else {
            foreign += 1;
            continue;
        };
        *times += 1;
        let before = latest.insert(aircraft, number);
        disordered += u64::from(before.is_some_and(|before| before >= number));
    }
    let lost = times.iter().filter(|times| **times == 0).count() as u64;
    let twice = times.iter().filter(|times| **times > 1).count() as u64;
    let query = "SELECT coalesce(sum(most - 1), 0)
                 FROM (SELECT max(attempt) AS most FROM again GROUP BY number)";
    let again: u64 = books.connection().query_row(query, [], |row| row.get(0))?;
    let query = "SELECT count(*) FROM lost";
    let ended: u64 = books.connection().query_row(query, [], |row| row.get(0))?;
    // What had been sent to each, and the one that it was at.
    let held_max = (kills + ended) * u64::from(CREDIT + 1);
    let aircraft = latest.len();
    report.tell(
        "redelivered",
        &format!(
            "{again}; the killed had {held} when the broker was asked, {held_max} at most with \
             {ended} connections that ended by themselves"
        ),
    );
    report.account(
        "effects",
        &[
            (lost, "lost"),
            (twice, "twice"),
            (foreign, "foreign"),
            (disordered, &format!("out of order of {aircraft} aircraft")),
            (again.saturating_sub(held_max), "redelivered that nobody held"),
        ],
    );
    Ok(())
}
