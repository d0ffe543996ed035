//! Messages as a shop has them, made by numbers: the same in every run.
use yard_it::Seeded;
use yard_wire::record::RecordParts;
use yard_wire::{MessageId, Timestamp};

/// Bytes of a message's body.
const BODY_BYTES: usize = 256;
/// What the reference predicate is about. Source: the measurements that the host was designed by.
pub const PREDICATE: &str = "region = 'eu' AND amount > 100 AND \
     (tier IN ('gold', 'platinum') OR score BETWEEN 50 AND 80)";
/// Tags that the reference expression wants.
pub const TAGS: &str = "order-paid || order-sent";

/// Stored records: a tag, six properties, a body with a number that nobody should read.
#[must_use]
pub fn records(count: usize) -> Vec<Vec<u8>> {
    let mut random = Seeded::new(7);
    (0..count).map(|number| record(&mut random, number)).collect()
}

fn record(random: &mut Seeded, number: usize) -> Vec<u8> {
    let pick =
        |random: &mut Seeded, of: &[&'static str]| of[random.within(0..of.len() as u64) as usize];
    let tag = pick(random, &["order-paid", "order-sent", "order-new", "order-void", "refund", ""]);
    let region = pick(random, &["eu", "us", "ap"]);
    let tier = pick(random, &["gold", "platinum", "silver", "none"]);
    let (amount, score) = (random.within(0..300).to_string(), random.within(0..100).to_string());
    let customer = format!("c-{:06}", random.within(0..1_000_000));
    let properties = [
        ("region", region),
        ("amount", &amount),
        ("tier", tier),
        ("score", &score),
        ("customer", &customer),
        ("channel", "web"),
    ];
    let mut body = format!("{number:08} pay with 4111111111{:06} ", random.within(0..1_000_000));
    body.extend(std::iter::repeat_n('.', BODY_BYTES - body.len()));
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let mut record = Vec::new();
    let (id, born) = (MessageId(id), Timestamp(1));
    let parts = RecordParts { id, born, tag, properties: &properties, ..RecordParts::default() };
    let parts = RecordParts { body: body.as_bytes(), ..parts };
    parts.encode(&mut record).expect("a small record");
    record
}
