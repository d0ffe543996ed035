//! What goes wrong: inside a script a value with a code, outside a sentence with its place.
use std::fmt;
use std::time::Duration;

use rhai::{Dynamic, EvalAltResult, LexError, ParseError, ParseErrorType, Position};
use yard_client::{Code, Error};

/// Results of functions that scripts call.
pub(crate) type Result<T> = std::result::Result<T, Box<EvalAltResult>>;

/// An error as a script catches it: `e.code`, `e.message`, `e.retryable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of error it is; its page says what to do.
    pub code: Code,
    /// What exactly was wrong.
    pub message: String,
    /// When asking again makes sense, where the broker said so.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// An error with a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// A function was called with something that it does not take.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(Code::BadArgument, message)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Code::Interrupted, "the run was interrupted")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { code: error.code, message: error.detail, retry_after: error.retry_after }
    }
}

impl From<Fault> for Box<EvalAltResult> {
    fn from(fault: Fault) -> Self {
        // What ends a run must not be caught by it.
        match fault.code {
            Code::Interrupted | Code::ScriptLimit => {
                EvalAltResult::ErrorTerminated(Dynamic::from(fault), Position::NONE).into()
            }
            _ => EvalAltResult::ErrorRuntime(Dynamic::from(fault), Position::NONE).into(),
        }
    }
}

/// Where in a script, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character of it.
    pub column: usize,
    /// The line as it was written.
    pub text: String,
}

/// Why a run did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of error it is.
    pub code: Code,
    /// What exactly was wrong.
    pub message: String,
    /// Where, if it is known.
    pub place: Option<Place>,
    /// When asking again makes sense, where the broker said so.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// The sentence, and the line of the script with a mark under the place.
    pub fn text(&self) -> String {
        let Some(Place { line, column, text }) = &self.place else {
            return self.message.clone();
        };
        let mark = " ".repeat(column.saturating_sub(1));
        format!("{} (line {line}, column {column})\n  {text}\n  {mark}^", self.message)
    }

    pub(crate) fn of_run(error: Box<EvalAltResult>, script: &str) -> Self {
        let (mut error, mut position) = (error, Position::NONE);
        // The innermost place is the one that says most.
        loop {
            let own = error.take_position();
            position = if own.is_none() { position } else { own };
            match *error {
                EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
                | EvalAltResult::ErrorInModule(_, inner, _) => error = inner,
                other => return Self::of(fault_of(other)).at(position, script),
            }
        }
    }

    pub(crate) fn of_text(error: &ParseError, script: &str) -> Self {
        let message = match error.err_type() {
            ParseErrorType::BadInput(LexError::ImproperSymbol(symbol, why)) if why.is_empty() => {
                format!("{symbol:?} is not of the language")
            }
            ParseErrorType::Reserved(word) => format!("{word:?} is reserved and not offered"),
            other => other.to_string(),
        };
        Self::of(Fault::new(Code::ScriptMalformed, message)).at(error.position(), script)
    }

    fn of(Fault { code, message, retry_after }: Fault) -> Self {
        Self { code, message, place: None, retry_after }
    }

    fn at(mut self, position: Position, script: &str) -> Self {
        self.place = position.line().map(|line| Place {
            line,
            column: position.position().unwrap_or(1),
            text: script.lines().nth(line - 1).unwrap_or("").to_owned(),
        });
        self
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::of(fault)
    }
}

fn fault_of(error: EvalAltResult) -> Fault {
    let failed = |message: String| Fault::new(Code::ScriptFailed, message);
    match error {
        EvalAltResult::ErrorRuntime(value, _) => match value.try_cast_result::<Fault>() {
            Ok(fault) => fault,
            Err(value) => failed(format!("the script threw: {value}")),
        },
        EvalAltResult::ErrorTerminated(value, _) => {
            value.try_cast::<Fault>().unwrap_or_else(Fault::interrupted)
        }
        EvalAltResult::ErrorTooManyVariables(_)
        | EvalAltResult::ErrorTooManyModules(_)
        | EvalAltResult::ErrorTooManyOperations(_)
        | EvalAltResult::ErrorStackOverflow(_)
        | EvalAltResult::ErrorDataTooLarge(..) => Fault::new(Code::ScriptLimit, error.to_string()),
        EvalAltResult::ErrorParsing(what, _) => Fault::new(Code::ScriptMalformed, what.to_string()),
        other => failed(other.to_string()),
    }
}
