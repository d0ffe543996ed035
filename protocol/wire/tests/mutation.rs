//! A million frames that were right and were spoilt a little. Each must be taken or refused,
//! without a panic and without costing much; what is taken must be what its bytes say.
#![allow(clippy::unwrap_used, reason = "a test may give up")]

mod corpus;

use std::alloc::System;

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use yard_wire::batch::{self, Batch};
use yard_wire::frame::{Class, Frame, FrameDecoder, HEADER_BYTES, encode_with};
use yard_wire::operation::{Arguments, Operation};
use yard_wire::record;
use yard_wire::request::{Kind, Push, Reply, Request};
use yard_wire::{Correlation, Malformed, Refusal, Wire, limits};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FRAMES: u32 = 1_000_000;
const SEED: u64 = 0x5eed_0f5c_41ab_1e00;
/// The dearest byte on the wire is the 0 of an absent `TopicRoute`: 64 bytes in memory, in a
/// vector that doubles as it grows.
const ALLOCATED_PER_BYTE_MAX: usize = 192;
/// What a decoder costs before it has seen a byte, and what an error text takes.
const ALLOCATED_ANYWAY: usize = 1_024;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "there is nothing below 0");
        ((self.next() >> 32) as usize) % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Values that sit at the edges of checks.
const EDGES: &[u32] = &[
    0,
    1,
    15,
    16,
    47,
    48,
    79,
    80,
    255,
    65_535,
    65_536,
    65_537,
    limits::FRAME_BYTES_MAX as u32,
    limits::FRAME_BYTES_MAX as u32 + 1,
    1 << 31,
    u32::MAX,
];

fn spoil(random: &mut Random, frame: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    if frame.is_empty() {
        return;
    }
    let at = random.below(frame.len());
    match random.below(7) {
        0 => frame[at] ^= 1 << random.below(8),
        1 => frame[at] = random.next() as u8,
        2 => frame.truncate(at),
        3 => {
            let other = random.pick(corpus);
            let from = random.below(other.len());
            frame.truncate(at);
            frame.extend_from_slice(&other[from..]);
        }
        4 => {
            // A lie about a length or a count, wherever one may stand.
            let value = random.pick(EDGES).to_le_bytes();
            let end = frame.len().min(at + 4);
            frame[at..end].copy_from_slice(&value[..end - at]);
        }
        5 => {
            let end = at + random.below(frame.len() - at + 1);
            let piece = frame[at..end].to_vec();
            frame.splice(at..at, piece);
        }
        _ => {
            let end = at + random.below(frame.len() - at + 1);
            frame.drain(at..end);
        }
    }
}

fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Makes the outermost length true again, so that what is inside gets looked at.
fn tell_the_length(frame: &mut [u8]) {
    if frame.len() >= HEADER_BYTES {
        set_u32(frame, 0, frame.len() as u32);
    }
}

/// Makes lengths and checksums of a produced batch true again, so that the checks behind them
/// get looked at.
fn sign(frame: &mut [u8]) {
    let batch_at = HEADER_BYTES + corpus::BATCH_AT;
    if frame.len() < batch_at + batch::HEADER_BYTES {
        return;
    }
    tell_the_length(frame);
    let length = (frame.len() - batch_at) as u32;
    set_u32(frame, batch_at - 4, length);
    let batch = &mut frame[batch_at..];
    set_u32(batch, 0, length);
    let mut records = &mut batch[batch::HEADER_BYTES..];
    while records.len() >= record::HEADER_BYTES {
        let length = u32_at(records, 0).clamp(record::HEADER_BYTES, records.len());
        let (record, rest) = records.split_at_mut(length);
        let body_at = length - u32_at(record, 46).min(length - record::HEADER_BYTES);
        let body_crc = crc32c::crc32c(&record[body_at..]);
        set_u32(record, 76, body_crc);
        let crc = crc32c::crc32c(&record[..72]);
        set_u32(record, 72, crc32c::crc32c_append(crc, &record[76..body_at]));
        records = rest;
    }
    let crc = crc32c::crc32c(&batch[..4]);
    let crc = crc32c::crc32c_append(crc, &batch[8..batch::HEADER_BYTES]);
    set_u32(batch, 4, crc);
}

#[derive(Default, Debug)]
struct Seen {
    taken: u32,
    refused: u32,
    broken: u32,
    batches: u32,
    batches_refused: u32,
}

/// Decodes a frame as far as it goes; gives back what it decoded to, encoded again.
fn decode(frame: &Frame, seen: &mut Seen) -> Result<Option<Vec<u8>>, Malformed> {
    let mut out = Vec::new();
    let body = frame.body.clone();
    match (frame.class, Kind::from_number(frame.kind)) {
        (Class::Request, Some(kind)) => {
            let request = Request::from_body(kind, body)?;
            inside(&request, seen);
            request.put_body(&mut out);
        }
        (Class::Reply, Some(kind)) => Reply::from_body(kind, body)?.put_body(&mut out),
        (Class::Refusal, _) => Refusal::from_bytes(body)?.put(&mut out),
        (Class::Push, _) => Push::from_body(frame.kind, body)?.put_body(&mut out),
        (Class::Request | Class::Reply, None) => return Ok(None),
    }
    Ok(Some(out))
}

