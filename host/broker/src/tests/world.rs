//! A broker with a log that is a list, an index that is a map, and a disk that can be full.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::operation::Operate;
use yard_wire::record::{ORDER, Record, RecordParts};
use yard_wire::release::Target;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckNodes, AckPlace, Call, Called, Placed, Produced, TxCheck};
use yard_wire::{
    Code, Correlation, MessageId, QueueIndex, QueueOffset, RecordPlace, Refusal, Sequence, ShardId,
    SubscriptionId, TenantId, Timestamp, TopicId, Wire,
};

use crate::*;

pub(crate) const RECORD_BYTES: u32 = 100;
/// A property that messages may be compared by.
pub(crate) const PROPERTY: &str = "k";

/// What came out, other than what the world does itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Out {
    Reply(Origin, Result<Reply, Refusal>),
    Deliver(Timestamp, Delivery),
    Ended(SessionId, SubscriptionId, Code),
    Fetch(TopicId, QueueIndex, QueueOffset, u32),
    Find(TenantId, Search, u32),
    Seek(TopicId, QueueIndex, Timestamp),
    Broadcast(MetaChange),
    Ensure(String),
    Ask(RetryQuestion),
    Look(CheckQuestion),
    Notify(ShardId, Notice),
    Check(SessionId, TxCheck),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) session: SessionId,
    pub(crate) subscription: SubscriptionId,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) items: Vec<DeliverItem>,
    pub(crate) asking: Option<Asking>,
}

pub(crate) struct World {
    pub(crate) config: BrokerConfig,
    pub(crate) broker: Broker,
    pub(crate) now: Timestamp,
    pub(crate) log: Vec<(Entry, Applied)>,
    /// Where the parked records of an entry lie.
    parked: BTreeMap<usize, Vec<(Target, Record)>>,
    /// Entries of the log that are synced.
    pub(crate) synced: usize,
    pub(crate) stored: BTreeMap<(TopicId, QueueIndex), u64>,
    pub(crate) firsts: BTreeMap<(TopicId, QueueIndex), u64>,
    /// Messages that were damaged: from one offset up to another.
    pub(crate) lost: BTreeMap<(TopicId, QueueIndex), (u64, u64)>,
    /// Segments below this number are gone.
    pub(crate) begins: u32,
    committed: BTreeMap<(TopicId, QueueIndex), u64>,
    waiting: Vec<Out>,
    /// Questions to an index that does not answer at once.
    pub(crate) asked: Vec<(Ticket, TopicId, QueueIndex, QueueOffset, u32, Option<Reads>)>,
    /// Order groups that the records of the next batch name, in turns.
    pub(crate) names: Vec<String>,
    /// Values of their property [`PROPERTY`], in turns.
    pub(crate) values: Vec<String>,
    /// Order groups of the messages.
    pub(crate) orders: BTreeMap<(TopicId, QueueIndex, u64), OrderKey>,
    /// The messages that have that property.
    pub(crate) compared: BTreeMap<(TopicId, QueueIndex, u64), Bytes>,
    pub(crate) slow_index: bool,
    pub(crate) full: bool,
    pub(crate) wakes_at: Option<Timestamp>,
    pub(crate) outs: Vec<Out>,
    /// The snapshot that was compared last, and its bytes then.
    taken: Option<(Snapshot, Bytes)>,
    /// Of each message that was delivered again, which delivery was the last, by who has it.
    attempts: BTreeMap<(SubscriptionId, QueueIndex, QueueOffset), u32>,
    /// Parked records so far.
    log_end: u32,
    /// Those of the group that is gathered.
    unplaced: Vec<Target>,
    /// Everything that the broker wanted, for comparing runs.
    pub(crate) journal: Vec<String>,
    pub(crate) largest_delivery: usize,
    /// The state is too large to be looked at after every event.
    pub(crate) is_large: bool,
}

pub(crate) fn config(shard: u16, shards: u16) -> BrokerConfig {
    BrokerConfig { shard: ShardId(shard), shards, seed: 7, replicated: false }
}

