//! The network between clients and the broker: connections with streams that keep their own order
//! and overtake each other, that stall, are cut in one direction or both, and die on each side at
//! another time.
use std::collections::BTreeMap;

use yard_broker::SessionId;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Deliver, Ended, TxCheck};
use yard_wire::{Correlation, Refusal};

use crate::agenda::{Agenda, Happening, MS, Micros, SECOND};
use crate::random::Random;

/// A connection on which nothing arrives for this long is dead.
pub(crate) const IDLE: Micros = 2 * SECOND;

/// What a client sends.
#[derive(Clone, Debug)]
pub(crate) struct ToBroker {
    /// Ties the answer to it; 0: none is wanted.
    pub correlation: Correlation,
    /// The request.
    pub request: Request,
}

/// What the broker sends.
#[derive(Clone, Debug)]
pub(crate) enum ToClient {
    /// An answer.
    Reply(Correlation, Result<Reply, Refusal>),
    /// Messages.
    Deliver {
        /// The messages.
        deliver: Deliver,
        /// When the broker decided to deliver them.
        decided: Micros,
    },
    /// The end of a subscription.
    Ended(Ended),
    /// A question about a transaction.
    TxCheck(TxCheck),
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// From client to broker.
    Up,
    /// From broker to client.
    Down,
}

/// How the network behaves; all durations typical, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// Time that a frame takes.
    pub delay: Micros,
    /// Once in so many frames one is lost and sent again; its stream waits. 0: never.
    pub loss_one_in: u64,
    /// Once in so many produce frames somebody sends the same bytes again later. 0: never.
    pub replay_one_in: u64,
}

#[derive(Debug)]
struct Connection {
    client: usize,
    client_knows: bool,
    broker_knows: bool,
    /// When the last frame of each stream arrives.
    arrivals: BTreeMap<(Way, u16), Micros>,
}

/// All connections that ever were.
#[derive(Debug, Default)]
pub(crate) struct Network {
    weather: Weather,
    connections: Vec<Connection>,
    /// Until when nothing arrives, by client and way.
    cuts: BTreeMap<(usize, Way), Micros>,
    /// Frames on their way to the broker.
    rising: u64,
    /// Planted: frames to clients overtake each other.
    overtakes: bool,
}

impl Network {
    /// A network with this behaviour.
    #[must_use]
    pub(crate) fn new(weather: Weather, overtakes: bool) -> Self {
        Self { weather, overtakes, ..Self::default() }
    }

    /// From now on nothing is lost, cut or sent twice.
    pub(crate) fn heal(&mut self) {
        self.weather.loss_one_in = 0;
        self.weather.replay_one_in = 0;
        self.cuts.clear();
    }

    /// A new connection of a client; `None` while one cannot reach the other.
    pub(crate) fn connect(&mut self, now: Micros, client: usize) -> Option<SessionId> {
        if self.is_cut(now, client, Way::Up) || self.is_cut(now, client, Way::Down) {
            return None;
        }
        self.connections.push(Connection {
            client,
            client_knows: false,
            broker_knows: false,
            arrivals: BTreeMap::new(),
        });
        // Number 0 is nobody's, so that a forgotten field is seen.
        Some(SessionId(self.connections.len() as u64))
    }

    fn connection(&mut self, session: SessionId) -> &mut Connection {
        &mut self.connections[session.0 as usize - 1]
    }

    /// Whose connection it is.
    #[must_use]
    pub(crate) fn client_of(&self, session: SessionId) -> usize {
        self.connections[session.0 as usize - 1].client
    }

    /// Whether the broker still holds the connection.
    #[must_use]
    pub(crate) fn is_open_at_broker(&self, session: SessionId) -> bool {
        !self.connections[session.0 as usize - 1].broker_knows
    }

    /// The broker has found out that it is gone; `false` if it knew.
    pub(crate) fn broker_learns(&mut self, session: SessionId) -> bool {
        !std::mem::replace(&mut self.connection(session).broker_knows, true)
    }

