//! A host to run plugins in.
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use yard_abi::manifest::Capability;
use yard_abi::{Delivery, FrameBuilder, Room, View};
use yard_wasm::canary::Traffic;
use yard_wasm::{
    AcceptError, Accepted, Ask, Batch, Binding, Cache, Compiled, Compiler, Directory, Engine,
    Installed, Judging, Limits, LoadError, Metering, PluginId, Rollout, Signed, Terms, Turn,
    Upload, Worker, accept,
};
use yard_wire::record::RecordParts;
use yard_wire::{MessageId, QueueIndex, TenantId, Timestamp, TopicId};

pub(crate) use crate::text::{Filter, GOOD, manifest, plugin, typed, typed_by, with_section};

pub(crate) const TRAFFIC: Traffic = Traffic::ALONE;
pub(crate) const ALL: [Capability; 4] = Capability::ALL;

/// The one engine of the process.
pub(crate) static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(Metering::Both).expect("an engine for the tests"));

pub(crate) fn compiler() -> Compiler {
    Compiler::new(PathBuf::from(env!("CARGO_BIN_EXE_yard-wasm-compile")), Vec::<OsString>::new())
}

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("yard-wasm-{}-{number}", std::process::id());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A cache that all tests share, so that a module is compiled once.
pub(crate) static CACHE: LazyLock<Cache> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("plugins");
    Cache::open(&folder).expect("a folder for the tests")
});

/// A length as WebAssembly writes it, 7 bits a byte.
pub(crate) fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

pub(crate) fn accepted(wasm: &[u8], limits: &Limits) -> Result<Accepted, AcceptError> {
    let upload = Upload { bytes: wasm, hash: None, signature: None };
    let grants: BTreeSet<Capability> = ALL.into_iter().collect();
    let terms = Terms { limits, grants: &grants, trusted: &[], signed: Signed::Optional };
    accept(&upload, &terms)
}

pub(crate) fn prepared(wasm: &[u8], limits: &Limits) -> Result<Compiled, LoadError> {
    let accepted = accepted(wasm, limits).unwrap_or_else(|error| panic!("{error}"));
    Compiled::prepare(&ENGINE, &CACHE, &compiler(), &accepted, wasm).map(|(compiled, _)| compiled)
}

pub(crate) fn compiled(wasm: &[u8]) -> Compiled {
    prepared(wasm, &Limits::DEFAULT).unwrap_or_else(|error| panic!("{error}"))
}

/// A frame of messages with these tags, a property each, and nothing of their bodies.
pub(crate) fn frame(tags: &[&str]) -> FrameBuilder {
    frame_of(View::default(), tags)
}

/// The same with as much of each message as a view has.
pub(crate) fn frame_of(view: View, tags: &[&str]) -> FrameBuilder {
    let mut builder = FrameBuilder::of(view);
    for (index, tag) in tags.iter().enumerate() {
        let mut record = Vec::new();
        let parts = RecordParts {
            topic: TopicId(1),
            queue: QueueIndex(0),
            id: MessageId([index as u8; 16]),
            born: Timestamp(1),
            tag,
            properties: &[("region", "eu")],
            body: b"body",
            ..RecordParts::default()
        };
        parts.encode(&mut record).expect("a small record");
        let delivery = Delivery { offset: index as u64, ..Delivery::default() };
        assert_eq!(builder.push(&record, delivery), Ok(Room::Taken));
    }
    builder
}

/// A worker with plugin 1 rolled out.
pub(crate) struct Host {
    pub(crate) directory: Arc<Directory>,
    pub(crate) worker: Worker,
    pub(crate) binding: Arc<Binding>,
    /// One of its own, so that tests share no state.
    pub(crate) tenant: TenantId,
    pub(crate) now_ms: u64,
}

pub(crate) const PLUGIN: PluginId = PluginId(1);

impl Host {
    pub(crate) fn new(rollout: Rollout) -> Self {
        let directory = Arc::new(Directory::default());
        directory.publish(|table| drop(table.plugins.insert(PLUGIN, Arc::new(rollout))));
        let worker = Worker::new(&ENGINE, &directory);
        let binding = Binding::new("text".to_owned(), Vec::new());
        static TENANTS: AtomicU32 = AtomicU32::new(1);
        let tenant = TenantId(TENANTS.fetch_add(1, Ordering::Relaxed));
        Self { directory, worker, binding, tenant, now_ms: 1_000_000 }
    }

    pub(crate) fn of(wasm: &[u8]) -> Self {
        Self::new(Rollout { active: Some(installed(1, wasm)), ..Rollout::default() })
    }

    pub(crate) fn publish(&self, rollout: Rollout) {
        self.directory.publish(|table| drop(table.plugins.insert(PLUGIN, Arc::new(rollout))));
    }

    pub(crate) fn limit(&self, limits: Limits) {
        self.directory.publish(|table| {
            table.limits.insert(self.tenant, limits);
        });
    }

    pub(crate) fn ask(&self) -> Ask {
        Ask { tenant: self.tenant, plugin: PLUGIN, traffic: TRAFFIC, now_ms: self.now_ms }
    }

    /// Takes a batch through, turn by turn; returns how it ended and after how many turns.
    pub(crate) fn judge(&mut self, tags: &[&str]) -> (Turn, Judging, usize) {
        let frame = frame(tags);
        let batch = Batch::new(&frame);
        let mut judging = Judging::default();
        let ask = self.ask();
        let binding = Arc::clone(&self.binding);
        let mut turns = 1;
        loop {
            match self.worker.judge(&ask, &binding, &batch, &mut judging) {
                Turn::More => turns += 1,
                turn => return (turn, judging, turns),
            }
            assert!(turns < 1_000, "a batch ends");
        }
    }
}

pub(crate) fn installed(version: u32, wasm: &[u8]) -> Arc<Installed> {
    Installed::new(PLUGIN, version, compiled(wasm))
}
