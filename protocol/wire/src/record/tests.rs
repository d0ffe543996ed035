//! Records that are well-formed, and those that are not.
use super::*;

fn sample() -> Vec<u8> {
    let parts = RecordParts {
        topic: TopicId(7),
        queue: QueueIndex(3),
        id: MessageId::new(Timestamp(5), 9),
        born: Timestamp(5),
        flags: Flags::NONE,
        tag: "paid",
        properties: &[(KEY, "k1"), ("colour", "red"), (KEY, "k2"), (ORDER, "o")],
        body: b"hello",
    };
    let mut out = Vec::new();
    parts.encode(&mut out).expect("within limits");
    assert_eq!(out.len(), parts.encoded_bytes());
    out
}

#[test]
fn what_is_written_is_read() {
    let record = Record::parse(sample().into()).expect("well-formed");
    assert_eq!(record.topic(), TopicId(7));
    assert_eq!(record.queue(), QueueIndex(3));
    assert_eq!(record.tag(), "paid");
    assert_eq!(record.property("colour"), Some("red"));
    assert_eq!(record.keys().collect::<Vec<_>>(), ["k1", "k2"]);
    let (id, keys) = Record::peek_keys(record.bytes()).expect("well-formed");
    assert_eq!((id, keys.collect::<Vec<_>>()), (record.id(), vec!["k1", "k2"]));
    assert_eq!(record.order_group(), Some("o"));
    assert_eq!(&record.body()[..], b"hello");
    assert_eq!(record.born(), Timestamp(5));
    assert_eq!((record.flags(), record.due()), (Flags::NONE, None));
}

#[test]
fn flags_are_kept_and_others_than_the_known_refused() {
    for (bits, is_known) in [(0, true), (1, true), (2, true), (3, true), (4, true), (8, false)] {
        let properties = [(DUE, "1700000000000")];
        let parts =
            RecordParts { flags: Flags(bits), properties: &properties, ..RecordParts::default() };
        let mut out = Vec::new();
        parts.encode(&mut out).expect("within limits");
        let found = Record::parse(out.into());
        assert_eq!(found.is_ok(), is_known, "{bits}");
        let Ok(record) = found else { continue };
        assert_eq!(record.flags(), Flags(bits));
        assert_eq!(record.flags().is_parked(), bits & 3 != 0);
        assert_eq!(record.dedupe_key().is_some(), bits & 4 != 0);
        assert_eq!(record.flags().has(Flags::PREPARED), bits & 2 != 0);
        assert_eq!(record.due(), Some(Timestamp(1_700_000_000_000)));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let good = sample();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Record::parse(bad.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn every_prefix_is_refused() {
    let good = sample();
    for end in 0..good.len() {
        assert!(Record::parse(Bytes::copy_from_slice(&good[..end])).is_err(), "prefix {end}");
        assert!(Record::peek_keys(&good[..end]).is_err(), "prefix {end}");
    }
}

#[test]
fn a_record_fills_its_bytes() {
    let mut bytes = sample();
    bytes.push(0);
    assert_eq!(Record::parse(bytes.into()).unwrap_err(), Malformed::Trailing { left: 1 });
}

#[test]
fn limits_are_refused_with_their_code() {
    let body = vec![0; limits::BODY_BYTES_MAX + 1];
    let parts = RecordParts { body: &body, ..RecordParts::default() };
    assert_eq!(parts.check().unwrap_err().code, Code::BodyTooLarge);
    let value = "x".repeat(65_000);
    let properties = [("a", value.as_str()), ("b", value.as_str())];
    let parts = RecordParts { properties: &properties, ..RecordParts::default() };
    assert_eq!(parts.check().unwrap_err().code, Code::PropertiesTooLarge);
    let tag = "t".repeat(256);
    let parts = RecordParts { tag: &tag, ..RecordParts::default() };
    assert_eq!(parts.check().unwrap_err().code, Code::PropertiesTooLarge);
}
