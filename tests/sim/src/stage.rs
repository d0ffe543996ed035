//! The broker of the simulator for whoever brings clients of its own: requests go in one at a time,
//! and what goes wrong on the way is drawn or asked for. The clock that the broker reads goes on
//! when its user says so, and creeps while requests are worked on.
use std::collections::{BTreeMap, BTreeSet};

use yard_broker::SessionId;
use yard_checker::CrashKind;
use yard_store::disk::lying::Fault;
use yard_wire::request::{Push, Reply, Request};
use yard_wire::{Correlation, Refusal, TenantId, Timestamp};

use crate::agenda::{Happening, MS, Micros};
pub use crate::base::Wants;
use crate::base::{Base, Phase};
use crate::host::{Doom, Host, WALL_MS};
use crate::network::{ToBroker, ToClient, Weather};
use crate::plan::Plan;
use crate::random::Random;

/// Happenings until something must have come of a request.
const HAPPENINGS_MAX: u64 = 1_000_000;
/// How much slower than time the broker's clock is while requests are worked on.
const SLOWER: u64 = 64;
/// How long the broker stays down.
const DOWN: Micros = 10 * MS;

/// How the broker ends before it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In good order.
    ShutDown,
    /// It is killed.
    Process,
    /// With the power.
    Power,
}

/// What goes wrong while a request is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The broker ends after so many more outputs.
    Dies(End, u64),
    /// The next sync fails, which fences the log until somebody starts the broker anew.
    SyncFails,
    /// The disk takes so many times as long.
    SlowDisk(u64),
}

/// A broker of one shard on a disk that lies, behind a network that loses and delays.
pub struct Stage {
    base: Base,
    host: Host,
    /// The broker's clock, where nothing is worked on.
    clock: Timestamp,
    asked: u64,
    answers: BTreeMap<u64, Result<Reply, Refusal>>,
    pushes: Vec<(u64, Push)>,
    sessions: BTreeSet<SessionId>,
    has_no_room: bool,
    random: Random,
}

/// A plan of which only the weather and the disk count.
fn plan(seed: u64, segment_bytes: u64) -> Plan {
    let mut random = Random::new(seed);
    let weather = Weather {
        delay: random.pick(&[50, 300, 2 * MS]),
        loss_one_in: random.pick(&[0, 20, 5]),
        replay_one_in: random.pick(&[0, 4]),
    };
    let (sync, io) = (random.pick(&[100, 500, 2 * MS]), random.pick(&[20, 200]));
    let drawn = Plan::draw(seed, 1);
    let (keys_by_plugin, checks_by_plugin) = (false, false);
    let faults = Vec::new();
    let drawn = Plan { keys_by_plugin, checks_by_plugin, faults, ..drawn };
    Plan { shards: 1, segment_bytes, weather, sync, io, ..drawn }
}

/// Requests go on the streams that a client has for them.
fn stream_of(request: &Request) -> u16 {
    match request {
        Request::Hello(_)
        | Request::FindRoute(_)
        | Request::Call(_)
        | Request::Subscribe(_)
        | Request::Credit(_)
        | Request::Unsubscribe(_)
        | Request::MoveGroup(_)
        | Request::JoinProducers(_)
        | Request::TxBegin(_)
        | Request::TxDecide(_) => 0,
        Request::Produce(_) | Request::OpenProducer(_) => 1,
        Request::Settle(_)
        | Request::Extend(_)
        | Request::Fetch(_)
        | Request::Find(_)
        | Request::Seek(_) => 2,
    }
}

impl Stage {
    /// A broker that has started, with nothing in it.
    #[must_use]
    pub fn new(seed: u64, segment_bytes: u64, wants: Wants) -> Self {
        let mut base = Base::new(plan(seed, segment_bytes), None, false);
        base.phase = Phase::Storm;
        base.wants = Some(wants);
        let host = Host::new(&mut base);
        let random = base.random.split();
        base.after(0, Happening::Start);
        let mut stage = Self {
            base,
            host,
            clock: Timestamp(WALL_MS),
            asked: 0,
            answers: BTreeMap::new(),
            pushes: Vec::new(),
            sessions: BTreeSet::new(),
            has_no_room: false,
            random,
        };
        stage.host.slow_clock(0, SLOWER);
        stage.calm();
        stage
    }

