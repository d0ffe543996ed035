//! The client that creates the topics before everything else, and reads all queues after it.
use std::collections::BTreeMap;

use yard_checker::{DeadLetter, Event, Scan, Stored};
use yard_wire::limits::DEDUPE_WINDOW_MS_MAX;
use yard_wire::name::DEAD_PREFIX;
use yard_wire::operation::{GroupSet, MsgTrace, Operation, TopicCreate, TraceRow, TxSet};
use yard_wire::order::{OrderRetry, TopicType};
use yard_wire::plugin_use::PluginChoice;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Call, Called, Fetch, FindRoute, Route};
use yard_wire::share::Share;
use yard_wire::transaction::{CheckPolicy, CheckSpan};
use yard_wire::units::{AgeLimit, SizeLimit};
use yard_wire::{BusinessKey, Code, Correlation, QueueIndex, QueueOffset, TopicId, Wire};

mod undecided;

use super::consumer::{group_name, topic_name, wide_name};
use super::{CALL_STREAM, Link, call, plugin, reader, tx_group};
use crate::agenda::{MS, Micros};
use crate::alike::ALIKE;
use crate::base::{Base, Found, Phase, queue_name};
use crate::network::ToClient;

/// An offset that no queue comes to.
const NOWHERE: QueueOffset = QueueOffset(u64::MAX);
/// How long it waits for an answer before it asks again.
const PATIENCE: Micros = 500 * MS;

/// The client that begins and ends a run.
pub(crate) struct Steward {
    pub(super) link: Link,
    asked: Option<Correlation>,
    created: u32,
    /// It knows which dead-letter topics there are.
    knows_dead: bool,
    scans: Vec<Reading>,
    at: usize,
    /// Which life it asks for, and in which shard.
    asking: (usize, u16),
    operator: undecided::Operator,
}

struct Reading {
    topic: TopicId,
    queue: QueueIndex,
    began: Micros,
    next: QueueOffset,
    first: QueueOffset,
    found: Vec<(QueueOffset, Found)>,
}

impl Steward {
    /// A steward with this number among the clients.
    #[must_use]
    pub(crate) fn new(client: usize) -> Self {
        let (link, scans) = (Link::new(client), Vec::new());
        let operator = undecided::Operator::default();
        Self {
            link,
            asked: None,
            created: 0,
            knows_dead: false,
            scans,
            at: 0,
            asking: (0, 0),
            operator,
        }
    }

    pub(super) fn work(&mut self, base: &mut Base) {
        let request = match base.phase {
            Phase::SetUp => Some((0, self.next_of_setup(base))),
            Phase::Scan => self.next_of_scan(base),
            Phase::Drain if base.plan.has_transactions() => Some(self.operator.next(base)),
            Phase::Drain | Phase::Storm | Phase::Over => None,
        };
        if let Some((stream, request)) = request {
            self.asked = self.link.request(base, stream, request);
            self.link.work_at(base, base.now + PATIENCE);
        }
    }

    fn next_of_setup(&self, base: &Base) -> Request {
        let topics = base.plan.topics;
        let groups = base.plan.numbers();
        let wide = if base.plan.wide_queues > 0 { groups.len() as u32 } else { 0 };
        if self.created < topics + wide {
            let is_wide = self.created >= topics;
            // A wide topic is like the first one, but that it keeps everything.
            let number = if is_wide { 0 } else { self.created };
            let retain_bytes = base.plan.retain_bytes[number as usize];
            let retain_bytes = SizeLimit(if is_wide { 0 } else { retain_bytes });
            let ordered = base.plan.ordered[number as usize];
            let group = groups[self.created.saturating_sub(topics) as usize];
            let create = TopicCreate {
                name: if is_wide { wide_name(group) } else { topic_name(number) },
                queues: if is_wide { base.plan.wide_queues } else { base.plan.queues },
                retain_bytes,
                r#type: if ordered.is_some() { TopicType::Ordered } else { TopicType::Normal },
                order_retry: OrderRetry(base.plan.order_retry_ms),
                after_last: ordered.unwrap_or_default(),
                trace: if base.plan.traced[number as usize] {
                    base.plan.trace_share
                } else {
                    Share::default()
                },
                // No clock is set that far ahead.
                dedupe_window: Some(AgeLimit(DEDUPE_WINDOW_MS_MAX)),
                dedupe_plugin: PluginChoice(base.plan.keys_by_plugin.then(|| plugin("keys"))),
                ..TopicCreate::default()
            };
            let operation = Operation::TopicCreate as u16;
            return Request::Call(Call { operation, args: create.to_bytes() });
        }
        let next = (self.created - topics - wide) as usize;
        if let Some(group) = groups.get(next) {
            return call(&settings_of(base, *group));
        }
        let tx_next = (next - groups.len()) as u64;
        if tx_next < base.plan.tx_groups && base.plan.has_transactions() {
            let (first, every) = (Some(CheckSpan(300)), Some(CheckSpan(500)));
            let (group, checks) = (tx_group(tx_next).to_owned(), Some(4));
            let check = base.plan.checks_by_plugin.then(|| CheckPolicy::Plugin(plugin("checks")));
            let set = TxSet { group, first, every, checks, check };
            let operation = Operation::TxSet as u16;
            return Request::Call(Call { operation, args: set.to_bytes() });
        }
        let wide = groups.into_iter().take(wide as usize).map(wide_name);
        Request::FindRoute(FindRoute { topics: (0..topics).map(topic_name).chain(wide).collect() })
    }

