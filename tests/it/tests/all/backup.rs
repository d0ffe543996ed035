//! Backups of a broker that is being written to, killed half-way, restored: whatever was
//! acknowledged before a backup began is in it.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use yard_client::{Client, Message};
use yard_it::wait::{until, within};
use yard_it::{Scratch, Server, ServerOptions, yard};

use super::local::{create, fetch_all, fetch_held};

const TOPIC: &str = "orders";
const SHARDS: u16 = 2;
const SEGMENT_BYTES: u64 = 1 << 20;
const BODY_BYTES: usize = 1_000;
/// Messages that wait for their acknowledgement at a time.
const BURST: u64 = 64;

fn log(yard: &Path, words: &[&str], folders: &[&Path]) -> Command {
    let mut command = Command::new(yard);
    command.arg("log").args(words).args(folders).env_remove("YARD_CONTEXT");
    command.stdin(Stdio::null());
    command
}

fn run(yard: &Path, words: &[&str], folders: &[&Path]) -> Output {
    log(yard, words, folders).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> serde_json::Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(output: &Output, with: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(with) && said.trim_end().lines().count() == 1, "{said}");
}

/// Names and bytes of all files below a folder.
fn tree(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for item in fs::read_dir(path).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Sends numbered messages until it is told to stop; `acknowledged` counts those that are safe.
async fn produce(client: Client, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let producer = client.producer(TOPIC).build().await.unwrap();
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let sends = (next..next + BURST).map(|number| {
            let mut body = format!("{number:08}").into_bytes();
            body.resize(BODY_BYTES, b'.');
            // Named, so that each shard has its share, however slow one of them is.
            producer.send(Message::new(body).queue(number as u16 % SHARDS))
        });
        for receipt in sends.collect::<Vec<_>>() {
            within("a send", receipt).await.unwrap().unwrap();
        }
        next += BURST;
        acknowledged.store(next, Ordering::SeqCst);
    }
    producer.close().await.unwrap();
}

async fn start(yard: PathBuf, data: Option<PathBuf>) -> Server {
    let mut options = ServerOptions::new(yard);
    options.shards = SHARDS;
    options.segment_bytes = Some(SEGMENT_BYTES);
    options.data = data;
    Server::start(options).await.unwrap()
}

/// The numbers in bodies.
fn numbers_in(bodies: &[String]) -> BTreeSet<u64> {
    let numbers: BTreeSet<u64> = bodies.iter().map(|body| body[..8].parse().unwrap()).collect();
    assert_eq!(numbers.len(), bodies.len(), "each message once");
    numbers
}

/// The numbers of all messages of a broker that has lost none.
async fn numbers(server: &Server) -> BTreeSet<u64> {
    let client = server.client("reads").await.unwrap();
    let numbers = numbers_in(&fetch_all(&client, TOPIC).await);
    client.close().await;
    numbers
}

