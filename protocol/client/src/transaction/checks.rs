//! Answering checks: a task a shard that says who can be asked, and one that answers.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use yard_wire::ShardId;
use yard_wire::request::Request;
use yard_wire::requests::{JoinProducers, TxCheck, TxDecide, TxVerdict};

use super::{Handler, PendingTransaction};
use crate::client::{Inner, Resend};

/// Checks that wait for a handler; those beyond are dropped, and come again.
const CHECKS_MAX: usize = 2_000;
/// Handlers at a time.
const HANDLERS_MAX: usize = 16;
/// The pause before a shard is asked again to ask.
const JOIN_PAUSE: Duration = Duration::from_secs(1);

/// Begins to answer; ends when the other side of `stopped` is gone, or the client is closed.
pub(super) fn start(
    inner: &Arc<Inner>,
    group: String,
    handler: Handler,
    shards: &[ShardId],
    stopped: &watch::Receiver<()>,
) {
    let (sender, receiver) = mpsc::channel(CHECKS_MAX);
    for shard in shards {
        let (inner, group, sender) = (inner.clone(), group.clone(), sender.clone());
        tokio::spawn(until_stopped(
            inner.closing(),
            stopped.clone(),
            join(inner, *shard, group, sender),
        ));
    }
    let closing = inner.closing();
    tokio::spawn(until_stopped(closing, stopped.clone(), answer(inner.clone(), handler, receiver)));
}

async fn until_stopped(
    mut closing: watch::Receiver<bool>,
    mut stopped: watch::Receiver<()>,
    work: impl Future<Output = ()>,
) {
    tokio::select! {
        biased;
        _ = closing.changed() => {}
        _ = stopped.changed() => {}
        () = work => {}
    }
}

/// Is a producer of the group in a shard on each connection to it.
async fn join(inner: Arc<Inner>, shard: ShardId, group: String, sender: mpsc::Sender<TxCheck>) {
    loop {
        // Nothing leads there any more: the client was closed.
        let Ok(link) = inner.topology.link(shard) else { return };
        let Ok(connection) = link.up(Instant::now() + inner.request_timeout).await else {
            tokio::time::sleep(JOIN_PAUSE).await;
            continue;
        };
        connection.pushes().hear_checks(&group, sender.clone());
        let request = Request::JoinProducers(JoinProducers { shard, group: group.clone() });
        match connection.ask(None, &request, inner.request_timeout).await {
            Ok(_) => {
                let why = connection.closed().await;
                tracing::debug!(%why, %shard, group, "checks stop until the next connection");
            }
            Err(error) => {
                tracing::debug!(?error, %shard, group, "not asked about transactions yet");
                tokio::time::sleep(JOIN_PAUSE).await;
            }
        }
    }
}

async fn answer(inner: Arc<Inner>, handler: Handler, mut checks: mpsc::Receiver<TxCheck>) {
    let room = Arc::new(Semaphore::new(HANDLERS_MAX));
    while let Some(check) = checks.recv().await {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let (inner, handler) = (inner.clone(), handler.clone());
        tokio::spawn(async move {
            answer_one(&inner, &handler, check).await;
            drop(permit);
        });
    }
}

async fn answer_one(inner: &Inner, handler: &Handler, check: TxCheck) {
    let TxCheck { tx, group, check, begun, note } = check;
    let verdict = (handler.0)(PendingTransaction { id: tx, note, begun, check }).await;
    if verdict == TxVerdict::Unknown {
        return;
    }
    let request = Request::TxDecide(TxDecide { tx, group, verdict, check });
    if let Err(error) = inner.ask(tx.coordinator, Some(0), request, Resend::Always).await {
        tracing::debug!(%error, %tx, "the answer to a check did not arrive");
    }
}
