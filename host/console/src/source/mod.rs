//! Where messages come from: whole spans of a topic, its end as it grows, a sample, a search.
pub(crate) mod sample;
pub(crate) mod search;
pub(crate) mod span;
pub(crate) mod tail;

use std::sync::Arc;

use yard_client::wire::operation::{QueueRow, TopicInfo};
use yard_client::{Client, QueueIndex, QueueOffset};

use crate::fault::Result;
use crate::session::Session;
use crate::value::message::Message;

/// The queues of a topic as they are now.
pub(crate) fn queues(session: &Session, topic: &str) -> Result<Vec<QueueRow>> {
    let client = session.client()?;
    let report = session.ask(client.admin().call(TopicInfo { name: topic.to_owned() }))?;
    Ok(report.queues)
}

/// Reads some messages of a queue from an offset on, those from `end` on left out.
pub(crate) fn fetch(
    session: &Session,
    client: &Client,
    topic: &Arc<str>,
    (queue, from, end): (QueueIndex, QueueOffset, QueueOffset),
    count: u32,
) -> Result<Vec<Message>> {
    let wanted = u32::try_from(end.0.saturating_sub(from.0)).unwrap_or(u32::MAX).min(count);
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let fetched = session.ask(client.fetch(topic, queue, from, wanted))?;
    let records = fetched.records.into_iter().filter(|record| record.offset < end);
    records.map(|record| Message::fetched(topic, queue, record)).collect()
}
