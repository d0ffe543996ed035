//! The life of one message: searched for in the log, and told with what groups know of it.
//!
//! ```text
//!   by id ──► places (in its topic, and among dead letters) ─┐  each answer goes on where it
//!   in $trace by id ──► places of what is gone ──────────────┤  stopped, then the next search
//!   in $trace by each place ──► notes ◄──────────────────────┘  begins; the last one answers
//! ```
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::limits::{FIND_BYTES_MAX, FIND_RECORDS_MAX};
use yard_wire::name::{DEAD_PREFIX, TRACE_TOPIC};
use yard_wire::operation::TraceRow;
use yard_wire::record::{Flags, Record};
use yard_wire::request::Reply;
use yard_wire::{Code, MessageId, QueueIndex, QueueOffset, Refusal, TenantId, Timestamp};

use super::Place;
use super::note::{self, place_key};
use crate::bounds::{TRACE_ROWS_MAX, TRACES_ASKED_MAX};
use crate::broker::Broker;
use crate::effect::Effect;
use crate::event::Origin;
use crate::find::{Asked, Findings, Hit, Search};
use crate::group::Group;
use crate::group::lease::Hold;
use crate::group::returned::Returned;
use crate::operate::listed;
use crate::refusal::OperateError;

/// A life, as far as it is known.
#[derive(Debug)]
pub(super) struct Telling {
    id: MessageId,
    /// What the log is searched for now.
    search: Search,
    /// And then.
    left: Vec<Search>,
    places: BTreeSet<Place>,
    /// What was noted, by the places of the notes: in the order in which it happened.
    notes: BTreeMap<(QueueIndex, QueueOffset), TraceRow>,
    rows: Vec<TraceRow>,
}

impl Telling {
    fn has_room(&self) -> bool {
        self.rows.len() + self.notes.len() < TRACE_ROWS_MAX
    }
}

/// Events that say how a message was stored.
const STORING: [&str; 3] = ["accepted", "prepared", "waiting"];

const DELIVERED: &str = "delivered";

/// How a group stands towards a message.
struct Standing {
    attempt: u32,
    detail: String,
}

fn empty_row(at_ms: Timestamp, event: &str, (topic, queue): (String, QueueIndex)) -> TraceRow {
    let (event, offset, group) = (event.to_owned(), None, String::new());
    TraceRow { at_ms, event, topic, queue, offset, group, attempt: 0, detail: String::new() }
}

impl Broker {
    /// Begins to look for a message.
    pub(crate) fn begin_trace(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        id: MessageId,
        effects: &mut Vec<Effect>,
    ) {
        let search = Search::Id(id);
        let mut telling = Telling {
            id,
            search: search.clone(),
            left: Vec::new(),
            places: BTreeSet::new(),
            notes: BTreeMap::new(),
            rows: Vec::new(),
        };
        telling.left.extend(self.search_notes(tenant, id.to_string()));
        // A search that failed was answered by whoever reads, and is not heard of here.
        if self.traces.asked.len() == TRACES_ASKED_MAX
            && let Some((origin, _)) = self.traces.asked.pop_first()
        {
            yard_wire::mark!(LifeBusy);
            let result = Err(Refusal::from(Code::Busy));
            effects.push(Effect::Reply { origin, result });
        }
        self.traces.asked.insert(origin, telling);
        assert!(self.traces.asked.len() <= TRACES_ASKED_MAX, "who asks is bounded");
        let (records_max, bytes_max) = (FIND_RECORDS_MAX, FIND_BYTES_MAX);
        let asked = Asked { origin, tenant, records_max, bytes_max, traces: true };
        effects.push(Effect::Find { asked, search, after: None });
    }

    /// What was noted with this key, where a tenant has notes.
    fn search_notes(&self, tenant: TenantId, key: String) -> Option<Search> {
        let topic = self.meta.topic_named(tenant, TRACE_TOPIC)?.topic;
        Some(Search::Key { topic, key, from: Timestamp(0), to: Timestamp(u64::MAX) })
    }

    /// Takes in what a search found, and goes on with the next, or answers.
    pub(crate) fn go_on_tracing(
        &mut self,
        asked: Asked,
        findings: &Findings,
        effects: &mut Vec<Effect>,
    ) {
        let Asked { origin, tenant, traces, .. } = asked;
        assert!(traces, "others want what was found");
        // Nobody waits for it any more.
        let Some(mut telling) = self.traces.asked.remove(&origin) else { return };
        for hit in &findings.hits {
            if self.visible_name(tenant, hit).is_none() || !telling.has_room() {
                continue;
            }
            match telling.search {
                Search::Id(_) => self.tell_hit(tenant, &mut telling, hit),
                Search::Key { .. } => self.tell_note(tenant, &mut telling, hit),
            }
        }
        let rest = findings.next.map(|after| (telling.search.clone(), Some(after)));
        match rest.or_else(|| telling.left.pop().map(|search| (search, None))) {
            Some((search, after)) => {
                telling.search = search.clone();
                self.traces.asked.insert(origin, telling);
                effects.push(Effect::Find { asked, search, after });
            }
            None => {
                let result = self.told_life(tenant, telling).map_err(Into::into);
                effects.push(Effect::Reply { origin, result });
            }
        }
    }

