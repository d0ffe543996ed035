//! Who a producer is to the broker, and from which number on each of its lanes goes on.
use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;
use yard_wire::batch::BatchHeader;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{OpenProducer, ProducerOpened};
use yard_wire::{Epoch, Lane, ProducerId, Sequence, ShardId, TopicId};

use crate::Error;
use crate::client::{Inner, Resend, unexpected};

/// The numbering of one producer.
#[derive(Debug)]
pub(super) struct Numbering {
    producer: ProducerId,
    /// What each shard has said about its new incarnation; empty of one without an identity.
    opened: BTreeMap<ShardId, ProducerOpened>,
}

impl Numbering {
    /// A producer that nobody knows.
    pub(super) fn anew(producer: ProducerId) -> Self {
        Self { producer, opened: BTreeMap::new() }
    }

    /// A new incarnation of the producer of this name, in every shard: whoever has a queue, or will
    /// have one, stores nothing of the earlier ones when this returns.
    pub(super) async fn open(inner: &Inner, topic: TopicId, name: &str) -> Result<Self, Error> {
        let producer = producer_of(topic, name);
        let mut opened = BTreeMap::new();
        for shard in inner.all_shards().await? {
            let request = Request::OpenProducer(OpenProducer { shard, producer });
            // An attempt whose answer is lost has begun one that nobody uses.
            match inner.ask(shard, Some(0), request, Resend::Always).await? {
                Reply::OpenProducer(incarnation) => drop(opened.insert(shard, incarnation)),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(Self { producer, opened })
    }

    /// The first batch of a lane.
    pub(super) fn first(&self, shard: ShardId, lane: Lane) -> BatchHeader {
        let epoch = self.opened.get(&shard).map_or(Epoch(0), |opened| opened.epoch);
        let sequence = self.begins_at(shard, lane);
        BatchHeader { producer: self.producer, epoch, lane, shard, sequence }
    }

    /// The number of the first record of a lane.
    pub(super) fn begins_at(&self, shard: ShardId, lane: Lane) -> Sequence {
        let lanes = self.opened.get(&shard).into_iter().flat_map(|opened| &opened.lanes);
        let known = { lanes }.find(|(known, _)| *known == lane);
        known.map_or(Sequence(0), |(_, next)| *next)
    }
}

/// A topic has its own producer of each name, so that numbers of two topics never meet in a lane.
fn producer_of(topic: TopicId, name: &str) -> ProducerId {
    ProducerId(xxh3_64_with_seed(name.as_bytes(), topic.0.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_go_on_where_their_shard_says_and_others_begin_at_0() {
        let opened = |epoch: u32, lanes: &[(u16, u64)]| ProducerOpened {
            epoch: Epoch(epoch),
            lanes: lanes.iter().map(|(lane, next)| (Lane(*lane), Sequence(*next))).collect(),
        };
        let shards = [(ShardId(0), opened(7, &[(0, 4), (3, 9)])), (ShardId(1), opened(8, &[]))];
        let numbering = Numbering { producer: ProducerId(5), opened: shards.into() };
        let check = |shard: u16, lane: u16, epoch: u32, sequence: u64| {
            let first = numbering.first(ShardId(shard), Lane(lane));
            let found = (first.producer, first.epoch, first.sequence);
            assert_eq!(found, (ProducerId(5), Epoch(epoch), Sequence(sequence)), "{shard}/{lane}");
        };
        check(0, 0, 7, 4);
        check(0, 3, 7, 9);
        check(0, 1, 7, 0);
        check(1, 3, 8, 0);
    }

    #[test]
    fn a_name_is_one_producer_of_each_topic() {
        let known = producer_of(TopicId(4), "import");
        assert_eq!(producer_of(TopicId(4), "import"), known);
        assert_ne!(producer_of(TopicId(5), "import"), known);
        assert_ne!(producer_of(TopicId(4), "import-2"), known);
        // Other programs and later versions must come to the same.
        assert_eq!(known, ProducerId(1_453_361_587_213_320_018));
    }
}
