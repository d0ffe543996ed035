//! A broker in two hundred lines that keeps its promises, and, on request, breaks one of them.
//!
//! Every step takes effect at one moment; the recorded interval around it is widened at random,
//! which is what a real client sees.

use std::collections::{BTreeMap, BTreeSet};
use yard_checker::{
    AckLevel, Crash, CrashKind, DeadLetter, Delivery, Event, History, Outcome, Poll, Queue, Reset,
    Scan, Sent, Settle, SettleVerdict, Skip, Stored, Time,
};

/// A promise that the model breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    AckBeforeSync,
    AckBeforeWrite,
    DeliverUncommitted,
    RecoveryDropsLast,
    RecoveryLeavesHole,
    RecoveryDamagesBody,
    RetryAppendsTwice,
    RefusedIsAppended,
    WrongOffsetAnswered,
    OvertakesInQueue,
    SettlesForgotten,
    SettledComesBack,
    NackForgotten,
    CursorSkips,
    AttemptNotCounted,
    BatchReversed,
    DelayIgnored,
    QueueOfOtherTenant,
    RejectCopiesTwice,
    RejectCopiesNothing,
}

/// The queues, each with its tenant; the second tenant has the topic 1.
const QUEUES: [Queue; 3] =
    [Queue { topic: 0, index: 0 }, Queue { topic: 0, index: 1 }, Queue { topic: 1, index: 0 }];

/// Group, and the queue it reads.
const SUBSCRIPTIONS: [(u64, usize); 5] = [(1, 0), (1, 1), (2, 0), (2, 1), (3, 2)];

const DEAD: Queue = Queue { topic: 9, index: 0 };

