//! Transactions: what producers have prepared becomes visible together, or not at all.
//!
//! ```text
//!   producer          coordinator: the shard in the name      shards with prepared messages
//!      │ TxBegin ──────────► Begun                                      (prepared.rs)
//!      │ Produce, prepared ─────────────────────────────────────► parked, invisible
//!      │ local work            │ due: a plugin is asked, or Checked ──► TxCheck to a producer
//!      │ TxDecide ─────────► Decided, synced: answered
//!      │                       └── Notice: Decided ─────────────► Release or Settled, one entry
//!      │                     Done ◄── Notice: Settled, synced ─────┘
//! ```
//!
//! - The decision is one entry of one log. Nothing is visible before it is durable, everything is
//!   after it; a crash in between is made up for by saying it again until every shard has answered.
//! - In one shard all of a transaction becomes visible by one entry. Between shards there is no
//!   common instant: a reader of two may see one before the other, for as long as the notice and a
//!   sync take, or until a shard that is down is back.
//! - Whoever has prepared messages asks for the decision now and then: what came late follows the
//!   others. What no coordinator knows of waits for an operator, and is listed.
//! - Which producer is asked, and how often, is [`policy`]'s; what it says is recorded once.
//!
//! Start reading at [`Transactions`], then `coordinate.rs`, then `participate.rs`.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use yard_wire::{Epoch, Malformed, ProducerId, ShardId, TenantId, Timestamp, TxId, Wire};

use crate::bounds::{NOTICE_RETRY_MS, TX_OUTCOMES_MAX, TX_PRODUCERS_MAX};
use crate::event::SessionId;

mod ask;
mod coordinate;
mod entry;
mod members;
mod operate;
mod participate;
pub(crate) mod policy;
pub(crate) mod prepared;

pub use entry::{Notice, NoticeWhat, TxEntry, TxStep};
use members::Members;
pub use policy::{CheckAnswer, CheckFate, CheckQuestion};
use prepared::TxName;

/// A transaction that is not decided, or whose decision not every shard has carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tx {
    pub(crate) group: Arc<str>,
    pub(crate) note: Box<str>,
    pub(crate) begun: Timestamp,
    /// How often a producer was asked, or a plugin wanted to wait.
    pub(crate) checks: u16,
    /// When one is asked again; 0: not any more.
    pub(crate) next: Timestamp,
    /// Whether it was committed, once it is decided.
    pub(crate) decided: Option<bool>,
    /// Volatile: when something is done about it by itself.
    due: Timestamp,
    /// Volatile: when a plugin was asked that has not answered; 0: none.
    pub(crate) asked: Timestamp,
    /// Volatile: the shards that have not carried out the decision, a bit each; those that there
    /// are not do not count.
    missing: u64,
}

impl Tx {
    /// Nobody is asked about it any more.
    pub(crate) fn is_undecided(&self) -> bool {
        self.decided.is_none() && self.next == Timestamp(0)
    }

    /// The shards that have not carried out the decision, of so many.
    fn missing(&self, shards: u16) -> impl Iterator<Item = ShardId> + use<> {
        assert!(shards <= 64, "each has a bit");
        let missing = self.missing;
        (0..shards).filter(move |shard| missing & 1 << shard != 0).map(ShardId)
    }
}

/// What is known of a producer's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Numbers {
    epoch: Epoch,
    /// Numbers below are finished and forgotten, but for those that are still open.
    floor: u64,
    /// What became of the last ones: whether they were committed.
    outcomes: BTreeMap<u64, bool>,
    /// The same, in the order of the decisions.
    order: VecDeque<u64>,
    /// Transactions that are open, of every epoch.
    open: u32,
    /// When it last began or decided something, in entries of this table.
    used: u64,
}

/// What the numbers say about one that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It may begin.
    Fresh,
    /// It was decided: whether it was committed.
    Decided(bool),
    /// It was decided so long ago that the outcome is forgotten.
    Forgotten,
    /// A newer incarnation of the producer exists.
    Fenced(Epoch),
}

/// Open and undecided transactions of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenCounts {
    pub(crate) open: u64,
    pub(crate) undecided: u64,
}

