//! A lane as producers, the reader of its stream and its task share it.
//!
//! ```text
//!   push ─────► core ─► pump ─► stream          whoever has news does the work that follows from
//!   answer ───► core ─► pump, fates ─► receipts it; the task (lane_task.rs) is for time, room in
//!   task ─────► core ─► pump                    the stream, and connections that come and go
//! ```
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot};
use yard_wire::batch::BatchHeader;
use yard_wire::code::RetryClass;
use yard_wire::limits::LANE_BATCHES_IN_FLIGHT_MAX;
use yard_wire::record::{RecordHead, SealedRecord};
use yard_wire::request::Reply;
use yard_wire::{Code, Lane, Refusal, ShardId};

use super::receipt::{Fate, Receipt};
use crate::client::{self, Inner};
use crate::connection::{Answer, Connection, Permit};
use crate::health::Health;
use crate::lane::{Attempt, LaneCore, LaneOptions, LaneRecord, Placements};
use crate::{Error, client::Alive};

/// Attempts that wait for an answer, those given up since among them.
const ATTEMPTS_MAX: usize = 4 * LANE_BATCHES_IN_FLIGHT_MAX;

#[derive(Debug)]
pub(super) struct LaneSender {
    pub(super) client: Arc<Inner>,
    topic: Arc<str>,
    pub(super) shard: ShardId,
    pub(super) lane: Lane,
    /// Bytes of records that may wait for an answer, over all lanes of the producer.
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    route_is_old: Arc<Notify>,
    /// Of the producer: which shards are well.
    health: Arc<Mutex<Health>>,
    state: Mutex<State>,
    /// There is something for the task.
    pub(super) work: Notify,
}

#[derive(Debug)]
struct State {
    core: LaneCore,
    /// Batches with tickets that are not completed, in order.
    open: VecDeque<Open>,
    /// Flushes, each with the ticket below which all must be completed.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    connection: Option<Arc<Connection>>,
    attempts: usize,
    /// Whether records are taken.
    takes: bool,
    /// Whether the task has ended.
    is_over: bool,
    /// The task is to send what was pushed, and was told so.
    is_called: bool,
    /// The stream had no room.
    wants_room: bool,
    /// On this connection, a message was given up that may still arrive.
    has_given_up: bool,
    /// When the task looks at the clock next.
    armed_ms: u64,
    /// The latest time that anybody brought.
    seen_ms: u64,
}

#[derive(Debug)]
struct Open {
    fate: Arc<Fate>,
    /// Those that are not completed.
    tickets: Range<u64>,
}

/// What the task is to wait for.
pub(super) enum Next {
    /// Nothing more will come.
    End,
    Wait {
        /// A time, in the client's milliseconds.
        wake_ms: Option<u64>,
        /// Room in the lane's stream of this connection.
        room: Option<Arc<Connection>>,
    },
}

/// What there is to tell when the state is no longer locked.
#[derive(Default)]
struct News {
    told: Vec<Told>,
    flushed: Vec<oneshot::Sender<()>>,
    bytes: usize,
}

struct Told {
    fate: Arc<Fate>,
    tickets: Range<u64>,
    result: Result<Placements, Error>,
}

impl LaneSender {
    pub(super) fn new(
        client: Arc<Inner>,
        topic: Arc<str>,
        first: BatchHeader,
        options: LaneOptions,
        (budget, budget_bytes): (Arc<Semaphore>, usize),
        (route_is_old, health): (Arc<Notify>, Arc<Mutex<Health>>),
    ) -> Self {
        let state = State {
            core: LaneCore::new(first, options, client.random.next_u64()),
            open: VecDeque::new(),
            flushes: Vec::new(),
            connection: None,
            attempts: 0,
            takes: true,
            is_over: false,
            is_called: false,
            wants_room: false,
            has_given_up: false,
            armed_ms: u64::MAX,
            seen_ms: 0,
        };
        let BatchHeader { shard, lane, .. } = first;
        let (state, work) = (Mutex::new(state), Notify::new());
        Self { client, topic, shard, lane, budget, budget_bytes, route_is_old, health, state, work }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // An invariant of the core that does not hold is a panic in each of its users.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record for which there is room in the budget.
    ///
    /// On an idle lane it is on its way when this returns. Otherwise it waits for the task, so
    /// that those who push one after another fill a batch. The checksums were computed before, so
    /// that those who push side by side wait for each other's copies only.
    pub(super) fn push<'p, P>(
        self: &Arc<Self>,
        sealed: &SealedRecord<'_, P>,
        now_ms: u64,
    ) -> Result<Receipt, Error>
    where
        P: Iterator<Item = (&'p str, &'p str)> + Clone,
    {
        let mut state = self.lock();
        if !state.takes {
            drop(state);
            self.budget.add_permits(sealed.bytes().min(self.budget_bytes));
            return Err(Error::closed("client"));
        }
        // Those who push side by side looked at the clock before they came here.
        let now_ms = state.seen_ms.max(now_ms);
        state.seen_ms = now_ms;
        let &RecordHead { topic, queue, id, flags, .. } = sealed.head();
        let (bytes, parked) = (sealed.bytes(), flags.is_parked());
        let record = LaneRecord { topic, queue, bytes, parked };
        let pushed = state.core.push(record, now_ms, |out| sealed.put(out));
        let ticket = pushed.ticket;
        if pushed.is_first {
            let fate = Fate::new(self.topic.clone());
            state.open.push_back(Open { fate, tickets: ticket..ticket });
        }
        let open = state.open.back_mut().expect("the first of a batch opened it");
        assert_eq!(open.tickets.end, ticket, "tickets of a batch follow each other");
        open.tickets.end += 1;
        let receipt = Receipt::new(id, queue, ticket, open.fate.clone());
        let may_send = !state.is_called && state.core.has_new_to_send(now_ms);
        let is_at_once = may_send && state.core.window_len() == 0;
        if is_at_once {
            self.pump(&mut state, now_ms);
        } else if may_send {
            state.is_called = true;
            self.work.notify_one();
        }
        if is_at_once || pushed.is_first {
            self.arm(&mut state, now_ms);
            self.finish(state);
        }
        Ok(receipt)
    }

