//! A copy of the logs of a data folder, while a broker runs on it or not.
//!
//! ```text
//!   for each segment, oldest first:
//!     named by the last backup, and sealed ──► stays as it is
//!     else ──► copied under a new name ──► the copy is verified ──► cut after its last byte, or
//!                                                               after the last group of the log
//!   manifest.toml replaced ──► files that it does not name are removed
//! ```
//!
//! Of a log that is being written to, what a later group proves to be durable is taken; the last
//! group waits for its proof, which an idle broker writes within milliseconds. So what was
//! acknowledged before the backup began is in it.
//!
//! Damage is no reason to refuse: what is damaged is copied as it is and told.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use yard_store::offline::{
    self, Damage, Examined, Link, Saved, Seam, Survey, Surveyed, examine, is_still, survey,
};
use yard_store::{Checkpoint, Disk, FileName};

use super::copied::CopiedDisk;
use super::manifest::{self, Groups, Hex, Manifest, Segment, Shard};
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
    check_apart(data, target)?;
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
        let seam = Seam::default();
        let mut copying = Copying { shard, number, folder, held, seam, report: &mut report };
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

/// A backup that goes with what it is a copy of is none.
fn check_apart(data: &Path, target: &Path) -> Result<()> {
    let data = fs::canonicalize(data).map_err(file_error(data))?;
    let whole = std::path::absolute(target).map_err(file_error(target))?;
    // Of a folder that is yet to be made, the one that it will be in.
    let there = whole.ancestors().find_map(|it| fs::canonicalize(it).ok()).unwrap_or(whole);
    if !there.starts_with(&data) {
        return Ok(());
    }
    let why = "it lies in the data folder that is to be backed up: name a folder elsewhere";
    Err(OfflineError::Backup { path: target.to_owned(), why: why.to_owned() })
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
    /// Where the next segment has to go on.
    seam: Seam,
    report: &'a mut BackupReport,
}

