//! The book of functions: whatever a script can call is registered together with its page, so
//! that help, completion and tests know the same as the engine.
use std::borrow::Cow;

use rhai::{Engine, FuncRegistration, RhaiNativeFunc, Variant};

/// What a function is called on, and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing to call on: the function stands for itself.
    Console,
    /// A number.
    Number,
    /// A text.
    Text,
    /// Rows, read when they are needed.
    Cursor,
    /// Named values.
    Row,
    /// A topic.
    Topic,
    /// A group of consumers.
    Group,
    /// A group and one of its topics.
    GroupTopic,
    /// A message.
    Message,
    /// A change that can be applied.
    Plan,
    /// What became of a plan.
    Report,
    /// An array.
    Array,
    /// Whatever the arguments make it.
    Any,
    /// Nothing.
    Nothing,
}

impl Kind {
    /// As help says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Number => "number",
            Self::Text => "text",
            Self::Cursor => "cursor",
            Self::Row => "row",
            Self::Topic => "topic",
            Self::Group => "group",
            Self::GroupTopic => "group of a topic",
            Self::Message => "message",
            Self::Plan => "plan",
            Self::Report => "report",
            Self::Array => "array",
            Self::Any => "any",
            Self::Nothing => "nothing",
        }
    }
}

/// The page of a function or of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is called on.
    pub on: Kind,
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its arguments as they are written; `None` for a property, which takes none.
    pub params: Option<Cow<'static, str>>,
    /// What it gives.
    pub gives: Kind,
    /// What it does, in a sentence.
    pub help: Cow<'static, str>,
    /// A script that uses it.
    pub example: Cow<'static, str>,
}

impl Entry {
    /// How it is written.
    pub fn signature(&self) -> String {
        let on = match self.on {
            Kind::Console => String::new(),
            on => format!("{}.", on.word()),
        };
        let params = self.params.as_ref().map_or(String::new(), |params| format!("({params})"));
        format!("{on}{}{params}", self.name)
    }
}

/// A function that stands for itself.
pub(crate) const fn free(
    name: &'static str,
    params: &'static str,
    gives: Kind,
    help: &'static str,
    example: &'static str,
) -> Entry {
    method(Kind::Console, name, params, gives, help, example)
}

/// A function that is called on something.
pub(crate) const fn method(
    on: Kind,
    name: &'static str,
    params: &'static str,
    gives: Kind,
    help: &'static str,
    example: &'static str,
) -> Entry {
    Entry {
        on,
        name: Cow::Borrowed(name),
        params: Some(Cow::Borrowed(params)),
        gives,
        help: Cow::Borrowed(help),
        example: Cow::Borrowed(example),
    }
}

/// A property.
pub(crate) const fn property(
    on: Kind,
    name: &'static str,
    gives: Kind,
    help: &'static str,
    example: &'static str,
) -> Entry {
    Entry {
        on,
        name: Cow::Borrowed(name),
        params: None,
        gives,
        help: Cow::Borrowed(help),
        example: Cow::Borrowed(example),
    }
}

/// Registers functions and keeps their pages.
pub(crate) struct Book<'e> {
    pub(crate) engine: &'e mut Engine,
    entries: Vec<Entry>,
}

impl<'e> Book<'e> {
    pub(crate) fn new(engine: &'e mut Engine) -> Self {
        Self { engine, entries: Vec::new() }
    }

    /// Registers a function, and its page unless that is there: one with fewer arguments has it.
    pub(crate) fn add<A, const N: usize, const X: bool, R, const F: bool>(
        &mut self,
        entry: Entry,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) where
        A: 'static,
        R: Variant + Clone,
    {
        let registration = match entry.params {
            Some(_) => FuncRegistration::new(&*entry.name),
            None => FuncRegistration::new_getter(&*entry.name),
        };
        let comment = format!("/// {}\n/// `{}`", entry.help, entry.example);
        registration.with_comments([comment]).register_into_engine(self.engine, function);
        self.page(entry);
    }

    /// Keeps the page of what the language itself offers.
    pub(crate) fn page(&mut self, entry: Entry) {
        let same = |known: &Entry| known.on == entry.on && known.name == entry.name;
        if !self.entries.iter().any(same) {
            self.entries.push(entry);
        }
    }

    /// The pages, by what they are called on, then by name.
    pub(crate) fn close(mut self) -> Vec<Entry> {
        self.entries.sort_by(|a, b| (a.on, &a.name).cmp(&(b.on, &b.name)));
        self.entries
    }
}

/// The name nearest to one that is not there, where one is near enough.
pub(crate) fn nearest<'n>(
    wanted: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    let distance = |name: &str| strsim::damerau_levenshtein(wanted, name);
    let best = names.into_iter().min_by_key(|name| distance(name))?;
    (distance(best) <= 1 + wanted.len() / 4).then_some(best)
}
