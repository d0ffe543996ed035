//! The one error of the client.
use std::fmt;
use std::time::Duration;

use yard_wire::codec::Malformed;
use yard_wire::{Code, Refusal};

/// Why something was not done, or not known to be done: the code for programs, the detail for
/// people. Written as `E0201 UnknownTopic: no topic is called "orders"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which rule or fact stands against it. Codes from 801 to 999 come from this library, the
    /// others from the broker.
    pub code: Code,
    /// What exactly was wrong, in a sentence.
    pub detail: String,
    /// When asking again makes sense, where the broker said so.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error with a sentence of its own.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: None }
    }

    /// Whether the same call may succeed later. After [`Code::TimedOut`] and
    /// [`Code::Disconnected`] it is not known whether the call was done; a call that changes
    /// something is then the caller's to repeat.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new(Code::Closed, format!("the {what} was closed"))
    }

    pub(crate) fn bad_reply(malformed: &Malformed) -> Self {
        Self::new(Code::BadReply, malformed.to_string())
    }

    pub(crate) fn timed_out(what: &str, after: Duration) -> Self {
        let detail = format!("{what} had no answer within {} ms", after.as_millis());
        Self::new(Code::TimedOut, detail)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let after = u64::from(refusal.retry_after_ms);
        let retry_after = (after > 0).then(|| Duration::from_millis(after));
        Self { code: refusal.code, detail: refusal.detail, retry_after }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let after =
            error.retry_after.map_or(0, |d| u32::try_from(d.as_millis()).unwrap_or(u32::MAX));
        Refusal::after(error.code, after, error.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_people_and_programs_want() {
        let error = Error::from(Refusal::after(Code::Busy, 20, "the queue is full"));
        assert_eq!(error.to_string(), "E0301 Busy: the queue is full");
        assert_eq!(error.retry_after, Some(Duration::from_millis(20)));
        assert!(error.is_retryable());
        assert_eq!(Refusal::from(error).retry_after_ms, 20);
        assert!(!Error::closed("client").is_retryable());
    }
}
