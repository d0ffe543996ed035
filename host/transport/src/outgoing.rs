//! What waits to be written to one stream, and the requests of that stream that wait for an
//! answer.
//!
//! ```text
//!   request ──► unanswered ──reply──► queue ──► writer ──► QUIC
//!               (a slot and bytes of the connection's budget, given back when the answer is
//!                written: a client that does not read is not served)
//!   delivery ─────────room──────────► queue          (a place in bytes, given back likewise)
//! ```
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use yard_wire::frame::{self, Class, HEADER_BYTES};
use yard_wire::request::{Push, Reply};
use yard_wire::{Code, Correlation, Refusal, Wire, limits};

/// Bytes that one write gathers.
const WRITE_BYTES: usize = 64 << 10;
/// Frames from this size on are written where they are; smaller ones are copied together.
const COPY_BYTES_MAX: usize = 8 << 10;
/// The beginning of a frame is copied to what goes before it when it is shorter: QUIC walks the
/// pieces that are on their way.
const HEAD_BYTES_MAX: usize = 128;
/// Bytes of a refusal's detail on the wire.
const DETAIL_BYTES_MAX: usize = 1 << 10;

/// What a queued frame or an unanswered request occupies until it is written.
pub(crate) type Permits = Vec<OwnedSemaphorePermit>;

/// A request without its answer.
struct Unanswered {
    kind: u16,
    permits: Permits,
}

struct Queued {
    /// The whole frame, or its beginning.
    frame: Bytes,
    /// What follows, perhaps shared with other streams; empty where that was all.
    rest: Bytes,
    permits: Permits,
}

impl Queued {
    fn bytes(&self) -> usize {
        self.frame.len() + self.rest.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client has not opened the stream.
    Unopened,
    Open,
    /// The client sends no more; what is unanswered will be answered.
    Finishing,
    Ended,
}

struct State {
    stage: Stage,
    queue: VecDeque<Queued>,
    unanswered: BTreeMap<Correlation, Unanswered>,
    /// Requests that want no answer; any reply to correlation 0 gives back the oldest.
    silent: VecDeque<Unanswered>,
}

/// The sending half of one stream.
pub(crate) struct Outgoing {
    state: Mutex<State>,
    wake: Notify,
    /// Room for deliveries, in bytes; none until the stream is open, closed when it ends.
    room: Arc<Semaphore>,
    room_bytes: u32,
    /// Slots for requests.
    slots: Arc<Semaphore>,
}

/// What one write takes off the queue.
pub(crate) struct Gathered {
    pub(crate) chunks: Vec<Bytes>,
    /// Held until the bytes are written.
    pub(crate) permits: Permits,
}

/// The stream cannot take more: the client or the connection has ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended")]
pub struct StreamEnded;

impl Outgoing {
    pub(crate) fn new(requests_max: u32, room_bytes: u32) -> Self {
        assert!(requests_max > 0 && room_bytes > 0, "a stream can carry something");
        Self {
            state: Mutex::new(State {
                stage: Stage::Unopened,
                queue: VecDeque::new(),
                unanswered: BTreeMap::new(),
                silent: VecDeque::new(),
            }),
            wake: Notify::new(),
            room: Arc::new(Semaphore::new(0)),
            room_bytes,
            slots: Arc::new(Semaphore::new(requests_max as usize)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the lock")
    }

    /// Opens the stream; `false` when it was opened before.
    pub(crate) fn open(&self) -> bool {
        let mut state = self.state();
        if state.stage != Stage::Unopened {
            return false;
        }
        state.stage = Stage::Open;
        self.room.add_permits(self.room_bytes as usize);
        true
    }

    /// The client sends no more requests: what is unanswered is answered, then the stream ends.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        if state.stage == Stage::Open {
            state.stage = Stage::Finishing;
        }
        self.room.close();
        self.wake.notify_one();
    }

