//! A lane against a model of the broker's numbering, over a network that loses, repeats and
//! reorders.
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, VecDeque};

use yard_wire::batch::Batch;
use yard_wire::record::{self, RecordParts};
use yard_wire::requests::{Original, Placed};
use yard_wire::{Epoch, Lane, MessageId, ProducerId, ShardId, Timestamp};

use super::model::{Broker, TOPIC};
use super::*;

fn lane(options: LaneOptions) -> LaneCore {
    let (producer, epoch, lane) = (ProducerId(9), Epoch(0), Lane(1));
    let first = BatchHeader { producer, epoch, lane, shard: ShardId(0), sequence: Sequence(0) };
    LaneCore::new(first, options, 7)
}

fn push(lane: &mut LaneCore, ticket: u64, queue: u16, now_ms: u64) -> Pushed {
    let queue = QueueIndex(queue);
    let id = MessageId::new(Timestamp(0), u128::from(ticket));
    let mut bytes = Vec::new();
    let parts = RecordParts { topic: TOPIC, queue, id, body: b"body", ..RecordParts::default() };
    parts.encode(&mut bytes).expect("within limits");
    let record = LaneRecord { topic: TOPIC, queue, bytes: bytes.len(), parked: false };
    let pushed = lane.push(record, now_ms, |out| out.extend_from_slice(&bytes));
    assert_eq!(pushed.ticket, ticket, "tickets follow each other");
    pushed
}

fn each(completion: Completion) -> Vec<(u64, Result<u64, Refusal>)> {
    let Completion { tickets, bytes, result } = completion;
    assert_eq!(bytes as u64, (tickets.end - tickets.start) * (record::HEADER_BYTES as u64 + 4));
    if let Ok(placed) = &result {
        assert_eq!(placed.offsets.len() as u64, tickets.end - tickets.start);
    }
    let result =
        |at: usize| result.as_ref().map(|p| p.offsets[at].unwrap().0).map_err(Refusal::clone);
    tickets.enumerate().map(|(at, ticket)| (ticket, result(at))).collect()
}

fn completions(lane: &mut LaneCore) -> Vec<(u64, Result<u64, Code>)> {
    let found = std::iter::from_fn(|| lane.next_completion()).flat_map(each);
    found.map(|(ticket, result)| (ticket, result.map_err(|refusal| refusal.code))).collect()
}

/// A lane with `batches` batches of one record on their way.
fn sent(batches: u64) -> (LaneCore, Vec<Outgoing>) {
    let mut lane = lane(LaneOptions { batch_records_max: 1, ..LaneOptions::default() });
    lane.on_connect();
    for ticket in 0..batches {
        push(&mut lane, ticket, 0, 0);
    }
    let outgoing = std::iter::from_fn(|| lane.next_to_send(0)).collect();
    (lane, outgoing)
}

/// Lets a broker that refuses some messages answer until nothing more is sent.
fn answer_all(lane: &mut LaneCore, broker: &mut Broker, bad: &[u64]) -> usize {
    let mut sent = 0;
    let mut waiting: VecDeque<Outgoing> = VecDeque::new();
    loop {
        waiting.extend(std::iter::from_fn(|| lane.next_to_send(0)));
        let Some(outgoing) = waiting.pop_front() else { return sent };
        sent += 1;
        let batch = Batch::parse(outgoing.produce.batch.clone()).expect("whole");
        let ticket = |id: MessageId| u128::from_be_bytes(id.0) as u64;
        let is_bad = batch.records().any(|record| bad.contains(&ticket(record.id())));
        // As on the way to a shard: before its number is looked at.
        let refused = is_bad.then(|| Refusal::from(Code::MessageRefused));
        let answer = refused.map_or_else(|| broker.produce(&outgoing.produce), Err);
        lane.on_reply(outgoing.attempt, answer, 0);
    }
}

