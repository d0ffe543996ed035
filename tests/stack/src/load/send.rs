//! Who sends: one by one, late, under keys, in order groups, and in transactions.
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use yard_checker::{AckLevel, Event, Outcome, Sent};
use yard_client::wire::operation::DelayCancel;
use yard_client::{
    Ack, Client, Error, Message, MessageId, Receipt, SendResult, Transaction, Transactions,
    TransactionsBuilder,
};
use yard_sim::Random;

use super::{Crew, PRODUCERS, TOPIC, message, until_done};
use crate::ledger::Fate;
use crate::planted::Plant;

/// A message is sent again for so long: whatever happens, it arrives in the end.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Order groups, which producers share.
const ORDER_GROUPS: u64 = 3;
/// Dedupe keys, which producers share.
const KEYS: u64 = 6;
/// A delayed message is due after this, at most, in milliseconds.
const DELAY_MS_MAX: u64 = 3_000;
/// Of 100 delayed messages, those that are wanted back.
const CANCEL_PERCENT: u64 = 15;
/// Messages of a transaction at most.
const TX_MESSAGES_MAX: u64 = 5;

/// A message that is to be sent.
struct Letter {
    message: Message,
    sent: Sent,
    /// Its dedupe key.
    key: Option<u64>,
    /// If it is delayed, it is wanted back.
    is_regretted: bool,
}