/// `count` random steps of a seed, for [`run`].
pub(crate) fn actions(seed: u64, count: usize) -> Vec<u64> {
    let mut state = seed;
    let step = |_| {
        // SplitMix64, from Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..count).map(step).collect()
}

/// Runs the steps, then drains, settles and scans everything.
pub(crate) fn run(actions: &[u64], bug: Option<Bug>) -> History {
    let mut model = Model { bug, ..Model::default() };
    for bits in actions {
        model.step(Bits(*bits));
    }
    model.finish();
    model.history
}

/// The random numbers of one step.
struct Bits(u64);

impl Bits {
    fn below(&mut self, bound: u64) -> u64 {
        let number = self.0 % bound;
        self.0 = (self.0 / bound) ^ (self.0.rotate_left(23) << 32);
        number
    }

    fn level(&mut self) -> AckLevel {
        AckLevel::ALL[self.below(3) as usize]
    }
}

#[derive(Default)]
struct Log {
    messages: Vec<Stored>,
    written: usize,
    synced: usize,
}

#[derive(Default)]
struct Reading {
    cursor: u64,
    attempts: BTreeMap<u64, u32>,
    leased: BTreeSet<u64>,
    retry: BTreeSet<u64>,
    done: BTreeMap<u64, AckLevel>,
}

#[derive(Default)]
struct Model {
    bug: Option<Bug>,
    now: Time,
    history: History,
    logs: [Log; 3],
    seqs: [u64; 4],
    delayed: Vec<(Time, usize, Stored, AckLevel)>,
    readings: [Reading; 5],
    dead: Vec<(Stored, AckLevel)>,
}

impl Log {
    fn append(&mut self, mut message: Stored, level: AckLevel) -> u64 {
        message.offset = self.messages.len() as u64;
        self.messages.push(message);
        self.sync(level);
        message.offset
    }

    fn sync(&mut self, level: AckLevel) {
        if level >= AckLevel::Written {
            self.written = self.messages.len();
        }
        if level >= AckLevel::Synced {
            self.synced = self.messages.len();
        }
    }

    fn renumber(&mut self) {
        for (offset, message) in self.messages.iter_mut().enumerate() {
            message.offset = offset as u64;
        }
    }
}

impl Model {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn step(&mut self, mut bits: Bits) {
        self.now += 10;
        match bits.below(40) {
            0..18 => self.send(&mut bits),
            18..26 => self.poll(bits.below(5) as usize, bits.below(4) as usize + 1, &mut bits),
            26..34 => self.settle(bits.below(5) as usize, &mut bits),
            34 | 35 => self.sync(),
            36 => self.expire(bits.below(5) as usize),
            37 => self.crash(&mut bits),
            38 => self.skip(bits.below(5) as usize, bits.below(3)),
            _ => self.reset(bits.below(5) as usize, &mut bits),
        }
        self.release();
    }

    /// An interval around now, as a client records it.
    fn interval(&self, bits: &mut Bits) -> (Time, Time) {
        (self.now.saturating_sub(bits.below(30)), self.now + bits.below(30))
    }

    fn send(&mut self, bits: &mut Bits) {
        let producer = bits.below(4);
        let queue = if producer == 3 { 2 } else { bits.below(2) as usize };
        self.seqs[producer as usize] += 1 + bits.below(2);
        let seq = self.seqs[producer as usize];
        let (invoked, completed) = self.interval(bits);
        let due = (bits.below(8) == 0).then(|| self.now + bits.below(300));
        let hash = producer * 1000 + seq;
        let (level, fate) = (bits.level(), bits.below(10));
        let message = Stored { offset: 0, producer, seq, hash };
        let applied = fate < 8 || (fate == 9 && self.has(Bug::RefusedIsAppended));
        let mut offset = None;
        if let Some(due) = due.filter(|_| applied) {
            self.delayed.push((due, queue, message, level));
        } else if applied {
            offset = Some(self.append(queue, message, level, fate));
        }
        self.history.push(Event::Send(Sent {
            client: producer,
            tenant: QUEUES[queue].topic,
            queue: QUEUES[queue],
            producer,
            seq,
            order_group: (producer == 1).then(|| bits.below(3)),
            hash,
            due,
            expires: None,
            invoked,
            completed: (fate < 6 || fate == 9).then_some(completed),
            outcome: match fate {
                0..6 => Outcome::Ok { offset },
                9 => Outcome::Refused,
                _ => Outcome::Unknown,
            },
            level,
        }));
    }

    fn append(&mut self, queue: usize, message: Stored, level: AckLevel, fate: u64) -> u64 {
        let real = match (self.bug, level) {
            (Some(Bug::AckBeforeSync), AckLevel::Synced) => AckLevel::Written,
            (Some(Bug::AckBeforeWrite), AckLevel::Written) => AckLevel::Memory,
            _ => level,
        };
        let (overtakes, wrong) =
            (self.has(Bug::OvertakesInQueue), self.has(Bug::WrongOffsetAnswered));
        let twice = self.has(Bug::RetryAppendsTwice) && fate == 7;
        let log = &mut self.logs[queue];
        let mut offset = log.append(message, real);
        if twice {
            log.append(message, real);
        }
        if overtakes && offset % 4 == 3 && log.synced < offset as usize {
            log.messages.swap(offset as usize, offset as usize - 1);
            log.renumber();
            offset -= 1;
        }
        offset + u64::from(wrong && offset % 8 == 5)
    }

    fn poll(&mut self, at: usize, max: usize, bits: &mut Bits) {
        let (group, queue) = SUBSCRIPTIONS[at];
        let foreign = self.has(Bug::QueueOfOtherTenant) && group == 3;
        let uncommitted = self.has(Bug::DeliverUncommitted);
        let uncounted = self.has(Bug::AttemptNotCounted);
        let log = &self.logs[if foreign { 0 } else { queue }];
        let end = if uncommitted { log.messages.len() } else { log.synced } as u64;
        let reading = &mut self.readings[at];
        let mut offsets: Vec<u64> = reading.retry.iter().copied().take(max).collect();
        while offsets.len() < max && reading.cursor < end {
            if !reading.done.contains_key(&reading.cursor) {
                offsets.push(reading.cursor);
            }
            reading.cursor += 1;
        }
        if self.bug == Some(Bug::CursorSkips) && reading.cursor % 5 == 4 && reading.cursor < end {
            reading.cursor += 1;
        }
        let mut deliveries = Vec::new();
        for offset in offsets {
            let Some(message) = log.messages.get(offset as usize) else {
                continue;
            };
            reading.retry.remove(&offset);
            reading.leased.insert(offset);
            let attempt = reading.attempts.entry(offset).or_insert(0);
            *attempt = if uncounted { 1 } else { *attempt + 1 };
            let Stored { producer, seq, hash, .. } = *message;
            deliveries.push(Delivery { offset, producer, seq, hash, attempt: *attempt });
        }
        if self.has(Bug::BatchReversed) {
            deliveries.reverse();
        }
        let (invoked, completed) = self.interval(bits);
        self.history.push(Event::Poll(Poll {
            client: group * 10 + bits.below(2),
            tenant: QUEUES[queue].topic,
            group,
            queue: QUEUES[queue],
            invoked,
            completed,
            deliveries,
        }));
    }

    fn settle(&mut self, at: usize, bits: &mut Bits) {
        let (group, queue) = SUBSCRIPTIONS[at];
        let verdict = match bits.below(6) {
            0 => SettleVerdict::Nack,
            1 => SettleVerdict::Reject,
            _ => SettleVerdict::Ack,
        };
        let (level, fate) = (bits.level(), bits.below(10));
        let (invoked, completed) = self.interval(bits);
        let reading = &self.readings[at];
        let nth = bits.below(3) as usize;
        let Some(&from) = reading.leased.iter().nth(nth) else {
            return;
        };
        let mut to = from + 1;
        while to < from + 4 && reading.leased.contains(&to) {
            to += 1;
        }
        if fate < 8 {
            (from..to).for_each(|offset| self.apply(at, offset, verdict, level));
        }
        self.history.push(Event::Settle(Settle {
            client: group * 10,
            group,
            queue: QUEUES[queue],
            from,
            to,
            attempt: 0,
            verdict,
            invoked,
            completed: (fate < 7 || fate == 9).then_some(completed),
            outcome: match fate {
                0..7 => Outcome::Ok { offset: None },
                9 => Outcome::Refused,
                _ => Outcome::Unknown,
            },
            level,
        }));
    }

    fn apply(&mut self, at: usize, offset: u64, verdict: SettleVerdict, level: AckLevel) {
        let (group, queue) = SUBSCRIPTIONS[at];
        let copies = match self.bug {
            Some(Bug::RejectCopiesTwice) => 2,
            Some(Bug::RejectCopiesNothing) => 0,
            _ => 1,
        };
        let forgets = self.has(Bug::NackForgotten);
        let reading = &mut self.readings[at];
        reading.leased.remove(&offset);
        if verdict == SettleVerdict::Nack {
            if !forgets {
                reading.retry.insert(offset);
            }
            return;
        }
        reading.done.insert(offset, level);
        if let Some(message) = self.logs[queue].messages.get(offset as usize)
            && verdict == SettleVerdict::Reject
            && group == 1
        {
            self.dead.extend(std::iter::repeat_n((*message, level), copies));
        }
    }

    fn sync(&mut self) {
        self.logs.iter_mut().for_each(|log| log.sync(AckLevel::Synced));
    }

    fn expire(&mut self, at: usize) {
        let comes_back = self.has(Bug::SettledComesBack);
        let reading = &mut self.readings[at];
        reading.retry.append(&mut reading.leased);
        if comes_back {
            reading.retry.extend(reading.done.keys());
        }
    }

    fn release(&mut self) {
        let early = if self.has(Bug::DelayIgnored) { 200 } else { 0 };
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) =
            self.delayed.drain(..).partition(|(due, ..)| *due <= now + early);
        self.delayed = later;
        for (_, queue, message, _) in due {
            self.logs[queue].append(message, AckLevel::Synced);
        }
    }

    fn crash(&mut self, bits: &mut Bits) {
        let kind = if bits.below(2) == 0 { CrashKind::Process } else { CrashKind::Power };
        self.history.push(Event::Crash(Crash { at: self.now, kind }));
        for log in &mut self.logs {
            let kept = if kind == CrashKind::Process { log.written } else { log.synced };
            log.messages.truncate(kept);
            match self.bug {
                Some(Bug::RecoveryDropsLast) => drop(log.messages.pop()),
                Some(Bug::RecoveryLeavesHole) if kept > 3 => drop(log.messages.remove(kept / 2)),
                Some(Bug::RecoveryDamagesBody) if kept > 3 => log.messages[kept / 2].hash ^= 1,
                _ => {}
            }
            log.renumber();
            log.written = log.messages.len();
            log.synced = log.synced.min(log.written);
        }
        self.delayed.retain(|(.., level)| level.survives(kind));
        self.dead.retain(|(_, level)| level.survives(kind));
        let forgotten = self.has(Bug::SettlesForgotten);
        for reading in &mut self.readings {
            let mut done = std::mem::take(&mut reading.done);
            done.retain(|_, level| level.survives(kind) && !forgotten);
            *reading = Reading { done, ..Reading::default() };
        }
    }

    fn skip(&mut self, at: usize, count: u64) {
        let (group, queue) = SUBSCRIPTIONS[at];
        let (from, end) = (self.readings[at].cursor, self.logs[queue].synced as u64);
        let to = (from + count).min(end).max(from);
        let reading = &mut self.readings[at];
        reading.done.extend((from..to).map(|offset| (offset, AckLevel::Synced)));
        reading.cursor = to;
        self.history.push(Event::Skip(Skip { group, queue: QUEUES[queue], from, to }));
    }

    fn reset(&mut self, at: usize, bits: &mut Bits) {
        if bits.below(3) == 0 {
            let (group, queue) = SUBSCRIPTIONS[at];
            // Rejected messages stay rejected: their copy exists.
            let dead: BTreeSet<(u64, u64)> =
                self.dead.iter().map(|(dead, _)| (dead.producer, dead.seq)).collect();
            let mut done = std::mem::take(&mut self.readings[at].done);
            done.retain(|offset, _| {
                let message = self.logs[queue].messages.get(*offset as usize);
                message.is_some_and(|message| dead.contains(&(message.producer, message.seq)))
            });
            self.readings[at] = Reading { done, ..Reading::default() };
            let reset = Reset { group, queue: QUEUES[queue], at: self.now };
            self.history.push(Event::Reset(reset));
        }
    }

    fn finish(&mut self) {
        self.now += 1000;
        self.release();
        self.sync();
        for (at, (group, queue)) in SUBSCRIPTIONS.into_iter().enumerate() {
            self.expire(at);
            for _ in 0..self.logs[queue].messages.len() + 2 {
                self.now += 100;
                self.poll(at, 3, &mut Bits(0));
            }
            self.now += 100;
            let leased = std::mem::take(&mut self.readings[at].leased);
            for offset in leased {
                self.history.push(Event::Settle(Settle {
                    client: group * 10,
                    group,
                    queue: QUEUES[queue],
                    from: offset,
                    to: offset + 1,
                    attempt: 0,
                    verdict: SettleVerdict::Ack,
                    invoked: self.now,
                    completed: Some(self.now + 1),
                    outcome: Outcome::Ok { offset: None },
                    level: AckLevel::Synced,
                }));
            }
        }
        self.scan();
    }

    fn scan(&mut self) {
        let at = self.now + 1000;
        for (queue, log) in QUEUES.into_iter().zip(&self.logs) {
            let (first, second) = log.messages.split_at(log.messages.len() / 2);
            for messages in [first.to_vec(), second.to_vec()] {
                self.history.push(Event::Scan(Scan { queue, at, start: 0, messages }));
            }
        }
        for source in 0..1 {
            let dead = DeadLetter { group: 1, source, topic: DEAD.topic };
            self.history.push(Event::DeadLetter(dead));
        }
        let mut messages: Vec<Stored> = self.dead.iter().map(|(message, _)| *message).collect();
        (0..).zip(&mut messages).for_each(|(offset, message)| message.offset = offset);
        self.history.push(Event::Scan(Scan { queue: DEAD, at, start: 0, messages }));
    }
}
