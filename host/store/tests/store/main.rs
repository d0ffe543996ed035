//! Tests of the store through its public API, on a disk that lies.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod cache;
mod damage;
mod ends;
mod failure;
mod finding;
mod golden;
mod locate;
mod model;
mod offline;
mod real;
mod released;
mod retire;
mod support;
mod survive;
mod witness;
