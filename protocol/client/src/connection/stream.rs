//! One stream: whoever has a frame writes it, a task what the flow control did not take at once;
//! a reader task; and the requests that wait for an answer.
use std::collections::BTreeMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};
use yard_quic::{MTU_BYTES_MIN, STREAM_WINDOW_BYTES_DEFAULT};
use yard_wire::frame::{self, Class, Frame, FrameDecoder, Preamble};
use yard_wire::limits::{FRAME_BYTES_MAX, PLUGIN_BYTES_MAX};
use yard_wire::operation::Operation;
use yard_wire::request::{Kind, Push, Reply, Request};
use yard_wire::requests::Produce;
use yard_wire::{Code, Correlation, Refusal, Wire};

use super::{Pushes, lost};
use crate::Error;

/// Frames that wait for the stream's flow control.
const FRAMES_MAX: usize = 16;
/// Pieces of a frame: its head, and a batch that is not copied.
const PIECES: usize = 2;
/// Requests of one stream that wait for an answer; more wait to be sent. Each is in a packet of its
/// own at worst, and so is its answer. With every other packet lost, what has arrived of a stream
/// lies in half as many pieces as there are such packets and full ones within its window; quinn
/// closes the connection at 1,024 pieces. Source: quinn-proto 0.11, `Assembler`.
const OUTSTANDING_MAX: usize = 512;
/// Pieces of a stream taken at once.
const CHUNKS: usize = 32;

const _: () = {
    let full = STREAM_WINDOW_BYTES_DEFAULT as usize / MTU_BYTES_MIN as usize;
    assert!((OUTSTANDING_MAX + FRAMES_MAX + full) / 2 < 1_024);
};

/// What became of a request.
pub(crate) type Answer = Result<Reply, Error>;

/// Who waits for an answer.
enum Waiter {
    Task(oneshot::Sender<Answer>),
    /// Is told by whoever has the answer, and so must not wait for anything.
    Call(Box<dyn FnOnce(Answer) + Send>),
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiter")
    }
}

impl Waiter {
    fn tell(self, answer: Answer) {
        match self {
            // Whoever asked may have stopped waiting.
            Self::Task(sender) => drop(sender.send(answer)),
            Self::Call(call) => call(answer),
        }
    }
}

/// Each with its place among those who wait.
type Waiters = BTreeMap<Correlation, (Waiter, OwnedSemaphorePermit)>;

/// Requests that wait for an answer.
#[derive(Debug)]
struct Outstanding {
    /// `None` once the stream is gone.
    waiters: Mutex<Option<Waiters>>,
    /// Closed then.
    places: Arc<Semaphore>,
}

impl Outstanding {
    fn new() -> Self {
        let places = Arc::new(Semaphore::new(OUTSTANDING_MAX));
        Self { waiters: Mutex::new(Some(Waiters::new())), places }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Option<Waiters>) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned map is a whole one.
        change(&mut self.waiters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn insert(
        &self,
        correlation: Correlation,
        waiter: Waiter,
        place: OwnedSemaphorePermit,
    ) -> Result<(), Error> {
        self.with(|map| {
            let Some(map) = map else { return Err(gone()) };
            map.insert(correlation, (waiter, place));
            assert!(map.len() <= OUTSTANDING_MAX, "each has a place");
            Ok(())
        })
    }

    fn resolve(&self, correlation: Correlation, answer: Answer) {
        let waiter = self.with(|map| map.as_mut().and_then(|map| map.remove(&correlation)));
        if let Some((waiter, _place)) = waiter {
            waiter.tell(answer);
        }
    }

    fn close(&self, error: &Error) {
        self.places.close();
        for (_, (waiter, _place)) in self.with(Option::take).into_iter().flatten() {
            waiter.tell(Err(error.clone()));
        }
    }
}

fn gone() -> Error {
    Error::new(Code::Disconnected, "the connection is gone")
}

#[derive(Debug)]
pub(super) struct Stream {
    writer: Arc<Writer>,
    outstanding: Arc<Outstanding>,
}

impl Stream {
    pub(super) async fn open(
        quic: &quinn::Connection,
        preamble: Preamble,
        pushes: Arc<Pushes>,
    ) -> Result<Self, Error> {
        let (send, recv) = quic.open_bi().await.map_err(|e| lost(&e))?;
        let outstanding = Arc::new(Outstanding::new());
        let writer = Arc::new(Writer::new(quic.clone(), send));
        // The preamble has the place of a frame.
        writer.room.try_acquire().expect("nothing is queued yet").forget();
        writer.send([Bytes::copy_from_slice(&preamble.encode()), Bytes::new()]);
        tokio::spawn(writer.clone().run());
        let reader = Reader { quic: quic.clone(), outstanding: outstanding.clone(), pushes };
        tokio::spawn(reader.run(recv));
        Ok(Self { writer, outstanding })
    }

