//! Doing what the broker wants: its effects become appends, waiting answers and outputs.
use yard_broker::{Applied, Effect, Entry, Event, Origin, Progress, Reads, Then, Ticket};
use yard_store::{AppendError, Appended, Located, Reserve, Sought, Store};
use yard_wire::request::Reply;
use yard_wire::requests::{self, AckPlace, Called, Fetched, Original, Placed, Produced};
use yard_wire::{Code, GroupNumber, QueueIndex, QueueOffset, Refusal, TopicId, Wire};

use crate::find::{FindPlan, SeekPlan};
use crate::output::{FetchPlan, Output};
use crate::waiting::Waiter;
use crate::{SPACE_RETRY_MS, Shard};

impl Shard {
    /// Gives the broker an event and does everything that it wants, before anything else.
    pub(crate) fn handle(&mut self, event: Event, outputs: &mut Vec<Output>) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut events = std::mem::take(&mut self.events);
        assert!(effects.is_empty() && events.is_empty(), "one event is worked on at a time");
        events.push(event);
        // An answer from the active part of the index is known at once: it comes back as the
        // next event.
        while let Some(event) = events.pop() {
            self.broker.handle(self.now, event, &mut effects);
            for effect in effects.drain(..) {
                self.perform(effect, &mut events, outputs);
            }
        }
        assert!(effects.is_empty(), "every effect was done");
        self.effects = effects;
        self.events = events;
    }

    fn perform(&mut self, effect: Effect, events: &mut Vec<Event>, outputs: &mut Vec<Output>) {
        match effect {
            Effect::Append { entry, then } => {
                let unanswered = then.iter().any(Then::is_unheard);
                let is_recorded = self.append(&entry, then, outputs);
                if let Entry::Progress { progress, .. } = entry
                    && !is_recorded
                {
                    yard_wire::mark!(ProgressUnrecorded);
                    let wait_ms = SPACE_RETRY_MS as u32;
                    events.push(Event::NotRecorded { progress, unanswered, wait_ms });
                }
            }
            Effect::Reply { origin, result } => outputs.push(Output::Reply { origin, result }),
            Effect::ReplyAfter { origin, place, result } => {
                let waiter = Waiter::Reply { origin, result };
                self.after_everything(place, waiter, outputs);
            }
            Effect::Locate { ticket, topic, queue, from, count, reads } => {
                let located = self.store.locate(topic, queue, from, count);
                answer(ticket, located, reads, events, outputs);
            }
            Effect::Deliver { session, subscription, topic, queue, items, asking } => {
                assert!(!items.is_empty(), "a delivery delivers something");
                let output = Output::Deliver { session, subscription, topic, queue, items, asking };
                outputs.push(output);
            }
            Effect::Fetch { origin, topic, queue, from, first, end, records_max, bytes_max } => {
                let left = u32::try_from(end.0.saturating_sub(from.0)).unwrap_or(u32::MAX);
                let wanted = FetchWanted { from, first, end, count: records_max.min(left) };
                self.fetch(origin, (topic, queue), wanted, bytes_max, outputs);
            }
            Effect::Find { asked, search, after } => {
                let plan = FindPlan::new(&self.store, search, after, asked.records_max);
                outputs.push(Output::Find { asked, plan });
            }
            Effect::Seek { origin, topic, queue, time, first, end } => {
                match self.store.offset_at(topic, queue, time) {
                    Sought::At(offset) => {
                        let result = Ok(sought(first, end, offset));
                        outputs.push(Output::Reply { origin, result });
                    }
                    Sought::Read(search) => {
                        let plan = SeekPlan(search);
                        outputs.push(Output::Seek { origin, first, end, plan });
                    }
                }
            }
            Effect::Describe { origin, topic, mut report } => {
                self.describe(topic, &mut report);
                let reply = Reply::Call(Called { result: report.to_bytes() });
                outputs.push(Output::Reply { origin, result: Ok(reply) });
            }
            Effect::Notify { to, notice } => {
                let waiter = Waiter::Notify { to, notice };
                self.after_everything(AckPlace::Synced, waiter, outputs);
            }
            Effect::TxCheck { session, check } => outputs.push(Output::TxCheck { session, check }),
            Effect::Ended { session, subscription, why } => {
                outputs.push(Output::Ended { session, subscription, why });
            }
            Effect::AskPolicy(question) => outputs.push(Output::AskPolicy(question)),
            Effect::EnsureTopic { tenant, name } => {
                outputs.push(Output::EnsureTopic { tenant, name });
            }
            Effect::WakeAt(at) => self.broker_wakes_at = Some(at),
        }
    }

    /// Appends an entry; whether there was room for it.
    fn append(&mut self, entry: &Entry, then: Vec<Then>, outputs: &mut Vec<Output>) -> bool {
        let appended = match entry {
            Entry::Batch { tenant, batch } => self.store.append_batch(self.now, *tenant, batch),
            Entry::Release { tenant, settle, tx, .. } => {
                // What follows from something that was promised.
                let owes = |settle: &Progress| !settle.is_forwarded();
                let is_owed = settle.as_ref().is_some_and(owes) || tx.is_some();
                let reserve = if is_owed { Reserve::Use } else { Reserve::Keep };
                self.store.append_releases(self.now, *tenant, &entry.encode_payload(), reserve)
            }
            Entry::Deduped { tenant, deduped } if deduped.batch.is_some() => {
                let batch = deduped.batch.as_ref().expect("asked just now");
                self.store.append_noted(self.now, *tenant, batch, &entry.encode_notes())
            }
            other => {
                let payload = other.encode_payload();
                // What producers cause has no part in what is kept for those that settle.
                let reserve = match other {
                    Entry::Deduped { .. } | Entry::Incarnation { .. } => Reserve::Keep,
                    _ => Reserve::Use,
                };
                let append = |store: &mut Store| {
                    store.append(self.now, other.kind(), other.tenant(), &payload, reserve)
                };
                let first = append(&mut self.store);
                match other {
                    // All that tells of a topic, and taken in twice it says the same: no single
                    // damage loses it. The answer waits for both where there is room for both.
                    Entry::Meta { .. } if first.is_ok() => append(&mut self.store).or(first),
                    _ => first,
                }
            }
        };
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                refuse(&error, then, outputs);
                return false;
            }
        };
        assert!(self.appended.is_none_or(|last| last <= appended.group), "groups go upwards");
        self.appended = Some(appended.group);
        let Appended { group, placed, stored } = appended;
        let mut applied = Applied { placed, stored };
        self.broker.apply(entry, &applied);
        assert!(then.len() <= 1 || !matches!(entry, Entry::Batch { .. }), "one answer a batch");
        for then in then {
            let answers = matches!(then, Then::Produced { .. });
            let placed = if answers { std::mem::take(&mut applied.placed) } else { Vec::new() };
            let originals = match entry {
                Entry::Deduped { deduped, .. } => deduped.dedupe.originals(&placed),
                _ => Vec::new(),
            };
            self.follow(then, group, (placed, originals), outputs);
        }
        true
    }

    fn follow(
        &mut self,
        then: Then,
        group: GroupNumber,
        (placed, originals): (Vec<Placed>, Vec<Original>),
        outputs: &mut Vec<Output>,
    ) {
        match then {
            Then::Produced { origin, place, nodes } => {
                let reply = Reply::Produce(Produced {
                    shard: self.shard,
                    place,
                    nodes,
                    duplicate: false,
                    placed,
                    originals,
                });
                if place == AckPlace::Memory {
                    outputs.push(Output::Reply { origin, result: Ok(reply) });
                } else {
                    let waiter = Waiter::Reply { origin, result: Ok(reply) };
                    self.waiting.push(group, place, waiter);
                }
            }
            Then::Reply { origin, reply } => {
                let waiter = Waiter::Reply { origin, result: Ok(reply) };
                self.waiting.push(group, AckPlace::Synced, waiter);
            }
            Then::Notify { to, notice } => {
                let waiter = Waiter::Notify { to, notice };
                self.waiting.push(group, AckPlace::Synced, waiter);
            }
            Then::Broadcast(change) => {
                let waiter = Waiter::Broadcast(change);
                self.waiting.push(group, AckPlace::Synced, waiter);
            }
            Then::Append { entry, then } => {
                self.append(&entry, then, outputs);
            }
        }
    }

    /// Lets an answer wait for everything that was appended so far.
    fn after_everything(&mut self, place: AckPlace, waiter: Waiter, outputs: &mut Vec<Output>) {
        let reached = match place {
            AckPlace::Memory => self.appended,
            AckPlace::Written => self.written.max(self.store.synced_group()),
            AckPlace::Synced => self.store.synced_group(),
        };
        match self.appended.filter(|last| reached.is_none_or(|reached| reached < *last)) {
            Some(_) if self.is_fenced() => {
                yard_wire::mark!(AnswerFenced);
                self.waiting.refuse(waiter, outputs);
            }
            Some(group) => self.waiting.push(group, place, waiter),
            None => outputs.push(waiter.output()),
        }
    }

    fn fetch(
        &mut self,
        origin: Origin,
        (topic, queue): (TopicId, QueueIndex),
        wanted: FetchWanted,
        bytes_max: u32,
        outputs: &mut Vec<Output>,
    ) {
        let FetchWanted { mut from, first, end, count } = wanted;
        let plan = loop {
            match self.store.locate(topic, queue, from, count) {
                Located::Places(places) => break FetchPlan::Records(places),
                Located::Read(read) => break FetchPlan::Index(read),
                // What comes after is the next that there is; its offset says so.
                Located::Gap { until, .. } => {
                    yard_wire::mark!(FetchGap);
                    assert!(from < until, "a gap goes on");
                    from = until;
                }
                Located::End => {
                    yard_wire::mark!(FetchEnd);
                    let reply = Reply::Fetch(Fetched { first, end, records: Vec::new() });
                    outputs.push(Output::Reply { origin, result: Ok(reply) });
                    return;
                }
            }
        };
        outputs.push(Output::Fetch { origin, from, first, end, bytes_max, plan });
    }
}

