//! A canary, as a value: which traffic the candidate gets, and when it goes on or is taken back.
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The part of the traffic that the candidate judges, of a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// Everything.
    pub const ALL: Self = Self(1_000);

    /// So many of a thousand; `None` above that.
    #[must_use]
    pub fn new(per_mille: u16) -> Option<Self> {
        (per_mille <= Self::ALL.0).then_some(Self(per_mille))
    }

    /// Of a thousand.
    #[must_use]
    pub fn per_mille(self) -> u16 {
        self.0
    }

    /// So many of these, rounded down.
    fn of(self, count: u32) -> u32 {
        let part = u64::from(count) * u64::from(self.0) / u64::from(Self::ALL.0);
        u32::try_from(part).expect("a part is no more than the whole")
    }
}

/// What stays together: a canary takes all of it or nothing, so that its order does not suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// A queue of a topic.
    Queue {
        /// Id of the topic.
        topic: u32,
        /// Index of the queue.
        queue: u32,
        /// How many queues the topic has; at least one.
        queues: u32,
    },
    /// An order group of a topic.
    OrderGroup {
        /// Id of the topic.
        topic: u32,
        /// Hash of its name: groups of one hash go together.
        hash: u64,
    },
    /// A message without an order group, where queues are too few to be shared out; or what is
    /// decided by itself, as a transaction is.
    Message {
        /// Its id.
        id: [u8; 16],
    },
}

impl Traffic {
    /// What is not shared out: where nobody tries a version, or a plugin itself is asked about.
    pub const ALONE: Self = Self::Queue { topic: 0, queue: 0, queues: 1 };

    /// An order group by its name.
    #[must_use]
    pub fn order_group(topic: u32, name: &str) -> Self {
        Self::OrderGroup { topic, hash: xxh3_64_with_seed(name.as_bytes(), 0) }
    }
}

/// By what a topic's traffic is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Whole queues.
    Queue,
    /// Order groups, and messages without one.
    OrderGroup,
}

impl Unit {
    /// Queues where the share makes at least two of them and leaves two; order groups otherwise.
    #[must_use]
    pub fn of(queues: u32, share: Share) -> Self {
        let taken = share.of(queues);
        let enough = taken >= 2 && queues - taken >= 2;
        let all_or_none = share == Share::ALL || share.0 == 0;
        if enough || all_or_none { Self::Queue } else { Self::OrderGroup }
    }
}

/// Which traffic a canary gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// How much.
    pub share: Share,
    /// Another salt chooses other traffic; one canary keeps its own.
    pub salt: u64,
}

impl Split {
    /// Whether the candidate judges this. A larger share of the same salt takes all that a
    /// smaller one took. Of queues exactly the share is taken, rounded down; of the others about.
    #[must_use]
    pub fn takes(&self, traffic: &Traffic) -> bool {
        let hash = match traffic {
            Traffic::Queue { topic, queue, queues } => {
                let queues = (*queues).max(1);
                // A run of queues, which are numbered across the shards.
                let first = xxh3_64_with_seed(&topic.to_le_bytes(), self.salt) % u64::from(queues);
                let place = (u64::from(*queue) + first) % u64::from(queues);
                return place < u64::from(self.share.of(queues));
            }
            Traffic::OrderGroup { topic, hash } => {
                xxh3_64_with_seed(&hash.to_le_bytes(), self.salt ^ u64::from(*topic))
            }
            Traffic::Message { id } => xxh3_64_with_seed(id, self.salt),
        };
        hash % u64::from(Share::ALL.0) < u64::from(self.share.0)
    }
}

/// A call about fewer messages says what a call costs, and nothing of what a message does: from so
/// many on its time counts. Versions that get shares of different sizes have calls of different
/// sizes.
const TIMED_MESSAGES_MIN: u64 = 16;

/// What one side of a canary did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arm {
    /// Messages judged.
    pub messages: u64,
    /// Calls that ended in a fault.
    pub faults: u64,
    /// Messages of calls that were large enough for their time to count.
    pub timed: u64,
    /// Time spent in those, nanoseconds.
    pub spent_ns: u64,
}

impl Arm {
    /// Adds what a call did.
    pub fn add(&mut self, messages: u64, faults: u64, spent_ns: u64) {
        self.messages += messages;
        self.faults += faults;
        if messages >= TIMED_MESSAGES_MIN {
            self.timed += messages;
            self.spent_ns += spent_ns;
        }
    }
}

