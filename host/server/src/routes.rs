//! On which stream the deliveries of each queue go, while a client opens more streams.
//!
//! ```text
//!   delivery ──► nothing of its queue under way? ──► the queue's stream among those open now
//!                └ otherwise: where the last one went
//!   settled the last one ──► nothing is under way
//! ```
//!
//! A stream keeps its order, two do not. So a queue changes its stream only when its consumer has
//! settled the last message that was sent: it has that one, and with it all before it. What a
//! policy leaves out is not sent. The rule is a value; what it remembers is what is under way, so
//! credit bounds it.
use std::collections::BTreeMap;

use yard_wire::requests::SettleRange;
use yard_wire::{QueueIndex, QueueOffset, ShardId, SubscriptionId};

/// A queue of a subscription.
pub(crate) type Key = (ShardId, SubscriptionId, QueueIndex);

/// Where deliveries went that are under way.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    under_way: BTreeMap<Key, Route>,
}

#[derive(Debug)]
struct Route {
    lane: u16,
    /// Deliveries that wait to be sent.
    waiting: u32,
    /// The last message that was sent and not settled, and which delivery of it that was.
    last: Option<(QueueOffset, u32)>,
}

impl Route {
    fn is_over(&self) -> bool {
        self.waiting == 0 && self.last.is_none()
    }
}

impl Routes {
    /// The lane of a delivery, with so many lanes open.
    pub(crate) fn lane(&mut self, key: Key, lanes_open: u16) -> u16 {
        let lane = key.2.0 % lanes_open.max(1);
        let route = self.under_way.entry(key).or_insert(Route { lane, waiting: 0, last: None });
        route.waiting += 1;
        route.lane
    }

    /// What is sent of a delivery ends with `last`; nothing of it may be.
    pub(crate) fn sent(&mut self, key: Key, last: Option<(QueueOffset, u32)>) {
        // The subscription may have ended meanwhile.
        let Some(route) = self.under_way.get_mut(&key) else { return };
        assert!(route.waiting > 0, "what is sent has waited");
        route.waiting -= 1;
        route.last = last.or(route.last);
        if route.is_over() {
            self.under_way.remove(&key);
        }
    }

    /// A consumer has settled these, so it has them.
    pub(crate) fn settled(
        &mut self,
        (shard, subscription): (ShardId, SubscriptionId),
        ranges: &[SettleRange],
    ) {
        for range in ranges {
            let key = (shard, subscription, range.queue);
            let Some(route) = self.under_way.get_mut(&key) else { continue };
            let is_it = |(last, attempt): &(QueueOffset, u32)| {
                range.attempt == *attempt && (range.from..range.to).contains(last)
            };
            route.last = route.last.filter(|last| !is_it(last));
            if route.is_over() {
                self.under_way.remove(&key);
            }
        }
    }

    /// A subscription has ended: nothing of it comes any more.
    pub(crate) fn ended(&mut self, shard: ShardId, subscription: SubscriptionId) {
        self.under_way.retain(|(of, number, _), _| (*of, *number) != (shard, subscription));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use yard_wire::requests::Verdict;

    const SHARD: ShardId = ShardId(0);
    const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

    fn key(queue: u16) -> Key {
        (SHARD, SUBSCRIPTION, QueueIndex(queue))
    }

    fn range(queue: u16, from: u64, to: u64) -> SettleRange {
        let (from, to) = (QueueOffset(from), QueueOffset(to));
        let (queue, verdict, delay_ms, error) = (QueueIndex(queue), Verdict::Ack, None, None);
        SettleRange { queue, from, to, attempt: 1, verdict, delay_ms, error }
    }

    #[test]
    fn a_queue_moves_when_its_last_message_is_settled() {
        let mut routes = Routes::default();
        let send = |routes: &mut Routes, last: Option<u64>, lanes_open: u16| {
            let lane = routes.lane(key(5), lanes_open);
            routes.sent(key(5), last.map(|last| (QueueOffset(last), 1)));
            lane
        };
        assert_eq!(send(&mut routes, Some(0), 1), 0);
        assert_eq!(send(&mut routes, Some(1), 8), 0, "the first one is under way");
        routes.settled((SHARD, SUBSCRIPTION), &[range(5, 0, 1), range(6, 0, 9)]);
        assert_eq!(send(&mut routes, Some(2), 8), 0, "the second one is");
        assert_eq!(routes.lane(key(5), 8), 0, "nothing of this one is wanted");
        routes.settled((SHARD, SUBSCRIPTION), &[range(5, 1, 3)]);
        assert_eq!(routes.lane(key(5), 8), 0, "which is not known yet");
        routes.sent(key(5), None);
        routes.sent(key(5), None);
        assert_eq!(send(&mut routes, Some(7), 8), 5);
        routes.ended(SHARD, SUBSCRIPTION);
        assert!(routes.under_way.is_empty(), "what is remembered is what is under way");
    }

    #[test]
    fn a_queue_does_not_move_when_an_earlier_delivery_of_its_last_message_is_settled() {
        let mut routes = Routes::default();
        for attempt in [1, 2] {
            assert_eq!(routes.lane(key(5), 1), 0);
            routes.sent(key(5), Some((QueueOffset(0), attempt)));
        }
        routes.settled((SHARD, SUBSCRIPTION), &[range(5, 0, 1)]);
        assert_eq!(routes.lane(key(5), 8), 0, "the second delivery is under way");
        routes.sent(key(5), None);
        let second = SettleRange { attempt: 2, ..range(5, 0, 1) };
        routes.settled((SHARD, SUBSCRIPTION), &[second]);
        assert_eq!(routes.lane(key(5), 8), 5);
    }

    /// Streams that deliver in their own order, in any order among each other; a consumer that
    /// settles what it has when it likes; a client that opens more streams. Whatever happens, a
    /// queue's messages come in order.
    #[test]
    fn no_message_of_a_queue_overtakes_another() {
        const QUEUES: u64 = 6;
        let mut random = 99u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        let mut moved = 0;
        for _ in 0..200 {
            let mut routes = Routes::default();
            let mut streams = vec![VecDeque::new(); 8];
            let (mut open, mut next) = (1, vec![0u64; QUEUES as usize]);
            let mut received = vec![0u64; QUEUES as usize];
            let mut settled = vec![0u64; QUEUES as usize];
            let mut lanes = vec![0; QUEUES as usize];
            for _ in 0..500 {
                let queue = below(QUEUES);
                let at = queue as usize;
                match below(10) {
                    0 => open = (open * 2).min(8),
                    1..4 => {
                        let lane = routes.lane(key(queue as u16), open);
                        let is_wanted = below(4) > 0;
                        let last = is_wanted.then_some((QueueOffset(next[at]), 1));
                        routes.sent(key(queue as u16), last);
                        if !is_wanted {
                            continue;
                        }
                        moved += u32::from(lane != lanes[at]);
                        lanes[at] = lane;
                        streams[usize::from(lane)].push_back((at, next[at]));
                        next[at] += 1;
                    }
                    4..8 => {
                        if let Some((at, offset)) = streams[below(8) as usize].pop_front() {
                            assert_eq!(offset, received[at], "in order");
                            received[at] += 1;
                        }
                    }
                    _ => {
                        let range = range(queue as u16, settled[at], received[at]);
                        settled[at] = received[at];
                        routes.settled((SHARD, SUBSCRIPTION), &[range]);
                    }
                }
            }
        }
        assert!(moved > 100, "queues did move: {moved}");
    }
}
