//! Checkpoints: the shard's state beside the log, so that a start need not replay all of it.
use bytes::Bytes;
use yard_wire::GroupNumber;

use super::Store;
use crate::config::CHECKPOINT_BYTES;
use crate::format::checkpoint::Checkpoint;
use crate::io::Io;

impl Store {
    /// The shard should give a checkpoint now: enough was appended since the last one, and every
    /// entry is in a closed group, so that the state is the state after that group.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        let saving = &self.saving;
        if self.fenced || saving.writing || saving.waiting.is_some() {
            return false;
        }
        if !self.gathers.is_empty() || self.cursor.next_group == 0 {
            return false;
        }
        // A large state is saved less often: the log waits while it is encoded, and less than a
        // hundredth of the time. With each segment it is saved in any case.
        let interval = CHECKPOINT_BYTES.max(32 * saving.state_bytes);
        saving.sealed || self.active.position().0 - saving.last.0 >= interval
    }

    /// How large the state was that was saved last.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.saving.state_bytes
    }

    /// Takes the state of the shard after the last closed group. It is written when that group is
    /// durable.
    ///
    /// # Panics
    /// When something is gathered, when no group was closed yet, or when a checkpoint is under
    /// way: then `state` is not what [`Store::checkpoint_due`] asked for.
    pub fn checkpoint(&mut self, state: Bytes, out: &mut Vec<Io>) {
        assert!(self.gathers.is_empty(), "the state has seen closed groups only");
        assert!(self.cursor.next_group > 0, "a checkpoint follows a group");
        assert!(!self.saving.writing && self.saving.waiting.is_none(), "one checkpoint at a time");
        self.saving.sealed = false;
        self.saving.last = self.active.position();
        self.saving.state_bytes = state.len() as u64;
        self.saving.waiting = Some(self.checkpoint_of(state, self.snapshot));
        self.emit_checkpoint(out);
    }

    /// A checkpoint after the last closed group.
    pub(super) fn checkpoint_of(&self, state: Bytes, snapshot: Option<u32>) -> Checkpoint {
        assert!(self.gathers.is_empty(), "what has its offset is indexed");
        let unsaved = self.sealing.keys().next().copied();
        Checkpoint {
            shard: self.config.shard,
            segment: self.active.header.segment,
            offset: self.active.tail,
            group: GroupNumber(self.cursor.next_group - 1),
            chain: self.cursor.chain,
            stored: self.cursor.stored,
            begins: self.begins,
            snapshot,
            floors: self.index.floors(),
            ends: self.index.ends_from(unsaved.unwrap_or(self.active.header.segment)),
            is_from_log: false,
            state,
        }
    }

    /// Emits the waiting checkpoint if its group is durable.
    pub(super) fn emit_checkpoint(&mut self, out: &mut Vec<Io>) {
        let durable = |saved: &Checkpoint| saved.group.0 < self.synced_groups;
        if self.fenced || !self.saving.waiting.as_ref().is_some_and(durable) {
            return;
        }
        let saved = self.saving.waiting.take().expect("looked at above");
        assert!(!self.saving.writing, "one checkpoint at a time");
        self.saving.writing = true;
        out.push(Io::WriteCheckpoint { saved: Box::new(saved) });
    }
}
