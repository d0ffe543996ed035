//! A client that sends: the shipped lanes over the simulated network.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_checker::{AckLevel, Event, Outcome, Sent};
use yard_client::compress::Algorithm;
use yard_client::lane::{Attempt, Completion, LaneCore, LaneOptions, LaneRecord};
use yard_client::{Compression, priority_queues};
use yard_wire::batch::{self, BatchHeader};
use yard_wire::limits::PRIORITY_MAX;
use yard_wire::operation::{DelayCancel, DelayCancelled, Operation};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckNodes, AckPlace, Call, Original, TxVerdict};
use yard_wire::{
    Code, Correlation, Epoch, Lane, MessageId, ProducerId, QueueIndex, QueueOffset, Refusal,
    Sequence, ShardId, Timestamp, TopicId, TxId, Wire,
};

mod identity;
mod transaction;

use identity::Identity;
pub(crate) use transaction::tx_group;

use super::Link;
use crate::agenda::{MS, Micros};
use crate::base::{Base, Phase, queue_name};
use crate::host::WALL_MS;
use crate::keys;
use crate::message::{self, BODY_BYTES_MIN, Letter};
use crate::network::ToClient;
use crate::plan::ProducerPlan;
use crate::planted::Plant;
use crate::random::Random;

/// Of 100 delayed messages, those that are wanted back.
const CANCEL_PERCENT: u64 = 15;
/// A call on this stream or a later one goes to one shard.
pub(crate) const CALL_STREAM: u16 = 1_000;
/// Nobody wants a message after this, at most, in milliseconds, where it expires.
const EXPIRY_MS_MAX: u64 = 2_500;
/// A delayed message is due after this, at most, in milliseconds.
const DELAY_MS_MAX: u64 = 3_000;

type LaneName = (ShardId, Lane);

/// A message that was written, for a lane.
#[derive(Clone)]
struct Written {
    /// Its place in the history of its producer.
    number: u64,
    topic: TopicId,
    queue: QueueIndex,
    parked: bool,
    bytes: Bytes,
}

/// What a message is called.
#[derive(Clone, Copy)]
struct Name {
    shard: ShardId,
    id: MessageId,
    /// Its dedupe key.
    key: Option<(TopicId, u64)>,
}

/// What is told of a message that is stored, or in whose place another one is.
#[derive(Clone, Copy)]
struct Told {
    offset: Option<QueueOffset>,
    original: Option<Original>,
    place: AckPlace,
}

/// A lane, and the number of the message of each of its tickets.
struct NumberedLane {
    core: LaneCore,
    numbers: Vec<u64>,
}

/// A client that sends.
pub(crate) struct Producer {
    pub(super) link: Link,
    plan: ProducerPlan,
    random: Random,
    /// Its number in the history.
    number: u64,
    lanes: BTreeMap<LaneName, NumberedLane>,
    asked: BTreeMap<Correlation, (LaneName, Attempt)>,
    names: Vec<Name>,
    /// Messages that it wants back, by request.
    cancelling: BTreeMap<Correlation, u64>,
    sent: Vec<Sent>,
    left: u64,
    next_burst: Micros,
    /// The transaction that is open.
    open: Option<transaction::Open>,
    /// The id under which it numbers them, and the next number.
    tx_producer: u64,
    next_tx: u64,
    /// Its process ends when what has arrived was taken in.
    dies: bool,
    /// What it tried to decide of transactions in the name of another group, by request.
    foreign: BTreeMap<Correlation, (TxId, TxVerdict)>,
    /// Messages of transactions.
    in_tx: BTreeMap<u64, TxId>,
    /// What has no answer yet, for a planted bug.
    unanswered: BTreeMap<u64, (LaneName, Written)>,
    /// Under which it goes on when its process ends, if it has one.
    identity: Option<Identity>,
}

