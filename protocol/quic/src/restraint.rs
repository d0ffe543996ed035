//! BBR, held to what the path was seen to deliver.
//!
//! ```text
//!   acknowledgements ──► quinn's BBR ──► window ─┐
//!                    └─► Delivery ──► cap ───────┴─► the smaller one
//! ```
//!
//! quinn's BBR paces by its window and adds what acknowledgements brought at once to it; with
//! several streams it keeps sending more than the path carries, and the path's queue throws away a
//! quarter to a half of it. So what may be on its way is bounded here: one and a half times what
//! the path delivers in a round trip without a queue, and twice as much again while it still
//! delivers more each round.
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// Rounds whose deliveries are remembered.
const ROUNDS: usize = 10;
/// What may be on its way, in parts of what the path delivers in a round trip …
const GAIN: f64 = 1.5;
/// … and while it delivers more each round.
const GAIN_GROWING: f64 = 3.0;
/// It delivers more when a round brought so much more than the best before.
const GROWTH: f64 = 1.15;
/// Rounds without growth after which it is known what the path delivers.
const ROUNDS_WITHOUT_GROWTH: u32 = 3;
/// Packets that may be on their way whatever was seen.
const PACKETS_MIN: u64 = 32;
/// A round is at least so long, in microseconds: clocks and batches blur shorter ones.
const ROUND_US_MIN: u64 = 1_000;

/// What a path delivers, as a value: time is an argument, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// The best of each of the last rounds, in bytes a second.
    rates: VecDeque<f64>,
    /// When the current round began, and what it brought so far.
    round: Option<(u64, u64)>,
    round_trip_us: u64,
    /// The rate against which growth is measured.
    before: f64,
    rounds_without_growth: u32,
}

impl Delivery {
    /// So many bytes were acknowledged. `round_trip_us`: the shortest that was seen. `is_limited`:
    /// the sender had nothing more to send, so that a low rate says nothing about the path.
    pub fn acknowledged(&mut self, now_us: u64, bytes: u64, round_trip_us: u64, is_limited: bool) {
        self.round_trip_us = round_trip_us;
        let (began_us, so_far) = self.round.get_or_insert((now_us, 0));
        let took_us = now_us.saturating_sub(*began_us);
        if took_us < round_trip_us.max(ROUND_US_MIN) {
            *so_far += bytes;
            return;
        }
        let rate = *so_far as f64 * 1e6 / took_us as f64;
        self.round = Some((now_us, bytes));
        self.end_round(rate, is_limited);
    }

    fn end_round(&mut self, rate: f64, is_limited: bool) {
        if is_limited && rate <= self.rate() {
            return;
        }
        if self.rates.len() == ROUNDS {
            self.rates.pop_front();
        }
        self.rates.push_back(rate);
        if rate > self.before * GROWTH {
            self.before = rate;
            self.rounds_without_growth = 0;
        } else {
            self.rounds_without_growth = self.rounds_without_growth.saturating_add(1);
        }
        assert!(self.rates.len() <= ROUNDS, "what is remembered is bounded");
    }

    /// The most that a round brought lately, in bytes a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// Bytes that may be on their way; `None` until something was delivered.
    #[must_use]
    pub fn cap_bytes(&self, mtu_bytes: u64) -> Option<u64> {
        if self.rates.is_empty() {
            return None;
        }
        let is_known = self.rounds_without_growth >= ROUNDS_WITHOUT_GROWTH;
        let gain = if is_known { GAIN } else { GAIN_GROWING };
        let trip_us = self.round_trip_us.max(ROUND_US_MIN) as f64;
        let bytes = self.rate() * trip_us / 1e6 * gain;
        Some((bytes as u64).max(PACKETS_MIN * mtu_bytes))
    }
}

/// Makes quinn's BBR with a cap.
#[derive(Debug, Default)]
pub(crate) struct RestrainedConfig {
    bbr: Arc<BbrConfig>,
}

impl ControllerFactory for RestrainedConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = self.bbr.clone().build(now, current_mtu);
        let (delivery, mtu_bytes) = (Delivery::default(), current_mtu.into());
        Box::new(Restrained { inner, delivery, began: now, mtu_bytes })
    }
}

struct Restrained {
    inner: Box<dyn Controller>,
    delivery: Delivery,
    began: Instant,
    mtu_bytes: u64,
}

