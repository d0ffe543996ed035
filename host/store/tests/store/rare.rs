//! Turns that seldom come: each is brought about here, and its mark says that it was.
use bytes::Bytes;
use yard_store::{Disk, FileName, Io, IoDone, Store, Token, Waiting, read};
use yard_wire::record::Flags;
use yard_wire::release::Target;
use yard_wire::{QueueOffset, Timestamp};

use crate::damage::long;
use crate::finding::{check, is_of_keys, keyed_batch};
use crate::retire::{check_waiting, fill, finish, go_on, keep_from, reopen, retire};
use crate::support::{CONFIG, Random, Rig, flagged_batch, open_all, open_with};

/// Whether the mark of this name was reached in this process.
pub(crate) fn is_reached(name: &str) -> bool {
    let mark = yard_store::marks().into_iter().find(|mark| mark.name == name);
    mark.unwrap_or_else(|| panic!("no mark {name}")).times > 0
}

#[test]
fn an_empty_group_waits_for_the_next_segment() {
    let mut rig = Rig::new(3);
    let is_prepared = |io: &Io| matches!(io, Io::PrepareSegment { .. });
    rig.append(b"entry").unwrap();
    rig.close(false).unwrap();
    while let Some(at) = rig.io.iter().position(|io| !is_prepared(io)) {
        rig.perform(at);
    }
    assert!(rig.io.iter().any(is_prepared), "the next segment is not there yet");
    // So late that the index of this segment cannot say when.
    rig.now.0 += 1 << 33;
    assert_eq!(rig.close(true), None);
    assert!(is_reached("store.close.empty-dropped"));
    rig.settle();
    assert!(rig.close(true).is_some());
    rig.settle();
    assert!(rig.store.tail_is_proven());
    assert_eq!(open_all(&rig.disk).unwrap().entries, rig.model.entries);
}

#[test]
fn what_cannot_be_read_is_indexed_later() {
    let mut random = Random(6);
    let mut rig = Rig::new(6);
    while !rig.io.iter().any(|io| matches!(io, Io::IndexKeys { .. })) {
        rig.append_batch(&keyed_batch(&mut random)).unwrap();
        rig.close(false);
        while let Some(at) = rig.io.iter().position(|io| !is_of_keys(io)) {
            rig.perform(at);
        }
    }
    rig.io.retain(|io| !is_of_keys(io));
    rig.store.done(IoDone::IndexKeysFailed, &mut rig.io);
    assert!(is_reached("store.keys.unread") && rig.store.wants_retry());
    check(&rig.store, &rig.disk, &rig.model, &mut random);
    rig.store.retry(&mut rig.io);
    assert!(rig.io.iter().any(is_of_keys), "it is asked for again");
    rig.settle();
    check(&rig.store, &rig.disk, &rig.model, &mut random);
}

#[test]
fn what_was_lost_does_not_hold_up_its_segment() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut rig = Rig::new(seed);
        rig.settle();
        fill(&mut rig, &mut random, 3);
        for _ in 0..8 {
            let bit = 8 * (600 + random.below(CONFIG.segment_bytes - 5_000));
            rig.disk.flip_bit(FileName::Segment(0), bit);
        }
        for name in rig.disk.list().unwrap() {
            if !matches!(name, FileName::Segment(_)) {
                rig.disk.remove(name).unwrap();
            }
        }
        let (_, opened) = reopen(&rig.disk).unwrap();
        (rig.store, rig.io) = (opened.store, opened.io);
        rig.settle();
        retire(&mut rig, 2, &mut |_| {});
        assert_eq!(rig.store.first_segment(), 2);
        if is_reached("store.retire.gap") {
            return;
        }
    }
    panic!("nothing is lost of what is kept");
}

