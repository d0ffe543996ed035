//! Passing messages on: their places and keys are asked of the index, then one entry releases them
//! in the wide topic and settles them in their own.
use yard_wire::order::TopicType;
use yard_wire::release::{Notes, Release};
use yard_wire::{QueueIndex, QueueOffset, RecordPlace};

use crate::bounds::{DRAIN_MAX, DRAIN_QUESTIONS_MAX};
use crate::broker::Broker;
use crate::effect::{Effect, Reads};
use crate::entry::{Entry, Outcome, Progress, Step};
use crate::errands::Asked;
use crate::event::Ticket;
use crate::group::label::Label;
use crate::group::order::OrderKey;
use crate::group::queue::push_step;
use crate::meta::Topic;
use crate::meta_table::queues_on;

impl Broker {
    /// Asks where messages are that are to be passed on now. Only at ticks: so it waits while the
    /// writer is behind.
    pub(crate) fn forward(&mut self, effects: &mut Vec<Effect>) {
        while self.drains.asked_count() < DRAIN_QUESTIONS_MAX
            && let Some((id, queue)) = self.drains.take_due(self.now)
        {
            let group = self.groups.get(id).expect("what is passed on is a group's");
            assert!(group.is_forwarding(), "nothing is listed while members have something");
            let drain = group.drain.as_ref().expect("it passes messages on");
            assert!(!drain.returning, "a group that returns passes nothing on");
            // When a shard starts it may not know them yet.
            let (Some(topic), Some(_)) = (self.meta.topic(group.topic), self.meta.topic(drain.to))
            else {
                yard_wire::mark!(DrainTopicUnknown);
                continue;
            };
            let ends = self.ends_of(topic.topic, queue);
            let from = group.first_open(queue).max(ends.first);
            let count = ends.end.0.saturating_sub(from.0).min(DRAIN_MAX.into()) as u32;
            if count == 0 {
                self.drains.remove((id, queue));
                continue;
            }
            let keys = topic.settings.order.r#type == TopicType::Normal;
            let reads = Some(Reads { property: None, keys });
            let (ticket, topic) = (self.next_ticket, topic.topic);
            self.next_ticket.0 += 1;
            self.drains.ask(ticket, Asked { of: (id, queue), from });
            effects.push(Effect::Locate { ticket, topic, queue, from, count, reads });
        }
    }

    /// The index said where messages are; `false` when it was not asked for a drain.
    pub(crate) fn located_drained(
        &mut self,
        ticket: Ticket,
        places: &[RecordPlace],
        labels: &[Label],
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(Asked { of: (id, queue), from }) = self.drains.answered(ticket) else {
            return false;
        };
        // Others may wait for the room that the question took.
        self.wake(self.now);
        let Some(group) = self.groups.get(id).filter(|group| group.is_forwarding()) else {
            yard_wire::mark!(DrainForNobody);
            return true;
        };
        let drain = group.drain.as_ref().expect("it passes messages on");
        let (Some(topic), Some(wide)) = (self.meta.topic(group.topic), self.meta.topic(drain.to))
        else {
            return true;
        };
        let here = queues_on(wide, self.config.shard).filter(|queue| queue.0 < drain.wide);
        let here: Vec<QueueIndex> = here.collect();
        assert!(!here.is_empty(), "a wide topic has a queue in each shard of the other");
        assert!(places.is_empty() || labels.len() >= places.len(), "keys come with the places");
        let progress = group.queues.get(&queue).map(|state| &state.progress);
        let (mut moves, mut steps, mut came_back) = (Vec::new(), Vec::new(), false);
        for (offset, (place, label)) in (from.0..).map(QueueOffset).zip(places.iter().zip(labels)) {
            let returned = progress.and_then(|progress| progress.returned().get(offset));
            let is_done = progress.is_some_and(|it| it.settled_end_of(offset).is_some());
            if is_done || returned.is_some_and(|returned| returned.doom.is_some()) {
                continue;
            }
            if returned.is_some() {
                yard_wire::mark!(DrainOfReturned);
            }
            came_back |= returned.is_some();
            let to = here[wide_queue(topic, queue, offset, label.order, here.len())];
            moves.push(Release::new((*place).into(), (wide.topic, to), Notes::default()));
            push_step(&mut steps, 0, Step::of_one(queue, offset, Outcome::Forwarded));
        }
        assert_eq!(moves.is_empty(), steps.is_empty(), "what is passed on is settled");
        if !moves.is_empty() {
            if !came_back {
                // A table of few runs; where some came back, their order says which is which.
                moves.sort_by_key(Release::queue);
            }
            let (tenant, errors) = (group.tenant, Vec::new());
            let settle = Some(Progress { group: id, steps, errors });
            let entry = Entry::Release { tenant, items: moves, settle, dues: Vec::new(), tx: None };
            effects.push(Effect::Append { entry, then: Vec::new() });
        }
        true
    }
}

/// Which of so many wide queues a message goes to: always the same for a key. Messages without an
/// order group belong to that of their queue in an ordered topic, and go anywhere in another.
fn wide_queue(
    topic: &Topic,
    queue: QueueIndex,
    offset: QueueOffset,
    key: OrderKey,
    queues: usize,
) -> usize {
    assert!(queues >= 1, "a wide topic has a queue in each shard of the other");
    let is_ordered = topic.settings.order.r#type == TopicType::Ordered;
    let number = match key {
        OrderKey::NONE if is_ordered => u64::from(queue.0),
        OrderKey::NONE => offset.0,
        key => key.spread(),
    };
    (number % queues as u64) as usize
}
