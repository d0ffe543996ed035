//! What an answer of the broker does to a lane.
use yard_wire::batch::HEADER_BYTES;
use yard_wire::requests::{Placed, Produced};
use yard_wire::{Code, QueueOffset, Refusal};

use super::gather::Gathered;
use super::{Completion, Formed, LaneCore, Placements, Reaction, State, reaction, stores_nothing};

impl LaneCore {
    pub(super) fn answered(&mut self, at: usize, produced: &Produced) {
        self.rewinds_without_progress = 0;
        self.backoff.reset();
        self.held_up = None;
        let formed = &mut self.window[at];
        formed.state = State::Answered;
        let records = std::mem::take(&mut formed.records);
        let result = offsets(&records, produced).map(|offsets| {
            let &Produced { place, nodes, duplicate, .. } = produced;
            let originals = produced.originals.clone();
            Placements { place, nodes, duplicate, offsets, originals }
        });
        self.complete(at, records.len(), result);
        self.move_floor();
    }

    fn complete(&mut self, at: usize, count: usize, result: Result<Placements, Refusal>) {
        let Formed { first, bytes, .. } = &self.window[at];
        let tickets = *first..*first + count as u64;
        let bytes = bytes.len() - HEADER_BYTES;
        self.completions.push_back(Completion { tickets, bytes, result });
    }

    pub(super) fn refused(&mut self, at: usize, refusal: Refusal, now_ms: u64) {
        if stores_nothing(refusal.code) {
            self.window[at].state = State::Waiting;
        }
        match reaction(refusal.code) {
            Reaction::Rewind => {
                yard_wire::mark!(LaneRewound);
                self.rewind();
                self.rewinds_without_progress += 1;
                // Once at once; a broker that keeps refusing is not to be flooded.
                if self.rewinds_without_progress > 1 {
                    yard_wire::mark!(LaneRewoundAgain);
                    self.not_before_ms = now_ms.saturating_add(self.backoff.next_ms());
                }
            }
            Reaction::Wait => {
                self.rewind();
                let wait_ms = match refusal.retry_after_ms {
                    0 => {
                        yard_wire::mark!(LaneWaits);
                        self.backoff.next_ms()
                    }
                    named => {
                        yard_wire::mark!(LaneWaitsNamed);
                        u64::from(named)
                    }
                };
                self.not_before_ms = now_ms.saturating_add(wait_ms);
                self.held_up = stores_nothing(refusal.code).then_some(refusal);
            }
            Reaction::Fail => {
                yard_wire::mark!(LaneFailed);
                self.fail(at, &refusal);
                self.move_floor();
            }
            Reaction::Split => self.find_refused(at, &refusal),
            Reaction::Fence => {
                yard_wire::mark!(LaneFenced);
                self.fail_all(&refusal);
                self.fenced = Some(refusal);
            }
        }
    }

    /// Why a batch of the window is given up when its time is over: what it was refused with, if
    /// each of its attempts was.
    pub(super) fn why_not_in_time(&self, at: usize) -> Refusal {
        let formed = &self.window[at];
        let is_refused = formed.state == State::Waiting && formed.in_doubt.is_empty();
        match &self.held_up {
            Some(refusal) if is_refused => {
                yard_wire::mark!(LaneHeldUp);
                refusal.clone()
            }
            Some(_) | None => {
                let detail = "the message was sent and had no answer in time: it may be stored";
                Refusal::new(Code::TimedOut, detail)
            }
        }
    }

    /// Completes a batch with a refusal; the floor is the caller's to move.
    pub(super) fn fail(&mut self, at: usize, refusal: &Refusal) {
        let formed = &mut self.window[at];
        assert!(formed.state != State::Answered, "a batch is completed once");
        formed.state = State::Answered;
        let count = std::mem::take(&mut formed.records).len();
        self.complete(at, count, Err(refusal.clone()));
    }
}

/// The offset of each record of a batch; `None` of those that have none yet.
fn offsets(records: &[Gathered], produced: &Produced) -> Result<Vec<Option<QueueOffset>>, Refusal> {
    let mut taken: Vec<(&Placed, u32)> = produced.placed.iter().map(|p| (p, 0)).collect();
    // Stable: what is said of a queue twice is used in the order in which it was said.
    taken.sort_by_key(|(placed, _)| (placed.topic, placed.queue));
    let mut offsets = Vec::with_capacity(records.len());
    let mut last = 0;
    let mut originals = produced.originals.iter().peekable();
    for (number, Gathered { topic, queue, parked, .. }) in (0u32..).zip(records) {
        if let Some(original) = originals.next_if(|it| it.record == number) {
            offsets.push(original.offset);
            continue;
        }
        if *parked {
            offsets.push(None);
            continue;
        }
        let is_it = |(placed, taken): &(&Placed, u32)| {
            (placed.topic, placed.queue) == (*topic, *queue) && *taken < placed.count
        };
        // Records take turns, or stay with a queue: mostly it is one of these two.
        let next = if last + 1 < taken.len() { last + 1 } else { 0 };
        let is_first = |at: usize| is_it(&taken[at]) && !(at > 0 && is_it(&taken[at - 1]));
        let at = [next, last].into_iter().find(|at| *at < taken.len() && is_first(*at));
        let at = at.or_else(|| {
            let from = taken.partition_point(|(p, _)| (p.topic, p.queue) < (*topic, *queue));
            taken[from..].iter().position(is_it).map(|at| from + at)
        });
        let Some(at) = at else {
            yard_wire::mark!(LaneReplyLacksQueue);
            let detail = format!("the answer does not say where the record of queue {queue} is");
            return Err(Refusal::new(Code::BadReply, detail));
        };
        let (placed, taken_of_it) = &mut taken[at];
        let offset = placed.first.0.saturating_add(u64::from(*taken_of_it));
        offsets.push(Some(QueueOffset(offset)));
        *taken_of_it += 1;
        last = at;
    }
    if let Some(original) = originals.next() {
        yard_wire::mark!(LaneReplyOtherRecord);
        let detail = format!("the answer speaks of record {}, which is not there", original.record);
        return Err(Refusal::new(Code::BadReply, detail));
    }
    Ok(offsets)
}
