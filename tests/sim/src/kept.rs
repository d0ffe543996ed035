//! Runs that are kept: each brings about what was once found wrong, whatever the plans of seeds are
//! drawn like by now. Only delays and what clients do depend on the seed.
use yard_wire::requests::AckPlace;
use yard_wire::retry::{Attempts, RetryPolicy};
use yard_wire::share::Share;

use crate::agenda::{MS, SECOND};
use crate::network::Weather;
use crate::plan::{ConsumerPlan, Fault, Plan, ProducerPlan};
use crate::world::{Outcome, World};

/// A run that is kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// What must hold in it.
    pub name: &'static str,
    plan: fn() -> Plan,
}

/// All of them.
pub const ALL: &[Kept] = &[
    Kept { name: "what a filter held is late in the wide topic as well", plan: held },
    Kept {
        name: "what a filter held comes first, also where it must be looked for",
        plan: unplaced,
    },
];

impl Kept {
    /// Carries it out once.
    #[must_use]
    pub fn run(&self, seed: u64) -> Outcome {
        World::new(Plan { seed, ..(self.plan)() }, None, false).run()
    }
}

fn producer() -> ProducerPlan {
    ProducerPlan {
        place: AckPlace::Synced,
        lanes: 1,
        messages: 200,
        burst: 3,
        pause: 12 * MS,
        body_bytes: 100,
        order_groups: 0,
        delayed: 0,
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
        in_flight: 64,
        batch_records: 4,
        attempt_ms: 300,
        delivery_ms: 120_000,
    }
}

fn consumer(group: u64, topic: u32) -> ConsumerPlan {
    ConsumerPlan {
        group,
        topic,
        credit: 64,
        credit_bytes: 1 << 20,
        lease_ms: 8_000,
        think: 2 * MS,
        nack_percent: 0,
        reject_percent: 0,
        late_percent: 0,
        dies_one_in: 0,
        is_picky: false,
        keeps_percent: 0,
        drops_failed: false,
    }
}

fn plan() -> Plan {
    Plan {
        seed: 0,
        shards: 1,
        queues: 6,
        topics: 1,
        segment_bytes: 64 << 10,
        ordered: vec![None],
        order_retry_ms: 1,
        traced: vec![false],
        trace_share: Share::WHOLE,
        lives: 0,
        retain_bytes: vec![0],
        producers: vec![producer()],
        consumers: vec![consumer(0, 0)],
        groups: 1,
        broadcast: Vec::new(),
        compares: vec![false],
        wide_queues: 0,
        returns: false,
        retry: RetryPolicy::List(vec![50]),
        attempts: Attempts(0),
        keys_by_plugin: false,
        tx_groups: 1,
        checks_by_plugin: false,
        readers: 0,
        meddles: false,
        clerks: 0,
        batches_waiting: usize::MAX,
        weather: Weather { delay: 20 * MS, loss_one_in: 50, replay_one_in: 0 },
        sync: 10 * MS,
        io: 200,
        drift_ppm: 0,
        rots_one_in: 0,
        faults: Vec::new(),
        heal_at: 2 * SECOND,
    }
}

/// Red at the first seed where a run is over before the wide topic is decided.
///
/// A filter holds messages of a queue that members share. The clock is set back, so they wait,
/// and go on from the wide topic, after others of their order group.
fn held() -> Plan {
    let picky = ConsumerPlan { is_picky: true, credit_bytes: 1, think: 100, ..consumer(0, 0) };
    let clock = (250 * MS, Fault::Clock { by_ms: -2_500 });
    let drain = |at| (at, Fault::Drain { group: 0 });
    Plan {
        queues: 4,
        producers: vec![ProducerPlan { order_groups: 3, pause: 6 * MS, ..producer() }; 2],
        consumers: vec![picky.clone(), ConsumerPlan { credit: 1_000, ..picky.clone() }, picky],
        wide_queues: 5,
        weather: Weather { delay: 300, loss_one_in: 500, replay_one_in: 0 },
        sync: 500,
        io: 20,
        faults: vec![clock, drain(600 * MS), drain(900 * MS)],
        ..plan()
    }
}

/// Red at the fifth seed where new messages do not wait for those whose places must be asked for.
///
/// Segments go while a filter holds messages of transactions, which may be elsewhere from then on.
fn unplaced() -> Plan {
    let picky = ConsumerPlan {
        is_picky: true,
        credit: 8,
        credit_bytes: 4_000,
        think: 30 * MS,
        ..consumer(0, 0)
    };
    let producer =
        ProducerPlan { lanes: 4, body_bytes: 6_000, transactional: 80, burst: 1, ..producer() };
    Plan {
        retain_bytes: vec![20_000],
        producers: vec![producer],
        consumers: vec![picky],
        weather: Weather { delay: 50, loss_one_in: 0, replay_one_in: 0 },
        sync: 100,
        ..plan()
    }
}
