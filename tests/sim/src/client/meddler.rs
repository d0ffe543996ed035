//! A client that asks for what cannot be: whatever it is answered, nobody else may notice. Each of
//! its requests is refused, or is about a topic and a group of its own.
use yard_wire::batch::{self, BatchHeader};
use yard_wire::operation::{
    DelayLs, DlqDone, GroupDrain, GroupInfo, GroupReturn, GroupSet, GroupUnblock, MsgTrace,
    PluginInfo, PluginPromote, TenantSet, TopicCreate, TopicInfo, TopicRm, TxInfo, TxSet,
};
use yard_wire::plugin_use::{PluginChoice, PluginUse};
use yard_wire::record::{DEDUPE, DUE, Flags, RecordParts, TX};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{
    AckNodes, AckPlace, Expression, Extend, Fetch, Find, HeldRange, Hello, JoinProducers,
    MoveGroup, Produce, Settle, SettleRange, Start, Subscribe, TxBegin, TxDecide, TxVerdict,
    Unsubscribe, Verdict, Wanted,
};
use yard_wire::retry::RetryPolicy;
use yard_wire::units::AgeLimit;
use yard_wire::{
    Code, Epoch, Lane, MessageId, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId,
    SubscriptionId, Timestamp, TopicId, TxId,
};

use super::consumer::{group_name, topic_name};
use super::{Link, call};
use crate::agenda::MS;
use crate::base::{Base, Phase};
use crate::network::ToClient;
use crate::random::Random;

/// The topic that is its own.
const TOPIC: &str = "meddled";
/// The group that is its own.
const GROUP: &str = "meddlers";
/// Requests that it makes at once, at most.
const BURST: u64 = 4;

/// A client that meddles.
pub(crate) struct Meddler {
    pub(super) link: Link,
    random: Random,
    /// Its subscription, as long as it has one.
    subscription: Option<SubscriptionId>,
    /// How many shards there are.
    shards: u16,
}

impl Meddler {
    /// A meddler with this number among the clients; its numbers are drawn from nobody else's.
    #[must_use]
    pub(crate) fn new(client: usize, seed: u64, shards: u16) -> Self {
        let random = Random::new(seed ^ 0x4d45_4444_4c45_2e2e);
        Self { link: Link::new(client), random, subscription: None, shards }
    }

    pub(super) fn work(&mut self, base: &mut Base) {
        if base.phase > Phase::Storm {
            return;
        }
        for _ in 0..self.random.range(1, BURST) {
            let shard = ShardId(self.random.below(base.plan.shards.into()) as u16);
            let request = match self.random.below(6) {
                0 => self.of_topics(),
                1 => self.of_others(),
                2 => self.of_members(shard),
                3 => self.of_readers(base, shard),
                4 => self.of_transactions(shard),
                _ => self.of_senders(base),
            };
            let stream = if matches!(request, Request::Produce(_)) { 1 } else { 0 };
            self.link.request(base, stream, request);
        }
        let pause = self.random.range(5 * MS, 80 * MS);
        self.link.work_at(base, base.now + pause);
    }

    pub(super) fn lost(&mut self) {
        self.subscription = None;
    }

    pub(super) fn receive(&mut self, base: &mut Base, frame: ToClient) {
        match frame {
            ToClient::Reply(_, Ok(Reply::Subscribe(subscribed))) => {
                self.subscription = Some(subscribed.subscription);
            }
            ToClient::Reply(_, Ok(Reply::Produce(_))) => {
                base.fail(|| "what cannot be stored was acknowledged".to_owned());
            }
            ToClient::Reply(_, Err(refusal)) if refusal.code == Code::Internal => {
                base.fail(|| format!("a request is answered by {refusal}"));
            }
            ToClient::Ended(_) => self.subscription = None,
            ToClient::Reply(..) | ToClient::Deliver { .. } | ToClient::TxCheck(_) => {}
        }
    }

    fn of_topics(&mut self) -> Request {
        let name = || topic_name(0);
        let own = TopicCreate { name: TOPIC.to_owned(), queues: 2, ..TopicCreate::default() };
        match self.random.below(9) {
            0 | 1 => call(&own),
            2 => call(&TopicCreate { queues: 1_000, name: name(), ..TopicCreate::default() }),
            3 => call(&TopicCreate { name: "no name".to_owned(), ..own }),
            4 => call(&TopicCreate { dedupe_window: Some(AgeLimit(5)), ..own }),
            5 => {
                let plugin = PluginUse::read("keys").expect("the name of a plugin");
                let dedupe_plugin = PluginChoice(Some(plugin));
                call(&TopicCreate { name: "keyless".to_owned(), dedupe_plugin, ..own })
            }
            6 => call(&TopicInfo { name: "nobody".to_owned() }),
            7 => call(&TopicRm { name: "$trace".to_owned() }),
            _ => call(&TopicCreate { queues: 0, ..own }),
        }
    }

