//! What came of a step, row by row, beside what the scenario says. A row has words that must all
//! be said, and fields of which those are compared that are named; some fields have a usual value,
//! and must be named where they have another.
use yard_client::TraceContext;
use yard_wire::property::TRACE_PARENT;
use yard_wire::record::Record;
use yard_wire::requests::{FetchedRecord, FoundMessage};
use yard_wire::value::Value;
use yard_wire::{QueueIndex, QueueOffset};

use crate::host::{Asked, Received, Stored};
use crate::units::{Place, place};
use crate::words::{Word, written};

/// Bodies of more bytes are shown by their length.
const BODY_SHOWN_MAX: usize = 80;

/// One line of what came.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Where it lies; may be said.
    pub place: Option<Place>,
    /// What must be said.
    pub words: Vec<String>,
    /// What may be named.
    pub fields: Vec<(String, String)>,
    /// What must be named, unless it is as usual: name, value, usual value.
    pub usual: Vec<(&'static str, String, &'static str)>,
}

/// A body as one word.
#[must_use]
pub fn body_text(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if text.len() <= BODY_SHOWN_MAX => text.to_owned(),
        Ok(_) | Err(_) => format!("{}B", body.len()),
    }
}

fn fields_of(record: &Record) -> Vec<(String, String)> {
    let keys: Vec<&str> = record.keys().collect();
    let mut fields = vec![
        ("tag".to_owned(), record.tag().to_owned()),
        ("key".to_owned(), keys.join(",")),
        ("order".to_owned(), record.order_group().unwrap_or_default().to_owned()),
        ("id".to_owned(), record.id().to_string()),
        ("trace".to_owned(), trace_of(record)),
    ];
    fields.extend(record.properties().map(|(name, value)| {
        let name = if name.starts_with('$') { name.to_owned() } else { format!("prop.{name}") };
        (name, value.to_owned())
    }));
    fields
}

/// The trace that a client goes on in.
fn trace_of(record: &Record) -> String {
    let context = record.property(TRACE_PARENT).and_then(TraceContext::parse);
    context.map_or_else(|| "none".to_owned(), |context| context.to_string())
}

fn plain_text(record: &Record) -> String {
    match yard_client::compress::plain_body(record) {
        Ok(body) => body_text(&body),
        Err(error) => error.code.label(),
    }
}

impl Row {
    /// A row of words.
    #[must_use]
    pub fn of(words: impl IntoIterator<Item = String>) -> Self {
        Self { words: words.into_iter().collect(), ..Self::default() }
    }

    /// What a producer was told.
    #[must_use]
    pub fn sent(stored: &Stored) -> Self {
        let queue = stored.queue;
        let place = stored.offset.map(|offset| format!("{queue}@{offset}"));
        Self {
            fields: vec![("id".to_owned(), stored.id.to_string())],
            usual: vec![("duplicate", stored.duplicate.to_string(), "false")],
            ..Self::of([place.unwrap_or_else(|| "waits".to_owned())])
        }
    }

    /// A question about a transaction of this name.
    #[must_use]
    pub fn asked(name: String, asked: &Asked) -> Self {
        Self {
            fields: vec![("note".to_owned(), asked.note.clone())],
            usual: vec![("check", asked.check.to_string(), "1")],
            ..Self::of([name])
        }
    }

    /// A message that was delivered.
    #[must_use]
    pub fn received(received: &Received) -> Self {
        Self {
            place: Some(received.place),
            words: vec![plain_text(&received.record)],
            fields: fields_of(&received.record),
            usual: vec![("attempt", received.attempt.to_string(), "1")],
        }
    }

    /// A message that was fetched from a queue.
    ///
    /// # Errors
    /// When its bytes are no record.
    pub fn fetched(queue: QueueIndex, fetched: &FetchedRecord) -> Result<Self, String> {
        Self::stored((queue, fetched.offset), &fetched.record)
    }

    /// A message that was found.
    ///
    /// # Errors
    /// When its bytes are no record.
    pub fn found(found: &FoundMessage) -> Result<Self, String> {
        let mut row = Self::stored((found.queue, found.offset), &found.record)?;
        row.fields.push(("topic".to_owned(), found.topic.clone()));
        Ok(row)
    }

