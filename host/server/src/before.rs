//! What happens to a batch before its shard gets it: where a topic of it has an interceptor, the
//! policy workers see it first.
//!
//! ```text
//!   stream ──► no interceptor, and never one before ─────────────────────────────► inbox
//!         └──► line of the stream (in order) ──► records changed, or all refused ──► inbox
//! ```
//!
//! A stream's batches keep their order: they are numbered. So where one has to wait for plugins,
//! those behind it wait in the same line. What waits is bounded, in bytes for each tenant.
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use yard_broker::{Event, Origin};
use yard_shard::Input;
use yard_wire::batch::{self, Batch};
use yard_wire::limits::{BATCH_BYTES_MAX, LANE_BATCHES_IN_FLIGHT_MAX};
use yard_wire::record::Record;
use yard_wire::requests::{AckNodes, AckPlace};
use yard_wire::{Code, Refusal, Sequence, ShardId, TenantId};

use crate::hub::{Hub, Session, lock};
use crate::inbox::Hurry;

/// A batch, with what its sender wants.
pub(crate) struct Produce {
    /// Where the answer goes.
    pub origin: Origin,
    /// Where the bytes must be before the answer.
    pub place: AckPlace,
    /// On how many nodes.
    pub nodes: AckNodes,
    /// See [`yard_wire::requests::Produce::floor`].
    pub floor: Sequence,
    /// The batch.
    pub batch: Batch,
    /// What it took on the wire.
    pub bytes: usize,
}

/// A batch in a line, and its share of what the tenant may have waiting.
struct Waiting {
    produce: Produce,
    _room: OwnedSemaphorePermit,
}

/// The lines of one session: of each stream that ever had to wait for a plugin.
#[derive(Default)]
pub(crate) struct Lines {
    senders: Mutex<HashMap<u16, mpsc::Sender<Waiting>>>,
    is_used: AtomicBool,
}

impl Lines {
    fn is_used(&self, stream: u16) -> bool {
        self.is_used.load(Ordering::Relaxed) && lock(&self.senders).contains_key(&stream)
    }
}

/// Gives a batch to its shard, at once or when plugins have seen it.
///
/// # Errors
/// Where the shard does not take it, or too much of the tenant waits for plugins.
pub(crate) fn put(hub: &Arc<Hub>, session: &Session, produce: Produce) -> Result<(), Refusal> {
    let (tenant, stream) = (session.tenant, produce.origin.stream);
    let has_plugins = hub.policies.is_before(tenant, &produce.batch);
    if !has_plugins && !session.lines.is_used(stream) {
        return offer(hub, tenant, produce);
    }
    let bytes = u32::try_from(produce.bytes).expect("a batch fits a frame");
    let busy = || Refusal::after(Code::Busy, 10, "too much of this tenant waits for plugins");
    let room = hub.policies.room_before(tenant).try_acquire_many_owned(bytes);
    let room = room.map_err(|_| busy())?;
    let mut senders = lock(&session.lines.senders);
    let sender = senders.entry(stream).or_insert_with(|| {
        session.lines.is_used.store(true, Ordering::Relaxed);
        let (to, from) = mpsc::channel(LANE_BATCHES_IN_FLIGHT_MAX);
        hub.runtime.spawn(run(Arc::clone(hub), tenant, from));
        to
    });
    sender.try_send(Waiting { produce, _room: room }).map_err(|_| busy())
}

async fn run(hub: Arc<Hub>, tenant: TenantId, mut from: mpsc::Receiver<Waiting>) {
    while let Some(Waiting { produce, _room }) = from.recv().await {
        let origin = produce.origin;
        let seen = intercepted(&hub, tenant, produce).await;
        if let Err(refusal) = seen.and_then(|produce| offer(&hub, tenant, produce)) {
            hub.reply(origin, Err(refusal));
        }
    }
}

fn offer(hub: &Hub, tenant: TenantId, produce: Produce) -> Result<(), Refusal> {
    let Produce { origin, place, nodes, floor, batch, bytes } = produce;
    let shard = batch.header().shard;
    let inbox = hub.inbox(shard).ok_or_else(|| no_shard(shard))?;
    let event = Event::Produce { origin, tenant, place, nodes, floor, batch };
    let hurry = match place {
        AckPlace::Synced => Hurry::AfterSync,
        AckPlace::Memory | AckPlace::Written => Hurry::Urgent,
    };
    inbox.offer(tenant, bytes, hurry, Input::Event(event))
}

/// The answer to who asks for a shard that is not here.
pub(crate) fn no_shard(shard: ShardId) -> Refusal {
    Refusal::new(Code::WrongShard, format!("this broker has no shard {shard}"))
}

/// The batch as the interceptors of its topics leave it.
async fn intercepted(hub: &Hub, tenant: TenantId, produce: Produce) -> Result<Produce, Refusal> {
    let records: Vec<Record> = produce.batch.records().collect();
    let mut changed: Vec<Option<Bytes>> = Vec::with_capacity(records.len());
    for run in records.chunk_by(|one, other| one.topic() == other.topic()) {
        match hub.policies.before(tenant, run[0].topic()) {
            Some(before) => changed.extend(hub.policies.intercept(&before, run.to_vec()).await?),
            None => changed.extend(run.iter().map(|_| None)),
        }
    }
    assert_eq!(changed.len(), records.len(), "every record was looked at");
    if changed.iter().all(Option::is_none) {
        return Ok(produce);
    }
    let new = records.iter().zip(&changed).map(|(old, new)| new.as_ref().unwrap_or(old.bytes()));
    let new: Vec<u8> = new.flat_map(|record| record.iter().copied()).collect();
    if batch::HEADER_BYTES + new.len() > BATCH_BYTES_MAX {
        let detail = format!("plugins have made {} bytes of the batch", new.len());
        return Err(Refusal::new(Code::MessageRefused, detail));
    }
    let bytes = batch::encode(produce.batch.header(), records.len(), &new);
    let batch = Batch::parse(bytes).expect("a batch that was made here is well-formed");
    Ok(Produce { bytes: batch.bytes().len(), batch, ..produce })
}
