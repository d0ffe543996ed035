//! A shard on a disk in memory, its I/O done in line, and a clock that stands still until somebody
//! lets time pass: what happens at a millisecond happens at exactly that.
use std::collections::{BTreeMap, VecDeque};

use yard_broker::{Asking, DeliverItem, Event, Judged, Origin, SessionId};
use yard_shard::{FetchPlan, Input, OpenedShard, Output, Shard, ShardConfig, sought};
use yard_store::Io;
use yard_store::disk::lying::{Crash, LyingDisk};
use yard_wire::batch::Batch;
use yard_wire::request::{Push, Reply, Request};
use yard_wire::requests::{Deliver, Delivered, Ended, Fetched, FetchedRecord};
use yard_wire::{
    Code, Correlation, QueueIndex, QueueOffset, RecordPlace, SubscriptionId, TenantId, Timestamp,
};

use crate::filter::wants;
use crate::host::{Ending, Kind, Outcome};
use crate::wired::{Care, Line, SHARD};

/// When scenarios begin: 2026-01-01, in milliseconds since 1970.
const BEGAN: Timestamp = Timestamp(1_767_225_600_000);

/// The shard. See the module.
pub struct Bare {
    disk: LyingDisk,
    shard: Shard,
    segment_bytes: u64,
    now: Timestamp,
    line: VecDeque<Io>,
    wakes_at: Option<Timestamp>,
    tenants: BTreeMap<u64, TenantId>,
    asked: u64,
    answers: BTreeMap<u64, Outcome<Reply>>,
    pushed: Vec<(u64, Push)>,
}

fn open(disk: &LyingDisk, segment_bytes: u64, now: Timestamp) -> (Shard, Vec<Output>) {
    let (seed, shards, retention_hour) = (1, 1, None);
    let config = ShardConfig { shard: SHARD, shards, segment_bytes, seed, retention_hour };
    let OpenedShard { shard, outputs, .. } =
        Shard::open(disk, config, now).expect("an honest disk can be opened");
    (shard, outputs)
}

impl Bare {
    /// A broker without anything, in segments of so many bytes.
    #[must_use]
    pub fn new(segment_bytes: u64) -> Self {
        let disk = LyingDisk::new(1);
        let now = BEGAN;
        let (shard, outputs) = open(&disk, segment_bytes, now);
        let mut bare = Self {
            disk,
            shard,
            segment_bytes,
            now,
            line: VecDeque::new(),
            wakes_at: None,
            tenants: BTreeMap::new(),
            asked: 0,
            answers: BTreeMap::new(),
            pushed: Vec::new(),
        };
        bare.put(outputs);
        bare.step(Vec::new());
        bare.settle();
        bare
    }

    fn step(&mut self, inputs: Vec<Input>) {
        let mut outputs = Vec::new();
        self.shard.step(self.now, inputs, &mut outputs);
        self.put(outputs);
    }

    /// Does all I/O, and what follows from it.
    fn settle(&mut self) {
        while let Some(io) = self.line.pop_front() {
            let done = yard_store::io::perform(&self.disk, &io);
            self.step(vec![Input::Io(done)]);
        }
        self.shard.broker().check();
    }

