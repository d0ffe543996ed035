//! Single questions: retry, transaction check, and what a plugin says of itself.
use std::sync::Arc;

use yard_abi::View;
use yard_abi::manifest::Point;

use super::{Ask, HealthEvent, Worker};
use crate::bindings::{Attempt, Fate, Half, Next, Policy};
use crate::fault::{Fault, FaultKind};
use crate::guest::{Binding, Failed, Instance, Usage};
use crate::lifecycle::VersionNumber;
use crate::table::{Choice, Role, Rollout, Went};

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColdError {
    /// The plugin has no active version.
    #[error("the plugin has no active version")]
    Absent,
    /// It is not asked before a time.
    #[error("the plugin is not asked before {until_ms}")]
    Held {
        /// When, in milliseconds since 1970 UTC.
        until_ms: u64,
    },
    /// It failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The answer to a question, and what came with it.
#[derive(Clone, Debug)]
pub struct Asked<T> {
    /// The answer.
    pub answer: Result<T, ColdError>,
    /// Who gave it, or failed to.
    pub version: Option<(VersionNumber, Role)>,
    /// How a canary failed at the question, which the version in use then answered.
    pub canary_fault: Option<(VersionNumber, Fault)>,
    /// Changes of health.
    pub events: Vec<HealthEvent>,
    /// What it took.
    pub usage: Usage,
}

impl Worker {
    /// Asks a retry plugin when a message comes back.
    pub fn decide(&mut self, ask: &Ask, binding: &Arc<Binding>, attempt: &Attempt) -> Asked<Next> {
        self.ask(ask, Some(binding), |instance, usage| {
            instance.open(Point::Retry, binding, ask.now_ms, usage)?;
            instance.call(1, ask.now_ms, usage, |store, exports| exports.decide(store, attempt))
        })
    }

    /// Asks a transaction plugin what becomes of a prepared message.
    pub fn check(&mut self, ask: &Ask, binding: &Arc<Binding>, half: &Half) -> Asked<Fate> {
        self.ask(ask, Some(binding), |instance, usage| {
            instance.open(Point::TxnCheck, binding, ask.now_ms, usage)?;
            instance.call(1, ask.now_ms, usage, |store, exports| exports.check(store, half))
        })
    }

    /// Opens a point with its settings, and says what its frames must have. A fault of kind
    /// [`FaultKind::Refused`] has the guest's text for who set them.
    pub fn open(&mut self, ask: &Ask, binding: &Arc<Binding>, point: Point) -> Asked<View> {
        self.ask(ask, Some(binding), |instance, usage| {
            instance.open(point, binding, ask.now_ms, usage)
        })
    }

    /// Asks a dedupe plugin how long keys count, and what becomes of duplicates.
    pub fn describe(&mut self, ask: &Ask, binding: &Arc<Binding>) -> Asked<Policy> {
        self.ask(ask, Some(binding), |instance, usage| {
            instance.open(Point::Dedupe, binding, ask.now_ms, usage)?;
            instance.prepare(ask.now_ms, usage, |store, exports| exports.describe(store))
        })
    }

    /// Compiles a subscription's expression, when the subscription is made, and says what its
    /// frames must have. A fault of kind [`FaultKind::Refused`] has the guest's text for who wrote
    /// the expression.
    pub fn needs(&mut self, ask: &Ask, binding: &Arc<Binding>) -> Asked<View> {
        self.ask(ask, None, |instance, usage| instance.wanted(binding, ask.now_ms, usage))
    }

    /// Lets go of a subscription's expression, in all versions that know it.
    pub fn forget(&mut self, ask: &Ask, binding: &Arc<Binding>) {
        let (tenant, plugin) = (ask.tenant, ask.plugin);
        let knows = |key: &&super::SlotKey| key.tenant == tenant && key.plugin == plugin;
        let keys: Vec<super::SlotKey> = self.slots.keys().filter(knows).cloned().collect();
        for key in keys {
            let slot = self.slots.get_mut(&key).expect("the key was found above");
            let mut usage = Usage::default();
            let forgotten = slot.instance.forget(binding, ask.now_ms, &mut usage);
            self.bill(tenant, usage.fuel);
            if forgotten.is_err() {
                self.drop_slot(&key);
            }
        }
    }

    fn ask<T>(
        &mut self,
        ask: &Ask,
        binding: Option<&Arc<Binding>>,
        mut call: impl FnMut(&mut Instance, &mut Usage) -> Result<T, Failed>,
    ) -> Asked<T> {
        self.refresh();
        let rollout = self.table.plugins.get(&ask.plugin).map(Arc::clone);
        let rollout = rollout.unwrap_or_default();
        let first = self.ask_one(ask, &rollout, binding, &mut call);
        let (Some((version, Role::Canary)), Err(ColdError::Fault(fault))) =
            (first.version, &first.answer)
        else {
            return first;
        };
        // A canary harms no question: the version in use answers it.
        let fault = fault.clone();
        let without = Rollout { canary: None, ..Rollout::clone(&rollout) };
        let mut second = self.ask_one(ask, &without, binding, &mut call);
        second.usage.add(&first.usage);
        second.events.splice(..0, first.events);
        // What both refuse is the fault of who asks.
        let refused = |fault: &Fault| fault.kind == FaultKind::Refused;
        let is_both = refused(&fault)
            && matches!(&second.answer, Err(ColdError::Fault(other)) if refused(other));
        let is_fault = fault.kind != FaultKind::NoRoom && !is_both;
        second.canary_fault = is_fault.then_some((version, fault));
        second
    }

    /// Asks the version that a rollout has for this question.
    fn ask_one<T>(
        &mut self,
        ask: &Ask,
        rollout: &Rollout,
        binding: Option<&Arc<Binding>>,
        call: &mut impl FnMut(&mut Instance, &mut Usage) -> Result<T, Failed>,
    ) -> Asked<T> {
        let mut usage = Usage::default();
        let (canary_fault, events) = (None, Vec::new());
        let (installed, role) = match rollout.choose(ask.tenant, &ask.traffic, ask.now_ms) {
            Choice::Use(installed, role) => (installed, role),
            Choice::WaitUntil(until_ms) => {
                let answer = Err(ColdError::Held { until_ms });
                return Asked { answer, version: None, canary_fault, events, usage };
            }
            Choice::Nobody => {
                let answer = Err(ColdError::Absent);
                return Asked { answer, version: None, canary_fault, events, usage };
            }
        };
        let result = self.in_slot(ask, &installed, binding, &mut usage, call);
        let result = result.map_err(Failed::into_fault);
        self.bill(ask.tenant, usage.fuel);
        // A refusal is an answer for who asks; and want of room is not the plugin's fault.
        let is_answer =
            |fault: &Fault| matches!(fault.kind, FaultKind::Refused | FaultKind::NoRoom);
        let event = match &result {
            Ok(_) => Self::record(ask, &installed, rollout, role, Went::Well, None),
            Err(fault) if is_answer(fault) => None,
            Err(fault) => Self::record(ask, &installed, rollout, role, Went::Failed, Some(fault)),
        };
        let (answer, events) = (result.map_err(ColdError::Fault), event.into_iter().collect());
        let version = Some((installed.version(), role));
        Asked { answer, version, canary_fault, events, usage }
    }
}
