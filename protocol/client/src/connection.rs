//! One connection to a broker: the control stream, the data streams, what is outstanding on each.
//!
//! ```text
//!   request ─► frames (bounded) ─► writer task ─► stream ─► broker
//!   answer  ◄─ outstanding by correlation ◄─ reader task ◄─┘
//!   push    ◄─ subscriptions by number    ◄─┘
//! ```
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::ConnectionError;
use yard_quic::PathSample;
use yard_wire::frame::{Preamble, Role};
use yard_wire::limits::LANES_MAX;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Hello, Welcome};
use yard_wire::{Code, Correlation, Timestamp};

use crate::Error;
use crate::link::PathReport;

mod pushes;
mod stream;

pub(crate) use pushes::{PushReceiver, Pushes};
pub(crate) use stream::{Answer, Permit};
use stream::{Stream, Unsent};

/// Why a request has no good answer.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The broker never saw it.
    NotSent(Error),
    /// Nor will any: no frame can carry it.
    TooLarge(Error),
    /// The broker refused it, or may have done it.
    Sent(Error),
}

impl From<AskError> for Error {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NotSent(error) | AskError::TooLarge(error) | AskError::Sent(error) => error,
        }
    }
}

/// An open connection that has said hello.
#[derive(Debug)]
pub(crate) struct Connection {
    quic: quinn::Connection,
    control: Stream,
    /// Data streams that there may be; the first [`Connection::streams`] are open.
    data: Box<[OnceLock<Stream>]>,
    open: AtomicU16,
    correlation: AtomicU64,
    pushes: Arc<Pushes>,
}

impl Connection {
    /// Connects, says hello and opens up to `streams` data streams, at least one. The broker's
    /// clock comes with it.
    pub(crate) async fn open(
        endpoint: &quinn::Endpoint,
        config: quinn::ClientConfig,
        (address, server_name): (SocketAddr, &str),
        hello: Hello,
        (streams, timeout): (u16, Duration),
    ) -> Result<(Arc<Self>, Timestamp), Error> {
        let connecting = endpoint.connect_with(config, address, server_name).map_err(|e| {
            Error::new(Code::BadArgument, format!("no connection to {address}: {e}"))
        })?;
        let quic = connecting.await.map_err(|e| lost(&e))?;
        let pushes = Arc::new(Pushes::default());
        let open = |role, lane| Stream::open(&quic, Preamble { role, lane }, pushes.clone());
        let control = open(Role::Control, 0).await?;
        let mut connection = Self {
            quic: quic.clone(),
            control,
            data: Box::default(),
            open: AtomicU16::new(0),
            correlation: AtomicU64::new(1),
            pushes: pushes.clone(),
        };
        let welcome = connection.hello(hello, timeout).await?;
        let lanes_max = welcome.lanes_max.clamp(1, LANES_MAX);
        connection.data = (0..lanes_max).map(|_| OnceLock::new()).collect();
        connection.spread(streams.max(1)).await?;
        tracing::debug!(%address, session = welcome.session, "connected");
        Ok((Arc::new(connection), welcome.now))
    }

    /// Opens data streams until there are `streams`, or as many as the broker allows. To be called
    /// by one task at a time.
    ///
    /// A lane stays on its stream as long as it is below the number of streams that were open when
    /// its first frame went out: the stream of lane `n` is `n` modulo what is open.
    pub(crate) async fn spread(&self, streams: u16) -> Result<(), Error> {
        let open = self.open.load(Ordering::Relaxed);
        for lane in open..streams.min(self.data.len() as u16) {
            let number = u8::try_from(lane).expect("there are at most 32 lanes");
            let preamble = Preamble { role: Role::Data, lane: number };
            let stream = Stream::open(&self.quic, preamble, self.pushes.clone()).await?;
            let set = self.data[usize::from(lane)].set(stream);
            set.expect("one task at a time opens streams");
            self.open.store(lane + 1, Ordering::Release);
        }
        Ok(())
    }

    /// Data streams that are open.
    pub(crate) fn streams(&self) -> u16 {
        self.open.load(Ordering::Acquire)
    }

    /// Data streams that the broker allows.
    pub(crate) fn streams_max(&self) -> u16 {
        self.data.len() as u16
    }

    /// What the path did so far.
    pub(crate) fn sample(&self, at_us: u64) -> PathSample {
        PathSample::of(&self.quic.stats(), at_us)
    }

    async fn hello(&self, hello: Hello, timeout: Duration) -> Result<Welcome, Error> {
        match self.ask(None, &Request::Hello(hello), timeout).await {
            Ok(Reply::Hello(welcome)) => Ok(welcome),
            Ok(other) => Err(crate::client::unexpected(&other)),
            Err(error) => {
                // A broker that does not want the client says so in its answer, and again when it
                // closes the connection: whichever of the two came. That this side has closed it
                // by now says nothing.
                let reason = self
                    .quic
                    .close_reason()
                    .filter(|reason| !matches!(reason, quinn::ConnectionError::LocallyClosed));
                Err(reason.map_or_else(|| error.into(), |reason| lost(&reason)))
            }
        }
    }