    fn stored(place: Place, record: &bytes::Bytes) -> Result<Self, String> {
        let record = Record::parse(record.clone()).map_err(|error| error.to_string())?;
        Ok(Self::lying(place, &record))
    }

    /// A message that lies somewhere.
    #[must_use]
    pub fn lying(place: Place, record: &Record) -> Self {
        let (words, fields) = (vec![plain_text(record)], fields_of(record));
        Self { place: Some(place), words, fields, usual: Vec::new() }
    }

    fn fits(&self, expected: &[Word]) -> bool {
        let mut plain = expected.iter().filter(|word| word.name.is_none()).peekable();
        if let (Some(own), Some(said)) = (self.place, plain.peek().and_then(|it| place(&it.text))) {
            if own != said {
                return false;
            }
            plain.next();
        }
        let said: Vec<&String> = plain.map(|word| &word.text).collect();
        let named = |name: &str| {
            let word = expected.iter().find(|word| word.name.as_deref() == Some(name));
            word.map(|word| word.text.as_str())
        };
        let fields = expected.iter().filter_map(|word| Some((word.name.as_deref()?, &word.text)));
        let has = |(name, text): (&str, &String)| {
            let usual = self.usual.iter().find(|(own, ..)| *own == name);
            match usual {
                Some((_, value, _)) => value == text,
                None => self.fields.iter().any(|(own, value)| own == name && value == text),
            }
        };
        let as_usual =
            |(name, value, usual): &(&str, String, &str)| named(name).is_some() || value == usual;
        said.iter().copied().eq(self.words.iter())
            && fields.into_iter().all(has)
            && self.usual.iter().all(as_usual)
    }

    /// The row as it would be expected, with the fields that somebody named.
    #[must_use]
    pub fn shown(&self, names: &[&str]) -> String {
        let place = self.place.map(|(QueueIndex(queue), QueueOffset(at))| format!("{queue}@{at}"));
        let words = self.words.iter().map(|word| written(word));
        let fields = self.fields.iter().filter(|(name, _)| names.contains(&name.as_str()));
        let fields = fields.map(|(name, value)| format!("{name}={}", written(value)));
        let usual = self.usual.iter().filter(|(_, value, usual)| value != usual);
        let usual = usual.map(|(name, value, _)| format!("{name}={value}"));
        place.into_iter().chain(words).chain(fields).chain(usual).collect::<Vec<_>>().join(" ")
    }
}

/// What a scenario says where there are no rows.
pub const NOTHING: &str = "nothing";

/// Whether a step says that nothing comes of it.
#[must_use]
pub fn is_nothing(expected: &[Vec<Word>]) -> bool {
    matches!(expected, [line] if matches!(&line[..], [word] if word.text == NOTHING))
}

/// Compares rows with what a scenario says.
///
/// # Errors
/// Both, one below the other.
pub fn compare(expected: &[Vec<Word>], rows: &[Row]) -> Result<(), String> {
    let count = if is_nothing(expected) { 0 } else { expected.len() };
    let fits = count == rows.len() && rows.iter().zip(expected).all(|(row, words)| row.fits(words));
    if fits { Ok(()) } else { Err(difference(expected, rows)) }
}

fn difference(expected: &[Vec<Word>], rows: &[Row]) -> String {
    let names: Vec<&str> =
        expected.iter().flatten().filter_map(|word| word.name.as_deref()).collect();
    let line = |words: &Vec<Word>| {
        let words: Vec<String> = words.iter().map(Word::written).collect();
        format!("\n     -> {}", words.join(" "))
    };
    let expected: String = expected.iter().map(line).collect();
    let mut came: String =
        rows.iter().map(|row| format!("\n     -> {}", row.shown(&names))).collect();
    if rows.is_empty() {
        came = format!("\n     -> {NOTHING}");
    }
    format!("it says{expected}\n   came{came}")
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(_) | Value::Record(_) => String::new(),
    }
}

