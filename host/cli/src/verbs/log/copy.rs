//! `yard log backup` and `yard log restore`.
use yard_client::wire::Timestamp;
use yard_client::wire::value::Value;
use yard_server::offline;

use super::{failed, path, text};
use crate::args::Written;
use crate::failure::Failure;
use crate::output::{self, Format};

pub(crate) fn backup(format: Format, written: &Written) -> Result<(), Failure> {
    let (data, target) = (path(written, "data")?, path(written, "target")?);
    let done = offline::backup(data, target, crate::verbs::now().0).map_err(failed)?;
    let value = Value::Record(vec![
        ("live", Value::Bool(done.is_live)),
        ("segments", Value::Number(done.segments)),
        ("copied_segments", Value::Number(done.copied)),
        ("bytes", Value::Number(done.bytes)),
        ("copied_bytes", Value::Number(done.copied_bytes)),
        ("left_out", text(done.left_out.join(", "))),
        ("damage", places(&done.damage)),
    ]);
    output::show(&value, format)?;
    for shard in &done.unproven {
        eprintln!("shard {shard}: the last group is not in it, nothing proved it to be durable");
    }
    if done.damage.is_empty() {
        return Ok(());
    }
    let count = done.damage.len();
    Err(Failure::partial(format!(
        "the log is damaged in {count} places; they were copied as they are, with all the rest"
    )))
}

fn places(damage: &[String]) -> Value {
    let place = |damage: &String| Value::Record(vec![("place", text(damage))]);
    Value::List(damage.iter().map(place).collect())
}

pub(crate) fn restore(format: Format, written: &Written) -> Result<(), Failure> {
    let (backup, data) = (path(written, "backup")?, path(written, "data")?);
    let done = offline::restore(backup, data).map_err(failed)?;
    let value = Value::Record(vec![
        ("taken", text(crate::text::instant(Timestamp(done.taken_ms)))),
        ("shards", Value::Number(done.shards)),
        ("segments", Value::Number(done.segments)),
        ("bytes", Value::Number(done.bytes)),
        ("damage", places(&done.damage)),
    ]);
    output::show(&value, format)?;
    eprintln!(
        "keys and certificates are not part of a backup: a broker with --dev makes new ones, its \
         clients need the new context"
    );
    if done.damage.is_empty() {
        return Ok(());
    }
    let count = done.damage.len();
    Err(Failure::partial(format!(
        "the log was damaged in {count} places when it was backed up; it is as it was then"
    )))
}
