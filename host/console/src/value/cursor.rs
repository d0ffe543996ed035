//! Cursors: where rows come from and what is done to each. Nothing is read before something is
//! asked of it, and then no more than is needed; asked again, a cursor reads again.
use std::fmt;
use std::sync::Arc;

use rhai::{Dynamic, FnPtr, Map};

use super::message::Message;
use super::row::Row;
use crate::fault::{Fault, Result};
use crate::session::Session;
use yard_client::Code;

/// Where rows come from.
pub(crate) trait Source: Send + Sync {
    /// Begins to read.
    fn open(&self, session: &Arc<Session>) -> Result<Box<dyn Pull>>;

    /// Whether it waits for more at its end.
    fn is_endless(&self) -> bool {
        false
    }
}

/// Rows as they are read.
pub(crate) trait Pull: Send {
    /// The next row.
    fn next(&mut self, session: &Session) -> Result<Option<Dynamic>>;

    /// What was looked at, for people; empty where that is what was shown.
    fn covered(&self) -> String {
        String::new()
    }
}

#[derive(Clone, Debug)]
enum Stage {
    Filter(FnPtr),
    Map(FnPtr),
    Take(u64),
    Skip(u64),
}

/// Rows that are read when they are needed.
#[derive(Clone)]
pub(crate) struct Cursor {
    source: Arc<dyn Source>,
    stages: Vec<Stage>,
    session: Arc<Session>,
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl Cursor {
    pub(crate) fn new(source: impl Source + 'static, session: &Arc<Session>) -> Self {
        Self { source: Arc::new(source), stages: Vec::new(), session: session.clone() }
    }

    /// Of rows that are there already.
    pub(crate) fn of_rows(rows: Vec<Dynamic>, session: &Arc<Session>) -> Self {
        Self::new(Rows(rows.into()), session)
    }

    /// Begins to read rows that are there already.
    pub(crate) fn read(rows: Vec<Dynamic>) -> Box<dyn Pull> {
        Box::new(Shared { rows: rows.into(), at: 0 })
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(crate) fn filter(&self, keeps: FnPtr) -> Self {
        self.with(Stage::Filter(keeps))
    }

    pub(crate) fn map(&self, makes: FnPtr) -> Self {
        self.with(Stage::Map(makes))
    }

    pub(crate) fn take(&self, count: u64) -> Self {
        self.with(Stage::Take(count))
    }

    pub(crate) fn skip(&self, count: u64) -> Self {
        self.with(Stage::Skip(count))
    }

    fn with(&self, stage: Stage) -> Self {
        let mut cursor = self.clone();
        cursor.stages.push(stage);
        cursor
    }

    /// Whether it waits for more at its end.
    pub(crate) fn is_endless(&self) -> bool {
        let ends = self.stages.iter().any(|stage| matches!(stage, Stage::Take(_)));
        self.source.is_endless() && !ends
    }

    pub(crate) fn open(&self) -> Result<Reading> {
        let stages = self.stages.iter().map(|stage| (stage.clone(), 0)).collect();
        let rows = self.source.open(&self.session)?;
        Ok(Reading { rows, stages, session: self.session.clone() })
    }

    /// Goes through all rows.
    pub(crate) fn each(&self, mut with: impl FnMut(Dynamic) -> Result<()>) -> Result<()> {
        let mut reading = self.open()?;
        while let Some(row) = reading.next()? {
            with(row)?;
        }
        Ok(())
    }

    /// The first rows, and whether there are more.
    pub(crate) fn head(&self, count: usize) -> Result<(Vec<Dynamic>, bool)> {
        let (mut reading, mut rows) = (self.open()?, Vec::new());
        while let Some(row) = reading.next()? {
            if rows.len() == count {
                return Ok((rows, true));
            }
            rows.push(row);
        }
        Ok((rows, false))
    }

    /// All rows, as far as a table may go.
    pub(crate) fn rows_of_table(&self) -> Result<Vec<Dynamic>> {
        let max = self.session.limits.table_rows;
        match self.head(max)? {
            (rows, false) => Ok(rows),
            (_, true) => {
                let message = format!(
                    "a table has at most {max} rows, and there are more; take({max}) shows the \
                     first, save(path) writes all"
                );
                Err(Fault::new(Code::ScriptLimit, message).into())
            }
        }
    }
}

/// A cursor that is being read.
pub(crate) struct Reading {
    rows: Box<dyn Pull>,
    /// Each with the rows that it has seen.
    stages: Vec<(Stage, u64)>,
    session: Arc<Session>,
}

impl Reading {
    pub(crate) fn next(&mut self) -> Result<Option<Dynamic>> {
        'rows: loop {
            self.session.check()?;
            // Nothing is read for a stage that would not let it pass.
            let is_full =
                |(stage, seen): &(Stage, u64)| matches!(stage, Stage::Take(n) if seen >= n);
            if self.stages.iter().any(is_full) {
                return Ok(None);
            }
            let Some(mut row) = self.rows.next(&self.session)? else {
                return Ok(None);
            };
            for (stage, seen) in &mut self.stages {
                *seen += 1;
                match stage {
                    Stage::Take(_) => {}
                    Stage::Skip(count) if *seen <= *count => continue 'rows,
                    Stage::Skip(_) => {}
                    Stage::Map(makes) => row = self.session.call(makes, (row,))?,
                    Stage::Filter(keeps) => {
                        if !truth(&self.session.call(keeps, (row.clone(),))?)? {
                            continue 'rows;
                        }
                    }
                }
            }
            return Ok(Some(row));
        }
    }

    pub(crate) fn covered(&self) -> String {
        self.rows.covered()
    }
}

fn truth(value: &Dynamic) -> Result<bool> {
    value.as_bool().map_err(|kind| {
        Fault::argument(format!("a condition is true or false; this one is {kind}")).into()
    })
}

impl IntoIterator for Cursor {
    type Item = Result<Dynamic>;
    type IntoIter = Rest;

