//! The engine of a console: what the language may do, and what it must not.
use std::sync::Arc;
use std::time::Duration;

use rhai::packages::{Package, StandardPackage};
use rhai::{Dynamic, Engine, OptimizationLevel};

use crate::book::{Book, Entry, Kind, free};
use crate::fault::{Fault, Result};
use crate::functions;
use crate::session::Session;

/// Makes the engine of a session, and the pages of all that scripts can call.
pub(crate) fn build(session: &Arc<Session>) -> (Arc<Engine>, Vec<Entry>) {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    limit(&mut engine, session);
    let mut book = Book::new(&mut engine);
    add_own(&mut book, session);
    functions::add(&mut book, session);
    let entries = book.close();
    let engine = Arc::new(engine);
    session.set_engine(&engine);
    (engine, entries)
}

/// The language is strict, and ends where a limit or the user says so. A raw engine resolves no
/// modules, so nothing is read from files behind the operator's back.
fn limit(engine: &mut Engine, session: &Arc<Session>) {
    let limits = session.limits;
    engine
        .set_max_call_levels(limits.call_levels)
        .set_max_expr_depths(limits.expression_depth, limits.function_expression_depth)
        .set_max_string_size(limits.text_bytes)
        .set_max_array_size(limits.array_items)
        .set_max_map_size(limits.map_items)
        .set_max_variables(limits.variables)
        .set_max_functions(limits.functions)
        .set_max_modules(0)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        // The optimizer folds a missing property of a constant map into nothing.
        .set_optimization_level(OptimizationLevel::None);
    for symbol in ["eval", "import", "export"] {
        engine.disable_symbol(symbol);
    }
    let counted = session.clone();
    engine.on_progress(move |_| counted.operation().map(Dynamic::from));
    let shown = session.clone();
    engine.on_print(move |text| print(&shown, text));
    let shown = session.clone();
    engine.on_debug(move |text, _, place| print(&shown, &format!("{place:?} {text}")));
}

/// A text that nobody can see any more ends the run.
fn print(session: &Session, text: &str) {
    if session.print(&format!("{text}\n")).is_err() {
        session.stop.stop();
    }
}

fn add_own(book: &mut Book, session: &Arc<Session>) {
    book.page(free(
        "print",
        "value",
        Kind::Nothing,
        "Prints a value on a line of its own.",
        "print(`topics: ${topics().count()}`)",
    ));
    let shared = session.clone();
    book.add(
        free(
            "sleep",
            "span",
            Kind::Nothing,
            "Waits for a span of time; Ctrl-C ends it at once.",
            "sleep(2.seconds)",
        ),
        move |ms: i64| pause(&shared, ms),
    );
    let shared = session.clone();
    // The standard one takes fractions of seconds, and cannot be interrupted.
    book.engine.register_fn("sleep", move |_: f64| -> Result<()> {
        shared.check()?;
        Err(Fault::argument("sleep takes a span of time, for example sleep(500.ms)").into())
    });
}

fn pause(session: &Session, ms: i64) -> Result<()> {
    let ms = u64::try_from(ms).map_err(|_| Fault::argument("a span of time is not negative"))?;
    session.pause(Duration::from_millis(ms))
}
