//! Groups that go on from elsewhere: with and without members, planned, done and read back.
use yard_client::wire::{QueueIndex, QueueOffset, Timestamp};
use yard_client::{Client, Code, Message, SeekPlan, SeekReport, SeekTo};
use yard_it::yard;

use super::local::*;

const QUEUES: u16 = 4;
const EACH: usize = 10;

/// Ten messages in each queue, half of them before the instant that is returned.
async fn fill(client: &Client) -> Timestamp {
    create(client, "orders", QUEUES).await;
    let mut middle = Timestamp(0);
    for number in 0..EACH {
        for queue in 0..QUEUES {
            let body = format!("{queue}/{number}").into_bytes();
            send_all(client, "orders", vec![Message::new(body).queue(queue)]).await;
        }
        if number == EACH / 2 - 1 {
            // So that what follows is stored in a later millisecond.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let last = QueueIndex(QUEUES - 1);
            let fetched = client.fetch("orders", last, QueueOffset(4), 1).await.unwrap();
            middle = fetched.records[0].stored.plus_ms(1);
        }
    }
    middle
}

async fn seek(client: &Client, group: &str, to: SeekTo) -> (SeekPlan, SeekReport) {
    let admin = client.admin();
    let plan = admin.plan_seek("orders", group, &to).await.unwrap();
    let report = admin.seek_group(&plan).await.unwrap();
    assert_eq!(report.matched(), plan.queues.len());
    assert_eq!((report.done(), report.failed()), (plan.queues.len(), 0), "{report:?}");
    // Also with members: none of them settles anything before it is told to.
    for queue in &report.queues {
        assert_eq!(queue.found, Some(queue.planned.to), "{queue:?}");
    }
    (plan, report)
}

