//! Plans and reports: show, apply, undo.
use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Dynamic, Map};
use yard_client::wire::operation::Operation;
use yard_client::{Code, Timestamp};

use super::cursor::rate;
use crate::book::{Book, Entry, Kind, free, method, property};
use crate::fault::{Fault, Result};
use crate::journal::{Ended, Run};
use crate::plan::{Change, Plan, Report, Step, Undo, apply};
use crate::session::Session;
use crate::show::text::instant;
use crate::value::cursor::Cursor;
use crate::value::row::Row;

pub(crate) fn add(book: &mut Book, session: &Arc<Session>) {
    book.engine.register_type_with_name::<Plan>("plan");
    book.engine.register_type_with_name::<Report>("report");
    add_plans(book, session);
    add_plan_properties(book);
    add_reports(book, session);
    add_journal(book, session);
}

fn add_plans(book: &mut Book, session: &Arc<Session>) {
    let entry = || {
        method(
            Kind::Plan,
            "apply",
            "#{ rate }",
            Kind::Report,
            "Does what the plan says, and reads back; messages at most so many a second.",
            r#"topic("orders").set(#{ note: "n" }).apply()"#,
        )
    };
    let shared = session.clone();
    book.add(entry(), move |plan: &mut Plan| apply(&shared, plan, None));
    let shared = session.clone();
    book.add(entry(), move |plan: &mut Plan, options: Map| apply(&shared, plan, rate(options)?));
    let shared = session.clone();
    book.add(
        method(
            Kind::Plan,
            "show",
            "",
            Kind::Nothing,
            "Shows the difference and the counts.",
            r#"topic("orders").set(#{ note: "n" }).show()"#,
        ),
        move |plan: &mut Plan| shared.print(&plan.text()),
    );
    // For those who write the word: a plan is one already.
    book.add(
        method(
            Kind::Plan,
            "plan",
            "",
            Kind::Plan,
            "The plan itself; nothing is done.",
            r#"topic("orders").set(#{ note: "n" }).plan()"#,
        ),
        |plan: &mut Plan| plan.clone(),
    );
    book.engine.register_fn("+", |a: Plan, b: Plan| a.and(&b));
    book.engine.register_fn("to_string", |plan: &mut Plan| plan.text().trim_end().to_owned());
}

fn add_plan_properties(book: &mut Book) {
    book.add(
        property(
            Kind::Plan,
            "hash",
            Kind::Text,
            "Equal for equal plans.",
            r#"topic("orders").expand(64).hash"#,
        ),
        |plan: &mut Plan| plan.hash(),
    );
    book.add(
        property(
            Kind::Plan,
            "risk",
            Kind::Text,
            "The worst that it could do: reads, adds, changes or removes.",
            r#"topic("orders").rm().risk"#,
        ),
        |plan: &mut Plan| plan.risk().text(),
    );
    book.add(
        property(
            Kind::Plan,
            "matched",
            Kind::Number,
            "How many steps it has.",
            r#"topics().plan(|t| topic(t.name).set(#{ note: "" })).matched"#,
        ),
        |plan: &mut Plan| plan.steps.len() as i64,
    );
    book.add(
        property(
            Kind::Plan,
            "needed",
            Kind::Number,
            "How many of its steps would do something.",
            r#"topics().plan(|t| topic(t.name).set(#{ note: "" })).needed"#,
        ),
        |plan: &mut Plan| plan.needed() as i64,
    );
}

fn add_reports(book: &mut Book, session: &Arc<Session>) {
    let count = |name: &'static str, help| Entry {
        example: format!("undo().apply().{name}").into(),
        ..property(Kind::Report, name, Kind::Number, help, "")
    };
    book.add(count("matched", "Steps of the plan."), |it: &mut Report| it.matched as i64);
    book.add(count("done", "Steps that were done and read back."), |it: &mut Report| {
        it.done as i64
    });
    book.add(count("skipped", "Steps that were not needed, or not tried."), |it: &mut Report| {
        it.skipped as i64
    });
    book.add(count("failed", "Steps that failed."), |it: &mut Report| it.failed as i64);
    let shared = session.clone();
    book.add(
        method(
            Kind::Report,
            "undo",
            "",
            Kind::Plan,
            "The plan that takes back what was done, as far as that can be.",
            r#"topic("orders").set(#{ note: "n" }).apply().undo().apply()"#,
        ),
        move |report: &mut Report| undo(&shared, &report.undo, &report.run),
    );
    let text = |report: &mut Report| report.text().trim_end().to_owned();
    book.engine.register_fn("to_string", text);
}

/// The plan that takes a run back, in its order.
fn undo(session: &Session, undo: &[Undo], run: &str) -> Result<Plan> {
    if undo.is_empty() {
        return Err(Fault::argument("there is nothing that could be taken back").into());
    }
    let mut steps = Vec::with_capacity(undo.len());
    for Undo { words, args } in undo {
        let operation = Operation::ALL.iter().find(|it| it.words().join(" ") == *words);
        let operation = *operation
            .ok_or_else(|| Fault::new(Code::BadArgument, format!("no operation is {words:?}")))?;
        let mut written = BTreeMap::new();
        for field in operation.fields() {
            if let Some(text) = args.get(field.name) {
                written.insert(field.name, text.clone());
            }
        }
        steps.push(Step::Change(Change::plan(session, operation, written)?));
    }
    let mut plan = Plan::new(steps);
    plan.undoes = Some(run.to_owned());
    Ok(plan)
}

fn add_journal(book: &mut Book, session: &Arc<Session>) {
    let shared = session.clone();
    book.add(
        free(
            "journal",
            "",
            Kind::Cursor,
            "The plans that were applied from this machine, the last first.",
            r#"journal().filter(|run| run.failed != 0).take(5)"#,
        ),
        move || -> Result<Cursor> {
            let runs = match &shared.journal {
                Some(journal) => journal.runs()?,
                None => Vec::new(),
            };
            Ok(Cursor::of_rows(runs.iter().rev().map(row_of_run).collect(), &shared))
        },
    );
    let shared = session.clone();
    book.add(
        free(
            "undo",
            "",
            Kind::Plan,
            "The plan that takes back the last run of the journal that can be, in this context.",
            "undo()",
        ),
        move || -> Result<Plan> {
            let place = shared.place();
            let last = match &shared.journal {
                Some(journal) => journal.last_to_undo(&place.context, &place.tenant)?,
                None => None,
            };
            let ended = last.and_then(|run| run.ended).ok_or_else(|| {
                Fault::argument("the journal has no run of this context that can be taken back")
            })?;
            undo(&shared, &ended.undo, &ended.run)
        },
    );
}

/// A run of the journal as a row; without counts where it was cut short.
fn row_of_run(run: &Run) -> Dynamic {
    let Run { begun, ended } = run;
    let text = |text: &String| Dynamic::from(text.clone());
    let count = |count: fn(&Ended) -> usize| {
        ended.as_ref().map_or(Dynamic::UNIT, |ended| (count(ended) as i64).into())
    };
    let row = Row::new([
        ("time".into(), instant(Timestamp(begun.at_ms)).into()),
        ("context".into(), text(&begun.context)),
        ("tenant".into(), text(&begun.tenant)),
        ("risk".into(), text(&begun.risk)),
        ("matched".into(), (begun.matched as i64).into()),
        ("done".into(), count(|ended| ended.done)),
        ("skipped".into(), count(|ended| ended.skipped)),
        ("failed".into(), count(|ended| ended.failed)),
        ("plan".into(), text(&begun.plan)),
        ("script".into(), text(&begun.script)),
    ]);
    Dynamic::from(row)
}
