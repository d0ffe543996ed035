//! What a shard wants becomes I/O, answers, deliveries and wishes to be woken; a planned death
//! comes between any two of them.
use bytes::Bytes;
use yard_broker::{DeliverItem, Event, Origin, SessionId};
use yard_shard::{FetchPlan, Input, Output};
use yard_store::{IndexRead, ReadError};
use yard_wire::request::Reply;
use yard_wire::requests::{Deliver, Delivered, Ended, Fetched, FetchedRecord};
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, Refusal, ShardId, SubscriptionId};

use super::Host;
use super::io::brief;
use super::lag::OWN;
use crate::agenda::Happening;
use crate::base::Base;
use crate::network::ToClient;
use crate::planted::{self, Plant};

/// Data streams of every connection.
pub(crate) const STREAMS: u16 = 2;

impl Host {
    pub(super) fn do_outputs(&mut self, base: &mut Base, shard: usize, outputs: Vec<Output>) {
        let mut outputs = outputs;
        let life = self.life;
        planted::alter_outputs(base, &mut outputs);
        for output in outputs {
            base.trace.line(base.now, || format!("shard {shard} wants {}", describe(&output)));
            self.do_output(base, shard, output);
            self.draw_nearer(base);
            if self.life != life {
                return;
            }
        }
    }

    fn do_output(&mut self, base: &mut Base, shard: usize, output: Output) {
        match output {
            Output::Io(io) => {
                base.trace.mix_bytes(&io_bytes(&io));
                self.begin_io(base, shard, io);
            }
            Output::Reply { origin, result } => self.reply(base, shard, origin, result),
            Output::ReadIndex { ticket, read } => {
                base.trace.mix(&[ticket.0]);
                let delay = self.random.latency(base.plan.io);
                let read = Box::new(read);
                let life = self.life;
                base.after(delay, Happening::ReadIndex { shard, life, ticket, read });
            }
            Output::Deliver { session, subscription, topic: _, queue, items } => {
                self.deliver(base, shard, (session, subscription, queue), &items);
            }
            Output::Fetch { origin, from, first, end, bytes_max, plan } => {
                base.trace.mix(&[origin.correlation.0, from.0, first.0, end.0]);
                match self.read_fetch(shard, from, bytes_max, &plan) {
                    Ok(records) => {
                        let reply = Reply::Fetch(Fetched { first, end, records });
                        self.answer(base, origin, Ok(reply));
                    }
                    Err(error) => base.fail(|| format!("shard {shard}: a fetch failed: {error}")),
                }
            }
            Output::Ended { session, subscription, why } => {
                let shard = ShardId(shard as u16);
                let ended = Ended { shard, subscription, why };
                self.send(base, session, 0, ToClient::Ended(ended));
            }
            Output::Broadcast(change) => {
                for other in (0..self.slots.len()).filter(|other| *other != shard) {
                    self.give(base, other, Input::Event(Event::Metadata(change.clone())));
                }
            }
            Output::EnsureTopic { tenant, name } => {
                self.give(base, 0, Input::Event(Event::EnsureTopic { tenant, name }));
            }
            Output::WakeAt(at) => self.want_wake(base, shard, at),
        }
    }

    fn reply(
        &mut self,
        base: &mut Base,
        shard: usize,
        origin: Origin,
        result: Result<Reply, Refusal>,
    ) {
        let slot = &mut self.slots[shard];
        // With a planted bug the history alone must show it.
        if base.plant.is_none()
            && let Ok(Reply::Produce(produced)) = &result
            && let Err(what) = slot.oracle.answered(origin, produced)
        {
            base.fail(|| format!("shard {shard}: {what}"));
        }
        if base.has(Plant::DeliveredBeforeCommit) && slot.is_syncing() {
            slot.held.push((origin, result));
            return;
        }
        self.answer(base, origin, result);
    }

    /// Planted: answers that waited for a sync may leave.
    pub(super) fn release_held(&mut self, base: &mut Base, shard: usize) {
        for (origin, result) in std::mem::take(&mut self.slots[shard].held) {
            self.answer(base, origin, result);
        }
    }

