//! One run: the loop over the agenda, and the phases from the first topic to the last scan.
use std::collections::BTreeMap;

use yard_checker::{Options, check};
use yard_linear::Judged;

use crate::agenda::{Happening, MS, Micros, SECOND};
use crate::alike;
use crate::base::{Base, Phase};
use crate::client::{Clerk, Client, Consumer, Meddler, Producer, Reader, Remover, Steward};
use crate::host::{Doom, Host};
use crate::ledger::TxCounts;
use crate::log::Log;
use crate::network::{IDLE, Way};
use crate::plan::{Fault, Plan};
use crate::planted::Plant;
use crate::{expired, keys, lives, objects, removal, wide};

/// Virtual time in which everything must be drained once nothing goes wrong any more.
const DRAIN_MAX: Micros = 60 * SECOND;
/// Virtual time in which everything must be read.
const SCAN_MAX: Micros = 60 * SECOND;
/// How often a run looks whether it can go on.
const REVIEW: Micros = 100 * MS;
/// Looks in a row that must find nothing left to do.
const CALM_REVIEWS: u32 = 3;
/// Happenings of one run; more means that somebody turns in circles.
const HAPPENINGS_MAX: u64 = 5_000_000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Hash of everything that happened.
    pub hash: u64,
    /// Operations of clients: sends, polls, settlements.
    pub operations: u64,
    /// Deaths of the broker.
    pub crashes: u64,
    /// Happenings.
    pub happenings: u64,
    /// Transactions, by what became of them.
    pub transactions: TxCounts,
    /// Small objects that clerks contended for.
    pub objects: Judged,
    /// What is wrong, if anything.
    pub failure: Option<String>,
}

/// Everything there is in a run.
pub struct World {
    base: Base,
    host: Host,
    clients: Vec<Client>,
    groups: Vec<u64>,
    healed_at: Micros,
    calm: u32,
}

impl World {
    /// The world of a plan, at its beginning.
    #[must_use]
    pub fn new(plan: Plan, plant: Option<Plant>, printing: bool) -> Self {
        let mut base = Base::new(plan, plant, printing);
        base.trace.line(0, || format!("{:#?}", base.plan));
        let host = Host::new(&mut base);
        let clients = vec![Client::Steward(Steward::new(0))];
        base.after(0, Happening::Start);
        base.after(MS, Happening::Timer { client: 0, kind: 0, generation: 0 });
        // Few crashes meet the first moments by themselves.
        if base.random.once_in(10) {
            base.plan.faults.push((0, crash_of_setup(&mut base.random)));
            let at = base.random.range(0, 20 * MS);
            base.after(at, Happening::Fault(base.plan.faults.len() - 1));
        }
        Self { base, host, clients, groups: Vec::new(), healed_at: Micros::MAX, calm: 0 }
    }

