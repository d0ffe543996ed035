//! One message, several times: its effect and its entry are there once, both or neither.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]
use std::sync::mpsc;
use std::time::Duration;

use ledger_sqlite::SqliteLedger;
use rusqlite::{Transaction, params};
use yard_client::ledger::{self, HandleError, Ledger, LedgerEntry, Once};
use yard_client::wire::operation::{GroupSet, TopicCreate};
use yard_client::wire::retry::RetryPolicy;
use yard_client::{Client, Code, Consumer, Context, Delivery, MessageId, Start, Timestamp};
use yard_it::Scratch;
use yard_it::server::free_address;
use yard_it::wait::within;
use yard_server::config::Settings;

fn open(scratch: &Scratch) -> SqliteLedger {
    let books = SqliteLedger::open(&scratch.path().join("books.db")).unwrap();
    let table = "CREATE TABLE IF NOT EXISTS effects (what TEXT NOT NULL)";
    books.connection().execute_batch(table).unwrap();
    books
}

fn effect(transaction: &mut Transaction<'_>, what: &str) -> rusqlite::Result<usize> {
    transaction.execute("INSERT INTO effects (what) VALUES (?1)", params![what])
}

/// It does something before it fails.
fn failing(transaction: &mut Transaction<'_>) -> rusqlite::Result<usize> {
    effect(transaction, "half of it")?;
    Err(rusqlite::Error::InvalidQuery)
}

fn effects(books: &SqliteLedger) -> Vec<String> {
    let mut query = books.connection().prepare("SELECT what FROM effects ORDER BY rowid").unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn entry(number: u128, stored: u64) -> LedgerEntry {
    LedgerEntry { id: MessageId::new(Timestamp(1), number), stored: Timestamp(stored) }
}

#[test]
fn an_effect_is_done_once_and_one_that_fails_leaves_nothing() {
    let scratch = Scratch::new("once").unwrap();
    let mut books = open(&scratch);
    assert!(books.once(entry(1, 100), failing).is_err());
    assert_eq!(effects(&books), [""; 0], "neither the effect nor the entry");
    let once = |books: &mut SqliteLedger, number| {
        books.once(entry(number, 100), |it| effect(it, &number.to_string())).unwrap()
    };
    assert_eq!(once(&mut books, 1), Once::Now(1));
    assert_eq!(once(&mut books, 1), Once::Before);
    assert_eq!(once(&mut books, 2), Once::Now(1));
    // Somebody else who opens it finds out, too; a later delivery may name another instant.
    let mut other = open(&scratch);
    assert_eq!(once(&mut other, 2), Once::Before);
    assert_eq!(other.once(entry(1, 999), |it| effect(it, "again")).unwrap(), Once::Before);
    assert_eq!(effects(&books), ["1", "2"]);
}

#[test]
fn entries_are_forgotten_by_their_age_and_then_count_no_more() {
    let scratch = Scratch::new("once").unwrap();
    let mut books = open(&scratch);
    for number in 1..=3 {
        books.once(entry(number, number as u64 * 100), |it| effect(it, "first")).unwrap();
    }
    assert_eq!(books.forget(Timestamp(100)).unwrap(), 0, "what was stored then is kept");
    assert_eq!(books.forget(Timestamp(300)).unwrap(), 2);
    let mut again = |number| books.once(entry(number, 0), |it| effect(it, "again")).unwrap();
    assert_eq!([again(2), again(3)], [Once::Now(1), Once::Before]);
}

#[test]
fn of_two_at_the_same_time_one_waits_and_finds_the_entry() {
    let scratch = Scratch::new("once").unwrap();
    let (mut one, mut two) = (open(&scratch), open(&scratch));
    let (begins, begun) = mpsc::channel();
    std::thread::scope(|scope| {
        let second = scope.spawn(move || {
            begun.recv().unwrap();
            two.once(entry(1, 1), |it| effect(it, "second")).unwrap()
        });
        let first = one.once(entry(1, 1), |it| {
            // From here on the other tries to, too.
            begins.send(()).unwrap();
            effect(it, "first")
        });
        assert_eq!(first.unwrap(), Once::Now(1));
        assert_eq!(second.join().unwrap(), Once::Before);
    });
    assert_eq!(effects(&one), ["first"]);
}

async fn next(consumer: &mut Consumer) -> Delivery {
    within("a delivery", consumer.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_delivered_again_and_what_was_not_acked_is_found() {
    let scratch = Scratch::new("once").unwrap();
    let reserved = free_address().unwrap();
    let settings = Settings::for_dev(scratch.path().join("data"), reserved.address);
    let running = yard_server::start(settings).await.unwrap();
    let connection = running.connection().clone();
    let context = Context {
        addresses: connection.addresses,
        authority_pem: connection.authority,
        certificate_pem: connection.certificate,
        key_pem: connection.key,
        server_name: Some(connection.server_name),
        ..Context::default()
    };
    let client = Client::builder().context(context).connect().await.unwrap();
    let create = TopicCreate { name: "payments".into(), queues: 1, ..TopicCreate::default() };
    client.admin().call(create).await.unwrap();
    let retry = Some(RetryPolicy::List(vec![10]));
    let set = GroupSet { name: "books".into(), retry, ..GroupSet::default() };
    client.admin().call(set).await.unwrap();
    let consumer = client.consumer("payments", "books").start(Start::Earliest);
    let mut payments = consumer.lease(Duration::from_secs(60)).build().await.unwrap();
    client.producer("payments").build().await.unwrap().send("25".into()).await.unwrap();
    let mut books = open(&scratch);

    let first = next(&mut payments).await;
    let failed = ledger::handle(&mut books, &first, failing).await;
    assert!(matches!(failed, Err(HandleError::Effect(_))), "{failed:?}");
    let second = next(&mut payments).await;
    assert_eq!((second.id(), second.attempt()), (first.id(), 2));
    // It is not the consumer's any more, as when its process is cut off.
    payments.pause();
    within("the end of the subscription", async {
        while second.extend(Duration::from_secs(1)).await.is_ok() {}
    })
    .await
    .unwrap();
    let unsettled = ledger::handle(&mut books, &second, |it| effect(it, "25")).await;
    let Err(HandleError::Settle(error)) = unsettled else { panic!("{unsettled:?}") };
    assert_eq!(error.code, Code::LeaseLost, "{error}");
    payments.resume();
    let third = next(&mut payments).await;
    assert_eq!((third.id(), third.attempt()), (first.id(), 3));
    let found = ledger::handle(&mut books, &third, |it| effect(it, "25")).await.unwrap();
    assert_eq!(found, Once::Before);
    assert_eq!(effects(&books), ["25"]);
    client.close().await;
    running.stop().await;
}
