//! What a run is made of, drawn from its seed: every seed has other sizes and other faults, so
//! that each fault also meets runs in which nothing else hides it ("swarm testing").
use yard_checker::CrashKind;
use yard_store::disk::lying;
use yard_wire::order::AfterLast;
use yard_wire::plugin_use::PluginUse;
use yard_wire::requests::AckPlace;
use yard_wire::retry::{Attempts, Exponential, RetryPolicy};
use yard_wire::share::Share;

use crate::agenda::{MS, Micros, SECOND};
use crate::network::Weather;
use crate::random::Random;

mod features;

pub(crate) use features::{base_of, member_of};

/// Batches that wait for a shard where nothing bounds them.
const ALL: usize = usize::MAX;
/// Bytes of a segment that holds some batches of any plan.
const SEGMENT_BYTES: u64 = 64 << 10;
/// Bytes of a batch, at most: such a segment holds a few.
const BATCH_BYTES_MAX: u64 = 24 << 10;
/// The most messages that a consumer has credit for at once.
const CREDIT_MAX: u32 = 1_000;
/// The same where segments are smaller: what becomes of messages at once is one entry.
const SMALL_CREDIT: u32 = 32;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that it was drawn from.
    pub seed: u64,
    /// Shards: 1 or 2.
    pub shards: u16,
    /// Queues of each topic.
    pub queues: u16,
    /// Topics.
    pub topics: u32,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// Of each topic, whether it keeps the order of order groups, and what it does after a
    /// message's last attempt.
    pub ordered: Vec<Option<AfterLast>>,
    /// When a message that failed in an ordered topic comes again, in milliseconds.
    pub order_retry_ms: u32,
    /// Of each topic, whether the lives of its messages are noted: nobody may see a difference.
    pub traced: Vec<bool>,
    /// Of those, which share of their messages.
    pub trace_share: Share,
    /// Messages of which somebody wants to know the lives in the end, at most.
    pub lives: usize,
    /// Of each topic, the newest bytes that it keeps; 0: all.
    pub retain_bytes: Vec<u64>,
    /// The producers.
    pub producers: Vec<ProducerPlan>,
    /// The consumers.
    pub consumers: Vec<ConsumerPlan>,
    /// Groups: numbered from 0.
    pub groups: u64,
    /// Those of them of which every member gets every message: at the broker each member is a group
    /// by itself, of a number that [`member_of`] gives.
    pub broadcast: Vec<u64>,
    /// Which groups compare messages by their values.
    pub compares: Vec<bool>,
    /// Queues of the topics that groups pass the first topic's messages on to; 0: there are none.
    pub wide_queues: u16,
    /// Whether they return in the end.
    pub returns: bool,
    /// When what failed in a group comes again.
    pub retry: RetryPolicy,
    /// How often it is delivered at most.
    pub attempts: Attempts,
    /// Dedupe keys are not said by producers but by a plugin of the topics.
    pub keys_by_plugin: bool,
    /// Groups of producers with transactions.
    pub tx_groups: u64,
    /// A plugin is asked what becomes of transactions, before their producers are.
    pub checks_by_plugin: bool,
    /// Clients that read by plain fetch.
    pub readers: usize,
    /// Somebody asks for what cannot be, and sends batches of which bits are flipped.
    pub meddles: bool,
    /// Clients that contend with each other for small objects.
    pub clerks: u64,
    /// Batches that may wait for a shard; what comes on top is taken and never answered.
    pub batches_waiting: usize,
    /// How the network behaves.
    pub weather: Weather,
    /// Typical duration of a sync.
    pub sync: Micros,
    /// Typical duration of any other I/O.
    pub io: Micros,
    /// Of a million seconds, how many more the broker's clock counts.
    pub drift_ppm: i64,
    /// Once in so many starts disks cannot be read for a moment, or bits have flipped in what is
    /// derived from the log. 0: never.
    pub rots_one_in: u64,
    /// What goes wrong, and when.
    pub faults: Vec<(Micros, Fault)>,
    /// From then on nothing goes wrong and everything is drained.
    pub heal_at: Micros,
}

