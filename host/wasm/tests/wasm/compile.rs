//! The child process and its limits, and the cache of what it makes.
use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime};

use yard_wasm::{Cache, CompileError, Compiled, Limits, LoadError, Metering, Origin, PluginHash};

use crate::support::{ENGINE, Filter, Folder, GOOD, accepted, compiler, leb};

fn compile(wasm: &[u8], limits: &Limits) -> Result<Vec<u8>, CompileError> {
    compiler().compile(wasm, Metering::Both, limits)
}

/// A core module with so many functions, each with this body.
fn functions(count: usize, body: &[u8]) -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    let mut section = |id: u8, content: &[u8]| {
        wasm.push(id);
        wasm.extend(leb(content.len()));
        wasm.extend_from_slice(content);
    };
    section(1, &[1, 0x60, 0, 0]);
    let mut types = leb(count);
    types.resize(types.len() + count, 0);
    section(3, &types);
    let mut code = leb(count);
    for _ in 0..count {
        code.extend(leb(body.len()));
        code.extend_from_slice(body);
    }
    section(10, &code);
    wasm
}

/// A component that only holds a module.
fn component(module: &[u8]) -> Vec<u8> {
    let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
    wasm.push(1);
    wasm.extend(leb(module.len()));
    wasm.extend_from_slice(module);
    wasm
}

#[test]
fn artefacts_are_made_once_and_kept() {
    let folder = Folder::new();
    let cache = Cache::open(&folder.0).unwrap();
    let wasm = GOOD.build(&[]);
    let accepted = accepted(&wasm, &Limits::DEFAULT).unwrap();
    let prepare = |cache: &Cache| {
        let prepared = Compiled::prepare(&ENGINE, cache, &compiler(), &accepted, &wasm);
        prepared.map(|(_, origin)| origin).unwrap()
    };
    assert_eq!(prepare(&cache), Origin::Compiler);
    assert_eq!(prepare(&cache), Origin::Cache);
    assert_eq!(prepare(&Cache::open(&folder.0).unwrap()), Origin::Cache, "and after a restart");
    assert_eq!(cache.keep_only(&BTreeSet::from([accepted.hash])).unwrap(), 0);
    fs::write(folder.0.join("1-1.new"), b"left by a crash").unwrap();
    let left = fs::File::options().write(true).open(folder.0.join("1-1.new")).unwrap();
    left.set_modified(SystemTime::now() - Duration::from_secs(7_200)).unwrap();
    fs::write(folder.0.join("1-2.new"), b"being written by another process").unwrap();
    assert_eq!(cache.keep_only(&BTreeSet::new()).unwrap(), 2);
    assert!(folder.0.join("1-2.new").is_file());
    assert_eq!(prepare(&cache), Origin::Compiler);
}

#[test]
fn whoever_opens_a_folder_at_the_same_time_has_the_same_key() {
    let (wasm, name) = (GOOD.build(&[]), ENGINE.artefact(PluginHash([5; 32])));
    let accepted =
        yard_wasm::Accepted { hash: name.hash, ..accepted(&wasm, &Limits::DEFAULT).unwrap() };
    let artefact = compile(&wasm, &Limits::DEFAULT).unwrap();
    for _ in 0..20 {
        let folder = Folder::new();
        let caches: Vec<Cache> = thread::scope(|scope| {
            let open = |_| scope.spawn(|| Cache::open(&folder.0).unwrap());
            let opening: Vec<_> = (0..8).map(open).collect();
            opening.into_iter().map(|it| it.join().unwrap()).collect()
        });
        caches[0].put(&name, &artefact).unwrap();
        for cache in &caches {
            assert!(Compiled::load(&ENGINE, cache, &accepted).unwrap().is_some());
        }
        let files = fs::read_dir(&folder.0).unwrap().count();
        assert_eq!(files, 2, "the key and the artefact");
    }
}

#[test]
fn damaged_and_foreign_artefacts_are_never_loaded() {
    let folder = Folder::new();
    let cache = Cache::open(&folder.0).unwrap();
    let name = ENGINE.artefact(PluginHash([5; 32]));
    let wasm = GOOD.build(&[]);
    let accepted =
        yard_wasm::Accepted { hash: name.hash, ..accepted(&wasm, &Limits::DEFAULT).unwrap() };
    let artefact = compile(&wasm, &Limits::DEFAULT).unwrap();
    cache.put(&name, &artefact).unwrap();
    let loads = |cache: &Cache| Compiled::load(&ENGINE, cache, &accepted).unwrap().is_some();
    assert!(loads(&cache));
    let file = fs::read_dir(&folder.0).unwrap().map(|it| it.unwrap().path());
    let file = file.into_iter().find(|it| it.extension().is_some()).unwrap();
    let whole = fs::read(&file).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 97).chain(whole.len() - 40..whole.len()) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).unwrap();
        assert!(!loads(&cache), "byte {at} of {} is another", whole.len());
    }
    for length in [0, 39, 40, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(!loads(&cache), "{length} bytes are left");
    }
    fs::write(&file, &whole).unwrap();
    assert!(loads(&cache));
    // Under another name, and from another folder, it is foreign.
    let other = Folder::new();
    let foreign = Cache::open(&other.0).unwrap();
    fs::copy(&file, other.0.join(file.file_name().unwrap())).unwrap();
    assert!(!loads(&foreign));
    let renamed = file.to_str().unwrap().replace(&"05".repeat(32), &"06".repeat(32));
    fs::rename(&file, &renamed).unwrap();
    let six = yard_wasm::Accepted { hash: PluginHash([6; 32]), ..accepted.clone() };
    assert!(Compiled::load(&ENGINE, &cache, &six).unwrap().is_none());
}

