//! The command line, built from the catalogue when the program starts: a verb that is added there
//! is here without a line of code.
use std::collections::{BTreeMap, BTreeSet};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use yard_client::transport::Controller;
use yard_client::wire::Code;
use yard_client::wire::catalogue::{Verb, verbs};
use yard_client::wire::operation::{Field, Presence};

use crate::failure::Failure;
use crate::output::Format;

/// What was written on the command line.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) verb: Verb,
    pub(crate) written: Written,
    pub(crate) format: Format,
    pub(crate) context: Option<String>,
    pub(crate) controller: Option<Controller>,
    pub(crate) verbose: bool,
}

/// The texts of a verb's arguments, by the names of their fields, defaults among them.
#[derive(Debug, Default)]
pub(crate) struct Written {
    texts: BTreeMap<&'static str, String>,
    defaults: BTreeSet<&'static str>,
    rest: Vec<String>,
}

impl Written {
    /// What was written, or the default.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// The text of an argument that the catalogue requires or gives a default.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.text(name).ok_or_else(|| bad_argument(name, "is missing"))
    }

    /// Whether an argument was written: a default was not.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.texts.contains_key(name) && !self.defaults.contains(name)
    }

    /// Whether a switch was set.
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Reads an argument, where there is one; `read` says what may be written.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let text = self.text(name);
        text.map(|text| read(text).map_err(|why| bad_argument(name, &why))).transpose()
    }

    /// Reads a number within bounds, where there is one.
    pub(crate) fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Failure> {
        self.read(name, |text| {
            let within = text.parse().ok().filter(|number| (min..=max).contains(number));
            within.ok_or_else(|| match max {
                u64::MAX => format!("takes a number, at least {min}, not {text:?}"),
                _ => format!("takes a number from {min} to {max}, not {text:?}"),
            })
        })
    }

    /// Every word that followed the others, where the verb takes such.
    pub(crate) fn rest(&self) -> &[String] {
        &self.rest
    }

    /// Fills in an argument that people do not write.
    pub(crate) fn fill(&mut self, name: &'static str, text: String) {
        self.texts.insert(name, text);
    }
}

/// A usage error about one argument.
pub(crate) fn bad_argument(name: &str, why: &str) -> Failure {
    let flag = name.replace('_', "-");
    Failure::usage(format!("{flag}: {why}")).with_code(Code::BadArgument)
}