fn fields(record: &[(&'static str, Value)]) -> Row {
    let plain = record.iter().filter(|(_, it)| !matches!(it, Value::List(_) | Value::Record(_)));
    let fields = plain.map(|(name, value)| ((*name).to_owned(), text_of(value)));
    Row { fields: fields.collect(), ..Row::default() }
}

/// The rows of an operation's result, by the name of the list that they are in; its own have none.
#[must_use]
pub fn of_value(value: &Value) -> Vec<(&'static str, Vec<Row>)> {
    let list = |items: &[Value]| {
        let rows = items.iter().filter_map(|item| match item {
            Value::Record(record) => Some(fields(record)),
            _ => None,
        });
        rows.collect::<Vec<Row>>()
    };
    match value {
        Value::List(items) => vec![("", list(items))],
        Value::Record(record) => {
            let lists = record.iter().filter_map(|(name, value)| match value {
                Value::List(items) => Some((*name, list(items))),
                _ => None,
            });
            [("", vec![fields(record)])].into_iter().chain(lists).collect()
        }
        _ => Vec::new(),
    }
}

/// Compares an operation's result: lines that begin with the name of a list are its rows, all of
/// them; the others are the result's own. A list that no line names is not compared.
///
/// # Errors
/// Both, one below the other.
pub fn compare_result(expected: &[Vec<Word>], value: &Value) -> Result<(), String> {
    let lists = of_value(value);
    let list_of = |line: &Vec<Word>| {
        let first = line.first().filter(|word| word.name.is_none()).map(|word| word.text.as_str());
        first.filter(|first| *first != NOTHING).unwrap_or_default().to_owned()
    };
    for line in expected {
        let name = list_of(line);
        if !lists.iter().any(|(own, _)| *own == name) {
            let known: Vec<&str> = lists.iter().map(|(name, _)| *name).collect();
            return Err(format!("the result has no list {name:?}; it has {known:?}"));
        }
    }
    for (name, rows) in &lists {
        let said = expected.iter().filter(|line| list_of(line) == *name);
        let lines: Vec<Vec<Word>> = said
            .map(|line| line.iter().skip(usize::from(!name.is_empty())).cloned().collect())
            .collect();
        let is_compared = !lines.is_empty();
        if is_compared {
            compare(&lines, rows).map_err(|says| match *name {
                "" => says,
                name => format!("{name}: {says}"),
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::split;

    fn lines(text: &str) -> Vec<Vec<Word>> {
        text.lines().map(|line| split(line).expect("words").0).collect()
    }

    fn row(place: Option<Place>, words: &[&str], attempt: &str) -> Row {
        Row {
            place,
            words: words.iter().map(|&word| word.to_owned()).collect(),
            fields: vec![("tag".to_owned(), "red".to_owned())],
            usual: vec![("attempt", attempt.to_owned(), "1")],
        }
    }

    #[test]
    fn what_is_unusual_must_be_said_and_the_rest_may_be() {
        let at = Some((QueueIndex(0), QueueOffset(3)));
        let check = |text: &str, attempt: &str, expect: bool| {
            let fits = compare(&lines(text), &[row(at, &["x"], attempt)]).is_ok();
            assert_eq!(fits, expect, "{text} of attempt {attempt}");
        };
        check("x", "1", true);
        check("0@3 x", "1", true);
        check("0@4 x", "1", false);
        check("x tag=red attempt=1", "1", true);
        check("x tag=blue", "1", false);
        check("x colour=red", "1", false);
        check("x", "2", false);
        check("x attempt=2", "2", true);
        check("x attempt=2", "1", false);
        check("y", "1", false);
        check("x y", "1", false);
        check("nothing", "1", false);
        check("x\nx", "1", false);
        assert!(compare(&lines("nothing"), &[]).is_ok());
        assert!(compare(&lines("x"), &[]).is_err());
    }

    #[test]
    fn results_are_compared_list_by_list() {
        let number = |number| Value::Number(number);
        let queue = |at, end| Value::Record(vec![("queue", number(at)), ("end", number(end))]);
        let value = Value::Record(vec![
            ("lag", number(3)),
            ("queues", Value::List(vec![queue(0, 5), queue(1, 0)])),
            ("members", Value::List(Vec::new())),
        ]);
        let check = |text: &str, expect: bool| {
            assert_eq!(compare_result(&lines(text), &value).is_ok(), expect, "{text}");
        };
        check("lag=3", true);
        check("lag=4", false);
        check("queues end=5\nqueues queue=1 end=0", true);
        check("queues end=5", false);
        check("members nothing", true);
        check("queues nothing", false);
        check("lists nothing", false);
    }
}
