//! The coordinator: begins transactions, asks about them, records what is decided and sees to it
//! that every shard carries it out.
use std::sync::Arc;

use yard_wire::limits::TX_NOTE_BYTES_MAX;
use yard_wire::request::Reply;
use yard_wire::requests::{
    JoinProducers, JoinedProducers, TxBegin, TxBegun, TxCheck, TxDecide, TxDecided, TxVerdict,
};
use yard_wire::{ShardId, TenantId, Timestamp, TxId};

use super::entry::{Notice, NoticeWhat, TxEntry, TxStep};
use super::policy::{self, Fate, Question};
use super::prepared::TxName;
use super::{Known, Transactions};
use crate::bounds::{
    JOINED_GROUPS_MAX, NOTICE_RETRY_MS, TICK_TX_MAX, TX_OPEN_MAX, TX_OPEN_OF_TENANT_MAX,
};
use crate::broker::Broker;
use crate::effect::{Effect, Then};
use crate::entry::Entry;
use crate::event::Origin;
use crate::refusal::{BadArgument, LimitReached, TxError};

pub(super) fn entry((tenant, tx): TxName, step: TxStep) -> Entry {
    Entry::Tx { tenant, entry: TxEntry { tx, step } }
}

impl Transactions {
    /// Whether somebody may begin this one; `false`: it has begun already, by the same.
    fn check_begin(&self, name: TxName, group: &str) -> Result<bool, TxError> {
        let tx = name.1;
        if let Some(open) = self.get(name) {
            return match open.decided {
                _ if *open.group != *group => Err(TxError::Foreign(tx)),
                Some(committed) => Err(TxError::Finished { tx, committed }),
                None => Ok(false),
            };
        }
        match self.known(name) {
            Known::Fresh => {}
            Known::Decided(committed) => return Err(TxError::Finished { tx, committed }),
            Known::Forgotten => return Err(TxError::Stale(tx)),
            Known::Fenced(known) => return Err(TxError::Fenced { known }),
        }
        let reached =
            |what: &'static str, max: usize| Err(TxError::LimitReached(LimitReached { what, max }));
        if self.counts_of(name.0).open >= TX_OPEN_OF_TENANT_MAX as u64 {
            return reached("open transactions of the tenant in a shard", TX_OPEN_OF_TENANT_MAX);
        }
        if self.len() >= TX_OPEN_MAX {
            return reached("open transactions in a shard", TX_OPEN_MAX);
        }
        Ok(true)
    }

    /// Whether a decision may be recorded; `false`: the same was decided before.
    fn check_decide(&self, name: TxName, commit: bool) -> Result<bool, TxError> {
        let tx = name.1;
        let decided = match self.get(name) {
            Some(open) => open.decided,
            None => match self.known(name) {
                Known::Decided(committed) => Some(committed),
                Known::Fresh => return Err(TxError::Unknown(tx)),
                Known::Forgotten => return Err(TxError::Stale(tx)),
                Known::Fenced(known) => return Err(TxError::Fenced { known }),
            },
        };
        match decided {
            None => Ok(true),
            Some(committed) if committed == commit => Ok(false),
            Some(committed) => Err(TxError::Finished { tx, committed }),
        }
    }

    /// Whether who asks may decide about it: of its group, and not of an earlier incarnation of its
    /// producer unless it was asked.
    fn check_decider(&self, name: TxName, request: &TxDecide) -> Result<(), TxError> {
        let Some(open) = self.get(name) else { return Ok(()) };
        if *open.group != *request.group {
            return Err(TxError::Foreign(name.1));
        }
        if request.check > open.checks {
            return Err(TxError::Stale(name.1));
        }
        let newest = self.producers.get(&(name.0, name.1.producer)).map(|it| it.epoch);
        match newest.filter(|newest| *newest > name.1.epoch && request.check == 0) {
            Some(known) => Err(TxError::Fenced { known }),
            None => Ok(()),
        }
    }
}

impl Broker {
    pub(crate) fn join_producers(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: JoinProducers,
        effects: &mut Vec<Effect>,
    ) -> Result<(), TxError> {
        self.check_here(request.shard).map_err(TxError::NotHere)?;
        yard_wire::name::check(&request.group).map_err(TxError::BadName)?;
        let group = (tenant, Arc::from(request.group));
        let members = &mut self.transactions.members;
        let is_new = !members.is_member(origin.session, &group);
        if is_new && members.count_of(origin.session) >= JOINED_GROUPS_MAX {
            let what = "producer groups of a connection";
            return Err(TxError::LimitReached(LimitReached { what, max: JOINED_GROUPS_MAX }));
        }
        for name in members.join(origin.session, group) {
            yard_wire::mark!(TxTakenUp);
            self.transactions.schedule(name, Some(self.now));
        }
        let reply = Reply::JoinProducers(JoinedProducers {});
        effects.push(Effect::Reply { origin, result: Ok(reply) });
        Ok(())
    }

