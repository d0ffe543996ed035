//! A received message, and how it is settled.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tracing::Instrument;
use yard_wire::limits::{ERROR_TEXT_BYTES_MAX, LEASE_MS_MAX, LEASE_MS_MIN};
use yard_wire::property::{EXPIRES, PRIORITY, TRACE_PARENT, TRACE_STATE};
use yard_wire::record::Record;
use yard_wire::requests::{Delivered, HeldRange, Verdict};
use yard_wire::{Code, MessageId, QueueIndex, QueueOffset, Timestamp};

use super::failures::{OrderLine, order_line};
use super::keeping::Place;
use super::settlements::{Settlement, Waiter, superseded};
use super::subscription::Subscription;
use crate::{Error, TraceContext, compress, exchange, spans, trace};

/// A received message. It is leased to this consumer for the consumer's lease, and to be settled
/// by one of [`Delivery::ack`], [`Delivery::nack`] and [`Delivery::reject`]; dropped unsettled it
/// comes back when the lease ends.
#[derive(Debug)]
pub struct Delivery {
    record: Record,
    stored: Timestamp,
    settler: Settler,
}

/// The messages of one frame, as they are taken out of the local buffer.
#[derive(Debug)]
pub(super) struct Batch {
    held: Arc<Held>,
    messages: std::iter::Enumerate<std::vec::IntoIter<Delivered>>,
    /// Messages and bytes taken out, not yet told to the subscription.
    taken: (u32, u32),
}

/// What the deliveries of a frame share.
#[derive(Debug)]
struct Held {
    subscription: Arc<Subscription>,
    queue: QueueIndex,
    /// By the subscription's clock.
    received_ms: u64,
    /// A bit for each message.
    settled: Box<[AtomicU64]>,
}

impl Held {
    /// The order group of a record, where the topic keeps an order.
    fn line_of(&self, record: &Record) -> Option<OrderLine> {
        self.subscription.is_ordered().then(|| order_line(self.queue, record))
    }

    /// Notes that a message is settled. False when it was before.
    fn settle(&self, index: usize) -> bool {
        let bit = 1 << (index % 64);
        self.settled[index / 64].fetch_or(bit, Ordering::AcqRel) & bit == 0
    }
}

impl Batch {
    pub(super) fn new(
        queue: QueueIndex,
        messages: Vec<Delivered>,
        subscription: Arc<Subscription>,
    ) -> Self {
        let words = messages.len().div_ceil(64);
        let settled = (0..words).map(|_| AtomicU64::new(0)).collect();
        let received_ms = subscription.now_ms();
        let held = Arc::new(Held { subscription, queue, received_ms, settled });
        Self { held, messages: messages.into_iter().enumerate(), taken: (0, 0) }
    }

    /// The next message; gives credit back. `None` when there is none or the leases are gone:
    /// what came before its connection was lost is no longer this consumer's. What has expired is
    /// settled and passed over.
    pub(super) fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.held.subscription.is_over() {
                return None;
            }
            let (index, delivered) = self.messages.next()?;
            let Delivered { offset, stored, attempt, record } = delivered;
            let bytes = u32::try_from(record.len()).unwrap_or(u32::MAX);
            self.take(bytes);
            match Record::parse(record) {
                Ok(record) => {
                    let line = self.held.line_of(&record);
                    let (held, id) = (self.held.clone(), record.id());
                    let settler = Settler { held, index, offset, attempt, id, line };
                    if settler.give_back_if_failed(Some(bytes)) {
                        continue;
                    }
                    if has_expired(&record, || self.held.subscription.broker_now()) {
                        settler.settle_later(Opinion::of(Verdict::Expire));
                        continue;
                    }
                    return Some(Delivery { record, stored, settler });
                }
                // Damaged on its way past two checksums: its lease ends and it comes again.
                Err(error) => {
                    let queue = self.held.queue;
                    tracing::warn!(%error, %queue, %offset, "a delivered record is malformed");
                }
            }
        }
    }

    fn take(&mut self, bytes: u32) {
        let (messages, sum) = &mut self.taken;
        *messages += 1;
        *sum = sum.saturating_add(bytes);
        let is_last = self.messages.len() == 0;
        if is_last || self.held.subscription.is_half(self.taken) {
            self.held.subscription.taken(std::mem::take(&mut self.taken));
        }
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

/// Whether nobody wants a message any more at an instant by the broker's clock, which is asked for
/// where it matters: a consumer settles it then as expired, and passes it over.
#[must_use]
pub fn has_expired(record: &Record, now: impl FnOnce() -> Timestamp) -> bool {
    expiry(record).is_some_and(|at| at <= now())
}

/// When a record expires, if it does.
fn expiry(record: &Record) -> Option<Timestamp> {
    if record.properties_bytes() == 0 {
        return None;
    }
    record.property(EXPIRES)?.parse().ok().map(Timestamp)
}

/// Keeps a message leased: while it lives, the client extends the lease by itself, up to 12 hours
/// after the message was delivered. Made by [`Delivery::keep`].
#[derive(Debug)]
pub struct Kept {
    held: Arc<Held>,
    place: Place,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.held.subscription.release(self.place);
    }
}

