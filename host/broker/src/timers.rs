//! Parked records. Delayed messages by the instant at which they become visible; prepared ones by
//! their transactions (`transaction/prepared.rs`).
//!
//! ```text
//!   batch applied ──► arriving ──► group closed: where they lie ──► waiting, by (due, place)
//!                                                                     │ due, at a tick
//!                       Entry::Cancel ◄── cancel by id ◄──────────────┴──► Entry::Release
//! ```
//!
//! All of it follows from the log: a batch parks them, releases and cancellations take them away.
//! A tick only asks for releases; what could not be appended is asked for again a while later.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;
use yard_wire::record::{Flags, Record};
use yard_wire::release::Target;
use yard_wire::{Malformed, MessageId, QueueIndex, TenantId, Timestamp, TopicId, TxId, Wire};

use crate::bounds::RELEASE_RETRY_MS;
use crate::entry::Cancelled;
use crate::saving::Snapshot;
use crate::transaction::prepared::{Prepared, TxName};

/// Where a record was stored: it is named by it, and records of one due instant come in the order
/// of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

impl At {
    pub(crate) const FIRST: Self = Self { segment: 0, offset: 0 };
    pub(crate) const LAST: Self = Self { segment: u32::MAX, offset: u32::MAX };
}

impl From<Target> for At {
    fn from(target: Target) -> Self {
        let Target { segment, offset, .. } = target;
        Self { segment, offset }
    }
}

/// When it is due, 0 of what is not delayed, and where it was stored.
pub(crate) type Key = (Timestamp, At);

impl From<&Cancelled> for At {
    fn from(cancelled: &Cancelled) -> Self {
        let Cancelled { segment, offset, .. } = *cancelled;
        Self { segment, offset }
    }
}

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delayed {
    pub(crate) id: MessageId,
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) bytes: u32,
    /// Where it lies by now: it may have been carried on from where it was stored.
    pub(crate) lies: At,
}

/// A parked record whose place is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arriving {
    due: Timestamp,
    delayed: Delayed,
    /// Its transaction, of a prepared one.
    tx: Option<TxId>,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was appended just now: ask again when its group is closed.
    Arriving,
    /// It waits.
    Waiting(Key, Delayed),
}

/// Every parked record of a shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Appended, in the order of the log: where they lie is not known yet. `None`: the topic was
    /// removed meanwhile.
    arriving: VecDeque<Option<Arriving>>,
    pub(crate) prepared: Prepared,
    waiting: BTreeMap<Key, Delayed>,
    by_id: BTreeSet<(MessageId, Timestamp, At)>,
    /// How many of each, arriving ones included.
    tenants: BTreeMap<TenantId, u64>,
    topics: BTreeMap<TopicId, u64>,
    /// How many parked records are in each segment of the log, and their bytes.
    segments: BTreeMap<u32, (u64, u64)>,
    /// The last one whose release was asked for, and when to ask again for what is still there.
    asked: Option<(Key, Timestamp)>,
}

pub(crate) fn count<K: Ord + Copy>(counts: &mut BTreeMap<K, u64>, of: K) {
    *counts.entry(of).or_default() += 1;
}

pub(crate) fn discount<K: Ord + Copy>(counts: &mut BTreeMap<K, u64>, of: K) {
    let left = counts.get_mut(&of).expect("what is taken away was counted");
    assert!(*left > 0, "what is counted is there");
    *left -= 1;
    if *left == 0 {
        counts.remove(&of);
    }
}

impl Timers {
    /// A parked record was appended. Where it is the first of its transaction, the coordinator is
    /// asked at `ask_at` what became of that.
    pub(crate) fn arrive(&mut self, tenant: TenantId, record: &Record, ask_at: Timestamp) {
        let is = |flag| record.flags().has(flag);
        let due = is(Flags::DELAYED).then(|| record.due().expect("checked before it was appended"));
        let tx = is(Flags::PREPARED).then(|| record.transaction().expect("checked before, too"));
        assert!(due.is_some() || tx.is_some(), "it waits for something");
        let (topic, queue) = (record.topic(), record.queue());
        let bytes = record.bytes().len() as u32;
        assert!(bytes > 0, "a record has bytes");
        match tx {
            Some(tx) => self.prepared.arrive((tenant, tx), topic, ask_at),
            None => {
                count(&mut self.tenants, tenant);
                count(&mut self.topics, topic);
            }
        }
        let (id, lies) = (record.id(), At::FIRST);
        let delayed = Delayed { id, tenant, topic, queue, bytes, lies };
        let due = due.unwrap_or(Timestamp(0));
        self.arriving.push_back(Some(Arriving { due, delayed, tx }));
    }

