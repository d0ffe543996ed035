//! Messages with dedupe keys: each key is stored once in its topic's window.
//!
//! ```text
//!   batch of 5         record 0   1 (key a)   2 (key b)   3   4 (key a)      numbered s to s + 4
//!                             │   │           │           │   └ as record 1: left out
//!                             │   │           └ known: left out, answered with its original
//!   stored                    0   1                       3                  numbered the same
//!   beside it, `Dedupe`       5 records; new: a; left out: 2 as …, 4 as 1
//! ```
//!
//! The check is made where the batch is appended, by the state that all entries before have made,
//! and the entry says how it came out. So reading the log again decides nothing, and the same batch
//! sent once more gets the same answer.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::batch::{Batch, BatchHeader};
use yard_wire::record::{Flags, Record};
use yard_wire::requests::{Original, Placed};
use yard_wire::{
    DedupeKey, Epoch, Lane, Malformed, MessageId, ProducerId, QueueIndex, QueueOffset, Sequence,
    ShardId, TenantId, TopicId, Wire,
};

use crate::bounds::{DEDUPE_KEYS_MAX, DEDUPE_KEYS_OF_TENANT_MAX};
use crate::broker::Broker;
use crate::effect::Effect;
use crate::entry::Entry;
use crate::event::Applied;
use crate::meta::Topic;
use crate::meta_table::queues_on;
use crate::refusal::ProduceError;
use crate::windows::{self, Row};

/// A batch of which some messages have dedupe keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduped {
    /// Who sent it, and its number.
    pub header: BatchHeader,
    /// What is stored of it; `None`: nothing, all of it was stored before.
    pub batch: Option<Batch>,
    /// Which of its keys are new, and what was left out.
    pub dedupe: Dedupe,
}

yard_wire::message! {
    /// What became of the messages of a batch that have dedupe keys.
    ///
    /// ```text
    /// offset size field
    ///      0    4 count      records of the batch, those left out included
    ///      4    . fresh      (see Fresh)*
    ///      .    . same       (see Same)*
    ///      .    . forgotten  (u32 topic, u32 keys)*
    /// ```
    #[derive(Default)]
    pub struct Dedupe {
        /// Records of the batch as it was numbered, those left out included.
        pub count: u32,
        /// Keys that are remembered from now on, in the order of the records.
        pub fresh: Vec<Fresh>,
        /// Records that were left out, in order.
        pub same: Vec<Same>,
        /// How many of the oldest keys of a topic are forgotten once the new ones were taken in.
        pub forgotten: Vec<(TopicId, u32)>,
    }

    /// A key that was not remembered, and the record that has it.
    pub struct Fresh {
        /// Topic of the record.
        pub topic: TopicId,
        /// Its queue.
        pub queue: QueueIndex,
        /// Which of the records of the batch that go to this queue it is; `None`: it is delayed.
        pub nth: Option<u32>,
        /// The key.
        pub key: DedupeKey,
        /// Id of the message.
        pub id: MessageId,
    }

    /// A record that was left out.
    pub struct Same {
        /// Which of the batch, counted from 0.
        pub record: u32,
        /// The message that has its key.
        pub first: First,
    }
}

/// The message that has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// It was stored before the batch.
    Stored {
        /// Its id.
        id: MessageId,
        /// Its queue.
        queue: QueueIndex,
        /// Its place in the queue; `None`: it is delayed.
        offset: Option<QueueOffset>,
    },
    /// It is of the same batch: which of the new keys.
    Fresh(u32),
}

/// One byte, 0 stored, 1 fresh; then the fields.
impl Wire for First {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Stored { id, queue, offset } => {
                out.push(0);
                id.put(out);
                queue.put(out);
                offset.put(out);
            }
            Self::Fresh(fresh) => {
                out.push(1);
                fresh.put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            0 => {
                let (id, queue) = (MessageId::take(input)?, QueueIndex::take(input)?);
                let offset = <Option<QueueOffset> as Wire>::take(input)?;
                Ok(Self::Stored { id, queue, offset })
            }
            1 => Ok(Self::Fresh(u32::take(input)?)),
            other => Err(Malformed::Field { what: "first message of a key", value: other.into() }),
        }
    }
}

/// The offset that a record got, which is the nth of its queue in its batch.
fn offset_of(placed: &[Placed], fresh: &Fresh) -> Option<QueueOffset> {
    let nth = fresh.nth?;
    let place = (fresh.topic, fresh.queue);
    let its = placed.iter().find(|it| (it.topic, it.queue) == place && nth < it.count)?;
    Some(QueueOffset(its.first.0 + u64::from(nth)))
}

