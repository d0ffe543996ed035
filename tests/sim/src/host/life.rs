//! How the process begins and ends: started over what the disk holds, closed in an orderly manner,
//! killed, cut off from power, each also in the middle of any of the others.
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use yard_broker::Event;
use yard_checker::{Crash, CrashKind, Event as Recorded};
use yard_shard::{Input, OpenError, OpenedShard, Shard, ShardConfig};
use yard_store::disk::FileName;
use yard_store::disk::lying::{self, LyingDisk};
use yard_store::{Disk, LogState};
use yard_wire::ShardId;

use super::{Doom, Host, Slot};
use crate::agenda::{Happening, MS, Micros, SECOND};
use crate::base::Base;
use crate::network::IDLE;
use crate::planted;

impl Host {
    /// Plans a death, unless one is planned already.
    pub(crate) fn plan_death(&mut self, base: &mut Base, doom: Doom) {
        if self.doom.is_some() || !base.broker_is_up {
            return;
        }
        if doom.outputs == 0 {
            self.die(base, doom);
        } else {
            self.doom = Some(doom);
        }
    }

    /// An output was done: a planned death is nearer.
    pub(super) fn draw_nearer(&mut self, base: &mut Base) {
        let Some(doom) = &mut self.doom else { return };
        doom.outputs = doom.outputs.saturating_sub(1);
        if doom.outputs == 0
            && let Some(doom) = self.doom.take()
        {
            self.die(base, doom);
        }
    }

    /// A shard was fenced a while ago: the process is killed and started anew.
    pub(crate) fn replace_fenced(&mut self, base: &mut Base) {
        if let Some(doom) = self.doom.take_if(|doom| doom.is_of_fenced()) {
            self.die(base, doom);
        }
    }

    fn die(&mut self, base: &mut Base, doom: Doom) {
        if !base.broker_is_up {
            return;
        }
        let Doom { kind, recovery, down, .. } = doom;
        self.crash_disks(base, kind);
        self.recovery = recovery.map(|changes| (changes, kind));
        self.go_down(base, down);
    }

    fn crash_disks(&mut self, base: &mut Base, kind: CrashKind) {
        let what = match kind {
            CrashKind::Process => lying::Crash::Process,
            CrashKind::Power => lying::Crash::Power,
        };
        base.trace.line(base.now, || format!("CRASH {kind:?}"));
        base.trace.mix(&[base.now, kind as u64]);
        for slot in &mut self.slots {
            slot.disk.crash(self.random.word(), what);
            planted::alter_crash(base, &slot.disk, kind);
        }
        base.history.push(Recorded::Crash(Crash { at: base.now, kind }));
    }

    /// The process is gone, and all connections with it.
    fn go_down(&mut self, base: &mut Base, down: Micros) {
        self.check_brokers();
        self.life += 1;
        self.closing = None;
        self.doom = None;
        self.dies_at_sync = false;
        base.broker_is_up = false;
        base.deaths += 1;
        for slot in &mut self.slots {
            slot.shard = None;
            slot.results.clear();
            slot.inbox.clear();
            slot.line.clear();
            slot.others.clear();
            slot.held.clear();
            slot.unread.clear();
            slot.was_full = false;
            slot.step_is_due = false;
            slot.wake_at = None;
        }
        let open: Vec<_> = base.network.open().collect();
        for session in open {
            base.network.broker_learns(session);
            let delay = self.random.range(MS, IDLE);
            base.after(delay, Happening::ClientLost(session));
        }
        base.after(down, Happening::Start);
    }

    /// The process begins to shut down.
    pub(crate) fn shut_down(&mut self, base: &mut Base, down: Micros) {
        if !base.broker_is_up || self.closing.is_some() {
            return;
        }
        base.trace.line(base.now, || "the broker shuts down".to_owned());
        self.closing = Some(down);
        self.closing_unrecorded = self.slots.iter().any(cannot_record);
        for slot in &mut self.slots {
            // What nobody has looked at is lost, but not that connections are gone.
            let waiting = std::mem::take(&mut slot.inbox).into_iter().map(|(input, _)| input);
            let is_closed = |it: &Input| matches!(it, Input::Event(Event::SessionClosed(_)));
            slot.results.extend(waiting.filter(is_closed));
        }
        // Connections end first, so that what their consumers hold is given back, counted.
        let open: Vec<_> = base.network.open().collect();
        for session in open {
            self.lost(base, session);
            let delay = self.random.range(MS, IDLE);
            base.after(delay, Happening::ClientLost(session));
        }
        for shard in 0..self.slots.len() {
            self.want_step(base, shard);
        }
        base.after(2 * SECOND, Happening::ShutDown);
    }

    /// A shutdown that takes too long is ended.
    pub(crate) fn end_shut_down(&mut self, base: &mut Base) {
        if let Some(down) = self.closing {
            let (kind, outputs) = (CrashKind::Process, 0);
            self.die(base, Doom { kind, outputs, recovery: None, down });
        }
    }

