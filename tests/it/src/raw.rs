//! A peer that speaks QUIC and nothing more: it sends whatever bytes it is told to.
//!
//! ```text
//!   Raw::connect ─► open(bytes) ─► RawStream: send(bytes), answer() ─► frame │ end of connection
//! ```
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use yard_client::Context;
use yard_client::wire::frame::{ALPN, Class, Frame, FrameDecoder, Preamble, Role, encode_with};
use yard_client::wire::request::{Push, Reply, Request};
use yard_client::wire::requests::{Hello, Welcome};
use yard_client::wire::{Code, Correlation, Refusal, Wire, limits};

use crate::Failed;
use crate::wait::within;

/// What the broker sent, or how it ended the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A good answer.
    Reply(Reply),
    /// A refusal; the connection goes on.
    Refused(Refusal),
    /// Something unasked.
    Push(Push),
    /// The broker has sent all that it will send on this stream.
    Finished,
    /// The connection is gone; the code, where the broker gave one.
    Closed(Option<Code>),
}

impl Answer {
    /// The code of a refusal or of the connection's end.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Closed(code) => *code,
            Self::Reply(_) | Self::Push(_) | Self::Finished => None,
        }
    }
}

/// Bytes that the broker may send ahead of this peer's reading.
#[derive(Clone, Copy, Debug)]
pub struct RawWindows {
    /// On each stream.
    pub stream_bytes: u32,
    /// On the connection.
    pub connection_bytes: u32,
}

