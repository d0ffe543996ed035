//! The invariants of the broker's state, each where it can be seen.
use std::collections::BTreeMap;

use yard_wire::TenantId;

use crate::bounds::{SIZED_GROUPS_MAX, events_until_check};
use crate::broker::Broker;

impl Broker {
    /// Looks at the whole state.
    ///
    /// # Panics
    /// When the state contradicts itself: a mistake of this crate, never of a client.
    pub fn check(&self) {
        assert!(self.config.shard.0 < self.config.shards, "the shard is one of the shards");
        self.meta.check();
        self.producers.check();
        self.groups.check();
        self.timers.check();
        self.transactions.check();
        self.windows.check();
        self.settled_keys.check();
        for ends in self.ends.values() {
            assert!(ends.first <= ends.end, "a queue does not end before it begins");
        }
        self.check_counts();
        self.check_subscriptions();
        self.check_flights();
        self.burials.check();
        self.drains.check();
        for (id, queue) in self.burials.queues() {
            let state = self.groups.get(id).and_then(|group| group.queues.get(&queue));
            let doomed = state.map_or(0, |state| state.progress.returned().doomed_count());
            assert!(doomed > 0, "a queue is listed while it has something to bury");
        }
    }

    /// An event was worked on: looks at the whole state now and then.
    pub(crate) fn check_in_time(&mut self) {
        if self.events >= self.checked_at {
            self.check();
            self.checked_at = self.events + events_until_check(self.size());
        }
    }

    fn check_counts(&self) {
        let mut counted: BTreeMap<TenantId, usize> = BTreeMap::new();
        for (_, group) in self.groups.iter() {
            *counted.entry(group.tenant).or_default() += self.queue_count_here(group.topic);
        }
        for (tenant, queues) in counted {
            assert_eq!(self.groups.queue_count_of(tenant), queues, "queues are counted");
        }
    }

    fn check_subscriptions(&self) {
        let listed: usize = self.sessions.values().map(|held| held.len()).sum();
        assert_eq!(listed, self.subscriptions.len(), "a subscription is one session's");
        let mut members = 0;
        for (id, group) in self.groups.iter() {
            group.check_members();
            for (subscription, member) in group.live.iter().flat_map(|live| &live.members) {
                let known = self.subscriptions.get(subscription);
                assert_eq!(known, Some(&(member.session, id)), "a member is a subscription");
                members += 1;
            }
        }
        assert_eq!(members, self.subscriptions.len(), "a subscription is a member");
    }

    fn check_flights(&self) {
        let (mut due, mut asked) = (0, 0);
        for (id, group) in self.groups.iter() {
            group.check_claims();
            for (queue, state) in &group.queues {
                state.progress.check();
                let Some(flight) = &state.flight else {
                    continue;
                };
                let ends = self.ends_of(group.topic, *queue);
                flight.check(&state.progress, ends.first, ends.end);
                assert_eq!(flight.listed_due, flight.next_due(), "what is due is listed");
                if let Some(at) = flight.listed_due {
                    assert!(self.dues.contains(&(at, id, *queue)), "what is due is listed");
                    due += 1;
                }
                if let Some(question) = flight.asked {
                    let known = self.tickets.get(&question.ticket);
                    assert_eq!(known, Some(&(id, *queue)), "a question is listed");
                    asked += 1;
                }
            }
        }
        assert_eq!(due, self.dues.len(), "what is listed is due");
        assert_eq!(asked, self.tickets.len(), "what is listed was asked");
    }

    /// What looking at the whole state costs, roughly, in things to look at.
    fn size(&self) -> u64 {
        let tables = self.meta.topic_count() + self.producers.len() + self.ends.len();
        let parked = self.timers.len() + self.timers.prepared.len() + self.transactions.len();
        let keys = self.windows.len() + self.settled_keys.len();
        let named = self.groups.len() + self.subscriptions.len() + keys;
        let mut size = (tables + named + parked) as u64;
        for (_, group) in self.groups.iter().take(SIZED_GROUPS_MAX) {
            for state in group.queues.values() {
                size += 1 + state.progress.returned().len() as u64;
                size += state.progress.settled().ranges() as u64;
                size += state.flight.as_ref().map_or(0, |flight| flight.leases.len() as u64);
            }
        }
        size
    }
}
