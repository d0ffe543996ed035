//! What lies in a log, line by line.
use std::ops::ControlFlow;
use std::path::Path;

use yard_broker::Entry;
use yard_store::offline::{Line, kind_name};
use yard_wire::value::Value;
use yard_wire::{LogPos, TenantId};

use super::place::Place;
use super::verify::{Looked, survey_all};
use super::{OfflineError, Result};

/// Bytes of a body or an entry that are shown at most.
const SHOWN_MAX: usize = 4 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpOptions {
    /// This segment only.
    pub segment: Option<u32>,
    /// From this log position on.
    pub from: LogPos,
    /// So many lines at most.
    pub limit: usize,
    /// Bodies and the contents of entries too.
    pub bodies: bool,
}

/// A part of a log.
#[derive(Debug)]
pub struct Dumped {
    /// Its lines.
    pub lines: Vec<Value>,
    /// Where to go on, when there is more: shard and position.
    pub next: Option<(u16, LogPos)>,
    /// A broker has the folder open: what it is writing is not shown.
    pub is_live: bool,
}

/// Reads lines out of the logs of a folder.
///
/// # Errors
/// [`super::OfflineError`] when there is no log that could be read.
pub fn dump(path: &Path, options: &DumpOptions) -> Result<Dumped> {
    let place = Place::find(path)?;
    let locks = place.lock()?;
    let mut dumped = Dumped { lines: Vec::new(), next: None, is_live: locks.is_none() };
    let looked = survey_all(&place, dumped.is_live)?;
    if let Some(segment) = options.segment {
        check_there(path, segment, &looked)?;
    }
    for (shard, of) in place.shards.iter().zip(looked) {
        let number = of.survey.shard.0;
        for segment in &of.survey.segments[..of.covered] {
            let end = segment.base().0 + segment.bytes();
            let wanted = options.segment.is_none_or(|wanted| wanted == segment.segment());
            if !wanted || end <= options.from.0 {
                continue;
            }
            let mut visit = |line: Line<'_>| {
                let position = position_of(&line);
                if position < options.from {
                    return ControlFlow::Continue(());
                }
                if dumped.lines.len() == options.limit {
                    dumped.next = Some((number, position));
                    return ControlFlow::Break(());
                }
                dumped.lines.push(row(number, segment.segment(), &line, options.bodies));
                ControlFlow::Continue(())
            };
            if yard_store::offline::dump(shard.disk.as_ref(), segment, &mut visit).is_break() {
                return Ok(dumped);
            }
        }
    }
    Ok(dumped)
}

/// A segment that no log has is asked for by mistake.
fn check_there(path: &Path, segment: u32, looked: &[Looked]) -> Result<()> {
    let mut held = Vec::with_capacity(looked.len());
    for of in looked {
        let mut numbers = of.survey.segments[..of.covered].iter().map(|it| it.segment());
        if numbers.clone().any(|number| number == segment) {
            return Ok(());
        }
        let (first, last) = (numbers.next().unwrap_or(0), numbers.next_back());
        let last = last.unwrap_or(first);
        held.push(format!("shard {} has {first} to {last}", of.survey.shard.0));
    }
    let path = path.to_owned();
    Err(OfflineError::NoSegment { path, segment, held: held.join(", ") })
}

fn position_of(line: &Line<'_>) -> LogPos {
    match line {
        Line::Group { position, .. }
        | Line::Entry { position, .. }
        | Line::Record { position, .. }
        | Line::Release { position, .. }
        | Line::Damage { position, .. } => *position,
    }
}

/// What is shown of a line, the same columns for each.
#[derive(Default)]
struct Row {
    bytes: u64,
    what: String,
    tenant: Option<TenantId>,
    topic: Option<u32>,
    queue: Option<u16>,
    offset: Option<u64>,
    detail: String,
}

