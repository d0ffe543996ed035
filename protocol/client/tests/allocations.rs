//! What a message costs in allocations: nothing of its own. The only test of this binary: what
//! others allocate would be counted.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]
#[allow(dead_code, reason = "only some of it is needed here")]
mod fake;

use std::alloc::System;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fake::Fake;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use yard_client::lane::{LaneCore, LaneOptions, LaneRecord};
use yard_client::{Message, QueueIndex, QueueOffset};
use yard_wire::batch::BatchHeader;
use yard_wire::limits::BATCH_RECORDS_MAX;
use yard_wire::requests::{Placed, Produced};
use yard_wire::{ShardId, TopicId};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 10_000;
/// What buffers that double as they grow, timers and keep-alives may take meanwhile.
const ANYWAY: usize = 200;
/// Allocations of a batch from its first record to its completion.
const PER_BATCH: usize = 8;

fn allocated(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.allocations + change.reallocations
}

/// Enqueues, and later takes the results of, so many messages that make one batch.
async fn enqueueing_and_awaiting() {
    let fake = Fake::start(&[0, 0]);
    let client = fake.client(1).await;
    let producer = client.producer("orders").batch_records(BATCH_RECORDS_MAX);
    let producer = producer.batch_bytes(4 << 20).linger_ms(600_000).build().await.unwrap();
    let body = Bytes::from(vec![7; 100]);
    let message = |number: usize| Message::new(body.clone()).key(format!("{number}")).tag("t");
    let messages: Vec<_> = (0..MESSAGES).map(message).collect();
    let mut receipts = Vec::with_capacity(MESSAGES);

    let region = Region::new(ALLOCATOR);
    for message in messages {
        receipts.push(producer.enqueue(message).await.unwrap());
    }
    let enqueued = allocated(&region);
    assert!(enqueued <= ANYWAY, "{enqueued} for {MESSAGES} messages");
    producer.flush().await.unwrap();
    assert_eq!(fake.state().batch_records, [MESSAGES]);
    let region = Region::new(ALLOCATOR);
    let mut offsets = [0; 2];
    for receipt in receipts {
        let sent = receipt.await.unwrap();
        let next = &mut offsets[usize::from(sent.queue.0)];
        assert_eq!(sent.offset, Some(QueueOffset(*next)));
        *next += 1;
    }
    let awaited = allocated(&region);
    assert!(awaited <= ANYWAY, "{awaited} for {MESSAGES} results");
    client.close().await;
}

/// The way of batches through a lane.
fn batches() {
    let mut lane = LaneCore::new(BatchHeader::default(), LaneOptions::default(), 1);
    lane.on_connect();
    let record = vec![1; 300];
    let round = |lane: &mut LaneCore, first: u64| {
        for _ in 0..500 {
            let (topic, queue) = (TopicId(1), QueueIndex(3));
            let fields = LaneRecord { topic, queue, bytes: record.len(), parked: false };
            lane.push(fields, 0, |out: &mut BytesMut| out.extend_from_slice(&record));
        }
        let sent = lane.next_to_send(0).expect("the window is empty");
        let placed = Placed {
            topic: TopicId(1),
            queue: QueueIndex(3),
            first: QueueOffset(first),
            count: 500,
        };
        let (place, nodes) = (sent.produce.place, sent.produce.nodes);
        let (shard, duplicate, placed) = (ShardId(0), false, vec![placed]);
        let produced = Produced { shard, place, nodes, duplicate, placed, originals: vec![] };
        drop(sent.produce);
        lane.on_reply(sent.attempt, Ok(produced), 0);
        let done = lane.next_completion().expect("answered").result.expect("stored");
        assert_eq!(
            (done.offsets[0].unwrap().0, done.offsets[499].unwrap().0),
            (first, first + 499)
        );
    };
    (0..4).for_each(|number| round(&mut lane, number * 500));
    let region = Region::new(ALLOCATOR);
    (4..104).for_each(|number| round(&mut lane, number * 500));
    let change = region.change();
    let each = (change.allocations + change.reallocations).div_ceil(100);
    assert!(each <= PER_BATCH, "{each} for a batch");
    let bytes = change.bytes_allocated / 100;
    assert!(bytes < 300 * 500 / 4, "{bytes} bytes for a batch: its memory is not used again");
}

#[test]
fn what_a_message_allocates_is_bounded_by_its_batch() {
    batches();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let within = tokio::time::timeout;
    runtime
        .block_on(async { within(Duration::from_secs(20), enqueueing_and_awaiting()).await })
        .expect("it does not hang");
}