    pub(super) async fn reserve(&self) -> Result<Permit<'_>, Error> {
        let places = self.outstanding.places.clone();
        let place = places.acquire_owned().await.map_err(|_| gone())?;
        let room = self.writer.room.acquire().await.map_err(|_| gone())?;
        Ok(Permit { room, place, stream: self })
    }

    /// Room for one frame, if there is some now and nobody waits for it.
    pub(super) fn try_reserve(&self) -> Option<Permit<'_>> {
        let place = self.outstanding.places.clone().try_acquire_owned().ok()?;
        let room = self.writer.room.try_acquire().ok()?;
        Some(Permit { room, place, stream: self })
    }

    fn write(&self, room: SemaphorePermit<'_>, frame: [Bytes; PIECES]) {
        room.forget();
        self.writer.send(frame);
    }
}

/// Why a request is not on its way.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The stream is gone.
    Gone(Error),
    /// No frame can carry it.
    TooLarge(Error),
}

/// Room for one frame.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    room: SemaphorePermit<'a>,
    place: OwnedSemaphorePermit,
    stream: &'a Stream,
}

impl Permit<'_> {
    /// Sends a request; frames of a stream are sent in the order of these calls.
    pub(crate) fn send(
        self,
        correlation: Correlation,
        request: &Request,
    ) -> Result<Pending, Unsent> {
        let (sender, receiver) = oneshot::channel();
        let Self { room, place, stream } = self;
        let frame = encode(correlation, request).map_err(Unsent::TooLarge)?;
        let waiter = Waiter::Task(sender);
        stream.outstanding.insert(correlation, waiter, place).map_err(Unsent::Gone)?;
        stream.write(room, [frame, Bytes::new()]);
        Ok(Pending(receiver))
    }

    /// Sends a request whose answer nobody wants.
    pub(crate) fn send_quietly(self, request: &Request) {
        let Self { room, place: _, stream } = self;
        match encode(Correlation(0), request) {
            Ok(frame) => stream.write(room, [frame, Bytes::new()]),
            Err(error) => tracing::error!(%error, "a request that nobody hears of"),
        }
    }

    /// Sends a batch without copying it. `answered` is called with the answer, exactly once
    /// unless this fails, by the task that reads the stream: it must not wait for anything.
    pub(crate) fn send_batch(
        self,
        correlation: Correlation,
        produce: Produce,
        answered: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), Error> {
        let Self { room, place, stream } = self;
        stream.outstanding.insert(correlation, Waiter::Call(Box::new(answered)), place)?;
        let mut head = Vec::with_capacity(64);
        let (kind, rest) = (Kind::Produce as u16, produce.batch.len());
        frame::encode_split(kind, Class::Request, correlation, rest, &mut head, |out| {
            produce.put_head(out);
        });
        stream.write(room, [head.into(), produce.batch]);
        Ok(())
    }
}

/// The frame of a request. Its texts are whatever the application has put there.
fn encode(correlation: Correlation, request: &Request) -> Result<Bytes, Error> {
    let mut bytes = Vec::with_capacity(256);
    let kind = request.kind() as u16;
    let encoded = frame::encode_bounded(kind, Class::Request, correlation, &mut bytes, |out| {
        request.put_body(out);
    });
    let push = Operation::PluginPush as u16;
    match (encoded, request) {
        (Ok(()), _) => Ok(bytes.into()),
        // Its file is what is large: the code is that of the broker, which sees those that fit.
        (Err(refusal), Request::Call(call)) if call.operation == push => {
            let detail = format!("{}; a plugin has at most {PLUGIN_BYTES_MAX}", refusal.detail);
            Err(Error::new(Code::PluginTooLarge, detail))
        }
        (Err(refusal), request) => {
            let detail = format!("{}: {}", request.kind().name(), refusal.detail);
            Err(Error::new(refusal.code, detail))
        }
    }
}

/// The answer to come.
#[derive(Debug)]
pub(crate) struct Pending(oneshot::Receiver<Answer>);

impl Future for Pending {
    type Output = Answer;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let received = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(received.unwrap_or_else(|_| Err(gone())))
    }
}

/// The sending half. Whoever has a frame hands it to QUIC at once; what the flow control does not
/// take is left to the writer's task.
#[derive(Debug)]
struct Writer {
    quic: quinn::Connection,
    half: Mutex<Half>,
    /// Frames that may be queued. Closed when the stream is gone.
    room: Semaphore,
    blocked: Notify,
}

#[derive(Debug)]
struct Half {
    send: quinn::SendStream,
    /// Frames of [`PIECES`] pieces each, the first of them perhaps written.
    queued: Vec<Bytes>,
    written: usize,
    /// The task writes.
    is_blocked: bool,
}

