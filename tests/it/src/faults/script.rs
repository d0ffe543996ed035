//! The script that a fault strikes: messages sent one by one and acknowledged by a consumer, and
//! afterwards the question what is there.
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use yard_client::wire::operation::{BrokerInfo, GroupInfo, TopicCreate};
use yard_client::wire::record::Record;
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Ack, Client, Code, Context, Message, Start};

use crate::server::{Reserved, Server, ServerOptions, free_address};
use crate::wait::PATIENCE;
use crate::{Failed, Scratch};

const TOPIC: &str = "script";
const QUEUES: u16 = 2;
const GROUP: &str = "readers";
/// Bytes of a body: two hundred of them need three segments.
const BODY_BYTES: usize = 12_000;
/// Bytes of a segment, the smallest that a broker takes.
const SEGMENT_BYTES: u64 = 1 << 20;
/// How often one looks whether the broker is still there.
const LOOK: Duration = Duration::from_millis(2);
/// What the broker says when clients can come.
const LISTENS: &str = "listening on";
/// How long a client tries to get a message stored.
const DELIVERY: Duration = Duration::from_secs(20);

/// How a run of the script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything was sent.
    Whole,
    /// The broker was dead at some time.
    Died,
    /// The log takes nothing any more.
    Fenced,
}

/// What was promised.
#[derive(Debug, Default)]
struct Promised {
    /// By number of the message: queue and offset.
    sent: BTreeMap<u64, (u16, u64)>,
    /// Offsets whose acknowledgement was answered, by queue.
    acked: Vec<(u16, u64)>,
}

/// A folder with a topic and a group in it, to be copied for each run.
#[derive(Debug)]
pub struct Template {
    scratch: Scratch,
    yard: PathBuf,
    /// How a client connects, but for the address.
    context: Context,
}

fn options(yard: &Path, data: PathBuf) -> ServerOptions {
    let mut options = ServerOptions::new(yard.to_owned());
    options.data = Some(data);
    options.segment_bytes = Some(SEGMENT_BYTES);
    options
}

impl Template {
    /// Makes the folder.
    ///
    /// # Errors
    /// When the broker does not do what it should without any fault.
    pub async fn make(yard: &Path) -> Result<Self, Failed> {
        let scratch = Scratch::new("faults")?;
        let data = scratch.path().join("template");
        let mut server = Server::start(options(yard, data)).await?;
        let client = server.client("template").await?;
        let (name, note) = (TOPIC.to_owned(), String::new());
        client
            .admin()
            .call(TopicCreate { name, queues: QUEUES, note, ..TopicCreate::default() })
            .await?;
        client.close().await;
        let context = server.context()?;
        server.stop().await?;
        Ok(Self { scratch, yard: yard.to_owned(), context })
    }

    /// A file beside the copies.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A run on a copy of the folder; nothing is started yet.
    ///
    /// # Errors
    /// What the file system says.
    pub fn copy(&self, name: &str) -> Result<Case, Failed> {
        let data = self.scratch.path().join(name);
        copy_folder(&self.scratch.path().join("template"), &data)?;
        let mut options = options(&self.yard, data.clone());
        let address = free_address()?;
        options.address = Some(address.address);
        let addresses = vec![address.address.to_string()];
        let context = Context { addresses, ..self.context.clone() };
        Ok(Case { options, data, context, promised: Arc::default(), _reserved: address })
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::create_dir_all(to).map_err(Failed::file(to))?;
    for item in fs::read_dir(from).map_err(Failed::file(from))? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy_folder(&item.path(), &target)?;
        } else {
            fs::copy(item.path(), &target).map_err(Failed::file(&target))?;
        }
    }
    Ok(())
}

/// One run. See the module.
#[derive(Debug)]
pub struct Case {
    options: ServerOptions,
    data: PathBuf,
    context: Context,
    promised: Arc<Mutex<Promised>>,
    _reserved: Reserved,
}

