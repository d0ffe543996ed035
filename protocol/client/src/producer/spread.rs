//! Queues change their lanes when there are more streams, and no message overtakes another.
//!
//! ```text
//!   more streams ──► park what comes ──► every lane: take back what was not sent,
//!                                        wait for the answers of what was
//!                ◄── all of it, in order, to the new lanes of its queues ◄──┘
//! ```
//!
//! A queue is in one lane, and a lane keeps its order; so a queue may change its lane when every
//! message of it in the old one has its answer. All queues of a producer change together: that
//! takes one round trip, happens a few times in the life of a connection, and costs a message
//! nothing at any other time. What is taken back had no place in any numbering, so numbering knows
//! nothing of the change.
//!
//! Where a message was given up without an answer, it may still arrive: then the queues stay where
//! they are, and change at the next occasion on another connection.
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::lane_task::{Command, Left};
use super::{Lanes, Shared};
use crate::Error;

/// After a change that could not be, queues stay for so long, in milliseconds.
const STAY_MS: u64 = 5_000;

/// Begins the change to as many lanes as the client has streams, unless it goes on already: what
/// comes from now on is parked.
pub(super) fn begin(shared: &Arc<Shared>, lanes: &mut Lanes) {
    if lanes.parked.is_some() || shared.client.now_ms() < lanes.stay_until_ms {
        return;
    }
    lanes.parked = Some(Vec::new());
    lanes.moves += 1;
    let streams = shared.client.streams.wanted();
    assert!(streams > lanes.streams, "there are more streams, never less");
    let open = lanes.open.values().cloned().collect();
    let moving = shared.client.moving();
    let shared = shared.clone();
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        let (left, may_change) = leave(open).await;
        shared.with_lanes(|lanes| {
            if may_change {
                lanes.streams = streams;
            } else {
                lanes.stay_until_ms = shared.client.now_ms() + STAY_MS;
            }
            settle(&shared, lanes, left);
        });
        drop(moving);
    });
}

/// Waits until nothing is under way in any lane. What was not sent, in order, and whether queues
/// may change their lanes.
async fn leave(open: Vec<mpsc::Sender<Command>>) -> (Vec<Left>, bool) {
    let mut asked = Vec::with_capacity(open.len());
    for lane in open {
        let (left, when) = oneshot::channel();
        // A lane that has ended has nothing under way: the client was closed.
        if lane.send(Command::Leave(left)).await.is_ok() {
            asked.push(when);
        }
    }
    let mut all = Vec::with_capacity(asked.len());
    for when in asked {
        all.extend(when.await.ok());
    }
    let may_change = all.iter().all(|left| left.is_settled);
    (all, may_change)
}

/// Puts everything that waits into its lane: what was taken back came before what was parked.
fn settle(shared: &Shared, lanes: &mut Lanes, left: Vec<Left>) {
    let parked = lanes.parked.take().expect("it was parked until now");
    for left in left {
        for record in left.records {
            enter(shared, lanes, left.shard, record);
        }
    }
    for (shard, record) in parked {
        enter(shared, lanes, shard, record);
    }
}

fn enter(
    shared: &Shared,
    lanes: &mut Lanes,
    shard: yard_wire::ShardId,
    record: super::lane_task::Record,
) {
    // Dropped with its record, the receipt tells that the client was closed.
    if let Err(Error { code, detail, .. }) = shared.enter(lanes, shard, record) {
        tracing::debug!(%code, detail, "a message lost its lane");
    }
}
