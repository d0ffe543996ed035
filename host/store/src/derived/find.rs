//! Finding messages by id or key: a plan of the places to look at, carried out in portions.
use std::io;

use bytes::Bytes;
use yard_wire::record::{self, Record};
use yard_wire::{MessageId, QueueIndex, QueueOffset, RecordPlace, Timestamp, TopicId};

use super::walk::{KeptGroup, Step, Unread, Walk};
use super::{LogPlace, RecordView};
use crate::disk::{Disk, FileName};
use crate::error::ReadError;
use crate::format::keys::{KeyEntry, KeyHash, KeyHead, KeyMatches, KeyRun, RunBytes, Unusable};
use crate::format::segment::SegmentHeader;
use crate::read;

/// Bytes that are read of a record at first: most have no more.
const FIRST_BYTES: usize = 4 << 10;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyQuery {
    /// The message with this id, in any topic of any tenant: whoever asks must look at whose it
    /// is. There are several when a producer or a dead-letter topic repeated it.
    Id(MessageId),
    /// Messages of a topic with this key.
    Key {
        /// The topic.
        topic: TopicId,
        /// One of the message's keys.
        key: String,
    },
}

impl KeyQuery {
    fn hash(&self, salt: u64) -> KeyHash {
        match self {
            Self::Id(id) => KeyHash::of_id(salt, id),
            Self::Key { topic, key } => KeyHash::of_key(salt, *topic, key),
        }
    }

    fn matches(&self, record: &[u8], of: TopicId) -> bool {
        let Ok((found, mut keys)) = Record::peek_keys(record) else { return false };
        match self {
            Self::Id(id) => found == *id,
            Self::Key { topic, key } => of == *topic && keys.any(|found| found == key),
        }
    }
}

/// How much one portion may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyBudget {
    /// Bytes to read and to look through. The last thing that is looked at may go beyond it: a
    /// record, or a group of the log.
    pub bytes: u64,
    /// Messages to find.
    pub messages: usize,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFound {
    /// Topic of its queue.
    pub topic: TopicId,
    /// Its queue.
    pub queue: QueueIndex,
    /// Its offset in the queue.
    pub offset: QueueOffset,
    /// Where it lies, and when it was stored.
    pub place: RecordPlace,
    /// The whole record; its checksums hold.
    pub record: Bytes,
}

/// What a portion of a search found and what it covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyAnswer {
    /// In the order of the log.
    pub found: Vec<KeyFound>,
    /// Where to go on; `None` when the log was searched to its end.
    pub next: Option<LogPlace>,
    /// Newest stored time known to be covered: all that was stored before it was looked at, as
    /// far as the search's times reach. `None` when nothing was.
    pub covered: Option<Timestamp>,
    /// Bytes read and looked through.
    pub bytes: u64,
    /// Parts of the log that could not be read: first byte and the one after. What was looked for
    /// may have been there.
    pub unreadable: Vec<(LogPlace, LogPlace)>,
}

/// A part of the log, and where its ids and keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// In a file.
    File { header: SegmentHeader, part: KeyHead },
    /// In memory.
    Memory(KeyRun),
    /// Not indexed yet: its records are looked at.
    Rest { header: SegmentHeader, from: u32, to: u32, kept: Vec<KeptGroup> },
}

impl Piece {
    fn segment(&self) -> u32 {
        match self {
            Self::File { part, .. } => part.segment,
            Self::Memory(run) => run.head().segment,
            Self::Rest { header, .. } => header.segment,
        }
    }

    fn bounds(&self) -> (u32, u32) {
        match self {
            Self::File { part, .. } => (part.from, part.to),
            Self::Memory(run) => (run.head().from, run.head().to),
            Self::Rest { from, to, .. } => (*from, *to),
        }
    }

    fn begin(&self) -> LogPlace {
        LogPlace { segment: self.segment(), offset: self.bounds().0 }
    }

    /// Place after its last byte.
    pub(super) fn end(&self) -> LogPlace {
        LogPlace { segment: self.segment(), offset: self.bounds().1 }
    }
}

/// A plan of a search: what was durable when it was made. Any thread carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySearch {
    query: KeyQuery,
    /// Oldest and newest stored time that is wanted, both included.
    times: (Timestamp, Timestamp),
    from: LogPlace,
    /// In the order of the log.
    pieces: Vec<Piece>,
}

impl KeySearch {
    pub(super) fn new(
        query: KeyQuery,
        times: (Timestamp, Timestamp),
        from: LogPlace,
        pieces: Vec<Piece>,
    ) -> Self {
        assert!(pieces.is_sorted_by_key(Piece::begin), "pieces come in the order of the log");
        Self { query, times, from, pieces }
    }

