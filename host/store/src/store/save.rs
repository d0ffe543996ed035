//! Checkpoints: the shard's state beside the log, so that a start need not replay all of it.
use bytes::Bytes;
use yard_wire::GroupNumber;

use super::Store;
use crate::config::CHECKPOINT_BYTES;
use crate::format::checkpoint::Checkpoint;
use crate::io::Io;
use crate::shard_state::ShardState;

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
        // A large state is saved less often: what is written for it is a small part of what is
        // written. With each segment it is saved in any case.
        let interval = CHECKPOINT_BYTES.max(32 * saving.state_bytes);
        saving.sealed || self.active.position().0 - saving.last.0 >= interval
    }

    /// Takes the state of the shard after the last closed group. It is written when that group is
    /// durable.
    ///
    /// # Panics
    /// When something is gathered, when no group was closed yet, or when a checkpoint is under
    /// way: then `state` is not what [`Store::checkpoint_due`] asked for.
    pub fn checkpoint(&mut self, state: impl Into<ShardState>, out: &mut Vec<Io>) {
        assert!(self.gathers.is_empty(), "the state has seen closed groups only");
        assert!(self.cursor.next_group > 0, "a checkpoint follows a group");
        assert!(!self.saving.writing && self.saving.waiting.is_none(), "one checkpoint at a time");
        self.saving.sealed = false;
        self.saving.last = self.active.position();
        self.saving.waiting = Some((self.checkpoint_of(self.snapshot), state.into()));
        self.emit_checkpoint(out);
    }

    /// A checkpoint after the last closed group, but for the state.
    pub(super) fn checkpoint_of(&self, snapshot: Option<u32>) -> Checkpoint {
        assert!(self.gathers.is_empty(), "what has its offset is indexed");
        assert!(self.cursor.next_group > 0, "it follows a group");
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
            state: Bytes::new(),
        }
    }

    /// Emits the waiting checkpoint if its group is durable.
    pub(super) fn emit_checkpoint(&mut self, out: &mut Vec<Io>) {
        let durable = |(saved, _): &(Checkpoint, _)| saved.group.0 < self.synced_groups;
        if self.fenced || !self.saving.waiting.as_ref().is_some_and(durable) {
            return;
        }
        let (saved, state) = self.saving.waiting.take().expect("looked at above");
        assert!(!self.saving.writing, "one checkpoint at a time");
        self.saving.writing = true;
        out.push(Io::WriteCheckpoint { saved: Box::new(saved), state });
    }

    /// The disk is done with a checkpoint; so large was the state, where it was written.
    pub(super) fn checkpoint_done(&mut self, state_bytes: Option<u64>) {
        assert!(self.saving.writing, "the checkpoint was given out");
        self.saving.writing = false;
        if let Some(bytes) = state_bytes {
            assert!(bytes > 0, "a state has a head");
            self.saving.state_bytes = bytes;
        }
    }
}
