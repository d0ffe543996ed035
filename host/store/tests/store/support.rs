//! A store on a lying disk, a model of what it must hold, and a generator.
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use yard_store::disk::lying::{Crash, LyingDisk};
use yard_store::{
    Appended, BATCH, Carried, Checkpoint, DoneReport, Io, Located, OpenError, Opened, Parked,
    RELEASE, Recovered, Repair, Reserve, Store, StoreConfig, io, read,
};
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::record::{Flags, Record, RecordParts};
use yard_wire::release::{self, Release, Target};
use yard_wire::{GroupNumber, QueueIndex, QueueOffset, ShardId, TenantId, Timestamp, TopicId};

pub(crate) const CONFIG: StoreConfig = StoreConfig {
    shard: ShardId(3),
    segment_bytes: 64 << 10,
    reserve_bytes: 4 << 10,
    salt_seed: 7,
};

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A batch with a record for each (topic, queue, bytes of the body).
pub(crate) fn batch_of(random: &mut Random, records: &[(u32, u16, usize)]) -> Batch {
    let flagged: Vec<_> = records.iter().map(|record| (*record, Flags::NONE)).collect();
    flagged_batch(random, &flagged)
}

/// The same with flags.
pub(crate) fn flagged_batch(random: &mut Random, records: &[((u32, u16, usize), Flags)]) -> Batch {
    let mut bytes = Vec::new();
    for ((topic, queue, size), flags) in records {
        let body: Vec<u8> = (0..*size).map(|_| random.next() as u8).collect();
        let (topic, queue, flags) = (TopicId(*topic), QueueIndex(*queue), *flags);
        let parts = RecordParts { topic, queue, flags, body: &body, ..RecordParts::default() };
        parts.encode(&mut bytes).unwrap();
    }
    let header = BatchHeader { shard: CONFIG.shard, ..BatchHeader::default() };
    Batch::parse(batch::encode(&header, records.len(), &bytes)).unwrap()
}

/// A batch with one record of this body.
pub(crate) fn constant_batch(topic: u32, queue: u16, body: &[u8]) -> Batch {
    let (topic, queue) = (TopicId(topic), QueueIndex(queue));
    let mut bytes = Vec::new();
    RecordParts { topic, queue, body, ..RecordParts::default() }.encode(&mut bytes).unwrap();
    let header = BatchHeader { shard: CONFIG.shard, ..BatchHeader::default() };
    Batch::parse(batch::encode(&header, 1, &bytes)).unwrap()
}

pub(crate) fn some_batch(random: &mut Random) -> Batch {
    let count = 1 + random.below(6);
    let record = |random: &mut Random| {
        (random.below(3) as u32, random.below(4) as u16, random.below(400) as usize)
    };
    let flags = |random: &mut Random| match random.below(5) {
        0 => Flags::DELAYED,
        1 => Flags::PREPARED,
        _ => Flags::NONE,
    };
    let records: Vec<_> = (0..count).map(|_| (record(random), flags(random))).collect();
    flagged_batch(random, &records)
}

/// What every opening and every reading of a log must give back.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) entries: Vec<Recovered>,
    pub(crate) written: Option<GroupNumber>,
    pub(crate) synced: Option<GroupNumber>,
    /// Parked records of groups that are closed, by where they lie.
    pub(crate) stored_at: BTreeMap<(u32, u32), Bytes>,
}

impl Model {
    pub(crate) fn appended(&mut self, kind: u16, payload: &[u8], appended: Appended) {
        self.entries.push(Recovered {
            group: appended.group,
            kind,
            tenant: TenantId(9),
            notes: Bytes::new(),
            payload: Bytes::copy_from_slice(payload),
            placed: appended.placed,
            parked: Vec::new(),
            carried: Vec::new(),
            stored: appended.stored,
        });
    }

    /// Entries of groups up to this one.
    pub(crate) fn up_to(&self, group: Option<GroupNumber>) -> usize {
        self.entries.iter().filter(|entry| group.is_some_and(|last| entry.group <= last)).count()
    }

    /// The records that an entry gives places to.
    fn visible(&self, entry: &Recovered) -> Vec<Record> {
        if entry.kind == BATCH {
            let records = Batch::parse(entry.payload.clone()).unwrap();
            return records.records().filter(|record| !record.flags().is_parked()).collect();
        }
        if entry.kind != RELEASE {
            return Vec::new();
        }
        let given = |release: release::Release| {
            let target = release.target();
            let stored = self.stored_at[&(target.segment, target.offset)].clone();
            Record::parse(release.apply(stored).unwrap()).unwrap()
        };
        let releases = release::take_all(&mut entry.payload.clone()).unwrap();
        releases.into_iter().map(given).collect()
    }