    /// Runs to the end and judges.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let planned = self.base.plan.faults.len();
        let mut happenings = 0;
        while self.base.failure.is_none() && self.base.phase != Phase::Over {
            let Some((at, happening)) = self.base.agenda.next() else {
                let phase = self.base.phase;
                self.base.fail(|| format!("nothing happens any more, in {phase:?}"));
                break;
            };
            self.base.now = at;
            happenings += 1;
            if happenings > HAPPENINGS_MAX {
                self.base.fail(|| "the run does not end".to_owned());
            }
            let before = self.base.phase;
            self.happen(happening);
            self.log(happenings);
            if before == Phase::SetUp && self.base.phase == Phase::Storm {
                self.begin_storm(planned);
            }
        }
        // Also where the run has failed: what contradicts itself there says why.
        self.host.check_brokers();
        self.judge(happenings)
    }

    /// Writes an event log of what happens.
    pub(crate) fn log_to(&mut self, log: Log) {
        self.base.trace.log_to(log);
    }

    fn log(&mut self, step: u64) {
        let Self { base, host, clients, .. } = self;
        let phase = base.phase;
        base.trace.step(step, base.now, || {
            let mut state = BTreeMap::from([("phase".to_owned(), format!("{phase:?}"))]);
            let sessions = (0..).zip(clients.iter_mut().map(Client::session));
            state.extend(sessions.filter_map(|(client, session): (usize, _)| {
                Some((format!("client/{client}/session"), session?.0.to_string()))
            }));
            host.show(&mut |path, text| drop(state.insert(path, text)));
            state
        });
    }

    fn happen(&mut self, happening: Happening) {
        let Self { base, host, clients, .. } = self;
        let Some(happening) = host.happen(base, happening) else { return };
        match happening {
            Happening::ToClient { session, frame } => {
                let client = base.network.client_of(session);
                base.trace.mix(&[base.now, session.0]);
                base.trace.line(base.now, || format!("{session:?} <- {frame:?}"));
                clients[client].receive(base, session, *frame);
            }
            Happening::ClientLost(session) => {
                let client = base.network.client_of(session);
                clients[client].lost(base, session);
            }
            Happening::Timer { client, kind, generation } => {
                clients[client].timer(base, kind, generation);
            }
            Happening::Fault(number) => self.fault(number),
            Happening::Review => self.review(),
            other => unreachable!("it happens to the broker: {other:?}"),
        }
    }

    /// The topics are there: clients begin, and so do the faults.
    fn begin_storm(&mut self, faults: usize) {
        let base = &mut self.base;
        let plan = base.plan.clone();
        let has_removals = plan.has_removals();
        for producer in plan.producers {
            let client = self.clients.len();
            let producer = Producer::new(base, client, producer);
            self.clients.push(Client::Producer(Box::new(producer)));
        }
        for consumer in plan.consumers {
            let client = self.clients.len();
            self.groups.push(consumer.group);
            let consumer = Consumer::new(base, client, consumer);
            self.clients.push(Client::Consumer(Box::new(consumer)));
        }
        for _ in 0..plan.readers {
            self.clients.push(Client::Reader(Reader::new(self.clients.len())));
        }
        if plan.meddles {
            let meddler = Meddler::new(self.clients.len(), plan.seed, plan.shards);
            self.clients.push(Client::Meddler(meddler));
        }
        if has_removals {
            self.clients.push(Client::Remover(Remover::new(self.clients.len())));
        }
        for number in 0..plan.clerks {
            let clerk = Clerk::new(self.clients.len(), plan.seed, number);
            self.clients.push(Client::Clerk(Box::new(clerk)));
        }
        self.groups.sort_unstable();
        self.groups.dedup();
        for client in 1..self.clients.len() {
            let delay = base.random.range(1, 50 * MS);
            base.after(delay, Happening::Timer { client, kind: 0, generation: 0 });
        }
        for (number, (at, _)) in plan.faults.iter().enumerate().take(faults) {
            base.after(*at, Happening::Fault(number));
        }
        self.healed_at = base.now + plan.heal_at;
        base.agenda.enter(self.healed_at, Happening::Review);
    }

    fn fault(&mut self, number: usize) {
        let Self { base, host, clients, .. } = self;
        let fault = base.plan.faults[number].1.clone();
        if base.phase > Phase::Storm {
            return;
        }
        base.trace.line(base.now, || format!("FAULT {fault:?}"));
        base.trace.mix(&[base.now, number as u64]);
        host.check_brokers();
        match fault {
            Fault::Crash { kind, outputs, recovery, down } => {
                host.plan_death(base, Doom { kind, outputs, recovery, down });
            }
            Fault::ShutDown { down } => host.shut_down(base, down),
            Fault::Cut { client, up, down, lasts } => {
                let mut draw = || base.random.below(clients.len() as u64) as usize;
                let client = client.unwrap_or_else(&mut draw);
                let Base { now, agenda, network, random, .. } = base;
                let time = (*now, *now + lasts);
                for way in [(up, Way::Up), (down, Way::Down)] {
                    if way.0 {
                        network.cut(time, client, way.1, agenda, random);
                    }
                }
            }
            Fault::Swizzle { step, lasts } => swizzle(base, clients.len(), step, lasts),
            Fault::Bridge { lasts, both } => bridge(base, clients.len(), lasts, both),
            Fault::Reset => reset(base, clients),
            Fault::DiskErrors { shard, what, count } => host.fail_disk(shard, what, count),
            Fault::ReadErrors { shard, one_in, lasts } => {
                host.fail_reads(shard, one_in, base.now + lasts);
            }
            Fault::NoSpace { shard, lasts } => {
                let more = base.random.below(base.plan.segment_bytes);
                host.limit_disk(shard, more);
                base.after(lasts, Happening::RoomAgain);
            }
            Fault::SlowDisk { factor, lasts } => host.slow_down(factor, base.now + lasts),
            Fault::Clock { by_ms } => host.move_clock(by_ms),
            Fault::Drain { group } => host.drain(base, group),
            Fault::Return { group } => host.bring_back(base, group),
            Fault::Remove { group, latest } => remove(base, clients, (group, latest)),
        }
    }

    /// Looks whether the run can go on to its next phase.
    fn review(&mut self) {
        let Self { base, host, clients, groups, healed_at, calm } = self;
        match base.phase {
            Phase::SetUp | Phase::Over => {}
            Phase::Storm if base.now < *healed_at => {}
            Phase::Storm => {
                base.trace.line(base.now, || "nothing goes wrong any more".to_owned());
                base.phase = Phase::Drain;
                base.network.heal();
                host.heal();
                for client in clients.iter_mut() {
                    client.drain(base);
                }
                host.ask_lag(base, groups);
                base.after(REVIEW, Happening::Review);
            }
            Phase::Drain => {
                let quiet = host.is_quiet() && base.network.is_empty_upwards();
                let quiet = quiet && host.lag() == Some(0) && host.delayed() == Some(0);
                let quiet = quiet && host.transactions() == Some(0);
                *calm =
                    if quiet && clients.iter().all(|it| it.is_done(base)) { *calm + 1 } else { 0 };
                if base.now > *healed_at + DRAIN_MAX {
                    let busy =
                        (0..).zip(clients.iter()).filter(|(_, client)| !client.is_done(base));
                    let busy: Vec<usize> = busy.map(|(number, _)| number).collect();
                    let (lag, open) = (host.lag(), host.transactions());
                    base.fail(|| {
                        let left = format!("lag {lag:?}, of transactions {open:?}");
                        format!("not drained: clients {busy:?} have work, {left}")
                    });
                }
                if *calm == CALM_REVIEWS {
                    base.phase = Phase::Scan;
                    *healed_at = base.now;
                    let timer = Happening::Timer { client: 0, kind: 0, generation: 0 };
                    base.after(1, timer);
                    clients[0].begin_scan(base);
                } else {
                    host.ask_lag(base, groups);
                    host.ask_stopped(base, groups);
                    if base.plan.returns {
                        groups.iter().for_each(|group| host.bring_back(base, *group));
                    }
                }
                base.after(REVIEW, Happening::Review);
            }
            Phase::Scan if base.now > *healed_at + SCAN_MAX => {
                base.fail(|| "the queues cannot be read to their ends".to_owned());
            }
            Phase::Scan => base.after(REVIEW, Happening::Review),
        }
    }

    fn judge(mut self, happenings: u64) -> Outcome {
        let base = &mut self.base;
        for client in &mut self.clients {
            client.finish(base);
        }
        if base.failure.is_none()
            && let Err(undecided) = base.ledger.finish(&mut base.history)
        {
            base.fail(|| undecided);
        }
        if base.phase == Phase::Over {
            keys::check(base);
            lives::check(base);
            expired::check(base, &self.host.expired());
            alike::finish(base);
            self.host.finish(base);
            removal::finish(base);
            wide::fold(base);
        }
        let objects = objects::check(base);
        if base.failure.is_none() {
            let routes = base.routes.iter().zip(&base.plan.ordered);
            let ordered = routes.filter(|(_, ordered)| ordered.is_some());
            let compared = base.called().into_iter();
            let compared = compared.filter(|group| base.plan.compares(*group));
            let options = Options {
                ordered: ordered.map(|(route, _)| route.topic.0).collect(),
                limited: base.plan.attempts.0 > 0,
                unread: std::mem::take(&mut base.unread),
                compared: compared.collect(),
                // Members pass it over, the broker does not.
                expired_come: true,
                expect_all_delivered: true,
                expect_all_settled: true,
                ..Options::default()
            };
            let verdict = check(&base.history, &options);
            base.trace.line(base.now, || verdict.to_string());
            if !verdict.is_clean() {
                base.fail(|| verdict.to_string());
            }
        }
        if let Err(error) = base.trace.close() {
            base.fail(|| format!("the event log could not be written: {error}"));
        }
        let base = self.base;
        Outcome {
            seed: base.plan.seed,
            hash: base.trace.hash(),
            operations: base.history.operations() as u64,
            crashes: base.history.crashes.len() as u64,
            happenings,
            transactions: base.ledger.counts,
            objects,
            failure: base.failure,
        }
    }
}

