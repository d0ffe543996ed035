//! What holds of a flight at any time.
use yard_wire::QueueOffset;

use super::Flight;
use crate::group::order::Stand;
use crate::group::queue::Progress;

/// A message that is under way, and where.
type Standing = (QueueOffset, Stand);

fn stand_of(under_way: &[Standing], offset: QueueOffset) -> Option<Stand> {
    let at = under_way.binary_search_by_key(&offset, |(offset, _)| *offset);
    at.ok().map(|at| under_way[at].1)
}

impl Flight {
    pub(crate) fn check(&self, progress: &Progress, first: QueueOffset, end: QueueOffset) {
        self.leases.check();
        assert_eq!(self.doomed, progress.returned().doomed_count(), "what is doomed is counted");
        assert_eq!(self.waiting.len(), self.dues.len(), "what waits has an instant");
        for (due, offset) in &self.dues {
            let waiting = self.waiting.get(offset).map(|waiting| waiting.due);
            assert_eq!(waiting, Some(*due), "what has an instant waits for it");
        }
        let new = self.unplaced.iter().filter(|(_, attempts)| **attempts == 0);
        assert!(new.map(|(offset, _)| offset).eq(&self.unplaced_new), "what bars others is listed");
        assert!(self.barring().is_none_or(|it| it < self.cursor), "it was looked at");
        let under_way = self.under_way();
        let is_once = under_way.is_sorted_by(|(a, _), (b, _)| a < b);
        assert!(is_once, "an unsettled message is in one place");
        let open = under_way.len() - self.leases.len();
        assert_eq!(open, self.open_count(), "what waits is counted");
        for (offset, stand) in &under_way {
            assert!(progress.settled_end_of(*offset).is_none(), "what is under way is unsettled");
            let is_leased = matches!(stand, Stand::Leased(_));
            assert!(!is_leased || *offset < end, "what is leased is committed");
        }
        if let Some(orders) = &self.orders {
            orders.check(under_way.len(), |offset| stand_of(&under_way, offset));
            assert!(self.prefetched.is_empty(), "new messages are put in line");
        }
        self.check_keys(|offset| stand_of(&under_way, offset).is_some());
        self.check_below(progress, first, &under_way);
        let prefetched = self.cursor.0 + self.prefetched.len() as u64;
        assert!(
            prefetched <= end.0 || self.prefetched.is_empty(),
            "what is prefetched is committed"
        );
    }

    fn check_below(&self, progress: &Progress, first: QueueOffset, under_way: &[Standing]) {
        let mut under_way = under_way.iter().map(|(offset, _)| *offset).peekable();
        let mut offset = progress.settled_below().max(first);
        while offset < self.cursor {
            while under_way.next_if(|earlier| *earlier < offset).is_some() {}
            let is_under_way = under_way.next_if_eq(&offset).is_some();
            if !is_under_way && let Some(to) = progress.settled_end_of(offset) {
                offset = to;
                continue;
            }
            let doomed = progress.returned().get(offset).is_some_and(|it| it.doom.is_some());
            assert!(is_under_way != doomed, "below the cursor all is settled, doomed or under way");
            offset.0 += 1;
        }
    }

    /// Everything that is under way, in order; what is in two places is there twice.
    fn under_way(&self) -> Vec<Standing> {
        let mut under_way = Vec::with_capacity(self.open_count() + self.leases.len());
        for (from, to, hold) in self.leases.ranges(QueueOffset(0), QueueOffset(u64::MAX)) {
            let stand = Stand::Leased(hold.subscription);
            under_way.extend((from.0..to.0).map(|offset| (QueueOffset(offset), stand)));
        }
        under_way.extend(self.ready.keys().map(|offset| (*offset, Stand::Ready)));
        let barred = self.unplaced.keys().chain(self.waiting.keys()).chain(&self.stopped).copied();
        let barred = barred.chain(self.offsets_behind());
        under_way.extend(barred.map(|offset| (offset, Stand::Barred)));
        under_way.sort_unstable_by_key(|(offset, _)| *offset);
        under_way
    }
}
