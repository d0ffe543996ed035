//! Operations: topics, connections, the broker itself.
use yard_client::wire::operation::{
    BrokerInfo, ClientLs, GroupInfo, GroupLs, TenantSet, TopicCreate, TopicInfo, TopicLs, TopicRm,
    TopicSet,
};
use yard_client::{Client, Code, Error};
use yard_it::wait::until;

use super::local::*;

async fn names(client: &Client) -> Vec<String> {
    let rows = client.admin().call(TopicLs {}).await.unwrap();
    let mut names: Vec<String> = rows.into_iter().map(|row| row.name).collect();
    names.sort_unstable();
    names
}

async fn topic_create(client: &Client, name: &str, queues: u16) -> Result<u16, Error> {
    let create = TopicCreate { name: name.to_owned(), queues, ..TopicCreate::default() };
    client.admin().call(create).await.map(|row| row.queues)
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_changed_listed_and_removed() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    let created = create(&client, "orders", 3).await;
    assert_eq!((created.name.as_str(), created.queues), ("orders", 3));
    assert_eq!(topic_create(&client, "orders", 3).await.unwrap(), 3, "the same again is the same");
    refused(topic_create(&client, "orders", 4).await, Code::TopicExists);
    for bad in ["", "a/b", "..", "a b", "a\u{1b}[31m", "é", &"x".repeat(128)] {
        refused(topic_create(&client, bad, 1).await, Code::BadName);
    }
    for queues in [0, 1_025] {
        refused(topic_create(&client, "wide", queues).await, Code::BadArgument);
    }
    assert_eq!(topic_create(&client, "wide", 1_024).await.unwrap(), 1_024);
    assert_eq!(names(&client).await, ["orders", "wide"]);
    let set = async |queues, note: Option<&str>| {
        let (name, note) = ("orders".to_owned(), note.map(str::to_owned));
        client.admin().call(TopicSet { name, queues, note, ..TopicSet::default() }).await
    };
    let changed = set(Some(5), Some("why")).await.unwrap();
    assert_eq!((changed.queues, changed.note.as_str()), (5, "why"));
    refused(set(Some(4), None).await, Code::BadArgument);
    assert_eq!(set(None, None).await.unwrap().note, "why");
    let producer = client.producer("orders").build().await.unwrap();
    for queue in 0..5 {
        let message = yard_client::Message::new("x").queue(queue);
        producer.send(message).await.unwrap();
    }
    let info = async || client.admin().call(TopicInfo { name: "orders".to_owned() }).await;
    let report = info().await.unwrap();
    let ends: Vec<_> = report.queues.iter().map(|row| (row.queue.0, row.messages)).collect();
    assert_eq!(ends, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]);
    assert_eq!((report.messages, report.id), (5, created.id));
    let removed = client.admin().call(TopicRm { name: "orders".to_owned() }).await.unwrap();
    assert_eq!(removed.id, created.id);
    refused(info().await, Code::UnknownTopic);
    refused(producer.send("late".into()).await, Code::UnknownTopic);
    assert_eq!(names(&client).await, ["wide"]);
    // A new topic of the old name is another topic, and empty.
    assert_ne!(create(&client, "orders", 2).await.id, created.id);
    assert_eq!(fetch_all(&client, "orders").await, Vec::<String>::new());
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_a_topic_that_is_removed_is_told() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let mut orders = consumer(&client, "orders", "g").await;
    client.admin().call(TopicRm { name: "orders".to_owned() }).await.unwrap();
    let end = yard_it::wait::within("the end", orders.recv()).await.unwrap();
    refused(end, Code::UnknownTopic);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_on_first_use_where_the_tenant_wants_it() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    refused(client.producer("orders").build().await.map(|_| ()), Code::UnknownTopic);
    let auto = |on| TenantSet {
        name: "default".to_owned(),
        auto_create_topics: Some(on),
        require_signed: None,
    };
    assert!(client.admin().call(auto(true)).await.unwrap().auto_create_topics);
    send_all(&client, "orders", numbered(20)).await;
    let mut orders = consumer(&client, "orders", "g").await;
    assert_eq!(take(&mut orders, 20).await.len(), 20);
    assert_eq!(names(&client).await, ["orders"]);
    client.admin().call(auto(false)).await.unwrap();
    refused(client.producer("others").build().await.map(|_| ()), Code::UnknownTopic);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_groups_and_the_broker_can_be_looked_at() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    let name = "a very special client";
    let builder = yard_client::Client::builder().name(name).context(broker.context());
    let other = builder.connect().await.unwrap();
    let rows = client.admin().call(ClientLs {}).await.unwrap();
    let row = rows.iter().find(|row| row.client == name).unwrap();
    assert_eq!((row.tenant.as_str(), rows.len()), ("default", 2));
    assert!(row.address.starts_with("127.0.0.1:"), "{}", row.address);
    assert!(row.library.starts_with("yard-client"), "{}", row.library);
    other.close().await;
    until("the connection is gone", || async {
        let rows = client.admin().call(ClientLs {}).await.unwrap();
        (rows.len() == 1).then_some(())
    })
    .await
    .unwrap();
    create(&client, "orders", 4).await;
    send_all(&client, "orders", numbered(12)).await;
    let mut orders = consumer(&client, "orders", "g").await;
    take(&mut orders, 12).await;
    settled(&client, "g").await;
    let rows = client.admin().call(GroupLs {}).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].name.as_str(), rows[0].topic.as_str(), rows[0].lag), ("g", "orders", 0));
    let report = group(&client, "g").await;
    assert_eq!((report.queues.len(), report.members.len()), (4, 2), "one member a shard");
    assert_eq!(report.queues.iter().map(|row| row.settled_below.0).sum::<u64>(), 12);
    let missing = client.admin().call(GroupInfo { name: "other".to_owned() }).await;
    refused(missing, Code::UnknownGroup);
    let report = client.admin().call(BrokerInfo {}).await.unwrap();
    assert_eq!((report.connections, report.shards.len()), (1, 2));
    assert_eq!(report.shards.iter().map(|shard| shard.messages).sum::<u64>(), 12);
    for shard in &report.shards {
        assert_eq!((shard.state.as_str(), shard.segments), ("open", 1));
        assert!(shard.appended >= shard.synced && shard.groups > 0, "{shard:?}");
    }
    client.close().await;
}
