//! What the producers of transactions have recorded of their own work: a table in SQLite that
//! outlives each of them. It says what is to become of a transaction; who says it first decides.
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

/// Longer than processes wait for each other.
const BUSY: Duration = Duration::from_secs(60);

/// What is to become of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Commit,
    Rollback,
    /// Nobody decides but an operator.
    Left,
}

impl Fate {
    fn number(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Rollback => 2,
            Self::Left => 3,
        }
    }

    fn of(number: Option<u8>) -> Option<Self> {
        [Self::Commit, Self::Rollback, Self::Left]
            .into_iter()
            .find(|it| number == Some(it.number()))
    }
}

/// One connection to the table, for all tasks of a process.
#[derive(Clone)]
pub(super) struct Work(Arc<Mutex<Connection>>);

impl Work {
    /// Opens or makes it. What is committed survives the death of any process, and that is all that
    /// dies here.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS work (number INTEGER PRIMARY KEY, fate INTEGER)",
        )?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that nobody has, from 1 to `count`; `None` when all are given out.
    pub(super) fn claim(&self, count: u64) -> rusqlite::Result<Option<u64>> {
        self.lock()
            .prepare_cached(
                "INSERT INTO work (fate) SELECT NULL
                 WHERE (SELECT coalesce(max(number), 0) FROM work) < ?1 RETURNING number",
            )?
            .query_row(params![count], |row| row.get(0))
            .optional()
    }

    /// How many are given out.
    pub(super) fn claimed(&self) -> rusqlite::Result<u64> {
        let query = "SELECT coalesce(max(number), 0) FROM work";
        self.lock().query_row(query, [], |row| row.get(0))
    }

    /// What is recorded of a number.
    pub(super) fn fate(&self, number: u64) -> rusqlite::Result<Option<Fate>> {
        let connection = self.lock();
        let mut query = connection.prepare_cached("SELECT fate FROM work WHERE number = ?1")?;
        let fate = query.query_row(params![number], |row| row.get(0)).optional()?;
        Ok(Fate::of(fate.flatten()))
    }

    /// Records what is to become of a number, unless that is recorded; what it is now.
    pub(super) fn decide(&self, number: u64, fate: Fate) -> rusqlite::Result<Option<Fate>> {
        self.lock()
            .prepare_cached("UPDATE work SET fate = ?2 WHERE number = ?1 AND fate IS NULL")?
            .execute(params![number, fate.number()])?;
        self.fate(number)
    }

    /// An operator records it, where nobody else would.
    pub(super) fn overrule(&self, number: u64, fate: Fate) -> rusqlite::Result<()> {
        self.lock()
            .prepare_cached("UPDATE work SET fate = ?2 WHERE number = ?1")?
            .execute(params![number, fate.number()])?;
        Ok(())
    }

    /// All of them, from 1 on.
    pub(super) fn all(&self) -> rusqlite::Result<Vec<Option<Fate>>> {
        let connection = self.lock();
        let mut query = connection.prepare("SELECT fate FROM work ORDER BY number")?;
        let fates = query.query_map([], |row| Ok(Fate::of(row.get(0)?)))?;
        fates.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    #[test]
    fn numbers_are_given_out_once_and_the_first_word_counts() {
        let scratch = Scratch::new("work").unwrap();
        let path = scratch.path().join("work.db");
        let (one, other) = (Work::open(&path).unwrap(), Work::open(&path).unwrap());
        assert_eq!(one.claim(2).unwrap(), Some(1));
        assert_eq!(other.claim(2).unwrap(), Some(2));
        assert_eq!((one.claim(2).unwrap(), one.claimed().unwrap()), (None, 2));
        assert_eq!(other.fate(1).unwrap(), None);
        assert_eq!(one.decide(1, Fate::Commit).unwrap(), Some(Fate::Commit));
        assert_eq!(other.decide(1, Fate::Rollback).unwrap(), Some(Fate::Commit));
        assert_eq!(one.decide(2, Fate::Left).unwrap(), Some(Fate::Left));
        other.overrule(2, Fate::Rollback).unwrap();
        assert_eq!(one.all().unwrap(), [Some(Fate::Commit), Some(Fate::Rollback)]);
        assert_eq!(one.fate(3).unwrap(), None, "it was never given out");
    }
}
