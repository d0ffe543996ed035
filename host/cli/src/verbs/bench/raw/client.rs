//! The client of raw QUIC: the same process that measures the broker.
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use yard_client::transport::TransportOptions;
use yard_client::wire::frame::ALPN;

use super::{ANSWER_BYTES, Cutter, Mode, frame};
use crate::failure::Failure;
use crate::verbs::bench::child::Reach;
use crate::verbs::bench::figures::{Belongs, Tally, Window};

/// One connection, with its endpoint as a client of the library has it.
pub(crate) struct Raw {
    connection: Connection,
    endpoint: Endpoint,
}

fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::local(format!("raw QUIC: {why}"))
}

impl Raw {
    pub(crate) async fn connect(reach: &Reach) -> Result<Self, Failure> {
        let options = TransportOptions::default();
        let endpoint = options.bind((Ipv4Addr::UNSPECIFIED, 0).into()).map_err(failed)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto(&reach.authority)?));
        config.transport_config(Arc::new(options.quic()));
        let address = reach.addresses.first().and_then(|address| address.parse().ok());
        let address: SocketAddr = address.ok_or_else(|| failed("no address"))?;
        let connecting = endpoint.connect_with(config, address, &reach.server_name);
        let connection = connecting.map_err(failed)?.await.map_err(failed)?;
        Ok(Self { connection, endpoint })
    }

    pub(crate) async fn connect_all(reach: &Reach, count: usize) -> Result<Vec<Self>, Failure> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Self::connect(reach).await?);
        }
        Ok(all)
    }

    async fn open(&self, mode: Mode, numbers: &[u32]) -> Result<(SendStream, RecvStream), Failure> {
        let (mut send, receive) = self.connection.open_bi().await.map_err(failed)?;
        let mut first = vec![mode as u8];
        numbers.iter().for_each(|number| first.extend_from_slice(&number.to_le_bytes()));
        send.write_all(&first).await.map_err(failed)?;
        Ok((send, receive))
    }

    pub(crate) async fn close(self) {
        self.connection.close(0u32.into(), b"");
        self.endpoint.wait_idle().await;
    }
}

fn crypto(authority: &str) -> Result<QuicClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.map_err(failed)?).map_err(failed)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    QuicClientConfig::try_from(tls).map_err(failed)
}

/// The shape of what is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) frame_bytes: usize,
    /// Messages that a frame of the broker would hold.
    pub(crate) records: u64,
    /// Streams of a connection.
    pub(crate) lanes: usize,
    /// Frames of a stream that are ahead of their answers.
    pub(crate) window: usize,
}

/// Gathers what tasks have counted; the first failure is everybody's.
pub(crate) async fn gather(
    mut tasks: JoinSet<Result<Tally, Failure>>,
    window: Window,
    belongs: Belongs,
) -> Result<Tally, Failure> {
    let mut parts = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        parts.push(ended.map_err(failed)??);
    }
    Ok(Tally::all(window, belongs, &parts))
}

/// Sends frames as fast as they are answered.
pub(crate) async fn produce(
    connections: &[Raw],
    shape: Shape,
    window: Window,
) -> Result<Tally, Failure> {
    let mut tasks = JoinSet::new();
    let frame = frame(shape.frame_bytes);
    for raw in connections {
        for _ in 0..shape.lanes {
            let (send, receive) = raw.open(Mode::Answer, &[]).await?;
            tasks.spawn(answered(send, receive, frame.clone(), shape, window));
        }
    }
    gather(tasks, window, Belongs::Done).await
}

/// One stream: frames out, answers in.
async fn answered(
    mut send: SendStream,
    mut receive: RecvStream,
    frame: Bytes,
    shape: Shape,
    window: Window,
) -> Result<Tally, Failure> {
    let room = Arc::new(Semaphore::new(shape.window));
    let sent = Arc::new(Mutex::new(VecDeque::<Instant>::new()));
    let sending = {
        let (room, sent) = (room.clone(), sent.clone());
        async move {
            while let Ok(permit) = room.acquire().await {
                permit.forget();
                if Instant::now() >= window.end {
                    break;
                }
                sent.lock().unwrap_or_else(PoisonError::into_inner).push_back(Instant::now());
                send.write_chunk(frame.clone()).await.map_err(failed)?;
            }
            // The stream ends well when all is answered.
            send.finish().map_err(failed)
        }
    };
    let receiving = async {
        let mut tally = Tally::new(window, Belongs::Done);
        let mut bytes = 0;
        while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.map_err(failed)? {
            bytes += chunk.bytes.len();
            let (answers, at) = (bytes / ANSWER_BYTES, Instant::now());
            bytes %= ANSWER_BYTES;
            let due: Vec<Instant> = {
                let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
                sent.drain(..answers).collect()
            };
            due.into_iter().for_each(|due| tally.add_many(due, at, shape.records));
            room.add_permits(answers);
        }
        Ok(tally)
    };
    let ((), tally) = tokio::try_join!(sending, receiving)?;
    Ok(tally)
}

