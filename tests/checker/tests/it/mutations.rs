//! Broken brokers and damaged histories: each is caught, by name.

use crate::model::{Bug, actions, run};
use yard_checker::{History, Kind, Options, Outcome, Queue, Scan, SettleVerdict, check};

/// Runs of each bug and damage.
const SEEDS: u64 = 20;

/// Says so if fewer than `least` of a row's runs are found to have the anomaly: a bug needs its
/// occasion after the last crash that heals or excuses it, a damage needs its place.
fn missed(
    what: &str,
    kind: Kind,
    least: usize,
    broken: impl Fn(u64) -> Option<History>,
) -> Option<String> {
    let caught = |history: &History| check(history, &Options::drained()).count(kind) > 0;
    let count = (1..=SEEDS).filter_map(broken).filter(caught).count();
    (count < least).then(|| format!("{what}: {kind} in {count} of {SEEDS}"))
}

#[test]
fn every_bug_of_a_broker_is_caught() {
    let table = [
        (Bug::AckBeforeSync, Kind::LostWrite),
        (Bug::AckBeforeWrite, Kind::LostWrite),
        (Bug::DeliverUncommitted, Kind::PrecommittedRead),
        (Bug::RecoveryDropsLast, Kind::LostWrite),
        (Bug::RecoveryLeavesHole, Kind::LostWrite),
        (Bug::RecoveryLeavesHole, Kind::InconsistentOffsets),
        (Bug::RecoveryDamagesBody, Kind::Corrupt),
        (Bug::RetryAppendsTwice, Kind::Duplicate),
        (Bug::RefusedIsAppended, Kind::AbortedRead),
        (Bug::WrongOffsetAnswered, Kind::InconsistentOffsets),
        (Bug::OvertakesInQueue, Kind::RealTimeOrder),
        (Bug::OvertakesInQueue, Kind::NonmonotonicSend),
        (Bug::SettlesForgotten, Kind::AckedRedelivered),
        (Bug::SettledComesBack, Kind::AckedRedelivered),
        (Bug::NackForgotten, Kind::UnackedLost),
        (Bug::CursorSkips, Kind::PollSkip),
        (Bug::AttemptNotCounted, Kind::NonmonotonicAttempt),
        (Bug::BatchReversed, Kind::NonmonotonicPoll),
        (Bug::DelayIgnored, Kind::Early),
        (Bug::QueueOfOtherTenant, Kind::TenantLeak),
        (Bug::RejectCopiesTwice, Kind::Duplicate),
        (Bug::RejectCopiesNothing, Kind::DeadLetterLost),
    ];
    let missed = table.into_iter().filter_map(|(bug, kind)| {
        let broken = |seed| Some(run(&actions(seed, 1500), Some(bug)));
        missed(&format!("{bug:?}"), kind, 3, broken)
    });
    assert_eq!(missed.collect::<Vec<String>>(), [""; 0]);
}

const QUEUE: Queue = Queue { topic: 0, index: 0 };

/// The second part of the scan of the first queue.
fn scan(history: &mut History) -> Option<&mut Scan> {
    history.scans.iter_mut().filter(|scan| scan.queue == QUEUE).nth(1)
}

/// Exchanges the contents of two stored messages, by place in the second part of the scan.
fn swap_stored(history: &mut History, a: usize, b: usize) -> Option<()> {
    let messages = &mut scan(history)?.messages;
    let (first, second) = (messages.get(a)?.offset, messages.get(b)?.offset);
    messages.swap(a, b);
    (messages[a].offset, messages[b].offset) = (first, second);
    Some(())
}

fn drop_last(history: &mut History) -> Option<()> {
    let durable = |stored: &yard_checker::Stored, history: &History| {
        history.sends.iter().any(|send| {
            (send.producer, send.seq) == (stored.producer, stored.seq)
                && send.level == yard_checker::AckLevel::Synced
                && matches!(send.outcome, Outcome::Ok { .. })
        })
    };
    let copy = history.clone();
    let messages = &mut scan(history)?.messages;
    while !durable(&messages.pop()?, &copy) {}
    Some(())
}

fn drop_middle(history: &mut History) -> Option<()> {
    let messages = &mut scan(history)?.messages;
    (messages.len() > 2).then(|| messages.remove(1))?;
    Some(())
}

