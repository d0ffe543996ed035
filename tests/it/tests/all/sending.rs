//! Ways to send: packed, by priority, one way, with an expiry; and requests with their replies.
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use yard_client::compress::{Algorithm, plain_body};
use yard_client::wire::batch::{self, BatchHeader};
use yard_client::wire::operation::TopicLs;
use yard_client::wire::record::{Record, RecordParts};
use yard_client::wire::{
    Epoch, Lane, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, TopicId,
};
use yard_client::{
    Broadcast, Client, Code, Compression, Message, Start, TraceContext, TracePropagator,
};
use yard_it::raw::{Answer, Raw, RawWindows, produce};
use yard_it::wait::{until, within};
use yard_it::yard;

use super::local::*;

/// A text that becomes smaller, and its bytes as they are stored.
async fn stored(client: &Client, topic: &str) -> Record {
    let fetched = client.fetch(topic, QueueIndex(0), QueueOffset(0), 1).await.unwrap();
    Record::parse(fetched.records[0].record.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_arrive_as_they_were_and_are_stored_as_they_came() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let text: String = (0..20_000).map(|n| format!("line {n}; ")).collect();
    for algorithm in Algorithm::ALL {
        let topic = algorithm.text();
        create(&client, topic, 1).await;
        let compression = Compression::new(*algorithm);
        let producer = client.producer(topic).compress(compression).build().await.unwrap();
        let sent = producer.send(Message::new(text.clone().into_bytes()).key("k")).await.unwrap();
        producer.send(Message::new("short")).await.unwrap();
        let record = stored(&client, topic).await;
        assert!(record.body_bytes() < text.len() / 2, "{algorithm}: {}", record.body_bytes());
        assert_eq!(plain_body(&record).unwrap(), text.as_bytes());
        let mut consumer = consumer(&client, topic, "g").await;
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.id(), delivery.key()), (sent.id, Some("k")));
        assert_eq!(delivery.body().unwrap(), text.as_bytes());
        assert_eq!(delivery.record().body(), record.body(), "the bytes that are stored");
        delivery.ack().await.unwrap();
        assert_eq!(text_of_next(&mut consumer).await, "short");
    }
    client.close().await;
}

async fn text_of_next(consumer: &mut yard_client::Consumer) -> String {
    let delivery = next(consumer).await;
    delivery.ack().await.unwrap();
    text(&delivery)
}

