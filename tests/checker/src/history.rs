//! A recorded history: its events by kind, each kind in the order recorded.

use crate::event::{
    Crash, DeadLetter, Event, Hold, Poll, Removal, Reset, Scan, Sent, Settle, Skip,
};

/// Everything a run recorded. The order inside each list matters only for the parts of a scan
/// and for polls with equal times; threads may record in any interleaving.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Messages sent.
    pub sends: Vec<Sent>,
    /// Messages delivered.
    pub polls: Vec<Poll>,
    /// Messages settled.
    pub settles: Vec<Settle>,
    /// Messages held for longer.
    pub holds: Vec<Hold>,
    /// Offsets that groups rightly pass over.
    pub skips: Vec<Skip>,
    /// Positions moved by an operator.
    pub resets: Vec<Reset>,
    /// Groups that were removed.
    pub removals: Vec<Removal>,
    /// Deaths of the broker.
    pub crashes: Vec<Crash>,
    /// What is stored at the end.
    pub scans: Vec<Scan>,
    /// Where rejected messages go.
    pub dead_letters: Vec<DeadLetter>,
}

impl History {
    /// A history without events.
    pub fn new() -> History {
        History::default()
    }

    /// Adds one event.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Send(event) => self.sends.push(event),
            Event::Poll(event) => self.polls.push(event),
            Event::Settle(event) => self.settles.push(event),
            Event::Hold(event) => self.holds.push(event),
            Event::Skip(event) => self.skips.push(event),
            Event::Reset(event) => self.resets.push(event),
            Event::Removal(event) => self.removals.push(event),
            Event::Crash(event) => self.crashes.push(event),
            Event::Scan(event) => self.scans.push(event),
            Event::DeadLetter(event) => self.dead_letters.push(event),
        }
    }

    /// Adds all events of another recorder of the same run, after those already here.
    pub fn append(&mut self, mut other: History) {
        self.sends.append(&mut other.sends);
        self.polls.append(&mut other.polls);
        self.settles.append(&mut other.settles);
        self.holds.append(&mut other.holds);
        self.skips.append(&mut other.skips);
        self.resets.append(&mut other.resets);
        self.removals.append(&mut other.removals);
        self.crashes.append(&mut other.crashes);
        self.scans.append(&mut other.scans);
        self.dead_letters.append(&mut other.dead_letters);
    }

    /// Operations of clients: sends, polls and settles.
    pub fn operations(&self) -> usize {
        self.sends.len() + self.polls.len() + self.settles.len()
    }
}

impl Extend<Event> for History {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        for event in events {
            self.push(event);
        }
    }
}

impl FromIterator<Event> for History {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> History {
        let mut history = History::new();
        history.extend(events);
        history
    }
}