/// The numbers of the messages that a broker still has, of which some were lost.
async fn numbers_left(server: &Server, queues: u16) -> BTreeSet<u64> {
    let client = server.client("reads").await.unwrap();
    let mut bodies = Vec::new();
    for queue in 0..queues {
        let held = fetch_held(&client, TOPIC, queue).await;
        bodies.extend(held.into_iter().map(|(_, body)| body));
    }
    client.close().await;
    numbers_in(&bodies)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_holds_what_was_acknowledged_before() {
    let yard = yard::locate(None).unwrap();
    let scratch = Scratch::new("backup").unwrap();
    let target = scratch.path().join("backup");
    let mut server = start(yard.clone(), None).await;
    let client = server.client("writes").await.unwrap();
    create(&client, TOPIC, 4).await;
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writes = tokio::spawn(produce(client, Arc::clone(&acknowledged), Arc::clone(&stop)));
    let reach = async |count: u64| {
        let reached = || async { (acknowledged.load(Ordering::SeqCst) >= count).then_some(()) };
        until("messages are acknowledged", reached).await.unwrap();
    };
    let backup = |target: PathBuf| {
        let (yard, data) = (yard.clone(), server.data().to_owned());
        let words = ["backup", "-o", "json"];
        tokio::task::spawn_blocking(move || run(&yard, &words, &[&data, &target]))
    };
    reach(4_000).await;
    let first = done(&backup(target.clone()).await.unwrap());
    assert_eq!(first["live"], true);
    assert_eq!(first["segments"], first["copied_segments"]);
    let more = acknowledged.load(Ordering::SeqCst) + 4_000;
    reach(more).await;
    // Killed at any moment, a backup leaves the one before it as it was.
    for ms in [1_u64, 4, 8, 15, 25, 40] {
        let mut command = log(&yard, &["backup"], &[server.data(), &target]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        done(&run(&yard, &["verify", "-o", "json"], &[&target]));
    }
    let before = acknowledged.load(Ordering::SeqCst);
    let second = done(&backup(target.clone()).await.unwrap());
    assert!(second["copied_segments"].as_u64() < second["segments"].as_u64(), "{second}");
    let live = done(&run(&yard, &["verify", "-o", "json"], &[server.data()]));
    assert_eq!((&live["live"], &live["whole"]), (&true.into(), &true.into()));
    refused(&run(&yard, &["repair", "--apply"], &[server.data()]), "open");
    stop.store(true, Ordering::Relaxed);
    writes.await.unwrap();
    let after = acknowledged.load(Ordering::SeqCst);
    server.stop().await.unwrap();
    let restored = scratch.path().join("restored");
    done(&run(&yard, &["restore", "-o", "json"], &[&target, &restored]));
    let found = done(&run(&yard, &["verify", "-o", "json"], &[&restored]));
    assert_eq!((&found["whole"], &found["live"]), (&true.into(), &false.into()));
    refused(&run(&yard, &["restore"], &[&target, &restored]), "is not empty");
    let again = start(yard.clone(), Some(restored)).await;
    let numbers = numbers(&again).await;
    assert!((0..before).all(|number| numbers.contains(&number)), "all of {before} are there");
    assert!(numbers.iter().all(|number| *number < after + BURST), "and nothing else");
    let another = run(&yard, &["backup"], &[again.data(), scratch.path()]);
    refused(&another, "it is no backup");
}

/// A folder of a broker that has stopped, with several segments.
async fn stopped(yard: &Path) -> (Scratch, PathBuf) {
    let scratch = Scratch::new("stopped").unwrap();
    let data = scratch.path().join("data");
    let mut server = start(yard.to_owned(), Some(data.clone())).await;
    let client = server.client("writes").await.unwrap();
    create(&client, TOPIC, 2).await;
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writes = tokio::spawn(produce(client, Arc::clone(&acknowledged), Arc::clone(&stop)));
    let reached = || async { (acknowledged.load(Ordering::SeqCst) >= 6_000).then_some(()) };
    until("messages are acknowledged", reached).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    writes.await.unwrap();
    server.stop().await.unwrap();
    (scratch, data)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_and_bad_backups_are_told_and_nothing_is_touched() {
    let yard = yard::locate(None).unwrap();
    let (scratch, data) = stopped(&yard).await;
    let target = scratch.path().join("backup");
    done(&run(&yard, &["backup", "-o", "json"], &[&data, &target]));
    let restored = scratch.path().join("restored");
    // A bit of the backup, then a segment of it.
    let names = |folder: &Path, start: &str| {
        let found = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
        let is_wanted = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
        };
        let mut found: Vec<PathBuf> = found.filter(is_wanted).collect();
        found.sort();
        found
    };
    let file = names(&target.join("shard-0"), "log-")[1].clone();
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 4;
    fs::write(&file, bad).unwrap();
    refused(&run(&yard, &["restore"], &[&target, &restored]), "it is damaged");
    fs::remove_file(&file).unwrap();
    refused(&run(&yard, &["restore"], &[&target, &restored]), "No such file");
    assert!(!restored.exists());
    fs::write(&file, good).unwrap();
    // A bit of the log: told, backed up as it is and said so.
    let segment = data.join("shard-0/log-0000000001");
    let mut bytes = fs::read(&segment).unwrap();
    // Of the body of a message in the middle of the file.
    let middle = bytes.len() / 2;
    let filler = bytes[middle..].windows(BODY_BYTES / 2).position(|part| {
        let is_filler = |byte: &u8| *byte == b'.';
        part.iter().all(is_filler)
    });
    bytes[middle + filler.unwrap()] ^= 4;
    fs::write(&segment, &bytes).unwrap();
    let before = tree(&data);
    let output = run(&yard, &["verify", "-o", "json"], &[&data]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let damage = found["damage"].as_array().unwrap();
    assert_eq!(damage.len(), 1, "{found}");
    assert_eq!(damage[0]["file"], "log-0000000001");
    let lost = damage[0]["lost"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "one message: {found}");
    assert!(before == tree(&data), "verifying touches nothing");
    let (other, back) = (scratch.path().join("other"), scratch.path().join("back"));
    for (verb, folders) in [("backup", [&data, &other]), ("restore", [&other, &back])] {
        let output = run(&yard, &[verb, "-o", "json"], &folders.map(PathBuf::as_path));
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let place = said["damage"][0]["place"].as_str().unwrap();
        assert!(place.starts_with("shard 0: log-0000000001 at offset"), "{said}");
    }
    let restored_segment = fs::read(back.join("shard-0/log-0000000001")).unwrap();
    assert!(restored_segment == bytes, "as it is");
    // A segment that is gone, and a file that is nobody's.
    let before = tree(&data);
    let elsewhere = scratch.path().join("elsewhere");
    fs::rename(&segment, &elsewhere).unwrap();
    refused(&run(&yard, &["repair", "--apply"], &[&data]), "segment 1 of the log is missing");
    refused(&run(&yard, &["backup"], &[&data, &target]), "segment 1 of the log is missing");
    fs::rename(&elsewhere, &segment).unwrap();
    assert!(before == tree(&data));
    // What follows from the log.
    let index = data.join("shard-0/idx-0000000000");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, b"nothing").unwrap();
    let plan = done(&run(&yard, &["repair", "-o", "json"], &[&data]));
    assert_eq!((&plan["matched"], &plan["applied"]), (&1.into(), &false.into()), "{plan}");
    assert_eq!(fs::read(&index).unwrap(), b"nothing");
    done(&run(&yard, &["repair", "--apply", "-o", "json"], &[&data]));
    assert!(fs::read(&index).unwrap() == whole, "the same bytes");
    // A segment that does not come back: what it held is lost, and everything else served.
    fs::rename(&segment, &elsewhere).unwrap();
    let words = ["repair", "--apply", "--accept-loss", "-o", "json"];
    done(&run(&yard, &words, &[&data]));
    assert_eq!(fs::metadata(&segment).unwrap().len(), SEGMENT_BYTES, "an empty one is there");
    let server = start(yard.clone(), Some(data)).await;
    let left = numbers_left(&server, 2).await;
    let gone = (0..6_000).filter(|number| !left.contains(number)).count();
    assert!(gone > 0 && left.len() > gone, "{gone} of {} are lost", left.len() + gone);
}
