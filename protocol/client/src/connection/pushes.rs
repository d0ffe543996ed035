//! Which subscription a push belongs to.
//!
//! A subscription's number comes on the control stream, its messages on data streams, and those
//! may be faster. Pushes for numbers that are not known yet are kept while a subscription is
//! being made.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;
use yard_wire::request::Push;
use yard_wire::requests::TxCheck;
use yard_wire::{Code, ShardId, SubscriptionId};

use crate::Error;

/// Pushes kept while a subscription is being made, beyond those that it gives credit for: others
/// come late, for subscriptions that have ended.
const EARLY_MAX: usize = 4_096;

type Key = (ShardId, SubscriptionId);
/// Where the pushes of one subscription come out; ends with the connection.
pub(crate) type PushReceiver = mpsc::Receiver<Push>;

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    subscriptions: BTreeMap<Key, mpsc::Sender<Push>>,
    /// Where checks of transactions come out, by producer group.
    checks: BTreeMap<String, mpsc::Sender<TxCheck>>,
    /// Subscriptions that are being made.
    expected: usize,
    /// Pushes that they give credit for.
    expected_frames: usize,
    early: Vec<Push>,
}

#[derive(Debug, Default)]
pub(crate) struct Pushes(Mutex<State>);

/// The subscription that a push is for, if it is for one.
fn key(push: &Push) -> Option<Key> {
    match push {
        Push::Deliver(deliver) => Some((deliver.shard, deliver.subscription)),
        Push::Ended(ended) => Some((ended.shard, ended.subscription)),
        Push::TxCheck(_) => None,
    }
}

impl State {
    fn dispatch_check(&mut self, push: Push) {
        let Push::TxCheck(check) = push else { return };
        if let Some(sender) = self.checks.get(&check.group) {
            // One that does not fit, or is wanted no more, comes again, perhaps to another.
            let _ = sender.try_send(check);
        }
    }
}

impl Pushes {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned state is a whole one.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn dispatch(&self, push: Push) -> Result<(), Error> {
        self.with(|state| {
            let Some(key) = key(&push) else {
                state.dispatch_check(push);
                return Ok(());
            };
            let Some(subscription) = state.subscriptions.get(&key) else {
                if state.expected > 0 && state.early.len() < EARLY_MAX + state.expected_frames {
                    state.early.push(push);
                }
                // Otherwise the subscription has ended here, and soon will at the broker.
                return Ok(());
            };
            match subscription.try_send(push) {
                Ok(()) => Ok(()),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    state.subscriptions.remove(&key);
                    Ok(())
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let detail = "the broker delivered more than it had credit for";
                    Err(Error::new(Code::BadReply, detail))
                }
            }
        })
    }

    /// Checks of a producer group come out here, until the connection is gone.
    pub(crate) fn hear_checks(&self, group: &str, sender: mpsc::Sender<TxCheck>) {
        self.with(|state| {
            if !state.is_closed {
                state.checks.insert(group.to_owned(), sender);
            }
        });
    }

    /// To be called before a subscription is asked for that gives credit for `frames_max` pushes;
    /// [`Pushes::settle`] afterwards, always.
    pub(crate) fn anticipate(&self, frames_max: usize) {
        self.with(|state| {
            state.expected += 1;
            state.expected_frames += frames_max;
        });
    }

    /// Ends what [`Pushes::anticipate`] began with the same `frames_max`: with the number of the
    /// new subscription, or without. The receiver ends at once when the connection is gone.
    pub(crate) fn settle(&self, frames_max: usize, made: Option<Key>) -> Option<PushReceiver> {
        self.with(|state| {
            state.expected -= 1;
            state.expected_frames -= frames_max;
            let receiver = made.map(|wanted| {
                let (sender, receiver) = mpsc::channel(frames_max);
                for push in state.early.extract_if(.., |push| key(push) == made) {
                    // What does not fit was sent without credit; it comes back after its lease.
                    let _ = sender.try_send(push);
                }
                if !state.is_closed {
                    state.subscriptions.insert(wanted, sender);
                }
                receiver
            });
            if state.expected == 0 {
                state.early.clear();
            }
            receiver
        })
    }

    pub(crate) fn forget(&self, key: Key) {
        self.with(|state| state.subscriptions.remove(&key));
    }

    pub(super) fn close(&self) {
        self.with(|state| {
            state.is_closed = true;
            state.subscriptions.clear();
            state.checks.clear();
            state.early.clear();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::Refusal;
    use yard_wire::requests::Ended;

    fn push(subscription: u64) -> Push {
        let why = Refusal::from(Code::UnknownTopic);
        let subscription = SubscriptionId(subscription);
        Push::Ended(Ended { shard: ShardId(0), subscription, why })
    }

    fn made(subscription: u64) -> Option<Key> {
        Some((ShardId(0), SubscriptionId(subscription)))
    }

    #[test]
    fn what_credit_was_given_for_is_kept_however_much() {
        let pushes = Pushes::default();
        let (frames_max, late) = (2 * EARLY_MAX, EARLY_MAX);
        pushes.anticipate(frames_max);
        pushes.anticipate(2);
        for subscription in [(6, late), (7, frames_max)] {
            (0..subscription.1).for_each(|_| pushes.dispatch(push(subscription.0)).unwrap());
        }
        let receiver = pushes.settle(frames_max, made(7)).unwrap();
        assert_eq!(receiver.len(), frames_max);
        assert!(pushes.settle(2, None).is_none());
    }

    #[test]
    fn pushes_that_overtake_the_answer_are_kept() {
        let pushes = Pushes::default();
        pushes.dispatch(push(1)).unwrap();
        pushes.anticipate(2);
        pushes.dispatch(push(7)).unwrap();
        let mut receiver = pushes.settle(2, made(7)).unwrap();
        assert!(receiver.try_recv().is_ok(), "the early push");
        assert!(receiver.try_recv().is_err(), "nothing else");
        pushes.close();
        assert!(receiver.blocking_recv().is_none(), "ends with the connection");
        pushes.anticipate(2);
        assert!(pushes.settle(2, made(8)).unwrap().blocking_recv().is_none());
    }

    #[test]
    fn a_broker_that_ignores_credit_is_noticed() {
        let pushes = Pushes::default();
        pushes.anticipate(2);
        let receiver = pushes.settle(2, made(7)).unwrap();
        pushes.dispatch(push(7)).unwrap();
        pushes.dispatch(push(7)).unwrap();
        assert_eq!(pushes.dispatch(push(7)).unwrap_err().code, Code::BadReply);
        drop(receiver);
        pushes.dispatch(push(7)).unwrap();
    }
}