/// Stores a record that no client of ours would make.
async fn store(broker: &Broker, topic: TopicId, encoding: &str, body: &[u8], sequence: u64) {
    let properties = [("$enc", encoding)];
    let parts = RecordParts { topic, properties: &properties, body, ..RecordParts::default() };
    let mut record = Vec::new();
    parts.encode(&mut record).unwrap();
    let (producer, epoch, lane) = (ProducerId(77), Epoch(0), Lane(0));
    let sequence = Sequence(sequence);
    let header = BatchHeader { producer, epoch, lane, shard: ShardId(0), sequence };
    let raw = Raw::connect(&broker.context(), RawWindows::default()).await.unwrap();
    let (_control, mut data, _) = raw.welcomed().await.unwrap();
    let answer = data.ask(5, &produce(batch::encode(&header, 1, &record))).await.unwrap();
    assert!(matches!(answer, Answer::Reply(_)), "{answer:?}");
    raw.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_unpacked_is_an_error_of_that_message_only() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let topic = create(&client, "orders", 1).await.id;
    store(&broker, topic, "zstd 4194304", &[0; 40], 0).await;
    store(&broker, topic, "brotli 10", b"whatever", 1).await;
    store(&broker, topic, "lz4 100", b"no lz4 block", 2).await;
    send_all(&client, "orders", vec!["good".into()]).await;
    let mut orders = consumer(&client, "orders", "g").await;
    for code in [Code::UnpackedTooLarge, Code::BadEncoding, Code::BadEncoding] {
        let delivery = next(&mut orders).await;
        refused(delivery.body(), code);
        delivery.reject().await.unwrap();
    }
    assert_eq!(text_of_next(&mut orders).await, "good");
    let report = settled(&client, "g").await;
    assert_eq!(report.queues[0].rejected, 3);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_chosen_by_priority_by_name_and_by_a_selector() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "orders", 10).await;
    let producer = client.producer("orders").build().await.unwrap();
    for priority in 0..=9 {
        let sent = producer.send(Message::new("x").priority(priority)).await.unwrap();
        assert_eq!(sent.queue, QueueIndex(priority.into()));
    }
    let message = Message::new("x").priority(9).queue(0);
    assert_eq!(producer.send(message).await.unwrap().queue, QueueIndex(0));
    refused(producer.send(Message::new("x").priority(10)).await, Code::BadArgument);
    refused(producer.send(Message::new("x").tag("a|b")).await, Code::BadTag);
    let by_length = |message: &Message, queues: u16| message.body().len() as u16 % queues;
    let selecting = client.producer("orders").selector(by_length).build().await.unwrap();
    let sent = selecting.send(Message::new("123456789012345").key("k")).await.unwrap();
    assert_eq!(sent.queue, QueueIndex(5));
    assert_eq!(selecting.send(Message::new("123").queue(9)).await.unwrap().queue.0, 9);
    let beyond = client.producer("orders").selector(|_, queues| queues).build().await.unwrap();
    refused(beyond.send("x".into()).await, Code::QueueOutOfRange);
    let mut orders = consumer(&client, "orders", "g").await;
    let taken = take(&mut orders, 13).await;
    let highest = taken.iter().filter_map(|delivery| delivery.priority()).max();
    assert_eq!(highest, Some(9));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_one_way_arrives_or_is_refused_at_once() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let producer = client.producer("orders").buffer_bytes(64 << 10);
    // It lingers until it is flushed, so nothing is answered before.
    let producer = producer.linger_ms(3_600_000).build().await.unwrap();
    let mut ids = Vec::new();
    for number in 0..200 {
        match producer.send_one_way(Message::new(vec![number; 4_000])) {
            Ok(id) => ids.push(id),
            Err(error) => assert_eq!(error.code, Code::BufferFull, "{error}"),
        }
    }
    assert!((15..=16).contains(&ids.len()), "as many as there is room for: {}", ids.len());
    producer.flush().await.unwrap();
    let mut orders = consumer(&client, "orders", "g").await;
    let taken = take(&mut orders, ids.len()).await;
    assert_eq!(taken.iter().map(|delivery| delivery.id()).collect::<Vec<_>>(), ids);
    refused(producer.send_one_way(Message::new("").queue(7)), Code::QueueOutOfRange);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_passed_over_and_counted() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let producer = client.producer("orders").build().await.unwrap();
    let message =
        |text: &str, ms: u64| Message::from(text).expires_after(Duration::from_millis(ms));
    producer.send(message("old", 1)).await.unwrap();
    producer.send(message("fresh", 3_600_000)).await.unwrap();
    producer.send(message("older", 1)).await.unwrap();
    producer.send("last".into()).await.unwrap();
    // Until they have expired by anybody's clock.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let fresh = next(&mut orders).await;
    assert_eq!((text(&fresh), fresh.offset()), ("fresh".to_owned(), QueueOffset(1)));
    assert!(fresh.expires().is_some());
    fresh.ack().await.unwrap();
    assert_eq!(text_of_next(&mut orders).await, "last");
    let report = settled(&client, "g").await;
    let queue = &report.queues[0];
    assert_eq!((queue.expired, queue.rejected, queue.settled_below.0), (2, 0, 4));
    client.close().await;
}

/// Answers requests for ever: in capitals, or with an error for `fail`.
fn serve(client: Client) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut requests = consumer(&client, "questions", "service").await;
        while let Ok(request) = requests.recv().await {
            assert!(request.wants_reply() && request.expires().is_some());
            let body = text(&request);
            let replied = match body.as_str() {
                "fail" => client.reply_failed(&request, "it cannot be done").await,
                "ignore" => {
                    request.ack().await.unwrap();
                    continue;
                }
                _ => client.reply(&request, Message::new(body.to_uppercase())).await,
            };
            replied.unwrap();
            request.ack().await.unwrap();
        }
    })
}

