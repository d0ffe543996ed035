//! A broker that fits in a test: real QUIC on loopback, the rules of numbering and of credit, a
//! log in memory, and a script of what goes wrong. It knows the wire and nothing of the client.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{CertifiedKey, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use yard_client::TlsOptions;
use yard_wire::batch::Batch;
use yard_wire::frame::{
    ALPN, Class, Frame, FrameDecoder, PREAMBLE_BYTES, Preamble, Role, encode_with,
};
use yard_wire::limits::{FRAME_BYTES_MAX, LANE_BATCHES_IN_FLIGHT_MAX};
use yard_wire::order::TopicType;
use yard_wire::record::Record;
use yard_wire::request::{Kind, Push, Reply, Request};
use yard_wire::requests::*;
use yard_wire::*;

/// What goes wrong with a request.
pub(crate) enum Mishap {
    Refuse(Refusal),
    /// It is stored, and the connection dies before the answer.
    StoreAndDrop,
}

type Out = tokio::sync::mpsc::Sender<Vec<u8>>;
type LaneKey = (ProducerId, ShardId, Lane);

#[derive(Default)]
struct Numbering {
    next: u64,
    remembered: VecDeque<(u64, Produced)>,
}

struct Member {
    session: u64,
    shard: ShardId,
    messages: u32,
    lease: BTreeMap<(u16, u64), ()>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) shards: Vec<ShardId>,
    pub(crate) mishaps: VecDeque<Mishap>,
    /// The code that connections are closed with.
    pub(crate) close_code: u32,
    /// A shard that refuses whatever it is sent, and how often it has.
    pub(crate) refusing: Option<ShardId>,
    pub(crate) refused: u64,
    /// Whether its topic keeps an order, as consumers are told; it keeps none.
    pub(crate) is_ordered: bool,
    /// Whether a hello closes its connection.
    pub(crate) is_unwelcoming: bool,
    pub(crate) queues: BTreeMap<u16, Vec<bytes::Bytes>>,
    pub(crate) settles: Vec<Settle>,
    pub(crate) credits: Vec<Credit>,
    pub(crate) sessions: u64,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) produces: u64,
    pub(crate) batch_records: Vec<usize>,
    pub(crate) calls: u64,
    pub(crate) finds: Vec<Find>,
    pub(crate) subscribes: Vec<Subscribe>,
    pub(crate) unsubscribed: u64,
    pub(crate) extends: Vec<Extend>,
    pub(crate) moves: Vec<MoveGroup>,
    /// A shard that answers no batch, and how many it got.
    pub(crate) silent: Option<ShardId>,
    pub(crate) unanswered: u64,
    settled: BTreeMap<(u16, u64), Verdict>,
    attempts: BTreeMap<(u16, u64), u32>,
    numbering: BTreeMap<LaneKey, Numbering>,
    members: BTreeMap<u64, Member>,
    next_subscription: u64,
    /// Data streams of a session.
    streams: BTreeMap<u64, BTreeMap<u8, Out>>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    certified: Arc<CertifiedKey<KeyPair>>,
    state: Arc<Mutex<State>>,
    endpoint: quinn::Endpoint,
}

pub(crate) const TOPIC: TopicId = TopicId(7);

