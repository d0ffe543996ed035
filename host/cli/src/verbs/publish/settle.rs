//! What became of the messages that were sent.
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use yard_client::wire::Code;
use yard_client::{Error, Receipt, SendResult};

use super::progress::Progress;
use crate::output::Format;
use crate::text;

/// Failures that are shown one by one; of the others the summary says how many they are.
const FAILURES_SHOWN_MAX: u64 = 10;
/// After so long without an answer people are told.
const SILENCE: Duration = Duration::from_secs(2);

/// A message on its way.
pub(crate) struct Unsettled {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) receipt: Receipt,
}

/// What became of the messages so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Stored, as far as was asked.
    pub(crate) sent: u64,
    /// Bytes of their bodies.
    bytes: u64,
    /// Stored by an earlier attempt whose answer was lost, or by whoever sent its dedupe key first.
    duplicates: u64,
    /// Not sent.
    pub(crate) failed: u64,
    /// On their way; at the end: not known to be stored.
    pub(crate) unknown: u64,
    /// Where the message is, when it is the only one.
    only: Option<SendResult>,
    /// The line and the error after which no other line was tried.
    pub(crate) refusal: Option<(u64, Refused)>,
}

/// Why a message was not sent, where that ends everything.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) code: Option<Code>,
    pub(crate) why: String,
}

/// The tally while it grows.
pub(crate) struct Settling {
    tally: Mutex<Tally>,
    stopped: AtomicBool,
    progress: Progress,
    format: Format,
    /// There is one message, and no line that it could be told by.
    is_single: bool,
}

/// Waits for receipts in order until there are no more.
pub(crate) async fn in_order(mut receipts: mpsc::Receiver<Unsettled>, settling: Arc<Settling>) {
    while let Some(Unsettled { number, bytes, receipt }) = receipts.recv().await {
        match with_news(receipt, &settling).await {
            Ok(result) => settling.sent(bytes, result),
            Err(error) if is_unknown(error.code) => {
                settling.stop(number, error);
            }
            Err(error) => {
                settling.with_tally(|tally| tally.unknown -= 1);
                settling.failed(number, error);
            }
        }
    }
}

/// Waits for an answer. Who looks on is told when it does not come, and when it does after all.
async fn with_news(mut receipt: Receipt, settling: &Settling) -> Result<SendResult, Error> {
    if let Ok(result) = timeout(SILENCE, &mut receipt).await {
        return result;
    }
    settling.tell("a message is not known to be stored after 2 s; trying again");
    let result = receipt.await;
    if result.is_ok() {
        settling.tell("messages are stored again");
    }
    result
}

impl Settling {
    pub(crate) fn new(progress: Progress, format: Format, is_single: bool) -> Self {
        let stopped = AtomicBool::new(false);
        Self { tally: Mutex::default(), stopped, progress, format, is_single }
    }

    /// Says something to people.
    fn tell(&self, line: &str) {
        if self.format == Format::Table {
            self.progress.say(line);
        }
    }

    /// No other line is tried. The first reason is told at the end, so not here.
    fn stop(&self, number: u64, error: Error) -> bool {
        self.stopped.store(true, Ordering::Relaxed);
        self.refuse(number, Refused { code: Some(error.code), why: error.detail })
    }

    /// Whether this is the first reason.
    fn refuse(&self, number: u64, refused: Refused) -> bool {
        self.with_tally(|tally| {
            let is_first = tally.refusal.is_none();
            tally.refusal.get_or_insert((number, refused));
            is_first
        })
    }

