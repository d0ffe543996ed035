//! What the broker writes to the log: one closed enum, each variant with its bytes.
use std::fmt;

use bytes::Bytes;
use yard_wire::batch::Batch;
use yard_wire::limits::ERROR_TEXT_BYTES_MAX;
use yard_wire::plugin::Digest;
use yard_wire::release::{self, Release};
use yard_wire::{
    Epoch, Malformed, ProducerId, QueueIndex, QueueOffset, TenantId, Timestamp, TopicId, TxId, Wire,
};

use crate::bounds::UNSETTLED_MAX;
use crate::business::Settled;
use crate::dedupe::Deduped;
use crate::drain::DrainEntry;
use crate::meta::{
    GroupSettings, MetaChange, Plugin, PluginFile, ProducerGroup, Tenant, Topic, TrustedKey,
};
use crate::transaction::TxEntry;

/// A group's consumption of one topic in one shard: 0, 1, 2 and so on, never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl Wire for GroupId {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self(u32::take(input)?))
    }
}

/// Something that the log must hold, because the state of the broker follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Messages were accepted. The payload is the batch, byte for byte as it arrived.
    Batch {
        /// Who sent them.
        tenant: TenantId,
        /// The messages.
        batch: Batch,
    },
    /// A batch of which some messages have dedupe keys was accepted. The payload is what is stored
    /// of it, and the rest lies beside it; where nothing is stored, the rest alone.
    Deduped {
        /// Who sent it.
        tenant: TenantId,
        /// The batch.
        deduped: Box<Deduped>,
    },
    /// Dedupe keys are remembered no longer: of each topic, how many of the oldest.
    Forget {
        /// The topics.
        forgotten: Vec<(TopicId, u32)>,
    },
    /// Business keys are remembered no longer: of each group, how many of the oldest.
    ForgetSettled {
        /// The groups.
        forgotten: Vec<(GroupId, u32)>,
    },
    /// A group got on, and what was acked by it has business keys.
    Settled {
        /// Whose group it is.
        tenant: TenantId,
        /// What happened, and the keys.
        settled: Box<Settled>,
    },
    /// A group began to consume a topic.
    Group {
        /// Whose group it is.
        tenant: TenantId,
        /// The group.
        created: GroupCreated,
    },
    /// A group got on: messages were settled or came back.
    Progress {
        /// Whose group it is.
        tenant: TenantId,
        /// What happened.
        progress: Progress,
    },
    /// Stored messages became visible in queues, and what led to it is settled by the same.
    Release {
        /// Whose messages they are.
        tenant: TenantId,
        /// Which, and where; 1 to [`yard_wire::limits::RELEASES_MAX`].
        items: Vec<Release>,
        /// What became of messages of a group by this: never recorded without the releases, nor
        /// they without it.
        settle: Option<Progress>,
        /// Of messages that waited: which each was; else none.
        dues: Vec<Cancelled>,
        /// The transaction that is committed by it, of prepared messages.
        tx: Option<TxId>,
    },
    /// A delayed message was taken back before it was due.
    Cancel {
        /// Whose message it was.
        tenant: TenantId,
        /// Which.
        cancelled: Cancelled,
    },
    /// A group goes on from other offsets.
    Move {
        /// Whose group it is.
        tenant: TenantId,
        /// Where to.
        moved: Moved,
    },
    /// A group's backlog is passed on to another topic, or not any more.
    Drain {
        /// Whose group it is.
        tenant: TenantId,
        /// Which, and how.
        entry: DrainEntry,
    },
    /// A transaction got on.
    Tx {
        /// Whose it is.
        tenant: TenantId,
        /// Which, and how.
        entry: TxEntry,
    },
    /// A producer has a new incarnation: earlier ones store nothing more. The payload is the number
    /// of the producer, then that of the epoch.
    Incarnation {
        /// Whose it is.
        tenant: TenantId,
        /// The producer.
        producer: ProducerId,
        /// The epoch of the new incarnation, higher than that of every earlier one.
        epoch: Epoch,
    },
    /// The metadata changed; all changes at once or none.
    Meta {
        /// The changes, in order.
        changes: Vec<MetaChange>,
    },
}

