//! Plugins for tests, written as text: a filter over tags, a dedupe plugin whose keys are tags, and
//! what is wrong with a file in each way that has a code.
use std::fmt::Write;

use wasm_encoder::{CustomSection, Section};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use yard_abi::manifest::{Point, SECTION};
use yard_abi::wit;

const FILTER: &str = "switchyard:plugin/filter@1.0.0";
const DEDUPE: &str = "switchyard:plugin/dedupe@1.0.0";
const METRICS: &str = "switchyard:plugin/metrics@1.0.0";

/// The key list of a frame at `$f`: of each message its tag. It traps at one that begins with a
/// letter.
const KEYS: &str = r#"
    (local $i i32) (local $m i32) (local $out i32) (local $tag i32) (local $n i32)
    (call $add (i32.const 64) (i32.const 4) (i64.extend_i32_u (local.get $count)))
    (local.set $m (i32.add (local.get $f) (i32.const 8)))
    (local.set $out (i32.const 131072))
    (loop $next
      (local.set $n (i32.load16_u offset=42 (local.get $m)))
      (local.set $tag (i32.add (local.get $m) (i32.load16_u offset=4 (local.get $m))))
      (if (local.get $n) (then
        (if (i32.eq (i32.load8_u (local.get $tag)) (i32.const TRAP)) (then (unreachable)))))
      (i32.store16 (local.get $out) (local.get $n))
      (memory.copy (i32.add (local.get $out) (i32.const 2)) (local.get $tag) (local.get $n))
      (local.set $out (i32.add (local.get $out) (i32.add (local.get $n) (i32.const 2))))
      (local.set $m (i32.add (local.get $m) (i32.load (local.get $m))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $count))))
    (i32.store (i32.const 16) (i32.const 131072))
    (i32.store (i32.const 20) (i32.sub (local.get $out) (i32.const 131072)))
    (global.set $top (i32.const 4096))
    (i32.const 16)"#;

/// The result of a filter's function for the message at `$m`: whether its tag begins with a letter.
/// At a tag that ends with another it traps.
const VERDICT: &str = r#"
    (local $tag i32) (local $n i32)
    (local.set $n (i32.load16_u offset=42 (local.get $m)))
    (if (i32.eqz (local.get $n)) (then (return (i32.const 0))))
    (local.set $tag (i32.add (local.get $m) (i32.load16_u offset=4 (local.get $m))))
    (if (i32.eq (i32.const TRAP) (i32.load8_u
        (i32.sub (i32.add (local.get $tag) (local.get $n)) (i32.const 1)))) (then (unreachable)))
    (i32.eq (i32.load8_u (local.get $tag)) (i32.const LETTER))"#;

const EVALUATE: &str = r#"
    (local $i i32) (local $m i32)
    (memory.fill (i32.const 64) (i32.const 0) (i32.const 32))
    (local.set $m (i32.add (local.get $f) (i32.const 8)))
    (loop $next
      (if (call $verdict (local.get $m)) (then
        (i32.store8 offset=64 (i32.shr_u (local.get $i) (i32.const 3))
          (i32.or (i32.load8_u offset=64 (i32.shr_u (local.get $i) (i32.const 3)))
            (i32.shl (i32.const 1) (i32.and (local.get $i) (i32.const 7)))))))
      (local.set $m (i32.add (local.get $m) (i32.load (local.get $m))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $count))))
    (i32.store (i32.const 16) (i32.const 64))
    (i32.store (i32.const 20) (i32.shr_u (i32.add (local.get $count) (i32.const 7)) (i32.const 3)))
    (global.set $top (i32.const 4096))
    (i32.const 16)"#;

const REALLOC: &str = r#"
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $top (i32.add (local.get $at) (local.get $bytes)))
    (local.get $at)"#;

/// A filter that delivers messages whose tag begins with this letter, and traps at one that ends
/// with `x`; `label` tells versions apart. Its manifest is the one given, or one that fits.
#[must_use]
pub fn filter(name: &str, label: &str, letter: char, manifest: Option<&str>) -> Vec<u8> {
    let fits = format!(r#"{{"name":"{name}","version":"{label}","points":["filter"]}}"#);
    let typed = typed(&wat((letter, 'x'), ""), Point::Filter);
    with_section(typed, SECTION, manifest.unwrap_or(&fits).as_bytes())
}

/// The same; it traps at a tag that ends with the letter `trap`.
#[must_use]
pub fn filter_that_traps(name: &str, label: &str, letter: char, trap: char) -> Vec<u8> {
    let fits = format!(r#"{{"name":"{name}","version":"{label}","points":["filter"]}}"#);
    with_section(typed(&wat((letter, trap), ""), Point::Filter), SECTION, fits.as_bytes())
}

/// A filter that declares that it reads no properties and delivers messages that have none in its
/// frames, so all; or one that reads them and delivers messages that have some.
#[must_use]
pub fn filter_by_sight(name: &str, label: &str, reads: bool) -> Vec<u8> {
    let (properties, verdict) = if reads { ("all", "ne") } else { ("none", "eq") };
    let verdict = format!("(i32.{verdict} (i32.load16_u offset=44 (local.get $m)) (i32.const 0))");
    let fits = format!(
        r#"{{"name":"{name}","version":"{label}","points":["filter"],
            "properties":"{properties}"}}"#
    );
    with_section(typed(&wat_of(&verdict, ""), Point::Filter), SECTION, fits.as_bytes())
}

