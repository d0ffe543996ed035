//! What an answer of the broker does to a lane.
use yard_wire::requests::Produced;
use yard_wire::{Code, QueueOffset, Refusal};

use super::{Completion, LaneCore, Placement, Reaction, State, reaction};

impl LaneCore {
    pub(super) fn answered(&mut self, at: usize, produced: &Produced) {
        self.rewinds_without_progress = 0;
        self.backoff.reset();
        let formed = &mut self.window[at];
        formed.state = State::Answered;
        let records = std::mem::take(&mut formed.records);
        match offsets(&records, produced) {
            Ok(offsets) => {
                for ((ticket, topic, queue), offset) in records.into_iter().zip(offsets) {
                    let &Produced { place, nodes, duplicate, .. } = produced;
                    let result = Ok(Placement { topic, queue, offset, place, nodes, duplicate });
                    self.completions.push_back(Completion { ticket, result });
                }
            }
            Err(refusal) => {
                for (ticket, _, _) in records {
                    let result = Err(refusal.clone());
                    self.completions.push_back(Completion { ticket, result });
                }
            }
        }
        self.move_floor();
    }

    pub(super) fn refused(&mut self, at: usize, refusal: Refusal, now_ms: u64) {
        match reaction(refusal.code) {
            Reaction::Rewind => {
                self.rewind();
                self.rewinds_without_progress += 1;
                // Once at once; a broker that keeps refusing is not to be flooded.
                if self.rewinds_without_progress > 1 {
                    self.not_before_ms = now_ms.saturating_add(self.backoff.next_ms());
                }
            }
            Reaction::Wait => {
                self.rewind();
                let wait_ms = match refusal.retry_after_ms {
                    0 => self.backoff.next_ms(),
                    named => u64::from(named),
                };
                self.not_before_ms = now_ms.saturating_add(wait_ms);
            }
            Reaction::Fail => {
                self.fail(at, &refusal);
                self.move_floor();
            }
            Reaction::Fence => {
                self.fail_all(&refusal);
                self.fenced = Some(refusal);
            }
        }
    }

    /// Completes a batch with a refusal; the floor is the caller's to move.
    pub(super) fn fail(&mut self, at: usize, refusal: &Refusal) {
        let formed = &mut self.window[at];
        assert!(formed.state != State::Answered, "a batch is completed once");
        formed.state = State::Answered;
        for (ticket, _, _) in std::mem::take(&mut formed.records) {
            self.completions.push_back(Completion { ticket, result: Err(refusal.clone()) });
        }
    }
}

/// The offset of each record of a batch.
fn offsets(
    records: &[(u64, yard_wire::TopicId, yard_wire::QueueIndex)],
    produced: &Produced,
) -> Result<Vec<QueueOffset>, Refusal> {
    let mut taken = vec![0u32; produced.placed.len()];
    let mut offsets = Vec::with_capacity(records.len());
    for (_, topic, queue) in records {
        let found = produced.placed.iter().zip(&mut taken).find(|(placed, taken)| {
            placed.topic == *topic && placed.queue == *queue && **taken < placed.count
        });
        let Some((placed, taken)) = found else {
            let detail = format!("the answer does not say where the record of queue {queue} is");
            return Err(Refusal::new(Code::BadReply, detail));
        };
        offsets.push(QueueOffset(placed.first.0.saturating_add(u64::from(*taken))));
        *taken += 1;
    }
    Ok(offsets)
}
