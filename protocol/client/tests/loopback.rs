//! The client against a broker in the same process, over real QUIC.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]
mod fake;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake::{Fake, Mishap};
use yard_client::{
    Client, Code, Error, Message, Producer, QueueIndex, QueueOffset, SendResult, Start, Timestamp,
    Wanted,
};
use yard_wire::operation::{Operation, PluginPush, TopicInfo, TopicSet};
use yard_wire::plugin::Blob;
use yard_wire::requests::{self, Verdict};
use yard_wire::{Refusal, ShardId};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it does not hang")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_and_route() {
    let fake = Fake::start(&[0, 0, 1, 1]);
    let client = within(fake.client(2)).await;
    assert_eq!(fake.state().hellos[0].client, "test");
    let route = client.route("orders").await.unwrap();
    assert_eq!((route.topic, route.shards.len()), (fake::TOPIC, 4));
    let missing = client.route("nothing").await.unwrap_err();
    assert_eq!(missing.to_string(), "E0201 UnknownTopic: no topic is called \"nothing\"");
    assert_eq!(client.route("no/name").await.unwrap_err().code, Code::BadName);
    within(client.close()).await;
    assert_eq!(client.route("orders").await.unwrap_err().code, Code::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_the_authority_did_not_sign_is_not_trusted() {
    let fake = Fake::start(&[0]);
    let other = Fake::start(&[0]);
    let builder = Client::builder().bootstrap([fake.address.to_string()]).tls(other.tls());
    let error = within(builder.connect()).await.unwrap_err();
    assert_eq!(error.code, Code::Untrusted, "{error}");
    assert_eq!(fake.state().hellos.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_goes_over_all_shards_and_finds_each_message_once() {
    let fake = Fake::start(&[0, 1, 1, 2]);
    let client = within(fake.client(1)).await;
    let producer = within(client.producer("orders").build()).await.unwrap();
    let mut sent = Vec::new();
    for n in 0..24u16 {
        let key = if n % 3 == 0 { "k" } else { "other" };
        let message = Message::new("x").queue(n % 4).key("also").key(key);
        sent.push((key, within(producer.send(message)).await.unwrap()));
    }
    let expected: BTreeSet<_> = sent
        .iter()
        .filter(|(key, _)| *key == "k")
        .map(|(_, s)| (s.queue, s.offset.unwrap()))
        .collect();
    let (from, to) = (Timestamp(0), Timestamp(u64::MAX));
    let by_key = Wanted::Key { topic: "orders".into(), key: "k".into(), from, to };
    for count in [1, 2, 3, 5, 100] {
        let (mut found, mut cursor, mut looked) = (Vec::new(), None, 0);
        loop {
            let result = within(client.find(by_key.clone(), cursor.take(), count)).await.unwrap();
            assert!(result.messages.len() <= count as usize, "no more than asked for");
            assert!(result.messages.is_sorted_by_key(|m| (m.stored, m.queue)), "by their times");
            found.extend(result.messages.into_iter().map(|m| (m.queue, m.offset)));
            looked += result.covered.segments;
            let Some(next) = result.next else { break };
            // As a text, and back.
            cursor = Some(next.to_string().parse().unwrap());
        }
        assert_eq!((found.len(), looked), (8, 24), "each message is looked at once");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{count} at a time");
    }
    let (_, third) = &sent[3];
    let one = within(client.find(Wanted::Id(third.id), None, 1_000)).await.unwrap();
    let asked: BTreeSet<ShardId> = fake.state().finds.iter().map(|find| find.shard).collect();
    assert_eq!(asked.len(), 3, "an id may be anywhere");
    assert!(
        one.messages.iter().all(|m| (m.queue, m.offset) == (third.queue, third.offset.unwrap()))
    );
    let unknown =
        client.find(Wanted::Key { topic: "nothing".into(), key: "k".into(), from, to }, None, 1);
    assert_eq!(within(unknown).await.unwrap_err().code, Code::UnknownTopic);
    within(client.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there() {
    let builder = Client::builder().bootstrap(["127.0.0.1:1"]).tls(Fake::start(&[0]).tls());
    let builder = builder.connect_timeout(Duration::from_millis(300));
    let error = within(builder.connect()).await.unwrap_err();
    assert_eq!(error.code, Code::Disconnected, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_stored_once_in_order_whatever_is_refused() {
    let fake = Fake::start(&[0, 0, 1, 1]);
    let client = within(fake.client(2)).await;
    fake.state().mishaps.extend([
        Mishap::Refuse(Refusal::after(Code::Busy, 20, "full")),
        Mishap::Refuse(Code::OutOfSequence.into()),
        Mishap::StoreAndDrop,
        Mishap::Refuse(Refusal::after(Code::ShuttingDown, 20, "")),
        Mishap::Refuse(Refusal::after(Code::DedupeFull, 20, "2000000 keys are remembered")),
    ]);
    let producer = client.producer("orders").batch_records(10).build().await.unwrap();
    let mut receipts = Vec::new();
    for number in 0..500 {
        let message = Message::new(format!("{number}")).order_group(format!("{}", number % 7));
        receipts.push(producer.enqueue(message).await.unwrap());
    }
    let mut duplicates = 0;
    for receipt in receipts {
        let result = within(receipt).await.unwrap();
        duplicates += usize::from(result.duplicate);
    }
    assert!(duplicates > 0, "the batch that was stored before its connection died");
    let state = fake.state();
    let mut seen = [0; 7].map(|_: i32| Vec::new());
    for record in state.queues.values().flatten() {
        let record = yard_wire::record::Record::parse(record.clone()).unwrap();
        let group: usize = record.order_group().unwrap().parse().unwrap();
        let number: usize = str::from_utf8(&record.body()).unwrap().parse().unwrap();
        seen[group].push(number);
    }
    assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), 500, "each once");
    assert!(seen.iter().all(|numbers| numbers.is_sorted()), "in the order of the calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_refuses_is_left_out_by_messages_that_may_go_anywhere() {
    let fake = Fake::start(&[0, 1, 0, 1]);
    let client = within(fake.client(1)).await;
    fake.state().refusing = Some(ShardId(1));
    let producer = client.producer("orders").build().await.unwrap();
    let named = producer.enqueue(Message::new("named").queue(1)).await.unwrap();
    // It is sent again once the client knows that it was refused.
    within(seen(&fake, |state| (state.refused >= 2).then_some(()))).await;
    let mut receipts = Vec::new();
    for _ in 0..200 {
        receipts.push(producer.enqueue(Message::new("anywhere")).await.unwrap());
    }
    let stored = |state: &fake::State| state.queues.values().map(Vec::len).sum::<usize>();
    // Now and then one tries whether it is well again; blindly it would have been each second.
    within(seen(&fake, |state| (stored(state) >= 180).then_some(()))).await;
    assert!(!fake.state().queues.contains_key(&1) && !fake.state().queues.contains_key(&3));
    fake.state().refusing = None;
    for receipt in receipts {
        within(receipt).await.unwrap();
    }
    assert_eq!(within(named).await.unwrap().queue, QueueIndex(1), "what names its queue waits");
    assert_eq!(stored(&fake.state()), 201);
    within(client.close()).await;
}

/// One of a crowd: sends in its own way, and gives the results that it waited for.
async fn sender(producer: Producer, number: usize, count: usize) -> Vec<SendResult> {
    let message = |at: usize| {
        // Some are larger than a batch, and some batches than what the flow control takes at once.
        let padding = if at.is_multiple_of(50) { 300_000 } else { 100 * (at % 7) };
        let body = format!("{at:04}{}", "x".repeat(padding));
        Message::new(body).order_group(format!("{number}"))
    };
    let mut results = Vec::new();
    let mut receipts = Vec::new();
    for at in 0..count {
        match number % 4 {
            0 => results.push(producer.send(message(at)).await.unwrap()),
            1 => receipts.push(producer.enqueue(message(at)).await.unwrap()),
            2 => drop(producer.enqueue(message(at)).await.unwrap()),
            _ => {
                let mut receipt = producer.enqueue(message(at)).await.unwrap();
                // Waits a little, then no more; and later again.
                let looked = tokio::time::timeout(Duration::from_micros(50), &mut receipt).await;
                if at % 3 > 0 {
                    receipts.push(receipt);
                }
                drop(looked);
            }
        }
    }
    producer.flush().await.unwrap();
    for receipt in receipts.into_iter().rev() {
        results.push(receipt.await.unwrap());
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_of_senders_finds_each_message_stored_once_in_order_where_it_was_told() {
    const COUNT: usize = 200;
    let fake = Fake::start(&[0, 0, 1, 1]);
    let client = within(fake.client(4)).await;
    for _ in 0..4 {
        fake.state().mishaps.extend([
            Mishap::Refuse(Refusal::after(Code::Busy, 5, "full")),
            Mishap::Refuse(Code::OutOfSequence.into()),
            Mishap::StoreAndDrop,
        ]);
    }
    let producer = client.producer("orders").batch_records(16).batch_bytes(8 << 10);
    let producer = within(producer.in_flight(5).buffer_bytes(1 << 20).build()).await.unwrap();
    let crowd = (0..8).map(|number| tokio::spawn(sender(producer.clone(), number, COUNT)));
    let crowd: Vec<_> = crowd.collect();
    let mut results = Vec::new();
    for sender in crowd {
        results.extend(within(sender).await.unwrap());
    }
    assert!(results.len() >= 4 * COUNT, "{} results", results.len());
    let state = fake.state();
    for result in results {
        let stored = state.queues[&result.queue.0][result.offset.unwrap().0 as usize].clone();
        assert_eq!(yard_wire::record::Record::parse(stored).unwrap().id(), result.id);
    }
    let mut seen: [Vec<usize>; 8] = Default::default();
    for record in state.queues.values().flatten() {
        let record = yard_wire::record::Record::parse(record.clone()).unwrap();
        let number: usize = record.order_group().unwrap().parse().unwrap();
        seen[number].push(str::from_utf8(&record.body()[..4]).unwrap().parse().unwrap());
    }
    let all: Vec<usize> = (0..COUNT).collect();
    assert!(seen.iter().all(|numbers| *numbers == all), "each once, in the order of the calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_flow_control_does_not_take_at_once_follows_in_order() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let producer = client.producer("orders").in_flight(64).build().await.unwrap();
    // More bytes than a stream's window, and more frames than may wait for it.
    let bodies: Vec<_> = (0..60u8).map(|number| vec![number; 300_000]).collect();
    let mut receipts = Vec::new();
    for body in &bodies {
        receipts.push(within(producer.enqueue(Message::new(body.clone()))).await.unwrap());
    }
    for (number, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(within(receipt).await.unwrap().offset, Some(QueueOffset(number as u64)));
    }
    let state = fake.state();
    let stored = state.queues[&0].iter().map(|record| record[record.len() - 300_000..].to_vec());
    assert!(stored.eq(bodies), "in order and whole");
}

#[test]
fn a_receipt_outlives_the_runtime_that_would_have_sent_its_message() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let (receipt, producer) = runtime.block_on(async {
        let fake = Fake::start(&[0]);
        let client = within(fake.client(1)).await;
        let producer = client.producer("orders").linger_ms(600_000).build().await.unwrap();
        (producer.enqueue(Message::new("x")).await.unwrap(), producer)
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = other.block_on(within(receipt)).unwrap_err();
    assert_eq!(error.code, Code::Closed, "{error}");
    let error = other.block_on(producer.send(Message::new("y"))).unwrap_err();
    assert_eq!(error.code, Code::Closed, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_dies_before_the_answer_gives_one_completion() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    fake.state().mishaps.push_back(Mishap::StoreAndDrop);
    let producer = client.producer("orders").build().await.unwrap();
    let result = within(producer.send(Message::new("one").key("k"))).await.unwrap();
    assert!(result.duplicate);
    assert_eq!((result.queue, result.offset), (QueueIndex(0), Some(QueueOffset(0))));
    let state = fake.state();
    assert_eq!((state.queues[&0].len(), state.produces, state.sessions), (1, 2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_of_a_close_is_no_answer_to_what_was_in_flight() {
    for code in [Code::TooSlow, Code::LimitReached, Code::MalformedFrame, Code::Forbidden] {
        let fake = Fake::start(&[0]);
        let client = within(fake.client(1)).await;
        fake.state().mishaps.push_back(Mishap::StoreAndDrop);
        fake.state().close_code = code as u32;
        let producer = client.producer("orders").build().await.unwrap();
        let result = within(producer.send(Message::new("one"))).await;
        assert!(result.is_ok_and(|placement| placement.duplicate), "{code:?}");
        assert_eq!(fake.state().queues[&0].len(), 1, "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_not_welcome_learns_why() {
    for code in [Code::UnknownTenant, Code::Forbidden] {
        let fake = Fake::start(&[0]);
        fake.state().is_unwelcoming = true;
        fake.state().close_code = code as u32;
        let builder = Client::builder().bootstrap([fake.address.to_string()]).tls(fake.tls());
        let error = within(builder.connect()).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_for_good_reach_the_sender() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let producer = client.producer("orders").build().await.unwrap();
    fake.state().mishaps.push_back(Mishap::Refuse(Code::AckUnavailable.into()));
    let error = within(producer.send(Message::new("x"))).await.unwrap_err();
    assert_eq!(error.code, Code::AckUnavailable);
    let error = producer.send(Message::new("x").queue(9)).await.unwrap_err();
    assert_eq!(error.code, Code::QueueOutOfRange);
    let good = within(producer.send(Message::new("y"))).await.unwrap();
    assert_eq!(good.offset, Some(QueueOffset(0)));
    producer.close().await.unwrap();
    assert_eq!(producer.send(Message::new("z")).await.unwrap_err().code, Code::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_silent_gets_few_messages_until_it_answers() {
    let fake = Fake::start(&[0, 1]);
    let client = within(fake.client(1)).await;
    fake.state().silent = Some(ShardId(1));
    let producer = client.producer("orders").delivery_timeout(Duration::from_secs(4));
    let producer = within(producer.build()).await.unwrap();
    let began = Instant::now();
    for _ in 0..40 {
        let sent = within(producer.send("x".into())).await.map(|sent| sent.queue);
        let is_lost = sent.as_ref().is_err_and(|error| error.code == Code::TimedOut);
        assert!(is_lost || sent == Ok(QueueIndex(0)), "{sent:?}");
    }
    // It is left out for a second, then for 2, 4 and so on, each time until one message is lost.
    let tries = 1 + u64::from((1 + began.elapsed().as_secs()).ilog2());
    let unanswered = fake.state().unanswered;
    assert!((1..=tries).contains(&unanswered), "{unanswered} batches instead of {tries}");
    within(client.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_gather_and_flush_ends_a_linger() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let producer = client.producer("orders").linger_ms(60_000).build().await.unwrap();
    let receipts: Vec<_> = (0..100).map(|_| producer.enqueue(Message::new("x"))).collect();
    within(producer.flush()).await.unwrap();
    assert_eq!(fake.state().batch_records, [100]);
    for receipt in receipts {
        receipt.await.unwrap().await.unwrap();
    }
    let tight = client.producer("orders").buffer_bytes(64 << 10).build().await.unwrap();
    for _ in 0..50 {
        // Twenty of them fill the budget; the others wait for room.
        within(tight.enqueue(Message::new(vec![0; 3_000]))).await.unwrap();
    }
    within(client.close()).await;
    assert_eq!(fake.state().queues[&0].len(), 150, "closing flushes");
    assert_eq!(tight.send(Message::new("x")).await.unwrap_err().code, Code::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_received_acked_in_ranges_and_credit_comes_back() {
    let fake = Fake::start(&[0, 0, 1, 1]);
    let client = within(fake.client(2)).await;
    let producer = client.producer("orders").build().await.unwrap();
    for number in 0..400u16 {
        let message =
            Message::new(format!("{number}")).queue(number % 4).tag("t").property("a", "b");
        drop(producer.enqueue(message).await.unwrap());
    }
    within(producer.flush()).await.unwrap();
    let consumer = client.consumer("orders", "billing").start(Start::Earliest);
    let mut consumer = within(consumer.credit(40, 1 << 20).build()).await.unwrap();
    let mut next = [0u64; 4];
    for _ in 0..400 {
        let delivery = within(consumer.recv()).await.unwrap();
        let queue = usize::from(delivery.queue().0);
        assert_eq!(delivery.offset(), QueueOffset(next[queue]), "in order");
        next[queue] += 1;
        assert_eq!((delivery.tag(), delivery.property("a")), ("t", Some("b")));
        assert_eq!((delivery.attempt(), delivery.stored()), (1, Timestamp(5)));
        delivery.ack_later();
        assert_eq!(delivery.ack().await.unwrap_err().code, Code::AlreadySettled);
    }
    within(consumer.close()).await.unwrap();
    let state = fake.state();
    let acked = state.settles.iter().flat_map(|settle| &settle.ranges);
    assert_eq!(acked.map(|range| range.to.0 - range.from.0).sum::<u64>(), 400);
    assert!(state.settles.len() < 200, "{} requests for 400 acks", state.settles.len());
    assert!((10..=40).contains(&state.credits.len()), "{} times credit", state.credits.len());
    assert_eq!(state.unsubscribed, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nack_and_reject_say_so_and_an_ack_is_awaited() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let producer = client.producer("orders").build().await.unwrap();
    for body in ["a", "b", "c"] {
        within(producer.send(Message::new(body).key(body))).await.unwrap();
    }
    let consumer = client.consumer("orders", "g").start(Start::Earliest).build();
    let mut consumer = within(consumer).await.unwrap();
    let first = within(consumer.recv()).await.unwrap();
    within(first.ack()).await.unwrap();
    let second = within(consumer.recv()).await.unwrap();
    within(second.nack(Duration::from_secs(3))).await.unwrap();
    let third = within(consumer.recv()).await.unwrap();
    assert_eq!(third.key(), Some("c"));
    within(third.reject()).await.unwrap();
    let verdicts: Vec<_> = fake.state().settles.iter().map(|s| s.ranges[0].clone()).collect();
    let found: Vec<_> = verdicts.iter().map(|r| (r.verdict, r.delay_ms)).collect();
    let expected = [(Verdict::Ack, None), (Verdict::Nack, Some(3_000)), (Verdict::Reject, None)];
    assert_eq!(found, expected);
    let again = within(consumer.recv()).await.unwrap();
    assert_eq!((again.offset(), again.attempt()), (QueueOffset(1), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_is_refused_holds_back_what_is_behind_it() {
    let fake = Fake::start(&[0]);
    fake.state().is_ordered = true;
    let client = within(fake.client(1)).await;
    let producer = client.producer("orders").build().await.unwrap();
    for body in ["a", "b"] {
        within(producer.send(Message::new(body))).await.unwrap();
    }
    let consumer = client.consumer("orders", "g").start(Start::Earliest).build();
    let mut consumer = within(consumer).await.unwrap();
    let first = within(consumer.recv()).await.unwrap();
    // The second one waits for the answer: given back before, it would come again at once.
    let full = || Mishap::Refuse(Refusal::after(Code::DiskFull, 200, "full"));
    fake.state().mishaps.extend([full(), full()]);
    let (failed, next) = tokio::join!(first.nack(Duration::from_secs(3)), within(consumer.recv()));
    failed.unwrap();
    let next = next.unwrap();
    assert_eq!((next.offset(), next.attempt()), (QueueOffset(0), 2));
    within(next.ack()).await.unwrap();
    assert_eq!(within(consumer.recv()).await.unwrap().offset(), QueueOffset(1));
    let told = fake.state().settles.iter().flat_map(|it| it.ranges.clone()).collect::<Vec<_>>();
    let told = told.iter().map(|range| (range.verdict, range.from.0));
    let (given_back, others) = told.partition::<Vec<_>, _>(|told| *told == (Verdict::Release, 1));
    assert_eq!(given_back.len(), 1, "it is given back once, when the failure is taken in");
    assert_eq!(others, [(Verdict::Nack, 0), (Verdict::Ack, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_subscribes_again_after_a_lost_connection() {
    let fake = Fake::start(&[0, 1]);
    let client = within(fake.client(1)).await;
    let producer = client.producer("orders").build().await.unwrap();
    within(producer.send(Message::new("one").queue(0))).await.unwrap();
    let consumer = client.consumer("orders", "g").start(Start::Earliest).build();
    let mut consumer = within(consumer).await.unwrap();
    let held = within(consumer.recv()).await.unwrap();
    fake.state().mishaps.push_back(Mishap::StoreAndDrop);
    within(producer.send(Message::new("two").queue(1))).await.unwrap();
    assert!(within(held.ack()).await.is_err(), "its lease went with the connection");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let delivery = within(consumer.recv()).await.unwrap();
        within(delivery.ack()).await.unwrap();
        seen.push((delivery.queue().0, delivery.attempt()));
    }
    seen.sort_unstable();
    assert_eq!(seen, [(0, 2), (1, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_topic_has_grown_to_its_group_begins_at_the_first_message() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let _consumer = within(client.consumer("orders", "g").build()).await.unwrap();
    fake.state().shards.push(ShardId(1));
    fake.state().mishaps.push_back(Mishap::StoreAndDrop);
    let producer = client.producer("orders").build().await.unwrap();
    within(producer.send(Message::new("one").queue(0))).await.unwrap();
    within(async {
        while fake.state().subscribes.len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let found: Vec<_> =
        fake.state().subscribes.iter().map(|s| (s.shard.0, s.start.clone())).collect();
    let (latest, earliest) = (requests::Start::Latest, requests::Start::Earliest);
    assert_eq!(found, [(0, latest.clone()), (0, latest), (1, earliest)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_run_side_by_side_and_their_results_settle() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let producer = client.producer("orders").build().await.unwrap();
    for number in 0..50 {
        within(producer.send(Message::new(format!("{number}")))).await.unwrap();
    }
    let mut consumer = client.consumer("orders", "g").start(Start::Earliest).build().await.unwrap();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handled = Arc::new(AtomicUsize::new(0));
    let run = consumer.run(8, |delivery| {
        let (running, most, handled) = (running.clone(), most.clone(), handled.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            if delivery.offset() == QueueOffset(3) && delivery.attempt() == 1 {
                return Err("not now");
            }
            handled.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let close = async {
        while handled.load(Ordering::SeqCst) < 50 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.close().await;
    };
    let (ran, ()) = within(async { tokio::join!(run, close) }).await;
    ran.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 8);
    let state = fake.state();
    let nacks = state.settles.iter().flat_map(|s| &s.ranges).filter(|r| r.verdict == Verdict::Nack);
    assert_eq!(nacks.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_by_offset_and_starting_by_time() {
    let fake = Fake::start(&[0, 0]);
    let client = within(fake.client(1)).await;
    let producer = client.producer("orders").build().await.unwrap();
    for number in 0..100 {
        drop(producer.enqueue(Message::new(format!("{number}")).queue(1)).await.unwrap());
    }
    producer.flush().await.unwrap();
    let fetched = client.fetch("orders", QueueIndex(1), QueueOffset(98), 10).await.unwrap();
    assert_eq!((fetched.records.len(), fetched.end), (2, QueueOffset(100)));
    let beyond = client.fetch("orders", QueueIndex(2), QueueOffset(0), 1).await.unwrap_err();
    assert_eq!(beyond.code, Code::QueueOutOfRange);
    // The fake stores one message every ten milliseconds and ignores where a group begins.
    let consumer = client.consumer("orders", "g").start(Start::Time(Timestamp(555)));
    within(consumer.build()).await.unwrap();
    let found = [(QueueIndex(0), QueueOffset(0)), (QueueIndex(1), QueueOffset(56))];
    assert_eq!(fake.state().subscribes[0].start, requests::Start::Offsets(found.to_vec()));
}

/// Passes datagrams between one client and whatever broker `target` names at the moment.
async fn relay(outside: tokio::net::UdpSocket, target: Arc<Mutex<SocketAddr>>) {
    let inside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut there, mut back) = ([0; 2_048], [0; 2_048]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((length, from)) = outside.recv_from(&mut there) => {
                client = Some(from);
                let target = *target.lock().unwrap();
                inside.send_to(&there[..length], target).await.unwrap();
            }
            Ok((length, from)) = inside.recv_from(&mut back) => {
                if let Some(client) = client.filter(|_| from == *target.lock().unwrap()) {
                    outside.send_to(&back[..length], client).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_killed_and_came_back_is_noticed_long_before_the_idle_timeout() {
    let fake = Fake::start(&[0]);
    let outside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = outside.local_addr().unwrap().to_string();
    let target = Arc::new(Mutex::new(fake.address));
    tokio::spawn(relay(outside, target.clone()));
    let client = within(Client::builder().bootstrap([address]).tls(fake.tls()).connect());
    let client = client.await.unwrap();
    let producer = client.producer("orders").build().await.unwrap();
    within(producer.send(Message::new("before"))).await.unwrap();
    let restarted = fake.restarted();
    *target.lock().unwrap() = restarted.address;
    let begin = std::time::Instant::now();
    within(producer.send(Message::new("after"))).await.unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(restarted.state().queues[&0].len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_sent_once_and_a_question_again() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let check = async |operation: Operation, calls: u64, expect: Option<Code>| {
        fake.state().mishaps.push_back(Mishap::StoreAndDrop);
        let before = fake.state().calls;
        let result = within(client.admin().call_raw(operation, Default::default())).await;
        assert_eq!(result.err().map(|error| error.code), expect, "{operation:?}");
        assert_eq!(fake.state().calls - before, calls, "{operation:?}");
    };
    check(Operation::TopicCreate, 1, Some(Code::Disconnected)).await;
    check(Operation::TopicRm, 1, Some(Code::Disconnected)).await;
    check(Operation::TopicLs, 2, None).await;
    check(Operation::BrokerInfo, 2, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_frame_can_carry_is_refused_here_and_the_connection_goes_on() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let admin = client.admin();
    let large = "x".repeat(10 << 20);
    let check = |result: Result<(), Error>, expect: Code| {
        let error = result.unwrap_err();
        assert_eq!(error.code, expect, "{error}");
        assert!(error.detail.ends_with("the request was not sent"), "{error}");
    };
    let set = TopicSet { name: "orders".into(), note: Some(large.clone()), ..TopicSet::default() };
    check(within(admin.call(set)).await.map(drop), Code::FrameTooLarge);
    // An operation that is asked again while that may help.
    let info = TopicInfo { name: large };
    check(within(admin.call(info)).await.map(drop), Code::FrameTooLarge);
    let wasm = Blob(vec![0; 6 << 20].into());
    let push = PluginPush { wasm, ..PluginPush::default() };
    check(within(admin.call(push)).await.map(drop), Code::PluginTooLarge);
    assert_eq!(fake.state().calls, 0, "the broker saw none of them");
    within(admin.call_raw(Operation::TopicLs, Default::default())).await.unwrap();
    let state = fake.state();
    assert_eq!((state.calls, state.hellos.len()), (1, 1), "over the same connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_waits_for_a_plugin_to_be_compiled_is_sent_again() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let compiling = Refusal::after(Code::PluginCompiling, 1, "the plugin is being compiled");
    fake.state().mishaps.extend([Mishap::Refuse(compiling.clone()), Mishap::Refuse(compiling)]);
    let admin = client.admin();
    within(admin.call_raw(Operation::TopicCreate, Default::default())).await.unwrap();
    assert_eq!(fake.state().calls, 3);
    let busy = Refusal::after(Code::Busy, 1, "the queue is full");
    fake.state().mishaps.push_back(Mishap::Refuse(busy));
    let error = within(admin.call_raw(Operation::TopicCreate, Default::default())).await;
    assert_eq!(error.unwrap_err().code, Code::Busy, "a change is the caller's to repeat");
}

/// Waits for something that the broker has seen.
async fn seen<T>(fake: &Fake, mut look: impl FnMut(&fake::State) -> Option<T>) -> T {
    within(async {
        loop {
            if let Some(found) = look(&fake.state()) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

/// How often the lease of an offset was extended.
fn extended(state: &fake::State, offset: u64) -> usize {
    let ranges = state.extends.iter().flat_map(|extend| &extend.ranges);
    ranges.filter(|range| (range.from.0..range.to.0).contains(&offset)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_extended_for_as_long_as_somebody_works() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let producer = within(client.producer("orders").build()).await.unwrap();
    for text in ["first", "second", "third"] {
        within(producer.send(text.into())).await.unwrap();
    }
    let builder = client.consumer("orders", "g").start(Start::Earliest);
    let builder = builder.lease(Duration::from_secs(1));
    let mut consumer = within(builder.build()).await.unwrap();
    let first = within(consumer.recv()).await.unwrap();
    let second = within(consumer.recv()).await.unwrap();
    let kept = first.keep();
    seen(&fake, |state| (extended(state, 0) >= 2).then_some(())).await;
    drop(kept);
    // Whatever was on its way is there when the second one is extended twice.
    let kept = second.keep();
    seen(&fake, |state| (extended(state, 1) >= 1).then_some(())).await;
    let before = extended(&fake.state(), 0);
    seen(&fake, |state| (extended(state, 1) >= 3).then_some(())).await;
    assert_eq!(extended(&fake.state(), 0), before, "nobody works on it any more");
    drop(kept);
    // The handler ends when its lease was extended, which nobody asked for.
    let handled = within(async {
        let handle = |delivery: yard_client::Delivery| {
            let fake = fake.clone();
            async move {
                assert_eq!(delivery.offset(), QueueOffset(2));
                seen(&fake, |state| (extended(state, 2) >= 1).then_some(())).await;
                Ok::<(), String>(())
            }
        };
        tokio::select! {
            ended = consumer.run(1, handle) => panic!("it ended: {ended:?}"),
            () = seen(&fake, |state| {
                let ranges = state.settles.iter().flat_map(|settle| &settle.ranges);
                ranges.into_iter().any(|range| range.to == QueueOffset(3)).then_some(())
            }) => {}
        }
    });
    handled.await;
    assert!(fake.state().extends.iter().all(|extend| extend.lease_ms == 1_000));
    within(client.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_settled_as_such_and_handed_to_nobody() {
    let fake = Fake::start(&[0]);
    let client = within(fake.client(1)).await;
    let producer = within(client.producer("orders").build()).await.unwrap();
    for text in ["gone", "there", "gone, too"] {
        let message = Message::from(text);
        let message = match text {
            "there" => message.expires_after(Duration::from_secs(3_600)),
            _ => message.expires_at(std::time::SystemTime::UNIX_EPOCH),
        };
        within(producer.send(message)).await.unwrap();
    }
    let mut consumer =
        within(client.consumer("orders", "g").start(Start::Earliest).build()).await.unwrap();
    let delivery = within(consumer.recv()).await.unwrap();
    assert_eq!(delivery.body().unwrap(), "there");
    within(delivery.ack()).await.unwrap();
    within(producer.send("last".into())).await.unwrap();
    assert_eq!(within(consumer.recv()).await.unwrap().body().unwrap(), "last");
    let expired = seen(&fake, |state| {
        let ranges = state.settles.iter().flat_map(|settle| &settle.ranges);
        let expired = ranges.filter(|range| range.verdict == Verdict::Expire);
        let offsets: Vec<u64> = expired.flat_map(|range| range.from.0..range.to.0).collect();
        (offsets.len() >= 2).then_some(offsets)
    });
    assert_eq!(expired.await, [0, 2]);
    within(client.close()).await;
}
