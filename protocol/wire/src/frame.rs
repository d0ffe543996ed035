//! The frame: one request, reply, refusal or push on a stream; and the preamble of a stream.
//!
//! ```text
//! preamble                                    frame header
//! offset size field                           offset size field
//!      0    4 magic     "YARD"                     0    4 length_bytes  header included
//!      4    2 version   1                          4    2 kind          number of the request
//!      6    1 role      0 control, 1 data          6    1 class         see Class
//!      7    1 lane      of a data stream           7    1 version       1
//!                                                  8    8 correlation
//! ```
use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::codec::Wire;
use crate::{Code, Correlation, Refusal, limits};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a stream's preamble.
pub const PREAMBLE_BYTES: usize = 8;
/// The first four bytes of every stream that a client opens.
pub const MAGIC: [u8; 4] = *b"YARD";
/// The version of preamble and frames that this code speaks.
pub const VERSION: u16 = 1;
/// The name of the protocol in the TLS handshake.
pub const ALPN: &[u8] = b"yard/1";

word! {
    /// What a stream is for.
    pub enum Role {
        /// Hello, routes, subscriptions and operators' calls; the first stream of a connection.
        Control = 0 "control",
        /// Produced and delivered messages and what settles them.
        Data = 1 "data",
    }
}

word! {
    /// What a frame is.
    pub enum Class {
        /// A request, from the client.
        Request = 0 "request",
        /// The good answer to a request.
        Reply = 1 "reply",
        /// A [`Refusal`] as the answer to a request.
        Refusal = 2 "refusal",
        /// Something that the broker sends unasked, on a stream that the client opened.
        Push = 3 "push",
    }
}

/// What the opener of a stream says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// What the stream is for.
    pub role: Role,
    /// Number of a data stream on its connection: 0 to [`limits::LANES_MAX`] - 1.
    pub lane: u8,
}

impl Preamble {
    /// The bytes of the preamble.
    #[must_use]
    pub fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let version = VERSION.to_le_bytes();
        let [a, b, c, d] = MAGIC;
        [a, b, c, d, version[0], version[1], self.role as u8, self.lane]
    }

    /// Reads a preamble.
    ///
    /// # Errors
    /// [`Code::BadMagic`], [`Code::BadVersion`], or [`Code::MalformedFrame`] for an unknown role
    /// or a lane out of bounds.
    pub fn parse(bytes: [u8; PREAMBLE_BYTES]) -> Result<Self, Refusal> {
        if bytes[..4] != MAGIC {
            let detail = format!("the stream begins with {:02x?}, not with YARD", &bytes[..4]);
            mark!(PreambleMagic);
            return Err(Refusal::new(Code::BadMagic, detail));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            mark!(PreambleVersion);
            let detail = format!("the peer speaks version {version}, this broker {VERSION}");
            return Err(Refusal::new(Code::BadVersion, detail));
        }
        let role = Role::take(&mut Bytes::copy_from_slice(&bytes[6..7]))
            .map_err(|e| Refusal::new(Code::MalformedFrame, e.to_string()))?;
        if u16::from(bytes[7]) >= limits::LANES_MAX {
            mark!(PreambleLane);
            let detail = format!("lane {} is out of bounds", bytes[7]);
            return Err(Refusal::new(Code::MalformedFrame, detail));
        }
        Ok(Self { role, lane: bytes[7] })
    }
}

/// One frame, its body not yet looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of the request, or of the push.
    pub kind: u16,
    /// What the frame is.
    pub class: Class,
    /// Which request it belongs to.
    pub correlation: Correlation,
    /// The bytes after the header.
    pub body: Bytes,
}

impl Frame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_with(self.kind, self.class, self.correlation, out, |out| {
            out.extend_from_slice(&self.body);
        });
    }
}

/// Appends a frame whose body is written by `body`, without an intermediate copy.
///
/// # Panics
/// When the frame would exceed [`limits::FRAME_BYTES_MAX`]: bodies are bounded by their own
/// limits.
pub fn encode_with(
    kind: u16,
    class: Class,
    correlation: Correlation,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) {
    encode_split(kind, class, correlation, 0, out, body);
}