fn row(shard: u16, segment: u32, line: &Line<'_>, bodies: bool) -> Value {
    let row = match line {
        Line::Group { bytes, group, stored, entries, chain, .. } => Row {
            bytes: *bytes,
            what: format!("group {}", group.0),
            detail: format!("{entries} entries, stored {} ms, chain {chain:016x}", stored.0),
            ..Row::default()
        },
        Line::Entry { bytes, kind, tenant, payload, .. } => Row {
            bytes: *bytes,
            what: name_of(*kind),
            tenant: Some(*tenant),
            detail: entry_detail(*kind, *tenant, payload, bodies),
            ..Row::default()
        },
        Line::Record { offset, record, .. } => Row {
            bytes: record.bytes().len() as u64,
            what: "message".into(),
            topic: Some(record.topic().0),
            queue: Some(record.queue().0),
            offset: offset.map(|offset| offset.0),
            detail: record_detail(record, bodies),
            ..Row::default()
        },
        Line::Release { offset, release, .. } => Row {
            bytes: release.encoded_bytes() as u64,
            what: "release".into(),
            topic: Some(release.topic().0),
            queue: Some(release.queue().0),
            offset: Some(offset.0),
            detail: release_detail(release),
            ..Row::default()
        },
        Line::Damage { damage, .. } => Row {
            bytes: damage.bytes,
            what: "DAMAGE".into(),
            detail: damage.what.to_owned(),
            ..Row::default()
        },
    };
    let number = |number: Option<u64>| number.map_or(Value::Null, Value::Number);
    Value::Record(vec![
        ("shard", Value::Number(shard.into())),
        ("segment", Value::Number(segment.into())),
        ("position", Value::Number(position_of(line).0)),
        ("bytes", Value::Number(row.bytes)),
        ("what", Value::Text(row.what)),
        ("tenant", number(row.tenant.map(|tenant| tenant.0.into()))),
        ("topic", number(row.topic.map(u64::from))),
        ("queue", number(row.queue.map(u64::from))),
        ("offset", number(row.offset)),
        ("detail", Value::Text(row.detail)),
    ])
}

/// The store's kinds have their names from it, the others are the broker's.
fn name_of(kind: u16) -> String {
    let name = kind_name(kind).or(match kind {
        Entry::GROUP => Some("consumer group"),
        Entry::PROGRESS => Some("progress"),
        Entry::SETTLED => Some("progress with keys"),
        Entry::FORGET_SETTLED => Some("forgotten keys of groups"),
        Entry::MOVE => Some("moved group"),
        Entry::DRAIN => Some("drain"),
        Entry::META => Some("metadata"),
        Entry::INCARNATION => Some("incarnation of a producer"),
        Entry::CANCEL => Some("cancel"),
        _ => None,
    });
    name.map_or_else(|| format!("kind {kind}"), str::to_owned)
}

fn entry_detail(kind: u16, tenant: TenantId, payload: &bytes::Bytes, bodies: bool) -> String {
    if kind == Entry::BATCH {
        return match yard_wire::batch::parse_header(payload) {
            Ok((header, count)) => format!(
                "{count} messages, producer {:x}, epoch {}, lane {}, sequence {}",
                header.producer.0, header.epoch.0, header.lane.0, header.sequence.0
            ),
            Err(why) => why.to_string(),
        };
    }
    if !bodies {
        return String::new();
    }
    match Entry::decode(kind, tenant, payload.clone()) {
        Ok(entry) => shortened(format!("{entry:?}")),
        Err(why) => why.to_string(),
    }
}

fn release_detail(release: &yard_wire::release::Release) -> String {
    let target = release.target();
    let what = if target.released { "release" } else { "message" };
    let (segment, at) = (target.segment, target.offset);
    let mut detail = format!("of the {what} in segment {segment} at {at}");
    for (name, value) in release.notes() {
        detail += &format!(", {name}={value}");
    }
    detail
}

fn record_detail(record: &yard_wire::record::Record, bodies: bool) -> String {
    let id: String = record.id().0.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut detail = format!("id {id}");
    if !record.tag().is_empty() {
        detail += &format!(", tag {}", record.tag());
    }
    for (name, value) in record.properties() {
        detail += &format!(", {name}={value}");
    }
    detail += &format!(", body {} bytes", record.body_bytes());
    if bodies {
        let body = record.body();
        detail += &format!(": {}", shortened(String::from_utf8_lossy(&body).into_owned()));
    }
    detail
}

fn shortened(mut text: String) -> String {
    if text.len() > SHOWN_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_MAX));
        text.push('…');
    }
    text
}