#[test]
fn what_waits_and_does_not_fit_what_is_read_at_once_is_carried_on_later() {
    let (mut random, mut rig) = (Random(31), Rig::new(31));
    rig.settle();
    // More than is read at once, and each in another segment than most of the others.
    for _ in 0..12 {
        let record = ((1, 0, 30_000), Flags::DELAYED);
        rig.append_batch(&flagged_batch(&mut random, &[record])).unwrap();
        rig.flush();
    }
    let parked = rig.parked();
    fill(&mut rig, &mut random, parked[11].segment + 1);
    let waiting = parked.iter().zip(0..);
    let waiting = waiting.map(|(at, name)| Waiting { token: Token([name; 16]), target: *at });
    let waiting: Vec<Waiting> = waiting.collect();
    let record =
        |at: Target| read::records(&rig.disk, &[at.place(Timestamp(0))]).unwrap().remove(0);
    let before: Vec<Bytes> = parked.iter().map(|at| record(*at)).collect();
    let until = parked[11].segment + 1;
    rig.store.retire(until, &|_, _| QueueOffset(0), waiting.clone(), &mut rig.io);
    finish(&mut rig, &mut |_| {});
    assert!(is_reached("store.retire.waiting-again"));
    assert_eq!(rig.store.first_segment(), until);
    let carried = rig.store.take_carried();
    let tokens = |token: &Token| carried.iter().filter(|it| it.token == *token).count();
    assert!(waiting.iter().all(|it| tokens(&it.token) == 1), "each is carried on once");
    check_waiting(&rig.disk, &waiting, &carried, &before);
}

#[test]
fn a_log_whose_last_group_cannot_be_read_is_opened() {
    let disk = long().disk.fork();
    for segment in 0..4 {
        let name = FileName::Segment(segment);
        let end = disk.contents(name).unwrap().len() as u64;
        disk.spoil(name, 4_096..end);
    }
    let open = || {
        let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
        open_with(&disk, CONFIG, saved.as_ref()).unwrap()
    };
    let opened = open();
    assert!(is_reached("store.recovery.last-unreadable"));
    assert!(!opened.repairs.is_empty(), "it is told what cannot be read");
    assert_eq!(open().entries, opened.entries, "and the log is the same the next time");
}

/// What says that segments are gone finds a place in the last segment of a full disk, or one of the
/// two that say it, or none: the next start finds what this one went on with.
#[test]
fn a_retirement_is_told_at_least_once_or_does_not_happen() {
    let begun = || {
        let (mut random, mut rig) = (Random(21), Rig::new(21));
        rig.settle();
        fill(&mut rig, &mut random, 3);
        let names = rig.disk.list().unwrap();
        let used: u64 = names.into_iter().map(|name| rig.disk.len(name).unwrap()).sum();
        rig.disk.set_capacity(used);
        rig
    };
    let append = |rig: &mut Rig, bytes: usize| {
        let is_taken = rig.append(&vec![1; bytes]).is_ok();
        rig.flush();
        is_taken
    };
    let mut rig = begun();
    let room = (0..).take_while(|_| append(&mut rig, 100)).count();
    let mut happened = [0, 0];
    // Groups of 256 bytes, and at the end of 128 and 192: so it ends at every multiple of 64.
    let ends: [&[usize]; 4] = [&[], &[1], &[40], &[1, 40]];
    for (left, end) in (2..room.min(24)).flat_map(|left| ends.map(|end| (left, end))) {
        let mut rig = begun();
        (left..room).for_each(|_| assert!(append(&mut rig, 100)));
        end.iter().for_each(|bytes| assert!(append(&mut rig, *bytes)));
        rig.store.retire(2, &keep_from, Vec::new(), &mut rig.io);
        for _ in 0..200 {
            go_on(&mut rig);
            if !rig.io.is_empty() {
                rig.perform(0);
            }
        }
        assert!(!rig.store.is_retiring(), "it happened or came to nothing");
        let first = rig.store.first_segment();
        happened[usize::from(first == 2)] += 1;
        let (_, opened) = reopen(&rig.disk.fork()).unwrap();
        assert_eq!(opened.store.first_segment(), first, "{left}: the next start finds it so");
        rig.disk.set_capacity(u64::MAX);
        rig.store.retry(&mut rig.io);
        rig.settle();
        if first < 2 {
            retire(&mut rig, 2, &mut |_| {});
        }
        assert_eq!(rig.store.first_segment(), 2);
    }
    assert!(happened[0] > 0 && happened[1] > 0, "{happened:?}");
    assert!(is_reached("store.retire.record-refused"));
    assert!(is_reached("store.retire.recorded-once"));
}