#[test]
fn a_refused_message_takes_no_other_with_it() {
    for bad in [&[][..], &[0], &[9], &[3, 4, 17], &[0, 1, 2, 3, 4, 5, 6, 7]] {
        let options = LaneOptions { batch_records_max: 8, ..LaneOptions::default() };
        let (mut lane, mut broker) = (lane(options), Broker::default());
        lane.on_connect();
        for ticket in 0..20 {
            push(&mut lane, ticket, 0, 0);
        }
        lane.hurry();
        let sent = answer_all(&mut lane, &mut broker, bad);
        let found = completions(&mut lane);
        let tickets: Vec<u64> = found.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(tickets, (0..20).collect::<Vec<_>>(), "each once, in order: {bad:?}");
        for (ticket, result) in found {
            let expect = if bad.contains(&ticket) { Err(Code::MessageRefused) } else { Ok(()) };
            assert_eq!(result.map(drop), expect, "{ticket} of {bad:?}");
        }
        let stored: Vec<u64> = broker.stored.iter().map(|(ticket, _)| *ticket).collect();
        let expect: Vec<u64> = (0..20).filter(|ticket| !bad.contains(ticket)).collect();
        assert_eq!(stored, expect, "in order: {bad:?}");
        assert!(sent < 40, "{sent} batches for {bad:?}");
        assert!(lane.is_idle());
        // And the lane goes on.
        push(&mut lane, 20, 0, 0);
        lane.hurry();
        answer_all(&mut lane, &mut broker, bad);
        assert_eq!(completions(&mut lane).len(), 1);
    }
}

#[test]
fn what_was_refused_before_its_turn_is_sent_again_alone_when_it_has_come() {
    for batch_records_max in [1, 2] {
        let options = LaneOptions { batch_records_max, ..LaneOptions::default() };
        let (mut lane, mut broker) = (lane(options), Broker::default());
        lane.on_connect();
        let (count, bad) = (3 * batch_records_max as u64, 2 * batch_records_max as u64 - 1);
        for ticket in 0..count {
            push(&mut lane, ticket, 0, 0);
        }
        let sent: Vec<_> = std::iter::from_fn(|| lane.next_to_send(0)).collect();
        assert_eq!(sent.len(), 3, "all on their way at once");
        // The answer about the second overtakes that about the first.
        lane.on_reply(sent[1].attempt, Err(Code::MessageRefused.into()), 0);
        assert_eq!(sequences(&mut lane, 0), [0; 0], "it is not sent before its turn");
        assert_eq!(completions(&mut lane), [], "nor given up: those before it come first");
        for outgoing in [&sent[0], &sent[2]] {
            lane.on_reply(outgoing.attempt, broker.produce(&outgoing.produce), 0);
        }
        answer_all(&mut lane, &mut broker, &[bad]);
        let tickets = completions(&mut lane).into_iter().map(|(ticket, result)| {
            assert_eq!(result.is_err(), ticket == bad, "{ticket}");
            ticket
        });
        assert_eq!(tickets.collect::<Vec<_>>(), (0..count).collect::<Vec<_>>(), "in order");
        assert_eq!(broker.stored.len() as u64, count - 1);
        assert!(lane.is_idle());
    }
}

fn sequences(lane: &mut LaneCore, now_ms: u64) -> Vec<u64> {
    std::iter::from_fn(|| lane.next_to_send(now_ms)).map(|o| o.attempt.sequence.0).collect()
}

#[test]
fn what_each_refusal_does() {
    // The first of three batches is refused: what is sent again at once, what 60 ms later, and
    // what became of its record.
    let check = |refusal: Refusal, at_once: &[u64], later: &[u64], outcome: Option<Code>| {
        let (mut lane, outgoing) = sent(3);
        let name = refusal.to_string();
        lane.on_reply(outgoing[0].attempt, Err(refusal), 0);
        assert_eq!(sequences(&mut lane, 0), at_once, "{name}");
        assert_eq!(sequences(&mut lane, 60), later, "{name}");
        let found = completions(&mut lane).first().map(|(_, result)| result.unwrap_err());
        assert_eq!(found, outcome, "{name}");
    };
    check(Code::OutOfSequence.into(), &[0, 1, 2], &[], None);
    check(Refusal::after(Code::Busy, 60, ""), &[], &[0, 1, 2], None);
    check(Code::Busy.into(), &[], &[0, 1, 2], None);
    check(Refusal::after(Code::DiskFull, 5_000, ""), &[], &[], None);
    check(Refusal::after(Code::ShuttingDown, 20, ""), &[], &[0, 1, 2], None);
    check(Refusal::after(Code::LogFenced, 20, ""), &[], &[0, 1, 2], None);
    check(Code::Internal.into(), &[], &[0, 1, 2], None);
    check(Code::UnknownTopic.into(), &[], &[], Some(Code::UnknownTopic));
    check(Code::StaleSequence.into(), &[], &[], Some(Code::StaleSequence));
    check(Code::WrongShard.into(), &[], &[], Some(Code::WrongShard));
    check(Code::ProducerFenced.into(), &[], &[], Some(Code::ProducerFenced));
}

