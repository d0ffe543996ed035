//! The thread between two sockets.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::line::{Fate, Line, Weather};

/// Clients at a time; packets of more are dropped.
const CLIENTS_MAX: usize = 64;
/// Packets on their way; more are dropped.
const PACKETS_MAX: usize = 65_536;
/// Packets that are received from one socket before others have their turn.
const RECEIVED_AT_ONCE: usize = 64;
/// Largest UDP payload.
const PACKET_BYTES_MAX: usize = 65_507;
/// The thread looks so often whether it should end, in microseconds.
const LOOK_US: u64 = 50_000;
/// Bytes that the sockets buffer: more than a round trip of the fastest line.
const SOCKET_BYTES: usize = 4 << 20;
/// How early the thread runs among others: a late relay measures the scheduler.
const NICENESS: i32 = -10;

/// What has happened so far, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were passed on.
    pub passed: u64,
    /// Packets that were lost by chance.
    pub lost: u64,
    /// Packets that found a full queue.
    pub overflowed: u64,
    /// Bytes of payload that were passed on to the broker.
    pub bytes_to_target: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    weather: Mutex<Option<Weather>>,
    passed: AtomicU64,
    lost: AtomicU64,
    overflowed: AtomicU64,
    bytes_to_target: AtomicU64,
}

/// A running relay; dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays between whoever sends to [`Relay::address`] and `target`. The weather is that of each
    /// direction.
    ///
    /// # Errors
    /// When a socket or a thread cannot be had.
    ///
    /// # Panics
    /// When the target is not on loopback.
    pub fn start(target: SocketAddr, weather: Weather, seed: u64) -> io::Result<Self> {
        assert!(target.ip().is_loopback(), "bad weather stays on this machine");
        let front = socket()?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared::default());
        let state = State {
            target,
            front,
            clients: Vec::new(),
            to_target: Line::new(weather, seed),
            to_client: Line::new(weather, !seed),
            on_the_way: BinaryHeap::new(),
            next: 0,
            began: Instant::now(),
            spare: Vec::new(),
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new().name("relay".to_owned());
        let thread = Some(thread.spawn(move || state.run())?);
        Ok(Self { address, shared, thread })
    }

    /// Where clients send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather of both directions.
    pub fn change(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = Some(weather);
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            passed: read(&self.shared.passed),
            lost: read(&self.shared.lost),
            overflowed: read(&self.shared.overflowed),
            bytes_to_target: read(&self.shared.bytes_to_target),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic is on stderr; a test that goes on without a relay fails by itself.
            let _panicked = thread.join();
        }
    }
}

fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    let buffers = socket2::SockRef::from(&socket);
    // Smaller ones lose more than the weather says; the counts of both ends would show it.
    let _ = buffers.set_recv_buffer_size(SOCKET_BYTES);
    let _ = buffers.set_send_buffer_size(SOCKET_BYTES);
    Ok(socket)
}

struct Client {
    address: SocketAddr,
    socket: UdpSocket,
}

/// A packet with the number of its client; the order is that of arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due_us: u64,
    number: u64,
    client: usize,
    is_to_target: bool,
    bytes: Vec<u8>,
}

struct State {
    target: SocketAddr,
    front: UdpSocket,
    clients: Vec<Client>,
    to_target: Line,
    to_client: Line,
    on_the_way: BinaryHeap<Reverse<Packet>>,
    next: u64,
    began: Instant,
    /// Buffers of packets that have left.
    spare: Vec<Vec<u8>>,
    shared: Arc<Shared>,
}

impl State {
    fn run(mut self) {
        // Where this process may not, it runs like others.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        while !self.shared.stop.load(Ordering::Relaxed) {
            let changed = self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(weather) = changed {
                self.to_target.change(weather);
                self.to_client.change(weather);
            }
            self.wait();
            self.receive(&mut buffer);
            self.send();
        }
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Sleeps until a packet comes or is due.
    fn wait(&self) {
        let due_us = self.on_the_way.peek().map_or(u64::MAX, |Reverse(first)| first.due_us);
        let wait_us = due_us.saturating_sub(self.now_us()).min(LOOK_US);
        let sockets = std::iter::once(&self.front).chain(self.clients.iter().map(|c| &c.socket));
        let mut watched: Vec<_> =
            sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        let wait = Timespec { tv_sec: 0, tv_nsec: wait_us as i64 * 1_000 };
        // Interrupted or not: what is there is looked at.
        let _ = poll(&mut watched, Some(&wait));
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..RECEIVED_AT_ONCE {
            let Ok((bytes, from)) = self.front.recv_from(buffer) else { break };
            if let Some(client) = self.client(from) {
                self.take(client, true, &buffer[..bytes]);
            }
        }
        for client in 0..self.clients.len() {
            for _ in 0..RECEIVED_AT_ONCE {
                let Ok(bytes) = self.clients[client].socket.recv(buffer) else { break };
                self.take(client, false, &buffer[..bytes]);
            }
        }
    }

