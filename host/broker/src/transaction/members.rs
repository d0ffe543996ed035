//! The producers of each group that can be asked about open transactions. Volatile: they say so
//! again when they connect.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use yard_wire::TenantId;

use super::prepared::TxName;
use crate::event::SessionId;

/// A producer group.
pub(super) type Group = (TenantId, Arc<str>);

#[derive(Debug, Default)]
struct Producers {
    sessions: Vec<SessionId>,
    /// Transactions for which nobody was there when they were due.
    stranded: BTreeSet<TxName>,
}

/// Who can be asked.
#[derive(Debug, Default)]
pub(super) struct Members {
    groups: BTreeMap<Group, Producers>,
    sessions: BTreeMap<SessionId, BTreeSet<Group>>,
    /// They are asked in turn, so that one that says nothing holds nobody up.
    turn: usize,
}

impl Members {
    /// Groups that a connection produces for.
    pub(super) fn count_of(&self, session: SessionId) -> usize {
        self.sessions.get(&session).map_or(0, BTreeSet::len)
    }

    pub(super) fn is_member(&self, session: SessionId, group: &Group) -> bool {
        self.sessions.get(&session).is_some_and(|groups| groups.contains(group))
    }

    /// A connection is one of a group's producers. Gives what has waited for one.
    pub(super) fn join(&mut self, session: SessionId, group: Group) -> BTreeSet<TxName> {
        let is_new = self.sessions.entry(session).or_default().insert(group.clone());
        let producers = self.groups.entry(group).or_default();
        if is_new {
            producers.sessions.push(session);
        }
        assert!(producers.sessions.contains(&session), "a member can be asked");
        std::mem::take(&mut producers.stranded)
    }

    /// A connection is gone.
    pub(super) fn leave(&mut self, session: SessionId) {
        for group in self.sessions.remove(&session).unwrap_or_default() {
            let producers = self.groups.get_mut(&group).expect("a member's group is known");
            let before = producers.sessions.len();
            producers.sessions.retain(|other| *other != session);
            assert_eq!(producers.sessions.len() + 1, before, "a member is listed once");
            self.forget_if_empty(&group);
        }
    }

    fn forget_if_empty(&mut self, group: &Group) {
        let is_empty = |it: &Producers| it.sessions.is_empty() && it.stranded.is_empty();
        if self.groups.get(group).is_some_and(is_empty) {
            self.groups.remove(group);
        }
    }

    /// Whose turn it is to be asked.
    pub(super) fn next(&mut self, group: &Group) -> Option<SessionId> {
        let sessions = &self.groups.get(group)?.sessions;
        if sessions.is_empty() {
            return None;
        }
        self.turn = self.turn.wrapping_add(1);
        Some(sessions[self.turn % sessions.len()])
    }

    /// Nobody is there to be asked about it.
    pub(super) fn strand(&mut self, group: Group, name: TxName) {
        assert_eq!(group.0, name.0, "a group and its transactions are one tenant's");
        self.groups.entry(group).or_default().stranded.insert(name);
    }

    /// Nobody needs to be asked about it any more.
    pub(super) fn forget_stranded(&mut self, group: Group, name: TxName) {
        if let Some(producers) = self.groups.get_mut(&group) {
            producers.stranded.remove(&name);
            self.forget_if_empty(&group);
        }
    }

    pub(super) fn check(&self) {
        let listed: usize = self.sessions.values().map(BTreeSet::len).sum();
        let members: usize = self.groups.values().map(|it| it.sessions.len()).sum();
        assert_eq!(listed, members, "a member is listed by its session");
    }
}
