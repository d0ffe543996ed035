//! Messages by a key or an id, as far as the broker's indexes and its log say.
use std::collections::VecDeque;
use std::sync::Arc;

use rhai::Dynamic;
use yard_client::{Client, Covered, SearchCursor, SearchResult, Wanted};

use crate::fault::Result;
use crate::session::Session;
use crate::show::text;
use crate::value::cursor::{Pull, Source};
use crate::value::message::Message;

/// Messages asked for at once.
const PAGE: u32 = 100;

/// What is looked for.
pub(crate) struct Search {
    pub(crate) wanted: Wanted,
}

impl Source for Search {
    fn open(&self, session: &Arc<Session>) -> Result<Box<dyn Pull>> {
        Ok(Box::new(Searching {
            wanted: self.wanted.clone(),
            client: session.client()?,
            next: None,
            is_done: false,
            found: VecDeque::new(),
            covered: Covered::default(),
        }))
    }
}

struct Searching {
    wanted: Wanted,
    client: Client,
    next: Option<SearchCursor>,
    is_done: bool,
    found: VecDeque<Message>,
    covered: Covered,
}

impl Pull for Searching {
    fn next(&mut self, session: &Session) -> Result<Option<Dynamic>> {
        loop {
            if let Some(message) = self.found.pop_front() {
                return Ok(Some(Dynamic::from(message)));
            }
            if self.is_done {
                return Ok(None);
            }
            let find = self.client.find(self.wanted.clone(), self.next.take(), PAGE);
            let SearchResult { messages, covered, next } = session.ask(find)?;
            self.covered = self.covered.and(covered);
            self.is_done = next.is_none();
            self.next = next;
            for message in messages {
                self.found.push_back(Message::found(message)?);
            }
        }
    }

    fn covered(&self) -> String {
        text::covered(&self.covered)
    }
}