/// What is known of a canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The candidate.
    pub canary: Arm,
    /// The version in use, meanwhile.
    pub active: Arm,
    /// Messages that both judged.
    pub compared: u64,
    /// Of them, those with different verdicts.
    pub differing: u64,
}

/// When a canary is taken back, and how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// More faults than this take it back.
    pub faults_max: u64,
    /// It may take so many percent of the active version's time for a message.
    pub latency_percent_max: u64,
    /// And if it takes no longer than this for one, it is never too slow.
    pub latency_ns_min: u64,
    /// Of a thousand messages that both judged, so many may get different verdicts; `None` where
    /// different verdicts are what the new version is for.
    pub differing_per_mille_max: Option<u16>,
    /// Shares of time and of verdicts mean something from so many messages on.
    pub messages_min: u64,
    /// After so long without a reason to take it back it is good.
    pub bake_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            faults_max: 0,
            latency_percent_max: 200,
            latency_ns_min: 200,
            differing_per_mille_max: None,
            messages_min: 1_000,
            bake_ms: 600_000,
        }
    }
}

/// Why a canary was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abort {
    /// It trapped, or was stopped.
    #[error("{faults} calls ended in a fault; at most {max} may")]
    Faults {
        /// How often.
        faults: u64,
        /// How often it might have.
        max: u64,
    },
    /// It is slow.
    #[error("a message takes {canary_ns} ns, {active_ns} ns with the version in use")]
    Latency {
        /// Its time for a message.
        canary_ns: u64,
        /// The other's.
        active_ns: u64,
    },
    /// It decides otherwise.
    #[error("{differing} of {compared} messages got another verdict")]
    Differing {
        /// Messages with another verdict.
        differing: u64,
        /// Messages compared.
        compared: u64,
    },
}

/// What to do with a canary now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on watching, for so long at least.
    Bake {
        /// Rest of the time to bake; 0 where only messages are missing.
        left_ms: u64,
    },
    /// Take it back.
    Abort(Abort),
    /// It may judge everything.
    Promote,
}

impl Rules {
    /// Judges what is known of a canary that began at `since_ms`.
    #[must_use]
    pub fn decide(&self, since_ms: u64, now_ms: u64, evidence: &Evidence) -> Decision {
        if let Some(abort) = self.abort(evidence) {
            return Decision::Abort(abort);
        }
        let left_ms = self.bake_ms.saturating_sub(now_ms.saturating_sub(since_ms));
        if left_ms > 0 || evidence.canary.messages < self.messages_min {
            return Decision::Bake { left_ms };
        }
        Decision::Promote
    }

    fn abort(&self, evidence: &Evidence) -> Option<Abort> {
        let Evidence { canary, active, compared, differing } = *evidence;
        if canary.faults > self.faults_max {
            return Some(Abort::Faults { faults: canary.faults, max: self.faults_max });
        }
        let enough = |messages: u64| messages >= self.messages_min.max(1);
        if enough(canary.timed) && enough(active.timed) {
            let canary_ns = canary.spent_ns / canary.timed;
            let active_ns = active.spent_ns / active.timed;
            let max_ns =
                (active_ns.saturating_mul(self.latency_percent_max) / 100).max(self.latency_ns_min);
            if canary_ns > max_ns {
                return Some(Abort::Latency { canary_ns, active_ns });
            }
        }
        let max = u128::from(self.differing_per_mille_max?);
        let too_many = u128::from(differing) * 1_000 > max * u128::from(compared);
        (enough(compared) && too_many).then_some(Abort::Differing { differing, compared })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        faults_max: 1,
        latency_percent_max: 150,
        latency_ns_min: 40,
        differing_per_mille_max: Some(10),
        messages_min: 100,
        bake_ms: 1_000,
    };

    fn arm(messages: u64, faults: u64, ns: u64) -> Arm {
        Arm { messages, faults, timed: messages, spent_ns: messages * ns }
    }

    #[test]
    fn small_calls_say_nothing_of_time() {
        let mut arm = Arm::default();
        arm.add(TIMED_MESSAGES_MIN - 1, 1, 9_000);
        assert_eq!(arm, Arm { messages: 15, faults: 1, timed: 0, spent_ns: 0 });
        arm.add(TIMED_MESSAGES_MIN, 0, 1_600);
        assert_eq!(arm, Arm { messages: 31, faults: 1, timed: 16, spent_ns: 1_600 });
        let slow = Evidence {
            canary: Arm { messages: 1_000, faults: 0, timed: 99, spent_ns: 99_000 },
            active: Arm { messages: 1_000, faults: 0, timed: 1_000, spent_ns: 1_000 },
            ..Evidence::default()
        };
        let none = Rules { faults_max: 1, ..RULES };
        assert_eq!(none.decide(0, 0, &slow), Decision::Bake { left_ms: 1_000 });
    }

