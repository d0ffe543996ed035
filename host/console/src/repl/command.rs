//! Commands that begin with a dot: what is about the console, not about the broker.
use std::fs;
use std::time::Duration;

use yard_client::wire::units::read_duration_ms;

use super::{Flow, help_page, prompt};
use crate::console::Console;
use crate::display::Extent;
use crate::fault::{Failure, Fault};
use yard_client::Code;

/// Name, what follows it, what it does.
pub(super) const COMMANDS: &[(&str, &str, &str)] = &[
    (".help", "[NAME|CODE]", "What there is; a function, what a cursor has, an error code."),
    (".ctx", "[NAME]", "Where the console is; or go to another context."),
    (".dry", "[on|off]", "Whether plans are only shown."),
    (".time", "[on|off]", "Whether the time of each line is shown."),
    (".watch", "SPAN SCRIPT", "Run a script again and again, for example .watch 2s groups()."),
    (".journal", "", "The plans that were applied from this machine, the last first."),
    (".undo", "", "Take back the last of them that can be, in this context."),
    (".load", "FILE", "Run the lines of a file; its functions and variables stay."),
    (".quit", "", "End; Ctrl-D does the same."),
];

/// A command, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help(String),
    Context(Option<String>),
    Dry(Option<bool>),
    Time(Option<bool>),
    Watch { pause: Duration, script: String },
    Journal,
    Undo,
    Load(String),
    Quit,
}

impl Command {
    /// Reads a line; `None` where it is a script.
    pub(super) fn read(line: &str) -> Option<Result<Self, Fault>> {
        let line = line.trim();
        // A number may begin with a dot in some languages, a script never does.
        if !line.starts_with('.') {
            return None;
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Some(Self::of(name, rest.trim()))
    }

    fn of(name: &str, rest: &str) -> Result<Self, Fault> {
        let nothing = |command: Self| match rest {
            "" => Ok(command),
            _ => Err(Fault::argument(format!("{name} takes nothing"))),
        };
        match name {
            ".help" => Ok(Self::Help(rest.to_owned())),
            ".ctx" => Ok(Self::Context((!rest.is_empty()).then(|| rest.to_owned()))),
            ".dry" => on_or_off(name, rest).map(Self::Dry),
            ".time" => on_or_off(name, rest).map(Self::Time),
            ".watch" => {
                let (span, script) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let pause = read_duration_ms(span).ok().filter(|ms| *ms > 0);
                match (pause, script.trim()) {
                    (Some(ms), script) if !script.is_empty() => {
                        let (pause, script) = (Duration::from_millis(ms), script.to_owned());
                        Ok(Self::Watch { pause, script })
                    }
                    _ => {
                        Err(Fault::argument(".watch takes a span and a script: .watch 2s groups()"))
                    }
                }
            }
            ".journal" => nothing(Self::Journal),
            ".undo" => nothing(Self::Undo),
            ".load" if rest.is_empty() => Err(Fault::argument(".load takes a file")),
            ".load" => Ok(Self::Load(rest.to_owned())),
            ".quit" | ".exit" => nothing(Self::Quit),
            _ => {
                let names = COMMANDS.iter().map(|(name, ..)| *name);
                Err(Fault::argument(match crate::book::nearest(name, names) {
                    Some(near) => format!("there is no command {name}; the nearest is {near}"),
                    None => format!("there is no command {name}; .help lists them"),
                }))
            }
        }
    }
}

fn on_or_off(name: &str, text: &str) -> Result<Option<bool>, Fault> {
    match text {
        "" => Ok(None),
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        _ => Err(Fault::argument(format!("{name} takes on or off, not {text:?}"))),
    }
}

impl Console {
    pub(super) fn command(&mut self, command: Command) -> Result<Flow, Failure> {
        match command {
            Command::Quit => return Ok(Flow::Quit),
            Command::Help(name) => {
                let page = help_page(&self.entries, &name);
                self.say(&page?)?;
            }
            Command::Context(None) => self.say_contexts()?,
            Command::Context(Some(name)) => self.go_to(name)?,
            Command::Dry(wanted) => {
                let dry = wanted.unwrap_or(!self.session.safety().dry);
                self.session.set_dry(dry);
                self.say(if dry { "plans are only shown\n" } else { "plans are applied\n" })?;
            }
            Command::Time(wanted) => {
                self.is_timed = wanted.unwrap_or(!self.is_timed);
                self.say(if self.is_timed { "timing is on\n" } else { "timing is off\n" })?;
            }
            Command::Watch { pause, script } => self.watch(pause, &script)?,
            Command::Journal => {
                self.run_and_show("journal().take(20).table()", Extent::Beginning)?;
            }
            Command::Undo => {
                self.run_and_show("undo().apply()", Extent::Beginning)?;
            }
            Command::Load(path) => {
                let script = fs::read_to_string(&path)
                    .map_err(|error| Fault::argument(format!("{path} cannot be read: {error}")))?;
                self.run_and_show(&script, Extent::Beginning)?;
            }
        }
        Ok(Flow::GoOn)
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        self.session.print(text).map_err(|error| Failure::of_run(error, ""))
    }