    fn next_of_scan(&mut self, base: &mut Base) -> Option<(u16, Request)> {
        if !self.knows_dead {
            let name = |group: u64| format!("{DEAD_PREFIX}{}", group_name(group));
            let topics = base.plan.numbers().into_iter().map(name).collect();
            return Some((0, Request::FindRoute(FindRoute { topics })));
        }
        if self.scans.is_empty() {
            for route in base.routes.iter().chain(&base.wide_routes).chain(&base.dead_routes) {
                self.scans.extend((0..).zip(&route.shards).map(|(queue, _)| Reading {
                    topic: route.topic,
                    queue: QueueIndex(queue),
                    began: base.now,
                    next: QueueOffset(0),
                    first: QueueOffset(0),
                    found: Vec::new(),
                }));
            }
        }
        let Some(reading) = self.scans.get(self.at) else {
            let Some(life) = base.lives.all.get(self.asking.0) else {
                base.phase = Phase::Over;
                return None;
            };
            return Some((CALL_STREAM + self.asking.1, call(&MsgTrace { id: life.id })));
        };
        let name = base.route(reading.topic).map(|route| route.name.clone());
        let fetch = Request::Fetch(Fetch {
            shard: reader::shard_of(base, reading.topic, reading.queue),
            topic: name.unwrap_or_default(),
            queue: reading.queue,
            from: reading.next,
            records_max: 1_000,
            bytes_max: 1 << 20,
        });
        Some((0, fetch))
    }

    pub(super) fn receive(&mut self, base: &mut Base, frame: ToClient) {
        let ToClient::Reply(correlation, result) = frame else { return };
        if self.asked != Some(correlation) {
            return;
        }
        self.asked = None;
        if base.phase == Phase::Drain {
            let result = match result {
                Ok(Reply::Call(called)) => Ok(called.result),
                Ok(other) => return base.fail(|| format!("a call was answered by {other:?}")),
                Err(refusal) => Err(refusal),
            };
            if self.operator.answered(base, &result) {
                self.work(base);
            }
            return;
        }
        match result {
            Ok(Reply::Call(called)) if base.phase == Phase::Scan => self.told(base, &called),
            Ok(Reply::Call(_)) => self.created += 1,
            Ok(Reply::FindRoute(route)) if base.phase == Phase::Scan => {
                self.knows_dead = true;
                learn_dead(base, &route);
            }
            Ok(Reply::FindRoute(route)) => {
                let asked = route.topics.len();
                base.routes = route.topics.into_iter().flatten().collect();
                if base.routes.len() == asked {
                    base.wide_routes = base.routes.split_off(base.plan.topics as usize);
                    base.phase = Phase::Storm;
                } else {
                    base.fail(|| "a topic that was created is not there".to_owned());
                }
                return;
            }
            Ok(Reply::Fetch(fetched)) => {
                let reading = &mut self.scans[self.at];
                let place = (reading.topic, reading.queue, reading.next);
                if reading.next == NOWHERE {
                    reading.next = fetched.first;
                    reading.found.clear();
                    return self.work(base);
                }
                if reading.found.is_empty() {
                    reading.first = fetched.first;
                }
                reading.found.extend(reader::read(base, place, &fetched));
                let count = fetched.records.len() as u64;
                reading.next = QueueOffset(place.2.0.max(fetched.first.0) + count);
                if reading.next >= fetched.end {
                    self.at += 1;
                } else if count == 0 {
                    base.fail(|| format!("a fetch of {place:?} gives nothing"));
                }
            }
            Ok(other) => base.fail(|| format!("the steward was answered {other:?}")),
            // The oldest messages are gone: whoever asks for none is told where the queue begins.
            Err(refusal) if refusal.code == Code::OffsetOutOfRange => {
                self.scans[self.at].next = NOWHERE;
            }
            Err(refusal) if refusal.code == Code::UnknownMessage => self.ask_next(base),
            // An earlier attempt has created it.
            Err(refusal) if refusal.code == Code::TopicExists => self.created += 1,
            Err(refusal) if refusal.code == Code::LogFenced || refusal.code == Code::DiskFull => {
                return;
            }
            Err(refusal) => base.fail(|| format!("the steward was refused: {refusal}")),
        }
        self.work(base);
    }

