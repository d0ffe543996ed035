//! A consumer of a scenario, as far as the client keeps it: what has arrived, what is held.
use std::collections::BTreeMap;

use yard_wire::property::EXPIRES;
use yard_wire::record::Record;
use yard_wire::requests::{Deliver, Start, Subscribe};
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
    /// What it took and gave no credit back for: messages and bytes.
    taken: (u32, u32),
    /// Why it receives nothing any more.
    pub(crate) ended: Option<Refusal>,
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
            taken: (0, 0),
            ended: None,
        }
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
            exclusive: false,
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
    }

    /// Nothing that it was sent is unsettled, and its credit is as it was at first.
    pub(crate) fn holds_nothing(&self) -> bool {
        let has_own_credit = self.how.credit.is_some() || self.how.bytes.is_some();
        let is_clean = self.inbox.is_empty()
            && !self.held.values().any(|it| matches!(it, Holding::Held | Holding::Refused));
        self.subscription.is_none() || (is_clean && !has_own_credit)
    }

    /// How many messages wait to be taken.
    pub(crate) fn arrived(&self) -> usize {
        self.inbox.len()
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

    /// What has arrived, queue by queue, and the places of what nobody wants any more.
    pub(crate) fn take_inbox(&mut self, now: Timestamp) -> (Vec<Received>, Vec<Place>) {
        let mut taken = std::mem::take(&mut self.inbox);
        taken.sort_by_key(|received| received.place.0);
        for received in &taken {
            self.taken.0 += 1;
            self.taken.1 += received.record.bytes().len() as u32;
        }
        let is_old = |received: &Received| {
            let expires = received.record.property(EXPIRES).and_then(|text| text.parse().ok());
            expires.is_some_and(|at: u64| at <= now.0)
        };
        let (expired, taken): (Vec<_>, Vec<_>) = taken.into_iter().partition(is_old);
        self.held.extend(taken.iter().map(|received| (received.place, Holding::Held)));
        (taken, expired.iter().map(|received| received.place).collect())
    }

    /// Credit for what was taken since the last time.
    pub(crate) fn give_back(&mut self) -> (u32, u32) {
        std::mem::take(&mut self.taken)
    }

    /// The broker has not settled it.
    pub(crate) fn note_refused(&mut self, place: Place) {
        self.held.insert(place, Holding::Refused);
    }

    /// A delivery is settled once, as the client has it.
    pub(crate) fn note_settled(&mut self, place: Place) -> Result<(), Refusal> {
        match self.held.insert(place, Holding::Settled) {
            Some(Holding::Settled | Holding::Refused) => {
                Err(Refusal::new(Code::AlreadySettled, "it was settled before"))
            }
            Some(Holding::Lost) => Err(Refusal::new(Code::LeaseLost, "the subscription has ended")),
            Some(Holding::Held) | None => Ok(()),
        }
    }
}
