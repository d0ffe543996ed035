//! The program as a user has it, for a broker.
use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;
use yard_it::server::Server;
use yard_it::yard;

/// Runs it with this command line to its end.
pub(crate) fn run(server: &Server, line: &str) -> Output {
    fed(server, line, "")
}

/// As [`run`], with something to read.
pub(crate) fn fed(server: &Server, line: &str, input: &str) -> Output {
    let program = yard::locate(None).unwrap();
    let mut command = yard::command(&program, &server.context_path());
    let command = command.args(line.split(' ')).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it prints for programs; it must succeed.
pub(crate) fn json(server: &Server, line: &str) -> Value {
    fed_json(server, line, "")
}

/// As [`json`], with something to read.
pub(crate) fn fed_json(server: &Server, line: &str, input: &str) -> Value {
    let output = fed(server, &format!("{line} -o json"), input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{line}: {why}"))
}
