//! What a finished I/O changes.
use yard_wire::GroupNumber;

use super::{DoneReport, InFlight, Next, Stage, Store};
use crate::io::{Io, IoDone};

impl Store {
    /// Takes in what came of an I/O; emits what follows from it.
    ///
    /// # Panics
    /// When it is not the outcome of an I/O that this store emitted.
    pub fn done(&mut self, done: IoDone, out: &mut Vec<Io>) -> DoneReport {
        let mut report = DoneReport::default();
        match done {
            IoDone::Written { group } => self.written(group, &mut report, out),
            IoDone::Synced { group } => self.group_synced(group, &mut report, out),
            IoDone::Failed { group } => {
                let in_flight = self.take_in_flight(group);
                assert!(!self.fenced, "group {} was in flight in a fenced log", in_flight.group);
                yard_wire::mark!(WriteFenced);
                self.fenced = true;
                self.saving.waiting = None;
                report.fenced = true;
            }
            IoDone::Prepared { segment } => {
                let Next::Preparing(header) = self.next else {
                    panic!("segment {segment} was prepared and not asked for")
                };
                assert_eq!(header.segment, segment, "the segment that was asked for");
                self.next = Next::Ready(header);
                self.starved = false;
            }
            IoDone::PrepareFailed { segment, no_space: _ } => {
                let Next::Preparing(header) = self.next else {
                    panic!("segment {segment} was prepared and not asked for")
                };
                assert_eq!(header.segment, segment, "the segment that was asked for");
                self.next = Next::Failed(header);
                yard_wire::mark!(PrepareFailed);
                self.starved = true;
            }
            IoDone::IndexWritten { segment } => {
                let sealed = self.sealing.remove(&segment).expect("the index was given out");
                self.index.leave_memory(&sealed.places);
            }
            IoDone::IndexFailed { segment } => {
                let sealed = self.sealing.get_mut(&segment).expect("the index was given out");
                yard_wire::mark!(SidecarFailed);
                sealed.failed = true;
            }
            IoDone::KeysIndexed { run } => self.keys.indexed(run),
            IoDone::KeysWritten { part } => self.keys.written(part),
            IoDone::IndexKeysFailed => {
                yard_wire::mark!(KeysUnread);
                self.keys.collect_failed();
            }
            IoDone::WriteKeysFailed => {
                yard_wire::mark!(KeysUnwritten);
                self.keys.write_failed();
            }
            IoDone::KeptRead(found) => self.kept_read(found, out),
            IoDone::KeptFailed => {
                yard_wire::mark!(RetireUnread);
                self.retiring = None;
            }
            IoDone::SegmentRemoved { segment } => self.segment_removed(segment, out),
            IoDone::RemoveFailed { segment } => self.remove_failed(segment),
            IoDone::CheckpointWritten { state_bytes } => self.checkpoint_done(Some(state_bytes)),
            IoDone::CheckpointFailed => {
                yard_wire::mark!(CheckpointFailed);
                self.checkpoint_done(None);
            }
        }
        self.keys.next_io(out);
        self.check();
        report
    }

    fn written(&mut self, group: GroupNumber, report: &mut DoneReport, out: &mut Vec<Io>) {
        let in_flight = self.in_flight.as_mut().expect("a group is in flight");
        assert_eq!(in_flight.group, group, "the group that is in flight");
        assert!(in_flight.stage == Stage::Writing, "a group is written once");
        in_flight.stage = Stage::Syncing;
        report.written = Some(group);
        out.push(Io::SyncGroup { group, segment: in_flight.segment });
    }

    fn group_synced(&mut self, group: GroupNumber, report: &mut DoneReport, out: &mut Vec<Io>) {
        let begins = self.begins;
        let in_flight = self.take_in_flight(group);
        assert!(in_flight.stage == Stage::Syncing, "a group is written before it is synced");
        assert_eq!(group.0, self.synced_groups, "groups are synced in order");
        self.synced_groups += 1;
        self.synced = self.active.position();
        report.synced = Some(group);
        report.committed.extend(in_flight.touched.iter().map(|slot| self.index.commit(*slot)));
        for copy in &in_flight.copies {
            let which = (copy.topic, copy.queue, copy.offset);
            let place = (in_flight.offset + copy.at, copy.bytes);
            self.index.add_copy(which, copy.stored, in_flight.segment, place);
        }
        self.keys.add_group(in_flight.segment, in_flight.offset, in_flight.bytes);
        self.emit_checkpoint(out);
        self.go_on_retiring(&mut report.trimmed, out);
        report.retired = (self.begins > begins).then_some(self.begins);
        if let Some(begins) = report.retired {
            self.keys.forget_below(begins);
        }
    }

    fn take_in_flight(&mut self, group: GroupNumber) -> InFlight {
        let in_flight = self.in_flight.take().expect("a group is in flight");
        assert_eq!(in_flight.group, group, "the group that is in flight");
        in_flight
    }

    /// Something failed, for lack of space or otherwise, that [`Store::retry`] asks for again.
    #[must_use]
    pub fn wants_retry(&self) -> bool {
        let failed = matches!(self.next, Next::Failed(_));
        let index_failed = self.sealing.values().any(|sealing| sealing.failed);
        let derived_failed = index_failed || self.keys.has_failed();
        !self.fenced && (failed || derived_failed || self.removal_failed())
    }

    /// Asks again for what failed for lack of space or otherwise: the next segment and indexes.
    /// The shard calls it each second.
    pub fn retry(&mut self, out: &mut Vec<Io>) {
        if self.fenced {
            return;
        }
        if let Next::Failed(header) = self.next {
            yard_wire::mark!(PrepareAgain);
            self.next = Next::Preparing(header);
            self.ask_for_next(out);
        }
        self.keys.retry();
        self.keys.next_io(out);
        self.retry_removal(out);
        for (segment, sealing) in &mut self.sealing {
            if sealing.failed {
                yard_wire::mark!(SidecarAgain);
                sealing.failed = false;
                out.push(Io::WriteIndex { segment: *segment, index: sealing.index.clone() });
            }
        }
    }
}