yard_wire::message! {
    /// A group on a topic, and where it begins.
    ///
    /// ```text
    /// offset size field
    ///      0    4 group     number of the group in this shard
    ///      4    4 topic
    ///      8    4 bytes of the name
    ///     12    . name
    ///      .    4 count
    ///      .    . floors    (u16 queue, u64 offset)*: messages below do not concern the group
    /// ```
    pub struct GroupCreated {
        /// Its number.
        pub group: GroupId,
        /// The topic.
        pub topic: TopicId,
        /// Its name.
        pub name: String,
        /// Where it begins in the queues of this shard; in those not named at 0.
        pub floors: Vec<(QueueIndex, QueueOffset)>,
    }

    /// Where a group goes on.
    ///
    /// ```text
    /// offset size field
    ///      0    4 group
    ///      4    4 count
    ///      8    . floors    (u16 queue, u64 offset)*: below all is settled, above nothing is
    /// ```
    pub struct Moved {
        /// The group.
        pub group: GroupId,
        /// Where it goes on in these queues.
        pub floors: Vec<(QueueIndex, QueueOffset)>,
    }

    /// What became of messages of a group.
    ///
    /// ```text
    /// offset size field
    ///      0    4 group
    ///      4    4 count
    ///      8    . steps     (see Step)*
    ///      .    4 count
    ///      .    . errors    texts
    /// ```
    pub struct Progress {
        /// The group.
        pub group: GroupId,
        /// What happened, in order; the ranges do not overlap.
        pub steps: Vec<Step>,
        /// What consumers said about messages that came back; steps name them by number.
        pub errors: Vec<String>,
    }
}

yard_wire::message! {
    /// Which delayed message: one that waits no more.
    pub struct Cancelled {
        /// When it was due.
        pub due: Timestamp,
        /// Number of the log's segment that holds its record.
        pub segment: u32,
        /// Byte offset of the record in the segment's file.
        pub offset: u32,
    }
}

/// What became of messages of one queue that follow each other.
///
/// ```text
/// offset size field
///      0    2 queue
///      2    8 from
///     10    8 to         offset after the last
///     18    1 outcome    0 acked, 1 dead, 2 trimmed, 3 returned, 4 doomed, 5 filtered, 8 expired,
///                        9 dropped, 10 stopped, 11 duplicate, 12 forwarded
///     19    4 attempts   of 3 only: how often they were delivered so far
///     23    8 due_ms     of 3 only: not before this instant; 0: at once
///     31    8 delivered  of 3 only: when they were delivered last
///     39    4 error      of 3 only: number of the text, from 1; 0: none
///     19    4 attempts   of 4 and 9 only, as of 3
///     23    8 delivered
///     31    1 reason     (see Doom)
///     32    4 error
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The queue.
    pub queue: QueueIndex,
    /// Offset of the first message.
    pub from: QueueOffset,
    /// Offset after the last message.
    pub to: QueueOffset,
    /// What became of them.
    pub outcome: Outcome,
}

/// What became of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: they are not delivered to the group again.
    Acked,
    /// They are dead letters now: the same entry of the log releases them into the group's topic
    /// of these.
    Dead,
    /// They had expired before anybody handled them.
    Expired,
    /// They failed, and the group's retry policy has given them up.
    Dropped,
    /// They are the group's in another topic now: the same entry of the log releases them there.
    Forwarded,
    /// The log does not hold them any more.
    Trimmed,
    /// The group does not want them: they were never delivered to it.
    Filtered,
    /// The group has acked others with their business keys: they are not delivered to it any more.
    Duplicate,
    /// They come again: after a nack, the end of a lease, or of the subscription.
    Returned {
        /// How often they were delivered so far.
        attempts: u32,
        /// Not before this instant; 0: at once.
        due: Timestamp,
        /// When they were delivered last.
        delivered: Timestamp,
        /// What the consumer said: the number of a text of the entry, from 1; 0: nothing.
        error: u32,
    },
    /// They are not delivered again, and become dead letters.
    Doomed {
        /// How often they were delivered.
        attempts: u32,
        /// When they were delivered last.
        delivered: Timestamp,
        /// Why.
        reason: Doom,
        /// As of those that come again.
        error: u32,
    },
    /// They failed for the last time, and their order groups stop until somebody acts.
    Stopped {
        /// How often they were delivered.
        attempts: u32,
        /// When they were delivered last.
        delivered: Timestamp,
        /// Why.
        reason: Doom,
        /// As of those that come again.
        error: u32,
    },
}

