//! Processes of the same program that do a part of the work, and are killed as `kill -9` does.
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use crate::Failed;
use crate::wait::until;

/// What a process is told that does a part.
#[derive(Clone, Debug)]
pub struct PartOptions {
    /// How it connects.
    pub context: PathBuf,
    /// The database that all parts share.
    pub database: PathBuf,
    /// Its name.
    pub name: String,
    /// Messages or transactions, over all parts.
    pub messages: u64,
    /// Chooses everything that is random here.
    pub seed: u64,
}

/// Does a part, in a process of its own, until it is killed or nothing is left to do.
///
/// # Errors
/// When it cannot be done, or nobody knows a part of this name.
pub async fn part(part: &str, options: &PartOptions) -> Result<(), Failed> {
    match part {
        super::transactions::PART => super::transactions::produce(options).await,
        super::flights::PART => super::flights::consume(options).await,
        other => Err(Failed(format!("there is no part {other:?}"))),
    }
}

/// Those processes; they die with it.
pub(super) struct Crew {
    program: PathBuf,
    part: &'static str,
    options: PartOptions,
    members: Vec<(String, Child)>,
    started: usize,
}

impl Crew {
    /// Starts so many; each has a name of its own.
    pub(super) fn start(
        program: &Path,
        part: &'static str,
        options: PartOptions,
        count: usize,
    ) -> Result<Self, Failed> {
        let (program, members) = (program.to_owned(), Vec::new());
        let mut crew = Self { program, part, options, members, started: 0 };
        for _ in 0..count {
            let member = crew.spawn()?;
            crew.members.push(member);
        }
        Ok(crew)
    }

    fn spawn(&mut self) -> Result<(String, Child), Failed> {
        let name = format!("{}-{}", self.part, self.started);
        self.started += 1;
        let PartOptions { context, database, messages, seed, .. } = &self.options;
        let mut command = Command::new(&self.program);
        command.args(["--part", self.part, "--name", &name]);
        command.arg("--context").arg(context).arg("--database").arg(database);
        command.arg("--messages").arg(messages.to_string()).arg("--seed").arg(seed.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(Failed::file(&self.program))?;
        Ok((name, child))
    }

    /// Kills a member and starts another in its place; the name of the dead one.
    pub(super) async fn replace(&mut self, at: usize) -> Result<String, Failed> {
        let new = self.spawn()?;
        let (name, mut dead) = std::mem::replace(&mut self.members[at], new);
        if let Some(status) = dead.try_wait()? {
            good_end(&name, status)?;
        }
        dead.kill().await?;
        Ok(name)
    }

    /// Waits until all of them have nothing left to do.
    pub(super) async fn ends(mut self) -> Result<(), Failed> {
        for (name, member) in &mut self.members {
            let what = format!("{name} ends");
            let status = until(&what, || {
                let ended = member.try_wait();
                async move { ended.ok().flatten() }
            });
            good_end(name, status.await?)?;
        }
        Ok(())
    }
}

/// Nothing ends badly by itself.
fn good_end(name: &str, status: ExitStatus) -> Result<(), Failed> {
    if status.success() { Ok(()) } else { Err(Failed(format!("{name} ended with {status}"))) }
}
