//! What happens to a batch before its shard gets it: where a topic of it has an interceptor or a
//! dedupe plugin, the policy workers see it first.
//!
//! ```text
//!   stream ──► no plugin, and never one before ──────────────────────────────────► inbox
//!         └──► line of the stream (in order) ──► records changed, or all refused ─┐  ▲
//!                                                                 dedupe keys  ◄──┘──┘
//! ```
//!
//! A stream's batches keep their order: they are numbered. So where one has to wait for plugins,
//! those behind it wait in the same line. What waits is bounded, in bytes for each tenant.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use yard_broker::{Event, Origin};
use yard_shard::Input;
use yard_wire::batch::{self, Batch};
use yard_wire::limits::{BATCH_BYTES_MAX, LANE_BATCHES_IN_FLIGHT_MAX};
use yard_wire::record::{Flags, Record};
use yard_wire::requests::{AckNodes, AckPlace};
use yard_wire::{Code, DedupeKey, Refusal, Sequence, ShardId, TenantId};

use crate::hub::{Hub, Session, lock};
use crate::inbox::Hurry;
use crate::policy::{self, Keyed};

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
    senders: Mutex<BTreeMap<u16, mpsc::Sender<Waiting>>>,
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
        let seen = match intercepted(&hub, tenant, produce).await {
            Ok(produce) => keyed(&hub, tenant, produce).await,
            Err(refusal) => Err(refusal),
        };
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
async fn intercepted(
    hub: &Hub,
    tenant: TenantId,
    mut produce: Produce,
) -> Result<Produce, Refusal> {
    let records: Vec<Record> = produce.batch.records().collect();
    let mut changed: Vec<Option<Bytes>> = Vec::with_capacity(records.len());
    for run in records.chunk_by(|one, other| one.topic() == other.topic()) {
        let before = hub.policies.before(tenant, run[0].topic());
        match before.as_ref().and_then(|before| before.interceptor.as_ref()) {
            Some(used) => changed.extend(hub.policies.intercept(tenant, used, run.to_vec()).await?),
            None => changed.extend(run.iter().map(|_| None)),
        }
    }
    assert_eq!(changed.len(), records.len(), "every record was looked at");
    remake(&mut produce, &records, &changed).map_err(|bytes| {
        let detail = format!("plugins have made {bytes} bytes of the batch");
        Refusal::new(Code::MessageRefused, detail)
    })?;
    Ok(produce)
}

/// The batch with the keys that the dedupe plugins of its topics give its messages. Where such a
/// plugin says nothing, its message goes by the key of its sender; without one it is stored
/// unchecked, and says so where it has room for that.
///
/// # Errors
/// `PluginNotRunning` where the plugin has used up its share; `NotComparable` or
/// `PluginNotRunning` where the topic wants nothing unchecked.
async fn keyed(hub: &Hub, tenant: TenantId, mut produce: Produce) -> Result<Produce, Refusal> {
    let records: Vec<Record> = produce.batch.records().collect();
    let mut keys: BTreeMap<u32, DedupeKey> = produce.batch.dedupe_keys().iter().copied().collect();
    let mut changed: Vec<Option<Bytes>> = vec![None; records.len()];
    let mut first = 0;
    for run in records.chunk_by(|one, other| one.topic() == other.topic()) {
        let numbers = first..;
        first += run.len() as u32;
        let Some(before) = hub.policies.before(tenant, run[0].topic()) else { continue };
        let Some(used) = &before.dedupe else { continue };
        // Messages of transactions have no keys: they are not stored yet.
        let is_asked = |(_, record): &(u32, &Record)| !record.flags().has(Flags::PREPARED);
        let asked = numbers.zip(run).filter(is_asked).map(|(at, record)| (at, record.clone()));
        let (numbers, asked): (Vec<u32>, Vec<Record>) = asked.unzip();
        if asked.is_empty() {
            continue;
        }
        let said = hub.policies.key(tenant, used, asked).await?;
        for (at, said) in numbers.into_iter().zip(said) {
            match said {
                Keyed::Key(key) => {
                    keys.insert(at, key);
                }
                Keyed::Never => {
                    keys.remove(&at);
                }
                Keyed::Unchecked { why, .. } if before.is_strict => return Err((*why).clone()),
                Keyed::Unchecked { .. } if keys.contains_key(&at) => {}
                Keyed::Unchecked { version, .. } => {
                    hub.policies.unchecked(tenant, used, version, 1);
                    let record = &records[at as usize];
                    changed[at as usize] = policy::unchecked(record, &used.plugin).ok();
                }
            }
        }
    }
    // A batch without room for what it should say goes as it is.
    let _ = remake(&mut produce, &records, &changed);
    produce.batch.set_dedupe_keys(keys.into_iter().collect());
    Ok(produce)
}

/// Puts other records in place of some of a batch.
///
/// # Errors
/// The bytes that it would have, when those are too many; it stays as it is.
fn remake(
    produce: &mut Produce,
    records: &[Record],
    changed: &[Option<Bytes>],
) -> Result<(), usize> {
    if changed.iter().all(Option::is_none) {
        return Ok(());
    }
    let new = records.iter().zip(changed).map(|(old, new)| new.as_ref().unwrap_or(old.bytes()));
    let new: Vec<u8> = new.flat_map(|record| record.iter().copied()).collect();
    if batch::HEADER_BYTES + new.len() > BATCH_BYTES_MAX {
        return Err(new.len());
    }
    let bytes = batch::encode(produce.batch.header(), records.len(), &new);
    produce.batch = Batch::parse(bytes).expect("a batch that was made here is well-formed");
    produce.bytes = produce.batch.bytes().len();
    Ok(())
}
