//! Features of messages and groups that few runs have. Each is drawn from numbers of its own, and
//! after everything else: runs without it are what they were.
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::requests::AckPlace;
use yard_wire::share::Share;

use super::{Fault, Plan};
use crate::random::Random;

/// Members of groups in which every member gets every message are numbered from multiples of this.
const MEMBERS: u64 = 100;

/// The number of a member of a group in which every member gets every message.
#[must_use]
pub(crate) fn member_of(group: u64, member: u64) -> u64 {
    group + MEMBERS * (member + 1)
}

/// The group with this number, and which member of it, if it is one of a member.
#[must_use]
pub(crate) fn base_of(number: u64) -> (u64, Option<u64>) {
    (number % MEMBERS, (number / MEMBERS % MEMBERS).checked_sub(1))
}

/// Leases that are extended last so long at most.
const LEASE_KEPT_MS: u32 = 2_000;

impl Plan {
    /// The numbers of all groups that the broker knows.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let shared = (0..self.groups).filter(|group| !self.broadcast.contains(group));
        let of_members = self.consumers.iter().map(|consumer| consumer.group);
        shared.chain(of_members).collect::<BTreeSet<u64>>().into_iter().collect()
    }

    /// Whether a group compares messages.
    pub(crate) fn compares(&self, group: u64) -> bool {
        self.compares[base_of(group).0 as usize]
    }

    /// Producers of messages that choose their queues by a priority.
    pub(super) fn draw_priorities(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5052_494f_5249_5459);
        if !random.percent(20) {
            return;
        }
        for producer in &mut self.producers {
            producer.prioritised = random.pick(&[0, 30, 80]);
        }
    }

    /// Producers of messages whose bodies are packed.
    pub(super) fn draw_packing(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5041_434b_4544_2e2e);
        if !random.percent(20) {
            return;
        }
        for producer in &mut self.producers {
            producer.packed = random.pick(&[0, 30, 90]);
        }
    }

    /// Producers whose transactions are none of each other's business.
    pub(super) fn draw_tx_groups(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5458_4752_4f55_5053);
        if !self.has_transactions() || !random.percent(40) {
            return;
        }
        self.tx_groups = random.range(2, 3);
        for producer in &mut self.producers {
            producer.tx_group = random.below(self.tx_groups);
        }
    }

    /// Consumers that work on some messages for longer than their leases last.
    pub(super) fn draw_keeping(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4b45_4550_494e_472e);
        if !random.percent(20) {
            return;
        }
        for consumer in &mut self.consumers {
            let percent = random.pick(&[0, 3, 15]);
            // Longer ones last for the whole run.
            consumer.keeps_percent = if consumer.lease_ms <= LEASE_KEPT_MS { percent } else { 0 };
        }
    }

    /// Messages of which somebody wants to know the lives.
    pub(super) fn draw_lives(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4c49_5645_532e_2e2e);
        if random.percent(15) {
            self.lives = random.range(2, 8) as usize;
            self.trace_share = random.pick(&[Share::WHOLE, Share::WHOLE, Share(300_000)]);
        }
    }

    /// Producers that have a name under which they go on.
    pub(super) fn draw_identities(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4944_454e_5449_5459);
        if !random.percent(20) {
            return;
        }
        for producer in &mut self.producers {
            producer.reborn = random.pick(&[0, 5, 25]);
            if producer.reborn > 0 {
                // Of what is acknowledged earlier a crash may take some that count.
                producer.place = AckPlace::Synced;
                // What a process has left open, its group decides; here it is all of one series.
                producer.transactional = 0;
            }
        }
    }

    /// Groups that are removed, and made again.
    pub(super) fn draw_removals(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5245_4d4f_5641_4c53);
        // Where a group's messages are passed on it cannot be removed.
        if !random.percent(12) || self.wide_queues > 0 {
            return;
        }
        let groups = self.numbers();
        for _ in 0..random.range(1, 2) {
            let at = random.range(0, self.heal_at - 1);
            let (group, latest) = (random.pick(&groups), random.percent(35));
            self.faults.push((at, Fault::Remove { group, latest }));
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Whether groups are removed in the run.
    pub(crate) fn has_removals(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Remove { .. }))
    }

    /// Whether the broker's clock is behind time for as long as the run lasts, if it is not right:
    /// then what it says of times that come is not too early.
    pub(crate) fn is_clock_late(&self) -> bool {
        let is_ahead = |(_, fault): &(_, Fault)| matches!(fault, Fault::Clock { by_ms: 1.. });
        self.drift_ppm <= 0 && !self.faults.iter().any(is_ahead)
    }

    /// Groups of which every member gets every message. There are as many deliveries, of fewer
    /// messages.
    pub(super) fn draw_broadcast(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4252_4f41_4443_4153);
        if !random.percent(12) {
            return;
        }
        let before = 12 + 14 * self.numbers().len() as u64;
        self.broadcast = (0..self.groups).filter(|_| random.percent(70)).collect();
        let drops: Vec<bool> = (0..self.groups).map(|_| random.percent(40)).collect();
        let mut members: BTreeMap<(u64, u32), u64> = BTreeMap::new();
        for consumer in &mut self.consumers {
            let group = consumer.group;
            if self.broadcast.contains(&group) {
                let member = members.entry((group, consumer.topic)).or_default();
                consumer.group = member_of(group, *member);
                consumer.drops_failed = drops[group as usize];
                *member += 1;
            }
        }
        let after = 12 + 14 * self.numbers().len() as u64;
        for producer in &mut self.producers {
            producer.messages = (producer.messages * before / after).max(1);
        }
        for (_, fault) in &mut self.faults {
            if let Fault::Drain { group } | Fault::Return { group } = fault
                && self.broadcast.contains(group)
            {
                *group = member_of(*group, 0);
            }
        }
    }

    /// Producers of messages that nobody wants after a while.
    pub(super) fn draw_expiry(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4558_5049_5245_532e);
        if !random.percent(20) {
            return;
        }
        for producer in &mut self.producers {
            producer.expiring = random.pick(&[0, 20, 60]);
        }
    }
}
