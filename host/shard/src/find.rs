//! Searches as plans: what to look at is known here, looking is done by whoever may wait for a
//! disk.
use std::collections::BTreeSet;

use yard_broker::{Findings, Hit, Search};
use yard_store::{
    Disk, KeyAnswer, KeyBudget, KeyFound, KeyQuery, KeySearch, LogPlace, ReadError, Sought, Store,
    TimeSearch,
};
use yard_wire::limits::FIND_RECORDS_MAX;
use yard_wire::requests::{Covered, FindCursor};
use yard_wire::{QueueOffset, Timestamp};

/// Bytes that one request reads and looks through at most, the last group or record aside: some
/// milliseconds of a processor where ids and keys are not indexed yet.
pub const FIND_READ_BYTES_MAX: u64 = 8 << 20;
/// Bytes of index blocks that a search by time reads at a go; bisecting takes a fraction.
const SEEK_READ_BYTES_MAX: u64 = 1 << 20;

/// A search by id or key.
#[derive(Clone, Debug)]
pub struct FindPlan {
    search: KeySearch,
    /// Times that were asked for, and no less than the log holds: first and last.
    times: (Timestamp, Timestamp),
    records_max: u32,
}

impl FindPlan {
    pub(crate) fn new(
        store: &Store,
        search: Search,
        after: Option<FindCursor>,
        records_max: u32,
    ) -> Self {
        assert!(records_max > 0, "something may be found");
        let (query, mut times, records_max) = match search {
            // Whose they are is looked at later: those of others must not end the search.
            Search::Id(id) => {
                (KeyQuery::Id(id), (Timestamp(0), Timestamp(u64::MAX)), FIND_RECORDS_MAX)
            }
            Search::Key { topic, key, from, to } => {
                assert!(from < to, "the broker checked the times");
                (KeyQuery::Key { topic, key }, (from, Timestamp(to.0 - 1)), records_max)
            }
        };
        let from = after.map_or(LogPlace::default(), |FindCursor { segment, offset }| LogPlace {
            segment,
            offset,
        });
        let search = store.key_search(query, times, from);
        let began = search.segments(None).next().and_then(|segment| store.began(segment));
        times.0 = times.0.max(began.unwrap_or_default());
        Self { search, times, records_max }
    }

    /// Looks as far as the budget of one request goes.
    ///
    /// # Errors
    /// [`ReadError`] when the disk fails; what is damaged is counted instead.
    pub fn run(&self, disk: &dyn Disk) -> Result<Findings, ReadError> {
        let budget = KeyBudget { bytes: FIND_READ_BYTES_MAX, messages: self.records_max as usize };
        let KeyAnswer { found, next, covered, unreadable, .. } = self.search.run(disk, budget)?;
        let (from, newest) = self.times;
        let to = covered.unwrap_or_default().min(newest).max(from);
        let segments = self.search.segments(next).count() as u32;
        let unreadable_bytes = unreadable.iter().map(|(from, to)| to.to_u64() - from.to_u64());
        let times = if segments == 0 { Default::default() } else { (from, to) };
        // What a segment that goes holds and is kept lies behind it as well, until that is gone.
        let mut known = BTreeSet::new();
        let found = found.into_iter();
        let once = found.filter(|it| known.insert((it.topic, it.queue, it.offset)));
        Ok(Findings {
            hits: once.map(hit).collect(),
            covered: Covered {
                segments,
                from: times.0,
                to: times.1,
                unreadable_bytes: unreadable_bytes.sum(),
            },
            next: next.map(|LogPlace { segment, offset }| FindCursor { segment, offset }),
        })
    }
}

fn hit(found: KeyFound) -> Hit {
    let KeyFound { topic, queue, offset, place, record } = found;
    let at = FindCursor { segment: place.segment, offset: place.offset };
    Hit { topic, queue, offset, stored: place.stored, at, record }
}

/// A search by time in an index that must be read.
#[derive(Clone, Debug)]
pub struct SeekPlan(pub(crate) TimeSearch);

impl SeekPlan {
    /// The offset of the first message stored at the time or later.
    ///
    /// # Errors
    /// [`ReadError`] when neither index nor log can be read.
    pub fn run(self, disk: &dyn Disk) -> Result<QueueOffset, ReadError> {
        let mut search = self.0;
        loop {
            match search.run(disk, SEEK_READ_BYTES_MAX)? {
                Sought::At(offset) => return Ok(offset),
                Sought::Read(rest) => search = rest,
            }
        }
    }
}