    fn of_others(&mut self) -> Request {
        let nobody = || "nobody".to_owned();
        let (name, topic) = (group_name(0), topic_name(0));
        let (queue, offset) = (self.random.pick(&[0, 1_000]), 1 << 40);
        match self.random.below(15) {
            0 => call(&GroupInfo { name: nobody() }),
            1 => {
                let retry = Some(RetryPolicy::List(Vec::new()));
                call(&GroupSet { name: nobody(), retry, ..GroupSet::default() })
            }
            2 => {
                let group = if queue > 0 { name } else { GROUP.to_owned() };
                let topic = if queue > 0 { topic } else { TOPIC.to_owned() };
                let ask = GroupUnblock { name: group, topic, queue, ..GroupUnblock::default() };
                call(&GroupUnblock { offset, ..ask })
            }
            3 => call(&GroupDrain { name, to: topic.clone(), topic }),
            4 => call(&GroupReturn { name: GROUP.to_owned(), topic: TOPIC.to_owned() }),
            5 => call(&TenantSet { name: nobody(), ..TenantSet::default() }),
            6 => call(&DelayLs { limit: 0, ..DelayLs::default() }),
            7 => call(&DelayLs { after: Some(nobody()), limit: 1, ..DelayLs::default() }),
            8 => call(&TxInfo { id: self.tx(ShardId(0), 1 << 40) }),
            9 => call(&PluginInfo { name: nobody() }),
            10 => call(&PluginPromote { name: nobody(), version: None }),
            11 => call(&TxSet { group: GROUP.to_owned(), checks: Some(9_999), ..TxSet::default() }),
            12 => call(&DlqDone { group: nobody(), from: 3, to: 1, queue }),
            13 => call(&MsgTrace { id: MessageId([7; 16]) }),
            _ => Request::Hello(Hello { client: nobody(), library: String::new(), features: 0 }),
        }
    }

    fn of_members(&mut self, shard: ShardId) -> Request {
        let (queue, none) = (QueueIndex(0), SubscriptionId(3));
        let subscription = self.subscription.filter(|_| self.random.percent(80)).unwrap_or(none);
        let attempt = self.random.pick(&[0, 1, 1, 1, 2, u32::MAX]);
        let range = |from: u64, to: u64| {
            let (from, to) = (QueueOffset(from), QueueOffset(to));
            let (verdict, delay_ms) = (Verdict::Ack, None);
            SettleRange { queue, from, to, attempt, verdict, delay_ms, error: None }
        };
        let settle = |ranges| Request::Settle(Settle { shard, subscription, ranges });
        match self.random.below(7) {
            0 => settle(vec![range(4, 4)]),
            1 => settle(vec![SettleRange { error: Some("x".repeat(2_000)), ..range(0, 1) }]),
            2 => settle(vec![range(0, 1 << 30)]),
            3 => settle(vec![range(0, 5)]),
            4 => {
                let lease_ms = self.random.pick(&[0, 5_000]);
                let (from, to) = (QueueOffset(0), QueueOffset(3));
                let ranges = vec![HeldRange { queue, from, to, attempt }];
                Request::Extend(Extend { shard, subscription, lease_ms, ranges })
            }
            5 => Request::Unsubscribe(Unsubscribe { shard, subscription }),
            _ => self.subscribing(shard),
        }
    }

    /// A subscription that may not be, or that of its own group.
    fn subscribing(&mut self, shard: ShardId) -> Request {
        let own = Subscribe {
            shard,
            group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            member: "meddler".to_owned(),
            start: Start::Earliest,
            expression: None,
            exclusive: false,
            lease_ms: 5_000,
            messages: 1,
            bytes: 1,
        };
        let expression =
            |text: &str| Some(Expression { dialect: "tag".to_owned(), text: text.to_owned() });
        let offsets = |queue| Start::Offsets(vec![(QueueIndex(queue), QueueOffset(0))]);
        Request::Subscribe(match self.random.below(12) {
            0 => Subscribe { shard: self.other(shard), ..own },
            1 => Subscribe { group: "no name".to_owned(), ..own },
            2 => Subscribe { member: "x".repeat(200), ..own },
            3 => Subscribe { lease_ms: 0, ..own },
            4 => Subscribe { topic: "nobody".to_owned(), ..own },
            5 => Subscribe { start: offsets(1_000), ..own },
            6 => Subscribe { expression: expression("a||"), ..own },
            7 => Subscribe { expression: expression("red"), ..own },
            8 => Subscribe { exclusive: true, ..own },
            9 => Subscribe { start: Start::Latest, ..own },
            _ => own,
        })
    }

