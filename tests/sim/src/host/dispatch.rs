//! What arrives from clients becomes inputs of the shards.
use bytes::Bytes;
use yard_broker::{Event, Origin, SessionId};
use yard_checker::{Crash, CrashKind, Event as Recorded};
use yard_shard::Input;
use yard_wire::batch::Batch;
use yard_wire::limits::LANE_BATCHES_IN_FLIGHT_MAX;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Produce, Settle, Settled};
use yard_wire::{Correlation, ShardId};

use super::Host;
use super::life::cannot_record;
use crate::base::{Base, Phase};
use crate::client::CALL_STREAM;
use crate::network::{ToBroker, ToClient};
use crate::planted::{self, Plant};
use crate::random::Random;

/// What a request without bytes of messages counts in an inbox.
const REQUEST_BYTES: usize = 64;
/// Of so many batches, one comes a second time, damaged.
const MANGLED_ONE_IN: u64 = 8;
/// Requests that may wait for a shard.
const INBOX_MAX: usize = 64 * LANE_BATCHES_IN_FLIGHT_MAX;

impl Host {
    /// A frame of a client has arrived.
    pub(crate) fn arrive(
        &mut self,
        base: &mut Base,
        session: SessionId,
        stream: u16,
        frame: ToBroker,
    ) {
        base.network.has_risen();
        if !base.broker_is_up || !base.network.is_open_at_broker(session) {
            return;
        }
        let ToBroker { correlation, mut request } = frame;
        base.trace.line(base.now, || format!("{session:?}.{stream} -> {correlation} {request:?}"));
        base.trace.mix(&[base.now, session.0, u64::from(stream), correlation.0]);
        planted::alter_request(base, self.life, &mut request);
        let origin = Origin { session, stream, correlation };
        match request {
            Request::Produce(produce) => self.produce(base, origin, produce),
            other => {
                let origin = self.answer_too_early(base, origin, &other);
                let shard = usize::from(shard_of(&other, stream).0);
                if let Request::Subscribe(subscribe) = &other {
                    self.slots[shard].members.insert((subscribe.group.clone(), session));
                }
                let tenant = base.tenant_of(session);
                let event = Event::Request { origin, tenant, request: other };
                self.take_request(base, shard, event, REQUEST_BYTES);
            }
        }
    }

    fn produce(&mut self, base: &mut Base, origin: Origin, produce: Produce) {
        let Produce { place, nodes, floor, batch } = produce;
        let bytes = batch.len();
        if base.plan.meddles {
            mangle(base, &batch);
        }
        match Batch::parse(batch) {
            Ok(mut batch) => {
                if let Err(refusal) = batch.check_words() {
                    base.fail(|| format!("a client sent words that may not be: {refusal}"));
                }
                if let Err(refusal) = self.key(base, &mut batch) {
                    return self.answer(base, origin, Err(refusal));
                }
                let shard = usize::from(batch.header().shard.0);
                self.slots[shard].oracle.asked(origin, batch.header());
                let tenant = base.tenant_of(origin.session);
                let waiting = self.slots[shard].inbox.iter().filter(|(it, _)| is_batch(it));
                if waiting.count() >= base.plan.batches_waiting && base.phase == Phase::Storm {
                    // It came to nothing: as when whoever holds it until its turn dies.
                    return;
                }
                let event = Event::Produce { origin, tenant, place, nodes, floor, batch };
                self.take_request(base, shard, event, bytes);
            }
            Err(error) => base.fail(|| format!("a client sent a batch that is {error}")),
        }
    }

    fn take_request(&mut self, base: &mut Base, shard: usize, event: Event, bytes: usize) {
        let slot = &mut self.slots[shard];
        // A full inbox answers nothing: what a client sees of it is time without an answer.
        if slot.inbox.len() < INBOX_MAX {
            slot.inbox.push_back((Input::Event(event), bytes));
        }
        let budget = slot.shard.as_ref().map_or(0, yard_shard::Shard::input_budget);
        if budget > 0 && self.closing.is_none() {
            self.want_step(base, shard);
        }
    }

