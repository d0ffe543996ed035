//! A connection that has said hello, as the service sees it.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use quinn::VarInt;
use tokio::sync::Semaphore;
use yard_wire::request::{Push, Reply};
use yard_wire::{Correlation, Refusal, limits};

use crate::config::{TransportConfig, WINDOW_BYTES_BEFORE_HELLO};
use crate::outgoing::{self, Outgoing, StreamEnded};

/// Number of the control stream; data lane `n` is stream `n + 1`.
pub const CONTROL: u16 = 0;

/// With more lanes than this a limited window is not enough: see [`Window::bytes`].
const LIMITED_LANES_MAX: u32 = 3;

const _: () = assert!(limits::LANES_MAX <= u32::BITS as u16, "open lanes are the bits of a u32");

/// A session, to be cloned and kept by whoever answers it. It outlives its connection, and then
/// everything sent to it goes nowhere.
#[derive(Clone)]
pub struct SessionHandle {
    session: Arc<Session>,
}

pub(crate) struct Session {
    id: u64,
    connection: quinn::Connection,
    /// The control stream, then the lanes in order; each is made when it is first needed, so that
    /// a connection pays for the streams that it uses.
    streams: Box<[OnceLock<Outgoing>]>,
    /// Requests that a stream may leave unanswered, and bytes of deliveries that may wait for it.
    stream_limits: (u32, u32),
    ended: AtomicBool,
    /// Bit n: lane n is open.
    open_lanes: AtomicU32,
    window: Mutex<Window>,
    /// Streams whose data waits for this side.
    waiting: AtomicU32,
    /// Bytes that unanswered requests and their answers may take.
    pub(crate) budget: Arc<Semaphore>,
    pub(crate) budget_bytes: u32,
    /// Bytes that deliveries may take.
    room: Arc<Semaphore>,
    room_bytes: u32,
}

impl Session {
    /// To be kept while a stream is not read.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Whether a stream is not read, so that what waits there may fill the window of all.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// A stream that is not read.
pub(crate) struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the peer may send ahead on all its streams together, in bytes.
struct Window {
    /// At least so much, unless limited.
    least: u32,
    /// What it may send ahead on one stream.
    stream: u32,
    /// Lanes that were opened so far; `None` before the peer is welcome.
    lanes: Option<u32>,
    limit: u32,
}

impl Window {
    fn new(config: &TransportConfig) -> Self {
        let options = &config.options;
        let (least, stream) = (options.receive_window_bytes, options.stream_window_bytes);
        Self { least, stream, lanes: None, limit: u32::MAX }
    }

    /// Every lane's window must fit the connection's: data of lanes that wait for the budget
    /// must not keep out the rest of the frame that holds it. The frames that a few lanes have
    /// begun fit the budget, so theirs may be limited.
    fn bytes(&self) -> Option<u32> {
        let lanes = self.lanes?;
        let window = self.least.max((lanes + 2) * self.stream);
        Some(if lanes <= LIMITED_LANES_MAX { window.min(self.limit) } else { window })
    }
}

impl SessionHandle {
    pub(crate) fn new(id: u64, connection: quinn::Connection, config: &TransportConfig) -> Self {
        let session = Session {
            id,
            connection,
            streams: (0..=config.lanes_max).map(|_| OnceLock::new()).collect(),
            stream_limits: (config.requests_in_flight_max, config.lane_queue_bytes_max),
            ended: AtomicBool::new(false),
            open_lanes: AtomicU32::new(0),
            window: Mutex::new(Window::new(config)),
            waiting: AtomicU32::new(0),
            budget: Arc::new(Semaphore::new(config.in_flight_bytes_max as usize)),
            budget_bytes: config.in_flight_bytes_max,
            room: Arc::new(Semaphore::new(config.queue_bytes_max as usize)),
            room_bytes: config.queue_bytes_max,
        };
        Self { session: Arc::new(session) }
    }

    /// Number of the session, unique in this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.session.id
    }