/// What an operation comes to that session 1 of tenant 0 asks for.
pub(crate) fn call<O: Operate>(world: &mut World, arguments: &O) -> Result<O::Result, Refusal> {
    world.take_outs();
    let call = Call { operation: O::OPERATION as u16, args: arguments.to_bytes() };
    world.request(1, TenantId(0), Request::Call(call));
    answer(world)
}

/// The last answer that came out, synced.
pub(crate) fn answer<T: Wire>(world: &mut World) -> Result<T, Refusal> {
    world.sync();
    let replies = world.take_outs().into_iter().filter_map(|out| match out {
        Out::Reply(_, reply) => Some(reply),
        _ => None,
    });
    match replies.last().expect("a call is answered") {
        Ok(Reply::Call(called)) => Ok(T::from_bytes(called.result).unwrap()),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal),
    }
}

pub(crate) fn id(number: u64) -> MessageId {
    MessageId::new(Timestamp(5), number.into())
}

impl World {
    /// A range as a client says it: each piece of one attempt, as they were delivered last.
    pub(crate) fn by_attempts(
        &self,
        (by, queue): (SubscriptionId, QueueIndex),
        (from, to): (QueueOffset, QueueOffset),
    ) -> Vec<(QueueOffset, QueueOffset, u32)> {
        if from >= to {
            return vec![(from, to, 1)];
        }
        let (mut pieces, mut at) = (Vec::<(QueueOffset, QueueOffset, u32)>::new(), from);
        for ((.., offset), attempt) in self.attempts.range((by, queue, from)..(by, queue, to)) {
            let end = QueueOffset(offset.0 + 1);
            if at < *offset {
                pieces.push((at, *offset, 1));
            }
            match pieces.last_mut() {
                Some((_, to, same)) if *to == *offset && same == attempt => *to = end,
                Some(_) | None => pieces.push((*offset, end, *attempt)),
            }
            at = end;
        }
        if at < to {
            pieces.push((at, to, 1));
        }
        pieces
    }

    pub(crate) fn new(config: BrokerConfig) -> Self {
        Self {
            config,
            broker: Broker::new(config),
            now: Timestamp(1_000),
            log: Vec::new(),
            parked: BTreeMap::new(),
            synced: 0,
            stored: BTreeMap::new(),
            firsts: BTreeMap::new(),
            lost: BTreeMap::new(),
            begins: 0,
            committed: BTreeMap::new(),
            waiting: Vec::new(),
            asked: Vec::new(),
            names: Vec::new(),
            values: Vec::new(),
            orders: BTreeMap::new(),
            compared: BTreeMap::new(),
            slow_index: false,
            full: false,
            wakes_at: None,
            outs: Vec::new(),
            taken: None,
            attempts: BTreeMap::new(),
            log_end: 0,
            unplaced: Vec::new(),
            journal: Vec::new(),
            largest_delivery: 0,
            is_large: false,
        }
    }

