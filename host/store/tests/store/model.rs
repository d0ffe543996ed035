//! The store against a model, under everything at once.
use yard_store::LogState;
use yard_store::disk::lying::{Crash, Fault};
use yard_wire::release::{Notes, Release};
use yard_wire::{QueueIndex, TopicId};

use crate::support::{Random, Rig, some_batch};

/// Gives a few parked records a place, some with notes or in another queue.
fn release_some(rig: &mut Rig, random: &mut Random) {
    let parked = rig.parked();
    if parked.is_empty() || rig.store.state() == LogState::Full {
        return;
    }
    let release = |random: &mut Random| {
        let target = parked[random.below(parked.len() as u64) as usize];
        let queue = (TopicId(random.below(3) as u32), QueueIndex(random.below(4) as u16));
        let notes = [("$dead.group", "g")];
        Release::new(target, queue, Notes::new(notes[..random.below(2) as usize].to_vec()))
    };
    let releases: Vec<_> = (0..1 + random.below(3)).map(|_| release(random)).collect();
    rig.append_releases(&releases);
}

fn step(rig: &mut Rig, random: &mut Random) {
    if rig.store.state() == LogState::Fenced {
        assert!(rig.append(b"x").is_err() && rig.close(true).is_none());
        let kind = if random.below(2) == 0 { Crash::Process } else { Crash::Power };
        rig.crash(random.next(), kind);
    }
    match random.below(100) {
        0..30 => {
            if rig.store.input_budget() > 2_500 {
                let batch = some_batch(random);
                rig.append_batch(&batch).unwrap();
            }
        }
        30..34 => release_some(rig, random),
        34..45 => {
            let payload = vec![random.next() as u8; random.below(200) as usize];
            let full = rig.store.state() == LogState::Full;
            assert!(rig.append(&payload).is_ok() || full);
        }
        45..62 => {
            rig.close(random.below(3) == 0);
            if rig.store.checkpoint_due() && random.below(2) == 0 {
                rig.checkpoint();
            }
        }
        62 => {
            let faults = [Fault::Replace, Fault::Create, Fault::Sync, Fault::Write];
            rig.disk.fail_next(faults[random.below(4) as usize]);
        }
        63..65 => rig.store.retry(&mut rig.io),
        65..96 => {
            if !rig.io.is_empty() {
                let at = random.below(rig.io.len() as u64) as usize;
                rig.perform(at);
            }
        }
        96..98 => rig.settle(),
        98 => rig.crash(random.next(), Crash::Process),
        _ => rig.crash(random.next(), Crash::Power),
    }
}

#[test]
fn crashes_lose_nothing_that_was_synced() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let mut rig = Rig::new(seed);
        for _ in 0..600 {
            step(&mut rig, &mut random);
        }
        rig.crash(seed, Crash::Process);
        rig.flush();
        assert_eq!(rig.model.up_to(rig.model.synced), rig.model.entries.len(), "seed {seed}");
        rig.check_queues();
        rig.crash(seed, Crash::Power);
        assert!(rig.store.stats().segments >= 1);
    }
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let run = |seed| {
        let mut random = Random(seed);
        let mut rig = Rig::new(seed);
        for _ in 0..800 {
            step(&mut rig, &mut random);
        }
        use yard_store::Disk;
        let names = rig.disk.list().unwrap();
        names.into_iter().map(|name| (name, rig.disk.contents(name))).collect::<Vec<_>>()
    };
    assert!(run(1) == run(1));
    assert!(run(1) != run(2));
}
