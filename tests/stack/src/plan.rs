//! What a seed means: sizes, how bad the line is, what goes wrong and when.
use std::time::Duration;

use yard_checker::CrashKind;
use yard_client::Ack;
use yard_sim::Random;

/// How packets fare.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// One way, in milliseconds, at least.
    pub delay_ms: u64,
    /// What may come on top.
    pub jitter_ms: u64,
    /// Packets of 1,000 that are lost.
    pub lost: u64,
    /// Packets of 1,000 that arrive twice.
    pub doubled: u64,
    /// Packets of 1,000 that may be overtaken: the others of a way keep their order.
    pub overtaken: u64,
    /// Bytes of UDP payload that the way carries.
    pub mtu_bytes: usize,
}

/// Which ways a cut concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Nothing passes.
    Both,
    /// Nothing from the client reaches the broker.
    ToBroker,
    /// Nothing from the broker reaches the client.
    ToClient,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A client is cut off, for so many milliseconds; with `None`, all are.
    Cut {
        /// Which client.
        client: Option<usize>,
        /// Which ways.
        ways: Ways,
        /// For how long.
        ms: u64,
    },
    /// A client gets another address on its way, as from a router that forgot it.
    Move {
        /// Which client.
        client: usize,
    },
    /// A client goes to another socket by itself.
    Rebind {
        /// Which client.
        client: usize,
    },
    /// The broker dies, and is started again after so many milliseconds.
    Crash {
        /// What is lost.
        kind: CrashKind,
        /// For how long it is away.
        ms: u64,
    },
    /// The broker is stopped in good order and started again.
    Restart {
        /// For how long it is away.
        ms: u64,
    },
    /// Everything on the disks takes many times as long, for so many milliseconds.
    SlowDisk {
        /// How many times.
        factor: u64,
        /// For how long.
        ms: u64,
    },
}

/// A run, drawn from a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Operations of clients, about: sends, deliveries and settlements.
    pub operations: u64,
    /// Commit logs.
    pub shards: u16,
    /// Queues of the topic.
    pub queues: u16,
    /// Bytes of a segment of a log: small ones are full after some batches.
    pub segment_bytes: u64,
    /// Clients that send, each with what its answers wait for.
    pub producers: Vec<Ack>,
    /// Clients that consume, all of one group.
    pub consumers: usize,
    /// Data streams of a client; `None`: as many as the way asks for.
    pub streams: Option<u16>,
    /// The line.
    pub line: Line,
    /// A connection that is silent for so long is dead, in milliseconds.
    pub idle_ms: u32,
    /// How long a group's sync takes, typically, in microseconds.
    pub sync_us: u64,
    /// Milliseconds over which sending is spread.
    pub sending_ms: u64,
    /// Bytes of a body, at most.
    pub body_bytes: u64,
    /// The topic delivers the messages of an order group one after another.
    pub is_ordered: bool,
    /// Messages of 100 that are delayed,
    pub delayed: u64,
    /// that have a dedupe key which others have as well,
    pub keyed: u64,
    /// with which a transaction begins.
    pub transactional: u64,
    /// Deliveries of 1,000 that fail, or are forgotten.
    pub failing: u64,
    /// Deliveries of a message at most; 0: as many as it takes.
    pub attempts: u32,
    /// When a message that failed or was forgotten comes again, in milliseconds, each time.
    pub retry_ms: &'static [u32],
    /// What goes wrong, and when, in milliseconds after clients begin.
    pub faults: Vec<(Duration, Fault)>,
}

impl Plan {
    /// Clients with a connection of their own: those that send, then those that consume.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.producers.len() + self.consumers
    }

    /// The run of a seed. Each run turns some faults on and others off.
    #[must_use]
    pub fn draw(seed: u64, operations: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_0f57_ac4b_0001);
        let producers = random.range(1, 2);
        let levels = [Ack::Synced, Ack::Synced, Ack::Written, Ack::Memory];
        let sending_ms = random.pick(&[50, 500, 3_000, 10_000]);
        let mut plan = Self {
            seed,
            operations,
            shards: random.range(1, 2) as u16,
            queues: random.range(1, 4) as u16,
            segment_bytes: random.pick(&[64 << 10, 64 << 10, 256 << 10, 1 << 20]),
            producers: (0..producers).map(|_| random.pick(&levels)).collect(),
            consumers: random.range(1, 2) as usize,
            streams: random.pick(&[None, Some(1), Some(3)]),
            line: line(&mut random),
            idle_ms: random.pick(&[4_000, 10_000, 30_000]),
            sync_us: random.pick(&[100, 2_000, 20_000]),
            sending_ms,
            body_bytes: random.pick(&[100, 1_000, 1_000, 20_000]),
            is_ordered: random.percent(25),
            delayed: random.pick(&[0, 0, 10, 40]),
            keyed: random.pick(&[0, 0, 10, 40]),
            transactional: random.pick(&[0, 0, 10, 40]),
            failing: random.pick(&[0, 50, 200]),
            attempts: random.pick(&[0, 0, 2, 4]),
            retry_ms: random.pick(&[&[1], &[50, 500]]),
            faults: Vec::new(),
        };
        plan.faults = faults(&mut random, &plan);
        plan
    }

    /// Bytes of a batch: a segment holds some.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        (self.segment_bytes / 4) as usize
    }

    /// Messages that all producers together send: each is also delivered and settled.
    #[must_use]
    pub fn messages(&self) -> u64 {
        (self.operations / 3).max(1)
    }
}

fn line(random: &mut Random) -> Line {
    let delay_ms = random.pick(&[0, 1, 10, 40, 150]);
    let rate = |random: &mut Random, rates: &[u64]| {
        if random.percent(50) { 0 } else { random.pick(rates) }
    };
    Line {
        delay_ms,
        jitter_ms: random.pick(&[0, 0, 1, 20]),
        lost: rate(random, &[2, 20, 100, 250]),
        doubled: rate(random, &[10, 100]),
        overtaken: rate(random, &[20, 200]),
        mtu_bytes: random.pick(&[1_200, 1_350, 1_500, 1_500]),
    }
}

fn faults(random: &mut Random, plan: &Plan) -> Vec<(Duration, Fault)> {
    let count = random.pick(&[0, 1, 2, 3, 5]);
    // Each run knows some kinds of faults and not others.
    let kinds: Vec<u64> = (0..6).filter(|_| random.percent(50)).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    let clients = plan.clients() as u64;
    let mut faults: Vec<(Duration, Fault)> = (0..count)
        .map(|_| {
            let client = random.below(clients) as usize;
            let fault = match random.pick(&kinds) {
                0 => Fault::Cut {
                    client: (!random.once_in(3)).then_some(client),
                    ways: random.pick(&[Ways::Both, Ways::Both, Ways::ToBroker, Ways::ToClient]),
                    ms: random.pick(&[50, 500, 3_000, 15_000, 40_000]),
                },
                1 => Fault::Move { client },
                2 => Fault::Rebind { client },
                3 => Fault::Crash {
                    kind: random.pick(&[CrashKind::Process, CrashKind::Power]),
                    ms: random.pick(&[0, 20, 1_000, 6_000]),
                },
                4 => Fault::Restart { ms: random.pick(&[0, 500]) },
                _ => Fault::SlowDisk {
                    factor: random.pick(&[10, 100]),
                    ms: random.pick(&[500, 5_000]),
                },
            };
            (Duration::from_millis(random.below(plan.sending_ms + 2_000)), fault)
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}
