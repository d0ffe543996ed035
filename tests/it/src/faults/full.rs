//! A disk of 4 MiB that is filled again and again: publishing is refused at once with its code,
//! reading and acknowledging go on, and with space again publishing resumes without a restart.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use yard_client::wire::batch::{self, BatchHeader};
use yard_client::wire::operation::{TopicCreate, TopicRow};
use yard_client::wire::request::Reply;
use yard_client::wire::{Code, ProducerId, Sequence, TopicId};
use yard_client::{Client, Start};

use super::script::fetch;
use crate::raw::{Answer, Raw, RawStream, RawWindows, produce, record};
use crate::server::{Server, ServerOptions};
use crate::wait::{PATIENCE, within};
use crate::{Failed, Scratch};

const DISK_BYTES: u64 = 4 << 20;
const SEGMENT_BYTES: u64 = 1 << 20;
/// What is in the way at first, and taken away piece by piece.
const PIECES: u64 = 1;
const PIECE_BYTES: usize = 1 << 20;
const BODY_BYTES: usize = 3_000;
const TOPIC: &str = "full";
/// Refusals that are timed at each filling.
const REFUSALS: usize = 5;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often the disk was full.
    pub fills: u64,
    /// Messages stored and found again after a kill.
    pub stored: u64,
    /// How long a refusal took, each.
    pub refused: Vec<Duration>,
    /// How long after there was space a message was taken again, each.
    pub resumed: Vec<Duration>,
}

struct Mounted(PathBuf);

impl Mounted {
    /// `None` where one may not mount.
    fn new(path: PathBuf) -> Result<Option<Self>, Failed> {
        fs::create_dir_all(&path).map_err(Failed::file(&path))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"]).arg(&path);
        let is_mounted = mount.output().is_ok_and(|done| done.status.success());
        Ok(is_mounted.then_some(Self(path)))
    }

    /// Makes it twice as large.
    fn grow(&self) -> Result<(), Failed> {
        let size = format!("remount,size={}", 2 * DISK_BYTES);
        let done = Command::new("mount").args(["-o", &size]).arg(&self.0).status();
        if done.map_err(Failed::file(&self.0))?.success() {
            return Ok(());
        }
        Err(Failed("the disk did not grow".to_owned()))
    }

    fn piece(&self, number: u64) -> PathBuf {
        self.0.join(format!("piece-{number}"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open must not keep the mount for ever.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Sends numbered batches of one message each, and tries none again by itself.
struct Publisher {
    data: RawStream,
    topic: TopicId,
    next: u64,
    asked: u64,
}

impl Publisher {
    async fn publish(&mut self) -> Result<Result<(), Code>, Failed> {
        let mut body = vec![0; BODY_BYTES];
        body[..8].copy_from_slice(&self.next.to_le_bytes());
        let record = record(self.topic, 0, &body).expect("the body is within the limits");
        let (producer, sequence) = (ProducerId(11), Sequence(self.next));
        let header = BatchHeader { producer, sequence, ..BatchHeader::default() };
        self.asked += 1;
        let batch = batch::encode(&header, 1, &record);
        match self.data.ask(self.asked, &produce(batch)).await? {
            Answer::Reply(Reply::Produce(_)) => {
                self.next += 1;
                Ok(Ok(()))
            }
            Answer::Refused(refusal) => Ok(Err(refusal.code)),
            other => Err(Failed(format!("a batch is answered {other:?}"))),
        }
    }

    async fn until_full(&mut self) -> Result<(), Failed> {
        let most = self.next + DISK_BYTES / BODY_BYTES as u64;
        loop {
            match self.publish().await? {
                Ok(()) if self.next > most => {
                    return Err(Failed("more than the disk holds is stored".to_owned()));
                }
                Ok(()) => {}
                Err(Code::DiskFull) => return Ok(()),
                Err(code) => return Err(Failed(format!("refused with {code:?}"))),
            }
        }
    }
}

/// Fills a disk, and again after each piece that was taken away. `None` where no file system may
/// be mounted.
///
/// # Errors
/// What went wrong.
pub async fn run(yard: &Path) -> Result<Option<Report>, Failed> {
    let scratch = Scratch::new("full")?;
    let Some(disk) = Mounted::new(scratch.path().join("disk"))? else { return Ok(None) };
    for number in 0..PIECES {
        let piece = disk.piece(number);
        fs::write(&piece, vec![7; PIECE_BYTES]).map_err(Failed::file(&piece))?;
    }
    let mut options = ServerOptions::new(yard.to_owned());
    options.data = Some(disk.0.join("data"));
    options.segment_bytes = Some(SEGMENT_BYTES);
    let mut server = Server::start(options).await?;
    let client = server.client("full").await?;
    let (name, note) = (TOPIC.to_owned(), String::new());
    let TopicRow { id, .. } = client
        .admin()
        .call(TopicCreate { name, queues: 1, note, ..TopicCreate::default() })
        .await?;
    let raw = Raw::connect(&server.context()?, RawWindows::default()).await?;
    let (_control, data, _) = raw.welcomed().await?;
    let mut publisher = Publisher { data, topic: id, next: 0, asked: 0 };
    let mut report = Report::default();
    let mut consumer = client.consumer(TOPIC, "g").start(Start::Earliest).build().await?;
    let mut read = 0;
    for number in 0..=PIECES {
        publisher.until_full().await?;
        report.fills += 1;
        for _ in 0..REFUSALS {
            let began = Instant::now();
            if publisher.publish().await? != Err(Code::DiskFull) {
                return Err(Failed("a full disk took a message".to_owned()));
            }
            report.refused.push(began.elapsed());
        }
        // All at once: one by one, each is a group of the log, and the reserve is small.
        let mut acks = JoinSet::new();
        while read < publisher.next {
            let delivery = within("a delivery of a full disk", consumer.recv()).await??;
            acks.spawn(async move { delivery.ack().await });
            read += 1;
        }
        while let Some(acked) = within("acks on a full disk", acks.join_next()).await? {
            acked??;
        }
        if number == PIECES {
            break;
        }
        let piece = disk.piece(number);
        fs::remove_file(&piece).map_err(Failed::file(&piece))?;
        let freed = Instant::now();
        while publisher.publish().await?.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if freed.elapsed() > PATIENCE {
                return Err(Failed("publishing does not resume".to_owned()));
            }
        }
        report.resumed.push(freed.elapsed());
    }
    // A start writes its context, by which it is known to serve; a full disk has no room for it.
    server.kill9()?;
    disk.grow()?;
    report.stored = all_there(&mut server, publisher.next).await?;
    Ok(Some(report))
}

async fn all_there(server: &mut Server, stored: u64) -> Result<u64, Failed> {
    server.restart().await?;
    let client: Client = server.client("after").await?;
    let found = fetch(&client, TOPIC, 0).await?.len() as u64;
    if found != stored {
        return Err(Failed(format!("{stored} messages were stored, {found} are there")));
    }
    client.close().await;
    server.kill9()?;
    Ok(found)
}
