//! Where instances get their memory, and that artefacts belong to one kind of engine.
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use yard_wasm::{Compiled, Engine, Limits, Metering, PluginHash, Pool};

use crate::support::{CACHE, ENGINE, GOOD, accepted, compiler};

#[test]
fn every_metering_has_artefacts_of_its_own() {
    let hash = PluginHash([1; 32]);
    let engines = [Metering::Unlimited, Metering::Epoch, Metering::Fuel];
    let mut names: Vec<_> =
        engines.map(|metering| Engine::new(metering).unwrap().artefact(hash)).to_vec();
    names.push(ENGINE.artefact(hash));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4);
    assert_eq!(Engine::new(Metering::Both).unwrap().artefact(hash), ENGINE.artefact(hash));
}

#[test]
fn where_addresses_are_short_instances_get_memory_one_by_one() {
    // The limit is of a whole process, so this is another: the test below.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "engine::with_few_addresses", "--ignored", "--test-threads=1"]);
    let output = child.output().unwrap();
    let says = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && says.contains("1 passed"), "{says}");
}

#[test]
#[ignore = "limits its process: started by the test above"]
fn with_few_addresses() {
    // One memory reserves 4 GiB; a pool of a thousand finds no place.
    let bytes = Some(64 << 30);
    setrlimit(Resource::As, Rlimit { current: bytes, maximum: bytes }).unwrap();
    assert_eq!(ENGINE.pool(), Pool::OnDemand);
    let mut host = crate::support::Host::of(&GOOD.build(&[]));
    assert_eq!(host.judge(&["a", "b"]).1.delivered().count(), 1);
}

#[test]
fn artefacts_of_the_child_fit_engines_with_a_pool() {
    assert_eq!(ENGINE.pool(), Pool::Reserved, "the machine of the tests has addresses");
    let wasm = GOOD.build(&[]);
    let accepted = accepted(&wasm, &Limits::DEFAULT).unwrap();
    assert!(Compiled::prepare(&ENGINE, &CACHE, &compiler(), &accepted, &wasm).is_ok());
}
