//! The numbering of batches: what was stored already is not stored again.
//!
//! ```text
//!   (tenant, producer) ─► epoch, used ─► lane ─► next expected sequence
//!                                             └► the last batches: first, count, where they went
//! ```
//!
//! Bounded by producers and by remembered places. What is over goes out at the tenant that has
//! the most, the producer that was silent for longest first: no tenant makes the broker forget
//! another's producers. All of it is decided when a batch is applied, so a replayed log forgets the
//! same.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use yard_wire::batch::BatchHeader;
use yard_wire::limits::{LANE_BATCHES_IN_FLIGHT_MAX, PRODUCERS_MAX};
use yard_wire::requests::{Original, Placed};
use yard_wire::{Epoch, Lane, Malformed, ProducerId, Sequence, TenantId, Wire};

use crate::bounds::ANSWERS_PLACED_MAX;

/// What an original costs, in places: it is about twice as large.
const ORIGINAL_PLACES: usize = 2;
const _: () = assert!(size_of::<Original>() <= ORIGINAL_PLACES * size_of::<Placed>());

/// What the numbering says about a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// It is the next of its lane.
    Next,
    /// It was stored before, here.
    Duplicate(Answer),
    /// It was stored long ago; where is forgotten.
    Stale {
        /// The sequence expected next.
        expected: Sequence,
    },
    /// Batches before it are missing.
    Ahead {
        /// The sequence expected next.
        expected: Sequence,
    },
    /// A newer incarnation of the producer exists.
    Fenced {
        /// The newest known.
        known: Epoch,
    },
}

/// What was said about a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    first: Sequence,
    pub(crate) placed: Vec<Placed>,
    pub(crate) originals: Vec<Original>,
}

