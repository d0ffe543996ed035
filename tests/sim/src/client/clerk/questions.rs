//! What clerks ask, each of the object of its kind that belongs to a span of time.
use yard_linear::{Ticket, name, settings, transaction};
use yard_wire::batch::{self, BatchHeader};
use yard_wire::operation::{GroupSet, TopicCreate, TopicRm, TxCommit, TxRollback};
use yard_wire::record::{DEDUPE, Flags, RecordParts};
use yard_wire::request::Request;
use yard_wire::requests::{AckNodes, AckPlace, MoveGroup, Produce, TxBegin, TxDecide, TxVerdict};
use yard_wire::retry::Attempts;
use yard_wire::units::CountLimit;
use yard_wire::{
    Epoch, Lane, MessageId, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, TopicId, TxId,
};

use super::{Asked, Clerk, GROUP, TOPIC, Turn};
use crate::base::Base;
use crate::client::{CALL_STREAM, call};

/// The producer of all transactions of clerks.
const PRODUCER: ProducerId = ProducerId(0x434c_4552_4b53);
/// Producers for whose epochs clerks contend have this number and that of a span.
const FENCED: u64 = 0x4645_4e43_4544 << 16;
/// Groups are moved to one of so many offsets.
const OFFSETS: u64 = 6;

/// A request, the stream for it, and what it asks.
type Question = (u16, Request, Asked);

impl Clerk {
    pub(super) fn about_transaction(&mut self, base: &mut Base, span: u64) -> Option<Question> {
        if !base.objects.transactions.has_room(span) {
            return None;
        }
        let ask = match self.random.below(5) {
            0 | 1 => transaction::Ask::Begin,
            2 | 3 => transaction::Ask::Commit,
            _ => transaction::Ask::Rollback,
        };
        if ask == transaction::Ask::Begin {
            self.begun.insert(span, 0);
        }
        let is_operator = self.random.percent(40);
        let ticket = base.objects.transactions.invoked(span, base.now, ask);
        Some(transacting(base, ticket, span, ask, is_operator))
    }

    pub(super) fn about_key(
        &mut self,
        base: &mut Base,
        span: u64,
        home: (TopicId, ShardId),
    ) -> Option<Question> {
        if !base.objects.keys.has_room(span) {
            return None;
        }
        let id = u128::from(self.random.word()) << 64 | u128::from(self.random.word());
        let ticket = base.objects.keys.invoked(span, base.now, id);
        // Each is a producer's first and only batch.
        let producer = ProducerId(self.random.word());
        let (epoch, sequence) = (Epoch(0), Sequence(0));
        let key = span.to_string();
        let request = storing(home, (producer, epoch, sequence), id, Some(&key));
        Some((1, request, Asked::Key(ticket)))
    }

    pub(super) fn about_fence(
        &mut self,
        base: &mut Base,
        span: u64,
        home: (TopicId, ShardId),
    ) -> Option<Question> {
        if !base.objects.fences.has_room(span) {
            return None;
        }
        let steals = self.random.percent(30);
        let turn = self.turn.filter(|turn| turn.span == span && !steals).unwrap_or_else(|| {
            // Clerks draw different ones.
            self.turns += self.random.range(1, 3) as u32;
            let epoch = Epoch(self.turns * 8 + self.number as u32 + 1);
            Turn { span, epoch, next: Sequence(0) }
        });
        // One without an answer may have been stored or not: it is not gone on with.
        self.turn = None;
        let ticket = base.objects.fences.invoked(span, base.now, turn.epoch.0);
        let id = u128::from(self.random.word());
        let producer = ProducerId(FENCED | span);
        let request = storing(home, (producer, turn.epoch, turn.next), id, None);
        self.going = Some(turn);
        Some((1, request, Asked::Fence { ticket, is_replayed: false }))
    }

    pub(super) fn about_position(
        &mut self,
        base: &mut Base,
        span: u64,
        (_, shard): (TopicId, ShardId),
    ) -> Option<Question> {
        if !base.objects.positions.has_room(span) {
            return None;
        }
        let to = self.random.below(OFFSETS);
        let ticket = base.objects.positions.invoked(span, base.now, to);
        let (group, topic) = (format!("clerks-at-{span}"), TOPIC.to_owned());
        let to = vec![(QueueIndex(0), QueueOffset(to))];
        let request = Request::MoveGroup(MoveGroup { shard, group, topic, to });
        Some((0, request, Asked::Position(ticket)))
    }

