//! The durable state as bytes.
//!
//! ```text
//! offset size field
//!      0    4 magic      "YBS1"
//!      4    2 shard
//!      6    1 metadata   1 in the metadata shard: the metadata follows; else 0
//!      7    . metadata   (meta_table.rs)
//!      .    . producers  (producer.rs)
//!      .    . groups     (group/mod.rs)
//!      .    . removed    topics, `u32` count and `u32` each
//!      .    . timers     (timers.rs)
//!      .    . transactions   (transaction/mod.rs)
//!      .    . windows    of topics (windows.rs)
//!      .    . settled    keys of groups (windows.rs)
//! ```
use bytes::Bytes;
use yard_wire::codec::take_bytes;
use yard_wire::share::Share;
use yard_wire::{Malformed, ShardId, TopicId, Wire};

use crate::broker::{Broker, BrokerConfig, METADATA_SHARD};
use crate::group::Groups;
use crate::group::claims::SettledKeys;
use crate::meta_table::MetaTable;
use crate::producer::Producers;
use crate::saving::Snapshot;
use crate::timers::Timers;
use crate::transaction::Transactions;
use crate::windows::Windows;

const MAGIC: [u8; 4] = *b"YBS1";

pub(crate) fn of(broker: &Broker) -> Snapshot {
    let mut out = Snapshot::default();
    out.now().extend_from_slice(&MAGIC);
    broker.config.shard.put(out.now());
    let owns_metadata = broker.config.shard == METADATA_SHARD;
    owns_metadata.put(out.now());
    if owns_metadata {
        broker.meta.put(out.now());
    }
    broker.producers.put(out.now());
    broker.groups.save(&mut out);
    broker.removed.iter().copied().collect::<Vec<TopicId>>().put(out.now());
    broker.timers.save(&mut out);
    broker.transactions.put(out.now());
    broker.windows.save(&mut out);
    broker.settled_keys.save(&mut out);
    out
}

pub(crate) fn read(config: BrokerConfig, mut input: Bytes) -> Result<Broker, Malformed> {
    let magic = take_bytes(&mut input, MAGIC.len())?;
    if magic[..] != MAGIC {
        return Err(Malformed::Field { what: "magic of a snapshot", value: magic[0].into() });
    }
    let shard = ShardId::take(&mut input)?;
    if shard != config.shard {
        return Err(Malformed::Field { what: "shard of a snapshot", value: shard.0.into() });
    }
    let mut broker = Broker::new(config);
    if bool::take(&mut input)? {
        broker.meta = MetaTable::take(config.seed, &mut input)?;
    }
    broker.producers = Producers::take(&mut input)?;
    broker.groups = Groups::take(&mut input)?;
    broker.removed = Vec::<TopicId>::take(&mut input)?.into_iter().collect();
    broker.timers = Timers::take(&mut input)?;
    broker.transactions = Transactions::take(&mut input)?;
    broker.windows = Windows::take(&mut input)?;
    broker.settled_keys = SettledKeys::take(&mut input)?;
    let topics: Vec<TopicId> = broker.groups.topics().collect();
    for topic in topics {
        broker.groups.resize(topic, 0, broker.queue_count_here(topic));
    }
    let shares = broker.meta.topics().map(|topic| (topic.topic, topic.settings.trace));
    let shares: Vec<(TopicId, Share)> = shares.collect();
    shares.into_iter().for_each(|(topic, share)| broker.traces.set(topic, share));
    if !input.is_empty() {
        return Err(Malformed::Trailing { left: input.len() as u64 });
    }
    assert!(broker.subscriptions.is_empty(), "what is volatile begins empty");
    Ok(broker)
}
