//! What a store is told when it is opened, and every bound that it holds itself to.
use yard_wire::ShardId;
use yard_wire::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};

use crate::error::BadConfig;
use crate::format::{entry, group, segment};

/// Smallest segment, in bytes: small entries fit it, a few at a time. Servers do not take so small
/// ones; the simulator does, so that segments end at every turn.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// Largest segment, in bytes: an offset in a segment is written in 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// The shard should close a group before it has gathered more, in bytes.
pub const GATHER_BYTES_MAX: usize = 1 << 20;
/// Bytes of the entries of one group, their headers included.
pub const GROUP_PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// A checkpoint is due when so much was appended since the last one, in bytes.
/// Replaying so much takes some hundredths of a second; replacing a file makes the log wait.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;
/// The key index of the newest messages is made of so much of the log at a time, in bytes, or of
/// an eighth of a segment: what is not indexed yet is looked through by every search.
pub const KEY_RUN_LOG_BYTES: u64 = 2 << 20;
/// A file of the key index ends with the group at which it is about so much of the log, in bytes,
/// or about a fourth of a segment.
pub const KEY_PART_LOG_BYTES: u64 = 256 << 20;
/// Or with the group at which its entries have so many bytes. Until then they are in memory.
pub const KEY_PART_BYTES_MAX: usize = 16 << 20;
/// Bytes of groups that are kept in memory until they are in the key index; what is more is read
/// again, which costs more than indexing it: a tenth of a second at 300 MB/s, for a thread that
/// runs when others leave it time. The newest groups are in memory for readers anyway.
pub const KEY_KEPT_BYTES_MAX: usize = 32 << 20;
/// What outlives its segment is copied forward in pieces of at most so many bytes, unless a single
/// record is larger: one piece a group, so that batches wait for no more.
pub const MOVED_BYTES_MAX: usize = 256 << 10;
/// Records that are read at once for it, at most.
pub const MOVED_RECORDS_MAX: u64 = 1_024;
/// Ranges of queues that are read at once for it, at most.
pub const MOVED_RANGES_MAX: usize = 64;
/// A new log zeroes only this much ahead before it serves, in bytes.
pub const FIRST_ZERO_BYTES: u64 = 16 << 20;

/// Bytes that the broker may add to a batch.
pub const NOTES_BYTES_MAX: usize = 1 << 20;

const _: () = {
    let placements = BATCH_RECORDS_MAX * entry::PLACEMENT_BYTES;
    assert!(
        entry::HEADER_BYTES + placements + NOTES_BYTES_MAX + BATCH_BYTES_MAX + entry::FOOTER_BYTES
            <= GROUP_PAYLOAD_BYTES_MAX
    );
    assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64);
    assert!(GATHER_BYTES_MAX <= GROUP_PAYLOAD_BYTES_MAX);
    assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_MAX);
    assert!(CHECKPOINT_BYTES > SEGMENT_BYTES_MIN);
    assert!(KEY_RUN_LOG_BYTES < KEY_PART_LOG_BYTES && KEY_PART_LOG_BYTES <= u32::MAX as u64);
    assert!(KEY_RUN_LOG_BYTES as usize <= KEY_KEPT_BYTES_MAX);
    assert!(SEGMENT_BYTES_MIN.is_multiple_of(segment::HEADER_BYTES as u64));
};

/// What a store is told when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The shard whose log this is; a log of another one is refused.
    pub shard: ShardId,
    /// Bytes of a new segment: a multiple of 512 from [`SEGMENT_BYTES_MIN`] to
    /// [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// On a full disk, bytes at the end of the last segment that batches may not use, so that
    /// acknowledgements are still recorded. At most half a segment.
    pub reserve_bytes: u64,
    /// Randomness for the salts of new segments: drawn anew at each start.
    pub salt_seed: u64,
}

impl StoreConfig {
    pub(crate) fn check(&self) -> Result<(), BadConfig> {
        let bytes = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes)
            || !bytes.is_multiple_of(segment::HEADER_BYTES as u64)
        {
            return Err(BadConfig { what: "segment_bytes", value: bytes });
        }
        if self.reserve_bytes > bytes / 2 {
            return Err(BadConfig { what: "reserve_bytes", value: self.reserve_bytes });
        }
        Ok(())
    }

    /// Bytes of entries that a group of a segment of this size can hold.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        let room = self.segment_bytes as usize - segment::HEADER_BYTES - group::FRAME_BYTES;
        assert!(room < self.segment_bytes as usize, "the settings were checked");
        room.min(GROUP_PAYLOAD_BYTES_MAX)
    }
}
