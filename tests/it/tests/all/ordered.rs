//! Ordered topics and exclusive queues: order while consumers come, go and fail.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use yard_client::wire::operation::{GroupSet, GroupStopped, GroupUnblock, TopicCreate, TopicInfo};
use yard_client::wire::order::{AfterLast, OrderRetry, TopicType, Unblock};
use yard_client::wire::retry::Attempts;
use yard_client::{Client, Code, Message, Start};
use yard_it::wait::{until, within};

use super::local::*;

async fn create_ordered(client: &Client, name: &str, queues: u16, after_last: AfterLast) {
    let create = TopicCreate {
        name: name.to_owned(),
        queues,
        r#type: TopicType::Ordered,
        order_retry: OrderRetry(50),
        after_last,
        ..TopicCreate::default()
    };
    client.admin().call(create).await.unwrap();
}

/// What was handled, in order: order group and number.
type Log = Arc<Mutex<Vec<(String, usize)>>>;

/// Whether each order group was handled in order: nothing before what comes before it, and again
/// only what had been handled. How many were handled again.
fn check_order(log: &[(String, usize)], sent: &BTreeMap<String, Vec<usize>>) -> usize {
    let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
    let mut again = 0;
    for (group, number) in log {
        let place = sent[group].binary_search(number).expect("what was handled was sent");
        let next = reached.entry(group).or_default();
        assert!(place <= *next, "{group}: {number} was handled before what comes before it");
        again += usize::from(place < *next);
        *next = (*next).max(place + 1);
    }
    for (group, numbers) in sent {
        assert_eq!(reached.get(&group[..]), Some(&numbers.len()), "{group}: some are missing");
    }
    again
}

