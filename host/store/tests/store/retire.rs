//! Segments go whole: what is kept of them stays readable, at its offset and with its time, and
//! whatever moment the power goes, the log is the one before or the one after.
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use yard_store::disk::lying::{Crash, Fault, LyingDisk};
use yard_store::{
    Carried, Checkpoint, Disk, FileName, GapCause, IoDone, Located, Lost, OpenError, Repair, Store,
    Token, Waiting, read,
};
use yard_wire::record::Flags;
use yard_wire::release::{Notes, Release, Target};
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, Timestamp, TopicId};

use crate::support::{CONFIG, Random, Reopened, Rig, batch_of, flagged_batch, open_with};

type Queue = (TopicId, QueueIndex);

const SHORT: Queue = (TopicId(1), QueueIndex(0));
const LONG: Queue = (TopicId(2), QueueIndex(3));
const IDLE: Queue = (TopicId(3), QueueIndex(1));

/// Fills segments up to this one; of each ten records one is of the topic that keeps long.
pub(crate) fn fill(rig: &mut Rig, random: &mut Random, until: u32) {
    if rig.model.entries.is_empty() {
        rig.append_batch(&batch_of(random, &[(IDLE.0.0, IDLE.1.0, 90)])).unwrap();
    }
    while active(&rig.store) < until {
        let mut records = vec![(SHORT.0.0, SHORT.1.0, 900); 9];
        records.push((LONG.0.0, LONG.1.0, 300));
        rig.append_batch(&batch_of(random, &records)).unwrap();
        rig.append(b"decision").unwrap();
        rig.flush();
        if rig.store.checkpoint_due() {
            rig.checkpoint();
        }
    }
    rig.settle();
}

fn active(store: &Store) -> u32 {
    store.first_segment() + store.stats().segments as u32 - 1
}

/// The short topic keeps nothing; the long one from its fourth message on; the idle one all.
pub(crate) fn keep_from(topic: TopicId, _: QueueIndex) -> QueueOffset {
    match topic {
        TopicId(1) => QueueOffset(u64::MAX),
        TopicId(2) => QueueOffset(3),
        _ => QueueOffset(0),
    }
}

/// Gives the state that a retirement asks for, removes what it may, and closes groups.
pub(crate) fn go_on(rig: &mut Rig) {
    rig.close(false);
    if rig.store.wants_state() {
        rig.store.put_state(Bytes::from(rig.model.entries.len().to_string()));
    }
    if rig.store.has_removable() {
        rig.store.remove_retired(&mut rig.io);
    }
    rig.close(false);
}

/// Retires to the end; `each` sees the rig before every I/O.
pub(crate) fn retire(rig: &mut Rig, until: u32, each: &mut dyn FnMut(&Rig)) {
    rig.store.retire(until, &keep_from, Vec::new(), &mut rig.io);
    finish(rig, each);
}

pub(crate) fn finish(rig: &mut Rig, each: &mut dyn FnMut(&Rig)) {
    let mut turns = 0;
    while rig.store.is_retiring() || !rig.io.is_empty() {
        go_on(rig);
        if !rig.io.is_empty() {
            each(rig);
            rig.perform(0);
        }
        turns += 1;
        assert!(turns < 10_000, "a retirement ends");
    }
}

/// Where queues may begin: before the retirement, and after it.
type Firsts = BTreeMap<Queue, [u64; 2]>;

fn firsts(store: &Store) -> BTreeMap<Queue, u64> {
    store.queues().map(|(topic, queue, first, _)| ((topic, queue), first.0)).collect()
}

pub(crate) fn reopen(disk: &LyingDisk) -> Result<(usize, Reopened), OpenError> {
    let saved: Option<Checkpoint> = Store::read_checkpoint(disk, &CONFIG)?;
    let state =
        saved.as_ref().map_or(0, |saved| str::from_utf8(&saved.state).unwrap().parse().unwrap());
    open_with(disk, CONFIG, saved.as_ref()).map(|opened| (state, opened))
}

/// Everything that was durable and is not removed is there; what was appended later may be.
fn check(rig: &Rig, disk: &LyingDisk, allowed: &Firsts) -> Store {
    let (state, opened) = reopen(disk).unwrap();
    let found = state + opened.entries.len();
    assert_eq!(opened.entries, rig.model.entries[state..found], "after {state}");
    assert!(found >= rig.model.up_to(rig.model.synced), "{found} entries");
    check_queues(rig, disk, &opened.store, rig.model.up_to(rig.model.synced), allowed);
    opened.store
}

