//! Over how many streams work is spread: 1 where nothing is lost, more where loss holds streams up.
//!
//! ```text
//!   what the path did lately ──► how much of the time is a stream held up? ──► streams
//! ```
//!
//! A lost packet holds up its stream for about a round trip, and with it every queue of that
//! stream. With `n` losses a second, each of `r` seconds, one stream is held up for `n × r` of the
//! time, and each of K streams for `n × r / K`. K is what keeps that below a twentieth. So a loss
//! costs nothing on a short path, where its round trip is over before anybody notices, and much on
//! a long one. Losses towards this side are not seen from here: it is taken to lose as much of what
//! arrives as of what it sends.
//!
//! A window that is full holds a stream up as well, but on a path whose queue is long that says
//! nothing: more streams only make the queue longer.
//!
//! K is a power of two and only grows: each change makes producers wait for the answers of what is
//! under way before queues change their streams, so there are few.
//!
//! The rule is a value: no clock, no connection, no stream.

/// A stream may be held up for this part of the time.
const HELD_UP_MAX: f64 = 0.05;
/// Streams after the first growth, at least: the first change costs as much as any other.
const STREAMS_GROWN: u16 = 8;
/// What was seen weighs half after so long, in microseconds.
const HALF_LIFE_US: f64 = 1_000_000.0;
/// Nothing is concluded from fewer events: one lost packet is no weather.
const EVENTS_MIN: f64 = 2.0;

/// What a path did since its connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathSample {
    /// When this was seen, in microseconds of any clock that does not run backwards.
    pub at_us: u64,
    /// Shortest round trip that was seen, in microseconds.
    pub round_trip_us: u64,
    /// Packets sent that their receiver acknowledges.
    pub sent: u64,
    /// Of these, packets that were found lost.
    pub lost: u64,
    /// Packets received.
    pub received: u64,
}

impl PathSample {
    /// What a connection has to say at this time.
    #[must_use]
    pub fn of(stats: &quinn::ConnectionStats, at_us: u64) -> Self {
        let path = &stats.path;
        // Packets of acknowledgements alone are not acknowledged; where they travel with data, the
        // data is counted.
        let (sent, data) = (path.sent_packets, stats.frame_tx.stream);
        let acknowledged = sent.saturating_sub(stats.frame_tx.acks).max(data.min(sent));
        Self {
            at_us,
            round_trip_us: path.min_rtt.as_micros() as u64,
            sent: acknowledged,
            lost: path.lost_packets,
            received: stats.udp_rx.datagrams,
        }
    }
}

/// The rule, with what it has seen of one path.
#[derive(Clone, Debug)]
pub struct Spread {
    streams: u16,
    streams_max: u16,
    last: Option<PathSample>,
    /// Events lately, the older the less.
    events: f64,
    /// Time that was looked at, weighed alike, in microseconds.
    looked_us: f64,
}

impl Spread {
    /// A path of which nothing is known.
    ///
    /// # Panics
    /// When `streams` is 0 or more than `streams_max`.
    #[must_use]
    pub fn new(streams: u16, streams_max: u16) -> Self {
        assert!((1..=streams_max).contains(&streams), "there is a stream, and a bound");
        Self { streams, streams_max, last: None, events: 0.0, looked_us: 0.0 }
    }

    /// How many streams there should be.
    #[must_use]
    pub fn streams(&self) -> u16 {
        self.streams
    }

    /// Takes in what the path did; how many streams there should be now. Samples are of one
    /// connection; [`Spread::path_changed`] comes before those of another.
    pub fn look(&mut self, sample: PathSample) -> u16 {
        let Some(last) = self.last.replace(sample) else { return self.streams };
        let since_us = sample.at_us.saturating_sub(last.at_us) as f64;
        let kept = 0.5_f64.powf(since_us / HALF_LIFE_US);
        let lost = sample.lost.saturating_sub(last.lost) as f64;
        let sent = (sample.sent.saturating_sub(last.sent) as f64).max(lost).max(1.0);
        let received = sample.received.saturating_sub(last.received) as f64;
        let lost_of_received = lost / sent * received;
        self.events = self.events * kept + lost.max(lost_of_received);
        self.looked_us = self.looked_us * kept + since_us;
        if self.events >= EVENTS_MIN {
            // A burst at the beginning is not taken for what every second will bring.
            let looked_us = self.looked_us.max(HALF_LIFE_US);
            let held_up = self.events * sample.round_trip_us as f64 / looked_us;
            self.grow(held_up / HELD_UP_MAX);
        }
        assert!(self.streams <= self.streams_max, "the bound holds");
        self.streams
    }