    fn of_readers(&mut self, base: &Base, shard: ShardId) -> Request {
        let (topic, own) = (topic_name(0), TOPIC.to_owned());
        let (queue, far) = (QueueIndex(0), QueueIndex(1_000));
        let fetch =
            Fetch { shard, topic, queue, from: QueueOffset(0), records_max: 1, bytes_max: 1 };
        let moved = |topic: &str, to: Vec<(QueueIndex, u64)>| {
            let to = to.into_iter().map(|(queue, at)| (queue, QueueOffset(at))).collect();
            let (group, topic) = (GROUP.to_owned(), topic.to_owned());
            Request::MoveGroup(MoveGroup { shard, group, topic, to })
        };
        let find = |topic: &str, records_max| {
            let (topic, key) = (topic.to_owned(), "k".to_owned());
            let wanted = Wanted::Key { topic, key, from: Timestamp(0), to: Timestamp(u64::MAX) };
            Request::Find(Find { shard, wanted, after: None, records_max, bytes_max: 1_000 })
        };
        let elsewhere = base.routes[0].shards.iter().find(|it| **it != base.routes[0].shards[0]);
        match self.random.below(11) {
            0 => Request::Fetch(Fetch { topic: "nobody".to_owned(), ..fetch }),
            1 => Request::Fetch(Fetch { queue: far, ..fetch }),
            2 => Request::Fetch(Fetch { shard: elsewhere.copied().unwrap_or(shard), ..fetch }),
            3 => find("nobody", 1),
            4 => find(&own, 0),
            5 => find(&own, 10),
            6 => moved("nobody", vec![(queue, 0)]),
            7 => moved(&own, Vec::new()),
            8 => moved(&own, vec![(queue, 1 << 40)]),
            9 => moved(&own, vec![(queue, 0), (queue, 0)]),
            _ => moved(&own, vec![(QueueIndex(shard.0), 0)]),
        }
    }

    /// Another shard, where there is one.
    fn other(&self, shard: ShardId) -> ShardId {
        ShardId((shard.0 + 1) % self.shards)
    }

    fn tx(&self, coordinator: ShardId, number: u64) -> TxId {
        let producer = ProducerId(0x4d45_4444);
        TxId { coordinator, producer, epoch: Epoch(1), number }
    }

    fn of_transactions(&mut self, shard: ShardId) -> Request {
        let (group, open) = (GROUP.to_owned(), self.tx(shard, 1 << 40));
        let begin = |tx, group: &str, note: &str| {
            let (group, note) = (group.to_owned(), note.to_owned());
            Request::TxBegin(TxBegin { tx, group, note })
        };
        let decide = |tx, group: &str, verdict, check| {
            let group = group.to_owned();
            Request::TxDecide(TxDecide { tx, group, verdict, check })
        };
        // None of them begins: an open one would wait for its producer for ever.
        match self.random.below(7) {
            0 => begin(open, "no name", ""),
            1 => begin(open, &group, &"x".repeat(300)),
            2 if self.shards > 1 => {
                begin(TxId { coordinator: self.other(shard), ..open }, "no name", "")
            }
            3 => decide(open, &group, TxVerdict::Commit, 0),
            4 => decide(open, &group, TxVerdict::Rollback, 9),
            5 => decide(open, &group, TxVerdict::Unknown, 0),
            _ => Request::JoinProducers(JoinProducers { shard, group: "no name".to_owned() }),
        }
    }

    /// A batch of which every record is well-formed, and that nobody may store.
    fn of_senders(&mut self, base: &Base) -> Request {
        let route = &base.routes[0];
        let (topic, queue, shard) = (route.topic, QueueIndex(0), route.shards[0]);
        let record = RecordParts { topic, queue, body: b"meddled", ..RecordParts::default() };
        let (lane, epoch, sequence) = (Lane(0), Epoch(0), Sequence(0));
        let producer = ProducerId(0x4d45_4444);
        let header = BatchHeader { producer, epoch, lane, shard, sequence };
        let (mut nodes, mut header, mut record) = (AckNodes::One, header, record);
        let wrong = [(TX, "nothing")];
        let tx = self.tx(shard, 1 << 41).to_string();
        let (unknown, keyed) = ([(TX, &tx[..])], [(TX, &tx[..]), (DEDUPE, "a key")]);
        let far = [(DUE, "99999999999999")];
        match self.random.below(9) {
            0 => nodes = AckNodes::Quorum,
            1 => header.lane = Lane(99),
            2 => header.producer = ProducerId(u64::MAX),
            3 => record.topic = TopicId(9_999),
            4 => record.queue = QueueIndex(1_000),
            5 => (record.flags, record.properties) = (Flags::PREPARED, &wrong),
            6 => (record.flags, record.properties) = (Flags::PREPARED, &unknown),
            7 => {
                record.flags = Flags::PREPARED.and(Flags::DEDUPE);
                record.properties = &keyed;
            }
            _ => (record.flags, record.properties) = (Flags::DELAYED, &far),
        }
        let mut bytes = Vec::new();
        record.encode(&mut bytes).expect("within the limits of a message");
        let batch = batch::encode(&header, 1, &bytes);
        Request::Produce(Produce { place: AckPlace::Synced, nodes, floor: Sequence(0), batch })
    }
}
