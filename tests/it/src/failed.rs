//! How a run ends that could not be carried out.
use std::fmt;
use std::io;
use std::path::Path;

/// Why something could not be done, as a sentence for the person who ran it. It is no verdict on
/// the broker: those come from the checker.
#[derive(Debug)]
pub struct Failed(pub String);

impl Failed {
    /// About a file.
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self(format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl From<yard_client::Error> for Failed {
    fn from(error: yard_client::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self(format!("the run's database: {error}"))
    }
}

impl From<tokio::task::JoinError> for Failed {
    fn from(error: tokio::task::JoinError) -> Self {
        Self(format!("a task of the run failed: {error}"))
    }
}
