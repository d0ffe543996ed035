//! Transactions: begun and decided as a producer does, and asked about by the broker.
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{JoinProducers, TxBegin, TxCheck, TxDecide, TxVerdict};
use yard_wire::{Epoch, ProducerId, TxId};

use super::{ATTEMPTS, Care, LINGERS_MAX, Line, SHARD, Wired, unexpected};
use crate::host::{Asked, Beginning, Decision, Outcome};

/// Who begins transactions where the step does not say it.
const OWN: ProducerId = ProducerId(2_000_000);

/// A producer that the broker may ask.
struct Answerer {
    name: String,
    tenant: String,
    group: String,
    session: u64,
    /// What it was asked, and nobody has taken.
    checks: Vec<TxCheck>,
}

/// What is known here of transactions.
#[derive(Default)]
pub(super) struct Transacting {
    answerers: Vec<Answerer>,
    /// How many have begun.
    begun: u64,
}

impl Transacting {
    pub(super) fn asks_nobody(&self) -> bool {
        self.answerers.is_empty()
    }

    /// A question has arrived.
    pub(super) fn take(&mut self, session: u64, check: TxCheck) {
        if let Some(asked) = self.answerers.iter_mut().find(|it| it.session == session) {
            asked.checks.push(check);
        }
    }

    fn of(&mut self, producer: &str) -> &mut Answerer {
        let found = self.answerers.iter_mut().find(|it| it.name == producer);
        found.expect("it has joined")
    }
}

fn done(reply: Reply) -> Outcome<()> {
    match reply {
        Reply::TxBegin(_) | Reply::TxDecide(_) | Reply::JoinProducers(_) => Ok(()),
        other => Err(unexpected(&other)),
    }
}

impl<L: Line> Wired<L> {
    pub(super) fn begin_transaction(
        &mut self,
        tenant: &str,
        beginning: &Beginning,
    ) -> Outcome<TxId> {
        let Beginning { group, note, named } = beginning.clone();
        let own = (OWN, Epoch(0), self.transacting.begun);
        let (producer, epoch, number) = named.unwrap_or(own);
        let tx = TxId { coordinator: SHARD, producer, epoch, number };
        // The same name again is the same transaction.
        let begun = self.ask(tenant, &Request::TxBegin(TxBegin { tx, group, note }), true)?;
        self.transacting.begun += 1;
        done(begun).map(|()| tx)
    }

    pub(super) fn decide_transaction(&mut self, tenant: &str, decision: &Decision) -> Outcome<()> {
        let Decision { tx, group, check, commit, .. } = decision.clone();
        let verdict = if commit { TxVerdict::Commit } else { TxVerdict::Rollback };
        let request = Request::TxDecide(TxDecide { tx, group, verdict, check });
        self.ask(tenant, &request, true).and_then(done)
    }

    pub(super) fn join_producers(
        &mut self,
        tenant: &str,
        producer: &str,
        group: &str,
    ) -> Outcome<()> {
        let (name, tenant, group) = (producer.to_owned(), tenant.to_owned(), group.to_owned());
        let (session, checks) = (0, Vec::new());
        self.transacting.answerers.push(Answerer { name, tenant, group, session, checks });
        self.join_at(self.transacting.answerers.len() - 1)
    }

    /// All connections are gone, and whoever is asked comes back.
    pub(super) fn join_again(&mut self) {
        for at in 0..self.transacting.answerers.len() {
            self.join_at(at).expect("it was taken before");
        }
    }

    fn join_at(&mut self, at: usize) -> Outcome<()> {
        for _ in 0..ATTEMPTS {
            let answerer = &self.transacting.answerers[at];
            let (group, tenant) = (answerer.group.clone(), self.tenant_id(&answerer.tenant)?);
            let session = self.line.connect(tenant);
            self.transacting.answerers[at].session = session;
            let request = Request::JoinProducers(JoinProducers { shard: SHARD, group });
            match self.line.ask(session, request, Care::Once) {
                None => self.sessions.clear(),
                Some(answer) => return answer.and_then(done),
            }
        }
        unreachable!("nobody kills the broker under such a request")
    }

    /// What a producer was asked; waits a little for so many questions.
    pub(super) fn take_checks(&mut self, producer: &str, wanted: usize) -> Vec<Asked> {
        for _ in 0..LINGERS_MAX {
            self.collect();
            let arrived = self.transacting.of(producer).checks.len();
            if arrived >= wanted || !self.line.linger() {
                break;
            }
        }
        let taken = std::mem::take(&mut self.transacting.of(producer).checks);
        let asked = |TxCheck { tx, check, note, .. }| Asked { tx, check, note };
        taken.into_iter().map(asked).collect()
    }

    pub(super) fn answer_check(
        &mut self,
        producer: &str,
        asked: &Asked,
        verdict: TxVerdict,
    ) -> Outcome<()> {
        if verdict == TxVerdict::Unknown {
            // A client that does not know says nothing, and is asked again.
            return Ok(());
        }
        let answerer = self.transacting.of(producer);
        let (tenant, group) = (answerer.tenant.clone(), answerer.group.clone());
        let Asked { tx, check, .. } = *asked;
        let request = Request::TxDecide(TxDecide { tx, group, verdict, check });
        self.ask(&tenant, &request, true).and_then(done)
    }
}
