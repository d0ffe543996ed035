//! Transactions: messages that become visible together with local work, or not at all.
//!
//! ```text
//!   begin ──► send, send, … (prepared: stored, invisible) ──► local work ──► commit or roll back
//!                                                                 │
//!   a program died, or its decision did not arrive: the broker asks any of the group
//!                                                                 ▼
//!                                                   check handler: what does the local work say?
//! ```
//!
//! Commit what the local work has recorded, and record it before: then whoever is asked later
//! answers the same.
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use yard_wire::limits::TX_NOTE_BYTES_MAX;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckPlace, TxBegin, TxDecide, TxVerdict};
use yard_wire::{Code, Epoch, ProducerId, ShardId, Timestamp, TxId};

use crate::client::{Resend, unexpected};
use crate::{Client, Error, Message, Producer, SendResult};

mod checks;

/// A transaction that the broker asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingTransaction {
    /// The transaction.
    pub id: TxId,
    /// What was said when it began.
    pub note: String,
    /// When it began, by the broker's clock.
    pub begun: Timestamp,
    /// How often the broker has asked by now, from 1.
    pub check: u16,
}

type Answering = Pin<Box<dyn Future<Output = TxVerdict> + Send>>;

/// Answers checks.
#[derive(Clone)]
struct Handler(Arc<dyn Fn(PendingTransaction) -> Answering + Send + Sync>);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

/// Settings of a producer group's transactions; made by [`Client::transactions`].
#[derive(Clone, Debug)]
pub struct TransactionsBuilder {
    client: Client,
    group: String,
    handler: Option<Handler>,
}

impl TransactionsBuilder {
    pub(crate) fn new(client: Client, group: String) -> Self {
        Self { client, group, handler: None }
    }

    /// Says what is to become of a transaction that nobody has decided, of this or of another
    /// process of the group, from what the local work has recorded: [`TxVerdict::Commit`],
    /// [`TxVerdict::Rollback`], or [`TxVerdict::Unknown`] while the work goes on; then it is asked
    /// about again. Without a handler this process is never asked.
    #[must_use]
    pub fn check<F, A>(mut self, handler: F) -> Self
    where
        F: Fn(PendingTransaction) -> A + Send + Sync + 'static,
        A: Future<Output = TxVerdict> + Send + 'static,
    {
        self.handler = Some(Handler(Arc::new(move |pending| Box::pin(handler(pending)))));
        self
    }

    /// Makes them, with a random producer id of their own, and begins to answer checks.
    ///
    /// # Errors
    /// [`Code::BadName`] for the group; [`Code::Closed`]; or a code of the client from 801 on.
    pub async fn build(self) -> Result<Transactions, Error> {
        yard_wire::name::check(&self.group)?;
        let inner = self.client.inner();
        let shards = inner.all_shards().await?;
        let producer = ProducerId(inner.random.next_u64());
        let Some(count) = u64::try_from(shards.len()).ok().filter(|count| *count > 0) else {
            return Err(Error::new(Code::BadReply, "the broker has no shard"));
        };
        let coordinator = shards[(producer.0 % count) as usize];
        let (stop, stopped) = watch::channel(());
        if let Some(handler) = self.handler {
            checks::start(inner, self.group.clone(), handler, &shards, &stopped);
        }
        let shared = Shared {
            client: self.client,
            group: self.group,
            producer,
            coordinator,
            next: AtomicU64::new(0),
            producers: Mutex::default(),
            _stop: stop,
        };
        Ok(Transactions { shared: Arc::new(shared) })
    }
}

#[derive(Debug)]
struct Shared {
    client: Client,
    group: String,
    producer: ProducerId,
    coordinator: ShardId,
    next: AtomicU64,
    producers: Mutex<BTreeMap<String, Producer>>,
    /// Checks are answered until it is gone.
    _stop: watch::Sender<()>,
}

impl Shared {
    /// The producer for a topic.
    async fn producer(&self, topic: &str) -> Result<Producer, Error> {
        let known = |producers: &Mutex<BTreeMap<String, Producer>>| {
            let producers = producers.lock().unwrap_or_else(PoisonError::into_inner);
            producers.get(topic).cloned()
        };
        if let Some(known) = known(&self.producers) {
            return Ok(known);
        }
        let made = self.client.producer(topic).ack(AckPlace::Synced).build().await?;
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(producers.entry(topic.to_owned()).or_insert(made).clone())
    }

