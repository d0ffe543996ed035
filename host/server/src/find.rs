//! Searching the log for requests, off the writer: a tenant's searches take turns with its other
//! reads, each with the budget of its plan.
//!
//! ```text
//!   Output::Find ──► a thread that reads ──► Event::Found ──► the broker picks out the tenant's
//!   Output::Seek ──► a thread that reads ──► answer
//! ```
use std::sync::Arc;

use yard_broker::{Asked, Event, Origin};
use yard_shard::{FindPlan, Input, SeekPlan};
use yard_store::{Disk, ReadError};
use yard_wire::{QueueOffset, Refusal, ShardId};

use crate::deliver::on_reader;
use crate::hub::{Hub, Log};

/// Searches by id or key; what was found goes to the shard.
pub(crate) fn find(hub: &Arc<Hub>, shard: ShardId, asked: Asked, plan: FindPlan) {
    search(
        hub,
        shard,
        asked.origin,
        move |disk| plan.run(disk),
        move |hub, read| match read {
            Ok(findings) => {
                let event = Event::Found { asked, findings };
                if let Some(inbox) = hub.inbox(shard) {
                    inbox.put_first(Input::Event(event));
                }
            }
            Err(refusal) => hub.reply(asked.origin, Err(refusal)),
        },
    );
}

/// Searches by time and answers.
pub(crate) fn seek(
    hub: &Arc<Hub>,
    shard: ShardId,
    origin: Origin,
    (first, end): (QueueOffset, QueueOffset),
    plan: SeekPlan,
) {
    search(
        hub,
        shard,
        origin,
        move |disk| plan.run(disk),
        move |hub, read| {
            hub.reply(origin, read.map(|offset| yard_shard::sought(first, end, offset)));
        },
    );
}

fn search<T: Send + 'static>(
    hub: &Arc<Hub>,
    shard: ShardId,
    origin: Origin,
    look: impl FnOnce(&dyn Disk) -> Result<T, ReadError> + Send + 'static,
    then: impl FnOnce(&Hub, Result<T, Refusal>) + Send + 'static,
) {
    let Some(session) = hub.session(origin.session.0) else { return };
    let Some(log) = hub.logs.get(usize::from(shard.0)).cloned() else { return };
    let hub_too = Arc::clone(hub);
    // Nothing is read ahead: what is wanted next depends on what was found.
    let look_only = move |log: &Log| (look(log.disk.as_ref()), Vec::new());
    hub.runtime.spawn(async move {
        if let Some(read) = on_reader(&session, log, look_only).await {
            then(&hub_too, read);
        }
    });
}
