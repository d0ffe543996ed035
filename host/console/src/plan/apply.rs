//! The application of a plan: asked for, written down, done step by step, read back, reported.
use std::sync::atomic::{AtomicU32, Ordering};

use yard_client::Code;
use yard_client::wire::operation::Risk;

use super::report::{Report, State};
use super::send::{self, Sending};
use super::{Plan, Step};
use crate::fault::{Failure, Fault, Result};
use crate::journal::{Begun, Ended};
use crate::now;
use crate::session::Session;

/// Tells the runs of one process apart.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Does what a plan says. `rate`: messages a second at most.
pub(crate) fn apply(session: &Session, plan: &Plan, rate: Option<u64>) -> Result<Report> {
    let mut report =
        Report { run: run_id(), plan: plan.hash(), matched: plan.steps.len(), ..Report::default() };
    if session.safety().dry {
        for step in &*plan.steps {
            report.add(&step.subject(), State::Skipped("the console is in dry mode".into()));
        }
        session.print(&plan.text())?;
        return Ok(report);
    }
    if plan.needed() > 0 {
        confirm(session, plan)?;
        begin(session, plan, &report)?;
    }
    let stopped = steps(session, plan, rate, &mut report).err();
    let why = stopped
        .map_or("the run was interrupted".into(), |error| Failure::of_run(error, "").message);
    let left = plan.steps.iter().skip(report.done + report.skipped + report.failed);
    let is_whole = left.len() == 0;
    for step in left {
        report.add(&step.subject(), State::Skipped(format!("not tried: {why}")));
    }
    if plan.needed() > 0 {
        end(session, plan, &report)?;
    }
    if report.failed > 0 || !is_whole {
        session.note_failure();
    }
    if session.stop.is_set() {
        // The script goes no further, and would not show it.
        session.print(&report.text())?;
        return Err(Fault::interrupted().into());
    }
    Ok(report)
}

/// Milliseconds, process and number: told apart without a coordinator.
fn run_id() -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{:x}-{number}", now().0, std::process::id())
}

/// Goes through the steps in order; messages that follow each other are sent together.
fn steps(session: &Session, plan: &Plan, rate: Option<u64>, report: &mut Report) -> Result<()> {
    let is_send = |step: &Step| matches!(step, Step::Send(_));
    for part in plan.steps.chunk_by(|a, b| is_send(a) && is_send(b)) {
        session.check()?;
        match part {
            [Step::Change(change)] => {
                let state = change.apply(session)?;
                report.add(&change.subject(), state);
            }
            sends => {
                let sendings: Vec<&Sending> = sends.iter().filter_map(sending).collect();
                send::apply(session, &sendings, rate, |sending, state| {
                    report.add(&sending.subject(), state);
                })?;
            }
        }
    }
    Ok(())
}

fn sending(step: &Step) -> Option<&Sending> {
    match step {
        Step::Send(sending) => Some(sending),
        Step::Change(_) => None,
    }
}

/// What removes several things must be meant; what anybody is asked about, must be confirmed.
fn confirm(session: &Session, plan: &Plan) -> Result<()> {
    let (safety, removals) = (session.safety(), plan.removals());
    let refused = |why: String| Err(Fault::new(Code::NotConfirmed, why).into());
    if removals > 1 && !safety.removes_many {
        return refused(format!(
            "the plan removes {removals} things; start with --i-mean-it where that is meant"
        ));
    }
    if !safety.confirms {
        return Ok(());
    }
    session.print(&plan.text())?;
    let first_removed = || {
        let removes = |step: &&Step| step.is_needed() && step.risk() == Risk::Removes;
        plan.steps.iter().find(removes).map(Step::subject).unwrap_or_default()
    };
    let (question, wanted) = match (plan.risk(), removals) {
        (Risk::Removes, 1) => {
            let subject = first_removed();
            (format!("this removes; type {subject:?} to do it: "), subject)
        }
        (Risk::Removes, many) => {
            let wanted = format!("remove {many}");
            (format!("this removes; type {wanted:?} to do it: "), wanted)
        }
        _ => ("apply? [y/N] ".to_owned(), "y".to_owned()),
    };
    match session.surroundings.ask(&question) {
        Some(answer) if answer.trim() == wanted => Ok(()),
        _ => refused("the plan was not confirmed; nothing was done".into()),
    }
}

fn begin(session: &Session, plan: &Plan, report: &Report) -> Result<()> {
    let Some(journal) = &session.journal else { return Ok(()) };
    let place = session.place();
    journal.begin(&Begun {
        run: report.run.clone(),
        at_ms: now().0,
        context: place.context,
        tenant: place.tenant,
        script: session.script(),
        plan: report.plan.clone(),
        matched: plan.steps.len(),
        risk: plan.risk().text().to_owned(),
        steps: plan.lines(),
    })
}

fn end(session: &Session, plan: &Plan, report: &Report) -> Result<()> {
    let Some(journal) = &session.journal else { return Ok(()) };
    journal.end(&Ended {
        run: report.run.clone(),
        at_ms: now().0,
        matched: report.matched,
        done: report.done,
        skipped: report.skipped,
        failed: report.failed,
        // The last thing that was done is taken back first.
        undo: report.undo.iter().rev().cloned().collect(),
        undoes: plan.undoes.clone(),
    })
}
