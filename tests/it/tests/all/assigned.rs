//! Queues that are read by their numbers, shared out among members by a strategy.
use std::collections::BTreeSet;

use yard_client::assign::{MemberAt, Strategy};
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Code, Message, ReadMessage, Reader};

use super::local::*;

fn members(names: &[&str]) -> Vec<MemberAt> {
    let member = |name: &&str| MemberAt { name: (*name).to_owned(), ..MemberAt::default() };
    names.iter().map(member).collect()
}

fn bodies(messages: &[ReadMessage]) -> Vec<String> {
    let text = |it: &ReadMessage| String::from_utf8(it.record.body().to_vec()).unwrap();
    messages.iter().map(text).collect()
}

async fn read_all(reader: &mut Reader) -> Vec<ReadMessage> {
    let mut all = Vec::new();
    loop {
        let some = reader.read(2).await.unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// Ten messages in each of six queues, `3-7` the eighth of queue 3.
async fn world(client: &Client) {
    create(client, "orders", 6).await;
    let message = |n: u16| Message::new(format!("{}-{}", n % 6, n / 6)).queue(n % 6);
    send_all(client, "orders", (0..60).map(message).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_share_the_queues_of_a_topic_by_a_strategy() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    world(&client).await;
    for strategy in [Strategy::Average, Strategy::Circle, Strategy::ConsistentHash] {
        let (mut queues, mut found) = (0, BTreeSet::new());
        for me in ["a", "b"] {
            let mut reader = client.reader("orders");
            let own = reader.share(strategy, me, &members(&["a", "b"])).await.unwrap();
            queues += own.len();
            let read = read_all(&mut reader).await;
            assert_eq!(read.len(), 10 * own.len(), "{strategy}");
            assert!(read.iter().all(|it| own.contains(&it.queue)), "{strategy}");
            found.extend(bodies(&read));
        }
        assert_eq!((queues, found.len()), (6, 60), "{strategy}: each has one reader");
    }
    let mut reader = client.reader("orders");
    for strategy in [Strategy::Rack, Strategy::Near] {
        let mut two = members(&["a", "b"]);
        assert_eq!(reader.share(strategy, "a", &two).await.unwrap().len(), 3, "{strategy}");
        two[1].rack = "east".to_owned();
        refused(reader.share(strategy, "a", &two).await, Code::UnknownStrategy);
        assert_eq!(reader.places().count(), 3, "nothing has changed");
    }
    refused(reader.share(Strategy::Average, "c", &members(&["a"])).await, Code::BadArgument);
    refused(reader.share(Strategy::Fixed, "a", &members(&["a"])).await, Code::UnknownStrategy);
    refused(client.reader("others").assign(&[QueueIndex(0)]).await, Code::UnknownTopic);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_where_it_was_and_where_it_is_sent() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    world(&client).await;
    let mut reader = client.reader("orders");
    assert_eq!(bodies(&reader.read(5).await.unwrap()), [""; 0], "nothing is assigned");
    reader.assign(&[QueueIndex(1), QueueIndex(4)]).await.unwrap();
    assert_eq!(bodies(&reader.read(2).await.unwrap()), ["1-0", "1-1"]);
    assert_eq!(bodies(&reader.read(2).await.unwrap()), ["4-0", "4-1"]);
    // What it keeps stays where it is, what is new begins at the oldest.
    reader.assign(&[QueueIndex(4), QueueIndex(5)]).await.unwrap();
    let places: Vec<_> = reader.places().map(|(queue, next)| (queue.0, next.0)).collect();
    assert_eq!(places, [(4, 2), (5, 0)]);
    reader.pause(QueueIndex(5)).unwrap();
    reader.seek(QueueIndex(4), QueueOffset(9)).unwrap();
    assert_eq!(bodies(&read_all(&mut reader).await), ["4-9"]);
    reader.resume(QueueIndex(5)).unwrap();
    assert_eq!(read_all(&mut reader).await.len(), 10);
    refused(reader.seek(QueueIndex(1), QueueOffset(0)), Code::QueueOutOfRange);
    refused(reader.assign(&[QueueIndex(6)]).await, Code::QueueOutOfRange);
    assert_eq!(reader.places().count(), 2, "nothing has changed");
    client.close().await;
}
