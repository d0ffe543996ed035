//! A broker in this process, and short words for what most tests do.
use std::path::PathBuf;

use yard_client::wire::operation::{GroupInfo, GroupReport, GroupSet, TopicCreate, TopicRow};
use yard_client::wire::record::Record;
use yard_client::wire::retry::{Attempts, RetryPolicy};
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Code, Consumer, Context, Delivery, Error, Message, Start};
use yard_it::Scratch;
use yard_it::server::{Reserved, free_address, patient};
use yard_it::wait::{until, within};
use yard_server::Running;
use yard_server::config::Settings;

/// A broker in this process on a folder of its own.
pub(crate) struct Broker {
    pub(crate) settings: Settings,
    running: Option<Running>,
    _scratch: Scratch,
    _reserved: Reserved,
}

impl Broker {
    /// One shard, development mode.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with_shards(shards: u16) -> Self {
        Self::with(|settings| settings.shards = Some(shards)).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let scratch = Scratch::new("local").unwrap();
        let reserved = free_address().unwrap();
        let data = scratch.path().join("data");
        let mut settings = Settings::for_dev(data, reserved.address);
        change(&mut settings);
        let running = yard_server::start(settings.clone()).await.unwrap();
        Self { settings, running: Some(running), _scratch: scratch, _reserved: reserved }
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    /// On the same folder and address.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.running.is_none());
        self.running = Some(yard_server::start(self.settings.clone()).await.unwrap());
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.settings.data.clone()
    }

    pub(crate) fn context(&self) -> Context {
        let connection = self.running.as_ref().unwrap().connection().clone();
        Context {
            addresses: connection.addresses,
            authority_pem: connection.authority,
            certificate_pem: connection.certificate,
            key_pem: connection.key,
            server_name: Some(connection.server_name),
            tenant: connection.tenant,
            ..Context::default()
        }
    }

    pub(crate) async fn client(&self) -> Client {
        client_of(self.context()).await
    }
}

pub(crate) async fn client_of(context: Context) -> Client {
    patient(context).name("test").connect().await.unwrap()
}

pub(crate) async fn create(client: &Client, name: &str, queues: u16) -> TopicRow {
    let create = TopicCreate { name: name.to_owned(), queues, ..TopicCreate::default() };
    client.admin().call(create).await.unwrap()
}

/// A consumer of a group that begins with the oldest message.
pub(crate) async fn consumer(client: &Client, topic: &str, group: &str) -> Consumer {
    client.consumer(topic, group).start(Start::Earliest).build().await.unwrap()
}

pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    within("a delivery", consumer.recv()).await.unwrap().unwrap()
}

/// Receives and acknowledges so many messages.
pub(crate) async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let delivery = next(consumer).await;
        delivery.ack().await.unwrap();
        taken.push(delivery);
    }
    taken
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body().unwrap().to_vec()).unwrap()
}

/// The bodies, sorted.
pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    let mut texts: Vec<String> = deliveries.iter().map(text).collect();
    texts.sort_unstable();
    texts
}

/// Sends these messages, each after the one before was stored.
pub(crate) async fn send_all(client: &Client, topic: &str, messages: Vec<Message>) {
    let producer = client.producer(topic).build().await.unwrap();
    for message in messages {
        within("a send", producer.send(message)).await.unwrap().unwrap();
    }
    producer.close().await.unwrap();
}

pub(crate) fn numbered(count: usize) -> Vec<Message> {
    (0..count).map(|n| Message::new(format!("{n:06}").into_bytes())).collect()
}

/// What a queue holds: offsets and bodies, in order. Where the log has lost some, none stand.
pub(crate) async fn fetch_held(
    client: &Client,
    topic: &str,
    queue: u16,
) -> Vec<(QueueOffset, String)> {
    let (mut from, mut held) = (QueueOffset(0), Vec::new());
    loop {
        let fetched = client.fetch(topic, QueueIndex(queue), from, 1_000).await.unwrap();
        for found in &fetched.records {
            assert!(found.offset >= from, "offsets ascend");
            from = QueueOffset(found.offset.0 + 1);
            let record = Record::parse(found.record.clone()).unwrap();
            held.push((found.offset, String::from_utf8_lossy(&record.body()).into_owned()));
        }
        if fetched.records.is_empty() {
            assert_eq!(from, fetched.end, "fetching reaches the end");
            return held;
        }
    }
}

/// The bodies of a queue that has lost nothing.
pub(crate) async fn fetch_queue(client: &Client, topic: &str, queue: u16) -> Vec<String> {
    let held = fetch_held(client, topic, queue).await.into_iter();
    let body_at = |(expected, (offset, body)): (u64, (QueueOffset, String))| {
        assert_eq!(offset.0, expected, "offsets have no gap");
        body
    };
    (0..).zip(held).map(body_at).collect()
}

/// The bodies of all queues of a topic, sorted.
pub(crate) async fn fetch_all(client: &Client, topic: &str) -> Vec<String> {
    let queues = client.route(topic).await.unwrap().shards.len();
    let mut bodies = Vec::new();
    for queue in 0..queues {
        bodies.extend(fetch_queue(client, topic, queue as u16).await);
    }
    bodies.sort_unstable();
    bodies
}

pub(crate) async fn group(client: &Client, name: &str) -> GroupReport {
    client.admin().call(GroupInfo { name: name.to_owned() }).await.unwrap()
}

/// Sets when what fails in a group comes again, and how often it is delivered; 0: without end.
pub(crate) async fn set_retry(client: &Client, name: &str, delays_ms: &[u32], attempts: u32) {
    let retry = Some(RetryPolicy::List(delays_ms.to_vec()));
    let max_attempts = Some(Attempts(attempts));
    let name = name.to_owned();
    let set = GroupSet { name, retry, max_attempts, ..GroupSet::default() };
    client.admin().call(set).await.unwrap();
}

/// Waits until a group has settled everything.
pub(crate) async fn settled(client: &Client, name: &str) -> GroupReport {
    let report = until("the group settles everything", || async {
        let report = group(client, name).await;
        (report.lag == 0).then_some(report)
    });
    report.await.unwrap()
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: Code) -> Error {
    let error = result.expect_err("it must be refused");
    assert_eq!(error.code, code, "{error}");
    error
}
