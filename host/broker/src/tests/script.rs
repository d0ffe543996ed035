//! Scripts: a line says what happens, the lines after it that begin with `>` what comes of it.
//!
//! | line | what happens |
//! |---|---|
//! | `topic NAME QUEUES` | the topic is created |
//! | `tenant NAME [auto]`, `as NAME` | a tenant is added; it is the one who asks from now on |
//! | `put P SEQ COUNT TOPIC/QUEUE [lane=] [epoch=] [floor=] [nodes=]` | a batch is produced |
//! | `open P` | a producer begins a new incarnation |
//! | `sub C GROUP TOPIC START [lease=] [credit=] [bytes=] [tag=] [plugin=] [mode=]` | C subscribes,
//! on its own connection |
//! | `skip C Q FROM..TO…`, `hold C Q FROM..TO MS` | what its policy says of messages |
//! | `poison C Q OFFSET…` | messages that its policy fails at |
//! | `decide GROUP TOPIC Q ASKED OFFSETxATTEMPT:MS|dead|drop…` | what a retry plugin answers |
//! | `credit C N`, `unsub C`, `close C` | more credit; end of the subscription, the connection |
//! | `ack C Q FROM..TO`, `reject …`, `expire …`, `nack … [delay=] [error=]` | consumer C settles |
//! | `ordered NAME QUEUES go-on/stop`, `put … orders=a,b,-` | an ordered topic; order groups |
//! | `key GROUP PROPERTY/none [WINDOW [COUNT]]`, `put … keys=a,b,-` | business keys |
//! | `keys GROUP` | how many are remembered, and how many messages were duplicates |
//! | `drain GROUP TOPIC WIDE`, `return GROUP TOPIC`, `drained` | a wider topic |
//! | `stopped GROUP`, `unblock GROUP TOPIC Q OFFSET retry/bury` | order groups that stopped |
//! | `policy GROUP RETRY ATTEMPTS` | settings of a group |
//! | `history GROUP TOPIC Q` | what is kept of messages that came back |
//! | `extend C Q FROM..TO MS`, `move GROUP TOPIC Q OFFSET…` | longer leases; a group goes on |
//! | `at MS` | time goes on to this instant |
//! | `sync`, `full`, `room`, `restart`, `trim TOPIC/QUEUE FIRST` | the log |
//! | `slow`, `answer`, `unreadable` | the index answers late, now, or cannot be read |
//! | `info GROUP`, `counts GROUP`, `ls`, `route NAME…` | questions |
//! | `id`, `find TOPIC KEY FROM TO`, `seek TOPIC/QUEUE TIME` | searches |
//! | `hits TOPIC/QUEUE/OFFSET… [count=] [bytes=]` | what a search found comes back |
//! | `set TOPIC QUEUES`, `rm TOPIC`, `fetch TOPIC/QUEUE FROM` | operations, reading |
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::batch::BatchHeader;
use yard_wire::operation::{
    Arg, DlqCounts, DlqDone, DlqLs, DlqWaiting, GroupDrain, GroupDrained, GroupInfo, GroupLs,
    GroupQueueRow, GroupReturn, GroupRow, GroupSet, GroupStopped, GroupUnblock, Operate,
    StoppedRow, TenantAdd, TenantAdded, TopicCreate, TopicRm, TopicSet,
};
use yard_wire::order::{AfterLast, OrderRetry, TopicType, Unblock};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{
    AckNodes, Call, Covered, Credit, Expression, Extend, Fetch, Find, FindCursor, FindRoute,
    HeldRange, MoveGroup, OpenProducer, Seek, Settle, SettleRange, Start, Subscribe, Unsubscribe,
    Verdict, Wanted,
};
use yard_wire::retry::{Attempts, RetryPolicy};
use yard_wire::units::{AgeLimit, CountLimit};
use yard_wire::{
    BusinessKey, Correlation, Epoch, Lane, MessageId, ProducerId, QueueIndex, QueueOffset,
    RecordPlace, Refusal, Sequence, ShardId, SubscriptionId, TenantId, Timestamp, TopicId, Wire,
};

use super::told::{drain_text, items_text, report_text, shards_of, topic_text};
use super::world::{Delivery, Out, RECORD_BYTES, World, config, origin};
use crate::{
    Asked, Decision, DiskLevel, Event, Fate, Findings, Held, Hit, Judged, PolicyAnswer, Range,
    RetryAnswer, SessionId,
};

/// Runs a script on a broker of one shard and compares what came with what the script says.
#[track_caller]
pub(crate) fn check(script: &str) {
    check_on(0, 1, script);
}

