//! What the checks look up: a send by its key, the crashes by time, the final scan of a queue.

use crate::anomaly::Kind;
use crate::event::{AckLevel, CrashKind, Outcome, Queue, Sent, Time};
use crate::history::History;
use crate::verdict::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// No place in the queue is known, or no reader saw it: later than all others.
pub(crate) const NEVER: u64 = u64::MAX;

/// No send belongs to what was found.
pub(crate) const NO_SEND: u32 = u32::MAX;

/// A history with its look-up tables, and what the first passes learn about each send.
pub(crate) struct Index<'h> {
    pub(crate) history: &'h History,
    pub(crate) crashes: Crashes,
    /// By queue, those of dead-letter topics apart.
    pub(crate) scans: BTreeMap<Queue, ScanView>,
    pub(crate) dead_scans: BTreeMap<Queue, ScanView>,
    dead_topics: BTreeSet<u32>,
    /// Sends, by number in the history, sorted by (producer, seq).
    by_key: Vec<u32>,
    producers: BTreeMap<u64, Range<usize>>,
    /// The place of each send in its queue, as stored or, without a scan, as delivered or
    /// acknowledged; [`NEVER`] if it has none.
    pub(crate) places: Vec<u64>,
    /// When a reader first had each send in hand; [`NEVER`] if none had.
    pub(crate) seen: Vec<Time>,
}

/// A queue's final scan, its parts joined.
#[derive(Debug, Default)]
pub(crate) struct ScanView {
    /// When its first part began.
    pub(crate) at: Time,
    /// The lowest offset that retention kept.
    pub(crate) start: u64,
    /// Offset and number of the send ([`NO_SEND`] if none), ascending by offset.
    pub(crate) messages: Vec<(u64, u32)>,
}

/// When the broker died, by what it lost.
#[derive(Debug, Default)]
pub(crate) struct Crashes {
    /// For each level the times of the crashes that it does not survive, ascending.
    losing: [Vec<Time>; 3],
    all: Vec<Time>,
}

impl Crashes {
    fn new(history: &History) -> Crashes {
        let mut crashes = Crashes::default();
        for crash in &history.crashes {
            crashes.all.push(crash.at);
            for level in AckLevel::ALL {
                if !level.survives(crash.kind) {
                    crashes.losing[level as usize].push(crash.at);
                }
            }
        }
        crashes.all.sort_unstable();
        crashes.losing.iter_mut().for_each(|times| times.sort_unstable());
        debug_assert!(!AckLevel::Memory.survives(CrashKind::Process));
        crashes
    }

    /// Times of all crashes, ascending.
    pub(crate) fn all(&self) -> &[Time] {
        &self.all
    }

    /// Times of the crashes that `level` does not survive, ascending.
    pub(crate) fn losing(&self, level: AckLevel) -> &[Time] {
        &self.losing[level as usize]
    }

    /// Whether what was confirmed at `level`, by an operation invoked at `from`, may be gone
    /// at `to`. The answer may have reached the client after the crash, so the invocation counts.
    pub(crate) fn may_lose(&self, level: AckLevel, from: Time, to: Time) -> bool {
        any_within(self.losing(level), from, to)
    }
}

/// Whether an ascending list has a time in `from..=to`.
pub(crate) fn any_within(times: &[Time], from: Time, to: Time) -> bool {
    times.get(times.partition_point(|at| *at < from)).is_some_and(|at| *at <= to)
}