    fn answer(&mut self, base: &mut Base, origin: Origin, result: Result<Reply, Refusal>) {
        let code = match &result {
            Ok(Reply::Produce(produced)) => produced.placed.iter().map(|p| p.first.0).sum(),
            Ok(reply) => reply.kind() as u64,
            Err(refusal) => refusal.code as u64,
        };
        base.trace.mix(&[base.now, origin.session.0, origin.correlation.0, code]);
        if origin.session == OWN {
            self.lag_is(origin, result);
        } else if origin.correlation.0 != 0 {
            let frame = ToClient::Reply(origin.correlation, result);
            self.send(base, origin.session, origin.stream, frame);
        }
    }

    pub(super) fn send(
        &mut self,
        base: &mut Base,
        session: SessionId,
        stream: u16,
        frame: ToClient,
    ) {
        if base.network.is_open_at_broker(session) {
            let Base { now, agenda, network, .. } = base;
            network.send_down(*now, (session, stream), frame, agenda, &mut self.random);
        }
    }

    fn deliver(
        &mut self,
        base: &mut Base,
        shard: usize,
        (session, subscription, queue): (SessionId, SubscriptionId, QueueIndex),
        items: &[DeliverItem],
    ) {
        let places: Vec<RecordPlace> = items.iter().map(|item| item.place).collect();
        let records = match yard_store::read::records(&self.slots[shard].disk, &places) {
            Ok(records) => records,
            Err(error) => {
                base.fail(|| format!("shard {shard}: queue {queue} cannot be read: {error}"));
                return;
            }
        };
        let messages = items.iter().zip(records).map(|(item, record)| Delivered {
            offset: item.offset,
            stored: item.place.stored,
            attempt: item.attempt,
            record,
        });
        let shard_id = ShardId(shard as u16);
        let messages: Vec<Delivered> = messages.collect();
        base.trace.mix(&[base.now, session.0, subscription.0, u64::from(queue.0)]);
        for message in &messages {
            base.trace.mix(&[message.offset.0, u64::from(message.attempt)]);
        }
        let deliver = Deliver { shard: shard_id, subscription, queue, messages };
        if let Some(ack) = planted::ack_of_delivery(base, session, &deliver) {
            self.give(base, shard, Input::Event(ack));
        }
        let stream = 1 + queue.0 % STREAMS;
        self.send(base, session, stream, ToClient::Deliver { deliver, decided: base.now });
    }

    fn read_fetch(
        &mut self,
        shard: usize,
        from: QueueOffset,
        bytes_max: u32,
        plan: &FetchPlan,
    ) -> Result<Vec<FetchedRecord>, ReadError> {
        let disk = &self.slots[shard].disk;
        let mut places = match plan {
            FetchPlan::Records(places) => places.clone(),
            FetchPlan::Index(read) => yard_store::read::index(disk, read)?,
        };
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

    /// Index entries are read for a shard.
    pub(crate) fn read_index(
        &mut self,
        base: &mut Base,
        (shard, life): (usize, u32),
        ticket: yard_broker::Ticket,
        read: &IndexRead,
    ) {
        if life != self.life {
            return;
        }
        match yard_store::read::index(&self.slots[shard].disk, read) {
            Ok(places) => self.give(base, shard, Input::Index { ticket, places }),
            Err(error) => base.fail(|| format!("shard {shard}: an index failed: {error}")),
        }
    }
}

fn io_bytes(io: &yard_store::Io) -> Bytes {
    use yard_store::Io;
    match io {
        Io::WriteGroup { bytes, .. } | Io::WriteCheckpoint { bytes } => bytes.clone(),
        Io::WriteIndex { index, .. } => index.encode(),
        Io::PrepareSegment { header, .. } => header.clone(),
        Io::SyncGroup { .. } => Bytes::from_static(b"sync"),
    }
}

fn describe(output: &Output) -> String {
    match output {
        Output::Io(io) => brief(io),
        other => format!("{other:?}"),
    }
}
