//! The receiving half of the load.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use yard_checker::{AckLevel, Delivery, Event, Outcome, Poll, Queue, Settle, SettleVerdict, Taken};
use yard_client::{Client, Consumer, Start};

use super::recorder::Recorder;
use super::{Phase, message};
use crate::{Failed, Seeded};

/// Messages that the broker may send ahead.
const CREDIT_MESSAGES: u32 = 64;
/// Bytes that the broker may send ahead.
const CREDIT_BYTES: u32 = 1 << 20;
/// The lease: short, because some messages are dropped and must come back.
const LEASE: Duration = Duration::from_secs(3);
/// Settlements of a consumer that wait for an answer.
const SETTLING_MAX: usize = 64;

pub(super) struct ConsumerPlan {
    pub(super) number: u64,
    pub(super) group: &'static str,
    pub(super) group_number: u64,
    pub(super) topic: &'static str,
    pub(super) topic_id: u32,
    /// The shard of each queue.
    pub(super) shards: Vec<u16>,
    /// Whether the consumer is made anew after each crash.
    pub(super) anew: bool,
    pub(super) client: Client,
    pub(super) recorder: Arc<Recorder>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) random: Seeded,
}

/// Messages that come for nothing. Each subscription begins with all the credit, and there may have
/// been one more after each crash; twice the credit, for a reconnection that no crash explains.
fn free(crashes: u64) -> u64 {
    2 * u64::from(CREDIT_MESSAGES) * (1 + crashes)
}

/// Receives and settles until the phase ends.
pub(super) async fn run(mut plan: ConsumerPlan) -> Result<(), Failed> {
    let mut settling: JoinSet<()> = JoinSet::new();
    for life in 0.. {
        let crashes = plan.phase.borrow_and_update().crashes;
        let since = plan.recorder.now();
        let builder = plan.client.consumer(plan.topic, plan.group).start(Start::Earliest);
        let builder = builder.credit(CREDIT_MESSAGES, CREDIT_BYTES).lease(LEASE);
        let mut consumer = match builder.build().await {
            Ok(consumer) => consumer,
            Err(error) if error.is_retryable() && plan.phase.borrow().consume => continue,
            Err(error) => return Err(error.into()),
        };
        let began = (Taken::new(since), crashes);
        let goes_on = receive(&mut plan, life, &mut consumer, began, &mut settling).await?;
        if !goes_on {
            while settling.join_next().await.transpose()?.is_some() {}
            consumer.close().await?;
            break;
        }
    }
    plan.client.close().await;
    Ok(())
}

/// Receives until the consumer shall be made anew (true) or the phase ends (false).
async fn receive(
    plan: &mut ConsumerPlan,
    life: u64,
    consumer: &mut Consumer,
    (mut taken, crashes_before): (Taken, u64),
    settling: &mut JoinSet<()>,
) -> Result<bool, Failed> {
    loop {
        let delivery = tokio::select! {
            delivery = consumer.recv() => delivery?,
            changed = plan.phase.changed() => {
                changed.map_err(|_| Failed("the run ended early".to_owned()))?;
                let phase = *plan.phase.borrow();
                if !phase.consume {
                    return Ok(false);
                }
                if plan.anew && phase.crashes > crashes_before {
                    return Ok(true);
                }
                continue;
            }
        };
        let now = plan.recorder.now();
        let queue = Queue { topic: plan.topic_id, index: u32::from(delivery.queue().0) };
        let shard = plan.shards.get(usize::from(delivery.queue().0)).copied().unwrap_or_default();
        let crashes = plan.phase.borrow().crashes - crashes_before;
        let (producer, seq) = message::name(delivery.record());
        let offset = delivery.offset().0;
        let hash = message::hash(delivery.record());
        let attempt = delivery.attempt();
        let client = plan.number << 16 | life;
        plan.recorder.push(Event::Poll(Poll {
            client,
            tenant: 0,
            group: plan.group_number,
            queue,
            invoked: taken.asked(shard, free(crashes), now),
            completed: now,
            deliveries: vec![Delivery { offset, producer, seq, hash, attempt }],
        }));
        let Some((verdict, delay)) = decide(&mut plan.random, attempt) else { continue };
        while settling.len() >= SETTLING_MAX {
            settling.join_next().await.transpose()?;
        }
        let settle = Settle {
            client,
            group: plan.group_number,
            queue,
            from: offset,
            to: offset + 1,
            attempt,
            verdict,
            invoked: plan.recorder.now(),
            completed: None,
            outcome: Outcome::Unknown,
            level: AckLevel::Synced,
        };
        let recorder = plan.recorder.clone();
        settling.spawn(async move {
            let result = match verdict {
                SettleVerdict::Ack => delivery.ack().await,
                SettleVerdict::Nack => delivery.nack(delay).await,
                SettleVerdict::Reject => delivery.reject().await,
                SettleVerdict::Expire => unreachable!("messages do not expire here"),
            };
            // An error leaves it open: an answer that was lost looks like a lease that was.
            let outcome = match result {
                Ok(()) => Outcome::Ok { offset: None },
                Err(_) => Outcome::Unknown,
            };
            let completed = Some(recorder.now());
            recorder.push(Event::Settle(Settle { completed, outcome, ..settle }));
        });
        while settling.try_join_next().transpose()?.is_some() {}
    }
}

/// What becomes of a delivery; `None`: it is dropped, and comes back when its lease ends.
fn decide(random: &mut Seeded, attempt: u32) -> Option<(SettleVerdict, Duration)> {
    let delay = Duration::from_millis(random.within(1..200));
    // Most failures end with the second attempt, so that the run can be drained.
    let has_failed = attempt > 1;
    match random.within(0..1_000) {
        0..40 if !has_failed => Some((SettleVerdict::Nack, delay)),
        40..45 if !has_failed => None,
        45..55 => Some((SettleVerdict::Reject, delay)),
        _ => Some((SettleVerdict::Ack, delay)),
    }
}