impl Producer {
    /// A producer with this number among the clients.
    #[must_use]
    pub(crate) fn new(base: &mut Base, client: usize, plan: ProducerPlan) -> Self {
        let left = plan.messages;
        let named = (plan.reborn > 0).then(|| ProducerId(!plan_seed(base, client)));
        Self {
            link: Link::new(client),
            identity: named.map(Identity::new),
            plan,
            random: base.random.split(),
            number: client as u64,
            lanes: BTreeMap::new(),
            asked: BTreeMap::new(),
            names: Vec::new(),
            cancelling: BTreeMap::new(),
            sent: Vec::new(),
            left,
            next_burst: base.now,
            open: None,
            tx_producer: plan_seed(base, client),
            next_tx: 0,
            dies: false,
            foreign: BTreeMap::new(),
            in_tx: BTreeMap::new(),
            unanswered: BTreeMap::new(),
        }
    }

    pub(super) fn is_done(&self, base: &Base) -> bool {
        let is_idle = self.lanes.values().all(|lane| lane.core.is_idle());
        let is_open = self.identity.as_ref().is_none_or(|identity| identity.is_open(base));
        self.left == 0 && is_idle && self.open.is_none() && is_open
    }

    pub(super) fn connected(&mut self, base: &mut Base) {
        self.lanes.values_mut().for_each(|lane| lane.core.on_connect());
        if base.has(Plant::ClientRenumbers) && self.identity.is_none() {
            self.renumber(base);
        }
        if let Some(identity) = &mut self.identity {
            identity.connected(base);
        }
        self.join(base);
        self.work(base);
    }

    pub(super) fn lost(&mut self) {
        self.asked.clear();
        // What became of these nobody knows.
        self.cancelling.clear();
        self.foreign.clear();
        self.lanes.values_mut().for_each(|lane| lane.core.on_disconnect());
        if let Some(identity) = &mut self.identity {
            identity.lost();
        }
    }

    pub(super) fn drain(&mut self, base: &mut Base) {
        self.next_burst = base.now;
        self.link.work_at(base, base.now);
    }

    /// Its process ends and another one begins: what has no answer is never heard of again.
    pub(crate) fn is_born_again(&mut self, base: &mut Base) {
        if self.identity.is_some() {
            return self.begin_anew(base, false);
        }
        self.abandon(base);
        self.finish(base);
        self.number += 1_000;
        self.lanes.clear();
        self.asked.clear();
        self.names.clear();
        self.cancelling.clear();
        self.unanswered.clear();
    }

    pub(super) fn work(&mut self, base: &mut Base) {
        if base.now >= self.next_burst && self.left > 0 {
            if !self.may_begin(base) {
                self.write_burst(base);
            }
            let pause = self.random.range(self.plan.pause / 2, self.plan.pause * 3 / 2);
            self.next_burst = base.now + pause.max(1);
            self.may_end(base);
        }
        self.ask_again(base);
        self.ask_to_open(base);
        self.pump(base);
    }

    fn write_burst(&mut self, base: &mut Base) {
        // What is left when the storm is over is sent at once: it still must arrive.
        let count = match base.phase {
            Phase::SetUp | Phase::Storm => self.random.range(1, self.plan.burst).min(self.left),
            Phase::Drain | Phase::Scan | Phase::Over => self.left,
        };
        self.left -= count;
        for _ in 0..count {
            self.write(base, None);
        }
    }

