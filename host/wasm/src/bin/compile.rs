//! Compiles one plugin for the process that started it: what `yard` does by its hidden argument.
use std::process::ExitCode;

fn main() -> ExitCode {
    yard_wasm::compile_child(std::env::args_os().skip(1))
}
