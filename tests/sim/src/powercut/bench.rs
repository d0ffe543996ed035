//! A shard with its I/O done in line, when whoever holds it says so.
use std::collections::VecDeque;

use bytes::Bytes;
use yard_broker::{Event, Origin, SessionId};
use yard_shard::{Input, OpenError, OpenedShard, Output, Shard, ShardConfig};
use yard_store::{Disk, Io, Located, Repair, Store};
use yard_wire::batch::Batch;
use yard_wire::operation::Operate;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckNodes, AckPlace, Call, Subscribe};
use yard_wire::{
    Correlation, QueueIndex, QueueOffset, RecordPlace, Refusal, Sequence, ShardId, SubscriptionId,
    TenantId, Timestamp, TopicId,
};

/// Credit of a subscription: more than a script has messages.
const CREDIT: u32 = 100_000;
/// The group of all subscriptions.
pub(crate) const GROUP: &str = "group";
const TENANT: TenantId = TenantId(0);

/// A delivery: a message that is not settled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Given {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) offset: QueueOffset,
    pub(crate) attempt: u32,
    pub(crate) subscription: SubscriptionId,
}

/// The shard. See the module.
pub(crate) struct Bench<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) shard: Shard,
    pub(crate) now: Timestamp,
    /// Writes and syncs, in order.
    pub(crate) line: VecDeque<Io>,
    /// I/O that may take its time.
    pub(crate) others: VecDeque<Io>,
    /// Answers, by what was asked.
    pub(crate) replies: Vec<(u64, Result<Reply, Refusal>)>,
    pub(crate) given: Vec<Given>,
    asked: u64,
}

impl<'a> Bench<'a> {
    /// Opens a shard on a disk.
    ///
    /// # Errors
    /// What the shard says.
    pub(crate) fn open(
        disk: &'a dyn Disk,
        segment_bytes: u64,
        now: Timestamp,
    ) -> Result<(Self, Vec<Repair>), OpenError> {
        let (shard, seed, retention_hour) = (ShardId(0), now.0, None);
        let config = ShardConfig { shard, shards: 1, segment_bytes, seed, retention_hour };
        let OpenedShard { shard, outputs, repairs, .. } = Shard::open(disk, config, now)?;
        let (line, others) = (VecDeque::new(), VecDeque::new());
        let (replies, given, asked) = (Vec::new(), Vec::new(), 0);
        let mut bench = Self { disk, shard, now, line, others, replies, given, asked };
        bench.put(outputs);
        Ok((bench, repairs))
    }

