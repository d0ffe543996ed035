//! Which messages go into a frame together: those of which a canary gets its share, or the others,
//! so that one version judges all of them, and all that must stay together.
use yard_wasm::canary::{Split, Traffic, Unit};
use yard_wasm::{PluginId, Worker};
use yard_wire::TopicId;
use yard_wire::record::Record;

/// A queue, and how many its topic has.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueOf {
    pub(super) topic: TopicId,
    pub(super) queue: u16,
    pub(super) queues: u16,
}

/// How a plugin's traffic is shared out, by the table that a worker had when a frame was made.
pub(super) struct Sides {
    split: Option<Split>,
    generation: u64,
}

impl Sides {
    pub(super) fn of(worker: &mut Worker, plugin: PluginId) -> Self {
        let split = worker.split(plugin);
        Self { split, generation: worker.generation() }
    }

    /// Whether a frame that was made so may be judged by the table that the worker has now.
    pub(super) fn holds(&self, worker: &Worker) -> bool {
        worker.generation() == self.generation
    }

    /// What a message belongs to. Nobody looks into it unless its order group is what counts.
    pub(super) fn traffic(&self, of: QueueOf, record: &[u8]) -> Traffic {
        let QueueOf { topic, queue, queues } = of;
        let unit = self.split.map(|split| Unit::of(queues.into(), split.share));
        if unit != Some(Unit::OrderGroup) {
            return Traffic::Queue { topic: topic.0, queue: queue.into(), queues: queues.into() };
        }
        match Record::peek_order_group(record) {
            Ok(Some(group)) => Traffic::order_group(topic.0, group),
            Ok(None) | Err(_) => {
                let id = Record::peek_keys(record).map(|(id, _)| id.0);
                Traffic::Message { id: id.unwrap_or_default() }
            }
        }
    }

    /// Whether the canary gets it.
    pub(super) fn is_canarys(&self, traffic: &Traffic) -> bool {
        self.split.is_some_and(|split| split.takes(traffic))
    }
}

#[cfg(test)]
mod tests {
    use yard_wasm::canary::Share;
    use yard_wire::MessageId;
    use yard_wire::record::{ORDER, RecordParts};

    use super::*;

    fn record(group: Option<&str>, id: u8) -> Vec<u8> {
        let properties: Vec<_> = group.map(|group| (ORDER, group)).into_iter().collect();
        let id = MessageId([id; 16]);
        let mut record = Vec::new();
        RecordParts { id, properties: &properties, ..RecordParts::default() }
            .encode(&mut record)
            .unwrap();
        record
    }

    #[test]
    fn what_stays_together_follows_from_the_number_of_queues() {
        let sides = |per_mille| {
            let share = Share::new(per_mille).unwrap();
            Sides { split: Some(Split { share, salt: 1 }), generation: 0 }
        };
        let of = |queues| QueueOf { topic: TopicId(7), queue: 3, queues };
        let whole = Traffic::Queue { topic: 7, queue: 3, queues: 16 };
        let grouped = record(Some("g"), 1);
        assert_eq!(sides(250).traffic(of(16), &grouped), whole);
        assert_eq!(sides(250).traffic(of(4), &grouped), Traffic::order_group(7, "g"));
        let plain = record(None, 2);
        assert_eq!(sides(250).traffic(of(4), &plain), Traffic::Message { id: [2; 16] });
        let none = Sides { split: None, generation: 0 };
        assert_eq!(none.traffic(of(16), &grouped), whole);
        assert!(!none.is_canarys(&whole) && sides(1_000).is_canarys(&whole));
    }
}
