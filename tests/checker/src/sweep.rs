//! Real-time order: what had ended before another began must have the lower value.
//!
//! For an append-only log this is exact linearizability without a search: the values are the
//! places in the log, so the only orders to compare are the real-time ones.

/// An operation's interval, the value it got, and the caller's name for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: u64,
    /// `u64::MAX`: it may take effect at any later time.
    pub(crate) end: u64,
    pub(crate) value: u64,
    pub(crate) item: u32,
}

/// Calls `found(earlier, later)` for each span that began after another had ended and yet has
/// a lower value; the earlier one named is the one with the highest value. Sorts the spans by
/// their start. O(n log n).
pub(crate) fn disorder(spans: &mut [Span], mut found: impl FnMut(&Span, &Span)) {
    spans.sort_unstable_by_key(|span| span.start);
    let mut by_end: Vec<(u64, usize)> =
        spans.iter().enumerate().map(|(at, span)| (span.end, at)).collect();
    by_end.sort_unstable();
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<&Span> = None;
    for span in spans.iter() {
        while let Some((_, at)) = ended.next_if(|(end, _)| *end < span.start) {
            if highest.is_none_or(|other| other.value < spans[at].value) {
                highest = Some(&spans[at]);
            }
        }
        if let Some(earlier) = highest.filter(|earlier| earlier.value > span.value) {
            found(earlier, span);
        }
    }
}
