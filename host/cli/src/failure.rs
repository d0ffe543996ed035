//! How a command ends when it does not end well: a sentence, a code, an exit code.
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use yard_client::wire::{Code, Malformed, Refusal};

use crate::output::Format;

/// How a command ended, as its exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The reader of the output went away: nothing is wrong and nothing is said.
    OutputClosed,
    /// It was not done.
    Failed,
    /// The command line is wrong; nothing was tried.
    Usage,
    /// Some of it was done.
    Partial,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::OutputClosed => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partial => 3,
        })
    }
}

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    code: Option<Code>,
    sentence: String,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, code: None, sentence: sentence.into(), retry_after: None }
    }

    /// Something on this machine stands against it.
    pub(crate) fn local(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Failed, sentence)
    }

    /// The command line is wrong.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    /// Only a part was done.
    pub(crate) fn partial(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Partial, sentence)
    }

    /// The same, after a part was done.
    pub(crate) fn after_a_part(self) -> Self {
        Self { exit: Exit::Partial, ..self }
    }

    pub(crate) fn with_code(self, code: Code) -> Self {
        Self { code: Some(code), ..self }
    }

    /// Its code, where it has one, and its sentence.
    pub(crate) fn parts(self) -> (Option<Code>, String) {
        (self.code, self.sentence)
    }

    /// Says it on stderr, unless there is nothing to say.
    pub(crate) fn report(&self, format: Format) {
        if self.exit == Exit::OutputClosed {
            return;
        }
        // Where stderr is closed too, the exit code is all that is left to say.
        let _ = io::stderr().lock().write_all(self.text(format).as_bytes());
    }

    fn text(&self, format: Format) -> String {
        let sentence = crate::text::visible_lines(&self.sentence);
        match (format, self.code) {
            (Format::Json | Format::Ndjson, code) => {
                let error = json!({
                    "code": code.map(Code::label),
                    "name": code.map(Code::name),
                    "message": self.sentence,
                    "retryable": code.is_some_and(Code::is_retryable),
                    "retry_after_ms": self.retry_after.map(|after| after.as_millis() as u64),
                });
                format!("{}\n", json!({ "error": error }))
            }
            (Format::Table, None) => format!("error: {sentence}\n"),
            (Format::Table, Some(code)) => {
                format!("error[{code}]: {sentence}\nrun: yard explain {}\n", code.label())
            }
        }
    }
}

impl From<yard_client::Error> for Failure {
    fn from(error: yard_client::Error) -> Self {
        let failure = Self::local(error.detail).with_code(error.code);
        Self { retry_after: error.retry_after, ..failure }
    }
}

/// A refusal that never left this program: arguments that cannot be encoded.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::usage(refusal.detail).with_code(refusal.code)
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        let detail = format!("the broker's answer cannot be read: {malformed}");
        Self::local(detail).with_code(Code::BadReply)
    }
}

/// An error of writing the output; every other file has its own sentence.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::OutputClosed, "the output was closed");
        }
        Self::local(format!("the output cannot be written: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_as_people_and_programs_see_them() {
        let check = |failure: Failure, format: Format, expected: &str| {
            assert_eq!(failure.text(format), expected);
        };
        let unknown = || Failure::local("no topic x").with_code(Code::UnknownTopic);
        check(
            unknown(),
            Format::Table,
            "error[E0201 UnknownTopic]: no topic x\nrun: yard explain E0201\n",
        );
        check(Failure::usage("what"), Format::Table, "error: what\n");
        check(
            unknown(),
            Format::Json,
            "{\"error\":{\"code\":\"E0201\",\"name\":\"UnknownTopic\",\"message\":\"no topic x\",\
             \"retryable\":false,\"retry_after_ms\":null}}\n",
        );
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.exit, Exit::OutputClosed);
    }
}
