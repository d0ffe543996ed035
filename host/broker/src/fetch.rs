//! Plain reading from an offset on.
use yard_wire::limits::{FETCH_BYTES_MAX, FETCH_RECORDS_MAX};
use yard_wire::requests::Fetch;
use yard_wire::{QueueIndex, ShardId, TenantId, TopicId};

use crate::broker::Broker;
use crate::effect::Effect;
use crate::event::Origin;
use crate::group::Ends;
use crate::meta_table::shard_of;
use crate::refusal::{FetchError, NoQueue, NoTopic, NotHere};

impl Broker {
    pub(crate) fn fetch(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: Fetch,
        effects: &mut Vec<Effect>,
    ) -> Result<(), FetchError> {
        let Fetch { shard, topic, queue, from, .. } = request;
        let (topic, ends) = self.queue_here(tenant, shard, topic, queue)?;
        if from < ends.first {
            return Err(FetchError::Below { from, first: ends.first });
        }
        effects.push(Effect::Fetch {
            origin,
            topic,
            queue,
            from,
            first: ends.first,
            end: ends.end,
            records_max: request.records_max.min(FETCH_RECORDS_MAX),
            bytes_max: request.bytes_max.min(FETCH_BYTES_MAX),
        });
        Ok(())
    }

    /// A queue of this shard by its topic's name: the topic's id, and where the queue begins and
    /// ends.
    pub(crate) fn queue_here(
        &self,
        tenant: TenantId,
        asked: ShardId,
        topic: String,
        queue: QueueIndex,
    ) -> Result<(TopicId, Ends), FetchError> {
        self.check_here(asked).map_err(FetchError::NotHere)?;
        let topic = self
            .meta
            .topic_named(tenant, &topic)
            .ok_or(FetchError::NoTopic(NoTopic::Named(topic)))?;
        let queues = topic.shards.len();
        let shard = shard_of(topic, queue).ok_or(FetchError::NoQueue(NoQueue { queue, queues }))?;
        if shard != self.config.shard {
            return Err(FetchError::NotHere(NotHere { here: self.config.shard }));
        }
        let ends = self.ends_of(topic.topic, queue);
        assert!(ends.first <= ends.end, "a queue does not end before it begins");
        Ok((topic.topic, ends))
    }
}