/// The transactions that a shard coordinates.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    open: BTreeMap<TxName, Tx>,
    producers: BTreeMap<(TenantId, ProducerId), Numbers>,
    /// Producers of each tenant without an open transaction, those longest silent first.
    idle: BTreeMap<TenantId, BTreeSet<(u64, ProducerId)>>,
    /// Entries taken in so far.
    entries: u64,
    counts: BTreeMap<TenantId, OpenCounts>,
    /// When something is done by itself about which. Volatile, as all that follows.
    dues: BTreeSet<(Timestamp, TxName)>,
    members: Members,
}

impl Transactions {
    pub(crate) fn get(&self, name: TxName) -> Option<&Tx> {
        self.open.get(&name)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// A connection is gone.
    pub(crate) fn leave(&mut self, session: SessionId) {
        self.members.leave(session);
    }

    /// Those of all tenants that wait for an operator.
    pub(crate) fn undecided(&self) -> u64 {
        self.counts.values().map(|counts| counts.undecided).sum()
    }

    pub(crate) fn counts_of(&self, tenant: TenantId) -> OpenCounts {
        self.counts.get(&tenant).copied().unwrap_or_default()
    }

    /// Those of a tenant from a name on.
    pub(crate) fn from(&self, from: TxName) -> impl Iterator<Item = (TxId, &Tx)> {
        let all = self.open.range(from..).take_while(move |((tenant, _), _)| *tenant == from.0);
        all.map(|((_, tx), open)| (*tx, open))
    }

    /// What is known of a transaction that is not open.
    fn known(&self, (tenant, tx): TxName) -> Known {
        let Some(numbers) = self.producers.get(&(tenant, tx.producer)) else {
            return Known::Fresh;
        };
        match tx.epoch.cmp(&numbers.epoch) {
            std::cmp::Ordering::Less => Known::Fenced(numbers.epoch),
            std::cmp::Ordering::Greater => Known::Fresh,
            std::cmp::Ordering::Equal => match numbers.outcomes.get(&tx.number) {
                Some(commit) => Known::Decided(*commit),
                None if tx.number < numbers.floor => Known::Forgotten,
                None => Known::Fresh,
            },
        }
    }

    /// When something is to be done by itself.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.dues.first().map(|(at, _)| *at)
    }

    /// The next one that something is to be done about now.
    fn first_due(&self, now: Timestamp) -> Option<TxName> {
        self.dues.first().filter(|(at, _)| *at <= now).map(|(_, name)| *name)
    }

    /// Something is done about it then, and not at the instant before.
    fn schedule(&mut self, name: TxName, at: Option<Timestamp>) {
        let Some(tx) = self.open.get_mut(&name) else { return };
        self.dues.remove(&(tx.due, name));
        if let Some(at) = at {
            tx.due = at;
            self.dues.insert((at, name));
        }
        assert!(self.dues.len() <= self.open.len(), "what is listed is open");
    }