impl Answer {
    /// What it costs, in places.
    fn cost(&self) -> usize {
        self.placed.len() + ORIGINAL_PLACES * self.originals.len()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LaneState {
    next: Sequence,
    answers: VecDeque<(Answer, Sequence)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Producer {
    epoch: Epoch,
    /// When it last stored something or began anew, in batches and beginnings of this shard.
    used: u64,
    /// Places remembered over all lanes.
    placed: usize,
    lanes: BTreeMap<Lane, LaneState>,
}

/// The numbering of every producer that is remembered.
#[derive(Debug)]
pub(crate) struct Producers {
    by_id: BTreeMap<(TenantId, ProducerId), Producer>,
    /// The same, by how long they are silent.
    by_use: BTreeSet<(TenantId, u64, ProducerId)>,
    /// What each tenant costs: producers and places.
    costs: BTreeMap<TenantId, usize>,
    placed: usize,
    /// Batches stored and incarnations begun so far.
    batches: u64,
    producers_max: usize,
    placed_max: usize,
}

impl Producers {
    pub(crate) fn new() -> Self {
        Self::bounded(PRODUCERS_MAX, ANSWERS_PLACED_MAX)
    }

    pub(crate) fn bounded(producers_max: usize, placed_max: usize) -> Self {
        assert!(producers_max >= 1, "the newest producer is remembered");
        Self {
            by_id: BTreeMap::new(),
            by_use: BTreeSet::new(),
            costs: BTreeMap::new(),
            placed: 0,
            batches: 0,
            producers_max,
            placed_max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// What the numbering says about a batch of `count` records.
    pub(crate) fn judge(
        &self,
        tenant: TenantId,
        header: &BatchHeader,
        count: usize,
        floor: Sequence,
    ) -> Numbering {
        let known = self.by_id.get(&(tenant, header.producer));
        let lane = match known {
            Some(known) if known.epoch > header.epoch => {
                return Numbering::Fenced { known: known.epoch };
            }
            Some(known) if known.epoch == header.epoch => known.lanes.get(&header.lane),
            Some(_) | None => None,
        };
        let expected = lane.map_or(Sequence(0), |lane| lane.next).max(floor);
        if header.sequence == expected {
            return Numbering::Next;
        }
        if header.sequence > expected {
            return Numbering::Ahead { expected };
        }
        let end = Sequence(header.sequence.0 + count as u64);
        let answers = lane.into_iter().flat_map(|lane| &lane.answers);
        let same =
            |(answer, to): &&(Answer, Sequence)| answer.first == header.sequence && *to == end;
        match { answers }.find(same) {
            Some((answer, _)) => {
                yard_wire::mark!(BatchTwice);
                Numbering::Duplicate(answer.clone())
            }
            None => Numbering::Stale { expected },
        }
    }

    /// Takes in that a batch was stored.
    pub(crate) fn apply(
        &mut self,
        tenant: TenantId,
        header: &BatchHeader,
        count: usize,
        (placed, originals): (&[Placed], &[Original]),
    ) {
        self.batches += 1;
        let key = (tenant, header.producer);
        let cost = self.costs.entry(tenant).or_default();
        let producer = self.by_id.entry(key).or_insert_with(|| {
            *cost += 1;
            Producer { epoch: header.epoch, ..Producer::default() }
        });
        self.by_use.remove(&(tenant, producer.used, header.producer));
        producer.used = self.batches;
        self.by_use.insert((tenant, producer.used, header.producer));
        if header.epoch != producer.epoch {
            yard_wire::mark!(ProducerEpochNewer);
            *cost -= producer.placed;
            self.placed -= producer.placed;
            producer.placed = 0;
            producer.lanes.clear();
            producer.epoch = header.epoch;
        }
        let lane = producer.lanes.entry(header.lane).or_default();
        lane.next = Sequence(header.sequence.0 + count as u64);
        let (placed, originals) = (placed.to_vec(), originals.to_vec());
        let answer = Answer { first: header.sequence, placed, originals };
        let added = answer.cost();
        lane.answers.push_back((answer, lane.next));
        let mut dropped = 0;
        while lane.answers.len() > LANE_BATCHES_IN_FLIGHT_MAX {
            dropped += lane.answers.pop_front().map_or(0, |(answer, _)| answer.cost());
        }
        producer.placed = producer.placed + added - dropped;
        self.placed = self.placed + added - dropped;
        *cost = *cost + added - dropped;
        self.forget_surplus(key);
    }

    /// The epoch of a producer, if it is known, and the next sequence of each of its lanes.
    pub(crate) fn known(
        &self,
        tenant: TenantId,
        id: ProducerId,
    ) -> (Option<Epoch>, Vec<(Lane, Sequence)>) {
        let Some(known) = self.by_id.get(&(tenant, id)) else { return (None, Vec::new()) };
        (Some(known.epoch), known.lanes.iter().map(|(lane, state)| (*lane, state.next)).collect())
    }

    /// Takes in that a producer has a new incarnation, whose lanes go on where they are.
    pub(crate) fn open(&mut self, key: (TenantId, ProducerId), epoch: Epoch) {
        self.batches += 1;
        let is_known = self.by_id.contains_key(&key);
        let known = if is_known { self.forget(key.0, key.1) } else { Producer::default() };
        assert!(known.used < self.batches, "nobody was used in the future");
        // It is newer, unless the log is damaged where the one before was forgotten.
        let epoch = epoch.max(known.epoch);
        self.insert(key, Producer { epoch, used: self.batches, ..known });
        self.forget_surplus(key);
    }

    fn forget_surplus(&mut self, newest: (TenantId, ProducerId)) {
        while self.by_id.len() > self.producers_max || self.placed > self.placed_max {
            let most = self.costs.iter().max_by_key(|(tenant, cost)| (**cost, **tenant));
            let tenant = *most.expect("producers belong to tenants").0;
            let mut silent = self.by_use.range((tenant, 0, ProducerId(0))..);
            let (_, used, id) = *silent.next().expect("a tenant that costs has a producer");
            if (tenant, id) == newest && self.by_id.len() == 1 {
                return;
            }
            yard_wire::mark!(ProducerForgotten);
            assert!(used <= self.batches, "nobody was used in the future");
            self.forget(tenant, id);
        }
    }

    fn forget(&mut self, tenant: TenantId, id: ProducerId) -> Producer {
        let producer = self.by_id.remove(&(tenant, id)).expect("listed by use");
        self.by_use.remove(&(tenant, producer.used, id));
        self.placed -= producer.placed;
        let cost = self.costs.get_mut(&tenant).expect("a tenant with a producer costs");
        *cost -= 1 + producer.placed;
        if *cost == 0 {
            self.costs.remove(&tenant);
        }
        producer
    }

    fn insert(&mut self, key: (TenantId, ProducerId), producer: Producer) {
        self.by_use.insert((key.0, producer.used, key.1));
        *self.costs.entry(key.0).or_default() += 1 + producer.placed;
        self.placed += producer.placed;
        self.by_id.insert(key, producer);
    }

    pub(crate) fn check(&self) {
        assert!(self.by_id.len() <= self.producers_max, "producers are bounded");
        assert_eq!(self.by_id.len(), self.by_use.len(), "each is listed by use");
        let placed: usize = self.by_id.values().map(|producer| producer.placed).sum();
        assert_eq!(placed, self.placed, "places are counted");
        let costs: usize = self.costs.values().sum();
        assert_eq!(costs, placed + self.by_id.len(), "each costs its tenant");
        for producer in self.by_id.values() {
            let answers = producer.lanes.values().flat_map(|lane| &lane.answers);
            let count: usize = answers.map(|(answer, _)| answer.cost()).sum();
            assert_eq!(count, producer.placed, "places are counted");
            for lane in producer.lanes.values() {
                assert!(lane.answers.len() <= LANE_BATCHES_IN_FLIGHT_MAX, "answers are bounded");
                assert_eq!(lane.answers.back().map(|(_, to)| *to), Some(lane.next));
            }
        }
    }
}

impl Wire for Answer {
    fn put(&self, out: &mut Vec<u8>) {
        self.first.put(out);
        self.placed.put(out);
        self.originals.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let (first, placed) = (Sequence::take(input)?, Vec::take(input)?);
        Ok(Self { first, placed, originals: Vec::take(input)? })
    }
}

/// `u64` batches, `u32` count, then of each: `u32` tenant, `u64` producer, `u32` epoch, `u64`
/// used, `u32` count of lanes, then of each: `u16` lane, its answers, the oldest first: `u64`
/// first sequence, where it went, what was there before, `u64` sequence after the last.
impl Wire for Producers {
    fn put(&self, out: &mut Vec<u8>) {
        self.batches.put(out);
        (self.by_id.len() as u32).put(out);
        for ((tenant, id), producer) in &self.by_id {
            tenant.put(out);
            id.put(out);
            producer.epoch.put(out);
            producer.used.put(out);
            (producer.lanes.len() as u32).put(out);
            for (lane, state) in &producer.lanes {
                lane.put(out);
                // As a `Vec` of them, without a copy: the log waits while this is written.
                (state.answers.len() as u32).put(out);
                for (answer, to) in &state.answers {
                    answer.put(out);
                    to.put(out);
                }
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut producers = Self::new();
        producers.batches = u64::take(input)?;
        for _ in 0..u32::take(input)? {
            let key = (TenantId::take(input)?, ProducerId::take(input)?);
            let mut producer = Producer {
                epoch: Epoch::take(input)?,
                used: u64::take(input)?,
                placed: 0,
                lanes: BTreeMap::new(),
            };
            for _ in 0..u32::take(input)? {
                let lane = Lane::take(input)?;
                let answers = Vec::<(Answer, Sequence)>::take(input)?;
                let Some((_, next)) = answers.last() else {
                    return Err(Malformed::Field { what: "lane", value: lane.0.into() });
                };
                producer.placed += answers.iter().map(|(it, _)| it.cost()).sum::<usize>();
                let state = LaneState { next: *next, answers: answers.into() };
                producer.lanes.insert(lane, state);
            }
            if producers.by_id.contains_key(&key) {
                return Err(Malformed::Field { what: "producer", value: key.1.0 });
            }
            producers.insert(key, producer);
        }
        Ok(producers)
    }
}
