//! What a scenario asks of whoever runs it: one trait, three hosts.
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use yard_client::compress::Algorithm;
use yard_client::{Compression, Message, SeekTo};
use yard_wire::batch::BatchHeader;
use yard_wire::operation::Operation;
use yard_wire::record::Record;
use yard_wire::requests::{
    AckNodes, AckPlace, Expression, Fetched, FoundMessage, Produced, Sought, Start, TxVerdict,
    Verdict, Wanted,
};
use yard_wire::{
    Code, Epoch, MessageId, ProducerId, QueueIndex, QueueOffset, Refusal, Timestamp, TxId,
};

use crate::rows::Row;
use crate::units::Place;

/// Which host it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A shard, a disk in memory, time that passes when somebody says so.
    Bare,
    /// The same in the simulator, with faults that nobody may see.
    Simulated,
    /// A process, QUIC, the shipped client.
    Real,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bare, Self::Simulated, Self::Real];

    /// Its name in a scenario.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Simulated => "simulated",
            Self::Real => "real",
        }
    }
}

/// What came of a request.
pub type Outcome<T> = Result<T, Refusal>;

/// An instant of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instant {
    /// So many milliseconds after it was given to the producer.
    After(u64),
    /// By the broker's clock.
    At(Timestamp),
}

/// A message to send, as a step says it.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Its topic.
    pub topic: String,
    /// Its body.
    pub body: Bytes,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its tag.
    pub tag: Option<String>,
    /// Its order group.
    pub order: Option<String>,
    /// The queue that it names.
    pub queue: Option<u16>,
    /// When it is delivered.
    pub due: Option<Instant>,
    /// From when on nobody wants it.
    pub expires: Option<Instant>,
    /// Its priority.
    pub priority: Option<u8>,
    /// Its properties.
    pub properties: Vec<(String, String)>,
    /// Where it must be.
    pub place: Option<AckPlace>,
    /// On how many nodes it must be.
    pub nodes: Option<AckNodes>,
    /// How its body is packed.
    pub compress: Option<Algorithm>,
    /// Of messages with the same key the first is stored.
    pub dedupe: Option<String>,
    /// The transaction that it belongs to.
    pub tx: Option<TxId>,
    /// The producer that sends it, where that lasts longer than this message.
    pub by: Option<String>,
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.0)
}

impl Outgoing {
    /// The client's message.
    #[must_use]
    pub fn message(&self) -> Message {
        let mut message = Message::new(self.body.clone()).keys(self.keys.iter().cloned());
        if let Some(tag) = &self.tag {
            message = message.tag(tag);
        }
        if let Some(order) = &self.order {
            message = message.order_group(order);
        }
        if let Some(queue) = self.queue {
            message = message.queue(queue);
        }
        if let Some(priority) = self.priority {
            message = message.priority(priority);
        }
        if let Some(key) = &self.dedupe {
            message = message.dedupe(key);
        }
        message = match self.due {
            Some(Instant::After(ms)) => message.deliver_after(Duration::from_millis(ms)),
            Some(Instant::At(at)) => message.deliver_at(system_time(at)),
            None => message,
        };
        message = match self.expires {
            Some(Instant::After(ms)) => message.expires_after(Duration::from_millis(ms)),
            Some(Instant::At(at)) => message.expires_at(system_time(at)),
            None => message,
        };
        let properties = self.properties.iter();
        properties.fold(message, |message, (name, value)| message.property(name, value))
    }

    /// How the producer packs bodies.
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        self.compress.map(Compression::new)
    }
}

/// The queue that a producer chooses by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// Bytes of the body, beyond the queues from the first one on again.
    ByLength,
    /// Always this one.
    Always(u16),
}

/// A producer that lasts.
#[derive(Clone, Debug, Default)]
pub struct Producing {
    /// Its topic.
    pub topic: String,
    /// After so many milliseconds it gives a message up; none: as long as the client does.
    pub within_ms: Option<u64>,
    /// Bytes that may wait for an answer.
    pub buffer_bytes: Option<u64>,
    /// How long a batch waits for more, in milliseconds.
    pub linger_ms: Option<u64>,
    /// How it chooses queues.
    pub select: Option<Select>,
    /// The name under which it goes on after a restart of its process.
    pub identity: Option<String>,
}

impl Producing {
    /// Whether it has what only the client does.
    #[must_use]
    pub fn is_the_clients(&self) -> bool {
        let batches = self.buffer_bytes.is_some() || self.linger_ms.is_some();
        batches || self.select.is_some() || self.identity.is_some()
    }
}

/// What a producer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: MessageId,
    /// Its queue.
    pub queue: QueueIndex,
    /// Its place there; of a delayed message none.
    pub offset: Option<QueueOffset>,
    /// It was not stored: these are id and place of the one that has its key.
    pub duplicate: bool,
}