    fn put(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Io(io) => self.line.push_back(io),
                Output::Reply { origin, result } => {
                    self.answers.insert(origin.correlation.0, result);
                }
                Output::ReadIndex { ticket, read } => {
                    let places = yard_store::read::index(&self.disk, &read);
                    let places = places.expect("an honest disk can be read");
                    self.step(vec![Input::Index { ticket, places }]);
                }
                Output::ReadOrders { ticket, plan } => {
                    let read = |places: &[RecordPlace], each: &mut dyn FnMut(&[u8])| {
                        yard_store::read::each(&self.disk, places, each)
                    };
                    let found = plan.orders(&self.disk, read);
                    let (places, orders) = found.expect("an honest disk can be read");
                    self.step(vec![Input::Orders { ticket, places, orders }]);
                }
                Output::Deliver { session, subscription, queue, items, asking, .. } => {
                    self.deliver((session, subscription, queue), &items, asking.as_ref());
                }
                Output::Fetch { origin, from, first, end, bytes_max, plan } => {
                    let records = self.fetch(from, bytes_max, plan);
                    let reply = Reply::Fetch(Fetched { first, end, records });
                    self.answers.insert(origin.correlation.0, Ok(reply));
                }
                Output::Find { asked, plan } => {
                    let findings = plan.run(&self.disk).expect("an honest disk can be read");
                    self.step(vec![Input::Event(Event::Found { asked, findings })]);
                }
                Output::Seek { origin, first, end, plan } => {
                    let offset = plan.run(&self.disk).expect("an honest disk can be read");
                    self.answers.insert(origin.correlation.0, Ok(sought(first, end, offset)));
                }
                Output::Ended { session, subscription, why } => {
                    let ended = Push::Ended(Ended { shard: SHARD, subscription, why });
                    self.pushed.push((session.0, ended));
                }
                Output::Notify { notice, .. } => {
                    self.step(vec![Input::Event(Event::Notice(notice))]);
                }
                Output::TxCheck { session, check } => {
                    self.pushed.push((session.0, Push::TxCheck(check)));
                }
                // No plugin decides anything here, so the native table does.
                Output::AskPolicy(_) | Output::Broadcast(_) => {}
                Output::EnsureTopic { tenant, name } => {
                    self.step(vec![Input::Event(Event::EnsureTopic { tenant, name })]);
                }
                Output::WakeAt(at) => self.wakes_at = Some(at),
            }
        }
    }

    fn deliver(
        &mut self,
        (session, subscription, queue): (SessionId, SubscriptionId, QueueIndex),
        items: &[DeliverItem],
        asking: Option<&Asking>,
    ) {
        let places: Vec<RecordPlace> = items.iter().map(|item| item.place).collect();
        let records = yard_store::read::records(&self.disk, &places);
        let records = records.expect("an honest disk can be read");
        let (mut messages, mut skipped, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (item, record) in items.iter().zip(records) {
            let DeliverItem { offset, attempt, place, .. } = *item;
            if asking.is_some_and(|asking| !wants(&asking.filter, &record)) {
                skipped.push((offset, QueueOffset(offset.0 + 1)));
                bytes += u64::from(place.bytes);
            } else {
                messages.push(Delivered { offset, stored: place.stored, attempt, record });
            }
        }
        if !skipped.is_empty() {
            let poison = Vec::new();
            let judged = Judged { session, subscription, queue, skipped, poison, bytes };
            self.step(vec![Input::Event(Event::Judged(judged))]);
        }
        if !messages.is_empty() {
            let deliver = Deliver { shard: SHARD, subscription, queue, messages };
            self.pushed.push((session.0, Push::Deliver(deliver)));
        }
    }

    fn fetch(&self, from: QueueOffset, bytes_max: u32, plan: FetchPlan) -> Vec<FetchedRecord> {
        let mut places = match plan {
            FetchPlan::Records(places) => places,
            FetchPlan::Index(read) => {
                yard_store::read::index(&self.disk, &read).expect("an honest disk can be read")
            }
        };
        let mut bytes = 0;
        let fitting = places.iter().take_while(|place| {
            bytes += u64::from(place.bytes);
            bytes <= u64::from(bytes_max)
        });
        places.truncate(fitting.count().max(1));
        let records = yard_store::read::records(&self.disk, &places);
        let records = records.expect("an honest disk can be read");
        let numbered = (from.0..).zip(places.iter().zip(records));
        let numbered = numbered.map(|(offset, (place, record))| FetchedRecord {
            offset: QueueOffset(offset),
            stored: place.stored,
            record,
        });
        numbered.collect()
    }

    fn event(&mut self, session: u64, request: Request) -> Outcome<Event> {
        self.asked += 1;
        let (session, stream) = (SessionId(session), 1);
        let origin = Origin { session, stream, correlation: Correlation(self.asked) };
        let tenant = self.tenants[&session.0];
        Ok(match request {
            Request::Produce(produce) => {
                let batch = Batch::parse(produce.batch);
                let batch = batch.map_err(|wrong| wrong.refusal(Code::MalformedBatch))?;
                batch.check_words()?;
                let (place, nodes, floor) = (produce.place, produce.nodes, produce.floor);
                Event::Produce { origin, tenant, place, nodes, floor, batch }
            }
            request => Event::Request { origin, tenant, request },
        })
    }

    /// Lets time pass, and wakes the shard when it wanted to be.
    fn pass(&mut self, to: Timestamp) {
        while let Some(at) = self.wakes_at.filter(|at| *at <= to) {
            self.wakes_at = None;
            self.now = self.now.max(at);
            self.step(Vec::new());
            self.settle();
        }
        self.now = to;
        self.step(Vec::new());
        self.settle();
    }
}

impl Line for Bare {
    fn kind(&self) -> Kind {
        Kind::Bare
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn connect(&mut self, tenant: TenantId) -> u64 {
        let session = self.tenants.len() as u64 + 1;
        self.tenants.insert(session, tenant);
        session
    }

    fn close(&mut self, session: u64) {
        self.step(vec![Input::Event(Event::SessionClosed(SessionId(session)))]);
        self.settle();
    }

    fn ask(&mut self, session: u64, request: Request, _care: Care) -> Option<Outcome<Reply>> {
        let event = match self.event(session, request) {
            Ok(event) => event,
            Err(refusal) => return Some(Err(refusal)),
        };
        self.step(vec![Input::Event(event)]);
        self.settle();
        let answer = self.answers.remove(&self.asked);
        Some(answer.expect("a request is answered when all I/O is done"))
    }

    fn pushes(&mut self) -> Vec<(u64, Push)> {
        std::mem::take(&mut self.pushed)
    }

    fn trouble(&mut self, _nothing_held: bool) -> bool {
        false
    }

    fn advance(&mut self, ms: u64) {
        self.pass(self.now.plus_ms(ms));
    }

    fn restart(&mut self, ending: Ending) {
        if ending == Ending::Stop {
            let sessions: Vec<u64> = self.tenants.keys().copied().collect();
            for session in sessions {
                self.close(session);
            }
        }
        let crash = if ending == Ending::Power { Crash::Power } else { Crash::Process };
        self.disk.crash(1, crash);
        self.line.clear();
        self.pushed.clear();
        self.wakes_at = None;
        let (shard, outputs) = open(&self.disk, self.segment_bytes, self.now);
        self.shard = shard;
        self.put(outputs);
        self.step(Vec::new());
        self.settle();
    }

    fn fill_disk(&mut self, full: bool) {
        use yard_store::Disk;
        let names = self.disk.list().expect("an honest disk can be listed");
        let used: u64 = names.into_iter().filter_map(|name| self.disk.len(name).ok()).sum();
        self.disk.set_capacity(if full { used } else { u64::MAX });
    }
}
