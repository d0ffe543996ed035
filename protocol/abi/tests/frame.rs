//! Frames: what a builder makes is read as it was, and no bytes make a reader panic.

use proptest::prelude::*;
use yard_abi::frame::{BODY_BYTES_MAX, FRAME_BYTES_MAX, FRAME_MESSAGES_MAX, HEADER_BYTES};
use yard_abi::message::is_same;
use yard_abi::record::Parts;
use yard_abi::{Delivery, Frame, FrameBuilder, Malformed, Message, Room, Shown, View};

fn parts() -> impl Strategy<Value = Parts> {
    // Short names meet each other and the ends of the bytes; long ones share their beginnings.
    let property = ("[a-c$]{0,3}|[a-z]{6,9}|prefixed[xy]{0,2}", "[ -~]{0,12}");
    let body = prop::collection::vec(any::<u8>(), 0..64);
    (any::<(u64, u32, [u8; 16])>(), "[a-zä]{0,6}", prop::collection::vec(property, 0..6), body)
        .prop_map(|((born_ms, topic, id), tag, properties, body)| Parts {
            born_ms,
            topic,
            id,
            tag,
            properties,
            body,
        })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    any::<(u64, u64, u32, u32)>().prop_map(|(offset, stored_ms, queue, attempts)| Delivery {
        offset,
        stored_ms,
        queue,
        attempts,
    })
}

/// Of the fixed part.
const FLAGS_AT: usize = 34;

/// A record with flags of the log's own, as those of delayed and of prepared messages.
fn stored(parts: &Parts, flags: u32) -> Vec<u8> {
    let mut record = parts.record();
    record[FLAGS_AT..FLAGS_AT + 4].copy_from_slice(&flags.to_le_bytes());
    record
}

fn check(message: &Message<'_>, parts: &Parts, delivery: Delivery, view: View) {
    assert_eq!(message.offset(), delivery.offset);
    assert_eq!(message.stored_ms(), delivery.stored_ms);
    assert_eq!(message.queue(), delivery.queue);
    assert_eq!(message.attempts(), delivery.attempts);
    assert_eq!(message.born_ms(), parts.born_ms);
    assert_eq!(message.topic(), parts.topic);
    assert_eq!(message.id(), parts.id);
    assert_eq!(message.tag(), parts.tag.as_bytes());
    let is_bare = view.properties == Shown::None;
    assert_eq!(message.is_without_properties(), is_bare);
    let properties = if is_bare { &[] } else { &parts.properties[..] };
    assert_eq!(usize::from(message.property_count()), properties.len());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let found: Vec<_> = message.properties().map(|(a, b)| (text(a), text(b))).collect();
    assert_eq!(found, properties);
    for (name, _) in &parts.properties {
        let first = properties.iter().find(|(it, _)| it == name).map(|(_, value)| value);
        assert_eq!(message.property(name.as_bytes()).map(text).as_ref(), first);
    }
    assert_eq!(message.property(b"NOT THERE"), None);
    let here = parts.body.len().min(view.body_bytes as usize);
    assert_eq!(message.body(), &parts.body[..here]);
    assert_eq!(message.body_bytes() as usize, parts.body.len());
    assert_eq!(message.body_is_cut(), here < parts.body.len());
}

