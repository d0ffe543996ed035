//! The plugins that come with the broker, in the sandbox and natively: the same verdict on every
//! one of more than a million messages each.
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use filter_sql::FilterPoint as Sql;
use filter_tag::FilterPoint as Tag;
use switchyard_plugin::{Config, Filter, run};
use yard_abi::record::Parts;
use yard_abi::verdict::Bitmap;
use yard_abi::{Delivery, FrameBuilder, Room};
use yard_plugins::sandbox::{Sandbox, Tools};
use yard_wasm::{Binding, Engine, Metering};

#[path = "../../../plugins/filter-sql/tests/sql/generate.rs"]
mod generate;

use generate::{Columns, Random, predicate};

/// Messages of each plugin, in chunks of a seed each.
const CHUNKS: u64 = 64;
const CHUNK: usize = 16_640;
const _: () = assert!(CHUNKS as usize * CHUNK > 1_000_000);
/// Messages that one expression judges.
const MESSAGES_OF_ONE: usize = 640;

const COLUMNS: Columns = Columns {
    numbers: &[("a", &[-3, 0, 1, 2, 7]), ("b", &[-1, 0, 2, 5]), ("long_name", &[0, 1, 1_000])],
    texts: &[("s", &["", "x", "xy", "yx", "zzz"]), ("t", &["x", "X", "ö", "y"])],
};
const NUMBERS: &[&str] = &["-3", "0", "1", "1.0", "1.5", "2", "7", "+2", "", "x", "1e3", "-0"];
const TEXTS: &[&str] = &["", "x", "xy", "yx", "xyx", "zzz", "true", "ö", "X", "1"];
const TAGS: &[&str] = &["", "a", "b", "Aa", "BB", "a long tag of many letters", "ö", "A"];

/// A message in which anything may be missing, and anything may be no number.
fn message(random: &mut Random) -> Vec<u8> {
    let mut properties = Vec::new();
    for (name, values) in
        [("a", NUMBERS), ("other", TEXTS), ("b", NUMBERS), ("s", TEXTS), ("t", TEXTS)]
    {
        if !random.one_in(4) {
            properties.push((name.to_owned(), (*random.pick(values)).to_owned()));
        }
    }
    if random.one_in(2) {
        properties.push(("long_name".to_owned(), (*random.pick(NUMBERS)).to_owned()));
    }
    let tag = (*random.pick(TAGS)).to_owned();
    Parts { tag, properties, ..Parts::default() }.record()
}

/// Both judge the messages of all chunks; how many were delivered.
fn agree<P: Filter>(name: &str, expression: impl Fn(&mut Random) -> String) {
    let tools = Tools::new(None).unwrap();
    let file = match tools.file(name) {
        Ok(file) => file,
        Err(missing) => return eprintln!("skipped: {name} in the sandbox: {missing}"),
    };
    let engine = Engine::new(Metering::Both).unwrap();
    let mut sandbox = Sandbox::of(&tools, &engine, &file).unwrap();
    let (mut judged, mut delivered) = (0u64, 0u64);
    for seed in 0..CHUNKS {
        let mut random = Random(seed);
        for _ in 0..CHUNK / MESSAGES_OF_ONE {
            let text = expression(&mut random);
            let twin = P::compile(&text, &Config::default()).unwrap();
            let binding = Binding::new(text.clone(), Vec::new());
            let mut left = MESSAGES_OF_ONE;
            let mut frame = FrameBuilder::new(0);
            while left > 0 {
                let record = message(&mut random);
                let room = frame.push(&record, Delivery::default()).unwrap();
                left -= usize::from(room == Room::Taken);
                if room == Room::Taken && left > 0 {
                    continue;
                }
                let judging = sandbox.judge(&binding, &frame);
                let bytes = run::filter(&twin, frame.bytes(), frame.count());
                let expect = Bitmap::parse(&bytes, frame.count()).unwrap();
                for (at, expect) in expect.iter().enumerate() {
                    let found = judging.delivered().has(at);
                    assert_eq!(found, expect, "seed {seed}: message {at} for {text}");
                }
                judged += u64::from(frame.count());
                delivered += u64::from(expect.ones());
                frame.clear();
            }
        }
    }
    println!("{name}: {judged} messages, {delivered} delivered");
    assert!(judged > 1_000_000, "{judged}");
    assert!((judged / 20..judged * 19 / 20).contains(&delivered), "{delivered} of {judged}");
}

#[test]
fn tags_are_judged_alike_in_the_sandbox_and_natively() {
    let expression = |random: &mut Random| {
        let tags: Vec<&str> = (0..=random.below(4)).map(|_| *random.pick(&TAGS[1..])).collect();
        tags.join(" || ")
    };
    agree::<Tag>("filter-tag", expression);
}

#[test]
fn sql_is_judged_alike_in_the_sandbox_and_natively() {
    let expression = |random: &mut Random| {
        let depth = random.below(4);
        predicate(random, &COLUMNS, depth)
    };
    agree::<Sql>("filter-sql", expression);
}
