//! What the words of a step mean.
use bytes::Bytes;
use yard_client::SeekTo;
use yard_client::compress::Algorithm;
use yard_wire::batch::BatchHeader;
use yard_wire::limits::LEASE_MS_DEFAULT;
use yard_wire::requests::{AckNodes, AckPlace, Expression, Start};
use yard_wire::{Epoch, Lane, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, Timestamp};

use crate::host::{Beginning, From, Instant, Numbered, Outgoing, Producing, Select, Subscription};
use crate::scenario::Step;
use crate::units::{self, duration_ms, number, place, queue_of};

/// `+5s` and `-1h` beside the beginning of the scenario.
pub(crate) fn instant(text: &str, began: Timestamp) -> Result<Timestamp, String> {
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(after), _) => Ok(began.plus_ms(duration_ms(after)?)),
        (None, Some(before)) => Ok(Timestamp(began.0.saturating_sub(duration_ms(before)?))),
        (None, None) => Err(format!("an instant is `+5s` or `-1h`, not {text:?}")),
    }
}

/// `500ms`, or RocketMQ's `level:3`.
fn delay(text: &str) -> Result<u64, String> {
    let Some(level) = text.strip_prefix("level:") else { return duration_ms(text) };
    let level: usize = number(level)?;
    let found = level.checked_sub(1).and_then(|at| yard_client::DELAY_LEVELS.get(at));
    let found = found.ok_or_else(|| format!("there is no level {level}"))?;
    Ok(found.as_millis() as u64)
}

fn place_of(step: &Step) -> Result<Option<AckPlace>, String> {
    let unknown = |text: &str| format!("{text:?}: memory, written or synced");
    step.get("ack").map(|text| AckPlace::parse(text).ok_or_else(|| unknown(text))).transpose()
}

fn nodes_of(step: &Step) -> Result<Option<AckNodes>, String> {
    let unknown = |text: &str| format!("{text:?}: one, quorum or all");
    step.get("nodes").map(|text| AckNodes::parse(text).ok_or_else(|| unknown(text))).transpose()
}

pub(crate) fn outgoing(
    step: &Step,
    (topic, text): (&str, &str),
    began: Timestamp,
) -> Result<Outgoing, String> {
    let delay = step.get("delay").map(delay).transpose()?.map(Instant::After);
    let at = step.get("at").map(|text| instant(text, began)).transpose()?.map(Instant::At);
    let expires = match step.get("expires") {
        Some(text) if text.starts_with(['+', '-']) => Some(Instant::At(instant(text, began)?)),
        Some(text) => Some(Instant::After(duration_ms(text)?)),
        None => None,
    };
    let compress = step
        .get("compress")
        .map(|text| Algorithm::parse(text).ok_or_else(|| format!("{text:?}: lz4 or zstd")));
    let named = step.named.iter();
    let keys = named.clone().filter(|(name, _)| name == "key").map(|(_, value)| value.clone());
    Ok(Outgoing {
        topic: topic.to_owned(),
        body: Bytes::copy_from_slice(text.as_bytes()),
        keys: keys.collect(),
        tag: step.get("tag").map(str::to_owned),
        order: step.get("order").map(str::to_owned),
        queue: step.get("queue").map(number).transpose()?,
        due: delay.or(at),
        expires,
        priority: step.get("priority").map(number).transpose()?,
        properties: properties_of(step),
        place: place_of(step)?,
        nodes: nodes_of(step)?,
        compress: compress.transpose()?,
        dedupe: step.get("dedupe").map(str::to_owned),
        tx: None,
        by: step.get("by").map(str::to_owned),
    })
}

