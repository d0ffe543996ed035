//! Packed bodies: producers may make them smaller, consumers get them as they were. The broker
//! stores the bytes as they arrive and knows nothing of it.
//!
//! ```text
//!   body ≥ threshold ──► packed smaller, and not too much ──► packed body, $enc: "zstd 40960"
//!                └────────────── otherwise ──────────────────► as it is
//!   $enc ──► announced ≤ 4 MiB and ≤ 1,024 times what is there ──► unpacked into exactly that
//! ```
use std::fmt;

use bytes::Bytes;
use yard_wire::limits::{BODY_BYTES_MAX, UNPACK_RATIO_MAX, UNPACKED_BYTES_MAX};
use yard_wire::property::ENCODING;
use yard_wire::record::Record;
use yard_wire::{Code, word};

use crate::Error;

word! {
    /// How bodies are packed.
    pub enum Algorithm {
        /// LZ4 blocks: costs a sender next to nothing, takes a half off texts.
        Lz4 = 1 "lz4",
        /// Zstandard: slower to pack, takes more off.
        Zstd = 2 "zstd",
    }
}

/// Bodies of fewer bytes stay as they are, unless set. Source: RocketMQ's default
/// `compressMsgBodyOverHowmuch`.
pub const THRESHOLD_BYTES_DEFAULT: usize = 4 << 10;
/// Zstandard's own default.
const LEVEL_DEFAULT: i32 = 3;
/// What a property has beside name and value.
const PROPERTY_BYTES: usize = 4;

/// Which bodies a producer packs, and how; for [`crate::ProducerBuilder::compress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    algorithm: Algorithm,
    level: i32,
    threshold_bytes: usize,
}

impl Compression {
    /// Bodies of 4 KiB and more, by this algorithm.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, level: LEVEL_DEFAULT, threshold_bytes: THRESHOLD_BYTES_DEFAULT }
    }

    /// Bodies of fewer bytes stay as they are.
    #[must_use]
    pub fn threshold_bytes(mut self, bytes: usize) -> Self {
        self.threshold_bytes = bytes;
        self
    }

    /// Zstandard's level, 1 (quick) to 19 (small): 3 unless set; others count as the nearest of
    /// these. LZ4 has none.
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = level.clamp(1, 19);
        self
    }

    /// The packed body and what `$enc` says of it, where that is smaller. Bodies that are too large
    /// to be sent stay as they are, so that they are refused whatever they would come to.
    pub(crate) fn pack(&self, body: &[u8]) -> Option<(Bytes, String)> {
        if body.len() < self.threshold_bytes || body.len() > BODY_BYTES_MAX {
            return None;
        }
        let packed = match self.algorithm {
            Algorithm::Lz4 => lz4_flex::block::compress(body),
            Algorithm::Zstd => zstd::bulk::compress(body, self.level).ok()?,
        };
        let encoding = Encoding { algorithm: self.algorithm, plain_bytes: body.len() }.to_string();
        let cost = packed.len() + PROPERTY_BYTES + ENCODING.len() + encoding.len();
        let may_be_unpacked = body.len() <= packed.len().saturating_mul(UNPACK_RATIO_MAX);
        (cost < body.len() && may_be_unpacked).then(|| (packed.into(), encoding))
    }
}

/// What `$enc` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Encoding {
    algorithm: Algorithm,
    plain_bytes: usize,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.plain_bytes)
    }
}

impl Encoding {
    fn parse(text: &str) -> Option<Self> {
        let (algorithm, plain_bytes) = text.split_once(' ')?;
        let algorithm = Algorithm::parse(algorithm)?;
        let encoding = Self { algorithm, plain_bytes: plain_bytes.parse().ok()? };
        (encoding.to_string() == text).then_some(encoding)
    }