impl Fake {
    /// A broker with the topic `orders`, whose queues lie in these shards.
    pub(crate) fn start(shards: &[u16]) -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self::start_with(shards, Arc::new(certified))
    }

    /// The same broker with nothing in its memory, at another address.
    pub(crate) fn restarted(&self) -> Self {
        let shards: Vec<u16> = self.state().shards.iter().map(|shard| shard.0).collect();
        Self::start_with(&shards, self.certified.clone())
    }

    fn start_with(shards: &[u16], certified: Arc<CertifiedKey<KeyPair>>) -> Self {
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let shards = shards.iter().copied().map(ShardId).collect();
        let state = Arc::new(Mutex::new(State { shards, ..State::default() }));
        let address = endpoint.local_addr().unwrap();
        let fake = Self { address, certified, state, endpoint };
        tokio::spawn(fake.clone().accept());
        fake
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn tls(&self) -> TlsOptions {
        TlsOptions {
            authority_pem: self.certified.cert.pem(),
            server_name: Some("localhost".to_owned()),
            ..TlsOptions::default()
        }
    }

    pub(crate) async fn client(&self, streams: u16) -> yard_client::Client {
        let builder = yard_client::Client::builder().bootstrap([self.address.to_string()]);
        builder.tls(self.tls()).name("test").streams(streams).connect().await.unwrap()
    }

    async fn accept(self) {
        while let Some(incoming) = self.endpoint.accept().await {
            let Ok(connection) = incoming.await else {
                continue;
            };
            let session = {
                let mut state = self.state();
                state.sessions += 1;
                state.sessions
            };
            let fake = self.clone();
            tokio::spawn(async move {
                while let Ok((send, recv)) = connection.accept_bi().await {
                    tokio::spawn(fake.clone().serve(session, connection.clone(), send, recv));
                }
                let mut state = fake.state();
                state.streams.remove(&session);
                state.members.retain(|_, member| member.session != session);
            });
        }
    }

    async fn serve(
        self,
        session: u64,
        connection: quinn::Connection,
        mut send: quinn::SendStream,
        mut recv: quinn::RecvStream,
    ) {
        let mut preamble = [0; PREAMBLE_BYTES];
        if recv.read_exact(&mut preamble).await.is_err() {
            return;
        }
        let preamble = Preamble::parse(preamble).unwrap();
        let (out, mut queued) = tokio::sync::mpsc::channel::<Vec<u8>>(4_096);
        if preamble.role == Role::Data {
            let mut state = self.state();
            state.streams.entry(session).or_default().insert(preamble.lane, out.clone());
        }
        tokio::spawn(async move {
            while let Some(bytes) = queued.recv().await {
                if send.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        while let Ok(Some(chunk)) = recv.read_chunk(1 << 16, true).await {
            decoder.push(&chunk.bytes);
            while let Some(frame) = decoder.next_frame().unwrap() {
                let Frame { kind, correlation, body, .. } = frame;
                let request = Request::from_body(Kind::from_number(kind).unwrap(), body).unwrap();
                assert_eq!(request.kind().role(), preamble.role);
                if self.state().is_silent(&request) {
                    continue;
                }
                let Some(answer) = self.state().handle(session, request) else {
                    let code = self.state().close_code;
                    connection.close(code.into(), b"as the script says");
                    return;
                };
                if correlation != Correlation(0) {
                    let mut bytes = Vec::new();
                    let class = if answer.is_ok() { Class::Reply } else { Class::Refusal };
                    encode_with(kind, class, correlation, &mut bytes, |out| match &answer {
                        Ok(reply) => reply.put_body(out),
                        Err(refusal) => refusal.put(out),
                    });
                    let _ = out.try_send(bytes);
                }
                self.state().deliver();
            }
        }
    }
}

fn welcome(session: u64) -> Welcome {
    Welcome {
        broker: "fake".to_owned(),
        session,
        tenant: TenantId(0),
        tenant_name: "default".to_owned(),
        frame_bytes_max: FRAME_BYTES_MAX as u32,
        lanes_max: 4,
        now: Timestamp(0),
        features: 0,
    }
}

impl State {
    fn route(&self, topics: &[String]) -> Route {
        let node = Node { node: 0, addresses: vec![], shards: vec![ShardId(0), ShardId(1)] };
        let topic = TopicRoute {
            name: "orders".to_owned(),
            topic: TOPIC,
            shards: self.shards.clone(),
            created_queues: self.shards.len() as u16,
            version: 1,
        };
        let found = topics.iter().map(|name| (name == "orders").then(|| topic.clone()));
        Route { nodes: vec![node], topics: found.collect() }
    }

    fn is_silent(&mut self, request: &Request) -> bool {
        let Request::Produce(produce) = request else { return false };
        let shard = Batch::parse(produce.batch.clone()).unwrap().header().shard;
        let is_silent = self.silent == Some(shard);
        self.unanswered += u64::from(is_silent);
        is_silent
    }

    /// `None`: the connection dies.
    fn handle(&mut self, session: u64, request: Request) -> Option<Result<Reply, Refusal>> {
        Some(Ok(match request {
            Request::Hello(hello) => {
                self.hellos.push(hello);
                if self.is_unwelcoming {
                    return None;
                }
                Reply::Hello(welcome(session))
            }
            Request::FindRoute(find) => Reply::FindRoute(self.route(&find.topics)),
            Request::Call(call) => {
                self.calls += 1;
                let number = u64::from(call.operation);
                match self.mishaps.pop_front() {
                    Some(Mishap::Refuse(refusal)) => return Some(Err(refusal)),
                    Some(Mishap::StoreAndDrop) => return None,
                    None => {}
                }
                Reply::Call(Called { result: number.to_bytes() })
            }
            Request::Subscribe(subscribe) => {
                self.next_subscription += 1;
                let (shard, messages) = (subscribe.shard, subscribe.messages);
                let member = Member { session, shard, messages, lease: BTreeMap::new() };
                self.members.insert(self.next_subscription, member);
                self.subscribes.push(subscribe);
                let subscription = SubscriptionId(self.next_subscription);
                let r#type = if self.is_ordered { TopicType::Ordered } else { TopicType::Normal };
                Reply::Subscribe(Subscribed { subscription, queues: vec![], r#type })
            }
            Request::Credit(credit) => {
                if let Some(member) = self.members.get_mut(&credit.subscription.0) {
                    member.messages += credit.messages;
                }
                self.credits.push(credit);
                Reply::Credit(Credited {})
            }
            Request::Unsubscribe(unsubscribe) => {
                self.unsubscribed += 1;
                self.members.remove(&unsubscribe.subscription.0);
                Reply::Unsubscribe(Unsubscribed {})
            }
            Request::Produce(produce) => {
                self.produces += 1;
                let shard = Batch::parse(produce.batch.clone()).unwrap().header().shard;
                if self.refusing == Some(shard) {
                    self.refused += 1;
                    return Some(Err(Refusal::after(Code::Busy, 20, "it refuses")));
                }
                let is_refused = matches!(self.mishaps.front(), Some(Mishap::Refuse(_)));
                if let Some(Mishap::Refuse(refusal)) = self.mishaps.pop_front_if(|_| is_refused) {
                    return Some(Err(refusal));
                }
                let result = self.produce(&produce);
                let is_new = result.as_ref().is_ok_and(|produced| !produced.duplicate);
                if is_new && self.mishaps.pop_front().is_some() {
                    return None;
                }
                return Some(result.map(Reply::Produce));
            }
            Request::Settle(mut settle) => {
                let is_refused = matches!(self.mishaps.front(), Some(Mishap::Refuse(_)));
                if let Some(Mishap::Refuse(refusal)) = self.mishaps.pop_front_if(|_| is_refused) {
                    // What is given back needs no record.
                    settle.ranges.retain(|range| range.verdict == Verdict::Release);
                    self.settle(settle);
                    return Some(Err(refusal));
                }
                Reply::Settle(self.settle(settle))
            }
            Request::Fetch(fetch) => Reply::Fetch(self.fetch(&fetch)),
            Request::Seek(seek) => Reply::Seek(self.seek(&seek)),
            Request::Extend(extend) => Reply::Extend(self.extend(extend)),
            Request::MoveGroup(request) => {
                self.moves.push(request);
                Reply::MoveGroup(GroupMoved { queues: vec![], ended: 0 })
            }
            Request::Find(find) => Reply::Find(self.find(&find)),
            Request::OpenProducer(_) => {
                Reply::OpenProducer(ProducerOpened { epoch: Epoch(1), lanes: vec![] })
            }
            Request::JoinProducers(_) => Reply::JoinProducers(JoinedProducers {}),
            Request::TxBegin(_) => Reply::TxBegin(TxBegun {}),
            Request::TxDecide(decide) => Reply::TxDecide(TxDecided { verdict: decide.verdict }),
        }))
    }

    fn produce(&mut self, produce: &Produce) -> Result<Produced, Refusal> {
        let batch = Batch::parse(produce.batch.clone()).unwrap();
        let header = *batch.header();
        let key = (header.producer, header.shard, header.lane);
        let numbering = self.numbering.entry(key).or_default();
        let expected = numbering.next.max(produce.floor.0);
        if header.sequence.0 > expected {
            return Err(Code::OutOfSequence.into());
        }
        if header.sequence.0 < expected {
            let known = numbering.remembered.iter().find(|(s, _)| *s == header.sequence.0);
            let (_, produced) = known.ok_or(Refusal::from(Code::StaleSequence))?;
            return Ok(Produced { duplicate: true, ..produced.clone() });
        }
        let mut placed: Vec<Placed> = Vec::new();
        self.batch_records.push(batch.records().len());
        for record in batch.records() {
            let queue = record.queue();
            assert_eq!(self.shards[usize::from(queue.0)], header.shard, "a batch has one shard");
            let log = self.queues.entry(queue.0).or_default();
            match placed.iter_mut().find(|placed| placed.queue == queue) {
                Some(placed) => placed.count += 1,
                None => {
                    let first = QueueOffset(log.len() as u64);
                    placed.push(Placed { topic: TOPIC, queue, first, count: 1 });
                }
            }
            log.push(record.bytes().clone());
        }
        numbering.next = batch.next_sequence().0;
        let (place, nodes, shard) = (produce.place, produce.nodes, header.shard);
        let (duplicate, originals) = (false, vec![]);
        let produced = Produced { shard, place, nodes, duplicate, placed, originals };
        numbering.remembered.push_back((header.sequence.0, produced.clone()));
        if numbering.remembered.len() > LANE_BATCHES_IN_FLIGHT_MAX {
            numbering.remembered.pop_front();
        }
        Ok(produced)
    }

    fn settle(&mut self, settle: Settle) -> Settled {
        let (mut done, mut lost) = (0, Vec::new());
        let mut member = self.members.get_mut(&settle.subscription.0);
        for range in &settle.ranges {
            for offset in range.from.0..range.to.0 {
                let held = member.as_mut().and_then(|m| m.lease.remove(&(range.queue.0, offset)));
                if held.is_some() {
                    done += 1;
                    if !matches!(range.verdict, Verdict::Nack | Verdict::Release) {
                        self.settled.insert((range.queue.0, offset), range.verdict);
                    }
                } else {
                    let range_of_one = (QueueOffset(offset), QueueOffset(offset + 1));
                    lost.push((range.queue, range_of_one));
                }
            }
        }
        self.settles.push(settle);
        Settled { done, lost, other: vec![] }
    }

    /// As long as a message is leased, its lease is extended.
    fn extend(&mut self, extend: Extend) -> Extended {
        let member = self.members.get(&extend.subscription.0);
        let (mut done, mut lost) = (0, Vec::new());
        for HeldRange { queue, from, to, attempt } in &extend.ranges {
            for offset in from.0..to.0 {
                if member.is_some_and(|member| member.lease.contains_key(&(queue.0, offset))) {
                    done += 1;
                } else {
                    let (from, to) = (QueueOffset(offset), QueueOffset(offset + 1));
                    lost.push(HeldRange { queue: *queue, from, to, attempt: *attempt });
                }
            }
        }
        self.extends.push(extend);
        Extended { done, until: Timestamp(1), spent: vec![], lost, other: vec![] }
    }

    /// One message was stored every ten milliseconds.
    fn seek(&mut self, seek: &Seek) -> Sought {
        let log = self.queues.entry(seek.queue.0).or_default();
        let (first, end) = (QueueOffset(0), QueueOffset(log.len() as u64));
        let offset = QueueOffset(seek.time.0.div_ceil(10)).min(end);
        Sought { first, end, offset }
    }

    /// Finds what has the id or key, message by message: a cursor's segment is the queue, its
    /// offset that in the queue. One request looks at three messages.
    fn find(&mut self, find: &Find) -> Found {
        let from = find.after.map_or((0, 0), |at| (at.segment, at.offset));
        self.finds.push(find.clone());
        let places = self.queues.iter().flat_map(|(queue, log)| {
            let place = |at: usize| (u32::from(*queue), at as u32);
            log.iter().enumerate().map(move |(at, record)| (place(at), record.clone()))
        });
        let shards = &self.shards;
        let here = places.filter(|((queue, _), _)| shards[*queue as usize] == find.shard);
        let mut rest = here.filter(|(place, _)| *place >= from);
        let mut messages = Vec::new();
        let mut looked = 0;
        let next = loop {
            let Some((place, bytes)) = rest.next() else { break None };
            if looked == 3 || messages.len() == find.records_max as usize {
                break Some(FindCursor { segment: place.0, offset: place.1 });
            }
            looked += 1;
            let record = Record::parse(bytes.clone()).unwrap();
            let is_it = match &find.wanted {
                Wanted::Id(id) => record.id() == *id,
                Wanted::Key { key, .. } => record.keys().any(|found| found == key),
            };
            if is_it {
                messages.push(FoundMessage {
                    topic: "orders".into(),
                    queue: QueueIndex(place.0 as u16),
                    offset: QueueOffset(place.1.into()),
                    stored: Timestamp(u64::from(place.1) * 10),
                    record: bytes,
                });
            }
        };
        let covered = Covered { segments: looked, ..Covered::default() };
        Found { messages, covered, next }
    }

    fn fetch(&mut self, fetch: &Fetch) -> Fetched {
        let log = self.queues.entry(fetch.queue.0).or_default();
        let from = (fetch.from.0 as usize).min(log.len());
        let records = log[from..].iter().zip(from as u64..).take(fetch.records_max as usize);
        let records = records.map(|(record, offset)| FetchedRecord {
            offset: QueueOffset(offset),
            // One message every ten milliseconds.
            stored: Timestamp(offset * 10),
            record: record.clone(),
        });
        let end = QueueOffset(log.len() as u64);
        Fetched { first: QueueOffset(0), end, records: records.collect() }
    }

    /// Sends what members have credit for; every message alone, the earliest possible.
    fn deliver(&mut self) {
        for (queue, log) in &self.queues {
            for offset in 0..log.len() as u64 {
                let place = (*queue, offset);
                let is_held = self.members.values().any(|m| m.lease.contains_key(&place));
                if is_held || self.settled.contains_key(&place) {
                    continue;
                }
                let shard = self.shards[usize::from(*queue)];
                let able = |m: &&mut Member| m.shard == shard && m.messages > 0;
                let found = self.members.iter_mut().find(|(_, m)| able(m));
                let Some((id, member)) = found else { continue };
                let Some(streams) = self.streams.get(&member.session) else {
                    continue;
                };
                let lane = (usize::from(*queue) % streams.len()) as u8;
                member.messages -= 1;
                member.lease.insert(place, ());
                let attempt = self.attempts.entry(place).or_default();
                *attempt += 1;
                let push = Push::Deliver(Deliver {
                    shard,
                    subscription: SubscriptionId(*id),
                    queue: QueueIndex(*queue),
                    messages: vec![Delivered {
                        offset: QueueOffset(offset),
                        stored: Timestamp(5),
                        attempt: *attempt,
                        record: log[offset as usize].clone(),
                    }],
                });
                let mut bytes = Vec::new();
                encode_with(push.number(), Class::Push, Correlation(0), &mut bytes, |out| {
                    push.put_body(out);
                });
                let _ = streams[&lane].try_send(bytes);
            }
        }
    }
}
