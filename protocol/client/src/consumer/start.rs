//! Where a new group begins, in words of the broker.
use futures_util::StreamExt;
use yard_wire::requests::{self, TopicRoute};
use yard_wire::{Code, QueueIndex, QueueOffset, ShardId, Timestamp};

use super::Start;
use crate::Error;
use crate::client::Inner;

/// Queues that are searched at the same time.
const SEARCHES_MAX: usize = 16;
/// An offset past the end of every queue, far from overflowing in anybody's sum.
const PAST_THE_END: QueueOffset = QueueOffset(u64::MAX >> 1);

/// Resolves what only the client knows: one offset for all, and a time.
pub(super) async fn resolve(
    client: &Inner,
    route: &TopicRoute,
    start: Start,
) -> Result<requests::Start, Error> {
    let queues = (0..).map(QueueIndex).zip(route.shards.iter().copied());
    Ok(match start {
        Start::Earliest => requests::Start::Earliest,
        Start::Latest => requests::Start::Latest,
        Start::Offsets(offsets) => requests::Start::Offsets(offsets),
        Start::Offset(offset) => {
            requests::Start::Offsets(queues.map(|(queue, _)| (queue, offset)).collect())
        }
        Start::Time(time) => {
            let mut searches = futures_util::stream::iter(queues)
                .map(|(queue, shard)| search(client, &route.name, shard, queue, time))
                .buffer_unordered(SEARCHES_MAX);
            let mut offsets = Vec::with_capacity(route.shards.len());
            while let Some(found) = searches.next().await {
                offsets.push(found?);
            }
            offsets.sort_unstable();
            requests::Start::Offsets(offsets)
        }
    })
}

/// The first message of a queue stored at `time` or later, by bisection: stored times never
/// decrease along a queue.
async fn search(
    client: &Inner,
    topic: &str,
    shard: ShardId,
    queue: QueueIndex,
    time: Timestamp,
) -> Result<(QueueIndex, QueueOffset), Error> {
    let bounds = client.fetch(shard, topic, queue, PAST_THE_END, 1).await?;
    let (mut low, mut high) = (bounds.first.0, bounds.end.0);
    while low < high {
        let middle = low + (high - low) / 2;
        match client.fetch(shard, topic, queue, QueueOffset(middle), 1).await {
            Ok(found) => match found.records.first() {
                Some(record) if record.stored >= time => high = middle,
                Some(record) => low = record.offset.0.max(middle) + 1,
                // Removed meanwhile, or not readable: nothing older is of interest.
                None => low = found.first.0.max(middle + 1),
            },
            Err(error) if error.code == Code::OffsetOutOfRange => low = middle + 1,
            Err(error) => return Err(error),
        }
    }
    Ok((queue, QueueOffset(low)))
}