    /// The number of the client at this address.
    fn client(&mut self, address: SocketAddr) -> Option<usize> {
        let known = self.clients.iter().position(|client| client.address == address);
        if known.is_some() || self.clients.len() == CLIENTS_MAX {
            return known;
        }
        let socket = socket().ok()?;
        socket.connect(self.target).ok()?;
        self.clients.push(Client { address, socket });
        Some(self.clients.len() - 1)
    }

    fn take(&mut self, client: usize, is_to_target: bool, payload: &[u8]) {
        let now_us = self.now_us();
        let line = if is_to_target { &mut self.to_target } else { &mut self.to_client };
        let due_us = match line.offer(now_us, payload.len()) {
            Fate::Arrives(due_us) if self.on_the_way.len() < PACKETS_MAX => due_us,
            Fate::Lost => {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Fate::Arrives(_) | Fate::Overflowed => {
                self.shared.overflowed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(payload);
        let number = self.next;
        self.next += 1;
        self.on_the_way.push(Reverse(Packet { due_us, number, client, is_to_target, bytes }));
    }

    fn send(&mut self) {
        let now_us = self.now_us();
        while self.on_the_way.peek().is_some_and(|Reverse(first)| first.due_us <= now_us) {
            let Some(Reverse(packet)) = self.on_the_way.pop() else { break };
            let client = &self.clients[packet.client];
            // What the system does not take is lost, as on any line.
            let sent = if packet.is_to_target {
                let bytes = packet.bytes.len() as u64;
                self.shared.bytes_to_target.fetch_add(bytes, Ordering::Relaxed);
                client.socket.send(&packet.bytes)
            } else {
                self.front.send_to(&packet.bytes, client.address)
            };
            if sent.is_ok() {
                self.shared.passed.fetch_add(1, Ordering::Relaxed);
            }
            self.spare.push(packet.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pair(weather: Weather) -> (UdpSocket, UdpSocket, Relay) {
        let target = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(target.local_addr().unwrap(), weather, 1).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(relay.address()).unwrap();
        for socket in [&target, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        (client, target, relay)
    }

    #[test]
    fn packets_go_both_ways_and_take_their_time() {
        let (client, target, relay) = pair(Weather { delay_us: 20_000, ..Weather::default() });
        let mut buffer = [0; 16];
        let began = Instant::now();
        client.send(b"there").unwrap();
        let (bytes, from) = target.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], b"there");
        target.send_to(b"back", from).unwrap();
        let bytes = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], b"back");
        assert!(began.elapsed() >= Duration::from_millis(40), "{:?}", began.elapsed());
        // A packet is counted when it was sent, so it can be here before.
        while relay.counts().passed < 2 {
            std::thread::yield_now();
        }
        assert_eq!((relay.counts().passed, relay.counts().bytes_to_target), (2, 5));
    }

    #[test]
    fn the_weather_changes_while_it_runs() {
        let (client, target, relay) =
            pair(Weather { lost_of_10_000: 10_000, ..Weather::default() });
        client.send(b"lost").unwrap();
        while relay.counts().lost == 0 {
            std::thread::yield_now();
        }
        relay.change(Weather::default());
        let mut buffer = [0; 16];
        target.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        // The change is taken in before the next packet or the one after it.
        while target.recv(&mut buffer).is_err() {
            client.send(b"again").unwrap();
        }
        assert_eq!(relay.counts().overflowed, 0);
    }

    #[test]
    #[should_panic(expected = "stays on this machine")]
    fn other_machines_are_left_alone() {
        let _ = Relay::start(([192, 0, 2, 1], 9).into(), Weather::WAN, 1);
    }
}
