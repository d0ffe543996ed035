//! What a recorder writes down: one value for each operation, crash and final scan.
//!
//! All times are of one clock of the recorder, in any unit. An operation's `invoked` must not be
//! later than the moment its request can have reached the broker, `completed` not earlier than
//! the moment the answer left it. Wider intervals weaken the checks, narrower ones make them wrong.

/// A moment on the recorder's clock.
pub type Time = u64;

/// A queue of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Queue {
    /// The topic's number.
    pub topic: u32,
    /// The queue's number in its topic.
    pub index: u32,
}

/// Where the broker says an accepted operation's bytes are; decides which crashes may undo it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum AckLevel {
    /// In the broker's memory: any crash may lose it.
    Memory,
    /// Handed to the operating system: a power cut may lose it, a killed process not.
    Written,
    /// On the device: nothing may lose it.
    #[default]
    Synced,
}

/// How an operation ended, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Accepted.
    Ok {
        /// The queue offset in the answer. None where the answer has none: a settle, or a
        /// message that gets its place later (delayed, prepared).
        offset: Option<u64>,
    },
    /// Definitely not done, and never to be seen: refused, or a transaction rolled back.
    Refused,
    /// No answer, or one that leaves it open. It may have happened, once, or may not.
    Unknown,
}

/// One message sent. A retry by the client library is part of the same operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The client that sent.
    pub client: u64,
    /// The tenant to which that client's connection is bound.
    pub tenant: u32,
    /// Where it was sent.
    pub queue: Queue,
    /// The producer, across its reconnections.
    pub producer: u64,
    /// Unique in the producer, increasing in the order of sending.
    pub seq: u64,
    /// Messages of one producer with the same order group keep their order.
    pub order_group: Option<u64>,
    /// Hash of the body (and of what else must arrive unchanged).
    pub hash: u64,
    /// A delayed message's time: not to be delivered before. It takes its place in the queue
    /// only then, so it takes no part in the checks of order. A prepared message takes its
    /// place late as well: record it with its time of sending as due.
    pub due: Option<Time>,
    /// From when on nobody wants it any more: whoever gets it then passes it over.
    pub expires: Option<Time>,
    /// When the call began.
    pub invoked: Time,
    /// When it returned; None if it never did. Required for [`Outcome::Ok`].
    pub completed: Option<Time>,
    /// How it ended.
    pub outcome: Outcome,
    /// The level that was asked for and, if it was accepted, confirmed.
    pub level: AckLevel,
}

/// One message handed to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Its offset in the queue.
    pub offset: u64,
    /// Its producer.
    pub producer: u64,
    /// Its number in the producer.
    pub seq: u64,
    /// Hash of the body received.
    pub hash: u64,
    /// 1 for the first delivery to this group, increasing with every later one.
    pub attempt: u32,
}

/// One answer with deliveries, of one queue to one consumer of a group.
///
/// For pushed deliveries `invoked` is when the subscription's credit was given. An empty poll
/// says that the group reads this queue's topic. A delivery that a client received and threw
/// away must be recorded too, or else the queue looks as if it had been skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// The consumer; a new number after each reconnection.
    pub client: u64,
    /// The tenant to which that client's connection is bound.
    pub tenant: u32,
    /// Its consumer group, unique across tenants.
    pub group: u64,
    /// The queue read.
    pub queue: Queue,
    /// When these messages can first have been asked for.
    pub invoked: Time,
    /// When the application had them.
    pub completed: Time,
    /// The messages, in the order received.
    pub deliveries: Vec<Delivery>,
}

/// What a consumer says about messages it has been given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SettleVerdict {
    /// Done: never again to this group.
    Ack,
    /// Failed: again, by the retry policy.
    Nack,
    /// Hopeless: to the dead-letter topic, never again to this group.
    Reject,
    /// Passed over, because it had expired: never again to this group.
    Expire,
}

/// A settlement of the offsets `from..to` of a queue for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle {
    /// The client that settled.
    pub client: u64,
    /// Its consumer group.
    pub group: u64,
    /// The queue.
    pub queue: Queue,
    /// First offset.
    pub from: u64,
    /// One past the last offset.
    pub to: u64,
    /// Which delivery of them it is about; 0 where that was not written down.
    pub attempt: u32,
    /// What it says.
    pub verdict: SettleVerdict,
    /// When the call began.
    pub invoked: Time,
    /// When it returned; None if it never did. Required for [`Outcome::Ok`].
    pub completed: Option<Time>,
    /// How it ended.
    pub outcome: Outcome,
    /// The level at which the settlement was confirmed.
    pub level: AckLevel,
}