/// As [`encode_with`], of a body that nobody has bounded.
///
/// # Errors
/// [`Code::FrameTooLarge`] where no frame can carry it; then `out` is as it was.
pub fn encode_bounded(
    kind: u16,
    class: Class,
    correlation: Correlation,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Refusal> {
    let start = out.len();
    append(kind, class, correlation, 0, out, body).map_err(|length| {
        out.truncate(start);
        let max = limits::FRAME_BYTES_MAX;
        let detail = format!("the frame would have {length} bytes, the limit is {max}");
        Refusal::new(Code::FrameTooLarge, detail)
    })
}

/// As [`encode_with`], of a frame whose last `rest_bytes` are not written here: the caller sends
/// them after these.
///
/// # Panics
/// As [`encode_with`], the rest included.
pub fn encode_split(
    kind: u16,
    class: Class,
    correlation: Correlation,
    rest_bytes: usize,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let fits = append(kind, class, correlation, rest_bytes, out, body).is_ok();
    assert!(fits, "bodies are bounded by their own limits");
}

/// Appends a frame; how many bytes it would have, where those are too many.
fn append(
    kind: u16,
    class: Class,
    correlation: Correlation,
    rest_bytes: usize,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), usize> {
    let start = out.len();
    0u32.put(out);
    kind.put(out);
    class.put(out);
    (VERSION as u8).put(out);
    correlation.put(out);
    debug_assert_eq!(out.len() - start, HEADER_BYTES);
    body(out);
    let length = out.len() - start + rest_bytes;
    if length > limits::FRAME_BYTES_MAX {
        return Err(length);
    }
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// A body of fewer bytes is copied out of the piece that it came in: shared, it would keep the
/// whole piece for itself, and what quinn reads at once is up to 64 KiB.
const SHARED_BYTES_MIN: usize = 4 << 10;
/// How many times the bytes that arrived may be reserved for a frame. What is read at once is some
/// 10 packets, and memory that grows is copied: a batch of 1 MiB fits what they allow.
const RESERVED_PER_BYTE: usize = 128;

/// Cuts a stream of bytes into frames. A body is copied once, into memory of its own; not at all
/// when it is large and came in one piece. A length that was read reserves nothing: memory grows
/// with what arrives, up to 128 times as much and never beyond the frame.
#[derive(Debug)]
pub struct FrameDecoder {
    /// What arrived after the bytes below.
    pieces: VecDeque<Bytes>,
    pieces_bytes: usize,
    /// Header of the frame at the front, as far as it was looked at.
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Its body, as far as it is there.
    body: Vec<u8>,
    frame_bytes_max: usize,
}

impl FrameDecoder {
    /// A decoder that refuses frames of more than `frame_bytes_max` bytes, header included.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        assert!(frame_bytes_max >= HEADER_BYTES, "a frame has a header");
        Self {
            pieces: VecDeque::new(),
            pieces_bytes: 0,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            body: Vec::new(),
            frame_bytes_max,
        }
    }

    /// Changes the bound, after the hello.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        assert!(frame_bytes_max >= HEADER_BYTES, "a frame has a header");
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Takes in bytes that arrived, by copying them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.push_bytes(Bytes::copy_from_slice(bytes));
    }

    /// Takes in a piece that arrived. It is let go as soon as [`FrameDecoder::next_frame`] has
    /// given `None`, but for a large body that it holds whole.
    pub fn push_bytes(&mut self, piece: Bytes) {
        self.pieces_bytes += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
        self.fill_header();
    }

    /// Whether a frame was begun and is not complete.
    #[must_use]
    pub fn is_inside_a_frame(&self) -> bool {
        self.buffered_bytes() > 0
    }

    /// Bytes of the frame at the front, as it announces and the bound allows; `None` until known.
    #[must_use]
    pub fn announced_bytes(&self) -> Option<usize> {
        self.announced_length().ok().flatten()
    }

    /// Bytes that arrived and are not taken out yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.header_bytes + self.body.len() + self.pieces_bytes
    }

    /// The next complete frame, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`Code::FrameTooLarge`], [`Code::BadVersion`] or [`Code::MalformedFrame`]; the stream is
    /// then of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Refusal> {
        let Some(length) = self.announced_length()? else {
            return Ok(None);
        };
        if self.header_bytes < HEADER_BYTES {
            return Ok(None);
        }
        let version = self.header[7];
        if u16::from(version) != VERSION {
            mark!(FrameVersion);
            let detail = format!("a frame has version {version}, this broker speaks {VERSION}");
            return Err(Refusal::new(Code::BadVersion, detail));
        }
        let class = Class::take(&mut Bytes::copy_from_slice(&self.header[6..7]))
            .map_err(|e| Refusal::new(Code::MalformedFrame, e.to_string()))?;
        let Some(body) = self.take_body(length - HEADER_BYTES) else {
            return Ok(None);
        };
        let [_, _, _, _, a, b, _, _, correlation @ ..] = self.header;
        let kind = u16::from_le_bytes([a, b]);
        let correlation = Correlation(u64::from_le_bytes(correlation));
        self.header_bytes = 0;
        self.fill_header();
        Ok(Some(Frame { kind, class, correlation, body }))
    }

    fn announced_length(&self) -> Result<Option<usize>, Refusal> {
        if self.header_bytes < 4 {
            return Ok(None);
        }
        let [a, b, c, d, ..] = self.header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > self.frame_bytes_max {
            let max = self.frame_bytes_max;
            let detail = format!("a frame announces {length} bytes, the limit is {max}");
            mark!(FrameTooLarge);
            return Err(Refusal::new(Code::FrameTooLarge, detail));
        }
        if length < HEADER_BYTES {
            mark!(FrameShort);
            let detail = format!("a frame announces {length} bytes, less than its header");
            return Err(Refusal::new(Code::MalformedFrame, detail));
        }
        Ok(Some(length))
    }

    fn fill_header(&mut self) {
        while self.header_bytes < HEADER_BYTES
            && let Some(front) = self.pieces.front_mut()
        {
            let count = front.len().min(HEADER_BYTES - self.header_bytes);
            let room = &mut self.header[self.header_bytes..self.header_bytes + count];
            front.copy_to_slice(room);
            self.header_bytes += count;
            self.took(count);
        }
    }

    /// The body of the frame at the front when all of it is there.
    fn take_body(&mut self, wanted: usize) -> Option<Bytes> {
        if self.body.is_empty()
            && wanted >= SHARED_BYTES_MIN
            && let Some(front) = self.pieces.front_mut()
            && front.len() >= wanted
        {
            let body = front.split_to(wanted);
            self.took(wanted);
            return Some(body);
        }
        while self.body.len() < wanted
            && let Some(front) = self.pieces.front_mut()
        {
            let count = front.len().min(wanted - self.body.len());
            if self.body.capacity() - self.body.len() < count {
                let arrived = HEADER_BYTES + self.body.len() + self.pieces_bytes;
                let capacity = wanted.min(arrived * RESERVED_PER_BYTE);
                self.body.reserve_exact(capacity - self.body.len());
            }
            self.body.extend_from_slice(&front[..count]);
            front.advance(count);
            self.took(count);
        }
        (self.body.len() == wanted).then(|| Bytes::from(std::mem::take(&mut self.body)))
    }

    /// Accounts for bytes that were taken off the first piece.
    fn took(&mut self, count: usize) {
        self.pieces_bytes -= count;
        if self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &'static [u8]) -> Frame {
        let body = Bytes::from_static(body);
        Frame { kind: 3, class: Class::Request, correlation: Correlation(9), body }
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let mut bytes = Vec::new();
        frame(b"hello").encode(&mut bytes);
        frame(b"").encode(&mut bytes);
        for step in 1..=bytes.len() {
            let mut decoder = FrameDecoder::new(1_000);
            let mut seen = Vec::new();
            for chunk in bytes.chunks(step) {
                decoder.push(chunk);
                while let Some(frame) = decoder.next_frame().expect("well-formed") {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, [frame(b"hello"), frame(b"")], "step {step}");
            assert!(!decoder.is_inside_a_frame());
        }
    }

    #[test]
    fn large_bodies_are_shared_with_the_piece_that_holds_them_and_small_ones_are_not() {
        let check = |body_bytes: usize, expect: bool| {
            let mut bytes = Vec::new();
            let body = Bytes::from(vec![7; body_bytes]);
            Frame { body, ..frame(b"") }.encode(&mut bytes);
            let piece = Bytes::from(bytes);
            let mut decoder = FrameDecoder::new(1 << 20);
            decoder.push_bytes(piece.clone());
            let found = decoder.next_frame().expect("well-formed").expect("whole");
            assert_eq!(found.body, piece[HEADER_BYTES..]);
            assert_eq!(decoder.next_frame(), Ok(None));
            assert_eq!(decoder.buffered_bytes(), 0);
            let is_shared = found.body.as_ptr() == piece[HEADER_BYTES..].as_ptr();
            assert_eq!(is_shared, expect, "{body_bytes}");
            assert_eq!(piece.is_unique(), !expect, "{body_bytes}");
        };
        check(SHARED_BYTES_MIN, true);
        check(SHARED_BYTES_MIN - 1, false);
        check(0, false);
    }

    #[test]
    fn a_body_that_no_frame_can_carry_is_refused_and_leaves_nothing_behind() {
        let check = |body_bytes: usize, expect: Result<(), Code>| {
            let mut out = b"before".to_vec();
            let found = encode_bounded(3, Class::Request, Correlation(9), &mut out, |out| {
                out.resize(out.len() + body_bytes, 7);
            });
            assert_eq!(found.map_err(|refusal| refusal.code), expect, "{body_bytes}");
            let written = if expect.is_ok() { HEADER_BYTES + body_bytes } else { 0 };
            assert_eq!(out.len(), b"before".len() + written, "{body_bytes}");
        };
        check(limits::FRAME_BYTES_MAX - HEADER_BYTES, Ok(()));
        check(limits::FRAME_BYTES_MAX - HEADER_BYTES + 1, Err(Code::FrameTooLarge));
        check(2 * limits::FRAME_BYTES_MAX, Err(Code::FrameTooLarge));
    }

    #[test]
    fn lies_are_refused_before_they_cost() {
        let check = |bytes: &[u8], code: Code| {
            let mut decoder = FrameDecoder::new(100);
            decoder.push(bytes);
            assert_eq!(decoder.next_frame().unwrap_err().code, code);
        };
        check(&101u32.to_le_bytes(), Code::FrameTooLarge);
        check(&15u32.to_le_bytes(), Code::MalformedFrame);
        let mut wrong_version = Vec::new();
        frame(b"").encode(&mut wrong_version);
        wrong_version[7] = 9;
        check(&wrong_version, Code::BadVersion);
        let mut wrong_class = Vec::new();
        frame(b"").encode(&mut wrong_class);
        wrong_class[6] = 9;
        check(&wrong_class, Code::MalformedFrame);
    }

    #[test]
    fn preambles() {
        let good = Preamble { role: Role::Data, lane: 5 };
        assert_eq!(Preamble::parse(good.encode()), Ok(good));
        let check = |at: usize, value: u8, code: Code| {
            let mut bytes = good.encode();
            bytes[at] = value;
            assert_eq!(Preamble::parse(bytes).unwrap_err().code, code);
        };
        check(0, b'G', Code::BadMagic);
        check(4, 2, Code::BadVersion);
        check(6, 2, Code::MalformedFrame);
        check(7, 32, Code::MalformedFrame);
    }
}
