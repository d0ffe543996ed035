//! What a start may have to put right though no byte was ever damaged.
use yard_store::Repair;

/// Whether a crash alone explains it: an end that was torn, a file that was not finished.
#[must_use]
pub(crate) fn is_of_crash(repair: &Repair) -> bool {
    matches!(
        repair,
        Repair::TailZeroed { .. } | Repair::SegmentRemoved { .. } | Repair::IndexRebuilt { .. }
    )
}