/// Messages `a0 b0 c0 a1 …` of the order groups a, b and c.
fn letters(rounds: usize) -> Vec<Message> {
    let message = |round, group: &str| {
        Message::new(format!("{group}{round}").into_bytes()).order_group(group.to_owned())
    };
    (0..rounds).flat_map(|n| ["a", "b", "c"].map(|group| message(n, group))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_an_order_group_run_one_after_another_and_a_failure_holds_back_its_own_only() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create_ordered(&client, "letters", 1, AfterLast::GoOn).await;
    send_all(&client, "letters", letters(20)).await;
    let mut consumer = consumer(&client, "letters", "g").await;
    let log = Log::default();
    let failed_once = Arc::new(Mutex::new(BTreeSet::new()));
    let running = Arc::new(Mutex::new(BTreeSet::new()));
    let handler = |delivery: yard_client::Delivery| {
        let (log, failed, running) = (log.clone(), failed_once.clone(), running.clone());
        async move {
            let text = text(&delivery);
            let (group, number) = (text[..1].to_owned(), text[1..].parse::<usize>().unwrap());
            assert!(running.lock().unwrap().insert(group.clone()), "two of {group} at once");
            tokio::task::yield_now().await;
            running.lock().unwrap().remove(&group);
            if number % 7 == 3 && failed.lock().unwrap().insert(text.clone()) {
                return Err(format!("{text} fails the first time"));
            }
            log.lock().unwrap().push((group, number));
            Ok(())
        }
    };
    tokio::select! {
        ended = consumer.run(4, handler) => panic!("it ended: {ended:?}"),
        _ = settled(&client, "g") => {}
    }
    let sent = ["a", "b", "c"].map(|group| (group.to_owned(), (0..20).collect()));
    assert_eq!(check_order(&log.lock().unwrap(), &BTreeMap::from(sent)), 0, "each came once");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_group_stops_until_an_operator_acts() {
    let mut broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create_ordered(&client, "letters", 2, AfterLast::Stop).await;
    let info = client.admin().call(TopicInfo { name: "letters".into() }).await.unwrap();
    assert_eq!((info.r#type, info.after_last), (TopicType::Ordered, AfterLast::Stop));
    let max_attempts = Some(Attempts(1));
    let set = GroupSet { name: "g".into(), retry: None, max_attempts };
    client.admin().call(set).await.unwrap();
    let only = |text: &str| Message::new(text.as_bytes().to_vec()).order_group("a").queue(1);
    send_all(&client, "letters", vec![only("first"), only("second")]).await;
    let mut letters = consumer(&client, "letters", "g").await;
    let first = next(&mut letters).await;
    first.nack_because(None, "no").await.unwrap();
    let stopped = || async {
        let asked = GroupStopped { name: "g".into() };
        client.admin().call(asked).await.unwrap()
    };
    let rows = stopped().await;
    let row = (&rows[0].topic[..], rows[0].queue.0, rows[0].offset.0, &rows[0].reason[..]);
    assert_eq!((rows.len(), row, &rows[0].error[..]), (1, ("letters", 1, 0, "failed"), "no"));
    let unblock = |queue, offset, then| GroupUnblock {
        name: "g".into(),
        topic: "letters".into(),
        queue,
        offset,
        then,
    };
    // Of what does not stop anything: its own code, in each place.
    for (queue, offset, code) in
        [(0, 0, Code::UnknownGroup), (1, 1, Code::NotStopped), (2, 0, Code::QueueOutOfRange)]
    {
        let wrong = client.admin().call(unblock(queue, offset, Unblock::Bury)).await;
        let found = wrong.unwrap_err().code;
        assert!(found == code || found == Code::NotStopped, "{queue}/{offset}: {found}");
    }
    letters.close().await.unwrap();
    client.close().await;
    broker.restart().await;
    let client = broker.client().await;
    let mut letters = consumer(&client, "letters", "g").await;
    let done = client.admin().call(unblock(1, 0, Unblock::Retry)).await.unwrap();
    assert!(done.done, "{done:?}");
    let again = next(&mut letters).await;
    assert_eq!((text(&again), again.attempt()), ("first".to_owned(), 2));
    again.nack(None).await.unwrap();
    until("it has stopped again", || async {
        let asked = GroupStopped { name: "g".into() };
        (client.admin().call(asked).await.unwrap().len() == 1).then_some(())
    })
    .await
    .unwrap();
    client.admin().call(unblock(1, 0, Unblock::Bury)).await.unwrap();
    assert_eq!(text(&take(&mut letters, 1).await[0]), "second");
    settled(&client, "g").await;
    letters.close().await.unwrap();
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusive_queues_have_one_consumer_each_and_are_handed_over_when_free() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    let to = |queue: u16| Message::new(queue.to_string().into_bytes()).queue(queue);
    send_all(&client, "orders", (0..4).map(to).collect()).await;
    let exclusive = |name: &str| {
        let builder = client.consumer("orders", "g").start(Start::Earliest).name(name.to_owned());
        builder.exclusive().build()
    };
    let mut first = exclusive("a").await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(next(&mut first).await);
    }
    let shared = client.consumer("orders", "g").build().await;
    refused(shared.map(|_| ()), Code::OtherMode);
    let mut second = exclusive("b").await.unwrap();
    send_all(&client, "orders", (0..4).map(to).collect()).await;
    // Queues that stay go on at once; the others wait for what the first still has of them.
    let mut kept = BTreeSet::new();
    for _ in 0..2 {
        let delivery = next(&mut first).await;
        kept.insert(delivery.queue());
        delivery.ack().await.unwrap();
    }
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    let moved: BTreeSet<_> = take(&mut second, 2).await.iter().map(|it| it.queue()).collect();
    assert_eq!((kept.len(), moved.len()), (2, 2));
    assert!(kept.is_disjoint(&moved), "{kept:?} {moved:?}");
    settled(&client, "g").await;
    within("the end", first.close()).await.unwrap().unwrap();
    send_all(&client, "orders", (0..4).map(to).collect()).await;
    assert_eq!(take(&mut second, 4).await.len(), 4, "all queues are the other's now");
    settled(&client, "g").await;
    second.close().await.unwrap();
    client.close().await;
}
