//! Searching the log for requests, off the writer: a tenant's searches take turns with its other
//! reads, each with the budget of its plan.
//!
//! ```text
//!   Output::Find ──► a thread that reads ──► Event::Found ──► the broker picks out the tenant's
//!   Output::Seek ──► a thread that reads ──► answer
//! ```
use std::sync::Arc;

use tokio::sync::Semaphore;
use yard_broker::{Asked, Event, Origin};
use yard_shard::{FindPlan, Input, SeekPlan};
use yard_store::{Disk, ReadError};
use yard_wire::{QueueOffset, Refusal, ShardId};

use crate::deliver::on_reader;
use crate::hub::{Hub, Log, OWN_SESSION};

/// Searches by id or key; what was found goes to the shard.
pub(crate) fn find(hub: &Arc<Hub>, shard: ShardId, asked: Asked, plan: FindPlan) {
    let is_own = asked.origin.session == OWN_SESSION;
    let reads = if is_own { Some(hub.reads(asked.tenant)) } else { reads_of(hub, asked.origin) };
    search(
        hub,
        shard,
        reads,
        move |disk| plan.run(disk),
        move |hub, read| match read {
            Ok(findings) => {
                let event = Event::Found { asked, findings };
                if let Some(inbox) = hub.inbox(shard) {
                    inbox.put_first(Input::Event(event));
                }
            }
            Err(refusal) if is_own => {
                hub.answer_fan_out(asked.origin.correlation.0, Err(refusal));
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
        reads_of(hub, origin),
        move |disk| plan.run(disk),
        move |hub, read| {
            hub.reply(origin, read.map(|offset| yard_shard::sought(first, end, offset)));
        },
    );
}

/// The right to read of whoever asks; `None` where the connection is gone.
fn reads_of(hub: &Hub, origin: Origin) -> Option<Arc<Semaphore>> {
    hub.session(origin.session.0).map(|session| Arc::clone(&session.reads))
}

fn search<T: Send + 'static>(
    hub: &Arc<Hub>,
    shard: ShardId,
    reads: Option<Arc<Semaphore>>,
    look: impl FnOnce(&dyn Disk) -> Result<T, ReadError> + Send + 'static,
    then: impl FnOnce(&Arc<Hub>, Result<T, Refusal>) + Send + 'static,
) {
    let Some(reads) = reads else { return };
    let Some(log) = hub.logs.get(usize::from(shard.0)).cloned() else { return };
    let hub_too = Arc::clone(hub);
    // Nothing is read ahead: what is wanted next depends on what was found.
    let look_only = move |log: &Log| (look(log.disk.as_ref()), Vec::new());
    hub.runtime.spawn(async move {
        if let Some(read) = on_reader(reads, log, look_only).await {
            then(&hub_too, read);
        }
    });
}
