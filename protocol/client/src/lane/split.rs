//! A batch that was refused for one of its messages: cut in two, and each half sent alone, until
//! the message is found.
//!
//! ```text
//!   40..48 refused ──► 40..44 stored, 44..48 refused ──► 44..46 refused, 46..48 … ──► 44 refused
//! ```
//!
//! Nothing of a refused batch is stored, so its sequences are free for its parts.
use yard_wire::batch::{self, BatchHeader, HEADER_BYTES};
use yard_wire::{Refusal, Sequence};

use super::{Formed, LaneCore, State};

impl LaneCore {
    /// One message of a batch is refused. Its parts are sent one after another, so that they are
    /// completed in order: a round trip each.
    pub(super) fn find_refused(&mut self, at: usize, refusal: &Refusal) {
        self.rewinds_without_progress = 0;
        if !self.is_first_unanswered(at) {
            yard_wire::mark!(SplitLater);
            let formed = &mut self.window[at];
            formed.is_alone = true;
            formed.state = State::Waiting;
        } else if self.window[at].records.len() == 1 {
            yard_wire::mark!(SplitFound);
            self.fail(at, refusal);
            self.move_floor();
        } else {
            yard_wire::mark!(SplitHalved);
            self.split(at);
        }
    }

    fn split(&mut self, at: usize) {
        let formed = &mut self.window[at];
        assert!(formed.records.len() > 1, "a single message is not cut");
        let mut rest = formed.records.split_off(formed.records.len() / 2);
        let end = formed.records.last().expect("a half has messages").end as usize;
        let count = formed.records.len() as u64;
        for record in &mut rest {
            record.end -= (end - HEADER_BYTES) as u32;
        }
        let encode = |sequence: Sequence, count: usize, records: &[u8]| {
            let header = BatchHeader { sequence, ..self.next };
            batch::encode(&header, count, records)
        };
        let (sequence, whole) = (formed.sequence, formed.bytes.clone());
        let after = Sequence(sequence.0 + count);
        let second = Formed {
            sequence: after,
            first: formed.first + count,
            bytes: encode(after, rest.len(), &whole[end..]),
            records: rest,
            deadline_ms: formed.deadline_ms,
            round: 0,
            state: State::Waiting,
            is_alone: true,
            in_doubt: formed.in_doubt.clone(),
        };
        formed.bytes = encode(sequence, formed.records.len(), &whole[HEADER_BYTES..end]);
        formed.state = State::Waiting;
        formed.is_alone = true;
        self.window.insert(at + 1, second);
        assert!(self.window.iter().is_sorted_by_key(|it| it.sequence), "in order of sequences");
    }
}
