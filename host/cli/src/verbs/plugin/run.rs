//! `yard plugin test` and `yard plugin replay`: what a plugin says of its examples, and of messages
//! that a topic holds. Nothing else changes.
use yard_abi::{Delivery, FrameBuilder, Room};
use yard_client::Client;
use yard_client::wire::value::{ToValue, Value};
use yard_client::wire::{QueueIndex, QueueOffset, Timestamp};
use yard_wasm::{Batch, Replay};

use super::local::{Local, Place, shown};
use crate::args::Written;
use crate::failure::Failure;
use crate::output;
use crate::verbs::{self, Session};

/// Messages asked for at once.
const BATCH_MAX: u32 = 1_000;
/// Bytes of bodies that the plugin sees.
const BODY_BYTES: u32 = 1 << 16;

pub(crate) fn test(session: &Session, written: &Written) -> Result<(), Failure> {
    let local = Local::start()?;
    let (accepted, compiled) = local.prepare(written.required("wasm")?)?;
    let tested = yard_wasm::self_test(&local.engine, &compiled, &accepted.limits)
        .map_err(|why| Failure::local(why.to_string()))?;
    let points: Vec<&str> = accepted.manifest.points.iter().map(|point| point.name()).collect();
    let row = Value::Record(vec![
        ("name", accepted.manifest.name.to_value()),
        ("version", accepted.manifest.version.to_value()),
        ("points", points.join(",").to_value()),
        ("hash", accepted.hash.to_string().to_value()),
        ("tests", (tested.vectors as u64).to_value()),
        ("fuel", tested.usage.fuel.to_value()),
        ("memory_bytes", tested.usage.memory_bytes.to_value()),
    ]);
    Ok(output::show(&row, session.format)?)
}

pub(crate) async fn replay(session: &Session, written: &Written) -> Result<(), Failure> {
    let local = Local::start()?;
    let mut replay = local.replay(local.prepare(written.required("wasm")?)?, written);
    let topic = written.required("topic")?;
    let since = verbs::time(written, "since")?;
    let client = session.connect(Some(1)).await?;
    let result = all(&client, topic, since, &mut replay).await;
    verbs::leave(&client).await;
    result?;
    Ok(output::show(&shown(replay.messages(), replay.candidate()), session.format)?)
}

/// Judges what the queues of a topic hold.
async fn all(
    client: &Client,
    topic: &str,
    since: Option<Timestamp>,
    replay: &mut Replay<Place>,
) -> Result<(), Failure> {
    let queues = client.route(topic).await?.shards.len();
    for queue in (0..queues).map(|queue| QueueIndex(queue as u16)) {
        let mut from = match since {
            Some(time) => client.seek(topic, queue, time).await?.offset,
            None => client.seek(topic, queue, Timestamp(0)).await?.offset,
        };
        loop {
            let fetched = client.fetch(topic, queue, from, BATCH_MAX).await?;
            let Some(last) = fetched.records.last() else { break };
            from = QueueOffset(last.offset.0 + 1);
            let mut frame = FrameBuilder::new(BODY_BYTES);
            let mut offsets = Vec::new();
            for record in &fetched.records {
                let delivery = Delivery {
                    offset: record.offset.0,
                    stored_ms: record.stored.0,
                    queue: queue.0.into(),
                    attempts: 0,
                };
                let mut put = || {
                    let room = frame.push(&record.record, delivery);
                    room.map_err(|error| Failure::local(format!("a message: {error}")))
                };
                if put()? == Room::Full {
                    replay.batch(&Batch::new(&frame), |at| (queue.0, offsets[at]));
                    frame.clear();
                    offsets.clear();
                    let room = frame.push(&record.record, delivery);
                    assert_eq!(room, Ok(Room::Taken), "an empty frame takes any message");
                }
                offsets.push(record.offset.0);
            }
            replay.batch(&Batch::new(&frame), |at| (queue.0, offsets[at]));
        }
    }
    Ok(())
}
