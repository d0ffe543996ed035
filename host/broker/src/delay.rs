//! What happens to delayed messages: release when they are due, cancelling, listing.
use std::collections::BTreeMap;

use yard_wire::limits::{DELAY_MS_MAX, RELEASES_MAX};
use yard_wire::operation::{DelayCancel, DelayCancelled, DelayLs, DelayReport, DelayRow};
use yard_wire::order::TopicType;
use yard_wire::record::Flags;
use yard_wire::release::{Notes, Release, Target};
use yard_wire::{MessageId, ShardId, TenantId, Timestamp, TopicId};

use crate::bounds::{
    DELAY_ROWS_MAX, DELAY_SCAN_MAX, DELAYED_MAX, DELAYED_OF_TENANT_MAX, TICK_RELEASES_MAX,
};
use crate::broker::Broker;
use crate::effect::Effect;
use crate::entry::{Cancelled, Entry};
use crate::operate::{Outcome, called};
use crate::refusal::{BadArgument, LimitReached, NoTopic, OperateError, ProduceError};
use crate::timers::{At, Delayed, Key, Known};

/// Where a list goes on: after the message that was due then, in this shard, at this place. So
/// shards that are asked for the same list agree on its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    due: Timestamp,
    shard: ShardId,
    at: At,
}

impl Broker {
    /// Checks the parked records of a batch before any of it is stored.
    pub(crate) fn check_parked(
        &self,
        tenant: TenantId,
        batch: &yard_wire::batch::Batch,
    ) -> Result<(), ProduceError> {
        let mut count = 0;
        for (_, record) in batch.parked() {
            if record.flags().has(Flags::PREPARED) {
                self.check_tx_name(&record)?;
            } else {
                count += 1;
            }
            if !record.flags().has(Flags::DELAYED) {
                continue;
            }
            let Some(due) = record.due() else {
                let detail = "a delayed message does not say when it is due".to_owned();
                return Err(ProduceError::BadArgument(BadArgument(detail)));
            };
            if due > self.now.plus_ms(DELAY_MS_MAX) {
                return Err(ProduceError::TooFar { due, now: self.now });
            }
            let topic = self.meta.topic(record.topic()).expect("the batch's topics were checked");
            if topic.settings.order.r#type == TopicType::Ordered {
                return Err(ProduceError::DelayInOrder { topic: topic.name.to_string() });
            }
        }
        if count == 0 {
            return Ok(());
        }
        let reached = |max: u64| {
            let what = "delayed messages that wait in a shard";
            Err(ProduceError::LimitReached(LimitReached { what, max: max as usize }))
        };
        if self.timers.count_of(tenant) + count > DELAYED_OF_TENANT_MAX {
            return reached(DELAYED_OF_TENANT_MAX);
        }
        if self.timers.len() as u64 + count > DELAYED_MAX {
            return reached(DELAYED_MAX);
        }
        Ok(())
    }

    /// Asks for releases of what is due.
    pub(crate) fn release_due(&mut self, effects: &mut Vec<Effect>) {
        let mut due = self.timers.take_due(self.now, TICK_RELEASES_MAX);
        assert!(due.len() <= TICK_RELEASES_MAX, "a tick releases so many at most");
        // A topic that is not known yet at the start of a shard will be, or is gone.
        due.retain(|(_, delayed)| self.meta.topic(delayed.topic).is_some());
        // Runs of one queue; in each, by due instant and then in the order of the log.
        due.sort_by_key(|(_, delayed)| (delayed.tenant, delayed.topic, delayed.queue));
        let of_tenant =
            |one: &(Key, Delayed), other: &(Key, Delayed)| one.1.tenant == other.1.tenant;
        for due in due.chunk_by(of_tenant).flat_map(|of_one| of_one.chunks(RELEASES_MAX)) {
            let tenant = due[0].1.tenant;
            let release = |(_, delayed): &(Key, Delayed)| {
                let (At { segment, offset }, bytes) = (delayed.lies, delayed.bytes);
                let target = Target { segment, offset, bytes, released: false };
                Release::new(target, (delayed.topic, delayed.queue), Notes::default())
            };
            let items: Vec<Release> = due.iter().map(release).collect();
            assert!(!items.is_empty(), "an entry releases something");
            let named = |((due, At { segment, offset }), _): &(Key, Delayed)| {
                assert!(*due <= self.now, "nothing is released early");
                Cancelled { due: *due, segment: *segment, offset: *offset }
            };
            let dues: Vec<Cancelled> = due.iter().map(named).collect();
            let entry = Entry::Release { tenant, items, settle: None, dues, tx: None };
            effects.push(Effect::Append { entry, then: Vec::new() });
        }
    }

    /// Takes a delayed message back, if it still waits.
    pub(crate) fn delay_cancel(
        &self,
        tenant: TenantId,
        arguments: &DelayCancel,
    ) -> Result<Outcome, OperateError> {
        let id: MessageId = arguments.id;
        let mut result = DelayCancelled {
            id: id.to_string(),
            cancelled: false,
            topic: String::new(),
            due_ms: Timestamp(0),
        };
        match self.timers.find(tenant, id) {
            Some(Known::Arriving) => Err(OperateError::Arriving),
            // It may have been taken back or released just now.
            None => {
                yard_wire::mark!(CancelTooLate);
                Ok(Outcome::Unchanged(called(&result)))
            }
            Some(Known::Waiting((due, at), delayed)) => {
                assert_eq!(delayed.tenant, tenant, "a tenant finds its own");
                result.cancelled = true;
                result.topic = self.topic_name(delayed.topic);
                result.due_ms = due;
                let At { segment, offset } = at;
                let cancelled = Cancelled { due, segment, offset };
                Ok(Outcome::Record(Entry::Cancel { tenant, cancelled }, called(&result)))
            }
        }
    }

    pub(crate) fn topic_name(&self, topic: TopicId) -> String {
        self.meta.topic(topic).map_or_else(|| topic.to_string(), |topic| topic.name.to_string())
    }

    /// Lists what waits here, by due instant.
    pub(crate) fn delay_ls(
        &self,
        tenant: TenantId,
        arguments: &DelayLs,
    ) -> Result<Outcome, OperateError> {
        let wanted = match &arguments.topic {
            None => None,
            Some(name) => {
                let topic = self.meta.topic_named(tenant, name);
                let missing = || OperateError::NoTopic(NoTopic::Named(name.clone()));
                Some(topic.ok_or_else(missing)?.topic)
            }
        };
        let after = match &arguments.after {
            None => None,
            Some(text) => Some(Cursor::parse(text).ok_or_else(|| {
                let detail = format!("after takes what a list ended with, not {text:?}");
                OperateError::BadArgument(BadArgument(detail))
            })?),
        };
        if !(1..=DELAY_ROWS_MAX).contains(&arguments.limit) {
            let detail = format!("a limit of {}: 1 to {DELAY_ROWS_MAX}", arguments.limit);
            return Err(OperateError::BadArgument(BadArgument(detail)));
        }
        let limit = arguments.limit as usize;
        let shard = self.config.shard;
        let (mut rows, mut next) = (Vec::new(), String::new());
        let mut last = None;
        for (looked_at, ((due, at), delayed)) in self
            .timers
            .from(after.map_or((Timestamp(0), At::FIRST), |c| c.begin(shard)))
            .enumerate()
        {
            let cursor = Cursor { due, shard, at };
            if Some(cursor) == after {
                continue;
            }
            if looked_at >= DELAY_SCAN_MAX || rows.len() == limit {
                next = last.map_or(String::new(), |last: Cursor| last.text());
                break;
            }
            last = Some(cursor);
            if delayed.tenant == tenant && wanted.is_none_or(|topic| topic == delayed.topic) {
                rows.push(DelayRow {
                    due_ms: due,
                    topic: self.topic_name(delayed.topic),
                    queue: delayed.queue,
                    id: delayed.id.to_string(),
                    bytes: delayed.bytes,
                    place: cursor.text(),
                });
            }
        }
        let waiting = match wanted {
            Some(topic) => self.timers.count_in(topic),
            None => self.timers.count_of(tenant),
        };
        Ok(Outcome::Now(called(&DelayReport { waiting, rows, next })))
    }

    /// How many parked records are in each segment of the log, and their bytes.
    #[must_use]
    pub fn parked_bytes(&self) -> &BTreeMap<u32, (u64, u64)> {
        self.timers.segments()
    }

    /// The parked records in segments below this one: what each is called here, and where it lies.
    /// It costs a look at all that wait.
    #[must_use]
    pub fn parked_below(&self, until: u32) -> Vec<([u8; 16], Target)> {
        let named = |((due, at), delayed): (Key, Delayed)| {
            let At { segment, offset } = delayed.lies;
            let target = Target { segment, offset, bytes: delayed.bytes, released: false };
            (token(due, at), target)
        };
        self.timers.below(until).into_iter().map(named).collect()
    }

    /// A parked record lies elsewhere from now on; `None`: it is damaged, and lost.
    pub fn apply_carried(&mut self, token: [u8; 16], target: Option<Target>) {
        self.timers.carry(key(token), target);
    }

    /// The log begins with this segment: what the damage of a copy has left behind in those before
    /// is lost. At the end of a recovery.
    pub fn forget_parked_below(&mut self, begins: u32) {
        for (key, _) in self.timers.below(begins) {
            self.timers.carry(key, None);
        }
    }
}

