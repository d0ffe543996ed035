//! How much of what a run had, so that nobody takes a quiet run for a good one.
use std::fmt;

/// How much of everything there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations of clients: messages sent, delivered and settled.
    pub operations: u64,
    /// Messages that are stored at the end.
    pub stored: u64,
    /// Deaths of the broker.
    pub crashes: u64,
    /// Messages that were delayed.
    pub delayed: u64,
    /// Of these, those that were taken back.
    pub cancelled: u64,
    /// Messages in whose place another one with their dedupe key is stored.
    pub duplicates: u64,
    /// Transactions that were committed.
    pub committed: u64,
    /// Those that were rolled back.
    pub rolled_back: u64,
    /// Of both, those that the broker had to ask about.
    pub orphaned: u64,
    /// Messages that were delivered again.
    pub redelivered: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Counts {
    const NAMES: [&str; 11] = [
        "operations",
        "messages stored",
        "deaths of the broker",
        "delayed",
        "taken back",
        "duplicates",
        "transactions committed",
        "rolled back",
        "of which orphaned",
        "redelivered",
        "dead letters",
    ];

    fn all(&mut self) -> [&mut u64; 11] {
        [
            &mut self.operations,
            &mut self.stored,
            &mut self.crashes,
            &mut self.delayed,
            &mut self.cancelled,
            &mut self.duplicates,
            &mut self.committed,
            &mut self.rolled_back,
            &mut self.orphaned,
            &mut self.redelivered,
            &mut self.dead,
        ]
    }

    fn figures(mut self) -> [u64; 11] {
        self.all().map(|one| *one)
    }

    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, one) in self.all().into_iter().zip(other.figures()) {
            *sum += one;
        }
    }

    /// As words, for [`Counts::read`].
    pub(crate) fn write(&self) -> String {
        self.figures().map(|one| one.to_string()).join(" ")
    }

    /// What [`Counts::write`] wrote; `None` where it is something else.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut counts = Self::default();
        let mut words = text.split(' ');
        for one in counts.all() {
            *one = words.next()?.parse().ok()?;
        }
        words.next().is_none().then_some(counts)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.figures().into_iter().zip(Self::NAMES);
        let said: Vec<String> = named.map(|(count, name)| format!("{count} {name}")).collect();
        f.write_str(&said.join(", "))
    }
}
