//! Which handlers may begin: of an order group one after another.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::delivery::{Delivery, Kept, Settler};
use super::failures::OrderLine;

/// Deliveries that wait for the handler before them; no more are taken out of the buffer then.
const PARKED_MAX: usize = 1_024;

/// What waits for a handler of its order group. Other deliveries begin at once.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    busy: BTreeSet<OrderLine>,
    /// What waits is kept, or its lease would end meanwhile.
    parked: BTreeMap<OrderLine, VecDeque<(Delivery, Kept)>>,
    count: usize,
}

impl InOrder {
    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.count < PARKED_MAX
    }

    /// A delivery came; gives it back when its handler may begin.
    pub(super) fn begin(&mut self, delivery: Delivery) -> Option<Delivery> {
        let settler = delivery.settler();
        let Some(line) = settler.line() else { return Some(delivery) };
        if self.busy.insert(line) {
            return Some(delivery);
        }
        self.count += 1;
        let kept = settler.keep();
        self.parked.entry(line).or_default().push_back((delivery, kept));
        None
    }

    /// A handler has ended, and what it came to was said; gives the delivery whose handler begins
    /// next. When it failed, what waited for it is given back.
    pub(super) fn ended(&mut self, settler: &Settler) -> Option<Delivery> {
        let line = settler.line()?;
        let was_busy = self.busy.contains(&line);
        assert!(was_busy, "a handler ran");
        if let Some(mut parked) = self.parked.remove(&line) {
            while let Some((delivery, _)) = parked.pop_front() {
                self.count -= 1;
                let settler = delivery.settler();
                if settler.is_over() || settler.give_back_if_failed(None) {
                    continue;
                }
                if !parked.is_empty() {
                    self.parked.insert(line, parked);
                }
                return Some(delivery);
            }
        }
        self.busy.remove(&line);
        None
    }
}
