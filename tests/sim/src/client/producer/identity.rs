//! A producer that has a name: its process ends, and the next one goes on behind what is stored,
//! also while the one before is only taken for dead and goes on as well.
//!
//! ```text
//!   the application's messages, lane by lane: 0 1 2 3 4 5 6 …
//!                                             └ stored ┘└─ sent by the newest
//!                                                      └── the count that it was told
//! ```
//!
//! What is held against the broker:
//! - A count is at least what was acknowledged, and at most what was sent: what it counts must be
//!   there in the end, what it does not count is sent again and must be there once.
//! - Whatever an older process is told that is stored is in the count of every newer one.
//! - The newest is refused only where a beginning of its own, of which it has not heard, may have
//!   come after the one that it heard of.
use std::collections::BTreeMap;

use yard_checker::Outcome;
use yard_client::lane::Attempt;
use yard_wire::batch::BatchHeader;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{OpenProducer, ProducerOpened};
use yard_wire::{Code, Correlation, ProducerId, Refusal, Sequence, ShardId};

use super::{LaneName, NumberedLane, Producer, Told, Written, is_expected, is_nowhere, send};
use crate::agenda::{Happening, MS, Micros, SECOND};
use crate::base::{Base, Phase};

/// An answer that does not come is asked for again after this.
const PATIENCE: Micros = 700 * MS;
/// Of 100 processes that end, those that are only taken for dead.
const OLDER_PERCENT: u64 = 50;

/// A process that was taken for dead.
#[derive(Default)]
struct Older {
    lanes: BTreeMap<LaneName, NumberedLane>,
    asked: BTreeMap<Correlation, (LaneName, Attempt)>,
}

/// What the application and its newest process know.
pub(super) struct Identity {
    producer: ProducerId,
    /// Every message, as it was written.
    series: BTreeMap<LaneName, Vec<Written>>,
    /// Of each lane, how many are acknowledged: the first.
    acknowledged: BTreeMap<LaneName, u64>,
    /// What shards have said about the newest process.
    opened: BTreeMap<ShardId, ProducerOpened>,
    asking: BTreeMap<Correlation, ShardId>,
    pub(super) ask_at: Option<Micros>,
    /// Beginnings of which nothing was heard, by shard: they may come at any time.
    unheard: BTreeMap<ShardId, u64>,
    older: Older,
    /// Batches on their way: the lane of each, and the message after it.
    pub(super) ends: BTreeMap<Correlation, (LaneName, u64)>,
}

impl Identity {
    pub(super) fn new(producer: ProducerId) -> Self {
        Self {
            producer,
            series: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            opened: BTreeMap::new(),
            asking: BTreeMap::new(),
            ask_at: Some(0),
            unheard: BTreeMap::new(),
            older: Older::default(),
            ends: BTreeMap::new(),
        }
    }

    /// Whether every shard has said where it goes on.
    pub(super) fn is_open(&self, base: &Base) -> bool {
        self.opened.len() == usize::from(base.plan.shards)
    }

    /// The count of a lane, as the newest process was told it, if it was.
    fn counted(&self, (shard, lane): LaneName) -> Option<u64> {
        let lanes = &self.opened.get(&shard)?.lanes;
        let known = lanes.iter().find(|(known, _)| *known == lane);
        Some(known.map_or(0, |(_, next)| next.0))
    }

    /// The first batch of a lane of the newest process.
    pub(super) fn first(&self, (shard, lane): LaneName) -> BatchHeader {
        let epoch = self.opened[&shard].epoch;
        let sequence = Sequence(self.counted((shard, lane)).unwrap_or(0));
        BatchHeader { producer: self.producer, epoch, lane, shard, sequence }
    }

    /// The connection is gone, and answers with it.
    pub(super) fn lost(&mut self) {
        self.ends.clear();
        self.older.asked.clear();
        self.older.lanes.values_mut().for_each(|lane| lane.core.on_disconnect());
        for shard in std::mem::take(&mut self.asking).into_values() {
            *self.unheard.entry(shard).or_default() += 1;
        }
        self.ask_at = None;
    }

    pub(super) fn connected(&mut self, base: &Base) {
        self.older.lanes.values_mut().for_each(|lane| lane.core.on_connect());
        self.ask_at = (!self.is_open(base)).then_some(base.now);
    }
}

impl Producer {
    /// Keeps a message for whoever comes later; whether it can be sent already.
    pub(super) fn keep_for_later(
        &mut self,
        base: &Base,
        name: LaneName,
        written: &Written,
    ) -> bool {
        let Some(identity) = &mut self.identity else { return true };
        identity.series.entry(name).or_default().push(written.clone());
        identity.is_open(base)
    }

