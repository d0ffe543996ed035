//! Filter by an SQL expression over the properties of a message, as behind WHERE.
//!
//! The language, its rules and both dialects are in `protocol/sql`; docs/plugins.md has the table
//! of where RocketMQ and SQL differ. Judging reads the packed message and allocates nothing.
#![deny(missing_docs)]

use switchyard_plugin::prelude::*;
use yard_sql::{Dialect, Predicate};

manifest! {
    says: "Messages of whose properties an SQL expression is true.",
    points: ["filter"],
    capabilities: ["log"],
    config: [{
        name: "dialect",
        says: "sql, or sql-rocketmq for RocketMQ's rules where they differ; sql when not set",
    }],
    tests: "tests/vectors.json",
}
filter!(type SqlFilter);

/// The expression of a subscription.
#[derive(Clone, Debug)]
pub struct SqlFilter {
    predicate: Predicate,
}

impl Filter for SqlFilter {
    fn compile(expression: &str, config: &Config) -> Result<Self, String> {
        let dialect = config.get("dialect").map_or(Ok(Dialect::Sql), str::parse)?;
        let predicate = Predicate::parse(expression, dialect);
        Ok(Self { predicate: predicate.map_err(|error| error.to_string())? })
    }

    fn needs(&self) -> Needs {
        let properties = self.predicate.names().map(str::to_owned).collect();
        Needs { properties, ..Needs::default() }
    }

    fn keep(&self, message: &Message<'_>) -> bool {
        self.predicate.matches(&message.packed())
    }
}
