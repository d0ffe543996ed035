//! Some messages of a topic, spread evenly over what its queues hold.
use std::collections::VecDeque;
use std::sync::Arc;

use rhai::Dynamic;
use yard_client::{Client, QueueIndex, QueueOffset};

use super::{fetch, queues};
use crate::fault::Result;
use crate::session::Session;
use crate::value::cursor::{Pull, Source};
use crate::value::message::Message;

/// Places that are looked at: messages that lie together cost one question.
const PLACES_MAX: u64 = 256;

/// So many messages at most.
pub(crate) struct Sample {
    pub(crate) topic: Arc<str>,
    pub(crate) count: u64,
}

impl Source for Sample {
    fn open(&self, session: &Arc<Session>) -> Result<Box<dyn Pull>> {
        let held: Vec<(QueueIndex, QueueOffset, QueueOffset)> = queues(session, &self.topic)?
            .into_iter()
            .map(|row| (row.queue, row.first, row.end))
            .collect();
        let (topic, client) = (self.topic.clone(), session.client()?);
        let left = places(&held, self.count).into();
        Ok(Box::new(Looking { topic, client, left, read: VecDeque::new() }))
    }
}

/// Where to read how much: runs of equal length at equal distances over all queues, one behind
/// the other; the same for the same topic.
fn places(
    held: &[(QueueIndex, QueueOffset, QueueOffset)],
    count: u64,
) -> Vec<(QueueIndex, QueueOffset, QueueOffset)> {
    let lengths = held.iter().map(|(_, first, end)| end.0.saturating_sub(first.0));
    let total: u64 = lengths.sum();
    let count = count.min(total);
    if count == 0 {
        return Vec::new();
    }
    let runs = count.min(PLACES_MAX);
    let mut places = Vec::new();
    let at =
        |part: u64, whole: u64| (u128::from(part) * u128::from(whole) / u128::from(runs)) as u64;
    for run in 0..runs {
        let mut skip = at(run, total);
        let mut wanted = at(run + 1, count) - at(run, count);
        for (queue, first, end) in held {
            let length = end.0.saturating_sub(first.0);
            if skip >= length {
                skip -= length;
                continue;
            }
            let from = first.0 + skip;
            let taken = wanted.min(end.0 - from);
            if taken > 0 {
                places.push((*queue, QueueOffset(from), QueueOffset(from + taken)));
            }
            wanted -= taken;
            skip = 0;
            if wanted == 0 {
                break;
            }
        }
    }
    places
}

struct Looking {
    topic: Arc<str>,
    client: Client,
    left: VecDeque<(QueueIndex, QueueOffset, QueueOffset)>,
    read: VecDeque<Message>,
}

impl Pull for Looking {
    fn next(&mut self, session: &Session) -> Result<Option<Dynamic>> {
        loop {
            if let Some(message) = self.read.pop_front() {
                return Ok(Some(Dynamic::from(message)));
            }
            let Some(place) = self.left.pop_front() else {
                return Ok(None);
            };
            let (queue, _, end) = place;
            let read = fetch(session, &self.client, &self.topic, place, u32::MAX)?;
            // An answer holds as much as its bytes allow: the rest is asked for again.
            if let Some(last) = read.last().filter(|last| last.offset().0 + 1 < end.0) {
                self.left.push_front((queue, QueueOffset(last.offset().0 + 1), end));
            }
            self.read.extend(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(held: &[(u64, u64)], count: u64, expected: &[(u16, u64, u64)]) {
        let held: Vec<_> = held
            .iter()
            .enumerate()
            .map(|(at, (first, end))| {
                (QueueIndex(at as u16), QueueOffset(*first), QueueOffset(*end))
            })
            .collect();
        let found: Vec<_> = places(&held, count).iter().map(|(q, a, b)| (q.0, a.0, b.0)).collect();
        assert_eq!(found, expected, "{held:?} {count}");
    }

    #[test]
    fn a_sample_is_spread_over_what_there_is() {
        check(&[], 5, &[]);
        check(&[(3, 3)], 5, &[]);
        check(&[(0, 10)], 2, &[(0, 0, 1), (0, 5, 6)]);
        check(&[(0, 2), (5, 7)], 100, &[(0, 0, 1), (0, 1, 2), (1, 5, 6), (1, 6, 7)]);
        let held = [(0, 1_000_000), (7, 1_000_007)];
        let held = held.map(|(a, b)| (QueueIndex(0), QueueOffset(a), QueueOffset(b)));
        let found = places(&held, 10_000);
        assert_eq!(found.len() as u64, PLACES_MAX);
        assert_eq!(found.iter().map(|(_, from, end)| end.0 - from.0).sum::<u64>(), 10_000);
    }
}