    /// The client has found out that it is gone; `false` if it knew.
    pub(crate) fn client_learns(&mut self, session: SessionId) -> bool {
        !std::mem::replace(&mut self.connection(session).client_knows, true)
    }

    /// Connections that a side still holds.
    pub(crate) fn open(&self) -> impl Iterator<Item = SessionId> + '_ {
        (1..).zip(&self.connections).filter_map(|(number, connection)| {
            let open = !connection.broker_knows || !connection.client_knows;
            open.then_some(SessionId(number))
        })
    }

    fn is_cut(&self, now: Micros, client: usize, way: Way) -> bool {
        self.cuts.get(&(client, way)).is_some_and(|until| *until > now)
    }

    /// Nothing of this client arrives this way until then. A connection that is cut for too long
    /// dies, on each side when that side notices.
    pub(crate) fn cut(
        &mut self,
        (now, until): (Micros, Micros),
        client: usize,
        way: Way,
        agenda: &mut Agenda,
        random: &mut Random,
    ) {
        self.cuts.insert((client, way), until);
        if until < now + IDLE {
            return;
        }
        for session in self.open().filter(|session| self.client_of(*session) == client) {
            let broker = now + IDLE + random.range(0, 200 * MS);
            agenda.enter(broker, Happening::BrokerLost(session));
            let client = now + IDLE + random.range(0, 200 * MS);
            agenda.enter(client, Happening::ClientLost(session));
        }
    }

    /// When a frame that is sent now arrives.
    fn arrival(
        &mut self,
        now: Micros,
        session: SessionId,
        way: Way,
        stream: u16,
        random: &mut Random,
    ) -> Micros {
        let mut at = now + random.latency(self.weather.delay);
        if random.once_in(self.weather.loss_one_in) {
            at += random.range(2, 10) * self.weather.delay + 5 * MS;
        }
        let client = self.client_of(session);
        if let Some(until) = self.cuts.get(&(client, way)).filter(|until| **until > now) {
            at += until - now;
        }
        if self.overtakes && way == Way::Down {
            return at;
        }
        let last = self.connection(session).arrivals.entry((way, stream)).or_insert(0);
        at = at.max(*last + 1);
        *last = at;
        at
    }

    /// Sends a frame of a client on its way.
    pub(crate) fn send_up(
        &mut self,
        now: Micros,
        (session, stream): (SessionId, u16),
        frame: ToBroker,
        agenda: &mut Agenda,
        random: &mut Random,
    ) {
        let at = self.arrival(now, session, Way::Up, stream, random);
        let frame = Box::new(frame);
        self.rising += 1;
        agenda.enter(at, Happening::ToBroker { session, stream, frame });
    }

    /// A frame of a client has come to its end.
    pub(crate) fn has_risen(&mut self) {
        self.rising -= 1;
    }

    /// Whether nothing is on its way to the broker.
    #[must_use]
    pub(crate) fn is_empty_upwards(&self) -> bool {
        self.rising == 0
    }

    /// The same frame once more, later, from the same connection: early data can be replayed by
    /// anybody who has recorded it. Its answer finds nobody. Whether there is one, which may arrive
    /// before the frame itself.
    pub(crate) fn replay(
        &mut self,
        now: Micros,
        (session, stream): (SessionId, u16),
        request: &Request,
        agenda: &mut Agenda,
        random: &mut Random,
    ) -> bool {
        let is_replayed = random.once_in(self.weather.replay_one_in);
        if is_replayed {
            let at = now + random.range(MS, SECOND);
            let frame = ToBroker { correlation: Correlation(0), request: request.clone() };
            let frame = Box::new(frame);
            self.rising += 1;
            agenda.enter(at, Happening::ToBroker { session, stream, frame });
        }
        is_replayed
    }

    /// Sends a frame of the broker on its way.
    pub(crate) fn send_down(
        &mut self,
        now: Micros,
        (session, stream): (SessionId, u16),
        frame: ToClient,
        agenda: &mut Agenda,
        random: &mut Random,
    ) {
        let at = self.arrival(now, session, Way::Down, stream, random);
        agenda.enter(at, Happening::ToClient { session, frame: Box::new(frame) });
    }
}