/// Why a message becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// A consumer rejected it.
    Rejected,
    /// It failed at its last attempt.
    Failed,
    /// The lease of its last attempt ended.
    LeaseEnded,
    /// The plugin that decides who gets it fails at it.
    Poisoned,
    /// The plugin that decides when it comes again says so.
    Policy,
}

impl fmt::Display for Doom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::LeaseEnded => "lease-ended",
            Self::Poisoned => "poisoned",
            Self::Policy => "policy",
        })
    }
}

/// One byte: 1 rejected, 2 failed, 3 lease ended, 4 poisoned, 5 policy.
impl Wire for Doom {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Rejected => 1,
            Self::Failed => 2,
            Self::LeaseEnded => 3,
            Self::Poisoned => 4,
            Self::Policy => 5,
        });
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            1 => Ok(Self::Rejected),
            2 => Ok(Self::Failed),
            3 => Ok(Self::LeaseEnded),
            4 => Ok(Self::Poisoned),
            5 => Ok(Self::Policy),
            other => Err(Malformed::Field { what: "reason of a dead letter", value: other.into() }),
        }
    }
}

impl Step {
    /// What became of one message.
    pub(crate) fn of_one(queue: QueueIndex, from: QueueOffset, outcome: Outcome) -> Self {
        Self { queue, from, to: QueueOffset(from.0 + 1), outcome }
    }
}

impl Progress {
    /// Whether messages were passed on by it: all of them or none.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        self.steps.first().is_some_and(|step| step.outcome == Outcome::Forwarded)
    }

    /// Whether every text is within its bounds, and there where it is named.
    fn check_errors(&self) -> Result<(), Malformed> {
        let max = ERROR_TEXT_BYTES_MAX as u64;
        if let Some(long) = self.errors.iter().find(|text| text.len() as u64 > max) {
            return Err(Malformed::Length { what: "error text", found: long.len() as u64, max });
        }
        let named = |step: &Step| match step.outcome {
            Outcome::Returned { error, .. }
            | Outcome::Doomed { error, .. }
            | Outcome::Stopped { error, .. } => error,
            Outcome::Acked
            | Outcome::Dead
            | Outcome::Dropped
            | Outcome::Duplicate
            | Outcome::Expired
            | Outcome::Filtered
            | Outcome::Forwarded
            | Outcome::Trimmed => 0,
        };
        match self.steps.iter().map(named).find(|error| *error as usize > self.errors.len()) {
            Some(error) => {
                Err(Malformed::Field { what: "number of an error text", value: error.into() })
            }
            None => Ok(()),
        }
    }
}

