//! Sending as the client does it: its message, its lane. Where a producer lasts, time passes while
//! it tries again.
use yard_client::lane::{LaneCore, LaneOptions, LaneRecord};
use yard_wire::batch::BatchHeader;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckNodes, AckPlace, Original, TopicRoute};
use yard_wire::{Code, MessageId, ProducerId, QueueIndex, Refusal};

use super::{Care, Line, SHARD, Wired, unexpected};
use crate::host::{Outcome, Outgoing, Stored};

/// Whose it is (a tenant), where and on how many nodes messages must be, and the producer that
/// lasts, if it is one's.
pub(super) type Lane = (String, u8, u8, Option<String>);

/// A producer that lasts.
#[derive(Clone)]
pub(super) struct Lasting {
    pub(super) topic: String,
    pub(super) route: TopicRoute,
    pub(super) within_ms: Option<u64>,
}

/// A message in its lane.
pub(super) struct Pushed {
    lane: Lane,
    id: MessageId,
    queue: QueueIndex,
}

impl<L: Line> Wired<L> {
    pub(super) fn lasting(&self, name: &str, topic: &str) -> Outcome<Lasting> {
        let found = self.producers.get(name).filter(|lasting| lasting.topic == topic).cloned();
        let unknown = || format!("no producer of {topic} is called {name}");
        found.ok_or_else(|| Refusal::new(Code::Internal, unknown()))
    }

    pub(super) fn push(
        &mut self,
        tenant: &str,
        message: &Outgoing,
        (route, within_ms): (&TopicRoute, Option<u64>),
    ) -> Outcome<Pushed> {
        let place = message.place.unwrap_or(AckPlace::Synced);
        let nodes = message.nodes.unwrap_or(AckNodes::One);
        self.turn += 1;
        let (now, turn) = (self.line.now(), self.turn);
        let id = MessageId::new(now, turn.into());
        let said = message.message();
        let said = message.tx.map_or(said.clone(), |tx| said.prepared(tx));
        let record = said.into_record(
            (route.topic, (route.shards.len() as u16, route.created_queues)),
            id,
            now,
            message.compression().as_ref(),
            |range| range.start + (turn % u64::from(range.end - range.start)) as u16,
        );
        let record = record.map_err(|error| Refusal::new(error.code, error.detail))?;
        let lane = (tenant.to_owned(), place as u8, nodes as u8, message.by.clone());
        let producer = ProducerId(1_000_000 + self.lanes.len() as u64);
        let is_up = !self.is_down;
        let core = self.lanes.entry(lane.clone()).or_insert_with(|| {
            let usual = LaneOptions::default();
            let delivery_ms = within_ms.unwrap_or(usual.delivery_ms);
            let options = LaneOptions { place, nodes, delivery_ms, ..usual };
            let first = BatchHeader { producer, shard: SHARD, ..BatchHeader::default() };
            let mut core = LaneCore::new(first, options, 1);
            if is_up {
                core.on_connect();
            }
            core
        });
        let parked = record.flags().is_parked();
        let (topic, queue, bytes) = (record.topic(), record.queue(), record.bytes().len());
        let described = LaneRecord { topic, queue, bytes, parked };
        core.push(described, now.0, |out| out.extend_from_slice(record.bytes()));
        Ok(Pushed { lane, id, queue })
    }

    /// Sends what a lane has to send, until its one message has its answer.
    pub(super) fn pump(&mut self, tenant: &str, pushed: &Pushed) -> Outcome<Stored> {
        let lane = |own: &mut Self| own.lanes.remove(&pushed.lane).expect("it was opened");
        let lasts = pushed.lane.3.is_some();
        loop {
            let now_ms = self.line.now().0;
            let mut core = lane(self);
            let outgoing = core.next_to_send(now_ms);
            let (given_up, wake_ms) = (core.next_completion(), core.wake_at(now_ms));
            self.lanes.insert(pushed.lane.clone(), core);
            if let Some(refusal) = given_up.and_then(|completion| completion.result.err()) {
                return Err(refusal);
            }
            let Some(outgoing) = outgoing else {
                let Some(wake_ms) = wake_ms.filter(|_| lasts) else {
                    return Err(Refusal::new(Code::Busy, "the lane waits, for longer than a step"));
                };
                self.collect();
                self.line.advance(wake_ms.saturating_sub(now_ms));
                continue;
            };
            let session = self.session(tenant)?;
            let care = if self.has_no_members() { Care::Dies } else { Care::Again };
            let request = Request::Produce(outgoing.produce);
            let Some(answer) = self.line.ask(session, request, care) else {
                self.reconnect();
                continue;
            };
            let answer = answer.and_then(|reply| match reply {
                Reply::Produce(produced) => Ok(produced),
                other => Err(unexpected(&other)),
            });
            let waits = answer.as_ref().err().filter(|it| it.code.is_retryable()).cloned();
            let mut core = lane(self);
            core.on_reply(outgoing.attempt, answer, now_ms);
            let completion = core.next_completion();
            if let Some(refusal) = waits.filter(|_| completion.is_none() && !lasts) {
                // A producer waits and tries again; a step says what it waits for.
                core.fail_all(&refusal);
                while core.next_completion().is_some() {}
                self.lanes.insert(pushed.lane.clone(), core);
                return Err(refusal);
            }
            self.lanes.insert(pushed.lane.clone(), core);
            if let Some(completion) = completion {
                let Pushed { id, queue, .. } = *pushed;
                return completion.result.map(|placements| match placements.originals[..] {
                    [Original { id, queue, offset, .. }, ..] => {
                        Stored { id, queue, offset, duplicate: true }
                    }
                    [] => Stored { id, queue, offset: placements.offsets[0], duplicate: false },
                });
            }
        }
    }
}