    /// Where the next of those that arrived lie.
    pub(crate) fn lie(&mut self, targets: &[Target]) {
        for target in targets {
            let arrived = self.arriving.pop_front().expect("what lies somewhere arrived");
            let Some(Arriving { due, delayed, tx }) = arrived else { continue };
            assert_eq!(delayed.bytes, target.bytes, "they come in the order of the log");
            let lies = At::from(*target);
            let (key, delayed) = ((due, lies), Delayed { lies, ..delayed });
            self.hold(&delayed);
            match tx {
                Some(tx) => self.prepared.lie(tx, key, delayed),
                None => self.insert(key, delayed),
            }
        }
    }

    fn insert(&mut self, key: Key, delayed: Delayed) {
        let is_new = self.by_id.insert((delayed.id, key.0, key.1));
        let before = self.waiting.insert(key, delayed);
        assert!(is_new && before.is_none(), "a place has one record");
    }

    /// Counts where it lies.
    fn hold(&mut self, delayed: &Delayed) {
        let held = self.segments.entry(delayed.lies.segment).or_default();
        *held = (held.0 + 1, held.1 + u64::from(delayed.bytes));
    }

    fn let_go(&mut self, delayed: &Delayed) {
        let segment = delayed.lies.segment;
        let held = self.segments.get_mut(&segment).expect("what waits is in a segment");
        assert!(held.0 > 0, "what waits is counted");
        *held = (held.0 - 1, held.1 - u64::from(delayed.bytes));
        if held.0 == 0 {
            self.segments.remove(&segment);
        }
    }

    /// One lies elsewhere from now on, or nowhere any more.
    pub(crate) fn carry(&mut self, key: Key, target: Option<Target>) {
        let Some(target) = target else {
            let _ = self.remove(key);
            if let Some(lost) = self.prepared.remove(key) {
                self.let_go(&lost);
            }
            return;
        };
        let parked = self.waiting.get_mut(&key).or_else(|| self.prepared.get_mut(key));
        // It may have been released or cancelled meanwhile.
        let Some(parked) = parked else { return };
        assert_eq!(parked.bytes, target.bytes, "it is carried on as it is");
        let before = *parked;
        parked.lies = target.into();
        let after = *parked;
        self.let_go(&before);
        self.hold(&after);
    }

    /// A transaction is decided: nothing of it is prepared any more. Of one that is committed,
    /// what the entry did not release waits until it is due.
    pub(crate) fn settle(&mut self, name: TxName, commit: bool, released: &[Cancelled]) {
        let released: BTreeSet<Key> = released.iter().map(|it| (it.due, At::from(it))).collect();
        for (key, delayed) in self.prepared.take_all(name) {
            if commit && !released.contains(&key) {
                count(&mut self.tenants, delayed.tenant);
                count(&mut self.topics, delayed.topic);
                self.insert(key, delayed);
            } else {
                self.let_go(&delayed);
            }
        }
        assert_eq!(self.prepared.count_in_tx(name), 0, "nobody decides while some arrive");
    }

    /// Those that lie in segments below this one.
    pub(crate) fn below(&self, until: u32) -> Vec<(Key, Delayed)> {
        if self.segments.range(..until).next().is_none() {
            return Vec::new();
        }
        let below = self.waiting.iter().filter(|(_, it)| it.lies.segment < until);
        let below = below.map(|(key, it)| (*key, *it));
        let prepared = self.prepared.iter().filter(|(.., it)| it.lies.segment < until);
        let below: Vec<_> = below.chain(prepared.map(|(key, _, it)| (key, *it))).collect();
        assert!(!below.is_empty(), "what is counted in a segment waits there");
        below
    }

    /// How many parked records are in each segment, and their bytes.
    pub(crate) fn segments(&self) -> &BTreeMap<u32, (u64, u64)> {
        &self.segments
    }

