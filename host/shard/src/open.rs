//! Opening a shard: the checkpoint's state, then every entry after it.
use thiserror::Error;
use yard_broker::{Applied, Broker, BrokerConfig, Entry, QueueTail};
use yard_store::{Checkpoint, Disk, Opened, Parked, Recovered, Repair, Store, StoreConfig};
use yard_wire::record::Record;
use yard_wire::{Malformed, ShardId, Timestamp};

use crate::Shard;
use crate::output::Output;
use crate::waiting::Waiting;

/// The largest share of a segment that is kept for what is not a batch, on a full disk.
const RESERVE_BYTES_MAX: u64 = 8 << 20;

/// What a shard must know from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardConfig {
    /// Which shard it is.
    pub shard: ShardId,
    /// How many shards the installation has.
    pub shards: u16,
    /// Bytes of a segment of the log, see `StoreConfig::segment_bytes`.
    pub segment_bytes: u64,
    /// Randomness, drawn anew at each start.
    pub seed: u64,
    /// The hour of the day, UTC, in which what topics' limits expire is removed; none: any.
    pub retention_hour: Option<u8>,
}

/// Why a shard could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] yard_store::OpenError),
    /// The state in the checkpoint is not understood, though its checksum holds.
    #[error("the state in the checkpoint cannot be read: {0}")]
    State(Malformed),
}

/// A shard that was opened.
pub struct OpenedShard {
    /// The shard.
    pub shard: Shard,
    /// What it wants done to begin with.
    pub outputs: Vec<Output>,
    /// What had to be put right in the log.
    pub repairs: Vec<Repair>,
    /// Entries that were replayed.
    pub replayed: u64,
}

impl Shard {
    /// Opens a shard, or creates it on an empty disk. What is durable is found again; it may have
    /// to be made so by a sync first.
    ///
    /// # Errors
    /// [`OpenError`]; nothing durable was changed then.
    pub fn open(
        disk: &dyn Disk,
        config: ShardConfig,
        now: Timestamp,
    ) -> Result<OpenedShard, OpenError> {
        assert!(config.shard.0 < config.shards, "a shard is one of the shards");
        let store_config = StoreConfig {
            shard: config.shard,
            segment_bytes: config.segment_bytes,
            reserve_bytes: (config.segment_bytes / 16).min(RESERVE_BYTES_MAX),
            salt_seed: config.seed,
        };
        let broker_config = BrokerConfig {
            shard: config.shard,
            shards: config.shards,
            seed: config.seed,
            replicated: false,
        };
        let checkpoint = Store::read_checkpoint(disk, &store_config)?;
        let mut broker = restore(broker_config, checkpoint.as_ref())?;
        let mut replayed = 0;
        let mut opened =
            Store::open(disk, store_config, checkpoint.as_ref(), &mut |entry: Recovered| {
                replayed += 1;
                apply(&mut broker, entry)
            })?;
        let (tails, firsts) = ends(&opened.store);
        let ahead = broker.recovered(tails, firsts).into_iter();
        let ahead: Vec<_> = ahead.map(|tail| (tail.topic, tail.queue, tail.end)).collect();
        opened.prove_ends(&ahead);
        let Opened { store, io, repairs } = opened;
        broker.forget_parked_below(store.first_segment());
        broker.check();
        let shard = Self {
            shard: config.shard,
            broker,
            waiting: Waiting::default(),
            // Where the clock was set back while the process was down, time goes on from the log.
            now: now.max(store.last_stored()),
            appended: store.synced_group(),
            written: store.synced_group(),
            store,
            broker_wakes_at: Some(Timestamp(0)),
            idle_group_at: None,
            retention: Default::default(),
            retention_hour: config.retention_hour,
            space_retry_at: None,
            announced_wake: None,
            effects: Vec::new(),
            events: Vec::new(),
        };
        assert!(shard.store.gathered_bytes() == 0, "nothing is gathered yet");
        let outputs = io.into_iter().map(Output::Io).collect();
        Ok(OpenedShard { shard, outputs, repairs, replayed })
    }
}

fn restore(config: BrokerConfig, checkpoint: Option<&Checkpoint>) -> Result<Broker, OpenError> {
    match checkpoint {
        Some(saved) => {
            assert_eq!(saved.shard, config.shard, "the store checked whose checkpoint it is");
            yard_wire::mark!(OpenRestored);
            let restored = Broker::restore(config, saved.state.clone());
            restored.map_err(|why| {
                yard_wire::mark!(OpenStateBad);
                OpenError::State(why)
            })
        }
        None => Ok(Broker::new(config)),
    }
}

fn apply(broker: &mut Broker, entry: Recovered) -> Result<(), Malformed> {
    let Recovered { kind, tenant, notes, payload, placed, parked, carried, stored, .. } = entry;
    if !carried.is_empty() {
        carried.into_iter().for_each(|it| broker.apply_carried(it.token.0, it.target));
        return Ok(());
    }
    let applied = Applied { placed, stored };
    // Of a batch the header is enough, and those of its records that wait.
    if kind == Entry::BATCH {
        let (header, count) = yard_wire::batch::parse_header(&payload)?;
        if notes.is_empty() {
            broker.apply_batch(tenant, &header, count, &applied);
        } else {
            let dedupe = Broker::read_notes(notes)?;
            broker.apply_deduped(tenant, &header, &dedupe, &applied);
        }
        for Parked { target, record } in parked {
            broker.apply_parked(tenant, target, &Record::parse(record)?);
        }
    } else {
        let entry = Entry::decode(kind, tenant, payload)?;
        broker.apply(&entry, &applied);
    }
    Ok(())
}

type Ends =
    (Vec<QueueTail>, Vec<(yard_wire::TopicId, yard_wire::QueueIndex, yard_wire::QueueOffset)>);

fn ends(store: &Store) -> Ends {
    let mut tails = Vec::new();
    let mut firsts = Vec::new();
    for (topic, queue, first, end) in store.queues() {
        assert!(first <= end, "a queue begins before it ends");
        tails.push(QueueTail { topic, queue, end });
        firsts.push((topic, queue, first));
    }
    (tails, firsts)
}
