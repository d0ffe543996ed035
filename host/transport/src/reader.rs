//! From a stream's bytes to frames, without trusting the peer to send anything, ever.
use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, RecvStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use yard_wire::frame::{Frame, FrameDecoder, PREAMBLE_BYTES, Preamble};
use yard_wire::{Code, Refusal, limits};

use crate::config::{TransportConfig, milliseconds};
use crate::gate::SMALL_ANSWER_BYTES;
use crate::session::Session;

/// Pieces of a stream taken at once.
const CHUNKS: usize = 32;
/// A frame larger than this is read only when the connection's budget has room for it.
const FREE_BYTES: usize = 64 << 10;

/// Why a stream is read no further.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer broke the protocol: its connection is closed with this.
    Broken(Refusal),
    /// The peer gave up the stream, or the connection is gone.
    Gone,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Broken(refusal)
    }
}

/// How slowly a frame may come in that was begun: every `grace` brings `bytes`, or its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    grace: Duration,
    bytes: usize,
}

impl Patience {
    pub(crate) fn new(config: &TransportConfig) -> Self {
        let bytes = u64::from(config.frame_rate_min) * u64::from(config.frame_grace_ms) / 1_000;
        Self { grace: milliseconds(config.frame_grace_ms), bytes: bytes as usize }
    }
}

/// A stretch of a frame's arrival.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    begun: Instant,
    /// What was there of the frame when it began.
    bytes: usize,
}

/// The receiving half of one stream.
pub(crate) struct Reader {
    stream: RecvStream,
    decoder: FrameDecoder,
    patience: Patience,
    /// `None` between frames.
    stretch: Option<Stretch>,
}

/// A frame and, for a large one, the bytes of the budget that it occupies.
pub(crate) struct Received {
    pub(crate) frame: Frame,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Reader {
    pub(crate) fn new(stream: RecvStream, patience: Patience) -> Self {
        let decoder = FrameDecoder::new(limits::FRAME_BYTES_MAX_BEFORE_HELLO);
        Self { stream, decoder, patience, stretch: None }
    }

    /// Takes larger frames from now on.
    pub(crate) fn trust(&mut self) {
        self.decoder.set_frame_bytes_max(limits::FRAME_BYTES_MAX);
    }

    pub(crate) async fn preamble(&mut self, deadline: Instant) -> Result<Preamble, End> {
        let mut bytes = [0; PREAMBLE_BYTES];
        match timeout_at(deadline, self.stream.read_exact(&mut bytes)).await {
            Ok(Ok(())) => Ok(Preamble::parse(bytes)?),
            Ok(Err(quinn::ReadExactError::FinishedEarly(_))) => {
                let detail = "the stream ends inside its preamble";
                Err(End::Broken(Refusal::new(Code::MalformedFrame, detail)))
            }
            Ok(Err(quinn::ReadExactError::ReadError(_))) => Err(End::Gone),
            Err(_) => Err(too_slow("the preamble did not arrive in time")),
        }
    }

    /// The first frame, before the peer is known.
    pub(crate) async fn first_frame(&mut self, deadline: Instant) -> Result<Frame, End> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            let more = timeout_at(deadline, self.fill()).await;
            if !more.map_err(|_| too_slow("the hello did not arrive in time"))?? {
                let detail = "the stream ends before the hello";
                return Err(End::Broken(Refusal::new(Code::HelloExpected, detail)));
            }
        }
    }

    /// The next frame; `None` when the peer has sent all.
    pub(crate) async fn frame(&mut self, session: &Session) -> Result<Option<Received>, End> {
        let mut permit = None;
        // Time in which this side did not read does not count.
        self.stretch = None;
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(Received { frame, permit }));
            }
            if permit.is_none() && self.decoder.announced_bytes() > Some(FREE_BYTES) {
                let bytes = self.decoder.announced_bytes().unwrap_or_default() as u32;
                permit = Some(budget(session, bytes + SMALL_ANSWER_BYTES).await?);
                self.stretch = None;
            }
            let more = match self.stretch() {
                None => self.fill().await?,
                Some(stretch) => {
                    match timeout_at(stretch.begun + self.patience.grace, self.fill()).await {
                        Ok(more) => more?,
                        // The peer may have no room to send in: the window is shared.
                        Err(_) if session.is_waiting() => {
                            self.stretch = None;
                            continue;
                        }
                        Err(_) => {
                            return Err(too_slow("a frame was begun and not finished in time"));
                        }
                    }
                }
            };
            if !more {
                return if self.decoder.is_inside_a_frame() {
                    let detail = "the stream ends inside a frame";
                    Err(End::Broken(Refusal::new(Code::MalformedFrame, detail)))
                } else {
                    Ok(None)
                };
            }
        }
    }

    /// The current stretch of the frame at the front, if one was begun.
    fn stretch(&mut self) -> Option<Stretch> {
        let bytes = self.decoder.buffered_bytes();
        let goes_on = |stretch: &Stretch| bytes < stretch.bytes + self.patience.bytes.max(1);
        self.stretch = match self.stretch.filter(goes_on) {
            Some(stretch) => Some(stretch),
            None if bytes == 0 => None,
            None => Some(Stretch { begun: Instant::now(), bytes }),
        };
        self.stretch
    }

    /// Takes in what has arrived, or waits for it; `false` at the end of the stream.
    async fn fill(&mut self) -> Result<bool, End> {
        let mut chunks: [Bytes; CHUNKS] = Default::default();
        match self.stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => {
                for chunk in chunks.into_iter().take(count) {
                    self.decoder.push_bytes(chunk);
                }
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(
                ReadError::Reset(_)
                | ReadError::ConnectionLost(_)
                | ReadError::ClosedStream
                | ReadError::IllegalOrderedRead
                | ReadError::ZeroRttRejected,
            ) => Err(End::Gone),
        }
    }
}

/// Waits for bytes of the connection's budget; more than all of it is all of it.
pub(crate) async fn budget(session: &Session, bytes: u32) -> Result<OwnedSemaphorePermit, End> {
    let bytes = bytes.min(session.budget_bytes);
    let _waiting = session.wait();
    session.budget.clone().acquire_many_owned(bytes).await.map_err(|_| End::Gone)
}

fn too_slow(detail: &str) -> End {
    End::Broken(Refusal::new(Code::TooSlow, detail))
}