/// What a request carries in a form of its own.
fn inside(request: &Request, seen: &mut Seen) {
    match request {
        Request::Produce(produce) => match Batch::parse(produce.batch.clone()) {
            Ok(batch) => {
                seen.batches += 1;
                assert_eq!(batch.bytes(), &produce.batch);
                let bytes = |record: record::Record| record.bytes().len();
                let records: usize = batch.records().map(bytes).sum();
                assert_eq!(batch::HEADER_BYTES + records, produce.batch.len());
                for record in batch.records() {
                    let properties: usize =
                        record.properties().map(|(name, value)| 4 + name.len() + value.len()).sum();
                    assert_eq!(properties, record.properties_bytes());
                    assert!(record.tag().len() <= limits::TAG_BYTES_MAX);
                }
            }
            Err(_) => seen.batches_refused += 1,
        },
        Request::Call(call) => {
            let Some(operation) = Operation::from_number(call.operation) else {
                return;
            };
            let Ok(arguments) = Arguments::from_bytes(operation, call.args.clone()) else {
                return;
            };
            let mut again = Vec::new();
            arguments.put(&mut again);
            assert_eq!(again, call.args);
        }
        _ => {}
    }
}

fn feed(bytes: &[u8], step: usize, seen: &mut Seen) {
    let mut decoder = FrameDecoder::new(limits::FRAME_BYTES_MAX);
    for piece in bytes.chunks(step) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Err(_) => {
                    seen.broken += 1;
                    return;
                }
                Ok(Some(frame)) => match decode(&frame, seen) {
                    Ok(Some(again)) => {
                        seen.taken += 1;
                        assert_eq!(again, frame.body, "what was taken is what the bytes say");
                    }
                    Ok(None) | Err(_) => seen.refused += 1,
                },
            }
        }
    }
}

/// The only test of this binary: what others allocate would be counted.
#[test]
fn spoilt_frames_are_taken_or_refused_at_bounded_cost() {
    let corpus = corpus::frames();
    let mut seen = Seen::default();
    for frame in &corpus {
        feed(frame, 7, &mut seen);
    }
    assert_eq!(seen.taken as usize, corpus.len(), "the corpus itself is right: {seen:?}");

    bombs_cost_no_more();
    let mut random = Random(SEED);
    noise_is_refused(&mut random);
    // However many other requests there are: what carries a batch is one of ten.
    let has_batch = |frame: &&Vec<u8>| {
        let mut seen = Seen::default();
        feed(frame, 7, &mut seen);
        seen.batches > 0
    };
    let of_batches: Vec<Vec<u8>> = corpus.iter().filter(has_batch).cloned().collect();
    let mut dearest = 0;
    let mut seen = Seen::default();
    for number in 0..FRAMES {
        let of = if random.below(10) == 0 { &of_batches } else { &corpus };
        let mut frame = random.pick(of).clone();
        for _ in 0..=random.below(3) {
            spoil(&mut random, &mut frame, &corpus);
        }
        match random.below(4) {
            0 => {}
            1 | 2 => tell_the_length(&mut frame),
            _ => sign(&mut frame),
        }
        let step = 1 + random.below(frame.len() + 1);
        let region = Region::new(ALLOCATOR);
        feed(&frame, step, &mut seen);
        let allocated = region.change().bytes_allocated;
        let bound = ALLOCATED_ANYWAY + ALLOCATED_PER_BYTE_MAX * frame.len();
        assert!(allocated <= bound, "frame {number}: {allocated} bytes for {frame:02x?}");
        dearest = dearest.max(allocated / frame.len().max(64));
    }
    println!("seed {SEED:#x}: {seen:?}, dearest: {dearest} bytes a byte");
    // Each way out was taken often, or this would prove little.
    for count in [seen.taken, seen.refused, seen.broken] {
        assert!(count > FRAMES / 20, "{seen:?}");
    }
    assert!(seen.batches > FRAMES / 1_000 && seen.batches_refused > FRAMES / 1_000, "{seen:?}");
}

/// The dearest bodies that can be thought of: many of what is small on the wire and large in
/// memory, with a true count and with one that lies.
fn bombs_cost_no_more() {
    for (kind, class, items) in [
        (Kind::FindRoute, Class::Reply, &[0; 100_000][..]),
        (Kind::FindRoute, Class::Request, &[0; 400_000]),
        (Kind::Settle, Class::Request, &[0; 220_000]),
    ] {
        for count in [items.len() as u32, items.len() as u32 / 4, items.len() as u32 / 22, u32::MAX]
        {
            let mut bytes = Vec::new();
            let before = match (kind, class) {
                (Kind::FindRoute, Class::Reply) => 4,
                (Kind::Settle, _) => 10,
                _ => 0,
            };
            encode_with(kind as u16, class, Correlation(1), &mut bytes, |out| {
                out.extend_from_slice(&[0; 10][..before]);
                count.put(out);
                out.extend_from_slice(items);
            });
            let region = Region::new(ALLOCATOR);
            feed(&bytes, bytes.len(), &mut Seen::default());
            let allocated = region.change().bytes_allocated;
            let bound = ALLOCATED_ANYWAY + ALLOCATED_PER_BYTE_MAX * bytes.len();
            assert!(allocated <= bound, "{kind:?} {count}: {allocated} for {}", bytes.len());
        }
    }
}

fn noise_is_refused(random: &mut Random) {
    for length in (0..4_000).map(|n| n % 200) {
        let noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        assert!(Batch::parse(Bytes::from(noise.clone())).is_err());
        assert!(record::Record::parse(Bytes::from(noise)).is_err());
    }
}
