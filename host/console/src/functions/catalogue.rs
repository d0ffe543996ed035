//! A function for each operation of the catalogue: required arguments in their order, all others
//! in a map. What reads gives rows, what changes something gives a plan.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Dynamic, Map};
use yard_client::wire::operation::{Field, Operation, Presence, Risk};
use yard_client::wire::value::Value;
use yard_client::{Code, Error};

use super::unknown;
use crate::book::{Book, Entry, Kind};
use crate::fault::{Fault, Result};
use crate::plan::{Change, Plan, Step, text_of_dynamic};
use crate::session::Session;
use crate::value::cursor::{Cursor, Pull, Source};
use crate::value::row;

pub(crate) fn add(book: &mut Book, session: &Arc<Session>) {
    for operation in Operation::ALL.iter().filter(|it| is_offered(**it)) {
        add_one(book, session, *operation);
    }
}

/// What changes something and does not name it takes a file: the command line has it.
pub(crate) fn is_offered(operation: Operation) -> bool {
    let names = operation.fields().first().is_some_and(|field| field.name == "name");
    names || operation.risk() == Risk::Reads
}

fn add_one(book: &mut Book, session: &Arc<Session>, operation: Operation) {
    let run = {
        let session = session.clone();
        move |given: &[&Dynamic], options: Map| call(&session, operation, given, options)
    };
    let entry = || entry(operation);
    let none = Map::new;
    let required = operation.fields().iter().filter(|it| it.presence == Presence::Required);
    // Each number of arguments is a function of its own to the engine.
    match required.count() {
        0 => {
            let with = run.clone();
            book.add(entry(), move || run(&[], none()));
            book.add(entry(), move |options: Map| with(&[], options));
        }
        1 => {
            let with = run.clone();
            book.add(entry(), move |a: Dynamic| run(&[&a], none()));
            book.add(entry(), move |a: Dynamic, options: Map| with(&[&a], options));
        }
        2 => {
            let with = run.clone();
            book.add(entry(), move |a: Dynamic, b: Dynamic| run(&[&a, &b], none()));
            book.add(entry(), move |a: Dynamic, b: Dynamic, options: Map| with(&[&a, &b], options));
        }
        _ => {
            let with = run.clone();
            let some = move |a: Dynamic, b: Dynamic, c: Dynamic| run(&[&a, &b, &c], none());
            book.add(entry(), some);
            book.add(entry(), move |a: Dynamic, b: Dynamic, c: Dynamic, options: Map| {
                with(&[&a, &b, &c], options)
            });
        }
    }
}

fn entry(operation: Operation) -> Entry {
    let fields = operation.fields().iter();
    let required = fields.clone().filter(|it| it.presence == Presence::Required);
    let mut params: Vec<&str> = required.map(|it| it.name).collect();
    let optional: Vec<_> =
        fields.filter(|it| it.presence != Presence::Required).map(|it| it.name).collect();
    let options = format!("#{{ {} }}", optional.join(", "));
    if !optional.is_empty() {
        params.push(&options);
    }
    let gives = match operation.risk() {
        Risk::Reads if operation.gives_list() => Kind::Cursor,
        Risk::Reads => Kind::Row,
        Risk::Adds | Risk::Changes | Risk::Removes => Kind::Plan,
    };
    Entry {
        on: Kind::Console,
        name: Cow::Owned(name_of(operation)),
        params: Some(Cow::Owned(params.join(", "))),
        gives,
        help: Cow::Borrowed(operation.help()),
        example: Cow::Owned(example_of(operation)),
    }
}

fn name_of(operation: Operation) -> String {
    operation.words().join("_")
}

/// The example of the command line as a script.
pub(crate) fn example_of(operation: Operation) -> String {
    let words = operation.words().len() + 1;
    let mut words = operation.example().split(' ').skip(words).peekable();
    let (mut args, mut options) = (Vec::new(), Vec::new());
    let shown = |word: &str| match word.parse::<i64>().is_ok() || word == "true" {
        true => word.to_owned(),
        false => format!("{word:?}"),
    };
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            Some(flag) => {
                let value = words.next_if(|next| !next.starts_with("--")).unwrap_or("true");
                options.push(format!("{}: {}", flag.replace('-', "_"), shown(value)));
            }
            // How it is shown is no argument of the operation.
            None if word == "-o" => drop(words.next()),
            None => args.push(format!("{word:?}")),
        }
    }
    if !options.is_empty() {
        args.push(format!("#{{ {} }}", options.join(", ")));
    }
    format!("{}({})", name_of(operation), args.join(", "))
}

/// Reads arguments, then reads or plans.
pub(crate) fn call(
    session: &Arc<Session>,
    operation: Operation,
    given: &[&Dynamic],
    options: Map,
) -> Result<Dynamic> {
    let written = written(operation, given, options)?;
    if operation.risk() != Risk::Reads {
        let change = Change::plan(session, operation, written)?;
        return Ok(Dynamic::from(Plan::new(vec![Step::Change(change)])));
    }
    if operation.gives_list() {
        let list = List { operation, written };
        return Ok(Dynamic::from(Cursor::new(list, session)));
    }
    Ok(row::value_of(read(session, operation, &written)?, session))
}

