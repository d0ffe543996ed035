//! Finding by id, by key and by time. The search itself is the log's: what it finds comes back
//! as an event, and only what the tenant may see leaves.
use bytes::Bytes;
use yard_wire::limits::{FIND_BYTES_MAX, FIND_RECORDS_MAX};
use yard_wire::request::Reply;
use yard_wire::requests::{Covered, Find, FindCursor, Found, FoundMessage, Seek, Wanted};
use yard_wire::{MessageId, QueueIndex, QueueOffset, TenantId, Timestamp, TopicId};

use crate::broker::Broker;
use crate::effect::Effect;
use crate::event::Origin;
use crate::refusal::{BadArgument, FetchError, FindError, NoTopic};

/// What the log is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// Records with this id, of whatever topic.
    Id(MessageId),
    /// Records of a topic with this key, of the half-open range of times.
    Key {
        /// The topic; the tenant has it.
        topic: TopicId,
        /// The key.
        key: String,
        /// Stored at this time or later.
        from: Timestamp,
        /// Stored before this time.
        to: Timestamp,
    },
}

/// Who wants to know, and how much: it goes with a search from its effect to its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request.
    pub origin: Origin,
    /// The tenant that asks.
    pub tenant: TenantId,
    /// Records at most, at least 1, already bounded.
    pub records_max: u32,
    /// Bytes of records at most, but always one record; already bounded.
    pub bytes_max: u32,
    /// The life of a message is made of it, instead of an answer.
    pub traces: bool,
}

/// A record that a search found. Whose it is was not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Topic of the queue.
    pub topic: TopicId,
    /// The queue.
    pub queue: QueueIndex,
    /// Its place in the queue.
    pub offset: QueueOffset,
    /// When it was stored.
    pub stored: Timestamp,
    /// Where it lies: a search that goes on there finds it again.
    pub at: FindCursor,
    /// The record.
    pub record: Bytes,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// In the order of the log.
    pub hits: Vec<Hit>,
    /// What was looked at.
    pub covered: Covered,
    /// Where to go on.
    pub next: Option<FindCursor>,
}

impl Broker {
    pub(crate) fn find(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: Find,
        effects: &mut Vec<Effect>,
    ) -> Result<(), FindError> {
        self.check_here(request.shard).map_err(FindError::NotHere)?;
        let search = match request.wanted {
            Wanted::Id(id) => Search::Id(id),
            Wanted::Key { topic, key, from, to } => {
                let Some(known) = self.meta.topic_named(tenant, &topic) else {
                    return Err(FindError::NoTopic(NoTopic::Named(topic)));
                };
                if from >= to {
                    let detail = format!("nothing is stored from {from} on and before {to}");
                    return Err(FindError::BadArgument(BadArgument(detail)));
                }
                Search::Key { topic: known.topic, key, from, to }
            }
        };
        let asked = Asked {
            origin,
            tenant,
            records_max: request.records_max.clamp(1, FIND_RECORDS_MAX),
            bytes_max: request.bytes_max.min(FIND_BYTES_MAX),
            traces: false,
        };
        effects.push(Effect::Find { asked, search, after: request.after });
        Ok(())
    }

    /// Answers with what a search found, as far as it is the tenant's and still there: an id says
    /// nothing about whose it is, and the topic may be gone since the question. What the tenant
    /// must not see takes no room in the answer either, or its room would tell of it.
    pub(crate) fn found(&mut self, asked: Asked, findings: Findings, effects: &mut Vec<Effect>) {
        if asked.traces {
            return self.go_on_tracing(asked, &findings, effects);
        }
        let Asked { origin, tenant, records_max, bytes_max, traces: _ } = asked;
        let Findings { hits, mut covered, mut next } = findings;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for hit in hits {
            let Some(name) = self.visible_name(tenant, &hit) else { continue };
            bytes += hit.record.len();
            let is_full = messages.len() == records_max as usize || bytes > bytes_max as usize;
            if is_full && !messages.is_empty() {
                next = Some(hit.at);
                covered.to = covered.to.min(hit.stored);
                break;
            }
            messages.push(FoundMessage {
                topic: name.to_owned(),
                queue: hit.queue,
                offset: hit.offset,
                stored: hit.stored,
                record: hit.record,
            });
        }
        assert!(messages.len() <= FIND_RECORDS_MAX as usize, "an answer is bounded");
        let reply = Reply::Find(Found { messages, covered, next });
        effects.push(Effect::Reply { origin, result: Ok(reply) });
    }

    /// The name of a record's topic, where the tenant may see the record.
    pub(crate) fn visible_name(&self, tenant: TenantId, hit: &Hit) -> Option<&str> {
        let topic = self.meta.topic_of(tenant, hit.topic)?;
        let ends = self.ends_of(hit.topic, hit.queue);
        assert!(ends.first <= ends.end, "a queue does not end before it begins");
        (ends.first..ends.end).contains(&hit.offset).then_some(&topic.name)
    }

    pub(crate) fn seek(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: Seek,
        effects: &mut Vec<Effect>,
    ) -> Result<(), FetchError> {
        let Seek { shard, topic, queue, time } = request;
        let (topic, ends) = self.queue_here(tenant, shard, topic, queue)?;
        let (first, end) = (ends.first, ends.end);
        effects.push(Effect::Seek { origin, topic, queue, time, first, end });
        Ok(())
    }
}
