//! The console without a broker: what the language may do, how a run ends, what there is.
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use rhai::Dynamic;
use tokio::runtime::{Builder, Runtime};
use yard_client::Code;
use yard_client::wire::operation::Operation;

use crate::functions::catalogue::is_offered;
use crate::limits::{Limits, OPERATOR};
use crate::repl::Completions;
use crate::session::{Connecting, Place, Safety, Surroundings};
use crate::show::Format;
use crate::stop::Stop;
use crate::{Console, Ended, Failure, Fault, Kind, Setup};

/// Surroundings without a broker: what is printed is kept, and answers are those given.
#[derive(Clone, Default)]
struct Alone {
    printed: Arc<Mutex<String>>,
    /// Stopped when this text is printed.
    stops: Option<(String, Arc<OnceLock<Stop>>)>,
}

impl Surroundings for Alone {
    fn connect(&self, _: Option<&str>) -> Connecting {
        let nobody = || Fault::new(Code::Disconnected, "there is no broker");
        Box::pin(async move { Err(nobody()) })
    }

    fn place(&self, context: Option<&str>) -> Result<Place, Fault> {
        let context = context.unwrap_or("alone").to_owned();
        Ok(Place { context, tenant: "t".into() })
    }

    fn contexts(&self) -> Vec<String> {
        vec!["alone".into(), "prod".into()]
    }

    fn print(&self, text: &str) -> io::Result<()> {
        self.printed.lock().unwrap().push_str(text);
        if let Some((when, stop)) = &self.stops
            && text.contains(when)
        {
            stop.get().expect("set before the run").stop();
        }
        Ok(())
    }

