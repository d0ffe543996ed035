//! The core of a producer's lane, as a value: numbering, window, resending, rewinding. It knows no
//! socket, no clock and no task; time is an argument, in milliseconds of any clock that does not
//! run backwards.
//!
//! ```text
//!   push ──► gathering ──► window: batches whose place in the numbering is fixed ──► completion
//!   (encodes   (buffers)   ├ answered │ sent │ waiting ┤
//!    in place)             floor ▲                      ▲ next sequence
//! ```
//!
//! Invariants:
//! - A batch that was sent once keeps its sequence and its bytes for ever, unless it was refused
//!   for one of its messages: then it is cut in two, so that the others are not refused with it.
//! - From the first unanswered batch to the newest there are never more than `in_flight_max`
//!   batches, those answered in between included; so the broker, which remembers the answers of
//!   the last [`LANE_BATCHES_IN_FLIGHT_MAX`], knows every batch that can be sent again.
//! - Every record that was pushed gets the next ticket and is completed exactly once. The tickets
//!   of a batch follow each other.
//! - A refusal counts only for the newest attempt of a batch; a good answer counts for any.
//! - Replies may come in any order, twice or never.
use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use yard_wire::batch::{self, BatchHeader};
use yard_wire::code::RetryClass;
use yard_wire::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, LANE_BATCHES_IN_FLIGHT_MAX};
use yard_wire::requests::{AckNodes, AckPlace, Original, Produce, Produced};
use yard_wire::{Code, QueueIndex, QueueOffset, Refusal, Sequence, TopicId};

pub use crate::mark::marks;

use crate::backoff::Backoff;
use distance::Distance;
use gather::{Gathered, Gathering};

mod answer;
mod distance;
mod gather;
#[cfg(test)]
pub(crate) mod model;
mod split;
#[cfg(test)]
mod tests;

/// How a lane behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// Where the bytes must be before a message counts as sent.
    pub place: AckPlace,
    /// On how many nodes they must be.
    pub nodes: AckNodes,
    /// Batches that may be on their way: 1 to [`LANE_BATCHES_IN_FLIGHT_MAX`].
    pub in_flight_max: usize,
    /// Bytes of a batch, header included, unless a single record is larger: at most
    /// [`BATCH_BYTES_MAX`].
    pub batch_bytes_max: usize,
    /// Records of a batch: 1 to [`BATCH_RECORDS_MAX`].
    pub batch_records_max: usize,
    /// How long a batch that is not full waits for more records, in milliseconds; 0: it is sent
    /// as soon as the window has room, so records gather exactly while it has none.
    pub linger_ms: u64,
    /// After this long without an answer the lane is sent again, in milliseconds; at least 1.
    pub attempt_ms: u64,
    /// After this long a message is given up, in milliseconds; at least 1.
    pub delivery_ms: u64,
    /// Whether a message that failed is the last: those behind it fail with it, so what is stored
    /// of the lane are its first records, without gaps.
    pub ends_at_failure: bool,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            place: AckPlace::Synced,
            nodes: AckNodes::One,
            in_flight_max: 8,
            batch_bytes_max: 256 << 10,
            batch_records_max: 1_024,
            linger_ms: 0,
            attempt_ms: 10_000,
            delivery_ms: 120_000,
            ends_at_failure: false,
        }
    }
}

/// What a lane must know of a record before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRecord {
    /// Topic in the record.
    pub topic: TopicId,
    /// Queue in the record.
    pub queue: QueueIndex,
    /// Bytes that it will have.
    pub bytes: usize,
    /// It waits for its time: it gets no place in its queue yet.
    pub parked: bool,
}

/// A record that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its number: 0, 1, 2 and so on in the order of the calls. It comes back in a
    /// [`Completion`].
    pub ticket: u64,
    /// It begins a batch: no record before it will be completed together with it.
    pub is_first: bool,
}

/// Which sending of which batch an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// First sequence of the batch.
    pub sequence: Sequence,
    /// 1 for the first time it was sent, and so on.
    pub round: u32,
}

