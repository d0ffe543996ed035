//! The clients: what they share is a connection that comes and goes.
mod clerk;
mod consumer;
mod meddler;
mod producer;
mod reader;
mod remover;
mod steward;

use yard_broker::SessionId;
use yard_wire::operation::Operate;
use yard_wire::plugin_use::PluginUse;
use yard_wire::request::Request;
use yard_wire::requests::Call;
use yard_wire::{Correlation, Wire};

use crate::agenda::{Happening, MS, Micros};
use crate::base::Base;
use crate::network::ToClient;

pub(crate) use clerk::Clerk;
pub(crate) use consumer::{Consumer, group_name, group_of, topic_name, wide_name};
pub(crate) use meddler::Meddler;
pub(crate) use producer::{CALL_STREAM, Producer, tx_group};
pub(crate) use reader::Reader;
pub(crate) use remover::Remover;
pub(crate) use steward::Steward;

/// The timer of every client that connects anew.
const CONNECT: u8 = 0;
/// The timer for whatever else a client does.
const WORK: u8 = 1;

/// A client.
pub(crate) enum Client {
    /// Creates the topics, reads everything at the end.
    Steward(Steward),
    /// Sends.
    Producer(Box<Producer>),
    /// Receives.
    Consumer(Box<Consumer>),
    /// Reads by plain fetch.
    Reader(Reader),
    /// Asks for what cannot be.
    Meddler(Meddler),
    /// Removes groups.
    Remover(Remover),
    /// Contends with others like it.
    Clerk(Box<Clerk>),
}

/// A call of an operation.
fn call<O: Operate + Wire>(arguments: &O) -> Request {
    Request::Call(Call { operation: O::OPERATION as u16, args: arguments.to_bytes() })
}

/// A plugin without settings: what it would do is done natively.
fn plugin(name: &str) -> PluginUse {
    PluginUse::read(name).expect("the name of a plugin")
}

impl Client {
    fn link(&mut self) -> &mut Link {
        match self {
            Self::Steward(client) => &mut client.link,
            Self::Producer(client) => &mut client.link,
            Self::Consumer(client) => &mut client.link,
            Self::Reader(client) => &mut client.link,
            Self::Meddler(client) => &mut client.link,
            Self::Remover(client) => &mut client.link,
            Self::Clerk(client) => &mut client.link,
        }
    }

    /// The connection that it has now.
    pub(crate) fn session(&mut self) -> Option<SessionId> {
        self.link().session
    }

    /// Does what it planned for now.
    pub(crate) fn timer(&mut self, base: &mut Base, kind: u8, generation: u32) {
        if kind == CONNECT {
            if self.link().connect(base) {
                self.connected(base);
            }
            return;
        }
        if self.link().generation != generation {
            return;
        }
        self.work(base);
    }

    fn connected(&mut self, base: &mut Base) {
        match self {
            Self::Steward(client) => client.work(base),
            Self::Producer(client) => client.connected(base),
            Self::Consumer(client) => client.connected(base),
            Self::Reader(client) => client.work(base),
            Self::Meddler(client) => client.work(base),
            Self::Remover(client) => client.work(base),
            Self::Clerk(client) => client.work(base),
        }
    }

    fn work(&mut self, base: &mut Base) {
        match self {
            Self::Steward(client) => client.work(base),
            Self::Producer(client) => client.work(base),
            Self::Consumer(client) => client.work(base),
            Self::Reader(client) => client.work(base),
            Self::Meddler(client) => client.work(base),
            Self::Remover(client) => client.work(base),
            Self::Clerk(client) => client.work(base),
        }
    }

    /// A frame has arrived.
    pub(crate) fn receive(&mut self, base: &mut Base, session: SessionId, frame: ToClient) {
        if self.session() != Some(session) {
            return;
        }
        match self {
            Self::Steward(client) => client.receive(base, frame),
            Self::Producer(client) => client.receive(base, frame),
            Self::Consumer(client) => client.receive(base, session, frame),
            Self::Reader(client) => client.receive(base, frame),
            Self::Meddler(client) => client.receive(base, frame),
            Self::Remover(client) => client.receive(base, frame),
            Self::Clerk(client) => client.receive(base, session, frame),
        }
    }