    /// The records of the first `count` entries, queue by queue.
    pub(crate) fn queues(
        &self,
        count: usize,
    ) -> BTreeMap<(TopicId, QueueIndex), Vec<(Bytes, Timestamp)>> {
        let mut queues: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for entry in &self.entries[..count] {
            for record in self.visible(entry) {
                let queue = queues.entry((record.topic(), record.queue())).or_default();
                queue.push((record.bytes().clone(), entry.stored));
            }
        }
        queues
    }
}

pub(crate) struct Rig {
    pub(crate) disk: LyingDisk,
    pub(crate) store: Store,
    pub(crate) io: Vec<Io>,
    pub(crate) model: Model,
    pub(crate) now: Timestamp,
    pub(crate) repairs: Vec<Repair>,
    /// Parked records of gathered groups, with their entries.
    pub(crate) gathered: VecDeque<(usize, Bytes)>,
}

/// Everything that an opening hands out.
pub(crate) struct Reopened {
    pub(crate) store: Store,
    pub(crate) io: Vec<Io>,
    pub(crate) entries: Vec<Recovered>,
    pub(crate) repairs: Vec<Repair>,
    /// Where parked records lie that were carried on.
    pub(crate) carried: Vec<Carried>,
}

pub(crate) fn open_with(
    disk: &LyingDisk,
    config: StoreConfig,
    checkpoint: Option<&Checkpoint>,
) -> Result<Reopened, OpenError> {
    let (mut entries, mut carried) = (Vec::new(), Vec::new());
    let opened = Store::open(disk, config, checkpoint, &mut |entry| {
        if entry.carried.is_empty() {
            entries.push(entry);
        } else {
            carried.extend(entry.carried);
        }
        Ok(())
    })?;
    let Opened { store, io, repairs } = opened;
    Ok(Reopened { store, io, entries, repairs, carried })
}

pub(crate) fn open_all(disk: &LyingDisk) -> Result<Reopened, OpenError> {
    open_with(disk, CONFIG, None)
}

impl Rig {
    pub(crate) fn new(seed: u64) -> Self {
        Self::on(LyingDisk::new(seed), CONFIG)
    }

    pub(crate) fn on(disk: LyingDisk, config: StoreConfig) -> Self {
        let opened = open_with(&disk, config, None).unwrap();
        assert!(opened.entries.is_empty());
        let (store, io, repairs) = (opened.store, opened.io, opened.repairs);
        let (model, now, gathered) = (Model::default(), Timestamp(1_000), VecDeque::new());
        Self { disk, store, io, model, now, repairs, gathered }
    }

    /// Appends releases and something of the broker's.
    pub(crate) fn append_releases(&mut self, releases: &[Release]) -> Appended {
        self.now.0 += 1;
        let mut payload = Vec::new();
        release::put_all(releases, &mut payload);
        payload.extend_from_slice(b"settled");
        let payload = Bytes::from(payload);
        let (now, tenant) = (self.now, TenantId(9));
        let appended = self.store.append_releases(now, tenant, &payload, Reserve::Use).unwrap();
        self.model.appended(RELEASE, &payload, appended.clone());
        appended
    }

    /// Parked records whose groups are closed, in the order of the log.
    pub(crate) fn parked(&self) -> Vec<Target> {
        let parked = self.model.entries.iter().flat_map(|entry| &entry.parked);
        parked.map(|parked| parked.target).collect()
    }

    pub(crate) fn append_batch(
        &mut self,
        batch: &Batch,
    ) -> Result<Appended, yard_store::AppendError> {
        self.now.0 += 1;
        // Beside some batches lies something of the broker's.
        let noted = if batch.count().is_multiple_of(2) { 3 * batch.count() } else { 0 };
        let notes: Vec<u8> = (0..noted).map(|at| at as u8 ^ 0x5a).collect();
        let appended = self.store.append_noted(self.now, TenantId(9), batch, &notes)?;
        self.model.appended(BATCH, batch.bytes(), appended.clone());
        let entry = self.model.entries.len() - 1;
        self.model.entries[entry].notes = notes.into();
        self.gathered.extend(batch.parked().map(|(_, record)| (entry, record.bytes().clone())));
        Ok(appended)
    }

    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<Appended, yard_store::AppendError> {
        self.now.0 += 1;
        let appended = self.store.append(self.now, 2, TenantId(9), payload, Reserve::Use)?;
        self.model.appended(2, payload, appended.clone());
        Ok(appended)
    }

