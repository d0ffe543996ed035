//! Reading of the log for whoever asked, while the disk may fail at it. An error is that of one
//! reader: a request is refused, a delivered message comes again, a question is asked again.
use bytes::Bytes;
use yard_broker::{Asked, DeliverItem, Event, Origin, Reads, Ticket};
use yard_client::OrderLine;
use yard_shard::{FetchPlan, FindPlan, Input, SeekPlan};
use yard_store::disk::lying::{Fault, LyingDisk};
use yard_store::{IndexRead, ReadError};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Credit, Fetched, FetchedRecord, Settle, SettleRange, Verdict};
use yard_wire::{Code, Correlation, QueueOffset, RecordPlace, Refusal, ShardId};

use super::{Host, Place};
use crate::agenda::{Happening, Micros};
use crate::base::{Base, queue_name};
use crate::planted::{self, Plant};

/// A fetch request: who asks, and from where on; where the queue begins and ends; bytes at most.
pub(super) type Fetching = (Origin, QueueOffset, (QueueOffset, QueueOffset), u32);

impl Host {
    /// Until then one in so many reads of a shard's disk fails.
    pub(crate) fn fail_reads(&mut self, shard: usize, one_in: u64, until: Micros) {
        self.slots[shard].unreadable = (one_in, until);
    }

    /// Reads, or meets an error at the first thing that is read.
    pub(super) fn read<T>(
        &mut self,
        base: &mut Base,
        shard: usize,
        read: impl FnOnce(&mut Base, &LyingDisk) -> T,
    ) -> T {
        let (one_in, until) = self.slots[shard].unreadable;
        let fails = base.now < until && self.random.once_in(one_in);
        let disk = &self.slots[shard].disk;
        if fails {
            base.trace.line(base.now, || format!("disk {shard} cannot be read"));
            disk.fail_next(Fault::Read);
        }
        let read = read(base, disk);
        if fails {
            disk.disarm(Fault::Read);
        }
        read
    }

    /// What of a delivery could be read; the rest is given back in the consumer's name, as the
    /// server does it: what could not be read comes later, and what is behind it in its order group
    /// after it.
    pub(super) fn read_items(
        &mut self,
        base: &mut Base,
        shard: usize,
        place: Place,
        items: &[DeliverItem],
    ) -> Option<(Vec<DeliverItem>, Vec<Bytes>)> {
        let (behind, items): (Vec<DeliverItem>, Vec<DeliverItem>) =
            items.iter().copied().partition(|item| self.is_behind(base, shard, place, item));
        let places: Vec<RecordPlace> = items.iter().map(|item| item.place).collect();
        match self.read(base, shard, |_, disk| yard_store::read::records(disk, &places)) {
            Ok(records) => {
                self.give_back(base, shard, place, &behind, Verdict::Release);
                return Some((items, records));
            }
            Err(error) if !is_met(base, shard, &error) => return None,
            Err(_) => {}
        }
        let (mut found, mut records) = (Vec::new(), Vec::new());
        let (mut failed, mut left) = (Vec::new(), Vec::new());
        for item in items {
            if self.is_behind(base, shard, place, &item) {
                left.push(item);
                continue;
            }
            let only = [item.place];
            match self.read(base, shard, |_, disk| yard_store::read::records(disk, &only)) {
                Ok(read) => {
                    found.push(item);
                    records.extend(read);
                }
                Err(error) if is_met(base, shard, &error) => {
                    if let Some(line) = line_of(place, &item) {
                        let failures = self.slots[shard].unread.entry(place.1).or_default();
                        failures.failed(line, item.offset);
                    }
                    base.unread.insert((queue_name(place.2, place.3), item.offset.0));
                    failed.push(item);
                }
                Err(_) => return None,
            }
        }
        // What failed bars what is behind it before that is given back.
        self.give_back(base, shard, place, &failed, Verdict::Nack);
        left.extend(behind);
        self.give_back(base, shard, place, &left, Verdict::Release);
        Some((found, records))
    }

    /// Whether a message is behind one of its order group that could not be read.
    fn is_behind(&mut self, base: &Base, shard: usize, place: Place, item: &DeliverItem) -> bool {
        let failures = self.slots[shard].unread.get_mut(&place.1);
        let Some((failures, line)) = failures.zip(line_of(place, item)) else { return false };
        failures.gives_back(line, item.offset) && !base.has(Plant::UnreadOvertaken)
    }

    fn give_back(
        &mut self,
        base: &mut Base,
        shard: usize,
        (session, subscription, _, queue): Place,
        items: &[DeliverItem],
        verdict: Verdict,
    ) {
        if items.is_empty() {
            return;
        }
        let of = ShardId(shard as u16);
        let range = |item: &DeliverItem| {
            let (from, to) = (item.offset, QueueOffset(item.offset.0 + 1));
            let error = (verdict == Verdict::Nack).then(|| "not read".to_owned());
            SettleRange { queue, from, to, attempt: item.attempt, verdict, delay_ms: None, error }
        };
        let ranges = items.iter().map(range).collect();
        let settle = Settle { shard: of, subscription, ranges };
        let messages = u32::try_from(items.len()).expect("a delivery is bounded");
        let bytes = items.iter().map(|item| item.place.bytes).sum();
        let credit = Credit { shard: of, subscription, messages, bytes };
        let origin = Origin { session, stream: 0, correlation: Correlation(0) };
        let tenant = base.tenant_of(session);
        let first = items.first().map_or(0, |item| item.offset.0);
        base.trace.mix(&[base.now, session.0, first, u64::from(messages)]);
        for request in [Request::Settle(settle), Request::Credit(credit)] {
            let event = Event::Request { origin, tenant, request };
            self.give(base, shard, Input::Event(event));
        }
    }

