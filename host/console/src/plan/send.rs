//! Messages as steps of a plan: each is sent once, and read back from where it was stored.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rhai::Dynamic;
use xxhash_rust::xxh3::Xxh3;
use yard_client::{Client, Code, Error, Message as Outgoing, Producer, Record, SendResult};

use super::report::State;
use crate::fault::{Fault, Result};
use crate::functions::Options;
use crate::session::Session;
use crate::show::text::visible;
use crate::value::message::Message;

/// Messages that are sent before their answers are looked at.
const TOGETHER: usize = 512;
/// Messages that are read back at the same time.
const READ_BACK: usize = 64;
/// Characters of a body that a plan shows.
const BODY_CHARS_MAX: usize = 40;

/// A message that is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    topic: Arc<str>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// What a script says.
    New(Arc<New>),
    /// The same as another.
    Copy(Message),
}

#[derive(Debug, Default)]
struct New {
    body: String,
    tag: String,
    key: Option<String>,
    order: Option<String>,
    properties: BTreeMap<String, String>,
}

impl Sending {
    /// A copy of a message: its body, tag, keys, order group and properties, with an id of its own.
    pub(crate) fn copy(topic: &Arc<str>, message: Message) -> Self {
        Self { topic: topic.clone(), content: Content::Copy(message) }
    }

    /// A new message out of a body and options.
    pub(crate) fn new(topic: &Arc<str>, body: String, mut options: Options) -> Result<Self> {
        let mut properties = BTreeMap::new();
        if let Some(map) = options.take("properties") {
            let map = map.try_cast::<rhai::Map>();
            let map = map.ok_or_else(|| Fault::argument("properties takes a map of texts"))?;
            for (name, value) in map {
                properties.insert(name.to_string(), text_of(value)?);
            }
        }
        let content = New {
            body,
            tag: options.text("tag")?.unwrap_or_default(),
            key: options.text("key")?,
            order: options.text("order")?,
            properties,
        };
        Ok(Self { topic: topic.clone(), content: Content::New(Arc::new(content)) })
    }

    fn outgoing(&self) -> Outgoing {
        match &self.content {
            Content::New(new) => {
                let message = Outgoing::new(new.body.clone()).tag(&*new.tag).keys(new.key.clone());
                let message = match &new.order {
                    Some(order) => message.order_group(&**order),
                    None => message,
                };
                let own = new.properties.iter();
                own.fold(message, |message, (name, value)| message.property(&**name, &**value))
            }
            Content::Copy(message) => Outgoing::like(message.record()),
        }
    }

    pub(crate) fn subject(&self) -> String {
        match &self.content {
            Content::New(_) => format!("message to {}", self.topic),
            Content::Copy(it) => {
                format!("copy of {} {}:{} to {}", it.topic(), it.queue(), it.offset(), self.topic)
            }
        }
    }

    pub(crate) fn show(&self, out: &mut String) {
        let subject = self.subject();
        let (body, size) = match &self.content {
            Content::New(new) => (new.body.clone(), new.body.len()),
            Content::Copy(message) => {
                let body = message.record().body();
                let start = &body[..body.len().min(4 * BODY_CHARS_MAX)];
                (String::from_utf8_lossy(start).into_owned(), body.len())
            }
        };
        let shown: String = body.chars().take(BODY_CHARS_MAX).collect();
        let shown = visible(&shown);
        writeln!(out, "  + {subject}, {size} bytes: {shown}").expect("a string can be written to");
    }

    pub(crate) fn hash(&self, hash: &mut Xxh3) {
        hash.update(self.subject().as_bytes());
        match &self.content {
            Content::New(new) => hash.update(format!("{new:?}").as_bytes()),
            Content::Copy(message) => hash.update(message.record().id().to_string().as_bytes()),
        }
    }
}

fn text_of(value: Dynamic) -> Result<String> {
    let shown = value.to_string();
    let message = || Fault::argument(format!("a property is a text, not {shown}")).into();
    value.into_string().map_err(|_| message())
}

/// Sends messages in their order, a part at a time, and tells of each what became of it. What is
/// left when the run is interrupted is not told of.
pub(crate) fn apply(
    session: &Session,
    sendings: &[&Sending],
    rate: Option<u64>,
    mut tell: impl FnMut(&Sending, State),
) -> Result<()> {
    let client = session.client()?;
    let mut producers: BTreeMap<Arc<str>, Producer> = BTreeMap::new();
    // At a rate, a part is what a tenth of a second may send.
    let together = rate.map_or(TOGETHER, |rate| (rate as usize / 10).clamp(1, TOGETHER));
    for part in sendings.chunks(together) {
        if session.stop.is_set() {
            break;
        }
        let began = Instant::now();
        for sending in part {
            if !producers.contains_key(&sending.topic) {
                let producer = session.finish(client.producer(&*sending.topic).build());
                let producer = producer.map_err(Fault::from)?;
                producers.insert(sending.topic.clone(), producer);
            }
        }
        // Carried through: what was sent is stored or not, and told of either way.
        let states = session.finish(send(&client, &producers, part));
        for (sending, state) in part.iter().zip(states) {
            tell(sending, state);
        }
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(part.len() as f64 / rate.max(1) as f64);
            // Interrupted: the next part is not begun.
            let _ = session.pause(due.saturating_sub(began.elapsed()));
        }
    }
    for producer in producers.values() {
        session.finish(producer.close()).map_err(Fault::from)?;
    }
    Ok(())
}

async fn send(
    client: &Client,
    producers: &BTreeMap<Arc<str>, Producer>,
    part: &[&Sending],
) -> Vec<State> {
    let mut receipts = Vec::with_capacity(part.len());
    for sending in part {
        let producer = &producers[&sending.topic];
        receipts.push(producer.enqueue(sending.outgoing()).await);
    }
    futures_util::stream::iter(receipts)
        .map(|receipt| async move {
            let sent = match receipt {
                Ok(receipt) => receipt.await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(sent) => read_back(client, &sent).await,
                Err(error) => State::failed(error.code, error.detail),
            }
        })
        .buffered(READ_BACK)
        .collect()
        .await
}

async fn read_back(client: &Client, sent: &SendResult) -> State {
    // What is delivered later has no place yet, so there is nothing to read.
    let Some(offset) = sent.offset else { return State::Done(None) };
    let fetched = client.fetch(&sent.topic, sent.queue, offset, 1).await;
    let found = fetched.and_then(|fetched| {
        let first = fetched.records.into_iter().next().filter(|it| it.offset == offset);
        let record = first.map(|it| Record::parse(it.record)).transpose();
        record.map_err(|why| Error::new(Code::BadReply, why.to_string()))
    });
    match found {
        Ok(Some(record)) if record.id() == sent.id => State::Done(None),
        Ok(_) => {
            let queue = sent.queue;
            let why = format!("it was acknowledged, and is not at {queue}:{offset}");
            State::failed(Code::NotVerified, why)
        }
        Err(error) => {
            let why = format!("it was acknowledged, and cannot be read: {}", error.detail);
            State::failed(Code::NotVerified, why)
        }
    }
}