impl Wire for Step {
    fn put(&self, out: &mut Vec<u8>) {
        self.queue.put(out);
        self.from.put(out);
        self.to.put(out);
        match self.outcome {
            Outcome::Acked => out.push(0),
            Outcome::Dead => out.push(1),
            Outcome::Trimmed => out.push(2),
            Outcome::Filtered => out.push(5),
            Outcome::Expired => out.push(8),
            Outcome::Dropped => out.push(9),
            Outcome::Duplicate => out.push(11),
            Outcome::Forwarded => out.push(12),
            Outcome::Returned { attempts, due, delivered, error } => {
                out.push(3);
                attempts.put(out);
                due.put(out);
                delivered.put(out);
                error.put(out);
            }
            Outcome::Doomed { attempts, delivered, reason, error }
            | Outcome::Stopped { attempts, delivered, reason, error } => {
                let is_doomed = matches!(self.outcome, Outcome::Doomed { .. });
                out.push(if is_doomed { 4 } else { 10 });
                attempts.put(out);
                delivered.put(out);
                reason.put(out);
                error.put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let queue = QueueIndex::take(input)?;
        let from = QueueOffset::take(input)?;
        let to = QueueOffset::take(input)?;
        let outcome = match u8::take(input)? {
            0 => Outcome::Acked,
            1 => Outcome::Dead,
            2 => Outcome::Trimmed,
            3 => Outcome::Returned {
                attempts: u32::take(input)?,
                due: Timestamp::take(input)?,
                delivered: Timestamp::take(input)?,
                error: u32::take(input)?,
            },
            4 => Outcome::Doomed {
                attempts: u32::take(input)?,
                delivered: Timestamp::take(input)?,
                reason: Doom::take(input)?,
                error: u32::take(input)?,
            },
            5 => Outcome::Filtered,
            8 => Outcome::Expired,
            9 => Outcome::Dropped,
            11 => Outcome::Duplicate,
            12 => Outcome::Forwarded,
            10 => Outcome::Stopped {
                attempts: u32::take(input)?,
                delivered: Timestamp::take(input)?,
                reason: Doom::take(input)?,
                error: u32::take(input)?,
            },
            other => {
                return Err(Malformed::Field { what: "outcome", value: other.into() });
            }
        };
        if from >= to {
            return Err(Malformed::Field { what: "first offset of a step", value: from.0 });
        }
        // Each of these messages costs memory; more than this are never under way.
        let (span, max) = (to.0 - from.0, UNSETTLED_MAX as u64);
        let is_kept = matches!(
            outcome,
            Outcome::Returned { .. } | Outcome::Doomed { .. } | Outcome::Stopped { .. }
        );
        if is_kept && span > max {
            return Err(Malformed::Length { what: "messages of a step", found: span, max });
        }
        Ok(Self { queue, from, to, outcome })
    }
}

impl MetaChange {
    /// As the change that has put it.
    pub(crate) fn put_tenant(tenant: &Tenant, out: &mut Vec<u8>) {
        out.push(0);
        tenant.put(out);
    }

    /// As the change that has put it.
    pub(crate) fn put_topic(topic: &Topic, out: &mut Vec<u8>) {
        out.push(1);
        topic.put(out);
    }
}

/// One byte, 0 tenant put, 1 topic put, 2 topic removed, 3 group put, 4 plugin file, 5 plugin put,
/// 6 plugin removed, 7 key put, 8 key removed, 80 checks put, 118 group removed; then the fields.
impl Wire for MetaChange {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::TenantPut(tenant) => Self::put_tenant(tenant, out),
            Self::TopicPut(topic) => Self::put_topic(topic, out),
            Self::TopicRemoved { topic, version } => {
                out.push(2);
                topic.put(out);
                version.put(out);
            }
            Self::GroupPut(settings) => {
                out.push(3);
                settings.put(out);
            }
            Self::PluginFile(file) => {
                out.push(4);
                file.put(out);
            }
            Self::PluginPut(plugin) => {
                out.push(5);
                plugin.put(out);
            }
            Self::PluginRemoved { tenant, name, version } => {
                out.push(6);
                tenant.put(out);
                name.put(out);
                version.put(out);
            }
            Self::KeyPut(key) => {
                out.push(7);
                key.put(out);
            }
            Self::GroupRemoved { tenant, name } => {
                out.push(118);
                tenant.put(out);
                name.put(out);
            }
            Self::ChecksPut(settings) => {
                out.push(80);
                settings.put(out);
            }
            Self::KeyRemoved { tenant, key } => {
                out.push(8);
                tenant.put(out);
                key.put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            0 => Ok(Self::TenantPut(Tenant::take(input)?)),
            1 => Ok(Self::TopicPut(Topic::take(input)?)),
            2 => {
                Ok(Self::TopicRemoved { topic: TopicId::take(input)?, version: u64::take(input)? })
            }
            3 => Ok(Self::GroupPut(GroupSettings::take(input)?)),
            4 => Ok(Self::PluginFile(PluginFile::take(input)?)),
            5 => Ok(Self::PluginPut(Plugin::take(input)?)),
            6 => Ok(Self::PluginRemoved {
                tenant: TenantId::take(input)?,
                name: String::take(input)?,
                version: u64::take(input)?,
            }),
            7 => Ok(Self::KeyPut(TrustedKey::take(input)?)),
            8 => Ok(Self::KeyRemoved { tenant: TenantId::take(input)?, key: Digest::take(input)? }),
            80 => Ok(Self::ChecksPut(ProducerGroup::take(input)?)),
            118 => Ok(Self::GroupRemoved {
                tenant: TenantId::take(input)?,
                name: String::take(input)?,
            }),
            other => Err(Malformed::Field { what: "change of the metadata", value: other.into() }),
        }
    }
}

impl Entry {
    /// Kind of a batch in the log.
    pub const BATCH: u16 = 1;
    /// Kind of a new group in the log.
    pub const GROUP: u16 = 2;
    /// Kind of a group's progress in the log.
    pub const PROGRESS: u16 = 3;
    /// Kind of a change of the metadata in the log.
    pub const META: u16 = 4;
    /// Kind of a cancelled message in the log.
    pub const CANCEL: u16 = 5;
    /// Kind of releases in the log.
    pub const RELEASE: u16 = 0x104;
    /// Kind of a group that goes on from other offsets in the log.
    pub const MOVE: u16 = 20;
    /// Kind of what becomes of a drain in the log.
    pub const DRAIN: u16 = 32;
    /// Kind of a transaction's step in the log.
    pub const TX: u16 = 80;
    /// Kind of a batch of which nothing is stored in the log.
    pub const DUPLICATES: u16 = 26;
    /// Kind of dedupe keys that are forgotten in the log.
    pub const FORGET: u16 = 27;
    /// Kind of a group's progress with business keys in the log.
    pub const SETTLED: u16 = 28;
    /// Kind of business keys that are forgotten in the log.
    pub const FORGET_SETTLED: u16 = 29;
    /// Kind of a producer's new incarnation in the log.
    pub const INCARNATION: u16 = 33;