    pub(crate) fn tally(&self) -> Tally {
        self.with_tally(|tally| tally.clone())
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether no other line needs to be tried.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A message is on its way.
    pub(crate) fn enqueued(&self) {
        self.with_tally(|tally| tally.unknown += 1);
    }

    fn sent(&self, bytes: u64, result: SendResult) {
        self.with_tally(|tally| {
            tally.unknown -= 1;
            tally.sent += 1;
            tally.bytes += bytes;
            tally.duplicates += u64::from(result.duplicate);
            tally.only = self.is_single.then_some(result);
        });
        self.progress.sent_one();
    }

    /// A line could not become a message.
    pub(crate) fn failed_here(&self, number: u64, why: &str) {
        let failed = self.count_failed();
        if self.is_single {
            self.refuse(number, Refused { code: None, why: why.to_owned() });
        } else {
            self.show_failure(failed, number, None, why);
        }
    }

    /// A message was refused. Whether other lines should be tried.
    pub(crate) fn failed(&self, number: u64, error: Error) -> bool {
        let failed = self.count_failed();
        let (code, why) = (error.code, error.detail.clone());
        let goes_on = concerns_one_message(code) && !self.is_single;
        if goes_on || !self.stop(number, error) {
            self.show_failure(failed, number, Some(code), &why);
        }
        goes_on
    }

    fn count_failed(&self) -> u64 {
        self.with_tally(|tally| {
            tally.failed += 1;
            tally.failed
        })
    }

    fn show_failure(&self, failed: u64, number: u64, code: Option<Code>, why: &str) {
        if failed > FAILURES_SHOWN_MAX {
            return;
        }
        let why = text::visible(why);
        self.progress.say(&match (self.format, code) {
            (Format::Json | Format::Ndjson, code) => {
                json!({ "line": number, "code": code.map(Code::label), "message": why }).to_string()
            }
            (Format::Table, Some(code)) => format!("line {number}: {code}: {why}"),
            (Format::Table, None) => format!("line {number}: {why}"),
        });
    }

    fn with_tally<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether an error leaves open what became of the message.
fn is_unknown(code: Code) -> bool {
    matches!(code, Code::TimedOut | Code::Disconnected | Code::Closed)
}

/// Whether a refusal says something about this message alone, so that the next may be sent.
fn concerns_one_message(code: Code) -> bool {
    matches!(
        code,
        Code::BodyTooLarge | Code::PropertiesTooLarge | Code::BadArgument | Code::BadDedupeKey
    )
}

impl Tally {
    /// The summary: for people on stderr, for programs on stdout.
    pub(crate) fn show(&self, format: Format, elapsed: Duration) -> io::Result<()> {
        if format == Format::Table {
            eprintln!("{}", self.sentence(elapsed));
            return Ok(());
        }
        let mut summary = json!({
            "sent": self.sent,
            "bytes": self.bytes,
            "failed": self.failed,
            "unknown": self.unknown,
            "duplicates": self.duplicates,
            "elapsed_ms": elapsed.as_millis() as u64,
        });
        if let Some(only) = &self.only {
            summary["id"] = only.id.to_string().into();
            summary["queue"] = only.queue.0.into();
            summary["offset"] = only.offset.map(|offset| offset.0).into();
        }
        writeln!(io::stdout().lock(), "{summary}")
    }

    /// What is not stored or not known to be, where there is such a thing.
    pub(crate) fn missing(&self) -> Option<String> {
        let of = self.sent + self.failed + self.unknown;
        let messages = if of == 1 { "message" } else { "messages" };
        let are = |count: u64| if count == 1 { "is" } else { "are" };
        let were = |count: u64| if count == 1 { "was" } else { "were" };
        let (failed, unknown) = (self.failed, self.unknown);
        let not_sent = format!("{failed} of {of} {messages} {} not sent", were(failed));
        match (failed, unknown) {
            (0, 0) => None,
            (_, 0) => Some(not_sent),
            (0, _) => Some(format!(
                "{unknown} of {of} {messages} {} not known to be stored",
                are(unknown)
            )),
            (_, _) => {
                Some(format!("{not_sent}, {unknown} {} not known to be stored", are(unknown)))
            }
        }
    }

    fn sentence(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64();
        // One message has no rate.
        let rate = match self.sent {
            0 | 1 => String::new(),
            sent => format!(" {},", text::rate(sent as f64 / seconds.max(0.000_001))),
        };
        let messages = if self.sent == 1 { "message" } else { "messages" };
        let mut sentence = format!(
            "sent {} {messages} ({}) in {seconds:.1} s,{rate} {} failed",
            self.sent,
            text::bytes(self.bytes),
            self.failed,
        );
        if self.unknown > 0 {
            sentence.push_str(&format!(", {} not known to be stored", self.unknown));
        }
        if self.duplicates > 0 {
            let were = if self.duplicates == 1 { "was" } else { "were" };
            sentence.push_str(&format!(", {} {were} stored before", self.duplicates));
        }
        if let Some(only) = &self.only {
            sentence.push_str(&format!(": {} in queue {}", only.id, only.queue.0));
            if let Some(offset) = only.offset {
                sentence.push_str(&format!(" at {offset}"));
            }
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_client::wire::{MessageId, QueueIndex, QueueOffset};
    use yard_client::{Ack, AckNodes};

    #[test]
    fn the_summary_says_what_was_sent_and_what_was_not() {
        let check = |tally: Tally, ms: u64, expected: &str| {
            assert_eq!(tally.sentence(Duration::from_millis(ms)), expected);
        };
        check(
            Tally { sent: 336_776, bytes: 101_191_266, duplicates: 12, ..Tally::default() },
            3_200,
            "sent 336776 messages (101 MB) in 3.2 s, 105 k/s, 0 failed, 12 were stored before",
        );
        let only = SendResult {
            id: MessageId([0xab; 16]),
            topic: "orders".into(),
            queue: QueueIndex(3),
            offset: Some(QueueOffset(17)),
            place: Ack::Synced,
            nodes: AckNodes::One,
            duplicate: false,
        };
        check(
            Tally { sent: 1, bytes: 5, only: Some(only), ..Tally::default() },
            1_000,
            "sent 1 message (5 B) in 1.0 s, 0 failed: \
             abababababababababababababababab in queue 3 at 17",
        );
        check(
            Tally { sent: 1, bytes: 5, failed: 2, unknown: 3, ..Tally::default() },
            1_000,
            "sent 1 message (5 B) in 1.0 s, 2 failed, 3 not known to be stored",
        );
    }

    #[test]
    fn what_is_missing_is_either_not_sent_or_not_known() {
        let check = |(sent, failed, unknown), expected: Option<&str>| {
            let tally = Tally { sent, failed, unknown, ..Tally::default() };
            assert_eq!(tally.missing().as_deref(), expected);
        };
        check((7, 0, 0), None);
        check((0, 1, 0), Some("1 of 1 message was not sent"));
        check((316, 0, 29_684), Some("29684 of 30000 messages are not known to be stored"));
        let both = "2 of 6 messages were not sent, 1 is not known to be stored";
        check((3, 2, 1), Some(both));
    }
}
