//! The server of raw QUIC: a child process.
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use yard_server::bare::Bare;
use yard_server::os::{self, Priority};

use super::{ANSWER_BYTES, Cutter, LENGTH_BYTES, Mode, frame};
use crate::failure::Failure;
use crate::verbs::bench::child::{self, Helper, Reach};
use crate::verbs::bench::disk::{self, BLOCK_BYTES};

/// The word that starts the child; nobody else writes it.
pub(crate) const WORD: &str = "raw-quic";
/// Frames that wait in a channel.
const CHANNEL_FRAMES: usize = 64;
/// Chunks of a stream that are taken at a time.
const CHUNKS: usize = 64;
/// Bytes of the file of group commits; it is written round and round.
const COMMIT_BYTES: u64 = 64 << 20;

#[derive(Debug, Deserialize, Serialize)]
struct Orders {
    /// The folder of the measurement.
    folder: PathBuf,
}

/// Starts the child.
pub(crate) fn start(folder: PathBuf) -> Result<Helper, Failure> {
    Helper::start(WORD, &Orders { folder })
}

/// Frames on their way from one stream to another.
struct Channel {
    put: mpsc::Sender<Vec<Bytes>>,
    take: Mutex<Option<mpsc::Receiver<Vec<Bytes>>>>,
}

type Commits = std::sync::mpsc::Sender<(usize, oneshot::Sender<()>)>;

struct Shared {
    channels: Mutex<HashMap<u32, Arc<Channel>>>,
    commits: Commits,
}

impl Shared {
    fn channel(&self, number: u32) -> Arc<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let (put, take) = mpsc::channel(CHANNEL_FRAMES);
            Arc::new(Channel { put, take: Mutex::new(Some(take)) })
        };
        channels.entry(number).or_insert_with(make).clone()
    }
}

/// The child.
pub(crate) async fn child() -> Result<(), Failure> {
    let orders: Orders = child::orders()?;
    let config = yard_server::bare::config();
    let failed = |why: &dyn std::fmt::Display| Failure::local(format!("raw QUIC: {why}"));
    let bare = Bare::start(config).map_err(|why| failed(&why))?;
    let file = disk::zeroed(&orders.folder.join("raw-commit"), COMMIT_BYTES)
        .map_err(|why| failed(&why))?;
    let (commits, to_commit) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("commit".into())
        .spawn(move || commit_all(&file, &to_commit))
        .map_err(|why| failed(&why))?;
    child::ready(&Reach::from(bare.reach()))?;
    let shared = Arc::new(Shared { channels: Mutex::default(), commits });
    let serving = async {
        while let Some(connection) = bare.accept().await {
            tokio::spawn(serve(connection, shared.clone()));
        }
    };
    tokio::select! {
        () = serving => {}
        () = child::parent_gone() => {}
    }
    // It lives as long as the measurement, so now nobody needs any of it.
    child::remove(&orders.folder);
    Ok(())
}

/// Commits in groups: what has come while the last group was written and synced.
fn commit_all(file: &File, waiting: &std::sync::mpsc::Receiver<(usize, oneshot::Sender<()>)>) {
    // As the broker's log has it.
    os::prefer(Priority::Log);
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while let Ok(first) = waiting.recv() {
        let group: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
        let bytes: usize = group.iter().map(|(bytes, _)| bytes).sum();
        let bytes = bytes.next_multiple_of(BLOCK_BYTES).min(zeros.len());
        if at + bytes as u64 > COMMIT_BYTES {
            at = 0;
        }
        let done = file.write_all_at(&zeros[..bytes], at).and_then(|()| file.sync_data());
        if let Err(why) = done {
            // Without answers the client ends with an error of its own.
            eprintln!("raw group commit: {why}");
            return;
        }
        at += bytes as u64;
        for (_, answer) in group {
            let _ = answer.send(());
        }
    }
}

async fn serve(connection: Connection, shared: Arc<Shared>) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        let shared = shared.clone();
        // Streams end when the client has gone; there is nobody to tell.
        tokio::spawn(async move { serve_stream(send, receive, &shared).await });
    }
}