impl Dedupe {
    /// What was there before the records that were left out, once it is known where those that
    /// were not have gone.
    #[must_use]
    pub fn originals(&self, placed: &[Placed]) -> Vec<Original> {
        let original = |same: &Same| {
            let record = same.record;
            match &same.first {
                First::Stored { id, queue, offset } => {
                    Original { record, id: *id, queue: *queue, offset: *offset }
                }
                First::Fresh(at) => {
                    let fresh = &self.fresh[*at as usize];
                    let offset = offset_of(placed, fresh);
                    Original { record, id: fresh.id, queue: fresh.queue, offset }
                }
            }
        };
        self.same.iter().map(original).collect()
    }

    fn check(&self) -> Result<(), Malformed> {
        let wrong = |same: &&Same| match same.first {
            First::Stored { .. } => false,
            First::Fresh(at) => at as usize >= self.fresh.len(),
        };
        match self.same.iter().find(wrong) {
            Some(same) => {
                Err(Malformed::Field { what: "number of a key", value: same.record.into() })
            }
            None => Ok(()),
        }
    }
}

/// As it lies in the log where nothing of the batch is stored:
///
/// ```text
/// offset size field
///      0    8 producer
///      8    4 epoch
///     12    2 lane
///     14    2 shard
///     16    8 sequence
///     24    . dedupe
/// ```
impl Deduped {
    pub(crate) fn put_alone(&self) -> Bytes {
        assert!(self.batch.is_none(), "a batch is stored as such");
        let BatchHeader { producer, epoch, lane, shard, sequence } = self.header;
        let mut out = Vec::new();
        producer.put(&mut out);
        epoch.put(&mut out);
        lane.put(&mut out);
        shard.put(&mut out);
        sequence.put(&mut out);
        self.dedupe.put(&mut out);
        out.into()
    }

    pub(crate) fn take_alone(mut input: Bytes) -> Result<Self, Malformed> {
        let input = &mut input;
        let header = BatchHeader {
            producer: ProducerId::take(input)?,
            epoch: Epoch::take(input)?,
            lane: Lane::take(input)?,
            shard: ShardId::take(input)?,
            sequence: Sequence::take(input)?,
        };
        let dedupe = Self::take_notes(std::mem::take(input))?;
        Ok(Self { header, batch: None, dedupe })
    }

    /// What lies beside a batch in the log.
    pub(crate) fn take_notes(input: Bytes) -> Result<Dedupe, Malformed> {
        let dedupe = Dedupe::from_bytes(input)?;
        dedupe.check()?;
        Ok(dedupe)
    }
}

/// What is found out about the records of a batch, one after another.
#[derive(Default)]
struct Sorting {
    dedupe: Dedupe,
    left_out: Vec<u32>,
    fresh_at: BTreeMap<(TopicId, DedupeKey), u32>,
    /// Records of each queue that are stored.
    stored: BTreeMap<(TopicId, QueueIndex), u32>,
}

impl Sorting {
    fn leave_out(&mut self, record: u32, first: First) {
        self.dedupe.same.push(Same { record, first });
        self.left_out.push(record);
    }

    /// A record that stays, with its key if it has one.
    fn keep(&mut self, record: &Record, key: Option<DedupeKey>) {
        let (topic, queue) = (record.topic(), record.queue());
        let nth = if record.flags().is_parked() {
            None
        } else {
            let stored = self.stored.entry((topic, queue)).or_default();
            *stored += 1;
            Some(*stored - 1)
        };
        if let Some(key) = key {
            self.fresh_at.insert((topic, key), self.dedupe.fresh.len() as u32);
            self.dedupe.fresh.push(Fresh { topic, queue, nth, key, id: record.id() });
        }
    }
}

impl Broker {
    /// What is to be appended of a batch that is the next of its lane.
    pub(crate) fn dedupe(&self, tenant: TenantId, batch: Batch) -> Result<Entry, ProduceError> {
        if batch.dedupe_keys().is_empty() {
            return Ok(Entry::Batch { tenant, batch });
        }
        let mut sorting = Sorting::default();
        let mut keys = batch.dedupe_keys().iter().peekable();
        for (number, record) in (0u32..).zip(batch.records()) {
            let Some((_, key)) = keys.next_if(|(at, _)| *at == number) else {
                sorting.keep(&record, None);
                continue;
            };
            if record.flags().has(Flags::PREPARED) {
                return Err(ProduceError::PreparedKey);
            }
            match self.first_of(&sorting, record.topic(), key)? {
                Some(first) => {
                    yard_wire::mark!(KeyLeftOut);
                    sorting.leave_out(number, first);
                }
                None => sorting.keep(&record, Some(*key)),
            }
        }
        assert!(keys.next().is_none(), "every key is of a record");
        let Sorting { mut dedupe, left_out, .. } = sorting;
        dedupe.count = batch.count() as u32;
        dedupe.forgotten = self.make_room(tenant, &dedupe.fresh)?;
        let header = *batch.header();
        let batch = if left_out.is_empty() { Some(batch) } else { batch.without(&left_out) };
        Ok(Entry::Deduped { tenant, deduped: Box::new(Deduped { header, batch, dedupe }) })
    }