#[test]
fn a_rewind_leaves_out_what_was_answered() {
    let mut broker = Broker::default();
    let (mut lane, outgoing) = sent(3);
    let answers: Vec<_> = outgoing.iter().map(|o| broker.produce(&o.produce)).collect();
    lane.on_reply(outgoing[1].attempt, answers[1].clone(), 0);
    lane.on_reply(outgoing[2].attempt, Err(Code::OutOfSequence.into()), 0);
    assert_eq!(sequences(&mut lane, 0), [0, 2]);
}

#[test]
fn a_fenced_lane_takes_nothing_more() {
    let (mut lane, outgoing) = sent(2);
    lane.on_reply(outgoing[1].attempt, Err(Code::ProducerFenced.into()), 0);
    push(&mut lane, 2, 0, 0);
    let fenced = Err(Code::ProducerFenced);
    assert_eq!(completions(&mut lane), [(0, fenced), (1, fenced), (2, fenced)]);
    assert!(lane.is_idle());
}

#[test]
fn a_lane_that_ends_at_a_failure_sends_nothing_behind_it() {
    let options = LaneOptions {
        batch_records_max: 1,
        delivery_ms: 1_000,
        ends_at_failure: true,
        ..LaneOptions::default()
    };
    // What becomes of the second of four messages, of which three are on their way.
    let check = |code: Code, fail: &dyn Fn(&mut LaneCore, &Outgoing)| {
        let (mut lane, mut broker) = (lane(options), Broker::default());
        lane.on_connect();
        for ticket in 0..3 {
            push(&mut lane, ticket, 0, 0);
        }
        let outgoing: Vec<_> = std::iter::from_fn(|| lane.next_to_send(0)).collect();
        push(&mut lane, 3, 0, 0);
        lane.on_reply(outgoing[0].attempt, broker.produce(&outgoing[0].produce), 0);
        fail(&mut lane, &outgoing[1]);
        let failed = Err(code);
        assert_eq!(completions(&mut lane), [(0, Ok(0)), (1, failed), (2, failed), (3, failed)]);
        push(&mut lane, 4, 0, 0);
        assert_eq!(completions(&mut lane), [(4, failed)]);
        assert_eq!(sequences(&mut lane, 2_000), [0; 0], "{code:?}");
    };
    check(Code::Forbidden, &|lane, second| {
        lane.on_reply(second.attempt, Err(Code::Forbidden.into()), 0);
    });
    check(Code::MessageRefused, &|lane, second| {
        lane.on_reply(second.attempt, Err(Code::MessageRefused.into()), 0);
    });
    check(Code::TimedOut, &|lane, _| lane.on_time(1_000));
    // One that was never sent has no number, and the next one would get it.
    let mut unsent = lane(options);
    push(&mut unsent, 0, 0, 0);
    push(&mut unsent, 1, 0, 900);
    unsent.on_time(1_000);
    unsent.on_connect();
    let failed = Err(Code::TimedOut);
    assert_eq!(completions(&mut unsent), [(0, failed), (1, failed)]);
    assert_eq!(sequences(&mut unsent, 1_000), [0; 0]);
}