proptest! {
    #[test]
    fn what_is_built_is_read(
        batch in prop::collection::vec((parts(), delivery()), 1..40),
        body_bytes in prop::sample::select(vec![0u32, 1, 16, u32::MAX]),
        properties in prop::sample::select(vec![Shown::All, Shown::None]),
        flags in 0u32..16,
    ) {
        let view = View { body_bytes, properties };
        let mut builder = FrameBuilder::of(view);
        // The second frame in the same memory is as good as the first.
        for _ in 0..2 {
            builder.clear();
            for (parts, delivery) in &batch {
                prop_assert_eq!(builder.push(&stored(parts, flags), *delivery), Ok(Room::Taken));
            }
            let frame = Frame::parse(builder.bytes()).expect("a frame");
            prop_assert_eq!(frame.count() as usize, batch.len());
            prop_assert_eq!(frame.messages().count(), batch.len());
            for (message, (parts, delivery)) in frame.messages().zip(&batch) {
                check(&message.expect("whole"), parts, *delivery, view);
            }
        }
    }

    #[test]
    fn properties_left_out_of_a_frame_are_as_those_that_never_came(
        batch in prop::collection::vec((parts(), delivery()), 1..20),
        body_bytes in prop::sample::select(vec![0u32, 1, 16, u32::MAX]),
        flags in 0u32..16,
    ) {
        let mut full = FrameBuilder::new(body_bytes);
        let mut bare = FrameBuilder::of(View { body_bytes, properties: Shown::None });
        for (parts, delivery) in &batch {
            for builder in [&mut full, &mut bare] {
                prop_assert_eq!(builder.push(&stored(parts, flags), *delivery), Ok(Room::Taken));
            }
        }
        let mut found = bare.bytes()[..HEADER_BYTES].to_vec();
        for message in Frame::parse(full.bytes()).expect("a frame").messages() {
            message.expect("whole").put_without_properties(&mut found);
        }
        prop_assert_eq!(&found, bare.bytes());
    }

    #[test]
    fn texts_are_the_same_when_all_their_bytes_are(
        text in prop::collection::vec(any::<u8>(), 0..24),
        change in any::<(prop::sample::Index, u8)>(),
    ) {
        prop_assert!(is_same(&text, &text.clone()));
        let mut other = text.clone();
        other.push(change.1);
        prop_assert!(!is_same(&text, &other));
        if !text.is_empty() {
            let mut other = text.clone();
            let at = change.0.index(text.len());
            other[at] = change.1;
            prop_assert_eq!(is_same(&text, &other), text == other);
        }
    }

    #[test]
    fn a_stored_record_is_read_as_it_is(parts in parts()) {
        let bytes = parts.record();
        let view = View { body_bytes: u32::MAX, properties: Shown::All };
        check(&Message::parse(&bytes).expect("whole"), &parts, Delivery::default(), view);
    }

    #[test]
    fn a_changed_frame_is_read_or_refused(
        batch in prop::collection::vec((parts(), delivery()), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut builder = FrameBuilder::new(8);
        for (parts, delivery) in &batch {
            prop_assert_eq!(builder.push(&parts.record(), *delivery), Ok(Room::Taken));
        }
        let mut bytes = builder.bytes().to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        walk(&bytes);
        walk(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        walk(&bytes);
        let headed: Vec<u8> = [b"SYF\x01\x03\0\0\0".as_slice(), &bytes].concat();
        walk(&headed);
    }
}

/// Reads everything; nothing that comes out is longer than what went in.
fn walk(bytes: &[u8]) {
    let Ok(frame) = Frame::parse(bytes) else { return };
    let mut read = HEADER_BYTES;
    for message in frame.messages() {
        let Ok(message) = message else { break };
        let properties: usize = message.properties().map(|(a, b)| a.len() + b.len() + 4).sum();
        read += yard_abi::message::HEADER_BYTES + message.tag().len() + properties;
        read += message.body().len();
        assert!(message.property(b"x").is_none_or(|value| value.len() <= bytes.len()));
    }
    assert!(read <= bytes.len(), "more was read than is there");
}

#[test]
fn a_frame_that_lost_its_end_is_refused() {
    let mut builder = FrameBuilder::new(0);
    let parts = Parts { tag: "t".into(), body: vec![7; 9], ..Parts::default() };
    for _ in 0..3 {
        assert_eq!(builder.push(&parts.record(), Delivery::default()), Ok(Room::Taken));
    }
    let bytes = builder.bytes();
    let reads = |bytes: &[u8]| -> Result<usize, Malformed> {
        let messages: Result<Vec<_>, _> = Frame::parse(bytes)?.messages().collect();
        messages.map(|messages| messages.len())
    };
    assert_eq!(reads(bytes), Ok(3));
    for end in 0..bytes.len() {
        assert!(reads(&bytes[..end]).is_err(), "cut at {end}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(reads(&longer), Err(Malformed::Trailing));
}

#[test]
fn a_header_may_grow() {
    let parts = Parts { tag: "tag".into(), ..Parts::default() };
    let mut bytes = parts.record();
    bytes.splice(80..80, [0xEE; 8]);
    bytes[0..4].copy_from_slice(&91u32.to_le_bytes());
    bytes[4..6].copy_from_slice(&88u16.to_le_bytes());
    assert_eq!(Message::parse(&bytes).expect("whole").tag(), b"tag");
}

#[test]
fn a_frame_is_bounded() {
    let small = Parts::default().record();
    let mut builder = FrameBuilder::new(0);
    for _ in 0..FRAME_MESSAGES_MAX {
        assert_eq!(builder.push(&small, Delivery::default()), Ok(Room::Taken));
    }
    assert_eq!(builder.push(&small, Delivery::default()), Ok(Room::Full));
    assert_eq!(builder.count() as usize, FRAME_MESSAGES_MAX);

    let large = Parts { body: vec![1; FRAME_BYTES_MAX], ..Parts::default() }.record();
    let mut builder = FrameBuilder::new(u32::MAX);
    assert_eq!(builder.push(&large, Delivery::default()), Ok(Room::Taken));
    let before = builder.bytes().to_vec();
    assert_eq!(builder.push(&small, Delivery::default()), Ok(Room::Full));
    assert_eq!(builder.bytes(), &before);

    let huge = Parts { body: vec![1; BODY_BYTES_MAX + 1], ..Parts::default() }.record();
    builder.clear();
    assert_eq!(builder.push(&huge, Delivery::default()), Ok(Room::Taken));
    let frame = Frame::parse(builder.bytes()).expect("a frame");
    let message = frame.messages().next().expect("one").expect("whole");
    assert_eq!(message.body().len(), BODY_BYTES_MAX);
    assert_eq!(message.body_bytes() as usize, BODY_BYTES_MAX + 1);
    assert!(message.body_is_cut());
}

#[test]
fn a_view_covers_what_has_no_more_of_anything() {
    let view = |body_bytes, properties| View { body_bytes, properties };
    let (none, all) = (view(0, Shown::None), view(4, Shown::All));
    for (has, wants, is_enough) in [
        (none, none, true),
        (all, none, true),
        (all, all, true),
        (none, all, false),
        (view(9, Shown::None), view(0, Shown::All), false),
        (view(0, Shown::All), view(1, Shown::None), false),
    ] {
        assert_eq!(has.covers(wants), is_enough, "{has:?} for {wants:?}");
        let both = has.and(wants);
        assert!(both.covers(has) && both.covers(wants), "{both:?}");
        assert_eq!(both == has, is_enough, "the least that covers both");
    }
    assert_eq!(View::default(), view(0, Shown::All));
    assert_eq!(none.with_properties(), view(0, Shown::All));
}

#[test]
fn what_is_no_record_leaves_the_frame_as_it_is() {
    let mut builder = FrameBuilder::new(0);
    let good = Parts::default().record();
    assert_eq!(builder.push(&good, Delivery::default()), Ok(Room::Taken));
    let before = builder.bytes().to_vec();
    assert_eq!(builder.push(&good[..79], Delivery::default()), Err(Malformed::Short));
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(builder.push(&longer, Delivery::default()), Err(Malformed::Trailing));
    assert_eq!((builder.bytes(), builder.count()), (&before, 1));
}
