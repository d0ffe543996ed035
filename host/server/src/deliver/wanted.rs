//! What of a delivery its subscription wants: asked of its policy after the records were read and
//! before anything is sent.
//!
//! ```text
//!   portions ──► tags: compared here ─┬─ wanted ────────► frames
//!            └─► a plugin is asked    ├─ not wanted ────► Event::Judged, in ranges
//!                                     ├─ poison ────────► a dead letter, with the fault's text
//!                                     └─ no answer ─────► Event::Held, and what follows too
//! ```
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use yard_abi::Message;
use yard_broker::{DeliverItem, Event, Held, Judged, Range, SessionId};
use yard_shard::Input;
use yard_wire::QueueOffset;
use yard_wire::expression::{Filter, Tags};
use yard_wire::limits::ERROR_TEXT_BYTES_MAX;
use yard_wire::requests::Delivered;

use super::{Hub, Job, Portion, Session};
use crate::hub::lock;
use crate::policy::{Answer, Question, Verdict};

/// What is to be sent of what was read. `None` when the process ends.
pub(super) async fn of(
    hub: &Hub,
    session: &Session,
    job: &Job,
    portions: Vec<Portion>,
) -> Option<Vec<Portion>> {
    let Some(asking) = &job.asking else { return Some(portions) };
    let is_old = {
        let mut rounds = lock(&session.lanes.rounds);
        rounds.entry(job.shard).or_default().is_old(job.subscription, job.queue, asking)
    };
    if is_old {
        hold(hub, session, job, &portions, 1);
        return Some(Vec::new());
    }
    let filter = match Filter::read(Some(&asking.filter)) {
        Ok(Filter::Plugin(filter)) => filter,
        Ok(Filter::Tags(tags)) => {
            let chosen = portions.into_iter().map(|portion| {
                let has_tag = |record: &[u8]| {
                    if is_tagged(&tags, record) { Verdict::Wanted } else { Verdict::Unwanted }
                };
                let wanted = records(&portion).map(has_tag).collect();
                (portion, wanted)
            });
            let chosen: Vec<(Portion, Vec<Verdict>)> = chosen.collect();
            return Some(split(hub, session, job, chosen, Vec::new()));
        }
        Ok(Filter::All) => return Some(portions),
        Err(refusal) => {
            // It was read when the subscription began.
            tracing::error!(%refusal, "an expression cannot be read any more");
            hold(hub, session, job, &portions, 10_000);
            return Some(Vec::new());
        }
    };
    let (mut chosen, mut poisoned) = (Vec::with_capacity(portions.len()), Vec::new());
    let mut left = portions.into_iter();
    while let Some(portion) = left.next() {
        let question = Question {
            tenant: session.tenant,
            topic: job.topic,
            queue: job.queue,
            about: Arc::clone(&asking.about),
            items: portion.items.clone(),
            messages: portion.messages.clone(),
        };
        let Answer { verdicts, poison, wait_ms } = hub.policies.ask(&filter, question).await?;
        poisoned.extend(poison.into_iter().map(|(at, text)| (portion.items[at], text)));
        let (judged, rest) = part(portion, verdicts.len());
        chosen.extend(judged.map(|judged| (judged, verdicts)));
        if let Some(wait_ms) = wait_ms {
            // What comes behind it waits with it.
            let rest: Vec<Portion> = rest.into_iter().chain(left).collect();
            hold(hub, session, job, &rest, wait_ms);
            break;
        }
    }
    Some(split(hub, session, job, chosen, poisoned))
}

fn is_tagged(tags: &Tags, record: &[u8]) -> bool {
    let Ok(message) = Message::parse(record) else {
        // Its consumer says what is wrong with it.
        return true;
    };
    std::str::from_utf8(message.tag()).is_ok_and(|tag| tags.holds(tag))
}

/// The records of a portion, in order.
pub(crate) fn records_of<'a>(
    items: &'a [DeliverItem],
    messages: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> + Clone {
    let mut at = 0;
    items.iter().map(move |item| {
        let begin = at + Delivered::HEAD_BYTES;
        at = begin + item.place.bytes as usize;
        &messages[begin..at]
    })
}

fn records(portion: &Portion) -> impl Iterator<Item = &[u8]> {
    records_of(&portion.items, &portion.messages)
}

