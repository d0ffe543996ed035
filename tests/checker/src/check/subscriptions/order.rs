//! First deliveries go forward in the queue: for each consumer, and across all consumers of the
//! group for messages of one order group.
//!
//! Messages with an order group are compared only among themselves: while one group waits for
//! a retry, the others may overtake it.

use super::{Options, Seen, Subscription, merged, stretch};
use crate::anomaly::Kind;
use crate::index::Index;
use crate::sweep::{Span, disorder};
use crate::verdict::Report;

/// Who must get messages in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    Consumer(u64),
    OrderGroup(u64),
}

impl Seen {
    fn line(&self) -> Line {
        self.order_group.map_or(Line::Consumer(self.client), Line::OrderGroup)
    }
}

pub(crate) fn check(
    index: &Index,
    subscription: &Subscription,
    options: &Options,
    report: &mut Report,
) {
    let cuts = merged(index.crashes.all(), &subscription.resets);
    let mut first: Vec<(usize, Line, u32)> = Vec::new();
    for (number, seen) in subscription.seen.iter().enumerate() {
        // After a crash or a reset the group begins again at an earlier place.
        let was_unread = options.unread.contains(&(subscription.queue, seen.offset));
        if seen.attempt == 1
            && !was_unread
            && let Some(stretch) = stretch(&cuts, seen.invoked, seen.completed)
        {
            first.push((stretch, seen.line(), number as u32));
        }
    }
    first.sort_unstable();
    for line in first.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        check_line(subscription, line, report);
    }
}

fn check_line(subscription: &Subscription, line: &[(usize, Line, u32)], report: &mut Report) {
    let seen = |number: u32| &subscription.seen[number as usize];
    for pair in line.windows(2) {
        let (a, b) = (seen(pair[0].2), seen(pair[1].2));
        if a.poll == b.poll && a.offset > b.offset {
            add(subscription, a, b, report);
        }
    }
    let span = |&(_, _, number): &(usize, Line, u32)| Span {
        start: seen(number).invoked,
        end: seen(number).completed,
        value: seen(number).offset,
        item: number,
    };
    let mut spans: Vec<Span> = line.iter().map(span).collect();
    disorder(&mut spans, |a, b| add(subscription, seen(a.item), seen(b.item), report));
}

fn add(subscription: &Subscription, earlier: &Seen, later: &Seen, report: &mut Report) {
    report.add(Kind::NonmonotonicPoll, subscription.queue, Some(subscription.group), || {
        format!(
            "client {} got offset {} by {}, client {} then got offset {} by {}",
            earlier.client,
            earlier.offset,
            earlier.completed,
            later.client,
            later.offset,
            later.completed,
        )
    });
}