    pub(crate) fn tx_begin(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: TxBegin,
        effects: &mut Vec<Effect>,
    ) -> Result<(), TxError> {
        let TxBegin { tx, group, note } = request;
        self.check_here(tx.coordinator).map_err(TxError::NotHere)?;
        yard_wire::name::check(&group).map_err(TxError::BadName)?;
        if note.len() > TX_NOTE_BYTES_MAX {
            let detail =
                format!("a note of {} bytes, the limit is {TX_NOTE_BYTES_MAX}", note.len());
            return Err(TxError::BadArgument(BadArgument(detail)));
        }
        let name = (tenant, tx);
        let reply = Reply::TxBegin(TxBegun {});
        if !self.transactions.check_begin(name, &group)? {
            yard_wire::mark!(TxBegunAgain);
            Self::reply_durable(origin, reply, effects);
            return Ok(());
        }
        let begun = self.now;
        let has_plugin = self.meta.check_plugin(tenant, &group).is_some();
        let next = policy::first(&self.meta.checks(tenant, &group), has_plugin, begun);
        if next > Timestamp(0) {
            self.wake(next);
        }
        let entry = entry(name, TxStep::Begun { group, note, begun, next });
        effects.push(Effect::Append { entry, then: vec![Then::Reply { origin, reply }] });
        Ok(())
    }

    pub(crate) fn tx_decide(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: &TxDecide,
        effects: &mut Vec<Effect>,
    ) -> Result<(), TxError> {
        let verdict = request.verdict;
        self.check_here(request.tx.coordinator).map_err(TxError::NotHere)?;
        let name = (tenant, request.tx);
        self.transactions.check_decider(name, request)?;
        let reply = Reply::TxDecide(TxDecided { verdict });
        let commit = match verdict {
            TxVerdict::Commit => true,
            TxVerdict::Rollback => false,
            TxVerdict::Unknown => {
                effects.push(Effect::Reply { origin, result: Ok(reply) });
                return Ok(());
            }
        };
        if self.must_decide(name, commit)? {
            self.append_decision(name, commit, Some((origin, reply)), effects);
        } else {
            yard_wire::mark!(TxDecidedAgain);
            Self::reply_durable(origin, reply, effects);
        }
        Ok(())
    }

    /// Whether a decision is to be recorded; `false`: the same was decided before.
    pub(super) fn must_decide(&self, name: TxName, commit: bool) -> Result<bool, TxError> {
        self.transactions.check_decide(name, commit)
    }

    /// Records a decision. When it is durable whoever asked for it is answered, if anybody did,
    /// then every shard is told.
    pub(crate) fn append_decision(
        &mut self,
        name: TxName,
        commit: bool,
        answer: Option<(Origin, Reply)>,
        effects: &mut Vec<Effect>,
    ) {
        let open = self.transactions.get(name);
        assert!(open.is_some_and(|open| open.decided.is_none()), "a decision is made once");
        let notice = self.notice(name, NoticeWhat::Decided { commit });
        let tell = (0..self.config.shards).map(|to| Then::Notify { to: ShardId(to), notice });
        let answer = answer.map(|(origin, reply)| Then::Reply { origin, reply });
        let then = answer.into_iter().chain(tell).collect();
        effects.push(Effect::Append { entry: entry(name, TxStep::Decided { commit }), then });
        self.wake(self.now.plus_ms(NOTICE_RETRY_MS));
    }

    pub(super) fn notice(&self, (tenant, tx): TxName, what: NoticeWhat) -> Notice {
        Notice { tenant, tx, from: self.config.shard, what }
    }

    /// Does what is due: asks producers, tells decisions again, asks coordinators.
    pub(crate) fn tick_transactions(&mut self, effects: &mut Vec<Effect>) {
        for _ in 0..TICK_TX_MAX {
            let Some(name) = self.transactions.first_due(self.now) else { break };
            // Also where what follows cannot be recorded.
            let again = self.now.plus_ms(NOTICE_RETRY_MS);
            self.transactions.schedule(name, Some(again));
            let tx = self.transactions.get(name).expect("what is listed is open");
            match tx.decided {
                Some(commit) => self.tell_again(name, commit, effects),
                None => self.look_at_open(name, effects),
            }
        }
        self.ask_coordinators(effects);
    }

    fn tell_again(&self, name: TxName, commit: bool, effects: &mut Vec<Effect>) {
        let tx = self.transactions.get(name).expect("the caller has it");
        yard_wire::mark!(TxToldAgain);
        let notice = self.notice(name, NoticeWhat::Decided { commit });
        let before = effects.len();
        let missing = tx.missing(self.config.shards);
        effects.extend(missing.map(|to| Effect::Notify { to, notice }));
        if effects.len() == before {
            effects.push(Effect::Append { entry: entry(name, TxStep::Done), then: Vec::new() });
        }
    }

