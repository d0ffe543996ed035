//! A dedupe plugin, decided natively where the server asks one: which messages are the same. Now
//! and then it says that it has no time, and the batch comes again.
use yard_wire::batch::Batch;
use yard_wire::record::{DEDUPE, Flags};
use yard_wire::{Code, DedupeKey, Refusal};

use super::Host;
use crate::base::{Base, Phase};
use crate::planted;

/// Once in so many batches it has none.
const BUSY_ONE_IN: u64 = 25;
/// The keyspace of its only version.
const KEYSPACE: u32 = 1;

impl Host {
    /// Gives the messages of a batch their keys.
    ///
    /// # Errors
    /// Where it has no time.
    pub(super) fn key(&mut self, base: &Base, batch: &mut Batch) -> Result<(), Refusal> {
        if !base.plan.keys_by_plugin {
            return Ok(());
        }
        if base.phase < Phase::Drain && self.random.once_in(BUSY_ONE_IN) {
            let wait_ms = self.random.range(1, 40) as u32;
            return Err(Refusal::after(Code::PluginNotRunning, wait_ms, "no time"));
        }
        let mut keys = Vec::new();
        for (number, record) in (0u32..).zip(batch.records()) {
            let key = record.property(DEDUPE).filter(|_| !record.flags().has(Flags::PREPARED));
            keys.extend(key.map(|key| (number, DedupeKey::of_plugin(KEYSPACE, key.as_bytes()))));
        }
        planted::alter_keys(base, &mut keys);
        batch.set_dedupe_keys(keys);
        Ok(())
    }
}
