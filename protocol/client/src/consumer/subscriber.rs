//! Keeps one subscription at one shard, over as many connections as it takes.
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use yard_wire::order::TopicType;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::Subscribe;
use yard_wire::{Code, ShardId};

use super::Shared;
use super::delivery::Batch;
use super::subscription::{End, Serving, Subscription};
use crate::Error;
use crate::backoff::Backoff;
use crate::client::{Inner, unexpected};
use crate::connection::{AskError, Connection};

/// Resolves when the consumer or the client is to end.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>, closing: &mut watch::Receiver<bool>) {
    // An error says that the other side is gone, which is the same.
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        _ = closing.wait_for(|closing| *closing) => {}
    }
}

#[derive(Clone)]
pub(super) struct Subscriber {
    pub(super) client: Arc<Inner>,
    pub(super) shared: Arc<Shared>,
    pub(super) request: Subscribe,
    pub(super) out: mpsc::Sender<Batch>,
    pub(super) route_is_old: Arc<Notify>,
}

impl Subscriber {
    pub(super) fn at(&self, shard: ShardId) -> Self {
        let request = Subscribe { shard, ..self.request.clone() };
        Self { request, ..self.clone() }
    }

    /// Runs until the consumer or the client is closed, or the broker refuses for good. `first`
    /// hears what became of the first attempt; without it, attempts go on until one is good.
    pub(super) async fn run(self, mut first: Option<oneshot::Sender<Result<(), Error>>>) {
        let (mut stop, mut closing) = (self.shared.stop.subscribe(), self.client.closing());
        let mut pause = self.shared.pause.subscribe();
        let mut backoff = Backoff::new(self.client.random.next_u64());
        let deadline = Instant::now() + self.client.request_timeout;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop, &mut closing) => return,
                // An error says that the other side is gone; then the consumer is stopped, too.
                _ = pause.wait_for(|pause| !*pause) => {}
            }
            let connection = tokio::select! {
                biased;
                () = stopped(&mut stop, &mut closing) => return,
                found = self.connection() => found,
            };
            // Not cancelled half-way: the broker would keep a subscription that nobody serves.
            let made = match connection {
                Ok(connection) => self.subscribe(&connection).await,
                Err(error) => Err(error),
            };
            let error = match made {
                Ok(serving) => {
                    if let Some(first) = first.take() {
                        // The builder may have been dropped; then the consumer is stopped too.
                        let _ = first.send(Ok(()));
                    }
                    backoff.reset();
                    match serving.run(&mut stop, &mut closing, &mut pause).await {
                        End::Stopped => return,
                        End::Paused => continue,
                        End::Lost => Error::new(Code::Disconnected, "the connection is gone"),
                        End::Ended(why) => why.into(),
                    }
                }
                Err(error) => error,
            };
            tracing::debug!(%error, shard = %self.request.shard, "no subscription");
            let is_over = !error.is_retryable() || first.is_some() && Instant::now() >= deadline;
            if is_over {
                match first.take() {
                    Some(first) => drop(first.send(Err(error))),
                    None => self.shared.fail(error),
                }
                return;
            }
            self.route_is_old.notify_one();
            let wait = error.retry_after.unwrap_or_else(|| backoff.next());
            tokio::select! {
                biased;
                () = stopped(&mut stop, &mut closing) => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let link = self.client.topology.link(self.request.shard)?;
        link.up(Instant::now() + self.client.request_timeout).await
    }

    async fn subscribe(&self, connection: &Arc<Connection>) -> Result<Serving, Error> {
        let pushes = connection.pushes();
        // Every push has a message that credit was given for, but the last, which says goodbye.
        let frames_max = self.request.messages as usize + 16;
        pushes.anticipate(frames_max);
        let request = Request::Subscribe(self.request.clone());
        let subscribed = match connection.ask(None, &request, self.client.request_timeout).await {
            Ok(Reply::Subscribe(subscribed)) => Ok(subscribed),
            Ok(other) => Err(unexpected(&other)),
            Err(AskError::NotSent(error) | AskError::TooLarge(error)) => Err(error),
            Err(AskError::Sent(error)) => {
                if error.code == Code::TimedOut {
                    // It may exist at the broker, and only the end of the connection ends it.
                    connection.close("a subscription had no answer");
                }
                Err(error)
            }
        };
        let subscribed = match subscribed {
            Ok(subscribed) => subscribed,
            Err(error) => {
                pushes.settle(frames_max, None);
                return Err(error);
            }
        };
        let key = (self.request.shard, subscribed.subscription);
        let receiver = pushes.settle(frames_max, Some(key));
        let receiver = receiver.expect("a receiver is made for what was subscribed");
        let credit = (self.request.messages, self.request.bytes);
        let timeout = self.client.request_timeout;
        let (lease_ms, clock) = (self.request.lease_ms, self.client.clock.clone());
        let asking = (connection, timeout);
        let is_ordered = subscribed.r#type == TopicType::Ordered;
        let kind = (self.shared.source.clone(), is_ordered);
        let subscription = Subscription::new(key, credit, lease_ms, asking, clock, kind);
        let subscription = Arc::new(subscription);
        Ok(Serving::new(connection.clone(), subscription, receiver, self.out.clone(), timeout))
    }
}