fn crash_of_setup(random: &mut crate::random::Random) -> Fault {
    Fault::Crash {
        kind: random.pick(&[yard_checker::CrashKind::Process, yard_checker::CrashKind::Power]),
        outputs: random.below(12),
        recovery: random.percent(25).then(|| random.below(6)),
        down: random.range(10 * MS, SECOND),
    }
}

/// The members of a group leave it, so that it can be removed.
fn remove(base: &mut Base, clients: &mut [Client], (group, latest): (u64, bool)) {
    if !base.removals.begin(group, latest) {
        return;
    }
    for client in clients {
        if let Client::Consumer(consumer) = client
            && consumer.group() == group
        {
            consumer.leave(base);
        }
    }
}

/// A connection ends, and each side finds out in its own time; sometimes with the client.
fn reset(base: &mut Base, clients: &mut [Client]) {
    let client = base.random.below(clients.len() as u64) as usize;
    let Some(session) = clients[client].session() else { return };
    let broker = base.random.range(1, IDLE);
    base.after(broker, Happening::BrokerLost(session));
    let own = base.random.range(1, IDLE / 4);
    base.after(own, Happening::ClientLost(session));
    if let Client::Producer(producer) = &mut clients[client]
        && base.random.percent(20)
    {
        producer.is_born_again(base);
    }
}