fn properties_of(step: &Step) -> Vec<(String, String)> {
    let named = step.named.iter();
    let own = named.filter_map(|(name, value)| Some((name.strip_prefix("prop.")?, value)));
    own.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

pub(crate) fn producing(step: &Step, topic: &str) -> Result<Producing, String> {
    let select = match step.get("selector") {
        Some("length") => Some(Select::ByLength),
        Some(queue) => Some(Select::Always(number(queue)?)),
        None => None,
    };
    Ok(Producing {
        topic: topic.to_owned(),
        within_ms: step.get("within").map(duration_ms).transpose()?,
        buffer_bytes: step.get("buffer").map(units::bytes).transpose()?,
        linger_ms: step.get("linger").map(duration_ms).transpose()?,
        select,
        identity: step.get("identity").map(str::to_owned),
    })
}

pub(crate) fn numbered(step: &Step, words: &[&str]) -> Result<Numbered, String> {
    let of = |name: &str| step.get(name).map_or(Ok(0_u64), number);
    let (topic, queue) = queue_of(words[1])?;
    let header = BatchHeader {
        producer: producer(words[0])?,
        epoch: Epoch(step.get("epoch").map_or(Ok(0), number)?),
        lane: Lane(step.get("lane").map_or(Ok(0), number)?),
        shard: ShardId(step.get("shard").map_or(Ok(0), number)?),
        sequence: Sequence(of("seq")?),
    };
    let bodies = words[2..].iter().map(|body| Bytes::copy_from_slice(body.as_bytes()));
    Ok(Numbered {
        topic: topic.to_owned(),
        queue,
        bodies: bodies.collect(),
        properties: properties_of(step),
        header,
        names_shard: step.get("shard").is_some(),
        floor: of("floor")?,
        place: place_of(step)?.unwrap_or(AckPlace::Synced),
        nodes: nodes_of(step)?.unwrap_or(AckNodes::One),
    })
}

fn places(texts: &[&str]) -> Option<Vec<(QueueIndex, QueueOffset)>> {
    texts.iter().map(|text| place(text)).collect()
}

fn from(text: Option<&str>, began: Timestamp) -> Result<From, String> {
    let start = match text {
        None | Some("earliest") => Start::Earliest,
        Some("latest") => Start::Latest,
        Some(text) if text.starts_with(['+', '-']) => {
            return Ok(From::Time(instant(text, began)?));
        }
        Some(text) => {
            let texts: Vec<&str> = text.split(',').collect();
            let wrong = || format!("{text:?}: earliest, latest, `0@5,1@7`, or an instant");
            Start::Offsets(places(&texts).ok_or_else(wrong)?)
        }
    };
    Ok(From::Start(start))
}

pub(crate) fn subscription(
    step: &Step,
    words: &[&str],
    began: Timestamp,
) -> Result<Subscription, String> {
    let lease_ms = step.get("lease").map_or(Ok(u64::from(LEASE_MS_DEFAULT)), duration_ms)?;
    let expression = step.named.iter().find_map(|(name, text)| {
        let dialect = name.strip_prefix("filter.")?.to_owned();
        Some(Expression { dialect, text: text.clone() })
    });
    Ok(Subscription {
        group: words[1].to_owned(),
        topic: words[2].to_owned(),
        from: from(step.get("start"), began)?,
        lease_ms: u32::try_from(lease_ms).map_err(|_| "a lease that no number holds".to_owned())?,
        credit: step.get("credit").map(number).transpose()?,
        bytes: step.get("bytes").map(number).transpose()?,
        expression,
        broadcast: step.get("broadcast").map(str::to_owned),
        drops_failed: step.get("drop-failed") == Some("true"),
        exclusive: step.get("exclusive") == Some("true"),
    })
}

/// `p3` or `3`.
fn producer(text: &str) -> Result<ProducerId, String> {
    number(text.trim_start_matches('p')).map(ProducerId)
}

pub(crate) fn beginning(step: &Step, group: &str) -> Result<Beginning, String> {
    let (epoch, own) = (step.get("epoch"), step.get("number"));
    let named = match step.get("producer") {
        Some(name) => {
            let epoch = Epoch(epoch.map_or(Ok(0), number)?);
            Some((producer(name)?, epoch, own.map_or(Ok(0), number)?))
        }
        None if epoch.or(own).is_some() => {
            return Err("epoch= and number= are those of a producer=".to_owned());
        }
        None => None,
    };
    let note = step.get("note").unwrap_or_default().to_owned();
    Ok(Beginning { group: group.to_owned(), note, named })
}

pub(crate) fn seek_to(words: &[&str], began: Timestamp) -> Result<SeekTo, String> {
    match words {
        ["earliest"] => Ok(SeekTo::Earliest),
        ["latest"] => Ok(SeekTo::Latest),
        ["like", group] => Ok(SeekTo::Like((*group).to_owned())),
        ["skip", messages] => Ok(SeekTo::Skip(number(messages)?)),
        [text] if text.starts_with(['+', '-']) => Ok(SeekTo::Time(instant(text, began)?)),
        [text] if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(SeekTo::Offset(QueueOffset(number(text)?)))
        }
        texts => {
            let wrong = || format!("{texts:?} is no place for a group");
            Ok(SeekTo::Offsets(places(texts).ok_or_else(wrong)?))
        }
    }
}