fn check_queues(rig: &Rig, disk: &LyingDisk, store: &Store, durable: usize, allowed: &Firsts) {
    let all = rig.model.queues(rig.model.entries.len());
    let mut held = 0;
    for (name, records) in rig.model.queues(durable) {
        let (first, end) = store.queue_span(name.0, name.1);
        let [before, after] = allowed.get(&name).copied().unwrap_or([0, 0]);
        assert!(first.0 == before || first.0 == after, "{name:?} begins at {first}");
        assert!(end.0 >= records.len() as u64, "{name:?} ends at {end}");
        if first.0 > 0 {
            let until = first;
            let gap = Located::Gap { until, why: GapCause::Removed };
            assert_eq!(store.locate(name.0, name.1, QueueOffset(0), 1), gap);
        }
        held += end.0 - first.0;
        let mut at = first.0;
        while at < end.0 {
            let places = match store.locate(name.0, name.1, QueueOffset(at), 5) {
                Located::Places(places) => places,
                Located::Read(wanted) => read::index(disk, &wanted).unwrap(),
                other => panic!("{name:?} {at}: {other:?}"),
            };
            for (place, record) in places.iter().zip(read::records(disk, &places).unwrap()) {
                assert_eq!((record, place.stored), all[&name][at as usize], "{name:?} {at}");
                at += 1;
            }
        }
        let parts = store.parts(name.0, name.1);
        let covered: u64 = parts.iter().map(|part| part.end.0 - part.first.0).sum();
        assert_eq!(covered, end.0 - first.0, "{parts:?}");
        assert!(parts.is_sorted_by_key(|part| (part.first, part.newest)));
        let bytes: usize =
            all[&name][first.0 as usize..].iter().map(|(record, _)| record.len()).sum();
        let counted: u64 = parts.iter().map(|part| part.bytes).sum();
        assert!(counted >= bytes as u64, "{name:?} has {bytes} bytes, {counted} are counted");
    }
    assert_eq!(store.stats().messages, held);
}

/// Both kinds of crash, with and without the checkpoint's file, and once more after that.
fn crash_everywhere(rig: &Rig, allowed: &Firsts, seed: u64) {
    for (kind, seed) in [(Crash::Process, 0), (Crash::Power, seed), (Crash::Power, seed + 1)] {
        for without in [false, true] {
            let disk = rig.disk.fork();
            disk.crash(seed, kind);
            if without {
                disk.remove(FileName::Checkpoint).unwrap();
            }
            let first = firsts(&check(rig, &disk, allowed));
            disk.crash(seed + 2, Crash::Power);
            let again = check(rig, &disk, allowed);
            assert_eq!(first, firsts(&again), "opened twice");
        }
    }
}

fn allow(rig: &mut Rig, until: u32) -> Firsts {
    // Of the same state: a retirement that goes through tells where it ends.
    let mut other = Rig {
        disk: rig.disk.fork(),
        store: reopen(&rig.disk.fork()).unwrap().1.store,
        io: Vec::new(),
        model: rig.model.clone(),
        now: rig.now,
        repairs: Vec::new(),
        gathered: VecDeque::new(),
    };
    let opened = reopen(&other.disk).unwrap().1;
    (other.store, other.io) = (opened.store, opened.io);
    other.settle();
    retire(&mut other, until, &mut |_| {});
    let after = firsts(&other.store);
    let both = |(name, before): (&Queue, &u64)| (*name, [*before, after[name]]);
    firsts(&rig.store).iter().map(both).collect()
}

#[test]
fn what_is_kept_is_copied_forward_and_the_rest_goes() {
    let mut random = Random(11);
    let mut rig = Rig::new(11);
    rig.settle();
    fill(&mut rig, &mut random, 4);
    let kept = rig.store.kept_of_oldest(9, &keep_from);
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|(kept, all)| kept * 10 < *all && *kept > 0), "{kept:?}");
    let allowed = allow(&mut rig, 3);
    let names = rig.disk.list().unwrap();
    assert!(names.contains(&FileName::Segment(0)) && names.contains(&FileName::Index(2)));
    retire(&mut rig, 3, &mut |_| {});
    let names = rig.disk.list().unwrap();
    assert!(names.iter().all(|name| name.segment().is_none_or(|segment| segment >= 3)));
    assert_eq!(firsts(&rig.store)[&LONG], 3, "the long one begins where it was told to");
    assert_eq!(firsts(&rig.store)[&IDLE], 0);
    let in_third = rig.store.parts(SHORT.0, SHORT.1)[0];
    assert_eq!((in_third.segment, in_third.first.0), (3, firsts(&rig.store)[&SHORT]));
    check_queues(&rig, &rig.disk, &rig.store, rig.model.entries.len(), &allowed);
    crash_everywhere(&rig, &allowed, 5);
}

