//! Whose turn it is on the policy workers: deficit round robin by the time that was taken, as a
//! value.
//!
//! ```text
//!   tenant A  job job job   credit  0.3 ms ─┐ the front one with credit goes; who has none gets
//!   tenant B  job           credit -1.2 ms  │ its quantum and goes behind the others
//!   tenant C  job job       credit  1.0 ms ─┘
//! ```
//!
//! What a job will take is not known before, so it is charged after it: who took long waits until
//! the others had as much.
use std::collections::{BTreeMap, VecDeque};

use yard_wire::TenantId;

/// Time that a tenant gets a turn, in nanoseconds.
const QUANTUM_NS: i64 = 1_000_000;
/// Nobody owes more than this, in nanoseconds.
const DEBT_NS_MAX: i64 = 100 * QUANTUM_NS;

/// The jobs of tenants that wait.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    waiting: BTreeMap<TenantId, VecDeque<T>>,
    /// Tenants with jobs, in the order of their turns; each once.
    ring: VecDeque<TenantId>,
    /// What is left of each tenant's turn; below 0 what it owes.
    credit_ns: BTreeMap<TenantId, i64>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), ring: VecDeque::new(), credit_ns: BTreeMap::new() }
    }
}

impl<T> Turns<T> {
    /// A job waits behind the others of its tenant.
    pub(crate) fn put(&mut self, tenant: TenantId, job: T) {
        let jobs = self.waiting.entry(tenant).or_default();
        if jobs.is_empty() {
            self.ring.push_back(tenant);
        }
        jobs.push_back(job);
    }

    /// A job that goes on comes before the others of its tenant.
    pub(crate) fn put_back(&mut self, tenant: TenantId, job: T) {
        let jobs = self.waiting.entry(tenant).or_default();
        if jobs.is_empty() {
            self.ring.push_back(tenant);
        }
        jobs.push_front(job);
    }

    /// The next job.
    pub(crate) fn take(&mut self) -> Option<(TenantId, T)> {
        loop {
            let Some(tenant) = self.ring.front().copied() else {
                // Nobody waits, so nobody is owed anything.
                self.credit_ns.clear();
                return None;
            };
            let credit = self.credit_ns.entry(tenant).or_insert(QUANTUM_NS);
            if *credit <= 0 {
                *credit += QUANTUM_NS;
                self.ring.rotate_left(1);
                continue;
            }
            let jobs = self.waiting.get_mut(&tenant).expect("who has a turn has jobs");
            let job = jobs.pop_front().expect("who has a turn has a job");
            if jobs.is_empty() {
                self.waiting.remove(&tenant);
                self.ring.pop_front();
            }
            return Some((tenant, job));
        }
    }

    /// A job of this tenant took so long.
    pub(crate) fn charge(&mut self, tenant: TenantId, ns: u64) {
        let credit = self.credit_ns.entry(tenant).or_insert(QUANTUM_NS);
        let ns = i64::try_from(ns).unwrap_or(DEBT_NS_MAX);
        *credit = (*credit - ns).max(-DEBT_NS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs jobs of given lengths until there are none, or for so long; what each tenant got.
    fn run(jobs: &[(u32, u64, usize)], ns_max: u64) -> BTreeMap<u32, u64> {
        let mut turns = Turns::default();
        for (tenant, ns, count) in jobs {
            (0..*count).for_each(|_| turns.put(TenantId(*tenant), *ns));
        }
        let (mut taken, mut total) = (BTreeMap::new(), 0);
        while total < ns_max {
            let Some((tenant, ns)) = turns.take() else { break };
            turns.charge(tenant, ns);
            *taken.entry(tenant.0).or_default() += ns;
            total += ns;
        }
        taken
    }

    #[test]
    fn time_is_shared_whatever_a_job_takes() {
        // Short jobs, long ones, and some that take longer than a turn.
        let jobs = [(1, 20_000, 100_000), (2, 900_000, 10_000), (3, 10_000_000, 1_000)];
        let taken = run(&jobs, 3_000_000_000);
        for (tenant, ns) in &taken {
            let share = *ns as f64 / 1e9;
            assert!((0.97..1.03).contains(&share), "tenant {tenant}: {share} of {taken:?}");
        }
        assert_eq!(taken.len(), 3);
    }

    #[test]
    fn who_is_alone_is_not_held_up() {
        let taken = run(&[(7, 50_000_000, 20)], u64::MAX);
        assert_eq!(taken[&7], 1_000_000_000);
        let mut turns: Turns<u8> = Turns::default();
        turns.charge(TenantId(1), 1 << 60);
        assert!(turns.take().is_none());
        assert!(turns.credit_ns.is_empty(), "an idle pool remembers no debts");
    }

    #[test]
    fn jobs_of_a_tenant_keep_their_order() {
        let mut turns = Turns::default();
        for job in 0..4 {
            turns.put(TenantId(1), job);
        }
        let (tenant, first) = turns.take().expect("a job");
        turns.put_back(tenant, first);
        let order: Vec<i32> = std::iter::from_fn(|| turns.take()).map(|(_, job)| job).collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }
}
