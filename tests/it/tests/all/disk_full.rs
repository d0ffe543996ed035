//! A disk that is full: publishing is refused with its code, everything else goes on, and when
//! there is space again publishing resumes by itself.
//!
//! The disk is a small tmpfs, which only root may mount.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use yard_client::wire::batch::{self, BatchHeader};
use yard_client::wire::operation::BrokerInfo;
use yard_client::wire::request::Reply;
use yard_client::wire::{Code, ProducerId, Sequence, TopicId};
use yard_client::{Client, Message};
use yard_it::raw::{Answer, Raw, RawStream, RawWindows, produce, record};
use yard_it::wait::{PATIENCE, within};
use yard_it::{Scratch, Server, ServerOptions, yard};

use super::local::*;

const DISK_BYTES: u64 = 96 << 20;
const BALLAST_BYTES: usize = 48 << 20;
const SEGMENT_BYTES: u64 = 4 << 20;
const BODY_BYTES: usize = 64 << 10;
/// A refusal that waits for nothing: it takes microseconds, on the slowest machine less than this.
const QUICK: Duration = Duration::from_secs(1);

/// A small disk, gone when this is dropped.
struct Disk {
    path: PathBuf,
    _scratch: Scratch,
}

impl Disk {
    fn mount() -> Result<Self, String> {
        let scratch = Scratch::new("disk").unwrap();
        let path = scratch.path().join("disk");
        fs::create_dir(&path).unwrap();
        let size = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path);
        match mount.output() {
            Ok(done) if done.status.success() => Ok(Self { path, _scratch: scratch }),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open must not keep the mount for ever.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Sends numbered batches of one message each, without a client that would try again by itself.
struct Publisher {
    data: RawStream,
    topic: TopicId,
    next: u64,
}

impl Publisher {
    fn body(number: u64) -> Vec<u8> {
        let mut body = vec![0; BODY_BYTES];
        body[..8].copy_from_slice(&number.to_le_bytes());
        body
    }

    async fn publish(&mut self) -> Result<(), Code> {
        let record = record(self.topic, 0, &Self::body(self.next)).unwrap();
        let header = BatchHeader {
            producer: ProducerId(11),
            sequence: Sequence(self.next),
            ..BatchHeader::default()
        };
        let batch: Bytes = batch::encode(&header, 1, &record);
        match self.data.ask(self.next + 1, &produce(batch)).await.unwrap() {
            Answer::Reply(Reply::Produce(_)) => {
                self.next += 1;
                Ok(())
            }
            Answer::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }
}

async fn state(client: &Client) -> String {
    let report = client.admin().call(BrokerInfo {}).await.unwrap();
    report.shards[0].state.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_messages_and_nothing_else() {
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("skipped: a_full_disk_refuses_messages_and_nothing_else: no tmpfs: {why}");
            return;
        }
    };
    run(&disk.path).await;
}

async fn run(disk: &Path) {
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![7; BALLAST_BYTES]).unwrap();
    let mut options = ServerOptions::new(yard::locate(None).unwrap());
    options.data = Some(disk.join("data"));
    options.segment_bytes = Some(SEGMENT_BYTES);
    let mut server = Server::start(options).await.unwrap();
    let client = server.client("disk").await.unwrap();
    let topic = create(&client, "orders", 1).await.id;
    let mut orders = consumer(&client, "orders", "g").await;
    let raw = Raw::connect(&server.context().unwrap(), RawWindows::default()).await.unwrap();
    let (_control, data, _) = raw.welcomed().await.unwrap();
    let mut publisher = Publisher { data, topic, next: 0 };

    // Publish until the disk is full.
    let code = loop {
        if let Err(code) = publisher.publish().await {
            break code;
        }
        assert!(publisher.next * BODY_BYTES as u64 <= DISK_BYTES, "more than the disk holds");
    };
    assert_eq!((code, state(&client).await.as_str()), (Code::DiskFull, "full"));
    let stored = publisher.next;
    assert!(stored > 50, "{stored} messages fit beside the ballast");

    // From now on a refusal is quick. The median, because a machine may pause at any time.
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        assert_eq!(publisher.publish().await, Err(Code::DiskFull));
        times.push(began.elapsed());
    }
    times.sort_unstable();
    eprintln!("disk full after {stored} messages; refused in {:?} (median)", times[10]);
    assert!(times[10] < QUICK, "refused after {:?}", times[10]);

    // Reading and acknowledging go on, durably.
    for number in 0..stored {
        let delivery = next(&mut orders).await;
        assert_eq!(delivery.body().unwrap(), Publisher::body(number));
        within("an ack", delivery.ack()).await.unwrap().unwrap();
    }
    settled(&client, "g").await;
    assert_eq!(state(&client).await, "full");

    // A producer of the client library waits for space; then it goes on by itself.
    let producer = client.producer("orders").build().await.unwrap();
    let waiting = tokio::spawn(async move { producer.send(Message::new("patient")).await });
    assert_eq!(publisher.publish().await, Err(Code::DiskFull));
    assert!(!waiting.is_finished(), "there is no space for it");
    fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    while publisher.publish().await == Err(Code::DiskFull) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(freed.elapsed() < PATIENCE, "it does not resume");
    }
    eprintln!("resumed {:?} after there was space", freed.elapsed());
    within("the patient producer", waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(state(&client).await, "open");
    assert_eq!(fetch_queue(&client, "orders", 0).await.len() as u64, publisher.next + 1);

    // All of it is there after a crash, too.
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("after").await.unwrap();
    let bodies = fetch_queue(&client, "orders", 0).await;
    assert_eq!(bodies.len() as u64, publisher.next + 1);
    assert_eq!(group(&client, "g").await.queues[0].settled_below.0, stored, "acks are durable");
    server.stop().await.unwrap();
}
