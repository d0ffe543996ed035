//! The noisy tenant, in a process of its own. It is told what to do line by line.
//!
//! ```text
//!   stdin: go │ stop │ (end)
//!   stdout: pushed … ready │ going │ <messages a second>, when all is quiet
//! ```
use std::path::Path;
use std::process::Stdio;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use yard_client::{Client, Context, Message, Receipt};

use super::{BODY_BYTES, QUEUES, TOPIC, hostile};
use crate::Failed;
use crate::server::{read_context, write_context};
use crate::wait::{until, within};

/// Messages that each connection has under way: some batches, none of them waiting for another.
const PIPELINED: usize = 1_024;
/// Messages that must have been stored since "go" before a round counts as noisy,
const LOUD_MIN: u64 = 1_000;
/// or things done by a tenant that means harm.
const HARM_MIN: u64 = 20;

/// What a neighbour does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It sends all it can.
    Load,
    /// It runs plugins that are made to hurt.
    Hostile,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Hostile => "hostile",
        }
    }

    const fn loud_min(self) -> u64 {
        match self {
            Self::Load => LOUD_MIN,
            Self::Hostile => HARM_MIN,
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Load, Self::Hostile].into_iter().find(|kind| kind.name() == name).ok_or(())
    }
}

/// What all connections did.
#[derive(Default)]
pub(super) struct Counts {
    /// Messages that were stored, or things that were done.
    pub(super) done: AtomicU64,
    /// Those that were begun and are not.
    pub(super) under_way: AtomicU64,
}

/// The other process, as this one sees it.
pub(super) struct Noise {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Noise {
    /// Starts it, and waits until every connection is there.
    pub(super) async fn start(
        me: &Path,
        context: &Context,
        (kind, connections, niceness): (Kind, usize, u8),
        folder: &Path,
    ) -> Result<Self, Failed> {
        let path = folder.join("noise.toml");
        write_context(&path, context.clone())?;
        // Through `chrt` and `nice`, which become the program: the process is this one's child all
        // the same. It has no part in a priority that the measuring was given.
        let mut command = Command::new("chrt");
        command.args(["-o", "0", "nice", "-n", &niceness.to_string()]);
        command.arg(me).arg("--noise").arg(&path);
        command.arg("--connections").arg(connections.to_string());
        command.arg("--neighbour").arg(kind.name());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (Some(to), Some(from)) = (to, from) else {
            return Err(Failed("the noisy process has no pipes".to_owned()));
        };
        let mut noise = Self { child, to, from: BufReader::new(from).lines() };
        loop {
            match noise.line().await?.as_str() {
                "pushed" => {}
                "ready" => return Ok(noise),
                line => return Err(Failed(format!("the noisy process said {line:?}"))),
            }
        }
    }

    async fn line(&mut self) -> Result<String, Failed> {
        let line = within("a line of the noisy process", self.from.next_line()).await??;
        line.ok_or_else(|| Failed("the noisy process ended".to_owned()))
    }

    async fn expect(&mut self, word: &str) -> Result<(), Failed> {
        let line = self.line().await?;
        if line == word {
            return Ok(());
        }
        Err(Failed(format!("the noisy process said {line:?} instead of {word}")))
    }

    /// Begins the noise, and waits until it can be heard.
    pub(super) async fn go(&mut self) -> Result<(), Failed> {
        self.to.write_all(b"go\n").await?;
        self.expect("going").await
    }

    /// Ends the noise; how many messages a second it was.
    pub(super) async fn stop(&mut self) -> Result<u64, Failed> {
        self.to.write_all(b"stop\n").await?;
        let line = self.line().await?;
        line.parse().map_err(|_| Failed(format!("the noisy process said {line:?}")))
    }

    pub(super) async fn end(self) -> Result<(), Failed> {
        let Self { mut child, to, .. } = self;
        drop(to);
        within("the end of the noisy process", child.wait()).await??;
        Ok(())
    }
}

/// The noisy process itself: does what it is told until its input ends.
///
/// # Errors
/// When it cannot connect or is told what it does not know.
pub async fn serve(context: &Path, kind: Kind, connections: usize) -> Result<(), Failed> {
    let context = read_context(context)?;
    let (going, _) = watch::channel(false);
    let counts = Arc::new(Counts::default());
    let corpus = hostile::corpus();
    if kind == Kind::Hostile {
        let client = Client::builder().name("noise").context(context.clone()).connect().await?;
        hostile::prepare(&client, &corpus).await;
        client.close().await;
    }
    let mut tasks = Vec::new();
    for number in 0..connections {
        let name = format!("noise-{number}");
        let client = Client::builder().name(name).context(context.clone()).connect().await?;
        let (going, counts, corpus) = (going.subscribe(), counts.clone(), corpus.clone());
        tasks.push(tokio::spawn(async move {
            match kind {
                Kind::Load => shout(&client, number, going, &counts).await,
                Kind::Hostile => hostile::hurt(&client, (number, corpus), going, &counts).await,
            }
        }));
    }
    let (sent, waiting) = (&counts.done, &counts.under_way);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut began = (Instant::now(), 0);
    println!("ready");
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "go" => {
                let before = sent.load(Ordering::Relaxed);
                going.send_replace(true);
                until("the noise is loud", || async {
                    (sent.load(Ordering::Relaxed) >= before + kind.loud_min()).then_some(())
                })
                .await?;
                began = (Instant::now(), sent.load(Ordering::Relaxed));
                println!("going");
            }
            "stop" => {
                let count = sent.load(Ordering::Relaxed) - began.1;
                let rate = (count as f64 / began.0.elapsed().as_secs_f64()) as u64;
                going.send_replace(false);
                until("the noise ends", || async {
                    (waiting.load(Ordering::Relaxed) == 0).then_some(())
                })
                .await?;
                println!("{rate}");
            }
            other => return Err(Failed(format!("{other:?} is no word for the noise"))),
        }
    }
    for task in tasks {
        task.abort();
    }
    Ok(())
}

/// Sends as fast as the broker takes it, while it may; then waits for what is under way.
async fn shout(
    client: &Client,
    number: usize,
    mut going: watch::Receiver<bool>,
    Counts { done: sent, under_way }: &Counts,
) -> Result<(), Failed> {
    let producer = client.producer(TOPIC).build().await?;
    let body = Bytes::from(vec![7; BODY_BYTES]);
    let queue = number as u16 % QUEUES;
    let mut waiting = std::collections::VecDeque::<Receipt>::new();
    loop {
        let may_send = *going.borrow();
        if !may_send && waiting.is_empty() {
            going.wait_for(|going| *going).await.map_err(|_| Failed("no more noise".to_owned()))?;
            continue;
        }
        if (!may_send || waiting.len() == PIPELINED)
            && let Some(receipt) = waiting.pop_front()
        {
            receipt.await?;
            sent.fetch_add(1, Ordering::Relaxed);
            under_way.fetch_sub(1, Ordering::Relaxed);
        }
        if may_send {
            let message = Message::new(body.clone()).queue(queue);
            under_way.fetch_add(1, Ordering::Relaxed);
            waiting.push_back(producer.enqueue(message).await?);
        }
    }
}