    /// A place of the message, which the log holds.
    fn tell_hit(&self, tenant: TenantId, telling: &mut Telling, hit: &Hit) {
        let Hit { topic, queue, offset, stored, .. } = *hit;
        // A search that went on has met a copy of it: its segment is about to go.
        if !self.add_place(tenant, telling, (topic, queue, offset)) {
            return;
        }
        let name = self.topic_name(topic);
        let row = |at, event: &str, detail: String| {
            let empty = empty_row(at, event, (name.clone(), queue));
            TraceRow { offset: Some(offset), detail, ..empty }
        };
        let Ok(record) = Record::parse(hit.record.clone()) else {
            telling.rows.push(row(stored, "stored", "its bytes are damaged".to_owned()));
            return;
        };
        if name.starts_with(DEAD_PREFIX) {
            let text = |name| record.property(name).unwrap_or_default();
            let (reason, error) = (text("$dead.reason"), text("$dead.error"));
            let detail = format!("{reason}: {error}");
            let mut row = row(stored, "dead-lettered", detail.trim_end_matches(": ").to_owned());
            row.group = text("$dead.group").to_owned();
            row.attempt = text("$dead.attempts").parse().unwrap_or(0);
            tell_deliveries(&record, &row, &mut telling.rows);
            telling.rows.push(row);
            return;
        }
        let tag = Some(record.tag()).filter(|tag| !tag.is_empty());
        let tag = tag.map_or_else(String::new, |tag| format!(", tag {tag}"));
        let keys = record.keys().map(|key| format!(", key {key}"));
        let keys: String = keys.take(4).collect();
        let sent = format!("{} bytes{tag}{keys}", record.body_bytes());
        telling.rows.push(row(record.born(), "sent", sent));
        let flags = record.flags();
        let (event, detail) = match (flags.has(Flags::PREPARED), flags.has(Flags::DELAYED)) {
            (true, _) => {
                let tx = record.transaction().map_or_else(String::new, |tx| tx.to_string());
                ("committed", format!("with transaction {tx}"))
            }
            (false, true) => ("released", "its time had come".to_owned()),
            (false, false) => ("stored", String::new()),
        };
        telling.rows.push(row(stored, event, detail));
    }

    /// Something that was noted, by the message's id or its place.
    fn tell_note(&self, tenant: TenantId, telling: &mut Telling, hit: &Hit) {
        let read = Record::parse(hit.record.clone()).ok().and_then(|it| note::read(&it));
        let Some((place, row)) = read else { return };
        if let Some(place) = place {
            self.add_place(tenant, telling, place);
        }
        telling.notes.insert((hit.queue, hit.offset), row);
    }

    /// Takes in a place of the message; false where it was known.
    fn add_place(&self, tenant: TenantId, telling: &mut Telling, place: Place) -> bool {
        let is_new = telling.places.insert(place);
        if is_new {
            telling.left.extend(self.search_notes(tenant, place_key(place)));
        }
        assert!(telling.places.contains(&place), "it is looked for what was noted of it");
        is_new
    }

    /// The rows of a life, in order.
    fn told_life(&self, tenant: TenantId, telling: Telling) -> Result<Reply, OperateError> {
        let Telling { id, places, notes, mut rows, .. } = telling;
        rows.extend(notes.into_values());
        let parked = self.parked(tenant, id);
        // What is known of how it was stored needs no note.
        if parked.is_some() || rows.iter().any(|row| row.event == "sent") {
            rows.retain(|row| !STORING.contains(&&*row.event));
        }
        if let Some((topic, queue, event, detail)) = parked {
            let empty = empty_row(self.now, event, (self.topic_name(topic), queue));
            rows.push(TraceRow { detail, ..empty });
        }
        for place in places {
            self.tell_standing(tenant, place, &mut rows);
        }
        if rows.is_empty() {
            return Err(OperateError::NoMessage(id));
        }
        // Where deliveries were noted, and to whom, those that groups know of are among them.
        let is_delivery = |row: &&TraceRow| row.event == DELIVERED && !row.detail.is_empty();
        let noted: BTreeSet<String> =
            rows.iter().filter(is_delivery).map(|row| row.group.clone()).collect();
        let is_again = |row: &TraceRow| row.event == DELIVERED && row.detail.is_empty();
        rows.retain(|row| !is_again(row) || !noted.contains(&row.group));
        rows.sort_by_key(TraceRow::order);
        rows.truncate(TRACE_ROWS_MAX);
        listed(rows.into_iter().map(Ok))
    }