/// Plans the cuts of clients that go one after another and come back in another order.
fn swizzle(base: &mut Base, clients: usize, step: Micros, lasts: Micros) {
    let going = base.random.shuffled((0..clients).collect());
    let coming = base.random.shuffled(going.clone());
    let all_gone = step * going.len() as u64;
    for (from, client) in (0..).zip(&going) {
        let to = (0..).zip(&coming).find_map(|(at, other)| (other == client).then_some(at));
        let from = from * step;
        let until = all_gone + lasts + to.unwrap_or(0) * step;
        let way = base.random.below(3);
        cut_later(base, (*client, way), from, until - from);
    }
}

/// Plans the cuts of two networks, one after the other. One client is on both: whoever is cut off
/// on one network goes on by the other.
fn bridge(base: &mut Base, clients: usize, lasts: Micros, both: Micros) {
    let clients = base.random.shuffled((0..clients).collect());
    let way = base.random.below(3);
    for (at, client) in clients.into_iter().skip(1).enumerate() {
        let from = if at.is_multiple_of(2) { 0 } else { lasts - both };
        cut_later(base, (client, way), from, lasts);
    }
}

/// Plans that nothing of a client arrives one way or the other, or both.
fn cut_later(base: &mut Base, (client, way): (usize, u64), from: Micros, lasts: Micros) {
    let (client, up, down) = (Some(client), way != 1, way != 0);
    base.plan.faults.push((base.now + from, Fault::Cut { client, up, down, lasts }));
    base.after(from, Happening::Fault(base.plan.faults.len() - 1));
}