    /// The next sample is of another connection: what was seen counts, the counters begin anew.
    pub fn path_changed(&mut self) {
        self.last = None;
    }

    fn grow(&mut self, wanted: f64) {
        if wanted <= f64::from(self.streams) {
            return;
        }
        let wanted = wanted.min(f64::from(self.streams_max)).ceil() as u16;
        let wanted = wanted.next_power_of_two().max(STREAMS_GROWN);
        self.streams = wanted.min(self.streams_max).max(self.streams);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    /// Looks every 100 ms at a path on which as much happens in each second; the streams after so
    /// many seconds.
    fn after(seconds: u64, round_trip_us: u64, a_second: PathSample) -> u16 {
        let mut spread = Spread::new(1, 32);
        for tenth in 0..=seconds * 10 {
            spread.look(PathSample {
                at_us: tenth * 100 * MS,
                round_trip_us,
                sent: a_second.sent * tenth / 10,
                lost: a_second.lost * tenth / 10,
                received: a_second.received * tenth / 10,
            });
        }
        spread.streams()
    }

    fn losing(sent: u64, lost: u64) -> PathSample {
        PathSample { sent, lost, received: sent / 2, ..PathSample::default() }
    }

    #[test]
    fn streams_follow_how_long_losses_hold_them_up() {
        let check = |round_trip_us: u64, sent: u64, lost: u64, expect: u16| {
            let found = after(60, round_trip_us, losing(sent, lost));
            assert_eq!(found, expect, "{lost} of {sent} a second, {round_trip_us} us");
        };
        // A clean path, short or long, slow or fast.
        check(100, 400_000, 0, 1);
        check(50 * MS, 8_600, 0, 1);
        // Loopback that overflows a socket now and then.
        check(100, 400_000, 400, 1);
        // 200 messages a second over 50 ms: 1 %, 5 %.
        check(50 * MS, 200, 2, 8);
        check(50 * MS, 200, 10, 16);
        // 100 Mbit/s over 50 ms: 1 %, 5 %.
        check(50 * MS, 8_600, 86, 32);
        check(50 * MS, 8_600, 430, 32);
        // A quiet connection on a bad path: one loss in five seconds holds nobody up.
        check(50 * MS, 10, 0, 1);
    }

    #[test]
    fn a_receiver_that_sends_little_concludes_from_what_it_sends() {
        let receiver = PathSample { sent: 50, lost: 3, received: 8_000, ..PathSample::default() };
        assert_eq!(after(10, 50 * MS, receiver), 32);
    }

    #[test]
    fn one_loss_is_no_weather_and_growth_never_ends_below_where_it_was() {
        let mut spread = Spread::new(1, 32);
        let mut sample = PathSample { round_trip_us: 200 * MS, ..PathSample::default() };
        for at in 0..10 {
            sample.at_us = at * 100 * MS;
            sample.sent = 100 * at;
            sample.lost = u64::from(at > 3);
            assert_eq!(spread.look(sample), 1);
        }
        // Every state that random weather leads to, by a fixed sequence of it.
        let (mut random, mut before) = (7u64, 1);
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let part = |bits: u32, below: u64| (random >> bits) % below;
            if part(60, 16) == 0 {
                spread.path_changed();
                sample = PathSample { at_us: sample.at_us, ..PathSample::default() };
            }
            sample.at_us += part(20, 300 * MS);
            sample.round_trip_us = part(30, 300 * MS);
            sample.sent += part(40, 1_000);
            sample.lost += part(50, 4);
            sample.received += part(44, 2_000);
            let streams = spread.look(sample);
            assert!((before..=32).contains(&streams) && streams.is_power_of_two());
            before = streams;
        }
        assert!(before > 1, "that weather was bad");
    }

    #[test]
    fn a_bound_is_kept_whatever_the_weather() {
        for streams_max in [1, 3, 8] {
            let mut spread = Spread::new(1, streams_max);
            for at in 0..100 {
                let (at_us, sent, lost) = (at * 100 * MS, at * 1_000, at * 500);
                let sample = PathSample {
                    at_us,
                    sent,
                    lost,
                    round_trip_us: 90 * MS,
                    ..PathSample::default()
                };
                spread.look(sample);
            }
            assert_eq!(spread.streams(), streams_max);
        }
    }
}
