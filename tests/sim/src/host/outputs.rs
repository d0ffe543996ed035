//! What a shard wants becomes I/O, answers, deliveries and wishes to be woken; a planned death
//! comes between any two of them.
use bytes::Bytes;
use yard_broker::{Asking, DeliverItem, Event, Notice, Origin, PolicyQuestion, SessionId};
use yard_shard::{Input, Output};
use yard_wire::request::Reply;
use yard_wire::requests::{Deliver, Delivered, Ended, TxCheck};
use yard_wire::{Refusal, ShardId};

use super::io::brief;
use super::lag::OWN;
use super::{Held, Host, Place};
use crate::agenda::Happening;
use crate::base::{Base, Found};
use crate::message;
use crate::network::ToClient;
use crate::planted::{self, Plant};

/// Data streams of every connection.
pub(crate) const STREAMS: u16 = 2;

impl Host {
    pub(super) fn do_outputs(&mut self, base: &mut Base, shard: usize, outputs: Vec<Output>) {
        let mut outputs = outputs;
        let life = self.life;
        planted::alter_outputs(base, life, &mut outputs);
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
            Output::ReadLabels { ticket, reads, plan } => {
                self.begin_labels(base, shard, (ticket, reads), plan);
            }
            Output::Deliver { session, subscription, topic, queue, items, asking } => {
                let place = (session, subscription, topic, queue);
                if base.has(Plant::NextGroupBeforeSync) && self.slots[shard].is_syncing() {
                    self.slots[shard].held.push(Held::Delivery(place, items, asking));
                } else {
                    self.deliver(base, shard, place, &items, asking.as_ref());
                }
            }
            Output::Fetch { origin, from, first, end, bytes_max, plan } => {
                self.fetch(base, shard, (origin, from, (first, end), bytes_max), &plan);
            }
            Output::Find { asked, plan } => self.find(base, shard, asked, &plan),
            Output::Seek { origin, first, end, plan } => {
                self.seek(base, shard, (origin, first, end), plan);
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
            Output::AskPolicy(question) => match *question {
                PolicyQuestion::Retry(question) => self.decide(base, shard, &question),
                PolicyQuestion::Check(question) => self.check(base, shard, &question),
            },
            Output::Notify { to, notice } => self.notify(base, to, notice),
            Output::TxCheck { session, check } => self.ask_producer(base, session, check),
            Output::EnsureTopic { tenant, name } => {
                self.give(base, 0, Input::Event(Event::EnsureTopic { tenant, name }));
            }
            Output::WakeAt(at) => self.want_wake(base, shard, at),
        }
    }

    fn notify(&mut self, base: &mut Base, to: ShardId, notice: Notice) {
        base.trace.mix(&[notice.tx.number, to.0.into()]);
        self.give(base, usize::from(to.0), Input::Event(Event::Notice(notice)));
    }

    fn ask_producer(&mut self, base: &mut Base, session: SessionId, check: TxCheck) {
        base.trace.mix(&[session.0, check.tx.number, check.check.into()]);
        self.send(base, session, 0, ToClient::TxCheck(check));
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
        if let Ok(Reply::Subscribe(_)) = &result {
            self.beginnings.subscribed(origin);
        }
        if planted::holds_answers(base) && slot.is_syncing() {
            slot.held.push(Held::Answer(origin, result));
            return;
        }
        self.answer(base, origin, result);
    }

    /// Planted: what waited for a sync may leave.
    pub(super) fn release_held(&mut self, base: &mut Base, shard: usize) {
        if base.has(Plant::NextGroupBeforeSync) && self.slots[shard].is_syncing() {
            return;
        }
        for held in std::mem::take(&mut self.slots[shard].held) {
            match held {
                Held::Answer(origin, result) => self.answer(base, origin, result),
                Held::Delivery(place, items, asking) => {
                    self.deliver(base, shard, place, &items, asking.as_ref());
                }
            }
        }
    }

