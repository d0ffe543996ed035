//! Plugins written as text, and a host to run them in.
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use wasm_encoder::{CustomSection, Section};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use yard_abi::manifest::{Capability, Point, SECTION};
use yard_abi::{Delivery, FrameBuilder, Room, wit};
use yard_wasm::canary::Traffic;
use yard_wasm::{
    AcceptError, Accepted, Ask, Batch, Binding, Cache, Compiled, Compiler, Directory, Engine,
    Installed, Judging, Limits, LoadError, Metering, PluginId, Rollout, Signed, Terms, Turn,
    Upload, Worker, accept,
};
use yard_wire::record::RecordParts;
use yard_wire::{MessageId, QueueIndex, TenantId, Timestamp, TopicId};

pub(crate) const TRAFFIC: Traffic<'static> = Traffic::Queue { topic: 1, queue: 0 };
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

/// Appends a custom section.
pub(crate) fn with_section(mut wasm: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    CustomSection { name: name.into(), data: data.into() }.append_to(&mut wasm);
    wasm
}

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

pub(crate) fn manifest(point: Point, capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(|it| format!("\"{}\"", it.name())).collect();
    format!(
        r#"{{"name": "test", "version": "1.0.0", "points": ["{}"], "capabilities": [{}]}}"#,
        point.name(),
        names.join(", ")
    )
}

/// A core module with types, and no manifest yet.
pub(crate) fn typed(point: Point, wat: &str) -> Vec<u8> {
    typed_by(wit::TEXT, point, wat)
}

/// The same by another text of the interface.
pub(crate) fn typed_by(text: &str, point: Point, wat: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", text).expect("the WIT is good");
    let world =
        resolve.select_world(&[package], Some(point.world())).expect("each point has its world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the module is of that world");
    module
}

/// A plugin for a point, with its manifest.
pub(crate) fn plugin(point: Point, capabilities: &[Capability], wat: &str) -> Vec<u8> {
    let json = manifest(point, capabilities);
    with_section(typed(point, wat), SECTION, json.as_bytes())
}

/// The parts of a filter in text, each of which a test may replace.
pub(crate) struct Filter<'a> {
    pub(crate) imports: &'a str,
    /// Memory and other definitions.
    pub(crate) memory: &'a str,
    /// Body of `$verdict(m) -> i32`: 1 delivers the message at `m`.
    pub(crate) verdict: &'a str,
    /// Body of `$evaluate(self, frame, bytes, count) -> i32`, where the result is.
    pub(crate) evaluate: &'a str,
    /// Body of `$compile(expression, bytes, config, length) -> i32`.
    pub(crate) compile: &'a str,
    /// Body of `$realloc(old, old bytes, align, bytes) -> i32`.
    pub(crate) realloc: &'a str,
    pub(crate) needs: &'a str,
    pub(crate) extra: &'a str,
}

/// Delivers messages whose tag begins with `a`; traps at `x`.
pub(crate) const GOOD: Filter<'static> = Filter {
    imports: "",
    memory: r#"(memory (export "memory") 4)"#,
    verdict: r#"
        (local $tag i32)
        (if (i32.eqz (i32.load16_u offset=42 (local.get $m))) (then (return (i32.const 0))))
        (local.set $tag
            (i32.load8_u (i32.add (local.get $m) (i32.load16_u offset=4 (local.get $m)))))
        (if (i32.eq (local.get $tag) (i32.const 120)) (then (unreachable)))
        (i32.eq (local.get $tag) (i32.const 97))"#,
    evaluate: r#"
        (local $i i32) (local $m i32)
        (memory.fill (i32.const 64) (i32.const 0) (i32.const 32))
        (local.set $m (i32.add (local.get $f) (i32.const 8)))
        (loop $next
            (if (call $verdict (local.get $m)) (then
                (i32.store8 offset=64 (i32.shr_u (local.get $i) (i32.const 3))
                    (i32.or
                        (i32.load8_u offset=64 (i32.shr_u (local.get $i) (i32.const 3)))
                        (i32.shl (i32.const 1) (i32.and (local.get $i) (i32.const 7)))))))
            (local.set $m (i32.add (local.get $m) (i32.load (local.get $m))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (local.get $count))))
        (i32.store (i32.const 16) (i32.const 64))
        (i32.store (i32.const 20)
            (i32.shr_u (i32.add (local.get $count) (i32.const 7)) (i32.const 3)))
        (global.set $top (i32.const 4096))
        (i32.const 16)"#,
    compile: r#"
        (i32.store8 (i32.const 32) (i32.const 0))
        (i32.store (i32.const 36) (call $new (i32.const 1)))
        (global.set $top (i32.const 4096))
        (i32.const 32)"#,
    realloc: r#"
        (local $at i32)
        (local.set $at (i32.and
            (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
            (i32.sub (i32.const 0) (local.get $align))))
        (global.set $top (i32.add (local.get $at) (local.get $bytes)))
        (local.get $at)"#,
    needs: r#"
        (i32.store (i32.const 48) (i32.const 0))
        (i32.store (i32.const 52) (i32.const 0))
        (i32.store (i32.const 56) (i32.const 0))
        (i32.const 48)"#,
    extra: "",
};

impl Filter<'_> {
    pub(crate) fn wat(&self) -> String {
        let Filter { imports, memory, verdict, evaluate, compile, realloc, needs, extra } = self;
        let name = "switchyard:plugin/filter@1.0.0";
        format!(
            r#"(module
            (import "[export]{name}" "[resource-new]predicate"
                (func $new (param i32) (result i32)))
            {imports}
            {memory}
            (global $top (mut i32) (i32.const 4096))
            (func $verdict (param $m i32) (result i32) {verdict})
            (func $evaluate (export "{name}#[method]predicate.evaluate")
                (param $self i32) (param $f i32) (param $bytes i32) (param $count i32)
                (result i32) {evaluate})
            (func $compile (export "{name}#[static]predicate.compile")
                (param $text i32) (param $bytes i32) (param $config i32) (param $count i32)
                (result i32) {compile})
            (func (export "{name}#[method]predicate.needs") (param $self i32) (result i32)
                {needs})
            (func (export "{name}#evaluate-all")
                (param i32 i32 i32 i32 i32) (result i32) unreachable)
            (func $realloc (export "cabi_realloc")
                (param $old i32) (param $old_bytes i32) (param $align i32) (param $bytes i32)
                (result i32) {realloc})
            {extra})"#
        )
    }

    pub(crate) fn build(&self, capabilities: &[Capability]) -> Vec<u8> {
        plugin(Point::Filter, capabilities, &self.wat())
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

/// A frame of messages with these tags and empty bodies.
pub(crate) fn frame(tags: &[&str]) -> FrameBuilder {
    let mut builder = FrameBuilder::new(0);
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

    pub(crate) fn ask(&self) -> Ask<'static> {
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
