//! How far a `pub` is, on a terminal.
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::Source;
use crate::text;

/// A bar where the size is known, a counter where it is not, nothing without a terminal.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    read_bytes: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    started: Instant,
}

impl Progress {
    pub(crate) fn new(source: &Source) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let template = match source.size_bytes {
            Some(_) => "{bar:30} {percent:>3} %  {msg}  {eta} left",
            None => "{spinner} {msg}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates are valid");
        let bar = ProgressBar::with_draw_target(source.size_bytes, target).with_style(style);
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let read_bytes = Arc::clone(&source.read_bytes);
        Self { bar, read_bytes, sent: Arc::default(), started: Instant::now() }
    }

    /// One more message is stored.
    pub(crate) fn sent_one(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows how far it is.
    pub(crate) fn update(&self) {
        if self.bar.is_hidden() {
            return;
        }
        let sent = self.sent.load(Ordering::Relaxed);
        let rate = sent as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!("{sent} sent, {}", text::rate(rate)));
        self.bar.set_position(self.read_bytes.load(Ordering::Relaxed));
    }

    /// Says something above the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
