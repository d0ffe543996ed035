//! `yard plugin test` and `yard plugin replay`: what a plugin says of its examples, and of messages
//! from a file or of a topic. Nothing else changes.
use yard_abi::manifest::Point;
use yard_abi::{Delivery, FrameBuilder, Room, View};
use yard_client::Client;
use yard_client::wire::operation::PluginGet;
use yard_client::wire::record::Record;
use yard_client::wire::value::{ToValue, Value};
use yard_client::wire::{MessageId, QueueIndex, QueueOffset, Timestamp};
use yard_wasm::{Accepted, Batch, Compiled, Replay};

use super::local::{self, Local, Place, shown};
use crate::args::Written;
use crate::failure::Failure;
use crate::output;
use crate::verbs::{self, Session};

/// Messages asked for at once.
const BATCH_MAX: u32 = 1_000;
/// Bytes of bodies that the plugin sees.
const BODY_BYTES: u32 = 1 << 16;
/// What is written where there is nothing to compare with.
const NONE: &str = "none";

pub(crate) fn test(session: &Session, written: &Written) -> Result<(), Failure> {
    let local = Local::start()?;
    let file = super::read(written.required("wasm")?)?;
    let (accepted, compiled) = local.prepare(&file)?;
    let tested = yard_wasm::self_test(&local.engine, &compiled, &accepted.limits)
        .map_err(|why| Failure::local(why.to_string()))?;
    let points: Vec<&str> = accepted.manifest.points.iter().map(|point| point.name()).collect();
    let mut fields = vec![
        ("name", accepted.manifest.name.to_value()),
        ("version", accepted.manifest.version.to_value()),
        ("points", points.join(",").to_value()),
        ("hash", accepted.hash.to_string().to_value()),
        ("tests", (tested.vectors as u64).to_value()),
        ("fuel", tested.usage.fuel.to_value()),
        ("memory_bytes", tested.usage.memory_bytes.to_value()),
    ];
    if let Some(path) = written.text("messages") {
        must_filter(&accepted)?;
        let mut replay = local.replay(&accepted, compiled, None, written)?;
        let mut frames = Frames::new(&mut replay);
        for (message, offset) in local::messages(path)?.iter().zip(0..) {
            let (record, delivery) = message.record();
            let (queue, id) = (0, MessageId::default());
            frames.push(&record, delivery, Place { queue, offset, id })?;
        }
        frames.close();
        fields.push(("replay", shown(&replay)));
    }
    Ok(output::show(&Value::Record(fields), session.format)?)
}

fn must_filter(accepted: &Accepted) -> Result<(), Failure> {
    if accepted.manifest.points.contains(&Point::Filter) {
        return Ok(());
    }
    let name = &accepted.manifest.name;
    Err(Failure::local(format!("{name} is no filter: only filters are run over messages")))
}

pub(crate) async fn replay(session: &Session, written: &Written) -> Result<(), Failure> {
    let local = Local::start()?;
    let file = super::read(written.required("wasm")?)?;
    let (accepted, compiled) = local.prepare(&file)?;
    must_filter(&accepted)?;
    let topic = written.required("topic")?;
    let since = verbs::time(written, "since")?;
    let number = written.read("against", |text| match text {
        NONE => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("takes VERSION|none, not {text:?}")),
    })?;
    let client = session.connect(Some(1)).await?;
    let result = async {
        let against = match number.flatten() {
            Some(number) => Some(version(&local, &client, &accepted, number).await?),
            None => None,
        };
        let mut replay = local.replay(&accepted, compiled, against, written)?;
        all(&client, topic, since, &mut replay).await?;
        Ok::<_, Failure>(replay)
    };
    let result = result.await;
    verbs::leave(&client).await;
    Ok(output::show(&shown(&result?), session.format)?)
}

/// A version of the plugin that the broker has.
async fn version(
    local: &Local,
    client: &Client,
    accepted: &Accepted,
    number: u32,
) -> Result<Compiled, Failure> {
    let name = accepted.manifest.name.clone();
    let copy = client.admin().call(PluginGet { name, version: Some(number) }).await?;
    local.prepare(&copy.wasm.0).map(|(_, compiled)| compiled)
}

/// Judges what the queues of a topic hold.
async fn all(
    client: &Client,
    topic: &str,
    since: Option<Timestamp>,
    replay: &mut Replay<Place>,
) -> Result<(), Failure> {
    let queues = client.route(topic).await?.shards.len();
    let mut frames = Frames::new(replay);
    for queue in (0..queues).map(|queue| QueueIndex(queue as u16)) {
        let time = since.unwrap_or(Timestamp(0));
        let mut from = client.seek(topic, queue, time).await?.offset;
        loop {
            let fetched = client.fetch(topic, queue, from, BATCH_MAX).await?;
            let Some(last) = fetched.records.last() else { break };
            from = QueueOffset(last.offset.0 + 1);
            for record in &fetched.records {
                let delivery = Delivery {
                    offset: record.offset.0,
                    stored_ms: record.stored.0,
                    queue: queue.0.into(),
                    attempts: 0,
                };
                let wrong = |error| Failure::local(format!("a message: {error}"));
                let (id, _) = Record::peek_keys(&record.record).map_err(wrong)?;
                let place = Place { queue: queue.0, offset: record.offset.0, id };
                frames.push(&record.record, delivery, place)?;
            }
        }
        frames.close();
    }
    Ok(())
}

/// Messages on their way into a replay, frame by frame.
struct Frames<'a> {
    replay: &'a mut Replay<Place>,
    frame: FrameBuilder,
    places: Vec<Place>,
}

impl<'a> Frames<'a> {
    fn new(replay: &'a mut Replay<Place>) -> Self {
        let view = View { body_bytes: BODY_BYTES, properties: replay.properties() };
        Self { replay, frame: FrameBuilder::of(view), places: Vec::new() }
    }

    fn push(&mut self, record: &[u8], delivery: Delivery, place: Place) -> Result<(), Failure> {
        let wrong = |error| Failure::local(format!("a message: {error}"));
        if self.frame.push(record, delivery).map_err(wrong)? == Room::Full {
            self.close();
            let room = self.frame.push(record, delivery);
            assert_eq!(room, Ok(Room::Taken), "an empty frame takes any message");
        }
        self.places.push(place);
        Ok(())
    }

    /// Judges what was gathered.
    fn close(&mut self) {
        if !self.places.is_empty() {
            let places = std::mem::take(&mut self.places);
            self.replay.batch(&Batch::new(&self.frame), |at| places[at]);
            self.frame.clear();
        }
    }
}