    fn ask(&self, _: &str) -> Option<String> {
        None
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn console_with(runtime: &Runtime, limits: Limits, alone: &Alone) -> Console {
    Console::new(Setup {
        limits,
        format: Format::Table,
        terminal: false,
        journal: None,
        safety: Safety::default(),
        runtime: runtime.handle().clone(),
        surroundings: Box::new(alone.clone()),
    })
}

/// Runs lines one after the other; what the last came to, and all that was printed.
fn run(limits: Limits, lines: &[&str]) -> (Result<Ended, Failure>, String) {
    let (runtime, alone) = (runtime(), Alone::default());
    let mut console = console_with(&runtime, limits, &alone);
    let mut ended = Ok(Ended::Whole);
    for line in lines {
        ended = console.run(line);
    }
    let printed = alone.printed.lock().unwrap().clone();
    (ended, printed)
}

#[track_caller]
fn prints(script: &str, expected: &str) {
    let (ended, printed) = run(OPERATOR, &[script]);
    assert_eq!(ended, Ok(Ended::Whole), "{script}");
    assert_eq!(printed, expected, "{script}");
}

#[track_caller]
fn fails(limits: Limits, script: &str, code: Code, part: &str) {
    let (ended, _) = run(limits, &[script]);
    let failure = ended.expect_err(script);
    assert_eq!(failure.code, code, "{script}: {failure:?}");
    assert!(failure.text().contains(part), "{script}: {}", failure.text());
}

#[test]
fn results_are_shown() {
    prints("1 + 2", "3\n");
    prints("let x = 1;", "");
    prints("15.minutes", "900000  (900,000)\n");
    prints("64.kib", "65536  (65,536)\n");
    prints("#{ a: 1, b: \"x\" }", "a  1\nb  x\n");
    prints("print(`a${1}`); debug(2);", "a1\n1:17 2\n");
    prints("#!/usr/bin/env yard\n40 + 2", "42\n");
}

#[test]
fn cursors_do_what_they_are_told_and_only_when_they_are_asked() {
    prints("rows([3, 1, 2]).sort_by(|x| x).collect(9)", "1\n2\n3\n");
    prints("rows([3, 1, 2]).filter(|x| x > 1).map(|x| x * 10).sum()", "50\n");
    prints("rows([1, 2, 3, 4]).skip(1).take(2).count()", "2\n");
    prints("rows([]).first()", "");
    prints(r#"rows(["a", "b", "a"]).count_by(|x| x)"#, "key  count\na        2\nb        1\n");
    prints(
        r#"rows([#{ k: 1, v: 5 }, #{ k: 2, v: 7 }, #{ k: 1, v: 6 }])
            .group_by("k").map(|g| #{ key: g.key, sum: g.items.sum("v") })"#,
        "key  sum\n  1   11\n  2    7\n",
    );
    prints(r#"rows([#{ n: 1 }, #{ n: 3 }, #{ n: 2 }]).top(2, "n").map(|r| r.n)"#, "3\n2\n");
    prints(r#"rows([#{ n: 1 }, #{ n: 3 }]).max("n").n"#, "3\n");
    prints(r#"rows([#{ n: 1 }, #{ n: 3 }]).sort_by("-n").map(|r| r.n)"#, "3\n1\n");
    prints("let s = 0; for x in rows([1, 2]) { s += x; } s", "3\n");
    prints("let more = 5; rows([1, 2]).map(|x| x + more).sum()", "13\n");
    // Nothing was read yet, so nothing fails.
    prints("let t = topics().filter(|t| t.queues > 3);", "");
    prints("rows([1, 2]).each(|x| print(x))", "1\n2\n2\n");
}

#[test]
fn closures_of_earlier_lines_go_on() {
    let lines =
        ["fn twice(x) { x * 2 }", "let c = rows([1, 2]).map(|x| twice(x));", "c.sum()", "it"];
    let (ended, printed) = run(OPERATOR, &lines);
    assert_eq!((ended, &printed[..]), (Ok(Ended::Whole), "6\n6\n"));
}

#[test]
fn the_language_is_strict() {
    let malformed = |script, part| fails(OPERATOR, script, Code::ScriptMalformed, part);
    malformed("let x = 1;\nlet y = z;", "(line 2, column 9)\n  let y = z;\n          ^");
    malformed("eval(\"1\")", "eval");
    malformed("import \"x\" as y;", "import");
    malformed("1 +", "");
    fails(OPERATOR, "#{ lag: 1 }.lagg", Code::ScriptFailed, "lagg");
    fails(OPERATOR, "topcs()", Code::ScriptFailed, "the nearest is topics");
    fails(OPERATOR, "topics(1, 2)", Code::ScriptFailed, "`.help topics` shows");
    fails(OPERATOR, "throw \"no\"", Code::ScriptFailed, "the script threw: no");
    fails(OPERATOR, "rows([1]).filter(|x| x)", Code::BadArgument, "true or false");
    fails(OPERATOR, "rows([1, \"a\"]).sort_by(|x| x)", Code::BadArgument, "have no order");
    fails(OPERATOR, "topic(\"x\").find(#{ kee: 1 })", Code::BadArgument, "the nearest is key");
    fails(OPERATOR, "topic(\"x\").tail().sort_by(\"age\")", Code::BadArgument, "never ends");
    fails(OPERATOR, "topics().count()", Code::Disconnected, "there is no broker");
}

#[test]
fn errors_of_the_broker_can_be_caught_by_their_code() {
    prints(
        "try { topics().count() } catch (e) { print(e.code); print(e.message) }",
        "E0801\nthere is no broker\n",
    );
}

#[test]
fn every_limit_ends_what_would_not_end() {
    let small = Limits { operations: 10_000, held_bytes: 10_000, table_rows: 50, ..OPERATOR };
    let limit = |script: &str, part: &str| fails(small, script, Code::ScriptLimit, part);
    limit("loop { }", "more than 10000 operations");
    limit("try { loop { } } catch { print(1) }", "more than 10000 operations");
    // What closures do counts, though each begins anew.
    limit("loop { rows([1, 2, 3]).map(|x| x + 1).sum(); }", "more than 10000 operations");
    limit("fn f(x) { f(x + 1) } f(1)", "");
    limit("fn f(x) { rows([x]).map(|y| f(y + 1)).sum() } f(1)", "");
    limit("let s = \"0123456789abcdef\"; loop { s += s; }", "");
    let many = "let a = []; for i in 0..100 { a.push(i); } ";
    limit(&format!("{many} rows(a).sort_by(|x| x).count()"), "would be held");
    limit(&format!("{many} rows(a).table()"), "a table has at most 50 rows");
    let array = Limits { array_items: 100, map_items: 100, operations: 1_000_000, ..OPERATOR };
    fails(array, "let a = []; loop { a.push(1); }", Code::ScriptLimit, "Size of array");
    let map = "let m = #{}; let i = 0; loop { m[`${i}`] = i; i += 1; }";
    // The engine counts a map where it is made or given on, not where an entry is assigned.
    fails(array, map, Code::ScriptLimit, "more than 1000000 operations");
}

/// A run that stops itself at a known place: what comes behind must not happen.
fn stopped(script: &str) -> (Failure, String) {
    let (runtime, stop) = (runtime(), Arc::new(OnceLock::new()));
    let alone = Alone { stops: Some(("now".into(), stop.clone())), ..Alone::default() };
    let mut console = console_with(&runtime, OPERATOR, &alone);
    assert!(stop.set(console.stop()).is_ok());
    let failure = console.run(script).expect_err(script);
    // The console is as good as before.
    console.run("print(1)").expect("a run of its own");
    let printed = alone.printed.lock().unwrap().clone();
    (failure, printed)
}

#[test]
fn an_interrupted_run_ends_at_once_wherever_it_is() {
    let scripts = [
        "print(\"now\"); loop { }",
        "print(\"now\"); print(\"never\")",
        "try { print(\"now\"); sleep(1) } catch { print(\"never\") }",
        "print(\"now\"); sleep(1.days)",
        "rows([1, 2]).each(|x| { print(\"now\"); }); print(\"never\")",
        "for x in rows([1, 2]) { print(\"now\"); } print(\"never\")",
    ];
    for script in scripts {
        let (failure, printed) = stopped(script);
        assert_eq!(failure.code, Code::Interrupted, "{script}");
        assert_eq!(printed, "now\n1\n", "{script}");
    }
}

#[test]
fn a_wait_that_has_begun_is_interrupted() {
    let runtime = runtime();
    let alone = Alone::default();
    let mut console = console_with(&runtime, OPERATOR, &alone);
    let (stop, printed) = (console.stop(), alone.printed.clone());
    let stopper = std::thread::spawn(move || {
        while printed.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        stop.stop();
    });
    let failure = console.run("print(1); sleep(1.days)").expect_err("it sleeps for a day");
    assert_eq!(failure.code, Code::Interrupted);
    stopper.join().unwrap();
}

#[test]
fn fractions_are_no_spans_of_time() {
    fails(OPERATOR, "sleep(0.5)", Code::BadArgument, "sleep(500.ms)");
    fails(OPERATOR, "sleep(-1)", Code::BadArgument, "not negative");
}

#[test]
fn the_book_and_the_engine_and_the_catalogue_are_the_same() {
    let runtime = runtime();
    let console = console_with(&runtime, OPERATOR, &Alone::default());
    let entries = console.entries();
    let names: BTreeSet<&str> = entries.iter().map(|entry| &*entry.name).collect();
    for operation in Operation::ALL.iter().filter(|it| is_offered(**it)) {
        let name = operation.words().join("_");
        let entry = entries.iter().find(|it| it.on == Kind::Console && it.name == name);
        let entry = entry.unwrap_or_else(|| panic!("{name} is no function"));
        assert_eq!(entry.help, operation.help());
        for field in operation.fields() {
            let params = entry.params.as_deref().unwrap_or("");
            assert!(params.contains(field.name), "{name} does not take {}", field.name);
        }
    }
    // What the engine has and the book does not is what the language calls by itself.
    let quiet = ["to_string", "contains", "+"];
    let engine = console.engine.clone();
    let own = engine.collect_fn_metadata(
        None,
        |info| Some((info.metadata.name.to_string(), info.metadata.comments.len())),
        false,
    );
    assert!(own.len() > 80, "{}", own.len());
    for (name, comments) in own {
        let plain = name.trim_start_matches("get$");
        let is_plain = !name.contains('$') || name.starts_with("get$");
        let is_quiet = quiet.contains(&plain) || !is_plain || comments == 0;
        assert!(is_quiet || names.contains(plain), "{name} has no page");
    }
    for entry in entries {
        assert!(entry.help.ends_with('.'), "{}: {}", entry.signature(), entry.help);
        let compiled = engine.compile(&*entry.example);
        assert!(compiled.is_ok(), "{}: {:?}", entry.example, compiled.err());
        assert!(entry.example.contains(&*entry.name), "{}", entry.signature());
    }
}

#[test]
fn more_input_is_wanted_where_a_script_is_not_finished() {
    let unfinished =
        ["topics(", "if true {", "rows([1,", "let x =", "topics().", "let s = `a", "#{ a:"];
    for text in unfinished {
        assert!(Console::is_incomplete(text), "{text}");
    }
    for text in ["topics()", "topics(]", "let 1 = 2", "foo(1 2)", "x", "", "}"] {
        assert!(!Console::is_incomplete(text), "{text}");
    }
}

#[test]
fn lines_of_a_terminal() {
    let runtime = runtime();
    let alone = Alone::default();
    let mut console = console_with(&runtime, OPERATOR, &alone);
    let mut says = |line: &str, part: &str| {
        alone.printed.lock().unwrap().clear();
        console.line(line);
        let printed = alone.printed.lock().unwrap().clone();
        assert!(printed.contains(part), "{line}: {printed}");
    };
    says("1 + 1", "2\n");
    says("it + 1", "3\n");
    says("let a = []; for i in 0..30 { a.push(i); } rows(a)", "20 rows, and more: it.table()");
    says(".help", "topics()");
    says(".help sort_by", "cursor.sort_by(field or |row| value) -> cursor");
    says(".help plan", "apply");
    says(".help E0905", "PlanOutdated");
    says(".help sort", "the nearest is");
    says(".dry on", "plans are only shown");
    says(".ctx", "alone (tenant t)\n  alone\n  prod\n");
    says(".dry off", "applied");
    says(".ctx prod", "this is production");
    says(".nonsense", "there is no command");
    says("topcs()", "error[E0902 ScriptFailed]");
    says(".undo", "error[E0212 BadArgument]");
    says(".time on", "ms\n");
    assert_eq!(console.line(".quit"), crate::repl::Flow::Quit);
}

#[test]
fn completion_follows_what_calls_give() {
    let runtime = runtime();
    let mut console = console_with(&runtime, OPERATOR, &Alone::default());
    console.run("let mine = rows([1]);").expect("nothing is asked of a broker");
    let completions = Completions::new(console.entries.clone(), console.session.clone());
    completions.set_variables(&console.scope);
    let check = |text: &str, expected: &[&str]| {
        let (_, found) = completions.candidates(text);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected, "{text}");
    };
    check("topics().fil", &["filter"]);
    check("topics().filter(|t| t.queues > 3).so", &["sort_by"]);
    check("topic(\"x\").find(#{ key: \"k\" }).fir", &["first"]);
    check("topic(\"x\").peek(0, 0).co", &["copy_to"]);
    check("topic(\"x\").rm().app", &["apply"]);
    check("15.min", &["minutes"]);
    check("mine.cou", &["count", "count_by"]);
    check("min", &["mine"]);
    check("topic_se", &["topic_set"]);
    check("topic(\"x\").set(#{ note: 1, ret", &["retain", "retain_bytes"]);
    check(".jou", &[".journal"]);
    check(".ctx p", &["prod"]);
    // Nobody is connected, so nobody is waited for.
    check("topic(\"or", &[]);
}

#[test]
fn arguments_are_a_constant() {
    let runtime = runtime();
    let alone = Alone::default();
    let mut console = console_with(&runtime, OPERATOR, &alone);
    console.set_args([("n".into(), Dynamic::from(3_i64))].into());
    assert_eq!(console.run("args.n"), Ok(Ended::Whole));
    assert!(console.run("args = 1").is_err());
    assert!(console.run("args.m").is_err());
    assert_eq!(*alone.printed.lock().unwrap(), "3\n");
}
