//! The program as its user meets it: help, exit codes, what is on which stream. No broker.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A program without anybody's contexts or settings, in a folder of its own.
fn yard(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yard"));
    command.env_clear().env("YARD_HOME", home).stdin(Stdio::null());
    command
}

fn run(line: &str) -> Output {
    yard(Path::new("/nonexistent")).args(words(line)).output().expect("the program runs")
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(' ').filter(|word| !word.is_empty())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8")
}

/// An empty folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("yard-cli-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Compares with a file of `tests/golden`; `UPDATE_EXPECT=1` writes it.
fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, found).expect("the golden file can be written");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == found, "{name} differs; UPDATE_EXPECT=1 writes it. Found:\n{found}");
}

/// The words under `Commands:` in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn help_of_every_verb() {
    let mut all = String::new();
    let mut open = vec![String::new()];
    while let Some(line) = open.pop() {
        let output = run(&format!("{line} --help"));
        assert_eq!(output.status.code(), Some(0), "{line}");
        let help = text(&output.stdout);
        all.push_str(&format!("$ yard{line} --help\n{help}\n"));
        let inner = subcommands(&help).into_iter().filter(|word| word != "help");
        open.extend(inner.map(|word| format!("{line} {word}")).rev());
    }
    golden("help.txt", &all);
}

#[test]
fn help_is_there_at_once() {
    let times = (0..5).map(|_| {
        let started = Instant::now();
        assert!(run("--help").status.success());
        started.elapsed()
    });
    let best = times.min().expect("five runs");
    assert!(best.as_millis() < 50, "help took {best:?}");
}

#[test]
fn a_wrong_command_line_ends_with_2_and_nothing_on_stdout() {
    let lines = [
        "",
        "topic",
        "topic frobnicate",
        "topic create",
        "topic create orders --queues many",
        "topic create orders --colour red",
        "topic ls -o xml",
        "explain E9999",
        "pub orders --rate fast --message x",
        "pub orders --ack perhaps --message x",
        "pub orders --key . --message x",
        "pub orders --message x --from lines",
        "pub orders --message x --timeout 0s",
        "pub orders --message x --delay later",
        "pub orders --message x --at 5s",
        "pub orders --message x --delay 5s --at 2999-01-01T00:00:00Z",
        "delay cancel 018f3a5c",
        "group set billing",
        "group set billing --retry sometimes",
        "group set billing --max-attempts 0",
        "dlq peek",
        "dlq peek billing --reason tired",
        "dlq drop billing --count 0",
        "dlq done billing",
        "topic set orders",
        "tenant set acme",
        "sub orders --raw -o json",
        "fetch orders --raw -o ndjson",
        "pub orders --queue 1024 --message x",
        "sub orders --from soon",
        "sub orders --count 0",
        "sub orders --lease 30",
        "sub orders --streams 33",
        "fetch orders --count some",
        "fetch orders --from 3 --time 2h",
        "fetch orders --time soon",
        "msg show",
        "msg show 018f3a5c",
        "msg show 018f3a5c7e9b0011223344556677889x",
        "msg show 018f3a5c7e9b00112233445566778899 --raw -o json",
        "topic find orders",
        "topic find orders --key k --from soon",
        "topic find orders --key k --from 1h --to 2h",
        "topic find orders --key k --after 3",
        "topic find orders --key k --count 0",
        "topic peek orders",
        "topic peek orders --offset 3 --time 2h",
        "topic peek orders --offset x",
        "topic peek orders --queue 1024 --offset 3",
        "topic peek orders --time yesterday",
        "serve --shards 0",
        "serve",
        "dev --rate 0",
        "dev --listen nowhere",
        "tenant add ../x",
    ];
    for line in lines {
        let output = run(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{line}");
        assert!(!output.stderr.is_empty(), "{line}");
    }
}

#[test]
fn errors_are_a_sentence_or_an_object() {
    let check = |line: &str, code: i32, expected: &str| {
        let output = run(line);
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert_eq!(text(&output.stderr), expected, "{line}");
    };
    check(
        "topic create orders --queues many",
        2,
        "error[E0212 BadArgument]: queues takes NUMBER, not \"many\"\nrun: yard explain E0212\n",
    );
    check(
        "topic create a/b -o json --queues many",
        2,
        "{\"error\":{\"code\":\"E0212\",\"name\":\"BadArgument\",\"message\":\
         \"queues takes NUMBER, not \\\"many\\\"\",\"retryable\":false,\
         \"retry_after_ms\":null}}\n",
    );
    check(
        "topic peek orders",
        2,
        "error[E0212 BadArgument]: offset: give --offset or --time\nrun: yard explain E0212\n",
    );
    check(
        "topic peek orders --time yesterday",
        2,
        "error[E0212 BadArgument]: time: takes a time (2013-01-01T10:00:00Z) or an age (2h), \
         not \"yesterday\"\nrun: yard explain E0212\n",
    );
    check(
        "pub orders --ack foo --message x",
        2,
        "error[E0212 BadArgument]: ack: takes memory, written or synced, alone or with +quorum \
         or +all, not \"foo\"\nrun: yard explain E0212\n",
    );
    check(
        "topic set orders",
        2,
        "error[E0212 BadArgument]: nothing to set: give --queues or --note \
         or --retain or --retain-bytes or --discard-unconsumed or --backlog-max \
         or --interceptor or --order-retry or --after-last or --dedupe-window or --dedupe-count \
         or --dedupe-plugin or --dedupe-strict or --trace\n\
         run: yard explain E0212\n",
    );
    check(
        "topic ls --context nowhere",
        1,
        "error: no context is saved as \"nowhere\" in /nonexistent/contexts (saved: none)\n",
    );
    check(
        "topic ls",
        1,
        "error: no connection context: start a broker with `yard dev`, give --context FILE, or \
         choose one with `yard context use NAME`\n",
    );
    check(
        "pub orders --from /nonexistent/lines",
        1,
        "error: /nonexistent/lines cannot be read: No such file or directory (os error 2)\n",
    );
    let output = run("topic frobnicate -o json");
    assert!(text(&output.stderr).starts_with("{\"error\":{\"code\":null,"));
}

#[test]
fn every_problem_of_the_settings_is_reported_at_once() {
    let folder = Folder::new("settings");
    let file = folder.0.join("yard.toml");
    fs::write(&file, "shrads = 2\nidle_ms = 1\n").expect("written");
    let mut command = yard(&folder.0);
    command.env("YARD_LANES", "none").args(["serve", "--segment-bytes", "1KiB", "--config"]);
    let output = command.arg(&file).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    let path = file.display();
    let expected = format!(
        "error: the settings cannot be used:\n  \
         {path}: shrads: there is no such setting; the nearest is shards\n  \
         {path}: idle_ms: it takes a duration like 30s, not \"1\"\n  \
         environment: YARD_LANES: it takes a number from 1 to 32, not \"none\"\n  \
         flags: --segment-bytes: 1KiB is outside its bounds, 1MiB to 2GiB\n"
    );
    let mut found: Vec<_> = text(&output.stderr).lines().map(str::to_owned).collect();
    let mut expected: Vec<_> = expected.lines().map(str::to_owned).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn contexts_are_listed_and_chosen() {
    let home = Folder::new("contexts");
    let contexts = home.0.join("contexts");
    fs::create_dir(&contexts).expect("created");
    let saved = "addresses = [\"127.0.0.1:1\"]\nauthority = \"\"\ntenant = \"acme\"\n";
    fs::write(contexts.join("acme.toml"), saved).expect("written");
    let check = |line: &str, code: i32, expected: &str| {
        let output = yard(&home.0).args(words(line)).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), expected, "{line}");
    };
    let row = |current: bool| {
        let path = contexts.join("acme.toml");
        format!(
            "{{\"name\":\"acme\",\"current\":{current},\"tenant\":\"acme\",\
             \"addresses\":\"127.0.0.1:1\",\"path\":{:?}}}\n",
            path.display().to_string()
        )
    };
    check("context ls -o ndjson", 0, &row(false));
    check("context use other", 1, "");
    check("context use acme", 0, "");
    check("context ls -o ndjson", 0, &row(true));
    let mut command = yard(&home.0);
    command.env("YARD_CONTEXT", "other.toml").args(words("context use acme"));
    let said = text(&command.output().expect("the program runs").stderr);
    assert!(said.contains("YARD_CONTEXT is set and wins: commands use other.toml"), "{said}");
}