    /// It has found out that its connection is gone.
    pub(crate) fn lost(&mut self, base: &mut Base, session: SessionId) {
        base.network.client_learns(session);
        if self.session() != Some(session) {
            return;
        }
        self.link().session = None;
        match self {
            Self::Steward(_) | Self::Reader(_) => {}
            Self::Producer(client) => client.lost(),
            Self::Consumer(client) => client.lost(base),
            Self::Meddler(client) => client.lost(),
            Self::Remover(client) => client.lost(),
            Self::Clerk(client) => client.lost(base),
        }
        self.link().connect_later(base);
    }

    /// From now on it does nothing that makes work for others.
    pub(crate) fn drain(&mut self, base: &mut Base) {
        match self {
            Self::Steward(client) => client.work(base),
            Self::Reader(_) | Self::Meddler(_) | Self::Remover(_) => {}
            Self::Producer(client) => client.drain(base),
            Self::Consumer(client) => client.drain(base),
            Self::Clerk(client) => client.drain(base),
        }
    }

    /// Everything is drained: who reads it all begins to.
    pub(crate) fn begin_scan(&mut self, base: &mut Base) {
        self.work(base);
    }

    /// Whether everything that it sent was answered.
    #[must_use]
    pub(crate) fn is_done(&self, base: &Base) -> bool {
        match self {
            Self::Steward(_) | Self::Reader(_) | Self::Meddler(_) => true,
            Self::Remover(_) => Remover::is_done(base),
            Self::Producer(client) => client.is_done(base),
            Self::Consumer(client) => client.is_done(base),
            Self::Clerk(client) => client.is_done(),
        }
    }

    /// Writes down what it knows at the end.
    pub(crate) fn finish(&mut self, base: &mut Base) {
        match self {
            Self::Steward(client) => client.finish(base),
            Self::Producer(client) => client.finish(base),
            Self::Consumer(client) => client.lost(base),
            Self::Clerk(client) => client.lost(base),
            Self::Reader(_) | Self::Meddler(_) | Self::Remover(_) => {}
        }
    }
}

/// A connection that comes and goes.
pub(crate) struct Link {
    client: usize,
    session: Option<SessionId>,
    correlation: u64,
    generation: u32,
    /// Whether somebody sends the newest request once more.
    is_replayed: bool,
}

impl Link {
    fn new(client: usize) -> Self {
        Self { client, session: None, correlation: 0, generation: 0, is_replayed: false }
    }

    fn connect(&mut self, base: &mut Base) -> bool {
        if self.session.is_some() {
            return false;
        }
        let reachable = base.broker_is_up;
        self.session = base.network.connect(base.now, self.client).filter(|_| reachable);
        match self.session {
            Some(session) => {
                base.trace.mix(&[base.now, session.0]);
                base.trace.line(base.now, || format!("client {} has {session:?}", self.client));
                true
            }
            None => {
                self.connect_later(base);
                false
            }
        }
    }

    fn connect_later(&mut self, base: &mut Base) {
        let delay = base.random.range(5 * MS, 100 * MS);
        let client = self.client;
        base.after(delay, Happening::Timer { client, kind: CONNECT, generation: 0 });
    }

    /// Plans to work then, and no more at the time planned before.
    fn work_at(&mut self, base: &mut Base, at: Micros) {
        self.generation += 1;
        let (client, generation) = (self.client, self.generation);
        let at = at.max(base.now + 1);
        base.agenda.enter(at, Happening::Timer { client, kind: WORK, generation });
    }

    /// Sends a request, if there is a connection.
    fn request(&mut self, base: &mut Base, stream: u16, request: Request) -> Option<Correlation> {
        let session = self.session?;
        self.correlation += 1;
        let correlation = Correlation(self.correlation);
        self.is_replayed = base.request(session, stream, correlation, request);
        Some(correlation)
    }
}