/// Something to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To be handed back with the answer.
    pub attempt: Attempt,
    /// The request.
    pub produce: Produce,
}

/// Where the records of a completion are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placements {
    /// Where the bytes are on the broker.
    pub place: AckPlace,
    /// On how many nodes they are.
    pub nodes: AckNodes,
    /// An earlier attempt had stored them.
    pub duplicate: bool,
    /// The place of each record in its queue, in the order of the tickets; `None` of those that
    /// wait for their time. Of those that were not stored, the place of the message in their stead.
    pub offsets: Vec<Option<QueueOffset>>,
    /// The records that were not stored, because messages with their dedupe keys were before:
    /// counted from the first ticket, in order.
    pub originals: Vec<Original>,
}

/// What became of records that were pushed one after another. [`Code::TimedOut`] means that it is
/// not known, or that there was no connection; with any other refusal they are not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Their tickets; never empty.
    pub tickets: Range<u64>,
    /// Bytes of the records.
    pub bytes: usize,
    /// Where they are, or why they are not.
    pub result: Result<Placements, Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sent { since_ms: u64 },
    Answered,
}

#[derive(Debug)]
struct Formed {
    sequence: Sequence,
    /// Ticket of the first record.
    first: u64,
    bytes: Bytes,
    /// Empty once answered.
    records: Vec<Gathered>,
    deadline_ms: u64,
    round: u32,
    state: State,
    /// It is sent when everything before it is answered: one of its messages was refused.
    is_alone: bool,
    /// Rounds that had no answer when it was to be sent again, and have none yet: any of them may
    /// have stored it.
    in_doubt: Vec<u32>,
}

/// One lane of one producer at one shard.
#[derive(Debug)]
pub struct LaneCore {
    /// Sender and lane; its sequence is that of the next batch to form.
    next: BatchHeader,
    options: LaneOptions,
    next_ticket: u64,
    /// Batches to be, in order; records are added to the last one.
    gathering: VecDeque<Gathering>,
    /// Records with lower tickets do not linger.
    hurried_before: u64,
    window: VecDeque<Formed>,
    completions: VecDeque<Completion>,
    connected: bool,
    not_before_ms: u64,
    rewinds_without_progress: u32,
    backoff: Backoff,
    /// Why nothing is taken any more.
    fenced: Option<Refusal>,
    /// Why nothing is stored now: the newest refusal to wait for, since something was stored.
    held_up: Option<Refusal>,
    /// Batches that were answered, for their memory; none when time passes on an idle lane.
    used: VecDeque<Bytes>,
    /// How far away the broker is.
    distance: Distance,
    silences: u64,
    /// Bytes and records of the newest batch that was formed.
    formed_bytes: usize,
    formed_records: usize,
}

/// What a refusal asks of the lane.
enum Reaction {
    /// Send again from the first unanswered batch.
    Rewind,
    /// The same, after a while.
    Wait,
    /// Give the batch up.
    Fail,
    /// Find the message of the batch that it is about, and give that up.
    Split,
    /// Give everything up, for ever.
    Fence,
}

/// Whether a batch that is to be sent again was not stored by the attempt that was refused so.
fn stores_nothing(code: Code) -> bool {
    use Code::{BacklogFull, Busy, DedupeFull, DiskFull, OutOfSequence};
    matches!(code, BacklogFull | Busy | DedupeFull | DiskFull | OutOfSequence)
}

fn reaction(code: Code) -> Reaction {
    if code == Code::OutOfSequence {
        return Reaction::Rewind;
    }
    if code == Code::ProducerFenced {
        return Reaction::Fence;
    }
    if matches!(code, Code::MessageRefused | Code::NotComparable) {
        return Reaction::Split;
    }
    if code == Code::WrongShard {
        // Sending the same bytes to the same shard again is of no use.
        return Reaction::Fail;
    }
    match code.retry() {
        RetryClass::Never => Reaction::Fail,
        RetryClass::SamePlace | RetryClass::Elsewhere => Reaction::Wait,
    }
}