fn written(
    operation: Operation,
    given: &[&Dynamic],
    options: Map,
) -> Result<BTreeMap<&'static str, String>> {
    let fields = operation.fields();
    let required = || fields.iter().filter(|it| it.presence == Presence::Required);
    let mut written = BTreeMap::new();
    for (field, value) in required().zip(given) {
        written.insert(field.name, text_of_dynamic(field, value)?);
    }
    for (name, value) in options {
        let is_named = |field: &&Field| field.name == name && field.presence != Presence::Required;
        let Some(field) = fields.iter().find(is_named) else {
            let optional = fields.iter().filter(|it| it.presence != Presence::Required);
            let known: Vec<_> = optional.map(|it| it.name).collect();
            return Err(unknown(&name, &known).into());
        };
        written.insert(field.name, text_of_dynamic(field, &value)?);
    }
    let sets = operation.words().last() == Some(&"set");
    if sets && written.len() == required().count() {
        let optional = fields.iter().filter(|it| it.presence != Presence::Required);
        let known: Vec<_> = optional.map(|it| it.name).collect();
        return Err(Fault::argument(format!("nothing to set: {}", known.join(", "))).into());
    }
    Ok(written)
}

fn read(
    session: &Session,
    operation: Operation,
    written: &BTreeMap<&'static str, String>,
) -> Result<Value> {
    let args = operation.encode_args(&|name| written.get(name).cloned());
    let args = args.map_err(|refusal| Fault::from(Error::from(refusal)))?;
    let client = session.client()?;
    let result = session.ask(client.admin().call_raw(operation, args))?;
    let malformed = |why| Fault::new(Code::BadReply, format!("the answer cannot be read: {why}"));
    Ok(operation.decode_result(result).map_err(malformed)?)
}

/// A list of the broker, asked for again at each reading.
struct List {
    operation: Operation,
    written: BTreeMap<&'static str, String>,
}

impl Source for List {
    fn open(&self, session: &Arc<Session>) -> Result<Box<dyn Pull>> {
        let Value::List(rows) = read(session, self.operation, &self.written)? else {
            let name = name_of(self.operation);
            return Err(Fault::new(Code::BadReply, format!("{name} gave no list")).into());
        };
        let rows = rows.into_iter().map(|row| row::value_of(row, session)).collect();
        Ok(Cursor::read(rows))
    }
}

/// The names that exist now of a noun whose list has them, for completion.
pub(crate) async fn names(client: yard_client::Client, list: Operation) -> Option<Vec<String>> {
    let args = list.encode_args(&|_| None).ok()?;
    let result = client.admin().call_raw(list, args).await.ok()?;
    let Value::List(rows) = list.decode_result(result).ok()? else { return None };
    let name = |row: Value| {
        let Value::Record(fields) = row else { return None };
        let field = fields.into_iter().find(|(name, _)| *name == "name");
        match field {
            Some((_, Value::Text(name))) => Some(name),
            _ => None,
        }
    };
    let mut names: Vec<_> = rows.into_iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_those_of_the_command_line() {
        let check = |operation, expected: &str| assert_eq!(example_of(operation), expected);
        check(Operation::TopicCreate, r#"topic_create("orders", #{ queues: 16, retain: "3d" })"#);
        check(Operation::TopicLs, "topic_ls()");
        check(Operation::TenantSet, r#"tenant_set("acme", #{ auto_create_topics: true })"#);
    }

    #[test]
    fn arguments_are_read_from_values_of_scripts() {
        let text = |operation, given: &[Dynamic], options: &[(&str, Dynamic)]| {
            let given: Vec<_> = given.iter().collect();
            let options = options.iter().map(|(n, v)| ((*n).into(), v.clone())).collect();
            written(operation, &given, options).map_err(|error| error.to_string())
        };
        let name = || Dynamic::from("x".to_owned());
        let set = |options: &[(&str, Dynamic)]| text(Operation::TopicSet, &[name()], options);
        let found = set(&[
            ("retain", 5_000.into()),
            ("retain_bytes", 1_024.into()),
            ("discard_unconsumed", true.into()),
            ("backlog_max", Dynamic::UNIT),
        ]);
        let expected = [
            ("name", "x"),
            ("retain", "5000ms"),
            ("retain_bytes", "1024"),
            ("discard_unconsumed", "true"),
            ("backlog_max", "none"),
        ];
        let expected = expected.map(|(name, text)| (name, text.to_owned())).into();
        assert_eq!(found, Ok(expected));
        for options in [&[("retian", 5.into())][..], &[("name", name())], &[]] {
            assert!(set(options).is_err(), "{options:?}");
        }
        assert!(text(Operation::TopicInfo, &[Dynamic::UNIT], &[]).is_err());
    }
}