    /// The number under which the log keeps it.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Batch { .. } => Self::BATCH,
            Self::Deduped { deduped, .. } if deduped.batch.is_some() => Self::BATCH,
            Self::Deduped { .. } => Self::DUPLICATES,
            Self::Forget { .. } => Self::FORGET,
            Self::ForgetSettled { .. } => Self::FORGET_SETTLED,
            Self::Settled { .. } => Self::SETTLED,
            Self::Group { .. } => Self::GROUP,
            Self::Progress { .. } => Self::PROGRESS,
            Self::Release { .. } => Self::RELEASE,
            Self::Cancel { .. } => Self::CANCEL,
            Self::Move { .. } => Self::MOVE,
            Self::Drain { .. } => Self::DRAIN,
            Self::Tx { .. } => Self::TX,
            Self::Incarnation { .. } => Self::INCARNATION,
            Self::Meta { .. } => Self::META,
        }
    }

    /// Whose it is. The metadata is the default tenant's, who operates the installation.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::Batch { tenant, .. }
            | Self::Deduped { tenant, .. }
            | Self::Settled { tenant, .. }
            | Self::Group { tenant, .. }
            | Self::Progress { tenant, .. }
            | Self::Release { tenant, .. }
            | Self::Cancel { tenant, .. }
            | Self::Move { tenant, .. }
            | Self::Drain { tenant, .. }
            | Self::Tx { tenant, .. }
            | Self::Incarnation { tenant, .. } => *tenant,
            Self::Meta { .. } | Self::Forget { .. } | Self::ForgetSettled { .. } => TenantId(0),
        }
    }

    /// Its bytes, without kind and tenant. Those of a batch are shared, not copied.
    #[must_use]
    pub fn encode_payload(&self) -> Bytes {
        match self {
            Self::Batch { batch, .. } => batch.bytes().clone(),
            Self::Deduped { deduped, .. } => match &deduped.batch {
                Some(batch) => batch.bytes().clone(),
                None => deduped.put_alone(),
            },
            Self::Forget { forgotten } => forgotten.to_bytes(),
            Self::ForgetSettled { forgotten } => forgotten.to_bytes(),
            Self::Settled { settled, .. } => {
                assert!(!settled.keys.is_empty(), "an entry says something");
                settled.to_bytes()
            }
            Self::Group { created, .. } => created.to_bytes(),
            Self::Progress { progress, .. } => {
                assert!(!progress.steps.is_empty(), "an entry says something");
                progress.to_bytes()
            }
            Self::Release { items, settle, dues, tx, .. } => {
                assert!(dues.is_empty() || dues.len() == items.len(), "each was due at a time");
                let mut out = Vec::new();
                release::put_all(items, &mut out);
                settle.put(&mut out);
                dues.put(&mut out);
                tx.put(&mut out);
                out.into()
            }
            Self::Cancel { cancelled, .. } => cancelled.to_bytes(),
            Self::Move { moved, .. } => {
                assert!(!moved.floors.is_empty(), "an entry says something");
                moved.to_bytes()
            }
            Self::Drain { entry, .. } => entry.to_bytes(),
            Self::Tx { entry, .. } => entry.to_bytes(),
            Self::Incarnation { producer, epoch, .. } => (*producer, *epoch).to_bytes(),
            Self::Meta { changes } => {
                assert!(!changes.is_empty(), "an entry says something");
                changes.to_bytes()
            }
        }
    }

    /// What lies beside its payload: of a batch with dedupe keys; else nothing.
    #[must_use]
    pub fn encode_notes(&self) -> Bytes {
        match self {
            Self::Deduped { deduped, .. } if deduped.batch.is_some() => deduped.dedupe.to_bytes(),
            _ => Bytes::new(),
        }
    }

    /// Reads a batch from the log beside which something lies, see [`Entry::encode_notes`].
    ///
    /// # Errors
    /// [`Malformed`] with what is wrong.
    pub fn decode_noted(tenant: TenantId, notes: Bytes, payload: Bytes) -> Result<Self, Malformed> {
        let batch = Batch::parse(payload)?;
        let (header, dedupe) = (*batch.header(), Deduped::take_notes(notes)?);
        let deduped = Deduped { header, batch: Some(batch), dedupe };
        Ok(Self::Deduped { tenant, deduped: Box::new(deduped) })
    }

    /// Reads an entry from the log. A batch is checked whole; at recovery, where the log has
    /// checked it already, [`crate::Broker::apply_batch`] needs its header only.
    ///
    /// # Errors
    /// [`Malformed`] for an unknown kind, or with what is wrong with the payload.
    pub fn decode(kind: u16, tenant: TenantId, payload: Bytes) -> Result<Self, Malformed> {
        match kind {
            Self::BATCH => Ok(Self::Batch { tenant, batch: Batch::parse(payload)? }),
            Self::GROUP => Ok(Self::Group { tenant, created: GroupCreated::from_bytes(payload)? }),
            Self::PROGRESS => {
                let progress = Progress::from_bytes(payload)?;
                progress.check_errors()?;
                Ok(Self::Progress { tenant, progress })
            }
            Self::RELEASE => Self::take_releases(tenant, payload),
            Self::CANCEL => Ok(Self::Cancel { tenant, cancelled: Cancelled::from_bytes(payload)? }),
            Self::MOVE => Ok(Self::Move { tenant, moved: Moved::from_bytes(payload)? }),
            Self::DRAIN => Ok(Self::Drain { tenant, entry: DrainEntry::from_bytes(payload)? }),
            Self::TX => Ok(Self::Tx { tenant, entry: TxEntry::from_bytes(payload)? }),
            Self::INCARNATION => {
                let (producer, epoch) = Wire::from_bytes(payload)?;
                Ok(Self::Incarnation { tenant, producer, epoch })
            }
            Self::META => Ok(Self::Meta { changes: Vec::from_bytes(payload)? }),
            Self::DUPLICATES => {
                let deduped = Box::new(Deduped::take_alone(payload)?);
                Ok(Self::Deduped { tenant, deduped })
            }
            Self::FORGET => Ok(Self::Forget { forgotten: Vec::from_bytes(payload)? }),
            Self::FORGET_SETTLED => {
                Ok(Self::ForgetSettled { forgotten: Vec::from_bytes(payload)? })
            }
            Self::SETTLED => {
                let settled = Box::new(Settled::from_bytes(payload)?);
                settled.progress.check_errors()?;
                Ok(Self::Settled { tenant, settled })
            }
            other => Err(Malformed::Field { what: "kind of an entry", value: other.into() }),
        }
    }

    /// The releases of the log, then what the broker added: Option of a progress, list of
    /// which waiting messages they were, Option of the transaction.
    fn take_releases(tenant: TenantId, mut payload: Bytes) -> Result<Self, Malformed> {
        let items = release::take_all(&mut payload)?;
        let settle = <Option<Progress> as Wire>::take(&mut payload)?;
        let dues = <Vec<Cancelled> as Wire>::take(&mut payload)?;
        let tx = Option::<TxId>::from_bytes(payload)?;
        if !dues.is_empty() && dues.len() != items.len() {
            let (found, max) = (dues.len() as u64, items.len() as u64);
            return Err(Malformed::Length { what: "instants of releases", found, max });
        }
        Ok(Self::Release { tenant, items, settle, dues, tx })
    }
}

const _: () = assert!(Entry::BATCH != Entry::GROUP && Entry::PROGRESS != Entry::META);