    /// Writes a message, of a transaction or not, and puts it into its lane. Gives its number.
    fn write(&mut self, base: &mut Base, tx: Option<TxId>) -> u64 {
        let topic = self.random.below(base.routes.len() as u64) as usize;
        let route = &base.routes[topic];
        let has_key = self.plan.keyed > 0 && self.random.percent(self.plan.keyed);
        // What a transaction stores cannot be compared before it is decided.
        let has_key = has_key && tx.is_none();
        let dedupe = has_key.then(|| self.random.below(self.plan.dedupe_keys));
        let groups = self.plan.order_groups;
        let order_group = (groups > 0 && !has_key).then(|| self.random.below(groups));
        let queues = route.shards.len() as u64;
        let number = self.sent.len() as u64;
        let priority = self.draw_priority(number);
        let queue = match (dedupe, order_group) {
            (Some(key), _) => key * 5 % queues,
            (None, Some(group)) => (group * 7 + self.number) % queues,
            (None, None) => {
                let drawn = self.random.below(queues);
                priority.map_or(drawn, |priority| {
                    let range = priority_queues(priority, queues as u16);
                    u64::from(range.start) + drawn % range.len() as u64
                })
            }
        };
        let priority = priority.filter(|_| dedupe.is_none() && order_group.is_none());
        let lane = Lane((queue % u64::from(self.plan.lanes)) as u16);
        let name = (route.shards[queue as usize], lane);
        let is_delayed = base.phase == Phase::Storm && self.random.percent(self.plan.delayed);
        let delay_ms = self.random.range(1, DELAY_MS_MAX);
        // Those sent after it would overtake it, so an ordered topic takes none.
        let is_delayed = is_delayed && base.plan.ordered[topic].is_none();
        let due = is_delayed.then(|| base.now / MS + delay_ms);
        let alike = self.draw_alike(number);
        alike.into_iter().for_each(|value| base.alike.sent((self.number, number), value));
        let expires = self.draw_expiry(number).map(|after_ms| base.now / MS + after_ms);
        let route = &base.routes[topic];
        let letter = Letter {
            topic: route.topic,
            queue: QueueIndex(queue as u16),
            producer: self.number,
            seq: number,
            order_group,
            dedupe,
            is_for_plugin: base.plan.keys_by_plugin,
            alike,
            packed: self.draw_packing(number),
            body_bytes: self.random.range(BODY_BYTES_MIN, self.plan.body_bytes),
            born: Timestamp(base.now / MS),
            due: due.map(|due| Timestamp(WALL_MS + due)),
            expires: expires.map(|expires| Timestamp(WALL_MS + expires)),
            priority,
            tx,
        };
        let (bytes, id, hash) = message::encode(&letter);
        let key = dedupe.map(|key| (letter.topic, key));
        key.into_iter().for_each(|key| base.keys.sent(key, id));
        self.names.push(Name { shard: name.0, id, key });
        self.sent.push(Sent {
            client: self.link.client as u64,
            tenant: 0,
            queue: queue_name(letter.topic, letter.queue),
            producer: letter.producer,
            seq: letter.seq,
            order_group,
            hash,
            due: due.map(|due| due * MS),
            expires: expires.map(|expires| expires * MS),
            invoked: base.now,
            completed: None,
            outcome: Outcome::Unknown,
            level: level(self.plan.place),
        });
        if let Some(tx) = tx {
            self.in_tx.insert(number, tx);
        }
        let (topic, queue) = (letter.topic, letter.queue);
        let parked = due.is_some() || tx.is_some();
        let written = Written { number, topic, queue, parked, bytes };
        if base.has(Plant::ClientRenumbers) && self.identity.is_none() {
            self.unanswered.insert(number, (name, written.clone()));
        }
        if self.keep_for_later(base, name, &written) {
            self.push(base, name, &written);
        }
        number
    }

    /// The value that groups may compare a message by. What else is drawn does not depend on it.
    fn draw_alike(&self, number: u64) -> Option<u64> {
        let mut random = Random::new(self.number << 40 ^ number ^ 0x0041_4c49_4b45);
        let has_one = self.plan.alike > 0 && random.percent(self.plan.alike);
        has_one.then(|| random.below(self.plan.alike_values))
    }

    /// After how many milliseconds nobody wants a message any more. What else is drawn does not
    /// depend on it.
    fn draw_expiry(&self, number: u64) -> Option<u64> {
        let mut random = Random::new(self.number << 40 ^ number ^ 0x4558_5049_5259);
        let expires = self.plan.expiring > 0 && random.percent(self.plan.expiring);
        expires.then(|| random.range(1, EXPIRY_MS_MAX))
    }

