//! Putting right what follows from the log, and, if told to, accepting what is gone.
use std::fs;
use std::path::{Path, PathBuf};

use yard_store::offline::{Damage, Step, apply, plan};

use super::place::{Is, Place};
use super::verify::{examine_all, joined, survey_all};
use super::{OfflineError, Result, file_error, log_error};

/// What would be, or was, changed.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// The steps, each with its shard.
    pub steps: Vec<(u16, Step)>,
    /// Files that were never finished, which go.
    pub unfinished: Vec<PathBuf>,
    /// What is gone for good, and was accepted: one sentence each.
    pub losses: Vec<String>,
    /// Places that are damaged in the log itself, each with its shard. They cannot be repaired and
    /// stay as they are: the broker serves everything else.
    pub damaged: Vec<(u16, Damage)>,
    /// Whether it was done.
    pub applied: bool,
}

/// Plans the repair of a data folder or of one shard, and does it when `is_applied`.
///
/// # Errors
/// [`OfflineError`]; nothing was changed then, unless the disk refused half-way.
pub fn repair(path: &Path, is_applied: bool, accept_loss: bool) -> Result<RepairReport> {
    let mut place = Place::find(path)?;
    if place.is == Is::Backup {
        let why = "it is a backup: restore it, and repair what was restored".to_owned();
        return Err(OfflineError::Backup { path: path.to_owned(), why });
    }
    let _folder = place.open_to_write()?;
    let looked = examine_all(&place, survey_all(&place, false)?)?;
    let mut report = RepairReport { applied: is_applied, ..RepairReport::default() };
    for (shard, of) in place.shards.iter().zip(&looked) {
        let checkpoint = of.saved.damage(&of.examined);
        let (disk, survey) = (shard.disk.as_ref(), &of.survey);
        let found = plan(
            disk,
            survey,
            &of.examined,
            &of.derived,
            checkpoint.as_ref(),
            crate::boot::seed(0),
        )
        .map_err(log_error(&shard.path))?;
        report.steps.extend(found.steps.into_iter().map(|step| (survey.shard.0, step)));
        let named = |loss| format!("{}: {loss}", shard.path.display());
        report.losses.extend(found.losses.into_iter().map(named));
        let damaged = joined(shard, of).damage.into_iter();
        report.damaged.extend(damaged.map(|damage| (survey.shard.0, damage)));
        report.unfinished.extend(shard.unfinished.iter().cloned());
    }
    if !accept_loss && !report.losses.is_empty() {
        return Err(OfflineError::Loss { what: report.losses.join("; ") });
    }
    if !is_applied {
        return Ok(report);
    }
    for path in &report.unfinished {
        fs::remove_file(path).map_err(file_error(path))?;
    }
    for (shard, of) in place.shards.iter().zip(&looked) {
        for (_, step) in report.steps.iter().filter(|(number, _)| *number == of.survey.shard.0) {
            apply(shard.disk.as_ref(), &of.survey, step).map_err(file_error(&shard.path))?;
        }
    }
    Ok(report)
}
