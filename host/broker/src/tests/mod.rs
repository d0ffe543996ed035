//! Tests of the whole broker: a log that is a list, and a script that talks to both.
mod bounds;
mod business;
mod checking;
mod consuming;
mod dead_letters;
mod deduping;
mod delayed;
mod draining;
mod extending;
mod finding;
mod judging;
mod metadata;
mod order_random;
mod ordered;
mod plugins;
mod preparing;
mod producing;
mod random;
mod relocating;
mod retention;
mod retrying;
mod scale;
mod script;
mod superseded;
mod told;
mod tracing;
mod transactions;
mod world;

use script::Script;
use world::{Out, World};
use yard_wire::{QueueIndex, QueueOffset, TopicId};

/// Randomness from a seed. Source: xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A random run, line by line of a script.
pub(crate) trait Play {
    fn script(&mut self) -> &mut Script;

    fn world(&self) -> &World;

    /// Looks at what came of a line.
    fn look(&mut self, out: &Out);

    /// Carries out a line. The script says outputs as text; they are looked at before.
    fn run(&mut self, line: &str) {
        let script = self.script();
        script.world.outs.clear();
        for out in script.perform(line) {
            self.look(&out);
        }
    }

    /// Time passes, tick by tick.
    fn pass(&mut self, to: u64) {
        while let Some(at) = self.world().wakes_at.filter(|at| at.0 <= to) {
            self.run(&format!("at {at}"));
        }
        self.run(&format!("at {to}"));
    }

    /// What has stopped its order group in the group `g`, in each of its topics.
    fn stopped(&self) -> Vec<(TopicId, QueueIndex, QueueOffset)> {
        let groups = self.world().broker.groups.iter().filter(|(_, it)| it.name == "g");
        let queues = groups.flat_map(|(_, group)| {
            group.queues.iter().map(|(queue, state)| (group.topic, *queue, state))
        });
        let stopped = queues.flat_map(|(topic, queue, state)| {
            let returned = state.progress.returned().from(QueueOffset(0));
            let returned = returned.filter(|(_, it)| it.stopped.is_some());
            returned.map(move |(offset, _)| (topic, queue, offset))
        });
        stopped.collect()
    }
}
