//! Histories that are made up, clean and of any length: to measure the checker by.
//!
//! ```text
//!   64 producers ─► 16 queues ─► 2 groups: polls of four, one message in twenty fails once
//!                                          crashes now and then, a final scan of every queue
//! ```

use crate::event::{
    AckLevel, Crash, CrashKind, Delivery, Event, Outcome, Poll, Queue, Scan, Sent, Settle,
    SettleVerdict, Stored, Time,
};
use crate::history::History;

const PRODUCERS: u64 = 64;
const QUEUES: u64 = 16;
const GROUPS: u64 = 2;
/// Order groups of a producer.
const ORDER_GROUPS: u64 = 64;
/// Deliveries of a poll.
const POLL_MAX: usize = 4;
/// In one poll of so many the first message fails.
const FAILS_ONE_IN: u64 = 5;
/// Sends between two crashes.
const CRASH_ONE_IN: u64 = 100_000;
/// Time between two sends.
const STEP: Time = 20;
/// A send takes as long as so many: those of a queue are in flight together.
const IN_FLIGHT: u64 = 16;

struct Line {
    queue: Queue,
    messages: Vec<Stored>,
    /// What each group has not been given yet.
    waiting: [Vec<Delivery>; GROUPS as usize],
    polls: u64,
}

struct Maker {
    history: History,
    lines: Vec<Line>,
    sends: u64,
}

/// A clean history of at least so many operations: sends, polls and settlements.
pub fn history(operations: u64) -> History {
    let line = |index| Line {
        queue: Queue { topic: 0, index },
        messages: Vec::new(),
        waiting: Default::default(),
        polls: 0,
    };
    let lines = (0..QUEUES as u32).map(line).collect();
    let mut maker = Maker { history: History::new(), lines, sends: 0 };
    while (maker.history.operations() as u64) < operations {
        maker.send();
    }
    maker.finish()
}

impl Maker {
    fn send(&mut self) {
        let number = self.sends;
        self.sends += 1;
        let (producer, seq, at) = (number % PRODUCERS, number / PRODUCERS, number * STEP);
        let line = &mut self.lines[(producer % QUEUES) as usize];
        let offset = line.messages.len() as u64;
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        line.messages.push(Stored { offset, producer, seq, hash });
        self.history.push(Event::Send(Sent {
            client: producer,
            tenant: 0,
            queue: line.queue,
            producer,
            seq,
            order_group: Some(seq % ORDER_GROUPS),
            hash,
            due: None,
            expires: None,
            invoked: at.saturating_sub(IN_FLIGHT * STEP),
            completed: Some(at),
            outcome: Outcome::Ok { offset: Some(offset) },
            level: AckLevel::Synced,
        }));
        for group in 0..GROUPS {
            let waiting = &mut line.waiting[group as usize];
            waiting.push(Delivery { offset, producer, seq, hash, attempt: 1 });
            if waiting.len() == POLL_MAX {
                line.poll(group, at + 1 + 8 * group, &mut self.history);
            }
        }
        if number % CRASH_ONE_IN == CRASH_ONE_IN - 1 {
            let (at, kind) = (at + STEP - 1, CrashKind::Process);
            self.history.push(Event::Crash(Crash { at, kind }));
        }
    }

    fn finish(mut self) -> History {
        let at = self.sends * STEP;
        for mut line in self.lines {
            for group in 0..GROUPS {
                line.poll(group, at, &mut self.history);
            }
            let (queue, at) = (line.queue, at + STEP);
            self.history.push(Event::Scan(Scan { queue, at, start: 0, messages: line.messages }));
        }
        self.history
    }
}

impl Line {
    /// A group gets what waits for it, and settles it.
    fn poll(&mut self, group: u64, at: Time, history: &mut History) {
        let deliveries = std::mem::take(&mut self.waiting[group as usize]);
        let Some((first, last)) = deliveries.first().copied().zip(deliveries.last().copied())
        else {
            return;
        };
        self.polls += 1;
        let fails = self.polls.is_multiple_of(FAILS_ONE_IN);
        history.push(self.polled(group, at, deliveries));
        let (from, to) = (first.offset + u64::from(fails), last.offset + 1);
        if fails {
            let again = vec![Delivery { attempt: 2, ..first }];
            history.push(self.settled(group, at + 2, (first.offset, from), SettleVerdict::Nack));
            history.push(self.polled(group, at + 4, again));
            history.push(self.settled(group, at + 6, (first.offset, from), SettleVerdict::Ack));
        }
        if from < to {
            history.push(self.settled(group, at + 2, (from, to), SettleVerdict::Ack));
        }
    }

    fn polled(&self, group: u64, invoked: Time, deliveries: Vec<Delivery>) -> Event {
        let (client, queue, completed) = (PRODUCERS + group, self.queue, invoked + 1);
        Event::Poll(Poll { client, tenant: 0, group, queue, invoked, completed, deliveries })
    }

    fn settled(
        &self,
        group: u64,
        invoked: Time,
        (from, to): (u64, u64),
        verdict: SettleVerdict,
    ) -> Event {
        Event::Settle(Settle {
            client: PRODUCERS + group,
            group,
            queue: self.queue,
            from,
            to,
            attempt: 0,
            verdict,
            invoked,
            completed: Some(invoked + 1),
            outcome: Outcome::Ok { offset: None },
            level: AckLevel::Synced,
        })
    }
}
