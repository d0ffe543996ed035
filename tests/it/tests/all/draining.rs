//! A backlog that is passed on to a wider topic, there and back, by the shipped client.
use std::time::Duration;

use yard_it::backlog::{Backlog, run};
use yard_it::{Server, ServerOptions, yard};

#[tokio::test(flavor = "multi_thread")]
async fn consumers_follow_their_group_to_a_wider_topic_and_back_in_order() {
    let options = ServerOptions { shards: 2, ..ServerOptions::new(yard::locate(None).unwrap()) };
    let server = Server::start(options).await.unwrap();
    let backlog = Backlog {
        messages: 2_000,
        keys: 100,
        queues: 4,
        times: 4,
        handler: Duration::from_millis(1),
        before: Duration::from_millis(200),
        live: 200,
    };
    let found = run(&server, &backlog).await.unwrap();
    assert!(found.is_good(&backlog), "{found}");
    assert!(found.moved > 0, "{found}");
}