#[test]
fn a_crash_at_any_step_leaves_the_old_log_or_the_new_one() {
    let mut random = Random(12);
    let mut rig = Rig::new(12);
    rig.settle();
    fill(&mut rig, &mut random, 4);
    let allowed = allow(&mut rig, 3);
    let mut crashes = 0;
    retire(&mut rig, 3, &mut |rig| {
        crashes += 1;
        crash_everywhere(rig, &allowed, 100 + crashes);
    });
    assert!(crashes > 10, "{crashes} steps");
    assert_eq!(rig.store.first_segment(), 3);
    // And again, so that copies of copies are made, and the entries of the first time go.
    fill(&mut rig, &mut random, 8);
    let allowed = allow(&mut rig, 7);
    retire(&mut rig, 7, &mut |rig| {
        crashes += 1;
        crash_everywhere(rig, &allowed, 100 + crashes);
    });
    assert_eq!((rig.store.first_segment(), firsts(&rig.store)[&LONG]), (7, 3));
    check_queues(&rig, &rig.disk, &rig.store, rig.model.entries.len(), &allowed);
}

#[test]
fn copies_that_are_not_wanted_any_more_go_before_their_segment() {
    let mut random = Random(18);
    let mut rig = Rig::new(18);
    rig.settle();
    fill(&mut rig, &mut random, 3);
    retire(&mut rig, 2, &mut |_| {});
    fill(&mut rig, &mut random, 6);
    assert_eq!(rig.store.parts(LONG.0, LONG.1)[0].segment, 3, "copies are there");
    let all = |topic, _| QueueOffset(if topic == LONG.0 { u64::MAX } else { 0 });
    rig.store.retire(3, &all, Vec::new(), &mut rig.io);
    finish(&mut rig, &mut |_| {});
    let first = firsts(&rig.store)[&LONG];
    assert!(first > 3 && rig.store.parts(LONG.0, LONG.1)[0].first.0 == first);
    let allowed = firsts(&rig.store).into_iter().map(|(name, at)| (name, [at, at])).collect();
    check_queues(&rig, &rig.disk, &rig.store, rig.model.entries.len(), &allowed);
    crash_everywhere(&rig, &allowed, 6);
}

#[test]
fn an_attempt_that_failed_is_made_good_by_the_next() {
    for fault in [Fault::Read, Fault::Write, Fault::Sync] {
        for after in 0..12 {
            let mut random = Random(13);
            let mut rig = Rig::new(13);
            rig.settle();
            fill(&mut rig, &mut random, 4);
            let allowed = allow(&mut rig, 3);
            rig.store.retire(3, &keep_from, Vec::new(), &mut rig.io);
            for _ in 0..after {
                go_on(&mut rig);
                if !rig.io.is_empty() {
                    rig.perform(0);
                }
            }
            rig.disk.fail_next(fault);
            for _ in 0..200 {
                go_on(&mut rig);
                if !rig.io.is_empty() {
                    rig.perform(0);
                }
            }
            crash_everywhere(&rig, &allowed, after);
            rig.disk.crash(after, Crash::Power);
            let opened = reopen(&rig.disk).unwrap().1;
            (rig.store, rig.io) = (opened.store, opened.io);
            rig.settle();
            if rig.store.first_segment() < 3 {
                retire(&mut rig, 3, &mut |_| {});
            }
            assert_eq!(rig.store.first_segment(), 3);
            check_queues(&rig, &rig.disk, &rig.store, rig.model.entries.len(), &allowed);
        }
    }
}

#[test]
fn a_segment_that_cannot_be_removed_goes_later() {
    let mut random = Random(14);
    let mut rig = Rig::new(14);
    rig.settle();
    fill(&mut rig, &mut random, 3);
    rig.store.retire(2, &keep_from, Vec::new(), &mut rig.io);
    while !rig.store.has_removable() {
        go_on(&mut rig);
        if !rig.io.is_empty() && !rig.store.has_removable() {
            rig.perform(0);
        }
    }
    rig.settle();
    let removed =
        |rig: &Rig| rig.io.iter().any(|io| matches!(io, yard_store::Io::RemoveSegment { .. }));
    rig.store.remove_retired(&mut rig.io);
    assert!(removed(&rig) && !rig.store.has_removable());
    rig.io.clear();
    rig.store.done(IoDone::RemoveFailed { segment: 0 }, &mut rig.io);
    assert!(rig.store.wants_retry() && rig.io.is_empty());
    rig.store.retry(&mut rig.io);
    assert!(removed(&rig));
    rig.settle();
    assert!(!rig.store.is_retiring());
    assert_eq!(
        rig.disk.len(FileName::Segment(1)).unwrap_err().kind(),
        std::io::ErrorKind::NotFound
    );
}