    fn put(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Io(io @ (Io::WriteGroup { .. } | Io::SyncGroup { .. })) => {
                    self.line.push_back(io);
                }
                Output::Io(io) => self.others.push_back(io),
                Output::Reply { origin, result } => {
                    self.replies.push((origin.correlation.0, result));
                }
                Output::Deliver { subscription, topic, queue, items, .. } => {
                    self.given.extend(items.iter().map(|item| {
                        let (offset, attempt) = (item.offset, item.attempt);
                        Given { topic, queue, offset, attempt, subscription }
                    }));
                }
                Output::ReadIndex { ticket, read } => {
                    // What cannot be read is asked for again, and missed in the end.
                    let places = yard_store::read::index(self.disk, &read).unwrap_or_default();
                    self.step(vec![Input::Index { ticket, places }]);
                }
                Output::ReadLabels { .. } => unreachable!("no topic here is ordered"),
                Output::Fetch { .. } => unreachable!("nobody fetches here"),
                Output::Find { .. } | Output::Seek { .. } => unreachable!("nobody here searches"),
                Output::EnsureTopic { .. } => unreachable!("there is one shard"),
                Output::AskPolicy(_) => unreachable!("no group here has a plugin"),
                Output::Notify { .. } | Output::TxCheck { .. } => {
                    unreachable!("no script has transactions")
                }
                Output::Broadcast(_) | Output::Ended { .. } | Output::WakeAt(_) => {}
            }
        }
    }

    /// Gives the shard what happened, at this time.
    pub(crate) fn step(&mut self, inputs: Vec<Input>) {
        let mut outputs = Vec::new();
        self.shard.step(self.now, inputs, &mut outputs);
        self.put(outputs);
    }

    /// Does the next write or sync. False when there is none.
    pub(crate) fn advance(&mut self) -> bool {
        let Some(io) = self.line.pop_front() else { return false };
        let done = yard_store::io::perform(self.disk, &io);
        self.step(vec![Input::Io(done)]);
        true
    }

    /// Does everything that there is to do.
    pub(crate) fn settle(&mut self) {
        loop {
            while self.advance() {}
            let Some(io) = self.others.pop_front() else { return };
            let done = yard_store::io::perform(self.disk, &io);
            self.step(vec![Input::Io(done)]);
        }
    }

    fn origin(&mut self) -> Origin {
        self.asked += 1;
        Origin { session: SessionId(1), stream: 1, correlation: Correlation(self.asked) }
    }

    /// Asks for something; the answer comes under this number.
    pub(crate) fn request(&mut self, request: Request) -> u64 {
        let origin = self.origin();
        self.step(vec![Input::Event(Event::Request { origin, tenant: TENANT, request })]);
        origin.correlation.0
    }

    /// Sends a batch.
    pub(crate) fn produce(&mut self, batch: &Batch, place: AckPlace, floor: Sequence) -> u64 {
        let origin = self.origin();
        let (tenant, nodes, batch) = (TENANT, AckNodes::One, batch.clone());
        let event = Event::Produce { origin, tenant, place, nodes, floor, batch };
        self.step(vec![Input::Event(event)]);
        origin.correlation.0
    }

    /// Asks for an operation.
    pub(crate) fn call<T: Operate>(&mut self, args: &T) -> u64 {
        let (operation, args) = (T::OPERATION as u16, args.to_bytes());
        self.request(Request::Call(Call { operation, args }))
    }

    /// Subscribes to a topic.
    pub(crate) fn subscribe(&mut self, topic: &str) -> u64 {
        self.request(Request::Subscribe(Subscribe {
            shard: ShardId(0),
            group: GROUP.to_owned(),
            topic: topic.to_owned(),
            member: "member".to_owned(),
            start: yard_wire::requests::Start::Earliest,
            expression: None,
            exclusive: false,
            lease_ms: 3_600_000,
            messages: CREDIT,
            bytes: u32::MAX,
        }))
    }

    /// The answer under this number.
    pub(crate) fn reply(&self, asked: u64) -> Option<&Result<Reply, Refusal>> {
        self.replies.iter().find(|(number, _)| *number == asked).map(|(_, result)| result)
    }
}

/// Places of committed records of a queue, at least one, from an offset on.
///
/// # Errors
/// Why there are none, though something is committed.
pub(crate) fn places(
    store: &Store,
    disk: &dyn Disk,
    (topic, queue, at): (TopicId, QueueIndex, QueueOffset),
) -> Result<Vec<RecordPlace>, String> {
    let places = match store.locate(topic, queue, at, 1_000) {
        Located::Places(places) => places,
        Located::Read(read) => {
            yard_store::read::index(disk, &read).map_err(|error| error.to_string())?
        }
        other => return Err(format!("{topic}.{queue} at {at}: {other:?}")),
    };
    if places.is_empty() {
        return Err(format!("{topic}.{queue} at {at}: no place"));
    }
    Ok(places)
}

/// Every committed record of a queue, from the oldest on; or why one cannot be had.
pub(super) fn list_queue(
    store: &Store,
    disk: &dyn Disk,
    (topic, queue): (TopicId, QueueIndex),
) -> Result<Vec<Bytes>, String> {
    let (first, end) = store.queue_span(topic, queue);
    let mut records = Vec::new();
    let mut at = first;
    while at < end {
        let places = places(store, disk, (topic, queue, at))?;
        at.0 += places.len() as u64;
        records.extend(yard_store::read::records(disk, &places).map_err(|e| e.to_string())?);
    }
    Ok(records)
}
