//! Compiling in a process of its own, which may take so much time and memory and no more.
//!
//! ```text
//!   Compiler::compile                          compile_child, in the child
//!   ─────────────────                          ───────────────────────────
//!   memory file with the wasm ──── stdin ────► sets its limits, gives way to all others
//!   (or a source of it)                        makes wasm of a source
//!   memory file, empty        ◄─── stdout ──── encodes a core module, checks, compiles
//!   one sentence              ◄─── stderr ──── when it may not be compiled
//!   waits, kills after the wall's limit        is killed by the system at its limits
//! ```
//!
//! The engine promises safe code, not that making it is cheap; a plugin made to be expensive is
//! stopped here, and the broker goes on.
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, nice, pidfd_open, set_parent_process_death_signal,
    setrlimit,
};
use wasmparser::Parser;
use wit_component::ComponentEncoder;

use crate::engine::{Engine, Metering};
use crate::fault::cut;
use crate::limits::Limits;
use crate::sql;

/// How the child says that the wasm is to blame: `EX_DATAERR` of sysexits.h.
const EXIT_REFUSED: u8 = 65;
/// Of what the child writes on stderr, so much is read.
const SENTENCE_BYTES_MAX: usize = 2 << 10;
/// The child waits for the processor behind everybody else; this many times its processor time,
/// and a minute, are enough.
const WALL_FACTOR: u64 = 10;
const WALL_S_MIN: u64 = 60;

/// Why there is no artefact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The wasm is not valid, or uses what this engine does not offer.
    #[error("the plugin cannot be compiled: {0}")]
    Refused(String),
    /// Too much processor time.
    #[error("compiling takes more than {0} s of processor time")]
    TooSlow(u64),
    /// Too much memory.
    #[error("compiling takes more than {0} bytes of memory")]
    TooMuchMemory(u64),
    /// Too large an artefact.
    #[error("the compiled plugin has more than {0} bytes")]
    TooLarge(u64),
    /// The child ended as it should not.
    #[error("the compiling process failed ({status}): {says}")]
    Failed {
        /// How it ended.
        status: String,
        /// What it said.
        says: String,
    },
    /// The system did not let us.
    #[error("the compiling process could not be run: {0}")]
    System(#[from] io::Error),
}

/// Starts the processes that compile.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Compiler {
    /// A program that hands the arguments behind `arguments` to [`compile_child`].
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { program, arguments }
    }

    /// Compiles a plugin for an engine with this metering. Waits until that is done.
    ///
    /// # Errors
    /// [`CompileError`]; nothing is left behind.
    pub fn compile(
        &self,
        wasm: &[u8],
        metering: Metering,
        limits: &Limits,
    ) -> Result<Vec<u8>, CompileError> {
        let limits = limits.bounded();
        let mut input = memory_file()?;
        input.write_all(wasm)?;
        input.seek(SeekFrom::Start(0))?;
        let mut output = memory_file()?;
        let own = [
            metering.name().to_owned(),
            limits.compile_cpu_s_max.to_string(),
            limits.compile_memory_bytes_max.to_string(),
            limits.compiled_bytes_max.to_string(),
        ];
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args(&own)
            .env_clear()
            .stdin(input)
            .stdout(output.try_clone()?)
            .stderr(Stdio::piped())
            .spawn()?;
        let status = wait(&mut child, &limits)?;
        let mut says = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            stderr.take(SENTENCE_BYTES_MAX as u64).read_to_end(&mut says)?;
        }
        if !status.success() {
            return Err(why(status, &String::from_utf8_lossy(&says), &limits));
        }
        output.seek(SeekFrom::Start(0))?;
        let mut artefact = Vec::new();
        output.read_to_end(&mut artefact)?;
        Ok(artefact)
    }
}

fn memory_file() -> io::Result<File> {
    Ok(File::from(memfd_create("plugin", MemfdFlags::CLOEXEC)?))
}

/// Waits for the child, and kills it when it takes too long by the wall's clock.
fn wait(child: &mut Child, limits: &Limits) -> Result<ExitStatus, CompileError> {
    let pid = Pid::from_child(child);
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
    let wall = Duration::from_secs(WALL_S_MIN + limits.compile_cpu_s_max * WALL_FACTOR);
    let wall = Timespec::try_from(wall).expect("some minutes are a time for the system");
    let mut ended = [PollFd::new(&handle, PollFlags::IN)];
    // A signal may end the wait early; then the child gets the whole time once more.
    let count = rustix::io::retry_on_intr(|| poll(&mut ended, Some(&wall)));
    if count.map_err(io::Error::from)? == 0 {
        child.kill()?;
        child.wait()?;
        return Err(CompileError::TooSlow(limits.compile_cpu_s_max));
    }
    Ok(child.wait()?)
}

/// What a child that failed says about the plugin.
fn why(status: ExitStatus, says: &str, limits: &Limits) -> CompileError {
    let signal = status.signal().and_then(Signal::from_named_raw);
    let too_slow = [Signal::XCPU, Signal::KILL].map(Some).contains(&signal);
    if too_slow {
        return CompileError::TooSlow(limits.compile_cpu_s_max);
    }
    if signal == Some(Signal::XFSZ) {
        return CompileError::TooLarge(limits.compiled_bytes_max);
    }
    // What the standard library says before it aborts.
    if signal == Some(Signal::ABORT) && says.contains("memory allocation of") {
        return CompileError::TooMuchMemory(limits.compile_memory_bytes_max);
    }
    let says = cut(says.trim(), SENTENCE_BYTES_MAX).to_owned();
    if status.code() == Some(i32::from(EXIT_REFUSED)) {
        return CompileError::Refused(says);
    }
    CompileError::Failed { status: status.to_string(), says }
}

/// The child's part: reads wasm from stdin, writes the artefact to stdout. The arguments are what
/// [`Compiler`] appends.
pub fn compile_child(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match child(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(says) => {
            eprintln!("{says}");
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

fn child(arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let arguments: Vec<String> = arguments.filter_map(|it| it.into_string().ok()).collect();
    let [metering, cpu_s, memory_bytes, output_bytes] = &arguments[..] else {
        return Err("this command is for the broker itself".to_owned());
    };
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    let metering = Metering::parse(metering).ok_or("no such metering")?;
    limit(number(cpu_s)?, number(memory_bytes)?, number(output_bytes)?)
        .map_err(|error| format!("the limits cannot be set: {error}"))?;
    let mut wasm = Vec::new();
    io::stdin().read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    if let Some(generated) = sql::generate(&wasm) {
        wasm = generated?;
    }
    if Parser::is_core_wasm(&wasm) {
        wasm = encode(&wasm)?;
    }
    let artefact = Engine::precompile(&wasm, metering)?;
    let mut out = io::stdout().lock();
    out.write_all(&artefact).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// Makes a component of a core module that says its types in custom sections.
fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default().module(module);
    let component = encoder.and_then(|mut it| it.encode());
    component.map_err(|error| format!("no component can be made of the module: {error:#}"))
}

fn limit(cpu_s: u64, memory_bytes: u64, output_bytes: u64) -> rustix::io::Result<()> {
    // Without the broker nobody waits for the result.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Where that is not allowed the limits hold all the same.
    let _ = nice(19);
    let set = |resource, current: u64, maximum: u64| {
        setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
    };
    set(Resource::Core, 0, 0)?;
    set(Resource::Cpu, cpu_s, cpu_s + 1)?;
    set(Resource::As, memory_bytes, memory_bytes)?;
    set(Resource::Fsize, output_bytes, output_bytes)
}
