//! What became of the messages that were sent.
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use yard_client::wire::Code;
use yard_client::{Error, Receipt};

use super::progress::Progress;
use crate::output::Format;
use crate::text;

/// Failures that are shown one by one; of the others the summary says how many they are.
const FAILURES_SHOWN_MAX: u64 = 10;

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
    /// Stored by an earlier attempt whose answer was lost.
    duplicates: u64,
    /// Not sent.
    pub(crate) failed: u64,
    /// On their way; at the end: not known to be stored.
    pub(crate) unknown: u64,
    /// The line and the error after which no other line was tried.
    pub(crate) refusal: Option<(u64, Error)>,
}

/// The tally while it grows.
pub(crate) struct Settling {
    tally: Mutex<Tally>,
    stopped: AtomicBool,
    progress: Progress,
    format: Format,
}

/// Waits for receipts in order until there are no more.
pub(crate) async fn in_order(mut receipts: mpsc::Receiver<Unsettled>, settling: Arc<Settling>) {
    while let Some(Unsettled { number, bytes, receipt }) = receipts.recv().await {
        match receipt.await {
            Ok(result) => settling.sent(bytes, result.duplicate),
            Err(error) => {
                settling.with_tally(|tally| tally.unknown -= 1);
                settling.failed(number, error);
            }
        }
    }
}

impl Settling {
    pub(crate) fn new(progress: Progress, format: Format) -> Self {
        Self { tally: Mutex::default(), stopped: AtomicBool::new(false), progress, format }
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

    fn sent(&self, bytes: u64, duplicate: bool) {
        self.with_tally(|tally| {
            tally.unknown -= 1;
            tally.sent += 1;
            tally.bytes += bytes;
            tally.duplicates += u64::from(duplicate);
        });
        self.progress.sent_one();
    }

    /// A line could not become a message.
    pub(crate) fn failed_here(&self, number: u64, why: &str) {
        let failed = self.with_tally(|tally| {
            tally.failed += 1;
            tally.failed
        });
        self.show_failure(failed, number, None, why);
    }

    /// A message was refused. Whether other lines should be tried.
    pub(crate) fn failed(&self, number: u64, error: Error) -> bool {
        let goes_on = concerns_one_message(error.code);
        let failed = self.with_tally(|tally| {
            tally.failed += 1;
            tally.failed
        });
        self.show_failure(failed, number, Some(error.code), &error.detail);
        if !goes_on {
            self.stopped.store(true, Ordering::Relaxed);
            self.with_tally(|tally| {
                tally.refusal.get_or_insert((number, error));
            });
        }
        goes_on
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

/// Whether a refusal says something about this message alone, so that the next may be sent.
fn concerns_one_message(code: Code) -> bool {
    matches!(code, Code::BodyTooLarge | Code::PropertiesTooLarge | Code::BadArgument)
}

impl Tally {
    /// The summary: for people on stderr, for programs on stdout.
    pub(crate) fn show(&self, format: Format, elapsed: Duration) -> io::Result<()> {
        if format == Format::Table {
            eprintln!("{}", self.sentence(elapsed));
            return Ok(());
        }
        let summary = json!({
            "sent": self.sent,
            "bytes": self.bytes,
            "failed": self.failed,
            "unknown": self.unknown,
            "duplicates": self.duplicates,
            "elapsed_ms": elapsed.as_millis() as u64,
        });
        writeln!(io::stdout().lock(), "{summary}")
    }

    fn sentence(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64();
        let rate = text::rate(self.sent as f64 / seconds.max(0.000_001));
        let messages = if self.sent == 1 { "message" } else { "messages" };
        let mut sentence = format!(
            "sent {} {messages} ({}) in {seconds:.1} s, {rate}, {} failed",
            self.sent,
            text::bytes(self.bytes),
            self.failed,
        );
        if self.unknown > 0 {
            sentence.push_str(&format!(", {} not known to be stored", self.unknown));
        }
        if self.duplicates > 0 {
            sentence.push_str(&format!(", {} were resent duplicates", self.duplicates));
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_sent_and_what_was_not() {
        let check = |tally: Tally, ms: u64, expected: &str| {
            assert_eq!(tally.sentence(Duration::from_millis(ms)), expected);
        };
        check(
            Tally { sent: 336_776, bytes: 101_191_266, duplicates: 12, ..Tally::default() },
            3_200,
            "sent 336776 messages (101 MB) in 3.2 s, 105 k/s, 0 failed, 12 were resent duplicates",
        );
        check(
            Tally { sent: 1, bytes: 5, failed: 2, unknown: 3, ..Tally::default() },
            1_000,
            "sent 1 message (5 B) in 1.0 s, 1.0/s, 2 failed, 3 not known to be stored",
        );
    }
}