    /// The segments of which a portion that ends at `next` has looked at something, in order.
    pub fn segments(&self, next: Option<LogPlace>) -> impl Iterator<Item = u32> {
        let pieces = self.pieces.iter();
        let looked = pieces.take_while(move |piece| next.is_none_or(|next| piece.begin() < next));
        let mut last = None;
        looked.filter_map(move |piece| {
            let segment = piece.segment();
            (last.replace(segment) != Some(segment)).then_some(segment)
        })
    }

    /// Looks until the budget is used up or the end is reached; looks at one thing at least. To
    /// go on, ask the store for a plan from [`KeyAnswer::next`] on.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read. A file of the key index that is damaged or gone
    /// is done without: its part of the log is looked through, and a damaged one removed, so that
    /// it is made again when the log is opened.
    pub fn run(&self, disk: &dyn Disk, budget: KeyBudget) -> Result<KeyAnswer, ReadError> {
        let mut portion =
            Portion { search: self, disk, budget, has_begun: false, answer: KeyAnswer::default() };
        for piece in &self.pieces {
            let from = piece.begin().max(self.from);
            if portion.is_used_up() {
                portion.answer.next = Some(from);
                break;
            }
            portion.look(piece, from.offset)?;
            if portion.answer.next.is_some() {
                break;
            }
        }
        assert!(portion.answer.next.is_none_or(|next| next >= self.from), "a search goes forward");
        Ok(portion.answer)
    }
}

/// A search at work.
struct Portion<'a> {
    search: &'a KeySearch,
    disk: &'a dyn Disk,
    budget: KeyBudget,
    /// Something was looked at: it may stop.
    has_begun: bool,
    answer: KeyAnswer,
}