    /// Where the peer is now; it may move.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.session.connection.remote_address()
    }

    /// The measured round trip, in microseconds.
    #[must_use]
    pub fn round_trip_us(&self) -> u64 {
        u64::try_from(self.session.connection.rtt().as_micros()).unwrap_or(u64::MAX)
    }

    /// How many lanes are open, counted from lane 0 to the first that is not. It grows while a
    /// client opens more. With none open, deliveries go to lane 0, where they wait until the client
    /// has opened it.
    #[must_use]
    pub fn lanes_open(&self) -> u16 {
        self.session.open_lanes.load(Ordering::Relaxed).trailing_ones() as u16
    }

    /// Answers a request. Never blocks. A second answer to the same request, or one that comes
    /// after the stream has ended, goes nowhere.
    pub fn reply(&self, stream: u16, correlation: Correlation, result: Result<Reply, Refusal>) {
        let Some(outgoing) = self.outgoing(stream) else {
            return;
        };
        if !outgoing.reply(correlation, result) {
            tracing::debug!(session = self.id(), stream, %correlation, "an answer nobody awaits");
        }
    }

    /// As [`SessionHandle::reply`], with the frame of a good answer that was made already. Its
    /// kind and correlation must be the request's.
    pub fn reply_frame(&self, stream: u16, correlation: Correlation, frame: Bytes) {
        let Some(outgoing) = self.outgoing(stream) else {
            return;
        };
        if !outgoing.reply_frame(correlation, frame) {
            tracing::debug!(session = self.id(), stream, %correlation, "an answer nobody awaits");
        }
    }

    /// Sends something unasked. Never blocks: a client that lets 256 KiB of pushes lie unread
    /// loses its connection.
    pub fn push(&self, stream: u16, push: &Push) {
        let Some(outgoing) = self.outgoing(stream) else {
            return;
        };
        if outgoing.push(outgoing::pushed(push)).is_err() {
            let detail = format!("stream {stream} is not read");
            self.close(&Refusal::new(yard_wire::Code::TooSlow, detail));
        }
    }

    /// Sends a delivery when there is room for it: 256 KiB a stream and 1 MiB a connection wait
    /// at most, and one larger delivery where it is alone. On a lane that is not open yet it
    /// waits for the client to open it.
    ///
    /// # Errors
    /// [`StreamEnded`] when the delivery can never be sent; the messages are to be returned.
    pub async fn deliver(&self, stream: u16, push: &Push) -> Result<(), StreamEnded> {
        self.deliver_frame(stream, [outgoing::pushed(push), Bytes::new()]).await
    }

    /// As [`SessionHandle::deliver`], with the frame of a push that was made already: its
    /// beginning and its end, either of which may be empty. Neither is copied where it is large,
    /// so the same end may go to many.
    ///
    /// # Errors
    /// As [`SessionHandle::deliver`].
    pub async fn deliver_frame(&self, stream: u16, frame: [Bytes; 2]) -> Result<(), StreamEnded> {
        let outgoing = self.outgoing(stream).ok_or(StreamEnded)?;
        outgoing.deliver(frame, &self.session.room, self.session.room_bytes).await
    }

    /// Ends the connection; the peer learns the code's number and the detail. What is queued is
    /// lost.
    pub fn close(&self, why: &Refusal) {
        close(&self.session.connection, why);
    }

    /// Limits what the peer may send ahead, as long as it has opened three lanes at most; with
    /// more, this does nothing, as they need the whole window. Never less than 64 KiB. A tenant
    /// chooses how many connections it opens, so a window of a fixed size does not bound what
    /// it makes the broker buffer: a burst of 1.25 MB on each of 128 connections costs half a
    /// second of decryption, in which nobody else is heard. What the peer was allowed before, it
    /// may still send, so this is best called by the service's welcome.
    pub fn limit_window(&self, bytes: u32) {
        self.set_window(|window| window.limit = bytes.max(WINDOW_BYTES_BEFORE_HELLO));
    }

    /// Lets the peer send what a connection with so many lanes may.
    pub(crate) fn open_window(&self, lanes: u32) {
        self.set_window(|window| window.lanes = Some(lanes));
    }

    fn set_window(&self, change: impl FnOnce(&mut Window)) {
        // Nothing in here panics half-way, so a poisoned window is a whole one. The lock is held
        // until QUIC knows: of two changes, the later one counts.
        let mut window = self.session.window.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut window);
        if let Some(bytes) = window.bytes() {
            self.session.connection.set_receive_window(VarInt::from_u32(bytes));
        }
    }

    /// Bytes of deliveries and pushes that wait for this session's streams.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.streams().map(Outgoing::delivery_bytes).sum()
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn outgoing(&self, stream: u16) -> Option<&Outgoing> {
        let place = self.session.streams.get(usize::from(stream))?;
        let (requests_max, room_bytes) = self.session.stream_limits;
        let outgoing = place.get_or_init(|| Outgoing::new(requests_max, room_bytes));
        // One that is made while the connection ends is ended here or there: see `end`.
        fence(Ordering::SeqCst);
        if self.session.ended.load(Ordering::Relaxed) {
            outgoing.end();
        }
        Some(outgoing)
    }

    /// The streams that were needed so far.
    fn streams(&self) -> impl Iterator<Item = &Outgoing> {
        self.session.streams.iter().filter_map(OnceLock::get)
    }

    /// Opens a stream for sending; `None` when there is no such stream or it was opened before.
    pub(crate) fn open(&self, stream: u16) -> Option<&Outgoing> {
        let outgoing = self.outgoing(stream)?;
        if !outgoing.open() {
            return None;
        }
        if let Some(lane) = stream.checked_sub(1) {
            self.session.open_lanes.fetch_or(1 << lane, Ordering::Relaxed);
        }
        Some(outgoing)
    }

    /// Notes that a stream takes no more deliveries.
    pub(crate) fn lane_ends(&self, stream: u16) {
        if let Some(lane) = stream.checked_sub(1) {
            self.session.open_lanes.fetch_and(!(1 << lane), Ordering::Relaxed);
        }
    }

    /// The connection is gone: whoever waits for one of its streams learns it.
    pub(crate) fn end(&self) {
        self.session.ended.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.streams().for_each(Outgoing::end);
        self.session.open_lanes.store(0, Ordering::Relaxed);
        self.session.budget.close();
        self.session.room.close();
    }
}

/// Closes a connection with a code; QUIC cuts a reason that does not fit its packet.
pub(crate) fn close(connection: &quinn::Connection, why: &Refusal) {
    connection.close(VarInt::from_u32(why.code as u32), why.detail.as_bytes());
}
