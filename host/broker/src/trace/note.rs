//! A note: one event of one message, as a record of the topic `$trace`.
//!
//! ```text
//!   born        when it happened           $key      topic/queue/offset, by number: its place
//!   tag         the event                  $key      id of the message, where that is known
//!   body        more, for people           topic, queue, offset, group, attempt
//! ```
use yard_wire::operation::TraceRow;
use yard_wire::record::{Flags, KEY, Record, RecordParts};
use yard_wire::{MessageId, QueueIndex, QueueOffset, Timestamp, TopicId};

use super::Place;
use crate::bounds::TRACE_DETAIL_BYTES_MAX;

const TOPIC: &str = "topic";
const QUEUE: &str = "queue";
const OFFSET: &str = "offset";
const GROUP: &str = "group";
const ATTEMPT: &str = "attempt";

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) at: Timestamp,
    pub(super) event: &'static str,
    pub(super) topic: TopicId,
    pub(super) topic_name: String,
    pub(super) queue: QueueIndex,
    /// None: it has no place yet.
    pub(super) offset: Option<QueueOffset>,
    pub(super) id: Option<MessageId>,
    /// Empty: none.
    pub(super) group: String,
    /// 0: none.
    pub(super) attempt: u32,
    pub(super) detail: String,
}

/// The key of what was noted of a message by its place.
pub(super) fn place_key((topic, queue, offset): Place) -> String {
    format!("{topic}/{queue}/{offset}")
}

/// The place that a key names.
fn place_of(key: &str) -> Option<Place> {
    let mut parts = key.split('/');
    let topic = TopicId(parts.next()?.parse().ok()?);
    let queue = QueueIndex(parts.next()?.parse().ok()?);
    let offset = QueueOffset(parts.next()?.parse().ok()?);
    parts.next().is_none().then_some((topic, queue, offset))
}

impl Note {
    /// Appends its record; `random` makes its id one of its own.
    pub(super) fn put(
        &self,
        (topic, queue): (TopicId, QueueIndex),
        random: u64,
        out: &mut Vec<u8>,
    ) {
        assert!(self.offset.is_some() || self.id.is_some(), "it is about something");
        let place = self.offset.map(|offset| place_key((self.topic, self.queue, offset)));
        let id = self.id.map(|id| id.to_string());
        let of_queue = self.queue.to_string();
        let offset = self.offset.map(|offset| offset.to_string());
        let attempt = (self.attempt > 0).then(|| self.attempt.to_string());
        let group = (!self.group.is_empty()).then_some(&self.group);
        let named = [
            (KEY, place.as_ref()),
            (KEY, id.as_ref()),
            (TOPIC, Some(&self.topic_name)),
            (QUEUE, Some(&of_queue)),
            (OFFSET, offset.as_ref()),
            (GROUP, group),
            (ATTEMPT, attempt.as_ref()),
        ];
        let known = named.into_iter().filter_map(|(name, value)| Some((name, value?.as_str())));
        let properties: Vec<(&str, &str)> = known.collect();
        let parts = RecordParts {
            topic,
            queue,
            id: MessageId::new(self.at, u128::from(random)),
            born: self.at,
            flags: Flags::NONE,
            tag: self.event,
            properties: &properties,
            body: clipped(&self.detail).as_bytes(),
        };
        parts.encode(out).expect("names and texts are bounded");
    }
}

/// As much of a text as a note has.
fn clipped(text: &str) -> &str {
    let mut end = text.len().min(TRACE_DETAIL_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a record of the notes says: the message's place, where it had one, and the event. `None`
/// for what no broker has written so.
pub(super) fn read(record: &Record) -> Option<(Option<Place>, TraceRow)> {
    let text = |name| record.property(name).unwrap_or_default().to_owned();
    let offset = match record.property(OFFSET) {
        Some(offset) => Some(QueueOffset(offset.parse().ok()?)),
        None => None,
    };
    let row = TraceRow {
        at_ms: record.born(),
        event: record.tag().to_owned(),
        topic: text(TOPIC),
        queue: QueueIndex(record.property(QUEUE)?.parse().ok()?),
        offset,
        group: text(GROUP),
        attempt: record.property(ATTEMPT).map_or(Some(0), |attempt| attempt.parse().ok())?,
        detail: String::from_utf8_lossy(&record.body()).into_owned(),
    };
    let place = offset.and_then(|_| record.keys().next().and_then(place_of));
    Some((place, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            at: Timestamp(1_000),
            event: "nacked",
            topic: TopicId(7),
            topic_name: "orders".to_owned(),
            queue: QueueIndex(3),
            offset: Some(QueueOffset(12)),
            id: None,
            group: "billing".to_owned(),
            attempt: 2,
            detail: "no such account".to_owned(),
        }
    }

    #[track_caller]
    fn written(note: &Note) -> (Option<Place>, TraceRow) {
        let mut out = Vec::new();
        note.put((TopicId(9), QueueIndex(1)), 5, &mut out);
        let record = Record::parse(out.into()).unwrap();
        assert_eq!((record.topic(), record.queue()), (TopicId(9), QueueIndex(1)));
        read(&record).unwrap()
    }

    #[test]
    fn what_is_noted_is_read() {
        let (place, row) = written(&note());
        assert_eq!(place, Some((TopicId(7), QueueIndex(3), QueueOffset(12))));
        assert_eq!((row.at_ms, &row.event[..], row.attempt), (Timestamp(1_000), "nacked", 2));
        assert_eq!((&row.topic[..], &row.group[..]), ("orders", "billing"));
        assert_eq!((row.offset, &row.detail[..]), (Some(QueueOffset(12)), "no such account"));
        let id = Some(MessageId([7; 16]));
        let (place, row) = written(&Note { offset: None, id, group: String::new(), ..note() });
        assert_eq!((place, row.offset, &row.group[..]), (None, None, ""));
    }

    #[test]
    fn long_texts_end_with_a_whole_character() {
        let detail = format!("x{}", "é".repeat(TRACE_DETAIL_BYTES_MAX));
        let (_, row) = written(&Note { detail, ..note() });
        assert_eq!(
            (row.detail.len(), row.detail.ends_with('é')),
            (TRACE_DETAIL_BYTES_MAX - 1, true)
        );
    }

    #[test]
    fn only_places_are_read_as_places() {
        let place = (TopicId(1), QueueIndex(2), QueueOffset(3));
        assert_eq!(place_of(&place_key(place)), Some(place));
        for text in ["", "1/2", "1/2/3/4", "a/2/3", "1/70000/3", "0197f3a2b4c5d6e7f8091a2b3c4d5e6f"]
        {
            assert_eq!(place_of(text), None, "{text:?}");
        }
    }
}