async fn inboxes(client: &Client) -> usize {
    let topics = client.admin().call(TopicLs {}).await.unwrap();
    topics.iter().filter(|row| row.name.starts_with("yard-inbox.")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_their_replies_and_leave_nothing_behind() {
    let broker = Broker::with_shards(2).await;
    let (client, service) = (broker.client().await, broker.client().await);
    create(&client, "questions", 4).await;
    let server = serve(service.clone());
    let ask = |text: String| {
        let client = client.clone();
        async move {
            let timeout = yard_it::wait::PATIENCE;
            client.request("questions", Message::new(text.into_bytes()), timeout).await
        }
    };
    let asking = (0..50).map(|n| tokio::spawn(ask(format!("question {n}"))));
    let asking: Vec<_> = asking.collect();
    for (n, asked) in asking.into_iter().enumerate() {
        let response = within("a reply", asked).await.unwrap().unwrap().unwrap();
        assert_eq!(response.body(), &format!("QUESTION {n}").into_bytes());
    }
    let error = refused(ask("fail".into()).await, Code::RequestFailed);
    assert_eq!(error.detail, "it cannot be done");
    let short = Duration::from_millis(50);
    refused(client.request("questions", "ignore".into(), short).await, Code::TimedOut);
    refused(client.request("nowhere", "x".into(), short * 100).await, Code::UnknownTopic);
    assert_eq!(inboxes(&service).await, 1, "one for the client, whatever it asks");
    client.close().await;
    assert_eq!(inboxes(&service).await, 0);
    service.close().await;
    within("the end of the service", server).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_needs_a_request_and_somebody_who_waits() {
    let broker = Broker::start().await;
    let (asker, service) = (broker.client().await, broker.client().await);
    create(&asker, "questions", 1).await;
    send_all(&asker, "questions", vec!["no request".into()]).await;
    let mut questions = consumer(&service, "questions", "g").await;
    let plain = next(&mut questions).await;
    assert!(!plain.wants_reply());
    refused(service.reply(&plain, "x".into()).await, Code::BadArgument);
    let asking = tokio::spawn({
        let asker = asker.clone();
        async move { asker.request("questions", "x".into(), yard_it::wait::PATIENCE).await }
    });
    let request = next(&mut questions).await;
    asker.close().await;
    refused(within("the end", asking).await.unwrap().unwrap(), Code::Closed);
    refused(service.reply(&request, "late".into()).await, Code::UnknownTopic);
    service.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_a_broadcast_gets_every_message() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "news", 2).await;
    let member = |broadcast: Broadcast| {
        client.consumer("news", "readers").start(Start::Earliest).broadcast(broadcast).build()
    };
    let mut one = member(Broadcast::to("one")).await.unwrap();
    let mut two = member(Broadcast::to("two").drop_failed()).await.unwrap();
    send_all(&client, "news", numbered(10)).await;
    let all = texts(&take(&mut one, 10).await);
    let mut seen = 0;
    let running = two.run(1, |_| {
        seen += 1;
        async { Err::<(), &str>("it fails") }
    });
    let failed = async {
        settled(&client, "readers.two").await;
    };
    tokio::select! {
        ended = running => panic!("it ended: {ended:?}"),
        () = failed => {}
    }
    assert_eq!((all.len(), seen), (10, 10), "what failed did not come again");
    drop(one);
    send_all(&client, "news", vec!["later".into()]).await;
    // Under its name it goes on where it was.
    let mut one = member(Broadcast::to("one")).await.unwrap();
    assert_eq!(text_of_next(&mut one).await, "later");
    refused(member(Broadcast::to("a/b")).await.map(drop), Code::BadName);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_program_cannot_print_comes_again_unless_it_drops_that() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "news", 1).await;
    send_all(&client, "news", numbered(1)).await;
    let context = broker.data().join("context.toml");
    let program = yard::locate(None).unwrap();
    let command = |line: String| {
        let mut command = yard::command(&program, &context);
        command.args(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    for (flag, printed) in [("", "000000\n"), (" --drop-failed", "")] {
        let member = format!("member{}", flag.trim());
        let line = format!("sub news --group g --broadcast {member} --from earliest --raw");
        let mut child = command(format!("{line}{flag}")).spawn().unwrap();
        // Nobody reads what it prints.
        drop(child.stdout.take());
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let ended = within("the end of the program", ended).await.unwrap().unwrap();
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!((ended.status.code(), &*error), (Some(0), ""), "it is not its fault");
        let mut again = command(format!("{line} --until-end"));
        let again = tokio::task::spawn_blocking(move || again.output().unwrap());
        let again = within("the end of the program", again).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&again.stdout), printed, "{line}{flag}");
    }
    let alone = command("sub news --group g --drop-failed".to_owned()).output().unwrap();
    let error = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(alone.status.code() == Some(2) && error.contains("drop-failed"), "{error}");
    client.close().await;
}

/// Sends in one trace, and notes which it is to continue.
#[derive(Default)]
struct Tracer {
    continued: Mutex<Vec<(TraceContext, Option<String>)>>,
}

const TRACE: TraceContext = TraceContext { trace_id: 0xabc, span_id: 0xdef, flags: 1 };

impl TracePropagator for Tracer {
    fn context_of(&self, _: &tracing::Span) -> Option<TraceContext> {
        Some(TRACE)
    }

    fn continue_from(&self, _: &tracing::Span, parent: TraceContext, state: Option<&str>) {
        self.continued.lock().unwrap().push((parent, state.map(str::to_owned)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_with_its_message() {
    let broker = Broker::start().await;
    let tracer = Arc::new(Tracer::default());
    let builder = Client::builder().context(broker.context());
    let client = builder.propagate(tracer.clone()).connect().await.unwrap();
    create(&client, "orders", 1).await;
    let own = TraceContext { span_id: 0x123, ..TRACE };
    let broken = Message::new("third").property("traceparent", "nonsense");
    let second = Message::new("second").trace(own).trace_state("congo=t61rcWkgMzE");
    let messages = vec!["first".into(), second, broken];
    send_all(&client, "orders", messages).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let handled = Mutex::new(Vec::new());
    let running = orders.run(1, |delivery| {
        handled.lock().unwrap().push(delivery.trace());
        async { Ok::<(), String>(()) }
    });
    tokio::select! {
        ended = running => panic!("it ended: {ended:?}"),
        _ = settled(&client, "g") => {}
    }
    assert_eq!(*handled.lock().unwrap(), [Some(TRACE), Some(own), None]);
    let state = Some("congo=t61rcWkgMzE".to_owned());
    assert_eq!(*tracer.continued.lock().unwrap(), [(TRACE, None), (own, state)]);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_packs_asks_and_answers() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 10).await;
    let context = broker.data().join("context.toml");
    let program = yard::locate(None).unwrap();
    let run = |words: Vec<String>| {
        let mut command = yard::command(&program, &context);
        command.args(words);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut line = words("pub orders --compress zstd --priority 9 --expires 1h --message");
    line.push("much the same ".repeat(1_000));
    assert!(run(line).await.unwrap().status.success());
    let fetched = client.fetch("orders", QueueIndex(9), QueueOffset(0), 1).await.unwrap();
    let record = Record::parse(fetched.records[0].record.clone()).unwrap();
    assert_eq!(plain_body(&record).unwrap().len(), 14_000);
    assert!(record.body_bytes() < 1_000 && record.property("$expires").is_some());
    let shown = run(words("fetch orders --queue 9 --raw")).await.unwrap();
    assert!(shown.stdout.starts_with(b"much the same much"), "it is shown as it was");
    let bad = run(words("pub orders --compress gzip --message x")).await.unwrap();
    assert_eq!(bad.status.code(), Some(2));

    create(&client, "questions", 1).await;
    let answering = run(words("reply questions --message 42 --count 1"));
    let asked = run(words("request questions how-much --raw --timeout 1m")).await.unwrap();
    let error = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert_eq!((asked.stdout.as_slice(), error.as_str()), (&b"42\n"[..], ""));
    assert!(within("the end of the program", answering).await.unwrap().unwrap().status.success());
    let nobody = run(words("request questions x --timeout 50ms")).await.unwrap();
    let error = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(nobody.status.code() == Some(1) && error.contains("E0802"), "{error}");
    until("inboxes are removed", || async { (inboxes(&client).await == 0).then_some(()) })
        .await
        .unwrap();
    client.close().await;
}
