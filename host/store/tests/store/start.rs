//! What a start reads: of the segments that are sealed their indexes, and no more of themselves
//! than it takes to see that they belong together.
use yard_store::disk::lying::LyingDisk;
use yard_store::{Disk, FileName, Store, StoreConfig};

use crate::cache::Counting;
use crate::support::{CONFIG, Random, Rig, batch_of};

/// What a disk reads at least.
const BLOCK_BYTES: u64 = 4 << 10;

#[test]
fn a_start_reads_two_blocks_of_a_sealed_segment_however_long_it_is() {
    for segment_bytes in [256 << 10, 2 << 20] {
        let config = StoreConfig { segment_bytes, ..CONFIG };
        let mut rig = Rig::on(LyingDisk::new(3), config);
        let mut random = Random(3);
        while rig.store.stats().segments < 6 {
            rig.append_batch(&batch_of(&mut random, &[(1, 0, 16 << 10); 3])).unwrap();
            rig.flush();
        }
        rig.checkpoint();
        rig.close(true).unwrap();
        rig.settle();
        let active = rig.store.stats().segments as u32 - 1;
        assert!(rig.disk.len(FileName::Index(active - 1)).is_ok(), "it is sealed");
        let disk = Counting::below(&rig.disk, active);
        let saved = Store::read_checkpoint(&disk, &config).unwrap().unwrap();
        assert_eq!(saved.segment, active);
        let opened = Store::open(&disk, config, Some(&saved), &mut |_| Ok(())).unwrap();
        assert_eq!(opened.repairs, []);
        let read = disk.bytes();
        let most = u64::from(active) * 2 * BLOCK_BYTES;
        assert!(read > 0 && read <= most, "{read} bytes of {active} segments");
        assert_eq!(opened.store.queues().count(), rig.store.queues().count());
    }
}