#[track_caller]
pub(crate) fn check_on(shard: u16, shards: u16, script: &str) {
    let mut script_of = Script::new(World::new(config(shard, shards)));
    let mut got = String::new();
    let mut want = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        want.push_str(line);
        want.push('\n');
        if line.starts_with('>') {
            continue;
        }
        got.push_str(line);
        got.push('\n');
        for said in script_of.run(line) {
            got.push_str(&format!("> {said}\n"));
        }
    }
    assert!(got == want, "--- came\n{got}\n--- expected\n{want}");
    script_of.world.compare_with_log();
}

pub(crate) struct Script {
    pub(crate) world: World,
    /// Places of messages that a plugin was asked about.
    failed: BTreeMap<QueueOffset, RecordPlace>,
    tenant: TenantId,
    tenants: BTreeMap<String, TenantId>,
    topics: BTreeMap<String, TopicId>,
    consumers: BTreeMap<String, (u64, SubscriptionId)>,
    names: BTreeMap<SubscriptionId, String>,
    joining: Option<String>,
}

impl Script {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world,
            failed: BTreeMap::new(),
            tenant: TenantId(0),
            tenants: BTreeMap::from([("default".to_owned(), TenantId(0))]),
            topics: BTreeMap::new(),
            consumers: BTreeMap::new(),
            names: BTreeMap::new(),
            joining: None,
        }
    }

    pub(crate) fn run(&mut self, line: &str) -> Vec<String> {
        let outs = self.perform(line);
        outs.into_iter().map(|out| self.say(out)).collect()
    }

    /// The consumer that has a subscription, or had it last.
    pub(crate) fn name_of(&self, subscription: SubscriptionId) -> &str {
        &self.names[&subscription]
    }

    /// What comes of a line, before it is said.
    pub(crate) fn perform(&mut self, line: &str) -> Vec<Out> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (plain, named): (Vec<&str>, Vec<&str>) =
            words.into_iter().partition(|word| !word.contains('='));
        let named: BTreeMap<&str, &str> =
            named.iter().map(|word| word.split_once('=').unwrap()).collect();
        match plain[0] {
            "put" => self.put(&plain[1..], &named),
            "open" => self.open(&plain[1..]),
            "sub" => self.sub(&plain[1..], &named),
            "extend" => self.extend(&plain[1..], &named),
            "move" => self.move_group(&plain[1..]),
            "ack" | "nack" | "reject" | "expire" | "release" => {
                self.settle(plain[0], &plain[1..], &named)
            }
            "topic" | "tenant" | "as" | "info" | "counts" | "ls" | "route" | "set" | "rm"
            | "fetch" | "policy" | "ordered" | "stopped" | "unblock" | "key" | "keys" | "drain"
            | "return" | "drained" => {
                self.ask(&plain);
            }
            "dlq" => self.deal_with(&plain[1..]),
            "id" | "find" | "seek" => self.look(&plain),
            "hits" => self.hits(&plain[1..], &named),
            "history" => self.tell_history(&plain),
            "skip" | "hold" | "poison" => self.judge(&plain),
            "decide" => self.decide(&plain),
            "credit" | "unsub" | "close" => self.member(&plain),
            _ => self.happen(&plain),
        }
        self.world.take_outs()
    }

    fn open(&mut self, words: &[&str]) {
        let [producer] = words else { panic!("open {words:?}") };
        let producer = ProducerId(producer[1..].parse().unwrap());
        let open = OpenProducer { shard: self.world.config.shard, producer };
        self.world.request(0, self.tenant, Request::OpenProducer(open));
    }

    fn put(&mut self, words: &[&str], named: &BTreeMap<&str, &str>) {
        let [producer, sequence, count, queue] = words else { panic!("put {words:?}") };
        let number = |name: &str| named.get(name).map_or(0, |value| value.parse().unwrap());
        let header = BatchHeader {
            producer: ProducerId(producer[1..].parse().unwrap()),
            epoch: Epoch(number("epoch") as u32),
            lane: Lane(number("lane") as u16),
            shard: ShardId(
                named
                    .get("shard")
                    .map_or(self.world.config.shard.0, |shard| shard.parse().unwrap()),
            ),
            sequence: Sequence(sequence.parse().unwrap()),
        };
        let nodes =
            named.get("nodes").map_or(AckNodes::One, |nodes| AckNodes::parse(nodes).unwrap());
        let queues = vec![self.queue(queue); count.parse().unwrap()];
        let names = named.get("orders").map(|names| names.split(',').map(str::to_owned).collect());
        self.world.names = names.unwrap_or_default();
        let values = named.get("keys").map(|keys| keys.split(',').map(str::to_owned).collect());
        self.world.values = values.unwrap_or_default();
        self.world.produce(self.tenant, nodes, number("floor"), header, &queues);
    }

    fn queue(&self, text: &str) -> (TopicId, QueueIndex) {
        let (topic, queue) = text.split_once('/').unwrap();
        let topic = self.topics.get(topic).copied();
        let topic = topic.unwrap_or_else(|| TopicId(text.len() as u32 + 90));
        (topic, QueueIndex(queue.parse().unwrap()))
    }

    fn sub(&mut self, words: &[&str], named: &BTreeMap<&str, &str>) {
        let [name, group, topic, start] = words else { panic!("sub {words:?}") };
        let number =
            |name: &str, default| named.get(name).map_or(default, |it| it.parse().unwrap());
        let start = match *start {
            "earliest" => Start::Earliest,
            "latest" => Start::Latest,
            offset => Start::Offsets(vec![(QueueIndex(0), QueueOffset(offset.parse().unwrap()))]),
        };
        let session = self.consumers.get(*name).map_or(self.consumers.len() as u64 + 1, |it| it.0);
        self.consumers.entry((*name).to_owned()).or_insert((session, SubscriptionId(0)));
        self.joining = Some((*name).to_owned());
        // The number is known as soon as it is drawn: deliveries may overtake the answer.
        let subscription = self.world.broker.next_subscription;
        self.names.insert(subscription, (*name).to_owned());
        self.consumers.insert((*name).to_owned(), (session, subscription));
        let expression = ["tag", "plugin"].into_iter().find_map(|dialect| {
            let text = (*named.get(dialect)?).to_owned();
            Some(Expression { dialect: dialect.to_owned(), text })
        });
        let request = Subscribe {
            shard: self.world.config.shard,
            group: (*group).to_owned(),
            topic: (*topic).to_owned(),
            member: (*name).to_owned(),
            start,
            expression,
            exclusive: named.get("mode") == Some(&"exclusive"),
            lease_ms: number("lease", 30_000),
            messages: number("credit", 100),
            bytes: number("bytes", 1 << 20),
        };
        self.world.request(session, self.tenant, Request::Subscribe(request));
        // The group of a first subscription exists from now on.
        self.world.advance(self.world.now);
    }

    fn settle(&mut self, verdict: &str, words: &[&str], named: &BTreeMap<&str, &str>) {
        let (session, subscription) = self.consumers[words[0]];
        let ranges = words[1..].chunks(2).flat_map(|words| {
            let held = self.held_ranges(subscription, words, named).into_iter();
            held.map(|HeldRange { queue, from, to, attempt }| SettleRange {
                queue,
                from,
                to,
                attempt,
                verdict: Verdict::parse(verdict).unwrap(),
                delay_ms: named.get("delay").map(|delay| delay.parse().unwrap()),
                error: named.get("error").map(|error| (*error).to_owned()),
            })
        });
        let ranges = ranges.collect();
        let shard = self.world.config.shard;
        let request = Request::Settle(Settle { shard, subscription, ranges });
        let mut origin = origin(session);
        if named.contains_key("unanswered") {
            origin.correlation = Correlation(0);
        }
        self.world.handle(Event::Request { origin, tenant: self.tenant, request });
    }

    /// `QUEUE FROM..TO`: by the last delivery of each message, or as `attempt=` says.
    fn held_ranges(
        &self,
        by: SubscriptionId,
        words: &[&str],
        named: &BTreeMap<&str, &str>,
    ) -> Vec<HeldRange> {
        let queue = QueueIndex(words[0].parse().unwrap());
        let (from, to) = words[1].split_once("..").unwrap();
        let range = (QueueOffset(from.parse().unwrap()), QueueOffset(to.parse().unwrap()));
        let pieces = match named.get("attempt") {
            Some(attempt) => vec![(range.0, range.1, attempt.parse().unwrap())],
            None => self.world.by_attempts((by, queue), range),
        };
        let held = |(from, to, attempt)| HeldRange { queue, from, to, attempt };
        pieces.into_iter().map(held).collect()
    }

    fn extend(&mut self, words: &[&str], named: &BTreeMap<&str, &str>) {
        let (session, subscription) = self.consumers[words[0]];
        let ranges = self.held_ranges(subscription, &words[1..3], named);
        let (lease_ms, shard) = (words[3].parse().unwrap(), self.world.config.shard);
        let request = Extend { shard, subscription, lease_ms, ranges };
        self.world.request(session, self.tenant, Request::Extend(request));
    }

    fn move_group(&mut self, words: &[&str]) {
        let to = words[2..].chunks(2).map(|words| {
            (QueueIndex(words[0].parse().unwrap()), QueueOffset(words[1].parse().unwrap()))
        });
        let request = MoveGroup {
            shard: self.world.config.shard,
            group: words[0].to_owned(),
            topic: words[1].to_owned(),
            to: to.collect(),
        };
        self.world.request(0, self.tenant, Request::MoveGroup(request));
        self.world.advance(self.world.now);
    }

    fn decide(&mut self, words: &[&str]) {
        let (topic, queue) = (self.topics[words[2]], QueueIndex(words[3].parse().unwrap()));
        let group = self.world.broker.groups.find(self.tenant, words[1], topic).unwrap();
        let asked = Timestamp(words[4].parse().unwrap());
        let decisions = words[5..].iter().map(|word| {
            let (which, fate) = word.split_once(':').unwrap();
            let (offset, attempt) = which.split_once('x').unwrap();
            let (offset, attempt) =
                (QueueOffset(offset.parse().unwrap()), attempt.parse().unwrap());
            let fate = match fate {
                "dead" => Fate::Dead { reason: "no use".to_owned() },
                "drop" => Fate::Dropped,
                text => match text.strip_prefix("to-") {
                    Some(topic) => {
                        let place = self.failed[&offset];
                        Fate::Moved { topic: topic.to_owned(), place }
                    }
                    None => Fate::Again { delay_ms: text.parse().unwrap() },
                },
            };
            Decision { offset, attempt, fate }
        });
        let decisions = decisions.collect();
        let answer = RetryAnswer { group, queue, asked, decisions };
        self.world.handle(Event::PolicyAnswered(PolicyAnswer::Retry(answer)));
    }

    fn judge(&mut self, words: &[&str]) {
        let (session, subscription) = self.consumers[words[1]];
        let (session, queue) = (SessionId(session), QueueIndex(words[2].parse().unwrap()));
        let offset = |text: &str| QueueOffset(text.parse().unwrap());
        let ranges = words[3..].iter().filter_map(|word| word.split_once(".."));
        let ranges: Vec<Range> = ranges.map(|(from, to)| (offset(from), offset(to))).collect();
        let messages: u64 = ranges.iter().map(|(from, to)| to.0 - from.0).sum();
        let poison = words[3..].iter().filter(|_| words[0] == "poison");
        let poison: Vec<_> = poison.map(|word| (offset(word), format!("trap at {word}"))).collect();
        let bytes = (messages + poison.len() as u64) * u64::from(RECORD_BYTES);
        let event = if words[0] != "hold" {
            Event::Judged(Judged { session, subscription, queue, skipped: ranges, poison, bytes })
        } else {
            let wait_ms = words[words.len() - 1].parse().unwrap();
            Event::Held(Held { session, subscription, queue, ranges, bytes, wait_ms })
        };
        self.world.handle(event);
    }

    fn member(&mut self, words: &[&str]) {
        let (session, subscription) = self.consumers[words[1]];
        let shard = self.world.config.shard;
        match words[0] {
            "credit" => {
                let messages = words[2].parse().unwrap();
                let request = Credit { shard, subscription, messages, bytes: 0 };
                self.world.request(session, self.tenant, Request::Credit(request));
            }
            "unsub" => {
                let request = Unsubscribe { shard, subscription };
                self.world.request(session, self.tenant, Request::Unsubscribe(request));
            }
            _ => self.world.handle(Event::SessionClosed(SessionId(session))),
        }
    }

    fn call<O: Operate>(&mut self, arguments: &O) -> Option<O::Result> {
        let call = Call { operation: O::OPERATION as u16, args: arguments.to_bytes() };
        self.world.request(0, self.tenant, Request::Call(call));
        self.world.sync();
        let last = self.world.outs.last();
        let Some(Out::Reply(_, Ok(Reply::Call(called)))) = last else {
            return None;
        };
        let result = O::Result::from_bytes(called.result.clone()).unwrap();
        self.world.outs.pop();
        Some(result)
    }

    fn ask(&mut self, words: &[&str]) {
        let text = |at: usize| words[at].to_owned();
        match words[0] {
            "topic" => {
                let queues = words[2].parse().unwrap();
                let arguments = TopicCreate { name: text(1), queues, ..TopicCreate::default() };
                if let Some(row) = self.call(&arguments) {
                    self.topics.insert(text(1), row.id);
                    self.note(&topic_text(&row));
                }
            }
            "ordered" => {
                let (name, queues) = (text(1), words[2].parse().unwrap());
                let (r#type, order_retry) = (TopicType::Ordered, OrderRetry(1_000));
                let after_last = AfterLast::parse(words[3]).unwrap();
                let arguments = TopicCreate {
                    name,
                    queues,
                    r#type,
                    order_retry,
                    after_last,
                    ..TopicCreate::default()
                };
                if let Some(row) = self.call(&arguments) {
                    self.topics.insert(text(1), row.id);
                    self.note(&format!("{} {}", topic_text(&row), row.r#type));
                }
            }
            "stopped" => {
                for row in self.call(&GroupStopped { name: text(1) }).unwrap_or_default() {
                    let StoppedRow { topic, queue, offset, attempts, reason, error, .. } = row;
                    self.note(&format!("{topic}/{queue}/{offset} x{attempts} {reason} {error:?}"));
                }
            }
            "drain" => {
                let (name, topic, to) = (text(1), text(2), text(3));
                let row = self.call(&GroupDrain { name, topic, to });
                row.iter().for_each(|row| self.note(&drain_text(row)));
                self.world.advance(self.world.now);
            }
            "return" => {
                let row = self.call(&GroupReturn { name: text(1), topic: text(2) });
                row.iter().for_each(|row| self.note(&drain_text(row)));
                self.world.advance(self.world.now);
            }
            "drained" => {
                let rows = self.call(&GroupDrained {}).unwrap();
                rows.iter().for_each(|row| self.note(&drain_text(row)));
            }
            "unblock" => {
                let arguments = GroupUnblock {
                    name: text(1),
                    topic: text(2),
                    queue: words[3].parse().unwrap(),
                    offset: words[4].parse().unwrap(),
                    then: Unblock::parse(words[5]).unwrap(),
                };
                if let Some(row) = self.call(&arguments) {
                    self.note(&format!("unblocked {} {}", row.then, row.done));
                }
                self.world.advance(self.world.now);
            }
            "set" => {
                let queues = Some(words[2].parse().unwrap());
                if let Some(row) =
                    self.call(&TopicSet { name: text(1), queues, ..TopicSet::default() })
                {
                    self.note(&topic_text(&row));
                }
            }
            "rm" => {
                if let Some(row) = self.call(&TopicRm { name: text(1) }) {
                    self.note(&topic_text(&row));
                }
                self.world.advance(self.world.now);
            }
            "tenant" => {
                let auto_create_topics = words.get(2) == Some(&"auto");
                let request = String::new();
                let arguments = TenantAdd { name: text(1), auto_create_topics, request };
                if let Some(added) = self.call(&arguments) {
                    let TenantAdded { id, auto_create_topics, .. } = added;
                    self.tenants.insert(text(1), id);
                    self.note(&format!("tenant {id} auto={auto_create_topics}"));
                }
            }
            "as" => self.tenant = self.tenants[words[1]],
            "policy" => {
                let read = |at: usize| Some(words[at]);
                let retry = RetryPolicy::parse("retry", read(2)).unwrap();
                let attempts = Attempts::parse("attempts", read(3)).unwrap();
                let (retry, max_attempts) = (Some(retry), Some(attempts));
                let set = GroupSet { name: text(1), retry, max_attempts, ..GroupSet::default() };
                if let Some(row) = self.call(&set) {
                    self.note(&format!("group {} {} {:?}", row.name, row.retry, row.max_attempts));
                }
            }
            "key" => {
                let read = |at: usize| words.get(at).copied();
                let set = GroupSet {
                    name: text(1),
                    key: read(2).map(|word| BusinessKey::parse("key", Some(word)).unwrap()),
                    key_window: read(3).map(|word| AgeLimit::parse("window", Some(word)).unwrap()),
                    key_count: read(4).map(|word| CountLimit::parse("count", Some(word)).unwrap()),
                    ..GroupSet::default()
                };
                self.call(&set);
                // It holds once it was applied.
                self.world.advance(self.world.now);
            }
            "keys" => {
                let report = self.call(&GroupInfo { name: text(1) }).unwrap();
                let duplicates: u64 = report.queues.iter().map(|row| row.duplicates).sum();
                let (keys, lag) = (report.keys, report.lag);
                self.note(&format!("keys={keys} duplicates={duplicates} lag={lag}"));
            }
            "info" => {
                if let Some(report) = self.call(&GroupInfo { name: text(1) }) {
                    self.note(&report_text(&report));
                }
            }
            "counts" => {
                let queues = self.call(&GroupInfo { name: text(1) }).unwrap().queues;
                let sum = |of: fn(&GroupQueueRow) -> u64| queues.iter().map(of).sum::<u64>();
                let (rejected, expired) = (sum(|row| row.rejected), sum(|row| row.expired));
                self.note(&format!("rejected={rejected} expired={expired}"));
            }
            "ls" => {
                for row in self.call(&GroupLs {}).unwrap() {
                    let GroupRow { name, topic, members, lag, in_flight, rejected } = row;
                    self.note(&format!(
                        "{name} {topic} members={members} lag={lag} held={in_flight} \
                         rejected={rejected}"
                    ));
                }
            }
            "route" => {
                let topics = words[1..].iter().map(|word| (*word).to_owned()).collect();
                self.world.request(0, self.tenant, Request::FindRoute(FindRoute { topics }));
                self.world.sync();
            }
            _ => {
                let (topic, queue) = words[1].split_once('/').unwrap();
                let request = Fetch {
                    shard: self.world.config.shard,
                    topic: topic.to_owned(),
                    queue: QueueIndex(queue.parse().unwrap()),
                    from: QueueOffset(words[2].parse().unwrap()),
                    records_max: u32::MAX,
                    bytes_max: u32::MAX,
                };
                self.world.request(0, self.tenant, Request::Fetch(request));
            }
        }
    }

    fn look(&mut self, words: &[&str]) {
        let shard = self.world.config.shard;
        let time = |word: &str| Timestamp(word.parse().unwrap());
        let find = |wanted| {
            let (after, records_max, bytes_max) = (None, u32::MAX, u32::MAX);
            Request::Find(Find { shard, wanted, after, records_max, bytes_max })
        };
        let request = match words {
            ["id"] => find(Wanted::Id(MessageId([7; 16]))),
            ["find", topic, key, from, to] => find(Wanted::Key {
                topic: (*topic).to_owned(),
                key: (*key).to_owned(),
                from: time(from),
                to: time(to),
            }),
            ["seek", queue, at] => {
                let (topic, queue) = queue.split_once('/').unwrap();
                let (topic, queue) = (topic.to_owned(), QueueIndex(queue.parse().unwrap()));
                Request::Seek(Seek { shard, topic, queue, time: time(at) })
            }
            other => panic!("look {other:?}"),
        };
        self.world.request(0, self.tenant, request);
    }

    fn hits(&mut self, words: &[&str], named: &BTreeMap<&str, &str>) {
        let hit = |word: &&str| {
            let (queue, offset) = word.rsplit_once('/').unwrap();
            let (topic, queue) = self.queue(queue);
            let (offset, stored) = (QueueOffset(offset.parse().unwrap()), Timestamp(1));
            let at = FindCursor { segment: 9, offset: offset.0 as u32 };
            let record = Bytes::from_static(&[0; 100]);
            Hit { topic, queue, offset, stored, at, record }
        };
        let hits = words.iter().map(hit).collect();
        let findings = Findings { hits, covered: Covered::default(), next: None };
        let number = |name: &str, or: u32| named.get(name).map_or(or, |n| n.parse().unwrap());
        let asked = Asked {
            origin: super::world::origin(0),
            tenant: self.tenant,
            records_max: number("count", 10),
            bytes_max: number("bytes", 10_000),
            traces: false,
        };
        self.world.handle(Event::Found { asked, findings });
    }

    /// Dead letters: `ls`, `waiting GROUP FROM`, `done GROUP FROM TO`.
    fn deal_with(&mut self, words: &[&str]) {
        let number = |at: usize| words[at].parse().unwrap();
        let group = || words[1].to_owned();
        match words[0] {
            "ls" => {
                for row in self.call(&DlqLs {}).unwrap() {
                    self.note(&format!("{} waiting={} done={}", row.group, row.waiting, row.done));
                }
            }
            "waiting" => {
                let wanted = DlqWaiting { group: group(), queue: 0, from: number(2) };
                for row in self.call(&wanted).unwrap_or_default() {
                    self.note(&format!("{}: {}..{}", row.queue, row.from, row.to));
                }
            }
            _ => {
                let done = DlqDone { group: group(), queue: 0, from: number(2), to: number(3) };
                if let Some(DlqCounts { done, skipped, left }) = self.call(&done) {
                    self.note(&format!("done={done} skipped={skipped} left={left}"));
                }
            }
        }
    }

    /// What the broker keeps of messages that came back.
    fn tell_history(&mut self, words: &[&str]) {
        let topic = self.topics[words[2]];
        let id = self.world.broker.groups.find(self.tenant, words[1], topic).unwrap();
        let queue = QueueIndex(words[3].parse().unwrap());
        let progress = &self.world.broker.groups.get(id).unwrap().queues[&queue].progress;
        let lines: Vec<String> = progress
            .returned()
            .from(QueueOffset(0))
            .map(|(offset, it)| {
                let error = it.error.as_deref().unwrap_or("-");
                format!("{offset}: {} times, {}..{}, {error}", it.attempts, it.first, it.last)
            })
            .collect();
        lines.iter().for_each(|line| self.note(line));
    }

    /// Something for people, passed through the outputs as a refusal that nobody sends.
    fn note(&mut self, text: &str) {
        let refusal = Refusal::new(yard_wire::Code::BadReply, text);
        self.world.outs.push(Out::Reply(super::world::origin(0), Err(refusal)));
    }

    fn happen(&mut self, words: &[&str]) {
        match words[0] {
            "sync" => self.world.sync(),
            "full" => self.world.full = true,
            "room" => self.world.full = false,
            "slow" => self.world.slow_index = true,
            "answer" => self.world.answer_index(true),
            "unreadable" => self.world.answer_index(false),
            "restart" => {
                self.world.compare_with_log();
                self.world.restart();
            }
            "trim" => {
                let (topic, queue) = self.queue(words[1]);
                self.world.trim(topic, queue, words[2].parse().unwrap());
            }
            "rot" => {
                let (session, subscription) = self.consumers[words[1]];
                let queue = QueueIndex(words[2].parse().unwrap());
                let offset = QueueOffset(words[3].parse().unwrap());
                let session = SessionId(session);
                self.world.handle(Event::Unreadable { session, subscription, queue, offset });
            }
            "limit" => {
                let backlog_max = Some(CountLimit(words[2].parse().unwrap()));
                let name = words[1].to_owned();
                self.call(&TopicSet { name, backlog_max, ..TopicSet::default() }).unwrap();
            }
            "retire" => {
                self.world.begins = words[1].parse().unwrap();
                self.world.handle(Event::Retired { below: self.world.begins });
            }
            "disk" => {
                let levels = [DiskLevel::Low, DiskLevel::Expire, DiskLevel::Refuse];
                let level = levels.into_iter().find(|level| format!("{level:?}") == words[1]);
                self.world.handle(Event::Disk(level.unwrap()));
            }
            "lose" => {
                let queue = self.queue(words[1]);
                let (from, to) = words[2].split_once("..").unwrap();
                let lost = (from.parse().unwrap(), to.parse().unwrap());
                self.world.lost.insert(queue, lost);
            }
            "at" => self.world.advance(Timestamp(words[1].parse().unwrap())),
            other => panic!("unknown word {other}"),
        }
    }

    fn say(&mut self, out: Out) -> String {
        match out {
            Out::Reply(_, Ok(reply)) => self.say_reply(reply),
            Out::Reply(_, Err(refusal)) if refusal.code == yard_wire::Code::BadReply => {
                refusal.detail
            }
            // Its number is random.
            Out::Reply(_, Err(refusal)) if refusal.code == yard_wire::Code::UnknownSubscription => {
                "UnknownSubscription".to_owned()
            }
            Out::Reply(_, Err(refusal)) => format!("{}: {}", refusal.code.name(), refusal.detail),
            Out::Deliver(_, Delivery { subscription, queue, items, asking, .. }) => {
                let round = asking.map_or(String::new(), |it| format!(" in round {}", it.round));
                let name = &self.names[&subscription];
                format!("{name} gets {queue}: {}{round}", items_text(&items))
            }
            Out::Ended(_, subscription, code) => {
                format!("{} ended: {}", self.names[&subscription], code.name())
            }
            Out::Fetch(_, queue, from, count) => format!("fetch {queue} from {from}, {count}"),
            Out::Find(tenant, search, count) => {
                format!("tenant {tenant} looks: {search:?}, {count}")
            }
            Out::Seek(topic, queue, time) => format!("seek {topic}/{queue} {time}"),
            Out::Ensure(name) => format!("wants topic {name}"),
            Out::Look(_) => unreachable!("no script has transactions"),
            Out::Ask(question) => {
                let places = question.failures.iter().map(|it| (it.offset, it.place));
                self.failed.extend(places);
                let failures = question.failures.iter().map(|it| {
                    let (delay, reason) = (it.last_delay_ms, &it.reason);
                    format!(" {}x{} after {delay} {reason:?}", it.offset, it.attempt)
                });
                let of = format!("{} of {}", question.policy, question.group_name);
                format!("asks {of} at {}:{}", question.asked, failures.collect::<String>())
            }
            Out::Notify(to, notice) => format!("tell shard {to}: {:?}", notice.what),
            Out::Check(session, check) => format!("ask {}: check {}", session.0, check.check),
            Out::Broadcast(change) => match change {
                crate::MetaChange::TenantPut(tenant) => format!("tell: tenant {}", tenant.name),
                crate::MetaChange::TopicPut(topic) => {
                    self.topics.insert(topic.name.to_string(), topic.topic);
                    format!("tell: topic {} {:?}", topic.name, shards_of(&topic.shards))
                }
                crate::MetaChange::TopicRemoved { .. } => "tell: topic removed".to_owned(),
                crate::MetaChange::GroupPut(settings) => format!("tell: group {}", settings.name),
                crate::MetaChange::GroupRemoved { name, .. } => format!("tell: no group {name}"),
                other => format!("tell: {other:?}"),
            },
        }
    }

    fn say_reply(&mut self, reply: Reply) -> String {
        match reply {
            Reply::Produce(produced) => {
                let again = if produced.duplicate { " again" } else { "" };
                let placed = produced.placed.iter().map(|placed| {
                    let end = placed.first.0 + u64::from(placed.count);
                    format!("{} {}..{end}", placed.queue, placed.first)
                });
                format!("stored{again}: {}", placed.collect::<Vec<_>>().join(", "))
            }
            Reply::Subscribe(subscribed) => {
                let queues = subscribed
                    .queues
                    .iter()
                    .map(|start| format!("{} {}..{}", start.queue, start.settled_below, start.end));
                let name = self.names[&subscribed.subscription].clone();
                format!("{name} subscribed: {}", queues.collect::<Vec<_>>().join(", "))
            }
            Reply::Settle(settled) => {
                let lost = settled
                    .lost
                    .iter()
                    .map(|(queue, (from, to))| format!(" lost {queue} {from}..{to}"));
                let other = settled.other.iter().map(other_text);
                let (lost, other) = (lost.collect::<String>(), other.collect::<String>());
                format!("settled {}{lost}{other}", settled.done)
            }
            Reply::FindRoute(route) => {
                let topics = route.topics.iter().map(|topic| match topic {
                    Some(topic) => format!("{} {:?}", topic.name, shards_of(&topic.shards)),
                    None => "none".to_owned(),
                });
                format!("route: {}", topics.collect::<Vec<_>>().join(", "))
            }
            Reply::Find(found) => {
                let messages = found.messages.iter();
                let places = messages.map(|m| format!(" {}/{}/{}", m.topic, m.queue, m.offset));
                let next = found.next.map_or(String::new(), |at| format!(", next {}", at.offset));
                format!("found:{}{next}", places.collect::<String>())
            }
            Reply::Extend(extended) => {
                let text = |name: &str, ranges: &[HeldRange]| {
                    let ranges = ranges.iter().map(|r| format!(" {name} {}..{}", r.from, r.to));
                    ranges.collect::<String>()
                };
                let (spent, lost) = (text("spent", &extended.spent), text("lost", &extended.lost));
                let other: String = extended.other.iter().map(other_text).collect();
                format!("extended {} to {}{spent}{lost}{other}", extended.done, extended.until)
            }
            Reply::MoveGroup(moved) => {
                let queues = moved.queues.iter().map(|queue| {
                    format!(
                        " {}: {} to {} of {}",
                        queue.queue, queue.before, queue.after, queue.end
                    )
                });
                format!("moved{}; {} ended", queues.collect::<String>(), moved.ended)
            }
            Reply::OpenProducer(opened) => {
                let lanes = opened.lanes.iter().map(|(lane, next)| format!(" {lane}: {next}"));
                format!("opened {}{}", opened.epoch, lanes.collect::<String>())
            }
            Reply::Credit(_) => "credited".to_owned(),
            Reply::Unsubscribe(_) => "unsubscribed".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

/// What is held by another delivery than the one that was named.
fn other_text(held: &HeldRange) -> String {
    format!(" held {} {}..{}x{}", held.queue, held.from, held.to, held.attempt)
}