/// A batch that was numbered by hand.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its topic.
    pub topic: String,
    /// Its queue.
    pub queue: QueueIndex,
    /// Its bodies.
    pub bodies: Vec<Bytes>,
    /// Properties of each of its messages.
    pub properties: Vec<(String, String)>,
    /// Its number; the shard is that of the queue where none is said.
    pub header: BatchHeader,
    /// Whether the step says the shard.
    pub names_shard: bool,
    /// The lowest number that still waits.
    pub floor: u64,
    /// Where it must be.
    pub place: AckPlace,
    /// On how many nodes it must be.
    pub nodes: AckNodes,
}

/// Where a group begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// As the protocol has it.
    Start(Start),
    /// At a time.
    Time(Timestamp),
}

/// How a consumer subscribes.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its group.
    pub group: String,
    /// Its topic.
    pub topic: String,
    /// Where a new group begins.
    pub from: From,
    /// How long it may hold a message, in milliseconds.
    pub lease_ms: u32,
    /// Messages ahead of what it takes; none: enough.
    pub credit: Option<u32>,
    /// Bytes ahead of what it takes; none: enough.
    pub bytes: Option<u32>,
    /// Which messages it wants.
    pub expression: Option<Expression>,
    /// The name under which it gets every message.
    pub broadcast: Option<String>,
    /// What its handler fails on does not come again.
    pub drops_failed: bool,
    /// Whether members have queues of their own.
    pub exclusive: bool,
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Where it lies.
    pub place: Place,
    /// How often it was delivered.
    pub attempt: u32,
    /// The message.
    pub record: Record,
}

/// What a consumer says of a message.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// Which delivery of it; none: the latest.
    pub attempt: Option<u32>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// When it comes again.
    pub delay_ms: Option<u32>,
    /// Why.
    pub error: Option<String>,
}

/// How a member ends or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// In good order.
    Leave,
    /// Its connection is gone.
    Kill,
    /// It receives nothing.
    Pause,
    /// It receives again.
    Resume,
}

/// What a reader does with one of its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It goes on there.
    From(QueueOffset),
    /// It does not read it.
    Paused,
    /// It reads it again.
    Resumed,
}

/// How the broker ends before it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In good order.
    Stop,
    /// At once.
    Kill,
    /// With the machine: what was not synced may be lost.
    Power,
}

/// A request, and what a member makes of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Topic of the request.
    pub topic: String,
    /// Its body.
    pub body: Bytes,
    /// Who answers; nobody where none is named.
    pub member: Option<String>,
    /// With what; `Err`: that it failed.
    pub reply: Result<Bytes, String>,
}

/// A transaction that begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Its producer group.
    pub group: String,
    /// What reminds the application of its work.
    pub note: String,
    /// Who begins it, under which number, where the step says so.
    pub named: Option<(ProducerId, Epoch, u64)>,
}

/// What somebody decides about a transaction.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The transaction.
    pub tx: TxId,
    /// The group in whose name it is decided.
    pub group: String,
    /// Number of the check that it answers; 0: none.
    pub check: u16,
    /// Whether it is as the step wants, rather than as its producer would say.
    pub is_forged: bool,
    /// What becomes of it.
    pub commit: bool,
}

/// A producer was asked about a transaction.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The transaction.
    pub tx: TxId,
    /// Which time it is, from 1.
    pub check: u16,
    /// What was said when it began.
    pub note: String,
}

/// A queue in which a group goes on elsewhere: where it was, and where it goes on.
pub type Moved = (QueueIndex, QueueOffset, QueueOffset);

/// Why a host does not do what only the client does.
pub(crate) fn of_the_client<T>() -> Outcome<T> {
    Err(Refusal::new(Code::Internal, "only the client does that: `not on bare simulated: …`"))
}