    /// Sends what is there now without lingering, and gives what resolves when all of it is
    /// completed.
    pub(super) fn flush(self: &Arc<Self>) -> Result<oneshot::Receiver<()>, Error> {
        let (done, flushed) = oneshot::channel();
        let mut state = self.lock();
        if state.is_over {
            return Err(Error::closed("client"));
        }
        state.core.hurry();
        let before = state.core.next_ticket();
        state.flushes.push((before, done));
        self.pump(&mut state, self.client.now_ms());
        self.finish(state);
        Ok(flushed)
    }

    /// Takes no more records; the task ends when what is there is completed.
    pub(super) fn close(self: &Arc<Self>) {
        let mut state = self.lock();
        state.takes = false;
        state.core.hurry();
        self.pump(&mut state, self.client.now_ms());
        self.finish(state);
        self.work.notify_one();
    }

    /// The task looks: what is there to be done, and what then to wait for.
    pub(super) fn look(self: &Arc<Self>) -> Next {
        let mut state = self.lock();
        let now_ms = self.client.now_ms();
        state.is_called = false;
        state.core.on_time(now_ms);
        state.wants_room = !self.send_all(&mut state, now_ms);
        self.notice_silence(&mut state, now_ms);
        if !state.takes && state.core.is_idle() {
            state.is_over = true;
            state.connection = None;
            self.finish(state);
            return Next::End;
        }
        let wake_ms = state.core.wake_at(now_ms);
        state.armed_ms = wake_ms.unwrap_or(u64::MAX);
        let room = state.connection.clone().filter(|_| state.wants_room);
        self.finish(state);
        Next::Wait { wake_ms, room }
    }

