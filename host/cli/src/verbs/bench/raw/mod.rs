//! The limit of the network: the same bytes in the same frames over QUIC with the broker's and
//! the client's transport settings, and nothing else. Server and client are processes of their
//! own, as broker and client are.
//!
//! ```text
//!   stream, opened by the client:  mode u8, then
//!     Answer   ► frames              ◄ an answer a frame
//!     Commit   ► frames              ◄ an answer a frame, after a group commit to the disk
//!     Push     ► frame_bytes window  ◄ frames, as many ahead of the answers as the window says
//!              ► an answer a frame
//!     Relay    ► channel, frames     ◄ an answer a frame; the frame goes into the channel
//!     Follow   ► channel             ◄ frames of the channel
//!              ► an answer a frame
//!   frame:  length u32 (of what follows), bytes        answer:  ANSWER_BYTES bytes
//! ```
pub(crate) mod client;
pub(crate) mod server;

/// Bytes of an answer: of the broker's answer to a batch for one queue, rounded up.
pub(crate) const ANSWER_BYTES: usize = 48;
/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    Answer = 1,
    Commit = 2,
    Push = 3,
    Relay = 4,
    Follow = 5,
}

impl Mode {
    const ALL: [Self; 5] = [Self::Answer, Self::Commit, Self::Push, Self::Relay, Self::Follow];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| *mode as u8 == byte)
    }
}

/// Cuts a stream into frames without copying it: says where frames end.
#[derive(Debug, Default)]
struct Cutter {
    length: [u8; LENGTH_BYTES],
    length_filled: usize,
    left: usize,
}

impl Cutter {
    /// How many bytes of `bytes` belong to the current frame, and whether it ends with them.
    fn cut(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        while self.left == 0 && self.length_filled < LENGTH_BYTES {
            let Some(byte) = bytes.get(taken) else { return (taken, false) };
            self.length[self.length_filled] = *byte;
            self.length_filled += 1;
            taken += 1;
            if self.length_filled == LENGTH_BYTES {
                self.left = u32::from_le_bytes(self.length) as usize;
            }
        }
        let body = self.left.min(bytes.len() - taken);
        self.left -= body;
        taken += body;
        let ends = self.left == 0 && self.length_filled == LENGTH_BYTES;
        if ends {
            self.length_filled = 0;
        }
        (taken, ends)
    }
}

/// A frame of this many bytes, its length among them.
fn frame(bytes: usize) -> bytes::Bytes {
    let body = bytes.max(LENGTH_BYTES + 1) - LENGTH_BYTES;
    let mut frame = Vec::with_capacity(LENGTH_BYTES + body);
    frame.extend_from_slice(&(body as u32).to_le_bytes());
    frame.extend((0..body).map(|at| at as u8));
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let stream: Vec<u8> = [5, 9, 300].into_iter().flat_map(frame).collect();
        for piece in [1, 2, 3, 7, 400] {
            let (mut cutter, mut ends, mut at) = (Cutter::default(), Vec::new(), 0);
            for bytes in stream.chunks(piece) {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let (taken, is_end) = cutter.cut(rest);
                    at += taken;
                    rest = &rest[taken..];
                    if is_end {
                        ends.push(at);
                    }
                }
            }
            assert_eq!(ends, [5, 14, 314], "pieces of {piece}");
        }
    }
}