#[test]
fn the_floor_passes_what_was_given_up() {
    let (mut lane, outgoing) = sent(2);
    assert_eq!(outgoing[1].produce.floor, Sequence(0));
    lane.on_reply(outgoing[0].attempt, Err(Code::Forbidden.into()), 0);
    lane.on_reply(outgoing[1].attempt, Err(Code::OutOfSequence.into()), 0);
    let again = lane.next_to_send(0).expect("the second batch is sent again");
    assert_eq!((again.attempt.sequence, again.produce.floor), (Sequence(1), Sequence(1)));
}

#[test]
fn a_lost_connection_is_sent_again_in_order_and_old_answers_count_once() {
    let mut broker = Broker::default();
    let (mut lane, outgoing) = sent(3);
    let first = broker.produce(&outgoing[0].produce).expect("in sequence");
    lane.on_disconnect();
    assert_eq!(sequences(&mut lane, 0), [] as [u64; 0]);
    lane.on_connect();
    let again: Vec<_> = std::iter::from_fn(|| lane.next_to_send(0)).collect();
    assert_eq!(again.len(), 3);
    let duplicate = broker.produce(&again[0].produce).expect("remembered");
    assert!(duplicate.duplicate);
    lane.on_reply(again[0].attempt, Ok(duplicate), 0);
    lane.on_reply(outgoing[0].attempt, Ok(first), 0);
    // A refusal of an attempt that was made again since says nothing.
    lane.on_reply(outgoing[1].attempt, Err(Code::Forbidden.into()), 0);
    assert_eq!(completions(&mut lane), [(0, Ok(0))]);
    assert_eq!(lane.window_len(), 2);
}

#[test]
fn the_window_spans_what_the_broker_remembers_even_when_the_first_answer_is_lost() {
    let options = LaneOptions { batch_records_max: 1, in_flight_max: 64, ..LaneOptions::default() };
    let mut lane = lane(options);
    let mut broker = Broker::default();
    lane.on_connect();
    for ticket in 0..200 {
        push(&mut lane, ticket, 0, 0);
    }
    let mut attempts = Vec::new();
    while let Some(outgoing) = lane.next_to_send(0) {
        let answer = broker.produce(&outgoing.produce);
        if !attempts.is_empty() {
            lane.on_reply(outgoing.attempt, answer, 0);
        }
        attempts.push(outgoing.attempt);
    }
    assert_eq!(attempts.len(), 64, "nothing leaves the window before its first");
    let again = lane.next_to_send(10_000).expect("it is sent again after its time");
    let duplicate = broker.produce(&again.produce).expect("still remembered");
    assert!(duplicate.duplicate);
}

#[test]
fn time_gives_up_and_says_what_is_known() {
    let options = LaneOptions { delivery_ms: 1_000, batch_records_max: 1, ..Default::default() };
    let mut lane = lane(LaneOptions { in_flight_max: 1, ..options });
    lane.on_connect();
    push(&mut lane, 0, 0, 0);
    push(&mut lane, 1, 0, 500);
    assert!(lane.next_to_send(0).is_some());
    assert_eq!(lane.wake_at(0), Some(1_000));
    lane.on_time(999);
    assert_eq!((completions(&mut lane), lane.take_silences()), (vec![], 0));
    lane.on_time(1_000);
    assert_eq!(lane.take_silences(), 1);
    let given_up = lane.next_completion().expect("the time is over").result.unwrap_err();
    assert!(given_up.detail.contains("may be stored"), "{given_up}");
    let next = lane.next_to_send(1_000).expect("the next one's time is not");
    assert_eq!(next.produce.floor, Sequence(1));
    push(&mut lane, 2, 0, 1_000);
    lane.on_disconnect();
    lane.on_time(2_000);
    assert!(lane.next_completion().expect("sent").result.is_err());
    let unsent = lane.next_completion().expect("never sent").result.unwrap_err();
    assert!(unsent.detail.contains("not stored"), "{unsent}");
    assert!(lane.is_idle() && lane.wake_at(2_000).is_none());
}