    /// Planted: a settlement is answered before anybody has looked at it.
    fn answer_too_early(&mut self, base: &mut Base, origin: Origin, request: &Request) -> Origin {
        let Request::Settle(Settle { ranges, .. }) = request else { return origin };
        if !base.has(Plant::SettledBeforeDurable) {
            return origin;
        }
        let done = ranges.iter().map(|range| range.to.0 - range.from.0).sum();
        let reply = Reply::Settle(Settled { done, lost: Vec::new(), other: Vec::new() });
        self.send(base, origin.session, origin.stream, {
            ToClient::Reply(origin.correlation, Ok(reply))
        });
        Origin { correlation: Correlation(0), ..origin }
    }

    /// The broker has found out that a connection is gone.
    pub(crate) fn lost(&mut self, base: &mut Base, session: SessionId) {
        if !base.network.broker_learns(session) || !base.broker_is_up {
            return;
        }
        base.closed.insert(session, base.now);
        base.trace.line(base.now, || format!("{session:?} is closed at the broker"));
        base.trace.mix(&[base.now, session.0]);
        if base.has(Plant::CloseNotTold) {
            return;
        }
        if self.slots.iter().any(cannot_record) {
            // The attempts of what a group's last member gives back are then not counted, as over
            // a death of the process.
            let (at, kind) = (base.now, CrashKind::Process);
            base.history.push(Recorded::Crash(Crash { at, kind }));
        }
        for shard in 0..self.slots.len() {
            self.slots[shard].members.retain(|(_, member)| *member != session);
            let closed = Input::Event(Event::SessionClosed(session));
            if self.closing.is_some() {
                self.give(base, shard, closed);
            } else {
                // After the requests that it made, as in the server: they must find it closed.
                self.slots[shard].inbox.push_back((closed, 0));
                self.want_step(base, shard);
            }
        }
    }
}

fn is_batch(input: &Input) -> bool {
    matches!(input, Input::Event(Event::Produce { .. }))
}

/// Somebody sends a batch of which a bit is flipped, or the end missing: it must be seen. What else
/// is drawn does not depend on it.
fn mangle(base: &mut Base, batch: &Bytes) {
    let mut random = Random::new(base.now ^ (batch.len() as u64) << 40);
    if !random.once_in(MANGLED_ONE_IN) {
        return;
    }
    let mut mangled = batch.to_vec();
    if random.percent(30) {
        mangled.truncate(random.below(batch.len() as u64) as usize);
    } else {
        let bit = random.below(8 * batch.len() as u64);
        mangled[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
    if Batch::parse(Bytes::from(mangled)).is_ok() {
        base.fail(|| "a damaged batch was taken for a whole one".to_owned());
    }
}

/// Some calls the server gives to every shard; a client of the simulator knows which one it means.
fn shard_of(request: &Request, stream: u16) -> ShardId {
    match request {
        Request::Call(_) if stream >= CALL_STREAM => ShardId(stream - CALL_STREAM),
        Request::Subscribe(body) => body.shard,
        Request::Credit(body) => body.shard,
        Request::Unsubscribe(body) => body.shard,
        Request::Settle(body) => body.shard,
        Request::Extend(body) => body.shard,
        Request::MoveGroup(body) => body.shard,
        Request::Fetch(body) => body.shard,
        Request::Find(body) => body.shard,
        Request::Seek(body) => body.shard,
        Request::JoinProducers(body) => body.shard,
        Request::OpenProducer(body) => body.shard,
        Request::TxBegin(body) => body.tx.coordinator,
        Request::TxDecide(body) => body.tx.coordinator,
        Request::Hello(_) | Request::FindRoute(_) | Request::Call(_) | Request::Produce(_) => {
            ShardId(0)
        }
    }
}
