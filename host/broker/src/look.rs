//! What a debugger sees of groups: who is there, what is settled, what is in whose hands.
use yard_wire::QueueOffset;

use crate::broker::Broker;
use crate::group::Group;
use crate::group::flight::Flight;

impl Broker {
    /// Shows what decides about deliveries, group by group, as paths and texts: members with their
    /// credit, what is settled and what came back of each queue, and the leases.
    pub fn look(&self, show: &mut dyn FnMut(String, String)) {
        for (_, group) in self.groups.iter() {
            let name = format!("group/{}/{}", group.name, self.topic_name(group.topic));
            group.look(&mut |path: &str, text| show(format!("{name}/{path}"), text));
        }
    }
}

impl Group {
    fn look(&self, show: &mut dyn FnMut(&str, String)) {
        if let Some(drain) = &self.drain {
            let how = if drain.returning { "returning from" } else { "goes on in" };
            show("drain", format!("{how} topic {}, {} passed on", drain.to, drain.moved));
        }
        for (id, member) in self.live.iter().flat_map(|live| &live.members) {
            let (session, leased) = (member.session.0, member.leased);
            let (messages, bytes) = (member.messages, member.bytes);
            let text =
                format!("session {session}: {leased} leased, credit {messages} and {bytes} bytes");
            show(&format!("member/{id}"), text);
        }
        for (queue, state) in &self.queues {
            let progress = &state.progress;
            let ranges = progress.settled().iter().map(|(from, to)| format!(" {from}..{to}"));
            let ranges: String = ranges.collect();
            let settled = format!("below {}{ranges}", progress.settled_below());
            show(&format!("queue/{queue}/settled"), settled);
            let returned = progress.returned().from(QueueOffset(0)).map(|(offset, it)| {
                let doom = it.doom.map(|doom| format!(" {doom}")).unwrap_or_default();
                format!("{offset} after {}{doom}", it.attempts)
            });
            let returned: Vec<String> = returned.collect();
            if !returned.is_empty() {
                show(&format!("queue/{queue}/returned"), returned.join(", "));
            }
            let leases = state.flight.iter().flat_map(|flight| leases(flight));
            let leases: Vec<String> = leases.collect();
            if !leases.is_empty() {
                show(&format!("queue/{queue}/leases"), leases.join(", "));
            }
        }
    }
}

fn leases(flight: &Flight) -> impl Iterator<Item = String> {
    let all = flight.leases.ranges(QueueOffset(0), QueueOffset(u64::MAX));
    all.map(|(from, to, hold)| {
        format!(
            "{from}..{to} of {} until {} attempt {}",
            hold.subscription, hold.until, hold.attempt
        )
    })
}
