//! What a client does by itself, and the program: producers that last, handlers, readers.
use bytes::Bytes;
use yard_wire::QueueIndex;

use super::{Came, Run, Tried, done};
use crate::host::Reading;
use crate::read;
use crate::rows::Row;
use crate::scenario::Step;
use crate::steps::Verb;
use crate::units::{self, number};

/// Messages that a reader takes at once where the step says nothing.
const READ_MAX: u32 = 1_000;

impl Run<'_> {
    pub(super) fn as_the_client(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        match step.form.verb {
            Verb::Producer => {
                let how = read::producing(step, words[1])?;
                let before = self.host.producer(&self.tenant, words[0], &how);
                let row = |before: Vec<u64>| Row::of(before.iter().map(u64::to_string));
                Ok(before.map(|before| Came::Rows(vec![row(before)])))
            }
            Verb::OneWay => {
                let queue = step.get("queue").map(number).transpose()?;
                let bodies = words[1..].iter().map(|body| Bytes::copy_from_slice(body.as_bytes()));
                let mut one_way = |body| self.host.one_way(words[0], body, queue);
                Ok(done(bodies.into_iter().try_for_each(&mut one_way)))
            }
            Verb::Flush => Ok(done(self.host.flush(words[0]))),
            Verb::Handle => self.handle(step, words),
            Verb::Program => Ok(self.host.program(&self.tenant, words).map(Came::Rows)),
            Verb::Read => {
                let max = step.get("max").map_or(Ok(READ_MAX), number)?;
                Ok(self.host.read(words[0], max).map(|messages| {
                    let rows = messages.iter().map(|(place, record)| Row::lying(*place, record));
                    Came::Rows(rows.collect())
                }))
            }
            _ => self.reader(step, words),
        }
    }

    fn reader(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let of = |text: &str| number(text).map(QueueIndex);
        let (queue, reading) = match step.form.verb {
            Verb::Reader => {
                let queues =
                    words[2..].iter().map(|text| of(text)).collect::<Result<Vec<_>, _>>()?;
                return Ok(done(self.host.reader(&self.tenant, words[0], words[1], &queues)));
            }
            Verb::Place => {
                let (queue, from) = units::place(words[1]).ok_or("a place is queue@offset")?;
                (queue, Reading::From(from))
            }
            Verb::Pause => (of(words[1])?, Reading::Paused),
            _ => (of(words[1])?, Reading::Resumed),
        };
        Ok(done(self.host.reads(words[0], queue, reading)))
    }

    pub(super) fn keep(&mut self, words: &[&str]) -> Tried<Came> {
        for text in &words[1..] {
            for place in self.what(words[0], text)? {
                if let Err(refusal) = self.host.keep(words[0], place) {
                    return Ok(Err(refusal));
                }
            }
        }
        Ok(done(Ok(())))
    }

    fn handle(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let (member, bodies) = (words[0], &words[1..]);
        self.known(member)?;
        let handled = match self.host.handle(member, bodies.len(), step.get("error")) {
            Ok(handled) => handled,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let given: Vec<String> =
            handled.iter().map(|it| Row::received(it).words.remove(0)).collect();
        if given == bodies {
            return Ok(done(Ok(())));
        }
        Err(format!("the handler was given {given:?}"))
    }
}
