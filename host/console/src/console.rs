//! A console: what stays from one line to the next, and how one is run.
use std::path::PathBuf;
use std::sync::Arc;
use std::{mem, panic, thread};

use rhai::{AST, Dynamic, Engine, LexError, Map, ParseError, ParseErrorType, Position, Scope};
use tokio::runtime::Handle;
use yard_client::{Client, Code};

use crate::book::{Entry, nearest};
use crate::display::{self, Extent};
use crate::engine;
use crate::fault::{Failure, Fault};
use crate::journal::Journal;
use crate::limits::{Limits, STACK_BYTES};
use crate::script::without_loader;
use crate::session::{Parts, Safety, Session, Surroundings};
use crate::show::Format;
use crate::stop::Stop;

/// The variable that holds what the line before has given.
const LAST: &str = "it";

/// What a console is made of.
pub struct Setup {
    /// What scripts may use.
    pub limits: Limits,
    /// How results are shown.
    pub format: Format,
    /// Whether they are shown on a terminal.
    pub terminal: bool,
    /// File of the journal; none is kept without.
    pub journal: Option<PathBuf>,
    /// Whether plans are applied, and who is asked.
    pub safety: Safety,
    /// Where connections live.
    pub runtime: Handle,
    /// The program around the console.
    pub surroundings: Box<dyn Surroundings>,
}

/// How a run ended that was not stopped by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that was asked for was done.
    Whole,
    /// Some steps of a plan were not.
    InPart,
}

/// Runs scripts, one at a time; variables and functions stay.
pub struct Console {
    pub(crate) session: Arc<Session>,
    pub(crate) entries: Arc<[Entry]>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) scope: Scope<'static>,
    /// The functions of earlier lines, closures among them.
    functions: AST,
    /// Whether the time of each line is shown.
    pub(crate) is_timed: bool,
}

impl Console {
    /// A console that has run nothing, and is not connected.
    pub fn new(setup: Setup) -> Self {
        let Setup { limits, format, terminal, journal, safety, runtime, surroundings } = setup;
        let journal = journal.map(Journal::new);
        let parts = Parts { limits, format, terminal, journal, safety, runtime, surroundings };
        let session = Arc::new(Session::new(parts));
        let (engine, entries) = engine::build(&session);
        let (scope, functions) = (Scope::new(), AST::empty());
        Self { session, entries: entries.into(), engine, scope, functions, is_timed: false }
    }

    /// What ends the run that is on, from another thread.
    pub fn stop(&self) -> Stop {
        self.session.stop.clone()
    }

    /// All that scripts can call.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Gives the script its arguments, as the constant `args`.
    pub fn set_args(&mut self, args: Map) {
        self.scope.push_constant("args", args);
    }

    /// Runs a script to its end and shows all of its result.
    ///
    /// # Errors
    /// Why it did not come to its end: the code says what kind of error it is.
    pub fn run(&mut self, script: &str) -> Result<Ended, Failure> {
        self.run_and_show(script, Extent::Whole)
    }

    /// Runs a script and shows as much of its result as is wanted.
    pub(crate) fn run_and_show(&mut self, script: &str, extent: Extent) -> Result<Ended, Failure> {
        self.session.stop.begin();
        let text = without_loader(script);
        let compiled = self.engine.compile_with_scope(&self.scope, &text);
        let ast = compiled.map_err(|error| self.hinted(Failure::of_text(&error, script)))?;
        let ast = self.functions.merge(&ast);
        self.functions = ast.clone_functions_only();
        self.session.begin(script, Arc::new(self.functions.clone()));
        let (session, engine) = (self.session.clone(), self.engine.clone());
        let mut scope = mem::take(&mut self.scope);
        // A thread of its own: a native call may wait, and a worker of the runtime must not.
        let run =
            thread::Builder::new().name("script".into()).stack_size(STACK_BYTES).spawn(move || {
                let result = engine.eval_ast_with_scope::<Dynamic>(&mut scope, &ast);
                let shown = result.and_then(|value| {
                    display::show(&session, &value, extent)?;
                    Ok(value)
                });
                (shown, scope)
            });
        let run = run.map_err(|error| {
            Fault::new(Code::ScriptFailed, format!("no thread can be started: {error}"))
        })?;
        let (result, scope) = run.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
        self.scope = scope;
        let value = result.map_err(|error| self.hinted(Failure::of_run(error, script)))?;
        if !value.is_unit() {
            self.scope.set_or_push(LAST, value);
        }
        Ok(if self.session.has_failures() { Ended::InPart } else { Ended::Whole })
    }

    /// The client, where one was connected: the console is done with it.
    pub fn leave(&self) -> Option<Client> {
        self.session.choose(None)
    }

    /// Whether a text is the beginning of a script, to be gone on with.
    pub(crate) fn is_incomplete(text: &str) -> bool {
        // Not strict: which variables there are is not the question.
        let compiled = Engine::new_raw().compile(without_loader(text));
        compiled.is_err_and(|error| is_unfinished(&error, text))
    }

    /// Names what was probably meant where a function does not exist.
    fn hinted(&self, mut failure: Failure) -> Failure {
        let unknown = failure.message.strip_prefix("Function not found: ");
        let name = unknown.and_then(|rest| rest.split([' ', '(']).next()).map(str::to_owned);
        if let Some(name) = name {
            let known = self.entries.iter().map(|entry| &*entry.name);
            if self.entries.iter().any(|entry| entry.name == name) {
                failure.message.push_str(&format!("; `.help {name}` shows what it takes"));
            } else if let Some(near) = nearest(&name, known) {
                failure.message.push_str(&format!("; the nearest is {near}"));
            }
        }
        failure
    }
}

/// Whether more lines could mend it.
fn is_unfinished(error: &ParseError, text: &str) -> bool {
    match error.err_type() {
        ParseErrorType::UnexpectedEOF => true,
        ParseErrorType::BadInput(LexError::UnterminatedString) => true,
        // Something is missing at the very end, behind which nothing is.
        _ => text.trim_end().len() <= offset_of(error.position(), text),
    }
}

/// Where a place is in a text, in bytes; behind the end where it is none.
fn offset_of(place: Position, text: &str) -> usize {
    let (Some(line), Some(column)) = (place.line(), place.position()) else {
        return text.len();
    };
    let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.get(before..).unwrap_or("");
    before + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at)
}