    async fn decide(&self, tx: TxId, verdict: TxVerdict) -> Result<(), Error> {
        let group = self.group.clone();
        let request = Request::TxDecide(TxDecide { tx, group, verdict, check: 0 });
        let inner = self.client.inner();
        match inner.ask(tx.coordinator, Some(0), request, Resend::Always).await? {
            Reply::TxDecide(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

/// Begins transactions for a producer group, and answers for it. Cheap to clone; all clones are the
/// same producer.
#[derive(Clone, Debug)]
pub struct Transactions {
    shared: Arc<Shared>,
}

impl Transactions {
    /// Name of the producer group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.shared.group
    }

    /// Begins a transaction: one round trip and a sync. `note` comes back with each check; say what
    /// finds the local work, for example an order's number. At most 255 bytes.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for a longer note; [`Code::LimitReached`] for more open transactions
    /// than a tenant may have; or a code of the client from 801 on.
    pub async fn begin(&self, note: impl Into<String>) -> Result<Transaction, Error> {
        let note = note.into();
        if note.len() > TX_NOTE_BYTES_MAX {
            let detail = format!("a note of {} bytes; at most {TX_NOTE_BYTES_MAX}", note.len());
            return Err(Error::new(Code::BadArgument, detail));
        }
        let Shared { client, group, producer, coordinator, next, .. } = &*self.shared;
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (coordinator, producer) = (*coordinator, *producer);
        let tx = TxId { coordinator, producer, epoch: Epoch(0), number };
        let request = Request::TxBegin(TxBegin { tx, group: group.clone(), note });
        // The same name again is the same transaction.
        match client.inner().ask(coordinator, Some(0), request, Resend::Always).await? {
            Reply::TxBegin(_) => {}
            other => return Err(unexpected(&other)),
        }
        let (unsure, shared) = (AtomicUsize::new(0), self.shared.clone());
        Ok(Transaction { shared, tx, unsure, failed: Mutex::default() })
    }
}

/// An open transaction. When it is dropped without a decision it stays open, and the broker asks
/// for one.
#[derive(Debug)]
#[must_use = "it stays open until somebody decides"]
pub struct Transaction {
    shared: Arc<Shared>,
    tx: TxId,
    /// Messages of which it is not known whether they are stored.
    unsure: AtomicUsize,
    /// Why a message could not be sent.
    failed: Mutex<Option<Error>>,
}

impl Transaction {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> TxId {
        self.tx
    }

    /// Sends a message to any topic of the tenant: stored when this returns, and visible once the
    /// transaction is committed; of a delayed one not before it is due. Several may be under way at
    /// a time. At most 1,000 in one shard.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Code::UnknownTopic`]; [`Code::TransactionTooLarge`];
    /// [`Code::UnknownTransaction`]. The transaction can only be rolled back then.
    pub async fn send(&self, topic: &str, message: Message) -> Result<SendResult, Error> {
        self.unsure.fetch_add(1, Ordering::AcqRel);
        let sent = match self.shared.producer(topic).await {
            Ok(producer) => producer.send(message.prepared(self.tx)).await,
            Err(error) => Err(error),
        };
        match &sent {
            Ok(_) => {
                self.unsure.fetch_sub(1, Ordering::AcqRel);
            }
            Err(error) => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| error.clone());
            }
        }
        sent
    }

    /// Makes its messages visible. It holds, whatever happens, when this returns; they are visible
    /// soon after, all of them, those in one shard at the same instant.
    ///
    /// Where a message was not sent for certain, the transaction is rolled back instead.
    ///
    /// # Errors
    /// Why a message was not sent; [`Code::TransactionFinished`] where somebody else has rolled it
    /// back; or a code of the client from 801 on. After [`Code::TimedOut`] or
    /// [`Code::Disconnected`] it may be committed: the broker asks, and gets its answer from the
    /// group's check handler.
    pub async fn commit(self) -> Result<(), Error> {
        if self.unsure.load(Ordering::Acquire) == 0 {
            return self.shared.decide(self.tx, TxVerdict::Commit).await;
        }
        let why = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let why = why.unwrap_or_else(|| {
            Error::new(Code::TimedOut, "a message was given up before it was known to be stored")
        });
        if let Err(error) = self.shared.decide(self.tx, TxVerdict::Rollback).await {
            tracing::debug!(%error, tx = %self.tx, "not rolled back; the broker will ask");
        }
        Err(why)
    }

    /// Drops its messages.
    ///
    /// # Errors
    /// [`Code::TransactionFinished`] where somebody else has committed it; or a code of the client
    /// from 801 on, as [`Transaction::commit`].
    pub async fn rollback(self) -> Result<(), Error> {
        self.shared.decide(self.tx, TxVerdict::Rollback).await
    }
}
