//! Leases: which subscription holds which message, until when.
//!
//! ```text
//!   by_offset   41 ─ lease(subscription, until, attempt, place)
//!               42 ─ …
//!   ends        until ─ how many leases still end then ─ the ranges that were delivered with it
//! ```
//!
//! A delivery leases a run of offsets until the same instant, so an instant costs one entry, not
//! one for each message; it goes when its last lease has gone.
use std::collections::BTreeMap;

use yard_wire::{QueueOffset, RecordPlace, SubscriptionId, Timestamp};

/// One message in somebody's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) subscription: SubscriptionId,
    pub(crate) until: Timestamp,
    /// 1 for the first delivery to the group.
    pub(crate) attempt: u32,
    pub(crate) place: RecordPlace,
}

#[derive(Debug, Default)]
struct End {
    leases: u32,
    ranges: Vec<(QueueOffset, QueueOffset)>,
}

/// The leases of a group in one queue.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_offset: BTreeMap<QueueOffset, Lease>,
    ends: BTreeMap<Timestamp, End>,
}

impl Leases {
    pub(crate) fn len(&self) -> usize {
        self.by_offset.len()
    }

    pub(crate) fn first_end(&self) -> Option<Timestamp> {
        self.ends.first_key_value().map(|(until, _)| *until)
    }

    pub(crate) fn holds(&self, offset: QueueOffset) -> bool {
        self.by_offset.contains_key(&offset)
    }

    /// Leases in `from..to`, in order.
    pub(crate) fn range(
        &self,
        from: QueueOffset,
        to: QueueOffset,
    ) -> impl Iterator<Item = (QueueOffset, &Lease)> {
        assert!(from <= to, "a range does not end before it begins");
        self.by_offset.range(from..to).map(|(offset, lease)| (*offset, lease))
    }

    pub(crate) fn insert(&mut self, offset: QueueOffset, lease: Lease) {
        let end = self.ends.entry(lease.until).or_default();
        end.leases += 1;
        match end.ranges.last_mut() {
            Some((_, to)) if *to == offset => to.0 += 1,
            _ => end.ranges.push((offset, QueueOffset(offset.0 + 1))),
        }
        let old = self.by_offset.insert(offset, lease);
        assert!(old.is_none(), "a message is in one hand at a time");
    }

    pub(crate) fn remove(&mut self, offset: QueueOffset) -> Option<Lease> {
        let lease = self.by_offset.remove(&offset)?;
        let end = self.ends.get_mut(&lease.until).expect("every lease has its end listed");
        assert!(end.leases >= 1, "an end is listed while a lease has it");
        end.leases -= 1;
        if end.leases == 0 {
            self.ends.remove(&lease.until);
        }
        Some(lease)
    }

    /// Takes out the leases that ended at `now` or before, by their ends.
    pub(crate) fn take_ended(&mut self, now: Timestamp) -> Vec<(QueueOffset, Lease)> {
        let mut ended = Vec::new();
        while let Some(entry) = self.ends.first_entry().filter(|entry| *entry.key() <= now) {
            let (until, end) = entry.remove_entry();
            let before = ended.len();
            for (from, to) in end.ranges {
                // The same range may meanwhile hold later leases of the same messages.
                let held = self.by_offset.range(from..to).filter(|(_, it)| it.until == until);
                let offsets: Vec<QueueOffset> = held.map(|(offset, _)| *offset).collect();
                for offset in offsets {
                    let lease = self.by_offset.remove(&offset).expect("found just now");
                    ended.push((offset, lease));
                }
            }
            assert_eq!(
                ended.len() - before,
                end.leases as usize,
                "the count is that of the leases"
            );
        }
        ended
    }

    /// Takes out the leases in `from..to`, in order.
    pub(crate) fn take_range(&mut self, from: QueueOffset, to: QueueOffset) -> Vec<Lease> {
        let offsets: Vec<QueueOffset> = self.range(from, to).map(|(offset, _)| offset).collect();
        let taken = offsets.into_iter().map(|offset| self.remove(offset));
        taken.map(|lease| lease.expect("found just now")).collect()
    }

    /// Takes out the leases of one subscription, in order.
    pub(crate) fn take_of(&mut self, subscription: SubscriptionId) -> Vec<(QueueOffset, Lease)> {
        let held = self.by_offset.iter().filter(|(_, lease)| lease.subscription == subscription);
        let offsets: Vec<QueueOffset> = held.map(|(offset, _)| *offset).collect();
        offsets
            .into_iter()
            .map(|offset| (offset, self.remove(offset).expect("found just now")))
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueOffset, &Lease)> {
        self.by_offset.iter().map(|(offset, lease)| (*offset, lease))
    }

    pub(crate) fn check(&self) {
        let listed: u64 = self.ends.values().map(|end| u64::from(end.leases)).sum();
        assert_eq!(listed, self.by_offset.len() as u64, "every lease has its end listed");
        for (until, end) in &self.ends {
            assert!(end.leases >= 1, "an end without leases is not listed");
            let mut found = 0;
            for (from, to) in &end.ranges {
                found += self.range(*from, *to).filter(|(_, it)| it.until == *until).count();
            }
            assert!(found >= end.leases as usize, "an ended lease is found by its end");
        }
    }
}
