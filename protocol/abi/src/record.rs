//! Records for who has none from the log: tests, and the test vectors of a manifest.

use alloc::string::String;
use alloc::vec::Vec;

use crate::message::HEADER_BYTES;

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// When it was born, in milliseconds since 1970 UTC.
    pub born_ms: u64,
    /// Id of its topic.
    pub topic: u32,
    /// Its id.
    pub id: [u8; 16],
    /// Its tag, of at most 65,535 bytes.
    pub tag: String,
    /// Its properties, at most 65,535, each name and value of at most as many bytes.
    pub properties: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Parts {
    /// The record, as it would be stored but for its checksums, which are 0. What is longer than
    /// its length can say is cut there.
    #[must_use]
    pub fn record(&self) -> Vec<u8> {
        let short = |text: &str| u16::try_from(text.len()).unwrap_or(u16::MAX);
        let mut variable = Vec::new();
        variable.extend_from_slice(&self.tag.as_bytes()[..usize::from(short(&self.tag))]);
        let count = u16::try_from(self.properties.len()).unwrap_or(u16::MAX);
        for (name, value) in &self.properties[..usize::from(count)] {
            variable.extend_from_slice(&short(name).to_le_bytes());
            variable.extend_from_slice(&short(value).to_le_bytes());
            variable.extend_from_slice(&name.as_bytes()[..usize::from(short(name))]);
            variable.extend_from_slice(&value.as_bytes()[..usize::from(short(value))]);
        }
        let length = HEADER_BYTES + variable.len() + self.body.len();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.extend_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.born_ms.to_le_bytes());
        out.extend_from_slice(&[0; 20]);
        out.extend_from_slice(&short(&self.tag).to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.topic.to_le_bytes());
        out.extend_from_slice(&1u16.to_le_bytes());
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&[0; 8]);
        assert_eq!(out.len(), HEADER_BYTES, "the fixed part is as it is drawn");
        out.extend_from_slice(&variable);
        out.extend_from_slice(&self.body);
        out
    }
}