    pub(super) fn answer(
        &mut self,
        base: &mut Base,
        origin: Origin,
        result: Result<Reply, Refusal>,
    ) {
        let code = match &result {
            Ok(Reply::Produce(produced)) => produced.placed.iter().map(|p| p.first.0).sum(),
            Ok(reply) => reply.kind() as u64,
            Err(refusal) => refusal.code as u64,
        };
        base.trace.mix(&[base.now, origin.session.0, origin.correlation.0, code]);
        if origin.session == OWN {
            if !self.answers_operator(base, origin, &result) {
                self.lag_is(origin, result);
            }
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
        place: Place,
        items: &[DeliverItem],
        asking: Option<&Asking>,
    ) {
        let (session, subscription, _, queue) = place;
        let Some((items, mut records)) = self.read_items(base, shard, place, items) else { return };
        planted::alter_records(base, &mut records);
        let mut decided = base.now;
        let wanted = match (asking, base.wants) {
            (Some(asking), Some(wants)) => {
                let wanted = records.iter().map(|record| wants(&asking.filter, record)).collect();
                self.skip(base, shard, place, items.iter().zip(&wanted));
                wanted
            }
            (Some(asking), None) => {
                let Some(messages) = found(base, &items, &records) else { return };
                let wanted = self.judge(base, shard, place, asking, &messages);
                let going = messages.iter().zip(&wanted).filter(|(_, wanted)| **wanted);
                let going = going.map(|((_, found), _)| found);
                decided = self.decided(base, shard, asking, going);
                wanted
            }
            (None, _) => vec![true; items.len()],
        };
        let items = items.iter().zip(records).zip(wanted).filter(|(_, wanted)| *wanted);
        let messages = items.map(|((item, record), _)| Delivered {
            offset: item.offset,
            stored: item.place.stored,
            attempt: item.attempt,
            record,
        });
        let shard_id = ShardId(shard as u16);
        let messages: Vec<Delivered> = messages.collect();
        if messages.is_empty() {
            return;
        }
        base.trace.mix(&[base.now, session.0, subscription.0, u64::from(queue.0)]);
        for message in &messages {
            base.trace.mix(&[message.offset.0, u64::from(message.attempt)]);
        }
        let deliver = Deliver { shard: shard_id, subscription, queue, messages };
        if let Some(ack) = planted::ack_of_delivery(base, session, &deliver) {
            self.give(base, shard, Input::Event(ack));
        }
        let stream = 1 + queue.0 % STREAMS;
        self.send(base, session, stream, ToClient::Deliver { deliver, decided });
    }
}

/// The messages as a policy reads them.
fn found(
    base: &mut Base,
    items: &[DeliverItem],
    records: &[Bytes],
) -> Option<Vec<(DeliverItem, Found)>> {
    let mut messages = Vec::with_capacity(items.len());
    for (item, record) in items.iter().zip(records) {
        match message::decode(record) {
            Ok((_, found)) => messages.push((*item, found)),
            Err(error) => {
                base.fail(|| format!("a message that is asked about: {error}"));
                return None;
            }
        }
    }
    Some(messages)
}

fn io_bytes(io: &yard_store::Io) -> Bytes {
    use yard_store::Io;
    match io {
        Io::WriteGroup { bytes, .. } => bytes.clone(),
        Io::WriteCheckpoint { saved, state } => saved.encode_with(&state.encode()),
        Io::WriteIndex { index, .. } => index.encode(),
        Io::PrepareSegment { header, .. } => header.clone(),
        Io::IndexKeys { job } => format!("keys of {}", job.segment()).into(),
        Io::WriteKeys { runs } => {
            runs.iter().map(|run| &run.bytes()[..]).collect::<Vec<_>>().concat().into()
        }
        Io::SyncGroup { .. } => Bytes::from_static(b"sync"),
        Io::ReadKept { reads, waiting } => Bytes::from(format!("{reads:?} {waiting:?}")),
        Io::RemoveSegment { segment } => Bytes::copy_from_slice(&segment.to_le_bytes()),
    }
}

fn describe(output: &Output) -> String {
    match output {
        Output::Io(io) => brief(io),
        other => format!("{other:?}"),
    }
}