    pub(super) fn about_settings(&mut self, base: &mut Base, span: u64) -> Option<Question> {
        if !base.objects.settings.has_room(span) {
            return None;
        }
        let number = self.random.range(1, 9) as u32;
        let (ask, max_attempts, key_count) = if self.random.percent(50) {
            (settings::Ask::Attempts(number), Some(Attempts(number)), None)
        } else {
            let count = u64::from(number);
            (settings::Ask::Keys(count), None, Some(CountLimit(count)))
        };
        let ticket = base.objects.settings.invoked(span, base.now, ask);
        let name = format!("clerks-set-{span}");
        let set = GroupSet { name, max_attempts, key_count, ..GroupSet::default() };
        Some((0, call(&set), Asked::Settings(ticket)))
    }

    pub(super) fn about_name(&mut self, base: &mut Base, span: u64) -> Option<Question> {
        if !base.objects.names.has_room(span) {
            return None;
        }
        let name = format!("clerks-{span}");
        let (ask, request) = match self.random.below(5) {
            0 | 1 => (name::Ask::Remove, call(&TopicRm { name })),
            other => {
                let queues = if other == 2 { 2 } else { 1 };
                let create = TopicCreate { name, queues, ..TopicCreate::default() };
                (name::Ask::Create(queues), call(&create))
            }
        };
        let ticket = base.objects.names.invoked(span, base.now, ask);
        Some((0, request, Asked::Name(ticket)))
    }
}

/// What is asked about the transaction of a span, by a producer of its group or by an operator.
pub(super) fn transacting(
    base: &Base,
    ticket: Ticket,
    span: u64,
    ask: transaction::Ask,
    is_operator: bool,
) -> Question {
    let coordinator = ShardId((span % u64::from(base.plan.shards)) as u16);
    let tx = TxId { coordinator, producer: PRODUCER, epoch: Epoch(0), number: span };
    let decide =
        |verdict| Request::TxDecide(TxDecide { tx, group: GROUP.to_owned(), verdict, check: 0 });
    let (operators, producers) = (CALL_STREAM + coordinator.0, 1);
    let (stream, request) = match (ask, is_operator) {
        (transaction::Ask::Begin, _) => {
            let (group, note) = (GROUP.to_owned(), String::new());
            (producers, Request::TxBegin(TxBegin { tx, group, note }))
        }
        (transaction::Ask::Commit, true) => (operators, call(&TxCommit { id: tx })),
        (transaction::Ask::Rollback, true) => (operators, call(&TxRollback { id: tx })),
        (transaction::Ask::Commit, false) => (producers, decide(TxVerdict::Commit)),
        (transaction::Ask::Rollback, false) => (producers, decide(TxVerdict::Rollback)),
    };
    (stream, request, Asked::Transaction(ticket, span, ask))
}

/// A batch of one message.
fn storing(
    (topic, shard): (TopicId, ShardId),
    (producer, epoch, sequence): (ProducerId, Epoch, Sequence),
    id: u128,
    key: Option<&str>,
) -> Request {
    let keyed = key.map(|key| [(DEDUPE, key)]);
    let record = RecordParts {
        topic,
        queue: QueueIndex(0),
        id: MessageId(id.to_be_bytes()),
        flags: if keyed.is_some() { Flags::DEDUPE } else { Flags::default() },
        properties: keyed.as_ref().map_or(&[][..], |keyed| keyed),
        body: b"a clerk's",
        ..RecordParts::default()
    };
    let mut bytes = Vec::new();
    record.encode(&mut bytes).expect("within the limits of a message");
    let header = BatchHeader { producer, epoch, lane: Lane(0), shard, sequence };
    let batch = batch::encode(&header, 1, &bytes);
    let (place, nodes) = (AckPlace::Synced, AckNodes::One);
    Request::Produce(Produce { place, nodes, floor: Sequence(0), batch })
}