async fn where_is(client: &Client, name: &str) -> Vec<u64> {
    group(client, name).await.queues.iter().map(|row| row.settled_below.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_where_it_is_sent_queue_by_queue() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    let middle = fill(&client).await;
    let mut orders = consumer(&client, "orders", "g").await;
    take(&mut orders, EACH * usize::from(QUEUES)).await;
    orders.close().await.unwrap();
    settled(&client, "g").await;
    let admin = client.admin();
    let plan = admin.plan_seek("orders", "g", &SeekTo::Offset(QueueOffset(3))).await.unwrap();
    assert!(plan.exists && plan.members == 0 && plan.queues.len() == usize::from(QUEUES));
    assert!(plan.queues.iter().all(|queue| (queue.before.0, queue.to.0) == (10, 3)));
    assert_eq!(where_is(&client, "g").await, [10; 4], "a plan changes nothing");
    seek(&client, "g", SeekTo::Offset(QueueOffset(3))).await;
    assert_eq!(where_is(&client, "g").await, [3; 4]);
    seek(&client, "g", SeekTo::Time(middle)).await;
    assert_eq!(where_is(&client, "g").await, [5; 4]);
    seek(&client, "g", SeekTo::Skip(2)).await;
    assert_eq!(where_is(&client, "g").await, [7; 4]);
    seek(&client, "g", SeekTo::Skip(200)).await;
    assert_eq!(where_is(&client, "g").await, [10; 4], "to the end and no further");
    let one = vec![(QueueIndex(2), QueueOffset(8))];
    assert_eq!(seek(&client, "g", SeekTo::Offsets(one)).await.0.queues.len(), 1);
    assert_eq!(where_is(&client, "g").await, [10, 10, 8, 10]);
    // One that does not exist takes over where another is.
    let (plan, _) = seek(&client, "clone", SeekTo::Like("g".into())).await;
    assert!(!plan.exists);
    assert_eq!(where_is(&client, "clone").await, [10, 10, 8, 10]);
    let mut clone = consumer(&client, "orders", "clone").await;
    assert_eq!(texts(&take(&mut clone, 2).await), ["2/8", "2/9"]);
    settled(&client, "clone").await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_members_goes_back_and_its_members_go_on_by_themselves() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    fill(&client).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let total = EACH * usize::from(QUEUES);
    let held = next(&mut orders).await;
    let before = take(&mut orders, total - 1).await;
    let (plan, report) = seek(&client, "g", SeekTo::Earliest).await;
    assert_eq!((plan.members, report.ended), (2, 2), "one subscription a shard");
    // What was delivered before settles nothing any more.
    let error = held.ack().await.unwrap_err();
    let gone = [Code::GroupMoved, Code::UnknownSubscription, Code::Closed];
    assert!(gone.contains(&error.code), "{error}");
    let again = take(&mut orders, total).await;
    assert_eq!(before.len(), total - 1);
    assert_eq!(texts(&again).len(), total);
    assert!(again.iter().all(|delivery| delivery.attempt() == 1), "they count anew");
    settled(&client, "g").await;
    // Forward, over what nobody has handled.
    send_all(&client, "orders", vec![Message::new("new").queue(0)]).await;
    assert_eq!(text(&next(&mut orders).await), "new");
    seek(&client, "g", SeekTo::Latest).await;
    settled(&client, "g").await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_group_cannot_go_it_is_not_sent() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    fill(&client).await;
    let admin = client.admin();
    let check = async |topic: &str, group: &str, to: SeekTo, code: Code| {
        refused(admin.plan_seek(topic, group, &to).await, code);
    };
    check("orders", "g", SeekTo::Offset(QueueOffset(11)), Code::SeekBeyondEnd).await;
    let far = vec![(QueueIndex(9), QueueOffset(0))];
    check("orders", "g", SeekTo::Offsets(far), Code::QueueOutOfRange).await;
    check("none", "g", SeekTo::Earliest, Code::UnknownTopic).await;
    check("orders", "g", SeekTo::Like("other".into()), Code::UnknownGroup).await;
    check("orders", "a/b", SeekTo::Earliest, Code::BadName).await;
    // A plan that has become wrong is refused by the broker, queue by queue.
    let mut plan = admin.plan_seek("orders", "g", &SeekTo::Earliest).await.unwrap();
    plan.queues[1].to = QueueOffset(99);
    let report = admin.seek_group(&plan).await.unwrap();
    assert_eq!((report.done(), report.failed()), (0, 4), "one shard, one request");
    let codes = report.queues.iter().map(|queue| queue.error.as_ref().unwrap().code);
    assert!(codes.into_iter().all(|code| code == Code::SeekBeyondEnd));
    refused(admin.call(group_info("g")).await, Code::UnknownGroup);
    client.close().await;
}

fn group_info(name: &str) -> yard_client::wire::operation::GroupInfo {
    yard_client::wire::operation::GroupInfo { name: name.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_shows_the_plan_and_what_it_read_back() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    fill(&client).await;
    let context = broker.data().join("context.toml");
    let program = yard::locate(None).unwrap();
    let run = |line: &str| {
        let mut command = yard::command(&program, &context);
        command.args(line.split(' '));
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let json = |output: &std::process::Output| -> serde_json::Value {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {error}"))
    };
    let planned = run("group seek g orders --to 4 --plan -o json").await.unwrap();
    let planned = json(&planned);
    assert_eq!(planned["exists"], false);
    assert_eq!(planned["queues"][3]["to"], 4);
    assert_eq!(planned["queues"][3]["skipped"], 4);
    refused(client.admin().call(group_info("g")).await, Code::UnknownGroup);
    let done = json(&run("group seek g orders --to 4 --queue 3 -o json").await.unwrap());
    assert_eq!(
        (&done["matched"], &done["done"], &done["failed"]),
        (&1.into(), &1.into(), &0.into())
    );
    assert_eq!(done["queues"][0]["found"], 4);
    assert_eq!(where_is(&client, "g").await, [0, 0, 0, 4]);
    let both = run("group seek g orders --to 4 --skip 1").await.unwrap();
    assert_eq!(both.status.code(), Some(2));
    let beyond = run("group seek g orders --to 400").await.unwrap();
    let error = String::from_utf8_lossy(&beyond.stderr).into_owned();
    assert!(beyond.status.code() == Some(1) && error.contains("E0227"), "{error}");
    client.close().await;
}
