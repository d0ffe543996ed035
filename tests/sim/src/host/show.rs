//! What a debugger sees of the process: its logs, queues, groups and disks, as paths and texts.
use super::{Host, Slot};

impl Host {
    /// Shows every line of the state.
    pub(crate) fn show(&self, show: &mut dyn FnMut(String, String)) {
        show("process/life".to_owned(), self.life.to_string());
        if let Some(doom) = &self.doom {
            show("process/doom".to_owned(), format!("{:?} in {} outputs", doom.kind, doom.outputs));
        }
        if self.closing.is_some() {
            show("process/closing".to_owned(), "yes".to_owned());
        }
        for (number, slot) in self.slots.iter().enumerate() {
            let mut show = |path: &str, text| show(format!("shard/{number}/{path}"), text);
            slot.look(&mut show);
        }
    }
}

impl Slot {
    fn look(&self, show: &mut dyn FnMut(&str, String)) {
        let (inbox, results) = (self.inbox.len(), self.results.len());
        show("waiting", format!("{inbox} requests, {results} results"));
        let (line, others) = (self.line.len(), self.others.len());
        show("disk", format!("{line} writes and syncs, {others} others"));
        let Some(shard) = &self.shard else {
            return show("state", "down".to_owned());
        };
        show("state", "up".to_owned());
        show("now", shard.now().to_string());
        let stats = shard.store().stats();
        show("log/state", format!("{:?}", stats.state));
        show("log/appended", stats.appended.to_string());
        show("log/synced", stats.synced.to_string());
        show("log/groups", stats.groups.to_string());
        let first = shard.store().first_segment();
        show("log/segments", format!("{} from {first}", stats.segments));
        for (topic, queue, first, end) in shard.store().queues() {
            show(&format!("queue/{topic}/{queue}"), format!("{first}..{end} durable"));
        }
        let stats = shard.broker().stats();
        show("delayed", stats.delayed.to_string());
        let (open, prepared) = (stats.transactions, stats.prepared);
        show("transactions", format!("{open} open, {prepared} messages"));
        show("producers", stats.producers.to_string());
        shard.broker().look(&mut |path, text| show(&path, text));
    }
}