impl LaneCore {
    /// A lane that numbers from `first.sequence` on; disconnected at first. `seed` moves the
    /// waits after refusals that name none.
    ///
    /// # Panics
    /// When an option is out of its bounds.
    #[must_use]
    pub fn new(first: BatchHeader, options: LaneOptions, seed: u64) -> Self {
        assert!(
            (1..=LANE_BATCHES_IN_FLIGHT_MAX).contains(&options.in_flight_max),
            "the broker remembers as many batches as may be on their way"
        );
        assert!(options.batch_bytes_max <= BATCH_BYTES_MAX, "a batch fits a frame");
        assert!(
            (1..=BATCH_RECORDS_MAX).contains(&options.batch_records_max),
            "a batch has at least one record"
        );
        assert!(options.attempt_ms > 0 && options.delivery_ms > 0, "time must pass");
        Self {
            next: first,
            options,
            next_ticket: 0,
            gathering: VecDeque::new(),
            hurried_before: 0,
            window: VecDeque::new(),
            completions: VecDeque::new(),
            connected: false,
            not_before_ms: 0,
            distance: Distance::default(),
            silences: 0,
            rewinds_without_progress: 0,
            backoff: Backoff::new(seed),
            fenced: None,
            held_up: None,
            used: VecDeque::new(),
            formed_bytes: 0,
            formed_records: 0,
        }
    }

    /// Takes a record, which `encode` appends to the batch that it will be sent in; it is
    /// completed later, exactly once. Bounding what is taken is up to the caller.
    ///
    /// # Panics
    /// When `encode` appends another number of bytes than `record` says.
    pub fn push(
        &mut self,
        record: LaneRecord,
        now_ms: u64,
        encode: impl FnOnce(&mut BytesMut),
    ) -> Pushed {
        let fits = record.bytes + batch::HEADER_BYTES <= BATCH_BYTES_MAX;
        assert!(fits, "records are bounded by their own limits");
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(refusal) = &self.fenced {
            yard_wire::mark!(LanePushedFenced);
            let (tickets, bytes) = (ticket..ticket + 1, record.bytes);
            let result = Err(refusal.clone());
            self.completions.push_back(Completion { tickets, bytes, result });
            return Pushed { ticket, is_first: true };
        }
        let is_first = !self.gathering.back().is_some_and(|g| g.has_room(&record, &self.options));
        if is_first {
            let records = self.formed_records.min(self.options.batch_records_max);
            let gathering = Gathering::new(ticket, self.buffer(record.bytes), records);
            self.gathering.push_back(gathering);
        }
        let gathering = self.gathering.back_mut().expect("there is one now");
        gathering.push(&record, now_ms, encode);
        Pushed { ticket, is_first }
    }

    /// The ticket of the next record.
    #[must_use]
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// What was pushed until now does not linger.
    pub fn hurry(&mut self) {
        self.hurried_before = self.next_ticket;
    }

    /// A connection is there.
    pub fn on_connect(&mut self) {
        self.connected = true;
        self.not_before_ms = 0;
    }

    /// The connection is gone, and with it every answer that was still to come.
    pub fn on_disconnect(&mut self) {
        self.connected = false;
        if !self.window.is_empty() {
            yard_wire::mark!(LaneLostConnection);
        }
        self.rewind();
    }

    /// Whether [`LaneCore::next_to_send`] would give something.
    #[must_use]
    pub fn has_to_send(&self, now_ms: u64) -> bool {
        let may = self.connected && now_ms >= self.not_before_ms;
        may && (self.first_waiting().is_some() || self.may_form(now_ms))
    }

    /// Whether a batch could be formed and sent that never was before.
    #[must_use]
    pub fn has_new_to_send(&self, now_ms: u64) -> bool {
        self.connected && now_ms >= self.not_before_ms && self.may_form(now_ms)
    }