    fn unpack(self, packed: &[u8]) -> Result<Vec<u8>, Error> {
        let (plain, there) = (self.plain_bytes, packed.len());
        if plain > UNPACKED_BYTES_MAX || plain > there.saturating_mul(UNPACK_RATIO_MAX) {
            let detail = format!(
                "{there} bytes announce {plain}; at most {UNPACKED_BYTES_MAX} may be, and \
                 {UNPACK_RATIO_MAX} times what is there"
            );
            return Err(Error::new(Code::UnpackedTooLarge, detail));
        }
        let more = || {
            let detail = format!("{there} bytes unpack to more than the {plain} they announce");
            Error::new(Code::UnpackedTooLarge, detail)
        };
        let broken = |why: String| Error::new(Code::BadEncoding, format!("{self}: {why}"));
        let unpacked = match self.algorithm {
            Algorithm::Lz4 => {
                let mut out = vec![0; plain];
                match lz4_flex::block::decompress_into(packed, &mut out) {
                    Ok(bytes) => {
                        out.truncate(bytes);
                        out
                    }
                    Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) => {
                        return Err(more());
                    }
                    Err(error) => return Err(broken(error.to_string())),
                }
            }
            Algorithm::Zstd => {
                let announced = zstd::zstd_safe::get_frame_content_size(packed);
                if announced.ok().flatten().is_some_and(|bytes| bytes > plain as u64) {
                    return Err(more());
                }
                // Never grows beyond its capacity.
                let mut out = Vec::with_capacity(plain);
                let mut unpacker = zstd::bulk::Decompressor::new()
                    .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
                match unpacker.decompress_to_buffer(packed, &mut out) {
                    Ok(_) => out,
                    // The library says so in words only.
                    Err(error) if error.to_string().contains("too small") => return Err(more()),
                    Err(error) => return Err(broken(error.to_string())),
                }
            }
        };
        if unpacked.len() != plain {
            return Err(broken(format!("it unpacks to {} bytes", unpacked.len())));
        }
        Ok(unpacked)
    }
}