    /// The priority of a message. What else is drawn does not depend on it.
    fn draw_priority(&self, number: u64) -> Option<u8> {
        let mut random = Random::new(self.number << 40 ^ number ^ 0x5052_494f_5249);
        let has_one = self.plan.prioritised > 0 && random.percent(self.plan.prioritised);
        has_one.then(|| random.below(u64::from(PRIORITY_MAX) + 1) as u8)
    }

    /// How the body of a message is packed. What else is drawn does not depend on it.
    fn draw_packing(&self, number: u64) -> Option<Compression> {
        let mut random = Random::new(self.number << 40 ^ number ^ 0x5041_434b_4544);
        let is_packed = self.plan.packed > 0 && random.percent(self.plan.packed);
        let algorithm = if random.percent(80) { Algorithm::Lz4 } else { Algorithm::Zstd };
        is_packed.then(|| Compression::new(algorithm).threshold_bytes(0))
    }

    fn push(&mut self, base: &Base, name: LaneName, written: &Written) {
        let connected = self.link.session.is_some();
        let (plan, number, random) = (&self.plan, self.number, &mut self.random);
        let identity = self.identity.as_ref();
        let lane = self.lanes.entry(name).or_insert_with(|| {
            let batch_bytes = base.plan.batch_bytes_max();
            let first = identity.map(|identity| identity.first(name));
            let mut core = new_lane(plan, (number, batch_bytes), (name, first), random);
            if connected {
                core.on_connect();
            }
            NumberedLane { core, numbers: Vec::new() }
        });
        let Written { number, topic, queue, parked, bytes } = written;
        let (topic, queue, parked) = (*topic, *queue, *parked);
        let record = LaneRecord { topic, queue, bytes: bytes.len(), parked };
        let pushed = lane.core.push(record, base.now / MS, |out| out.extend_from_slice(bytes));
        assert_eq!(pushed.ticket, lane.numbers.len() as u64, "tickets follow each other");
        lane.numbers.push(*number);
    }

    /// Sends what may be sent, takes what was completed, plans the next look.
    fn pump(&mut self, base: &mut Base) {
        let now_ms = base.now / MS;
        let mut wake = (self.left > 0).then_some(self.next_burst);
        let Self { link, lanes, asked, identity, .. } = self;
        let is_reversed = base.has(Plant::ReceiptsReversed);
        let mut completions = Vec::new();
        for (name, lane) in lanes {
            let ends = identity.as_mut().map(|identity| &mut identity.ends);
            send(base, link, (*name, lane), asked, ends);
            while let Some(Completion { tickets, result, .. }) = lane.core.next_completion() {
                for (at, ticket) in tickets.enumerate() {
                    let result = result.as_ref().map(|p| Told {
                        offset: p.offsets[if is_reversed { p.offsets.len() - 1 - at } else { at }],
                        original: p.originals.iter().find(|it| it.record == at as u32).copied(),
                        place: p.place,
                    });
                    let result = result.map_err(Refusal::clone);
                    completions.push((lane.numbers[ticket as usize], result));
                }
            }
            let at = lane.core.wake_at(now_ms).map(|at| at * MS);
            wake = wake.into_iter().chain(at).min();
        }
        for (number, result) in completions {
            self.complete_named(base, &result);
            self.complete(base, number, result);
        }
        if std::mem::take(&mut self.dies) {
            self.is_born_again(base);
        }
        let older = self.pump_older(base);
        let identity = self.identity.as_ref().filter(|_| self.link.session.is_some());
        let open_at = identity.and_then(|identity| identity.ask_at);
        let ask_at = self.open.as_ref().and_then(|open| open.ask_at).into_iter().chain(open_at);
        if let Some(at) = wake.into_iter().chain(older).chain(ask_at).min() {
            self.link.work_at(base, at);
        }
    }

