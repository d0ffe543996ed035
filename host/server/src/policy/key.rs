//! The dedupe keys that a plugin gives produced messages. They go with the batch: whether a key is
//! new is found out where the batch is appended, and nowhere else.
//!
//! ```text
//!   key, none ─► the message is compared by it, or by nothing: its sender's own does not count
//!   poison, no answer ─► stored unchecked, or refused: as the topic wants
//!   over its budget ─► a refusal of all: it answers in a while
//! ```
use std::collections::HashMap;
use std::sync::Arc;

use yard_abi::manifest::Point;
use yard_wasm::{
    Ask, Batch, Binding, ColdError, HealthEvent, Keying, PluginId, Role, Turn, Worker,
};
use yard_wire::record::Record;
use yard_wire::{Code, DedupeKey, Refusal};

use super::BINDINGS_MAX;
use super::ask::Unanswered;
use super::framed::{At, Stage};

/// What a plugin says of a message.
#[derive(Clone, Debug)]
pub(crate) enum Keyed {
    /// It is the same as those with this key.
    Key(DedupeKey),
    /// It is never a duplicate.
    Never,
    /// Nothing.
    Unchecked {
        /// What its sender is answered where that is not enough.
        why: Arc<Refusal>,
        /// The version that failed; 0: there was none.
        version: u32,
    },
}

/// The keyspaces of versions with their settings.
pub(super) type Keyspaces = HashMap<(PluginId, Arc<Binding>, u32), u32>;

/// The point.
pub(super) struct Key;

impl Key {
    /// The keyspace of a version; `None` when another one was published meanwhile.
    fn keyspace(at: &mut At<'_>, version: u32) -> Result<Option<u32>, ColdError> {
        let of = (at.asked.plugin, Arc::clone(&at.asked.binding), version);
        if let Some(known) = at.worker.keyspaces.get(&of) {
            return Ok(Some(*known));
        }
        let described = at.worker.plugins.describe(at.ask, &at.asked.binding);
        let by = at.asked.heard(at.worker, at.journal, &described, 0);
        let policy = described.answer?;
        if by != Some(version) {
            return Ok(None);
        }
        if at.worker.keyspaces.len() >= BINDINGS_MAX {
            at.worker.keyspaces.clear();
        }
        at.worker.keyspaces.insert(of, policy.keyspace);
        Ok(Some(policy.keyspace))
    }
}

impl Stage for Key {
    type Out = Keyed;
    type Progress = Keying;

    const POINT: Point = Point::Dedupe;

    fn turn(
        plugins: &mut Worker,
        ask: &Ask,
        binding: &Arc<Binding>,
        batch: &Batch<'_>,
        progress: &mut Keying,
    ) -> Turn {
        plugins.keys(ask, binding, batch, progress)
    }

    fn version(progress: &Keying) -> Option<(u32, Role)> {
        progress.version()
    }

    fn take_events(progress: &mut Keying) -> Vec<HealthEvent> {
        progress.take_events()
    }

    fn answered(
        at: &mut At<'_>,
        records: &[&Record],
        progress: &Keying,
    ) -> Result<Option<Vec<Keyed>>, Refusal> {
        let by = progress.version().expect("who has answered was chosen");
        let version = by.0;
        let keyspace = match Self::keyspace(at, version) {
            Ok(Some(keyspace)) => keyspace,
            Ok(None) => return Ok(None),
            Err(why) => {
                let why = at.asked.unanswered(why, Some(version), (at.ask, at.journal));
                let out = Self::unanswered(at, why)?;
                return Ok(Some(vec![out; records.len()]));
            }
        };
        let keyed = |key: &Vec<u8>| match &key[..] {
            [] => Keyed::Never,
            key => Keyed::Key(DedupeKey::of_plugin(keyspace, key)),
        };
        let mut outs: Vec<Keyed> = progress.keys().iter().map(keyed).collect();
        let well = outs.iter().filter(|out| matches!(out, Keyed::Key(_))).count();
        let poison = progress.poison();
        let faults = (poison, progress.canary_fault());
        at.count(by, (records.len(), well), faults, progress.usage());
        for poison in poison {
            let id = records[poison.index].id();
            let detail = format!("plugin {} at message {id}: {}", at.name(), poison.fault);
            let why = Arc::new(Refusal::new(Code::NotComparable, detail));
            outs[poison.index] = Keyed::Unchecked { why, version };
        }
        Ok(Some(outs))
    }

    fn unanswered(at: &At<'_>, why: Unanswered) -> Result<Keyed, Refusal> {
        let refusal = at.held(why.wait_ms());
        match why {
            // That is no fault of the plugin's, and passes by itself.
            Unanswered::Busy { .. } => Err(refusal),
            Unanswered::Absent | Unanswered::Failed | Unanswered::Held { .. } => {
                Ok(Keyed::Unchecked { why: Arc::new(refusal), version: 0 })
            }
        }
    }
}