/// Answers a question to the index, now or when something was read for it.
fn answer(
    ticket: Ticket,
    located: Located,
    reads: Option<Reads>,
    events: &mut Vec<Event>,
    outputs: &mut Vec<Output>,
) {
    let known = |places| Event::Located { ticket, places, labels: Vec::new() };
    if let Some(reads) = reads {
        let plan = match located {
            Located::Read(read) => Ok(FetchPlan::Index(read)),
            Located::Places(places) => Ok(FetchPlan::Records(places)),
            Located::Gap { until, .. } => Err(Event::Gap { ticket, until }),
            Located::End => Err(known(Vec::new())),
        };
        match plan {
            Ok(plan) => outputs.push(Output::ReadLabels { ticket, reads, plan }),
            Err(event) => events.push(event),
        }
        return;
    }
    match located {
        Located::Read(read) => outputs.push(Output::ReadIndex { ticket, read }),
        Located::Places(places) => events.push(known(places)),
        Located::Gap { until, .. } => events.push(Event::Gap { ticket, until }),
        Located::End => events.push(known(Vec::new())),
    }
}

/// The answer to a search by time. Where the queue begins may have moved since the search began.
#[must_use]
pub fn sought(first: QueueOffset, end: QueueOffset, offset: QueueOffset) -> Reply {
    assert!(first <= end, "a queue does not end before it begins");
    Reply::Seek(requests::Sought { first, end, offset: offset.clamp(first, end) })
}