    fn complete(&mut self, base: &mut Base, number: u64, result: Result<Told, Refusal>) {
        let is_stored = result.is_ok();
        let is_in_tx = self.in_tx.contains_key(&number);
        let sent = &mut self.sent[number as usize];
        let name = (self.number, number);
        base.lives.may_want(base.plan.lives, name, self.names[number as usize].id);
        self.unanswered.remove(&number);
        if result.is_err() && self.identity.is_some() {
            // Whoever comes next sends it again, or is told that it is stored.
            return;
        }
        sent.completed = Some(base.now);
        match result {
            Ok(Told { original: Some(original), place, .. }) => {
                // It is never to be seen itself.
                sent.outcome = Outcome::Refused;
                let Name { id, key, .. } = self.names[number as usize];
                keys::answered(base, key, id, (original, place));
            }
            Ok(Told { offset, place: got, .. }) => {
                sent.outcome = Outcome::Ok { offset: offset.map(|offset| offset.0) };
                let is_delayed = sent.due.is_some() && !is_in_tx;
                if got != self.plan.place {
                    let wanted = self.plan.place;
                    base.fail(|| format!("{got:?} was answered where {wanted:?} was asked for"));
                }
                let may_cancel = is_delayed && self.identity.is_none();
                if may_cancel && self.random.percent(CANCEL_PERCENT) {
                    self.cancel(base, number);
                }
            }
            Err(refusal) => {
                if is_nowhere(&refusal) {
                    // Unless somebody sends the same bytes again, it never will be anywhere.
                    let is_once = base.plan.weather.replay_one_in == 0;
                    sent.outcome = if is_once { Outcome::Refused } else { sent.outcome };
                } else if !is_expected(&refusal) {
                    base.fail(|| {
                        format!("message {}.{number} was refused: {refusal}", self.number)
                    });
                }
            }
        }
        if is_in_tx {
            self.prepared(base, number, is_stored);
        }
    }

    /// Asks for a delayed message back.
    fn cancel(&mut self, base: &mut Base, number: u64) {
        let Name { shard, id, .. } = self.names[number as usize];
        let operation = Operation::DelayCancel as u16;
        let request = Request::Call(Call { operation, args: DelayCancel { id }.to_bytes() });
        if let Some(correlation) = self.link.request(base, CALL_STREAM + shard.0, request) {
            self.cancelling.insert(correlation, number);
            self.sent[number as usize].outcome = Outcome::Unknown;
        }
    }

    /// What is taken back is never seen; else it is as if nothing had been asked.
    fn cancelled(&mut self, base: &mut Base, number: u64, result: Result<Reply, Refusal>) {
        let is_back = match result {
            Ok(Reply::Call(called)) => match DelayCancelled::from_bytes(called.result) {
                Ok(DelayCancelled { cancelled, .. }) => cancelled,
                Err(error) => return base.fail(|| format!("a cancelled message: {error}")),
            },
            Ok(other) => return base.fail(|| format!("a cancel was answered by {other:?}")),
            // A log that was fenced may hold it all the same.
            Err(refusal) if refusal.code == Code::LogFenced => return,
            Err(refusal) if [Code::Busy, Code::DiskFull].contains(&refusal.code) => false,
            Err(refusal) => return base.fail(|| format!("a cancel was refused: {refusal}")),
        };
        let outcome = if is_back { Outcome::Refused } else { Outcome::Ok { offset: None } };
        self.sent[number as usize].outcome = outcome;
    }

    pub(super) fn receive(&mut self, base: &mut Base, frame: ToClient) {
        let (correlation, result) = match frame {
            ToClient::Reply(correlation, result) => (correlation, result),
            ToClient::TxCheck(check) => return self.checked(base, check),
            ToClient::Deliver { .. } | ToClient::Ended(_) => return,
        };
        self.heard(base, correlation, &result);
        let is_answered = self.answered(base, correlation, &result).is_some()
            || self.opened(base, correlation, &result).is_some()
            || self.older_answered(base, correlation, &result).is_some();
        if is_answered {
            return self.pump(base);
        }
        if let Some(tried) = self.foreign.remove(&correlation) {
            return Self::meddled(base, tried, &result);
        }
        if let Some(number) = self.cancelling.remove(&correlation) {
            return self.cancelled(base, number, result);
        }
        let Some((name, attempt)) = self.asked.remove(&correlation) else { return };
        let result = match result {
            Ok(Reply::Produce(produced)) => Ok(produced),
            Ok(other) => {
                base.fail(|| format!("a produce request was answered by {other:?}"));
                return;
            }
            Err(refusal) => Err(refusal),
        };
        if let Some(lane) = self.lanes.get_mut(&name) {
            lane.core.on_reply(attempt, result, base.now / MS);
        }
        self.pump(base);
    }

