//! Points over packed frames: what the exports of a component do, for native code too.
//!
//! The broker runs plugins as wasm. This is how the same source is run beside it, as an oracle of
//! tests and in measurements.

use yard_abi::Frame;
use yard_abi::verdict::{
    self, AnswersBuilder, BitmapBuilder, KeysBuilder, PATCH_BYTES_MAX, REASON_BYTES_MAX,
};

use crate::{Answer, Dedupe, Filter, Interceptor, Message};

/// The bitmap of a filter's verdicts.
///
/// # Panics
/// When `frame` is none, or does not have `count` messages.
#[must_use]
pub fn filter<F: Filter>(filter: &F, frame: &[u8], count: u32) -> Vec<u8> {
    let mut bitmap = BitmapBuilder::new(count);
    for (index, message) in messages(frame, count).enumerate() {
        bitmap.set(index, filter.keep(&message));
    }
    bitmap.into_bytes()
}

/// The key list of a dedupe plugin.
///
/// # Panics
/// When `frame` is none, does not have `count` messages, or a key is too long.
#[must_use]
pub fn dedupe<D: Dedupe>(dedupe: &D, frame: &[u8], count: u32) -> Vec<u8> {
    let mut keys = KeysBuilder::default();
    let mut key = Vec::new();
    for message in messages(frame, count) {
        key.clear();
        dedupe.key(&message, &mut key);
        if keys.push(&key).is_err() {
            let (found, max) = (key.len(), verdict::KEY_BYTES_MAX);
            panic!("a key of {found} bytes, the limit is {max}");
        }
    }
    keys.into_bytes()
}

/// The answer list of an interceptor.
///
/// # Panics
/// When `frame` is none, does not have `count` messages, or a patch is too long.
#[must_use]
pub fn interceptor<I: Interceptor>(interceptor: &I, frame: &[u8], count: u32) -> Vec<u8> {
    let mut answers = AnswersBuilder::default();
    for message in messages(frame, count) {
        let answer = interceptor.apply(&message);
        let packed = match &answer {
            Answer::Pass => verdict::Answer::Pass,
            Answer::Replace(patch) => verdict::Answer::Replace(patch.packed()),
            Answer::Reject(reason) => verdict::Answer::Reject(shortened(reason)),
        };
        if answers.push(&packed).is_err() {
            panic!("a patch is larger than a message may be: {PATCH_BYTES_MAX} bytes at most");
        }
    }
    answers.into_bytes()
}

fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

/// The messages of a frame. A host that gives something else is no host to work with.
fn messages(frame: &[u8], count: u32) -> impl Iterator<Item = Message<'_>> {
    let frame = Frame::parse(frame).expect("the host gives a whole frame");
    assert_eq!(frame.count(), count, "the host counts what it gives");
    frame.messages().map(|message| message.expect("the host gives whole messages").into())
}
