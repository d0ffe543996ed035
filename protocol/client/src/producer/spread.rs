//! Queues change their lanes when there are more streams, and no message overtakes another.
//!
//! ```text
//!   more streams ──► ask for all of the budget ──► it is whole: nothing has no answer
//!                    (who comes later stands behind)     └─► queues have new lanes; give it back
//! ```
//!
//! A queue is in one lane, and a lane keeps its order; so a queue may change its lane when every
//! message of it in the old one has its answer. A message has a share of the producer's budget
//! from before its lane is looked up until its answer is there, and the budget serves in the order
//! of asking: whoever holds all of it knows that nothing is under way. All queues of a producer
//! change together; that happens a few times in the life of a connection, and costs a message
//! nothing at any other time.
//!
//! Where a message was given up without an answer, it may still arrive: then the queues stay where
//! they are, and change at the next occasion on another connection.
use std::sync::Arc;

use yard_wire::{Lane, QueueIndex};

use super::{Routing, Shared};

/// After a change that could not be, queues stay for so long, in milliseconds.
const STAY_MS: u64 = 5_000;

/// Over how many lanes queues are spread.
#[derive(Debug)]
pub(super) struct State {
    streams: u16,
    /// A task waits for the budget.
    is_changing: bool,
    /// Queues stay where they are until then.
    stay_until_ms: u64,
}

impl State {
    pub(super) fn new(streams: u16) -> Self {
        assert!(streams > 0, "there is always a stream");
        Self { streams, is_changing: false, stay_until_ms: 0 }
    }

    /// The lane of a queue.
    pub(super) fn lane(&self, queue: QueueIndex) -> Lane {
        Lane(queue.0 % self.streams)
    }
}

/// Begins the change to as many lanes as the client has streams, unless it goes on already.
pub(super) fn follow(shared: &Arc<Shared>, routing: &mut Routing, now_ms: u64) {
    let wanted = shared.client.streams.wanted();
    let state = &mut routing.spread;
    if wanted <= state.streams || state.is_changing || now_ms < state.stay_until_ms {
        return;
    }
    state.is_changing = true;
    shared.runtime.spawn(change(shared.clone(), wanted));
}

async fn change(shared: Arc<Shared>, streams: u16) {
    // What lingers would hold up everything that comes.
    let lanes = shared.lanes();
    let flushed: Vec<_> = lanes.iter().filter_map(|lane| lane.flush().ok()).collect();
    let all = u32::try_from(shared.budget_bytes).expect("at most 1 GiB");
    let Ok(_whole) = shared.budget.acquire_many(all).await else {
        // A lane has panicked, and the producer is over.
        return;
    };
    drop(flushed);
    // Lanes that came since have had their answers too.
    let lanes = shared.lanes();
    shared.with_routing(|routing| {
        routing.spread.is_changing = false;
        if lanes.iter().all(|lane| lane.is_settled()) {
            routing.spread.streams = streams;
            routing.by_queue.fill(None);
        } else {
            routing.spread.stay_until_ms = shared.client.now_ms() + STAY_MS;
        }
    });
}
