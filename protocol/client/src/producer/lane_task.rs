//! The task of a lane: drives a [`LaneCore`] over the connection to the shard's leader.
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use yard_wire::code::RetryClass;
use yard_wire::limits::LANE_BATCHES_IN_FLIGHT_MAX;
use yard_wire::request::{Reply, Request};
use yard_wire::{Code, Lane, MessageId, QueueIndex, Refusal, ShardId, TopicId};

use super::SendResult;
use crate::client::Inner;
use crate::connection::{Connection, Pending, Permit};
use crate::lane::{Attempt, LaneCore, LaneRecord};
use crate::link::{Link, LinkState};
use crate::{Error, client};

/// Commands that are taken in at once.
const COMMANDS_AT_ONCE: usize = 1_024;
/// Attempts that wait for an answer, those given up since among them.
const ATTEMPTS_MAX: usize = 4 * LANE_BATCHES_IN_FLIGHT_MAX;
/// How long to sleep when nothing is to be done at any time.
const LONG: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: MessageId,
    pub(super) topic: TopicId,
    pub(super) queue: QueueIndex,
    pub(super) bytes: Bytes,
    pub(super) result: oneshot::Sender<Result<SendResult, Error>>,
    /// Room in the producer's budget, given back with the result.
    pub(super) permit: OwnedSemaphorePermit,
    /// Since when it waits, where that is not now; see [`Inner::now_ms`].
    pub(super) since_ms: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Command {
    Record(Record),
    Flush(oneshot::Sender<()>),
    /// To be answered when everything that was sent has its result.
    Leave(oneshot::Sender<Left>),
}

/// A lane in which nothing is under way.
#[derive(Debug)]
pub(super) struct Left {
    /// The shard of the lane.
    pub(super) shard: ShardId,
    /// What was not sent yet, in order.
    pub(super) records: Vec<Record>,
    /// Whether all of the lane's messages have answers. One that was given up may still arrive, so
    /// nothing may overtake it on another stream.
    pub(super) is_settled: bool,
}

struct Waiting {
    id: MessageId,
    result: oneshot::Sender<Result<SendResult, Error>>,
    _permit: OwnedSemaphorePermit,
}

/// An answer to come, with the attempt that it belongs to.
struct AttemptReply {
    attempt: Attempt,
    pending: Pending,
}

impl Future for AttemptReply {
    type Output = (Attempt, Result<Reply, Error>);
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.pending).poll(context));
        Poll::Ready((self.attempt, result))
    }
}

pub(super) struct LaneTask {
    client: Arc<Inner>,
    topic: Arc<str>,
    shard: ShardId,
    lane: Lane,
    core: LaneCore,
    commands: mpsc::Receiver<Command>,
    /// Whether more commands can come.
    is_open: bool,
    waiting: BTreeMap<u64, Waiting>,
    next_ticket: u64,
    /// Flushes, each with the ticket below which all must be completed.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    replies: FuturesUnordered<AttemptReply>,
    /// Who waits until nothing is under way, and what was taken back for them.
    leaving: Option<(oneshot::Sender<Left>, Vec<Record>)>,
    /// On this connection, a message was given up that may still arrive.
    has_given_up: bool,
    connection: Option<Arc<Connection>>,
    route_is_old: Arc<Notify>,
}

impl LaneTask {
    pub(super) fn new(
        client: Arc<Inner>,
        (topic, shard, lane): (Arc<str>, ShardId, Lane),
        core: LaneCore,
        commands: mpsc::Receiver<Command>,
        route_is_old: Arc<Notify>,
    ) -> Self {
        Self {
            client,
            topic,
            shard,
            lane,
            core,
            commands,
            is_open: true,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            flushes: Vec::new(),
            replies: FuturesUnordered::new(),
            leaving: None,
            has_given_up: false,
            connection: None,
            route_is_old,
        }
    }

    /// Runs until the producer or the client is closed or dropped and everything is completed.
    pub(super) async fn run(mut self) {
        let mut closing = self.client.closing();
        let Ok(mut link) = self.client.topology.link(self.shard) else {
            return;
        };
        let mut state = link.watch();
        self.follow(&mut state);
        let mut commands = Vec::new();
        if *closing.borrow_and_update() {
            self.commands.close();
        }
        while self.is_open || !self.core.is_idle() {
            let now_ms = self.client.now_ms();
            let connection = self.connection.clone();
            let wants = self.core.has_to_send(now_ms) && self.replies.len() < ATTEMPTS_MAX;
            let wake = self.core.wake_at(now_ms).map(|at_ms| self.client.instant(at_ms));
            let wake = wake.unwrap_or_else(|| tokio::time::Instant::now() + LONG);
            tokio::select! {
                taken = self.commands.recv_many(&mut commands, COMMANDS_AT_ONCE),
                    if self.is_open => self.take(&mut commands, taken),
                Some((attempt, result)) = self.replies.next(), if !self.replies.is_empty() => {
                    self.replied(attempt, result);
                }
                permit = reserve(connection.as_deref(), self.lane), if wants => {
                    self.send(connection.as_deref(), permit);
                }
                changed = state.changed() => {
                    if changed.is_err() && !self.relink(&mut link, &mut state) {
                        let refusal = Refusal::new(Code::Closed, "the client was closed");
                        self.core.fail_all(&refusal);
                        self.commands.close();
                    }
                    self.follow(&mut state);
                    if self.connection.is_none() {
                        self.relink(&mut link, &mut state);
                    }
                }
                _ = closing.changed() => self.commands.close(),
                () = tokio::time::sleep_until(wake) => self.core.on_time(self.client.now_ms()),
            }
            self.complete();
        }
    }

