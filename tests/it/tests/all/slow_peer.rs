//! Peers that take their time: the broker waits for so long and no longer. These tests use real
//! time, some seconds of it.
use std::time::{Duration, Instant};

use yard_client::Code;
use yard_client::wire::frame::{Preamble, Role};
use yard_client::wire::request::Request;
use yard_client::wire::requests::Hello;
use yard_it::raw::{Raw, RawStream, RawWindows, request_bytes};

use super::local::*;

/// Sends a byte a second until the connection ends; its code, and how long it took since `began`.
async fn drip(
    (raw, began): (&Raw, Instant),
    stream: &mut RawStream,
    bytes: &[u8],
) -> (Option<Code>, Duration) {
    for byte in bytes {
        stream.send(&[*byte]).await;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = raw.connection.closed() => break,
        }
    }
    (raw.closed().await.unwrap(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_a_second_is_too_slow() {
    let broker = Broker::start().await;
    let context = broker.context();
    let hello = Request::Hello(Hello {
        client: "slow".to_owned(),
        library: "slow".to_owned(),
        features: 0,
    });
    let preamble = Preamble { role: Role::Control, lane: 0 }.encode();
    let hello = [&preamble[..], &request_bytes(1, &hello)].concat();
    let greeting = async {
        let began = Instant::now();
        let raw = Raw::connect(&context, RawWindows::default()).await.unwrap();
        let mut stream = raw.open(&[]).await.unwrap();
        drip((&raw, began), &mut stream, &hello).await
    };
    let asking = async {
        let raw = Raw::connect(&context, RawWindows::default()).await.unwrap();
        let (_control, mut data, _) = raw.welcomed().await.unwrap();
        drip((&raw, Instant::now()), &mut data, &hello[8..]).await
    };
    let silent = async {
        // The broker begins to count before the connection is known here.
        let began = Instant::now();
        let raw = Raw::connect(&context, RawWindows::default()).await.unwrap();
        (raw.closed().await.unwrap(), began.elapsed())
    };
    let working = async {
        // Others are served meanwhile.
        let client = broker.client().await;
        create(&client, "orders", 1).await;
        send_all(&client, "orders", numbered(100)).await;
        client.close().await;
    };
    let (greeting, asking, silent, ()) = tokio::join!(greeting, asking, silent, working);
    for (what, (code, took)) in [("greeting", greeting), ("asking", asking), ("silent", silent)] {
        assert_eq!(code, Some(Code::TooSlow), "{what}");
        // All of it would take 20 seconds and more; the deadlines are 2 and 5.
        assert!(took >= Duration::from_millis(1_500), "{what}: not after {took:?}");
        assert!(took < Duration::from_secs(15), "{what}: after {took:?} only");
    }
}