    /// Planted: after a reconnect everything unanswered is numbered anew.
    fn renumber(&mut self, base: &mut Base) {
        self.lanes.clear();
        self.asked.clear();
        for (name, written) in std::mem::take(&mut self.unanswered).into_values() {
            self.push(base, name, &written);
            self.unanswered.insert(written.number, (name, written));
        }
    }

    pub(super) fn finish(&mut self, base: &mut Base) {
        for (number, sent) in (0..).zip(self.sent.drain(..)) {
            match self.in_tx.remove(&number) {
                Some(tx) => base.ledger.keep(tx, sent),
                None => base.history.push(Event::Send(sent)),
            }
        }
        self.in_tx.clear();
    }
}

/// A number of its own for each producer, without a draw: other runs stay as they are.
fn plan_seed(base: &Base, client: usize) -> u64 {
    Random::new(base.plan.seed ^ (client as u64) << 32).word()
}

/// Sends what a lane may send now; of each batch the message after it is noted in `ends`.
fn send(
    base: &mut Base,
    link: &mut Link,
    (name, lane): (LaneName, &mut NumberedLane),
    asked: &mut BTreeMap<Correlation, (LaneName, Attempt)>,
    mut ends: Option<&mut BTreeMap<Correlation, (LaneName, u64)>>,
) {
    while let Some(outgoing) = lane.core.next_to_send(base.now / MS) {
        let batch = outgoing.produce.batch.clone();
        let request = Request::Produce(outgoing.produce);
        let Some(correlation) = link.request(base, 1 + name.1.0, request) else { continue };
        asked.insert(correlation, (name, outgoing.attempt));
        if let Some(ends) = &mut ends {
            let (header, count) = batch::parse_header(&batch).expect("a lane made it");
            ends.insert(correlation, (name, header.sequence.0 + count as u64));
        }
    }
}

fn new_lane(
    plan: &ProducerPlan,
    (number, batch_bytes_max): (u64, usize),
    ((shard, lane), named): (LaneName, Option<BatchHeader>),
    random: &mut Random,
) -> LaneCore {
    let anew = BatchHeader {
        producer: ProducerId(random.word()),
        epoch: Epoch(0),
        lane,
        shard,
        sequence: Sequence(0),
    };
    let header = named.unwrap_or(anew);
    let options = LaneOptions {
        place: plan.place,
        nodes: AckNodes::One,
        in_flight_max: plan.in_flight,
        batch_records_max: plan.batch_records,
        batch_bytes_max,
        attempt_ms: plan.attempt_ms,
        delivery_ms: plan.delivery_ms,
        ends_at_failure: named.is_some(),
        ..LaneOptions::default()
    };
    LaneCore::new(header, options, number ^ random.word())
}

/// What may happen to a message in a storm: nobody knows where it is.
fn is_expected(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::TimedOut | Code::StaleSequence)
}

/// What it was refused with until its time was over.
fn is_nowhere(refusal: &Refusal) -> bool {
    use Code::{BacklogFull, Busy, DedupeFull, DiskFull};
    matches!(refusal.code, BacklogFull | Busy | DedupeFull | DiskFull)
}

fn level(place: AckPlace) -> AckLevel {
    match place {
        AckPlace::Memory => AckLevel::Memory,
        AckPlace::Written => AckLevel::Written,
        AckPlace::Synced => AckLevel::Synced,
    }
}
