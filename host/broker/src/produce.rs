//! Storing a batch: everything is checked before anything is stored; and incarnations of those who
//! send them.
use yard_wire::batch::Batch;
use yard_wire::limits::LANES_MAX;
use yard_wire::name::is_system;
use yard_wire::request::Reply;
use yard_wire::requests::{AckNodes, AckPlace, OpenProducer, Produced, ProducerOpened};
use yard_wire::{Epoch, ProducerId, QueueIndex, Sequence, ShardId, TenantId, Timestamp, TopicId};

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

    /// Fences the earlier incarnations of a producer, and says where its lanes go on: an answer
    /// after which nothing changes that by an earlier one.
    pub(crate) fn open_producer(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: &OpenProducer,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ProduceError> {
        self.check_here(request.shard).map_err(ProduceError::NotHere)?;
        let producer = request.producer;
        check_producer(producer)?;
        let (known, lanes) = self.producers.known(tenant, producer);
        let epoch = next_epoch(known, self.now)?;
        assert!(known.is_none_or(|known| known < epoch), "a new incarnation is the newest");
        let entry = Entry::Incarnation { tenant, producer, epoch };
        let reply = Reply::OpenProducer(ProducerOpened { epoch, lanes });
        effects.push(Effect::Append { entry, then: vec![Then::Reply { origin, reply }] });
        Ok(())
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
        check_producer(batch.header().producer)?;
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

fn check_producer(producer: ProducerId) -> Result<(), ProduceError> {
    if producer == NOTING {
        let detail = format!("the producer {NOTING} is the broker itself");
        return Err(ProduceError::BadArgument(BadArgument(detail)));
    }
    Ok(())
}

/// The epoch of the next incarnation: the second in which it begins, since 1970, so that it is the
/// newest also where the producer was forgotten; or the next one, where that has been.
fn next_epoch(known: Option<Epoch>, now: Timestamp) -> Result<Epoch, ProduceError> {
    let second = u32::try_from(now.0 / 1_000).unwrap_or(u32::MAX);
    match known {
        None => Ok(Epoch(second)),
        Some(known) => {
            let next = known.0.checked_add(1).ok_or(ProduceError::Fenced { known })?;
            Ok(Epoch(next.max(second)))
        }
    }
}