    pub(super) fn end_orderly(&mut self, base: &mut Base) {
        let Some(down) = self.closing else { return };
        base.trace.line(base.now, || "the broker is closed".to_owned());
        if self.closing_unrecorded || self.slots.iter().any(cannot_record) {
            // What was given back could not be recorded any more: a fenced log takes nothing, a
            // full one nothing once its reserve is used up. Attempts are then not counted.
            self.crash_disks(base, CrashKind::Process);
        } else if self.random.percent(50) {
            // What was closed in an orderly manner does not mind the power going.
            self.crash_disks(base, CrashKind::Power);
        }
        self.go_down(base, down);
    }

    /// The process starts over what the disks hold.
    pub(crate) fn start(&mut self, base: &mut Base) {
        assert!(!base.broker_is_up, "one process at a time");
        let left = self.recovery.take();
        let changes = AtomicU64::new(left.map_or(u64::MAX, |(changes, _)| changes));
        let now = self.wall(base.now);
        let mut wanted = Vec::new();
        for number in 0..self.slots.len() {
            let config = ShardConfig {
                shard: ShardId(number as u16),
                shards: base.plan.shards,
                segment_bytes: base.plan.segment_bytes,
                seed: self.random.word(),
                retention_hour: None,
            };
            self.rot(base, number);
            let slot = &mut self.slots[number];
            planted::alter_image(base, &slot.disk, self.life);
            let omits = planted::omits_in_start(base);
            let dying = Dying { disk: &slot.disk, changes: &changes, omits };
            match Shard::open(&dying, config, now) {
                Ok(opened) => {
                    let OpenedShard { shard, outputs, repairs, replayed } = opened;
                    shard.broker().check();
                    let groups = shard.store().stats().groups;
                    slot.oracle.reopened(groups);
                    base.trace.mix(&[base.now, groups, replayed, repairs.len() as u64]);
                    base.trace.line(base.now, || {
                        format!("shard {number}: {groups} groups, {replayed} replayed, {repairs:?}")
                    });
                    wanted.push(outputs);
                    slot.shard = Some(shard);
                    if let Some(repair) = repairs.iter().find(|it| !self.is_explained(number, it)) {
                        base.fail(|| format!("shard {number}: taken for damage: {repair:?}"));
                    }
                }
                Err(error) => {
                    if let Some((_, kind)) = left.filter(|_| is_used_up(&changes)) {
                        return self.die_again(base, kind);
                    }
                    if let OpenError::Log(yard_store::OpenError::Disk { .. }) = error {
                        // The disk fails: whoever watches tries again.
                        return self.die_again(base, CrashKind::Process);
                    }
                    base.fail(|| format!("shard {number} does not start: {error}"));
                    return;
                }
            }
        }
        if let Some((_, kind)) = left.filter(|_| is_used_up(&changes)) {
            return self.die_again(base, kind);
        }
        base.broker_is_up = true;
        let metadata = self.slots[0].shard.as_ref().map(|shard| shard.broker().metadata());
        for number in 0..self.slots.len() {
            for change in metadata.iter().flatten().filter(|_| number > 0) {
                self.give(base, number, Input::Event(Event::Metadata(change.clone())));
            }
            self.want_step(base, number);
        }
        // The start needed fewer changes: the power goes before anything that it has promised is
        // made durable by what comes after.
        self.dies_at_sync = left.is_some();
        let life = self.life;
        for (number, outputs) in wanted.into_iter().enumerate() {
            if self.life == life {
                self.do_outputs(base, number, outputs);
            }
        }
    }

    /// The start itself was struck.
    fn die_again(&mut self, base: &mut Base, kind: CrashKind) {
        base.trace.line(base.now, || "the start dies".to_owned());
        self.crash_disks(base, kind);
        self.go_down(base, 10 * MS);
    }
}

fn is_used_up(changes: &AtomicU64) -> bool {
    changes.load(Ordering::Relaxed) == 0
}

/// A disk under a process that dies after some more changes: from then on nothing happens.
struct Dying<'a> {
    disk: &'a LyingDisk,
    changes: &'a AtomicU64,
    /// Planted: writes of bytes, and syncs, that are left out.
    omits: (bool, bool),
}

impl Dying<'_> {
    fn change(&self) -> io::Result<()> {
        let left = self.changes.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.changes.store(left - 1, Ordering::Relaxed);
        if left == 1 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

impl Disk for Dying<'_> {
    fn list(&self) -> io::Result<Vec<FileName>> {
        self.disk.list()
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        self.disk.len(name)
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(name, offset, buffer)
    }

    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        if self.omits.0 && bytes.iter().any(|byte| *byte != 0) {
            return Ok(());
        }
        self.disk.write_at(name, offset, bytes)
    }

    fn sync(&self, name: FileName) -> io::Result<()> {
        self.change()?;
        if self.omits.1 { Ok(()) } else { self.disk.sync(name) }
    }

    fn create_segment(
        &self,
        name: FileName,
        header: &[u8],
        bytes: u64,
        zero_bytes: u64,
    ) -> io::Result<()> {
        self.change()?;
        self.disk.create_segment(name, header, bytes, zero_bytes)
    }

    fn replace(&self, name: FileName, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        self.disk.replace(name, bytes)
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.change()?;
        self.disk.remove(name)
    }
}

/// Whether what sessions give back may find no place in the log, or what came back before did not.
pub(super) fn cannot_record(slot: &Slot) -> bool {
    let state = slot.shard.as_ref().map(|shard| shard.store().state());
    slot.was_full || matches!(state, Some(LogState::Fenced | LogState::Full))
}