#[test]
fn a_missing_first_segment_is_told_from_a_retired_one() {
    let mut random = Random(15);
    let mut rig = Rig::new(15);
    rig.settle();
    fill(&mut rig, &mut random, 4);
    let disk = rig.disk.fork();
    disk.remove(FileName::Segment(0)).unwrap();
    let refused = |disk: &LyingDisk| reopen(disk).map(|_| ()).unwrap_err();
    assert!(matches!(refused(&disk), OpenError::Missing { segment: 0 }));
    disk.remove(FileName::Checkpoint).unwrap();
    assert!(matches!(refused(&disk), OpenError::Missing { segment: 0 }));
    retire(&mut rig, 2, &mut |_| {});
    rig.disk.remove(FileName::Index(2)).unwrap();
    rig.disk.remove(FileName::Segment(2)).unwrap();
    assert!(matches!(refused(&rig.disk), OpenError::Missing { segment: 2 }));
    rig.disk.remove(FileName::Checkpoint).unwrap();
    assert!(matches!(refused(&rig.disk), OpenError::Missing { segment: 2 }));
}

#[test]
fn of_a_log_that_begins_late_the_first_heads_say_where() {
    let mut random = Random(18);
    let mut rig = Rig::new(18);
    rig.settle();
    fill(&mut rig, &mut random, 5);
    retire(&mut rig, 2, &mut |_| {});
    for segment in [2, 3] {
        assert!(rig.disk.flip_bit(FileName::Segment(segment), 8 * 20));
    }
    let Err(OpenError::Corrupt(why)) = reopen(&rig.disk) else { panic!("nobody knows") };
    assert_eq!(why.what, "the headers of the first segments");
}

#[test]
fn what_cannot_be_read_is_retired_later() {
    let mut random = Random(19);
    let mut rig = Rig::new(19);
    rig.settle();
    fill(&mut rig, &mut random, 3);
    rig.store.retire(2, &keep_from, Vec::new(), &mut rig.io);
    let is_read = |io: &yard_store::Io| matches!(io, yard_store::Io::ReadKept { .. });
    assert!(rig.io.iter().any(is_read), "something is kept");
    rig.io.retain(|io| !is_read(io));
    rig.store.done(IoDone::KeptFailed, &mut rig.io);
    assert!(!rig.store.is_retiring() && rig.store.first_segment() == 0);
    retire(&mut rig, 2, &mut |_| {});
    assert_eq!(rig.store.first_segment(), 2);
}

#[test]
fn a_damaged_record_does_not_hold_up_its_segment() {
    let mut random = Random(16);
    let mut rig = Rig::new(16);
    rig.settle();
    fill(&mut rig, &mut random, 3);
    let located = rig.store.locate(LONG.0, LONG.1, QueueOffset(4), 1);
    let Located::Read(wanted) = located else { panic!("{located:?}") };
    let place = read::index(&rig.disk, &wanted).unwrap()[0];
    let bit = u64::from(place.offset + place.bytes - 9) * 8;
    assert!(rig.disk.flip_bit(FileName::Segment(place.segment), bit));
    retire(&mut rig, 2, &mut |_| {});
    assert_eq!(rig.store.first_segment(), 2);
    let at = |offset| rig.store.locate(LONG.0, LONG.1, QueueOffset(offset), 9);
    let until = QueueOffset(5);
    assert_eq!(at(4), Located::Gap { until, why: GapCause::Damaged });
    assert!(matches!(at(3), Located::Places(places) if places.len() == 1));
    assert!(matches!(at(5), Located::Places(places) if places.len() > 1));
    let (_, opened) = reopen(&rig.disk).unwrap();
    let gap = opened.store.locate(LONG.0, LONG.1, QueueOffset(4), 9);
    assert_eq!(gap, Located::Gap { until, why: GapCause::Damaged });
}