    /// Takes in an entry of the coordinator.
    fn apply(&mut self, name: TxName, step: &TxStep, now: Timestamp) {
        self.entries += 1;
        match step {
            TxStep::Begun { group, note, begun, next } => {
                // Nobody begins what is open, unless a damaged log has lost its end.
                if self.open.contains_key(&name) {
                    return;
                }
                let tx = Tx {
                    group: group.as_str().into(),
                    note: note.as_str().into(),
                    begun: *begun,
                    checks: 0,
                    next: *next,
                    decided: None,
                    due: Timestamp(0),
                    asked: Timestamp(0),
                    missing: u64::MAX,
                };
                let counts = self.counts.entry(name.0).or_default();
                counts.open += 1;
                counts.undecided += u64::from(tx.is_undecided());
                self.began(name);
                let asked_at = (!tx.is_undecided()).then_some(*next);
                self.open.insert(name, tx);
                self.schedule(name, asked_at);
            }
            TxStep::Checked { checks, next } => {
                let Some(tx) = self.open.get_mut(&name) else { return };
                assert!(tx.decided.is_none(), "nobody asks about what is decided");
                let was_undecided = tx.is_undecided();
                (tx.checks, tx.next) = (*checks, *next);
                let is_undecided = tx.is_undecided();
                let counts = self.counts.get_mut(&name.0).expect("it was counted");
                counts.undecided += u64::from(is_undecided);
                counts.undecided -= u64::from(was_undecided);
                if is_undecided {
                    let group = tx.group.clone();
                    self.members.forget_stranded((name.0, group), name);
                }
                self.schedule(name, (!is_undecided).then_some(*next));
            }
            TxStep::Decided { commit } => {
                if let Some(tx) = self.open.get_mut(&name) {
                    if tx.is_undecided() {
                        self.counts.get_mut(&name.0).expect("it was counted").undecided -= 1;
                    }
                    tx.decided = Some(*commit);
                    let group = tx.group.clone();
                    self.members.forget_stranded((name.0, group), name);
                    self.schedule(name, Some(now.plus_ms(NOTICE_RETRY_MS)));
                }
                self.note_outcome(name, *commit);
            }
            TxStep::Done => self.done(name),
            TxStep::Settled { .. } => unreachable!("a participant's entry"),
        }
    }

    fn began(&mut self, (tenant, tx): TxName) {
        let key = (tenant, tx.producer);
        let numbers = self.producers.entry(key).or_default();
        if let Some(idle) = self.idle.get_mut(&tenant) {
            idle.remove(&(numbers.used, tx.producer));
        }
        if tx.epoch > numbers.epoch {
            let open = numbers.open;
            *numbers = Numbers { epoch: tx.epoch, open, ..Numbers::default() };
        }
        numbers.open += 1;
        numbers.used = self.entries;
        assert!(numbers.epoch >= tx.epoch, "the newest incarnation is known");
    }

    fn note_outcome(&mut self, (tenant, tx): TxName, commit: bool) {
        let Some(numbers) = self.producers.get_mut(&(tenant, tx.producer)) else { return };
        if numbers.epoch != tx.epoch || numbers.outcomes.insert(tx.number, commit).is_some() {
            return;
        }
        numbers.order.push_back(tx.number);
        if numbers.order.len() > TX_OUTCOMES_MAX {
            let oldest = numbers.order.pop_front().expect("there are more than may be");
            numbers.outcomes.remove(&oldest);
            numbers.floor = numbers.floor.max(oldest.saturating_add(1));
        }
        assert_eq!(numbers.order.len(), numbers.outcomes.len(), "each outcome has its turn");
    }

    fn done(&mut self, name: TxName) {
        self.schedule(name, None);
        if self.open.remove(&name).is_none() {
            return;
        }
        let (tenant, tx) = name;
        let counts = self.counts.get_mut(&tenant).expect("it was counted");
        assert!(counts.open > counts.undecided, "what is done was decided");
        counts.open -= 1;
        if *counts == OpenCounts::default() {
            self.counts.remove(&tenant);
        }
        let numbers = self.producers.get_mut(&(tenant, tx.producer)).expect("it has begun one");
        assert!(numbers.open > 0, "what is done was open");
        numbers.open -= 1;
        numbers.used = self.entries;
        if numbers.open == 0 {
            let idle = self.idle.entry(tenant).or_default();
            idle.insert((numbers.used, tx.producer));
            if idle.len() > TX_PRODUCERS_MAX {
                let (_, silent) = idle.pop_first().expect("there are more than may be");
                self.producers.remove(&(tenant, silent));
            }
        }
    }

