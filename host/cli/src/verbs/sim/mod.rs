//! `yard sim show`: steps through the event log of a run of the simulator, forwards and backwards,
//! with what each step changed of the broker's state.
mod log;
mod walk;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use yard_client::wire::value::Value;

use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::output::{self, Format};
use log::{Log, Step};

pub(crate) fn show(format: Format, written: &Written) -> Result<(), Failure> {
    let path = written.required("file")?;
    let log = Log::read(Path::new(path))?;
    let step = written.number("step", 1, u64::MAX)?;
    let (from, to) = (written.number("from", 0, u64::MAX)?, written.number("to", 0, u64::MAX)?);
    if step.is_some() && (from.is_some() || to.is_some()) {
        return Err(bad_argument("step", "is one step, and --from and --to are several"));
    }
    let find = written.text("find");
    let is_asked = step.or(from).or(to).is_some() || find.is_some();
    let is_person = io::stdin().is_terminal() && io::stdout().is_terminal();
    if format == Format::Table && !is_asked && is_person {
        let mut out = io::stdout().lock();
        return Ok(walk::walk(&log, &mut io::stdin().lock(), &mut out)?);
    }
    let (from, to) = match step {
        Some(step) => (step, step),
        None => (from.unwrap_or(0), to.unwrap_or(u64::MAX)),
    };
    let wanted = |step: &&Step| {
        (from..=to).contains(&step.number) && find.is_none_or(|text| step.speaks_of(text))
    };
    let steps: Vec<&Step> = log.steps.iter().filter(wanted).collect();
    if step.is_some() && steps.is_empty() {
        let why = "no such step: where nothing happens that can be seen, none is written";
        return Err(bad_argument("step", why));
    }
    if format != Format::Table {
        let rows = steps.into_iter().map(Step::value).collect();
        return Ok(output::show(&Value::List(rows), format)?);
    }
    let mut out = io::stdout().lock();
    for step in steps {
        out.write_all(step.text(log.last()).as_bytes())?;
    }
    out.write_all(log.outcome().as_bytes())?;
    Ok(out.flush()?)
}