/// A client that sends.
#[derive(Clone, Debug)]
pub struct ProducerPlan {
    /// Where its messages must be before they count.
    pub place: AckPlace,
    /// Lanes to each shard.
    pub lanes: u16,
    /// Messages that it sends.
    pub messages: u64,
    /// Messages that it sends at once, at most.
    pub burst: u64,
    /// Time between two bursts, typical.
    pub pause: Micros,
    /// Bytes of a body, at most.
    pub body_bytes: u64,
    /// Order groups that it uses; 0: none.
    pub order_groups: u64,
    /// How many of a hundred messages it delays.
    pub delayed: u64,
    /// How many of a hundred messages nobody wants any more after a while.
    pub expiring: u64,
    /// How many of a hundred messages have a packed body.
    pub packed: u64,
    /// How many of a hundred messages have a priority.
    pub prioritised: u64,
    /// In how many of a hundred bursts it begins a transaction.
    pub transactional: u64,
    /// Its group, for transactions.
    pub tx_group: u64,
    /// It has a name under which it goes on, and after so many of a hundred bursts its process
    /// ends. 0: it has none.
    pub reborn: u64,
    /// How many of a hundred messages have a dedupe key.
    pub keyed: u64,
    /// How many such keys there are, the same for all producers.
    pub dedupe_keys: u64,
    /// How many of a hundred messages have a value that groups may compare them by.
    pub alike: u64,
    /// How many such values there are, the same for all producers.
    pub alike_values: u64,
    /// Batches on their way.
    pub in_flight: usize,
    /// Records of a batch, at most.
    pub batch_records: usize,
    /// When the lane sends again, in milliseconds.
    pub attempt_ms: u64,
    /// When the lane gives up, in milliseconds.
    pub delivery_ms: u64,
}

/// A client that receives.
#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    /// Its group.
    pub group: u64,
    /// Number of its topic.
    pub topic: u32,
    /// Messages that may be on their way to it.
    pub credit: u32,
    /// Bytes that may be on their way to it.
    pub credit_bytes: u32,
    /// How long it may hold a message.
    pub lease_ms: u32,
    /// How long it thinks about a message, typical.
    pub think: Micros,
    /// Of 100 messages, those that it gives back.
    pub nack_percent: u64,
    /// Of 100 messages, those that it rejects.
    pub reject_percent: u64,
    /// Of 100 messages, those that it settles after its lease has ended, or never.
    pub late_percent: u64,
    /// Once in so many deliveries it dies without a word. 0: never.
    pub dies_one_in: u64,
    /// Its group does not want every message of the topic.
    pub is_picky: bool,
    /// Of 100 messages, those that it works on for longer than its lease, which it extends.
    pub keeps_percent: u64,
    /// What it fails on does not come again.
    pub drops_failed: bool,
}

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The broker dies.
    Crash {
        /// What is lost.
        kind: CrashKind,
        /// It dies after so many more outputs.
        outputs: u64,
        /// Changes of the disk after which the start that follows dies as well; when it needs
        /// fewer, the power goes before the first sync after it.
        recovery: Option<u64>,
        /// How long it stays down.
        down: Micros,
    },
    /// The broker is shut down in an orderly manner.
    ShutDown {
        /// How long it stays down.
        down: Micros,
    },
    /// Nothing arrives for a while, at some client.
    Cut {
        /// Which one; none: it is drawn when it happens.
        client: Option<usize>,
        /// From the client to the broker.
        up: bool,
        /// From the broker to the client.
        down: bool,
        /// For how long.
        lasts: Micros,
    },
    /// Clients are cut off one after another, and come back in another order.
    Swizzle {
        /// Time between two.
        step: Micros,
        /// How long they all are.
        lasts: Micros,
    },
    /// Clients are on two networks, and one of them on both: it sees the broker while one network
    /// is cut off, then both, then the other one.
    Bridge {
        /// How long each network is cut off.
        lasts: Micros,
        /// How long both are.
        both: Micros,
    },
    /// A connection ends; each side finds out in its own time.
    Reset,
    /// The disk of a shard fails at something.
    DiskErrors {
        /// The shard.
        shard: usize,
        /// At what.
        what: lying::Fault,
        /// How often.
        count: u32,
    },
    /// Reads of a shard's disk fail for a while, one in so many.
    ReadErrors {
        /// The shard.
        shard: usize,
        /// One in so many.
        one_in: u64,
        /// For how long.
        lasts: Micros,
    },
    /// A shard's disk is full for a while.
    NoSpace {
        /// The shard.
        shard: usize,
        /// For how long.
        lasts: Micros,
    },
    /// The disk takes many times as long for a while.
    SlowDisk {
        /// How many times as long.
        factor: u64,
        /// For how long.
        lasts: Micros,
    },
    /// An operator has a group's messages passed on to a wider topic.
    Drain {
        /// The group.
        group: u64,
    },
    /// An operator lets it return.
    Return {
        /// The group.
        group: u64,
    },
    /// The members of a group leave it, an operator removes it, and they begin anew.
    Remove {
        /// The group.
        group: u64,
        /// With the latest messages, not with the earliest.
        latest: bool,
    },
    /// Somebody sets the clock, by so many milliseconds.
    Clock {
        /// Forwards, or backwards where negative.
        by_ms: i64,
    },
}