impl Default for RawWindows {
    fn default() -> Self {
        Self { stream_bytes: 1_250_000, connection_bytes: 8 << 20 }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    /// What is under it.
    pub connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

/// A stream of it.
#[derive(Debug)]
pub struct RawStream {
    send: SendStream,
    receiver: RawReceiver,
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct RawReceiver {
    receive: RecvStream,
    decoder: FrameDecoder,
    connection: quinn::Connection,
}

fn client_config(
    context: &Context,
    windows: RawWindows,
) -> Result<quinn::ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(context.authority_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut tls = match (&context.certificate_pem, &context.key_pem) {
        (Some(certificate), Some(key)) => {
            let chain: Result<_, _> =
                CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
            builder.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut transport = quinn::TransportConfig::default();
    transport
        .stream_receive_window(windows.stream_bytes.into())
        .receive_window(windows.connection_bytes.into())
        .keep_alive_interval(Some(Duration::from_secs(2)));
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

impl Raw {
    /// Connects with the certificate of a context, or without one where it has none; sends
    /// nothing yet.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn connect(context: &Context, windows: RawWindows) -> Result<Self, Failed> {
        let failed = |error: &dyn std::fmt::Display| Failed(format!("no raw connection: {error}"));
        let config = client_config(context, windows).map_err(|error| failed(&error))?;
        let address = context.addresses.first().and_then(|text| text.parse().ok());
        let address: SocketAddr = address.ok_or_else(|| failed(&"the context has no address"))?;
        let name = context.server_name.clone().unwrap_or_else(|| address.ip().to_string());
        let endpoint = quinn::Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into())?;
        let connecting = endpoint.connect_with(config, address, &name);
        let connecting = connecting.map_err(|error| failed(&error))?;
        let connection = within("a handshake", connecting).await?.map_err(|e| failed(&e))?;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Opens a stream and sends these bytes first.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn open(&self, first: &[u8]) -> Result<RawStream, Failed> {
        let gone = |error: ConnectionError| Failed(format!("no stream: {error}"));
        let (send, receive) = within("a stream", self.connection.open_bi()).await?.map_err(gone)?;
        let decoder = FrameDecoder::new(limits::FRAME_BYTES_MAX);
        let receiver = RawReceiver { receive, decoder, connection: self.connection.clone() };
        let mut stream = RawStream { send, receiver };
        stream.send(first).await;
        Ok(stream)
    }

    /// Opens the control stream and says hello.
    ///
    /// # Errors
    /// When the connection is gone; a refusal is an answer.
    pub async fn hello(&self) -> Result<(RawStream, Answer), Failed> {
        let mut control = self.open(&Preamble { role: Role::Control, lane: 0 }.encode()).await?;
        let (client, library) = ("raw".to_owned(), "raw".to_owned());
        let hello = Request::Hello(Hello { client, library, features: 0 });
        let answer = control.ask(1, &hello).await?;
        Ok((control, answer))
    }

    /// Says hello, expects a welcome, and opens a data stream.
    ///
    /// # Errors
    /// When the broker does not welcome the peer.
    pub async fn welcomed(&self) -> Result<(RawStream, RawStream, Welcome), Failed> {
        match self.hello().await? {
            (control, Answer::Reply(Reply::Hello(welcome))) => {
                Ok((control, self.data(0).await?, welcome))
            }
            (_, other) => Err(Failed(format!("no welcome: {other:?}"))),
        }
    }

    /// Opens a data stream.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn data(&self, lane: u8) -> Result<RawStream, Failed> {
        self.open(&Preamble { role: Role::Data, lane }.encode()).await
    }

    /// Waits for the end of the connection.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn closed(&self) -> Result<Option<Code>, Failed> {
        Ok(code_of(&within("the end of a connection", self.connection.closed()).await?))
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

fn code_of(end: &ConnectionError) -> Option<Code> {
    match end {
        ConnectionError::ApplicationClosed(close) => {
            u16::try_from(close.error_code.into_inner()).ok().and_then(Code::from_number)
        }
        _ => None,
    }
}

/// The bytes of a request's frame.
#[must_use]
pub fn request_bytes(correlation: u64, request: &Request) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = request.kind() as u16;
    encode_with(kind, Class::Request, Correlation(correlation), &mut out, |out| {
        request.put_body(out);
    });
    out
}

impl RawStream {
    /// Sends bytes. What the broker no longer takes is dropped: its answer says why.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) {
        let _ = self.send.finish();
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// When nothing comes, or what cannot be read.
    pub async fn ask(&mut self, correlation: u64, request: &Request) -> Result<Answer, Failed> {
        self.send(&request_bytes(correlation, request)).await;
        self.answer().await
    }

    /// The next frame of the broker, or the end.
    ///
    /// # Errors
    /// When nothing comes, or what cannot be read.
    pub async fn answer(&mut self) -> Result<Answer, Failed> {
        self.receiver.numbered().await.map(|(_, answer)| answer)
    }

    /// The halves, for two tasks.
    #[must_use]
    pub fn into_halves(self) -> (SendStream, RawReceiver) {
        (self.send, self.receiver)
    }
}

impl RawReceiver {
    /// The next frame of the broker with the number of its request, or the end with number 0.
    ///
    /// # Errors
    /// When nothing comes, or what cannot be read.
    pub async fn numbered(&mut self) -> Result<(u64, Answer), Failed> {
        loop {
            let next = self.decoder.next_frame();
            if let Some(frame) = next.map_err(|refusal| Failed(refusal.to_string()))? {
                return Ok((frame.correlation.0, read(frame)?));
            }
            let chunk = within("an answer", self.receive.read_chunk(64 << 10, true)).await?;
            match chunk {
                Ok(Some(chunk)) => self.decoder.push(&chunk.bytes),
                Ok(None) => return Ok((0, Answer::Finished)),
                Err(quinn::ReadError::ConnectionLost(end)) => {
                    return Ok((0, Answer::Closed(code_of(&end))));
                }
                Err(error) => {
                    let end = self.connection.close_reason();
                    let code = end.as_ref().and_then(code_of);
                    return match code {
                        Some(code) => Ok((0, Answer::Closed(Some(code)))),
                        None => Err(Failed(format!("a stream failed: {error}"))),
                    };
                }
            }
        }
    }
}

fn read(frame: Frame) -> Result<Answer, Failed> {
    let Frame { kind, class, body, .. } = frame;
    let unreadable = |what: &str| Failed(format!("a frame cannot be read: {what}"));
    let known = |kind| {
        yard_client::wire::request::Kind::from_number(kind)
            .ok_or_else(|| unreadable("its kind is unknown"))
    };
    match class {
        Class::Reply => Reply::from_body(known(kind)?, body).map(Answer::Reply),
        Class::Refusal => Refusal::from_bytes(body).map(Answer::Refused),
        Class::Push => Push::from_body(kind, body).map(Answer::Push),
        Class::Request => return Err(unreadable("the broker sent a request")),
    }
    .map_err(|malformed| unreadable(&malformed.to_string()))
}

/// One record, encoded.
///
/// # Errors
/// When it is larger than allowed.
pub fn record(
    topic: yard_client::wire::TopicId,
    queue: u16,
    body: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let parts = yard_client::wire::record::RecordParts {
        topic,
        queue: yard_client::wire::QueueIndex(queue),
        body,
        ..Default::default()
    };
    let mut out = Vec::new();
    parts.encode(&mut out)?;
    Ok(out)
}

/// A request to store a batch on one node, synced.
#[must_use]
pub fn produce(batch: Bytes) -> Request {
    use yard_client::wire::Sequence;
    use yard_client::wire::requests::{AckNodes, AckPlace, Produce};
    let (place, nodes) = (AckPlace::Synced, AckNodes::One);
    Request::Produce(Produce { place, nodes, floor: Sequence(0), batch })
}
