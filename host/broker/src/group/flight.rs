//! What is under way for a group in one queue: leases, messages to deliver again, the cursor.
//! All of it is lost with the process and rebuilt from the queue's progress.
//!
//! ```text
//!              ┌────────────── deliver ──────────────┐
//!   prefetched ┴► leased ──nack──► waiting ──due──► ready
//!                  │ └─────── end of lease, or of subscription ───► ready
//!                  └─ack, reject──► settled (progress)
//! ```
//!
//! In an ordered topic, and where the group has a business key, new messages go to `ready` as soon
//! as they were read; `orders` says which of those that are ready may be delivered to whom, and
//! `keys` holds up those whose keys are in somebody's hands.
mod check;
mod keys;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use yard_wire::{QueueIndex, QueueOffset, RecordPlace, SubscriptionId, Timestamp};

use crate::bounds::{LOCATE_RETRY_MS, ORDER_AHEAD_MAX, PREFETCH_MAX, UNSETTLED_MAX};
use crate::effect::DeliverItem;
use crate::entry::{Outcome, Step};
use crate::event::Ticket;
use crate::group::claims::Gate;
use crate::group::label::Label;
use crate::group::lease::{Hold, Lease, Leases};
use crate::group::member::Front;
use crate::group::order::{Orders, Stand};
use crate::group::queue::{Progress, push_step};
use crate::group::returned::Returned;

/// A message to deliver again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Again {
    /// How often it was delivered.
    attempts: u32,
    /// Where it is; `None` until the index was asked.
    place: Option<RecordPlace>,
}

/// A message to deliver again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    again: Again,
    /// When it was delivered last.
    since: Timestamp,
    due: Timestamp,
}

/// A question to the index that was not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) ticket: Ticket,
    from: QueueOffset,
    count: u32,
    /// The first segment that there was then.
    begins: u32,
    /// Messages are compared otherwise since then.
    is_stale: bool,
}

/// A group's deliveries in one queue.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    pub(crate) leases: Leases,
    /// Messages to deliver again now, lowest offset first: attempts so far and place.
    ready: BTreeMap<QueueOffset, (u32, RecordPlace)>,
    /// As `ready`, but the index must be asked first where they are.
    unplaced: BTreeMap<QueueOffset, u32>,
    /// Those of them that were never delivered. In the order of offsets, nothing goes before them.
    unplaced_new: BTreeSet<QueueOffset>,
    /// Messages to deliver again later.
    waiting: BTreeMap<QueueOffset, Waiting>,
    /// Messages that have stopped their order groups.
    stopped: BTreeSet<QueueOffset>,
    /// Of an ordered topic: what may be delivered.
    orders: Option<Box<Orders>>,
    /// Where the group compares messages: their keys.
    keys: Option<Box<keys::Keys>>,
    /// Messages that become dead letters: they take part in the bound of what is unsettled.
    pub(crate) doomed: usize,
    /// The same messages by the instant when they are due.
    dues: BTreeSet<(Timestamp, QueueOffset)>,
    /// First message that was not looked at yet for its first delivery.
    cursor: QueueOffset,
    /// Places of the messages from the cursor on.
    prefetched: VecDeque<RecordPlace>,
    /// Below this offset, the progress may know messages that the cursor must pass over.
    passed_over_below: QueueOffset,
    /// As of those that had come back when the deliveries began.
    in_front_below: QueueOffset,
    /// The question under way.
    pub(crate) asked: Option<Asked>,
    /// The index could not be read: not before this instant again.
    retry_at: Option<Timestamp>,
    /// Nobody could say which messages are wanted: nothing is delivered before this instant.
    held_until: Option<Timestamp>,
    /// Segments below this number are gone, and no place in them is used.
    retired_below: u32,
    /// The instant under which the broker's due index has this queue.
    pub(crate) listed_due: Option<Timestamp>,
}

/// What a subscription may still be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) messages: u32,
    /// Bytes of credit left: the last message may be larger.
    pub(crate) credit_bytes: u32,
    /// Bytes of one delivery, unless it is a single message.
    pub(crate) frame_bytes: usize,
}

/// To whom and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) subscription: SubscriptionId,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

impl Holder {
    fn hold(self, attempt: u32) -> Hold {
        let Self { subscription, since, until } = self;
        Hold { subscription, since, until, attempt }
    }
}

