//! The end of a topic as it grows. No group is made for it: it asks where the queues end, and
//! reads what is new.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rhai::Dynamic;
use yard_client::{Client, QueueIndex, QueueOffset};

use super::{fetch, queues};
use crate::fault::Result;
use crate::session::Session;
use crate::value::cursor::{Pull, Source};
use crate::value::message::Message;

/// Pause between two looks at a topic that has nothing new: a person sees it as at once.
const PAUSE: Duration = Duration::from_millis(200);
/// Messages read at once of a queue.
const PAGE: u32 = 1_000;

/// What is stored from now on.
pub(crate) struct Tail {
    pub(crate) topic: Arc<str>,
}

impl Source for Tail {
    fn open(&self, session: &Arc<Session>) -> Result<Box<dyn Pull>> {
        let ends = queues(session, &self.topic)?.into_iter().map(|row| (row.queue, row.end));
        let (topic, client) = (self.topic.clone(), session.client()?);
        Ok(Box::new(Following { topic, client, ends: ends.collect(), read: VecDeque::new() }))
    }

    fn is_endless(&self) -> bool {
        true
    }
}

struct Following {
    topic: Arc<str>,
    client: Client,
    /// What was read of each queue.
    ends: BTreeMap<QueueIndex, QueueOffset>,
    read: VecDeque<Message>,
}

impl Pull for Following {
    fn next(&mut self, session: &Session) -> Result<Option<Dynamic>> {
        loop {
            if let Some(message) = self.read.pop_front() {
                return Ok(Some(Dynamic::from(message)));
            }
            if !self.read_on(session)? {
                session.pause(PAUSE)?;
            }
        }
    }
}

impl Following {
    /// Reads what is new, in the order in which it was stored; whether there was anything.
    fn read_on(&mut self, session: &Session) -> Result<bool> {
        let mut fresh = Vec::new();
        for row in queues(session, &self.topic)? {
            // A queue that the topic grew has nothing that is older than the tail.
            let from = *self.ends.entry(row.queue).or_insert(row.first);
            let place = (row.queue, from, row.end);
            let read = fetch(session, &self.client, &self.topic, place, PAGE)?;
            if let Some(last) = read.last() {
                self.ends.insert(row.queue, QueueOffset(last.offset().0 + 1));
            }
            fresh.extend(read);
        }
        fresh.sort_by_key(|message| (message.stored(), message.queue(), message.offset()));
        self.read.extend(fresh);
        Ok(!self.read.is_empty())
    }
}
