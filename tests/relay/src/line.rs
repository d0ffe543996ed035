//! One direction of a bad line, as a value: time is an argument, in microseconds.
use std::collections::VecDeque;

/// Bytes of IP and UDP around a payload, which a rate counts too.
const HEADERS_BYTES: u64 = 28;
/// Chances are parts of this.
const WHOLE: u64 = 10_000;

/// What a line does to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Of 10,000 packets, so many are lost by chance.
    pub lost_of_10_000: u32,
    /// Of 10,000 packets, so many are overtaken by others.
    pub late_of_10_000: u32,
    /// How much later those come, in microseconds.
    pub late_us: u64,
    /// Every packet takes so long, in microseconds.
    pub delay_us: u64,
    /// Bits a second; 0: as many as come.
    pub rate_bits: u64,
    /// Packets that wait for the rate; one that finds so many is lost.
    pub queue_packets: usize,
}

impl Weather {
    /// 25 ms each way, 100 Mbit/s, 1,000 packets waiting at most: a round trip of 50 ms.
    pub const WAN: Self = Self {
        lost_of_10_000: 0,
        late_of_10_000: 0,
        late_us: 0,
        delay_us: 25_000,
        rate_bits: 100_000_000,
        queue_packets: 1_000,
    };

    /// The same with so many of 100 packets lost, in each direction.
    #[must_use]
    pub const fn losing_percent(self, percent: u32) -> Self {
        Self { lost_of_10_000: percent * 100, ..self }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, in microseconds of the caller's clock.
    Arrives(u64),
    /// It is lost by chance.
    Lost,
    /// It found no room in the queue.
    Overflowed,
}

/// One direction of a line.
#[derive(Debug)]
pub struct Line {
    weather: Weather,
    random: u64,
    /// When each packet that waits will have left, in order.
    leaving_us: VecDeque<u64>,
}

impl Line {
    /// A line without a packet on it.
    #[must_use]
    pub fn new(weather: Weather, seed: u64) -> Self {
        // Nearby seeds are spread apart, and none is zero.
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { weather, random, leaving_us: VecDeque::new() }
    }

    /// Changes the weather for packets that are offered from now on.
    pub fn change(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// What becomes of a packet of so many bytes. Time never runs backwards.
    pub fn offer(&mut self, now_us: u64, bytes: usize) -> Fate {
        let weather = self.weather;
        // Both are drawn for every packet, so that one chance does not move the other.
        let is_lost = self.happens(weather.lost_of_10_000);
        let is_late = self.happens(weather.late_of_10_000);
        if is_lost {
            return Fate::Lost;
        }
        while self.leaving_us.front().is_some_and(|leaves| *leaves <= now_us) {
            self.leaving_us.pop_front();
        }
        let mut leaves_us = now_us;
        if weather.rate_bits > 0 {
            if self.leaving_us.len() >= weather.queue_packets {
                return Fate::Overflowed;
            }
            let bits = (bytes as u64 + HEADERS_BYTES) * 8;
            let before_us = self.leaving_us.back().copied().unwrap_or(now_us);
            leaves_us = before_us + (bits * 1_000_000).div_ceil(weather.rate_bits);
            self.leaving_us.push_back(leaves_us);
        }
        let late_us = if is_late { weather.late_us } else { 0 };
        Fate::Arrives(leaves_us + weather.delay_us + late_us)
    }

    /// Source of the generator: Marsaglia, "Xorshift RNGs" (2003), with Vigna's multiplier.
    fn happens(&mut self, of_10_000: u32) -> bool {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((drawn * WHOLE) >> 32) < u64::from(of_10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(weather: Weather, seed: u64, count: u64, every_us: u64) -> Vec<Fate> {
        let mut line = Line::new(weather, seed);
        (0..count).map(|number| line.offer(number * every_us, 1_200)).collect()
    }

    #[test]
    fn a_seed_repeats_every_fate() {
        let weather = Weather { late_of_10_000: 300, ..Weather::WAN.losing_percent(5) };
        let first = fates(weather, 7, 5_000, 50);
        assert_eq!(first, fates(weather, 7, 5_000, 50));
        assert_ne!(first, fates(weather, 8, 5_000, 50));
    }

    #[test]
    fn as_many_are_lost_as_was_said() {
        for percent in [0, 1, 5, 20] {
            let weather = Weather { rate_bits: 0, ..Weather::WAN.losing_percent(percent) };
            let all = fates(weather, 3, 100_000, 10);
            let lost = all.iter().filter(|fate| **fate == Fate::Lost).count();
            let expect = 1_000 * percent as usize;
            assert!(lost.abs_diff(expect) <= expect / 10, "{percent} %: {lost}");
        }
    }

    #[test]
    fn a_rate_spaces_packets_and_its_queue_overflows_at_its_tail() {
        // 1,228 bytes at 100 Mbit/s take 98.24 microseconds, counted up.
        let all = fates(Weather { queue_packets: 3, ..Weather::WAN }, 1, 5, 0);
        let arrives = |number: u64| Fate::Arrives(25_000 + 99 * number);
        let expect = [arrives(1), arrives(2), arrives(3), Fate::Overflowed, Fate::Overflowed];
        assert_eq!(all, expect);
        let slow = fates(Weather { queue_packets: 3, ..Weather::WAN }, 1, 5, 99);
        assert!(slow.iter().all(|fate| matches!(fate, Fate::Arrives(_))), "{slow:?}");
    }

    #[test]
    fn those_that_are_late_are_overtaken() {
        let weather = Weather { late_of_10_000: 1_000, late_us: 5_000, ..Weather::WAN };
        let arrivals: Vec<u64> = fates(weather, 9, 1_000, 100)
            .into_iter()
            .map(|fate| match fate {
                Fate::Arrives(at_us) => at_us,
                Fate::Lost | Fate::Overflowed => panic!("nothing is lost here"),
            })
            .collect();
        let overtaken = arrivals.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((50..150).contains(&overtaken), "{overtaken}");
    }
}
