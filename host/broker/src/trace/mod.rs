//! The lives of messages: what happened to those of a sampled share is noted in a topic of the
//! system, `$trace`, one of each tenant.
//!
//! ```text
//!   handle ──► effects ──► is any topic traced? ─no─► nothing: one look at two empty maps
//!                                └─yes─► notes of its sampled messages ──► a batch into $trace
//!   msg trace ID ──► search by id ──────► its places, and how groups stand there: any message
//!                └─► search in $trace ──► what was noted, by id and by place: the sampled share
//! ```
//!
//! A message is sampled by its place: topic, queue and offset are all that settling, leases and
//! dead letters know of it, in every shard and after a restart. What has no place yet is sampled by
//! its id. Nothing follows from a note, so none is owed: on a full disk there are none.
mod life;
mod note;
mod watch;

use std::collections::BTreeMap;

use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::name::TRACE_TOPIC;
use yard_wire::share::Share;
use yard_wire::units::{AgeLimit, SizeLimit};
use yard_wire::{
    Epoch, Lane, MessageId, ProducerId, QueueIndex, QueueOffset, Sequence, TenantId, Timestamp,
    TopicId,
};

use crate::bounds::{
    TRACE_ASK_MS, TRACE_NOTES_MAX, TRACE_NOTES_OF_SECOND_MAX, TRACE_RETAIN_BYTES, TRACE_RETAIN_MS,
};
use crate::broker::{Broker, METADATA_SHARD};
use crate::effect::Effect;
use crate::entry::Entry;
use crate::event::{Event, Origin, SessionId};
use crate::meta::{Settings, TopicLimits, TopicSettings};
use crate::meta_table::queues_on;
use crate::retention::DiskLevel;
use crate::retry::mix;
use life::Telling;
use note::Note;
use watch::Cause;

/// Who has written the notes, in their batches. Nothing numbers them: they are never sent again.
pub(crate) const NOTING: ProducerId = ProducerId(u64::MAX);

/// A message in its queue.
type Place = (TopicId, QueueIndex, QueueOffset);

/// What the topic of the notes keeps.
pub(crate) fn settings() -> Settings {
    let limits = TopicLimits {
        retain: AgeLimit(TRACE_RETAIN_MS),
        retain_bytes: SizeLimit(TRACE_RETAIN_BYTES),
        discard_unconsumed: true,
        ..TopicLimits::default()
    };
    assert!(limits.expire(), "notes do not stay for ever");
    TopicSettings { limits, ..TopicSettings::default() }.into()
}

/// Which topics are traced, and what is noted of their messages. Volatile: the first follows from
/// the metadata, the rest is on its way into the log.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    shares: BTreeMap<TopicId, Share>,
    /// Of each tenant, not more than [`TRACE_NOTES_MAX`].
    notes: BTreeMap<TenantId, Vec<Note>>,
    /// How many each tenant has had in this second.
    second: (u64, BTreeMap<TenantId, usize>),
    /// What the event is that the broker works on.
    cause: Cause,
    /// Not before this instant is a topic for notes asked for again.
    ask_at: Timestamp,
    /// Who wants to know a life, while the log is searched for it.
    asked: BTreeMap<Origin, Telling>,
}

impl Traces {
    /// The broker begins to work on an event.
    pub(crate) fn begin(&mut self, event: &Event) {
        if !self.shares.is_empty() {
            self.cause = Cause::of(event);
        }
    }

    /// A connection is gone: nobody waits for what it has asked.
    pub(crate) fn leave(&mut self, session: SessionId) {
        self.asked.retain(|origin, _| origin.session != session);
    }

    /// Takes in what is set of a topic.
    pub(crate) fn set(&mut self, topic: TopicId, share: Share) {
        assert!(share <= Share::WHOLE, "a share is a part of the whole");
        if share.is_none() {
            self.shares.remove(&topic);
        } else {
            self.shares.insert(topic, share);
        }
    }

