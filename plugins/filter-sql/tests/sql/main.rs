//! Filters by SQL, natively and over packed frames: laws that any predicate obeys, the flights,
//! and what SQLite says.

mod flights;
mod generate;
mod laws;
mod oracle;
