//! Plugins as operators see them: what a push carries, and what the operations answer.
use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::limits::PLUGIN_BYTES_MAX;
use crate::operation::{Arg, bad};
use crate::value::{ToValue, Value};
use crate::{Code, MessageId, QueueIndex, QueueOffset, Refusal, Timestamp};

/// Bytes of a public key, and of the SHA-256 by which a plugin's file is known.
pub const KEY_BYTES: usize = 32;
/// Bytes of a signature by Ed25519.
pub const SIGNATURE_BYTES: usize = 64;

/// Checks how many bytes the file of a plugin has.
///
/// # Errors
/// [`Code::PluginTooLarge`] where they are more than [`PLUGIN_BYTES_MAX`].
pub fn check_file_bytes(bytes: u64) -> Result<(), Refusal> {
    let max = PLUGIN_BYTES_MAX as u64;
    if bytes <= max {
        return Ok(());
    }
    let detail = format!("the plugin has {bytes} bytes, the limit is {max}");
    Err(Refusal::new(Code::PluginTooLarge, detail))
}

/// The contents of a file, as an argument. A command line names the file; the program reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl Wire for Blob {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Bytes::take(input).map(Self)
    }
}

/// Its size: nobody reads it.
impl ToValue for Blob {
    fn to_value(&self) -> Value {
        Value::Text(format!("{} bytes", self.0.len()))
    }
}

impl Arg for Blob {
    const KIND: &'static str = "FILE";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        Err(bad(name, Self::KIND, text))
    }
}

/// A key or a hash: shown and written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; KEY_BYTES]);

impl Digest {
    /// Whether it is one at all: none is written as zeros.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == [0; KEY_BYTES]
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Wire for Digest {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let bytes = crate::codec::take_bytes(input, KEY_BYTES)?;
        let digest = bytes.first_chunk().expect("as many bytes as were taken");
        Ok(Self(*digest))
    }
}

impl ToValue for Digest {
    fn to_value(&self) -> Value {
        if self.is_none() { Value::Null } else { Value::Text(self.to_string()) }
    }
}

impl Arg for Digest {
    const KIND: &'static str = "64 HEX DIGITS";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let read = |text: &str| {
            let mut digest = Self::default();
            let is_whole = text.len() == 2 * KEY_BYTES && text.is_ascii();
            for (byte, at) in digest.0.iter_mut().zip(0..).filter(|_| is_whole) {
                *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
            }
            is_whole.then_some(digest)
        };
        text.and_then(read).ok_or_else(|| bad(name, Self::KIND, text))
    }
}

report! {
    /// A plugin in a list.
    pub struct PluginRow {
        /// Its name.
        pub name: String,
        /// `active`, `disabled`, `uploaded` (no version is active yet); where it runs what it does
        /// there: `loading`, `degraded`, `quarantined`.
        pub state: String,
        /// Number of the version that decides; 0: none.
        pub active: u32,
        /// Its points, joined by commas.
        pub points: String,
        /// Number of the version that is on trial; 0: none.
        pub trial: u32,
        /// What the trial is: `canary` or `shadow` with its share in percent, or nothing.
        pub on: String,
        /// Versions that are kept.
        pub versions: u32,
        /// When it last changed.
        pub changed_ms: Timestamp,
    }

    /// A plugin in detail.
    pub struct PluginReport {
        /// As in the list.
        pub plugin: PluginRow,
        /// Its versions, oldest first.
        pub versions: Vec<PluginVersionRow>,
        /// What the broker has seen of each version that ran since its start.
        pub runs: Vec<PluginRunRow>,
        /// What the plugin itself has counted since then, by name.
        pub metrics: Vec<PluginMetricRow>,
    }

    /// A version of a plugin.
    pub struct PluginVersionRow {
        /// Its number: 1, 2, 3 and so on.
        pub version: u32,
        /// What its author calls it.
        pub label: String,
        /// SHA-256 of its file.
        pub hash: Digest,
        /// Bytes of its file.
        pub bytes: u32,
        /// Its points, joined by commas.
        pub points: String,
        /// The key that signed it; none: nobody did.
        pub signer: Digest,
        /// When it was pushed.
        pub pushed_ms: Timestamp,
    }

    /// The file of a version.
    pub struct PluginCopy {
        /// Name of the plugin.
        pub name: String,
        /// Number of the version.
        pub version: u32,
        /// SHA-256 of the file.
        pub hash: Digest,
        /// The file.
        pub wasm: Blob,
    }

    /// A version since the start of the broker.
    pub struct PluginRunRow {
        /// Its number.
        pub version: u32,
        /// Batches that it was asked about.
        pub batches: u64,
        /// Messages that it was asked about.
        pub messages: u64,
        /// Those of them that it wanted.
        pub matched: u64,
        /// Times that it failed.
        pub faults: u64,
        /// Messages that it failed at alone.
        pub poisoned: u64,
        /// Messages that were stored without a key because it said nothing; version 0: nobody was
        /// there to be asked.
        pub unchecked: u64,
        /// Of a version on trial: messages that both were asked about,
        pub compared: u64,
        /// and those about which they differ.
        pub differing: u64,
        /// Processor time that it took, in microseconds.
        pub busy_us: u64,
        /// What it last failed with.
        pub last_fault: String,
    }

    /// A number that a plugin counts or measures.
    pub struct PluginMetricRow {
        /// Its name.
        pub name: String,
        /// Sum of what was added to it.
        pub added: u64,
        /// Values that were observed.
        pub observed: u64,
        /// Their mean, in decimal; empty where there are none.
        pub mean: String,
        /// The largest of them.
        pub max: String,
    }

    /// A line of a plugin's log, or of what the broker says about it.
    pub struct PluginLogRow {
        /// When.
        pub at_ms: Timestamp,
        /// Version that it is about.
        pub version: u32,
        /// What happened.
        pub text: String,
    }

    /// A message about which a version in shadow says something else than the one that decides.
    pub struct PluginDifferenceRow {
        /// Topic of the message.
        pub topic: String,
        /// The group that it was delivered to, or not.
        pub group: String,
        /// Its queue.
        pub queue: QueueIndex,
        /// Its offset there.
        pub offset: QueueOffset,
        /// Its id.
        pub id: MessageId,
        /// The version in shadow.
        pub version: u32,
        /// What that says: `deliver` or `skip`; the version that decided said the opposite.
        pub says: String,
        /// The version that decided.
        pub against: u32,
    }

    /// A key that a tenant trusts.
    pub struct PluginKeyRow {
        /// The public key.
        pub key: Digest,
        /// A remark for people.
        pub note: String,
        /// When it was added.
        pub added_ms: Timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_as_they_are_shown() {
        let text = "00ff".repeat(16);
        let digest = Digest::parse("key", Some(&text)).expect("64 digits");
        assert_eq!(digest.to_string(), text);
        assert_eq!(digest.to_value(), Value::Text(text.clone()));
        assert_eq!(Digest::default().to_value(), Value::Null);
        for wrong in ["", "00ff", &"é".repeat(32), &"0g".repeat(32), &"00".repeat(33)] {
            assert!(Digest::parse("key", Some(wrong)).is_err(), "{wrong}");
        }
    }
}