    /// Takes the way to the shard that the newest route shows; false if that is no other.
    fn relink(&self, link: &mut Arc<Link>, state: &mut watch::Receiver<LinkState>) -> bool {
        match self.client.topology.link(self.shard) {
            Ok(found) if !Arc::ptr_eq(&found, link) => {
                *state = found.watch();
                state.mark_changed();
                *link = found;
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn follow(&mut self, state: &mut watch::Receiver<LinkState>) {
        let found = match &*state.borrow_and_update() {
            LinkState::Up(connection) => Some(connection.clone()),
            LinkState::Down(_) => None,
        };
        let is_same = match (&found, &self.connection) {
            (Some(found), Some(current)) => Arc::ptr_eq(found, current),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if is_same {
            return;
        }
        if self.connection.is_some() {
            self.core.on_disconnect();
        }
        if found.is_some() {
            self.core.on_connect();
            self.has_given_up = false;
        }
        self.connection = found;
    }

    fn take(&mut self, commands: &mut Vec<Command>, taken: usize) {
        let now_ms = self.client.now_ms();
        self.is_open = taken > 0;
        if !self.is_open {
            self.core.hurry();
        }
        for command in commands.drain(..) {
            match command {
                Command::Record(record) => {
                    let Record { id, topic, queue, bytes, result, permit, since_ms } = record;
                    let ticket = self.next_ticket;
                    self.next_ticket += 1;
                    self.waiting.insert(ticket, Waiting { id, result, _permit: permit });
                    let record = LaneRecord { ticket, topic, queue, bytes };
                    self.core.push(record, since_ms.unwrap_or(now_ms));
                }
                Command::Flush(done) => {
                    self.core.hurry();
                    self.flushes.push((self.next_ticket, done));
                }
                Command::Leave(left) => {
                    // Who waits for a flush waits for what would be taken back.
                    let records =
                        if self.flushes.is_empty() { self.take_back() } else { Vec::new() };
                    self.leaving = Some((left, records));
                }
            }
        }
    }

    fn take_back(&mut self) -> Vec<Record> {
        let back = self.core.take_back().into_iter().map(|(record, since_ms)| {
            let LaneRecord { ticket, topic, queue, bytes } = record;
            let waiting = self.waiting.remove(&ticket).expect("it was not completed");
            let Waiting { id, result, _permit: permit } = waiting;
            Record { id, topic, queue, bytes, result, permit, since_ms: Some(since_ms) }
        });
        back.collect()
    }

    fn send(&mut self, connection: Option<&Connection>, permit: Result<Permit<'_>, Error>) {
        // Without a permit the connection is gone, and the link will say so.
        let (Some(connection), Ok(permit)) = (connection, permit) else {
            return;
        };
        let Some(outgoing) = self.core.next_to_send(self.client.now_ms()) else {
            return;
        };
        let attempt = outgoing.attempt;
        let request = Request::Produce(outgoing.produce);
        match permit.send(connection.next_correlation(), &request) {
            Ok(pending) => self.replies.push(AttemptReply { attempt, pending }),
            Err(error) => self.core.on_reply(attempt, Err(error.into()), self.client.now_ms()),
        }
    }

    fn replied(&mut self, attempt: Attempt, result: Result<Reply, Error>) {
        let result = match result {
            Ok(Reply::Produce(produced)) => Ok(produced),
            Ok(other) => Err(client::unexpected(&other).into()),
            Err(error) => Err(Refusal::from(error)),
        };
        if let Err(refusal) = &result {
            tracing::debug!(%refusal, topic = %self.topic, lane = %self.lane, "not stored");
            let code = refusal.code;
            let is_elsewhere = code.retry() == RetryClass::Elsewhere;
            let is_misplaced = code == Code::WrongShard || code == Code::QueueOutOfRange;
            if is_elsewhere || is_misplaced {
                self.route_is_old.notify_one();
            }
        }
        self.core.on_reply(attempt, result, self.client.now_ms());
    }

    fn complete(&mut self) {
        while let Some(completion) = self.core.next_completion() {
            let waiting = self.waiting.remove(&completion.ticket);
            let Waiting { id, result, _permit } = waiting.expect("a ticket is completed once");
            self.has_given_up |=
                completion.result.as_ref().is_err_and(|why| why.code == Code::TimedOut);
            let topic = self.topic.clone();
            let found = completion.result.map_err(Error::from).map(|placement| SendResult {
                id,
                topic,
                queue: placement.queue,
                offset: placement.offset,
                place: placement.place,
                nodes: placement.nodes,
                duplicate: placement.duplicate,
            });
            // Whoever sent the message may not care.
            let _ = result.send(found);
        }
        let first_open = self.waiting.keys().next().copied().unwrap_or(self.next_ticket);
        for (_, done) in self.flushes.extract_if(.., |(before, _)| *before <= first_open) {
            let _ = done.send(());
        }
        if self.core.is_idle()
            && let Some((left, records)) = self.leaving.take()
        {
            let is_settled = !self.has_given_up;
            // Whoever asked waits, unless the runtime ends.
            let _ = left.send(Left { shard: self.shard, records, is_settled });
        }
    }
}

async fn reserve(connection: Option<&Connection>, lane: Lane) -> Result<Permit<'_>, Error> {
    match connection {
        Some(connection) => connection.reserve(Some(lane.0)).await,
        None => Err(Error::new(Code::Disconnected, "there is no connection")),
    }
}
