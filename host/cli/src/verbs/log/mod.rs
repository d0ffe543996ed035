//! `yard log`: the files of a broker, without it or beside it.
mod copy;
mod verify;

use std::path::Path;
use std::time::Duration;

use yard_client::wire::LogPos;
use yard_client::wire::value::Value;
use yard_server::offline::{self, DumpOptions, RepairReport, Step};

use crate::args::Written;
use crate::failure::Failure;
use crate::output::{self, Format};

pub(crate) use copy::{backup, restore};
pub(crate) use verify::verify;

/// Lines of one dump at most.
const LIMIT_MAX: u64 = 1_000_000;

fn failed(error: offline::OfflineError) -> Failure {
    let failure = Failure::local(error.to_string());
    match error.code() {
        Some(code) => failure.with_code(code),
        None => failure,
    }
}

fn path<'a>(written: &'a Written, name: &str) -> Result<&'a Path, Failure> {
    Ok(Path::new(written.required(name)?))
}

fn text(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

fn milliseconds(took: Duration) -> Value {
    Value::Number(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn dump(format: Format, written: &Written) -> Result<(), Failure> {
    let segment = written.number("segment", 0, u64::from(u32::MAX))?;
    let limit = written.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_MAX);
    let options = DumpOptions {
        segment: segment.map(|segment| u32::try_from(segment).expect("checked against the most")),
        from: LogPos(written.number("from", 0, u64::MAX)?.unwrap_or(0)),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        bodies: written.switch("bodies"),
    };
    let dumped = offline::dump(path(written, "dir")?, &options).map_err(failed)?;
    output::show(&Value::List(dumped.lines), format)?;
    if dumped.is_live {
        eprintln!("a broker has the folder open: segments that it has only prepared are left out");
    }
    if let Some((shard, position)) = dumped.next {
        eprintln!("there is more: go on with --from {} (shard {shard})", position.0);
    }
    Ok(())
}

pub(crate) fn repair(format: Format, written: &Written) -> Result<(), Failure> {
    let (apply, accept_loss) = (written.switch("apply"), written.switch("accept_loss"));
    let done = offline::repair(path(written, "dir")?, apply, accept_loss).map_err(failed)?;
    output::show(&repaired(&done, format), format)?;
    let steps = done.steps.len() + done.unfinished.len();
    let damaged = done.damaged.len();
    if steps > 0 && !done.applied {
        eprintln!("nothing was changed: --apply does it");
    } else if steps == 0 && damaged == 0 {
        eprintln!("there is nothing to repair");
    }
    if damaged > 0 {
        eprintln!(
            "{damaged} damaged places cannot be repaired, because the log holds these bytes only \
             once; they stay as they are, and the broker serves everything else"
        );
    }
    Ok(())
}

fn repaired(done: &RepairReport, format: Format) -> Value {
    let unfinished = done.unfinished.iter().map(|path| {
        let why = text("it was never finished");
        Value::Record(vec![
            ("shard", Value::Null),
            ("does", text("remove")),
            ("file", text(path.display())),
            ("why", why),
        ])
    });
    let steps = done.steps.iter().map(|(shard, step)| step_row(*shard, step)).chain(unfinished);
    let damage = done.damaged.iter();
    let damage = damage.map(|(shard, damage)| verify::damage_row(*shard, damage, format));
    let losses = done.losses.iter().map(|loss| Value::Record(vec![("accepted", text(loss))]));
    Value::Record(vec![
        ("applied", Value::Bool(done.applied)),
        ("matched", Value::Number((done.steps.len() + done.unfinished.len()) as u64)),
        ("damaged_places", Value::Number(done.damaged.len() as u64)),
        ("steps", Value::List(steps.collect())),
        ("losses", Value::List(losses.collect())),
        ("damage", Value::List(damage.collect())),
    ])
}

fn step_row(shard: u16, step: &Step) -> Value {
    let (does, file, why) = match step {
        Step::Write { name, why, .. } => ("rebuild", name.to_string(), *why),
        Step::Remove { name, why } => ("remove", name.to_string(), *why),
        Step::Replace { segment, .. } => {
            ("put an empty one there", format!("log-{segment:010}"), "it is missing")
        }
    };
    Value::Record(vec![
        ("shard", Value::Number(shard.into())),
        ("does", text(does)),
        ("file", text(file)),
        ("why", text(why)),
    ])
}