async fn serve_stream(send: SendStream, mut receive: RecvStream, shared: &Shared) -> Option<()> {
    let mut mode = [0];
    receive.read_exact(&mut mode).await.ok()?;
    match Mode::from_byte(mode[0])? {
        Mode::Answer => answer(send, receive, None).await,
        Mode::Commit => answer_committed(send, receive, &shared.commits).await,
        Mode::Push => {
            let frame = frame(number(&mut receive).await? as usize);
            let window = number(&mut receive).await? as usize;
            push(send, receive, window, Frames::Same(frame)).await
        }
        Mode::Relay => {
            let channel = shared.channel(number(&mut receive).await?);
            answer(send, receive, Some(&channel.put)).await
        }
        Mode::Follow => {
            let channel = shared.channel(number(&mut receive).await?);
            let window = number(&mut receive).await? as usize;
            let taken = channel.take.lock().unwrap_or_else(PoisonError::into_inner).take();
            push(send, receive, window, Frames::Of(taken?)).await
        }
    }
}

async fn number(receive: &mut RecvStream) -> Option<u32> {
    let mut bytes = [0; LENGTH_BYTES];
    receive.read_exact(&mut bytes).await.ok()?;
    Some(u32::from_le_bytes(bytes))
}

/// Answers every frame; what is in them goes on where somebody wants it.
async fn answer(
    mut send: SendStream,
    mut receive: RecvStream,
    relay: Option<&mpsc::Sender<Vec<Bytes>>>,
) -> Option<()> {
    let mut cutter = Cutter::default();
    let mut chunks = vec![Bytes::new(); CHUNKS];
    let mut parts = Vec::new();
    while let Some(count) = receive.read_chunks(&mut chunks).await.ok()? {
        let mut frames = 0;
        for chunk in &mut chunks[..count] {
            let mut rest = std::mem::take(chunk);
            while !rest.is_empty() {
                let (taken, ends) = cutter.cut(&rest);
                let part = rest.split_to(taken);
                if let Some(relay) = relay {
                    parts.push(part);
                    if ends {
                        relay.send(std::mem::take(&mut parts)).await.ok()?;
                    }
                }
                frames += usize::from(ends);
            }
        }
        if frames > 0 {
            send.write_all(&[0; ANSWER_BYTES].repeat(frames)).await.ok()?;
        }
    }
    Some(())
}

/// Answers every frame when it is on the disk.
async fn answer_committed(
    mut send: SendStream,
    mut receive: RecvStream,
    commits: &Commits,
) -> Option<()> {
    let mut cutter = Cutter::default();
    let mut bytes = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.ok()? {
        let mut rest = &chunk.bytes[..];
        while !rest.is_empty() {
            let (taken, ends) = cutter.cut(rest);
            rest = &rest[taken..];
            bytes += taken;
            if ends {
                let (done, committed) = oneshot::channel();
                commits.send((std::mem::take(&mut bytes), done)).ok()?;
                committed.await.ok()?;
                send.write_all(&[0; ANSWER_BYTES]).await.ok()?;
            }
        }
    }
    Some(())
}

/// Where pushed frames come from.
enum Frames {
    Same(Bytes),
    Of(mpsc::Receiver<Vec<Bytes>>),
}

impl Frames {
    async fn next(&mut self) -> Option<Vec<Bytes>> {
        match self {
            Self::Same(frame) => Some(vec![frame.clone()]),
            Self::Of(channel) => channel.recv().await,
        }
    }
}

/// Sends frames, as many ahead of the answers as the window says.
async fn push(
    mut send: SendStream,
    mut receive: RecvStream,
    window: usize,
    mut frames: Frames,
) -> Option<()> {
    let window = Arc::new(Semaphore::new(window));
    let answered = window.clone();
    let answers = tokio::spawn(async move {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
            bytes += chunk.bytes.len();
            answered.add_permits(bytes / ANSWER_BYTES);
            bytes %= ANSWER_BYTES;
        }
        answered.close();
    });
    while let Ok(permit) = window.acquire().await {
        permit.forget();
        let Some(mut frame) = frames.next().await else { break };
        if send.write_all_chunks(&mut frame).await.is_err() {
            break;
        }
    }
    answers.abort();
    Some(())
}