    /// Nothing can be sent any more.
    pub(crate) fn end(&self) {
        let (queue, unanswered, silent);
        {
            let mut state = self.state();
            state.stage = Stage::Ended;
            queue = std::mem::take(&mut state.queue);
            unanswered = std::mem::take(&mut state.unanswered);
            silent = std::mem::take(&mut state.silent);
        }
        self.room.close();
        self.slots.close();
        self.wake.notify_one();
        // Outside the lock: giving back permits wakes those who wait for them.
        drop((queue, unanswered, silent));
    }

    /// Waits until the stream may have one more unanswered request.
    pub(crate) async fn slot(&self) -> Result<OwnedSemaphorePermit, StreamEnded> {
        self.slots.clone().acquire_owned().await.map_err(|_| StreamEnded)
    }

    /// Notes a request.
    ///
    /// # Errors
    /// When another with its correlation is unanswered: the answers could not be told apart.
    pub(crate) fn begin(
        &self,
        correlation: Correlation,
        kind: u16,
        permits: Permits,
    ) -> Result<(), Refusal> {
        let mut state = self.state();
        let request = Unanswered { kind, permits };
        if correlation == Correlation(0) {
            state.silent.push_back(request);
            return Ok(());
        }
        if state.unanswered.contains_key(&correlation) {
            let detail = format!("correlation {correlation} already belongs to a request");
            return Err(Refusal::new(Code::MalformedFrame, detail));
        }
        state.unanswered.insert(correlation, request);
        Ok(())
    }

    /// Adds bytes of the budget to what a noted request holds.
    pub(crate) fn charge(&self, correlation: Correlation, permit: OwnedSemaphorePermit) {
        let mut state = self.state();
        let request = if correlation == Correlation(0) {
            state.silent.back_mut()
        } else {
            state.unanswered.get_mut(&correlation)
        };
        if let Some(request) = request {
            request.permits.push(permit);
        }
    }

    /// Queues the answer to a request; `false` when the request is not known (any more).
    pub(crate) fn reply(&self, correlation: Correlation, result: Result<Reply, Refusal>) -> bool {
        self.reply_with(correlation, |kind| answer(kind, correlation, result))
    }

    /// As [`Outgoing::reply`], with the whole frame of the answer.
    pub(crate) fn reply_frame(&self, correlation: Correlation, frame: Bytes) -> bool {
        self.reply_with(correlation, |kind| {
            debug_assert_eq!(
                &frame[4..6],
                kind.to_le_bytes(),
                "an answer is of its request's kind"
            );
            frame
        })
    }

    fn reply_with(&self, correlation: Correlation, frame: impl FnOnce(u16) -> Bytes) -> bool {
        let request = {
            let mut state = self.state();
            if correlation == Correlation(0) {
                state.silent.pop_front()
            } else {
                state.unanswered.remove(&correlation)
            }
        };
        let Some(Unanswered { kind, permits }) = request else {
            return false;
        };
        if correlation != Correlation(0) {
            self.enqueue(Queued { frame: frame(kind), rest: Bytes::new(), permits });
        }
        self.wake.notify_one();
        true
    }

    /// Waits for room, then queues a delivery.
    pub(crate) async fn deliver(
        &self,
        [frame, rest]: [Bytes; 2],
        connection_room: &Arc<Semaphore>,
        connection_room_bytes: u32,
    ) -> Result<(), StreamEnded> {
        let bytes = (frame.len() + rest.len()) as u32;
        // A frame larger than all the room goes when it is alone.
        let lane = self.room.clone().acquire_many_owned(bytes.min(self.room_bytes));
        let lane = lane.await.map_err(|_| StreamEnded)?;
        let all = connection_room.clone().acquire_many_owned(bytes.min(connection_room_bytes));
        let all = all.await.map_err(|_| StreamEnded)?;
        self.enqueue(Queued { frame, rest, permits: vec![lane, all] });
        self.wake.notify_one();
        Ok(())
    }

    /// Queues a push if there is room.
    pub(crate) fn push(&self, frame: Bytes) -> Result<(), Full> {
        let bytes = (frame.len() as u32).min(self.room_bytes);
        match self.room.clone().try_acquire_many_owned(bytes) {
            Ok(permit) => {
                self.enqueue(Queued { frame, rest: Bytes::new(), permits: vec![permit] });
            }
            Err(tokio::sync::TryAcquireError::Closed) => return Ok(()),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(Full),
        }
        self.wake.notify_one();
        Ok(())
    }