/// Receives frames and answers each, until the window ends.
pub(crate) async fn consume(
    connections: &[Raw],
    shape: Shape,
    window: Window,
) -> Result<Tally, Failure> {
    let mut tasks = JoinSet::new();
    for raw in connections {
        for _ in 0..shape.lanes {
            let numbers = [shape.frame_bytes as u32, shape.window as u32];
            let (send, receive) = raw.open(Mode::Push, &numbers).await?;
            tasks.spawn(received(send, receive, shape, window));
        }
    }
    gather(tasks, window, Belongs::Done).await
}

async fn received(
    mut send: SendStream,
    mut receive: RecvStream,
    shape: Shape,
    window: Window,
) -> Result<Tally, Failure> {
    let mut tally = Tally::new(window, Belongs::Done);
    let mut cutter = Cutter::default();
    let mut chunks = vec![Bytes::new(); 64];
    loop {
        let reading = timeout_at(window.end.into(), receive.read_chunks(&mut chunks));
        let Ok(read) = reading.await else { break };
        let Some(count) = read.map_err(failed)? else { break };
        let (mut frames, at) = (0, Instant::now());
        for chunk in &mut chunks[..count] {
            let mut rest = std::mem::take(chunk);
            while !rest.is_empty() {
                let (taken, ends) = cutter.cut(&rest);
                let _read = rest.split_to(taken);
                frames += usize::from(ends);
            }
        }
        if frames > 0 {
            tally.add_many(at, at, frames as u64 * shape.records);
            send.write_all(&[0; ANSWER_BYTES].repeat(frames)).await.map_err(failed)?;
        }
        if at >= window.end {
            break;
        }
    }
    Ok(tally)
}

/// Sends frames over one connection and gets them back over another, each answered both ways.
pub(crate) async fn relay(
    (from, to): (&[Raw], &[Raw]),
    shape: Shape,
    window: Window,
    round: u32,
) -> Result<Tally, Failure> {
    let (mut sending, mut receiving) = (JoinSet::new(), JoinSet::new());
    let frame = frame(shape.frame_bytes);
    for (number, (from, to)) in from.iter().zip(to).enumerate() {
        for lane in 0..shape.lanes {
            let channel = round << 20 | (number * shape.lanes + lane) as u32;
            let (send, receive) = to.open(Mode::Follow, &[channel, shape.window as u32]).await?;
            receiving.spawn(received(send, receive, shape, window));
            let (send, receive) = from.open(Mode::Relay, &[channel]).await?;
            sending.spawn(answered(send, receive, frame.clone(), shape, window));
        }
    }
    let received = gather(receiving, window, Belongs::Done).await;
    // Nobody takes what is still on its way, so its answers do not come.
    sending.abort_all();
    received
}

/// One frame in flight on each connection.
pub(crate) async fn round_trips(
    connections: &[Raw],
    shape: Shape,
    window: Window,
    committed: bool,
) -> Result<Tally, Failure> {
    let mut tasks = JoinSet::new();
    let frame = frame(shape.frame_bytes);
    let mode = if committed { Mode::Commit } else { Mode::Answer };
    for raw in connections {
        for _ in 0..shape.window {
            let (mut send, mut receive) = raw.open(mode, &[]).await?;
            let frame = frame.clone();
            tasks.spawn(async move {
                let mut tally = Tally::new(window, Belongs::Done);
                let mut answer = [0; ANSWER_BYTES];
                let mut due = Instant::now();
                while due < window.end {
                    send.write_chunk(frame.clone()).await.map_err(failed)?;
                    receive.read_exact(&mut answer).await.map_err(failed)?;
                    let at = Instant::now();
                    tally.add_many(due, at, shape.records);
                    due = at;
                }
                Ok(tally)
            });
        }
    }
    gather(tasks, window, Belongs::Done).await
}
