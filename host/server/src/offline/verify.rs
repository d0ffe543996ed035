//! Every byte of the logs of a folder, by several threads, a segment each at a time.
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use yard_store::FileName;
use yard_store::offline::{
    self, Damage, Derived, Examined, Joined, Saved, Survey, Wrong, cut_off, examine_derived, join,
};
use yard_wire::GroupNumber;

use super::place::{Is, Place, ShardPlace};
use super::{Result, file_error, log_error};

/// Segments are examined by so many threads at most.
const THREADS_MAX: usize = 16;

/// What was found in a folder.
#[derive(Debug)]
pub struct VerifyReport {
    /// Shard by shard.
    pub shards: Vec<ShardReport>,
    /// A broker has the folder open: only what cannot change any more was looked at.
    pub is_live: bool,
    /// How long it took.
    pub took: Duration,
    /// How long reading the same segments and one CRC32C over them took, in the mean of a run
    /// before and a run after, when that was asked for.
    pub plain: Option<Duration>,
}

impl VerifyReport {
    /// Bytes of the segments that were read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.joined.counts.bytes).sum()
    }

    /// Whether every log is as it was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shards.iter().all(|shard| shard.joined.damage.is_empty())
    }
}

/// What was found in the log of one shard.
#[derive(Debug)]
pub struct ShardReport {
    /// Its number.
    pub shard: u16,
    /// Its folder.
    pub path: PathBuf,
    /// Segments that were looked at.
    pub segments: usize,
    /// What is in them, and what is wrong with them.
    pub joined: Joined,
    /// Files that are missing though they could be there; they cost time, nothing else.
    pub missing: Vec<FileName>,
    /// Segments that were not looked at, because they may be written to.
    pub uncovered: Vec<u32>,
}

/// A shard's log while it is looked at.
pub(super) struct Looked {
    pub(super) survey: Survey,
    pub(super) saved: Saved,
    /// How many of the segments, from the first on, are looked at.
    pub(super) covered: usize,
    pub(super) examined: Vec<Examined>,
    pub(super) derived: Vec<Derived>,
}

/// Verifies the logs of a data folder, of one shard, or of a backup.
///
/// # Errors
/// [`super::OfflineError`] when there is nothing that could be verified.
pub fn verify(path: &Path, compare: bool) -> Result<VerifyReport> {
    let place = Place::find(path)?;
    let locks = place.lock()?;
    let is_live = locks.is_none();
    let surveyed = survey_all(&place, is_live)?;
    let before = if compare { Some(read_plainly(&place, &surveyed)?) } else { None };
    let began = Instant::now();
    let looked = examine_all(&place, surveyed)?;
    let took = began.elapsed();
    let plain = match before {
        Some(before) => Some((before + read_plainly(&place, &looked)?) / 2),
        None => None,
    };
    let shards = place.shards.iter().zip(looked);
    let shards = shards.map(|(shard, looked)| report(shard, looked, place.is)).collect();
    Ok(VerifyReport { shards, is_live, took, plain })
}

fn report(place: &ShardPlace, looked: Looked, is: Is) -> ShardReport {
    let mut joined = joined(place, &looked);
    let Looked { survey, saved, covered, examined, derived } = looked;
    joined.damage.extend(saved.damage(&examined));
    let mut missing = Vec::new();
    for file in derived {
        match file.wrong {
            // A backup has none.
            Wrong::Missing if is == Is::Backup => {}
            Wrong::Missing => missing.push(file.name),
            Wrong::Differs(what) => {
                joined.damage.push(Damage::new(file.name, 0, 0, what));
            }
        }
    }
    joined.damage.sort();
    let uncovered = survey.segments[covered..].iter().map(|it| it.segment()).collect();
    let (shard, path) = (survey.shard.0, place.path.clone());
    ShardReport { shard, path, segments: covered, joined, missing, uncovered }
}

/// What the segments say together, and what other files know of an end that was cut off.
pub(super) fn joined(place: &ShardPlace, looked: &Looked) -> Joined {
    let Looked { survey, saved, examined, .. } = looked;
    let mut joined = join(survey, examined);
    joined.damage.extend(cut_off(place.disk.as_ref(), survey, examined, saved));
    joined
}

/// Surveys the shards; of a folder that a broker has open, only what cannot change is covered.
pub(super) fn survey_all(place: &Place, is_live: bool) -> Result<Vec<Looked>> {
    let survey = |shard: &ShardPlace| {
        let disk = shard.disk.as_ref();
        let log = || log_error(&shard.path);
        let names = disk.list().map_err(file_error(&shard.path))?;
        // Before the log: what it has seen must be there.
        let known = offline::survey(disk, shard.shard).map_err(log())?;
        let saved = offline::saved(disk, known.shard, &names).map_err(log())?;
        let survey = offline::survey(disk, shard.shard).map_err(log())?;
        let covered = if is_live { survey.active() + 1 } else { survey.segments.len() };
        Ok(Looked { survey, saved, covered, examined: Vec::new(), derived: Vec::new() })
    };
    place.shards.iter().map(survey).collect()
}

/// Examines what was surveyed.
pub(super) fn examine_all(place: &Place, mut looked: Vec<Looked>) -> Result<Vec<Looked>> {
    let tasks = tasks(&looked);
    let done = share(&tasks, |(shard, segment)| {
        let (of, disk) = (&looked[*shard], place.shards[*shard].disk.as_ref());
        let wanted: Option<GroupNumber> = match &of.saved {
            Saved::Whole(saved) => Some(saved.group),
            Saved::Nothing | Saved::Damaged => None,
        };
        examine_derived(disk, &of.survey, *segment, wanted)
    });
    for ((shard, _), done) in tasks.iter().zip(done) {
        let (examined, derived) = done.map_err(log_error(&place.shards[*shard].path))?;
        looked[*shard].examined.push(examined);
        looked[*shard].derived.extend(derived);
    }
    Ok(looked)
}

/// How long it takes to read the same segments, by as many threads, and to checksum them.
fn read_plainly(place: &Place, looked: &[Looked]) -> Result<Duration> {
    let began = Instant::now();
    let tasks = tasks(looked);
    let done = share(&tasks, |(shard, segment)| {
        let disk = place.shards[*shard].disk.as_ref();
        offline::read_through(disk, &looked[*shard].survey.segments[*segment])
    });
    for ((shard, _), read) in tasks.iter().zip(done) {
        read.map_err(file_error(&place.shards[*shard].path))?;
    }
    Ok(began.elapsed())
}

fn tasks(looked: &[Looked]) -> Vec<(usize, usize)> {
    let shards = looked.iter().enumerate();
    shards.flat_map(|(shard, of)| (0..of.covered).map(move |segment| (shard, segment))).collect()
}

/// Does all tasks by as many threads as there are processors; the results come in their order.
fn share<T: Sync, R: Send>(tasks: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<R>>> = tasks.iter().map(|_| Mutex::new(None)).collect();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..processors.min(THREADS_MAX).min(tasks.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(task) = tasks.get(at) else { break };
                    let result = work(task);
                    *done[at].lock().expect("a task is done by one thread") = Some(result);
                }
            });
        }
    });
    let result = |done: Mutex<Option<R>>| {
        let result = done.into_inner().expect("a task is done by one thread");
        result.expect("every task was done")
    };
    done.into_iter().map(result).collect()
}