    fn say_contexts(&self) -> Result<(), Failure> {
        let place = self.session.place();
        let mut out = format!("{} (tenant {})\n", place.context, place.tenant);
        for name in self.session.surroundings.contexts() {
            out.push_str(&format!("  {name}\n"));
        }
        self.say(&out)
    }

    /// Goes to another context. What was connected is left in the background.
    fn go_to(&mut self, name: String) -> Result<(), Failure> {
        self.session.surroundings.place(Some(&name))?;
        if let Some(client) = self.session.choose(Some(name)) {
            self.session.runtime().spawn(async move { client.close().await });
        }
        self.mind_production()
    }

    /// Where people depend on what is there, plans are only shown unless the user says otherwise.
    pub(super) fn mind_production(&self) -> Result<(), Failure> {
        if !prompt::is_production(&self.session.place().context) || self.session.safety().dry {
            return Ok(());
        }
        self.session.set_dry(true);
        self.say("this is production: plans are only shown; .dry off applies them\n")
    }

    /// Runs a script again and again, until it fails or is interrupted.
    fn watch(&mut self, pause: Duration, script: &str) -> Result<(), Failure> {
        loop {
            if self.session.terminal {
                // Clears the screen and goes to its beginning (ECMA-48, ED and CUP).
                self.say("\u{1b}[2J\u{1b}[H")?;
            }
            self.run_and_show(script, Extent::Beginning)?;
            match self.session.pause(pause) {
                Ok(()) => {}
                Err(_) => return Err(Fault::new(Code::Interrupted, "the watch has ended").into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_scripts_are_left_alone() {
        let check = |line: &str, expected: Option<Command>| {
            let found = Command::read(line).transpose();
            assert_eq!(found.expect(line), expected, "{line}");
        };
        check("topics()", None);
        check("", None);
        check(" .quit ", Some(Command::Quit));
        check(".help", Some(Command::Help(String::new())));
        check(".help sort_by", Some(Command::Help("sort_by".into())));
        check(".ctx prod", Some(Command::Context(Some("prod".into()))));
        check(".dry", Some(Command::Dry(None)));
        check(".time off", Some(Command::Time(Some(false))));
        let (pause, script) = (Duration::from_secs(2), "groups().take(3)".to_owned());
        check(".watch 2s groups().take(3)", Some(Command::Watch { pause, script }));
        check(".load a b.rhai", Some(Command::Load("a b.rhai".into())));
        for line in [".jurnal", ".dry maybe", ".watch 2s", ".watch soon x", ".load", ".quit now"] {
            assert!(Command::read(line).expect("a command").is_err(), "{line}");
        }
    }
}