struct FetchWanted {
    from: QueueOffset,
    first: QueueOffset,
    end: QueueOffset,
    count: u32,
}

fn refuse(error: &AppendError, then: Vec<Then>, outputs: &mut Vec<Output>) {
    let refusal = match error {
        AppendError::NoSpace(_) => {
            yard_wire::mark!(RefusedFull);
            let wait_ms = SPACE_RETRY_MS as u32;
            Refusal::after(Code::DiskFull, wait_ms, Code::DiskFull.sentence())
        }
        AppendError::Fenced(_) => {
            yard_wire::mark!(RefusedFenced);
            Refusal::from(Code::LogFenced)
        }
        AppendError::TooLarge(too) => {
            yard_wire::mark!(RefusedTooLarge);
            Refusal::new(Code::BodyTooLarge, too.to_string())
        }
        // Nobody waits for a release: it is asked for again.
        AppendError::Leaving(leaving) => {
            yard_wire::mark!(RefusedLeaving);
            Refusal::new(Code::Internal, leaving.to_string())
        }
    };
    for then in then {
        match then {
            Then::Produced { origin, .. } | Then::Reply { origin, .. } => {
                outputs.push(Output::Reply { origin, result: Err(refusal.clone()) });
            }
            Then::Append { then, .. } => refuse(error, then, outputs),
            Then::Broadcast(_) | Then::Notify { .. } => {}
        }
    }
}