/// Sends this producer's share of the messages, spread over the time of sending, and waits for
/// every answer.
pub(crate) async fn produce(
    crew: Crew,
    number: usize,
    client: Client,
    random: Random,
) -> Result<(), Error> {
    let plan = Arc::clone(&crew.plan);
    let building = || {
        let builder = client.producer(TOPIC).ack(plan.producers[number]);
        builder.batch_bytes(plan.batch_bytes()).delivery_timeout(DELIVERY_TIMEOUT).build()
    };
    let producer = until_done(building).await?;
    let transactions = match plan.transactional {
        0 => None,
        _ => Some(until_done(|| transactions(&crew, &client).build()).await?),
    };
    let count = plan.messages() / plan.producers.len() as u64;
    let (number, turn) = (number as u64, Arc::default());
    let mut sender = Sender { crew, number, client, random, seq: 0, turn };
    let mut waiting: JoinSet<()> = JoinSet::new();
    while sender.seq < count {
        match &transactions {
            Some(transactions) if sender.random.percent(plan.transactional) => {
                waiting.spawn(sender.transact(transactions.clone(), count - sender.seq));
            }
            _ => {
                let letter = sender.write(false);
                let sending = producer.enqueue(letter.message.clone()).await;
                waiting.spawn(sender.hear(letter, sending));
            }
        }
        // Bursts and pauses.
        if sender.random.once_in(3) {
            let pause = sender.random.below(2 * 3 * plan.sending_ms / count.max(1) + 1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
    while waiting.join_next().await.is_some() {}
    if let Some(transactions) = transactions {
        sender.crew.ledger.answer_on(transactions);
    }
    producer.close().await
}

/// Transactions of a producer that answers for all of its group.
fn transactions(crew: &Crew, client: &Client) -> TransactionsBuilder {
    let ledger = crew.ledger.clone();
    client.transactions(PRODUCERS).check(move |pending| {
        let verdict = ledger.verdict(&pending.note);
        async move { verdict }
    })
}

struct Sender {
    crew: Crew,
    /// Of the producer.
    number: u64,
    client: Client,
    random: Random,
    /// The number of its next message.
    seq: u64,
    /// Its transactions are one after another: their messages are batches of their own then, and a
    /// small segment holds each.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Sender {
    /// Writes the next message, of a transaction or not.
    fn write(&mut self, is_in_tx: bool) -> Letter {
        let Self { crew, number, random, .. } = self;
        let (plan, seq) = (&crew.plan, self.seq);
        self.seq += 1;
        // What a transaction stores cannot be compared before it is decided.
        let key = (!is_in_tx && random.percent(plan.keyed)).then(|| random.below(KEYS));
        let order_group = (key.is_none() && !random.once_in(3)).then(|| random.below(ORDER_GROUPS));
        let may_name = key.is_none() && order_group.is_none();
        let queue =
            (may_name && random.once_in(2)).then(|| random.below(plan.queues.into()) as u16);
        // Those sent after it would overtake it, so an ordered topic takes none.
        let is_delayed = !plan.is_ordered && random.percent(plan.delayed);
        let due = is_delayed.then(|| crew.recorder.due(random.range(1, DELAY_MS_MAX)));
        let filler = random.below(plan.body_bytes);
        let (mut message, hash) = message(*number, seq, filler, random);
        if let Some(key) = key.filter(|_| crew.plant != Some(Plant::KeysForgotten)) {
            message = message.dedupe(key.to_string());
        }
        if let Some(group) = order_group {
            message = message.order_group(group.to_string());
        }
        if let Some(queue) = queue {
            message = message.queue(queue);
        }
        if let Some((instant, _)) = due {
            message = message.deliver_at(instant);
        }
        let sent = Sent {
            client: *number,
            tenant: 0,
            // Of what names none it is known with the answer.
            queue: crew.queue(queue.unwrap_or_default()),
            producer: *number,
            seq,
            order_group,
            hash,
            due: due.map(|(_, due)| due),
            expires: None,
            invoked: crew.recorder.now(),
            completed: None,
            outcome: Outcome::Unknown,
            level: match plan.producers[*number as usize] {
                _ if is_in_tx => AckLevel::Synced,
                Ack::Memory => AckLevel::Memory,
                Ack::Written => AckLevel::Written,
                Ack::Synced => AckLevel::Synced,
            },
        };
        let is_regretted = is_delayed && key.is_none() && random.percent(CANCEL_PERCENT);
        Letter { message, sent, key, is_regretted }
    }

    /// Waits for what becomes of a message.
    fn hear(
        &self,
        letter: Letter,
        sending: Result<Receipt, Error>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (crew, client) = (self.crew.clone(), self.client.clone());
        async move {
            let receipt = match sending {
                Ok(receipt) => receipt,
                Err(error) => return refused(&crew, &letter.sent, &error),
            };
            let (id, Letter { mut sent, key, is_regretted, .. }) = (receipt.id(), letter);
            if let Some(key) = key {
                crew.ledger.keyed(key, (sent.producer, sent.seq), id);
            }
            match receipt.await {
                Ok(result) => answered(&crew, &mut sent, (key, id), &result),
                // Nothing in a run gives a reason to refuse a message, or to give it up.
                Err(error) => refused(&crew, &sent, &error),
            }
            sent.completed = Some(crew.recorder.now());
            if sent.due.is_some() && matches!(sent.outcome, Outcome::Ok { .. }) {
                let is_back = is_regretted && take_back(&crew, &client, &mut sent, id).await;
                crew.ledger.delayed(is_back);
            }
            crew.recorder.push(Event::Send(sent));
        }
    }

    /// Sends some messages in a transaction, while others are sent outside of it.
    fn transact(
        &mut self,
        transactions: Transactions,
        left: u64,
    ) -> impl Future<Output = ()> + Send + use<> {
        let note = format!("work {}.{}", self.number, self.seq);
        let count = self.random.range(1, TX_MESSAGES_MAX).min(left);
        let letters: Vec<Letter> = (0..count).map(|_| self.write(true)).collect();
        let is_good = self.random.percent(70);
        let is_orphaned = self.random.percent(25);
        let work = Duration::from_millis(self.random.pick(&[0, 0, 100, 1_000]));
        let (crew, turn) = (self.crew.clone(), Arc::clone(&self.turn));
        async move {
            let _turn = turn.lock().await;
            crew.ledger.begin(&note);
            let transaction = match transactions.begin(note.clone()).await {
                Ok(transaction) => transaction,
                Err(error) => {
                    expect_passing(&crew, &note, &error);
                    return crew.ledger.record(&note, Fate::RolledBack, true);
                }
            };
            let mut is_whole = true;
            for letter in letters {
                is_whole &= prepare(&crew, &note, &transaction, letter).await;
            }
            tokio::time::sleep(work).await;
            let is_good = is_good && is_whole;
            let fate =
                if is_good { Fate::Committed(crew.recorder.now()) } else { Fate::RolledBack };
            crew.ledger.record(&note, fate, is_orphaned);
            let told = match (is_orphaned, is_good) {
                // Its process is gone, as it were: the broker has to ask.
                (true, _) => return drop(transaction),
                (false, true) => transaction.commit().await,
                (false, false) => transaction.rollback().await,
            };
            if let Err(error) = told {
                expect_passing(&crew, &note, &error);
            }
        }
    }
}

/// Sends a message of a transaction; whether it is stored for certain.
async fn prepare(crew: &Crew, note: &str, transaction: &Transaction, letter: Letter) -> bool {
    let Letter { message, mut sent, .. } = letter;
    sent.invoked = crew.recorder.now();
    let result = transaction.send(TOPIC, message).await;
    sent.completed = Some(crew.recorder.now());
    match &result {
        Ok(result) => {
            sent.queue = crew.queue(result.queue.0);
            sent.outcome = Outcome::Ok { offset: result.offset.map(|offset| offset.0) };
        }
        // It was cut off for longer than it tries.
        Err(error) => expect_passing(crew, note, error),
    }
    crew.ledger.keep(note, sent);
    result.is_ok()
}

fn answered(
    crew: &Crew,
    sent: &mut Sent,
    (key, own): (Option<u64>, MessageId),
    result: &SendResult,
) {
    if result.id != own {
        // It is never to be seen itself.
        sent.outcome = Outcome::Refused;
        // What is delayed may be taken back.
        let holds = result.place == Ack::Synced && result.offset.is_some();
        return crew.ledger.duplicate(key, own, result.id, holds);
    }
    sent.queue = crew.queue(result.queue.0);
    sent.outcome = Outcome::Ok { offset: result.offset.map(|offset| offset.0) };
}

/// Wants a delayed message back: it is never seen then, else it is as if nobody had asked.
async fn take_back(crew: &Crew, client: &Client, sent: &mut Sent, id: MessageId) -> bool {
    sent.outcome = Outcome::Unknown;
    match client.admin().call(DelayCancel { id }).await {
        Ok(cancelled) if cancelled.cancelled => {
            sent.outcome = Outcome::Refused;
            true
        }
        Ok(_) => {
            sent.outcome = Outcome::Ok { offset: None };
            false
        }
        Err(error) => {
            expect_passing(crew, &format!("taking {id} back"), &error);
            false
        }
    }
}

fn refused(crew: &Crew, sent: &Sent, error: &Error) {
    crew.recorder.wrong(format!("message {}.{}: {error}", sent.producer, sent.seq));
}

/// A broker that is away is no mistake; that somebody else has decided is one.
fn expect_passing(crew: &Crew, what: &str, error: &Error) {
    if !error.is_retryable() {
        crew.recorder.wrong(format!("{what}: {error}"));
    }
}