impl Flight {
    /// Starts from what the log says: nothing is leased, what came back waits or is ready.
    pub(crate) fn begin(
        progress: &Progress,
        first: QueueOffset,
        now: Timestamp,
        (is_ordered, is_compared): (bool, bool),
    ) -> Self {
        let mut flight = Self {
            orders: is_ordered.then(Box::default),
            keys: is_compared.then(Box::default),
            cursor: progress.settled_below().max(first),
            passed_over_below: progress.touched_end(),
            in_front_below: progress.touched_end(),
            doomed: progress.returned().doomed_count(),
            ..Self::default()
        };
        flight.leases.note_ends(is_compared);
        if let Some(orders) = &mut flight.orders {
            orders.line_up_to(flight.cursor);
        }
        let returned = progress.returned().from(flight.cursor);
        for (offset, returned) in returned.filter(|(_, returned)| returned.doom.is_none()) {
            flight.take_over(offset, returned, now);
        }
        flight
    }

    /// Takes in a message that was passed on to this queue, behind all that was looked at.
    pub(crate) fn take_over(&mut self, offset: QueueOffset, returned: &Returned, now: Timestamp) {
        assert!(self.cursor <= offset, "what is passed on is new here");
        self.passed_over_below = self.passed_over_below.max(QueueOffset(offset.0 + 1));
        if returned.stopped.is_some() {
            return self.stop(offset);
        }
        let Returned { attempts, last: since, due, .. } = *returned;
        assert!(attempts >= 1, "what comes again was delivered");
        let again = Again { attempts, place: None };
        if due <= now {
            self.make_ready(offset, again);
        } else {
            self.make_wait(offset, Waiting { again, since, due });
        }
    }

    fn make_wait(&mut self, offset: QueueOffset, waiting: Waiting) {
        let old = self.waiting.insert(offset, waiting);
        assert!(old.is_none(), "a message waits once");
        self.dues.insert((waiting.due, offset));
        self.stand(offset, Stand::Barred);
    }

    fn stop(&mut self, offset: QueueOffset) {
        let is_new = self.stopped.insert(offset);
        assert!(is_new, "a message stops its order group once");
        self.stand(offset, Stand::Barred);
    }

    /// Keeps order groups in step with where a message is.
    fn stand(&mut self, offset: QueueOffset, stand: Stand) {
        if let Some(orders) = &mut self.orders {
            orders.put(offset, stand);
        }
    }

    /// Of an ordered topic: what may be delivered.
    pub(crate) fn orders(&self) -> Option<&Orders> {
        self.orders.as_deref()
    }

    fn make_ready(&mut self, offset: QueueOffset, again: Again) {
        let is_known = self.knows_key(offset);
        let place = again.place.filter(|place| is_known && !self.may_be_gone(place));
        let (absent, stand) = match place {
            Some(place) => {
                (self.ready.insert(offset, (again.attempts, place)).is_none(), Stand::Ready)
            }
            None => {
                if again.attempts == 0 {
                    yard_wire::mark!(NewUnplaced);
                    self.unplaced_new.insert(offset);
                }
                (self.unplaced.insert(offset, again.attempts).is_none(), Stand::Barred)
            }
        };
        assert!(absent, "a message becomes ready once");
        self.stand(offset, stand);
    }

    /// Messages that were looked at and are nobody's now.
    fn open_count(&self) -> usize {
        let waiting = self.waiting.len() + self.stopped.len() + self.behind_count();
        waiting + self.ready.len() + self.unplaced.len()
    }

    /// Messages that were delivered before and are nobody's now.
    pub(crate) fn waiting_count(&self) -> usize {
        let is_new = |(attempts, _): &&(u32, RecordPlace)| *attempts == 0;
        let new = self.lines_up().then(|| self.ready.values().filter(is_new).count());
        self.open_count() - new.unwrap_or(0) - self.new_behind()
    }

    fn unsettled(&self) -> usize {
        self.leases.len() + self.open_count() + self.doomed
    }

    /// Whether new messages must wait until some are settled.
    pub(crate) fn is_full(&self) -> bool {
        self.unsettled() >= UNSETTLED_MAX
    }

