//! Plugins written as text. Nothing of the host is known here: whoever needs a plugin that a broker
//! would not want to have can take this file as it is.
use wasm_encoder::{CustomSection, Section};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use yard_abi::manifest::{Capability, Point, SECTION};
use yard_abi::wit;

/// Appends a custom section.
pub(crate) fn with_section(mut wasm: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    CustomSection { name: name.into(), data: data.into() }.append_to(&mut wasm);
    wasm
}

pub(crate) fn manifest(point: Point, capabilities: &[Capability]) -> String {
    manifest_of("test", point, capabilities)
}

fn manifest_of(name: &str, point: Point, capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(|it| format!("\"{}\"", it.name())).collect();
    format!(
        r#"{{"name": "{name}", "version": "1.0.0", "points": ["{}"], "capabilities": [{}]}}"#,
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
#[derive(Clone, Copy)]
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
        self.build_as("test", capabilities)
    }

    /// The same under another name.
    pub(crate) fn build_as(&self, name: &str, capabilities: &[Capability]) -> Vec<u8> {
        let json = manifest_of(name, Point::Filter, capabilities);
        with_section(typed(Point::Filter, &self.wat()), SECTION, json.as_bytes())
    }
}