    /// Now and then its process ends.
    pub(super) fn may_end(&mut self, base: &mut Base) {
        let percent = self.plan.reborn;
        let is_open = self.identity.as_ref().is_some_and(|identity| identity.is_open(base));
        if percent == 0 || !is_open || base.phase != Phase::Storm || !self.random.percent(percent) {
            return;
        }
        let is_dead = !self.random.percent(OLDER_PERCENT);
        self.begin_anew(base, !is_dead);
        if let Some(session) = self.link.session.filter(|_| is_dead) {
            base.trace.line(base.now, || format!("client {} dies", self.link.client));
            let delay = self.random.range(MS, 3 * SECOND);
            base.after(delay, Happening::BrokerLost(session));
            base.after(1, Happening::ClientLost(session));
            // On another connection.
            self.identity.iter_mut().for_each(|identity| identity.ask_at = None);
        }
    }

    /// A newer process begins under the same name; the one before goes on, or does not.
    pub(super) fn begin_anew(&mut self, base: &mut Base, goes_on: bool) {
        let Some(identity) = &mut self.identity else { return };
        base.trace.line(base.now, || format!("client {} begins anew", self.link.client));
        let lanes = std::mem::take(&mut self.lanes);
        let asked = std::mem::take(&mut self.asked);
        if goes_on {
            identity.older = Older { lanes, asked };
        }
        identity.opened.clear();
        identity.ask_at = Some(base.now);
    }

    /// Asks every shard that has not said so where it goes on.
    pub(super) fn ask_to_open(&mut self, base: &mut Base) {
        let Some(identity) = &mut self.identity else { return };
        if identity.ask_at.is_none_or(|at| at > base.now) || self.link.session.is_none() {
            return;
        }
        for shard in std::mem::take(&mut identity.asking).into_values() {
            *identity.unheard.entry(shard).or_default() += 1;
        }
        for shard in (0..base.plan.shards).map(ShardId) {
            if identity.opened.contains_key(&shard) {
                continue;
            }
            let open = OpenProducer { shard, producer: identity.producer };
            let request = Request::OpenProducer(open);
            if let Some(correlation) = self.link.request(base, 0, request) {
                identity.asking.insert(correlation, shard);
            }
        }
        identity.ask_at = Some(base.now + PATIENCE);
    }

    /// An answer to that; `None` where it is none.
    pub(super) fn opened(
        &mut self,
        base: &mut Base,
        correlation: Correlation,
        result: &Result<Reply, Refusal>,
    ) -> Option<()> {
        let identity = self.identity.as_mut()?;
        let shard = identity.asking.remove(&correlation)?;
        match result {
            Ok(Reply::OpenProducer(opened)) => {
                identity.opened.insert(shard, opened.clone());
                self.check_counts(base, shard);
                self.go_on(base);
            }
            Ok(other) => base.fail(|| format!("a producer was opened with {other:?}")),
            Err(refusal) => {
                let codes = [Code::LogFenced, Code::DiskFull, Code::Busy];
                if !codes.contains(&refusal.code) {
                    base.fail(|| format!("a producer was not opened: {refusal}"));
                }
                // What was refused may be in the log all the same.
                *identity.unheard.entry(shard).or_default() += 1;
            }
        }
        Some(())
    }

    /// A shard counts what was acknowledged, and nothing that was never sent.
    fn check_counts(&self, base: &mut Base, shard: ShardId) {
        let identity = self.identity.as_ref().expect("it was opened");
        let told = identity.opened[&shard].lanes.iter().map(|(lane, _)| (shard, *lane));
        let known = identity.series.keys().filter(|(at, _)| *at == shard);
        for name in told.chain(known.copied()) {
            let counted = identity.counted(name).unwrap_or(0);
            let acknowledged = identity.acknowledged.get(&name).copied().unwrap_or(0);
            let written = identity.series.get(&name).map_or(0, Vec::len) as u64;
            if !(acknowledged..=written).contains(&counted) {
                let client = self.link.client;
                base.fail(|| {
                    format!(
                        "client {client} was told that {counted} messages of {name:?} are stored; \
                         {acknowledged} of {written} were acknowledged"
                    )
                });
            }
        }
    }