impl<'h> Index<'h> {
    /// Builds the tables and reports records that contradict themselves.
    pub(crate) fn new(history: &'h History, report: &mut Report) -> Index<'h> {
        assert!(history.sends.len() < NO_SEND as usize, "sends are numbered by u32");
        let sends = &history.sends;
        let mut by_key: Vec<u32> = (0..sends.len() as u32).collect();
        by_key.sort_unstable_by_key(|at| {
            let send = &sends[*at as usize];
            (send.producer, send.seq)
        });
        let mut producers: BTreeMap<u64, Range<usize>> = BTreeMap::new();
        for (place, at) in by_key.iter().enumerate() {
            let run = producers.entry(sends[*at as usize].producer).or_insert(place..place);
            run.end = place + 1;
        }
        let index = Index {
            history,
            crashes: Crashes::new(history),
            scans: BTreeMap::new(),
            dead_scans: BTreeMap::new(),
            dead_topics: history.dead_letters.iter().map(|dead| dead.topic).collect(),
            by_key,
            producers,
            places: vec![NEVER; sends.len()],
            seen: vec![NEVER; sends.len()],
        };
        index.report_malformed(report);
        index
    }

    fn report_malformed(&self, report: &mut Report) {
        let sends = &self.history.sends;
        for pair in self.by_key.windows(2) {
            let (a, b) = (&sends[pair[0] as usize], &sends[pair[1] as usize]);
            if (a.producer, a.seq) == (b.producer, b.seq) {
                report.add(Kind::Malformed, b.queue, None, || {
                    format!("{} is recorded as two sends", name(b))
                });
            }
        }
        for send in sends {
            if let Some(problem) = interval_problem(send.invoked, send.completed, &send.outcome) {
                let evidence = || format!("send of {}: {problem}", name(send));
                report.add(Kind::Malformed, send.queue, None, evidence);
            }
        }
        for settle in &self.history.settles {
            let problem = interval_problem(settle.invoked, settle.completed, &settle.outcome);
            if let Some(problem) = problem {
                report.add(Kind::Malformed, settle.queue, Some(settle.group), || {
                    format!("settle of {}..{}: {problem}", settle.from, settle.to)
                });
            }
        }
        for poll in self.history.polls.iter().filter(|poll| poll.completed < poll.invoked) {
            report.add(Kind::Malformed, poll.queue, Some(poll.group), || {
                format!("poll at {}..{} ends before it begins", poll.invoked, poll.completed)
            });
        }
    }

    /// The number of the send with this key. O(1) where a producer's numbers are dense.
    pub(crate) fn find(&self, producer: u64, seq: u64) -> Option<u32> {
        let run = &self.by_key[self.producers.get(&producer)?.clone()];
        let seq_of = |at: u32| self.history.sends[at as usize].seq;
        let guess = seq.checked_sub(seq_of(*run.first()?))?;
        if let Some(at) = usize::try_from(guess).ok().and_then(|guess| run.get(guess))
            && seq_of(*at) == seq
        {
            return Some(*at);
        }
        run.binary_search_by_key(&seq, |at| seq_of(*at)).ok().map(|place| run[place])
    }

    /// Sends, by number in the history, sorted by (producer, seq).
    pub(crate) fn by_key(&self) -> &[u32] {
        &self.by_key
    }

    pub(crate) fn send(&self, at: u32) -> &'h Sent {
        &self.history.sends[at as usize]
    }

    /// Where a send is stored, if that is known.
    pub(crate) fn place(&self, at: u32) -> Option<u64> {
        Some(self.places[at as usize]).filter(|place| *place != NEVER)
    }

    /// Whether a topic holds only copies of what groups rejected.
    pub(crate) fn is_dead_letter(&self, topic: u32) -> bool {
        self.dead_topics.contains(&topic)
    }

    /// Finds the send that an observer of `queue` saw and reports what is wrong with it by
    /// itself: nobody sent it (there), it was refused, its body differs. None: judge it no more.
    pub(crate) fn identify(&self, sight: &Sight, report: &mut Report) -> Option<u32> {
        let Sight { queue, group, offset, producer, seq, hash } = *sight;
        let message = || format!("message {producer}.{seq} at offset {offset}");
        let Some(at) = self.find(producer, seq) else {
            report.add(Kind::Phantom, queue, group, || format!("{} was never sent", message()));
            return None;
        };
        let send = self.send(at);
        if send.queue != queue && !self.is_dead_letter(queue.topic) {
            report.add(Kind::Phantom, queue, group, || {
                format!("{} was sent to queue {}", message(), send.queue)
            });
            return None;
        }
        if send.outcome == Outcome::Refused {
            report.add(Kind::AbortedRead, queue, group, || format!("{} was refused", message()));
            return None;
        }
        if send.hash != hash {
            report.add(Kind::Corrupt, queue, group, || {
                format!("{} was sent with hash {:x}, read with {hash:x}", message(), send.hash)
            });
        }
        Some(at)
    }
}

/// A message as some observer saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) queue: Queue,
    pub(crate) group: Option<u64>,
    pub(crate) offset: u64,
    pub(crate) producer: u64,
    pub(crate) seq: u64,
    pub(crate) hash: u64,
}

/// A send's name in evidence.
pub(crate) fn name(send: &Sent) -> String {
    format!("message {}.{}", send.producer, send.seq)
}

fn interval_problem(
    invoked: Time,
    completed: Option<Time>,
    outcome: &Outcome,
) -> Option<&'static str> {
    match (completed, outcome) {
        (Some(completed), _) if completed < invoked => Some("ends before it begins"),
        (None, Outcome::Ok { .. }) => Some("accepted, but never completed"),
        (Some(_) | None, _) => None,
    }
}