    /// A shard has told what it knows of a life.
    fn told(&mut self, base: &mut Base, called: &Called) {
        match Vec::<TraceRow>::from_bytes(called.result.clone()) {
            Ok(rows) => base.lives.all[self.asking.0].rows.extend(rows),
            Err(error) => base.fail(|| format!("a life: {error}")),
        }
        self.ask_next(base);
    }

    fn ask_next(&mut self, base: &Base) {
        let (life, shard) = self.asking;
        let is_last = shard + 1 == base.plan.shards;
        self.asking = if is_last { (life + 1, 0) } else { (life, shard + 1) };
    }

    pub(super) fn finish(&mut self, base: &mut Base) {
        let mut stored: Vec<((TopicId, QueueIndex, QueueOffset), Found)> = Vec::new();
        let mut firsts = BTreeMap::new();
        for reading in self.scans.drain(..) {
            let Reading { topic, queue, began, first, found, .. } = reading;
            let messages = found.iter().map(|(offset, found)| Stored {
                offset: offset.0,
                producer: found.producer,
                seq: found.seq,
                hash: found.hash,
            });
            firsts.insert((topic, queue), first);
            base.history.push(Event::Scan(Scan {
                queue: queue_name(topic, queue),
                at: began,
                start: first.0,
                messages: messages.collect(),
            }));
            stored.extend(found.into_iter().map(|(offset, found)| ((topic, queue, offset), found)));
        }
        if base.phase != Phase::Over {
            return;
        }
        let mut stored = stored.into_iter().peekable();
        for (place, found) in std::mem::take(&mut base.fetched) {
            while stored.next_if(|(other, _)| *other < place).is_some() {}
            // What was removed since is rightly not there.
            let was_removed = firsts.get(&(place.0, place.1)).is_some_and(|first| place.2 < *first);
            if !was_removed && stored.peek() != Some(&(place, found)) {
                base.fail(|| format!("{place:?} was fetched as {found:?} and is not stored so"));
            }
        }
    }
}

/// What is set of a group.
pub(super) fn settings_of(base: &Base, group: u64) -> GroupSet {
    let compares = base.plan.compares(group);
    GroupSet {
        name: group_name(group),
        retry: Some(base.plan.retry.clone()),
        max_attempts: Some(base.plan.attempts),
        key: Some(BusinessKey(compares.then(|| ALIKE.to_owned()))),
        // No clock is set that far ahead.
        key_window: Some(AgeLimit(DEDUPE_WINDOW_MS_MAX)),
        ..GroupSet::default()
    }
}

/// Notes the dead-letter topics that there are, one a group, and says so in the history.
fn learn_dead(base: &mut Base, found: &Route) {
    for (group, route) in base.plan.numbers().into_iter().zip(&found.topics) {
        let Some(route) = route else { continue };
        for source in &base.routes {
            let (source, topic) = (source.topic.0, route.topic.0);
            for group in base.removals.all_called(group) {
                base.history.push(Event::DeadLetter(DeadLetter { group, source, topic }));
            }
        }
        base.dead_routes.push(route.clone());
    }
}