    fn enqueue(&self, queued: Queued) {
        let mut state = self.state();
        match state.stage {
            Stage::Open | Stage::Finishing => state.queue.push_back(queued),
            Stage::Unopened | Stage::Ended => {
                drop(state);
                drop(queued);
            }
        }
    }

    /// The next write; `None` when there will be none any more.
    pub(crate) async fn gather(&self) -> Option<Gathered> {
        loop {
            {
                let mut state = self.state();
                if !state.queue.is_empty() {
                    return Some(take(&mut state.queue));
                }
                let answered = state.unanswered.is_empty() && state.silent.is_empty();
                match state.stage {
                    Stage::Finishing if answered => return None,
                    Stage::Ended => return None,
                    Stage::Unopened | Stage::Open | Stage::Finishing => {}
                }
            }
            self.wake.notified().await;
        }
    }

    /// Bytes of deliveries and pushes that are queued or being written.
    pub(crate) fn delivery_bytes(&self) -> usize {
        let state = self.state();
        match state.stage {
            Stage::Open | Stage::Finishing => {
                self.room_bytes as usize - self.room.available_permits()
            }
            Stage::Unopened | Stage::Ended => 0,
        }
    }
}

/// A push found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

fn take(queue: &mut VecDeque<Queued>) -> Gathered {
    let mut gathered = Gathered { chunks: Vec::new(), permits: Vec::new() };
    let mut bytes = 0;
    let mut small = BytesMut::new();
    while let Some(queued) = queue.front() {
        if bytes > 0 && bytes + queued.bytes() > WRITE_BYTES {
            break;
        }
        let queued = queue.pop_front().expect("the front was looked at");
        bytes += queued.bytes();
        let is_alone = small.is_empty() && queue.is_empty();
        let is_small = queued.bytes() < COPY_BYTES_MAX && !is_alone;
        gathered.permits.extend(queued.permits);
        let is_split = !queued.rest.is_empty();
        for part in [queued.frame, queued.rest] {
            if is_small || is_split && part.len() < HEAD_BYTES_MAX {
                small.extend_from_slice(&part);
                continue;
            }
            if !small.is_empty() {
                gathered.chunks.push(small.split().freeze());
            }
            if !part.is_empty() {
                gathered.chunks.push(part);
            }
        }
    }
    if !small.is_empty() {
        gathered.chunks.push(small.freeze());
    }
    gathered
}

/// The frame of an answer.
pub(crate) fn answer(kind: u16, correlation: Correlation, result: Result<Reply, Refusal>) -> Bytes {
    let mut out = Vec::new();
    let refusal = match result {
        Ok(reply) => {
            let mut body_bytes = 0;
            frame::encode_with(kind, Class::Reply, correlation, &mut out, |out| {
                reply.put_body(out);
                body_bytes = out.len() - HEADER_BYTES;
                if body_bytes > limits::FRAME_BYTES_MAX - HEADER_BYTES {
                    out.truncate(HEADER_BYTES);
                }
            });
            if body_bytes <= limits::FRAME_BYTES_MAX - HEADER_BYTES {
                return Bytes::from(out);
            }
            let detail = format!("the answer has {body_bytes} bytes, more than a frame may have");
            Refusal::new(Code::LimitReached, detail)
        }
        Err(refusal) => clipped(refusal),
    };
    out.clear();
    frame::encode_with(kind, Class::Refusal, correlation, &mut out, |out| refusal.put(out));
    Bytes::from(out)
}

fn clipped(mut refusal: Refusal) -> Refusal {
    let end = refusal.detail.floor_char_boundary(DETAIL_BYTES_MAX);
    refusal.detail.truncate(end);
    refusal
}

/// The frame of a push.
pub(crate) fn pushed(push: &Push) -> Bytes {
    let mut out = Vec::new();
    frame::encode_with(push.number(), Class::Push, Correlation(0), &mut out, |out| {
        push.put_body(out);
    });
    Bytes::from(out)
}
