//! A ledger in SQLite: effects exactly once, however often a message comes.
use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use yard_client::Timestamp;
use yard_client::ledger::{Ledger, LedgerEntry, Once};

/// A database with a table `ledger` beside those of the application.
#[derive(Debug)]
pub struct SqliteLedger {
    connection: Connection,
}

impl SqliteLedger {
    /// Opens or makes the database; what was committed survives the loss of power.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS ledger (
                 id BLOB PRIMARY KEY, stored_ms INTEGER NOT NULL
             ) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS ledger_by_time ON ledger (stored_ms);",
        )?;
        Ok(Self { connection })
    }

    /// The database, for what the application has in it.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

fn stored_ms(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

impl Ledger for SqliteLedger {
    type Transaction<'t> = Transaction<'t>;
    type Error = rusqlite::Error;

    fn once<T>(
        &mut self,
        entry: LedgerEntry,
        effect: impl FnOnce(&mut Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Once<T>> {
        // Immediate: whoever comes second waits here, and finds the entry.
        let mut transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let noted = transaction.execute(
            "INSERT INTO ledger (id, stored_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![&entry.id.0[..], stored_ms(entry.stored)],
        )?;
        if noted == 0 {
            return Ok(Once::Before);
        }
        let value = effect(&mut transaction)?;
        transaction.commit()?;
        Ok(Once::Now(value))
    }

    fn forget(&mut self, stored_before: Timestamp) -> rusqlite::Result<u64> {
        let before = stored_ms(stored_before);
        let gone =
            self.connection.execute("DELETE FROM ledger WHERE stored_ms < ?1", params![before])?;
        Ok(gone as u64)
    }
}
