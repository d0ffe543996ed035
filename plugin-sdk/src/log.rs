//! Lines for the author of the plugin, shown by `yard plugin logs`. Capability `log`.
//!
//! A line has at most 1 KiB, and a plugin 100 lines a second; more are counted and not kept. The
//! text of a panic comes here by itself.

use crate::host;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For who looks for something.
    Debug,
    /// Worth knowing.
    Info,
    /// Not as it should be.
    Warn,
    /// Wrong.
    Error,
}

/// Writes a line.
pub fn write(level: Level, line: &str) {
    host::write(level, line);
}

/// Writes a line for who looks for something.
pub fn debug(line: &str) {
    write(Level::Debug, line);
}

/// Writes a line that is worth knowing.
pub fn info(line: &str) {
    write(Level::Info, line);
}

/// Writes a line about what is not as it should be.
pub fn warn(line: &str) {
    write(Level::Warn, line);
}

/// Writes a line about what is wrong.
pub fn error(line: &str) {
    write(Level::Error, line);
}