    fn into_iter(self) -> Rest {
        match self.open() {
            Ok(reading) => Rest::Reading(reading),
            Err(error) => Rest::Failed(error),
        }
    }
}

/// The rows that are left, for a `for` of the language.
pub(crate) enum Rest {
    Reading(Reading),
    Failed(Box<rhai::EvalAltResult>),
    Ended,
}

impl Iterator for Rest {
    type Item = Result<Dynamic>;

    fn next(&mut self) -> Option<Result<Dynamic>> {
        match std::mem::replace(self, Self::Ended) {
            Self::Reading(mut reading) => {
                let next = reading.next().transpose()?;
                if next.is_ok() {
                    *self = Self::Reading(reading);
                }
                Some(next)
            }
            Self::Failed(error) => Some(Err(error)),
            Self::Ended => None,
        }
    }
}

/// Rows in memory.
struct Rows(Arc<[Dynamic]>);

impl Source for Rows {
    fn open(&self, _: &Arc<Session>) -> Result<Box<dyn Pull>> {
        Ok(Box::new(Shared { rows: self.0.clone(), at: 0 }))
    }
}

struct Shared {
    rows: Arc<[Dynamic]>,
    at: usize,
}

impl Pull for Shared {
    fn next(&mut self, _: &Session) -> Result<Option<Dynamic>> {
        let row = self.rows.get(self.at).cloned();
        self.at += 1;
        Ok(row)
    }
}

/// What is said of a row: a field by its name, or whatever a closure makes of it.
#[derive(Clone, Debug)]
pub(crate) enum By {
    Name(String),
    Closure(FnPtr),
}

impl By {
    pub(crate) fn of(value: Dynamic) -> Result<Self> {
        let kind = value.type_name();
        match value.try_cast_result::<FnPtr>() {
            Ok(closure) => Ok(Self::Closure(closure)),
            Err(value) => value.into_string().map(Self::Name).map_err(|_| {
                let message = format!("this takes the name of a field or a closure, not {kind}");
                Fault::argument(message).into()
            }),
        }
    }

    pub(crate) fn look(&self, session: &Session, row: &Dynamic) -> Result<Dynamic> {
        match self {
            Self::Closure(closure) => session.call(closure, (row.clone(),)),
            Self::Name(name) => field(row, name),
        }
    }
}

/// A field of a row, whatever kind of row it is.
pub(crate) fn field(row: &Dynamic, name: &str) -> Result<Dynamic> {
    if let Some(row) = row.read_lock::<Row>() {
        return row.get(name);
    }
    if let Some(message) = row.read_lock::<Message>() {
        return message.get(name);
    }
    let map = row.read_lock::<Map>();
    let value = map.as_ref().and_then(|map| map.get(name).cloned());
    value.ok_or_else(|| {
        Fault::argument(format!("there is no field {name} in {}", row.type_name())).into()
    })
}