impl Portion<'_> {
    fn is_used_up(&self) -> bool {
        let KeyBudget { bytes, messages } = self.budget;
        self.has_begun && (self.answer.bytes >= bytes || self.answer.found.len() >= messages)
    }

    fn is_wanted(&self, stored: Timestamp) -> bool {
        let (oldest, newest) = self.search.times;
        (oldest..=newest).contains(&stored)
    }

    fn covers(&mut self, stored: Timestamp) {
        self.answer.covered = self.answer.covered.max(Some(stored));
    }

    fn stop(&mut self, segment: u32, offset: u32) {
        assert!(self.answer.next.is_none(), "a portion stops once");
        self.answer.next = Some(LogPlace { segment, offset });
    }

    /// Looks at what of a piece lies at `from` or behind.
    fn look(&mut self, piece: &Piece, from: u32) -> Result<(), ReadError> {
        match piece {
            Piece::Memory(run) => {
                let looked = self.look_up(RunBytes::Memory(run), from)?;
                assert!(looked.is_ok(), "a run in memory is what was made");
                Ok(())
            }
            Piece::File { header, part } => {
                let found = self.answer.found.len();
                if self.look_up(RunBytes::File(self.disk, part), from)?.is_ok() {
                    return Ok(());
                }
                self.answer.found.truncate(found);
                // When this fails as well, the next search meets the file again.
                let _ = self.disk.remove(part.name());
                self.look_through(*header, (part.from, part.to), &[], from)
            }
            Piece::Rest { header, from: begin, to, kept } => {
                self.look_through(*header, (*begin, *to), kept, from)
            }
        }
    }

    fn look_up(&mut self, run: RunBytes<'_>, from: u32) -> Result<Result<(), Unusable>, ReadError> {
        let head = *run.head();
        let (oldest, newest) = self.search.times;
        if head.entries == 0 || head.last < oldest || head.first > newest {
            self.covers(head.last);
            return Ok(Ok(()));
        }
        self.answer.bytes += KeyMatches::READ_BYTES;
        let mut matches = match run.find(self.search.query.hash(head.salt), from) {
            Ok(matches) => matches,
            Err(unusable) => return Ok(Err(unusable)),
        };
        loop {
            let entry = match matches.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(unusable) => return Ok(Err(unusable)),
            };
            if self.is_used_up() {
                self.stop(head.segment, entry.place);
                return Ok(Ok(()));
            }
            if self.is_wanted(entry.stored) {
                self.take_entry(head.segment, &entry)?;
            } else {
                self.answer.bytes += size_of::<KeyEntry>() as u64;
            }
            self.has_begun = true;
            self.covers(entry.stored);
        }
        self.has_begun = true;
        self.covers(head.last);
        Ok(Ok(()))
    }

    /// Reads the record of an entry and takes it if it is one.
    fn take_entry(&mut self, segment: u32, entry: &KeyEntry) -> Result<(), ReadError> {
        let record = match read_record(self.disk, segment, entry) {
            Ok(record) => record,
            // Removed in the meantime, as the settings say.
            Err(ReadError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(ReadError::Damaged { .. }) => {
                let at = LogPlace { segment, offset: entry.place };
                let end = LogPlace { segment, offset: entry.place + record::HEADER_BYTES as u32 };
                self.answer.unreadable.push((at, end));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.answer.bytes += record.bytes().len() as u64;
        let (topic, queue) = (record.topic(), record.queue());
        assert!(record.bytes().len() >= record::HEADER_BYTES, "a parsed record is whole");
        if self.search.query.matches(record.bytes(), topic) {
            let bytes = record.bytes().len() as u32;
            let (offset, stored) = (entry.offset, entry.stored);
            let (offset_in, released) = (entry.place, entry.released);
            let place = RecordPlace { segment, offset: offset_in, bytes, stored, released };
            let record = record.bytes().clone();
            self.answer.found.push(KeyFound { topic, queue, offset, place, record });
        }
        Ok(())
    }

    /// Looks at every record of a part of a segment, group by group.
    fn look_through(
        &mut self,
        header: SegmentHeader,
        bounds: (u32, u32),
        kept: &[KeptGroup],
        from: u32,
    ) -> Result<(), ReadError> {
        assert!(bounds.0 <= from && from <= bounds.1, "it begins in its part");
        let segment = header.segment;
        let name = FileName::Segment(segment);
        let failed = |source| ReadError::Disk { name, offset: from.into(), source };
        let mut walk = Walk::new(self.disk, header, kept, bounds);
        walk.skip_to(from).map_err(failed)?;
        loop {
            let step = match walk.next() {
                Ok(Some(step)) => step,
                Ok(None) => return Ok(()),
                // Removed in the meantime, as the settings say.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(error)),
            };
            let (begin, end) = match &step {
                Step::Group(group) => (group.from, group.to),
                Step::Damaged { from, to } => (*from, *to),
            };
            if end <= from {
                continue;
            }
            if self.is_used_up() {
                self.stop(segment, begin.max(from));
                return Ok(());
            }
            self.answer.bytes += u64::from(end - begin);
            self.has_begun = true;
            let place = |offset| LogPlace { segment, offset };
            let Step::Group(group) = step else {
                self.answer.unreadable.push((place(begin), place(end)));
                continue;
            };
            if group.header.stored > self.search.times.1 {
                self.covers(self.search.times.1);
                return Ok(());
            }
            let mut rest = None;
            let read = walk.each_record(&group, |record| {
                if record.place.offset >= from && rest.is_none() && !self.take_view(record) {
                    rest = Some(record.place.offset);
                }
            });
            match read {
                Ok(()) => {}
                Err(Unread::Damaged) => self.answer.unreadable.push((place(begin), place(end))),
                Err(Unread::Disk(source)) => return Err(failed(source)),
            }
            if let Some(rest) = rest {
                self.stop(segment, rest);
                return Ok(());
            }
            self.covers(group.header.stored);
        }
    }

    /// Takes a record that matches; false when there is no more room.
    fn take_view(&mut self, record: &RecordView<'_>) -> bool {
        let is_it = self.is_wanted(record.place.stored)
            && self.search.query.matches(record.bytes, record.topic);
        if !is_it {
            return true;
        }
        if !self.answer.found.is_empty() && self.answer.found.len() >= self.budget.messages {
            return false;
        }
        if Record::check(record.bytes).is_err() {
            let at = record.at();
            let end = LogPlace { segment: at.segment, offset: at.offset + record.place.bytes };
            self.answer.unreadable.push((at, end));
            return true;
        }
        let RecordView { topic, queue, offset, place, bytes } = *record;
        let record = Bytes::copy_from_slice(bytes);
        self.answer.found.push(KeyFound { topic, queue, offset, place, record });
        true
    }
}

/// Reads a record of which only the place is known.
fn read_record(disk: &dyn Disk, segment: u32, entry: &KeyEntry) -> Result<Record, ReadError> {
    let name = FileName::Segment(segment);
    let offset = u64::from(entry.place);
    let failed = |source| ReadError::Disk { name, offset, source };
    let damaged = |why| ReadError::Damaged { name, offset, why };
    if entry.released {
        return read::release_at(disk, segment, entry.place);
    }
    let left = disk.len(name).map_err(failed)?.saturating_sub(offset);
    let mut bytes = vec![0; left.min(FIRST_BYTES as u64) as usize];
    disk.read_at(name, offset, &mut bytes).map_err(failed)?;
    let length = Record::announced_length(&bytes).map_err(damaged)?;
    let there = bytes.len();
    if length > there {
        if length as u64 > left {
            let why = yard_wire::Malformed::Short { wanted: length as u64, left };
            return Err(damaged(why));
        }
        bytes.resize(length, 0);
        disk.read_at(name, offset + there as u64, &mut bytes[there..]).map_err(failed)?;
    }
    bytes.truncate(length);
    Record::parse(bytes.into()).map_err(damaged)
}
