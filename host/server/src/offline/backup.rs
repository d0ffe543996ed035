//! A copy of the logs of a data folder, while a broker runs on it or not.
//!
//! ```text
//!   for each segment, oldest first:
//!     named by the last backup, and sealed ──► stays as it is
//!     else ──► copied under a new name ──► the copy is verified ──► cut after the last group
//!   manifest.toml replaced ──► files that it does not name are removed
//! ```
//!
//! Of a log that is being written to, what a later group proves to be durable is taken; the last
//! group waits for its proof, which an idle broker writes within milliseconds. So what was
//! acknowledged before the backup began is in it.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use yard_store::offline::{self, Examined, Surveyed, examine, survey};
use yard_store::{Disk, FileName};

use super::copied::CopiedDisk;
use super::manifest::{self, Hex, Manifest, Segment, Shard};
use super::place::{Is, Place, ShardPlace, names};
use super::{OfflineError, Result, file_error, log_error};

/// How long the proof that the last group is durable is waited for.
const PROOF: Duration = Duration::from_secs(10);
/// How often it is looked for.
const PROOF_EVERY: Duration = Duration::from_millis(2);
/// Retention may remove a segment that is about to be copied: then the survey is made again.
const ATTEMPTS: usize = 3;
/// Bytes of one read.
const CHUNK_BYTES: usize = 4 << 20;
/// Locked while a backup is written; marks the folder as one before there is a manifest.
const LOCK: &str = "backup.lock";
/// What of a data folder a backup takes, besides the folders of its shards, or can do without.
const OWN: [&str; 2] = ["broker.toml", "lock"];

/// What a backup did.
#[derive(Debug, Default)]
pub struct BackupReport {
    /// Segments that the backup holds.
    pub segments: u64,
    /// Those that were copied now; the others were in it already.
    pub copied: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Bytes that the backup holds.
    pub bytes: u64,
    /// Damaged places of the log, which were copied as they are.
    pub damage: Vec<String>,
    /// What else lies in the data folder, and is not in the backup.
    pub left_out: Vec<String>,
    /// A broker has the folder open.
    pub is_live: bool,
    /// Shards whose last group was left out, because nothing proved it to be durable.
    pub unproven: Vec<u16>,
}

/// Backs up a data folder to `target`: a new folder, or that of an earlier backup of the same.
///
/// # Errors
/// [`OfflineError`]; the earlier backup is as it was then.
pub fn backup(data: &Path, target: &Path, now_ms: u64) -> Result<BackupReport> {
    let place = Place::find(data)?;
    if place.is != Is::Data {
        let why = "a backup is made of a whole data folder".to_owned();
        return Err(OfflineError::NotData { path: data.to_owned(), why });
    }
    let locks = place.lock()?;
    let before = manifest::read(target)?;
    let _lock = prepare(target, before.is_some())?;
    let mut report = BackupReport { is_live: locks.is_none(), ..BackupReport::default() };
    let mut shards = Vec::with_capacity(place.shards.len());
    for (at, shard) in place.shards.iter().enumerate() {
        let number = at as u16;
        let held = before.as_ref().and_then(|it| it.shards.iter().find(|it| it.shard == number));
        let held = held.map_or(&[][..], |held| &held.segments);
        let folder = target.join(format!("shard-{number}"));
        make_folder(&folder)?;
        let mut copying = Copying { shard, number, folder, held, report: &mut report };
        shards.push(Shard { shard: number, segments: copying.run()? });
        sync_folder(&copying.folder)?;
    }
    let others = names(data)?.into_iter();
    let others = others.filter(|name| !OWN.contains(&&name[..]) && !name.starts_with("shard-"));
    report.left_out = others.collect();
    sync_folder(target)?;
    let manifest = Manifest::new(now_ms, shards);
    manifest.write(target)?;
    remove_others(target, &manifest)?;
    Ok(report)
}

/// Takes the folder of a backup for this process; refuses one that is anything else.
fn prepare(target: &Path, is_backup: bool) -> Result<File> {
    make_folder(target)?;
    let found = names(target)?;
    if !is_backup && !found.is_empty() && !found.iter().any(|name| name == LOCK) {
        let (path, why) = (target.to_owned(), ", and it is no backup");
        return Err(OfflineError::NotEmpty { path, why });
    }
    let path = target.join(LOCK);
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(&path).map_err(file_error(&path))?;
    lock.try_lock().map_err(|_| OfflineError::InUse { path: target.to_owned() })?;
    Ok(lock)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file_error(path))
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(file_error(path))
}