fn body(number: u64) -> Vec<u8> {
    let mut body = vec![number as u8; BODY_BYTES];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

/// Waits for something that a living broker does; `None` when it died.
async fn alive<T>(server: &mut Server, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            () = tokio::time::sleep(LOOK) => {
                if !server.is_alive() {
                    return None;
                }
            }
        }
    }
}

impl Case {
    /// Another run over a copy of what this one has left, with the same promises.
    ///
    /// # Errors
    /// What the file system says.
    pub fn again(&self, template: &Template, name: &str) -> Result<Self, Failed> {
        let data = template.file(name);
        copy_folder(&self.data, &data)?;
        let mut options = self.options.clone();
        options.data = Some(data.clone());
        let address = free_address()?;
        options.address = Some(address.address);
        let addresses = vec![address.address.to_string()];
        let context = Context { addresses, ..self.context.clone() };
        let promised = self.promised.clone();
        Ok(Self { options, data, context, promised, _reserved: address })
    }

    /// Starts the broker, with these words before its name, and sends so many messages.
    ///
    /// # Errors
    /// When something went wrong that no fault explains.
    pub async fn run(&self, under: Vec<String>, messages: u64) -> Result<End, Failed> {
        let mut options = self.options.clone();
        options.under = under;
        let mut server = Server::not_started(options)?;
        server.spawn()?;
        // A fault may hit the context file, so the broker's own word counts.
        let deadline = Instant::now() + PATIENCE;
        while !server.log().contains(LISTENS) {
            if !server.is_alive() {
                return Ok(End::Died);
            }
            if Instant::now() > deadline {
                return Err(self.wrong(&format!("it does not listen: {}", server.log())));
            }
            tokio::time::sleep(LOOK).await;
        }
        let builder = Client::builder().name("script").context(self.context.clone());
        let Some(client) = alive(&mut server, builder.connect()).await else {
            return Ok(End::Died);
        };
        let client = client?;
        let reader = tokio::spawn(read(client.clone(), self.promised.clone()));
        let end = self.send(&mut server, &client, messages).await;
        reader.abort();
        server.kill9()?;
        end
    }

