//! Lines that plugins write for their authors.
use crate::fault::shown;
use crate::limits::{LOG_LINES_KEPT_MAX, Limits};

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For who searches.
    Debug,
    /// For who looks.
    Info,
    /// For who should look.
    Warn,
    /// For who must look; the text of a panic comes so.
    Error,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Time of the batch in which it was written.
    pub at_ms: u64,
    /// Its level.
    pub level: Level,
    /// Its text, cut to the tenant's limit.
    pub text: String,
}

/// What plugins wrote since somebody last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLines {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Lines that were too many, and only counted.
    pub dropped: u64,
}

impl LogLines {
    /// Adds the lines of another; too many of them are only counted.
    pub(crate) fn append(&mut self, other: &mut LogLines) {
        self.dropped += std::mem::take(&mut other.dropped);
        let room = LOG_LINES_KEPT_MAX.saturating_sub(self.lines.len()).min(other.lines.len());
        self.dropped += (other.lines.len() - room) as u64;
        self.lines.extend(other.lines.drain(..).take(room));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

/// The log of one instance.
#[derive(Debug)]
pub(crate) struct Log {
    line_bytes_max: usize,
    lines_per_s_max: u32,
    /// The second that is counted, and the lines in it.
    second: u64,
    in_second: u32,
    now_ms: u64,
    written: LogLines,
    /// The last error of the call that runs: the text of a panic, when it traps.
    last_error: Option<String>,
}

impl Log {
    pub(crate) fn new(limits: &Limits) -> Self {
        let Limits { log_line_bytes_max, log_lines_per_s_max, .. } = *limits;
        Self {
            line_bytes_max: log_line_bytes_max,
            lines_per_s_max: log_lines_per_s_max,
            second: 0,
            in_second: 0,
            now_ms: 0,
            written: LogLines::default(),
            last_error: None,
        }
    }

    /// A call begins at this time.
    pub(crate) fn begin_call(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.last_error = None;
        if now_ms / 1_000 != self.second {
            (self.second, self.in_second) = (now_ms / 1_000, 0);
        }
    }

    pub(crate) fn write(&mut self, level: Level, line: &str) {
        if level == Level::Error {
            self.last_error = Some(shown(line, self.line_bytes_max));
        }
        let is_kept =
            self.in_second < self.lines_per_s_max && self.written.lines.len() < LOG_LINES_KEPT_MAX;
        if !is_kept {
            self.written.dropped += 1;
            return;
        }
        self.in_second += 1;
        let text = shown(line, self.line_bytes_max);
        self.written.lines.push(LogLine { at_ms: self.now_ms, level, text });
    }

    /// What the guest said last, if that was an error.
    pub(crate) fn last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// Moves what was written to the lines of a worker.
    pub(crate) fn take(&mut self, lines: &mut LogLines) {
        if !self.written.is_empty() {
            lines.append(&mut self.written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_too_many_are_counted() {
        let limits = Limits { log_line_bytes_max: 4, log_lines_per_s_max: 2, ..Limits::DEFAULT };
        let mut log = Log::new(&limits);
        log.begin_call(5_900);
        for _ in 0..5 {
            log.write(Level::Info, "abcdef");
        }
        log.begin_call(6_000);
        log.write(Level::Error, "panicked");
        assert_eq!(log.last_error(), Some("pani".to_owned()));
        let mut taken = LogLines::default();
        log.take(&mut taken);
        let texts: Vec<_> = taken.lines.iter().map(|it| (it.at_ms, &*it.text)).collect();
        assert_eq!(texts, [(5_900, "abcd"), (5_900, "abcd"), (6_000, "pani")]);
        assert_eq!(taken.dropped, 3);
    }

    #[test]
    fn what_nobody_takes_is_bounded() {
        let limits = Limits { log_lines_per_s_max: u32::MAX, ..Limits::DEFAULT };
        let mut log = Log::new(&limits);
        for _ in 0..LOG_LINES_KEPT_MAX + 7 {
            log.write(Level::Debug, "");
        }
        let mut taken = LogLines::default();
        log.take(&mut taken);
        assert_eq!((taken.lines.len(), taken.dropped), (LOG_LINES_KEPT_MAX, 7));
        log.write(Level::Debug, "");
        log.take(&mut taken);
        assert_eq!((taken.lines.len(), taken.dropped), (LOG_LINES_KEPT_MAX, 8));
    }
}
