//! What becomes of messages: known a batch at a time, asked for message by message.
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tracing::Span;
use yard_wire::{MessageId, QueueIndex};

use super::SendResult;
use crate::lane::Placements;
use crate::{Error, spans};

/// What became of the records of a batch, shared by their receipts.
#[derive(Debug)]
pub(super) struct Fate {
    topic: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is known of which tickets: of all at once, but for records that were given up before
    /// the others could be sent.
    known: Vec<(Range<u64>, Result<Placements, Error>)>,
    /// Who waits, by their slots.
    waiting: Vec<Option<Waker>>,
    /// Slots that were given out.
    slots: usize,
}

impl Fate {
    pub(super) fn new(topic: Arc<str>) -> Arc<Self> {
        Arc::new(Self { topic, state: Mutex::default() })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned state is a whole one.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells whoever waits; each ticket is told of once.
    pub(super) fn tell(&self, tickets: Range<u64>, result: Result<Placements, Error>) {
        let waiting = self.with(|state| {
            state.known.push((tickets, result));
            std::mem::take(&mut state.waiting)
        });
        // Those whose tickets these are not come back to their slots.
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl State {
    fn wait(&mut self, slot: &mut Option<usize>, waker: &Waker) {
        let slot = *slot.get_or_insert_with(|| {
            self.slots += 1;
            self.slots - 1
        });
        if self.waiting.len() <= slot {
            self.waiting.resize(slot + 1, None);
        }
        match &mut self.waiting[slot] {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

/// What becomes of an enqueued message: a future of its [`SendResult`]. Dropping it does not
/// stop the message. Polled again, it gives the same result again. The message's span ends when
/// the result is given for the first time, or here where nobody asks for it.
#[derive(Debug)]
pub struct Receipt {
    id: MessageId,
    queue: QueueIndex,
    ticket: u64,
    fate: Arc<Fate>,
    /// Where the fate knows who waits.
    slot: Option<usize>,
    /// Of the sending, until the result was given; none where nobody listens.
    span: Option<Box<Span>>,
}

impl Receipt {
    pub(super) fn new(id: MessageId, queue: QueueIndex, ticket: u64, fate: Arc<Fate>) -> Self {
        Self { id, queue, ticket, fate, slot: None, span: None }
    }

    /// The same; `span` ends with its result.
    pub(super) fn within(mut self, span: Span) -> Self {
        self.span = (!span.is_disabled()).then(|| Box::new(span));
        self
    }

    /// Id of the message, known before it is sent.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    fn result(&self, placements: &Placements, first: u64) -> SendResult {
        let Placements { place, nodes, duplicate, offsets, originals } = placements;
        let at = (self.ticket - first) as usize;
        let original = originals.binary_search_by_key(&at, |it| it.record as usize);
        let original = original.ok().map(|found| originals[found]);
        SendResult {
            id: original.map_or(self.id, |it| it.id),
            topic: self.fate.topic.clone(),
            queue: original.map_or(self.queue, |it| it.queue),
            offset: offsets[at],
            place: *place,
            nodes: *nodes,
            duplicate: *duplicate || original.is_some(),
        }
    }
}

impl Future for Receipt {
    type Output = Result<SendResult, Error>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut slot = this.slot;
        let found = this.fate.with(|state| {
            let known = state.known.iter().find(|(tickets, _)| tickets.contains(&this.ticket));
            match known {
                Some((tickets, Ok(placements))) => {
                    Poll::Ready(Ok(this.result(placements, tickets.start)))
                }
                Some((_, Err(error))) => Poll::Ready(Err(error.clone())),
                None => {
                    state.wait(&mut slot, context.waker());
                    Poll::Pending
                }
            }
        });
        this.slot = if found.is_ready() { None } else { slot };
        if let Poll::Ready(sent) = &found
            && let Some(span) = this.span.take()
        {
            spans::sent(&span, sent);
        }
        found
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let forgotten =
                self.fate.with(|state| state.waiting.get_mut(slot).and_then(Option::take));
            drop(forgotten);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use yard_wire::requests::{AckNodes, AckPlace};
    use yard_wire::{Code, QueueOffset};

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn placements(offsets: &[u64]) -> Result<Placements, Error> {
        let offsets = offsets.iter().map(|offset| Some(QueueOffset(*offset))).collect();
        let (place, nodes, duplicate) = (AckPlace::Memory, AckNodes::One, false);
        Ok(Placements { place, nodes, duplicate, offsets, originals: Vec::new() })
    }

    fn receipt(fate: &Arc<Fate>, ticket: u64) -> Receipt {
        Receipt::new(MessageId::default(), QueueIndex(3), ticket, fate.clone())
    }

    fn poll(receipt: &mut Receipt, bell: &Arc<Bell>) -> Poll<Result<u64, Code>> {
        let waker = Waker::from(bell.clone());
        let found = Pin::new(receipt).poll(&mut Context::from_waker(&waker));
        found.map(|result| result.map(|sent| sent.offset.unwrap().0).map_err(|error| error.code))
    }

    #[test]
    fn each_has_its_own_result_however_often_it_asks() {
        let (fate, bell) = (Fate::new("t".into()), Arc::new(Bell::default()));
        let [mut a, mut b, mut c] = [5, 6, 7].map(|ticket| receipt(&fate, ticket));
        assert!(poll(&mut b, &bell).is_pending() && poll(&mut b, &bell).is_pending());
        assert!(poll(&mut c, &bell).is_pending());
        fate.tell(5..6, Err(Error::new(Code::TimedOut, "")));
        assert_eq!(poll(&mut a, &bell), Poll::Ready(Err(Code::TimedOut)));
        assert_eq!(bell.0.swap(0, Ordering::SeqCst), 2, "whoever waited looks again");
        assert!(poll(&mut c, &bell).is_pending() && poll(&mut b, &bell).is_pending());
        fate.tell(6..8, placements(&[40, 41]));
        assert_eq!(bell.0.load(Ordering::SeqCst), 2);
        assert_eq!(poll(&mut c, &bell), Poll::Ready(Ok(41)));
        assert_eq!(poll(&mut b, &bell), Poll::Ready(Ok(40)));
        assert_eq!(poll(&mut b, &bell), Poll::Ready(Ok(40)), "and the same again");
    }

    #[test]
    fn a_dropped_receipt_wakes_nobody_and_keeps_nothing() {
        let (fate, bell) = (Fate::new("t".into()), Arc::new(Bell::default()));
        let (mut kept, mut dropped) = (receipt(&fate, 0), receipt(&fate, 1));
        assert!(poll(&mut dropped, &bell).is_pending() && poll(&mut kept, &bell).is_pending());
        drop(dropped);
        // The bell, and the waker of the one that is kept.
        assert_eq!(Arc::strong_count(&bell), 2);
        fate.tell(0..2, placements(&[0, 1]));
        assert_eq!(bell.0.load(Ordering::SeqCst), 1);
        assert_eq!(poll(&mut kept, &bell), Poll::Ready(Ok(0)));
        let mut late = receipt(&fate, 1);
        assert_eq!(poll(&mut late, &bell), Poll::Ready(Ok(1)), "without having waited");
    }

    #[test]
    fn another_task_may_go_on_waiting() {
        let (fate, one, other) =
            (Fate::new("t".into()), Arc::new(Bell::default()), Arc::new(Bell::default()));
        let mut moved = receipt(&fate, 0);
        assert!(poll(&mut moved, &one).is_pending() && poll(&mut moved, &other).is_pending());
        fate.tell(0..1, placements(&[9]));
        let rung = (one.0.load(Ordering::SeqCst), other.0.load(Ordering::SeqCst));
        assert_eq!(rung, (0, 1), "the last that asked is woken");
    }
}
