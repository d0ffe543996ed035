//! Where a new group begins, in words of the broker.
use futures_util::StreamExt;
use yard_wire::QueueIndex;
use yard_wire::requests::{self, TopicRoute};

use super::Start;
use crate::Error;
use crate::client::Inner;

/// Queues that are searched at the same time.
const SEARCHES_MAX: usize = 16;

/// Resolves what only the client knows: one offset for all, and a time.
pub(super) async fn resolve(
    client: &Inner,
    route: &TopicRoute,
    start: Start,
) -> Result<requests::Start, Error> {
    let queues = (0..route.shards.len()).map(|queue| QueueIndex(queue as u16));
    Ok(match start {
        Start::Earliest => requests::Start::Earliest,
        Start::Latest => requests::Start::Latest,
        Start::Offsets(offsets) => requests::Start::Offsets(offsets),
        Start::Offset(offset) => {
            requests::Start::Offsets(queues.map(|queue| (queue, offset)).collect())
        }
        Start::Time(time) => {
            let mut searches = futures_util::stream::iter(queues)
                .map(|queue| async move {
                    let sought = client.seek(&route.name, queue, time).await?;
                    Ok::<_, Error>((queue, sought.offset))
                })
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