#[test]
fn what_was_refused_to_the_end_is_not_in_doubt() {
    // A batch, and one that is never sent. What becomes of both when `early` came as the answer to
    // the first attempt, and each later one is refused for a full backlog.
    let check = |early: Option<Code>, is_connected: bool, sent: Code, unsent: Code| {
        let options = LaneOptions { delivery_ms: 1_000, attempt_ms: 100, ..Default::default() };
        let mut lane = lane(LaneOptions { in_flight_max: 1, batch_records_max: 1, ..options });
        lane.on_connect();
        push(&mut lane, 0, 0, 0);
        push(&mut lane, 1, 0, 0);
        let first = lane.next_to_send(0).expect("it is sent").attempt;
        if let Some(code) = early {
            lane.on_reply(first, Err(Refusal::after(code, 1, "early")), 0);
        }
        for now_ms in (100..1_000).step_by(100) {
            let again = lane.next_to_send(now_ms).expect("it is tried again");
            let refusal = Refusal::after(Code::BacklogFull, 1, "30 behind");
            lane.on_reply(again.attempt, Err(refusal), now_ms);
        }
        if !is_connected {
            lane.on_disconnect();
        }
        lane.on_time(1_000);
        assert_eq!(completions(&mut lane), [(0, Err(sent)), (1, Err(unsent))], "{early:?}");
        assert!(lane.is_idle());
    };
    let (full, late) = (Code::BacklogFull, Code::TimedOut);
    check(Some(full), true, full, full);
    check(Some(Code::OutOfSequence), true, full, full);
    check(Some(full), false, full, late);
    // Without an answer, or with one that leaves it open, the first attempt may have stored it.
    check(None, true, late, full);
    check(Some(Code::LogFenced), true, late, full);
}

#[test]
fn a_refusal_that_comes_late_is_no_doubt_either() {
    let options = LaneOptions { delivery_ms: 1_000, attempt_ms: 100, ..Default::default() };
    for is_answered in [false, true] {
        let mut lane = lane(options);
        lane.on_connect();
        push(&mut lane, 0, 0, 0);
        let first = lane.next_to_send(0).expect("it is sent").attempt;
        let again = lane.next_to_send(100).expect("it is sent again").attempt;
        assert_eq!(lane.take_silences(), 1);
        let refusal = Refusal::after(Code::BacklogFull, 10_000, "30 behind");
        lane.on_reply(again, Err(refusal.clone()), 101);
        if is_answered {
            lane.on_reply(first, Err(refusal), 102);
        }
        lane.on_time(1_000);
        let expected = if is_answered { Code::BacklogFull } else { Code::TimedOut };
        assert_eq!(completions(&mut lane), [(0, Err(expected))]);
    }
}

#[test]
fn batches_gather_while_the_window_is_full_or_they_linger() {
    let mut gathering = lane(LaneOptions { in_flight_max: 1, ..LaneOptions::default() });
    gathering.on_connect();
    push(&mut gathering, 0, 0, 0);
    let first = gathering.next_to_send(0).expect("sent at once");
    for ticket in 1..=2_000 {
        push(&mut gathering, ticket, 0, 0);
    }
    assert!(gathering.next_to_send(0).is_none());
    let mut broker = Broker::default();
    gathering.on_reply(first.attempt, broker.produce(&first.produce), 0);
    let second = gathering.next_to_send(0).expect("the window has room");
    assert_eq!(Batch::parse(second.produce.batch).expect("whole").records().len(), 1_024);

    let mut lingering = lane(LaneOptions { linger_ms: 20, ..LaneOptions::default() });
    lingering.on_connect();
    push(&mut lingering, 0, 0, 100);
    assert!(!lingering.has_to_send(119));
    assert_eq!(lingering.wake_at(100), Some(120));
    assert!(lingering.has_to_send(120));
    push(&mut lingering, 1, 0, 101);
    lingering.hurry();
    let sent = lingering.next_to_send(101).expect("hurried");
    assert_eq!(Batch::parse(sent.produce.batch).expect("whole").records().len(), 2);
}

