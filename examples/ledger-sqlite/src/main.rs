//! Books payments into a SQLite database, each exactly once.
//!
//! ```text
//! yard serve --dev --data ./data                                           in one terminal
//! cargo run -p ledger-sqlite -- localhost:7420 ./data/tls/authority.pem books.db    in another
//! yard topic create payments && yard pub payments --message 'alice 25'     as often as you like
//! ```
//!
//! Stop it whenever you like, also with `kill -9`: the sums are right.
use std::error::Error;
use std::path::Path;

use ledger_sqlite::SqliteLedger;
use rusqlite::params;
use yard_client::ledger::{self, Once};
use yard_client::{Client, Start, TlsOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, authority, database] = &arguments[..] else {
        return Err("usage: ledger-sqlite ADDRESS AUTHORITY.pem DATABASE".into());
    };
    let authority_pem = std::fs::read_to_string(authority)?;
    let tls = TlsOptions { authority_pem, ..TlsOptions::default() };
    let client = Client::builder().bootstrap([address]).tls(tls).name("books").connect().await?;
    let mut books = SqliteLedger::open(Path::new(database))?;
    books.connection().execute_batch(
        "CREATE TABLE IF NOT EXISTS balances (name TEXT PRIMARY KEY, cents INTEGER NOT NULL)",
    )?;
    let mut payments = client.consumer("payments", "books").start(Start::Earliest).build().await?;
    loop {
        let payment = payments.recv().await?;
        let body = payment.body()?;
        let line = String::from_utf8_lossy(&body);
        let Some((name, cents)) = line
            .split_once(' ')
            .and_then(|(name, cents)| Some((name.to_owned(), cents.trim().parse::<i64>().ok()?)))
        else {
            println!("{}: not a payment: {line}", payment.id());
            payment.reject().await?;
            continue;
        };
        let booked = ledger::handle(&mut books, &payment, |transaction| {
            transaction.query_row(
                "INSERT INTO balances (name, cents) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET cents = cents + excluded.cents
                 RETURNING cents",
                params![name, cents],
                |row| row.get::<_, i64>(0),
            )
        });
        match booked.await? {
            Once::Now(balance) => println!("{}: {name} has {balance}", payment.id()),
            Once::Before => println!("{}: was booked before", payment.id()),
        }
    }
}