#[test]
fn copies_are_found_without_a_sidecar_and_after_it_was_sealed() {
    let mut random = Random(17);
    let mut rig = Rig::new(17);
    rig.settle();
    fill(&mut rig, &mut random, 3);
    let allowed = allow(&mut rig, 2);
    retire(&mut rig, 2, &mut |_| {});
    let holds = rig.store.parts(IDLE.0, IDLE.1)[0];
    assert_eq!((holds.segment, holds.newest), (3, holds.oldest));
    assert!(holds.newest < Timestamp(1_010), "the time is that of the original");
    fill(&mut rig, &mut random, 6);
    let located = rig.store.locate(IDLE.0, IDLE.1, QueueOffset(0), 1);
    assert!(matches!(located, Located::Read(_)), "{located:?}");
    check_queues(&rig, &rig.disk, &rig.store, rig.model.entries.len(), &allowed);
    crash_everywhere(&rig, &allowed, 3);
    // The sidecar of the segment with the copies is damaged: the segment itself is searched.
    rig.disk.flip_bit(FileName::Index(3), 8 * 4_000);
    rig.disk.remove(FileName::Index(3)).unwrap();
    check_queues(&rig, &rig.disk, &rig.store, rig.model.entries.len(), &allowed);
    crash_everywhere(&rig, &allowed, 4);
}

#[test]
fn an_index_that_cannot_be_read_does_not_lead_to_a_body_that_is_gone() {
    let mut random = Random(23);
    let mut rig = Rig::new(23);
    rig.settle();
    let parked = park(&mut rig, &mut random, 1);
    fill(&mut rig, &mut random, 2);
    let offset = release(&mut rig, parked[0], "late");
    assert!(place(&rig, offset).released && place(&rig, offset).segment == 2);
    retire(&mut rig, 2, &mut |_| {});
    let copy = place(&rig, offset);
    assert_eq!((copy.released, copy.segment), (false, 2), "the copy lies beside the release");
    fill(&mut rig, &mut random, 4);
    let located = rig.store.locate(LONG.0, LONG.1, offset, 1);
    let Located::Read(wanted) = located else { panic!("{located:?}") };
    let expected = read::index(&rig.disk, &wanted).unwrap();
    let all = rig.model.queues(rig.model.entries.len());
    let (unreadable, gone) = (rig.disk.fork(), rig.disk.fork());
    let bytes = unreadable.len(FileName::Index(2)).unwrap();
    unreadable.spoil(FileName::Index(2), 0..bytes);
    gone.remove(FileName::Index(2)).unwrap();
    for disk in [unreadable, gone] {
        assert!(disk.len(FileName::Segment(0)).is_err(), "where the body was");
        let found = read::index(&disk, &wanted).unwrap();
        assert_eq!(found, expected);
        let records = read::records(&disk, &found).unwrap();
        assert_eq!(records[0], all[&LONG][offset.0 as usize].0);
    }
}

/// Where every record lies that the log holds.
fn places(rig: &Rig) -> BTreeMap<(Queue, u64), RecordPlace> {
    let mut found = BTreeMap::new();
    for (topic, queue, first, end) in rig.store.queues() {
        let mut at = first;
        while at < end {
            for place in locate(&rig.store, &rig.disk, (topic, queue), at).unwrap() {
                found.insert(((topic, queue), at.0), place);
                at.0 += 1;
            }
        }
    }
    found
}

fn locate(
    store: &Store,
    disk: &LyingDisk,
    (topic, queue): Queue,
    at: QueueOffset,
) -> Result<Vec<RecordPlace>, Located> {
    match store.locate(topic, queue, at, 1) {
        Located::Places(places) => Ok(places),
        Located::Read(wanted) => Ok(read::index(disk, &wanted).unwrap()),
        other => Err(other),
    }
}