    pub(super) fn fetch(
        &mut self,
        base: &mut Base,
        shard: usize,
        (origin, from, (first, end), bytes_max): Fetching,
        plan: &FetchPlan,
    ) {
        base.trace.mix(&[origin.correlation.0, from.0, first.0, end.0]);
        let read =
            self.read(base, shard, |base, disk| read_fetch(base, disk, (from, bytes_max), plan));
        let reply = read.map(|records| Reply::Fetch(Fetched { first, end, records }));
        self.answer_read(base, shard, origin, reply);
    }

    pub(super) fn find(&mut self, base: &mut Base, shard: usize, asked: Asked, plan: &FindPlan) {
        base.trace.mix(&[asked.origin.correlation.0, asked.tenant.0.into()]);
        match self.read(base, shard, |_, disk| plan.run(disk)) {
            Ok(findings) => self.give(base, shard, Input::Event(Event::Found { asked, findings })),
            Err(error) => self.answer_read(base, shard, asked.origin, Err(error)),
        }
    }

    pub(super) fn seek(
        &mut self,
        base: &mut Base,
        shard: usize,
        (origin, first, end): (Origin, QueueOffset, QueueOffset),
        plan: SeekPlan,
    ) {
        base.trace.mix(&[origin.correlation.0, first.0, end.0]);
        let read = self.read(base, shard, |_, disk| plan.run(disk));
        let reply = read.map(|offset| yard_shard::sought(first, end, offset));
        self.answer_read(base, shard, origin, reply);
    }

    fn answer_read(
        &mut self,
        base: &mut Base,
        shard: usize,
        origin: Origin,
        read: Result<Reply, ReadError>,
    ) {
        let result = read.map_err(|error| {
            is_met(base, shard, &error);
            Refusal::new(Code::ReadFailed, error.to_string())
        });
        self.answer(base, origin, result);
    }

    /// Index entries are read for a shard.
    pub(crate) fn read_index(
        &mut self,
        base: &mut Base,
        (shard, life): (usize, u32),
        ticket: Ticket,
        read: &IndexRead,
    ) {
        if life != self.life {
            return;
        }
        let places = self.read(base, shard, |_, disk| yard_store::read::index(disk, read));
        let mut places = places.unwrap_or_else(|error| {
            is_met(base, shard, &error);
            Vec::new()
        });
        planted::alter_index(base, &mut places);
        self.give(base, shard, Input::Index { ticket, places });
    }

    pub(super) fn begin_labels(
        &mut self,
        base: &mut Base,
        shard: usize,
        (ticket, reads): (Ticket, Reads),
        plan: FetchPlan,
    ) {
        base.trace.mix(&[ticket.0]);
        let delay = self.random.latency(base.plan.io);
        let (plan, life) = (Box::new(plan), self.life);
        base.after(delay, Happening::ReadLabels { shard, life, ticket, reads, plan });
    }

    /// What records say is read for a shard.
    pub(crate) fn read_labels(
        &mut self,
        base: &mut Base,
        (shard, life): (usize, u32),
        (ticket, reads): (Ticket, Reads),
        plan: FetchPlan,
    ) {
        if life != self.life {
            return;
        }
        let found = self.read(base, shard, |_, disk| {
            let read = |places: &[RecordPlace], each: &mut dyn FnMut(&[u8])| {
                yard_store::read::each(disk, places, each)
            };
            plan.labels(disk, &reads, read)
        });
        let (places, mut labels) = found.unwrap_or_else(|error| {
            is_met(base, shard, &error);
            Default::default()
        });
        planted::alter_labels(base, life, &reads, &places, &mut labels);
        self.give(base, shard, Input::Labels { ticket, places, labels });
    }
}

/// Whether an error is one that the world made; any other fails the run.
fn is_met(base: &mut Base, shard: usize, error: &ReadError) -> bool {
    let is_met = match error {
        // The disk fails as a system does where that was armed only.
        ReadError::Disk { source, .. } => source.raw_os_error().is_some(),
        ReadError::Damaged { .. } => false,
    };
    if !is_met {
        base.fail(|| format!("shard {shard} cannot be read: {error}"));
    }
    is_met
}

/// The order group of a message of an ordered topic.
fn line_of((_, _, _, queue): Place, item: &DeliverItem) -> Option<OrderLine> {
    Some((queue, item.order?.spread()))
}

fn read_fetch(
    base: &Base,
    disk: &LyingDisk,
    (from, bytes_max): (QueueOffset, u32),
    plan: &FetchPlan,
) -> Result<Vec<FetchedRecord>, ReadError> {
    let mut places = match plan {
        FetchPlan::Records(places) => places.clone(),
        FetchPlan::Index(read) => {
            let mut places = yard_store::read::index(disk, read)?;
            planted::alter_index(base, &mut places);
            places
        }
    };
    planted::alter_fetch(base, &mut places);
    let mut bytes = 0;
    let fits = places.iter().take_while(|place| {
        bytes += u64::from(place.bytes);
        bytes <= u64::from(bytes_max)
    });
    let count = fits.count().max(1);
    places.truncate(count);
    let records = yard_store::read::records(disk, &places)?;
    let records = (from.0..).zip(places).zip(records);
    let records = records.map(|((offset, place), record)| FetchedRecord {
        offset: QueueOffset(offset),
        stored: place.stored,
        record,
    });
    Ok(records.collect())
}
