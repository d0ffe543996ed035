//! A service that echoes, and a client that can say anything.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use yard_transport::{
    Authority, Incoming, Peer, ServerIdentity, Service, SessionHandle, Transport, TransportConfig,
    tls,
};
use yard_wire::frame::{ALPN, Class, Frame, FrameDecoder, Preamble, Role, encode_with};
use yard_wire::order::TopicType;
use yard_wire::request::{Kind, Push, Reply, Request, Right};
use yard_wire::requests::{
    Called, Covered, Credited, Deliver, Delivered, Extended, Fetched, FetchedRecord, FindRoute,
    Found, GroupMoved, Hello, JoinedProducers, Produced, ProducerOpened, Route, Settled, Sought,
    Subscribed, TxBegun, TxDecided, Unsubscribed, Welcome,
};
use yard_wire::{
    Code, Correlation, Epoch, QueueIndex, QueueOffset, Refusal, ShardId, SubscriptionId, TenantId,
    Timestamp, Wire, batch, limits, record,
};

/// Nothing here takes so long unless it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const DELIVERY_BYTES: usize = 64 << 10;
/// The topic whose route makes the service panic.
pub(crate) const PANIC: &str = "panic";
/// The topic whose route keeps the service busy for a while.
pub(crate) const SLOW: &str = "slow";

/// Answers everything at once, but keeps `Credit` until `Unsubscribe`, and delivers without end
/// to whoever subscribes.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) sessions: Mutex<Vec<SessionHandle>>,
    held: Mutex<Vec<(SessionHandle, u16, Correlation)>>,
    pub(crate) held_most: AtomicUsize,
    pub(crate) asked: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    pub(crate) delivered: AtomicUsize,
    pub(crate) deliveries_ended: AtomicUsize,
    pub(crate) closed: AtomicUsize,
    /// Slow requests that are done.
    pub(crate) slow: AtomicUsize,
    /// How many sessions were closed when the last slow request was done.
    pub(crate) closed_before_slow: AtomicUsize,
    /// What [`SessionHandle::limit_window`] is called with.
    pub(crate) window_limit: AtomicU32,
}

impl Echo {
    fn hold(&self, session: &SessionHandle, stream: u16, correlation: Correlation) {
        let mut held = self.held.lock().unwrap();
        held.push((session.clone(), stream, correlation));
        self.held_most.fetch_max(held.len(), Ordering::SeqCst);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.lock().unwrap().len()
    }

    pub(crate) fn answer_held(&self) {
        for (session, stream, correlation) in std::mem::take(&mut *self.held.lock().unwrap()) {
            session.reply(stream, correlation, Ok(Reply::Credit(Credited {})));
        }
    }

    fn answer_slowly(&self) {
        std::thread::sleep(Duration::from_millis(200));
        let closed = self.closed.load(Ordering::SeqCst);
        self.closed_before_slow.store(closed, Ordering::SeqCst);
        self.slow.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn last_session(&self) -> SessionHandle {
        self.sessions.lock().unwrap().last().unwrap().clone()
    }
}

async fn deliver_without_end(count: Arc<Echo>, session: SessionHandle) {
    let messages = vec![Delivered {
        offset: QueueOffset(0),
        stored: Timestamp(0),
        attempt: 1,
        record: Bytes::from(vec![7; DELIVERY_BYTES]),
    }];
    let shard = ShardId(0);
    let subscription = SubscriptionId(1);
    let push = Push::Deliver(Deliver { shard, subscription, queue: QueueIndex(0), messages });
    while session.deliver(1, &push).await.is_ok() {
        count.delivered.fetch_add(1, Ordering::SeqCst);
    }
    count.deliveries_ended.fetch_add(1, Ordering::SeqCst);
}

/// A service needs itself in its tasks.
pub(crate) struct Shared(pub(crate) Arc<Echo>);

impl Service for Shared {
    fn welcome(&self, peer: &Peer, _: &Hello, session: SessionHandle) -> Result<Welcome, Refusal> {
        let Some(identity) = &peer.identity else {
            return Err(Code::NoCertificate.into());
        };
        assert!(peer.is_loopback());
        let limit = self.0.window_limit.load(Ordering::SeqCst);
        if limit > 0 {
            session.limit_window(limit);
        }
        self.0.sessions.lock().unwrap().push(session.clone());
        Ok(Welcome {
            broker: "echo".into(),
            session: session.id(),
            tenant: TenantId(u32::from(identity.operator)),
            tenant_name: identity.tenant.clone(),
            frame_bytes_max: limits::FRAME_BYTES_MAX as u32,
            lanes_max: limits::LANES_MAX,
            now: Timestamp(0),
            features: 0,
        })
    }