impl Plan {
    /// The run of a seed, of about so many operations of clients.
    #[must_use]
    pub fn draw(seed: u64, operations: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5941_5244_5349_4d31);
        let random = &mut random;
        let shards = if random.percent(60) { 1 } else { 2 };
        let topics = if random.percent(75) { 1 } else { 2 };
        let groups = random.range(1, 2);
        // Of a message come a send, and for each group its share of a poll and of a settlement.
        let messages = (operations * 10 / (12 + 14 * groups)).max(4);
        let producers = draw_producers(random, messages);
        let longest = producers.iter().map(|plan| plan.messages / plan.burst * plan.pause).max();
        let heal_at = longest.unwrap_or(0) + SECOND;
        let mut plan = Self {
            seed,
            shards,
            queues: random.range(1, 16) as u16,
            topics,
            segment_bytes: SEGMENT_BYTES << random.below(3),
            ordered: vec![None; topics as usize],
            order_retry_ms: 1,
            traced: vec![false; topics as usize],
            trace_share: Share::WHOLE,
            lives: 0,
            retain_bytes: vec![0; topics as usize],
            producers,
            consumers: draw_consumers(random, groups, topics),
            groups,
            broadcast: Vec::new(),
            compares: vec![false; groups as usize],
            wide_queues: 0,
            returns: false,
            retry: draw_retry(seed, random),
            attempts: Attempts(random.pick(&[0, 0, 3, 6])),
            keys_by_plugin: seed % PLUGIN_ONE_IN == 3,
            tx_groups: 1,
            checks_by_plugin: seed % PLUGIN_ONE_IN == 6,
            readers: usize::from(random.percent(30)),
            meddles: Random::new(seed ^ 0x4d45_4444_4c45_5321).percent(30),
            clerks: draw_clerks(seed),
            batches_waiting: Random::new(seed ^ 0x5741_4954_494e_4721).pick(&[3, ALL, ALL]),
            weather: Weather {
                delay: random.pick(&[50, 300, 2 * MS, 20 * MS]),
                loss_one_in: random.pick(&[0, 0, 500, 50]),
                replay_one_in: random.pick(&[0, 0, 40]),
            },
            sync: random.pick(&[100, 500, 2 * MS, 10 * MS]),
            io: random.pick(&[20, 200, 2 * MS]),
            drift_ppm: 0,
            rots_one_in: 0,
            faults: Vec::new(),
            heal_at,
        };
        plan.draw_faults(random);
        if random.percent(40) {
            plan.draw_retention(random);
        }
        plan.draw_filters();
        plan.draw_transactions();
        plan.draw_order();
        plan.draw_keys();
        plan.draw_alike();
        plan.draw_traces();
        plan.draw_drains();
        plan.draw_decay();
        plan.draw_swizzles();
        plan.draw_bridges();
        plan.draw_read_errors();
        plan.draw_small_segments();
        plan.draw_expiry();
        plan.draw_priorities();
        plan.draw_packing();
        plan.draw_tx_groups();
        plan.draw_broadcast();
        plan.draw_keeping();
        plan.draw_removals();
        plan.draw_lives();
        plan.draw_identities();
        // A clock that is ahead makes messages due: early for nobody but the checker.
        if !plan.is_clock_late() {
            plan.producers.iter_mut().for_each(|producer| producer.delayed = 0);
        }
        plan
    }

    /// Clocks that drift and disks that rot. What else is drawn does not depend on it.
    fn draw_decay(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4445_4341_592e_2e2e);
        if random.percent(20) {
            self.drift_ppm = random.pick(&[-200_000, -5_000, 5_000, 200_000]);
        }
        if random.percent(30) {
            self.rots_one_in = random.range(1, 3);
        }
    }

    /// Links that go one after another and come back in another order. What else is drawn does not
    /// depend on it.
    fn draw_swizzles(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5357_495a_5a4c_452e);
        if random.percent(15) {
            let at = random.range(0, self.heal_at - 1);
            let (step, lasts) = (random.range(MS, 300 * MS), random.range(10 * MS, 3 * SECOND));
            self.faults.push((at, Fault::Swizzle { step, lasts }));
            self.faults.sort_by_key(|(at, _)| *at);
        }
    }

    /// Two networks of which one is cut off, then the other one. What else is drawn does not depend
    /// on it.
    fn draw_bridges(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4252_4944_4745_2e2e);
        if random.percent(15) {
            let at = random.range(0, self.heal_at - 1);
            let lasts = random.pick(&[100 * MS, SECOND, 4 * SECOND]);
            let lasts = random.range(lasts / 2, lasts);
            let both = random.range(0, lasts / 2);
            self.faults.push((at, Fault::Bridge { lasts, both }));
            self.faults.sort_by_key(|(at, _)| *at);
        }
    }

    /// Disks that cannot be read at times, whatever is read. What else is drawn does not depend on
    /// it.
    fn draw_read_errors(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5245_4144_5f45_494f);
        if random.percent(20) {
            for _ in 0..random.range(1, 3) {
                let at = random.range(0, self.heal_at - 1);
                let shard = random.below(u64::from(self.shards)) as usize;
                let one_in = random.pick(&[2, 5, 30]);
                let lasts = random.range(50 * MS, SECOND);
                self.faults.push((at, Fault::ReadErrors { shard, one_in, lasts }));
            }
            self.faults.sort_by_key(|(at, _)| *at);
        }
    }

    /// Segments that are smaller than any server's, down to the smallest that a store takes. An
    /// entry fits a segment, so there is nothing in the run that puts many messages into one: not
    /// those that become due together, that are decided or buried together, or passed on. What
    /// else is drawn does not depend on it.
    fn draw_small_segments(&mut self) {
        let mut random = Random::new(self.seed ^ 0x534d_414c_4c2e_2e2e);
        if !random.percent(15) {
            return;
        }
        self.segment_bytes = yard_store::config::SEGMENT_BYTES_MIN << random.below(4);
        for producer in &mut self.producers {
            producer.body_bytes = producer.body_bytes.min(self.segment_bytes / 8);
            (producer.delayed, producer.transactional) = (0, 0);
        }
        for consumer in &mut self.consumers {
            consumer.credit = consumer.credit.min(SMALL_CREDIT);
            consumer.reject_percent = 0;
        }
        self.attempts = Attempts(0);
        (self.wide_queues, self.returns) = (0, false);
        self.traced.iter_mut().for_each(|traced| *traced = false);
        let passes_on = |fault: &Fault| matches!(fault, Fault::Drain { .. } | Fault::Return { .. });
        self.faults.retain(|(_, fault)| !passes_on(fault));
    }

    /// Whether segments are smaller than what other plans have.
    fn has_small_segments(&self) -> bool {
        self.segment_bytes < SEGMENT_BYTES
    }

    /// Bytes of a batch, at most.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        BATCH_BYTES_MAX.min(self.segment_bytes * 3 / 8) as usize
    }

    /// The most messages that a consumer has credit for at once.
    pub(crate) fn credit_max(&self) -> u32 {
        if self.has_small_segments() { SMALL_CREDIT } else { CREDIT_MAX }
    }

    /// Producers with transactions: of those that know what is stored. What else is drawn does not
    /// depend on it.
    fn draw_transactions(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5452_414e_5341_4354);
        for producer in &mut self.producers {
            let percent = random.pick(&[0, 0, 30, 80]);
            producer.transactional = if producer.place == AckPlace::Synced { percent } else { 0 };
        }
    }

    /// Whether anybody has any.
    pub(crate) fn has_transactions(&self) -> bool {
        self.producers.iter().any(|producer| producer.transactional > 0)
    }

    /// Groups that do not want every message. What else is drawn does not depend on it.
    fn draw_filters(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5049_434b_592e_2e2e);
        let picky = [random.percent(35), random.percent(35)];
        for consumer in &mut self.consumers {
            consumer.is_picky = picky[usize::from(consumer.group > 0)];
        }
    }

    /// Topics that keep an order. What else is drawn does not depend on it.
    fn draw_order(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4f52_4445_522e_2e2e);
        self.order_retry_ms = random.range(1, 300) as u32;
        for ordered in &mut self.ordered {
            let after_last = random.pick(&[AfterLast::GoOn, AfterLast::Stop]);
            *ordered = random.percent(40).then_some(after_last);
        }
    }

    /// Producers that send the same things as others. What else is drawn does not depend on it.
    fn draw_keys(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4b45_5953_2e2e_2e2e);
        let dedupe_keys = random.pick(&[3, 40]);
        for producer in &mut self.producers {
            producer.keyed = random.pick(&[0, 0, 20, 60]);
            producer.dedupe_keys = dedupe_keys;
        }
    }

    /// Groups that compare messages, and messages that are alike. What else is drawn does not
    /// depend on it.
    fn draw_alike(&mut self) {
        let mut random = Random::new(self.seed ^ 0x414c_494b_452e_2e2e);
        self.compares.iter_mut().for_each(|compares| *compares = random.percent(40));
        let values = random.pick(&[3, 40]);
        let is_used = self.compares.contains(&true);
        for producer in &mut self.producers {
            let percent = random.pick(&[0, 30, 80]);
            producer.alike = if is_used { percent } else { 0 };
            producer.alike_values = values;
        }
    }

    /// Topics that are traced. What else is drawn does not depend on it.
    fn draw_traces(&mut self) {
        let mut random = Random::new(self.seed ^ 0x5452_4143_452e_2e2e);
        for traced in &mut self.traced {
            *traced = random.percent(30);
        }
    }

    /// Groups that go on in wider topics, and return. What else is drawn does not depend on it.
    fn draw_drains(&mut self) {
        let mut random = Random::new(self.seed ^ 0x4452_4149_4e2e_2e2e);
        if !random.percent(35) {
            return;
        }
        // One in each shard at least.
        self.wide_queues = random.range(u64::from(self.shards).max(2), 24) as u16;
        self.returns = random.percent(60);
        for group in 0..self.groups {
            for _ in 0..random.range(1, 4) {
                let at = random.range(0, self.heal_at - 1);
                let is_drained = random.percent(60);
                let fault =
                    if is_drained { Fault::Drain { group } } else { Fault::Return { group } };
                self.faults.push((at, fault));
            }
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Segments go during the run: they are small and the messages are not. A topic that keeps
    /// everything beside one that does not has its messages copied forward.
    fn draw_retention(&mut self, random: &mut Random) {
        self.segment_bytes = SEGMENT_BYTES;
        for bytes in &mut self.retain_bytes {
            *bytes = random.pick(&[1, 1, 20_000, 0]);
        }
        for producer in &mut self.producers {
            producer.body_bytes = random.pick(&[400, 3_000, 6_000]);
        }
    }

    fn draw_faults(&mut self, random: &mut Random) {
        let mut count = |percent: u64, most: u64| {
            if random.percent(percent) { random.range(1, most) } else { 0 }
        };
        let kinds = [
            count(70, 4),
            count(20, 2),
            count(35, 4),
            count(40, 6),
            count(15, 2),
            count(12, 2),
            count(10, 2),
            count(15, 2),
        ];
        for (kind, count) in kinds.into_iter().enumerate() {
            for _ in 0..count {
                let at = random.range(0, self.heal_at - 1);
                let fault = self.draw_fault(kind, random);
                self.faults.push((at, fault));
            }
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    fn draw_fault(&self, kind: usize, random: &mut Random) -> Fault {
        let shard = random.below(u64::from(self.shards)) as usize;
        match kind {
            0 => Fault::Crash {
                kind: if random.percent(60) { CrashKind::Power } else { CrashKind::Process },
                outputs: random.below(12),
                recovery: random.percent(25).then(|| random.below(6)),
                down: random.range(10 * MS, SECOND),
            },
            1 => Fault::ShutDown { down: random.range(10 * MS, SECOND) },
            2 => {
                let way = random.below(3);
                let lasts = random.pick(&[100 * MS, SECOND, 4 * SECOND]);
                let lasts = random.range(lasts / 2, lasts);
                Fault::Cut { client: None, up: way != 1, down: way != 0, lasts }
            }
            3 => Fault::Reset,
            4 => {
                use lying::Fault::{Create, Replace, Sync, Write};
                let what = random.pick(&[Sync, Sync, Sync, Write, Create, Replace]);
                let count = random.range(1, 2) as u32;
                Fault::DiskErrors { shard, what, count }
            }
            5 => Fault::NoSpace { shard, lasts: random.range(SECOND / 2, 3 * SECOND) },
            6 => {
                let factor = random.range(5, 50);
                Fault::SlowDisk { factor, lasts: random.range(SECOND / 2, 3 * SECOND) }
            }
            _ => {
                let hour = 3_600_000;
                // Backwards a little only: what is due waits until the clock is there again.
                Fault::Clock { by_ms: random.pick(&[-2_500, -400, 700, 30_000, hour]) }
            }
        }
    }
}

/// Clerks are many requests of few messages: few seeds have them. What else is drawn does not
/// depend on it.
fn draw_clerks(seed: u64) -> u64 {
    let mut random = Random::new(seed ^ 0x434c_4552_4b53_2e2e);
    if random.percent(15) { random.range(2, 3) } else { 0 }
}

fn draw_producers(random: &mut Random, messages: u64) -> Vec<ProducerPlan> {
    let count = random.range(1, 4);
    let mixed = random.percent(70);
    let span = random.pick(&[SECOND, 3 * SECOND, 8 * SECOND]);
    let body_bytes = random.pick(&[24, 100, 100, 400, 3_000]);
    (0..count)
        .map(|_| {
            let places = [AckPlace::Memory, AckPlace::Written, AckPlace::Synced];
            let burst = random.pick(&[1, 3, 8, 20]);
            let messages = (messages / count).max(1);
            let bursts = (messages / burst).max(1);
            ProducerPlan {
                place: if mixed { random.pick(&places) } else { AckPlace::Synced },
                lanes: random.pick(&[1, 1, 2, 4]),
                messages,
                burst,
                pause: span / bursts,
                body_bytes,
                order_groups: random.pick(&[0, 0, 2, 5]),
                delayed: random.pick(&[0, 0, 10, 40]),
                expiring: 0,
                packed: 0,
                prioritised: 0,
                transactional: 0,
                tx_group: 0,
                reborn: 0,
                keyed: 0,
                dedupe_keys: 1,
                alike: 0,
                alike_values: 1,
                in_flight: random.pick(&[1, 4, 8, 64]),
                batch_records: random.pick(&[1, 4, 16, 64]),
                attempt_ms: random.pick(&[300, 1_000, 10_000]),
                delivery_ms: random.pick(&[2_000, 120_000, 120_000, 120_000]),
            }
        })
        .collect()
}

fn draw_consumers(random: &mut Random, groups: u64, topics: u32) -> Vec<ConsumerPlan> {
    let mut consumers = Vec::new();
    let lossy = random.percent(50);
    for group in 0..groups {
        for topic in 0..topics {
            let long = random.percent(25);
            for _ in 0..random.range(1, 3) {
                consumers.push(ConsumerPlan {
                    group,
                    topic,
                    credit: random.pick(&[1, 8, 64, 1_000]),
                    credit_bytes: random.pick(&[1, 4_000, 1 << 20]),
                    lease_ms: if long { 3_600_000 } else { random.pick(&[1_000, 2_000, 8_000]) },
                    think: random.pick(&[100, 2 * MS, 30 * MS]),
                    nack_percent: random.pick(&[0, 2, 10]),
                    reject_percent: random.pick(&[0, 0, 3]),
                    // Who may hold a message for an hour must not forget it.
                    late_percent: if lossy && !long { random.pick(&[0, 2, 8]) } else { 0 },
                    dies_one_in: if lossy { random.pick(&[0, 15, 60]) } else { 0 },
                    is_picky: false,
                    keeps_percent: 0,
                    drops_failed: false,
                });
            }
        }
    }
    consumers
}

/// Of so many seeds, one has a plugin for each of its points.
const PLUGIN_ONE_IN: u64 = 8;

fn draw_retry(seed: u64, random: &mut Random) -> RetryPolicy {
    let first_ms = random.range(1, 200) as u32;
    let drawn = random.below(3);
    if seed % PLUGIN_ONE_IN == 5 {
        return RetryPolicy::Plugin(PluginUse::read("ladder").expect("the name of a plugin"));
    }
    match drawn {
        0 => RetryPolicy::List(vec![first_ms]),
        1 => RetryPolicy::List(vec![1, first_ms, 10 * first_ms]),
        _ => {
            let jitter_percent = random.pick(&[0, 50]);
            let max_ms = 10 * first_ms;
            RetryPolicy::Exponential(Exponential {
                first_ms,
                factor_parts: 300,
                max_ms,
                jitter_percent,
            })
        }
    }
}
