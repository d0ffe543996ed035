//! Whose each queue is, in a group whose members have queues of their own.
//!
//! ```text
//!   members change ──► wanted: whose each queue shall be, the least moved
//!   owner ≠ wanted ──► nobody gets anything of the queue while something of it is leased
//! ```
use std::collections::BTreeMap;

use yard_wire::{QueueIndex, SubscriptionId};

/// One queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Who has got messages of it last.
    owner: SubscriptionId,
    /// Whose it shall be.
    wanted: SubscriptionId,
}

/// The queues of a shard and their members.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    places: BTreeMap<QueueIndex, Place>,
}

impl Owners {
    /// Shares the queues out: each member gets as many as any other or one more, and keeps what it
    /// has as far as that goes. `members` in the order of their names; those that have one more
    /// begin in each shard, `turn`, where they ended in the one before, as far as shards are alike.
    pub(crate) fn share(&mut self, members: &[SubscriptionId], queues: &[QueueIndex], turn: usize) {
        assert!(!members.is_empty(), "somebody is there");
        let (each, more) = (queues.len() / members.len(), queues.len() % members.len());
        let first = turn * more % members.len();
        let mut left: BTreeMap<SubscriptionId, usize> = BTreeMap::new();
        for (at, member) in members.iter().enumerate() {
            let place = (at + members.len() - first) % members.len();
            left.insert(*member, each + usize::from(place < more));
        }
        let mut wanted: BTreeMap<QueueIndex, SubscriptionId> = BTreeMap::new();
        for queue in queues {
            let Some(place) = self.places.get(queue) else { continue };
            // Whoever has it keeps it rather than whoever was to get it.
            for keeper in [place.owner, place.wanted] {
                if let Some(room) = left.get_mut(&keeper).filter(|room| **room > 0) {
                    *room -= 1;
                    wanted.insert(*queue, keeper);
                    break;
                }
            }
        }
        let mut open = members.iter().flat_map(|it| std::iter::repeat_n(*it, left[it]));
        for queue in queues {
            let wanted = wanted.get(queue).copied().or_else(|| open.next());
            let wanted = wanted.expect("there is room for every queue");
            let place = self.places.entry(*queue).or_insert(Place { owner: wanted, wanted });
            place.wanted = wanted;
        }
        assert_eq!(open.next(), None, "every member has its share");
    }

    /// Who may be given messages of a queue; `is_free`: nothing of it is in anybody's hands.
    pub(crate) fn taker(&mut self, queue: QueueIndex, is_free: bool) -> Option<SubscriptionId> {
        let place = self.places.get_mut(&queue)?;
        if is_free && place.owner != place.wanted {
            yard_wire::mark!(QueueHandedOver);
            place.owner = place.wanted;
        }
        (place.owner == place.wanted).then_some(place.owner)
    }

    /// Whether a queue goes from one member to another.
    pub(crate) fn is_moving(&self, queue: QueueIndex) -> bool {
        self.places.get(&queue).is_some_and(|place| place.owner != place.wanted)
    }

    pub(crate) fn check(&self, is_member: impl Fn(SubscriptionId) -> bool) {
        let wanted = self.places.values().map(|place| place.wanted);
        assert!(wanted.into_iter().all(is_member), "queues are for members");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<SubscriptionId> {
        ids.iter().copied().map(SubscriptionId).collect()
    }

    fn owners(owners: &mut Owners, queues: &[QueueIndex], is_free: bool) -> Vec<Option<u64>> {
        queues.iter().map(|queue| owners.taker(*queue, is_free).map(|it| it.0)).collect()
    }

    #[test]
    fn shares_are_even_whatever_comes_and_goes_and_little_moves() {
        let mut random = crate::tests::Random::new(5);
        for _ in 0..300 {
            let mut shared = Owners::default();
            let mut members: Vec<u64> = vec![0];
            let (mut count, turn) = (1 + random.below(12) as u16, random.below(9) as usize);
            for step in 1..12 {
                let before = members.len();
                match random.below(4) {
                    0 if members.len() > 1 => {
                        members.remove(random.below(members.len() as u64) as usize);
                    }
                    1 => count += 1,
                    _ => members.push(step),
                }
                let queues: Vec<QueueIndex> = (0..count).map(QueueIndex).collect();
                let kept = owners(&mut shared, &queues, true);
                shared.share(&ids(&members), &queues, turn);
                let now = owners(&mut shared, &queues, true);
                let of = |member: &u64| now.iter().filter(|it| **it == Some(*member)).count();
                let counts: Vec<usize> = members.iter().map(of).collect();
                let (least, most) = (counts.iter().min(), counts.iter().max());
                assert!(most.unwrap() - least.unwrap() <= 1, "{counts:?}");
                assert_eq!(counts.iter().sum::<usize>(), queues.len(), "every queue has an owner");
                let moved = kept.iter().zip(&now).filter(|(a, b)| a.is_some() && a != b).count();
                // What one member had or gets, and who has one more may be another.
                let share = queues.len().div_ceil(before.min(members.len()));
                let others = before.max(members.len());
                assert!(moved <= share + others, "{moved} of {} moved", queues.len());
            }
        }
    }

    #[test]
    fn a_queue_is_handed_over_when_nothing_of_it_is_in_the_owners_hands() {
        let mut shared = Owners::default();
        let queues: Vec<QueueIndex> = (0..4).map(QueueIndex).collect();
        shared.share(&ids(&[7]), &queues, 0);
        assert_eq!(owners(&mut shared, &queues, false), [Some(7); 4]);
        shared.share(&ids(&[7, 9]), &queues, 0);
        assert_eq!(owners(&mut shared, &queues, false), [Some(7), Some(7), None, None]);
        assert!(shared.is_moving(queues[3]) && !shared.is_moving(queues[0]));
        assert_eq!(shared.taker(queues[3], true), Some(SubscriptionId(9)));
        // It comes back before the other queue was handed over.
        shared.share(&ids(&[7]), &queues, 0);
        assert_eq!(owners(&mut shared, &queues, false), [Some(7), Some(7), Some(7), None]);
    }

    #[test]
    fn other_shards_begin_with_other_members() {
        let first = |turn| {
            let mut shared = Owners::default();
            shared.share(&ids(&[1, 2, 3]), &[QueueIndex(0)], turn);
            shared.taker(QueueIndex(0), true)
        };
        let firsts: Vec<u64> = (0..4).map(|turn| first(turn).unwrap().0).collect();
        assert_eq!(firsts, [1, 2, 3, 1]);
    }

    #[test]
    fn shards_that_are_alike_keep_all_members_busy() {
        let members: Vec<u64> = (0..10).collect();
        let queues: Vec<QueueIndex> = (0..5).map(QueueIndex).collect();
        let mut busy: Vec<u64> = Vec::new();
        for shard in 0..2 {
            let mut shared = Owners::default();
            shared.share(&ids(&members), &queues, shard);
            busy.extend(owners(&mut shared, &queues, true).into_iter().flatten());
        }
        busy.sort_unstable();
        assert_eq!(busy, members);
    }
}