/// The body of a record as it was given to the producer: unpacked, where `$enc` says that it is
/// packed; otherwise the record's own bytes, shared.
///
/// # Errors
/// [`Code::BadEncoding`] for an algorithm that this client does not know and for bytes that do not
/// come to what is announced; [`Code::UnpackedTooLarge`] for a body that would have more than
/// 4 MiB, or more than 1,024 times the bytes that are there. Nothing beyond these bounds is ever
/// allocated.
pub fn plain_body(record: &Record) -> Result<Bytes, Error> {
    let Some(encoding) = record.property(ENCODING) else {
        return Ok(record.body());
    };
    let known = Encoding::parse(encoding).ok_or_else(|| {
        let name: String = encoding.chars().take(40).collect();
        Error::new(Code::BadEncoding, format!("the encoding {name:?} is not known here"))
    })?;
    known.unpack(&record.body()).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::record::RecordParts;

    fn record(encoding: &str, body: &[u8]) -> Record {
        let properties = [(ENCODING, encoding)];
        let parts = RecordParts { properties: &properties, body, ..RecordParts::default() };
        let mut bytes = Vec::new();
        parts.encode(&mut bytes).unwrap();
        Record::parse(bytes.into()).unwrap()
    }

    /// Text that can be packed, but not to a thousandth.
    fn text(bytes: usize) -> Vec<u8> {
        let words = (0u64..).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50);
        words.flat_map(|n| format!("word{n} ").into_bytes()).take(bytes).collect()
    }

    /// Bytes that cannot be packed.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn what_is_packed_is_smaller_and_unpacks_to_what_it_was() {
        for algorithm in Algorithm::ALL {
            for bytes in [64, 4_095, 4_096, 100_000, BODY_BYTES_MAX] {
                let plain = text(bytes);
                let compression = Compression::new(*algorithm).threshold_bytes(4_096);
                let packed = compression.pack(&plain);
                assert_eq!(packed.is_some(), bytes >= 4_096, "{algorithm} {bytes}");
                let Some((body, encoding)) = packed else { continue };
                assert!(body.len() + encoding.len() < plain.len());
                assert_eq!(plain_body(&record(&encoding, &body)).unwrap(), plain);
            }
        }
    }

    #[test]
    fn what_would_not_become_smaller_stays_as_it_is() {
        for algorithm in Algorithm::ALL {
            let compression = Compression::new(*algorithm).threshold_bytes(0);
            for plain in [noise(100_000), noise(10), Vec::new(), b"aaaaaaaaaaaaaaaa".to_vec()] {
                assert_eq!(compression.pack(&plain), None, "{algorithm}, {} bytes", plain.len());
            }
            // A sender keeps the bound that receivers hold it to.
            let most = compression.pack(&vec![0; BODY_BYTES_MAX]);
            let unpacked = most.map(|(body, encoding)| plain_body(&record(&encoding, &body)));
            assert!(unpacked.is_none_or(|body| body.is_ok()), "{algorithm}");
            assert_eq!(compression.pack(&vec![0; BODY_BYTES_MAX + 1]), None);
        }
    }

    #[test]
    fn what_announces_or_comes_to_too_much_is_refused_by_a_code_of_its_own() {
        let plain = text(100_000);
        for algorithm in Algorithm::ALL {
            let (packed, _) = Compression::new(*algorithm).pack(&plain).unwrap();
            let check = |announced: usize, code: Code| {
                let encoding = Encoding { algorithm: *algorithm, plain_bytes: announced };
                let found = plain_body(&record(&encoding.to_string(), &packed));
                assert_eq!(found.unwrap_err().code, code, "{encoding}");
            };
            check(UNPACKED_BYTES_MAX + 1, Code::UnpackedTooLarge);
            check(usize::MAX, Code::UnpackedTooLarge);
            check(99_999, Code::UnpackedTooLarge);
            check(100_001, Code::BadEncoding);
            // Few bytes that become many: both say 4 MiB, which is allowed, of too little.
            let zeros = vec![0; BODY_BYTES_MAX];
            let bomb = match algorithm {
                Algorithm::Lz4 => lz4_flex::block::compress(&zeros),
                Algorithm::Zstd => zstd::bulk::compress(&zeros, 3).unwrap(),
            };
            let encoding = format!("{algorithm} {BODY_BYTES_MAX}");
            let found = plain_body(&record(&encoding, &bomb[..bomb.len().min(3_000)]));
            assert_eq!(found.unwrap_err().code, Code::UnpackedTooLarge, "{encoding}");
        }
    }

    #[test]
    fn broken_bytes_and_unknown_names_are_errors_of_that_message() {
        let check = |encoding: &str, body: &[u8]| {
            let error = plain_body(&record(encoding, body)).unwrap_err();
            assert_eq!(error.code, Code::BadEncoding, "{encoding}: {error}");
        };
        let unknown = ["", "lz4", "lz4 ", "lz4 x", "lz4 +5", "lz4 05", " lz4 5", "gzip 5", "LZ4 5"];
        unknown.iter().for_each(|encoding| check(encoding, b"abcdefghijklmnop"));
        for algorithm in Algorithm::ALL {
            let (packed, encoding) = Compression::new(*algorithm).pack(&text(50_000)).unwrap();
            check(&encoding, &packed[..packed.len() / 2]);
            let mut state = 1usize;
            for _ in 0..300 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
                let mut changed = packed.to_vec();
                let at = (state >> 20) % changed.len();
                changed[at] ^= 1 << ((state >> 10) % 8);
                // Whatever comes of it is bounded, and what it says is its length.
                if let Ok(body) = plain_body(&record(&encoding, &changed)) {
                    assert_eq!(body.len(), 50_000);
                }
            }
        }
        assert_eq!(plain_body(&record("lz4 3", b"")).unwrap_err().code, Code::UnpackedTooLarge);
    }
}