    pub(crate) fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut effects = Vec::new();
            self.broker.handle(self.now, event, &mut effects);
            for effect in effects {
                self.journal.push(format!("{effect:?}"));
                self.perform(effect, &mut events);
            }
            if !self.is_large {
                self.broker.check();
            }
        }
    }

    /// Nothing was appended.
    fn refuse(&mut self, then: Vec<Then>) {
        for then in then {
            match then {
                Then::Produced { origin, .. } | Then::Reply { origin, .. } => {
                    self.outs.push(Out::Reply(origin, Err(Code::DiskFull.into())));
                }
                Then::Append { then, .. } => self.refuse(then),
                Then::Broadcast(_) | Then::Notify { .. } => {}
            }
        }
    }

    fn perform(&mut self, effect: Effect, events: &mut Vec<Event>) {
        match effect {
            Effect::Append { entry, then } if self.full => {
                if let Entry::Progress { progress, .. } = entry {
                    let unanswered = then.iter().any(Then::is_unheard);
                    events.push(Event::NotRecorded { progress, unanswered, wait_ms: 100 });
                }
                self.refuse(then);
            }
            Effect::Append { entry, then } => self.append(entry, then),
            Effect::Reply { origin, result } => self.outs.push(Out::Reply(origin, result)),
            // Nothing that a refusal speaks of is under way.
            Effect::ReplyAfter { origin, result: Err(refusal), .. }
                if self.synced == self.log.len() =>
            {
                self.outs.push(Out::Reply(origin, Err(refusal)));
            }
            Effect::ReplyAfter { origin, result, .. } => {
                self.waiting.push(Out::Reply(origin, result));
            }
            Effect::Locate { ticket, topic, queue, from, count, reads } => {
                let end = self.committed[&(topic, queue)];
                assert!(from.0 + u64::from(count) <= end, "only what is committed is looked up");
                if self.slow_index {
                    self.asked.push((ticket, topic, queue, from, count, reads));
                } else {
                    events.push(self.located(ticket, (topic, queue), from, count, reads.as_ref()));
                }
            }
            Effect::Deliver { session, subscription, topic, queue, items, asking } => {
                let is_there = |item: &crate::DeliverItem| item.place.segment >= self.begins;
                assert!(items.iter().all(is_there), "what is delivered can be read");
                self.largest_delivery = self.largest_delivery.max(items.len());
                for item in items.iter().filter(|item| item.attempt > 1) {
                    self.attempts.insert((subscription, queue, item.offset), item.attempt);
                }
                let delivery = Delivery { session, subscription, topic, queue, items, asking };
                self.outs.push(Out::Deliver(self.now, delivery));
            }
            Effect::Fetch { topic, queue, from, records_max, .. } => {
                self.outs.push(Out::Fetch(topic, queue, from, records_max));
            }
            Effect::Find { asked, search, .. } => {
                self.outs.push(Out::Find(asked.tenant, search, asked.records_max));
            }
            Effect::Seek { topic, queue, time, .. } => {
                self.outs.push(Out::Seek(topic, queue, time));
            }
            Effect::Describe { origin, report, .. } => {
                let called = Called { result: report.to_bytes() };
                self.outs.push(Out::Reply(origin, Ok(Reply::Call(called))));
            }
            Effect::Ended { session, subscription, why } => {
                self.outs.push(Out::Ended(session, subscription, why.code));
            }
            Effect::EnsureTopic { name, .. } => self.outs.push(Out::Ensure(name)),
            Effect::AskPolicy(question) => self.outs.push(match *question {
                PolicyQuestion::Retry(question) => Out::Ask(question),
                PolicyQuestion::Check(question) => Out::Look(question),
            }),
            Effect::Notify { to, notice } => self.waiting.push(Out::Notify(to, notice)),
            Effect::TxCheck { session, check } => self.outs.push(Out::Check(session, check)),
            Effect::WakeAt(at) => self.wakes_at = Some(at),
        }
    }

    fn located(
        &self,
        ticket: Ticket,
        queue: (TopicId, QueueIndex),
        from: QueueOffset,
        count: u32,
        reads: Option<&Reads>,
    ) -> Event {
        let first = self.firsts.get(&queue).copied().unwrap_or(0);
        let (lost, lost_end) = self.lost.get(&queue).copied().unwrap_or((u64::MAX, u64::MAX));
        if from.0 < first {
            return Event::Gap { ticket, until: QueueOffset(first) };
        }
        if (lost..lost_end).contains(&from.0) {
            return Event::Gap { ticket, until: QueueOffset(lost_end) };
        }
        let to = from.0 + u64::from(count);
        let to = if from.0 < lost { to.min(lost) } else { to };
        let places = (from.0..to).map(|offset| RecordPlace {
            segment: self.begins + u32::from(queue.1.0),
            offset: offset as u32,
            bytes: RECORD_BYTES,
            stored: Timestamp(1),
            released: false,
        });
        let labels = reads.map(|reads| (from.0..to).map(|at| self.label_of(queue, at, reads)));
        let labels = labels.into_iter().flatten().collect();
        Event::Located { ticket, places: places.collect(), labels }
    }

    /// What a message says, as it was produced.
    fn label_of(&self, queue: (TopicId, QueueIndex), offset: u64, reads: &Reads) -> Label {
        let place = (queue.0, queue.1, offset);
        let order = self.orders.get(&place).copied().unwrap_or(OrderKey::NONE);
        let record = self.compared.get(&place);
        let key = record.and_then(|it| Label::peek(it, reads).key);
        Label { order, key }
    }

    /// Lets the slow index answer one question, possibly that it cannot be read.
    pub(crate) fn answer_index(&mut self, readable: bool) {
        if self.asked.is_empty() {
            return;
        }
        let (ticket, topic, queue, from, count, reads) = self.asked.remove(0);
        let event = if readable {
            self.located(ticket, (topic, queue), from, count, reads.as_ref())
        } else {
            Event::Located { ticket, places: Vec::new(), labels: Vec::new() }
        };
        self.handle(event);
    }

    fn append(&mut self, entry: Entry, then: Vec<Then>) {
        let batch = match &entry {
            Entry::Batch { batch, .. } => Some(batch.clone()),
            Entry::Deduped { deduped, .. } => deduped.batch.clone(),
            _ => None,
        };
        let queues: Vec<(TopicId, QueueIndex, (OrderKey, Option<Bytes>))> = match &entry {
            Entry::Batch { .. } | Entry::Deduped { .. } => {
                let records = batch.iter().flat_map(Batch::records);
                let stored = records.filter(|record| !record.flags().is_parked());
                let said = |it: &Record| {
                    let compared = it.property(PROPERTY).is_some().then(|| it.bytes().clone());
                    (OrderKey::peek(it.bytes()), compared)
                };
                stored.map(|it| (it.topic(), it.queue(), said(&it))).collect()
            }
            Entry::Release { items, settle, .. } => {
                let from = settle.as_ref().filter(|settle| settle.is_forwarded());
                let from = from.and_then(|settle| self.broker.groups.get(settle.group));
                let said = |target: Target| {
                    let queue = QueueIndex((target.segment - self.begins) as u16);
                    let place = (from?.topic, queue, u64::from(target.offset));
                    let order = self.orders.get(&place).copied()?;
                    Some((order, self.compared.get(&place).cloned()))
                };
                let said = |target| said(target).unwrap_or_default();
                items.iter().map(|it| (it.topic(), it.queue(), said(it.target()))).collect()
            }
            Entry::Group { .. }
            | Entry::Progress { .. }
            | Entry::Cancel { .. }
            | Entry::Forget { .. }
            | Entry::ForgetSettled { .. }
            | Entry::Settled { .. }
            | Entry::Move { .. }
            | Entry::Drain { .. }
            | Entry::Tx { .. }
            | Entry::Incarnation { .. }
            | Entry::Meta { .. } => Vec::new(),
        };
        let mut placed: Vec<Placed> = Vec::new();
        for (topic, queue, (order, compared)) in queues {
            let next = self.stored.entry((topic, queue)).or_default();
            self.orders.insert((topic, queue, *next), order);
            if let Some(record) = compared {
                self.compared.insert((topic, queue, *next), record);
            }
            let known = placed.iter_mut().find(|it| (it.topic, it.queue) == (topic, queue));
            match known {
                Some(known) => known.count += 1,
                None => placed.push(Placed { topic, queue, first: QueueOffset(*next), count: 1 }),
            }
            *next += 1;
        }
        let applied = Applied { placed: placed.clone(), stored: self.now };
        let mut parked = Vec::new();
        assert_eq!(read_again(&entry), Ok(entry.clone()), "an entry is read as it was written");
        self.broker.apply(&entry, &applied);
        if !self.is_large {
            self.broker.check();
        }
        if let Some(batch) = &batch {
            // At recovery it is known at once where they lie.
            for (_, record) in batch.parked() {
                self.log_end += 1;
                let (segment, offset) = (self.log_end / 4, self.log_end % 4);
                let bytes = record.bytes().len() as u32;
                let target = Target { segment, offset, bytes, released: false };
                parked.push((target, record));
                self.unplaced.push(target);
            }
        }
        self.parked.insert(self.log.len(), parked);
        let originals = match &entry {
            Entry::Deduped { deduped, .. } => deduped.dedupe.originals(&placed),
            _ => Vec::new(),
        };
        self.log.push((entry, applied));
        for then in then {
            let out = match then {
                Then::Produced { origin, place, nodes } => {
                    let shard = self.config.shard;
                    let (placed, originals) = (placed.clone(), originals.clone());
                    let duplicate = false;
                    let produced = Produced { shard, place, nodes, duplicate, placed, originals };
                    Out::Reply(origin, Ok(Reply::Produce(produced)))
                }
                Then::Reply { origin, reply } => Out::Reply(origin, Ok(reply)),
                Then::Broadcast(change) => Out::Broadcast(change),
                Then::Notify { to, notice } => Out::Notify(to, notice),
                Then::Append { entry, then } => {
                    self.append(*entry, then);
                    continue;
                }
            };
            self.waiting.push(out);
        }
    }

    /// Closes the group that is gathered.
    pub(crate) fn close(&mut self) {
        let parked = std::mem::take(&mut self.unplaced);
        if !parked.is_empty() {
            self.handle(Event::Parked(parked));
        }
    }

    /// Makes everything durable.
    pub(crate) fn sync(&mut self) {
        self.close();
        self.synced = self.log.len();
        self.outs.append(&mut self.waiting);
        let tails: Vec<QueueTail> = self
            .stored
            .iter()
            .filter(|(queue, end)| self.committed.get(queue) != Some(end))
            .map(|((topic, queue), end)| QueueTail {
                topic: *topic,
                queue: *queue,
                end: QueueOffset(*end),
            })
            .collect();
        self.committed.clone_from(&self.stored);
        if !tails.is_empty() {
            self.handle(Event::Committed(tails));
        }
    }

    /// Moves time to where something was to happen, or on.
    pub(crate) fn advance(&mut self, to: Timestamp) {
        while let Some(at) = self.wakes_at.filter(|at| *at <= to) {
            self.wakes_at = None;
            self.now = self.now.max(at);
            self.handle(Event::Tick);
        }
        self.now = self.now.max(to);
    }

    pub(crate) fn trim(&mut self, topic: TopicId, queue: QueueIndex, first: u64) {
        let committed = self.committed.get(&(topic, queue)).copied().unwrap_or(0);
        let first = first.min(committed);
        let known = self.firsts.entry((topic, queue)).or_default();
        *known = (*known).max(first);
        let first = *known;
        self.handle(Event::Trimmed(vec![(topic, queue, QueueOffset(first))]));
    }

    /// The broker that the log makes, from the beginning.
    pub(crate) fn replayed(&self) -> Broker {
        let mut broker = Broker::new(self.config);
        for (at, (entry, applied)) in self.log.iter().enumerate() {
            let entry = read_again(entry).unwrap();
            match &entry {
                Entry::Batch { tenant, batch } => {
                    broker.apply_batch(*tenant, batch.header(), batch.count(), applied);
                }
                Entry::Deduped { tenant, deduped } => {
                    let Deduped { header, dedupe, .. } = &**deduped;
                    broker.apply_deduped(*tenant, header, dedupe, applied);
                }
                _ => {
                    broker.apply(&entry, applied);
                    continue;
                }
            }
            for (target, record) in self.parked.get(&at).into_iter().flatten() {
                broker.apply_parked(entry.tenant(), *target, record);
            }
        }
        broker
    }

    /// Live, replayed and restored state are the same bytes, and what was taken before is still the
    /// state of its moment.
    pub(crate) fn compare_with_log(&mut self) {
        if let Some((snapshot, bytes)) = self.taken.take() {
            assert_eq!(snapshot.encode(), bytes, "taken before");
        }
        let snapshot = self.broker.snapshot();
        let live = snapshot.encode();
        assert_eq!(self.replayed().snapshot().encode(), live, "replayed");
        let restored = Broker::restore(self.config, live.clone()).unwrap();
        assert_eq!(restored.snapshot().encode(), live, "restored");
        self.taken = Some((snapshot, live));
    }

    /// The process ends and begins again, from a snapshot; what was not synced is lost.
    pub(crate) fn restart(&mut self) {
        self.log.truncate(self.synced);
        let _ = self.parked.split_off(&self.synced);
        self.stored.clone_from(&self.committed);
        self.waiting.clear();
        self.asked.clear();
        self.unplaced.clear();
        self.wakes_at = None;
        self.attempts.clear();
        let snapshot = self.replayed().snapshot().encode();
        self.broker = Broker::restore(self.config, snapshot).unwrap();
        let tails = self.committed.iter().map(|((topic, queue), end)| QueueTail {
            topic: *topic,
            queue: *queue,
            end: QueueOffset(*end),
        });
        let firsts = self.firsts.iter();
        let firsts = firsts.map(|((topic, queue), first)| (*topic, *queue, QueueOffset(*first)));
        let (tails, firsts) = (tails.collect(), firsts.collect());
        self.broker.recovered(tails, firsts);
        self.handle(Event::Tick);
    }

    pub(crate) fn request(&mut self, session: u64, tenant: TenantId, request: Request) {
        let origin = origin(session);
        self.handle(Event::Request { origin, tenant, request });
    }

    pub(crate) fn produce(
        &mut self,
        tenant: TenantId,
        nodes: AckNodes,
        floor: u64,
        header: BatchHeader,
        queues: &[(TopicId, QueueIndex)],
    ) {
        let event = Event::Produce {
            origin: origin(0),
            tenant,
            place: AckPlace::Synced,
            nodes,
            floor: Sequence(floor),
            batch: batch_of(
                header,
                queues,
                (&std::mem::take(&mut self.names), &std::mem::take(&mut self.values)),
            ),
        };
        self.handle(event);
    }

    pub(crate) fn take_outs(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.outs)
    }
}