#[test]
fn a_broker_that_is_near_gets_two_small_batches_at_a_time() {
    for (took_ms, at_once) in [(1, 2), (30, 3)] {
        let mut lane = lane(LaneOptions::default());
        lane.on_connect();
        push(&mut lane, 0, 0, 0);
        let first = lane.next_to_send(0).expect("sent at once");
        let mut broker = Broker::default();
        lane.on_reply(first.attempt, broker.produce(&first.produce), took_ms);
        let mut outgoing = Vec::new();
        for ticket in 1..=3 {
            push(&mut lane, ticket, 0, took_ms);
            outgoing.extend(lane.next_to_send(took_ms));
        }
        assert_eq!(outgoing.len(), at_once, "an answer took {took_ms} ms");
        for ticket in 4..=2_000 {
            push(&mut lane, ticket, 0, took_ms);
        }
        let full = lane.next_to_send(took_ms).expect("a full batch waits for nobody");
        let full = Batch::parse(full.produce.batch).expect("whole").records().count();
        assert_eq!(full, LaneOptions::default().batch_records_max);
        for sent in outgoing {
            lane.on_reply(sent.attempt, broker.produce(&sent.produce), took_ms);
        }
        assert!(lane.next_to_send(took_ms).is_some(), "the rest, as soon as there is room");
    }
}

#[test]
fn an_answer_that_does_not_fit_its_batch_is_not_believed() {
    let (mut lane, outgoing) = sent(1);
    let mut produced = Broker::default().produce(&outgoing[0].produce).expect("in sequence");
    produced.placed[0].queue = QueueIndex(5);
    lane.on_reply(outgoing[0].attempt, Ok(produced), 0);
    assert_eq!(completions(&mut lane), [(0, Err(Code::BadReply))]);
    // Or it speaks of a record that is not in it.
    for (record, outcome) in [(0, Ok(8)), (1, Err(Code::BadReply))] {
        let (mut lane, outgoing) = sent(1);
        let mut produced = Broker::default().produce(&outgoing[0].produce).expect("in sequence");
        let (id, offset) = (MessageId::new(Timestamp(0), 7), Some(QueueOffset(8)));
        produced.originals = vec![Original { record, id, queue: QueueIndex(0), offset }];
        lane.on_reply(outgoing[0].attempt, Ok(produced), 0);
        assert_eq!(completions(&mut lane), [(0, outcome)], "record {record}");
    }
}

#[test]
fn each_record_of_a_batch_that_was_never_sent_has_its_own_time() {
    let mut lane = lane(LaneOptions { delivery_ms: 1_000, ..LaneOptions::default() });
    for (ticket, now_ms) in [(0, 0), (1, 400), (2, 400), (3, 900)] {
        let pushed = push(&mut lane, ticket, 0, now_ms);
        assert_eq!(pushed.is_first, ticket == 0, "all in one batch");
    }
    let timed_out = Err(Code::TimedOut);
    lane.on_time(1_399);
    assert_eq!(completions(&mut lane), [(0, timed_out)]);
    lane.on_time(1_400);
    assert_eq!(completions(&mut lane), [(1, timed_out), (2, timed_out)]);
    lane.on_connect();
    let sent = lane.next_to_send(1_400).expect("the last is not too old");
    let mut broker = Broker::default();
    lane.on_reply(sent.attempt, broker.produce(&sent.produce), 1_400);
    assert_eq!(broker.stored, [(3, 0)]);
    assert_eq!(completions(&mut lane), [(3, Ok(0))]);
}

#[test]
fn what_was_sent_does_not_change_while_somebody_reads_it() {
    let mut lane = lane(LaneOptions::default());
    let mut broker = Broker::default();
    lane.on_connect();
    let mut held = Vec::new();
    for round in 0..8 {
        for ticket in round * 200..(round + 1) * 200 {
            push(&mut lane, ticket, 0, 0);
        }
        let sent = lane.next_to_send(0).expect("there is room");
        lane.on_reply(sent.attempt, broker.produce(&sent.produce), 0);
        if round % 3 < 2 {
            held.push((sent.produce.batch.clone(), sent.produce.batch.to_vec()));
        }
    }
    assert!(held.iter().all(|(batch, before)| batch == before));
    assert_eq!(broker.stored.len(), 1_600);
}

