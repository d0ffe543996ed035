//! Results as people and programs see them; the command line shows its own the same way.
pub mod message;
pub mod page;
pub mod table;
pub mod text;

pub use message::Received;

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON value.
    Json,
    /// One JSON value a row.
    Ndjson,
}

impl Format {
    /// Reads the word that the command line has checked.
    pub fn parse(word: &str) -> Self {
        match word {
            "json" => Self::Json,
            "ndjson" => Self::Ndjson,
            _ => Self::Table,
        }
    }
}
