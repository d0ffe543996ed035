//! Messages of a queue that were delivered and came back, with what is known of their failures.
//!
//! Bounded: as many as [`crate::bounds::UNSETTLED_MAX`], 80 bytes each, and their error texts by
//! [`crate::bounds::ERRORS_BYTES_MAX`].
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use yard_wire::limits::ERROR_TEXT_BYTES_MAX;
use yard_wire::{Malformed, QueueOffset, Timestamp, Wire};

use crate::bounds::{ERRORS_BYTES_MAX, UNSETTLED_MAX};
use crate::entry::Doom;
use crate::saving::Snapshot;

/// What is known of a message that was delivered and came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    /// How often it was delivered.
    pub(crate) attempts: u32,
    /// Not before this instant; 0: at once.
    pub(crate) due: Timestamp,
    /// When it was delivered first, as far as it is recorded.
    pub(crate) first: Timestamp,
    /// When it was delivered last.
    pub(crate) last: Timestamp,
    /// What a consumer said last. Messages that were settled together share it.
    pub(crate) error: Option<Arc<str>>,
    /// It does not come again: it becomes a dead letter.
    pub(crate) doom: Option<Doom>,
    /// It does not come again until somebody unblocks its order group, and why.
    pub(crate) stopped: Option<Doom>,
}

impl Returned {
    fn error_bytes(&self) -> usize {
        self.error.as_ref().map_or(0, |error| error.len())
    }
}

/// The messages of one queue that came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReturnedSet {
    messages: OrdMap<QueueOffset, Returned>,
    /// Those that become dead letters.
    doomed: BTreeSet<QueueOffset>,
    /// Bytes of their error texts.
    error_bytes: usize,
}

impl ReturnedSet {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn get(&self, offset: QueueOffset) -> Option<&Returned> {
        self.messages.get(&offset)
    }

    /// From the delivery before the one that is due, or was, until that; 0 where there is none.
    pub(crate) fn delay_ms(&self, offset: QueueOffset) -> u64 {
        self.get(offset).map_or(0, |it| it.due.0.saturating_sub(it.last.0))
    }

    pub(crate) fn doomed_count(&self) -> usize {
        self.doomed.len()
    }

    /// The first messages that become dead letters, of those that follow each other; at most `max`.
    pub(crate) fn first_doomed(&self, max: u32) -> Option<(QueueOffset, u32)> {
        let first = *self.doomed.first()?;
        let next = (first.0..).map(QueueOffset).zip(&self.doomed);
        let count = next.take(max as usize).take_while(|(next, at)| next == *at).count();
        Some((first, count as u32))
    }

    pub(crate) fn contains(&self, offset: QueueOffset) -> bool {
        self.messages.contains_key(&offset)
    }

    /// From an offset on, in order.
    pub(crate) fn from(&self, from: QueueOffset) -> impl Iterator<Item = (QueueOffset, &Returned)> {
        self.messages.range(from..).map(|(offset, returned)| (*offset, returned))
    }

    /// Offset after the last.
    pub(crate) fn end(&self) -> QueueOffset {
        self.messages.get_max().map_or(QueueOffset(0), |(at, _)| QueueOffset(at.0 + 1))
    }

    /// Takes in that a message came back, or came back again.
    pub(crate) fn insert(&mut self, offset: QueueOffset, mut returned: Returned) {
        if let Some(known) = self.messages.remove(&offset) {
            self.error_bytes -= known.error_bytes();
            returned.attempts = returned.attempts.max(known.attempts);
            returned.first = known.first;
            returned.last = returned.last.max(known.first);
            returned.error = returned.error.or(known.error);
            returned.doom = returned.doom.or(known.doom);
        }
        if self.error_bytes + returned.error_bytes() > ERRORS_BYTES_MAX {
            returned.error = None;
        }
        self.error_bytes += returned.error_bytes();
        if returned.doom.is_some() {
            returned.stopped = None;
            self.doomed.insert(offset);
        }
        self.messages.insert(offset, returned);
    }

    /// Forgets all but those that become dead letters.
    pub(crate) fn keep_doomed(&mut self) {
        let going = self.messages.iter().filter(|(_, returned)| returned.doom.is_none());
        let going: Vec<QueueOffset> = going.map(|(offset, _)| *offset).collect();
        for offset in going {
            self.messages.remove(&offset);
        }
        self.error_bytes = self.messages.values().map(Returned::error_bytes).sum();
        assert_eq!(self.messages.len(), self.doomed.len(), "what is doomed is listed");
    }

