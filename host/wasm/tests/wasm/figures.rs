//! Figures for who looks, on a machine that does nothing else:
//! `cargo test --release -p yard-wasm figures -- --ignored --nocapture --test-threads=1`.
use std::time::{Duration, Instant};

use yard_abi::manifest::Point;
use yard_abi::{Delivery, FrameBuilder, Room};
use yard_wasm::bench::{Native, Subject, bench};
use yard_wasm::{Binding, Cache, Compiled, Limits, Rollout};
use yard_wire::record::RecordParts;

use crate::support::{CACHE, ENGINE, Folder, GOOD, Host, accepted, compiler, installed};

const PROPERTIES: [(&str, &str); 6] = [
    ("region", "eu"),
    ("amount", "150"),
    ("tier", "gold"),
    ("score", "61"),
    ("customer", "c-104233"),
    ("channel", "web"),
];

fn records(count: usize) -> Vec<Vec<u8>> {
    let record = |index: usize| {
        let mut record = Vec::new();
        let tag = if index.is_multiple_of(3) { "apple" } else { "order-paid" };
        let parts = RecordParts { tag, properties: &PROPERTIES, ..RecordParts::default() };
        parts.encode(&mut record).expect("a small record");
        record
    };
    (0..count).map(record).collect()
}

fn quantile(times: &mut [Duration], per_mille: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * per_mille / 1_000]
}

#[test]
#[ignore = "prints figures"]
fn points() {
    // Larger than the caches, so that records are met cold.
    let records = records(100_000);
    let wasm = GOOD.build(&[]);
    let accepted = accepted(&wasm, &Limits::DEFAULT).unwrap();
    let binding = Binding::new(String::new(), Vec::new());
    for size in [1, 32, 256] {
        let subject =
            Subject::Batches { point: Point::Filter, records: &records, body_bytes: 0, size };
        let mut twin = || {
            let wanted = records.iter().filter(|record| {
                let tag = usize::from(u16::from_le_bytes([record[4], record[5]]));
                u16::from_le_bytes([record[42], record[43]]) > 0 && record[tag] == b'a'
            });
            wanted.count() as u64
        };
        let mut builder = FrameBuilder::new(0);
        let mut frames = || {
            for records in records.chunks(size) {
                builder.clear();
                let room = records.iter().map(|it| builder.push(it, Delivery::default()));
                assert!(room.into_iter().all(|it| it == Ok(Room::Taken)));
                std::hint::black_box(builder.bytes());
            }
            0
        };
        let mut native =
            [Native { name: "native", run: &mut twin }, Native { name: "frame", run: &mut frames }];
        let tools = (&*CACHE, &compiler());
        let rows = bench((&accepted, &wasm), tools, &binding, &subject, &mut native, 5).unwrap();
        for row in rows {
            println!(
                "batches of {size:>3}, {:>6}: {:>6.1} ns ({:.1} to {:.1}), fuel {:.0}",
                row.name, row.ns, row.ns_min, row.ns_max, row.fuel
            );
        }
    }
}

#[test]
#[ignore = "prints figures"]
fn swaps() {
    let wasm = GOOD.build(&[]);
    let versions = [installed(1, &wasm), installed(2, &wasm)];
    let mut host = Host::of(&wasm);
    let tags = ["apple"; 256];
    host.judge(&tags);
    let (mut first, mut usual) = (Vec::new(), Vec::new());
    for round in 0..1_000 {
        let active = Some(versions[round % 2].clone());
        host.publish(Rollout { active, ..Rollout::default() });
        for times in [&mut first, &mut usual] {
            let (ask, binding) = (host.ask(), host.binding.clone());
            let frame = crate::support::frame(&tags);
            let mut judging = yard_wasm::Judging::default();
            let started = Instant::now();
            let batch = yard_wasm::Batch::new(&frame);
            assert_eq!(
                host.worker.judge(&ask, &binding, &batch, &mut judging),
                yard_wasm::Turn::Done
            );
            times.push(started.elapsed());
            host.now_ms += 1_000;
        }
    }
    for (name, times) in [("first after a swap", &mut first), ("usual", &mut usual)] {
        let (p50, p99) = (quantile(times, 500), quantile(times, 990));
        println!("{name}: p50 {p50:?}, p99 {p99:?}, max {:?}", quantile(times, 1_000));
    }
}

#[test]
#[ignore = "prints figures"]
fn a_thousand_from_a_warm_cache() {
    let folder = Folder::new();
    let cache = Cache::open(&folder.0).unwrap();
    let wasm = GOOD.build(&[]);
    let one = accepted(&wasm, &Limits::DEFAULT).unwrap();
    let started = Instant::now();
    let artefact = compiler().compile(&wasm, ENGINE.metering(), &one.limits).unwrap();
    println!("compiling {} bytes in the child: {:?}", wasm.len(), started.elapsed());
    let all: Vec<_> = (0..1_000_u32)
        .map(|number| {
            let mut hash = one.hash;
            hash.0[..4].copy_from_slice(&number.to_le_bytes());
            yard_wasm::Accepted { hash, ..one.clone() }
        })
        .collect();
    for accepted in &all {
        cache.put(&ENGINE.artefact(accepted.hash), &artefact).unwrap();
    }
    let started = Instant::now();
    let load = |accepted| Compiled::load(&ENGINE, &cache, accepted).unwrap().unwrap();
    let loaded: Vec<Compiled> = all.iter().map(load).collect();
    println!("{} of {} bytes loaded: {:?}", loaded.len(), artefact.len(), started.elapsed());
}