fn drop_middle_and_renumber(history: &mut History) -> Option<()> {
    let start = scan(history)?.messages.first()?.offset;
    drop_middle(history)?;
    for (offset, stored) in (start..).zip(&mut scan(history)?.messages) {
        stored.offset = offset;
    }
    Some(())
}

fn duplicate_stored(history: &mut History) -> Option<()> {
    let messages = &mut scan(history)?.messages;
    let mut again = *messages.first()?;
    again.offset = messages.last()?.offset + 1;
    messages.push(again);
    Some(())
}

fn damage_stored(history: &mut History) -> Option<()> {
    scan(history)?.messages.first_mut()?.hash ^= 1 << 63;
    Some(())
}

fn damage_delivered(history: &mut History) -> Option<()> {
    delivered(history)?.hash ^= 1;
    Some(())
}

fn delivered(history: &mut History) -> Option<&mut yard_checker::Delivery> {
    history.polls.iter_mut().flat_map(|poll| &mut poll.deliveries).nth(7)
}

fn move_delivered(history: &mut History) -> Option<()> {
    delivered(history)?.offset += 1;
    Some(())
}

fn lower_attempts(history: &mut History) -> Option<()> {
    let deliveries = history.polls.iter_mut().flat_map(|poll| &mut poll.deliveries);
    deliveries.for_each(|delivery| delivery.attempt = 1);
    Some(())
}

fn refuse_stored(history: &mut History) -> Option<()> {
    let stored = *scan(history)?.messages.first()?;
    let send = history
        .sends
        .iter_mut()
        .find(|send| (send.producer, send.seq) == (stored.producer, stored.seq))?;
    send.outcome = Outcome::Refused;
    Some(())
}

fn forget_send(history: &mut History) -> Option<()> {
    let stored = *scan(history)?.messages.first()?;
    history.sends.retain(|send| (send.producer, send.seq) != (stored.producer, stored.seq));
    Some(())
}

fn send_after_delivery(history: &mut History) -> Option<()> {
    let got = *delivered(history)?;
    let send = history
        .sends
        .iter_mut()
        .find(|send| (send.producer, send.seq) == (got.producer, got.seq))?;
    (send.invoked, send.completed, send.outcome) = (u64::MAX / 2, None, Outcome::Unknown);
    Some(())
}

fn answer_other_offset(history: &mut History) -> Option<()> {
    let found = history.sends.iter_mut().rev().find_map(|send| match &mut send.outcome {
        Outcome::Ok { offset: Some(offset) } => Some(offset),
        _ => None,
    });
    *found? += 1;
    Some(())
}

fn never_deliver(history: &mut History) -> Option<()> {
    let last = scan(history)?.messages.last()?.offset;
    history.skips.retain(|skip| !(skip.from..skip.to).contains(&last));
    history.settles.retain(|settle| settle.queue != QUEUE || settle.to <= last);
    for poll in history.polls.iter_mut().filter(|poll| poll.queue == QUEUE) {
        poll.deliveries.retain(|delivery| delivery.offset != last);
    }
    Some(())
}

fn skip_one(history: &mut History) -> Option<()> {
    let middle = scan(history)?.messages.first()?.offset;
    history.skips.retain(|skip| !(skip.from..skip.to).contains(&middle));
    for poll in history.polls.iter_mut().filter(|poll| poll.queue == QUEUE) {
        poll.deliveries.retain(|delivery| delivery.offset != middle);
    }
    Some(())
}

fn never_settle(history: &mut History) -> Option<()> {
    history.settles.retain(|settle| settle.verdict == SettleVerdict::Nack);
    Some(())
}

fn deliver_again(history: &mut History) -> Option<()> {
    let mut again = history.polls.iter().rfind(|poll| !poll.deliveries.is_empty())?.clone();
    (again.invoked, again.completed) = (u64::MAX / 2, u64::MAX / 2);
    again.deliveries.iter_mut().for_each(|delivery| delivery.attempt += 1);
    history.polls.push(again);
    Some(())
}

fn reverse_polls(history: &mut History) -> Option<()> {
    let invoked = |poll: &yard_checker::Poll| poll.invoked;
    let last = history.polls.iter().map(invoked).max()?;
    history.crashes.clear();
    history.resets.clear();
    for poll in &mut history.polls {
        (poll.invoked, poll.completed) =
            (last.saturating_sub(poll.completed), last.saturating_sub(poll.invoked));
    }
    Some(())
}

