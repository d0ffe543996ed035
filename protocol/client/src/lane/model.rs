//! A model of the broker, for tests: how it numbers what a lane of a producer sends.
use std::collections::{BTreeMap, VecDeque};

use yard_wire::batch::Batch;
use yard_wire::requests::{Placed, Produce, Produced};
use yard_wire::{Code, QueueOffset, Refusal, TopicId};

use super::LANE_BATCHES_IN_FLIGHT_MAX;

pub(crate) const TOPIC: TopicId = TopicId(4);

/// The broker's rules of numbering for one lane of one producer.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    next: u64,
    remembered: VecDeque<(u64, Produced)>,
    /// What is stored: ticket and queue, in order.
    pub(crate) stored: Vec<(u64, u16)>,
    ends: BTreeMap<u16, u64>,
}

impl Broker {
    /// Stores a batch, or says what is wrong with its number.
    pub(crate) fn produce(&mut self, produce: &Produce) -> Result<Produced, Refusal> {
        let batch = Batch::parse(produce.batch.clone()).expect("the client sends what is whole");
        let sequence = batch.header().sequence.0;
        let expected = self.next.max(produce.floor.0);
        if sequence > expected {
            return Err(Refusal::from(Code::OutOfSequence));
        }
        if sequence < expected {
            let found = self.remembered.iter().find(|(known, _)| *known == sequence);
            return match found {
                Some((_, produced)) => Ok(Produced { duplicate: true, ..produced.clone() }),
                None => Err(Refusal::from(Code::StaleSequence)),
            };
        }
        let mut placed: Vec<Placed> = Vec::new();
        for record in batch.records() {
            let queue = record.queue();
            let ticket = u128::from_be_bytes(record.id().0) as u64;
            self.stored.push((ticket, queue.0));
            let end = self.ends.entry(queue.0).or_default();
            match placed.iter_mut().find(|placed| placed.queue == queue) {
                Some(placed) => placed.count += 1,
                None => {
                    let first = QueueOffset(*end);
                    placed.push(Placed { topic: TOPIC, queue, first, count: 1 });
                }
            }
            *end += 1;
        }
        self.next = batch.next_sequence().0;
        let produced = Produced {
            shard: batch.header().shard,
            place: produce.place,
            nodes: produce.nodes,
            duplicate: false,
            placed,
            originals: vec![],
        };
        self.remembered.push_back((sequence, produced.clone()));
        if self.remembered.len() > LANE_BATCHES_IN_FLIGHT_MAX {
            self.remembered.pop_front();
        }
        Ok(produced)
    }
}