    /// One was released or cancelled. `None` where it did not wait: its topic was removed.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Delayed> {
        let delayed = self.waiting.remove(&key)?;
        let was_listed = self.by_id.remove(&(delayed.id, key.0, key.1));
        assert!(was_listed, "what waits is listed by id");
        discount(&mut self.tenants, delayed.tenant);
        discount(&mut self.topics, delayed.topic);
        self.let_go(&delayed);
        if self.asked.is_some_and(|(last, _)| last == key) {
            self.asked = None;
        }
        Some(delayed)
    }

    /// Those that are due, oldest first, at most `max`, and which were not asked for lately.
    pub(crate) fn take_due(&mut self, now: Timestamp, max: usize) -> Vec<(Key, Delayed)> {
        let after = match self.asked {
            Some((last, again)) if now < again => Excluded(last),
            Some(_) | None => Unbounded,
        };
        let from = self.waiting.range((after, Unbounded)).take(max);
        let due: Vec<_> =
            from.take_while(|((due, _), _)| *due <= now).map(|(key, it)| (*key, *it)).collect();
        if let Some((last, _)) = due.last() {
            self.asked = Some((*last, now.plus_ms(RELEASE_RETRY_MS)));
        }
        assert!(due.len() <= max, "no more than was asked for");
        due
    }

    /// Something changed that releases may have failed for.
    pub(crate) fn ask_again(&mut self) {
        self.asked = None;
    }

    /// When something is to be done.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let first = *self.waiting.first_key_value()?.0;
        let Some((last, again)) = self.asked.filter(|(last, _)| first <= *last) else {
            return Some(first.0);
        };
        let after = self.waiting.range((Excluded(last), Unbounded)).next();
        Some(after.map_or(again, |((due, _), _)| again.min(*due)))
    }

    /// Whether a message with this id waits for the tenant.
    pub(crate) fn find(&self, tenant: TenantId, id: MessageId) -> Option<Known> {
        let is_its = |Arriving { delayed: it, tx, .. }: &Arriving| {
            it.id == id && it.tenant == tenant && tx.is_none()
        };
        if self.arriving.iter().flatten().any(is_its) {
            return Some(Known::Arriving);
        }
        let (first, last) = ((Timestamp(0), At::FIRST), (Timestamp(u64::MAX), At::LAST));
        let listed = self.by_id.range((id, first.0, first.1)..=(id, last.0, last.1));
        let keys = listed.map(|(_, due, at)| (*due, *at));
        let mut found = keys.map(|key| (key, self.waiting[&key]));
        let (key, delayed) = found.find(|(_, delayed)| delayed.tenant == tenant)?;
        Some(Known::Waiting(key, delayed))
    }

    /// The one that waits under this name.
    pub(crate) fn at(&self, key: Key) -> Option<&Delayed> {
        self.waiting.get(&key)
    }

    /// Those that wait, by when they are due, from `from` on.
    pub(crate) fn from(&self, from: Key) -> impl Iterator<Item = (Key, &Delayed)> {
        self.waiting.range(from..).map(|(key, delayed)| (*key, delayed))
    }

    /// How many delayed messages wait.
    pub(crate) fn len(&self) -> usize {
        let arriving = self.arriving.iter().flatten().filter(|it| it.tx.is_none());
        self.waiting.len() + arriving.count()
    }

    /// How many of a tenant's wait.
    pub(crate) fn count_of(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).copied().unwrap_or(0)
    }

    /// How many of a topic's wait.
    pub(crate) fn count_in(&self, topic: TopicId) -> u64 {
        self.topics.get(&topic).copied().unwrap_or(0)
    }

    /// Topics of those that wait, and of what is prepared.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.topics.keys().copied().chain(self.prepared.topics())
    }

    /// A topic was removed, and what waited for it with it.
    pub(crate) fn drop_topic(&mut self, topic: TopicId) {
        if self.count_in(topic) == 0 && !self.prepared.has_topic(topic) {
            return;
        }
        let prepared = self.prepared.iter().filter(|(.., it)| it.topic == topic);
        let prepared: Vec<Key> = prepared.map(|(key, ..)| key).collect();
        for key in prepared {
            let delayed = self.prepared.remove(key).expect("it was listed");
            self.let_go(&delayed);
        }
        let keys = self.waiting.iter().filter(|(_, it)| it.topic == topic);
        let keys: Vec<Key> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            self.remove(key);
        }
        for arriving in &mut self.arriving {
            let gone = arriving.take_if(|it| it.delayed.topic == topic);
            let Some(Arriving { delayed, tx, .. }) = gone else { continue };
            match tx {
                Some(tx) => self.prepared.drop_arriving(tx, &delayed),
                None => {
                    discount(&mut self.tenants, delayed.tenant);
                    discount(&mut self.topics, topic);
                }
            }
        }
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.waiting.len(), self.by_id.len(), "what waits is listed by id");
        assert_eq!(self.tenants.values().sum::<u64>(), self.len() as u64, "each is counted");
        assert_eq!(self.topics.values().sum::<u64>(), self.len() as u64, "each is counted");
        let held: u64 = self.segments.values().map(|(count, _)| count).sum();
        let parked = self.waiting.len() + self.prepared.lying();
        assert_eq!(held, parked as u64, "each is in a segment");
        self.prepared.check();
        for ((due, at), delayed) in &self.waiting {
            assert!(self.by_id.contains(&(delayed.id, *due, *at)), "what waits is listed by id");
        }
    }
}