/// A consumer was told that it holds messages until a time: no other delivery of them to its group
/// begins and ends between then and that time, unless it settles them first or the broker dies.
/// Whoever records it ends it no later than when the broker can have found the consumer gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The consumer.
    pub client: u64,
    /// Its consumer group.
    pub group: u64,
    /// The queue.
    pub queue: Queue,
    /// First offset.
    pub from: u64,
    /// One past the last offset.
    pub to: u64,
    /// When it asked.
    pub asked: Time,
    /// When it was told.
    pub at: Time,
    /// Until when they are held.
    pub until: Time,
}

/// Offsets that a group rightly passes over: filtered, expired, before its start, skipped by an
/// operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skip {
    /// The consumer group.
    pub group: u64,
    /// The queue.
    pub queue: Queue,
    /// First offset.
    pub from: u64,
    /// One past the last offset.
    pub to: u64,
}

/// An operator moved a group's position: what it had acknowledged may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// The consumer group.
    pub group: u64,
    /// The queue.
    pub queue: Queue,
    /// When it was done, at the latest. Operations in flight at that time are not judged.
    pub at: Time,
}

/// An operator removed a group: it is owed nothing any more. A group of the same name that is made
/// afterwards is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The consumer group.
    pub group: u64,
    /// When that was done.
    pub at: Time,
}

/// What kind of crash it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashKind {
    /// The process died; the operating system kept what was written.
    Process,
    /// Power was lost; only what was synced remains.
    Power,
}

/// The broker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// When its death was certain: the process reaped, the power off. Every operation that
    /// reached the dead broker was invoked at or before this, every later one meets the next.
    pub at: Time,
    /// What was lost.
    pub kind: CrashKind,
}

/// A message found by the final scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its offset in the queue.
    pub offset: u64,
    /// Its producer.
    pub producer: u64,
    /// Its number in the producer.
    pub seq: u64,
    /// Hash of the body read.
    pub hash: u64,
}

/// A queue's whole content at the end, by plain fetch, with no group and no filter. Several
/// scans of one queue are the parts of one, in the order recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The queue read.
    pub queue: Queue,
    /// When the scan began: after the last send to this queue had completed.
    pub at: Time,
    /// The lowest offset that retention has kept, 0 if nothing was removed.
    pub start: u64,
    /// The messages in the order read.
    pub messages: Vec<Stored>,
}

/// Declares where a group's rejected messages go, so that copies there are not duplicates. The
/// topic is the group's own; a group that reads several topics has a declaration for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter {
    /// The consumer group.
    pub group: u64,
    /// The topic that it reads.
    pub source: u32,
    /// The topic that gets what it rejects.
    pub topic: u32,
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message was sent.
    Send(Sent),
    /// Messages were delivered.
    Poll(Poll),
    /// Messages were settled.
    Settle(Settle),
    /// Messages are held for longer.
    Hold(Hold),
    /// A group passes over messages.
    Skip(Skip),
    /// A group's position was moved.
    Reset(Reset),
    /// A group was removed.
    Removal(Removal),
    /// The broker died.
    Crash(Crash),
    /// What a queue holds at the end.
    Scan(Scan),
    /// Where rejected messages go.
    DeadLetter(DeadLetter),
}

impl AckLevel {
    /// All levels, weakest first; a level's place here is `level as usize`.
    pub const ALL: [AckLevel; 3] = [AckLevel::Memory, AckLevel::Written, AckLevel::Synced];

    /// Whether what was confirmed at this level outlives a crash of `kind`.
    pub fn survives(self, kind: CrashKind) -> bool {
        match (self, kind) {
            (AckLevel::Memory, CrashKind::Process | CrashKind::Power) => false,
            (AckLevel::Written, CrashKind::Process) => true,
            (AckLevel::Written, CrashKind::Power) => false,
            (AckLevel::Synced, CrashKind::Process | CrashKind::Power) => true,
        }
    }
}

impl Settle {
    /// Whether it ends the group's interest in the messages, if it takes effect.
    pub(crate) fn is_final(&self) -> bool {
        match self.verdict {
            SettleVerdict::Ack | SettleVerdict::Reject | SettleVerdict::Expire => true,
            SettleVerdict::Nack => false,
        }
    }

    /// Whether the client was told that it is done.
    pub(crate) fn is_confirmed(&self) -> bool {
        matches!(self.outcome, Outcome::Ok { .. })
    }
}