    async fn send(
        &self,
        server: &mut Server,
        client: &Client,
        messages: u64,
    ) -> Result<End, Failed> {
        let producer = client.producer(TOPIC).ack(Ack::Synced).delivery_timeout(DELIVERY);
        let Some(producer) = alive(server, producer.build()).await else { return Ok(End::Died) };
        let producer = producer?;
        for number in 0..messages {
            let queue = (number % u64::from(QUEUES)) as u16;
            let sent = producer.send(Message::new(body(number)).queue(queue));
            let done = tokio::select! {
                done = alive(server, sent) => done,
                () = fenced(client) => return Ok(End::Fenced),
            };
            match done {
                None => return Ok(End::Died),
                Some(Ok(result)) => {
                    let offset = result.offset.expect("what is not delayed has a place").0;
                    let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
                    promised.sent.insert(number, (result.queue.0, offset));
                }
                Some(Err(error)) if error.code == Code::LogFenced => return Ok(End::Fenced),
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(End::Whole)
    }

    /// Starts the broker without any fault and compares what it has with what was promised.
    /// Returns how many messages were acknowledged; removes the folder when all is well.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn verify(&self) -> Result<u64, Failed> {
        let mut server = Server::start(self.options.clone()).await?;
        let client = server.client("verify").await?;
        let mut found: BTreeMap<(u16, u64), u64> = BTreeMap::new();
        for queue in 0..QUEUES {
            for (offset, body) in fetch(&client, TOPIC, queue).await? {
                let number = body.get(..8).and_then(|eight| eight.try_into().ok());
                let number = number.map_or(u64::MAX, u64::from_le_bytes);
                if body != self::body(number) {
                    return Err(self.wrong(&format!("wrong bytes in {queue} at {offset}")));
                }
                // Messages of a queue were sent one after another: the n-th has this number.
                if number != offset * u64::from(QUEUES) + u64::from(queue) {
                    return Err(self.wrong(&format!("{number} is in queue {queue} at {offset}")));
                }
                found.insert((queue, offset), number);
            }
        }
        // Taken out of the lock: what follows waits.
        let (sent, acked) = {
            let promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
            (promised.sent.clone(), promised.acked.clone())
        };
        for (number, place) in &sent {
            if found.get(place) != Some(number) {
                return Err(self.wrong(&format!("{number} was acknowledged at {place:?}")));
            }
        }
        // One may have been on its way.
        if found.len() > sent.len() + 1 {
            return Err(self.wrong(&format!("{} stored, {} sent", found.len(), sent.len())));
        }
        if !acked.is_empty() {
            let name = GROUP.to_owned();
            let report = client.admin().call(GroupInfo { name }).await?;
            for (queue, offset) in &acked {
                let row = report.queues.iter().find(|row| row.queue == QueueIndex(*queue));
                if row.is_none_or(|row| row.settled_below.0 <= *offset) {
                    return Err(self.wrong(&format!("{queue}.{offset} was settled: {row:?}")));
                }
            }
        }
        client.close().await;
        server.kill9()?;
        drop(server);
        let _ = fs::remove_dir_all(&self.data);
        Ok(sent.len() as u64)
    }

    fn wrong(&self, what: &str) -> Failed {
        Failed(format!("{what}; see {}", self.data.display()))
    }

    /// Starts the broker with a fault and lets it go on for a moment. False when it did not start.
    ///
    /// # Errors
    /// When it ended without a sentence.
    pub async fn start_only(&self, under: Vec<String>) -> Result<bool, Failed> {
        let mut options = self.options.clone();
        options.under = under;
        let mut server = Server::not_started(options)?;
        server.spawn()?;
        let deadline = Instant::now() + PATIENCE;
        while server.is_alive() && !server.log().contains(LISTENS) {
            if Instant::now() > deadline {
                return Err(self.wrong(&format!("it does not listen: {}", server.log())));
            }
            tokio::time::sleep(LOOK).await;
        }
        let has_started = server.is_alive();
        server.kill9()?;
        let said = server.log();
        if !has_started && (said.contains("panicked") || !said.contains("error")) {
            return Err(self.wrong(&format!("it ended without a sentence: {said}")));
        }
        Ok(has_started)
    }
}

/// Receives and acknowledges in order, for as long as the broker is there.
async fn read(client: Client, promised: Arc<Mutex<Promised>>) -> Result<(), Failed> {
    let consumer = client.consumer(TOPIC, GROUP).start(Start::Earliest);
    let mut consumer = consumer.build().await?;
    loop {
        let delivery = consumer.recv().await?;
        let (queue, offset) = (delivery.queue().0, delivery.offset().0);
        delivery.ack().await?;
        promised.lock().unwrap_or_else(PoisonError::into_inner).acked.push((queue, offset));
    }
}

/// Returns when the log of the broker is fenced.
async fn fenced(client: &Client) {
    loop {
        tokio::time::sleep(50 * LOOK).await;
        if let Ok(report) = client.admin().call(BrokerInfo {}).await
            && report.shards.iter().any(|shard| shard.state == "fenced")
        {
            return;
        }
    }
}

/// Every message of a queue: its offset and its body.
///
/// # Errors
/// What the broker says.
pub(super) async fn fetch(
    client: &Client,
    topic: &str,
    queue: u16,
) -> Result<Vec<(u64, Vec<u8>)>, Failed> {
    let mut messages = Vec::new();
    let mut from = QueueOffset(0);
    loop {
        let fetched = client.fetch(topic, QueueIndex(queue), from, 1_000).await?;
        for fetched in &fetched.records {
            let record = Record::parse(fetched.record.clone())
                .map_err(|malformed| Failed(format!("a stored record: {malformed}")))?;
            messages.push((fetched.offset.0, record.body().to_vec()));
        }
        match fetched.records.last() {
            Some(last) => from = QueueOffset(last.offset.0 + 1),
            None => return Ok(messages),
        }
    }
}