#[test]
fn offsets_are_those_of_each_queue_in_the_order_of_the_batch() {
    let mut lane = lane(LaneOptions::default());
    let mut broker = Broker::default();
    lane.on_connect();
    for (ticket, queue) in [9, 2, 9, 4, 2, 9].into_iter().enumerate() {
        push(&mut lane, ticket as u64, queue, 0);
    }
    let sent = lane.next_to_send(0).expect("there is room");
    lane.on_reply(sent.attempt, broker.produce(&sent.produce), 0);
    let found: Vec<_> = completions(&mut lane).into_iter().map(|(_, found)| found).collect();
    assert_eq!(found, [Ok(0), Ok(0), Ok(1), Ok(0), Ok(1), Ok(2)]);
}

#[test]
fn what_is_said_of_a_queue_twice_is_used_in_the_order_in_which_it_was_said() {
    let mut lane = lane(LaneOptions::default());
    lane.on_connect();
    for (ticket, queue) in [1, 0, 1, 1, 0].into_iter().enumerate() {
        push(&mut lane, ticket as u64, queue, 0);
    }
    let sent = lane.next_to_send(0).expect("there is room");
    let mut produced = Broker::default().produce(&sent.produce).expect("in sequence");
    let said = [(1, 70, 2), (0, 10, 2), (1, 50, 1)];
    let placed = |(queue, first, count)| {
        let (queue, first) = (QueueIndex(queue), QueueOffset(first));
        Placed { topic: TOPIC, queue, first, count }
    };
    produced.placed = said.map(placed).to_vec();
    lane.on_reply(sent.attempt, Ok(produced), 0);
    let found: Vec<_> = completions(&mut lane).into_iter().map(|(_, found)| found).collect();
    assert_eq!(found, [Ok(70), Ok(10), Ok(71), Ok(50), Ok(11)]);
}

/// Everything that is on its way, either way.
#[derive(Default)]
struct Network {
    requests: Vec<Outgoing>,
    replies: Vec<(Attempt, Result<Produced, Refusal>)>,
}

struct World {
    lane: LaneCore,
    broker: Broker,
    network: Network,
    now_ms: u64,
    random: u64,
    pushed: u64,
    /// The queue of each ticket.
    queues: Vec<u16>,
    /// Requests stay in the network when they have arrived, and arrive again.
    repeats: bool,
    completed: BTreeMap<u64, Result<u64, Refusal>>,
}

impl World {
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    /// Takes something out of the network; one time in four it also stays there.
    fn pick<T: Clone + Any>(&mut self, from: fn(&mut Network) -> &mut Vec<T>) -> Option<T> {
        let is_request = TypeId::of::<T>() == TypeId::of::<Outgoing>();
        let length = from(&mut self.network).len() as u64;
        if length == 0 {
            return None;
        }
        let at = self.draw(length) as usize;
        let stays = self.draw(4) == 0 && (self.repeats || !is_request);
        let list = from(&mut self.network);
        Some(if stays { list[at].clone() } else { list.remove(at) })
    }

    fn serve(&mut self, outgoing: &Outgoing, is_healthy: bool) {
        let refusal = match self.draw(12) {
            0 => Some(Refusal::after(Code::Busy, 5, "")),
            1 => Some(Refusal::from(Code::DiskFull)),
            _ => None,
        };
        let result = match refusal.filter(|_| !is_healthy) {
            Some(refusal) => Err(refusal),
            None => self.broker.produce(&outgoing.produce),
        };
        self.network.replies.push((outgoing.attempt, result));
    }

    fn step(&mut self) {
        match self.draw(10) {
            0 => {
                let queue = self.draw(3) as u16;
                push(&mut self.lane, self.pushed, queue, self.now_ms);
                self.queues.push(queue);
                self.pushed += 1;
            }
            1..=3 => {
                let sent = self.lane.next_to_send(self.now_ms);
                self.network.requests.extend(sent);
            }
            4 | 5 => {
                if let Some(outgoing) = self.pick(|network| &mut network.requests) {
                    self.serve(&outgoing, false);
                }
            }
            6 | 7 => {
                if let Some((attempt, result)) = self.pick(|network| &mut network.replies) {
                    self.lane.on_reply(attempt, result, self.now_ms);
                }
            }
            8 => match self.draw(12) {
                0 => self.lane.on_disconnect(),
                1 => {
                    let _ = self.pick(|network| &mut network.requests);
                }
                2 => {
                    let _ = self.pick(|network| &mut network.replies);
                }
                _ => self.lane.on_connect(),
            },
            _ => {
                self.now_ms += self.draw(200);
                self.lane.on_time(self.now_ms);
            }
        }
        self.collect();
    }