/// ```text
/// offset size field
///      0    4 count
///      4    . (u64 due_ms, u32 segment, u32 offset, u32 bytes, u32 tenant, u32 topic, u16 queue,
///              16 id, u32 segment and u32 offset where it lies by now)*, by due instant and
///              the place where it was stored
///      .    4 count
///      .    . the prepared ones: as above with 0 for what is not delayed, and its transaction
/// ```
impl Timers {
    pub(crate) fn save(&self, out: &mut Snapshot) {
        assert!(self.arriving.is_empty(), "a snapshot is taken between groups");
        // A million of them are not copied while the room for them grows.
        out.now().reserve(self.waiting.len() * PARKED_BYTES);
        u32::try_from(self.waiting.len()).expect("they are bounded").put(out.now());
        for (key, delayed) in &self.waiting {
            put_parked(*key, delayed, out.now());
        }
        u32::try_from(self.prepared.lying()).expect("they are bounded").put(out.now());
        for (key, tx, delayed) in self.prepared.iter() {
            put_parked(key, delayed, out.now());
            tx.put(out.now());
        }
    }

    pub(crate) fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut timers = Self::default();
        let mut last: Option<Key> = None;
        for _ in 0..u32::take(input)? {
            let (key, delayed) = take_parked(&mut last, input)?;
            count(&mut timers.tenants, delayed.tenant);
            count(&mut timers.topics, delayed.topic);
            timers.hold(&delayed);
            timers.insert(key, delayed);
        }
        last = None;
        for _ in 0..u32::take(input)? {
            let (key, delayed) = take_parked(&mut last, input)?;
            let tx = TxId::take(input)?;
            timers.hold(&delayed);
            timers.prepared.arrive((delayed.tenant, tx), delayed.topic, Timestamp(0));
            timers.prepared.lie(tx, key, delayed);
        }
        Ok(timers)
    }
}

/// What one of them takes in a snapshot.
const PARKED_BYTES: usize = 54;

fn put_parked((due, at): Key, delayed: &Delayed, out: &mut Vec<u8>) {
    due.put(out);
    at.segment.put(out);
    at.offset.put(out);
    delayed.bytes.put(out);
    delayed.tenant.put(out);
    delayed.topic.put(out);
    delayed.queue.put(out);
    delayed.id.put(out);
    delayed.lies.segment.put(out);
    delayed.lies.offset.put(out);
}

fn take_parked(last: &mut Option<Key>, input: &mut Bytes) -> Result<(Key, Delayed), Malformed> {
    let due = Timestamp::take(input)?;
    let at = At { segment: u32::take(input)?, offset: u32::take(input)? };
    let (bytes, tenant) = (u32::take(input)?, TenantId::take(input)?);
    let (topic, queue) = (TopicId::take(input)?, QueueIndex::take(input)?);
    let id = MessageId::take(input)?;
    let lies = At { segment: u32::take(input)?, offset: u32::take(input)? };
    let delayed = Delayed { id, tenant, topic, queue, bytes, lies };
    if last.is_some_and(|last| last >= (due, at)) {
        return Err(Malformed::Field { what: "order of what waits", value: due.0 });
    }
    *last = Some((due, at));
    Ok(((due, at), delayed))
}