    pub(crate) fn check(&self) {
        let mut counts: BTreeMap<TenantId, OpenCounts> = BTreeMap::new();
        let mut open: BTreeMap<(TenantId, ProducerId), u32> = BTreeMap::new();
        for ((tenant, tx), it) in &self.open {
            let counted = counts.entry(*tenant).or_default();
            counted.open += 1;
            counted.undecided += u64::from(it.is_undecided());
            *open.entry((*tenant, tx.producer)).or_default() += 1;
            let listed = self.dues.contains(&(it.due, (*tenant, *tx)));
            assert_eq!(listed, !it.is_undecided(), "what is open is listed by its instant");
        }
        assert_eq!(counts, self.counts, "open transactions are counted");
        assert!(self.dues.len() <= self.open.len(), "what is listed is open");
        for ((tenant, id), numbers) in &self.producers {
            assert_eq!(numbers.open, open.remove(&(*tenant, *id)).unwrap_or(0), "each is counted");
            let idle = self.idle.get(tenant).is_some_and(|it| it.contains(&(numbers.used, *id)));
            assert_eq!(idle, numbers.open == 0, "who has none open is idle");
        }
        assert!(open.is_empty(), "who has begun one is known");
        self.members.check();
    }
}

/// `u64` entries, then a list of the open ones: tenant, name, group, note, begun, checks, next,
/// decision; then a list of the producers: tenant, id, epoch, floor, outcomes in the order of the
/// decisions, used.
impl Wire for Transactions {
    fn put(&self, out: &mut Vec<u8>) {
        self.entries.put(out);
        (self.open.len() as u32).put(out);
        for ((tenant, name), tx) in &self.open {
            tenant.put(out);
            name.put(out);
            tx.group.to_string().put(out);
            tx.note.put(out);
            tx.begun.put(out);
            tx.checks.put(out);
            tx.next.put(out);
            tx.decided.put(out);
        }
        (self.producers.len() as u32).put(out);
        for ((tenant, id), numbers) in &self.producers {
            tenant.put(out);
            id.put(out);
            numbers.epoch.put(out);
            numbers.floor.put(out);
            let outcome = |number: &u64| (*number, numbers.outcomes[number]);
            numbers.order.iter().map(outcome).collect::<Vec<(u64, bool)>>().put(out);
            numbers.used.put(out);
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut table = Self { entries: u64::take(input)?, ..Self::default() };
        for _ in 0..u32::take(input)? {
            let name = (TenantId::take(input)?, TxId::take(input)?);
            let tx = Tx {
                group: String::take(input)?.into(),
                note: <Box<str> as Wire>::take(input)?,
                begun: Timestamp::take(input)?,
                checks: u16::take(input)?,
                next: Timestamp::take(input)?,
                decided: <Option<bool> as Wire>::take(input)?,
                // Every decision is told again, and at once.
                due: Timestamp(0),
                asked: Timestamp(0),
                missing: u64::MAX,
            };
            let counts = table.counts.entry(name.0).or_default();
            counts.open += 1;
            counts.undecided += u64::from(tx.is_undecided());
            let at = if tx.decided.is_some() { Timestamp(0) } else { tx.next };
            let is_listed = !tx.is_undecided();
            if table.open.insert(name, tx).is_some() {
                return Err(Malformed::Field { what: "transaction", value: name.1.number });
            }
            table.schedule(name, is_listed.then_some(at));
        }
        let mut began: BTreeMap<(TenantId, ProducerId), u32> = BTreeMap::new();
        for (tenant, tx) in table.open.keys() {
            *began.entry((*tenant, tx.producer)).or_default() += 1;
        }
        for _ in 0..u32::take(input)? {
            let key = (TenantId::take(input)?, ProducerId::take(input)?);
            let (epoch, floor) = (Epoch::take(input)?, u64::take(input)?);
            let outcomes = Vec::<(u64, bool)>::take(input)?;
            let order: VecDeque<u64> = outcomes.iter().map(|(number, _)| *number).collect();
            let outcomes: BTreeMap<u64, bool> = outcomes.into_iter().collect();
            let used = u64::take(input)?;
            if order.len() != outcomes.len() || table.producers.contains_key(&key) {
                return Err(Malformed::Field { what: "producer", value: key.1.0 });
            }
            let open = began.remove(&key).unwrap_or(0);
            if open == 0 {
                table.idle.entry(key.0).or_default().insert((used, key.1));
            }
            table.producers.insert(key, Numbers { epoch, floor, outcomes, order, open, used });
        }
        if let Some((_, id)) = began.keys().next() {
            return Err(Malformed::Field { what: "producer of a transaction", value: id.0 });
        }
        Ok(table)
    }
}