fn poll_as_other_tenant(history: &mut History) -> Option<()> {
    history.polls.iter_mut().find(|poll| !poll.deliveries.is_empty())?.tenant += 1;
    Some(())
}

fn forget_crashes(history: &mut History) -> Option<()> {
    history.crashes.clear();
    Some(())
}

fn delay_more(history: &mut History) -> Option<()> {
    history.sends.iter_mut().filter_map(|send| send.due.as_mut()).for_each(|due| *due += 9000);
    Some(())
}

fn drop_dead_letter(history: &mut History) -> Option<()> {
    history.scans.iter_mut().find(|scan| scan.queue.topic == 9)?.messages.clear();
    Some(())
}

fn swap_neighbours(history: &mut History) -> Option<()> {
    (0..10).try_for_each(|pair| swap_stored(history, pair * 2, pair * 2 + 1))
}

fn reverse_stored(history: &mut History) -> Option<()> {
    let count = scan(history)?.messages.len();
    (0..count / 2).try_for_each(|at| swap_stored(history, at, count - 1 - at))
}

fn store_in_other_queue(history: &mut History) -> Option<()> {
    let stored = scan(history)?.messages.pop()?;
    let other = Queue { index: 1, ..QUEUE };
    let last = history.scans.iter_mut().rfind(|scan| scan.queue == other)?;
    let offset = last.messages.last()?.offset + 1;
    last.messages.push(yard_checker::Stored { offset, ..stored });
    Some(())
}

fn record_send_twice(history: &mut History) -> Option<()> {
    let send = *history.sends.first()?;
    history.sends.push(send);
    Some(())
}

/// Applies a damage; None if the history has no place for it.
type Damage = fn(&mut History) -> Option<()>;

const DAMAGES: [(&str, Damage, Kind); 30] = [
    ("drop the last stored", drop_last, Kind::LostWrite),
    ("drop a stored one", drop_middle, Kind::OffsetGap),
    ("drop and renumber", drop_middle_and_renumber, Kind::InconsistentOffsets),
    ("store twice", duplicate_stored, Kind::Duplicate),
    ("damage a stored body", damage_stored, Kind::Corrupt),
    ("damage a delivered body", damage_delivered, Kind::Corrupt),
    ("deliver from another offset", move_delivered, Kind::InconsistentOffsets),
    ("lower the attempts", lower_attempts, Kind::NonmonotonicAttempt),
    ("refuse what is stored", refuse_stored, Kind::AbortedRead),
    ("forget a send", forget_send, Kind::Phantom),
    ("send after the delivery", send_after_delivery, Kind::Phantom),
    ("answer another offset", answer_other_offset, Kind::InconsistentOffsets),
    ("never deliver the last", never_deliver, Kind::NotDelivered),
    ("never deliver one", skip_one, Kind::PollSkip),
    ("never settle", never_settle, Kind::UnackedLost),
    ("deliver what is settled", deliver_again, Kind::AckedRedelivered),
    ("poll backwards", reverse_polls, Kind::NonmonotonicPoll),
    ("poll before the send", reverse_polls, Kind::Phantom),
    ("poll as another tenant", poll_as_other_tenant, Kind::TenantLeak),
    ("forget the crashes: loss", forget_crashes, Kind::LostWrite),
    ("forget the crashes: acks", forget_crashes, Kind::AckedRedelivered),
    ("forget the crashes: attempts", forget_crashes, Kind::NonmonotonicAttempt),
    ("delay more", delay_more, Kind::Early),
    ("drop the dead letters", drop_dead_letter, Kind::DeadLetterLost),
    ("swap neighbours: order", swap_neighbours, Kind::RealTimeOrder),
    ("swap neighbours: answers", swap_neighbours, Kind::InconsistentOffsets),
    ("store in reverse: producers", reverse_stored, Kind::NonmonotonicSend),
    ("store in reverse: order groups", reverse_stored, Kind::OrderGroup),
    ("store in another queue", store_in_other_queue, Kind::Phantom),
    ("record a send twice", record_send_twice, Kind::Malformed),
];

#[test]
fn every_damage_to_a_history_is_caught() {
    let missed = DAMAGES.into_iter().filter_map(|(what, damage, kind)| {
        missed(what, kind, 15, |seed| {
            let mut history = run(&actions(seed, 1500), None);
            damage(&mut history).map(|()| history)
        })
    });
    assert_eq!(missed.collect::<Vec<String>>(), [""; 0]);
}