    /// Forgets the messages of a range.
    pub(crate) fn forget(&mut self, from: QueueOffset, to: QueueOffset) {
        while let Some((offset, returned)) = self.messages.range(from..to).next() {
            let offset = *offset;
            self.error_bytes -= returned.error_bytes();
            self.messages.remove(&offset);
            self.doomed.remove(&offset);
        }
    }

    pub(crate) fn check(&self) {
        let bytes: usize = self.messages.values().map(Returned::error_bytes).sum();
        assert_eq!(bytes, self.error_bytes, "error texts are counted");
        assert!(bytes <= ERRORS_BYTES_MAX, "error texts are bounded");
        let doomed = self.messages.iter().filter(|(_, returned)| returned.doom.is_some());
        assert!(doomed.map(|(offset, _)| offset).eq(&self.doomed), "what is doomed is listed");
        for returned in self.messages.values() {
            assert!(returned.attempts >= 1, "what came back was delivered");
            let is_over = returned.doom.is_some() && returned.stopped.is_some();
            assert!(!is_over, "what becomes a dead letter stops nothing");
            assert!(returned.first <= returned.last, "the first delivery is the first");
        }
    }
}

/// `u32` count and texts, then `u32` count and runs of messages alike: `u64` from, `u64` to, `u32`
/// attempts, `u64` due, `u64` first, `u64` last, `u32` number of the text from 1 or 0, optional
/// reason of a dead letter, optional reason why it has stopped its order group.
impl ReturnedSet {
    pub(crate) fn save(&self, out: &mut Snapshot) {
        assert!(self.doomed.len() <= self.len(), "what is doomed came back");
        out.share(self.len(), &self.messages, put_returned);
    }

    pub(crate) fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let texts = error_texts(Vec::take(input)?)?;
        let mut set = Self::default();
        for _ in 0..u32::take(input)? {
            let (from, to) = (QueueOffset::take(input)?, QueueOffset::take(input)?);
            let returned = Returned {
                attempts: u32::take(input)?,
                due: Timestamp::take(input)?,
                first: Timestamp::take(input)?,
                last: Timestamp::take(input)?,
                error: error_named(&texts, u32::take(input)?)?,
                doom: <Option<Doom> as Wire>::take(input)?,
                stopped: <Option<Doom> as Wire>::take(input)?,
            };
            let is_next = set.end() <= from && from < to && to.0 - from.0 <= UNSETTLED_MAX as u64;
            if !is_next || returned.attempts == 0 || returned.first > returned.last {
                return Err(Malformed::Field { what: "returned message", value: from.0 });
            }
            for offset in from.0..to.0 {
                set.insert(QueueOffset(offset), returned.clone());
            }
        }
        Ok(set)
    }
}

fn put_returned(messages: &OrdMap<QueueOffset, Returned>, out: &mut Vec<u8>) {
    let mut texts: Vec<String> = Vec::new();
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let mut runs: Vec<(QueueOffset, QueueOffset, &Returned, u32)> = Vec::new();
    for (offset, returned) in messages {
        let to = QueueOffset(offset.0 + 1);
        if let Some(run) = runs.last_mut().filter(|run| run.1 == *offset && run.2 == returned) {
            run.1 = to;
            continue;
        }
        let number = returned.error.as_deref().map_or(0, |text| {
            *numbers.entry(text).or_insert_with(|| {
                texts.push(text.to_owned());
                texts.len() as u32
            })
        });
        runs.push((*offset, to, returned, number));
    }
    texts.put(out);
    (runs.len() as u32).put(out);
    for (from, to, returned, error) in runs {
        from.put(out);
        to.put(out);
        returned.attempts.put(out);
        returned.due.put(out);
        returned.first.put(out);
        returned.last.put(out);
        error.put(out);
        returned.doom.put(out);
        returned.stopped.put(out);
    }
}

/// Error texts as they are kept, where each is within its bounds.
pub(crate) fn error_texts(texts: Vec<String>) -> Result<Vec<Arc<str>>, Malformed> {
    let max = ERROR_TEXT_BYTES_MAX;
    if let Some(long) = texts.iter().find(|text| text.len() > max) {
        let (found, max) = (long.len() as u64, max as u64);
        return Err(Malformed::Length { what: "error text", found, max });
    }
    Ok(texts.into_iter().map(Arc::from).collect())
}

/// The text of a number, 0 being none.
pub(crate) fn error_named(texts: &[Arc<str>], number: u32) -> Result<Option<Arc<str>>, Malformed> {
    let Some(at) = (number as usize).checked_sub(1) else {
        return Ok(None);
    };
    let text = texts.get(at).cloned();
    let unknown = Malformed::Field { what: "number of an error text", value: number.into() };
    text.map(Some).ok_or(unknown)
}