/// A log of which a segment is copied.
struct Source {
    survey: Survey,
    /// Of a log that nobody has open: the checkpoint, which may have seen what is damaged now.
    saved: Option<Checkpoint>,
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
            self.seam = Seam::default();
        }
    }

    fn disk(&self) -> &dyn Disk {
        self.shard.disk.as_ref()
    }

    fn copy_all(&mut self) -> Result<Vec<Segment>> {
        let Some(source) = self.source()? else { return Ok(Vec::new()) };
        let found = &source.survey;
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
            if let Some((held, last)) = self.held(segment, next) {
                self.seam.pass_whole(held.segment, held.bytes, last);
                segments.push(held);
                continue;
            }
            if let Some(copy) = self.copy(&source, segment, next.is_some())? {
                (copied, copied_bytes) = (copied + 1, copied_bytes + copy.bytes);
                segments.push(copy);
            }
        }
        let last = segments.last().map(|last: &Segment| last.segment);
        if let Some(saved) = source.saved.filter(|saved| last.is_none_or(|it| it < saved.segment)) {
            let name = FileName::Segment(saved.segment);
            let what = "groups that the checkpoint has seen";
            self.tell(&Damage::new(name, saved.offset, 0, what));
        }
        self.report.segments += segments.len() as u64;
        self.report.bytes += segments.iter().map(|segment| segment.bytes).sum::<u64>();
        self.report.copied += copied;
        self.report.copied_bytes += copied_bytes;
        Ok(segments)
    }

    /// What there is to copy; `None`: of a broker that has never run.
    fn source(&self) -> Result<Option<Source>> {
        let log = || log_error(&self.shard.path);
        let survey = match survey(self.disk(), self.shard.shard) {
            Err(yard_store::OpenError::Missing { segment: 0 }) => return Ok(None),
            found => found.map_err(log())?,
        };
        let saved = if self.report.is_live {
            // The broker knows what its log has to hold.
            Saved::Nothing
        } else {
            offline::saved(self.disk(), survey.shard, &survey.names).map_err(log())?
        };
        let saved = match saved {
            Saved::Whole(saved) => Some(saved),
            // It is not part of a backup.
            Saved::Nothing | Saved::Damaged => None,
        };
        Ok(Some(Source { survey, saved }))
    }

    fn tell(&mut self, damage: &Damage) {
        self.report.damage.push(format!("shard {}: {damage}", self.number));
    }

    /// A segment of the earlier backup has the salt that it has here, if it is here and says one.
    fn check_origin(&self, segments: &[Surveyed]) -> Result<()> {
        for held in self.held {
            let here = segments.iter().find(|it| it.segment() == held.segment);
            let last = segments.last().map_or(0, Surveyed::segment);
            let is_other = |here: &Surveyed| here.salt() != 0 && here.salt() != held.salt.0;
            if here.map_or(held.segment > last, is_other) {
                let why = "it is the backup of another log: use a folder of its own".to_owned();
                return Err(OfflineError::Backup { path: self.folder.clone(), why });
            }
        }
        Ok(())
    }

    /// What the earlier backup has of a sealed segment, and its last group: all of it, by the chain
    /// that the next one goes on with, and nothing that was damaged.
    fn held(&self, segment: &Surveyed, next: Option<&Surveyed>) -> Option<(Segment, Link)> {
        let held = self.held.iter().find(|held| held.segment == segment.segment())?;
        let (front, chain) = next?.front()?;
        let last = held.groups?.last();
        let follows = last.chain == chain && last.group.0 + 1 == front.0;
        let same = held.sealed && held.is_whole() && follows;
        let bytes = fs::metadata(self.folder.join(held.file())).ok()?.len();
        (same && bytes == held.bytes).then(|| (held.clone(), last))
    }

    /// Copies a segment and verifies the copy; `None` when it holds no group and never did.
    fn copy(
        &mut self,
        source: &Source,
        segment: &Surveyed,
        is_sealed: bool,
    ) -> Result<Option<Segment>> {
        let number = segment.segment();
        let path = self.folder.join(format!("log-{number:010}.new"));
        self.copy_bytes(segment, &path)?;
        let disk = CopiedDisk::one(&path, number, segment.bytes());
        let mut examined = self.examine(&disk, segment)?;
        if !examined.damage.is_empty() && self.report.is_live {
            // A group that was being written when it was read is whole by now.
            self.copy_bytes(segment, &path)?;
            examined = self.examine(&disk, segment)?;
        }
        let damage = self.damage(source, &examined);
        self.seam.pass(&examined);
        let is_bounded = !is_sealed && self.report.is_live;
        let (end, last) = if is_bounded && !self.is_proven(&examined) {
            if !examined.is_idle {
                self.report.unproven.push(self.number);
            }
            (examined.proven_end, examined.proven)
        } else if is_sealed || !damage.is_empty() {
            (examined.filled, examined.last)
        } else {
            (examined.end, examined.last)
        };
        let groups = examined.first.zip(last).map(|(first, last)| Groups::new(first, last));
        if groups.is_none() && !is_sealed && damage.is_empty() {
            fs::remove_file(&path).map_err(file_error(&path))?;
            return Ok(None);
        }
        let crc = finish(&path, end).map_err(file_error(&path))?;
        damage.iter().for_each(|damage| self.tell(damage));
        let copy = Segment {
            segment: number,
            sealed: is_sealed,
            bytes: end,
            capacity: segment.bytes(),
            crc,
            salt: Hex(segment.salt()),
            groups,
            damage: damage.len() as u64,
        };
        let named = self.folder.join(copy.file());
        fs::rename(&path, &named).map_err(file_error(&named))?;
        Ok(Some(copy))
    }

    /// What is damaged in a segment, at its head, and between it and the one before.
    fn damage(&self, source: &Source, examined: &Examined) -> Vec<Damage> {
        let segment = examined.segment.segment();
        let name = FileName::Segment(segment);
        let heads = source.survey.damage.iter().filter(|damage| damage.name == name).cloned();
        let mut found: Vec<Damage> = heads.collect();
        found.extend(self.seam.before(examined));
        found.extend(examined.damage.iter().cloned());
        let seen = source.saved.as_ref().filter(|saved| saved.segment == segment);
        if seen.is_some_and(|saved| saved.offset > examined.end) {
            let bytes = examined.filled - examined.end;
            let what = "groups that the checkpoint has seen";
            found.push(Damage::new(name, examined.end, bytes, what));
        }
        found
    }

    fn examine(&self, disk: &dyn Disk, segment: &Surveyed) -> Result<Examined> {
        if !is_still(disk, segment) {
            let why = "the segment was removed while it was copied".to_owned();
            return Err(OfflineError::Backup { path: self.shard.path.clone(), why });
        }
        Ok(examine(disk, segment, None))
    }

    /// Copies all of a segment but the zeros at its end.
    fn copy_bytes(&self, segment: &Surveyed, path: &Path) -> Result<()> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path).map_err(file_error(path))?;
        let name = FileName::Segment(segment.segment());
        let there = self.disk().len(name).map_err(file_error(&self.shard.path))?;
        let bytes = segment.bytes().min(there);
        let (mut at, mut zeros) = (0, 0);
        let mut chunk = vec![0; CHUNK_BYTES];
        while at < bytes {
            let count = (bytes - at).min(CHUNK_BYTES as u64) as usize;
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
}

/// Cuts a copy after so many bytes and makes it durable; returns the checksum of its bytes.
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
