//! A consumer of a scenario, as far as the client keeps it: what has arrived, what is held.
use std::collections::{BTreeMap, BTreeSet};

use yard_client::{Failures, Keeping, OrderLine, has_expired, order_line};
use yard_wire::order::TopicType;
use yard_wire::record::Record;
use yard_wire::requests::{Deliver, Start, Subscribe, Subscribed, Verdict};
use yard_wire::{Code, Refusal, ShardId, SubscriptionId, Timestamp};

use crate::host::{Received, Subscription};
use crate::units::Place;

/// Credit where a scenario names none. Source: the defaults of the client's `ConsumerBuilder`.
const CREDIT: (u32, u32) = (4_096, 8 << 20);

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Held,
    Settled,
    /// It was settled, and the broker would not have it.
    Refused,
    /// Its subscription has ended.
    Lost,
}

/// A consumer.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) tenant: String,
    how: Subscription,
    start: Start,
    pub(crate) session: u64,
    pub(crate) subscription: Option<SubscriptionId>,
    inbox: Vec<Received>,
    /// What it took, by place, as of the latest delivery.
    held: BTreeMap<Place, Holding>,
    /// Which delivery of each place was the latest.
    attempts: BTreeMap<Place, u32>,
    /// Earlier deliveries that it has settled.
    settled_late: BTreeSet<(Place, u32)>,
    /// What it took and gave no credit back for: messages and bytes.
    taken: (u32, u32),
    /// Why it receives nothing any more.
    pub(crate) ended: Option<Refusal>,
    /// Where its topic keeps an order: which order groups have failed here, and of which of them
    /// each message is that it took.
    failures: Option<Failures>,
    lines: BTreeMap<Place, OrderLine>,
    /// What it works on.
    pub(crate) keeping: Keeping,
}

/// What a member has taken in.
#[derive(Default)]
pub(crate) struct Taken {
    /// For the application, queue by queue.
    pub(crate) messages: Vec<Received>,
    /// What it settles by itself, and how.
    pub(crate) passed_over: Vec<(Place, Verdict)>,
}

impl Member {
    pub(crate) fn new(tenant: &str, name: &str, how: &Subscription, start: Start) -> Self {
        Self {
            name: name.to_owned(),
            tenant: tenant.to_owned(),
            how: how.clone(),
            start,
            session: 0,
            subscription: None,
            inbox: Vec::new(),
            held: BTreeMap::new(),
            attempts: BTreeMap::new(),
            settled_late: BTreeSet::new(),
            taken: (0, 0),
            ended: None,
            failures: None,
            lines: BTreeMap::new(),
            keeping: Keeping::default(),
        }
    }

    /// Its subscription has begun.
    pub(crate) fn begins(&mut self, session: u64, subscribed: &Subscribed) {
        self.session = session;
        self.subscription = Some(subscribed.subscription);
        let is_ordered = subscribed.r#type == TopicType::Ordered;
        self.failures = is_ordered.then(Failures::default);
    }

    /// What it asks the broker for.
    pub(crate) fn request(&self, shard: ShardId) -> Subscribe {
        let how = &self.how;
        let group = match &how.broadcast {
            Some(member) => format!("{}.{member}", how.group),
            None => how.group.clone(),
        };
        Subscribe {
            shard,
            group,
            topic: how.topic.clone(),
            member: self.name.clone(),
            start: self.start.clone(),
            expression: how.expression.clone(),
            exclusive: how.exclusive,
            lease_ms: how.lease_ms,
            messages: how.credit.unwrap_or(CREDIT.0),
            bytes: how.bytes.unwrap_or(CREDIT.1),
        }
    }

    /// Its subscription is gone, and what it held with it.
    pub(crate) fn lose(&mut self) {
        self.subscription = None;
        self.inbox.clear();
        let held = self.held.values_mut().filter(|holding| **holding == Holding::Held);
        held.for_each(|holding| *holding = Holding::Lost);
        self.taken = (0, 0);
        self.keeping = Keeping::default();
    }

    pub(crate) fn lease_ms(&self) -> u32 {
        self.how.lease_ms
    }

