//! Processes of the same program that are started for a measurement and end with it.
//!
//! A child reads one line of JSON, writes one, and lives until its standard input ends: so it
//! ends with its parent, however that ends.
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio, id};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use yard_client::Context;

use crate::failure::Failure;

/// A child that does not end by itself is killed after this.
const GRACE: Duration = Duration::from_secs(3);

/// What a child listens on and how it is trusted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Reach {
    pub(crate) addresses: Vec<String>,
    pub(crate) server_name: String,
    pub(crate) authority: String,
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<String>,
}

impl From<&yard_server::Connection> for Reach {
    fn from(found: &yard_server::Connection) -> Self {
        Self {
            addresses: found.addresses.clone(),
            server_name: found.server_name.clone(),
            authority: found.authority.clone(),
            certificate: found.certificate.clone(),
            key: found.key.clone(),
        }
    }
}

impl From<Reach> for Context {
    fn from(reach: Reach) -> Self {
        Self {
            addresses: reach.addresses,
            authority_pem: reach.authority,
            certificate_pem: reach.certificate,
            key_pem: reach.key,
            server_name: Some(reach.server_name),
            tenant: "default".to_owned(),
            controller: yard_client::transport::Controller::default(),
        }
    }
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) reach: Reach,
}

impl Helper {
    /// Starts `yard bench WORD` and gives it its orders.
    pub(crate) fn start(word: &str, orders: &impl Serialize) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::local(format!("the process for {word} did not start: {why}"))
        };
        let program = env::current_exe().map_err(|why| failed(&why))?;
        let mut child = Command::new(program)
            .args(["bench", word])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|why| failed(&why))?;
        let mut stdin = child.stdin.take().expect("it was piped");
        let stdout = child.stdout.take().expect("it was piped");
        let orders = serde_json::to_string(orders).expect("orders are JSON");
        let mut line = String::new();
        let said = writeln!(stdin, "{orders}")
            .and_then(|()| BufReader::new(stdout).read_line(&mut line))
            .map_err(|why| why.to_string())
            .and_then(|_| serde_json::from_str(&line).map_err(|why| format!("{why}: {line:?}")));
        match said {
            Ok(reach) => Ok(Self { child, stdin: Some(stdin), reach }),
            Err(why) => {
                drop(stdin);
                let _ = child.kill();
                let _ = child.wait();
                Err(failed(&why))
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a child: its orders.
pub(crate) fn orders<T: DeserializeOwned>() -> Result<T, Failure> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|why| Failure::local(format!("no orders: {why}")))?;
    serde_json::from_str(&line).map_err(|_| {
        Failure::usage("this is started by `yard bench` itself; see `yard bench --help`")
    })
}

/// In a child: says how it is reached.
pub(crate) fn ready(reach: &Reach) -> Result<(), Failure> {
    let line = serde_json::to_string(reach).expect("texts are JSON");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// In a child: waits until the parent has gone.
pub(crate) async fn parent_gone() {
    let reading = tokio::task::spawn_blocking(|| {
        let mut rest = Vec::new();
        std::io::stdin().lock().read_to_end(&mut rest)
    });
    // However it ended, there is nobody left to read from.
    let _ = reading.await;
}

/// A temporary folder, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn make(below: &Path) -> Result<Self, Failure> {
        let path = below.join(format!("yard-bench-{}-{}", id(), super::super::now()));
        // Not recursive: what is there already is somebody else's.
        fs::create_dir(&path).map_err(|why| {
            Failure::local(format!("no temporary folder {}: {why}", path.display()))
        })?;
        let path = path.canonicalize().unwrap_or(path);
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// In a child whose parent has gone: removes what is its own, and the folder around it where
/// nothing else is left in it.
pub(crate) fn clear(own: &Path) {
    remove(own);
    if let Some(folder) = own.parent() {
        // Not empty: somebody else is still at it, or will be.
        let _ = fs::remove_dir(folder);
    }
}

/// Removes a folder that was made for a measurement; that it is gone already is as well.
pub(crate) fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("{} could not be removed: {why}", path.display());
        }
        Ok(()) | Err(_) => {}
    }
}
