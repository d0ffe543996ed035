//! `yard log` where there is nothing to work on: one sentence, exit 1, nothing touched.
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An empty folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("yard-log-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    /// A file below it, with its folders.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("folders");
        fs::write(&path, bytes).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Names and contents of all that lies below a folder.
fn tree(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for item in fs::read_dir(path).expect("a folder") {
        let path = item.expect("an item").path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

fn command(words: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yard"));
    command.env_clear().stdin(Stdio::null()).arg("log").args(words).current_dir(folder);
    command
}

/// Each command on `DIR` says this, and `root` is as it was.
#[track_caller]
fn refuses(commands: &[&str], root: &Folder, dir: &str, expected: &str) {
    let before = tree(&root.0);
    for line in commands {
        let words: Vec<&str> =
            line.split(' ').map(|word| if word == "DIR" { dir } else { word }).collect();
        let output = command(&words, &root.0).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains(expected), "{line}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(before == tree(&root.0), "{line} has touched something");
    }
}

const ALL: [&str; 5] =
    ["verify DIR", "dump DIR", "repair DIR", "repair DIR --apply", "backup DIR target"];
const SHARDS: &[u8] = b"format = 1\nshards = 2\n";

#[test]
fn what_is_no_data_folder() {
    let root = Folder::new("none");
    refuses(&ALL, &root, "nowhere", "nowhere: No such file or directory");
    root.put("file", b"text");
    refuses(&ALL, &root, "file", "file is not a data folder: it is not a folder");
    root.put("other/notes.txt", b"text");
    let nothing = "other is not a data folder: it has neither broker.toml nor segments of a log";
    refuses(&ALL, &root, "other", nothing);
    refuses(&["restore other fresh"], &root, "", "it is not a backup: it has no manifest.toml");
    refuses(&["restore nowhere fresh"], &root, "", "nowhere: No such file or directory");
}

#[test]
fn a_data_folder_that_is_not_whole() {
    let root = Folder::new("parts");
    root.put("data/broker.toml", SHARDS);
    root.put("data/shard-0/lock", b"");
    refuses(&ALL, &root, "data", "it has 2 shards, and shard-1 is missing");
    root.put("data/shard-1/notes.txt", b"text");
    refuses(&ALL, &root, "data", "data/shard-1/notes.txt is not a file of a log");
    root.put("future/broker.toml", b"format = 2\nshards = 1\n");
    refuses(&ALL, &root, "future", "has format 2; this program reads format 1");
    root.put("odd/broker.toml", b"shards = many\n");
    let before = tree(&root.0);
    let output = command(&["verify", "odd"], &root.0).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("odd/broker.toml: "));
    assert!(before == tree(&root.0));
}

#[test]
fn a_log_that_is_not_whole() {
    let root = Folder::new("heads");
    root.put("lone/checkpoint", b"text");
    refuses(&["verify DIR", "dump DIR"], &root, "lone", "segment 0 of the log is missing");
    let mut head = b"YARDLOG\n".to_vec();
    head.extend(2_u16.to_le_bytes());
    head.resize(508, 0);
    let crc = crc32c::crc32c(&head);
    head.extend(crc.to_le_bytes());
    head.resize(64 << 10, 0);
    root.put("future/log-0000000000", &head);
    let future = "log-0000000000 has format version 2, this program reads version 1";
    refuses(&["verify DIR", "dump DIR"], &root, "future", future);
}

#[test]
fn a_folder_that_another_process_has_open() {
    let root = Folder::new("locked");
    root.put("data/broker.toml", b"format = 1\nshards = 1\n");
    root.put("data/shard-0/log-0000000000", &[0; 512]);
    let lock = File::create(root.put("data/lock", b"")).expect("opened");
    lock.try_lock().expect("nobody else has it");
    refuses(&["repair DIR", "repair DIR --apply"], &root, "data", "has data open");
    let shard = File::create(root.put("data/shard-0/lock", b"")).expect("opened");
    shard.try_lock().expect("nobody else has it");
    refuses(&["repair DIR --apply"], &root, "data/shard-0", "has data/shard-0 open");
    let target = File::create(root.put("target/backup.lock", b"")).expect("opened");
    target.try_lock().expect("nobody else has it");
    refuses(&["backup DIR target"], &root, "data", "has target open");
}

#[test]
fn a_folder_that_may_not_be_read() {
    let root = Folder::new("rights");
    root.put("data/broker.toml", SHARDS);
    let path = root.0.join("data/broker.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).expect("it is ours");
    if fs::read(&path).is_ok() {
        eprintln!("skipped: a_folder_that_may_not_be_read: this user may read everything");
        return;
    }
    refuses(&ALL, &root, "data", "data/broker.toml: Permission denied");
}

#[test]
fn a_target_that_is_something_else() {
    let root = Folder::new("target");
    root.put("data/broker.toml", b"format = 1\nshards = 1\n");
    root.put("data/shard-0/lock", b"");
    root.put("target/notes.txt", b"text");
    refuses(&["backup DIR target"], &root, "data", "target is not empty, and it is no backup");
    root.put("broken/manifest.toml", b"# crc32c 00000000\nformat = 1\n");
    let damaged = "manifest.toml: it is damaged: its checksum does not hold";
    refuses(&["backup DIR broken", "restore broken fresh"], &root, "data", damaged);
    // A broker that has stored nothing: a backup of it restores to as much.
    let done = command(&["backup", "data", "empty"], &root.0).output().expect("the program runs");
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    root.put("fresh.restoring/notes.txt", b"text");
    refuses(&["restore empty fresh"], &root, "", "an interrupted restore left it behind");
    refuses(&["restore empty target"], &root, "", "target is not empty: restore to a new folder");
    fs::remove_dir_all(root.0.join("fresh.restoring")).expect("removed");
    let done = command(&["restore", "empty", "fresh"], &root.0).output().expect("the program runs");
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(root.0.join("fresh/broker.toml").is_file());
}
