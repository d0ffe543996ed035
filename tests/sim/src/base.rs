//! What every part of the world shares: time, the agenda, the numbers of the seed, the network,
//! the history.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use yard_broker::SessionId;
use yard_checker::History;
use yard_wire::request::Request;
use yard_wire::requests::{Expression, TopicRoute};
use yard_wire::{Correlation, QueueIndex, QueueOffset, TenantId, TopicId};

use crate::agenda::{Agenda, Happening, Micros};
use crate::alike::Alike;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::lives::Lives;
use crate::network::{Network, ToBroker};
use crate::objects::Objects;
use crate::plan::Plan;
use crate::planted::{Memory, Plant};
use crate::random::Random;
use crate::removal::Removals;
use crate::trace::Trace;

/// Which part of a run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The topics are being created.
    SetUp,
    /// Clients work, things go wrong.
    Storm,
    /// Nothing goes wrong any more; what was sent must arrive.
    Drain,
    /// Everything stored is read once more.
    Scan,
    /// It is over.
    Over,
}

/// A message as somebody found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its producer.
    pub producer: u64,
    /// Its number in the producer.
    pub seq: u64,
    /// Hash of its body and id.
    pub hash: u64,
}

/// Whether a subscription with this expression wants this record.
pub type Wants = fn(&Expression, &Bytes) -> bool;

/// What every part shares.
pub(crate) struct Base {
    /// Virtual time.
    pub now: Micros,
    /// What will happen.
    pub agenda: Agenda,
    /// The numbers of the seed.
    pub random: Random,
    /// The network.
    pub network: Network,
    /// What is recorded.
    pub history: History,
    /// What applications have recorded of their transactions.
    pub ledger: Ledger,
    /// The hash of what happened.
    pub trace: Trace,
    /// What the run is made of.
    pub plan: Plan,
    /// Which part of the run it is.
    pub phase: Phase,
    /// Whose connections are other tenants' than the first.
    pub tenants: BTreeMap<SessionId, TenantId>,
    /// Decides about messages of any kind; without, they are those of the plan's producers.
    pub wants: Option<Wants>,
    /// The bug that is planted, if any.
    pub plant: Option<Plant>,
    /// What it remembers.
    pub memory: Memory,
    /// Groups that are removed.
    pub removals: Removals,
    /// When the broker found out that connections were gone.
    pub closed: BTreeMap<SessionId, Micros>,
    /// How often the broker went down.
    pub deaths: u64,
    /// Whether the broker is there.
    pub broker_is_up: bool,
    /// The topics, once they were created.
    pub routes: Vec<TopicRoute>,
    /// The wide topics of groups, once they were created.
    pub wide_routes: Vec<TopicRoute>,
    /// The dead-letter topics of groups, once they are to be read.
    pub dead_routes: Vec<TopicRoute>,
    /// What plain fetches have returned before the last scan.
    pub fetched: BTreeMap<(TopicId, QueueIndex, QueueOffset), Found>,
    /// What could not be read when it was to be delivered.
    pub unread: BTreeSet<(yard_checker::Queue, u64)>,
    /// What is known of dedupe keys.
    pub keys: Keys,
    /// What is known of the values that groups compare messages by.
    pub alike: Alike,
    /// Messages of which the lives are told in the end.
    pub lives: Lives,
    /// What clerks have asked of small objects.
    pub objects: Objects,
    /// The first promise that was seen broken before the history was judged.
    pub failure: Option<String>,
}

impl Base {
    /// A world at its beginning.
    #[must_use]
    pub(crate) fn new(plan: Plan, plant: Option<Plant>, printing: bool) -> Self {
        Self {
            now: 0,
            agenda: Agenda::default(),
            random: Random::new(plan.seed),
            network: Network::new(plan.weather.clone(), plant == Some(Plant::StreamOvertaken)),
            history: History::new(),
            ledger: Ledger::default(),
            unread: BTreeSet::new(),
            trace: Trace::new(printing),
            plan,
            phase: Phase::SetUp,
            tenants: BTreeMap::new(),
            wants: None,
            plant,
            memory: Memory::default(),
            removals: Removals::default(),
            closed: BTreeMap::new(),
            deaths: 0,
            broker_is_up: false,
            routes: Vec::new(),
            wide_routes: Vec::new(),
            dead_routes: Vec::new(),
            fetched: BTreeMap::new(),
            keys: Keys::default(),
            alike: Alike::default(),
            lives: Lives::default(),
            objects: Objects::default(),
            failure: None,
        }
    }

    /// Enters something for `delay` from now.
    pub(crate) fn after(&mut self, delay: Micros, happening: Happening) {
        self.agenda.enter(self.now + delay, happening);
    }

    /// Sends a request of a client. Whether somebody sends it once more.
    pub(crate) fn request(
        &mut self,
        session: SessionId,
        stream: u16,
        correlation: Correlation,
        request: Request,
    ) -> bool {
        let line = (session, stream);
        let Self { now, agenda, random, network, .. } = self;
        let is_replayed = matches!(request, Request::Produce(_))
            && network.replay(*now, line, &request, agenda, random);
        let frame = ToBroker { correlation, request };
        network.send_up(*now, line, frame, agenda, random);
        is_replayed
    }

    /// Notes a broken promise; the first counts.
    pub(crate) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            let what = what();
            self.trace.line(self.now, || format!("FAILURE {what}"));
            self.failure = Some(what);
        }
    }

    /// The numbers of all groups in the history.
    #[must_use]
    pub(crate) fn called(&self) -> Vec<u64> {
        let numbers = self.plan.numbers().into_iter();
        numbers.flat_map(|group| self.removals.all_called(group)).collect()
    }

    /// Whose connection it is.
    #[must_use]
    pub(crate) fn tenant_of(&self, session: SessionId) -> TenantId {
        self.tenants.get(&session).copied().unwrap_or(TenantId(0))
    }

    /// Whether a bug is planted.
    #[must_use]
    pub(crate) fn has(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// The topic of a route.
    #[must_use]
    pub(crate) fn route(&self, topic: TopicId) -> Option<&TopicRoute> {
        let routes = self.routes.iter().chain(&self.wide_routes).chain(&self.dead_routes);
        routes.into_iter().find(|route| route.topic == topic)
    }
}

/// The shorter name of a queue in a history.
#[must_use]
pub(crate) fn queue_name(topic: TopicId, queue: QueueIndex) -> yard_checker::Queue {
    yard_checker::Queue { topic: topic.0, index: u32::from(queue.0) }
}
