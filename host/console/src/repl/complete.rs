//! Completion: what the text before the cursor can go on with. Functions come from the book, by
//! what they are called on; names of topics, groups and tenants from the broker, asked for in the
//! background, and waited for no longer than a person notices.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reedline::{Completer, CompletionResult, Span, Suggestion};
use rhai::Scope;
use yard_client::wire::operation::Operation;

use super::command::COMMANDS;
use crate::book::{Entry, Kind};
use crate::functions::names;
use crate::plan::{Plan, Report};
use crate::session::Session;
use crate::value::cursor::Cursor;
use crate::value::message::Message;
use crate::value::row::Row;

/// How long a completion waits for names at most.
const WAIT: Duration = Duration::from_millis(150);
/// How long names are believed.
const FRESH: Duration = Duration::from_secs(2);

/// What is asked of the broker, by the list that has it.
type Known = BTreeMap<Operation, (Instant, Vec<String>)>;

/// Completes; clones share what they know.
#[derive(Clone)]
pub(crate) struct Completions {
    entries: Arc<[Entry]>,
    session: Arc<Session>,
    known: Arc<Mutex<Known>>,
    variables: Arc<Mutex<BTreeMap<String, Kind>>>,
}

impl Completions {
    pub(crate) fn new(entries: Arc<[Entry]>, session: Arc<Session>) -> Self {
        Self { entries, session, known: Arc::default(), variables: Arc::default() }
    }

    /// Connects in the background, so that the first line and the first name wait less.
    pub(crate) fn warm_up(&self) {
        let session = self.session.clone();
        self.session.runtime().spawn_blocking(move || drop(session.client()));
    }

    /// Takes note of the variables that there are.
    pub(crate) fn set_variables(&self, scope: &Scope) {
        let mut variables = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
        variables.clear();
        for (name, _, value) in scope.iter() {
            let kind = match () {
                () if value.is::<Cursor>() => Kind::Cursor,
                () if value.is::<Message>() => Kind::Message,
                () if value.is::<Row>() => Kind::Row,
                () if value.is::<Plan>() => Kind::Plan,
                () if value.is::<Report>() => Kind::Report,
                () => Kind::Any,
            };
            variables.insert(name.to_owned(), kind);
        }
    }

    /// What the text may go on with, and where that begins.
    pub(crate) fn candidates(&self, text: &str) -> (usize, Vec<(String, String)>) {
        let (from, mut found) = self.all(text);
        found.retain(|(name, _)| name.starts_with(&text[from..]));
        found.dedup();
        (from, found)
    }

    fn all(&self, text: &str) -> (usize, Vec<(String, String)>) {
        let plain = |names: Vec<String>| names.into_iter().map(|it| (it, String::new())).collect();
        if text.starts_with('.') && !text.contains(char::is_whitespace) {
            let commands = COMMANDS.iter();
            let commands = commands.map(|(name, _, help)| ((*name).to_owned(), (*help).to_owned()));
            return (0, commands.collect());
        }
        if text.starts_with(".ctx ") {
            return (5, plain(self.session.surroundings.contexts()));
        }
        match place_of(text) {
            Place::Text { from, function } => {
                let list = function.and_then(|function| list_of(&function));
                (from, plain(list.map_or_else(Vec::new, |list| self.names(list))))
            }
            Place::Option { from, function } => (from, plain(self.options(&function))),
            Place::Member { from, receiver } => (from, self.members(self.kind_of(&receiver))),
            Place::Start { from } => {
                let variables = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
                let mut found: Vec<_> =
                    variables.keys().map(|name| (name.clone(), "a variable".to_owned())).collect();
                found.extend(self.members(Some(Kind::Console)));
                (from, found)
            }
        }
    }

    fn members(&self, on: Option<Kind>) -> Vec<(String, String)> {
        let is_of = |entry: &&Entry| match on {
            Some(Kind::Any) | None => entry.on != Kind::Console,
            Some(on) => entry.on == on,
        };
        let entries = self.entries.iter().filter(is_of);
        entries.map(|entry| (entry.name.to_string(), entry.help.to_string())).collect()
    }

    /// What an expression gives, followed along its calls.
    fn kind_of(&self, expression: &[String]) -> Option<Kind> {
        let (first, rest) = expression.split_first()?;
        let is_number = first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
        let mut kind = match is_number {
            true => Kind::Number,
            false => {
                let variables = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
                variables.get(first).copied().or_else(|| self.gives(Kind::Console, first))?
            }
        };
        for name in rest {
            kind = self.gives(kind, name)?;
        }
        Some(kind)
    }

    fn gives(&self, on: Kind, name: &str) -> Option<Kind> {
        let found = self.entries.iter().find(|entry| entry.on == on && entry.name == name);
        found.map(|entry| entry.gives)
    }

    /// The options that a function takes in its map.
    fn options(&self, function: &str) -> Vec<String> {
        let of_name = self.entries.iter().filter(|entry| entry.name == function);
        let params = of_name.filter_map(|entry| entry.params.as_deref());
        let inner = params.filter_map(|it| Some(it.split_once("#{")?.1.split_once('}')?.0));
        let mut options: Vec<String> = inner
            .flat_map(|names| match names.trim().strip_prefix("options of ") {
                Some(other) => self.options(other),
                None => names.split(',').map(|name| name.trim().to_owned()).collect(),
            })
            .collect();
        options.sort();
        options.dedup();
        options
    }