    /// Where every shard was heard, what is not counted is sent.
    fn go_on(&mut self, base: &mut Base) {
        let identity = self.identity.as_mut().expect("it was opened");
        if !identity.is_open(base) {
            return;
        }
        identity.ask_at = None;
        let names: Vec<LaneName> = identity.series.keys().copied().collect();
        for name in names {
            let identity = self.identity.as_ref().expect("it was opened");
            let counted = identity.counted(name).unwrap_or(0) as usize;
            let series = &identity.series[&name];
            let (stored, rest) = series.split_at(counted.min(series.len()));
            let stored: Vec<u64> = stored.iter().map(|written| written.number).collect();
            let rest = rest.to_vec();
            stored.into_iter().for_each(|number| self.is_counted(base, number));
            rest.iter().for_each(|written| self.push(base, name, written));
        }
    }

    /// A message is stored, by the count of its lane.
    fn is_counted(&mut self, base: &mut Base, number: u64) {
        let (sent, name) = (&mut self.sent[number as usize], &self.names[number as usize]);
        // One with a dedupe key may be stored as another; that it is not said again is known.
        if sent.outcome != Outcome::Unknown || name.key.is_some() {
            return;
        }
        base.lives.may_want(base.plan.lives, (self.number, number), name.id);
        sent.completed = Some(base.now);
        sent.outcome = Outcome::Ok { offset: None };
    }

    /// A batch was answered: of whatever process, what is stored is in the count of every newer.
    pub(super) fn heard(
        &mut self,
        base: &mut Base,
        correlation: Correlation,
        result: &Result<Reply, Refusal>,
    ) {
        let Some(identity) = &mut self.identity else { return };
        let Some((name, end)) = identity.ends.remove(&correlation) else { return };
        let is_newest = self.asked.contains_key(&correlation);
        match result {
            Ok(_) => {
                if let Some(counted) = identity.counted(name).filter(|it| !is_newest && *it < end) {
                    let client = self.link.client;
                    base.fail(|| {
                        format!(
                            "an older process of client {client} has stored {end} messages of \
                             {name:?}, of which the newest was told {counted}"
                        )
                    });
                }
                let acknowledged = identity.acknowledged.entry(name).or_default();
                *acknowledged = (*acknowledged).max(end);
            }
            Err(refusal) => {
                let is_fenced = refusal.code == Code::ProducerFenced && is_newest;
                if is_fenced && !identity.unheard.contains_key(&name.0) {
                    let client = self.link.client;
                    base.fail(|| format!("the newest process of client {client} is refused"));
                }
            }
        }
    }

    /// A message of the newest process has its result. One that fails ends the process.
    pub(super) fn complete_named(&mut self, base: &mut Base, result: &Result<Told, Refusal>) {
        let Err(refusal) = result else { return };
        if self.identity.is_none() {
            return;
        }
        let is_fenced = refusal.code == Code::ProducerFenced;
        if !is_fenced && !is_expected(refusal) && !is_nowhere(refusal) {
            base.fail(|| format!("a message of client {} was refused: {refusal}", self.number));
        }
        self.dies = true;
    }

    /// The process before sends as well, as long as it is not told that it is the older one.
    pub(super) fn pump_older(&mut self, base: &mut Base) -> Option<Micros> {
        let Self { link, identity, .. } = self;
        let Identity { older: Older { lanes, asked }, ends, .. } = identity.as_mut()?;
        let now_ms = base.now / MS;
        let mut wake = None;
        for (name, lane) in lanes.iter_mut() {
            send(base, link, (*name, lane), asked, Some(&mut *ends));
            // Whoever is taken for dead is listened to by nobody.
            while lane.core.next_completion().is_some() {}
            let at = lane.core.wake_at(now_ms).map(|at| at * MS);
            wake = wake.into_iter().chain(at).min();
        }
        lanes.retain(|_, lane| !lane.core.is_idle());
        wake
    }

    /// An answer to the process before; `None` where it is none.
    pub(super) fn older_answered(
        &mut self,
        base: &mut Base,
        correlation: Correlation,
        result: &Result<Reply, Refusal>,
    ) -> Option<()> {
        let older = &mut self.identity.as_mut()?.older;
        let (name, attempt) = older.asked.remove(&correlation)?;
        let result = match result {
            Ok(Reply::Produce(produced)) => Ok(produced.clone()),
            Ok(other) => {
                base.fail(|| format!("a produce request was answered by {other:?}"));
                return Some(());
            }
            Err(refusal) => Err(refusal.clone()),
        };
        if let Some(lane) = older.lanes.get_mut(&name) {
            lane.core.on_reply(attempt, result, base.now / MS);
        }
        Some(())
    }
}