/// Opens a damaged log: every record that `may_miss` does not name is served with its time, and
/// of the others each is served, cannot be read, or is reported. How many are not served, and what
/// was reported.
fn check_damaged(
    rig: &Rig,
    disk: &LyingDisk,
    places: &BTreeMap<(Queue, u64), RecordPlace>,
    may_miss: &dyn Fn(&RecordPlace) -> bool,
    case: &str,
) -> (u64, Vec<Repair>) {
    let (state, opened) = reopen(disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(opened.entries, rig.model.entries[state..], "{case}: no decision is lost");
    let all = rig.model.queues(rig.model.entries.len());
    let lost: Vec<Lost> = opened.repairs.iter().flat_map(lost_by).collect();
    let mut missing = 0;
    for ((queue, at), place) in places {
        let offset = QueueOffset(*at);
        let found = locate(&opened.store, disk, *queue, offset);
        let found = found.map(|places| (read::records(disk, &places[..1]), places[0].stored));
        match found {
            Ok((Ok(record), stored)) => {
                assert_eq!((&record[0], stored), {
                    let (record, stored) = &all[queue][*at as usize];
                    (record, *stored)
                });
                continue;
            }
            Ok((Err(error), _)) => assert!(may_miss(place), "{case}: {queue:?} {at}: {error}"),
            Err(Located::Gap { why: GapCause::Damaged, .. }) => {
                assert!(may_miss(place), "{case}: {queue:?} {at}: {:?}", opened.repairs);
                let names = |it: &Lost| {
                    (it.topic, it.queue) == *queue && it.from <= offset && offset < it.to
                };
                assert!(lost.iter().any(names), "{case}: {queue:?} {at}: {:?}", opened.repairs);
            }
            Err(other) => panic!("{case}: {queue:?} {at}: {other:?}"),
        }
        missing += 1;
    }
    (missing, opened.repairs)
}

fn lost_by(repair: &Repair) -> Vec<Lost> {
    match repair {
        Repair::Quarantined { lost, .. } => lost.clone(),
        _ => Vec::new(),
    }
}

/// A log whose last groups are those of a retirement, and where these begin and end.
fn retired(seed: u64) -> (Rig, FileName, std::ops::Range<u64>) {
    let mut random = Random(seed);
    let mut rig = Rig::new(seed);
    rig.settle();
    fill(&mut rig, &mut random, 3);
    let at = |rig: &Rig| rig.store.stats().appended.0 - 3 * CONFIG.segment_bytes;
    let begin = at(&rig);
    retire(&mut rig, 2, &mut |_| {});
    let end = at(&rig);
    rig.close(true).unwrap();
    rig.settle();
    assert_eq!((rig.store.first_segment(), active(&rig.store)), (2, 3));
    (rig, FileName::Segment(3), begin..end)
}

#[test]
fn a_flipped_bit_of_what_a_retirement_wrote_costs_the_copy_that_has_it() {
    let (rig, name, range) = retired(19);
    let places = places(&rig);
    let copies = places.values().filter(|place| range.contains(&place.offset.into())).count();
    assert!(copies > 10, "{copies}");
    let (mut missing, mut hits) = (0, 0);
    for bit in (range.start * 8..range.end * 8).step_by(7) {
        let disk = rig.disk.fork();
        assert!(disk.flip_bit(name, bit));
        let hit = |place: &RecordPlace| {
            let begin = u64::from(place.offset);
            FileName::Segment(place.segment) == name
                && (begin..begin + u64::from(place.bytes)).contains(&(bit / 8))
        };
        let case = format!("bit {bit} of byte {}", bit / 8);
        let (lost, repairs) = check_damaged(&rig, &disk, &places, &hit, &case);
        let expect = places.values().filter(|place| hit(place)).count() as u64;
        assert_eq!(lost, expect, "{case}");
        let lies_at = |repair: &Repair, place: &RecordPlace| match repair {
            Repair::Quarantined { offset, bytes, what, .. } => {
                let found = (*offset, *bytes, *what);
                found == (place.offset.into(), place.bytes.into(), "a copy of a message")
            }
            _ => false,
        };
        let is_told = |place: &RecordPlace| repairs.iter().any(|repair| lies_at(repair, place));
        assert!(places.values().filter(|place| hit(place)).all(is_told), "{case}: {repairs:?}");
        missing += lost;
        hits += expect;
    }
    assert!(missing == hits && hits > 1_000, "{missing}");
}

#[test]
fn bytes_of_an_entry_of_copies_cost_the_copies_that_have_them() {
    let (rig, name, range) = retired(20);
    let places = places(&rig);
    let lies_there = |place: &RecordPlace| {
        FileName::Segment(place.segment) == name && range.contains(&place.offset.into())
    };
    let copies = places.values().filter(|place| lies_there(place));
    let first = u64::from(copies.clone().map(|place| place.offset).min().unwrap());
    let records_end = copies.map(|place| place.offset + place.bytes).max().unwrap();
    let bytes = rig.disk.contents(name).unwrap();
    let length = |at: u64| u32::from_le_bytes(bytes[at as usize..][..4].try_into().unwrap());
    let is_head = |at: &u64| {
        let end = at + u64::from(length(*at));
        let kind = bytes[*at as usize + 8..][..4] == [1, 1, 0, 0];
        kind && range.contains(&end) && length(end - 4) == length(*at)
    };
    let heads: Vec<u64> = range.clone().filter(is_head).collect();
    assert!(!heads.is_empty(), "entries of copies are found");
    let in_head = |at: u64| heads.iter().any(|head| at + 3 > *head && at < head + 28);
    let mut missing = 0;
    // Rows of 30 bytes lie before the records, behind header and number.
    for at in (first - 200..u64::from(records_end)).step_by(23) {
        let disk = rig.disk.fork();
        let mut bytes = disk.contents(name).unwrap();
        bytes[at as usize..at as usize + 3].iter_mut().for_each(|byte| *byte ^= 0x5a);
        disk.put(name, bytes);
        let case = format!("bytes at {at}");
        let (lost, _) = check_damaged(&rig, &disk, &places, &lies_there, &case);
        // Without its header or their number, all that an entry has.
        assert!(lost <= 2 || in_head(at), "{lost} lost at {at}");
        missing += lost;
    }
    assert!(missing > 50, "{missing}");
}

/// Messages of the long topic that wait, in the first segment.
fn park(rig: &mut Rig, random: &mut Random, count: usize) -> Vec<Target> {
    let before = rig.parked().len();
    for _ in 0..count {
        let record = ((LONG.0.0, LONG.1.0, 700), Flags::DELAYED);
        rig.append_batch(&flagged_batch(random, &[record])).unwrap();
        rig.flush();
    }
    rig.parked().split_off(before)
}

fn release(rig: &mut Rig, target: Target, note: &str) -> QueueOffset {
    let notes = Notes::new((!note.is_empty()).then_some(("note", note)));
    let record = read::records(&rig.disk, &[target.place(Timestamp(0))]).unwrap().remove(0);
    rig.model.stored_at.insert((target.segment, target.offset), record);
    let placed = rig.append_releases(&[Release::new(target, LONG, notes)]).placed;
    rig.flush();
    placed[0].first
}

fn place(rig: &Rig, offset: QueueOffset) -> Target {
    match rig.store.locate(LONG.0, LONG.1, offset, 1) {
        Located::Places(places) => places[0].into(),
        Located::Read(wanted) => read::index(&rig.disk, &wanted).unwrap()[0].into(),
        other => panic!("{other:?}"),
    }
}

/// What waits is found where the log says that it lies by now.
pub(crate) fn check_waiting(
    disk: &LyingDisk,
    waiting: &[Waiting],
    carried: &[Carried],
    old: &[Bytes],
) {
    for (waiting, record) in waiting.iter().zip(old) {
        let again = carried.iter().rev().find(|carried| carried.token == waiting.token);
        let target = again.map_or(waiting.target, |carried| carried.target.unwrap());
        let found = read::records(disk, &[target.place(Timestamp(0))]).unwrap();
        assert_eq!(found[0], record);
    }
}

#[test]
fn what_waits_and_what_releases_refer_to_outlive_their_segment() {
    let mut random = Random(14);
    let mut rig = Rig::new(14);
    rig.settle();
    let parked = park(&mut rig, &mut random, 6);
    fill(&mut rig, &mut random, 2);
    // Stays in a segment that stays, once straight and once over another release.
    fill(&mut rig, &mut random, 4);
    let plain = release(&mut rig, parked[0], "");
    let noted = release(&mut rig, parked[1], "late");
    let over = place(&rig, noted);
    assert!(over.released && over.segment >= 3);
    fill(&mut rig, &mut random, 6);
    let again = release(&mut rig, over, "again");
    let newest = place(&rig, again);
    assert!(newest.released && newest.segment > over.segment);
    let waiting: Vec<Waiting> = (parked[2..].iter())
        .zip(0_u8..)
        .map(|(target, name)| Waiting { token: Token([name; 16]), target: *target })
        .collect();
    let old: Vec<Bytes> = (waiting.iter())
        .map(|it| read::records(&rig.disk, &[it.target.place(Timestamp(0))]).unwrap().remove(0))
        .collect();
    assert!(rig.store.is_referred_below(3));
    let begins: Firsts = firsts(&rig.store).into_iter().map(|(name, at)| (name, [at; 2])).collect();
    let keep_all = |_, _| QueueOffset(0);
    rig.store.retire(3, &keep_all, waiting.clone(), &mut rig.io);
    let mut crashes = 0;
    finish(&mut rig, &mut |rig| {
        crashes += 1;
        crash_everywhere(rig, &begins, 200 + crashes);
        for kind in [Crash::Process, Crash::Power] {
            let disk = rig.disk.fork();
            disk.crash(300 + crashes, kind);
            let opened = open_with(&disk, CONFIG, None);
            // Without a checkpoint a log that begins late is not read from its beginning.
            if let Ok(opened) = opened {
                check_waiting(&disk, &waiting, &opened.carried, &old);
            }
        }
    });
    assert!(crashes > 10, "{crashes} steps");
    assert_eq!(rig.store.first_segment(), 3);
    assert!(!rig.store.is_referred_below(3), "there are copies");
    let carried = rig.store.take_carried();
    assert_eq!(carried.len(), waiting.len());
    check_waiting(&rig.disk, &waiting, &carried, &old);
    for offset in [plain, noted, again] {
        assert!(!place(&rig, offset).released, "readers get the copy");
    }
    check_queues(&rig, &rig.disk, &rig.store, rig.model.entries.len(), &begins);
    // What is gone cannot be released any more, nor what comes to it over another release: whoever
    // knows it from before asks anew.
    for stale in [parked[2], over, newest] {
        let stale = Release::new(stale, LONG, Notes::default());
        let mut payload = Vec::new();
        yard_wire::release::put_all(&[stale], &mut payload);
        let tenant = yard_wire::TenantId(9);
        let reserve = yard_store::Reserve::Use;
        let refused = rig.store.append_releases(rig.now, tenant, &payload.into(), reserve);
        assert!(matches!(refused, Err(yard_store::AppendError::Leaving(_))), "{refused:?}");
    }
    let moved = carried[0].target.unwrap();
    let moved = release(&mut rig, moved, "");
    let moved = place(&rig, moved);
    assert!(moved.released, "what it refers to stays");
    release(&mut rig, moved, "");
    rig.checkpoint();
    rig.settle();
    crash_everywhere(&rig, &begins, 7);
}

/// A log just before its first segment goes: what waits there was carried on, all that was written
/// is proven.
struct CarriedLog {
    disk: LyingDisk,
    name: FileName,
    /// What is found of it while nothing is damaged.
    whole: Vec<Carried>,
    /// The bytes of the entry that carries it on, and of its group.
    entry: Range<usize>,
    group: Range<usize>,
}

fn carried_log() -> CarriedLog {
    let mut random = Random(21);
    let mut rig = Rig::new(21);
    rig.settle();
    let parked = park(&mut rig, &mut random, 4);
    fill(&mut rig, &mut random, 3);
    let waiting = parked.iter().zip(0_u8..);
    let waiting = waiting.map(|(at, name)| Waiting { token: Token([name; 16]), target: *at });
    let waiting: Vec<Waiting> = waiting.collect();
    let begin = rig.store.stats().appended.0 - 3 * CONFIG.segment_bytes;
    rig.store.retire(2, &keep_from, waiting.clone(), &mut rig.io);
    let mut last = None;
    finish(&mut rig, &mut |rig| {
        if rig.disk.contents(FileName::Segment(0)).is_some() {
            last = Some(rig.disk.fork());
        }
    });
    let (disk, name) = (last.unwrap(), FileName::Segment(active(&rig.store)));
    let whole = open_with(&disk.fork(), CONFIG, None).unwrap().carried;
    assert_eq!(whole.len(), waiting.len(), "each is carried once");
    let bytes = disk.contents(name).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let head = (begin as usize..).find(|at| bytes[at + 8..at + 12] == [5, 1, 0, 0]).unwrap();
    let entry = head..head + word(head) as usize;
    let group = (begin as usize..head).rfind(|at| bytes[*at..].starts_with(b"YGRP")).unwrap();
    let group = group..group + 64 + word(group + 48) as usize;
    CarriedLog { disk, name, whole, entry, group }
}

#[test]
fn what_waits_is_found_though_copies_beside_it_are_damaged() {
    let CarriedLog { disk, name, whole, entry, group } = carried_log();
    let beside = (group.start + 64..group.end).filter(|at| !entry.contains(at));
    let beside: Vec<usize> = beside.step_by(13).collect();
    assert!(beside.len() > 10, "copies lie in the same group");
    for at in beside {
        let disk = disk.fork();
        disk.flip_bit(name, at as u64 * 8);
        assert_eq!(open_with(&disk, CONFIG, None).unwrap().carried, whole, "byte {at}");
    }
}

#[test]
fn a_flipped_bit_of_what_waits_costs_that_message_only() {
    let CarriedLog { disk, name, whole, entry, .. } = carried_log();
    let mut lost = vec![0; whole.len()];
    for at in entry.step_by(3) {
        let disk = disk.fork();
        disk.flip_bit(name, at as u64 * 8 + at as u64 % 8);
        let opened = open_with(&disk, CONFIG, None).unwrap();
        assert!(!opened.repairs.is_empty(), "byte {at}: nobody is told");
        assert!(opened.carried.iter().all(|it| whole.contains(it)), "byte {at}");
        let missing: Vec<usize> =
            (0..whole.len()).filter(|it| !opened.carried.contains(&whole[*it])).collect();
        assert!(missing.len() <= 1, "byte {at}: {missing:?}");
        missing.into_iter().for_each(|it| lost[it] += 1);
    }
    assert!(lost.iter().all(|times| *times > 0), "each was hit: {lost:?}");
}
