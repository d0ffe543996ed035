//! What clerks are answered, as the objects know it.
use yard_linear::{fence, key, name, position, transaction};
use yard_wire::operation::{GroupSettingsRow, TopicRow};
use yard_wire::request::Reply;
use yard_wire::{Code, Refusal, Sequence, Wire};

use super::{Asked, Clerk, says_nothing};
use crate::base::Base;

type Told = Result<Reply, Refusal>;

impl Clerk {
    /// An answer has come. What says nothing about the object stays open.
    pub(super) fn answered(&mut self, base: &mut Base, asked: Asked, result: Told) {
        if result.as_ref().is_err_and(says_nothing) {
            return;
        }
        let now = base.now;
        let objects = &mut base.objects;
        let is_understood =
            match asked {
                Asked::Home | Asked::Route => return self.found_home(base, result),
                Asked::Transaction(ticket, span, ask) => {
                    let answer = transaction_of(&result);
                    self.has_heard(span, ask, answer);
                    self.closing.remove(&span);
                    answer.map(|answer| objects.transactions.completed(ticket, now, answer))
                }
                Asked::Key(ticket) => {
                    key_of(&result).map(|answer| objects.keys.completed(ticket, now, answer))
                }
                Asked::Position(ticket) => position_of(&result)
                    .map(|answer| objects.positions.completed(ticket, now, answer)),
                Asked::Settings(ticket) => settings_of(&result)
                    .map(|answer| objects.settings.completed(ticket, now, answer)),
                Asked::Name(ticket) => {
                    name_of(&result).map(|answer| objects.names.completed(ticket, now, answer))
                }
                Asked::Fence { ticket, is_replayed } => {
                    let answer = fence_of(&result);
                    self.turn = self.going.take().filter(|_| answer == Some(fence::Answer::Stored));
                    if let Some(turn) = &mut self.turn {
                        turn.next = Sequence(turn.next.0 + 1);
                    }
                    if is_replayed && answer == Some(fence::Answer::Fenced) {
                        // Its copy may have been stored before the newer epoch was.
                        return;
                    }
                    answer.map(|answer| objects.fences.completed(ticket, now, answer))
                }
            };
        if is_understood.is_none() {
            base.fail(|| format!("a clerk was answered {result:?}"));
        }
    }

    /// What it need not close any more, or has asked about in vain.
    fn has_heard(&mut self, span: u64, ask: transaction::Ask, answer: Option<transaction::Answer>) {
        match answer {
            Some(transaction::Answer::Done) if ask == transaction::Ask::Begin => {}
            Some(transaction::Answer::Unknown) => {
                self.begun.entry(span).and_modify(|vain| *vain += 1);
            }
            Some(_) => drop(self.begun.remove(&span)),
            None => {}
        }
    }
}

fn transaction_of(result: &Told) -> Option<transaction::Answer> {
    match result {
        Ok(Reply::TxBegin(_) | Reply::TxDecide(_) | Reply::Call(_)) => {
            Some(transaction::Answer::Done)
        }
        Err(refusal) => match refusal.code {
            Code::TransactionFinished => Some(transaction::Answer::Finished),
            Code::UnknownTransaction => Some(transaction::Answer::Unknown),
            _ => None,
        },
        Ok(_) => None,
    }
}

fn key_of(result: &Told) -> Option<key::Answer> {
    let Ok(Reply::Produce(produced)) = result else { return None };
    let original = produced.originals.first();
    let told = |id: yard_wire::MessageId| key::Answer::Original(u128::from_be_bytes(id.0));
    Some(original.map_or(key::Answer::Stored, |original| told(original.id)))
}

fn fence_of(result: &Told) -> Option<fence::Answer> {
    match result {
        Ok(Reply::Produce(_)) => Some(fence::Answer::Stored),
        Err(refusal) if refusal.code == Code::ProducerFenced => Some(fence::Answer::Fenced),
        _ => None,
    }
}

fn position_of(result: &Told) -> Option<position::Answer> {
    match result {
        Ok(Reply::MoveGroup(moved)) => {
            let [queue] = &moved.queues[..] else { return None };
            let (before, after) = (queue.before.0, queue.after.0);
            Some(position::Answer::Moved { before, after })
        }
        Err(refusal) if refusal.code == Code::SeekBeyondEnd => Some(position::Answer::BeyondEnd),
        _ => None,
    }
}

fn settings_of(result: &Told) -> Option<(u32, u64)> {
    let Ok(Reply::Call(called)) = result else { return None };
    let row = GroupSettingsRow::from_bytes(called.result.clone()).ok()?;
    Some((row.max_attempts.0, row.key_count.0))
}

fn name_of(result: &Told) -> Option<name::Answer> {
    match result {
        Ok(Reply::Call(called)) => {
            let row = TopicRow::from_bytes(called.result.clone()).ok()?;
            Some(name::Answer::Is(row.id.0))
        }
        Err(refusal) => match refusal.code {
            Code::TopicExists => Some(name::Answer::Exists),
            Code::UnknownTopic => Some(name::Answer::Unknown),
            _ => None,
        },
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use yard_linear::{Judged, fence};
    use yard_wire::{ShardId, TopicId};

    use super::*;
    use crate::network::{ToClient, Weather};
    use crate::plan::Plan;

    /// What is judged of a clerk alone that is refused, where its frames are sent once more or not.
    fn fenced(replay_one_in: u64) -> Result<Judged, String> {
        let weather = Weather { replay_one_in, ..Weather::default() };
        let plan = Plan { weather, ..Plan::draw(1, 100) };
        let mut base = Base::new(plan, None, false);
        let mut clerk = Clerk::new(0, 1, 0);
        let session = base.network.connect(0, 0).expect("nothing is cut");
        clerk.link.session = Some(session);
        let question = clerk.about_fence(&mut base, 0, (TopicId(1), ShardId(0)));
        let (stream, request, asked) = question.expect("there is room");
        clerk.send(&mut base, stream, request, asked);
        let correlation = clerk.asked.as_ref().expect("it has asked").0;
        let refused = ToClient::Reply(correlation, Err(Code::ProducerFenced.into()));
        clerk.receive(&mut base, session, refused);
        assert!(clerk.asked.is_none() && clerk.turn.is_none(), "it goes on with another epoch");
        assert_eq!(base.failure, None);
        base.objects.fences.judge::<fence::Fence>()
    }

    #[test]
    fn a_refusal_of_what_was_sent_twice_is_not_taken_for_what_became_of_it() {
        assert_eq!(fenced(1), Ok(Judged { objects: 1, operations: 1, open: 1 }));
        let wrong = fenced(0).expect_err("nobody has a newer epoch");
        assert!(wrong.contains("-> Fenced"), "{wrong}");
    }
}
