//! `yard bench`: a broker measured beside the limits of the machine, in the same run.
//!
//! ```text
//!   plan ──► rounds of ┬─► broker: a child process ◄── load, drain     the client library
//!                      ├─► raw: a child process ◄───── raw::client     QUIC and nothing else
//!                      └─► disk                                        writes and syncs
//!                              │ figures, meter: what was counted, what processes used
//!                              ▼
//!                            report
//! ```
//!
//! Start reading at [`run`], then `rounds.rs`.
mod broker;
mod child;
mod disk;
mod drain;
mod figures;
mod load;
mod meter;
mod pace;
mod plan;
mod raw;
mod record;
mod report;
mod rounds;

use std::io::{self, Write};

use yard_client::Context;
use yard_client::wire::Code;

use self::child::Folder;
use self::plan::Plan;
use self::report::Report;
use super::Session;
use crate::args::Written;
use crate::failure::Failure;
use crate::output::Format;
use crate::terminal::Interrupts;

pub(crate) fn run(session: &Session, written: &Written) -> Result<(), Failure> {
    match written.required("what")? {
        broker::WORD => super::serve_on(broker::child()),
        // The same threads as a broker's.
        raw::server::WORD => super::serve_on(raw::server::child()),
        _ => super::block_on(measure(session, written)),
    }
}

async fn measure(session: &Session, written: &Written) -> Result<(), Failure> {
    let plan = Plan::read(written, session.has_context())?;
    let running: Option<Context> = plan.running.then(|| session.context()).transpose()?;
    let mut interrupts = Interrupts::catch()?;
    let folder = Folder::make(&plan.dir)?;
    let measured = interrupts.unless(rounds::all(&plan, &folder, running)).await;
    let interrupted = || Failure::local("interrupted before there was a result");
    let report = Report::new(plan, measured.ok_or_else(interrupted)??);
    let mut out = io::stdout().lock();
    match session.format {
        Format::Table => out.write_all(report.text().as_bytes())?,
        Format::Json => writeln!(out, "{:#}", report.json())?,
        Format::Ndjson => writeln!(out, "{}", report.json())?,
    }
    out.flush()?;
    match report.not_valid() {
        Some(why) => Err(Failure::local(why).with_code(Code::RateNotOffered)),
        None => Ok(()),
    }
}