#[test]
fn what_is_not_valid_is_refused_by_the_child() {
    let invalid = component(&functions(1, &[0, 0x6a, 0x0b]));
    let error =
        compile(&invalid, &Limits::DEFAULT).map(|it| it.len()).expect_err("an addition of nothing");
    assert!(
        matches!(&error, CompileError::Refused(says) if says.contains("type mismatch")),
        "{error}"
    );
    // `judge` takes another number of arguments than its world says.
    let wat = GOOD.wat().replace("(param $self i32) (param $f i32)", "(param $f i32)");
    let wasm = crate::support::plugin(yard_abi::manifest::Point::Filter, &[], &wat);
    let error = compile(&wasm, &Limits::DEFAULT)
        .map(|it| it.len())
        .expect_err("a function of another type");
    assert!(matches!(error, CompileError::Refused(_)), "{error}");
}

#[test]
fn proposals_that_are_off_are_refused() {
    for (name, wat) in [
        ("threads", "(module (memory 1 1 shared))"),
        ("memory64", "(module (memory i64 1))"),
        ("two memories", "(module (memory 1) (memory 1))"),
        ("tail calls", "(module (func $f (return_call $f)))"),
        ("exceptions", "(module (tag))"),
        ("gc", "(module (type (struct)))"),
    ] {
        let module = wat::parse_str(wat).unwrap();
        let error =
            compile(&component(&module), &Limits::DEFAULT).map(|it| it.len()).expect_err(name);
        assert!(matches!(error, CompileError::Refused(_)), "{name}: {error}");
    }
}

#[test]
fn a_million_functions_end_at_the_limit_of_time() {
    let limits = Limits { compile_cpu_s_max: 1, ..Limits::DEFAULT };
    let wasm = component(&functions(1_000_000, &[0, 0x0b]));
    let error = compile(&wasm, &limits).map(|it| it.len()).expect_err("too much work for a second");
    let stopped = matches!(error, CompileError::TooSlow(1) | CompileError::TooMuchMemory(_));
    assert!(stopped, "{error}");
}

#[test]
fn memory_and_size_are_limited() {
    let wasm = GOOD.build(&[]);
    let limits = Limits { compiled_bytes_max: 4_096, ..Limits::DEFAULT };
    let error = compile(&wasm, &limits).map(|it| it.len()).expect_err("more than a page");
    assert!(matches!(error, CompileError::TooLarge(4_096)), "{error}");
    let limits = Limits { compile_memory_bytes_max: 150 << 20, ..Limits::MAX };
    assert!(compile(&wasm, &limits).is_ok(), "an honest plugin needs less");
    let many = component(&functions(1_000_000, &[0, 0x0b]));
    let error = compile(&many, &limits).map(|it| it.len()).expect_err("a million functions");
    assert!(matches!(error, CompileError::TooMuchMemory(_)), "{error}");
}

#[test]
fn a_program_that_is_no_compiler_is_an_error() {
    let wrong = yard_wasm::Compiler::new("/bin/false".into(), Vec::new());
    let error = wrong.compile(b"", Metering::Both, &Limits::DEFAULT).expect_err("false fails");
    assert!(matches!(error, CompileError::Failed { .. }), "{error}");
    let missing = yard_wasm::Compiler::new("/nonexistent".into(), Vec::new());
    let error = missing.compile(b"", Metering::Both, &Limits::DEFAULT).expect_err("no program");
    assert!(matches!(error, CompileError::System(_)), "{error}");
}

#[test]
fn what_no_instance_may_have_does_not_load() {
    let large = r#"(memory (export "memory") 1000)"#;
    let wasm = Filter { memory: large, ..GOOD }.build(&[]);
    let error = crate::support::prepared(&wasm, &Limits::DEFAULT).expect_err("64 MiB of memory");
    assert!(matches!(error, LoadError::Misfit(_)), "{error}");
    let tables = r#"(memory (export "memory") 1) (table 30000 funcref)"#;
    let wasm = Filter { memory: tables, ..GOOD }.build(&[]);
    let error = crate::support::prepared(&wasm, &Limits::DEFAULT).expect_err("a large table");
    assert!(matches!(error, LoadError::Misfit(_)), "{error}");
}
