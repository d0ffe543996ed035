//! The console as a process: what it reads is what was sent, what it changes is what it planned,
//! and every block of its page runs.
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use yard_client::wire::operation::{Operation, Presence, Risk};
use yard_client::{Client, Message, SendResult, Start};
use yard_it::server::{Server, ServerOptions};
use yard_it::wait::until;
use yard_it::{Scratch, yard};

use super::local::create;

const QUEUES: u16 = 4;
const MESSAGES: u32 = 500;

/// A broker with orders that billing has begun to settle, and a folder to run in.
struct World {
    server: Server,
    client: Client,
    folder: Scratch,
    sent: Vec<SendResult>,
}

impl World {
    async fn new() -> Self {
        let options = ServerOptions::new(yard::locate(None).unwrap());
        let server = Server::start(options).await.unwrap();
        let client = server.client("console").await.unwrap();
        create(&client, "orders", QUEUES).await;
        let producer = client.producer("orders").build().await.unwrap();
        let mut sent = Vec::new();
        for n in 0..MESSAGES {
            sent.push(producer.send(order(n)).await.unwrap());
        }
        let orders = client.consumer("orders", "billing").start(Start::Earliest);
        let mut orders = orders.build().await.unwrap();
        orders.recv().await.unwrap().ack().await.unwrap();
        drop(orders);
        Self { server, client, folder: Scratch::new("console").unwrap(), sent }
    }

    /// A command with this console's own state, in a folder of its own.
    fn command(&self) -> Command {
        let program = yard::locate(None).unwrap();
        let mut command = yard::command(&program, &self.server.context_path());
        command.env("YARD_HOME", self.folder.path()).current_dir(self.folder.path());
        command.env_remove("YARD_LOG").stdin(Stdio::null());
        command
    }

    fn run(&self, script: &str, flags: &[&str]) -> Output {
        self.command().args(["sh", "-c", script]).args(flags).output().unwrap()
    }

