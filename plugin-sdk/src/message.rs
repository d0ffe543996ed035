//! A message, as a plugin sees it.

use yard_abi::Delivery;
use yard_abi::message::{KEY, ORDER};
use yard_abi::record::Parts;
#[cfg(not(target_arch = "wasm32"))]
use yard_abi::{FrameBuilder, Room, Shown, View, frame};

/// A message that a plugin judges.
///
/// What reads properties ([`Message::get`], [`Message::number`], [`Message::properties`],
/// [`Message::keys`], [`Message::order_group`]) panics where the manifest says
/// `properties: "none"`: the test vectors fail by it natively and at the upload. A message of
/// [`Message::builder`] has its properties in any case.
#[derive(Clone, Debug)]
pub struct Message<'a>(Bytes<'a>);

#[derive(Clone, Debug)]
enum Bytes<'a> {
    View(yard_abi::Message<'a>),
    /// Only tests have messages of their own, so in a guest there is one way and no choice.
    #[cfg(not(target_arch = "wasm32"))]
    Own(Box<[u8]>),
}

#[cfg(not(target_arch = "wasm32"))]
impl Message<'static> {
    /// A message of its own, of a record and what the broker adds to it.
    pub(crate) fn own(record: &[u8], delivery: Delivery, properties: Shown) -> Self {
        let body_bytes = frame::BODY_BYTES_MAX as u32;
        let mut builder = FrameBuilder::of(View { body_bytes, properties });
        let room = builder.push(record, delivery).expect("a whole record");
        assert_eq!(room, Room::Taken, "the first message of a frame has room");
        Message(Bytes::Own(builder.bytes()[frame::HEADER_BYTES..].into()))
    }
}

impl Message<'static> {
    /// A message for a test. All that is not said is empty or 0.
    #[must_use]
    pub fn builder() -> MessageBuilder {
        MessageBuilder::default()
    }
}

impl<'a> From<yard_abi::Message<'a>> for Message<'a> {
    fn from(packed: yard_abi::Message<'a>) -> Self {
        Self(Bytes::View(packed))
    }
}

impl Message<'_> {
    /// The message as bytes, without any check for UTF-8: the fastest way to read it. It has no
    /// properties where the manifest says `properties: "none"`, and nobody panics.
    #[inline]
    #[must_use]
    pub fn packed(&self) -> yard_abi::Message<'_> {
        match &self.0 {
            Bytes::View(packed) => *packed,
            #[cfg(not(target_arch = "wasm32"))]
            Bytes::Own(bytes) => {
                yard_abi::Message::parse(bytes).expect("its builder made a whole message")
            }
        }
    }

    /// Its tag, or nothing.
    #[must_use]
    pub fn tag(&self) -> &str {
        text(self.packed().tag()).unwrap_or_default()
    }

    /// The value of its first property of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        text(self.with_properties().property(name.as_bytes())?)
    }

    /// The message, whose properties are to be read.
    #[inline]
    fn with_properties(&self) -> yard_abi::Message<'_> {
        let packed = self.packed();
        if packed.is_without_properties() {
            undeclared();
        }
        packed
    }

    /// The value of a property as a number. `None` when it is missing or no finite number; and
    /// `None` is less than every number, so `m.number("amount") > Some(100.0)` says what it seems.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.trim().parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Its properties in order, those of the broker (names with `$`) among them.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_properties().properties().filter_map(|(name, value)| text(name).zip(text(value)))
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.properties().filter(|(name, _)| *name == KEY).map(|(_, value)| value)
    }

    /// Its order group, if it has one.
    #[must_use]
    pub fn order_group(&self) -> Option<&str> {
        self.get(ORDER)
    }

    /// Its body: as much of it as the plugin's [`crate::Needs`] ask for, so nothing by default.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.packed().body()
    }

    /// Bytes of its whole body, however much of it is here.
    #[must_use]
    pub fn body_bytes(&self) -> u32 {
        self.packed().body_bytes()
    }

    /// Offset in its queue; 0 before it has one, as an interceptor sees it.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.packed().offset()
    }

    /// Index of its queue in the topic.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.packed().queue()
    }

    /// When it was born, by its producer's clock, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn born_ms(&self) -> u64 {
        self.packed().born_ms()
    }

    /// When it was stored, in milliseconds since 1970 UTC; 0 before it is.
    #[must_use]
    pub fn stored_ms(&self) -> u64 {
        self.packed().stored_ms()
    }

    /// How often it was delivered before.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.packed().attempts()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.packed().id()
    }
}

/// A plugin reads what it said that it does not: better its fault than a message judged by what
/// only seems to be missing.
#[cold]
fn undeclared() -> ! {
    panic!("the plugin reads a property, and its manifest says `properties: \"none\"`");
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

/// Makes messages for tests.
#[derive(Clone, Debug, Default)]
pub struct MessageBuilder {
    parts: Parts,
    delivery: Delivery,
}

impl MessageBuilder {
    /// Sets the tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.parts.tag = tag.into();
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.parts.properties.push((name.into(), value.to_string()));
        self
    }

    /// Adds a key.
    #[must_use]
    pub fn key(self, key: impl ToString) -> Self {
        self.property(KEY, key)
    }

    /// Sets the order group.
    #[must_use]
    pub fn order_group(self, group: impl ToString) -> Self {
        self.property(ORDER, group)
    }

    /// Sets the body, of which a plugin sees at most 1 MiB.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.parts.body = body.into();
        self
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: [u8; 16]) -> Self {
        self.parts.id = id;
        self
    }

    /// Sets when it was born, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn born_ms(mut self, born_ms: u64) -> Self {
        self.parts.born_ms = born_ms;
        self
    }

    /// Sets where it is: its queue and its offset there.
    #[must_use]
    pub fn at(mut self, queue: u32, offset: u64) -> Self {
        (self.delivery.queue, self.delivery.offset) = (queue, offset);
        self
    }

    /// Sets when it was stored, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn stored_ms(mut self, stored_ms: u64) -> Self {
        self.delivery.stored_ms = stored_ms;
        self
    }

    /// Sets how often it was delivered before.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.delivery.attempts = attempts;
        self
    }

    /// The record as the broker would store it, and what the broker adds.
    #[must_use]
    pub fn record(&self) -> (Vec<u8>, Delivery) {
        (self.parts.record(), self.delivery)
    }

    /// The message.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn build(&self) -> Message<'static> {
        let (record, delivery) = self.record();
        Message::own(&record, delivery, Shown::All)
    }
}