    fn allowed(&self, _: &SessionHandle, right: Right) -> bool {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        right != Right::Operate
    }

    fn request(
        &self,
        session: &SessionHandle,
        stream: u16,
        correlation: Correlation,
        request: Incoming,
    ) {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        let reply = match request {
            Incoming::Produce { place, nodes, batch, .. } => {
                let shard = batch.header().shard;
                let (placed, originals) = (vec![], vec![]);
                let duplicate = false;
                Reply::Produce(Produced { shard, place, nodes, duplicate, placed, originals })
            }
            Incoming::Request(request) => match request {
                Request::FindRoute(find) => {
                    assert!(find.topics != [PANIC], "as the test wants it");
                    if find.topics == [SLOW] {
                        self.0.answer_slowly();
                    }
                    Reply::FindRoute(Route { nodes: vec![], topics: vec![] })
                }
                Request::Call(call) => Reply::Call(Called { result: call.args }),
                Request::Subscribe(_) => {
                    tokio::spawn(deliver_without_end(self.0.clone(), session.clone()));
                    let subscription = SubscriptionId(1);
                    Reply::Subscribe(Subscribed {
                        subscription,
                        queues: vec![],
                        r#type: TopicType::Normal,
                    })
                }
                Request::Credit(_) => return self.0.hold(session, stream, correlation),
                Request::Unsubscribe(_) => {
                    self.0.answer_held();
                    Reply::Unsubscribe(Unsubscribed {})
                }
                Request::Settle(_) => {
                    Reply::Settle(Settled { done: 0, lost: vec![], other: vec![] })
                }
                Request::Fetch(fetch) => {
                    let record = Bytes::from(vec![1; fetch.bytes_max as usize]);
                    let (offset, stored) = (fetch.from, Timestamp(0));
                    let records = vec![FetchedRecord { offset, stored, record }];
                    Reply::Fetch(Fetched { first: offset, end: offset, records })
                }
                Request::Find(_) => {
                    let covered = Covered::default();
                    Reply::Find(Found { messages: vec![], covered, next: None })
                }
                Request::Seek(_) => {
                    let end = QueueOffset(0);
                    Reply::Seek(Sought { first: end, end, offset: end })
                }
                Request::Extend(_) => {
                    let (done, until) = (0, Timestamp(0));
                    Reply::Extend(Extended {
                        done,
                        until,
                        spent: vec![],
                        lost: vec![],
                        other: vec![],
                    })
                }
                Request::MoveGroup(_) => Reply::MoveGroup(GroupMoved { queues: vec![], ended: 0 }),
                Request::JoinProducers(_) => Reply::JoinProducers(JoinedProducers {}),
                Request::OpenProducer(_) => {
                    Reply::OpenProducer(ProducerOpened { epoch: Epoch(1), lanes: vec![] })
                }
                Request::TxBegin(_) => Reply::TxBegin(TxBegun {}),
                Request::TxDecide(decide) => Reply::TxDecide(TxDecided { verdict: decide.verdict }),
                Request::Hello(_) | Request::Produce(_) => unreachable!("never passed on"),
            },
        };
        session.reply(stream, correlation, Ok(reply));
    }

    fn closed(&self, _: u64) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) struct Server {
    pub(crate) transport: Transport,
    pub(crate) echo: Arc<Echo>,
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
}

pub(crate) fn start(change: impl FnOnce(&mut TransportConfig)) -> Server {
    let authority = Authority::create().unwrap();
    let (certificate_pem, key_pem) = authority.issue_server(&["localhost".into()]).unwrap();
    let client_authority_pem = authority.certificate_pem().to_owned();
    let identity = ServerIdentity { certificate_pem, key_pem, client_authority_pem };
    let mut config =
        TransportConfig { listen: ([127, 0, 0, 1], 0).into(), ..TransportConfig::default() };
    change(&mut config);
    let echo = Arc::new(Echo::default());
    let transport = Transport::start(config, &identity, Arc::new(Shared(echo.clone()))).unwrap();
    let address = transport.local_address().unwrap();
    Server { transport, echo, authority, address }
}

impl Server {
    /// Connects with a certificate of tenant `acme`.
    pub(crate) async fn connect(&self) -> Client {
        let client = self.connect_with(Some(self.tenant("acme", false)));
        client.await.expect("a tenant's handshake succeeds")
    }

    pub(crate) fn tenant(&self, name: &str, operator: bool) -> (String, String) {
        let (key_pem, request_pem) = tls::new_key_and_request().unwrap();
        (self.authority.issue_tenant(&request_pem, name, operator).unwrap(), key_pem)
    }

