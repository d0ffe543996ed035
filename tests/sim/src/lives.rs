//! The lives of a few messages, as they are told once everything is over: they agree with what is
//! stored, and with what consumers have said.
use std::collections::BTreeSet;

use yard_checker::{Outcome, Queue, SettleVerdict};
use yard_wire::MessageId;
use yard_wire::name::DEAD_PREFIX;
use yard_wire::operation::TraceRow;
use yard_wire::requests::TopicRoute;

use crate::base::{Base, queue_name};
use crate::client::{group_name, group_of};
use crate::random::Random;

/// Of so many messages somebody wants to know of one.
const WANTED_ONE_IN: u64 = 15;
/// What is told of a message only where its topic is traced.
const NOTED: [&str; 9] = [
    "accepted",
    "offered",
    "filtered",
    "acked",
    "nacked",
    "rejected",
    "expired",
    "given-up",
    "lease-ended",
];
/// How a message got its place.
const PLACED: [&str; 3] = ["stored", "released", "committed"];

/// A message by its producer and its number there.
type Name = (u64, u64);

/// A life that is told.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) name: Name,
    pub(crate) id: MessageId,
    pub(crate) rows: Vec<TraceRow>,
}

/// The lives that are told.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    pub(crate) all: Vec<Life>,
}

impl Lives {
    /// A message was answered, which is perhaps one of those; so many may be.
    pub(crate) fn may_want(&mut self, most: usize, name: Name, id: MessageId) {
        let mut random = Random::new(name.0 << 40 ^ name.1 ^ 0x4c49_5645);
        if self.all.len() < most && random.once_in(WANTED_ONE_IN) {
            self.all.push(Life { name, id, rows: Vec::new() });
        }
    }
}

/// Holds what was told against the history.
pub(crate) fn check(base: &mut Base) {
    for life in std::mem::take(&mut base.lives.all) {
        if let Err(wrong) = check_life(base, &life) {
            let Life { name, id, rows } = life;
            let rows: Vec<String> = rows.iter().map(|row| format!("\n  {row:?}")).collect();
            let rows = rows.concat();
            base.fail(|| format!("the life of {}.{} ({id}): {wrong}{rows}", name.0, name.1));
        }
    }
}

fn check_life(base: &Base, life: &Life) -> Result<(), String> {
    for (number, route) in base.routes.iter().enumerate() {
        check_place(base, life, (number, route))?;
        check_notes(base, life, (number, route))?;
    }
    check_dead(base, life)
}

/// Where the scans of a topic have found a message.
fn places(base: &Base, name: Name, topic: u32) -> Vec<(Queue, u64)> {
    let scans = base.history.scans.iter().filter(|scan| scan.queue.topic == topic);
    let stored = scans.flat_map(|scan| scan.messages.iter().map(|it| (scan.queue, it)));
    let its = stored.filter(|(_, it)| (it.producer, it.seq) == name);
    its.map(|(queue, it)| (queue, it.offset)).collect()
}

fn rows_of<'a>(life: &'a Life, route: &'a TopicRoute) -> impl Iterator<Item = &'a TraceRow> {
    life.rows.iter().filter(|row| row.topic == route.name)
}

fn place_of(row: &TraceRow, route: &TopicRoute) -> Option<(Queue, u64)> {
    Some((queue_name(route.topic, row.queue), row.offset?.0))
}

/// It is where it is said to be, and nowhere else; and where it is, everybody is done with it.
fn check_place(
    base: &Base,
    life: &Life,
    (number, route): (usize, &TopicRoute),
) -> Result<(), String> {
    let stored = places(base, life.name, route.topic.0);
    let placed = rows_of(life, route).filter(|row| PLACED.contains(&row.event.as_str()));
    let told: Vec<_> = placed.filter_map(|row| place_of(row, route)).collect();
    let keeps_all = base.plan.retain_bytes[number] == 0;
    if told != stored && (keeps_all || !told.is_empty() && !stored.is_empty()) {
        return Err(format!("it is at {stored:?} in {}, not at {told:?}", route.name));
    }
    let standing = rows_of(life, route).filter(|row| row.event == TraceRow::NOW);
    let standing: Vec<_> = standing.map(|row| (row.group.clone(), row.detail.clone())).collect();
    // What is passed on elsewhere is done with there.
    let open = standing.iter().find(|(_, detail)| detail != "settled");
    if let Some((group, detail)) = open.filter(|_| base.plan.wide_queues == 0) {
        return Err(format!("everything is settled, and {group} stands: {detail}"));
    }
    let readers: BTreeSet<String> = (base.history.polls.iter())
        .filter(|poll| poll.queue.topic == route.topic.0)
        .map(|poll| group_name(poll.group))
        .collect();
    let missing = readers.iter().find(|group| !standing.iter().any(|(name, _)| name == *group));
    match missing.filter(|_| keeps_all && !stored.is_empty()) {
        Some(group) => Err(format!("it is not said how {group} stands")),
        None => Ok(()),
    }
}

/// What was noted has happened, and of topics that are not traced nothing was.
fn check_notes(
    base: &Base,
    life: &Life,
    (number, route): (usize, &TopicRoute),
) -> Result<(), String> {
    let noted = || rows_of(life, route).filter(|row| NOTED.contains(&row.event.as_str()));
    if let Some(row) = noted().find(|_| !base.plan.traced[number]) {
        return Err(format!("{} is not traced, and {} was noted", route.name, row.event));
    }
    for row in noted() {
        let verdict = match row.event.as_str() {
            "acked" => SettleVerdict::Ack,
            "rejected" => SettleVerdict::Reject,
            "expired" => SettleVerdict::Expire,
            _ => continue,
        };
        let (Some(place), Some(group)) = (place_of(row, route), group_of(&row.group)) else {
            continue;
        };
        let called: Vec<u64> = base.removals.all_called(group).collect();
        let was_said = base.history.settles.iter().any(|settle| {
            let is_there = settle.queue == place.0 && (settle.from..settle.to).contains(&place.1);
            let is_it = settle.verdict == verdict && settle.outcome != Outcome::Refused;
            is_there && is_it && called.contains(&settle.group)
        });
        // What was said in a wide topic is written down there.
        if !was_said && base.plan.wide_queues == 0 {
            return Err(format!("nobody of {} has said that it is {}", row.group, row.event));
        }
    }
    Ok(())
}

/// It is a dead letter of those groups of which it is said to be one.
fn check_dead(base: &Base, life: &Life) -> Result<(), String> {
    for route in &base.dead_routes {
        let stored = places(base, life.name, route.topic.0);
        let told = rows_of(life, route).filter(|row| row.event == "dead-lettered");
        let told: Vec<_> = told.filter_map(|row| place_of(row, route)).collect();
        if told != stored {
            return Err(format!("it is at {stored:?} in {}, not at {told:?}", route.name));
        }
        let group = route.name.trim_start_matches(DEAD_PREFIX);
        let mut rows = rows_of(life, route).filter(|row| row.event == "dead-lettered");
        if let Some(row) = rows.find(|row| row.group != group) {
            return Err(format!("a dead letter of {group} is said to be of {}", row.group));
        }
    }
    Ok(())
}
