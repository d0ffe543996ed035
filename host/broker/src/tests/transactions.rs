//! Transactions over two shards: all visible or none, whatever dies when.
use std::collections::BTreeMap;

use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::limits::TX_MESSAGES_MAX;
use yard_wire::operation::{
    Operate, Operation, TopicCreate, TopicRm, TxCommit, TxInfo, TxList, TxLs, TxReport, TxRollback,
    TxSet,
};
use yard_wire::record::{DUE, Flags, RecordParts, TX};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{
    AckNodes, AckPlace, Call, JoinProducers, TxBegin, TxCheck, TxDecide, TxVerdict,
};
use yard_wire::transaction::CheckSpan;
use yard_wire::{
    Code, Epoch, MessageId, ProducerId, QueueIndex, Refusal, Sequence, ShardId, TenantId,
    Timestamp, TopicId, TxId, Wire,
};

use super::world::{Out, World, config, origin};
use crate::bounds::{ASK_MS, TX_OUTCOMES_MAX};
use crate::*;

const TENANT: TenantId = TenantId(0);
const TOPIC: TopicId = TopicId(1);
pub(super) const GROUP: &str = "payments";
/// Longer than anything that is told or asked again by itself takes.
const LONG: u64 = 3 * ASK_MS;

/// The shards of one installation, and what goes between them.
pub(super) struct Cluster {
    pub(super) worlds: Vec<World>,
    /// What came out for others.
    pub(super) outs: Vec<Out>,
    /// Moves after which the process dies.
    dies_after: Option<usize>,
    sequence: u64,
}

impl Cluster {
    pub(super) fn new() -> Self {
        let worlds = (0..2).map(|shard| World::new(config(shard, 2))).collect();
        let mut cluster = Self { worlds, outs: Vec::new(), dies_after: None, sequence: 0 };
        let create = TopicCreate { name: "orders".into(), queues: 4, ..TopicCreate::default() };
        cluster.call(0, &create).unwrap();
        cluster
    }

