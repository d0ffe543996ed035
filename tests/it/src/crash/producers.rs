//! The sending half of the load.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use yard_checker::{AckLevel, Event, Outcome, Queue, Sent};
use yard_client::{Ack, Client, Code, Error, SendResult};

use super::recorder::Recorder;
use super::{Phase, message};
use crate::{Failed, Seeded};

/// Messages of a producer that wait for an answer.
const WINDOW: usize = 64;
/// Messages sent at once, at most.
const BURST_MAX: u64 = 16;
/// The pause after a burst, in milliseconds: it keeps the history at a size that can be judged.
const PAUSE_MS: std::ops::Range<u64> = 1..16;
/// Order groups of a producer.
const ORDER_GROUPS: u64 = 12;

pub(super) struct ProducerPlan {
    pub(super) number: u64,
    pub(super) topic: &'static str,
    pub(super) topic_id: u32,
    pub(super) queues: u16,
    pub(super) ack: Ack,
    pub(super) client: Client,
    pub(super) recorder: Arc<Recorder>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) random: Seeded,
}

/// Sends until the phase ends, then waits for every answer.
pub(super) async fn run(mut plan: ProducerPlan) -> Result<(), Failed> {
    let producer = plan.client.producer(plan.topic).ack(plan.ack);
    let producer = producer.delivery_timeout(Duration::from_secs(120)).build().await?;
    let mut waiting: JoinSet<()> = JoinSet::new();
    let mut seq = 0;
    while plan.phase.borrow().produce {
        for _ in 0..plan.random.within(1..BURST_MAX) {
            while waiting.len() >= WINDOW {
                waiting.join_next().await.transpose()?;
            }
            let order_group =
                (!plan.random.once_in(3)).then(|| plan.random.within(0..ORDER_GROUPS));
            let queues = u64::from(plan.queues);
            // Named, because the record must say the queue also of a message without an answer.
            let queue = order_group.unwrap_or_else(|| plan.random.next_u64()) % queues;
            let (message, hash) = message::make(plan.number, seq, order_group, &mut plan.random);
            let sent = Sent {
                client: plan.number,
                tenant: 0,
                queue: Queue { topic: plan.topic_id, index: queue as u32 },
                producer: plan.number,
                seq,
                // Unique over all producers.
                order_group: order_group.map(|group| plan.number * ORDER_GROUPS + group),
                hash,
                due: None,
                expires: None,
                invoked: plan.recorder.now(),
                completed: None,
                outcome: Outcome::Unknown,
                level: level(plan.ack),
            };
            seq += 1;
            let receipt = producer.enqueue(message.queue(queue as u16)).await;
            let recorder = plan.recorder.clone();
            waiting.spawn(async move {
                let result = match receipt {
                    Ok(receipt) => receipt.await,
                    Err(error) => Err(error),
                };
                record(&recorder, sent, result);
            });
        }
        while waiting.try_join_next().transpose()?.is_some() {}
        let pause = Duration::from_millis(plan.random.within(PAUSE_MS));
        tokio::time::sleep(pause).await;
    }
    while waiting.join_next().await.transpose()?.is_some() {}
    producer.close().await?;
    plan.client.close().await;
    Ok(())
}

fn level(ack: Ack) -> AckLevel {
    match ack {
        Ack::Memory => AckLevel::Memory,
        Ack::Written => AckLevel::Written,
        Ack::Synced => AckLevel::Synced,
    }
}

fn record(recorder: &Recorder, sent: Sent, result: Result<SendResult, Error>) {
    let completed = Some(recorder.now());
    let outcome = match result {
        Ok(result) => {
            if result.duplicate {
                recorder.note_resent();
            }
            if u32::from(result.queue.0) != sent.queue.index {
                let (found, wanted) = (result.queue, sent.queue.index);
                recorder.note_refusal(format!("sent to queue {wanted}, stored in {found}"));
            }
            Outcome::Ok { offset: result.offset.map(|offset| offset.0) }
        }
        Err(error) => {
            recorder.note_refusal(format!("message {}.{}: {error}", sent.producer, sent.seq));
            if is_definite(error.code) { Outcome::Refused } else { Outcome::Unknown }
        }
    };
    recorder.push(Event::Send(Sent { completed, outcome, ..sent }));
}

/// Whether a refusal with this code proves that the message is not stored, however often it was
/// sent before.
fn is_definite(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::QueueOutOfRange
            | Code::BodyTooLarge
            | Code::PropertiesTooLarge
            | Code::BadArgument
            | Code::AckUnavailable
            | Code::Forbidden
    )
}