    /// Asks a producer about a transaction, by the settings of its group alone.
    pub(super) fn check_producer(&mut self, name: TxName, effects: &mut Vec<Effect>) {
        let (tenant, id) = name;
        let tx = self.transactions.get(name).expect("the caller has it");
        let (checks, begun, note) = (tx.checks, tx.begun, tx.note.to_string());
        let group = (tenant, tx.group.clone());
        let settings = self.meta.checks(tenant, &group.1);
        let session = self.transactions.members.next(&group);
        let (now, has_producer) = (self.now, session.is_some());
        match (policy::decide(&settings, Question { now, checks, has_producer }), session) {
            (Fate::Ask { next }, Some(session)) => {
                let (check, group) = (checks + 1, group.1.to_string());
                yard_wire::mark!(TxProducerAsked);
                Self::append_checked(name, check, next, effects);
                let check = TxCheck { tx: id, group, check, begun, note };
                effects.push(Effect::TxCheck { session, check });
                self.wake(next);
            }
            (Fate::Ask { next } | Fate::Wait { next }, _) => {
                yard_wire::mark!(TxStranded);
                self.transactions.members.strand(group, name);
                self.transactions.schedule(name, Some(next));
            }
            (Fate::Park, _) => {
                yard_wire::mark!(TxParked);
                Self::append_checked(name, checks, Timestamp(0), effects);
            }
        }
    }

    /// Records that a transaction was looked at, and when it is again.
    pub(super) fn append_checked(
        name: TxName,
        checks: u16,
        next: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let step = TxStep::Checked { checks, next };
        effects.push(Effect::Append { entry: entry(name, step), then: Vec::new() });
    }

    /// Another shard, or this one, says something about a transaction.
    pub(crate) fn noticed(&mut self, notice: Notice, effects: &mut Vec<Effect>) {
        let Notice { tenant, tx, from, what } = notice;
        let name = (tenant, tx);
        match what {
            NoticeWhat::Decided { commit } => self.carry_out(name, commit, effects),
            NoticeWhat::Unknown => {
                yard_wire::mark!(TxOrphaned);
                self.timers.prepared.is_orphan_now(name);
            }
            NoticeWhat::Asked => self.answer_shard(name, from, effects),
            NoticeWhat::Settled => {
                let shards = self.config.shards;
                assert!(from.0 < shards, "a shard is one of the shards");
                assert_eq!(tx.coordinator, self.config.shard, "its coordinator is told");
                let open = self.transactions.open.get_mut(&name);
                let Some(open) = open.filter(|open| open.decided.is_some()) else {
                    yard_wire::mark!(TxSettledTwice);
                    return;
                };
                open.missing &= !(1 << from.0);
                if open.missing(shards).next().is_none() {
                    let entry = entry(name, TxStep::Done);
                    effects.push(Effect::Append { entry, then: Vec::new() });
                }
            }
        }
    }

    /// A shard with messages of a transaction wants to know what became of it.
    fn answer_shard(&self, name: TxName, to: ShardId, effects: &mut Vec<Effect>) {
        let decided = match self.transactions.get(name) {
            Some(open) if open.decided.is_none() => {
                yard_wire::mark!(TxAskedEarly);
                return;
            }
            Some(open) => open.decided,
            None => match self.transactions.known(name) {
                Known::Decided(commit) => Some(commit),
                Known::Fresh | Known::Forgotten | Known::Fenced(_) => {
                    yard_wire::mark!(TxAskedUnknown);
                    None
                }
            },
        };
        let what = decided.map_or(NoticeWhat::Unknown, |commit| NoticeWhat::Decided { commit });
        effects.push(Effect::Notify { to, notice: self.notice(name, what) });
    }

    /// Takes in an entry about a transaction.
    pub(crate) fn apply_tx(&mut self, tenant: TenantId, entry: &TxEntry) {
        let name: TxName = (tenant, entry.tx);
        match entry.step {
            TxStep::Settled { commit } => self.timers.settle(name, commit, &[]),
            TxStep::Begun { .. }
            | TxStep::Checked { .. }
            | TxStep::Decided { .. }
            | TxStep::Done => self.transactions.apply(name, &entry.step, self.now),
        }
    }

    /// Whether this shard coordinates a transaction and does not know it.
    pub(super) fn is_unknown_here(&self, name: TxName) -> bool {
        let TxId { coordinator, .. } = name.1;
        coordinator == self.config.shard
            && self.transactions.get(name).is_none()
            && !matches!(self.transactions.known(name), Known::Decided(_))
    }
}
