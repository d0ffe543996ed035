//! Transactions of a scenario by the shipped client.
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use yard_client::{Client, Error, PendingTransaction, Transaction, Transactions, TxId, TxVerdict};
use yard_scenarios::host::Asked;

/// Questions that nobody has taken: more than a scenario asks.
const QUESTIONS_MAX: usize = 100;

/// What a scenario has begun, and who answers for it.
#[derive(Default)]
pub(crate) struct Transacting {
    /// Of each tenant and group.
    groups: BTreeMap<(String, String), Transactions>,
    /// What is open.
    pub(crate) open: BTreeMap<TxId, Transaction>,
    /// Producers that may be asked.
    pub(crate) answerers: BTreeMap<String, Answerer>,
}

impl Transacting {
    /// Begins one.
    pub(crate) async fn begin(
        &mut self,
        client: Client,
        (tenant, group): (&str, String),
        note: String,
    ) -> Result<TxId, Error> {
        let key = (tenant.to_owned(), group.clone());
        if !self.groups.contains_key(&key) {
            self.groups.insert(key.clone(), client.transactions(group).build().await?);
        }
        let open = self.groups[&key].begin(note).await?;
        let tx = open.id();
        self.open.insert(tx, open);
        Ok(tx)
    }
}

type Question = (PendingTransaction, oneshot::Sender<TxVerdict>);

/// A producer that says what it was asked, and answers when somebody tells it what.
pub(crate) struct Answerer {
    questions: mpsc::Receiver<Question>,
    taken: Vec<Question>,
    /// Asked for as long as it is there.
    _transactions: Transactions,
}

fn asked(question: &Question) -> Asked {
    let PendingTransaction { id: tx, check, note, .. } = question.0.clone();
    Asked { tx, check, note }
}

impl Answerer {
    pub(crate) async fn join(client: Client, group: &str) -> Result<Self, Error> {
        let (to, questions) = mpsc::channel(QUESTIONS_MAX);
        let handler = move |pending| {
            let to = to.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                // Where the scenario is over, nobody knows.
                let _ = to.send((pending, answer)).await;
                answered.await.unwrap_or(TxVerdict::Unknown)
            }
        };
        let transactions = client.transactions(group).check(handler).build().await?;
        Ok(Self { questions, taken: Vec::new(), _transactions: transactions })
    }

    /// So many questions, fewer when they do not come for `patience`; none: what is here.
    pub(crate) async fn asked(&mut self, wanted: usize, patience: Duration) -> Vec<Asked> {
        let mut came = Vec::new();
        while came.len() < wanted {
            match tokio::time::timeout(patience, self.questions.recv()).await {
                Ok(Some(question)) => came.push(question),
                Ok(None) | Err(_) => break,
            }
        }
        if wanted == 0 {
            came.extend(std::iter::from_fn(|| self.questions.try_recv().ok()));
        }
        let rows = came.iter().map(asked).collect();
        self.taken.extend(came);
        rows
    }

    /// Answers a question that was taken.
    pub(crate) fn answer(&mut self, question: &Asked, verdict: TxVerdict) {
        let is_it =
            |(pending, _): &Question| (pending.id, pending.check) == (question.tx, question.check);
        let at = self.taken.iter().position(is_it).expect("it was taken");
        let (_, answer) = self.taken.remove(at);
        // Where the client is gone, nobody waits for it.
        let _ = answer.send(verdict);
    }
}
