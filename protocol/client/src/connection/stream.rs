//! One stream: a writer task, a reader task, and the requests that wait for an answer.
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use yard_quic::{MTU_BYTES_MIN, STREAM_WINDOW_BYTES_DEFAULT};
use yard_wire::frame::{self, Class, Frame, FrameDecoder, Preamble};
use yard_wire::limits::FRAME_BYTES_MAX;
use yard_wire::request::{Kind, Push, Reply, Request};
use yard_wire::{Code, Correlation, Refusal, Wire};

use super::{Pushes, lost};
use crate::Error;

/// Frames that wait for the stream's flow control.
const FRAMES_MAX: usize = 16;
/// Requests of one stream that wait for an answer; more wait to be sent. Each is in a packet of its
/// own at worst, and so is its answer. With every other packet lost, what has arrived of a stream
/// lies in half as many pieces as there are such packets and full ones within its window; quinn
/// closes the connection at 1,024 pieces. Source: quinn-proto 0.11, `Assembler`.
const OUTSTANDING_MAX: usize = 512;
/// Bytes that are read at once.
const READ_BYTES: usize = 128 << 10;

const _: () = {
    let full = STREAM_WINDOW_BYTES_DEFAULT as usize / MTU_BYTES_MIN as usize;
    assert!((OUTSTANDING_MAX + FRAMES_MAX + full) / 2 < 1_024);
};

type Answer = Result<Reply, Error>;

/// Who waits for an answer, and its place among those who do.
type Waiter = (oneshot::Sender<Answer>, OwnedSemaphorePermit);

/// Requests that wait for an answer; `None` once the stream is gone.
#[derive(Debug)]
struct Outstanding(Mutex<Option<BTreeMap<Correlation, Waiter>>>);

impl Outstanding {
    fn with<T>(&self, change: impl FnOnce(&mut Option<BTreeMap<Correlation, Waiter>>) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned map is a whole one.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn insert(
        &self,
        correlation: Correlation,
        place: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        self.with(|map| {
            let Some(map) = map else { return Err(gone()) };
            let (sender, receiver) = oneshot::channel();
            map.insert(correlation, (sender, place));
            assert!(map.len() <= OUTSTANDING_MAX, "each has a place");
            Ok(receiver)
        })
    }

    fn resolve(&self, correlation: Correlation, answer: Answer) {
        let waiter = self.with(|map| map.as_mut().and_then(|map| map.remove(&correlation)));
        if let Some((waiter, _place)) = waiter {
            // Whoever asked may have stopped waiting.
            let _ = waiter.send(answer);
        }
    }

    fn close(&self, error: &Error) {
        for (_, (waiter, _place)) in self.with(Option::take).into_iter().flatten() {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}

fn gone() -> Error {
    Error::new(Code::Disconnected, "the connection is gone")
}

#[derive(Debug)]
pub(super) struct Stream {
    frames: mpsc::Sender<Bytes>,
    outstanding: Arc<Outstanding>,
    places: Arc<Semaphore>,
}

impl Stream {
    pub(super) async fn open(
        quic: &quinn::Connection,
        preamble: Preamble,
        pushes: Arc<Pushes>,
    ) -> Result<Self, Error> {
        let (send, recv) = quic.open_bi().await.map_err(|e| lost(&e))?;
        let (frames, queued) = mpsc::channel(FRAMES_MAX);
        let outstanding = Arc::new(Outstanding(Mutex::new(Some(BTreeMap::new()))));
        tokio::spawn(write(quic.clone(), send, preamble, queued));
        let reader = Reader { quic: quic.clone(), outstanding: outstanding.clone(), pushes };
        tokio::spawn(reader.run(recv));
        let places = Arc::new(Semaphore::new(OUTSTANDING_MAX));
        Ok(Self { frames, outstanding, places })
    }

    pub(super) async fn reserve(&self) -> Result<Permit<'_>, Error> {
        let place = tokio::select! {
            place = self.places.clone().acquire_owned() => place.map_err(|_| gone())?,
            () = self.frames.closed() => return Err(gone()),
        };
        let frames = self.frames.reserve().await.map_err(|_| gone())?;
        Ok(Permit { frames, place, outstanding: &self.outstanding })
    }
}

/// Room for one frame.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    frames: mpsc::Permit<'a, Bytes>,
    place: OwnedSemaphorePermit,
    outstanding: &'a Outstanding,
}

impl Permit<'_> {
    /// Queues a request; frames of a stream are sent in the order of these calls.
    pub(crate) fn send(
        self,
        correlation: Correlation,
        request: &Request,
    ) -> Result<Pending, Error> {
        let answer = self.outstanding.insert(correlation, self.place)?;
        self.frames.send(encode(correlation, request));
        Ok(Pending(answer))
    }

    /// Queues a request whose answer nobody wants.
    pub(crate) fn send_quietly(self, request: &Request) {
        self.frames.send(encode(Correlation(0), request));
    }
}

fn encode(correlation: Correlation, request: &Request) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    let kind = request.kind() as u16;
    frame::encode_with(kind, Class::Request, correlation, &mut bytes, |out| {
        request.put_body(out);
    });
    bytes.into()
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

async fn write(
    quic: quinn::Connection,
    mut send: quinn::SendStream,
    preamble: Preamble,
    mut queued: mpsc::Receiver<Bytes>,
) {
    let mut frames = vec![Bytes::copy_from_slice(&preamble.encode())];
    loop {
        if let Err(error) = send.write_all_chunks(&mut frames).await {
            tracing::debug!(%error, "a stream cannot be written");
            close(&quic, &Error::new(Code::Disconnected, "a stream cannot be written"));
            return;
        }
        frames.clear();
        if queued.recv_many(&mut frames, FRAMES_MAX).await == 0 {
            // The connection value is gone, and it closes the connection.
            return;
        }
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
            let chunk = match recv.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(()),
                Err(quinn::ReadError::ConnectionLost(error)) => return Err(lost(&error)),
                Err(error) => {
                    let detail = format!("a stream cannot be read: {error}");
                    return Err(Error::new(Code::Disconnected, detail));
                }
            };
            decoder.push(&chunk.bytes);
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
