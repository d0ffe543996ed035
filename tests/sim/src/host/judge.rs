//! A policy of a subscription, decided natively where the server asks a plugin: which messages are
//! delivered, and what the broker hears of the others.
use yard_broker::{Asking, DeliverItem, Event, Held, Judged, Range};
use yard_checker::Skip;
use yard_shard::Input;
use yard_wire::QueueOffset;
use yard_wire::requests::Expression;

use super::{Host, Place};
use crate::agenda::{Happening, HeldMessages, MS, Micros};
use crate::base::{Base, Found, Phase, queue_name};
use crate::client::group_name;
use crate::planted::{self, Plant};

/// Of so many messages of a producer, one is not wanted.
const UNWANTED_ONE_IN: u64 = 3;
/// Once in so many deliveries nobody can say.
const HELD_ONE_IN: u64 = 25;
/// The broker hears of it so much later at most: far less than the shortest lease.
const HELD_TOLD_MAX: Micros = 30 * MS;

/// The expression of a group that does not want every message.
#[must_use]
pub(crate) fn expression(group: u64) -> Expression {
    Expression { dialect: "plugin".to_owned(), text: format!("thirds({group})") }
}

/// Whether such a group wants a message.
#[must_use]
pub(crate) fn is_wanted(message: &Found) -> bool {
    !message.seq.is_multiple_of(UNWANTED_ONE_IN)
}

fn group_of(asking: &Asking) -> u64 {
    let number = asking.filter.text.trim_start_matches("thirds(").trim_end_matches(')');
    number.parse().expect("the expression is one of ours")
}

fn one(offset: QueueOffset) -> Range {
    (offset, QueueOffset(offset.0 + 1))
}

impl Host {
    /// Which of the messages of a delivery go on to the subscription.
    pub(super) fn judge(
        &mut self,
        base: &mut Base,
        shard: usize,
        (session, subscription, topic, queue): Place,
        asking: &Asking,
        messages: &[(DeliverItem, Found)],
    ) -> Vec<bool> {
        let fails = base.phase < Phase::Drain && self.random.once_in(HELD_ONE_IN);
        let is_old = self.slots[shard].rounds.is_old(subscription, queue, asking);
        if fails || is_old && !base.has(Plant::HoldForgotten) {
            let ranges = messages.iter().map(|(item, _)| one(item.offset)).collect();
            let bytes = messages.iter().map(|(item, _)| u64::from(item.place.bytes)).sum();
            let wait_ms = self.random.range(1, 40) as u32;
            let group = group_of(asking);
            let named = messages.iter().map(|(_, found)| (group, found.producer, found.seq));
            let held = Held { session, subscription, queue, ranges, bytes, wait_ms };
            self.hold(base, shard, held, named.collect());
            return vec![false; messages.len()];
        }
        let mut wanted: Vec<bool> = messages.iter().map(|(_, found)| is_wanted(found)).collect();
        planted::alter_verdicts(base, &mut wanted);
        let items = messages.iter().map(|(item, _)| item).zip(&wanted);
        let skipped = self.skip(base, shard, (session, subscription, topic, queue), items);
        for (from, to) in &skipped {
            let group = base.removals.called(group_of(asking));
            let queue = queue_name(topic, queue);
            base.history.push(yard_checker::Event::Skip(Skip {
                group,
                queue,
                from: from.0,
                to: to.0,
            }));
        }
        wanted
    }

    /// Nobody can say anything of these. The broker hears of that a while later, and delivers more
    /// until then.
    fn hold(&mut self, base: &mut Base, shard: usize, held: Held, messages: HeldMessages) {
        let delay = self.random.range(1, HELD_TOLD_MAX);
        let slot = &mut self.slots[shard];
        slot.rounds.hold(held.subscription, held.queue);
        slot.held_told_at = slot.held_told_at.max(base.now + delay);
        let (at, life) = (slot.held_told_at, self.life);
        let since = (messages, base.now);
        self.note_held(shard, &since);
        let held = Box::new(held);
        base.agenda.enter(at, Happening::Held { shard, life, held, since });
    }

    /// A shard hears of what was held.
    pub(super) fn tell_held(
        &mut self,
        base: &mut Base,
        (shard, life): (usize, u32),
        held: Held,
        since: &(HeldMessages, Micros),
    ) {
        if life != self.life {
            return;
        }
        self.note_held(shard, since);
        self.give(base, shard, Input::Event(Event::Held(held)));
    }

    /// Where several share a group, what was held of it may come after what another one got.
    fn note_held(&mut self, shard: usize, (messages, since): &(HeldMessages, Micros)) {
        let slot = &mut self.slots[shard];
        let Some((group, ..)) = messages.first() else { return };
        let name = group_name(*group);
        if slot.members.iter().filter(|(of, _)| *of == name).count() > 1 {
            for message in messages {
                slot.held_since.entry(*message).or_insert(*since);
            }
        }
    }

    /// Tells the broker which messages of a delivery are not wanted.
    pub(super) fn skip<'a>(
        &mut self,
        base: &mut Base,
        shard: usize,
        (session, subscription, _, queue): Place,
        items: impl Iterator<Item = (&'a DeliverItem, &'a bool)>,
    ) -> Vec<Range> {
        let unwanted: Vec<&DeliverItem> =
            items.filter(|(_, wanted)| !**wanted).map(|(item, _)| item).collect();
        let skipped: Vec<Range> = unwanted.iter().map(|item| one(item.offset)).collect();
        let bytes = unwanted.iter().map(|item| u64::from(item.place.bytes)).sum();
        if !skipped.is_empty() {
            let (skipped, poison) = (skipped.clone(), Vec::new());
            let judged = Judged { session, subscription, queue, skipped, poison, bytes };
            self.give(base, shard, Input::Event(Event::Judged(judged)));
        }
        skipped
    }

    /// When the broker first wanted to deliver these. Members of a group share a queue, so what was
    /// held comes after what another one got meanwhile; where there is one member, it does not.
    /// What was held in a group's own topic may come in its wide one.
    pub(super) fn decided<'a>(
        &mut self,
        base: &Base,
        shard: usize,
        asking: &Asking,
        messages: impl Iterator<Item = &'a Found>,
    ) -> Micros {
        let held_since = &mut self.slots[shard].held_since;
        let group = group_of(asking);
        let since =
            messages.filter_map(|found| held_since.remove(&(group, found.producer, found.seq)));
        since.min().unwrap_or(base.now)
    }
}
