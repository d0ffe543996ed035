//! What the applications of a run have recorded of their own work: what becomes of transactions,
//! whoever is asked about them, and which messages are the same.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use yard_checker::{Event, Outcome, Scan, Sent, Time};
use yard_client::{MessageId, Transactions, TxVerdict};

use crate::counts::Counts;
use crate::planted::Plant;
use crate::recorder::Recorder;

/// What an application has recorded of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Working,
    /// It was done at this time.
    Committed(Time),
    /// It was given up.
    RolledBack,
}

#[derive(Default)]
struct Books {
    /// By the note that the transaction began with.
    works: BTreeMap<String, Fate>,
    /// Messages of transactions, as they were sent.
    sent: Vec<(String, Sent)>,
    /// Who can be asked when producers have ended.
    answering: Vec<Transactions>,
    /// The messages that were sent with each dedupe key,
    keyed: BTreeMap<u64, BTreeSet<MessageId>>,
    /// what the others call them,
    names: BTreeMap<(u64, u64), (u64, MessageId)>,
    /// and the one that somebody was promised to find in place of his.
    promised: BTreeMap<u64, MessageId>,
    counts: Counts,
}

/// The books of a run. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Ledger {
    books: Arc<Mutex<Books>>,
    recorder: Recorder,
    /// Where the bug is planted: who is asked about work does not say what was recorded of it.
    forgets: bool,
}

impl Ledger {
    pub(crate) fn new(recorder: Recorder, plant: Option<Plant>) -> Self {
        let forgets = plant == Some(Plant::VerdictChanges);
        Self { books: Arc::default(), recorder, forgets }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Nothing panics half-way through a change of them.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work begins.
    pub(crate) fn begin(&self, note: &str) {
        let before = self.lock().works.insert(note.to_owned(), Fate::Working);
        assert!(before.is_none(), "a note is of one transaction");
    }

    /// Work comes to its end; `is_orphaned`: whoever did it tells nobody.
    pub(crate) fn record(&self, note: &str, fate: Fate, is_orphaned: bool) {
        self.recorder.note(&[8, u64::from(is_orphaned)], || format!("{note}: {fate:?}"));
        let mut books = self.lock();
        let before = books.works.insert(note.to_owned(), fate);
        assert_eq!(before, Some(Fate::Working), "work ends once");
        match fate {
            Fate::Committed(_) => books.counts.committed += 1,
            Fate::RolledBack => books.counts.rolled_back += 1,
            Fate::Working => {}
        }
        books.counts.orphaned += u64::from(is_orphaned);
    }

    /// What an application says that is asked about work.
    pub(crate) fn verdict(&self, note: &str) -> TxVerdict {
        let fate = self.lock().works.get(note).copied();
        self.recorder.note(&[9], || format!("asked about {note}: {fate:?}"));
        match fate {
            Some(Fate::Working) => TxVerdict::Unknown,
            Some(Fate::Committed(_)) => TxVerdict::Commit,
            Some(Fate::RolledBack) if self.forgets => TxVerdict::Commit,
            Some(Fate::RolledBack) => TxVerdict::Rollback,
            None => {
                self.recorder.wrong(format!("asked about {note:?}, which nobody began"));
                TxVerdict::Unknown
            }
        }
    }

    /// A message of a transaction, for the history.
    pub(crate) fn keep(&self, note: &str, sent: Sent) {
        self.lock().sent.push((note.to_owned(), sent));
    }

    /// Goes on answering for a producer that has ended.
    pub(crate) fn answer_on(&self, transactions: Transactions) {
        self.lock().answering.push(transactions);
    }

    /// A delayed message was stored, and taken back or not.
    pub(crate) fn delayed(&self, is_back: bool) {
        let mut books = self.lock();
        books.counts.delayed += 1;
        books.counts.cancelled += u64::from(is_back);
    }

    /// A message, by its producer and number there, was sent with a dedupe key.
    pub(crate) fn keyed(&self, key: u64, name: (u64, u64), id: MessageId) {
        let mut books = self.lock();
        books.keyed.entry(key).or_default().insert(id);
        books.names.insert(name, (key, id));
    }

    /// Somebody was told that a message was not stored, because this one with its key was; whether
    /// that `holds` through everything.
    pub(crate) fn duplicate(
        &self,
        key: Option<u64>,
        own: MessageId,
        other: MessageId,
        holds: bool,
    ) {
        let mut books = self.lock();
        books.counts.duplicates += 1;
        let is_of_it = |key| books.keyed.get(&key).is_some_and(|ids| ids.contains(&other));
        let Some(key) = key.filter(|key| is_of_it(*key) && other != own) else {
            let what = format!("{own} was left out for {other}, which has not its key {key:?}");
            return self.recorder.wrong(what);
        };
        if holds {
            books.promised.insert(key, other);
        }
    }

    /// Everything was read: the messages of transactions are written down. Those of what was rolled
    /// back must never be seen, the others not before the work was done, and then for certain. Of
    /// the messages with a key there is one, the promised one.
    pub(crate) fn finish(&self, scans: &[Scan]) -> Counts {
        let books = std::mem::take(&mut *self.lock());
        for (note, mut sent) in books.sent {
            match books.works[&note] {
                Fate::Committed(at) => sent.due = Some(sent.due.map_or(at, |due| due.max(at))),
                Fate::RolledBack => sent.outcome = Outcome::Refused,
                Fate::Working => self.recorder.wrong(format!("{note} was never decided")),
            }
            self.recorder.push(Event::Send(sent));
        }
        let mut found: BTreeMap<u64, MessageId> = BTreeMap::new();
        for stored in scans.iter().flat_map(|scan| &scan.messages) {
            let name = (stored.producer, stored.seq);
            let Some((key, id)) = books.names.get(&name).copied() else { continue };
            if let Some(first) = found.insert(key, id) {
                self.recorder.wrong(format!("{first} and {id} are both stored with key {key}"));
            }
        }
        for (key, id) in books.promised {
            if found.get(&key) != Some(&id) {
                let is = found.get(&key);
                self.recorder.wrong(format!("{id} was stored with key {key}, now it is {is:?}"));
            }
        }
        books.counts
    }
}
