//! The spans of the client, named after the OpenTelemetry conventions for messaging (1.37), as
//! `tracing` has them: `otel.name` and `otel.kind` are what exporters make of a span.
//!
//! ```text
//!   span              kind      operation.type   from                        to
//!   send TOPIC        producer  send             `send`, `enqueue`           the acknowledgement
//!   send TOPIC        producer  send             `send_one_way`              its return
//!   receive TOPIC     consumer  receive          `Consumer::recv`            a message is there
//!   receive TOPIC     consumer  receive          `Reader::read`              its return
//!   process TOPIC     consumer  process          `Consumer::run`: a handler  its end
//!   VERDICT TOPIC     client    settle           ack, nack, reject, …        it is durable
//! ```
//!
//! They are of the level debug; where nobody listens they cost a look at a flag each.
use std::fmt::Display;

use tracing::field::Empty;
use tracing::{Span, debug_span};
use yard_wire::requests::Verdict;
use yard_wire::{MessageId, QueueIndex, QueueOffset};

use crate::{Delivery, Error, ReadMessage, SendResult};

/// What `messaging.system` is.
const SYSTEM: &str = "switchyard";
const ERROR: &str = "error.type";
const ID: &str = "messaging.message.id";
const PARTITION: &str = "messaging.destination.partition.id";
const OFFSET: &str = "messaging.switchyard.message.offset";
const COUNT: &str = "messaging.batch.message_count";

/// Where messages are received from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) topic: String,
    pub(crate) group: String,
}

pub(crate) fn send(topic: &str) -> Span {
    debug_span!(
        "send",
        otel.name = format_args!("send {topic}"),
        otel.kind = "producer",
        messaging.system = SYSTEM,
        messaging.operation.name = "send",
        "messaging.operation.type" = "send",
        messaging.destination.name = topic,
        messaging.message.id = Empty,
        messaging.destination.partition.id = Empty,
        messaging.switchyard.message.offset = Empty,
        "error.type" = Empty,
    )
}

/// A message was taken; what becomes of it nobody is told.
pub(crate) fn taken(span: &Span, taken: &Result<MessageId, Error>) {
    match taken {
        Ok(id) => record(span, ID, id),
        Err(error) => failed(span, error),
    }
}

pub(crate) fn sent(span: &Span, sent: &Result<SendResult, Error>) {
    match sent {
        Ok(SendResult { id, queue, offset, .. }) => {
            record(span, ID, id);
            record(span, PARTITION, queue);
            if let Some(offset) = offset {
                record(span, OFFSET, offset);
            }
        }
        Err(error) => failed(span, error),
    }
}

/// Somebody waits for messages of a topic: for a group, or without one.
pub(crate) fn receive(topic: &str, group: Option<&str>) -> Span {
    debug_span!(
        "receive",
        otel.name = format_args!("receive {topic}"),
        otel.kind = "consumer",
        messaging.system = SYSTEM,
        messaging.operation.name = "receive",
        "messaging.operation.type" = "receive",
        messaging.destination.name = topic,
        messaging.consumer.group.name = group,
        messaging.batch.message_count = Empty,
        messaging.message.id = Empty,
        messaging.destination.partition.id = Empty,
        "error.type" = Empty,
    )
}

/// Messages were received, or none will be any more.
pub(crate) fn received<M: Received>(span: &Span, received: Result<&[M], &Error>) {
    match received {
        Ok(messages) => {
            span.record(COUNT, messages.len());
            if let [one] = messages {
                let (id, queue) = one.whose();
                record(span, ID, id);
                record(span, PARTITION, queue);
            }
        }
        Err(error) => failed(span, error),
    }
}

/// A message that somebody received.
pub(crate) trait Received {
    /// Its id, and its queue.
    fn whose(&self) -> (MessageId, QueueIndex);
}

impl Received for Delivery {
    fn whose(&self) -> (MessageId, QueueIndex) {
        (self.id(), self.queue())
    }
}

impl Received for ReadMessage {
    fn whose(&self) -> (MessageId, QueueIndex) {
        (self.record.id(), self.queue)
    }
}

pub(crate) fn process(source: &Source, delivery: &Delivery) -> Span {
    let Source { topic, group } = source;
    debug_span!(
        "process",
        otel.name = format_args!("process {topic}"),
        otel.kind = "consumer",
        messaging.system = SYSTEM,
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.destination.name = topic,
        messaging.consumer.group.name = group,
        messaging.message.id = %delivery.id(),
        messaging.message.body.size = delivery.record().body_bytes(),
        messaging.destination.partition.id = %delivery.queue(),
        messaging.switchyard.message.offset = %delivery.offset(),
        messaging.switchyard.message.attempt = delivery.attempt(),
        "error.type" = Empty,
    )
}

/// A handler has failed: its own words are no type of error, so there is one for all.
pub(crate) fn not_handled(span: &Span) {
    span.record(ERROR, "_OTHER");
}

pub(crate) fn settle(
    source: &Source,
    verdict: Verdict,
    (queue, offset): (QueueIndex, QueueOffset),
) -> Span {
    let Source { topic, group } = source;
    let verb = verdict.text();
    debug_span!(
        "settle",
        otel.name = format_args!("{verb} {topic}"),
        otel.kind = "client",
        messaging.system = SYSTEM,
        messaging.operation.name = verb,
        "messaging.operation.type" = "settle",
        messaging.destination.name = topic,
        messaging.consumer.group.name = group,
        messaging.destination.partition.id = %queue,
        messaging.switchyard.message.offset = %offset,
        "error.type" = Empty,
    )
}

pub(crate) fn settled(span: &Span, settled: &Result<(), Error>) {
    if let Err(error) = settled {
        failed(span, error);
    }
}

pub(crate) fn failed(span: &Span, error: &Error) {
    record(span, ERROR, error.code.label());
}

fn record(span: &Span, field: &'static str, value: impl Display) {
    span.record(field, tracing::field::display(value));
}