    /// There is room in the stream of a connection, or never will be.
    pub(super) fn has_room(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        permit: Result<Permit<'_>, Error>,
    ) {
        let mut state = self.lock();
        if !state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            return;
        }
        match permit {
            Ok(permit) => self.send(&mut state, connection, permit, self.client.now_ms()),
            // The link will say so, but perhaps not at once.
            Err(_) => {
                state.connection = None;
                state.core.on_disconnect();
            }
        }
        self.finish(state);
    }

    /// The connection to use from now on.
    pub(super) fn follow(self: &Arc<Self>, found: Option<Arc<Connection>>) {
        let mut state = self.lock();
        let is_same = match (&found, &state.connection) {
            (Some(found), Some(current)) => Arc::ptr_eq(found, current),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if is_same {
            return;
        }
        if state.connection.is_some() {
            state.core.on_disconnect();
        }
        if found.is_some() {
            state.core.on_connect();
            state.has_given_up = false;
        }
        state.connection = found;
    }

    /// Whether nothing that was given up may still arrive on this connection.
    pub(super) fn is_settled(&self) -> bool {
        !self.lock().has_given_up
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().connection.is_some()
    }

    /// Gives up everything and takes nothing more.
    pub(super) fn give_up(self: &Arc<Self>, refusal: &Refusal) {
        let mut state = self.lock();
        state.takes = false;
        state.core.fail_all(refusal);
        self.finish(state);
    }

    /// The task is gone, for whatever reason.
    fn end(&self) {
        let mut state = self.lock();
        (state.takes, state.is_over) = (false, true);
        state.connection = None;
        state.flushes.clear();
        let closed = Error::closed("producer");
        if !std::thread::panicking() {
            state.core.fail_all(&closed.into());
            return self.finish(state);
        }
        // The core is not to be asked any more, nor what its records had of the budget.
        let open = std::mem::take(&mut state.open);
        drop(state);
        self.budget.close();
        for Open { fate, tickets } in open {
            fate.tell(tickets, Err(closed.clone()));
        }
    }

    /// Sends what may be sent. What finds no room in the stream is left to the task.
    fn pump(self: &Arc<Self>, state: &mut State, now_ms: u64) {
        if !self.send_all(state, now_ms) && !state.wants_room {
            state.wants_room = true;
            self.work.notify_one();
        }
    }

    /// Sends what may be sent; false if the stream had no room for all of it.
    fn send_all(self: &Arc<Self>, state: &mut State, now_ms: u64) -> bool {
        while state.attempts < ATTEMPTS_MAX && state.core.has_to_send(now_ms) {
            let Some(connection) = state.connection.clone() else {
                return true;
            };
            let Some(permit) = connection.try_reserve(self.lane.0) else {
                return false;
            };
            self.send(state, &connection, permit, now_ms);
        }
        true
    }

    fn send(
        self: &Arc<Self>,
        state: &mut State,
        connection: &Connection,
        permit: Permit<'_>,
        now_ms: u64,
    ) {
        let Some(outgoing) = state.core.next_to_send(now_ms) else {
            return;
        };
        let (attempt, this) = (outgoing.attempt, self.clone());
        let answered = move |answer| this.answered(attempt, now_ms, answer);
        match permit.send_batch(connection.next_correlation(), outgoing.produce, answered) {
            Ok(()) => state.attempts += 1,
            Err(error) => state.core.on_reply(attempt, Err(error.into()), now_ms),
        }
    }

    /// Notes how the shard does.
    fn judge(&self, sent_ms: u64, now_ms: u64, why: Option<Code>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.heard(self.shard, (sent_ms, now_ms), why);
    }

    /// A shard that does not answer fails like one that refuses.
    fn notice_silence(&self, state: &mut State, now_ms: u64) {
        if state.core.take_silences() > 0 {
            let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
            health.failed(self.shard, now_ms);
        }
    }

    fn answered(self: Arc<Self>, attempt: Attempt, sent_ms: u64, answer: Answer) {
        let result = match answer {
            Ok(Reply::Produce(produced)) => Ok(produced),
            Ok(other) => Err(client::unexpected(&other).into()),
            Err(error) => Err(Refusal::from(error)),
        };
        if let Err(refusal) = &result {
            tracing::debug!(%refusal, topic = %self.topic, lane = %self.lane, "not stored");
            let code = refusal.code;
            let is_elsewhere = code.retry() == RetryClass::Elsewhere;
            let is_misplaced = code == Code::WrongShard || code == Code::QueueOutOfRange;
            if is_elsewhere || is_misplaced {
                self.route_is_old.notify_one();
            }
        }
        let now_ms = self.client.now_ms();
        self.judge(sent_ms, now_ms, result.as_ref().err().map(|refusal| refusal.code));
        let mut state = self.lock();
        state.attempts -= 1;
        state.core.on_reply(attempt, result, now_ms);
        self.pump(&mut state, now_ms);
        self.notice_silence(&mut state, now_ms);
        self.arm(&mut state, now_ms);
        if !state.takes && state.core.is_idle() {
            self.work.notify_one();
        }
        self.finish(state);
    }

    /// Has the task look at the clock in time.
    fn arm(&self, state: &mut State, now_ms: u64) {
        if let Some(at_ms) = state.core.wake_at(now_ms)
            && at_ms < state.armed_ms
        {
            state.armed_ms = at_ms;
            self.work.notify_one();
        }
    }

    /// Unlocks, and then tells what was completed.
    fn finish(&self, mut state: MutexGuard<'_, State>) {
        let news = state.news();
        drop(state);
        for Told { fate, tickets, result } in news.told {
            fate.tell(tickets, result);
        }
        if news.bytes > 0 {
            self.budget.add_permits(news.bytes.min(self.budget_bytes));
        }
        for done in news.flushed {
            // Whoever flushed may not wait any more.
            let _ = done.send(());
        }
    }
}

impl State {
    fn news(&mut self) -> News {
        let mut news = News::default();
        while let Some(completion) = self.core.next_completion() {
            let tickets = completion.tickets;
            let at = self.open.partition_point(|open| open.tickets.end <= tickets.start);
            let Some(open) = self.open.get_mut(at) else {
                assert!(self.is_over, "a ticket is completed once");
                continue;
            };
            assert_eq!(open.tickets.start, tickets.start, "and those of a batch in order");
            open.tickets.start = tickets.end;
            news.bytes += completion.bytes;
            self.has_given_up |=
                completion.result.as_ref().is_err_and(|why| why.code == Code::TimedOut);
            let (fate, result) = (open.fate.clone(), completion.result.map_err(Error::from));
            news.told.push(Told { fate, tickets, result });
            while self.open.pop_front_if(|open| open.tickets.is_empty()).is_some() {}
        }
        let next = self.core.next_ticket();
        let first_open = self.open.front().map_or(next, |open| open.tickets.start);
        let flushed = self.flushes.extract_if(.., |(before, _)| *before <= first_open);
        news.flushed.extend(flushed.map(|(_, done)| done));
        news
    }
}

/// Ends a lane however its task ends.
pub(super) struct Ending {
    pub(super) lane: Arc<LaneSender>,
    /// Keeps the client from being closed before.
    pub(super) _alive: Alive,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.lane.end();
    }
}