    pub(crate) fn close(&mut self, allow_empty: bool) -> Option<GroupNumber> {
        let closed = self.store.close_group(self.now, allow_empty, &mut self.io);
        for target in self.store.take_parked() {
            let (entry, record) = self.gathered.pop_front().unwrap();
            assert_eq!((target.bytes as usize, target.released), (record.len(), false));
            self.model.stored_at.insert((target.segment, target.offset), record.clone());
            self.model.entries[entry].parked.push(Parked { target, record });
        }
        closed
    }

    /// Does the I/O at this place of the queue.
    pub(crate) fn perform(&mut self, at: usize) -> DoneReport {
        let io = self.io.remove(at);
        let done = io::perform(&self.disk, &io);
        let report = self.store.done(done, &mut self.io);
        self.model.written = report.written.or(self.model.written);
        self.model.synced = report.synced.or(self.model.synced);
        report
    }

    pub(crate) fn settle(&mut self) {
        while !self.io.is_empty() {
            self.perform(0);
        }
    }

    /// Closes what is gathered, and does all there is to do.
    pub(crate) fn flush(&mut self) {
        self.settle();
        while self.close(false).is_some() {
            self.settle();
        }
    }

    /// Gives a checkpoint whose state is the number of entries so far.
    pub(crate) fn checkpoint(&mut self) {
        let state = Bytes::from(self.model.entries.len().to_string());
        self.store.checkpoint(state, &mut self.io);
    }

    /// Stops, opens again and checks what is found: whole groups, nothing synced is missing,
    /// after a mere crash of the process nothing written.
    pub(crate) fn crash(&mut self, seed: u64, kind: Crash) {
        self.disk.crash(seed, kind);
        let floor = match kind {
            // Of a failed write any part may be there, so the log may end before it.
            Crash::Process => self.model.written,
            Crash::Power => self.model.synced,
        };
        let other = self.disk.fork();
        let saved = Store::read_checkpoint(&self.disk, &CONFIG).unwrap();
        let mut all = open_all(&self.disk).unwrap();
        let found = all.entries.len();
        assert!(found >= self.model.up_to(floor), "{found} entries, groups up to {floor:?}");
        assert_eq!(all.entries, self.model.entries[..found]);
        assert_eq!(self.model.up_to(all.entries.last().map(|last| last.group)), found);
        if let Some(saved) = &saved {
            let state: usize = str::from_utf8(&saved.state).unwrap().parse().unwrap();
            let rest = open_with(&other, CONFIG, Some(saved)).unwrap();
            assert_eq!(rest.entries, self.model.entries[state..found], "after {state}");
            let queues = |store: &Store| store.queues().collect::<Vec<_>>();
            assert_eq!(queues(&all.store), queues(&rest.store));
            if seed & 1 == 0 {
                // Go on from this one: it has loaded sidecars.
                all.store = rest.store;
                all.io = rest.io;
                self.disk = other;
            }
        }
        self.model.entries.truncate(found);
        self.gathered.clear();
        self.model.synced = all.store.synced_group();
        self.model.written = self.model.synced;
        (self.store, self.io, self.repairs) = (all.store, all.io, all.repairs);
        self.check_queues();
    }

    /// Every durable record is located and read back, byte for byte, with its time.
    pub(crate) fn check_queues(&self) {
        let queues = self.model.queues(self.model.up_to(self.model.synced));
        assert_eq!(self.store.queues().filter(|queue| queue.3.0 > 0).count(), queues.len());
        for ((topic, queue), records) in &queues {
            let end = QueueOffset(records.len() as u64);
            assert_eq!(self.store.queue_span(*topic, *queue), (QueueOffset(0), end));
            assert_eq!(self.store.locate(*topic, *queue, end, 1), Located::End);
            let mut at = 0;
            while at < records.len() {
                let from = QueueOffset(at as u64);
                let places = match self.store.locate(*topic, *queue, from, 7) {
                    Located::Places(places) => places,
                    Located::Read(wanted) => read::index(&self.disk, &wanted).unwrap(),
                    other => panic!("{other:?}"),
                };
                assert!(!places.is_empty() && places.len() <= 7);
                let found = read::records(&self.disk, &places).unwrap();
                for (place, record) in places.iter().zip(found) {
                    assert_eq!((record, place.stored), records[at]);
                    at += 1;
                }
            }
        }
    }
}