/// Whoever runs scenarios. Names of tenants and members are the scenario's own.
pub trait Host {
    /// Which it is.
    fn kind(&self) -> Kind;
    /// The broker's clock.
    fn now(&mut self) -> Timestamp;
    /// A step begins: what nobody may see may happen now.
    fn begin_step(&mut self) {}
    /// Whether to look once more, for what follows from earlier steps by itself; waits a moment
    /// where it says so. Where everything is done before a step ends, there is nothing to wait for.
    fn looks_again(&mut self, looks: u32) -> bool {
        let _ = looks;
        false
    }
    /// Whether time has passed as the scenario says, to a quarter of a second: only then what did
    /// not happen says something.
    fn kept_time(&mut self) -> bool {
        true
    }
    /// Runs an operation.
    fn call(&mut self, tenant: &str, operation: Operation, args: Bytes) -> Outcome<Bytes>;
    /// Adds a tenant.
    fn add_tenant(&mut self, name: &str, auto_create_topics: bool) -> Outcome<()>;
    /// Sends.
    fn send(&mut self, tenant: &str, message: &Outgoing) -> Outcome<Stored>;
    /// Somebody is a producer that lasts, for messages that are sent by it. Of one with an
    /// identity: how many messages were stored under it before, queue by queue.
    fn producer(&mut self, tenant: &str, name: &str, how: &Producing) -> Outcome<Vec<u64>>;
    /// Sends one way by a producer that lasts; to this queue where one is named.
    fn one_way(&mut self, producer: &str, body: Bytes, queue: Option<u16>) -> Outcome<()> {
        let _ = (producer, body, queue);
        of_the_client()
    }
    /// Waits for the fate of all that a producer that lasts was given.
    fn flush(&mut self, producer: &str) -> Outcome<()> {
        let _ = producer;
        of_the_client()
    }
    /// Sends a batch as it is.
    fn produce(&mut self, tenant: &str, batch: &Numbered) -> Outcome<Produced>;
    /// Subscribes.
    fn subscribe(&mut self, tenant: &str, member: &str, how: &Subscription) -> Outcome<()>;
    /// Takes what has arrived; waits until `wanted` messages have, where arriving takes time.
    fn receive(&mut self, member: &str, wanted: usize) -> Outcome<Vec<Received>>;
    /// Settles a delivery of a place.
    fn settle(&mut self, member: &str, place: Place, opinion: &Opinion) -> Outcome<()>;
    /// Extends the lease of one; `attempt` says which, or nothing for the latest.
    fn extend(
        &mut self,
        member: &str,
        place: Place,
        attempt: Option<u32>,
        lease_ms: u64,
    ) -> Outcome<()>;
    /// Works on the latest delivery of a place until it is settled.
    fn keep(&mut self, member: &str, place: Place) -> Outcome<()>;
    /// Has a handler take so many messages; it fails where there is an error.
    fn handle(
        &mut self,
        member: &str,
        wanted: usize,
        error: Option<&str>,
    ) -> Outcome<Vec<Received>> {
        let _ = (member, wanted, error);
        of_the_client()
    }
    /// Settles under another member's subscription.
    fn forge(&mut self, member: &str, other: &str, place: Place, verdict: Verdict) -> Outcome<()>;
    /// Ends a member, or lets it go on.
    fn change(&mut self, member: &str, change: Change) -> Outcome<()>;
    /// Reads these queues of a topic from now on, without a group.
    fn reader(
        &mut self,
        tenant: &str,
        reader: &str,
        topic: &str,
        queues: &[QueueIndex],
    ) -> Outcome<()> {
        let _ = (tenant, reader, topic, queues);
        of_the_client()
    }
    /// The next messages of a queue of a reader, so many at most.
    fn read(&mut self, reader: &str, max: u32) -> Outcome<Vec<(Place, Record)>> {
        let _ = (reader, max);
        of_the_client()
    }
    /// A reader goes on elsewhere in a queue, or not at all for now.
    fn reads(&mut self, reader: &str, queue: QueueIndex, reading: Reading) -> Outcome<()> {
        let _ = (reader, queue, reading);
        of_the_client()
    }
    /// Reads.
    fn fetch(
        &mut self,
        tenant: &str,
        queue: (&str, QueueIndex),
        from: QueueOffset,
        max: u32,
    ) -> Outcome<Fetched>;
    /// Searches by time.
    fn seek(&mut self, tenant: &str, queue: (&str, QueueIndex), at: Timestamp) -> Outcome<Sought>;
    /// Searches by id or key.
    fn find(&mut self, tenant: &str, wanted: &Wanted) -> Outcome<Vec<FoundMessage>>;
    /// Moves a group.
    fn move_group(
        &mut self,
        tenant: &str,
        group: &str,
        topic: &str,
        to: &SeekTo,
    ) -> Outcome<Vec<Moved>>;
    /// Begins a transaction.
    fn begin(&mut self, tenant: &str, beginning: &Beginning) -> Outcome<TxId>;
    /// Commits one, or rolls it back.
    fn decide(&mut self, tenant: &str, decision: &Decision) -> Outcome<()>;
    /// Somebody may be asked about the open transactions of a group from now on.
    fn join(&mut self, tenant: &str, producer: &str, group: &str) -> Outcome<()>;
    /// What a producer was asked since the last time; waits until `wanted` questions have arrived,
    /// where arriving takes time.
    fn asked(&mut self, producer: &str, wanted: usize) -> Outcome<Vec<Asked>>;
    /// Answers a question.
    fn answer(&mut self, producer: &str, asked: &Asked, verdict: TxVerdict) -> Outcome<()>;
    /// Lets time pass, in milliseconds.
    fn advance(&mut self, ms: u64);
    /// Ends the broker and starts it again.
    fn restart(&mut self, ending: Ending);
    /// Ends the broker; nobody is there until it is up again.
    fn down(&mut self, ending: Ending);
    /// Starts it again.
    fn up(&mut self);
    /// Takes all room from the disk, or gives it back.
    fn fill_disk(&mut self, full: bool);
    /// Asks and answers.
    fn exchange(&mut self, tenant: &str, exchange: &Exchange) -> Outcome<Bytes> {
        let _ = (tenant, exchange);
        of_the_client()
    }
    /// Runs the program; the rows that it prints, with its exit code.
    fn program(&mut self, tenant: &str, words: &[&str]) -> Outcome<Vec<Row>> {
        let _ = (tenant, words);
        of_the_client()
    }
}