impl Controller for Restrained {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
        let now_us = now.saturating_duration_since(self.began).as_micros() as u64;
        let round_trip_us = rtt.min().as_micros() as u64;
        self.delivery.acknowledged(now_us, bytes, round_trip_us, app_limited);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu_bytes = new_mtu.into();
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let window = self.inner.window();
        self.delivery.cap_bytes(self.mtu_bytes).map_or(window, |cap| window.min(cap))
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.inner.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            delivery: self.delivery.clone(),
            began: self.began,
            mtu_bytes: self.mtu_bytes,
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    const PACKET: u64 = 1_200;
    /// 100 Mbit/s.
    const BYTES_A_SECOND: f64 = 12_500_000.0;
    const TRIP_US: u64 = 50_000;
    const QUEUE: u64 = 1_000;

    /// What came of a sender that has always more to send and keeps exactly to its cap.
    struct Outcome {
        /// Of what the path carries.
        used: f64,
        /// Of what was sent, in parts of one.
        overflowed: f64,
    }

    fn send_for(seconds: u64, lost_percent: u64, first_window: u64) -> Outcome {
        let mut delivery = Delivery::default();
        let mut acks: BinaryHeap<Reverse<(u64, bool)>> = BinaryHeap::new();
        let (mut now_us, mut free_us, mut in_flight) = (0, 0.0_f64, 0);
        let (mut sent, mut overflowed, mut delivered, mut random) = (0u64, 0u64, 0u64, 11u64);
        while now_us < seconds * 1_000_000 {
            let cap = delivery.cap_bytes(PACKET).unwrap_or(first_window);
            while in_flight + PACKET <= cap {
                let packet_us = PACKET as f64 * 1e6 / BYTES_A_SECOND;
                let waiting = ((free_us - now_us as f64) / packet_us).max(0.0) as u64;
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let is_lost = (random >> 33) % 100 < lost_percent;
                in_flight += PACKET;
                sent += 1;
                if waiting >= QUEUE {
                    overflowed += 1;
                } else {
                    free_us = free_us.max(now_us as f64) + packet_us;
                }
                let arrives = waiting < QUEUE && !is_lost;
                acks.push(Reverse((free_us as u64 + TRIP_US, arrives)));
            }
            let Some(Reverse((at_us, arrived))) = acks.pop() else { break };
            now_us = at_us.max(now_us);
            in_flight -= PACKET;
            if arrived {
                delivered += PACKET;
                delivery.acknowledged(now_us, PACKET, TRIP_US, false);
            }
        }
        let carried = BYTES_A_SECOND * seconds as f64;
        let used = delivered as f64 / carried;
        Outcome { used, overflowed: overflowed as f64 / sent as f64 }
    }

    #[test]
    fn the_path_is_filled_and_its_queue_does_not_overflow() {
        let check = |lost_percent: u64, first_window: u64, used_min: f64| {
            let Outcome { used, overflowed } = send_for(20, lost_percent, first_window);
            assert!(used >= used_min, "{lost_percent} %, {first_window}: {used:.2} used");
            assert!(overflowed <= 0.02, "{lost_percent} %, {first_window}: {overflowed:.3}");
        };
        // From the window that BBR begins with, and from one that is far too small.
        for first_window in [240_000, 12_000] {
            check(0, first_window, 0.95);
            check(1, first_window, 0.94);
            check(5, first_window, 0.90);
            check(10, first_window, 0.85);
            check(20, first_window, 0.70);
        }
    }

    #[test]
    fn a_sender_with_little_to_send_keeps_what_it_knew() {
        let mut delivery = Delivery::default();
        assert_eq!(delivery.cap_bytes(PACKET), None);
        let mut now_us = 0;
        for _ in 0..10_000 {
            now_us += 100;
            delivery.acknowledged(now_us, PACKET, TRIP_US, false);
        }
        let before = delivery.cap_bytes(PACKET);
        for _ in 0..1_000 {
            now_us += 20_000;
            delivery.acknowledged(now_us, 100, TRIP_US, true);
        }
        assert_eq!(delivery.cap_bytes(PACKET), before);
    }

    #[test]
    fn a_path_that_became_slower_is_found_out() {
        let mut delivery = Delivery::default();
        let (mut now_us, mut cap) = (0, 0);
        for every_us in [100, 1_000] {
            for _ in 0..20_000 {
                now_us += every_us;
                delivery.acknowledged(now_us, PACKET, TRIP_US, false);
            }
            let now = delivery.cap_bytes(PACKET).unwrap();
            assert!(cap == 0 || now < cap / 5, "{cap}, then {now}");
            cap = now;
        }
    }
}