/// A dedupe plugin whose keys are the tags of messages, remembered for an hour in this keyspace. It
/// traps at a tag that begins with the letter `trap`, and counts what it sees as `seen`.
#[must_use]
pub fn dedupe(name: &str, label: &str, keyspace: u32, trap: char) -> Vec<u8> {
    let keys = KEYS.replace("TRAP", &u32::from(trap).to_string());
    let text = format!(
        r#"(module
        (import "{METRICS}" "add" (func $add (param i32 i32 i64)))
        (memory (export "memory") 4) (global $top (mut i32) (i32.const 4096))
        (data (i32.const 64) "seen")
        (func (export "{DEDUPE}#open") (param i32 i32) (result i32)
            (i64.store (i32.const 32) (i64.const 0)) (i64.store (i32.const 40) (i64.const 0))
            (global.set $top (i32.const 4096)) (i32.const 32))
        (func (export "{DEDUPE}#keys") (param $f i32) (param $bytes i32) (param $count i32)
            (result i32) {keys})
        (func (export "{DEDUPE}#describe") (result i32)
            (i64.store (i32.const 80) (i64.const 3600000))
            (i32.store (i32.const 88) (i32.const 0))
            (i32.store (i32.const 92) (i32.const {keyspace}))
            (i32.const 80))
        (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $bytes i32)
            (result i32) {REALLOC}))"#
    );
    let fits = format!(
        r#"{{"name":"{name}","version":"{label}","points":["dedupe"],
            "capabilities":["log","metrics"]}}"#
    );
    with_section(typed(&text, Point::Dedupe), SECTION, fits.as_bytes())
}

/// The same without the section that says its types.
#[must_use]
pub fn untyped() -> Vec<u8> {
    wat::parse_str(wat(('a', 'x'), "")).expect("the text is a module")
}

/// The same with an import that no host has.
#[must_use]
pub fn curious(name: &str) -> Vec<u8> {
    let import = r#"(import "wasi:cli/environment@0.2.0" "get-environment" (func (param i32)))"#;
    let module = wat::parse_str(wat(('a', 'x'), import)).expect("the text is a module");
    let module = with_section(module, "component-type:curious", b"");
    let manifest = format!(r#"{{"name":"{name}","version":"1.0.0","points":["filter"]}}"#);
    with_section(module, SECTION, manifest.as_bytes())
}

fn wat((letter, trap): (char, char), imports: &str) -> String {
    let number = |letter: char| u32::from(letter).to_string();
    let verdict = VERDICT.replace("LETTER", &number(letter)).replace("TRAP", &number(trap));
    wat_of(&verdict, imports)
}

fn wat_of(verdict: &str, imports: &str) -> String {
    let mut text = String::from("(module ");
    let new = format!(
        r#"(import "[export]{FILTER}" "[resource-new]predicate"
            (func $new (param i32) (result i32))) {imports}
        (memory (export "memory") 4) (global $top (mut i32) (i32.const 4096))
        (func $verdict (param $m i32) (result i32) {verdict})"#
    );
    let evaluate = format!(
        r#"(func (export "{FILTER}#[method]predicate.evaluate")
            (param $self i32) (param $f i32) (param $bytes i32) (param $count i32)
            (result i32) {EVALUATE})"#
    );
    let compile = format!(
        r#"(func (export "{FILTER}#[static]predicate.compile")
            (param i32 i32 i32 i32) (result i32)
            (i32.store8 (i32.const 32) (i32.const 0))
            (i32.store (i32.const 36) (call $new (i32.const 1)))
            (global.set $top (i32.const 4096)) (i32.const 32))"#
    );
    let rest = format!(
        r#"(func (export "{FILTER}#[method]predicate.needs") (param i32) (result i32)
            (i64.store (i32.const 48) (i64.const 0)) (i32.store (i32.const 56) (i32.const 0))
            (i32.const 48))
        (func (export "{FILTER}#evaluate-all")
            (param i32 i32 i32 i32 i32) (result i32) unreachable)
        (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $bytes i32)
            (result i32) {REALLOC}))"#
    );
    write!(text, "{new}{evaluate}{compile}{rest}").expect("memory takes it");
    text
}

/// A core module that says its types.
fn typed(text: &str, point: Point) -> Vec<u8> {
    let mut module = wat::parse_str(text).expect("the text is a module");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", wit::TEXT).expect("the package is sound");
    let world = resolve.select_world(&[package], Some(point.world())).expect("it is there");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the world is that of the module");
    module
}

fn with_section(mut wasm: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    CustomSection { name: name.into(), data: data.into() }.append_to(&mut wasm);
    wasm
}