/// The whole command line.
pub(crate) fn command() -> Command {
    let mut command = Command::new("yard")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Switchyard: a message broker whose policies are plugins")
        .after_help(
            "Begin with `yard dev`. An error's code is explained by `yard explain CODE`.\n\
             Exit codes: 0 done, 1 failed, 2 wrong command line, 3 done in part.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
        .args(global_args());
    for (noun, of_noun) in by_noun() {
        command = match &of_noun[..] {
            [verb] if verb.words.len() == 1 => command.subcommand(verb_command(noun, verb)),
            several => command.subcommand(noun_command(noun, several)),
        };
    }
    command
}

/// Heading of the flags that every command has.
const GLOBAL: &str = "Options of every command";

fn global_args() -> [Arg; 4] {
    [
        Arg::new("output")
            .short('o')
            .long("output")
            .value_name("FORMAT")
            .value_parser(["table", "json", "ndjson"])
            .default_value("table")
            .hide_default_value(true)
            .global(true)
            .help_heading(GLOBAL)
            .help("How results are shown; table unless given"),
        Arg::new("context")
            .long("context")
            .value_name("FILE|NAME")
            .global(true)
            .help_heading(GLOBAL)
            .help("Connection context: a file or a saved name; the current one unless given"),
        Arg::new("controller")
            .long("controller")
            .value_name("cubic|bbr")
            .value_parser(str::parse::<Controller>)
            .global(true)
            .help_heading(GLOBAL)
            .help(
                "How sending is paced; bbr for lines that lose packets. The context's unless given",
            ),
        Arg::new("verbose")
            .long("verbose")
            .action(ArgAction::SetTrue)
            .global(true)
            .help_heading(GLOBAL)
            .help("Log what the program does, to stderr"),
    ]
}

/// The verbs of the catalogue under their first words, in order.
fn by_noun() -> Vec<(&'static str, Vec<Verb>)> {
    let mut nouns: Vec<(&'static str, Vec<Verb>)> = Vec::new();
    for verb in verbs() {
        let noun = verb.words[0];
        match nouns.iter_mut().find(|(known, _)| *known == noun) {
            Some((_, of_noun)) => of_noun.push(verb),
            None => nouns.push((noun, vec![verb])),
        }
    }
    nouns
}

fn noun_command(noun: &'static str, verbs: &[Verb]) -> Command {
    let words: Vec<&str> = verbs.iter().map(|verb| verb.words[1]).collect();
    let command = Command::new(noun)
        .about(words.join(", "))
        .subcommand_required(true)
        .arg_required_else_help(true);
    verbs
        .iter()
        .fold(command, |command, verb| command.subcommand(verb_command(verb.words[1], verb)))
}

fn verb_command(word: &'static str, verb: &Verb) -> Command {
    let shown = verb.fields.iter().filter(|field| field.presence != Presence::Hidden);
    Command::new(word)
        .about(verb.help.trim_end_matches('.'))
        .after_help(format!("Example: {}", verb.example))
        .args(shown.map(field_arg))
}

fn field_arg(field: &Field) -> Arg {
    let name = field.name.replace('_', "-");
    let arg = Arg::new(field.name).help(field.help.trim_end_matches('.'));
    match field.presence {
        Presence::Required => arg.required(true).value_name(field.name.to_ascii_uppercase()),
        // A name of one letter is a short flag.
        Presence::Optional if name.len() == 1 => {
            arg.short(name.chars().next()).value_name(field.kind)
        }
        Presence::Optional => arg.long(name).value_name(field.kind),
        Presence::Default("") => arg.long(name).value_name(field.kind),
        Presence::Default(text) => arg.long(name).value_name(field.kind).default_value(text),
        Presence::Switch => arg.long(name).action(ArgAction::SetTrue),
        Presence::Hidden => arg.long(name).hide(true),
        Presence::Rest => arg
            .value_name(field.kind)
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true),
    }
}

/// Reads what clap has matched.
pub(crate) fn parsed(matches: &ArgMatches) -> Parsed {
    let (words, of_verb) = words(matches);
    let verb = verbs()
        .find(|verb| verb.words == words)
        .expect("clap accepts only the words of the catalogue");
    let mut written = Written::default();
    for field in verb.fields {
        match field.presence {
            Presence::Required | Presence::Optional | Presence::Default(_) => {
                if let Some(text) = of_verb.get_one::<String>(field.name) {
                    written.fill(field.name, text.clone());
                }
                if of_verb.value_source(field.name) == Some(ValueSource::DefaultValue) {
                    written.defaults.insert(field.name);
                }
            }
            Presence::Switch => {
                if of_verb.get_flag(field.name) {
                    written.fill(field.name, "true".into());
                }
            }
            Presence::Hidden => {}
            Presence::Rest => {
                let words = of_verb.get_many::<String>(field.name).into_iter().flatten();
                written.rest = words.cloned().collect();
            }
        }
    }
    let format = of_verb.get_one::<String>("output").expect("it has a default");
    Parsed {
        verb,
        written,
        format: Format::parse(format),
        context: of_verb.get_one("context").cloned(),
        controller: of_verb.get_one("controller").copied(),
        verbose: of_verb.get_flag("verbose"),
    }
}

fn words(matches: &ArgMatches) -> (Vec<&str>, &ArgMatches) {
    let (mut words, mut innermost) = (Vec::new(), matches);
    while let Some((word, inner)) = innermost.subcommand() {
        words.push(word);
        innermost = inner;
    }
    (words, innermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_of_the_catalogue_is_a_command_line_of_its_verb() {
        command().debug_assert();
        for verb in verbs() {
            let line = verb.example.split(' ');
            let matches = command().try_get_matches_from(line).expect(verb.example);
            assert_eq!(parsed(&matches).verb.words, verb.words);
        }
    }

    #[test]
    fn texts_have_the_names_of_fields_and_their_defaults() {
        let line = "yard sub orders --until-end --group g --streams 1 -o json --context x";
        let matches = command().try_get_matches_from(line.split(' ')).expect("valid");
        let parsed = parsed(&matches);
        assert!(parsed.written.switch("until_end") && !parsed.written.switch("raw"));
        assert_eq!(parsed.written.text("lease"), Some("30s"));
        assert!(parsed.written.is_given("group") && !parsed.written.is_given("lease"));
        assert_eq!(parsed.written.required("topic").ok(), Some("orders"));
        assert_eq!((parsed.format, parsed.context.as_deref()), (Format::Json, Some("x")));
        assert_eq!(parsed.controller, None);
        assert!(parsed.written.number("streams", 1, 32).is_ok());
        assert!(parsed.written.number("streams", 2, 32).is_err());
        assert!(parsed.written.required("nothing").is_err());
    }
}