    /// When something happens here without anybody's doing.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let due = self.dues.first().map(|(due, _)| *due);
        [self.leases.first_end(), due, self.retry_at, self.held_until].into_iter().flatten().min()
    }

    /// How many messages can be delivered right now, as far as it is known.
    pub(crate) fn deliverable(&self) -> usize {
        if self.held_until.is_some() {
            return 0;
        }
        if let Some(orders) = &self.orders {
            return if orders.is_open() { self.ready.len() } else { 0 };
        }
        if let Some(barring) = self.barring() {
            return self.ready.range(..barring).count();
        }
        let new = if self.is_full() { 0 } else { self.prefetched.len() };
        self.ready.len() + new
    }

    /// The first message that was never delivered and came back, while it is not known where it is:
    /// were those behind it delivered meanwhile, first deliveries would go backwards.
    fn barring(&self) -> Option<QueueOffset> {
        self.unplaced_new.first().copied()
    }

    /// Where the log has what can be delivered next; `None` when nothing can.
    pub(crate) fn front(&self) -> Option<Front> {
        if self.deliverable() == 0 {
            return None;
        }
        let again = self.ready.first_key_value().map(|(_, (_, place))| place);
        let place = again.or_else(|| self.prefetched.front())?;
        Some((place.segment, place.offset))
    }

    /// What the index must be asked, if anything: first offset and count.
    pub(crate) fn wants(
        &mut self,
        progress: &Progress,
        end: QueueOffset,
    ) -> Option<(QueueOffset, u32)> {
        if self.asked.is_some() || self.retry_at.is_some() {
            return None;
        }
        let unplaced = self.unplaced.first_key_value().map(|(offset, _)| *offset);
        let unknown = self.orders.as_ref().and_then(|orders| orders.first_unknown());
        let from = match unknown.or(unplaced) {
            Some(offset) => offset,
            None if self.prefetched.is_empty() && self.may_go_on() => {
                self.pass_over(progress);
                self.cursor
            }
            None => return None,
        };
        let count = end.0.saturating_sub(from.0).min(PREFETCH_MAX.into());
        (count > 0).then_some((from, count as u32))
    }

    /// Whether new messages may be looked at: as long as few are unsettled, or others wait behind
    /// them that came back before a restart.
    fn may_go_on(&self) -> bool {
        let is_in_front = self.orders.is_some() && self.cursor < self.in_front_below;
        is_in_front || !self.is_full() && !self.is_far_ahead()
    }

    /// Whether enough order groups are known that somebody may go on with.
    fn is_far_ahead(&self) -> bool {
        let is_open = self.orders.as_ref().is_some_and(|orders| orders.is_open());
        is_open && self.ready.len() >= ORDER_AHEAD_MAX || self.keys_are_far_ahead()
    }

    pub(crate) fn ask(&mut self, ticket: Ticket, from: QueueOffset, count: u32) {
        assert!(self.asked.is_none(), "one question at a time");
        assert!(count >= 1, "a question asks for something");
        let (begins, is_stale) = (self.retired_below, false);
        self.asked = Some(Asked { ticket, from, count, begins, is_stale });
    }

    /// Segments below this number are gone. Whether places were forgotten that are asked for anew.
    pub(crate) fn retired(&mut self, below: u32) -> bool {
        self.retired_below = self.retired_below.max(below);
        // What a release refers to may be gone, and a copy be elsewhere.
        let is_gone = |place: &RecordPlace| place.segment < below || place.released;
        let gone = |(offset, (attempts, place)): (&QueueOffset, &(u32, RecordPlace))| {
            is_gone(place).then_some((*offset, *attempts))
        };
        let again: Vec<(QueueOffset, u32)> = self.ready.iter().filter_map(gone).collect();
        for (offset, attempts) in &again {
            yard_wire::mark!(ReadyGone);
            self.ready.remove(offset);
            self.make_ready(*offset, Again { attempts: *attempts, place: None });
        }
        for again in self.waiting.values_mut() {
            again.again.place = again.again.place.filter(|place| !is_gone(place));
        }
        let prefetched = self.prefetched.iter().any(is_gone);
        if prefetched {
            yard_wire::mark!(PrefetchedGone);
            self.prefetched.clear();
        }
        prefetched || !again.is_empty()
    }

    /// A place that was known before segments went may not be one any more.
    fn may_be_gone(&self, place: &RecordPlace) -> bool {
        place.segment < self.retired_below || (place.released && self.retired_below > 0)
    }

    /// Takes in what the index says; nothing means that it could not be read.
    pub(crate) fn answered(
        &mut self,
        progress: &Progress,
        places: &[RecordPlace],
        labels: &[Label],
        now: Timestamp,
    ) {
        let asked = self.asked.take().expect("an answer follows a question");
        if places.is_empty() {
            yard_wire::mark!(PlacesUnknown);
            self.retry_at = Some(now.plus_ms(LOCATE_RETRY_MS));
            return;
        }
        let places = &places[..places.len().min(asked.count as usize)];
        let has_gone =
            asked.begins < self.retired_below && places.iter().any(|it| self.may_be_gone(it));
        if has_gone || asked.is_stale {
            yard_wire::mark!(PlacesGone);
            // It was asked before they went, or for something else.
            self.retry_at = Some(now);
            return;
        }
        let to = QueueOffset(asked.from.0 + places.len() as u64);
        let place_of = |offset: QueueOffset| places[(offset.0 - asked.from.0) as usize];
        if self.lines_up() {
            assert!(labels.len() >= places.len(), "records are read with their places");
            self.learn_keys(asked.from, &labels[..places.len()]);
        }
        if let Some(orders) = &mut self.orders {
            for offset in orders.unknown_in(asked.from, to) {
                let label = labels[(offset.0 - asked.from.0) as usize];
                orders.learn(offset, label.order, Stand::Barred);
            }
        }
        for (offset, again) in self.waiting.range_mut(asked.from..to) {
            again.again.place = Some(place_of(*offset));
        }
        while let Some((offset, attempts)) = self.take_unplaced(asked.from, to) {
            self.ready.insert(offset, (attempts, place_of(offset)));
            self.stand(offset, Stand::Ready);
        }
        if self.lines_up() {
            self.line_up(progress, (asked.from, places), labels);
        } else if self.prefetched.is_empty() && asked.from <= self.cursor && self.cursor < to {
            let known = (self.cursor.0 - asked.from.0) as usize;
            self.prefetched.extend(&places[known..]);
        }
    }

    /// Takes out the first of a range of which it was not known where it is.
    fn take_unplaced(&mut self, from: QueueOffset, to: QueueOffset) -> Option<(QueueOffset, u32)> {
        let (offset, attempts) = self.unplaced.range(from..to).next()?;
        let taken = (*offset, *attempts);
        self.unplaced.remove(&taken.0);
        self.unplaced_new.remove(&taken.0);
        Some(taken)
    }

    /// Puts new messages behind those of their order groups, with their keys.
    fn line_up(
        &mut self,
        progress: &Progress,
        (from, places): (QueueOffset, &[RecordPlace]),
        labels: &[Label],
    ) {
        let to = QueueOffset(from.0 + places.len() as u64);
        self.pass_over(progress);
        while from <= self.cursor && self.cursor < to {
            let (offset, at) = (self.cursor, (self.cursor.0 - from.0) as usize);
            let absent = self.ready.insert(offset, (0, places[at])).is_none();
            assert!(absent, "a message is new once");
            self.learn_key(offset, labels[at]);
            if let Some(orders) = &mut self.orders {
                orders.learn(offset, labels[at].order, Stand::Ready);
            }
            self.move_cursor(QueueOffset(offset.0 + 1));
            self.pass_over(progress);
        }
    }

    /// Takes in that the log does not hold what was asked for; returns the offset asked for. Until
    /// the progress says so too, the index is not asked again for a while.
    pub(crate) fn met_gap(&mut self, now: Timestamp) -> QueueOffset {
        let asked = self.asked.take().expect("an answer follows a question");
        self.retry_at = Some(now.plus_ms(LOCATE_RETRY_MS));
        asked.from
    }

    /// Moves the cursor over messages that the progress knows.
    fn pass_over(&mut self, progress: &Progress) {
        while self.cursor < self.passed_over_below {
            let to = if let Some(end) = progress.settled_end_of(self.cursor) {
                end
            } else if progress.returned().contains(self.cursor) {
                QueueOffset(self.cursor.0 + 1)
            } else {
                return;
            };
            self.move_cursor(to);
        }
    }

    fn move_cursor(&mut self, to: QueueOffset) {
        assert!(self.cursor <= to, "the cursor moves forward");
        let passed = (to.0 - self.cursor.0).min(self.prefetched.len() as u64) as usize;
        self.prefetched.drain(..passed);
        self.cursor = to;
        if let Some(orders) = &mut self.orders {
            orders.line_up_to(to);
        }
    }

    /// Leases what can be delivered: first what comes again, then new messages, each in the order
    /// of offsets, within the budget and before what bars them; in an ordered topic, where so many
    /// want something, what is next in its order group.
    pub(crate) fn lease(
        &mut self,
        progress: &Progress,
        holder: Holder,
        mut budget: Budget,
        takers: usize,
        mut gate: Option<&mut Gate<'_>>,
    ) -> Vec<DeliverItem> {
        assert!(budget.messages >= 1 && budget.credit_bytes >= 1, "a holder has credit");
        if self.orders.is_some() {
            return self.lease_in_order(holder, budget, takers, gate);
        }
        let room = self.deliverable().min(budget.messages as usize);
        let mut items = Vec::with_capacity(room);
        let barring = self.barring();
        let may_go = |offset: &QueueOffset| barring.is_none_or(|barring| *offset < barring);
        while let Some((offset, (attempts, place))) = self.ready.first_key_value()
            && may_go(offset)
        {
            let (offset, attempt, place) = (*offset, attempts.saturating_add(1), *place);
            if self.keeps_back(offset, gate.as_deref_mut()) {
                continue;
            }
            if !budget.take(place.bytes, items.is_empty()) {
                return items;
            }
            self.ready.remove(&offset);
            self.claim(offset, gate.as_deref_mut());
            let order = None;
            items.push(self.lease_one(DeliverItem { offset, attempt, order, place }, holder));
        }
        if barring.is_none() {
            self.lease_new(progress, holder, budget, &mut items);
        }
        items
    }

    fn lease_in_order(
        &mut self,
        holder: Holder,
        mut budget: Budget,
        takers: usize,
        mut gate: Option<&mut Gate<'_>>,
    ) -> Vec<DeliverItem> {
        let mut items = Vec::new();
        while let Some(orders) = &mut self.orders
            && let Some((offset, key)) = orders.next_for(holder.subscription, takers)
        {
            if self.keeps_back(offset, gate.as_deref_mut()) {
                continue;
            }
            let (attempts, place) = self.ready[&offset];
            if !budget.take(place.bytes, items.is_empty()) {
                break;
            }
            self.ready.remove(&offset);
            self.claim(offset, gate.as_deref_mut());
            let (attempt, order) = (attempts.saturating_add(1), Some(key));
            items.push(self.lease_one(DeliverItem { offset, attempt, order, place }, holder));
        }
        assert!(items.is_sorted_by_key(|item| item.offset), "they come in the queue's order");
        items
    }

    /// Leases new messages, run by run.
    fn lease_new(
        &mut self,
        progress: &Progress,
        holder: Holder,
        mut budget: Budget,
        items: &mut Vec<DeliverItem>,
    ) {
        let hold = holder.hold(1);
        while !self.is_full() {
            self.pass_over(progress);
            let from = self.cursor;
            // Offsets up to which nothing needs to be passed over.
            let run_max = self.unsettled_room().min(self.new_messages(progress));
            let mut count = 0;
            for place in self.prefetched.iter().take(run_max) {
                if !budget.take(place.bytes, items.is_empty()) {
                    break;
                }
                let offset = QueueOffset(from.0 + count);
                items.push(DeliverItem { offset, attempt: 1, order: None, place: *place });
                count += 1;
            }
            if count == 0 {
                return;
            }
            let places = self.prefetched.iter().take(count as usize).copied();
            self.leases.insert_run(from, hold, places);
            self.move_cursor(QueueOffset(from.0 + count));
        }
    }

    /// Messages from the cursor on of which the progress knows nothing.
    fn new_messages(&self, progress: &Progress) -> usize {
        if self.cursor >= self.passed_over_below {
            return usize::MAX;
        }
        let returned = progress.returned().from(self.cursor).next().map(|(offset, _)| offset);
        let known = [progress.settled().first_from(self.cursor), returned];
        let end = known.into_iter().flatten().min();
        end.map_or(usize::MAX, |end| (end.0 - self.cursor.0) as usize)
    }

    fn unsettled_room(&self) -> usize {
        UNSETTLED_MAX.saturating_sub(self.unsettled())
    }

    fn lease_one(&mut self, item: DeliverItem, holder: Holder) -> DeliverItem {
        assert!(item.attempt >= 1, "the first delivery is attempt 1");
        let DeliverItem { offset, attempt, place, .. } = item;
        self.leases.insert(offset, Lease { hold: holder.hold(attempt), place });
        self.stand(offset, Stand::Leased(holder.subscription));
        item
    }

    /// Ends leases and waits that are due; returns the leases that ended, for the caller to say
    /// when each comes again.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Vec<(QueueOffset, Lease)> {
        let mut ended = self.leases.take_ended(now);
        ended.sort_unstable_by_key(|(offset, _)| *offset);
        while let Some((due, offset)) = self.dues.first().copied().filter(|(due, _)| *due <= now) {
            self.dues.remove(&(due, offset));
            let waiting = self.waiting.remove(&offset).expect("what is due waits");
            self.make_ready(offset, waiting.again);
        }
        self.retry_at = self.retry_at.filter(|at| *at > now);
        self.held_until = self.held_until.filter(|at| *at > now);
        ended
    }

    /// Takes the leases of a subscription that ended.
    pub(crate) fn end_holder(&mut self, holder: SubscriptionId) -> Vec<(QueueOffset, Lease)> {
        let ended = self.leases.take_of(holder);
        for (offset, lease) in &ended {
            self.make_ready(*offset, again_of(lease));
        }
        ended
    }

    /// A lease that ended comes again at this instant, unless the log says otherwise before.
    pub(crate) fn come_again(&mut self, offset: QueueOffset, lease: &Lease, due: Timestamp) {
        self.make_wait(offset, waiting_of(lease, due));
    }

    /// A lease that ended was of a message that nobody can have begun, because one before it in its
    /// order group is not settled: it is as if it had not been delivered.
    pub(crate) fn was_not_begun(&mut self, offset: QueueOffset, lease: &Lease) {
        self.undo(offset, lease);
    }

    /// A lease is taken back as if it had not been given.
    fn undo(&mut self, offset: QueueOffset, Lease { hold, place }: &Lease) {
        assert!(hold.attempt >= 1, "what is leased was delivered");
        let (attempts, place) = (hold.attempt - 1, Some(*place));
        self.make_ready(offset, Again { attempts, place });
    }

    /// Takes what a subscription holds of a range, as if it had not been delivered; returns how
    /// many messages it took.
    pub(crate) fn release(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        holder: SubscriptionId,
    ) -> u32 {
        let taken = self.leases.take_held(from, to, holder);
        taken.iter().for_each(|(offset, lease)| self.undo(*offset, lease));
        u32::try_from(taken.len()).expect("leases are bounded")
    }

    /// Takes what a subscription holds of a range, as if it had not been delivered, and delivers
    /// nothing for a while; returns how many messages it took.
    pub(crate) fn hold_back(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        holder: SubscriptionId,
        until: Timestamp,
    ) -> u32 {
        self.held_until = self.held_until.max(Some(until));
        self.release(from, to, holder)
    }

    /// Takes in what the log says about this queue; whose leases ended by it, and how many, is
    /// given to `ended`.
    pub(crate) fn apply(&mut self, step: &Step, mut ended: impl FnMut(SubscriptionId, u32)) {
        let (from, to) = (step.from, step.to);
        match step.outcome {
            Outcome::Acked
            | Outcome::Dead
            | Outcome::Doomed { .. }
            | Outcome::Dropped
            | Outcome::Duplicate
            | Outcome::Expired
            | Outcome::Filtered
            | Outcome::Forwarded => {
                self.forget(from, to, &mut ended);
            }
            Outcome::Trimmed => {
                self.forget(from, to, &mut ended);
                self.retry_at = None;
                self.passed_over_below = self.passed_over_below.max(to);
                if (from..to).contains(&self.cursor) {
                    self.move_cursor(to);
                }
            }
            // At once: the lease was taken away when that was decided.
            Outcome::Returned { due: Timestamp(0), .. } => {}
            Outcome::Returned { attempts, due, delivered: since, .. } => {
                self.wait_otherwise((from, to), attempts, due);
                for (offset, lease) in self.leases.take_attempt(from, to, attempts) {
                    ended(lease.hold.subscription, 1);
                    self.make_wait(offset, waiting_of(&lease, due));
                }
                while let Some(offset) = self.stopped.range(from..to).next().copied() {
                    self.stopped.remove(&offset);
                    let again = Again { attempts, place: None };
                    self.make_wait(offset, Waiting { again, since, due });
                }
            }
            Outcome::Stopped { .. } => {
                self.take_out(from, to, &mut ended);
                (from.0..to.0).map(QueueOffset).for_each(|offset| self.stop(offset));
            }
        }
    }

    /// When a message was delivered last that is to be delivered again later, after this attempt.
    pub(crate) fn waits_since(&self, offset: QueueOffset, attempt: u32) -> Option<Timestamp> {
        let waiting = self.waiting.get(&offset)?;
        (waiting.again.attempts == attempt).then_some(waiting.since)
    }

    /// Messages that wait after this attempt do so until another instant.
    pub(crate) fn wait_otherwise(
        &mut self,
        (from, to): (QueueOffset, QueueOffset),
        attempts: u32,
        due: Timestamp,
    ) {
        for (offset, waiting) in self.waiting.range_mut(from..to) {
            if waiting.again.attempts == attempts && waiting.due != due {
                let was = self.dues.remove(&(waiting.due, *offset));
                assert!(was, "what waits has an instant");
                waiting.due = due;
                self.dues.insert((due, *offset));
            }
        }
    }

    /// The queue holds nothing below `first` any more.
    pub(crate) fn trim(&mut self, first: QueueOffset, mut ended: impl FnMut(SubscriptionId, u32)) {
        self.forget(QueueOffset(0), first, &mut ended);
        self.retry_at = None;
        if self.cursor < first {
            self.move_cursor(first);
        }
    }

    fn forget(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        ended: &mut impl FnMut(SubscriptionId, u32),
    ) {
        self.take_out(from, to, ended);
        self.forget_keys(from, to);
        if let Some(orders) = &mut self.orders {
            orders.forget(from, to);
        }
    }

    /// Takes messages out of wherever they are, but for their order groups.
    fn take_out(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        ended: &mut impl FnMut(SubscriptionId, u32),
    ) {
        self.leases.take_range(from, to, ended);
        self.take_behind(from, to);
        while let Some((offset, _)) = self.ready.range(from..to).next() {
            let offset = *offset;
            self.ready.remove(&offset);
        }
        while self.take_unplaced(from, to).is_some() {}
        while let Some((offset, waiting)) = self.waiting.range(from..to).next() {
            let (offset, due) = (*offset, waiting.due);
            self.waiting.remove(&offset);
            self.dues.remove(&(due, offset));
        }
        while let Some(offset) = self.stopped.range(from..to).next().copied() {
            self.stopped.remove(&offset);
        }
    }

    /// The leases as steps that give them back at once.
    pub(crate) fn steps(queue: QueueIndex, ended: &[(QueueOffset, Lease)]) -> Vec<Step> {
        let mut runs = Vec::new();
        for (offset, lease) in ended {
            let Hold { attempt: attempts, since: delivered, .. } = lease.hold;
            let outcome = Outcome::Returned { attempts, due: Timestamp(0), delivered, error: 0 };
            push_step(&mut runs, 0, Step::of_one(queue, *offset, outcome));
        }
        assert!(runs.len() <= ended.len(), "a run is at least one message");
        runs
    }
}

fn waiting_of(lease: &Lease, due: Timestamp) -> Waiting {
    Waiting { again: again_of(lease), since: lease.hold.since, due }
}

fn again_of(lease: &Lease) -> Again {
    Again { attempts: lease.hold.attempt, place: Some(lease.place) }
}

impl Budget {
    /// Takes one message of `bytes` out of the budget; `false` when it does not fit any more.
    fn take(&mut self, bytes: u32, first: bool) -> bool {
        let fits = first || bytes as usize <= self.frame_bytes;
        if self.messages == 0 || self.credit_bytes == 0 || !fits {
            return false;
        }
        self.messages -= 1;
        self.credit_bytes = self.credit_bytes.saturating_sub(bytes);
        self.frame_bytes = self.frame_bytes.saturating_sub(bytes as usize);
        true
    }
}
