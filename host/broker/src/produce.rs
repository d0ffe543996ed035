//! Storing a batch: everything is checked before anything is stored.
use yard_wire::batch::Batch;
use yard_wire::limits::LANES_MAX;
use yard_wire::name::is_system;
use yard_wire::request::Reply;
use yard_wire::requests::{AckNodes, AckPlace, Produced};
use yard_wire::{QueueIndex, Sequence, ShardId, TenantId, TopicId};

use crate::broker::{Broker, refused};
use crate::effect::{Effect, Then};
use crate::entry::Entry;
use crate::event::Origin;
use crate::meta_table::shard_of;
use crate::producer::{Answer, Numbering};
use crate::refusal::{BadArgument, NoQueue, NoTopic, NotHere, ProduceError, SystemTopic};
use crate::trace::NOTING;

/// A batch that is not refused.
enum Taken {
    /// It is appended so.
    New(Entry),
    /// It was stored before, and so answered.
    Again(Answer),
}

impl Broker {
    pub(crate) fn produce(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        (place, nodes): (AckPlace, AckNodes),
        floor: Sequence,
        batch: Batch,
        effects: &mut Vec<Effect>,
    ) {
        let taken = self.check_batch(tenant, nodes, &batch).and_then(|()| {
            let count = batch.count();
            match self.producers.judge(tenant, batch.header(), count, floor) {
                Numbering::Next => {
                    self.check_backlog(&batch)?;
                    self.check_prepared(tenant, &batch)?;
                    self.dedupe(tenant, batch).map(Taken::New)
                }
                Numbering::Duplicate(answer) => Ok(Taken::Again(answer)),
                Numbering::Stale { expected } => Err(ProduceError::Stale { expected }),
                Numbering::Ahead { expected } => Err(ProduceError::Ahead { expected }),
                Numbering::Fenced { known } => Err(ProduceError::Fenced { known }),
            }
        });
        effects.push(match taken {
            Ok(Taken::New(entry)) => {
                let then = vec![Then::Produced { origin, place, nodes }];
                Effect::Append { entry, then }
            }
            Ok(Taken::Again(Answer { placed, originals, .. })) => {
                let shard = self.config.shard;
                let duplicate = true;
                let produced = Produced { shard, place, nodes, duplicate, placed, originals };
                Effect::ReplyAfter { origin, place, result: Ok(Reply::Produce(produced)) }
            }
            Err(error) => refused(origin, error.into()),
        });
    }

    fn check_batch(
        &self,
        tenant: TenantId,
        nodes: AckNodes,
        batch: &Batch,
    ) -> Result<(), ProduceError> {
        if nodes != AckNodes::One && !self.config.replicated {
            return Err(ProduceError::AckUnavailable(nodes));
        }
        let here = self.config.shard;
        if batch.header().shard != here {
            return Err(ProduceError::NotHere(NotHere { here }));
        }
        let lane = batch.header().lane;
        if lane.0 >= LANES_MAX {
            let detail = format!("lane {lane}; there are {LANES_MAX}");
            return Err(ProduceError::BadArgument(BadArgument(detail)));
        }
        if batch.header().producer == NOTING {
            let detail = format!("the producer {NOTING} is the broker itself");
            return Err(ProduceError::BadArgument(BadArgument(detail)));
        }
        assert!(!batch.runs().is_empty(), "a batch has records");
        for run in batch.runs() {
            self.check_queue(tenant, (run.topic, run.queue), here)?;
        }
        self.check_parked(tenant, batch)?;
        batch.check_limits().map_err(ProduceError::Record)
    }

    fn check_queue(
        &self,
        tenant: TenantId,
        (topic, queue): (TopicId, QueueIndex),
        here: ShardId,
    ) -> Result<(), ProduceError> {
        let topic = self
            .meta
            .topic_of(tenant, topic)
            .ok_or(ProduceError::NoTopic(NoTopic::Numbered(topic)))?;
        if is_system(&topic.name) {
            return Err(ProduceError::SystemTopic(SystemTopic(topic.name.to_string())));
        }
        let queues = topic.shards.len();
        let shard =
            shard_of(topic, queue).ok_or(ProduceError::NoQueue(NoQueue { queue, queues }))?;
        if shard != here {
            return Err(ProduceError::NotHere(NotHere { here }));
        }
        Ok(())
    }
}
