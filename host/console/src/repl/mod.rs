//! The console at a terminal: lines, commands that begin with a dot, history, completion.
mod command;
mod complete;
mod help;
mod prompt;

use std::path::PathBuf;
use std::time::Instant;

use reedline::{
    ColumnarMenu, DefaultHinter, DefaultPrompt, DefaultPromptSegment, Emacs, FileBackedHistory,
    KeyCode, KeyModifiers, MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    ValidationResult, Validator, default_emacs_keybindings,
};
use yard_client::Code;

use crate::console::Console;
use crate::display::Extent;
use crate::fault::{Failure, Fault};
use command::Command;
pub(crate) use complete::Completions;
use prompt::Prompt;

pub(crate) use help::page as help_page;

/// Lines that the history keeps.
const HISTORY_LINES: usize = 10_000;
const MENU: &str = "completions";

/// Whether the console goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    GoOn,
    Quit,
}

impl Console {
    /// Reads lines from the terminal and runs them, until the user has enough. `history`: the
    /// file that keeps them.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub fn repl(&mut self, history: Option<PathBuf>) -> Result<(), Failure> {
        let completions = Completions::new(self.entries.clone(), self.session.clone());
        let mut editor = self.editor(history)?.with_completer(Box::new(completions.clone()));
        completions.warm_up();
        self.mind_production()?;
        loop {
            let place = self.session.place();
            completions.set_variables(&self.scope);
            let prompt = Prompt::new(&place, self.session.safety().dry);
            let read = editor.read_line(&prompt);
            match read.map_err(|error| terminal(&error.to_string()))? {
                Signal::Success(line) if self.line(&line) == Flow::Quit => return Ok(()),
                Signal::CtrlD => return Ok(()),
                // What was typed is dropped; anything else is for programs that we are not.
                _ => {}
            }
        }
    }

    /// Runs a line as it was typed: a command with a dot, or a script.
    pub(crate) fn line(&mut self, line: &str) -> Flow {
        let began = Instant::now();
        let ended = match Command::read(line) {
            None => self.script(line),
            Some(Ok(command)) => self.command(command),
            Some(Err(fault)) => Err(fault.into()),
        };
        let flow = ended.unwrap_or_else(|failure| {
            let page = match failure.code {
                Code::Interrupted => String::new(),
                code => format!("\n.help {}", code.label()),
            };
            let text = failure.text();
            // A terminal that is gone is met again by the next line.
            let _ = self.session.print(&format!("error[{}]: {text}{page}\n", failure.code));
            Flow::GoOn
        });
        if self.is_timed {
            let ms = began.elapsed().as_secs_f64() * 1_000.0;
            let _ = self.session.print(&format!("{ms:.1} ms\n"));
        }
        flow
    }

    fn script(&mut self, text: &str) -> Result<Flow, Failure> {
        if text.trim().is_empty() {
            return Ok(Flow::GoOn);
        }
        self.run_and_show(text, Extent::Beginning).map(|_| Flow::GoOn)
    }

    fn editor(&self, history: Option<PathBuf>) -> Result<Reedline, Failure> {
        let mut keys = default_emacs_keybindings();
        keys.add_binding(
            KeyModifiers::NONE,
            KeyCode::Tab,
            ReedlineEvent::UntilFound(vec![
                ReedlineEvent::Menu(MENU.to_owned()),
                ReedlineEvent::MenuNext,
            ]),
        );
        let menu = Box::new(ColumnarMenu::default().with_name(MENU));
        let editor = Reedline::create()
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_menu(ReedlineMenu::EngineCompleter(menu))
            .with_quick_completions(true)
            .with_hinter(Box::new(DefaultHinter::default()))
            .with_validator(Box::new(Lines));
        let Some(file) = history else { return Ok(editor) };
        let history =
            FileBackedHistory::with_file(HISTORY_LINES, file.clone()).map_err(|error| {
                terminal(&format!("the history {} cannot be used: {error}", file.display()))
            })?;
        Ok(editor.with_history(Box::new(history)))
    }
}

fn terminal(why: &str) -> Failure {
    Fault::new(Code::ScriptFailed, format!("the terminal cannot be used: {why}")).into()
}

/// Says where a script is to be gone on with.
struct Lines;

impl Validator for Lines {
    fn validate(&self, line: &str) -> ValidationResult {
        let is_command = Command::read(line).is_some();
        match !is_command && Console::is_incomplete(line) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Complete,
        }
    }
}

/// Asks the user of the terminal; `None` for Ctrl-C, Ctrl-D, or where there is no terminal.
pub fn ask(question: &str) -> Option<String> {
    let left = DefaultPromptSegment::Basic(question.to_owned());
    let prompt = DefaultPrompt::new(left, DefaultPromptSegment::Empty);
    match Reedline::create().read_line(&prompt) {
        Ok(Signal::Success(answer)) => Some(answer),
        Ok(_) | Err(_) => None,
    }
}
