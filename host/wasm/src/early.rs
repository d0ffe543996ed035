//! Records that are asked for early: what goes into a frame next is on its way from memory while
//! what comes before is copied.
//!
//! A stored record that nobody has read lately takes as long to arrive as a plugin takes for
//! several. Without this, making a frame waits for each.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the instruction that asks for bytes has no safe form")
)]
use yard_abi::{Shown, View};

/// Records that are on their way at a time. Source: measured, 8, 16 and 48 differ little.
const AHEAD: usize = 8;
/// Bytes that arrive together.
const LINE_BYTES: usize = 64;
/// Bytes of a record that are asked for where a frame has no properties: fixed part and tag,
const HEAD_BYTES: usize = 96;
/// and where it has. Source: six properties, as the measurements have them.
const RECORD_BYTES: usize = 320;

/// Items in their order; the records of those that come next are asked for before.
#[derive(Clone, Debug)]
pub struct Early<I, F> {
    items: I,
    ahead: I,
    bytes: usize,
    record: F,
}

/// Has the records of items asked for before they come; so much of each as a frame with this view
/// has, but for long bodies. `record` finds the record of an item.
pub fn early<I, F>(items: I, view: View, record: F) -> Early<I, F>
where
    I: Iterator + Clone,
    F: Fn(&I::Item) -> &[u8],
{
    let bytes = match view {
        View { properties: Shown::None, body_bytes: 0 } => HEAD_BYTES,
        _ => RECORD_BYTES,
    };
    let mut early = Early { ahead: items.clone(), items, bytes, record };
    for _ in 0..AHEAD {
        early.ask_for_next();
    }
    early
}

impl<I, F> Early<I, F>
where
    I: Iterator,
    F: Fn(&I::Item) -> &[u8],
{
    #[inline]
    fn ask_for_next(&mut self) {
        let Some(item) = self.ahead.next() else { return };
        let record = (self.record)(&item);
        let record = &record[..record.len().min(self.bytes)];
        let (lines, rest) = record.as_chunks::<LINE_BYTES>();
        lines.iter().for_each(|line| ask_for(&line[0]));
        if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
            ask_for(first);
            ask_for(last);
        }
    }
}

impl<I, F> Iterator for Early<I, F>
where
    I: Iterator,
    F: Fn(&I::Item) -> &[u8],
{
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        self.ask_for_next();
        self.items.next()
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ask_for(byte: &u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the address is that of a byte that lives, and the instruction neither reads nor
    // writes as far as the program can tell: it moves bytes between memory and caches.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) }
}

/// Elsewhere stable Rust has no such instruction.
#[cfg(not(target_arch = "x86_64"))]
fn ask_for(_: &u8) {}