/// The right to settle one message.
#[derive(Clone, Debug)]
pub(crate) struct Settler {
    held: Arc<Held>,
    /// Of the message in its frame.
    index: usize,
    offset: QueueOffset,
    /// Which delivery of the message it is.
    attempt: u32,
    id: MessageId,
    /// Its order group, where the topic keeps an order.
    line: Option<OrderLine>,
}

impl Settler {
    pub(crate) fn ack_later(&self) {
        self.settle_later(Opinion::of(Verdict::Ack));
    }

    pub(crate) fn nack_later(&self, error: &str) {
        self.settle_later(Opinion { error: Some(clipped(error)), ..Opinion::of(Verdict::Nack) });
    }

    /// Extends the lease for as long as the guard lives.
    pub(crate) fn keep(&self) -> Kept {
        let (held, place) = (self.held.clone(), self.place());
        held.subscription.keep(place, held.received_ms);
        Kept { held, place }
    }

    fn place(&self) -> Place {
        (self.held.queue, self.offset, self.attempt)
    }

    async fn extend(&self, lease: Duration) -> Result<Timestamp, Error> {
        let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
        if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
            let detail =
                format!("a lease of {lease_ms} ms; {LEASE_MS_MIN} to {LEASE_MS_MAX} may be");
            return Err(Error::new(Code::BadArgument, detail));
        }
        let (queue, from, attempt) = self.place();
        let range = HeldRange { queue, from, to: QueueOffset(from.0 + 1), attempt };
        let extended = self.held.subscription.extend(vec![range], lease_ms).await?;
        if extended.done > 0 {
            return Ok(extended.until);
        }
        let error = superseded(&extended.other, self.place()).unwrap_or_else(|| {
            let (code, how) = match extended.spent.is_empty() {
                true => (Code::LeaseLost, "was no longer leased"),
                false => (Code::HeldTooLong, "is held for 12 hours at most"),
            };
            Error::new(code, format!("offset {from} of queue {queue} {how}"))
        });
        Err(self.named(error))
    }

    /// An error that says which message it is about.
    fn named(&self, error: Error) -> Error {
        Error { detail: format!("message {}: {}", self.id, error.detail), ..error }
    }

    /// Its order group, where the topic keeps an order.
    pub(super) fn line(&self) -> Option<OrderLine> {
        self.line
    }

    /// Whether its lease is gone with the connection.
    pub(super) fn is_over(&self) -> bool {
        self.held.subscription.is_over()
    }

    /// Gives the message back where one before it in its order group has failed here: it comes
    /// again after that. `bytes` are those of its record where it was not handed out yet. Whether
    /// it does.
    pub(super) fn give_back_if_failed(&self, bytes: Option<u32>) -> bool {
        let Some(line) = self.line else { return false };
        self.held.subscription.gives_back(line, self.offset, bytes, || {
            assert!(self.held.settle(self.index), "nobody else has the message");
            let _settling = self.span(Verdict::Release).entered();
            self.settlement(Opinion::of(Verdict::Release), Vec::new())
        })
    }

    /// Notes that its order group has failed, if it has.
    fn note(&self, opinion: &Opinion) {
        if let Some(line) = self.line
            && let Verdict::Nack | Verdict::Reject = opinion.verdict
        {
            self.held.subscription.failed(line, self.offset);
        }
    }

    /// The span in which it is settled.
    fn span(&self, verdict: Verdict) -> tracing::Span {
        let held = &self.held;
        spans::settle(held.subscription.source(), verdict, (held.queue, self.offset))
    }

    fn settle_later(&self, opinion: Opinion) {
        if self.held.settle(self.index) {
            let _settling = self.span(opinion.verdict).entered();
            self.note(&opinion);
            self.held.subscription.settle(self.settlement(opinion, Vec::new()));
        }
    }

    fn settlement(&self, opinion: Opinion, waiters: Vec<(QueueOffset, Waiter)>) -> Settlement {
        let (queue, from, attempt) = self.place();
        let (to, Opinion { verdict, delay_ms, error }) = (QueueOffset(from.0 + 1), opinion);
        Settlement { queue, from, to, attempt, verdict, delay_ms, error, waiters }
    }

    async fn settle(&self, opinion: Opinion) -> Result<(), Error> {
        let span = self.span(opinion.verdict);
        let settled = self.settle_now(opinion).instrument(span.clone()).await;
        spans::settled(&span, &settled);
        settled
    }

    async fn settle_now(&self, opinion: Opinion) -> Result<(), Error> {
        if !self.held.settle(self.index) {
            let error = Error::new(Code::AlreadySettled, "this delivery was settled before");
            return Err(self.named(error));
        }
        self.note(&opinion);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiters = vec![(self.offset, sender)];
        self.held.subscription.settle(self.settlement(opinion, waiters));
        let settled = receiver.await.unwrap_or_else(|_| Err(Error::closed("consumer")));
        settled.map_err(|error| self.named(error))
    }
}

