//! Processes in which seeds run: each is made ready once, and copies itself for every seed.
//!
//! ```text
//!   Nurseries ──"17 100 -"──► nursery, ready and of one thread ──fork──► seed 17 ──► its outcome
//! ```
//!
//! A seed needs a process of its own. tokio counts its runtimes, and draws from that count in which
//! order those who wait for the same value wake up: only the first runtime of a process, whose
//! randomness is fixed (`entropy.rs`), does the same again. Starting a program anew for each would
//! take longer than a run: the library of TLS collects entropy first.
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::planted::Plant;
use crate::run::{Outcome, run_seed};

/// By this argument the program becomes a nursery.
pub const NURSERY_ARGUMENT: &str = "--nursery";

/// What a copy of a process wrote, and how it ended: 0 is well.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// As the system tells a parent.
    pub status: i32,
    /// Everything that it wrote.
    pub said: Vec<u8>,
}

/// Runs the seeds that standard input asks for, each in a copy of this process, until there are no
/// more. This process must be ready and have one thread.
///
/// # Errors
/// When nobody listens, or no copy can be made.
pub fn keep(in_copy: impl Fn(&dyn Fn() -> String) -> io::Result<Copied>) -> io::Result<()> {
    let mut replies = io::stdout().lock();
    for request in io::stdin().lock().lines() {
        let request = request?;
        let words: Vec<&str> = request.split(' ').collect();
        let [seed, operations, plant] = words[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let number = |word: &str| word.parse().map_err(|_| io::ErrorKind::InvalidInput);
        let (seed, operations): (u64, u64) = (number(seed)?, number(operations)?);
        let plant = Plant::ALL.iter().copied().find(|one| one.name() == plant);
        let run = || run_seed(seed, operations, plant, false).write();
        let Copied { status, said } = in_copy(&run)?;
        writeln!(replies, "{status} {}", said.len())?;
        replies.write_all(&said)?;
        replies.flush()?;
    }
    Ok(())
}

/// One such process.
#[derive(Debug)]
struct Nursery {
    process: Child,
    replies: BufReader<ChildStdout>,
}

impl Nursery {
    fn open(program: &PathBuf) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(NURSERY_ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let replies = BufReader::new(process.stdout.take().expect("it was asked for"));
        Ok(Self { process, replies })
    }

    fn run(&mut self, seed: u64, operations: u64, plant: Option<Plant>) -> io::Result<Outcome> {
        let plant = plant.map_or("-", Plant::name);
        let requests = self.process.stdin.as_mut().expect("it was asked for");
        writeln!(requests, "{seed} {operations} {plant}")?;
        let mut head = String::new();
        self.replies.read_line(&mut head)?;
        let (status, bytes) = head.trim_end().split_once(' ').ok_or(io::ErrorKind::BrokenPipe)?;
        let mut said = vec![0; bytes.parse().map_err(|_| io::ErrorKind::InvalidData)?];
        self.replies.read_exact(&mut said)?;
        let outcome = Outcome::read(seed, &String::from_utf8_lossy(&said));
        let outcome = outcome.filter(|_| status == "0");
        Ok(outcome.unwrap_or_else(|| failed(seed, format!("its process ended with {status}"))))
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // It ends when nobody asks any more, which waiting begins with.
        let _ = self.process.wait();
    }
}

/// As many of them as run seeds at a time.
#[derive(Debug)]
pub struct Nurseries {
    program: PathBuf,
    idle: Mutex<Vec<Nursery>>,
}

impl Nurseries {
    /// Nurseries of this crate's program, none of which is there yet.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), idle: Mutex::default() }
    }

    /// Runs a seed in a process of its own; one that dies has failed.
    #[must_use]
    pub fn run(&self, seed: u64, operations: u64, plant: Option<Plant>) -> Outcome {
        let idle = self.idle().pop();
        let nursery = idle.map_or_else(|| Nursery::open(&self.program), Ok);
        let ran = nursery.and_then(|mut nursery| {
            let outcome = nursery.run(seed, operations, plant)?;
            self.idle().push(nursery);
            Ok(outcome)
        });
        ran.unwrap_or_else(|error| failed(seed, format!("no process: {error}")))
    }

    /// The first of the seeds within its bound that shows a planted bug, with what it shows.
    #[must_use]
    pub fn catch(&self, plant: Plant, operations: u64) -> Option<(u64, String)> {
        (0..plant.seeds_max()).find_map(|seed| {
            let failure = self.run(seed, operations, Some(plant)).failure?;
            // What fails without the bug as well says nothing about it.
            let clean = self.run(seed, operations, None).failure.is_none();
            clean.then_some((seed, failure))
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Nursery>> {
        // Nothing panics while it holds the list.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(seed: u64, why: String) -> Outcome {
    Outcome { seed, failure: Some(why), ..Outcome::default() }
}