    /// The message that has this key in its window.
    fn first_of(
        &self,
        sorting: &Sorting,
        topic: TopicId,
        key: &DedupeKey,
    ) -> Result<Option<First>, ProduceError> {
        let Some(window_ms) = self.window_ms(topic) else {
            let name = self.meta.topic(topic).map_or_else(String::new, |it| it.name.to_string());
            return Err(ProduceError::NoDedupeWindow { name });
        };
        if let Some(at) = sorting.fresh_at.get(&(topic, *key)) {
            yard_wire::mark!(KeyTwiceInBatch);
            return Ok(Some(First::Fresh(*at)));
        }
        let row = self.windows.find(topic, key);
        let row = row.filter(|row| self.now < row.stored.plus_ms(window_ms));
        let stored = row.map(|row| row.message);
        Ok(stored.map(|windows::First { id, queue, offset }| First::Stored { id, queue, offset }))
    }

    /// For how long the keys of a topic are remembered.
    fn window_ms(&self, topic: TopicId) -> Option<u64> {
        self.meta.topic(topic)?.settings.dedupe.window.get()
    }

    /// How many of the oldest keys go so that these have room.
    fn make_room(
        &self,
        tenant: TenantId,
        fresh: &[Fresh],
    ) -> Result<Vec<(TopicId, u32)>, ProduceError> {
        let mut added: BTreeMap<TopicId, usize> = BTreeMap::new();
        fresh.iter().for_each(|fresh| *added.entry(fresh.topic).or_default() += 1);
        let mut forgotten = Vec::new();
        for (topic, added) in added {
            let topic = self.meta.topic(topic).expect("the batch was checked");
            let keys = self.windows.count_in(topic.topic) + added;
            let count = topic.settings.dedupe.count.0;
            let over = keys.saturating_sub(self.keys_here(topic, count, topic.created_queues));
            if over > 0 {
                yard_wire::mark!(KeysForgotten);
                forgotten.push((topic.topic, u32::try_from(over).expect("keys are bounded")));
            }
        }
        let gone: usize = forgotten.iter().map(|(_, count)| *count as usize).sum();
        let limits = [
            (self.windows.count_of(tenant), DEDUPE_KEYS_OF_TENANT_MAX),
            (self.windows.len(), DEDUPE_KEYS_MAX),
        ];
        match limits.into_iter().find(|(keys, max)| keys + fresh.len() > max + gone) {
            Some((_, max)) => Err(ProduceError::DedupeFull { max }),
            None => Ok(forgotten),
        }
    }

    /// How many of `count` keys this shard remembers: its share of the first `queues` of the topic,
    /// which are those that the keys go to.
    pub(crate) fn keys_here(&self, topic: &Topic, count: u64, queues: u16) -> usize {
        let here = queues_on(topic, self.config.shard).filter(|queue| queue.0 < queues);
        let here = (here.count() as u64).max(1);
        assert!(queues > 0, "a topic is created with a queue");
        (count * here).div_ceil(u64::from(queues)) as usize
    }

    /// As [`Broker::apply`] for a batch with dedupe keys, but for its parked records.
    pub fn apply_deduped(
        &mut self,
        tenant: TenantId,
        header: &BatchHeader,
        dedupe: &Dedupe,
        applied: &Applied,
    ) {
        assert!(dedupe.count >= 1, "a batch has records");
        let originals = dedupe.originals(&applied.placed);
        let answer = (&applied.placed[..], &originals[..]);
        self.producers.apply(tenant, header, dedupe.count as usize, answer);
        for fresh in &dedupe.fresh {
            let offset = offset_of(&applied.placed, fresh);
            let Fresh { topic, queue, key, id, .. } = *fresh;
            let first = windows::First { id, queue, offset };
            self.windows.remember(tenant, topic, Row::new(key, first, applied.stored));
        }
        for (topic, count) in &dedupe.forgotten {
            self.windows.forget(*topic, *count);
        }
    }

    /// What lies beside a batch in the log, as the broker had it written.
    ///
    /// # Errors
    /// [`Malformed`] when it is not that.
    pub fn read_notes(notes: Bytes) -> Result<Dedupe, Malformed> {
        Deduped::take_notes(notes)
    }

    /// Asks that keys be forgotten that were remembered for long enough.
    pub(crate) fn sweep_windows(&mut self, effects: &mut Vec<Effect>) {
        let meta = &self.meta;
        let window_ms = |topic| meta.topic(topic)?.settings.dedupe.window.get().or(Some(0));
        let forgotten = self.windows.sweep(self.now, window_ms);
        if !forgotten.is_empty() {
            effects.push(Effect::Append { entry: Entry::Forget { forgotten }, then: Vec::new() });
        }
        self.sweep_settled_keys(effects);
    }
}