    pub(crate) async fn connect_with(
        &self,
        identity: Option<(String, String)>,
    ) -> Result<Client, quinn::ConnectionError> {
        self.connect_as(identity, quinn::TransportConfig::default()).await
    }

    pub(crate) async fn connect_as(
        &self,
        identity: Option<(String, String)>,
        settings: quinn::TransportConfig,
    ) -> Result<Client, quinn::ConnectionError> {
        let mut roots = RootCertStore::empty();
        let authority = self.authority.certificate_pem().as_bytes();
        roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut crypto = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        crypto.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(crypto).unwrap();
        let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(settings));
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(self.address, "localhost").unwrap().await?;
        Ok(Client { endpoint, connection })
    }
}

pub(crate) struct Client {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) connection: quinn::Connection,
}

impl Client {
    /// Opens a stream without a word.
    pub(crate) async fn open_silent(&self) -> Stream {
        let (send, receive) = within(self.connection.open_bi()).await.unwrap();
        Stream { send, receive, decoder: FrameDecoder::new(limits::FRAME_BYTES_MAX) }
    }

    pub(crate) async fn open(&self, role: Role, lane: u8) -> Stream {
        let mut stream = self.open_silent().await;
        stream.raw(&Preamble { role, lane }.encode()).await;
        stream
    }

    /// Says hello and is welcome.
    pub(crate) async fn hello(&self) -> Stream {
        let mut control = self.open(Role::Control, 0).await;
        control.request(1, &hello()).await;
        let Answer::Reply(Reply::Hello(_)) = control.answer(Kind::Hello).await else {
            panic!("not welcome")
        };
        control
    }

    /// The code that the broker closes the connection with.
    pub(crate) async fn close_code(&self) -> Option<Code> {
        match within(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                Code::from_number(close.error_code.into_inner() as u16)
            }
            other => panic!("not closed by the broker: {other}"),
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Reply(Reply),
    Refusal(Code),
    Deliver(usize),
}

pub(crate) struct Stream {
    pub(crate) send: quinn::SendStream,
    pub(crate) receive: quinn::RecvStream,
    decoder: FrameDecoder,
}

impl Stream {
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        // An error means that the broker has closed already; the close tells why.
        let _closed = within(self.send.write_all(bytes)).await;
    }

    pub(crate) async fn request(&mut self, correlation: u64, request: &Request) {
        self.raw(&frame(correlation, request)).await;
    }

    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match within(self.receive.read_chunk(usize::MAX, true)).await {
                Ok(Some(chunk)) => self.decoder.push(&chunk.bytes),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    pub(crate) async fn answer(&mut self, kind: Kind) -> Answer {
        let frame = self.frame().await.expect("an answer");
        match frame.class {
            Class::Reply => Answer::Reply(Reply::from_body(kind, frame.body).unwrap()),
            Class::Refusal => Answer::Refusal(Refusal::from_bytes(frame.body).unwrap().code),
            Class::Push => Answer::Deliver(frame.body.len()),
            Class::Request => panic!("a broker makes no requests"),
        }
    }

    /// Whether the connection still answers.
    pub(crate) async fn is_answered(&mut self, correlation: u64) -> bool {
        self.request(correlation, &find_route("orders")).await;
        matches!(self.answer(Kind::FindRoute).await, Answer::Reply(Reply::FindRoute(_)))
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens at all")
}

/// Waits until something has become true that no event tells.
pub(crate) async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) fn hello() -> Request {
    Request::Hello(Hello { client: "test".into(), library: "test/1".into(), features: 0 })
}

pub(crate) fn find_route(topic: &str) -> Request {
    Request::FindRoute(FindRoute { topics: vec![topic.into()] })
}

pub(crate) fn frame(correlation: u64, request: &Request) -> Vec<u8> {
    raw_frame(request.kind() as u16, Class::Request, correlation, &|out| request.put_body(out))
}

pub(crate) fn raw_frame(
    kind: u16,
    class: Class,
    correlation: u64,
    body: &dyn Fn(&mut Vec<u8>),
) -> Vec<u8> {
    let mut out = Vec::new();
    encode_with(kind, class, Correlation(correlation), &mut out, body);
    out
}

pub(crate) fn batch(body: &[u8]) -> Bytes {
    let mut records = Vec::new();
    let parts = record::RecordParts { body, ..Default::default() };
    parts.encode(&mut records).unwrap();
    batch::encode(&batch::BatchHeader::default(), 1, &records)
}