    /// The next thing to send, if any. To be called until it gives `None`.
    pub fn next_to_send(&mut self, now_ms: u64) -> Option<Outgoing> {
        self.on_time(now_ms);
        if !self.has_to_send(now_ms) {
            return None;
        }
        let at = match self.first_waiting() {
            Some(at) => at,
            None => self.form(),
        };
        let floor = self.window.front().expect("the batch to send is in the window").sequence;
        let formed = &mut self.window[at];
        formed.round += 1;
        formed.state = State::Sent { since_ms: now_ms };
        let attempt = Attempt { sequence: formed.sequence, round: formed.round };
        assert!(floor <= attempt.sequence, "no batch below the floor is sent again");
        let batch = formed.bytes.clone();
        let LaneOptions { place, nodes, .. } = self.options;
        Some(Outgoing { attempt, produce: Produce { place, nodes, floor, batch } })
    }

    /// Takes an answer of the broker, in whatever order and however often it comes.
    pub fn on_reply(&mut self, attempt: Attempt, result: Result<Produced, Refusal>, now_ms: u64) {
        let sequence = attempt.sequence;
        let Ok(at) = self.window.binary_search_by_key(&sequence, |formed| formed.sequence) else {
            yard_wire::mark!(LaneAnswerUnknown);
            return;
        };
        match result {
            Ok(produced) => {
                let formed = &self.window[at];
                if let State::Sent { since_ms } = formed.state
                    && formed.round == attempt.round
                {
                    self.distance.answered(since_ms, now_ms);
                }
                if formed.state == State::Answered {
                    yard_wire::mark!(LaneAnsweredTwice);
                } else {
                    self.answered(at, &produced);
                }
            }
            Err(refusal) => {
                let formed = &mut self.window[at];
                let is_sent = matches!(formed.state, State::Sent { .. });
                if is_sent && formed.round == attempt.round {
                    self.refused(at, refusal, now_ms);
                } else {
                    yard_wire::mark!(LaneRefusalOld);
                    if stores_nothing(refusal.code) {
                        formed.in_doubt.retain(|round| *round != attempt.round);
                    }
                }
            }
        }
        self.end_at_failure();
    }

    /// Before anything is sent with a floor above what failed.
    fn end_at_failure(&mut self) {
        if !self.options.ends_at_failure || self.fenced.is_some() {
            return;
        }
        let failed = self.completions.iter().find_map(|it| it.result.as_ref().err().cloned());
        if let Some(refusal) = failed {
            self.fail_all(&refusal);
            self.fenced = Some(refusal);
        }
    }

    /// Lets time pass: gives up what is too old, sends again what had no answer.
    pub fn on_time(&mut self, now_ms: u64) {
        for at in 0..self.window.len() {
            let formed = &self.window[at];
            if formed.state != State::Answered && formed.deadline_ms <= now_ms {
                yard_wire::mark!(LaneTimedOut);
                self.silences += u64::from(matches!(formed.state, State::Sent { .. }));
                let refusal = self.why_not_in_time(at);
                self.fail(at, &refusal);
            }
        }
        self.move_floor();
        self.give_up_unsent(now_ms);
        self.end_at_failure();
        if self.is_idle() {
            self.used.clear();
        }
        let attempt_ms = self.options.attempt_ms;
        let is_late = |formed: &Formed| match formed.state {
            State::Sent { since_ms } => now_ms.saturating_sub(since_ms) >= attempt_ms,
            State::Waiting | State::Answered => false,
        };
        if self.window.iter().any(is_late) {
            yard_wire::mark!(LaneAttemptLate);
            self.silences += 1;
            self.rewind();
        }
    }

    /// How often the broker has not answered in time what was sent, since this was asked last.
    #[must_use]
    pub fn take_silences(&mut self) -> u64 {
        std::mem::take(&mut self.silences)
    }

