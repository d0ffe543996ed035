//! Sending messages.
use bytes::Bytes;

use crate::codec::Wire;
use crate::{
    Epoch, Lane, MessageId, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, TopicId,
};

word! {
    /// Where the bytes are on the broker that answers, when it answers.
    pub enum AckPlace {
        /// In its memory. Lost if the process dies.
        Memory = 0 "memory",
        /// In the page cache. Survives the process, not the machine.
        Written = 1 "written",
        /// After fdatasync. Survives a power cut of the machine.
        Synced = 2 "synced",
    }
}

word! {
    /// On how many nodes the bytes are, when the broker answers. A broker that cannot keep the
    /// promise refuses with `AckUnavailable`; it never gives less.
    pub enum AckNodes {
        /// On the one that answers.
        One = 0 "one",
        /// On a majority.
        Quorum = 1 "quorum",
        /// On every replica.
        All = 2 "all",
    }
}

message! {
    /// Store a batch.
    pub struct Produce {
        /// Where the bytes must be before the reply.
        pub place: AckPlace,
        /// On how many nodes they must be before the reply.
        pub nodes: AckNodes,
        /// The lowest sequence of this lane to which the client still waits for an answer: it
        /// will never send a lower one again. The broker takes the batch when its first sequence
        /// is the larger of this and the next it expects, so a lane goes on after batches that
        /// were acknowledged from memory and lost.
        pub floor: Sequence,
        /// The batch, see [`crate::batch`].
        pub batch: Bytes,
    }

    /// A batch was stored, as far as was asked.
    pub struct Produced {
        /// The shard that stored it.
        pub shard: ShardId,
        /// Where the bytes are.
        pub place: AckPlace,
        /// On how many nodes they are.
        pub nodes: AckNodes,
        /// The batch had been stored before, by an earlier attempt; nothing was stored again.
        pub duplicate: bool,
        /// For each queue of the batch, in order of first use, where its records are. The
        /// records of one queue follow each other in the order of the batch.
        pub placed: Vec<Placed>,
        /// The records of the batch that were not stored, in order, because messages with their
        /// dedupe keys were stored before: which those are. They are not counted in `placed`.
        pub originals: Vec<Original>,
    }

    /// The message in whose place a record was not stored.
    #[derive(Copy)]
    pub struct Original {
        /// Which record of the batch was not stored, counted from 0.
        pub record: u32,
        /// Id of the message that was stored.
        pub id: MessageId,
        /// Its queue.
        pub queue: QueueIndex,
        /// Its place in the queue; `None` of a delayed message.
        pub offset: Option<QueueOffset>,
    }

    /// Begin a new incarnation of a producer in a shard.
    pub struct OpenProducer {
        /// The shard.
        pub shard: ShardId,
        /// The producer.
        pub producer: ProducerId,
    }

    /// A new incarnation of a producer has begun: nothing that an earlier one sends is stored in
    /// this shard any more, and what the lanes say is synced.
    pub struct ProducerOpened {
        /// The epoch of the new incarnation, higher than that of every earlier one.
        pub epoch: Epoch,
        /// The lanes in which the producer has stored something, in order, at most
        /// [`crate::limits::LANES_MAX`]: the number after that of the last record that is stored.
        /// The new incarnation goes on there; in other lanes it begins at 0.
        pub lanes: Vec<(Lane, Sequence)>,
    }

    /// Where the records of one queue of a batch are.
    pub struct Placed {
        /// Topic of the queue.
        pub topic: TopicId,
        /// The queue.
        pub queue: QueueIndex,
        /// Offset of the first of them.
        pub first: QueueOffset,
        /// How many they are.
        pub count: u32,
    }
}

impl Produce {
    /// Appends the bytes of the request but for those of the batch, which are its last ones: who
    /// sends them after these need not copy them.
    pub fn put_head(&self, out: &mut Vec<u8>) {
        let Self { place, nodes, floor, batch } = self;
        place.put(out);
        nodes.put(out);
        floor.put(out);
        u32::try_from(batch.len()).expect("a batch fits a frame").put(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_batch_are_the_request() {
        let batch = Bytes::from_static(b"records");
        let (place, nodes, floor) = (AckPlace::Synced, AckNodes::One, Sequence(7));
        let produce = Produce { place, nodes, floor, batch };
        let mut bytes = Vec::new();
        produce.put_head(&mut bytes);
        bytes.extend_from_slice(&produce.batch);
        assert_eq!(produce.to_bytes(), bytes);
    }
}
