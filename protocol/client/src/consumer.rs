//! Receiving.
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tracing::Instrument;
use yard_wire::{QueueIndex, QueueOffset, Timestamp};

use crate::Error;
use crate::spans::{self, Source};
use crate::trace::Propagation;

mod builder;
mod delivery;
mod failures;
mod in_order;
mod keeping;
mod settlements;
mod start;
mod subscriber;
mod subscription;

use delivery::Batch;

pub use builder::{Broadcast, ConsumerBuilder};
pub use delivery::{Delivery, Kept, has_expired};
pub use failures::{Failures, Given, OrderLine, Turn, order_line};
use in_order::InOrder;
pub use keeping::Keeping;

/// Where a group begins that has never consumed the topic. A group that has, goes on where it
/// was, and this is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message that each queue holds.
    Earliest,
    /// After the newest message that each queue holds now.
    Latest,
    /// At this offset of every queue.
    Offset(QueueOffset),
    /// At the given offset of each queue named; at the oldest message of every other.
    Offsets(Vec<(QueueIndex, QueueOffset)>),
    /// At the first message of each queue that was stored at this time or later; after the newest
    /// where there is none.
    Time(Timestamp),
}

/// What the tasks of a consumer share with it.
#[derive(Debug)]
struct Shared {
    /// Becomes true when the consumer is to end.
    stop: watch::Sender<bool>,
    /// True while nothing is to be received.
    pause: watch::Sender<bool>,
    /// Why the consumer ended, where it was not asked to.
    error: Mutex<Option<Error>>,
    propagation: Propagation,
    source: Arc<Source>,
    /// What a handler fails on does not come again.
    drops_failed: bool,
}

impl Shared {
    fn fail(&self, error: Error) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.stop.send_replace(true);
    }

    fn span_of_waiting(&self) -> tracing::Span {
        spans::receive(&self.source.topic, Some(&self.source.group))
    }

    /// The span in which a message is handled.
    fn span_of(&self, delivery: &Delivery) -> tracing::Span {
        let span = spans::process(&self.source, delivery);
        self.propagation.continue_from(&span, delivery);
        span
    }
}

/// Receives messages of one topic for a group: a [`Stream`] of [`Delivery`]. Each message is
/// delivered to one member of the group at a time, under a lease, and again until it is acked or
/// rejected. It subscribes again by itself after a lost connection; what was received before and
/// not settled is then delivered again.
///
/// Dropping it ends its subscriptions in the background: what it received and did not settle is
/// delivered to others at once.
#[derive(Debug)]
pub struct Consumer {
    batches: mpsc::Receiver<Batch>,
    /// What is taken from now.
    current: Option<Batch>,
    shared: Arc<Shared>,
    close_timeout: Duration,
}

impl Consumer {
    /// The next message, as soon as there is one. Cancelling the call loses nothing.
    ///
    /// # Errors
    /// [`crate::Code::Closed`] after the client was closed; what the broker ended the subscription
    /// with, for example [`crate::Code::UnknownTopic`]. There is no more to come then.
    pub async fn recv(&mut self) -> Result<Delivery, Error> {
        let span = self.shared.span_of_waiting();
        let received = self.first().instrument(span.clone()).await;
        spans::received(&span, received.as_ref().map(std::slice::from_ref));
        received
    }

    async fn first(&mut self) -> Result<Delivery, Error> {
        match self.next().await {
            Some(delivery) => Ok(delivery),
            None => Err(self.error().unwrap_or_else(|| Error::closed("consumer"))),
        }
    }

