//! Filters as the server decides them, without its sandbox: tags by comparison, SQL by the library
//! that its plugin is made of.
use bytes::Bytes;
use yard_sql::{Dialect, Predicate};
use yard_wire::expression::{self, Filter, PluginFilter};
use yard_wire::record::Record;
use yard_wire::requests::Expression;
use yard_wire::{Code, Refusal};

fn predicate(filter: &PluginFilter) -> Result<Predicate, Refusal> {
    let dialect = match filter.dialect {
        Some(expression::Dialect::Sql) => Dialect::Sql,
        Some(expression::Dialect::SqlRocketmq) => Dialect::RocketMq,
        Some(_) | None => {
            return Err(Refusal::new(Code::UnknownPlugin, "plugins are the server's"));
        }
    };
    Predicate::parse(&filter.expression, dialect)
        .map_err(|error| Refusal::new(Code::BadExpression, error.to_string()))
}

/// Whether an expression can be used.
///
/// # Errors
/// What is wrong with it.
pub fn check(expression: Option<&Expression>) -> Result<(), Refusal> {
    match Filter::read(expression)? {
        Filter::All | Filter::Tags(_) => Ok(()),
        Filter::Plugin(filter) => predicate(&filter).map(|_| ()),
    }
}

/// Whether a message is wanted.
///
/// # Panics
/// When the expression was not checked, or the message is not as it was stored.
#[must_use]
pub fn wants(expression: &Expression, record: &Bytes) -> bool {
    match Filter::read(Some(expression)).expect("it was checked") {
        Filter::All => true,
        Filter::Tags(tags) => {
            tags.holds(Record::parse(record.clone()).expect("it is as it was stored").tag())
        }
        Filter::Plugin(filter) => {
            let message = yard_abi::Message::parse(record).expect("it is as it was stored");
            predicate(&filter).expect("it was checked").matches(&message)
        }
    }
}