    /// A number below `bound`, which is not 0, of the stage's seed.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// The broker's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock
    }

    /// A new connection.
    pub fn connect(&mut self, tenant: TenantId) -> u64 {
        let session = self.base.network.connect(self.base.now, 0).expect("nothing is cut");
        self.base.tenants.insert(session, tenant);
        self.sessions.insert(session);
        session.0
    }

    /// A connection ends, and the broker finds out.
    pub fn close(&mut self, session: u64) {
        let session = SessionId(session);
        if self.sessions.remove(&session) {
            self.base.network.client_learns(session);
            self.host.lost(&mut self.base, session);
            self.calm();
        }
    }

    fn happen(&mut self) {
        let (at, happening) = self.base.agenda.next().expect("something is under way");
        self.base.now = at;
        let left = self.host.happen(&mut self.base, happening);
        // Whoever plays the clients hears of everything else at once.
        if let Some(Happening::ToClient { session, frame }) = left {
            let push = match *frame {
                ToClient::Reply(correlation, result) => {
                    self.answers.insert(correlation.0, result);
                    None
                }
                ToClient::Deliver { deliver, .. } => Some(Push::Deliver(deliver)),
                ToClient::Ended(ended) => Some(Push::Ended(ended)),
                ToClient::TxCheck(check) => Some(Push::TxCheck(check)),
            };
            self.pushes.extend(push.map(|push| (session.0, push)));
        }
        if let Some(failure) = &self.base.failure {
            panic!("the simulator of seed {}: {failure}", self.base.plan.seed);
        }
    }

    /// Goes on until nothing is under way.
    fn calm(&mut self) {
        for _ in 0..HAPPENINGS_MAX {
            if self.base.agenda.is_calm() && !self.host.is_due(self.base.now) {
                return;
            }
            self.happen();
        }
        panic!("the broker does not come to rest");
    }

    /// The broker has ended: it starts again, and all connections are gone.
    fn come_back(&mut self) {
        self.sessions.clear();
        self.calm();
        assert!(self.base.broker_is_up, "it was started again");
        self.answers.clear();
        self.pushes.clear();
        self.heal();
    }

    /// Nothing goes wrong any more that nobody asked for.
    fn heal(&mut self) {
        self.host.heal();
        self.fill_disk(self.has_no_room);
    }

    /// Sends a request and waits for its answer; `None` where the connection is gone. A request
    /// that somebody has recorded may be sent again by him, where `is_replayed` allows it.
    pub fn ask(
        &mut self,
        session: u64,
        request: Request,
        is_replayed: bool,
        mishap: Option<Mishap>,
    ) -> Option<Result<Reply, Refusal>> {
        let session = SessionId(session);
        if !self.sessions.contains(&session) {
            return None;
        }
        let life = self.host.life();
        self.begin(mishap);
        self.asked += 1;
        let (number, stream) = (self.asked, stream_of(&request));
        let correlation = Correlation(number);
        if is_replayed {
            self.base.request(session, stream, correlation, request);
        } else {
            let frame = ToBroker { correlation, request };
            let Base { now, agenda, random, network, .. } = &mut self.base;
            network.send_up(*now, (session, stream), frame, agenda, random);
        }
        let answer = self.wait(number, life);
        let has_died = self.host.life() != life;
        let is_armed = mishap == Some(Mishap::SyncFails);
        if has_died {
            self.come_back();
        } else if is_armed {
            // It has met no sync, and must not meet one of the next request: the answer is lost.
            self.end(End::Process);
            return None;
        } else {
            self.heal();
        }
        answer
    }

    fn begin(&mut self, mishap: Option<Mishap>) {
        match mishap {
            Some(Mishap::Dies(end, outputs)) => {
                let kind = if end == End::Power { CrashKind::Power } else { CrashKind::Process };
                let doom = Doom { kind, outputs: outputs.max(1), recovery: None, down: DOWN };
                self.host.plan_death(&mut self.base, doom);
            }
            Some(Mishap::SyncFails) => self.host.fail_disk(0, Fault::Sync, 1),
            Some(Mishap::SlowDisk(factor)) => self.host.slow_down(factor, Micros::MAX),
            None => {}
        }
    }

    fn wait(&mut self, number: u64, life: u32) -> Option<Result<Reply, Refusal>> {
        for _ in 0..HAPPENINGS_MAX {
            if self.host.life() != life {
                return None;
            }
            match self.answers.remove(&number) {
                // The log is fenced: whoever watches the process starts it anew.
                Some(Err(refusal)) if refusal.code == yard_wire::Code::LogFenced => {}
                Some(answer) => return Some(answer),
                None => {}
            }
            self.happen();
        }
        panic!("a request is not answered");
    }

    /// What has arrived unasked, when nothing is under way any more.
    pub fn unasked(&mut self) -> Vec<(u64, Push)> {
        self.calm();
        std::mem::take(&mut self.pushes)
    }

    /// Time passes.
    pub fn advance(&mut self, ms: u64) {
        self.calm();
        self.clock = self.clock.plus_ms(ms);
        let crept = self.host.wall(self.base.now).0;
        self.pass(self.clock.0.saturating_sub(crept));
    }

    /// A moment passes that nobody counts.
    pub fn linger(&mut self, ms: u64) {
        self.pass(ms);
    }

    fn pass(&mut self, ms: u64) {
        let until = self.base.now + ms * MS;
        self.host.slow_clock(self.base.now, 1);
        while self.base.agenda.next_at().is_some_and(|at| at <= until) {
            self.happen();
        }
        self.base.now = until;
        // What became due at the last instant is begun now.
        self.host.look(&mut self.base);
        self.host.slow_clock(self.base.now, SLOWER);
        self.calm();
    }

    /// The broker ends and starts again; all connections are gone.
    pub fn end(&mut self, end: End) {
        self.calm();
        let life = self.host.life();
        let doom = |kind| Doom { kind, outputs: 0, recovery: None, down: DOWN };
        match end {
            End::ShutDown => self.host.shut_down(&mut self.base, DOWN),
            End::Process => self.host.plan_death(&mut self.base, doom(CrashKind::Process)),
            End::Power => self.host.plan_death(&mut self.base, doom(CrashKind::Power)),
        }
        for _ in 0..HAPPENINGS_MAX {
            if self.host.life() != life {
                return self.come_back();
            }
            self.happen();
        }
        panic!("the broker does not end");
    }

    /// The disk has no room, or has some again.
    pub fn fill_disk(&mut self, full: bool) {
        self.has_no_room = full;
        if full {
            self.host.limit_disk(0, 0);
        } else {
            self.host.free_disks();
        }
    }
}
