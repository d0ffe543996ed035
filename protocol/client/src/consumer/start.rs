//! Where a new group begins, in words of the broker.
use yard_wire::QueueIndex;
use yard_wire::requests::{self, TopicRoute};

use super::Start;
use crate::Error;
use crate::client::Inner;

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
            let queues = route.shards.len();
            requests::Start::Offsets(client.seek_all(&route.name, queues, time).await?)
        }
    })
}