    /// Waits for room to send a frame. `lane`: the data stream, any number; `None`: control.
    pub(crate) async fn reserve(&self, lane: Option<u16>) -> Result<Permit<'_>, Error> {
        self.stream(lane).reserve().await
    }

    /// Room to send a frame on a data stream, if there is some now and nobody waits for it.
    pub(crate) fn try_reserve(&self, lane: u16) -> Option<Permit<'_>> {
        self.stream(Some(lane)).try_reserve()
    }

    fn stream(&self, lane: Option<u16>) -> &Stream {
        match lane {
            Some(lane) => {
                let stream = self.data[usize::from(lane % self.streams())].get();
                stream.expect("it was opened before it was counted")
            }
            None => &self.control,
        }
    }

    /// The number of the next request.
    pub(crate) fn next_correlation(&self) -> Correlation {
        Correlation(self.correlation.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(
        &self,
        lane: Option<u16>,
        request: &Request,
        timeout: Duration,
    ) -> Result<Reply, AskError> {
        let deadline = tokio::time::Instant::now() + timeout;
        let name = request.kind().name();
        let permit = match tokio::time::timeout_at(deadline, self.reserve(lane)).await {
            Ok(permit) => permit.map_err(AskError::NotSent)?,
            Err(_) => {
                let detail = format!("{name} could not be sent within {} ms", timeout.as_millis());
                return Err(AskError::NotSent(Error::new(Code::TimedOut, detail)));
            }
        };
        let pending =
            permit.send(self.next_correlation(), request).map_err(|unsent| match unsent {
                Unsent::Gone(error) => AskError::NotSent(error),
                Unsent::TooLarge(error) => AskError::TooLarge(error),
            })?;
        match tokio::time::timeout_at(deadline, pending).await {
            Ok(result) => result.map_err(AskError::Sent),
            Err(_) => Err(AskError::Sent(Error::timed_out(name, timeout))),
        }
    }

    /// Where pushes go.
    pub(crate) fn pushes(&self) -> &Pushes {
        &self.pushes
    }

    /// Resolves when the connection is gone, with the reason.
    pub(crate) async fn closed(&self) -> Error {
        lost(&self.quic.closed().await)
    }

    /// How the path does, but for what its link knows.
    pub(crate) fn report(&self) -> PathReport {
        let path = self.quic.stats().path;
        PathReport {
            connections: 0,
            streams: self.streams(),
            round_trip_us: path.rtt.as_micros() as u64,
            sent: path.sent_packets,
            lost: path.lost_packets,
            mtu_bytes: path.current_mtu,
            window_bytes: path.cwnd,
        }
    }

    /// Datagrams received and sent so far.
    pub(crate) fn datagrams(&self) -> (u64, u64) {
        let stats = self.quic.stats();
        (stats.udp_rx.datagrams, stats.udp_tx.datagrams)
    }

    pub(crate) fn close(&self, why: &str) {
        self.quic.close(0u32.into(), why.as_bytes());
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close("closed");
    }
}

/// First code of a TLS alert among QUIC's error codes. Source: RFC 9001 section 4.8.
const CRYPTO_ERROR: u64 = 0x100;
/// TLS alerts about certificates. Source: RFC 8446 section 6.
const CERTIFICATE_ALERTS: [u64; 7] = [42, 43, 44, 45, 46, 48, 51];
/// TLS alert: the client brought no certificate.
const CERTIFICATE_REQUIRED: u64 = 116;

/// The error for a connection that is gone.
pub(crate) fn lost(error: &ConnectionError) -> Error {
    let alert = |code: u64| code.wrapping_sub(CRYPTO_ERROR);
    let (code, detail) = match error {
        ConnectionError::ApplicationClosed(close) => {
            let number = u16::try_from(close.error_code.into_inner()).ok();
            let code = number.and_then(Code::from_number).unwrap_or(Code::Disconnected);
            let reason = String::from_utf8_lossy(&close.reason);
            (code, format!("the broker closed the connection: {reason}"))
        }
        ConnectionError::TransportError(e)
            if CERTIFICATE_ALERTS.contains(&alert(e.code.into())) =>
        {
            (Code::Untrusted, format!("the broker's certificate is not valid here: {}", e.reason))
        }
        ConnectionError::ConnectionClosed(close) => {
            let alert = alert(close.error_code.into());
            if alert == CERTIFICATE_REQUIRED || CERTIFICATE_ALERTS.contains(&alert) {
                (Code::NoCertificate, format!("the broker takes no such client: {close}"))
            } else {
                (Code::Disconnected, format!("the broker closed the connection: {close}"))
            }
        }
        ConnectionError::TransportError(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => {
            (Code::Disconnected, format!("the connection is gone: {error}"))
        }
    };
    Error::new(code, detail)
}
