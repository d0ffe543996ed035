//! The messages of a topic in a span of time, or all of them: every queue is read page by page,
//! and the pages are merged by the time at which messages were stored.
use std::collections::VecDeque;
use std::sync::Arc;

use rhai::Dynamic;
use yard_client::{Client, Code, QueueIndex, QueueOffset, Timestamp};

use super::{fetch, queues};
use crate::fault::{Fault, Result};
use crate::session::Session;
use crate::value::cursor::{Pull, Source};
use crate::value::message::Message;

/// Messages that are read ahead, over all queues: a page of a queue is its share of them.
const AHEAD: usize = 8_192;
/// Messages of a page of a queue, at least: asking costs as much as so many messages.
const PAGE_MIN: usize = 16;
/// And at most.
const PAGE_MAX: usize = 1_000;

/// What is read of a topic: what its queues hold now, of that time.
pub(crate) struct Span {
    pub(crate) topic: Arc<str>,
    /// One queue only.
    pub(crate) queue: Option<QueueIndex>,
    /// Stored then or later; the oldest without.
    pub(crate) from: Option<Timestamp>,
    /// Stored before; all that is there now without.
    pub(crate) to: Option<Timestamp>,
}

impl Source for Span {
    fn open(&self, session: &Arc<Session>) -> Result<Box<dyn Pull>> {
        let client = session.client()?;
        let mut lines = Vec::new();
        for row in queues(session, &self.topic)? {
            if self.queue.is_some_and(|queue| queue != row.queue) {
                continue;
            }
            let at = |time: Option<Timestamp>, without: QueueOffset| match time {
                None => Ok(without),
                Some(time) => {
                    let sought = session.ask(client.seek(&self.topic, row.queue, time));
                    sought.map(|sought| sought.offset)
                }
            };
            let (next, end) = (at(self.from, row.first)?, at(self.to, row.end)?);
            lines.push(Line { queue: row.queue, next, end, page: VecDeque::new() });
        }
        if let (Some(queue), true) = (self.queue, lines.is_empty()) {
            let message = format!("topic {} has no queue {queue}", self.topic);
            return Err(Fault::new(Code::QueueOutOfRange, message).into());
        }
        let page = (AHEAD / lines.len().max(1)).clamp(PAGE_MIN, PAGE_MAX);
        Ok(Box::new(Merged { topic: self.topic.clone(), client, lines, page: page as u32 }))
    }
}

/// A queue, as far as it was read.
struct Line {
    queue: QueueIndex,
    next: QueueOffset,
    end: QueueOffset,
    page: VecDeque<Message>,
}

struct Merged {
    topic: Arc<str>,
    client: Client,
    lines: Vec<Line>,
    page: u32,
}

impl Pull for Merged {
    fn next(&mut self, session: &Session) -> Result<Option<Dynamic>> {
        for line in self.lines.iter_mut().filter(|line| line.page.is_empty()) {
            let place = (line.queue, line.next, line.end);
            line.page = fetch(session, &self.client, &self.topic, place, self.page)?.into();
            line.next = line.page.back().map_or(line.end, |last| QueueOffset(last.offset().0 + 1));
        }
        self.lines.retain(|line| !line.page.is_empty());
        let first = |line: &&mut Line| (line.page.front().map(Message::stored), line.queue);
        let oldest = self.lines.iter_mut().min_by_key(first);
        Ok(oldest.and_then(|line| line.page.pop_front()).map(Dynamic::from))
    }
}
