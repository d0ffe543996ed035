//! Who receives and settles; some members leave and come back.
use std::time::Duration;

use tokio::task::JoinSet;
use yard_checker::{AckLevel, Delivery, Event, Outcome, Poll, Settle, SettleVerdict, Taken};
use yard_client::{Client, Consumer, Error, Start};
use yard_sim::Random;

use super::{Crew, GROUP, GROUP_NUMBER, PAUSE, TOPIC, connections, named};

/// Messages that the broker may send ahead: few, so that most deliveries are asked for late.
const CREDIT_MESSAGES: u32 = 4;
/// Bytes that it may send ahead.
const CREDIT_BYTES: u32 = 256 << 10;
/// The lease: short, because some messages are forgotten and must come back.
const LEASE: Duration = Duration::from_secs(3);
/// A message fails at most so often, so that the run can be drained.
const FAILURES_MAX: u32 = 4;

/// Receives and settles until the run ends. Some members leave and come back.
pub(crate) async fn consume(
    mut crew: Crew,
    number: usize,
    client: Client,
    mut random: Random,
) -> Result<(), Error> {
    let leaves_after = random.percent(30).then(|| 1 + random.below(crew.plan.messages()));
    for life in 0.. {
        let since = crew.recorder.now();
        let counted = connections(&client);
        let builder = client.consumer(TOPIC, GROUP).start(Start::Earliest);
        let builder = builder.credit(CREDIT_MESSAGES, CREDIT_BYTES).lease(LEASE);
        let mut consumer = match builder.build().await {
            Ok(consumer) => consumer,
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let (number, taken) = ((number as u64) << 16 | life, Taken::new(since));
        let member = Member { number, client: &client, connections: counted, taken };
        let stays = leaves_after.filter(|_| life == 0);
        let goes_on = member.receive(&mut crew, &mut consumer, stays, &mut random).await?;
        // A broker that is away at the end of a subscription is no mistake.
        let closed = consumer.close().await;
        if !goes_on {
            return closed;
        }
    }
    Ok(())
}

struct Member<'a> {
    number: u64,
    client: &'a Client,
    /// Connections before the subscription began.
    connections: u64,
    taken: Taken,
}

impl Member<'_> {
    /// Receives until the run ends (false), or so many deliveries (true).
    async fn receive(
        mut self,
        crew: &mut Crew,
        consumer: &mut Consumer,
        count_max: Option<u64>,
        random: &mut Random,
    ) -> Result<bool, Error> {
        let mut settling: JoinSet<()> = JoinSet::new();
        let mut count = 0;
        let goes_on = loop {
            if count_max == Some(count) {
                break true;
            }
            let delivery = tokio::select! {
                biased;
                _ = crew.ends.wait_for(|ends| *ends) => break false,
                delivery = consumer.recv() => delivery?,
            };
            count += 1;
            self.received(crew, &delivery);
            let Some((verdict, delay)) = decide(random, crew.plan.failing, delivery.attempt())
            else {
                continue;
            };
            let settle = Settle {
                client: self.number,
                group: GROUP_NUMBER,
                queue: crew.queue(delivery.queue().0),
                from: delivery.offset().0,
                to: delivery.offset().0 + 1,
                attempt: delivery.attempt(),
                verdict,
                invoked: crew.recorder.now(),
                completed: None,
                outcome: Outcome::Unknown,
                level: AckLevel::Synced,
            };
            let work = Duration::from_millis(random.pick(&[0, 0, 5, 100]));
            let recorder = crew.recorder.clone();
            settling.spawn(async move {
                tokio::time::sleep(work).await;
                let invoked = recorder.now();
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
                recorder.push(Event::Settle(Settle { invoked, completed, outcome, ..settle }));
            });
        };
        while settling.join_next().await.is_some() {}
        Ok(goes_on)
    }

    /// Messages that came for nothing: a subscription begins with all the credit, and there is a
    /// new one after each connection that was lost.
    fn free(&self) -> u64 {
        let lost = connections(self.client).saturating_sub(self.connections);
        u64::from(CREDIT_MESSAGES) * (2 + lost)
    }

    fn received(&mut self, crew: &Crew, delivery: &yard_client::Delivery) {
        let now = crew.recorder.now();
        let queue = delivery.queue().0;
        let (producer, seq, hash) = named(delivery.record());
        let (offset, attempt) = (delivery.offset().0, delivery.attempt());
        let shard = crew.shards.get(usize::from(queue)).copied().unwrap_or_default();
        crew.recorder.push(Event::Poll(Poll {
            client: self.number,
            tenant: 0,
            group: GROUP_NUMBER,
            queue: crew.queue(queue),
            invoked: self.taken.asked(shard, self.free(), now),
            completed: now,
            deliveries: vec![Delivery { offset, producer, seq, hash, attempt }],
        }));
    }
}

/// What becomes of a delivery; `None`: it is dropped, and comes back when its lease ends.
fn decide(random: &mut Random, failing: u64, attempt: u32) -> Option<(SettleVerdict, Duration)> {
    let delay = Duration::from_millis(random.range(1, 200));
    // What failed once fails again more easily.
    let failing = if attempt > 1 { 2 * failing } else { failing };
    if attempt > FAILURES_MAX || random.below(1_000) >= failing {
        return Some((SettleVerdict::Ack, delay));
    }
    match random.below(6) {
        0 => None,
        1 => Some((SettleVerdict::Reject, delay)),
        _ => Some((SettleVerdict::Nack, delay)),
    }
}
