//! A network in memory: sockets, and what happens to packets between them.
//!
//! ```text
//!   try_send ──► cut? lost? too large? ──► the receiver's packets, by time ──► poll_recv
//! ```
//!
//! A client's address is what the network gives it at the moment: packets to an earlier one are
//! lost. A receiver sleeps until its next packet is due, so a packet costs no task.
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep};
use yard_sim::Random;

use crate::plan::{Line, Ways};
use crate::recorder::Recorder;

/// Where the broker listens.
pub(crate) const BROKER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), 7420);

/// Who has a socket: a client by its number, or the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Broker,
    Client(usize),
}

struct Packet {
    from: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

/// What a socket has of the network.
#[derive(Default)]
struct Port {
    /// Packets by the time when they are due, and by their number.
    packets: BTreeMap<(Instant, u64), Packet>,
    waker: Option<Waker>,
    /// The socket is gone, as with its process.
    is_dead: bool,
}

struct State {
    random: Random,
    line: Line,
    ports: BTreeMap<u64, Port>,
    /// The port behind each address.
    at: BTreeMap<SocketAddr, u64>,
    /// The address that each port shows to others.
    address: BTreeMap<u64, SocketAddr>,
    nodes: BTreeMap<u64, Node>,
    /// Until when a way is cut, by client.
    to_broker: BTreeMap<usize, Instant>,
    to_client: BTreeMap<usize, Instant>,
    /// When the last packet of a way is due: later ones come after it.
    last: BTreeMap<(u64, u64), Instant>,
    next: u64,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Network {
    state: Arc<Mutex<State>>,
    recorder: Recorder,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    pub(crate) fn new(random: Random, line: Line, recorder: Recorder) -> Self {
        let state = State {
            random,
            line,
            ports: BTreeMap::new(),
            at: BTreeMap::new(),
            address: BTreeMap::new(),
            nodes: BTreeMap::new(),
            to_broker: BTreeMap::new(),
            to_client: BTreeMap::new(),
            last: BTreeMap::new(),
            next: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), recorder }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new socket of a node; the broker's is always at the same address.
    pub(crate) fn bind(&self, node: Node) -> Arc<Socket> {
        let mut state = self.lock();
        let port = state.next();
        state.ports.insert(port, Port::default());
        state.nodes.insert(port, node);
        state.show(port);
        Arc::new(Socket { network: self.clone(), port, sleep: Mutex::new(None) })
    }

    /// The line from now on.
    pub(crate) fn set_line(&self, line: Line) {
        self.lock().line = line;
    }

    /// Cuts ways of a client for so long.
    pub(crate) fn cut(&self, client: usize, ways: Ways, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        if ways != Ways::ToClient {
            state.to_broker.insert(client, until);
        }
        if ways != Ways::ToBroker {
            state.to_client.insert(client, until);
        }
    }

    /// Mends every cut.
    pub(crate) fn mend(&self) {
        let mut state = self.lock();
        state.to_broker.clear();
        state.to_client.clear();
    }

    /// Gives a client's sockets new addresses; they notice nothing.
    pub(crate) fn readdress(&self, client: usize) {
        let mut state = self.lock();
        let of_client =
            |(port, node): (&u64, &Node)| (*node == Node::Client(client)).then_some(*port);
        let ports: Vec<u64> = state.nodes.iter().filter_map(of_client).collect();
        for port in ports {
            state.show(port);
        }
    }

    /// The broker's sockets are gone with their process.
    pub(crate) fn kill_broker(&self) {
        let mut state = self.lock();
        let State { nodes, ports, .. } = &mut *state;
        let of_broker = |(number, _): &(&u64, &mut Port)| nodes[*number] == Node::Broker;
        for (_, port) in ports.iter_mut().filter(of_broker) {
            port.is_dead = true;
            port.packets.clear();
            if let Some(waker) = port.waker.take() {
                waker.wake();
            }
        }
    }

    fn send(&self, port: u64, transmit: &Transmit<'_>) {
        let mut state = self.lock();
        let is_dead = state.ports[&port].is_dead;
        let to = state.at.get(&transmit.destination).copied().filter(|_| !is_dead);
        let from = state.nodes[&port];
        let bytes = transmit.contents;
        let fate = match to {
            Some(to) => state.carry(port, to, transmit),
            None => Fate::Nowhere,
        };
        drop(state);
        let node = |node| match node {
            Node::Broker => 0,
            Node::Client(number) => 1 + number as u64,
        };
        let words = [5, node(from), bytes.len() as u64, fate as u64];
        self.recorder.note(&words, || format!("{from:?} sends {} bytes: {fate:?}", bytes.len()));
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    ArrivesTwice,
    Lost,
    Cut,
    TooLarge,
    Nowhere,
}

impl State {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Gives a port an address that none had before, or the broker's.
    fn show(&mut self, port: u64) {
        let address = match self.nodes[&port] {
            Node::Broker => BROKER,
            Node::Client(client) => {
                let number = self.next();
                let ip = Ipv4Addr::new(10, 0, 0, 1 + client as u8);
                (ip, 1_024 + (number % 60_000) as u16).into()
            }
        };
        if let Some(before) = self.address.insert(port, address) {
            self.at.remove(&before);
        }
        self.at.insert(address, port);
    }

    fn carry(&mut self, from: u64, to: u64, transmit: &Transmit<'_>) -> Fate {
        let now = Instant::now();
        let is_cut = |cuts: &BTreeMap<usize, Instant>, node: Node| match node {
            Node::Client(client) => cuts.get(&client).is_some_and(|until| now < *until),
            Node::Broker => false,
        };
        let (source, target) = (self.nodes[&from], self.nodes[&to]);
        if is_cut(&self.to_broker, source) || is_cut(&self.to_client, target) {
            return Fate::Cut;
        }
        // Drawn for every packet, so that one fate does not move the next.
        let (lost, doubled) = (self.random.below(1_000), self.random.below(1_000));
        if transmit.contents.len() > self.line.mtu_bytes {
            return Fate::TooLarge;
        }
        if lost < self.line.lost {
            return Fate::Lost;
        }
        self.put(from, to, transmit, now);
        if doubled < self.line.doubled {
            self.put(from, to, transmit, now);
            return Fate::ArrivesTwice;
        }
        Fate::Arrives
    }

    fn put(&mut self, from: u64, to: u64, transmit: &Transmit<'_>, now: Instant) {
        let line = self.line;
        let ms = line.delay_ms + self.random.below(line.jitter_ms + 1);
        let may_be_overtaken = self.random.below(1_000) < line.overtaken;
        let mut due = now + Duration::from_millis(ms);
        if may_be_overtaken {
            due += Duration::from_millis(self.random.range(1, 2 + 2 * line.delay_ms));
        } else {
            let last = self.last.entry((from, to)).or_insert(due);
            due = due.max(*last);
            *last = due;
        }
        let number = self.next();
        let (from, ecn) = (self.address[&from], transmit.ecn);
        let packet = Packet { from, ecn, bytes: transmit.contents.to_vec() };
        let port = self.ports.get_mut(&to).expect("an address leads to a port");
        if port.is_dead {
            return;
        }
        let is_first = port.packets.keys().next().is_none_or(|(first, _)| due < *first);
        port.packets.insert((due, number), packet);
        if is_first && let Some(waker) = port.waker.take() {
            waker.wake();
        }
    }
}

/// A socket of the network.
pub(crate) struct Socket {
    network: Network,
    port: u64,
    /// Until the next packet is due.
    sleep: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        state.ports.remove(&self.port);
        state.nodes.remove(&self.port);
        if let Some(address) = state.address.remove(&self.port)
            && state.at.get(&address) == Some(&self.port)
        {
            state.at.remove(&address);
        }
    }
}

/// There is always room to send.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        assert!(transmit.segment_size.is_none(), "it takes one packet at a time");
        self.network.send(self.port, transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.network.lock();
        let Some(port) = state.ports.get_mut(&self.port).filter(|port| !port.is_dead) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let now = Instant::now();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Some(first) = port.packets.first_entry().filter(|first| first.key().0 <= now)
            else {
                break;
            };
            let packet = first.remove();
            let len = packet.bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&packet.bytes[..len]);
            let mut found = RecvMeta::default();
            (found.addr, found.len, found.stride, found.ecn) = (packet.from, len, len, packet.ecn);
            *meta = found;
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        port.waker = Some(context.waker().clone());
        let next = port.packets.keys().next().map(|(due, _)| *due);
        drop(state);
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        *sleep = next.map(|due| Box::pin(tokio::time::sleep_until(due)));
        // Due later than now, so it is not ready; polled, it wakes whoever asked.
        if let Some(sleep) = sleep.as_mut()
            && sleep.as_mut().poll(context).is_ready()
        {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let state = self.network.lock();
        state.address.get(&self.port).copied().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
