//! What holds of a flight at any time.
use yard_wire::QueueOffset;

use super::Flight;
use crate::group::order::Stand;
use crate::group::queue::Progress;

impl Flight {
    pub(crate) fn check(&self, progress: &Progress, first: QueueOffset, end: QueueOffset) {
        self.leases.check();
        assert_eq!(self.doomed, progress.returned().doomed_count(), "what is doomed is counted");
        assert_eq!(self.waiting.len(), self.dues.len(), "what waits has an instant");
        for (due, offset) in &self.dues {
            let waiting = self.waiting.get(offset).map(|waiting| waiting.due);
            assert_eq!(waiting, Some(*due), "what has an instant waits for it");
        }
        let mut count = 0;
        let again = self.ready.keys().chain(self.unplaced.keys()).chain(self.waiting.keys());
        let again = again.chain(&self.stopped).copied();
        for offset in again.chain(self.offsets_behind()) {
            assert_eq!(self.places_of(offset), 1, "an unsettled message is in one place");
            assert!(progress.settled_end_of(offset).is_none(), "what comes again is unsettled");
            count += 1;
        }
        assert_eq!(count, self.open_count(), "what waits is counted");
        if let Some(orders) = &self.orders {
            orders.check(count + self.leases.len(), |offset| self.stand_of(offset));
            assert!(self.prefetched.is_empty(), "new messages are put in line");
        }
        self.check_keys();
        for (offset, _) in self.leases.iter() {
            assert_eq!(self.places_of(offset), 1, "a leased message is in one place");
            assert!(progress.settled_end_of(offset).is_none(), "what is leased is unsettled");
            assert!(offset < end, "what is leased is committed");
        }
        let mut offset = progress.settled_below().max(first);
        while offset < self.cursor {
            if let Some(to) = progress.settled_end_of(offset) {
                offset = to;
                continue;
            }
            let doomed = progress.returned().get(offset).is_some_and(|it| it.doom.is_some());
            let places = self.places_of(offset) + usize::from(doomed);
            assert_eq!(places, 1, "below the cursor all is settled, doomed or under way");
            offset.0 += 1;
        }
        let prefetched = self.cursor.0 + self.prefetched.len() as u64;
        assert!(
            prefetched <= end.0 || self.prefetched.is_empty(),
            "what is prefetched is committed"
        );
    }

    pub(super) fn places_of(&self, offset: QueueOffset) -> usize {
        usize::from(self.leases.holds(offset))
            + usize::from(self.ready.contains_key(&offset))
            + usize::from(self.unplaced.contains_key(&offset))
            + usize::from(self.waiting.contains_key(&offset))
            + usize::from(self.stopped.contains(&offset))
            + usize::from(self.is_behind_key(offset))
    }

    fn stand_of(&self, offset: QueueOffset) -> Option<Stand> {
        let after = QueueOffset(offset.0 + 1);
        let lease = self.leases.ranges(offset, after).next();
        let stand = lease.map(|(_, _, hold)| Stand::Leased(hold.subscription));
        let stand = stand.or(self.ready.contains_key(&offset).then_some(Stand::Ready));
        stand.or((self.places_of(offset) == 1).then_some(Stand::Barred))
    }
}