    /// How each group of the topic stands towards a message; and when it was delivered, as far as
    /// that is known without notes.
    fn tell_standing(&self, tenant: TenantId, place: Place, rows: &mut Vec<TraceRow>) {
        let (topic, queue, offset) = place;
        let ends = self.ends_of(topic, queue);
        let is_there = (ends.first..ends.end).contains(&offset);
        let Some(topic) = self.meta.topic_of(tenant, topic).filter(|_| is_there) else { return };
        let name = topic.name.to_string();
        for group in self.groups.of_topic(topic.topic).into_iter().take(TRACE_ROWS_MAX) {
            let group = self.groups.get(group).expect("a listed group exists");
            let row = |at, event: &str, attempt, detail: String| {
                let empty = empty_row(at, event, (name.clone(), queue));
                let (offset, group) = (Some(offset), group.name.clone());
                TraceRow { offset, group, attempt, detail, ..empty }
            };
            let returned = returned_of(group, queue, offset);
            if let Some(Returned { attempts, first, last, .. }) = returned {
                let of = row(Timestamp(0), DELIVERED, 0, String::new());
                rows.extend(first_and_last(&of, (*first, *last), *attempts));
            }
            let Standing { attempt, detail } = self.standing(group, (queue, offset), returned);
            rows.push(row(self.now, TraceRow::NOW, attempt, detail));
        }
    }

    fn standing(
        &self,
        group: &Group,
        (queue, offset): (QueueIndex, QueueOffset),
        returned: Option<&Returned>,
    ) -> Standing {
        let state = group.queues.get(&queue);
        if state.is_some_and(|state| state.progress.settled_end_of(offset).is_some()) {
            return Standing { attempt: 0, detail: "settled".to_owned() };
        }
        let flight = state.and_then(|state| state.flight.as_ref());
        let next = QueueOffset(offset.0 + 1);
        let held = flight.and_then(|flight| flight.leases.ranges(offset, next).next());
        if let (Some((_, _, hold)), Some(live)) = (held, &group.live) {
            let Hold { subscription, until, attempt, .. } = hold;
            let name = &live.members[&subscription].name;
            let ms = until.0.saturating_sub(self.now.0);
            return Standing { attempt, detail: format!("held by {name} for {ms} ms more") };
        }
        let Some(returned) = returned else {
            return Standing { attempt: 0, detail: "not delivered yet".to_owned() };
        };
        let detail = match (returned.doom, returned.stopped) {
            (Some(doom), _) => format!("becomes a dead letter: {doom}"),
            (None, Some(why)) => format!("has stopped its order group: {why}"),
            (None, None) => self.again(returned.due),
        };
        let error = returned.error.as_deref();
        let error = error.map_or_else(String::new, |error| format!("; last error: {error}"));
        Standing { attempt: returned.attempts, detail: format!("{detail}{error}") }
    }
}

/// The deliveries that a dead letter tells of: the first and the last.
fn tell_deliveries(letter: &Record, row: &TraceRow, rows: &mut Vec<TraceRow>) {
    let text = |name| letter.property(name).unwrap_or_default();
    let number = |name| text(name).parse::<u64>().ok();
    let (Some(first), Some(last)) = (number("$dead.first_ms"), number("$dead.last_ms")) else {
        return;
    };
    let queue = text("$dead.queue").parse().map_or(row.queue, QueueIndex);
    let topic = text("$dead.topic").to_owned();
    let (offset, group) = (number("$dead.offset").map(QueueOffset), row.group.clone());
    let of = TraceRow { offset, group, ..empty_row(Timestamp(0), DELIVERED, (topic, queue)) };
    rows.extend(first_and_last(&of, (Timestamp(first), Timestamp(last)), row.attempt));
}

/// The rows of the first and of the last delivery, which are one where there was one.
fn first_and_last(
    of: &TraceRow,
    (first, last): (Timestamp, Timestamp),
    attempts: u32,
) -> impl Iterator<Item = TraceRow> {
    let row = |(at_ms, attempt)| TraceRow { at_ms, attempt, ..of.clone() };
    let rows = [(attempts > 1).then_some((first, 1)), Some((last, attempts))];
    rows.map(|it| it.map(row)).into_iter().flatten()
}

fn returned_of(group: &Group, queue: QueueIndex, offset: QueueOffset) -> Option<&Returned> {
    group.queues.get(&queue)?.progress.returned().get(offset)
}

const _: () = assert!(TRACE_ROWS_MAX > FIND_RECORDS_MAX as usize, "one answer is told whole");
