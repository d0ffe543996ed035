//! Tests of the store through its public API, on a disk that lies.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod cache;
mod cut;
mod damage;
mod ends;
mod failure;
mod finding;
mod forged;
mod golden;
mod locate;
mod model;
mod offline;
mod rare;
mod real;
mod released;
mod retire;
mod start;
mod support;
mod survive;
mod witness;