    /// What a script prints; it must end well.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        let output = self.run(script, &[]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The rows that a script results in.
    #[track_caller]
    fn rows(&self, script: &str) -> Vec<Value> {
        let output = self.run(script, &["-o", "ndjson"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {error}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A script that must fail: its exit code, what it printed, what it said.
    #[track_caller]
    fn fails(&self, script: &str, exit: i32, part: &str) -> String {
        let output = self.run(script, &[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{script}: {error}");
        assert!(error.contains(part), "{script}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn spawn(&self, script: &str) -> Child {
        let mut command = self.command();
        command.args(["sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

fn order(n: u32) -> Message {
    let tag = if n.is_multiple_of(5) { "pay" } else { "ship" };
    let body = format!("{{\"n\":{n},\"amount\":{}}}", n % 100);
    Message::new(body.into_bytes()).key(format!("o-{}", n % 10)).tag(tag)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_what_was_sent() {
    let world = World::new().await;
    let check = |script: &str, expected: &str| assert_eq!(world.says(script), expected, "{script}");
    check(r#"topic("orders").all().count()"#, "500\n");
    check(r#"topic("orders").messages"#, "500\n");
    check(r#"topic("orders").since(1.days).filter(|m| m.tag == "pay").count()"#, "100\n");
    check(r#"topic("orders").between("1d", "now").count()"#, "500\n");
    check(r#"topic("orders").between("2001-01-01T00:00:00Z", "1d").count()"#, "0\n");
    check(r#"topic("orders").all().map(|m| m.json.n).sum()"#, "124750  (124,750)\n");
    check(r#"topic("orders").sample(100).count()"#, "100\n");
    check(r#"topic("orders").sample(9_000).count()"#, "500\n");
    check(r#"topic("orders").find(#{ key: "o-3" }).count()"#, "50\n");
    check(r#"topic("orders").all().count_by("key").map(|k| k.count).min(|c| c)"#, "50\n");
    check(r#"let n = 0; for m in topic("orders").all() { n += 1; } n"#, "500\n");
    check(r#"group("billing").on("orders").lag() + 1 == group("billing").lag + 1"#, "true\n");
    let stored = world.rows(r#"topic("orders").all().map(|m| m.stored_ms)"#);
    assert!(stored.is_sorted_by_key(Value::as_u64), "queues are merged by time");
    let last = world.sent.last().unwrap();
    let by_id = world.rows(&format!("msg(\"{}\")", last.id));
    let (queue, offset) = (last.queue.0, last.offset.unwrap().0);
    assert_eq!((&by_id[0]["queue"], &by_id[0]["offset"]), (&queue.into(), &offset.into()));
    assert_eq!(by_id, world.rows(&format!("topic(\"orders\").peek({queue}, {offset})")));
    world.fails(r#"topic("nowhere").messages"#, 1, "error[E0201 UnknownTopic]");
    world.fails(r#"topic("orders").queue(9).count()"#, 1, "error[E0204 QueueOutOfRange]");
    world.fails("topic(\"orders\").mesages", 1, "the nearest is messages (line 1, column");
    world.client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_that_reads_is_a_function() {
    let world = World::new().await;
    let id = world.sent.last().unwrap().id.to_string();
    let mut refused = Vec::new();
    for operation in Operation::ALL.iter().filter(|it| it.risk() == Risk::Reads) {
        let required = operation.fields().iter().filter(|it| it.presence == Presence::Required);
        let noun = operation.words()[0];
        let name = match noun {
            "group" | "dlq" => "billing",
            "msg" => &id,
            _ => "orders",
        };
        let args: Vec<_> = required.map(|_| format!("{name:?}")).collect();
        let script = format!("{}({})", operation.words().join("_"), args.join(", "));
        let line = operation.words().iter().copied().map(str::to_owned);
        let line = line.chain(args.iter().map(|_| name.to_owned()));
        let plain = world.command().args(line).args(["-o", "json"]).output().unwrap();
        if !plain.status.success() {
            let error = String::from_utf8(plain.stderr).unwrap();
            let code = error.find("E0").unwrap();
            world.fails(&script, 1, &error[code..code + "E0000".len()]);
            refused.push(operation.words().join("_"));
            continue;
        }
        let by_verb: Value = serde_json::from_slice(&plain.stdout).unwrap();
        let by_script = world.run(&script, &["-o", "json"]);
        assert!(by_script.status.success(), "{script}");
        let by_script: Value = serde_json::from_slice(&by_script.stdout).unwrap();
        let keys = |value: &Value| {
            let row = value.as_array().map_or(Some(value), |rows| rows.first());
            let row = row.and_then(Value::as_object);
            row.map(|row| row.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(keys(&by_script), keys(&by_verb), "{script}");
    }
    // Nobody has pushed a plugin or begun a transaction.
    assert_eq!(
        refused,
        ["plugin_info", "plugin_logs", "plugin_get", "plugin_differences", "tx_info"]
    );
    world.client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_does_nothing_and_its_application_does_exactly_that() {
    let world = World::new().await;
    let shown = world.says(r#"topic("orders").set(#{ note: "n", retain: "72h" })"#);
    assert!(shown.contains("1 step, 1 to do; risk: changes"), "{shown}");
    assert!(shown.contains("note:  -> n") && shown.contains("retain: none -> 72h"), "{shown}");
    let note = r#"topic("orders").note"#;
    assert_eq!(world.says(note), "\n", "nothing was done");
    let set = r#"topic("orders").set(#{ note: "n", retain: "72h" }).apply()"#;
    assert_eq!(world.says(set), "matched 1 = done 1 + skipped 0 + failed 0\n");
    assert_eq!(world.says(note), "n\n");
    let again =
        "matched 1 = done 0 + skipped 1 + failed 0\n  skipped topic orders: is so already\n";
    assert_eq!(world.says(set), again);
    // Taken back by the journal, once.
    assert!(world.says("undo()").contains("retain: 3d -> none"));
    assert_eq!(world.says("undo().apply()"), "matched 1 = done 1 + skipped 0 + failed 0\n");
    assert_eq!(world.says(note), "\n");
    world.fails("undo().apply()", 1, "no run of this context");
    // Somebody else was quicker.
    let race = r#"let late = topic("orders").set(#{ note: "late" });
        topic("orders").set(#{ note: "early" }).apply();
        late.apply()"#;
    let said = world.fails(race, 3, "some steps of a plan were not done");
    assert!(said.contains("done 0 + skipped 0 + failed 1"), "{said}");
    assert!(said.contains("E0905 PlanOutdated: note has changed"), "{said}");
    assert_eq!(world.says(note), "early\n");
    let queues = r#"topic("orders").expand(2).apply()"#;
    let said = world.fails(queues, 3, "");
    assert!(said.contains("failed topic orders: E02"), "the broker refuses it: {said}");
    journal(&world);
    world.client.close().await;
}

/// What the journal tells of the runs above.
fn journal(world: &World) {
    let runs = world.rows("journal()");
    let counts: Vec<_> = runs
        .iter()
        .map(|run| ["matched", "done", "failed"].map(|name| run[name].as_u64().unwrap()))
        .collect();
    let expected = [[1, 0, 1], [1, 0, 1], [1, 1, 0], [1, 1, 0], [1, 1, 0]];
    assert_eq!(counts, expected);
    assert_eq!(runs[4]["script"], r#"topic("orders").set(#{ note: "n", retain: "72h" }).apply()"#);
    let file = fs::read_to_string(world.folder.path().join("console/journal.ndjson")).unwrap();
    assert_eq!(file.lines().count(), 10, "a line when each begins, and one when it has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_removes_is_held_back() {
    let world = World::new().await;
    let create = r#"rows(["a", "b"]).plan(|name| topic(name).create(#{ queues: 2 })).apply()"#;
    assert_eq!(world.says(create), "matched 2 = done 2 + skipped 0 + failed 0\n");
    let names = "topics().map(|t| t.name).sort_by(|name| name)";
    let remove = r#"topics().filter(|t| t.name.len == 1).plan(|t| topic(t.name).rm()).apply()"#;
    world.fails(remove, 1, "error[E0908 NotConfirmed]: the plan removes 2 things");
    let dry = world.run(remove, &["--dry", "--i-mean-it"]);
    let said = String::from_utf8(dry.stdout).unwrap();
    assert!(said.contains("- topic a (topic rm)") && said.contains("skipped 2"), "{said}");
    assert_eq!(world.says(names), "a\nb\norders\n", "nothing is gone");
    let meant = world.run(remove, &["--i-mean-it"]);
    let said = String::from_utf8(meant.stdout).unwrap();
    assert_eq!(said, "matched 2 = done 2 + skipped 0 + failed 0\n");
    assert_eq!(world.says(names), "orders\n");
    let shown = world.says(r#"topic("orders").rm()"#);
    assert!(shown.contains("messages: 500") && shown.contains("groups: billing (lag"), "{shown}");
    world.client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_sent_and_copied_once_each() {
    let world = World::new().await;
    world.says(r#"topic("wide").create(#{ queues: 16 }).apply()"#);
    let copy = r#"topic("orders").all().filter(|m| m.tag == "pay").copy_to("wide").apply()"#;
    assert_eq!(world.says(copy), "matched 100 = done 100 + skipped 0 + failed 0\n");
    let bodies = |topic: &str| {
        let script =
            format!("topic({topic:?}).all().filter(|m| m.tag == \"pay\").map(|m| [m.body, m.key])");
        let mut rows: Vec<_> = world.rows(&script).iter().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    assert_eq!(bodies("wide"), bodies("orders"));
    let send = r#"topic("wide").send("hello", #{ key: "k", tag: "t", order: "o",
        properties: #{ a: "b" } }).apply()"#;
    assert_eq!(world.says(send), "matched 1 = done 1 + skipped 0 + failed 0\n");
    let found = world.rows(r#"topic("wide").find(#{ key: "k" })"#);
    assert_eq!((&found[0]["body"], &found[0]["order"]), (&"hello".into(), &"o".into()));
    assert_eq!(found[0]["properties"], serde_json::json!({ "a": "b" }));
    let none =
        world.fails(r#"topic("wide").send("x", #{ properties: #{ "$a": "b" } }).apply()"#, 3, "");
    assert!(none.contains("failed 1"), "{none}");
    world.client.close().await;
}

/// Interrupts a console that has said that it is there.
fn interrupt(mut child: Child, ready: &str) -> (Option<i32>, String) {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim_end() != ready {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended before it said {ready}");
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    (child.wait().unwrap().code(), error)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_whatever_runs() {
    let world = World::new().await;
    for script in [
        r#"print("ready"); loop { }"#,
        r#"print("ready"); sleep(1.days)"#,
        r#"print("ready"); topic("orders").tail().count()"#,
    ] {
        let child = world.spawn(script);
        let ended = tokio::task::spawn_blocking(move || interrupt(child, "ready"));
        let (code, error) = ended.await.unwrap();
        assert_eq!(code, Some(1), "{script}: {error}");
        assert!(error.contains("error[E0904 Interrupted]"), "{script}: {error}");
    }
    // A reader that has enough is no error.
    let mut child = world.spawn("loop { print(1) }");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0));
    world.client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_sees_what_comes() {
    let world = World::new().await;
    let script = r#"let seen = topic("orders").tail(|m| m.tag == "new").take(3).map(|m| m.body);
        seen.each(|body| print(body)); ()"#;
    let mut child = world.spawn(script);
    let producer = world.client.producer("orders").build().await.unwrap();
    // It does not say when it looks for the first time: messages come until it has enough.
    let ended = until("the tail ends", || {
        let (producer, done) = (producer.clone(), child.try_wait().unwrap());
        async move {
            producer.send(Message::new("x").tag("old")).await.unwrap();
            producer.send(Message::new("seen").tag("new")).await.unwrap();
            done
        }
    });
    assert!(ended.await.unwrap().success());
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "seen\nseen\nseen\n");
    world.client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_take_arguments_and_save_rows() {
    let world = World::new().await;
    let script = "//! Counts.\n//! arg topic: topic (required) - what is counted\n\
        //! arg tag: text = pay - which\n\
        topic(args.topic).all().filter(|m| m.tag == args.tag).save(\"out.csv\").rows\n";
    fs::write(world.folder.path().join("count.rhai"), script).unwrap();
    let run = |line: &str| {
        let output = world.command().args(line.split(' ')).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, _) = run("run count.rhai --topic orders");
    assert_eq!((code, &out[..]), (Some(0), "100\n"));
    let saved = fs::read_to_string(world.folder.path().join("out.csv")).unwrap();
    assert_eq!(saved.lines().count(), 101);
    assert!(saved.starts_with("topic,queue,offset,id,"), "{saved}");
    let (code, _, error) = run("run count.rhai");
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--topic is missing: what is counted"), "{error}");
    let (code, out, _) = run("run count.rhai help");
    assert_eq!(code, Some(0));
    assert!(out.contains("--tag") && out.contains("[default: pay]"), "{out}");
    world.client.close().await;
}

/// The code blocks of a page: what stands behind the fence, and the text.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "every fence is closed");
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_the_page_runs() {
    let world = World::new().await;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/console.md");
    let page = fs::read_to_string(page).unwrap();
    // Somebody sells meanwhile, for those who watch.
    let producer = world.client.producer("orders").build().await.unwrap();
    let selling = tokio::spawn(async move {
        for n in 0_u32.. {
            producer.send(order(n)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let program = yard::locate(None).unwrap();
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut ran = 0;
    for (kind, text) in blocks(&page) {
        let mut command = match kind {
            "rhai" => {
                let mut command = world.command();
                command.args(["sh", "-c", &text]);
                command
            }
            "sh" => {
                let mut command = Command::new("sh");
                command.args(["-e", "-c", &text]).current_dir(world.folder.path());
                command.env("PATH", &path).env("YARD_HOME", world.folder.path());
                command.env("YARD_CONTEXT", world.server.context_path());
                command.stdin(Stdio::null());
                command
            }
            "text" => continue,
            file => {
                let file = file.strip_prefix("rhai ").expect("a file is named behind the language");
                fs::write(world.folder.path().join(file), &text).unwrap();
                continue;
            }
        };
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}: {error}");
        assert!(!output.stdout.is_empty() || kind == "sh", "{text} shows nothing");
        ran += 1;
    }
    assert!(ran >= 12, "{ran} blocks");
    selling.abort();
    world.client.close().await;
}
