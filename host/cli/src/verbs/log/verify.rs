//! `yard log verify`: every byte of the logs of a folder.
use yard_client::wire::value::Value;
use yard_server::offline::{self, Damage, ShardReport, Span, VerifyReport};

use super::{failed, milliseconds, path, text};
use crate::args::Written;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Spans of lost messages that a table names for one place; JSON names all.
const SPANS_SHOWN: usize = 4;

pub(crate) fn verify(format: Format, written: &Written) -> Result<(), Failure> {
    let dir = path(written, "dir")?;
    let found = offline::verify(dir, written.switch("compare")).map_err(failed)?;
    output::show(&report(&found, format), format)?;
    for shard in found.shards.iter().filter(|shard| !shard.missing.is_empty()) {
        let files: Vec<String> = shard.missing.iter().map(ToString::to_string).collect();
        let files = files.join(", ");
        eprintln!("shard {}: {files} will be made again at the next start", shard.shard);
    }
    if found.is_live {
        eprintln!(
            "a broker has the folder open: the group that it is writing and segments that it has \
             only prepared are not covered"
        );
    }
    if found.is_whole() {
        return Ok(());
    }
    let places: usize = found.shards.iter().map(|shard| shard.joined.damage.len()).sum();
    let lost: u64 = found.shards.iter().map(|shard| shard.joined.lost()).sum();
    Err(Failure::local(format!(
        "{} is damaged in {places} places; messages lost by it: {lost}",
        dir.display()
    )))
}

fn report(found: &VerifyReport, format: Format) -> Value {
    let seconds = found.took.as_secs_f64().max(f64::MIN_POSITIVE);
    let rate = (found.bytes() as f64 / seconds) as u64;
    let mut fields = vec![
        ("whole", Value::Bool(found.is_whole())),
        ("live", Value::Bool(found.is_live)),
        ("bytes", Value::Number(found.bytes())),
        ("took_ms", milliseconds(found.took)),
        ("bytes_per_second", Value::Number(rate)),
    ];
    if let Some(plain) = found.plain {
        let ratio = plain.as_secs_f64() / seconds;
        fields.push(("plain_read_and_crc_ms", milliseconds(plain)));
        fields.push(("ratio_to_plain", text(format_args!("{ratio:.2}"))));
    }
    fields.push(("shards", Value::List(found.shards.iter().map(shard_row).collect())));
    let damage = found.shards.iter().flat_map(|shard| {
        shard.joined.damage.iter().map(|damage| damage_row(shard.shard, damage, format))
    });
    fields.push(("damage", Value::List(damage.collect())));
    Value::Record(fields)
}

fn shard_row(shard: &ShardReport) -> Value {
    let joined = &shard.joined;
    Value::Record(vec![
        ("shard", Value::Number(shard.shard.into())),
        ("segments", Value::Number(shard.segments as u64)),
        ("groups", Value::Number(joined.counts.groups)),
        ("entries", Value::Number(joined.counts.entries)),
        ("messages", Value::Number(joined.counts.records)),
        ("queues", Value::Number(joined.queues)),
        ("last_group", joined.last.map_or(Value::Null, |last| Value::Number(last.group.0))),
        ("end_segment", Value::Number(joined.end.0.into())),
        ("end_offset", Value::Number(joined.end.1)),
        ("unfinished_bytes", Value::Number(joined.loose)),
        ("damaged_places", Value::Number(joined.damage.len() as u64)),
        ("lost_messages", Value::Number(joined.lost())),
        ("uncovered_segments", Value::Number(shard.uncovered.len() as u64)),
    ])
}

pub(super) fn damage_row(shard: u16, damage: &Damage, format: Format) -> Value {
    Value::Record(vec![
        ("shard", Value::Number(shard.into())),
        ("file", text(damage.name)),
        ("offset", Value::Number(damage.offset)),
        ("bytes", Value::Number(damage.bytes)),
        ("what", text(damage.what)),
        ("lost", lost(&damage.lost, format)),
        ("unnamed", Value::Number(damage.unnamed)),
    ])
}

/// Which messages are hit: words in a table, rows for programs.
fn lost(spans: &[Span], format: Format) -> Value {
    if format == Format::Table {
        let words = |span: &Span| {
            let (topic, queue) = (span.topic.0, span.queue.0);
            format!("topic {topic} queue {queue} offsets {} to {}", span.from.0, span.to.0 - 1)
        };
        let mut shown: Vec<String> = spans.iter().take(SPANS_SHOWN).map(words).collect();
        if spans.len() > SPANS_SHOWN {
            shown.push(format!("{} more ranges", spans.len() - SPANS_SHOWN));
        }
        return text(shown.join("; "));
    }
    let row = |span: &Span| {
        Value::Record(vec![
            ("topic", Value::Number(span.topic.0.into())),
            ("queue", Value::Number(span.queue.0.into())),
            ("from", Value::Number(span.from.0)),
            ("to", Value::Number(span.to.0)),
        ])
    };
    Value::List(spans.iter().map(row).collect())
}