/// Tells the broker what is not wanted, and what the plugin fails at; what is left.
fn split(
    hub: &Hub,
    session: &Session,
    job: &Job,
    chosen: Vec<(Portion, Vec<Verdict>)>,
    poisoned: Vec<(DeliverItem, String)>,
) -> Vec<Portion> {
    let (mut skipped, mut bytes): (Vec<Range>, u64) = (Vec::new(), 0);
    let mut left = Vec::with_capacity(chosen.len());
    for (portion, verdicts) in chosen {
        assert_eq!(portion.items.len(), verdicts.len(), "every message was judged");
        let judged = portion.items.iter().zip(&verdicts);
        for (item, _) in judged.filter(|(_, verdict)| **verdict == Verdict::Unwanted) {
            push(&mut skipped, item.offset);
            bytes += u64::from(item.place.bytes);
        }
        left.extend(keep(portion, &verdicts));
    }
    let mut poison = Vec::with_capacity(poisoned.len());
    for (item, mut text) in poisoned {
        let (shard, queue, offset) = (job.shard.0, job.queue, item.offset);
        tracing::warn!(shard, %queue, %offset, text, "a plugin fails at a message");
        text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
        poison.push((offset, text));
        bytes += u64::from(item.place.bytes);
    }
    if !skipped.is_empty() || !poison.is_empty() {
        let session_id = SessionId(session.handle.id());
        let (subscription, queue) = (job.subscription, job.queue);
        let judged = Judged { session: session_id, subscription, queue, skipped, poison, bytes };
        tell(hub, session, job, Event::Judged(judged));
    }
    left
}

/// The first messages of a portion, and the others.
pub(super) fn part(portion: Portion, count: usize) -> (Option<Portion>, Option<Portion>) {
    if count == portion.items.len() {
        return (Some(portion), None);
    }
    if count == 0 {
        return (None, Some(portion));
    }
    let Portion { mut items, mut messages } = portion;
    let rest = items.split_off(count);
    let bytes = items.iter().map(|item| Delivered::HEAD_BYTES + item.place.bytes as usize).sum();
    let first = messages.split_to(bytes);
    (Some(Portion { items, messages: first }), Some(Portion { items: rest, messages }))
}

/// The wanted part of a portion, if there is one. Where all of it is, nothing is copied.
pub(super) fn keep(portion: Portion, verdicts: &[Verdict]) -> Option<Portion> {
    if verdicts.iter().all(|verdict| *verdict == Verdict::Wanted) {
        return Some(portion);
    }
    let mut messages = BytesMut::new();
    let (mut items, mut at) = (Vec::new(), 0);
    for (item, verdict) in portion.items.iter().zip(verdicts) {
        let end = at + Delivered::HEAD_BYTES + item.place.bytes as usize;
        if *verdict == Verdict::Wanted {
            messages.extend_from_slice(&portion.messages[at..end]);
            items.push(*item);
        }
        at = end;
    }
    assert_eq!(at, portion.messages.len(), "every message has the bytes of its place");
    let messages = Bytes::from(messages);
    (!items.is_empty()).then_some(Portion { items, messages })
}

fn push(ranges: &mut Vec<Range>, offset: QueueOffset) {
    let end = QueueOffset(offset.0 + 1);
    match ranges.last_mut() {
        Some((_, last)) if *last == offset => *last = end,
        Some(_) | None => ranges.push((offset, end)),
    }
}

/// Gives messages back to their queue, which waits.
fn hold(hub: &Hub, session: &Session, job: &Job, portions: &[Portion], wait_ms: u32) {
    let (mut ranges, mut bytes) = (Vec::new(), 0);
    for item in portions.iter().flat_map(|portion| &portion.items) {
        push(&mut ranges, item.offset);
        bytes += u64::from(item.place.bytes);
    }
    if ranges.is_empty() {
        return;
    }
    let (subscription, queue) = (job.subscription, job.queue);
    // Said in the order in which it is told.
    let mut rounds = lock(&session.lanes.rounds);
    rounds.entry(job.shard).or_default().hold(subscription, queue);
    let session_id = SessionId(session.handle.id());
    let held = Held { session: session_id, subscription, queue, ranges, bytes, wait_ms };
    tell(hub, session, job, Event::Held(held));
    drop(rounds);
}

fn tell(hub: &Hub, session: &Session, job: &Job, event: Event) {
    if let Some(inbox) = hub.inbox(job.shard) {
        inbox.put_after(session.tenant, Input::Event(event));
    }
}