/// What a parked record is called towards the log: when it is due and where it was stored.
fn token(due: Timestamp, at: At) -> [u8; 16] {
    let mut token = [0; 16];
    token[..8].copy_from_slice(&due.0.to_le_bytes());
    token[8..12].copy_from_slice(&at.segment.to_le_bytes());
    token[12..].copy_from_slice(&at.offset.to_le_bytes());
    token
}

fn key(token: [u8; 16]) -> Key {
    let number = u128::from_le_bytes(token);
    let (due, segment, offset) = (number as u64, (number >> 64) as u32, (number >> 96) as u32);
    (Timestamp(due), At { segment, offset })
}

impl Cursor {
    /// Where a shard goes on.
    fn begin(self, shard: ShardId) -> Key {
        match self.shard.cmp(&shard) {
            std::cmp::Ordering::Less => (self.due, At::FIRST),
            std::cmp::Ordering::Equal => (self.due, self.at),
            std::cmp::Ordering::Greater => (self.due.plus_ms(1), At::FIRST),
        }
    }

    fn text(self) -> String {
        let Self { due, shard, at: At { segment, offset } } = self;
        format!("{due:020}-{shard:05}-{segment:010}-{offset:010}")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut part = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let due = Timestamp(part()?);
        let shard = ShardId(u16::try_from(part()?).ok()?);
        let segment = u32::try_from(part()?).ok()?;
        let at = At { segment, offset: u32::try_from(part()?).ok()? };
        parts.next().is_none().then_some(Self { due, shard, at })
    }
}