    fn collect(&mut self) {
        for (ticket, result) in std::iter::from_fn(|| self.lane.next_completion()).flat_map(each) {
            let before = self.completed.insert(ticket, result);
            assert!(before.is_none(), "ticket {ticket} was completed twice");
        }
    }

    fn heal(&mut self) {
        self.lane.on_connect();
        for _ in 0..10_000 {
            if self.lane.is_idle() {
                return;
            }
            while let Some(outgoing) = self.lane.next_to_send(self.now_ms) {
                self.network.requests.push(outgoing);
            }
            for outgoing in std::mem::take(&mut self.network.requests) {
                self.serve(&outgoing, true);
            }
            for (attempt, result) in std::mem::take(&mut self.network.replies) {
                self.lane.on_reply(attempt, result, self.now_ms);
            }
            self.collect();
            self.now_ms += 100;
        }
        panic!("not everything completes: {:?}", self.lane);
    }

    /// Nothing twice, nothing out of order, every answer true.
    fn check(&self, gives_up: bool) {
        let stored = &self.broker.stored;
        assert!(stored.is_sorted_by(|a, b| a.0 < b.0), "once and in order: {stored:?}");
        assert_eq!(self.completed.len() as u64, self.pushed, "everything completes");
        if self.lane.options.ends_at_failure {
            let first = 0..stored.len() as u64;
            assert!(stored.iter().map(|it| it.0).eq(first), "without gaps: {stored:?}");
        }
        let mut ends = BTreeMap::new();
        let mut offsets = BTreeMap::new();
        for (ticket, queue) in stored {
            let end: &mut u64 = ends.entry(*queue).or_default();
            offsets.insert(*ticket, (*queue, *end));
            *end += 1;
        }
        for (ticket, result) in &self.completed {
            match result {
                Ok(offset) => {
                    let found = (self.queues[*ticket as usize], *offset);
                    assert_eq!(offsets.get(ticket), Some(&found), "ticket {ticket}");
                }
                Err(refusal) => {
                    let codes = [Code::TimedOut, Code::Busy, Code::DiskFull];
                    assert!(gives_up && codes.contains(&refusal.code), "{ticket}: {refusal}");
                    let is_refused = refusal.code != Code::TimedOut && !self.repeats;
                    let is_said = is_refused || refusal.detail.contains("not stored");
                    assert!(!(offsets.contains_key(ticket) && is_said), "{ticket}: {refusal}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_stored_twice_or_out_of_order_whatever_the_network_does() {
    let mut refused = 0;
    for seed in 1..=600u64 {
        let gives_up = seed % 3 == 0;
        let repeats = seed % 4 < 2;
        let options = LaneOptions {
            in_flight_max: if seed % 2 == 0 { 64 } else { 1 + (seed % 9) as usize },
            batch_records_max: 1 + (seed % 4) as usize,
            attempt_ms: 1_000,
            delivery_ms: if gives_up { 4_000 } else { u64::MAX },
            linger_ms: seed % 5 * 10,
            ends_at_failure: seed % 7 == 0,
            ..LaneOptions::default()
        };
        let mut world = World {
            lane: lane(options),
            broker: Broker::default(),
            network: Network::default(),
            now_ms: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            pushed: 0,
            queues: Vec::new(),
            repeats,
            completed: BTreeMap::new(),
        };
        for _ in 0..4_000 {
            world.step();
        }
        world.heal();
        world.check(gives_up);
        let is_refused = |it: &&Result<u64, Refusal>| {
            it.as_ref().is_err_and(|refusal| refusal.code != Code::TimedOut)
        };
        refused += if repeats { 0 } else { world.completed.values().filter(is_refused).count() };
    }
    assert!(refused > 0, "refusals are given as the reason where they are");
}
