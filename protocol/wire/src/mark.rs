//! Coverage marks: which branches of recovery, hand-over and refusal a run has come through.
//!
//! ```text
//!   marks! { TailZeroed "store.recovery.tail-zeroed" … }  one list a crate, in its mark.rs
//!   mark!(TailZeroed);                                    at the branch: an atomic addition
//!   marks()                                               every mark of the crate, and how often
//! ```
//!
//! A branch without a row does not compile, and a row without a branch is a variant that is never
//! made, of which the compiler warns: so each list is complete by construction. Counting is write
//! only: no engine reads what it has counted, so that equal inputs give equal outputs still. Builds
//! without debug assertions count nothing, and nothing is left of a mark in them.

/// A mark, and how often runs in this process have come through its branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its name: crate, part, branch.
    pub name: &'static str,
    /// How often; 0 in builds without debug assertions.
    pub times: u64,
}

/// Notes that a run comes through here: a mark of the list of the crate that says it.
#[macro_export]
#[expect(clippy::crate_in_macro_def, reason = "each crate has marks of its own, in its mark.rs")]
macro_rules! mark {
    ($mark:ident) => {
        crate::mark::Mark::$mark.reach()
    };
}

/// The marks of a crate, one row each: its name at the branch, and its name for people.
#[macro_export]
macro_rules! marks {
    ($( $mark:ident $name:literal )*) => {
        /// A branch that a run may come through.
        #[derive(Clone, Copy)]
        pub(crate) enum Mark { $( #[doc = $name] $mark, )* }

        const NAMES: &[&str] = &[$( $name, )*];

        static TIMES: [::std::sync::atomic::AtomicU64; NAMES.len()] =
            [const { ::std::sync::atomic::AtomicU64::new(0) }; NAMES.len()];

        impl Mark {
            /// Notes that a run comes through its branch.
            pub(crate) fn reach(self) {
                if cfg!(debug_assertions) {
                    TIMES[self as usize].fetch_add(1, ::std::sync::atomic::Ordering::Relaxed);
                }
            }
        }

        /// Every mark of this crate, and how often runs in this process have come through it.
        #[must_use]
        pub fn marks() -> Vec<$crate::mark::Reached> {
            let times = TIMES.iter().map(|it| it.load(::std::sync::atomic::Ordering::Relaxed));
            let reached = NAMES.iter().zip(times);
            reached.map(|(name, times)| $crate::mark::Reached { name, times }).collect()
        }
    };
}

marks! {
    BatchShort "wire.batch.short"
    BatchMagic "wire.batch.magic"
    BatchVersion "wire.batch.version"
    BatchHeaderChecksum "wire.batch.header-checksum"
    BatchLength "wire.batch.length"
    BatchCount "wire.batch.count"
    BatchReserved "wire.batch.reserved"
    BatchSequence "wire.batch.sequence"
    BatchTrailing "wire.batch.trailing"
    BatchOverLimits "wire.batch.over-limits"
    RecordTrailing "wire.record.trailing"
    RecordCut "wire.record.cut"
    RecordShort "wire.record.short"
    RecordLength "wire.record.length"
    RecordSurplus "wire.record.surplus"
    RecordBodyChecksum "wire.record.body-checksum"
    RecordVersion "wire.record.version"
    RecordHeaderLength "wire.record.header-length"
    RecordParts "wire.record.parts"
    RecordHeaderChecksum "wire.record.header-checksum"
    RecordPlaced "wire.record.placed"
    RecordAttempts "wire.record.attempts"
    RecordBodyTooLarge "wire.record.body-too-large"
    RecordPropertiesTooLarge "wire.record.properties-too-large"
    PreambleMagic "wire.preamble.magic"
    PreambleVersion "wire.preamble.version"
    PreambleLane "wire.preamble.lane"
    FrameVersion "wire.frame.version"
    FrameTooLarge "wire.frame.too-large"
    FrameShort "wire.frame.short"
    ReleaseShort "wire.release.short"
    ReleaseLength "wire.release.length"
    ReleaseCut "wire.release.cut"
    ReleaseChecksum "wire.release.checksum"
    ReleaseTarget "wire.release.target"
    ReleaseOther "wire.release.other"
    ReleasesShort "wire.releases.short"
    ReleasesCount "wire.releases.count"
    PropertyReserved "wire.property.reserved"
    TagUnusable "wire.tag.unusable"
    ExpressionLong "wire.expression.long"
    ExpressionDialect "wire.expression.dialect"
    ExpressionEmptyTag "wire.expression.empty-tag"
    ExpressionLongTag "wire.expression.long-tag"
    ExpressionTags "wire.expression.tags"
    NameUnusable "wire.name.unusable"
    DedupeKey "wire.dedupe.key"
    DedupePropertyLength "wire.dedupe.property-length"
    DedupePropertySystem "wire.dedupe.property-system"
    DedupeWindow "wire.dedupe.window"
    RetryDelay "wire.retry.delay"
    RetryDelays "wire.retry.delays"
    RetryLongest "wire.retry.longest"
    RetryFactor "wire.retry.factor"
    RetryJitter "wire.retry.jitter"
    PolicyLong "wire.policy.long"
    PolicySettings "wire.policy.settings"
    PolicyTwice "wire.policy.twice"
    PolicyPair "wire.policy.pair"
    ValueTrailing "wire.value.trailing"
    ValueText "wire.value.text"
    ValueInteger "wire.value.integer"
    ValueShort "wire.value.short"
    ValueItems "wire.value.items"
}