/// What a consumer makes of a message.
struct Opinion {
    verdict: Verdict,
    delay_ms: Option<u32>,
    error: Option<Arc<str>>,
}

impl Opinion {
    fn of(verdict: Verdict) -> Self {
        Self { verdict, delay_ms: None, error: None }
    }
}

/// A delay as the protocol says it.
fn ms(delay: impl Into<Option<Duration>>) -> Option<u32> {
    let delay: Option<Duration> = delay.into();
    delay.map(|delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX))
}

/// As much of a text as a broker keeps.
fn clipped(text: &str) -> Arc<str> {
    let mut end = text.len().min(ERROR_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Arc::from(&text[..end])
}

impl Delivery {
    pub(super) fn settler(&self) -> Settler {
        self.settler.clone()
    }

    /// The body as it was given to the producer: unpacked at each call, where the producer has
    /// packed it; otherwise sharing the memory that it was received in.
    ///
    /// # Errors
    /// As [`compress::plain_body`]. Other messages are not concerned; [`Delivery::record`] has the
    /// bytes as they are stored.
    pub fn body(&self) -> Result<Bytes, Error> {
        compress::plain_body(&self.record)
    }

    /// Priority, where the message has one.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.record.property(PRIORITY)?.parse().ok()
    }

    /// From when on nobody wants the message any more, by the broker's clock.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        expiry(&self.record)
    }

    /// The trace that the message belongs to.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::parse(self.record.property(TRACE_PARENT)?)
    }

    /// What systems that trace have added to the trace: W3C `tracestate`, 1 to 512 printable ASCII
    /// characters. `None` where there is none, or no [`Delivery::trace`] that it belongs to.
    #[must_use]
    pub fn trace_state(&self) -> Option<&str> {
        self.trace()?;
        self.record.property(TRACE_STATE).filter(|state| trace::is_state(state))
    }

    /// Whether it is a request, to be answered by [`crate::Client::reply`].
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        exchange::return_address(self).is_some()
    }

    /// Holds the message for `lease` from now on instead of the rest of its lease, 1 s to 12 h, and
    /// returns when it then ends, by the broker's clock; a lease that lasts longer is left as it
    /// is.
    ///
    /// # Errors
    /// [`Code::HeldTooLong`] when that would be more than 12 hours after it was delivered: the
    /// lease then goes on to that instant; [`Code::LeaseLost`] when it has ended or the message was
    /// settled; [`Code::LeaseSuperseded`] when it has ended and the message was delivered here
    /// again; [`Code::BadArgument`]; [`Code::Disconnected`].
    pub async fn extend(&self, lease: Duration) -> Result<Timestamp, Error> {
        self.settler.extend(lease).await
    }

    /// Extends the lease again and again for as long as the guard lives: a third of it before it
    /// ends at the latest. [`crate::Consumer::run`] does so by itself while a handler runs.
    #[must_use]
    pub fn keep(&self) -> Kept {
        self.settler.keep()
    }

    /// The first key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.record.keys().next()
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.record.keys()
    }

    /// The tag, or empty.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.record.tag()
    }

    /// The order group, if there is one.
    #[must_use]
    pub fn order_group(&self) -> Option<&str> {
        self.record.order_group()
    }

    /// The application's properties, in order.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.record.properties().filter(|(name, _)| !name.starts_with('$'))
    }

    /// The first property of this name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.record.property(name)
    }

    /// Id of the message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.record.id()
    }

    /// The queue that it came from.
    #[must_use]
    pub fn queue(&self) -> QueueIndex {
        self.settler.held.queue
    }

    /// Its place in the queue.
    #[must_use]
    pub fn offset(&self) -> QueueOffset {
        self.settler.offset
    }

    /// 1 for the first delivery to the group, 2 for the second, and so on.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.settler.attempt
    }

    /// When the broker stored it, by the broker's clock: when it began to gather what it made
    /// durable together with it, so up to the time of a sync before it had it.
    #[must_use]
    pub fn stored(&self) -> Timestamp {
        self.stored
    }

    /// When it was made, by the producer's clock.
    #[must_use]
    pub fn born(&self) -> Timestamp {
        self.record.born()
    }

    /// The record as it is stored, every byte of it.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Done: the message is not delivered to the group again. Resolves when that is durable.
    /// Settling begins when the future is first polled, and then goes on without it.
    ///
    /// # Errors
    /// [`Code::LeaseLost`] when the lease had ended; [`Code::LeaseSuperseded`] when it had and the
    /// message was delivered here again: the later delivery is neither settled nor touched by it;
    /// [`Code::AlreadySettled`] when the delivery was settled before; [`Code::Disconnected`] when
    /// the connection was lost: the message may come again. The detail names the message.
    pub async fn ack(&self) -> Result<(), Error> {
        self.settler.settle(Opinion::of(Verdict::Ack)).await
    }

    /// [`Delivery::ack`] without waiting: sent with others within 5 ms. If the connection is lost
    /// before, the message comes again. Does nothing if the delivery was settled already.
    pub fn ack_later(&self) {
        self.settler.ack_later();
    }

    /// Failed: the message comes back after `delay`, or by the group's retry policy (10 s after the
    /// first delivery unless changed). After its last attempt (the 17th unless changed) it counts
    /// as rejected instead, whatever `delay` says. Resolves when that is durable. `delay` has
    /// millisecond steps and at most 49 days.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn nack(&self, delay: impl Into<Option<Duration>>) -> Result<(), Error> {
        self.settler.settle(Opinion { delay_ms: ms(delay), ..Opinion::of(Verdict::Nack) }).await
    }

    /// [`Delivery::nack`], and why: kept as the message's last error, for operators. Of `error` the
    /// first 1,024 bytes are kept.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn nack_because(
        &self,
        delay: impl Into<Option<Duration>>,
        error: &str,
    ) -> Result<(), Error> {
        let (verdict, delay_ms) = (Verdict::Nack, ms(delay));
        self.settler.settle(Opinion { verdict, delay_ms, error: Some(clipped(error)) }).await
    }

    /// Not begun: the message is delivered again at once, to whoever is next, and this delivery
    /// does not count as an attempt. Resolves when the broker has it back.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn release(&self) -> Result<(), Error> {
        self.settler.settle(Opinion::of(Verdict::Release)).await
    }

    /// Hopeless: the message is not delivered again and is kept apart for an operator. Resolves
    /// when that is durable.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn reject(&self) -> Result<(), Error> {
        self.settler.settle(Opinion::of(Verdict::Reject)).await
    }

    /// [`Delivery::reject`], and why. Of `error` the first 1,024 bytes are kept.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn reject_because(&self, error: &str) -> Result<(), Error> {
        let error = Some(clipped(error));
        self.settler.settle(Opinion { error, ..Opinion::of(Verdict::Reject) }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_end_with_a_whole_character() {
        assert_eq!(&*clipped("no such account"), "no such account");
        assert_eq!(clipped(&"x".repeat(2_000)).len(), 1_024);
        let text = clipped(&format!("x{}", "é".repeat(1_000)));
        assert_eq!((text.len(), text.ends_with('é')), (1_023, true));
    }
}
