//! The packed layout is that of the stored record: what the protocol's crate writes, the plugin's
//! reads.

use proptest::prelude::*;
use switchyard_plugin::abi::{self, Delivery, Frame, FrameBuilder, Room};
use switchyard_plugin::prelude::*;
use yard_wire::record::{HEADER_BYTES, KEY, ORDER, RecordParts};
use yard_wire::{MessageId, QueueIndex, Timestamp, TopicId, limits};

#[test]
fn words_and_bounds_are_the_protocols() {
    assert_eq!(abi::message::HEADER_BYTES, HEADER_BYTES);
    assert_eq!((abi::message::KEY, abi::message::ORDER), (KEY, ORDER));
    // A patch has room for all that a message may have.
    let whole = limits::PROPERTIES_BYTES_MAX + abi::frame::BODY_BYTES_MAX;
    assert!(abi::verdict::PATCH_BYTES_MAX >= whole + 2 + limits::PROPERTIES_MAX);
}

proptest! {
    #[test]
    fn a_stored_record_is_read_as_it_was_written(
        (topic, queue, id, born) in any::<(u32, u16, [u8; 16], u64)>(),
        tag in "[a-zä]{0,9}",
        properties in prop::collection::vec(("[a-d$]{1,3}", "[ -~ö]{0,9}"), 0..7),
        body in prop::collection::vec(any::<u8>(), 0..40),
        (offset, stored_ms, attempts) in any::<(u64, u64, u32)>(),
    ) {
        let borrowed: Vec<_> = properties.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let parts = RecordParts {
            topic: TopicId(topic),
            queue: QueueIndex(queue),
            id: MessageId(id),
            born: Timestamp(born),
            tag: &tag,
            properties: &borrowed,
            body: &body,
            ..RecordParts::default()
        };
        let mut record = Vec::new();
        parts.encode(&mut record).expect("within limits");
        let mut builder = FrameBuilder::new(16);
        let delivery = Delivery { offset, stored_ms, queue: queue.into(), attempts };
        prop_assert_eq!(builder.push(&record, delivery), Ok(Room::Taken));
        let frame = Frame::parse(builder.bytes()).expect("a frame");
        let message = frame.messages().next().expect("one").expect("whole");
        prop_assert_eq!(message.topic(), topic);
        let message = Message::from(message);
        prop_assert_eq!(message.tag(), tag);
        prop_assert_eq!(message.properties().collect::<Vec<_>>(), borrowed);
        prop_assert_eq!(message.body(), &body[..body.len().min(16)]);
        prop_assert_eq!(message.body_bytes() as usize, body.len());
        prop_assert_eq!((message.id(), message.born_ms()), (id, born));
        prop_assert_eq!((message.offset(), message.stored_ms()), (offset, stored_ms));
        prop_assert_eq!((message.queue(), message.attempts()), (u32::from(queue), attempts));
    }
}
