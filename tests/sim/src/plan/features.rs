//! Features of messages and groups that few runs have. Each is drawn from numbers of its own, and
//! after everything else: runs without it are what they were.
use super::Plan;
use crate::random::Random;

impl Plan {
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
