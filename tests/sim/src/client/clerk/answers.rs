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
                Asked::Fence(ticket) => {
                    let answer = fence_of(&result);
                    self.turn = self.going.take().filter(|_| answer == Some(fence::Answer::Stored));
                    if let Some(turn) = &mut self.turn {
                        turn.next = Sequence(turn.next.0 + 1);
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