    /// One more thing has happened; whether the process died of it.
    pub(super) fn moved(&mut self) -> bool {
        let Some(left) = &mut self.dies_after else { return false };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return false;
        }
        self.dies_after = None;
        self.restart();
        true
    }

    /// Everything that is under way comes to its end, or is lost with the process.
    pub(super) fn run(&mut self) {
        loop {
            let mut moved = false;
            for shard in 0..self.worlds.len() {
                let is_new = self.worlds[shard].synced < self.worlds[shard].log.len();
                if is_new && self.moved() {
                    moved = true;
                    break;
                }
                self.worlds[shard].sync();
                for out in self.worlds[shard].take_outs() {
                    moved = true;
                    self.route(shard, out);
                    if self.moved() {
                        break;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    pub(super) fn route(&mut self, shard: usize, out: Out) {
        match out {
            Out::Broadcast(change) => {
                for other in (0..self.worlds.len()).filter(|other| *other != shard) {
                    self.worlds[other].handle(Event::Metadata(change.clone()));
                }
            }
            Out::Notify(to, notice) => {
                self.worlds[usize::from(to.0)].handle(Event::Notice(notice));
            }
            other => self.outs.push(other),
        }
    }

    /// The process dies and begins again.
    pub(super) fn restart(&mut self) {
        self.worlds.iter_mut().for_each(|world| {
            world.take_outs();
            world.restart();
        });
        for change in self.worlds[0].broker.metadata() {
            self.worlds[1].handle(Event::Metadata(change));
        }
    }

    pub(super) fn advance(&mut self, ms: u64) {
        let to = self.worlds[0].now.plus_ms(ms);
        // What is told takes effect at the instant of the telling.
        let mut at = self.worlds[0].now;
        while at < to {
            at = to.min(at.plus_ms(500));
            self.worlds.iter_mut().for_each(|world| world.advance(at));
            self.run();
        }
    }

    pub(super) fn ask(
        &mut self,
        shard: u16,
        tenant: TenantId,
        request: Request,
    ) -> Result<Reply, Refusal> {
        self.outs.clear();
        self.worlds[usize::from(shard)].request(1, tenant, request);
        self.run();
        let replies = self.outs.iter().filter_map(|out| match out {
            Out::Reply(_, reply) => Some(reply.clone()),
            _ => None,
        });
        replies.last().unwrap_or_else(|| Err(Code::Disconnected.into()))
    }

    pub(super) fn call<O: Operate>(
        &mut self,
        shard: u16,
        arguments: &O,
    ) -> Result<O::Result, Refusal> {
        let call = Call { operation: O::OPERATION as u16, args: arguments.to_bytes() };
        match self.ask(shard, TENANT, Request::Call(call))? {
            Reply::Call(called) => Ok(O::Result::from_bytes(called.result).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn begin(&mut self, tx: TxId) -> Result<(), Code> {
        let (group, note) = (GROUP.to_owned(), format!("order {}", tx.number));
        let begin = Request::TxBegin(TxBegin { tx, group, note });
        self.ask(tx.coordinator.0, TENANT, begin).map(|_| ()).map_err(|refusal| refusal.code)
    }

    pub(super) fn decide(&mut self, tx: TxId, verdict: TxVerdict, check: u16) -> Result<(), Code> {
        let decide = Request::TxDecide(TxDecide { tx, group: GROUP.into(), verdict, check });
        self.ask(tx.coordinator.0, TENANT, decide).map(|_| ()).map_err(|refusal| refusal.code)
    }

    /// Sends messages with these queues and instants; they go to the shards of their queues.
    pub(super) fn prepare(
        &mut self,
        tx: TxId,
        messages: &[(u16, Option<u64>)],
    ) -> Result<(), Code> {
        let mut by_shard: BTreeMap<u16, Vec<(u16, Option<u64>)>> = BTreeMap::new();
        for message in messages {
            let topic = self.worlds[0].broker.meta.topic(TOPIC).expect("it was created");
            let shard = topic.shards[usize::from(message.0)];
            by_shard.entry(shard.0).or_default().push(*message);
        }
        for (shard, messages) in by_shard {
            self.outs.clear();
            let batch = self.batch(shard, Some(tx), &messages);
            let (place, nodes, floor) = (AckPlace::Synced, AckNodes::One, Sequence(0));
            let (origin, tenant) = (origin(1), TENANT);
            let event = Event::Produce { origin, tenant, place, nodes, floor, batch };
            self.worlds[usize::from(shard)].handle(event);
            self.run();
            match self.outs.last() {
                Some(Out::Reply(_, Ok(Reply::Produce(produced)))) => {
                    assert!(produced.placed.is_empty(), "what is prepared has no place yet");
                }
                Some(Out::Reply(_, Err(refusal))) => return Err(refusal.code),
                _ => return Err(Code::Disconnected),
            }
        }
        Ok(())
    }

    pub(super) fn batch(
        &mut self,
        shard: u16,
        tx: Option<TxId>,
        messages: &[(u16, Option<u64>)],
    ) -> Batch {
        let mut records = Vec::new();
        let name = tx.map(|tx| tx.to_string());
        for (queue, due) in messages {
            self.sequence += 1;
            let due = due.map(|due| due.to_string());
            let properties: Vec<(&str, &str)> = name
                .iter()
                .map(|tx| (TX, &tx[..]))
                .chain(due.iter().map(|due| (DUE, &due[..])))
                .collect();
            let delayed = if due.is_some() { Flags::DELAYED } else { Flags::NONE };
            let parts = RecordParts {
                topic: TOPIC,
                queue: QueueIndex(*queue),
                id: MessageId::new(Timestamp(5), self.sequence.into()),
                flags: delayed.and(Flags::PREPARED),
                properties: &properties,
                ..RecordParts::default()
            };
            parts.encode(&mut records).unwrap();
        }
        // Each batch is a producer's first.
        let (producer, shard) = (ProducerId(1_000 + self.sequence), ShardId(shard));
        let header = BatchHeader { producer, shard, ..BatchHeader::default() };
        Batch::parse(batch::encode(&header, messages.len(), &records)).unwrap()
    }

    /// Messages that are visible, of all queues.
    pub(super) fn visible(&self) -> usize {
        let items = |(entry, _): &(Entry, Applied)| match entry {
            Entry::Release { items, .. } => items.len(),
            _ => 0,
        };
        self.worlds.iter().flat_map(|world| &world.log).map(items).sum()
    }

    /// Transactions, undecided ones and prepared messages that are left.
    pub(super) fn left(&self) -> (u64, u64, u64) {
        let add = |all: (u64, u64, u64), world: &World| {
            let stats = world.broker.stats();
            let (open, undecided) = (stats.transactions, stats.undecided);
            (all.0 + open, all.1 + undecided, all.2 + stats.prepared)
        };
        self.worlds.iter().fold((0, 0, 0), add)
    }

    pub(super) fn compare_with_log(&mut self) {
        self.worlds.iter_mut().for_each(World::compare_with_log);
    }

    pub(super) fn join(&mut self, shard: u16, session: u64) {
        let join = JoinProducers { shard: ShardId(shard), group: GROUP.into() };
        self.worlds[usize::from(shard)].request(session, TENANT, Request::JoinProducers(join));
        self.run();
    }

    /// The checks that were pushed, and to whom.
    pub(super) fn take_checks(&mut self) -> Vec<(u64, TxCheck)> {
        let outs = std::mem::take(&mut self.outs).into_iter();
        let checks = outs.filter_map(|out| match out {
            Out::Check(session, check) => Some((session.0, check)),
            _ => None,
        });
        checks.collect()
    }

    pub(super) fn list(&mut self, shard: u16) -> TxList {
        self.call(shard, &TxLs { limit: 100, ..TxLs::default() }).unwrap()
    }
}

pub(super) fn tx(coordinator: u16, number: u64) -> TxId {
    let (coordinator, producer) = (ShardId(coordinator), ProducerId(7));
    TxId { coordinator, producer, epoch: Epoch(1), number }
}

pub(super) const FOUR: [(u16, Option<u64>); 4] = [(0, None), (1, None), (2, None), (3, None)];

#[test]
fn nothing_is_visible_before_the_commit_and_everything_after_it() {
    for coordinator in 0..2 {
        let mut cluster = Cluster::new();
        let tx = tx(coordinator, 0);
        cluster.begin(tx).unwrap();
        cluster.prepare(tx, &FOUR).unwrap();
        cluster.advance(LONG);
        assert_eq!((cluster.visible(), cluster.left()), (0, (1, 0, 4)));
        cluster.compare_with_log();
        cluster.decide(tx, TxVerdict::Commit, 0).unwrap();
        assert_eq!((cluster.visible(), cluster.left()), (4, (0, 0, 0)));
        // In one shard by one entry.
        let of_tx =
            |(entry, _): &&(Entry, Applied)| matches!(entry, Entry::Release { tx: Some(_), .. });
        for world in &cluster.worlds {
            assert_eq!(world.log.iter().filter(of_tx).count(), 1);
            assert!(world.broker.parked_bytes().is_empty(), "no segment is needed any more");
        }
        // The same again is answered again, something else is not.
        assert_eq!(cluster.decide(tx, TxVerdict::Commit, 0), Ok(()));
        assert_eq!(cluster.decide(tx, TxVerdict::Rollback, 0), Err(Code::TransactionFinished));
        cluster.restart();
        assert_eq!(cluster.decide(tx, TxVerdict::Commit, 0), Ok(()));
        assert_eq!(cluster.visible(), 4);
        cluster.compare_with_log();
    }
}

#[test]
fn what_is_rolled_back_never_comes() {
    let mut cluster = Cluster::new();
    let tx = tx(1, 3);
    cluster.begin(tx).unwrap();
    cluster.prepare(tx, &FOUR).unwrap();
    cluster.decide(tx, TxVerdict::Rollback, 0).unwrap();
    assert_eq!((cluster.visible(), cluster.left()), (0, (0, 0, 0)));
    assert_eq!(cluster.decide(tx, TxVerdict::Commit, 0), Err(Code::TransactionFinished));
    // What comes late follows the others.
    cluster.prepare(tx, &[(0, None), (1, None)]).unwrap();
    assert_eq!(cluster.left().2, 2);
    cluster.advance(LONG);
    assert_eq!((cluster.visible(), cluster.left()), (0, (0, 0, 0)));
    cluster.restart();
    cluster.advance(LONG);
    assert_eq!(cluster.visible(), 0);
    cluster.compare_with_log();
}

#[test]
fn what_comes_after_a_commit_becomes_visible_as_well() {
    let mut cluster = Cluster::new();
    let tx = tx(0, 0);
    cluster.begin(tx).unwrap();
    cluster.prepare(tx, &FOUR).unwrap();
    cluster.decide(tx, TxVerdict::Commit, 0).unwrap();
    cluster.prepare(tx, &[(1, None)]).unwrap();
    cluster.advance(LONG);
    assert_eq!((cluster.visible(), cluster.left()), (5, (0, 0, 0)));
    cluster.compare_with_log();
}

/// The process dies after each move of a transaction; what was promised holds, and what is visible
/// is all or nothing.
#[test]
fn a_crash_at_any_point_leaves_all_or_nothing() {
    for (verdict, all) in [(TxVerdict::Commit, 4), (TxVerdict::Rollback, 0)] {
        let (mut decided, mut undecided) = (0, 0);
        for dies_after in 1..60 {
            let mut cluster = Cluster::new();
            let tx = tx(1, 0);
            cluster.begin(tx).unwrap();
            cluster.prepare(tx, &FOUR).unwrap();
            cluster.dies_after = Some(dies_after);
            let answered = cluster.decide(tx, verdict, 0);
            let has_died = cluster.dies_after.is_none();
            cluster.advance(LONG);
            let visible = cluster.visible();
            assert!(visible == 0 || visible == all, "{verdict} {dies_after}: {visible}");
            if answered.is_ok() {
                assert_eq!((visible, cluster.left()), (all, (0, 0, 0)), "{verdict} {dies_after}");
            }
            cluster.compare_with_log();
            // Nobody has to ask twice, but may.
            assert_eq!(cluster.decide(tx, verdict, 0), Ok(()), "{dies_after}");
            assert_eq!((cluster.visible(), cluster.left()), (all, (0, 0, 0)), "{dies_after}");
            decided += usize::from(answered.is_ok());
            undecided += usize::from(answered.is_err());
            if !has_died {
                break;
            }
        }
        assert!(decided > 3 && undecided > 0, "{verdict}: {decided} {undecided}");
    }
}

#[test]
fn producers_are_asked_in_turn_and_then_an_operator_is() {
    let mut cluster = Cluster::new();
    cluster.join(1, 5);
    cluster.join(1, 6);
    let tx = tx(1, 0);
    cluster.begin(tx).unwrap();
    cluster.prepare(tx, &FOUR).unwrap();
    let began = cluster.worlds[1].now.0;
    let mut asked = Vec::new();
    for _ in 0..20 * 60 {
        cluster.advance(1_000);
        for (session, check) in cluster.take_checks() {
            let after = (cluster.worlds[1].now.0 - began) / 1_000;
            assert_eq!((check.tx, &check.note[..], &check.group[..]), (tx, "order 0", GROUP));
            asked.push((session, check.check, after));
        }
        if asked.len() == 7 {
            cluster.restart();
            cluster.join(1, 5);
            cluster.join(1, 6);
        }
    }
    let numbers: Vec<u16> = asked.iter().map(|(_, number, _)| *number).collect();
    assert_eq!(numbers, (1..=15).collect::<Vec<u16>>(), "counted over a restart");
    let instants: Vec<u64> = asked.iter().map(|(_, _, at)| *at).collect();
    assert_eq!((instants[0], instants[1], instants[14]), (6, 66, 6 + 14 * 60));
    assert!([5, 6].iter().all(|one| asked.iter().any(|(session, ..)| session == one)), "in turn");
    assert_eq!((cluster.visible(), cluster.left()), (0, (1, 1, 4)));
    cluster.restart();
    cluster.compare_with_log();
    let list = cluster.list(1);
    assert_eq!((list.open, list.undecided, &list.rows[0].state[..]), (1, 1, "undecided"));
    let report: TxReport = cluster.call(0, &TxInfo { id: tx }).unwrap();
    assert_eq!((report.messages.len(), &report.messages[0].topic[..]), (2, "orders"));
    // Only its coordinator decides.
    let elsewhere = cluster.call(0, &TxCommit { id: tx }).unwrap_err();
    assert_eq!(elsewhere.code, Code::UnknownTransaction);
    assert!(cluster.call(1, &TxCommit { id: tx }).unwrap().committed);
    assert_eq!((cluster.visible(), cluster.left()), (4, (0, 0, 0)));
    let other = cluster.call(1, &TxRollback { id: tx }).unwrap_err();
    assert_eq!(other.code, Code::TransactionFinished);
    cluster.compare_with_log();
}

#[test]
fn an_answer_to_a_check_decides_and_unknown_does_not() {
    let mut cluster = Cluster::new();
    cluster.join(0, 5);
    let tx = tx(0, 0);
    cluster.begin(tx).unwrap();
    cluster.prepare(tx, &FOUR).unwrap();
    cluster.advance(7_000);
    assert_eq!(cluster.take_checks().len(), 1);
    assert_eq!(cluster.decide(tx, TxVerdict::Commit, 2), Err(Code::StaleTransaction));
    assert_eq!(cluster.decide(tx, TxVerdict::Unknown, 1), Ok(()));
    assert_eq!((cluster.visible(), cluster.left()), (0, (1, 0, 4)));
    assert_eq!(cluster.decide(tx, TxVerdict::Commit, 1), Ok(()));
    assert_eq!((cluster.visible(), cluster.left()), (4, (0, 0, 0)));
    cluster.advance(200_000);
    assert_eq!(cluster.take_checks(), [], "nobody is asked about what is decided");
}

#[test]
fn where_no_producer_is_there_checks_are_not_used_up() {
    let mut cluster = Cluster::new();
    let tx = tx(0, 0);
    cluster.begin(tx).unwrap();
    cluster.prepare(tx, &FOUR).unwrap();
    cluster.advance(30 * 60_000);
    assert_eq!(cluster.left(), (1, 0, 4), "it is not given up");
    cluster.outs.clear();
    cluster.join(0, 5);
    cluster.advance(1_000);
    let checks = cluster.take_checks();
    assert_eq!(checks.iter().map(|(_, check)| check.check).collect::<Vec<_>>(), [1]);
    // Whoever is gone is not asked.
    cluster.worlds[0].handle(Event::SessionClosed(SessionId(5)));
    cluster.advance(200_000);
    assert_eq!(cluster.take_checks(), []);
    cluster.compare_with_log();
}

#[test]
fn a_group_has_its_own_schedule() {
    let mut cluster = Cluster::new();
    let set = |first, every, checks| TxSet {
        group: GROUP.into(),
        first: Some(CheckSpan(first)),
        every: Some(CheckSpan(every)),
        checks: Some(checks),
        check: None,
    };
    assert_eq!(cluster.call(0, &set(1_000, 2_000, 2)).unwrap().checks, 2);
    assert_eq!(cluster.call(0, &set(1, 1, 1_001)).unwrap_err().code, Code::BadArgument);
    cluster.join(1, 5);
    cluster.begin(tx(1, 0)).unwrap();
    cluster.advance(1_500);
    assert_eq!(cluster.take_checks().len(), 1);
    cluster.advance(2_000);
    assert_eq!((cluster.take_checks().len(), cluster.left()), (1, (1, 0, 0)));
    cluster.advance(2_000);
    assert_eq!((cluster.take_checks().len(), cluster.left()), (0, (1, 1, 0)));
    // Nobody is asked at all.
    cluster.call(0, &set(1_000, 2_000, 0)).unwrap();
    cluster.restart();
    cluster.begin(tx(0, 1)).unwrap();
    assert_eq!(cluster.left(), (2, 2, 0));
    cluster.compare_with_log();
}

#[test]
fn whoever_joins_is_not_asked_about_what_waits_for_an_operator() {
    let mut cluster = Cluster::new();
    cluster.begin(tx(0, 0)).unwrap();
    cluster.advance(10_000);
    let never = TxSet { group: GROUP.into(), checks: Some(0), ..TxSet::default() };
    cluster.call(0, &never).unwrap();
    cluster.advance(70_000);
    assert_eq!(cluster.left(), (1, 1, 0), "it waited for a producer, and is given up");
    cluster.join(0, 5);
    cluster.advance(200_000);
    assert_eq!((cluster.take_checks(), cluster.left()), (vec![], (1, 1, 0)));
    cluster.compare_with_log();
}

#[test]
fn bad_steps_have_codes_of_their_own() {
    let mut cluster = Cluster::new();
    let known = tx(0, 4);
    cluster.begin(known).unwrap();
    assert_eq!(cluster.begin(known), Ok(()), "the same again");
    assert_eq!(cluster.decide(tx(0, 5), TxVerdict::Commit, 0), Err(Code::UnknownTransaction));
    let foreign = |cluster: &mut Cluster, tenant, group: &str| {
        let verdict = TxVerdict::Commit;
        let decide = TxDecide { tx: known, group: group.into(), verdict, check: 0 };
        cluster.ask(0, tenant, Request::TxDecide(decide)).unwrap_err().code
    };
    assert_eq!(foreign(&mut cluster, TENANT, "others"), Code::ForeignTransaction);
    assert_eq!(foreign(&mut cluster, TenantId(9), GROUP), Code::UnknownTransaction);
    let begin = TxBegin { tx: known, group: "others".into(), note: String::new() };
    let begun = cluster.ask(0, TENANT, Request::TxBegin(begin)).unwrap_err().code;
    assert_eq!(begun, Code::ForeignTransaction);
    let begin = TxBegin { tx: tx(0, 9), group: GROUP.into(), note: "n".repeat(256) };
    let begun = cluster.ask(0, TENANT, Request::TxBegin(begin)).unwrap_err().code;
    assert_eq!(begun, Code::BadArgument);
    let here = Request::TxDecide(TxDecide {
        tx: tx(1, 0),
        group: GROUP.into(),
        verdict: TxVerdict::Commit,
        check: 0,
    });
    assert_eq!(cluster.ask(0, TENANT, here).unwrap_err().code, Code::WrongShard);
    // A newer incarnation fences the older, which others of the group still answer for.
    cluster.join(0, 5);
    cluster.begin(TxId { epoch: Epoch(2), ..tx(0, 0) }).unwrap();
    assert_eq!(cluster.begin(tx(0, 6)), Err(Code::ProducerFenced));
    assert_eq!(cluster.decide(known, TxVerdict::Commit, 0), Err(Code::ProducerFenced));
    cluster.advance(7_000);
    assert_eq!(cluster.decide(known, TxVerdict::Commit, 1), Ok(()));
    // A message for what nobody has begun, as far as this shard can know.
    let nobody = TxId { producer: ProducerId(99), ..tx(0, 0) };
    assert_eq!(cluster.prepare(nobody, &[(3, None)]), Err(Code::UnknownTransaction));
    let nowhere = tx(2, 0);
    assert_eq!(cluster.prepare(nowhere, &[(3, None)]), Err(Code::BadArgument));
    cluster.compare_with_log();
}

#[test]
fn outcomes_are_remembered_and_forgotten_in_order() {
    let mut cluster = Cluster::new();
    for number in 0..TX_OUTCOMES_MAX as u64 + 2 {
        cluster.begin(tx(0, number)).unwrap();
        cluster.decide(tx(0, number), TxVerdict::Commit, 0).unwrap();
    }
    assert_eq!(cluster.decide(tx(0, 1), TxVerdict::Commit, 0), Err(Code::StaleTransaction));
    assert_eq!(cluster.begin(tx(0, 0)), Err(Code::StaleTransaction));
    assert_eq!(cluster.decide(tx(0, 2), TxVerdict::Commit, 0), Ok(()));
    assert_eq!(cluster.begin(tx(0, 2)), Err(Code::TransactionFinished));
    cluster.compare_with_log();
}

#[test]
fn a_transaction_has_room_for_so_many_messages() {
    let mut cluster = Cluster::new();
    let tx = tx(0, 0);
    cluster.begin(tx).unwrap();
    let many = vec![(0, None); TX_MESSAGES_MAX];
    cluster.prepare(tx, &many).unwrap();
    assert_eq!(cluster.prepare(tx, &[(0, None)]), Err(Code::TransactionTooLarge));
    cluster.decide(tx, TxVerdict::Commit, 0).unwrap();
    assert_eq!((cluster.visible(), cluster.left()), (TX_MESSAGES_MAX, (0, 0, 0)));
}

#[test]
fn delayed_messages_of_a_transaction_wait_for_both() {
    let mut cluster = Cluster::new();
    let due = cluster.worlds[0].now.0 + 60_000;
    let messages = [(0, None), (1, Some(due)), (2, Some(due)), (3, Some(1))];
    let (one, other) = (tx(0, 0), tx(1, 1));
    cluster.begin(one).unwrap();
    cluster.begin(other).unwrap();
    cluster.prepare(one, &messages).unwrap();
    cluster.prepare(other, &messages).unwrap();
    cluster.decide(one, TxVerdict::Commit, 0).unwrap();
    assert_eq!((cluster.visible(), cluster.left()), (2, (1, 0, 4)), "what is due");
    cluster.restart();
    cluster.compare_with_log();
    cluster.advance(50_000);
    cluster.decide(other, TxVerdict::Rollback, 0).unwrap();
    assert_eq!((cluster.visible(), cluster.left()), (2, (0, 0, 0)));
    cluster.advance(20_000);
    assert_eq!(cluster.visible(), 4);
    // Decided when it was due already.
    let third = tx(0, 2);
    cluster.begin(third).unwrap();
    cluster.prepare(third, &messages).unwrap();
    cluster.decide(third, TxVerdict::Commit, 0).unwrap();
    assert_eq!((cluster.visible(), cluster.left()), (8, (0, 0, 0)));
    cluster.compare_with_log();
}

#[test]
fn messages_that_no_coordinator_knows_of_are_listed_and_an_operator_decides() {
    for commit in [true, false] {
        let mut cluster = Cluster::new();
        let orphan = tx(1, 0);
        // Shard 0 cannot know that nobody has begun it.
        let topic = cluster.worlds[0].broker.meta.topic(TOPIC).unwrap();
        let queue = (0..4).find(|queue| topic.shards[*queue] == ShardId(0)).unwrap() as u16;
        cluster.prepare(orphan, &[(queue, None)]).unwrap();
        assert_eq!(cluster.list(0).rows, []);
        cluster.advance(LONG);
        let rows = cluster.list(0).rows;
        assert_eq!((rows[0].id, &rows[0].state[..]), (orphan, "unknown"));
        cluster.restart();
        cluster.advance(LONG);
        assert_eq!((cluster.visible(), cluster.left()), (0, (0, 0, 1)), "it is kept");
        let decided = match commit {
            true => cluster.call(0, &TxCommit { id: orphan }).unwrap(),
            false => cluster.call(0, &TxRollback { id: orphan }).unwrap(),
        };
        assert_eq!((decided.committed, cluster.visible()), (commit, usize::from(commit)));
        assert_eq!(cluster.left(), (0, 0, 0));
        cluster.compare_with_log();
    }
}

#[test]
fn what_is_prepared_goes_with_its_topic_and_moves_with_its_segment() {
    let mut cluster = Cluster::new();
    let (one, other) = (tx(0, 0), tx(0, 1));
    cluster.begin(one).unwrap();
    cluster.prepare(one, &FOUR).unwrap();
    let before = cluster.worlds[0].broker.parked_below(u32::MAX);
    let (token, mut target) = before[0];
    (target.segment, target.offset) = (70, 7);
    cluster.worlds[0].broker.apply_carried(token, Some(target));
    assert_eq!(cluster.worlds[0].broker.parked_bytes()[&70].0, 1);
    cluster.decide(one, TxVerdict::Commit, 0).unwrap();
    let targets = cluster.worlds[0].log.iter().flat_map(|(entry, _)| match entry {
        Entry::Release { items, .. } => items.iter().map(|item| item.target()).collect(),
        _ => Vec::new(),
    });
    assert!({ targets }.any(|it| (it.segment, it.offset) == (70, 7)), "where it lies by now");
    cluster.begin(other).unwrap();
    cluster.prepare(other, &FOUR).unwrap();
    cluster.call(0, &TopicRm { name: "orders".into() }).unwrap();
    assert_eq!(cluster.left(), (1, 0, 0));
    cluster.decide(other, TxVerdict::Commit, 0).unwrap();
    assert_eq!((cluster.visible(), cluster.left()), (4, (0, 0, 0)));
    cluster.worlds.iter().for_each(|world| world.broker.check());
}

#[test]
fn lists_go_on_where_they_ended_and_show_one_group() {
    let mut cluster = Cluster::new();
    for number in 0..5 {
        cluster.begin(tx(0, number)).unwrap();
    }
    let begin = TxBegin { tx: tx(0, 7), group: "others".into(), note: String::new() };
    cluster.ask(0, TENANT, Request::TxBegin(begin)).unwrap();
    let first = cluster.call(0, &TxLs { limit: 2, ..TxLs::default() }).unwrap();
    assert_eq!(first.rows.iter().map(|row| row.id.number).collect::<Vec<_>>(), [0, 1]);
    let after = TxId::parse(&first.next);
    let next = cluster.call(0, &TxLs { limit: 9, after, ..TxLs::default() }).unwrap();
    assert_eq!(next.rows.iter().map(|row| row.id.number).collect::<Vec<_>>(), [2, 3, 4, 7]);
    assert_eq!((next.open, &next.next[..]), (6, ""));
    let group = Some("others".to_owned());
    let of_one = cluster.call(0, &TxLs { limit: 9, group, ..TxLs::default() }).unwrap();
    assert_eq!(of_one.rows.len(), 1);
    let undecided = cluster.call(0, &TxLs { limit: 9, undecided: true, ..TxLs::default() });
    assert_eq!(undecided.unwrap().rows, []);
    assert_eq!(Operation::TxLs.words(), ["tx", "ls"]);
}

#[test]
fn where_the_disk_is_full_a_decision_is_carried_out_later() {
    let mut cluster = Cluster::new();
    let tx = tx(0, 0);
    cluster.begin(tx).unwrap();
    cluster.prepare(tx, &FOUR).unwrap();
    cluster.worlds[1].full = true;
    cluster.decide(tx, TxVerdict::Commit, 0).unwrap();
    assert_eq!((cluster.visible(), cluster.left()), (2, (1, 0, 2)), "decided, and half done");
    cluster.advance(5_000);
    cluster.worlds[1].full = false;
    cluster.advance(5_000);
    assert_eq!((cluster.visible(), cluster.left()), (4, (0, 0, 0)));
    cluster.compare_with_log();
}