/// Removes what the manifest does not name: of earlier backups, or of one that was not finished.
fn remove_others(target: &Path, manifest: &Manifest) -> Result<()> {
    for shard in &manifest.shards {
        let folder = shard.folder(target);
        let named: BTreeSet<String> = shard.segments.iter().map(Segment::file).collect();
        for name in names(&folder)? {
            if name.starts_with("log-") && !named.contains(&name) {
                let path = folder.join(name);
                fs::remove_file(&path).map_err(file_error(&path))?;
            }
        }
    }
    Ok(())
}

/// The copying of one shard.
struct Copying<'a> {
    shard: &'a ShardPlace,
    number: u16,
    folder: PathBuf,
    held: &'a [Segment],
    report: &'a mut BackupReport,
}

impl Copying<'_> {
    fn run(&mut self) -> Result<Vec<Segment>> {
        let mut attempt = 1;
        loop {
            let (damage, unproven) = (self.report.damage.len(), self.report.unproven.len());
            match self.copy_all() {
                Err(_) if self.report.is_live && attempt < ATTEMPTS => attempt += 1,
                done => return done,
            }
            self.report.damage.truncate(damage);
            self.report.unproven.truncate(unproven);
        }
    }

    fn disk(&self) -> &dyn Disk {
        self.shard.disk.as_ref()
    }

    fn copy_all(&mut self) -> Result<Vec<Segment>> {
        let log = log_error(&self.shard.path);
        let found = match survey(self.disk(), self.shard.shard) {
            // A broker that has never run.
            Err(yard_store::OpenError::Missing { segment: 0 }) => return Ok(Vec::new()),
            found => found.map_err(log)?,
        };
        if let Some(segment) = found.missing.first() {
            let source = yard_store::OpenError::Missing { segment: *segment };
            return Err(OfflineError::Log { path: self.shard.path.clone(), source });
        }
        self.check_origin(&found.segments)?;
        let active = found.active();
        let mut segments = Vec::with_capacity(active + 1);
        let (mut copied, mut copied_bytes) = (0, 0);
        for (at, segment) in found.segments[..=active].iter().enumerate() {
            let next = found.segments.get(at + 1).filter(|_| at < active);
            if let Some(held) = self.held(segment, next) {
                segments.push(held);
                continue;
            }
            if let Some(copy) = self.copy(segment, next.is_some())? {
                (copied, copied_bytes) = (copied + 1, copied_bytes + copy.bytes);
                segments.push(copy);
            }
        }
        self.check_chain(&segments)?;
        self.report.segments += segments.len() as u64;
        self.report.bytes += segments.iter().map(|segment| segment.bytes).sum::<u64>();
        self.report.copied += copied;
        self.report.copied_bytes += copied_bytes;
        Ok(segments)
    }

    /// A segment of the earlier backup has the salt that it has here, if it is here.
    fn check_origin(&self, segments: &[Surveyed]) -> Result<()> {
        for held in self.held {
            let here = segments.iter().find(|it| it.segment() == held.segment);
            let last = segments.last().map_or(0, Surveyed::segment);
            if here.map_or(held.segment > last, |here| here.salt() != held.salt.0) {
                let why = "it is the backup of another log: use a folder of its own".to_owned();
                return Err(OfflineError::Backup { path: self.folder.clone(), why });
            }
        }
        Ok(())
    }

    /// What the earlier backup has of a sealed segment: all of it, by salt and chain.
    fn held(&self, segment: &Surveyed, next: Option<&Surveyed>) -> Option<Segment> {
        let held = self.held.iter().find(|held| held.segment == segment.segment())?;
        let (front, chain) = next?.front()?;
        let same = held.sealed
            && held.salt.0 == segment.salt()
            && held.chain.0 == chain
            && held.last_group + 1 == front.0;
        let bytes = fs::metadata(self.folder.join(held.file())).ok()?.len();
        (same && bytes == held.bytes).then(|| held.clone())
    }

    /// Copies a segment and verifies the copy; `None` when it holds no group.
    fn copy(&mut self, segment: &Surveyed, is_sealed: bool) -> Result<Option<Segment>> {
        let path = self.folder.join(format!("log-{:010}.new", segment.segment()));
        self.copy_bytes(segment, &path)?;
        let disk = CopiedDisk::one(&path, segment.segment(), segment.bytes());
        let mut examined = self.examine(&disk, segment)?;
        if !examined.damage.is_empty() && self.report.is_live {
            // A group that was being written when it was read is whole by now.
            self.copy_bytes(segment, &path)?;
            examined = self.examine(&disk, segment)?;
        }
        let is_bounded = !is_sealed && self.report.is_live;
        let (end, last) = if is_bounded && !self.is_proven(&examined) {
            if !examined.is_idle {
                self.report.unproven.push(self.number);
            }
            (examined.proven_end, examined.proven)
        } else {
            (examined.end, examined.last)
        };
        let (Some(first), Some(last)) = (examined.first, last) else {
            fs::remove_file(&path).map_err(file_error(&path))?;
            return Ok(None);
        };
        let crc = finish(&path, end).map_err(file_error(&path))?;
        for damage in &examined.damage {
            self.report.damage.push(format!("shard {}: {damage}", self.number));
        }
        let copy = Segment {
            segment: segment.segment(),
            sealed: is_sealed,
            bytes: end,
            capacity: segment.bytes(),
            crc,
            salt: Hex(segment.salt()),
            first_group: first.group.0,
            previous_chain: Hex(first.chain),
            last_group: last.group.0,
            chain: Hex(last.chain),
            stored_ms: last.stored.0,
            damage: examined.damage.len() as u64,
        };
        let named = self.folder.join(copy.file());
        fs::rename(&path, &named).map_err(file_error(&named))?;
        Ok(Some(copy))
    }

    fn examine(&self, disk: &dyn Disk, segment: &Surveyed) -> Result<Examined> {
        // As the copy says it is, which is what was read and may be another one by now.
        let copied = survey(disk, self.shard.shard).map_err(log_error(&self.folder))?;
        let found = copied.segments.first().filter(|found| found.salt() == segment.salt());
        let why = "the segment was removed while it was copied".to_owned();
        let gone = || OfflineError::Backup { path: self.shard.path.clone(), why };
        Ok(examine(disk, found.ok_or_else(gone)?, None))
    }

    /// Copies all of a segment but the zeros at its end.
    fn copy_bytes(&self, segment: &Surveyed, path: &Path) -> Result<()> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path).map_err(file_error(path))?;
        let name = FileName::Segment(segment.segment());
        let (mut at, mut zeros) = (0, 0);
        let mut chunk = vec![0; CHUNK_BYTES];
        while at < segment.bytes() {
            let count = (segment.bytes() - at).min(CHUNK_BYTES as u64) as usize;
            let chunk = &mut chunk[..count];
            self.disk().read_at(name, at, chunk).map_err(file_error(&self.shard.path))?;
            at += count as u64;
            if chunk.iter().fold(0, |all, byte| all | byte) == 0 {
                zeros += count as u64;
                continue;
            }
            let length = at - count as u64;
            if zeros > 0 {
                zeros = 0;
                file.set_len(length).map_err(file_error(path))?;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(length))
                    .map_err(file_error(path))?;
            }
            file.write_all(chunk).map_err(file_error(path))?;
        }
        Ok(())
    }

    /// Whether the last group is durable; waits for the group that proves it, unless the last is
    /// such a one itself.
    fn is_proven(&self, examined: &Examined) -> bool {
        let Some(last) = examined.last else { return true };
        if examined.end == examined.proven_end {
            return true;
        }
        if examined.is_idle {
            return false;
        }
        let began = Instant::now();
        while began.elapsed() < PROOF {
            if offline::is_proven(self.disk(), &examined.segment, examined.end, last.group) {
                return true;
            }
            thread::sleep(PROOF_EVERY);
        }
        false
    }

    /// The segments follow each other, but where the log is damaged.
    fn check_chain(&self, segments: &[Segment]) -> Result<()> {
        for pair in segments.windows(2) {
            let (last, next) = (&pair[0], &pair[1]);
            let follows = last.last_group + 1 == next.first_group
                && last.chain == next.previous_chain
                && last.segment + 1 == next.segment;
            if !follows && last.damage + next.damage == 0 {
                let segment = next.segment;
                let why = format!("segment {segment} does not follow the one before it");
                return Err(OfflineError::Backup { path: self.shard.path.clone(), why });
            }
        }
        Ok(())
    }
}

/// Cuts a copy after its last group and makes it durable; returns the checksum of its bytes.
fn finish(path: &Path, bytes: u64) -> std::io::Result<u32> {
    let file = File::options().read(true).write(true).open(path)?;
    file.set_len(bytes)?;
    file.sync_all()?;
    checksum(&file)
}

/// CRC32C of a whole file.
pub(super) fn checksum(mut file: &File) -> std::io::Result<u32> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut crc = 0;
    loop {
        let count = std::io::Read::read(&mut file, &mut chunk)?;
        if count == 0 {
            return Ok(crc);
        }
        crc = crc32c::crc32c_append(crc, &chunk[..count]);
    }
}
