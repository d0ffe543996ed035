//! A data folder out of a backup.
//!
//! ```text
//!   every file verified, and the chain over all of them: what was damaged in the log is told
//!     ──► DATA.restoring: segments, indexes, broker.toml, all durable ──► renamed to DATA
//! ```
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use yard_store::disk::real::RealDisk;
use yard_store::offline::{Step, apply, examine, join, survey};
use yard_store::{Disk, FileName};
use yard_wire::ShardId;

use super::backup::checksum;
use super::copied::CopiedDisk;
use super::manifest::{self, Groups, Manifest, Segment, Shard};
use super::place::names;
use super::{OfflineError, Result, file_error, log_error};
use crate::folder::Folder;

/// Bytes of one write.
const CHUNK_BYTES: usize = 4 << 20;

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// When the backup was taken, in milliseconds since 1970.
    pub taken_ms: u64,
    /// Shards of the folder.
    pub shards: u64,
    /// Their segments.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Places that were damaged in the log already when it was backed up, and are as they were.
    pub damage: Vec<String>,
}

/// Restores a backup to `data`, which is not there yet or empty.
///
/// # Errors
/// [`OfflineError`]; `data` is as it was then.
pub fn restore(backup: &Path, data: &Path) -> Result<RestoreReport> {
    let no_backup = || OfflineError::Backup {
        path: backup.to_owned(),
        why: format!("it is not a backup: it has no {}", manifest::NAME),
    };
    fs::metadata(backup).map_err(file_error(backup))?;
    let manifest = manifest::read(backup)?.ok_or_else(no_backup)?;
    check_empty(data)?;
    let fresh = beside(data);
    if fresh.exists() {
        let why = ": an interrupted restore left it behind, remove it first";
        return Err(OfflineError::NotEmpty { path: fresh, why });
    }
    let mut report = RestoreReport { taken_ms: manifest.taken_ms, ..RestoreReport::default() };
    for shard in &manifest.shards {
        report.damage.extend(verify(backup, shard)?);
    }
    if let Err(error) = fill(backup, &manifest, &fresh, &mut report) {
        // It was made just now; the first error is the one to tell.
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    fs::rename(&fresh, data).map_err(file_error(data))?;
    let parent = match data.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(file_error(parent))?;
    Ok(report)
}

fn check_empty(data: &Path) -> Result<()> {
    match fs::metadata(data) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file_error(data)(error)),
        Ok(found) if found.is_dir() && names(data)?.is_empty() => return Ok(()),
        Ok(_) => {}
    }
    Err(OfflineError::NotEmpty { path: data.to_owned(), why: ": restore to a new folder" })
}

/// The folder that becomes `data` when it is whole.
fn beside(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    data.with_file_name(name)
}

/// Checks every file of a shard by what the manifest says, and the chain over them; returns what
/// was damaged already.
fn verify(backup: &Path, shard: &Shard) -> Result<Vec<String>> {
    let folder = shard.folder(backup);
    let Some(begins) = shard.segments.first().map(|first| first.segment) else {
        return Ok(Vec::new());
    };
    for (expected, segment) in (begins..).zip(&shard.segments) {
        let path = folder.join(segment.file());
        let wrong = |why: &str| OfflineError::Backup { path: path.clone(), why: why.to_owned() };
        let file = File::open(&path).map_err(file_error(&path))?;
        if file.metadata().map_err(file_error(&path))?.len() != segment.bytes {
            return Err(wrong("it is not as long as when it was written"));
        }
        if checksum(&file).map_err(file_error(&path))? != segment.crc {
            return Err(wrong("it is damaged: its checksum does not hold"));
        }
        if segment.segment != expected {
            return Err(wrong("it does not follow the segment before it"));
        }
    }
    let disk = CopiedDisk::new(&folder, &shard.segments);
    let found = survey(&disk, Some(ShardId(shard.shard))).map_err(log_error(&folder))?;
    let mut all = Vec::with_capacity(found.segments.len());
    for (surveyed, segment) in found.segments.iter().zip(&shard.segments) {
        let examined = examine(&disk, surveyed, None);
        let groups = examined.first.zip(examined.last);
        let groups = groups.map(|(first, last)| Groups::new(first, last));
        if surveyed.segment() != segment.segment || groups != segment.groups {
            let path = folder.join(segment.file());
            let why = "it holds other groups than the manifest says".to_owned();
            return Err(OfflineError::Backup { path, why });
        }
        all.push(examined);
    }
    let damage = join(&found, &all).damage;
    Ok(damage.iter().map(|damage| format!("shard {}: {damage}", shard.shard)).collect())
}

fn fill(
    backup: &Path,
    manifest: &Manifest,
    fresh: &Path,
    report: &mut RestoreReport,
) -> Result<()> {
    let folder = Folder::open(fresh)?;
    let shards = u16::try_from(manifest.shards.len()).unwrap_or(u16::MAX);
    folder.fix_shards(Some(shards))?;
    for shard in &manifest.shards {
        let path = folder.shard(shard.shard)?;
        let disk = RealDisk::open(&path).map_err(file_error(&path))?;
        for segment in &shard.segments {
            let from = shard.folder(backup).join(segment.file());
            copy(&from, segment, &disk).map_err(file_error(&from))?;
            report.segments += 1;
            report.bytes += segment.bytes;
        }
        index(shard, &disk).map_err(|error| match error {
            Indexing::Log(source) => log_error(&path)(source),
            Indexing::File(source) => file_error(&path)(source),
        })?;
        report.shards += 1;
    }
    folder.note_logs()?;
    File::open(fresh).and_then(|folder| folder.sync_all()).map_err(file_error(fresh))
}

/// Puts a segment in its place, as long as it was, and makes it durable.
fn copy(from: &Path, segment: &Segment, disk: &RealDisk) -> std::io::Result<()> {
    let name = FileName::Segment(segment.segment);
    let mut file = File::open(from)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut count = read_full(&mut file, &mut chunk)?;
    // What will be written to is zeroed, as it was.
    let zero_bytes = if segment.sealed { 0 } else { segment.capacity };
    let header = &chunk[..count.min(HEADER_BYTES)];
    disk.create_segment(name, header, segment.capacity, zero_bytes)?;
    let (mut at, mut crc) = (0, 0);
    while count > 0 {
        crc = crc32c::crc32c_append(crc, &chunk[..count]);
        disk.write_at(name, at, &chunk[..count])?;
        at += count as u64;
        count = read_full(&mut file, &mut chunk)?;
    }
    if crc != segment.crc {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "it has changed meanwhile"));
    }
    disk.sync(name)
}

/// Bytes at the front of a segment that are written last.
const HEADER_BYTES: usize = yard_store::format::segment::HEADER_BYTES;

fn read_full(file: &mut File, chunk: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

enum Indexing {
    Log(yard_store::OpenError),
    File(std::io::Error),
}

/// Makes the indexes of the sealed segments, which the first start would have to make.
fn index(shard: &Shard, disk: &RealDisk) -> std::result::Result<(), Indexing> {
    if shard.segments.is_empty() {
        return Ok(());
    }
    let found = survey(disk, Some(ShardId(shard.shard))).map_err(Indexing::Log)?;
    for segment in shard.segments.iter().filter(|it| it.sealed && it.is_whole()) {
        let (name, segment) = (FileName::Index(segment.segment), segment.segment);
        let step = Step::Write { name, segment, why: "it is missing" };
        apply(disk, &found, &step).map_err(Indexing::File)?;
    }
    Ok(())
}
