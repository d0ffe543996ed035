//! Processes die between the commit of an effect and its ack, again and again: with the ledger each
//! effect is there once, without it some are there twice.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ledger_sqlite::SqliteLedger;
use rusqlite::{Transaction, params};
use yard_client::ledger::{self, Ledger, LedgerEntry, Once};
use yard_client::wire::operation::{GroupSet, TopicCreate};
use yard_client::wire::retry::RetryPolicy;
use yard_client::{Client, Context, Message, Start, Timestamp, TlsOptions};
use yard_it::Scratch;
use yard_it::server::free_address;
use yard_server::config::Settings;

/// Messages of a run.
const MESSAGES: usize = 24;
/// A process dies with this commit.
const COMMITS: u32 = 5;
/// Says to a child where everything is.
const VARIABLE: &str = "LEDGER_TEST_CHILD";
/// Long enough for any machine to handle one message, and short for those who wait.
const LEASE: Duration = Duration::from_secs(1);

/// A ledger whose process dies right after a commit, before anybody hears of it.
struct Mortal {
    inner: SqliteLedger,
    commits: u32,
    /// It notes nothing, as an application without a ledger would not.
    forgetful: bool,
}

impl Ledger for Mortal {
    type Transaction<'t> = Transaction<'t>;
    type Error = rusqlite::Error;

    fn once<T>(
        &mut self,
        entry: LedgerEntry,
        effect: impl FnOnce(&mut Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Once<T>> {
        if self.forgetful {
            self.inner.connection().execute("DELETE FROM ledger", [])?;
        }
        let once = self.inner.once(entry, effect)?;
        self.commits += 1;
        if self.commits == COMMITS {
            std::process::abort();
        }
        Ok(once)
    }

    fn forget(&mut self, stored_before: Timestamp) -> rusqlite::Result<u64> {
        self.inner.forget(stored_before)
    }
}

async fn client(address: &str, authority_pem: String) -> Client {
    let server_name = Some("localhost".to_owned());
    let tls = TlsOptions { authority_pem, server_name, ..TlsOptions::default() };
    Client::builder().bootstrap([address]).tls(tls).connect().await.unwrap()
}

/// What a child does: handles messages until it dies or nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(places) = std::env::var(VARIABLE) else { return };
    let [address, authority, database, forgetful] = places.split('\n').collect::<Vec<_>>()[..]
    else {
        panic!("{places:?}");
    };
    let client = client(address, std::fs::read_to_string(authority).unwrap()).await;
    let inner = SqliteLedger::open(Path::new(database)).unwrap();
    let mut books = Mortal { inner, commits: 0, forgetful: forgetful == "true" };
    let consumer = client.consumer("payments", "books").start(Start::Earliest).lease(LEASE);
    // One ahead: what a dead process holds comes back when its lease ends.
    let mut payments = consumer.credit(1, 1 << 20).build().await.unwrap();
    loop {
        let payment = payments.recv().await.unwrap();
        let body = payment.body().unwrap().to_vec();
        if body == b"end" {
            payment.ack().await.unwrap();
            break;
        }
        let handled = ledger::handle(&mut books, &payment, |transaction| {
            transaction.execute("INSERT INTO effects (body) VALUES (?1)", params![body])
        });
        // A lease may end under a slow process: then the message comes again, and is found.
        let _ = handled.await;
    }
    client.close().await;
}

/// Runs children until one comes to the end; how many died, and how many effects each message has.
fn run(scratch: &Scratch, places: &[&str], database: &Path, forgetful: bool) -> (u32, Vec<i64>) {
    let books = SqliteLedger::open(database).unwrap();
    books.connection().execute_batch("CREATE TABLE effects (body BLOB NOT NULL)").unwrap();
    let database = database.to_str().unwrap();
    let variable = [places, &[database, &forgetful.to_string()]].concat().join("\n");
    let mut deaths = 0;
    loop {
        let output = std::fs::File::create(scratch.path().join("child.log")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child", "--nocapture"]).env(VARIABLE, &variable);
        child.stdout(output.try_clone().unwrap()).stderr(output).stdin(Stdio::null());
        if child.status().unwrap().success() {
            break;
        }
        deaths += 1;
        let log = std::fs::read_to_string(scratch.path().join("child.log")).unwrap();
        assert!(!log.contains("panicked"), "a child failed instead of dying: {log}");
        assert!(deaths <= 4 * MESSAGES as u32, "nothing gets on: {log}");
    }
    let mut query = books
        .connection()
        .prepare("SELECT count(*) FROM effects GROUP BY body ORDER BY body")
        .unwrap();
    let counts = query.query_map([], |row| row.get(0)).unwrap();
    (deaths, counts.map(Result::unwrap).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_are_there_once_however_often_processes_die() {
    let scratch = Scratch::new("ledger").unwrap();
    let reserved = free_address().unwrap();
    let settings = Settings::for_dev(scratch.path().join("data"), reserved.address);
    let running = yard_server::start(settings).await.unwrap();
    let connection = running.connection().clone();
    let authority = scratch.path().join("authority.pem");
    std::fs::write(&authority, &connection.authority).unwrap();
    let context = Context {
        addresses: connection.addresses.clone(),
        authority_pem: connection.authority,
        certificate_pem: connection.certificate,
        key_pem: connection.key,
        server_name: Some(connection.server_name),
        ..Context::default()
    };
    let client = Client::builder().context(context).connect().await.unwrap();
    // What a dead process held comes again soon, not after the ten seconds of the first level.
    let retry = Some(RetryPolicy::List(vec![100]));
    let set = GroupSet { name: "books".into(), retry, ..GroupSet::default() };
    client.admin().call(set).await.unwrap();
    for (name, forgetful) in [("kept.db", false), ("forgotten.db", true)] {
        // One queue: the end comes last.
        let create = TopicCreate { name: "payments".into(), queues: 1, ..TopicCreate::default() };
        client.admin().call(create).await.unwrap();
        let producer = client.producer("payments").build().await.unwrap();
        for number in 0..MESSAGES {
            producer.send(Message::new(format!("{number:04}").into_bytes())).await.unwrap();
        }
        // Behind whatever comes again: it is sent when the others are settled.
        let database = scratch.path().join(name);
        let address = connection.addresses[0].clone();
        let places = [address.as_str(), authority.to_str().unwrap()];
        let ender = tokio::spawn(end_when_settled(client.clone()));
        let (deaths, counts) =
            tokio::task::block_in_place(|| run(&scratch, &places, &database, forgetful));
        ender.await.unwrap();
        assert!(deaths >= 3, "{name}: only {deaths} processes died");
        assert_eq!(counts.len(), MESSAGES, "{name}: every message has its effect");
        if forgetful {
            assert!(counts.iter().any(|count| *count > 1), "the deaths would not be noticed");
        } else {
            assert!(counts.iter().all(|count| *count == 1), "exactly once: {counts:?}");
        }
        let remove = yard_client::wire::operation::TopicRm { name: "payments".into() };
        client.admin().call(remove).await.unwrap();
    }
    client.close().await;
    running.stop().await;
}

/// Sends the end when everything else is settled.
async fn end_when_settled(client: Client) {
    let group = || yard_client::wire::operation::GroupInfo { name: "books".into() };
    loop {
        let report = client.admin().call(group()).await;
        if report.is_ok_and(|report| !report.queues.is_empty() && report.lag == 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let producer = client.producer("payments").build().await.unwrap();
    producer.send(Message::new("end")).await.unwrap();
}