    /// Works on the latest delivery of a place, which has just come.
    pub(crate) fn keep(&mut self, place: Place, now: Timestamp) {
        let (queue, offset) = place;
        self.keeping.keep((queue, offset, self.latest(place)), now.0, self.how.lease_ms.into());
    }

    /// Does not work on it any more.
    pub(crate) fn let_go(&mut self, place: Place) {
        let (queue, offset) = place;
        self.keeping.release((queue, offset, self.latest(place)));
    }

    /// Nothing that it was sent is unsettled, and its credit is as it was at first.
    pub(crate) fn holds_nothing(&self) -> bool {
        let has_own_credit = self.how.credit.is_some() || self.how.bytes.is_some();
        let is_clean = self.inbox.is_empty()
            && !self.held.values().any(|it| matches!(it, Holding::Held | Holding::Refused));
        self.subscription.is_none() || (is_clean && !has_own_credit)
    }

    pub(crate) fn take(&mut self, deliver: Deliver) {
        if self.subscription != Some(deliver.subscription) {
            return;
        }
        self.inbox.extend(deliver.messages.into_iter().map(|message| Received {
            place: (deliver.queue, message.offset),
            attempt: message.attempt,
            record: Record::parse(message.record).expect("the broker delivers what it was sent"),
        }));
    }

    /// What has arrived: given back where an earlier message of its order group has failed, passed
    /// over where nobody wants it any more.
    pub(crate) fn take_inbox(&mut self, now: Timestamp) -> Taken {
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.sort_by_key(|received| received.place.0);
        let mut taken = Taken::default();
        for received in inbox {
            self.taken.0 += 1;
            self.taken.1 += received.record.bytes().len() as u32;
            let (place, record) = (received.place, &received.record);
            self.attempts.insert(place, received.attempt);
            if self.gives_back(place, record) {
                taken.passed_over.push((place, Verdict::Release));
            } else if has_expired(record, || now) {
                taken.passed_over.push((place, Verdict::Expire));
            } else {
                self.held.insert(place, Holding::Held);
                taken.messages.push(received);
            }
        }
        taken
    }

    fn gives_back(&mut self, place: Place, record: &Record) -> bool {
        let Some(failures) = &mut self.failures else { return false };
        let line = order_line(place.0, record);
        self.lines.insert(place, line);
        failures.gives_back(line, place.1)
    }

    /// It has failed, or was rejected: what was sent ahead of its order group is given back.
    pub(crate) fn note_failed(&mut self, place: Place) {
        if let (Some(failures), Some(line)) = (&mut self.failures, self.lines.get(&place)) {
            failures.failed(*line, place.1);
        }
    }

    /// Credit for what was taken since the last time.
    pub(crate) fn give_back(&mut self) -> (u32, u32) {
        std::mem::take(&mut self.taken)
    }

    /// The broker has not settled it.
    pub(crate) fn note_refused(&mut self, place: Place) {
        self.held.insert(place, Holding::Refused);
    }

    /// Which delivery of a place was the latest; of one that it never got, the first.
    pub(crate) fn latest(&self, place: Place) -> u32 {
        self.attempts.get(&place).copied().unwrap_or(1)
    }

    /// A delivery is settled once, as the client has it: the latest of a place, or another one.
    pub(crate) fn note_settled(
        &mut self,
        place: Place,
        attempt: Option<u32>,
    ) -> Result<(), Refusal> {
        let twice = || Err(Refusal::new(Code::AlreadySettled, "it was settled before"));
        if let Some(attempt) = attempt.filter(|attempt| *attempt != self.latest(place)) {
            let is_first = self.settled_late.insert((place, attempt));
            return if is_first { Ok(()) } else { twice() };
        }
        match self.held.insert(place, Holding::Settled) {
            Some(Holding::Settled | Holding::Refused) => twice(),
            Some(Holding::Lost) => Err(Refusal::new(Code::LeaseLost, "the subscription has ended")),
            Some(Holding::Held) | None => Ok(()),
        }
    }
}
