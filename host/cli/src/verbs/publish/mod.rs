//! `yard pub`: lines become messages.
//!
//! ```text
//!   thread: read, unpack, pick ──chunks──► send, at a rate ──receipts──► settle, in order
//!                  8 chunks                                 65,536          │
//!                                                                           ▼
//!                                                        tally: sent, duplicates, failed lines
//! ```
mod lines;
mod pick;
mod progress;
mod settle;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use yard_client::wire::limits::QUEUES_MAX;
use yard_client::{Ack, AckNodes, Client, Producer};

use self::lines::{Chunk, Line, Source};
use self::pick::{Pick, Picks, Properties};
use self::progress::Progress;
use self::settle::{Settling, Tally, Unsettled};
use super::Session;
use crate::args::Written;
use crate::failure::Failure;
use crate::terminal::Interrupts;
use crate::text;

/// Receipts that wait to be settled.
const RECEIPTS_MAX: usize = 65_536;
/// After Ctrl-C, what is on its way gets this long.
const GRACE: Duration = Duration::from_secs(3);

/// What the command line asks for.
struct Plan {
    topic: String,
    picks: Picks,
    ack: (Ack, AckNodes),
    rate: Option<f64>,
    streams: u16,
}

impl Plan {
    fn read(written: &Written) -> Result<Self, Failure> {
        let queue = written.number("queue", 0, u64::from(QUEUES_MAX) - 1)?;
        let picks = Picks {
            tag: written.read("tag", Pick::read)?,
            key: written.read("key", Pick::read)?,
            order: written.read("order", Pick::read)?,
            properties: written.read("props", Properties::read)?.unwrap_or_default(),
            queue: queue.map(|queue| u16::try_from(queue).expect("checked against the most")),
        };
        Ok(Self {
            topic: written.required("topic")?.to_owned(),
            picks,
            ack: text::read_ack(written.required("ack")?)
                .map_err(|why| Failure::usage(format!("ack: {why}")))?,
            rate: written.read("rate", text::read_rate)?,
            streams: super::streams(written)?,
        })
    }

    fn open(written: &Written) -> Result<Source, Failure> {
        if let Some(message) = written.text("message") {
            return Ok(Source::message(message.to_owned()));
        }
        let from = written.required("from")?;
        if from == "-" && io::stdin().is_terminal() {
            eprintln!("reading lines from the terminal; Ctrl-D ends them");
        }
        Source::open(from).map_err(|why| Failure::local(format!("{from} cannot be read: {why}")))
    }
}

/// Why no more lines are sent.
enum Ended {
    /// All were.
    AllSent,
    /// The user wants it.
    Interrupted,
    /// No more can be read.
    Unreadable(String),
    /// No line can be sent any more; the tally says why.
    Refused,
}

pub(crate) async fn run(session: &Session, written: &Written) -> Result<(), Failure> {
    let plan = Plan::read(written)?;
    let source = Plan::open(written)?;
    let mut interrupts = Interrupts::catch()?;
    let client = session.connect(plan.streams).await?;
    let result = send_all(session, plan, source, &client, &mut interrupts).await;
    tokio::select! {
        () = client.close() => {}
        () = interrupts.next() => {}
    }
    result
}

async fn send_all(
    session: &Session,
    plan: Plan,
    source: Source,
    client: &Client,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let (place, nodes) = plan.ack;
    let producer = client.producer(plan.topic).ack(place).nodes(nodes).build().await?;
    let progress = Progress::new(&source);
    let settling = Arc::new(Settling::new(progress.clone(), session.format));
    let chunks = lines::spawn(source, plan.picks);
    let (unsettled, receipts) = mpsc::channel(RECEIPTS_MAX);
    let settler = tokio::spawn(settle::in_order(receipts, Arc::clone(&settling)));
    let started = Instant::now();
    let sender = Sender { producer, unsettled, settling: Arc::clone(&settling), started };
    let ended = tokio::select! {
        ended = sender.send(chunks, plan.rate) => ended,
        () = interrupts.next() => Ended::Interrupted,
    };
    let patience = async {
        match ended {
            Ended::Interrupted => sleep(GRACE).await,
            Ended::AllSent | Ended::Unreadable(_) | Ended::Refused => interrupts.next().await,
        }
    };
    tokio::select! {
        _ = settler => {}
        () = patience => {}
    }
    progress.finish();
    let tally = settling.tally();
    tally.show(session.format, started.elapsed())?;
    outcome(&ended, tally)
}

/// The outcome of what was sent and of what was not.
fn outcome(ended: &Ended, tally: Tally) -> Result<(), Failure> {
    let part = |sentence: String| {
        if tally.sent > 0 { Failure::partial(sentence) } else { Failure::local(sentence) }
    };
    if let Some((number, error)) = tally.refusal {
        let sentence = format!("stopped at line {number}: {}", error.detail);
        return Err(part(sentence).with_code(error.code));
    }
    let lost = tally.failed + tally.unknown;
    match ended {
        Ended::AllSent | Ended::Refused if lost == 0 => Ok(()),
        Ended::AllSent | Ended::Refused => {
            Err(part(format!("{lost} of {} messages were not sent", lost + tally.sent)))
        }
        Ended::Interrupted => Err(part("interrupted; later lines were not sent".into())),
        Ended::Unreadable(why) => Err(part(format!("the input cannot be read on: {why}"))),
    }
}

/// Sends lines and hands their receipts on.
struct Sender {
    producer: Producer,
    unsettled: mpsc::Sender<Unsettled>,
    settling: Arc<Settling>,
    started: Instant,
}

impl Sender {
    async fn send(self, mut chunks: mpsc::Receiver<Chunk>, rate: Option<f64>) -> Ended {
        let mut turn = 0u64;
        while let Some(chunk) = chunks.recv().await {
            let lines = match chunk {
                Ok(lines) => lines,
                Err(why) => return Ended::Unreadable(why),
            };
            for line in lines {
                if let Some(rate) = rate {
                    // By the clock, not by the last message: what was late is caught up.
                    sleep_until(self.started + Duration::from_secs_f64(turn as f64 / rate)).await;
                }
                turn += 1;
                if self.settling.is_stopped() || !self.send_one(line).await {
                    return Ended::Refused;
                }
            }
            self.settling.progress().update();
        }
        Ended::AllSent
    }

    /// Sends a line; false when no other line needs to be tried.
    async fn send_one(&self, line: Line) -> bool {
        let Line { number, message } = line;
        let message = match message {
            Ok(message) => message,
            Err(why) => {
                self.settling.failed_here(number, &why);
                return true;
            }
        };
        let bytes = message.body().len() as u64;
        match self.producer.enqueue(message).await {
            Ok(receipt) => {
                self.settling.enqueued();
                self.unsettled.send(Unsettled { number, bytes, receipt }).await.is_ok()
            }
            Err(error) => self.settling.failed(number, error),
        }
    }
}