    fn is_traced(&self, topic: TopicId) -> bool {
        self.shares.contains_key(&topic)
    }

    /// Whether a message is sampled. Equal for all who know its place.
    fn holds(&self, (topic, queue, offset): Place) -> bool {
        let hash = || mix(mix(u64::from(topic.0) << 16 | u64::from(queue.0)) ^ offset.0);
        self.shares.get(&topic).is_some_and(|share| share.holds(hash()))
    }

    /// Whether a message without a place is sampled.
    fn holds_id(&self, topic: TopicId, id: MessageId) -> bool {
        let number = u128::from_be_bytes(id.0);
        let hash = || mix(number as u64 ^ mix((number >> 64) as u64));
        self.shares.get(&topic).is_some_and(|share| share.holds(hash()))
    }

    /// Keeps a note for the next batch, as far as its tenant may have one.
    fn note(&mut self, tenant: TenantId, note: Note) {
        let second = note.at.0 / 1_000;
        if self.second.0 != second {
            self.second = (second, BTreeMap::new());
        }
        let spent = self.second.1.entry(tenant).or_default();
        let notes = self.notes.entry(tenant).or_default();
        if notes.len() < TRACE_NOTES_MAX && *spent < TRACE_NOTES_OF_SECOND_MAX {
            notes.push(note);
            *spent += 1;
        }
        assert!(notes.len() <= TRACE_NOTES_MAX, "notes are bounded");
    }
}

impl Broker {
    /// Notes what the effects of an event do to sampled messages, and appends what is noted.
    pub(crate) fn trace(&mut self, effects: &mut Vec<Effect>) {
        if self.traces.shares.is_empty() && self.traces.notes.is_empty() {
            return;
        }
        self.watch(effects);
        let notes = std::mem::take(&mut self.traces.notes);
        // Where there is no room for messages there is none for notes of them.
        let has_room = self.disk < DiskLevel::Refuse;
        for (tenant, notes) in notes.into_iter().filter(|(_, it)| has_room && !it.is_empty()) {
            let here = self.config.shard;
            let topic = self.meta.topic_named(tenant, TRACE_TOPIC);
            let Some(topic) = topic else {
                self.traces.notes.insert(tenant, notes);
                self.want_topic(tenant, effects);
                continue;
            };
            let Some(queue) = queues_on(topic, here).next() else { continue };
            let batch = self.batch_of(&notes, (topic.topic, queue));
            let entry = Entry::Batch { tenant, batch };
            effects.push(Effect::Append { entry, then: Vec::new() });
        }
    }

    /// Asks for the topic of a tenant's notes, now and then until it is there.
    fn want_topic(&mut self, tenant: TenantId, effects: &mut Vec<Effect>) {
        if self.now >= self.traces.ask_at {
            self.traces.ask_at = self.now.plus_ms(TRACE_ASK_MS);
            if self.config.shard == METADATA_SHARD {
                self.ensure_topic(tenant, TRACE_TOPIC, effects);
            } else {
                effects.push(Effect::EnsureTopic { tenant, name: TRACE_TOPIC.to_owned() });
            }
        }
        assert!(self.traces.ask_at > self.now, "it is asked for again later");
        self.wake(self.traces.ask_at);
    }

    fn batch_of(&self, notes: &[Note], place: (TopicId, QueueIndex)) -> Batch {
        assert!((1..=TRACE_NOTES_MAX).contains(&notes.len()), "notes are bounded");
        let mut records = Vec::new();
        for (number, note) in notes.iter().enumerate() {
            let random = mix(self.config.seed ^ mix(self.events) ^ number as u64);
            note.put(place, random, &mut records);
        }
        let header = BatchHeader {
            producer: NOTING,
            epoch: Epoch(0),
            lane: Lane(0),
            shard: self.config.shard,
            sequence: Sequence(0),
        };
        let bytes = batch::encode(&header, notes.len(), &records);
        Batch::parse(bytes).expect("what was encoded just now is whole")
    }
}
