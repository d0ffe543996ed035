//! A client that reads queues by plain fetch: what it was given once must be there for ever.
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Fetch, Fetched};
use yard_wire::{Correlation, QueueIndex, QueueOffset, ShardId, TopicId};

use super::Link;
use crate::agenda::MS;
use crate::base::{Base, Found, Phase};
use crate::network::ToClient;
use crate::{keys, message};

/// A client that reads.
pub(crate) struct Reader {
    pub(super) link: Link,
    asked: Option<(Correlation, (TopicId, QueueIndex, QueueOffset))>,
}

impl Reader {
    /// A reader with this number among the clients.
    #[must_use]
    pub(crate) fn new(client: usize) -> Self {
        Self { link: Link::new(client), asked: None }
    }

    pub(super) fn work(&mut self, base: &mut Base) {
        if base.phase > Phase::Storm {
            return;
        }
        let topic = base.random.below(base.routes.len() as u64) as usize;
        let queue = base.random.below(base.routes[topic].shards.len() as u64) as u16;
        let route = &base.routes[topic];
        let from = QueueOffset(base.random.below(40));
        let place = (route.topic, QueueIndex(queue), from);
        let request = Request::Fetch(Fetch {
            shard: route.shards[usize::from(queue)],
            topic: route.name.clone(),
            queue: QueueIndex(queue),
            from,
            records_max: 20,
            bytes_max: 4_000,
        });
        self.asked = self.link.request(base, 1, request).map(|asked| (asked, place));
        let pause = base.random.range(20 * MS, 300 * MS);
        self.link.work_at(base, base.now + pause);
    }

    pub(super) fn receive(&mut self, base: &mut Base, frame: ToClient) {
        let ToClient::Reply(correlation, Ok(Reply::Fetch(fetched))) = frame else { return };
        let asked = self.asked.take_if(|(asked, _)| *asked == correlation);
        let Some((_, (topic, queue, from))) = asked else { return };
        for (offset, found) in read(base, (topic, queue, from), &fetched) {
            let before = base.fetched.insert((topic, queue, offset), found);
            if before.is_some_and(|before| before != found) {
                base.fail(|| format!("offset {offset} of {topic}/{queue} was {before:?}"));
            }
        }
    }
}

/// The messages of an answer to a fetch, checked: none missing, each whole.
pub(super) fn read(
    base: &mut Base,
    (topic, queue, from): (TopicId, QueueIndex, QueueOffset),
    fetched: &Fetched,
) -> Vec<(QueueOffset, Found)> {
    let mut found = Vec::new();
    let first = from.max(fetched.first);
    for (expected, record) in (first.0..).zip(&fetched.records) {
        if record.offset.0 != expected || record.offset >= fetched.end {
            let (got, end) = (record.offset, fetched.end);
            base.fail(|| format!("fetch of {topic}/{queue}: {got} for {expected}, end {end}"));
        }
        match message::decode(&record.record) {
            Ok((read, message)) => {
                keys::seen(base, &read);
                found.push((record.offset, message));
            }
            Err(error) => base.fail(|| format!("fetch of {topic}/{queue}: {error}")),
        }
    }
    found
}

/// The shard of a queue.
pub(super) fn shard_of(base: &Base, topic: TopicId, queue: QueueIndex) -> ShardId {
    base.route(topic).map_or(ShardId(0), |route| route.shards[usize::from(queue.0)])
}