impl Writer {
    fn new(quic: quinn::Connection, send: quinn::SendStream) -> Self {
        let half = Half { send, queued: Vec::new(), written: 0, is_blocked: false };
        let (half, room) = (Mutex::new(half), Semaphore::new(FRAMES_MAX));
        Self { quic, half, room, blocked: Notify::new() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Half) -> T) -> T {
        // A panic in here would be one of the transport's, whose stream then is of no use.
        change(&mut self.half.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, frame: [Bytes; PIECES]) {
        self.with(|half| {
            half.queued.extend(frame);
            if half.is_blocked {
                return;
            }
            let mut nobody = Context::from_waker(Waker::noop());
            if self.flush(half, &mut nobody).is_pending() {
                half.is_blocked = true;
                self.blocked.notify_one();
            }
        });
    }

    async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                _ = self.quic.closed() => {
                    self.room.close();
                    return;
                }
                () = self.blocked.notified() => {}
            }
            std::future::poll_fn(|context| {
                self.with(|half| {
                    ready!(self.flush(half, context));
                    half.is_blocked = false;
                    Poll::Ready(())
                })
            })
            .await;
        }
    }

    /// Writes until everything is written or the flow control takes no more.
    fn flush(&self, half: &mut Half, context: &mut Context<'_>) -> Poll<()> {
        while half.written < half.queued.len() {
            let before = half.written / PIECES;
            let Half { send, queued, written, .. } = half;
            let result = ready!(pin!(send.write_chunks(&mut queued[*written..])).poll(context));
            match result {
                Ok(progress) => half.written += progress.chunks,
                Err(error) => {
                    tracing::debug!(%error, "a stream cannot be written");
                    let error = Error::new(Code::Disconnected, "a stream cannot be written");
                    close(&self.quic, &error);
                    self.room.close();
                    half.written = half.queued.len();
                }
            }
            self.room.add_permits(half.written / PIECES - before);
        }
        half.queued.clear();
        half.written = 0;
        Poll::Ready(())
    }
}

/// Closes a connection that is still open; one that is not keeps the reason why.
fn close(quic: &quinn::Connection, error: &Error) {
    if quic.close_reason().is_none() {
        quic.close(quinn::VarInt::from_u32(error.code as u32), error.detail.as_bytes());
    }
}

struct Reader {
    quic: quinn::Connection,
    outstanding: Arc<Outstanding>,
    pushes: Arc<Pushes>,
}

impl Reader {
    async fn run(self, mut recv: quinn::RecvStream) {
        let error = match self.read(&mut recv).await {
            Ok(()) => Error::new(Code::Disconnected, "the broker closed a stream"),
            Err(error) => error,
        };
        tracing::debug!(%error, "a stream has ended");
        // One stream less makes the connection useless: all of it is made anew.
        close(&self.quic, &error);
        // The code is about the connection. As an answer it would say that the broker refused
        // each request, while nobody knows what became of them.
        self.outstanding.close(&Error::new(Code::Disconnected, error.detail));
        self.pushes.close();
    }

    async fn read(&self, recv: &mut quinn::RecvStream) -> Result<(), Error> {
        let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        loop {
            let mut chunks: [Bytes; CHUNKS] = Default::default();
            let count = match recv.read_chunks(&mut chunks).await {
                Ok(Some(count)) => count,
                Ok(None) => return Ok(()),
                Err(quinn::ReadError::ConnectionLost(error)) => return Err(lost(&error)),
                Err(error) => {
                    let detail = format!("a stream cannot be read: {error}");
                    return Err(Error::new(Code::Disconnected, detail));
                }
            };
            for chunk in chunks.into_iter().take(count) {
                decoder.push_bytes(chunk);
            }
            while let Some(frame) = decoder.next_frame()? {
                self.take(frame)?;
            }
        }
    }

    fn take(&self, frame: Frame) -> Result<(), Error> {
        let Frame { kind, class, correlation, body } = frame;
        match class {
            Class::Reply => {
                let answer = match Kind::from_number(kind) {
                    Some(kind) => Reply::from_body(kind, body).map_err(|e| Error::bad_reply(&e)),
                    None => {
                        let detail = format!("an answer has the unknown kind {kind}");
                        Err(Error::new(Code::BadReply, detail))
                    }
                };
                self.outstanding.resolve(correlation, answer);
                Ok(())
            }
            Class::Refusal => {
                let refusal = Refusal::from_bytes(body).map_err(|e| Error::bad_reply(&e));
                self.outstanding.resolve(correlation, Err(refusal.map_or_else(|e| e, Error::from)));
                Ok(())
            }
            Class::Push => {
                let push = Push::from_body(kind, body).map_err(|e| Error::bad_reply(&e))?;
                self.pushes.dispatch(push)
            }
            Class::Request => Err(Error::new(Code::BadReply, "a broker makes no requests")),
        }
    }
}
