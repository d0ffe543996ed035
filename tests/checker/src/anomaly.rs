//! The registry of anomalies: one row adds one.

use crate::event::Queue;
use std::fmt;

macro_rules! kinds {
    ($($variant:ident $name:literal $meaning:literal)*) => {
        /// A promise that a history can break.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $meaning] $variant,)*
        }

        impl Kind {
            /// Every kind, in the order of the registry; a kind's place is `kind as usize`.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// The name printed, and used in tests.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Kind::$variant => $meaning,)* }
            }
        }
    };
}

kinds! {
    Malformed "malformed" "The record contradicts itself: the recorder is wrong."
    LostWrite "lost-write" "Accepted at a level that outlives the crashes, absent at the end."
    Unseen "unseen" "Accepted, on a queue without a final scan, and no reader ever saw it."
    Duplicate "duplicate" "One send is stored or delivered at two offsets."
    InconsistentOffsets "inconsistent-offsets" "Two observers disagree on an offset."
    AbortedRead "aborted-read" "A send that was definitely refused is visible."
    Phantom "phantom" "A message is visible that nobody sent there, or not yet."
    Corrupt "corrupt" "A message's body differs from the one sent."
    PrecommittedRead "precommitted-read" "Delivered, but not stored: delivery preceded commit."
    OffsetGap "offset-gap" "The offsets of a final scan are not dense and ascending."
    NonmonotonicSend "nonmonotonic-send" "A producer's messages are stored out of its order."
    OrderGroup "order-group" "A producer's messages of one order group are out of order."
    RealTimeOrder "real-time-order" "Stored before a message that was there earlier."
    NonmonotonicPoll "nonmonotonic-poll" "First deliveries went backwards in the queue."
    Overtaken "overtaken" "Delivered while one before it in its order group was open elsewhere."
    AckedAhead "acked-ahead" "Acknowledged behind a failure in the same hands."
    PollSkip "poll-skip" "A group got messages before and after one that it never got."
    NonmonotonicAttempt "nonmonotonic-attempt" "A later delivery has no higher attempt."
    HeldElsewhere "held-elsewhere" "Delivered while somebody had been told that it holds it."
    LateSettle "late-settle" "Settled by a delivery that a later one had taken the place of."
    AttemptsExceeded "attempts-exceeded" "Delivered more often than the retry policy allows."
    AckedRedelivered "acked-redelivered" "Delivered after an acknowledgement that must hold."
    NotDelivered "not-delivered" "A group that reads the topic never got a stored message."
    AfterRemoval "after-removal" "A group that was removed got a message, or settled one."
    UnackedLost "unacked-lost" "Delivered, never acknowledged, and never delivered again."
    Early "early" "A delayed message was delivered before its time."
    ExpiredEarly "expired-early" "Passed over as expired before its time, or without having one."
    TenantLeak "tenant-leak" "A tenant's message was delivered to another tenant."
    DeadLetterLost "dead-letter-lost" "Rejected for good, but not in the dead-letter topic."
}

/// One broken promise: what, where, and the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// Which promise.
    pub kind: Kind,
    /// The queue concerned.
    pub queue: Queue,
    /// The consumer group concerned, if it is about delivery.
    pub group: Option<u64>,
    /// The messages, offsets and times that prove it.
    pub evidence: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} queue {}", self.kind, self.queue)?;
        if let Some(group) = self.group {
            write!(f, " group {group}")?;
        }
        write!(f, ": {}", self.evidence)
    }
}