#[test]
fn a_closed_output_is_quiet() {
    let mut child = yard(Path::new("/nonexistent"))
        .args(["explain", "E0301"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn pages_of_errors_are_in_the_program() {
    let output = run("explain e0301");
    assert_eq!(output.status.code(), Some(0));
    let page = text(&output.stdout);
    assert!(page.contains("E0301") && page.contains("Busy"), "{page}");
}

#[test]
fn an_explanation_for_programs() {
    let output = run("explain busy -o json");
    assert_eq!(output.status.code(), Some(0));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&value["code"], &value["name"]), (&"E0301".into(), &"Busy".into()));
    for field in ["sentence", "retry", "page"] {
        assert!(value[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
}

/// A context of a broker that is not there.
fn lost(home: &Folder) -> PathBuf {
    let file = home.0.join("lost.toml");
    // A socket that nobody reads: no answer, and no refusal either.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound");
    let authority = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["yard".to_owned()]).expect("a name");
    let pem = params.self_signed(&authority).expect("signed").pem();
    let text = format!("addresses = [\"{address}\"]\nauthority = \"\"\"{pem}\"\"\"\n");
    fs::write(&file, text).expect("written");
    std::mem::forget(silent);
    file
}

#[test]
fn a_broker_that_is_gone_is_given_up_soon() {
    let home = Folder::new("gone");
    let file = lost(&home);
    let started = Instant::now();
    let mut command = yard(&home.0);
    let output = command.args(["topic", "ls", "--context"]).arg(&file).output().expect("it runs");
    let (took, said) = (started.elapsed(), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no connection to 127.0.0.1:"), "{said}");
    assert!(took.as_secs() < 5, "{took:?}");
}

#[test]
fn an_interrupt_ends_what_waits_for_a_broker() {
    let home = Folder::new("interrupt");
    let file = lost(&home);
    for line in ["sub orders", "pub orders --message x"] {
        let mut command = yard(&home.0);
        command.args(words(line)).arg("--context").arg(&file);
        let mut child = command.stderr(Stdio::null()).spawn().expect("the program runs");
        std::thread::sleep(Duration::from_millis(500));
        let started = Instant::now();
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        let status = child.wait().expect("it ends");
        assert!(status.code().is_some(), "{line}: ended by itself");
        assert!(started.elapsed() < Duration::from_secs(1), "{line}: {:?}", started.elapsed());
    }
}
