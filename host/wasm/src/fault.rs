//! What can go wrong in a call into a plugin.
use std::fmt;

/// Bytes of the text of a fault.
pub(crate) const FAULT_TEXT_BYTES_MAX: usize = 1 << 10;

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The guest gave up or did what it may not: unreachable code, an access outside its memory,
    /// a division by zero.
    Trapped,
    /// It burnt the fuel of the call.
    OutOfFuel,
    /// It took longer than a call may.
    TimedOut,
    /// It wanted more memory, or larger tables, than it may have.
    OutOfMemory,
    /// It called itself too deeply.
    StackOverflow,
    /// What it returned is not what the interface says.
    BadAnswer,
    /// It refused its settings or its expression.
    Refused,
    /// The host had no place for another instance.
    NoRoom,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Trapped,
        Self::OutOfFuel,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::StackOverflow,
        Self::BadAnswer,
        Self::Refused,
        Self::NoRoom,
    ];

    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trapped => "trapped",
            Self::OutOfFuel => "out-of-fuel",
            Self::TimedOut => "timed-out",
            Self::OutOfMemory => "out-of-memory",
            Self::StackOverflow => "stack-overflow",
            Self::BadAnswer => "bad-answer",
            Self::Refused => "refused",
            Self::NoRoom => "no-room",
        }
    }
}

/// A call that did not give an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// For the author: what the guest said last, or what the engine says. At most 1 KiB.
    pub text: String,
}

impl Fault {
    /// A fault; a text that is too long is cut.
    #[must_use]
    pub fn new(kind: FaultKind, text: &str) -> Self {
        Self { kind, text: shown(text, FAULT_TEXT_BYTES_MAX) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.name(), self.text)
    }
}

impl std::error::Error for Fault {}

/// The beginning of a text, of at most so many bytes, without a torn letter at its end.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// A guest's text as people may see it: cut, on one line, and without what a terminal obeys.
pub(crate) fn shown(text: &str, bytes: usize) -> String {
    cut(text, bytes).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(cut("aöb", 2), "a");
        assert_eq!(cut("aöb", 3), "aö");
        assert_eq!(cut("aöb", 9), "aöb");
        assert_eq!(shown("a\n\u{1b}[31mb", 99), "a  [31mb");
        let fault = Fault::new(FaultKind::Trapped, &"ö".repeat(10_000));
        assert_eq!(fault.text.len(), FAULT_TEXT_BYTES_MAX);
    }
}