    /// When [`LaneCore::next_to_send`] must be called again although nothing else happens.
    #[must_use]
    pub fn wake_at(&self, now_ms: u64) -> Option<u64> {
        let options = &self.options;
        let sent = self.window.iter().filter_map(|formed| match formed.state {
            State::Sent { since_ms } => Some(since_ms.saturating_add(options.attempt_ms)),
            State::Waiting | State::Answered => None,
        });
        let deadline = self.window.iter().map(|formed| formed.deadline_ms).min();
        let pushed_ms = self.gathering.front().map(Gathering::pushed_ms);
        let given_up = pushed_ms.map(|at| at.saturating_add(options.delivery_ms));
        let has_room = self.connected && self.window.len() < options.in_flight_max;
        let lingered = pushed_ms.map(|at| at.saturating_add(options.linger_ms));
        let lingered = lingered.filter(|at| has_room && *at > now_ms);
        let is_held = self.connected && self.not_before_ms > now_ms && !self.is_idle();
        let held = is_held.then_some(self.not_before_ms);
        sent.chain(deadline).chain(given_up).chain(lingered).chain(held).min()
    }

    /// The next completion, if any.
    pub fn next_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    /// Whether every record that was pushed is completed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.gathering.is_empty() && self.window.is_empty()
    }

    /// Batches on their way or to be sent again.
    #[must_use]
    pub fn window_len(&self) -> usize {
        self.window.len()
    }

    /// Gives up everything that is not completed.
    pub fn fail_all(&mut self, refusal: &Refusal) {
        for at in 0..self.window.len() {
            if self.window[at].state != State::Answered {
                yard_wire::mark!(LaneGivenUp);
                self.fail(at, refusal);
            }
        }
        self.move_floor();
        while let Some(mut gathering) = self.gathering.pop_front() {
            self.give_up(&mut gathering, usize::MAX, refusal);
        }
        assert!(self.is_idle(), "everything was given up");
    }

    fn first_waiting(&self) -> Option<usize> {
        let at = self.window.iter().position(|formed| formed.state == State::Waiting)?;
        (!self.window[at].is_alone || self.is_first_unanswered(at)).then_some(at)
    }

    fn is_first_unanswered(&self, at: usize) -> bool {
        self.window.iter().take(at).all(|formed| formed.state == State::Answered)
    }

    fn may_form(&self, now_ms: u64) -> bool {
        let Some(first) = self.gathering.front() else {
            return false;
        };
        let options = &self.options;
        let has_lingered = || now_ms >= first.pushed_ms().saturating_add(options.linger_ms);
        let may_be_small = || self.window.len() < self.distance.small_batches_max();
        // What waits goes first.
        let is_held = self.window.iter().any(|formed| formed.state == State::Waiting);
        !is_held
            && self.window.len() < options.in_flight_max
            && (self.gathering.len() > 1
                || first.is_full(options)
                || first.first() < self.hurried_before
                || (may_be_small() && has_lingered()))
    }

    /// Fixes the next batch and its place in the numbering.
    fn form(&mut self) -> usize {
        let gathering = self.gathering.pop_front().expect("may_form was asked");
        let (first, pushed_ms) = (gathering.first(), gathering.pushed_ms());
        let (records, bytes) = gathering.finish(&self.next);
        let sequence = self.next.sequence;
        self.next.sequence = Sequence(sequence.0 + records.len() as u64);
        (self.formed_bytes, self.formed_records) = (bytes.len(), records.len());
        self.window.push_back(Formed {
            sequence,
            first,
            bytes,
            deadline_ms: pushed_ms.saturating_add(self.options.delivery_ms),
            round: 0,
            state: State::Waiting,
            is_alone: false,
            in_doubt: Vec::new(),
            records,
        });
        assert!(self.window.len() <= self.options.in_flight_max, "the window is bounded");
        self.window.len() - 1
    }

    /// Everything that is not answered is sent again, in order.
    fn rewind(&mut self) {
        for formed in &mut self.window {
            if let State::Sent { .. } = formed.state {
                formed.in_doubt.push(formed.round);
                formed.state = State::Waiting;
            }
        }
    }

    fn move_floor(&mut self) {
        while let Some(formed) = self.window.pop_front_if(|f| f.state == State::Answered) {
            self.keep(formed.bytes);
        }
    }
}
