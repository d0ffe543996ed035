//! Durations, sizes and places as scenarios write them.
use yard_wire::units::{read_bytes, read_duration_ms};
use yard_wire::{QueueIndex, QueueOffset};

/// A queue and an offset in it.
pub type Place = (QueueIndex, QueueOffset);

/// A duration in milliseconds.
///
/// # Errors
/// A sentence that says what may be written.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    read_duration_ms(text)
}

/// A size in bytes.
///
/// # Errors
/// A sentence that says what may be written.
pub fn bytes(text: &str) -> Result<u64, String> {
    read_bytes(text)
}

/// A number.
///
/// # Errors
/// A sentence that says what may be written.
pub fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number that may be here"))
}

/// `queue@offset`.
#[must_use]
pub fn place(text: &str) -> Option<Place> {
    let (queue, offset) = text.split_once('@')?;
    Some((QueueIndex(queue.parse().ok()?), QueueOffset(offset.parse().ok()?)))
}

/// `topic/queue`.
///
/// # Errors
/// A sentence that says what may be written.
pub fn queue_of(text: &str) -> Result<(&str, QueueIndex), String> {
    let parts = text.split_once('/').and_then(|(topic, queue)| Some((topic, queue.parse().ok()?)));
    let (topic, queue) = parts.ok_or_else(|| format!("it takes topic/queue, not {text:?}"))?;
    Ok((topic, QueueIndex(queue)))
}