    #[test]
    fn a_good_canary_bakes_and_is_promoted() {
        let good = Evidence {
            canary: arm(100, 1, 75),
            active: arm(900, 0, 50),
            compared: 100,
            differing: 1,
        };
        assert_eq!(RULES.decide(5_000, 5_400, &good), Decision::Bake { left_ms: 600 });
        assert_eq!(RULES.decide(5_000, 6_000, &good), Decision::Promote);
        let idle = Evidence { canary: arm(99, 0, 50), ..good };
        assert_eq!(RULES.decide(5_000, 9_000, &idle), Decision::Bake { left_ms: 0 });
    }

    #[test]
    fn a_bad_canary_is_taken_back_at_once() {
        let check = |evidence: Evidence, abort: Option<Abort>| {
            let expect = abort.map_or(Decision::Bake { left_ms: 1_000 }, Decision::Abort);
            assert_eq!(RULES.decide(0, 0, &evidence), expect, "{evidence:?}");
        };
        let active = arm(100, 5, 50);
        let faults = Evidence { canary: arm(3, 2, 1), ..Evidence::default() };
        check(faults, Some(Abort::Faults { faults: 2, max: 1 }));
        let slow = Evidence { canary: arm(100, 0, 76), active, ..Evidence::default() };
        check(slow, Some(Abort::Latency { canary_ns: 76, active_ns: 50 }));
        check(Evidence { canary: arm(99, 0, 76), ..slow }, None);
        let quick = arm(100, 0, 4);
        check(Evidence { canary: arm(100, 0, 40), active: quick, ..slow }, None);
        let other = Evidence { compared: 100, differing: 2, ..Evidence::default() };
        check(other, Some(Abort::Differing { differing: 2, compared: 100 }));
        check(Evidence { compared: 99, ..other }, None);
    }

    #[test]
    fn few_queues_are_shared_out_by_order_group() {
        let share = |per_mille| Share::new(per_mille).unwrap();
        assert_eq!(Unit::of(8, share(250)), Unit::Queue);
        assert_eq!(Unit::of(7, share(250)), Unit::OrderGroup);
        assert_eq!(Unit::of(16, share(950)), Unit::OrderGroup);
        assert_eq!(Unit::of(1, Share::ALL), Unit::Queue);
        assert_eq!(Share::new(1_001), None);
    }

    proptest! {
        #[test]
        fn a_larger_share_keeps_what_a_smaller_one_took(
            salt: u64, topic: u32, queue: u32, queues in 1_u32..2_000, id: [u8; 16], group: String,
            small in 0_u16..=1_000, large in 0_u16..=1_000,
        ) {
            let (small, large) = (small.min(large), small.max(large));
            for traffic in [
                Traffic::Queue { topic, queue: queue % queues, queues },
                Traffic::order_group(topic, &group),
                Traffic::Message { id },
            ] {
                let takes = |share| Split { share: Share(share), salt }.takes(&traffic);
                prop_assert!(!takes(small) || takes(large));
                prop_assert!(!takes(0) && takes(1_000));
            }
        }

        #[test]
        fn of_queues_exactly_the_share_is_taken(
            salt: u64, topic: u32, queues in 1_u32..2_000, share in 0_u16..=1_000,
        ) {
            let split = Split { share: Share(share), salt };
            let takes = |queue: &u32| split.takes(&Traffic::Queue { topic, queue: *queue, queues });
            let taken = (0..queues).filter(takes).count() as u64;
            prop_assert_eq!(taken, u64::from(queues) * u64::from(share) / 1_000);
        }
    }

    #[test]
    fn order_groups_are_taken_by_their_share() {
        let split = Split { share: Share(100), salt: 7 };
        let group = |number: u32| Traffic::order_group(1, &format!("group {number}"));
        let taken = (0..10_000).filter(|number| split.takes(&group(*number))).count();
        assert!((800..1_200).contains(&taken), "{taken} of 10,000 order groups at a tenth");
    }
}