/// An entry as the log gives it back.
fn read_again(entry: &Entry) -> Result<Entry, Malformed> {
    let (payload, notes) = (entry.encode_payload(), entry.encode_notes());
    if notes.is_empty() {
        return Entry::decode(entry.kind(), entry.tenant(), payload);
    }
    assert_eq!(entry.kind(), Entry::BATCH, "only batches have notes");
    Entry::decode_noted(entry.tenant(), notes, payload)
}

pub(crate) fn origin(session: u64) -> Origin {
    Origin { session: SessionId(session), stream: 1, correlation: Correlation(9) }
}

/// One record for each queue named, of these order groups and values in turns; `-` is none.
fn batch_of(
    header: BatchHeader,
    queues: &[(TopicId, QueueIndex)],
    (names, values): (&[String], &[String]),
) -> Batch {
    let mut records = Vec::new();
    for (at, (topic, queue)) in queues.iter().enumerate() {
        let nth = |of: &'static str, all: &'_ [String]| {
            let text = (!all.is_empty()).then(|| all[at % all.len()].clone());
            text.filter(|text| *text != "-").map(|text| (of, text))
        };
        let both = [nth(ORDER, names), nth(PROPERTY, values)].into_iter().flatten();
        let both: Vec<(&str, String)> = both.collect();
        let properties: Vec<(&str, &str)> =
            both.iter().map(|(of, text)| (*of, &text[..])).collect();
        let parts = RecordParts {
            topic: *topic,
            queue: *queue,
            id: id(1),
            properties: &properties,
            body: b"x",
            ..RecordParts::default()
        };
        parts.encode(&mut records).unwrap();
    }
    let bytes: Bytes = batch::encode(&header, queues.len(), &records);
    Batch::parse(bytes).unwrap()
}
