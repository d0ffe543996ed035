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
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use yard_client::compress::Algorithm;
use yard_client::wire::limits::{PRIORITY_MAX, QUEUES_MAX};
use yard_client::{Ack, AckNodes, Client, Compression, Producer};

use self::lines::{Chunk, Line, Source};
use self::pick::{DedupeBy, Pick, Picks, Properties};
use self::progress::Progress;
use self::settle::{Refused, Settling, Tally, Unsettled};
use super::Session;
use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::output::Format;
use crate::terminal::Interrupts;
use crate::text;

/// Receipts that wait to be settled.
const RECEIPTS_MAX: usize = 65_536;
/// After Ctrl-C, what is on its way gets this long.
const GRACE: Duration = Duration::from_millis(500);
/// Bounds of how long a message is tried.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Bounds of how long a message is wanted.
const EXPIRES_MIN: Duration = Duration::from_millis(1);
const EXPIRES_MAX: Duration = Duration::from_secs(400 * 24 * 3_600);

/// What the command line asks for.
struct Plan {
    topic: String,
    picks: Picks,
    ack: (Ack, AckNodes),
    rate: Option<f64>,
    streams: Option<u16>,
    /// How long a message is tried.
    timeout: Duration,
    compression: Option<Compression>,
}

impl Plan {
    fn read(written: &Written) -> Result<Self, Failure> {
        if written.is_given("message") && written.is_given("from") {
            return Err(bad_argument("message", "it is sent instead of --from; give one of them"));
        }
        let delay = written.read("delay", text::read_delay)?;
        let at = written.read("at", text::read_at)?;
        if delay.is_some() && at.is_some() {
            return Err(bad_argument("at", "give either --delay or --at, not both"));
        }
        let queue = written.number("queue", 0, u64::from(QUEUES_MAX) - 1)?;
        let picks = Picks {
            tag: written.read("tag", Pick::read)?,
            key: written.read("key", Pick::read)?,
            order: written.read("order", Pick::read)?,
            dedupe: written.read("dedupe", DedupeBy::read)?,
            properties: written.read("props", Properties::read)?.unwrap_or_default(),
            delay: delay.or(at),
            queue: queue.map(|queue| u16::try_from(queue).expect("checked against the most")),
            priority: written
                .number("priority", 0, u64::from(PRIORITY_MAX))?
                .map(|priority| u8::try_from(priority).expect("checked against the most")),
            expires: written
                .read("expires", |text| text::read_duration(text, EXPIRES_MIN, EXPIRES_MAX))?,
        };
        let compression = written.read("compress", |text| {
            let known = Algorithm::parse(text).map(Compression::new);
            known.ok_or_else(|| format!("takes lz4 or zstd, not {text:?}"))
        })?;
        Ok(Self {
            topic: written.required("topic")?.to_owned(),
            picks,
            ack: written.read("ack", text::read_ack)?.unwrap_or((Ack::Synced, AckNodes::One)),
            rate: written.read("rate", text::read_rate)?,
            streams: super::streams(written)?,
            timeout: written
                .read("timeout", |text| text::read_duration(text, TIMEOUT_MIN, TIMEOUT_MAX))?
                .unwrap_or(TIMEOUT_MIN),
            compression,
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
    let connecting = session.connect(plan.streams);
    let client = interrupts.unless(connecting).await.ok_or_else(before_anything)??;
    let result = send_all(session, plan, source, &client, &mut interrupts).await;
    // Every message has its result by now, or its sender does not wait for it any more.
    super::leave(&client).await;
    result
}

/// The user wants it to end, and nothing was sent.
fn before_anything() -> Failure {
    Failure::local("interrupted before anything was sent")
}

async fn send_all(
    session: &Session,
    plan: Plan,
    source: Source,
    client: &Client,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let (place, nodes) = plan.ack;
    let producer = client.producer(plan.topic).ack(place).nodes(nodes);
    let producer = match plan.compression {
        Some(compression) => producer.compress(compression),
        None => producer,
    };
    let building = producer.delivery_timeout(plan.timeout).build();
    let producer = interrupts.unless(building).await.ok_or_else(before_anything)??;
    let progress = Progress::new(&source);
    let is_single = source.is_single();
    let settling = Arc::new(Settling::new(progress.clone(), session.format, is_single));
    let chunks = lines::spawn(source, plan.picks);
    let (unsettled, receipts) = mpsc::channel(RECEIPTS_MAX);
    let settler = tokio::spawn(settle::in_order(receipts, Arc::clone(&settling)));
    let started = Instant::now();
    let sender = Sender { producer, unsettled, settling: Arc::clone(&settling), started };
    let ended = tokio::select! {
        ended = sender.send(chunks, plan.rate) => ended,
        () = interrupts.next() => Ended::Interrupted,
    };
    let mut settler = pin!(settler);
    let is_interrupted =
        matches!(ended, Ended::Interrupted) || interrupts.unless(&mut settler).await.is_none();
    if is_interrupted {
        let _ = interrupts.unless(timeout(GRACE, settler)).await;
    }
    progress.finish();
    let tally = settling.tally();
    // Of one message the error says it all.
    if !(is_single && tally.sent == 0 && session.format == Format::Table) {
        tally.show(session.format, started.elapsed())?;
    }
    outcome(&ended, tally, is_single)
}

/// The outcome of what was sent and of what was not.
fn outcome(ended: &Ended, tally: Tally, is_single: bool) -> Result<(), Failure> {
    let part = |sentence: String| {
        if tally.sent > 0 { Failure::partial(sentence) } else { Failure::local(sentence) }
    };
    let missing = tally.missing();
    if let Some((number, Refused { code, why })) = tally.refusal {
        let sentence = if is_single { why } else { format!("stopped at line {number}: {why}") };
        let failure = part(sentence);
        return Err(code.into_iter().fold(failure, Failure::with_code));
    }
    match (ended, missing) {
        (Ended::AllSent | Ended::Refused, None) => Ok(()),
        (Ended::AllSent | Ended::Refused, Some(missing)) => Err(part(missing)),
        (Ended::Interrupted, None) => Err(part("interrupted; later lines were not sent".into())),
        (Ended::Interrupted, Some(missing)) => Err(part(format!("interrupted; {missing}"))),
        (Ended::Unreadable(why), _) => {
            Err(part(format!("the input cannot be read further: {why}")))
        }
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