    /// The names of a list: those that are known where the broker takes its time.
    fn names(&self, list: Operation) -> Vec<String> {
        let known = |is_wanted: fn(Instant) -> bool| {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&list).filter(|(at, _)| is_wanted(*at)).map(|(_, names)| names.clone())
        };
        if let Some(names) = known(|at| at.elapsed() < FRESH) {
            return names;
        }
        let Some(client) = self.session.connected() else { return Vec::new() };
        let kept = self.known.clone();
        let asked = self.session.runtime().spawn(async move {
            if let Some(names) = names(client, list).await {
                let mut known = kept.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(list, (Instant::now(), names));
            }
        });
        // What comes later is there for the next completion.
        let _ = self.session.runtime().block_on(tokio::time::timeout(WAIT, asked));
        known(|_| true).unwrap_or_default()
    }
}

impl Completer for Completions {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        let text = line.get(..position).unwrap_or(line);
        let (from, found) = self.candidates(text);
        let suggestion = |(value, help): (String, String)| Suggestion {
            value,
            description: Some(help).filter(|help| !help.is_empty()),
            span: Span::new(from, position),
            ..Suggestion::default()
        };
        CompletionResult::fresh(found.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

/// The list that has the names which a function takes: `topic(` those of `topic ls`.
fn list_of(function: &str) -> Option<Operation> {
    let noun = match function {
        "on" | "copy_to" => "topic",
        other => other.split('_').next()?,
    };
    Operation::ALL.iter().copied().find(|it| it.words() == [noun, "ls"])
}

/// Where in a script the cursor is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In a text that is the first argument of a function.
    Text { from: usize, function: Option<String> },
    /// At a key of a map that is an argument of a function.
    Option { from: usize, function: String },
    /// Behind a dot.
    Member { from: usize, receiver: Vec<String> },
    /// At a name of its own.
    Start { from: usize },
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The word that a text ends with, and where it begins.
fn last_word(text: &str) -> (usize, &str) {
    let from = text.trim_end_matches(is_word).len();
    (from, &text[from..])
}

fn place_of(text: &str) -> Place {
    if let Some(from) = open_text(text) {
        let before = text[..from - 1].trim_end();
        let function = before.strip_suffix('(').map(|call| last_word(call).1.to_owned());
        return Place::Text { from, function };
    }
    let (from, _) = last_word(text);
    let before = text[..from].trim_end();
    if let Some(receiver) = before.strip_suffix('.') {
        return Place::Member { from, receiver: chain(receiver) };
    }
    if before.ends_with(['{', ','])
        && let Some(function) = function_of_map(before)
    {
        return Place::Option { from, function };
    }
    Place::Start { from }
}

/// Where the text begins that is open at the end, if one is.
fn open_text(text: &str) -> Option<usize> {
    let (mut open, mut is_escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (open, c) {
            (Some(_), '\\') if !is_escaped => is_escaped = true,
            (Some(_), '"') if !is_escaped => open = None,
            (None, '"') => open = Some(at + 1),
            _ => is_escaped = false,
        }
    }
    open
}

/// The function whose map of options is open at the end.
fn function_of_map(text: &str) -> Option<String> {
    let map = unclosed(text, '{', '}')?;
    let before = text[..map].strip_suffix('#')?;
    let call = unclosed(before, '(', ')')?;
    let name = last_word(&before[..call]).1;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The last opening bracket that is not closed.
fn unclosed(text: &str, opening: char, closing: char) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices().rev() {
        if c == closing {
            depth += 1;
        } else if c == opening {
            match depth {
                0 => return Some(at),
                _ => depth -= 1,
            }
        }
    }
    None
}

/// The names of a chain of calls and properties that a text ends with, first to last.
fn chain(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text.trim_end();
    loop {
        if let Some(inner) = rest.strip_suffix(')') {
            match unclosed(inner, '(', ')') {
                Some(open) => rest = &inner[..open],
                None => return Vec::new(),
            }
        }
        let (from, word) = last_word(rest);
        if word.is_empty() {
            return Vec::new();
        }
        names.push(word.to_owned());
        match rest[..from].trim_end().strip_suffix('.') {
            Some(before) => rest = before.trim_end(),
            None => break,
        }
    }
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_what_is_before() {
        let check = |text: &str, expected: Place| assert_eq!(place_of(text), expected, "{text}");
        let words = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        check("top", Place::Start { from: 0 });
        check("let x = gro", Place::Start { from: 8 });
        let function = Some("topic".to_owned());
        check("topic(\"or", Place::Text { from: 7, function });
        check("print(1, \"or", Place::Text { from: 10, function: None });
        let receiver = words(&["groups", "filter"]);
        check("groups().filter(|g| g.lag > 3).so", Place::Member { from: 31, receiver });
        check("15.min", Place::Member { from: 3, receiver: words(&["15"]) });
        check("x().(", Place::Start { from: 5 });
        let function = "set".to_owned();
        check("topic(\"x\").set(#{ note: 1, re", Place::Option { from: 27, function });
        check("if true { top", Place::Start { from: 10 });
    }

    #[test]
    fn lists_are_found_by_the_noun() {
        assert_eq!(list_of("topic"), Some(Operation::TopicLs));
        assert_eq!(list_of("topic_set"), Some(Operation::TopicLs));
        assert_eq!(list_of("group"), Some(Operation::GroupLs));
        assert_eq!(list_of("on"), Some(Operation::TopicLs));
        assert_eq!(list_of("print"), None);
    }
}
