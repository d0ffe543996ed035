//! `yard sh` and `yard run`: the console, at a terminal, for one script, for a file.
use std::env;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use yard_client::wire::Code;
use yard_console::{
    Connecting, Console, Ended, Fault, Head, OPERATOR, Place, Safety, Setup, Surroundings,
};

use super::Session;
use crate::args::Written;
use crate::context::Contexts;
use crate::failure::Failure;
use crate::terminal::Interrupts;

/// What is to be run.
enum Input {
    /// Whatever the user types.
    Terminal,
    /// A script, with its arguments where it is a file.
    Script { text: String, words: Option<Vec<String>> },
}

/// `yard sh`.
pub(crate) async fn sh(session: &Session, written: &Written) -> Result<(), Failure> {
    let input = match written.text("c") {
        Some(script) => Input::Script { text: script.to_owned(), words: None },
        None if io::stdin().is_terminal() => Input::Terminal,
        None => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::local(format!("stdin cannot be read: {error}")))?;
            Input::Script { text, words: None }
        }
    };
    start(session, written, input).await
}

/// `yard run`.
pub(crate) async fn run(session: &Session, written: &Written) -> Result<(), Failure> {
    let file = written.required("file")?;
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::local(format!("{file} cannot be read: {error}")))?;
    let words = written.rest();
    // No argument of a script stands alone, and --help is that of `yard run`.
    if words == ["help"] {
        let help = Head::of(&text).map_err(wrong)?.help(file);
        return Ok(io::stdout().lock().write_all(help.as_bytes())?);
    }
    start(session, written, Input::Script { text, words: Some(words.to_vec()) }).await
}

/// A script that is used wrongly: nothing was tried.
fn wrong(fault: Fault) -> Failure {
    Failure::usage(fault.message).with_code(fault.code)
}

async fn start(session: &Session, written: &Written, input: Input) -> Result<(), Failure> {
    let is_interactive = matches!(input, Input::Terminal);
    let is_closed = Arc::new(AtomicBool::new(false));
    let around = Around { session: session.clone(), is_closed: is_closed.clone() };
    let folder = state_folder();
    let mut console = Console::new(Setup {
        limits: OPERATOR,
        format: session.format,
        terminal: io::stdout().is_terminal(),
        journal: folder.as_ref().map(|folder| folder.join("journal.ndjson")),
        safety: Safety {
            dry: written.switch("dry"),
            removes_many: written.switch("i_mean_it"),
            confirms: is_interactive,
        },
        runtime: Handle::current(),
        surroundings: Box::new(around),
    });
    if let Input::Script { text, words: Some(words) } = &input {
        console.set_args(Head::of(text).and_then(|head| head.read(words)).map_err(wrong)?);
    }
    let stop = console.stop();
    // A terminal's Ctrl-C ends what runs and not the console; SIGTERM ends either.
    let mut interrupts = if is_interactive { None } else { Some(Interrupts::catch()?) };
    let listening = tokio::spawn(async move {
        loop {
            match &mut interrupts {
                Some(interrupts) => interrupts.next().await,
                None if tokio::signal::ctrl_c().await.is_err() => return,
                None => {}
            }
            stop.stop();
        }
    });
    let ended = tokio::task::spawn_blocking(move || {
        let ended = match input {
            Input::Script { text, .. } => console.run(&text),
            Input::Terminal => {
                console.repl(folder.map(|folder| folder.join("history"))).map(|()| Ended::Whole)
            }
        };
        (ended, console.leave())
    });
    let (ended, client) = ended.await.map_err(|error| Failure::local(error.to_string()))?;
    listening.abort();
    if let Some(client) = client {
        super::leave(&client).await;
    }
    if is_closed.load(Ordering::Relaxed) {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
    }
    match ended {
        Ok(Ended::Whole) => Ok(()),
        Ok(Ended::InPart) => Err(Failure::partial("some steps of a plan were not done")),
        Err(failure) => Err(Failure::local(failure.text()).with_code(failure.code)),
    }
}

/// Where the journal and the history are: the user's state, not settings.
fn state_folder() -> Option<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    folder("YARD_HOME")
        .map(|folder| folder.join("console"))
        .or_else(|| folder("XDG_STATE_HOME").map(|folder| folder.join("yard")))
        .or_else(|| folder("HOME").map(|folder| folder.join(".local/state/yard")))
}

/// What the console asks of this program.
struct Around {
    session: Session,
    /// Whether nobody reads the output any more.
    is_closed: Arc<AtomicBool>,
}

impl Around {
    fn context(&self, name: Option<&str>) -> Result<yard_client::Context, Failure> {
        match name {
            None => self.session.context(),
            Some(name) => Contexts::of_user()?.load(Some(name)),
        }
    }
}

impl Surroundings for Around {
    fn connect(&self, context: Option<&str>) -> Connecting {
        let context = self.context(context);
        Box::pin(async move {
            let client = super::connect(context?, Some(1)).await;
            client.map_err(Fault::from)
        })
    }

    fn place(&self, context: Option<&str>) -> Result<Place, Fault> {
        let tenant = self.context(context)?.tenant;
        let context = match context {
            Some(name) => name.to_owned(),
            None => self.session.context_name(),
        };
        Ok(Place { context, tenant })
    }

    fn contexts(&self) -> Vec<String> {
        let listed = Contexts::of_user().map(|contexts| contexts.list());
        listed.into_iter().flatten().map(|listed| listed.name).collect()
    }

    fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.is_closed.store(true, Ordering::Relaxed);
        }
        written
    }

    fn ask(&self, question: &str) -> Option<String> {
        yard_console::ask(question)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let (code, sentence) = failure.parts();
        Self::new(code.unwrap_or(Code::Disconnected), sentence)
    }
}