    /// The next messages, as soon as there is one: at least one, at most `limit` (at least 1), and
    /// no more than have arrived together. In the order in which [`Consumer::recv`] would give
    /// them; credit is given back as there. Cancelling the call loses nothing.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub async fn recv_many(&mut self, limit: usize) -> Result<Vec<Delivery>, Error> {
        let span = self.shared.span_of_waiting();
        let received = self.first_many(limit).instrument(span.clone()).await;
        spans::received(&span, received.as_deref());
        received
    }

    async fn first_many(&mut self, limit: usize) -> Result<Vec<Delivery>, Error> {
        let first = self.first().await?;
        let there = self.current.as_ref().map_or(0, Batch::len);
        let mut messages = Vec::with_capacity(limit.clamp(1, 1 + there));
        messages.push(first);
        while messages.len() < limit
            && let Some(delivery) = self.current.as_mut().and_then(Batch::next)
        {
            messages.push(delivery);
        }
        Ok(messages)
    }

    /// Receives nothing until [`Consumer::resume`]: the subscriptions end. What was settled is sent
    /// first; what was received and not settled is delivered to others at once, and what the
    /// application still has of it cannot be settled any more, nor kept for longer:
    /// [`crate::Code::LeaseLost`]. Handlers that run should be through before.
    pub fn pause(&self) {
        self.shared.pause.send_replace(true);
    }

    /// Receives again, from where the group is by then.
    pub fn resume(&self) {
        self.shared.pause.send_replace(false);
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        *self.shared.pause.borrow()
    }

    /// Why the stream has ended, where neither the consumer nor the client was closed.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Handles messages with up to `concurrency` (at least 1) handlers at a time, until the
    /// client is closed. Good: the message is acked. Bad: it is nacked with the failure as its
    /// error, and comes back by the group's retry policy. A handler may settle its message itself
    /// instead. Messages of one queue are handled in order where `concurrency` is 1; in an ordered
    /// topic messages of one order group always are, one after another, and others beside them.
    /// When one fails, those behind it are given back unhandled and come again after it.
    ///
    /// While a handler runs, the lease of its message is extended again and again, up to 12 hours
    /// after the message was delivered; and it runs in a span that continues the message's trace,
    /// where the client has a [`crate::TracePropagator`].
    ///
    /// # Errors
    /// What ended the subscription, after the handlers that were running.
    pub async fn run<Handler, Handling, Failure>(
        &mut self,
        concurrency: usize,
        mut handler: Handler,
    ) -> Result<(), Error>
    where
        Handler: FnMut(Delivery) -> Handling,
        Handling: Future<Output = Result<(), Failure>>,
        Failure: fmt::Display,
    {
        let (mut has_ended, mut in_order) = (false, InOrder::default());
        let shared = self.shared.clone();
        let mut begin = |delivery: Delivery| {
            let settler = delivery.settler();
            let kept = settler.keep();
            let span = shared.span_of(&delivery);
            let handling = span.in_scope(|| handler(delivery)).instrument(span.clone());
            async move {
                let result = handling.await;
                drop(kept);
                (settler, span, result)
            }
        };
        let mut running = FuturesUnordered::from_iter(None.map(&mut begin));
        while !(has_ended && running.is_empty()) {
            let has_room = running.len() < concurrency.max(1) && in_order.has_room();
            tokio::select! {
                biased;
                Some((settler, span, result)) = running.next(), if !running.is_empty() => {
                    span.in_scope(|| match result {
                        Ok(()) => settler.ack_later(),
                        Err(failure) => {
                            spans::not_handled(&span);
                            tracing::debug!(%failure, "a message was not handled");
                            if self.shared.drops_failed {
                                settler.ack_later();
                            } else {
                                settler.nack_later(&failure.to_string());
                            }
                        }
                    });
                    running.extend(in_order.ended(&settler).map(&mut begin));
                }
                next = self.next(), if !has_ended && has_room => match next {
                    Some(delivery) => {
                        running.extend(in_order.begin(delivery).map(&mut begin));
                    }
                    None => has_ended = true,
                },
            }
        }
        self.error().map_or(Ok(()), Err)
    }

    /// Ends the consumer: what was settled is sent and made durable, then the subscriptions end.
    /// What was received and not settled is delivered to others at once. Takes at most the
    /// client's request timeout.
    ///
    /// # Errors
    /// [`crate::Code::TimedOut`] when that was not enough; it then goes on in the background.
    pub async fn close(mut self) -> Result<(), Error> {
        self.shared.stop.send_replace(true);
        // Ends when every task has: each holds a sender.
        let ended = async { while self.batches.recv().await.is_some() {} };
        let timeout = self.close_timeout;
        let waited = tokio::time::timeout(timeout, ended).await;
        waited.map_err(|_| Error::timed_out("the end of a subscription", timeout))
    }
}

impl Stream for Consumer {
    type Item = Delivery;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            if let Some(delivery) = self.current.as_mut().and_then(Batch::next) {
                return Poll::Ready(Some(delivery));
            }
            self.current = None;
            let Some(batch) = ready!(self.batches.poll_recv(context)) else {
                return Poll::Ready(None);
            };
            self.current = Some(batch);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}
