//! The life of a plugin's versions, as a value: which step may follow which, and what else moves
//! when one version does.
//!
//! ```text
//!   uploaded ─► verified ─► compiled ─► self-tested ─► shadow ─► canary ─► active ─► draining
//!      └───────────┴────────────┴─► refused   │ ▲         │ ▲       │         ▲ ▲        │
//!                                             │ └─ stop ──┘ └─ stop ┘         │ └─ roll  │
//!                                             └───────── promote ─────────────┘    back  ▼
//!                                                                             └────── retired
//! ```
//!
//! Invariants: at most one version each is active, in canary and in shadow; nothing runs that was
//! not compiled and self-tested; a refused version stays refused.
use std::collections::BTreeMap;

/// The number of a version among those of its plugin: 1, 2 and so on, by upload.
pub type VersionNumber = u32;

/// Where a version is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its bytes are here.
    Uploaded,
    /// Hash, signature, size, imports and exports are as they must be.
    Verified,
    /// The child process made an artefact of it.
    Compiled,
    /// It answered the vectors of its manifest.
    SelfTested,
    /// It judges sampled batches beside the active version, without effect.
    Shadow,
    /// It judges a share of the traffic.
    Canary,
    /// It judges.
    Active,
    /// Another version judges new batches; what began with this one ends with it.
    Draining,
    /// Nobody uses it; rolling back may take it again.
    Retired,
    /// It did not pass one of the checks before use.
    Refused,
}

/// What is done to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The checks of the upload passed.
    Verify,
    /// An artefact was made.
    Compile,
    /// The vectors were answered.
    SelfTest,
    /// A check before use failed.
    Refuse,
    /// Decide beside the active version.
    Shadow,
    /// Decide for a share of the traffic.
    Canary,
    /// Decide for all.
    Promote,
    /// End shadow or canary, by hand or by a rule.
    Stop,
    /// The last user of a draining version has let go of it.
    Drained,
    /// Take a version again that was active before.
    RollBack,
    /// Take the active version out of use, with none in its place.
    Disable,
}

/// A step that a version's stage does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// There is no such version.
    #[error("there is no version {0}")]
    NoSuchVersion(VersionNumber),
    /// The stage does not allow it.
    #[error("version {version} is {stage:?}, so it cannot take the step {step:?}")]
    NotFrom {
        /// The version.
        version: VersionNumber,
        /// Its stage.
        stage: Stage,
        /// What was asked.
        step: Step,
    },
    /// A canary or a shadow has nothing to be compared with.
    #[error("no version is active, so there is nothing to compare version {0} with")]
    NoActive(VersionNumber),
}

/// One version that went from a stage to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageChange {
    /// The version.
    pub version: VersionNumber,
    /// Its stage until now.
    pub from: Stage,
    /// Its stage from now on.
    pub to: Stage,
}

/// The versions of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    stages: BTreeMap<VersionNumber, Stage>,
    /// The version that was active before, unless it was disabled.
    previous: Option<VersionNumber>,
}

/// The versions of a plugin that have something to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Decides.
    pub active: Option<VersionNumber>,
    /// Decides for a share.
    pub canary: Option<VersionNumber>,
    /// Decides without effect.
    pub shadow: Option<VersionNumber>,
    /// Takes over when the active version is quarantined.
    pub previous: Option<VersionNumber>,
}

impl Versions {
    /// Adds a version that was uploaded, and gives it its number.
    pub fn upload(&mut self) -> VersionNumber {
        let version = self.stages.last_key_value().map_or(1, |(last, _)| last + 1);
        self.stages.insert(version, Stage::Uploaded);
        version
    }

    /// The stage of a version.
    #[must_use]
    pub fn stage(&self, version: VersionNumber) -> Option<Stage> {
        self.stages.get(&version).copied()
    }

    /// All versions and their stages, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (VersionNumber, Stage)> {
        self.stages.iter().map(|(version, stage)| (*version, *stage))
    }

    /// Which versions have something to do.
    #[must_use]
    pub fn running(&self) -> Running {
        Running {
            active: self.at(Stage::Active),
            canary: self.at(Stage::Canary),
            shadow: self.at(Stage::Shadow),
            previous: self.previous,
        }
    }

    /// Takes a step; returns all that changed, the version itself first.
    ///
    /// # Errors
    /// [`StepError`]; nothing changes then.
    pub fn apply(
        &mut self,
        version: VersionNumber,
        step: Step,
    ) -> Result<Vec<StageChange>, StepError> {
        let from = self.stage(version).ok_or(StepError::NoSuchVersion(version))?;
        let to = next(from, step).ok_or(StepError::NotFrom { version, stage: from, step })?;
        let active = self.at(Stage::Active);
        if matches!(to, Stage::Canary | Stage::Shadow) && active.is_none() {
            return Err(StepError::NoActive(version));
        }
        let mut changes = vec![StageChange { version, from, to }];
        // Who has the place now makes room.
        let displaced = match to {
            Stage::Active => active.map(|it| (it, Stage::Draining)),
            Stage::Canary | Stage::Shadow => self.at(to).map(|it| (it, Stage::SelfTested)),
            _ => None,
        };
        changes.extend(displaced.map(|(it, stage)| StageChange {
            version: it,
            from: to,
            to: stage,
        }));
        if step == Step::Disable {
            // Without an active version there is nothing to compare with.
            let compared = [Stage::Canary, Stage::Shadow];
            changes.extend(compared.into_iter().filter_map(|from| {
                Some(StageChange { version: self.at(from)?, from, to: Stage::SelfTested })
            }));
        }
        match to {
            Stage::Active => self.previous = active,
            Stage::Draining => self.previous = None,
            _ => {}
        }
        for change in &changes {
            assert_eq!(self.stages[&change.version], change.from, "changes say what was");
            self.stages.insert(change.version, change.to);
        }
        Ok(changes)
    }

    fn at(&self, stage: Stage) -> Option<VersionNumber> {
        let mut found = self.stages.iter().filter(|(_, it)| **it == stage).map(|(it, _)| *it);
        let first = found.next();
        debug_assert!(
            !matches!(stage, Stage::Active | Stage::Canary | Stage::Shadow)
                || found.next().is_none(),
            "one version each is active, canary and shadow"
        );
        first
    }
}

/// The stage after a step; `None` where the step is not allowed.
fn next(from: Stage, step: Step) -> Option<Stage> {
    use Stage::{
        Active, Canary, Compiled, Draining, Refused, Retired, SelfTested, Shadow, Uploaded,
        Verified,
    };
    let to = match (from, step) {
        (Uploaded, Step::Verify) => Verified,
        (Verified, Step::Compile) => Compiled,
        (Compiled, Step::SelfTest) => SelfTested,
        (Uploaded | Verified | Compiled, Step::Refuse) => Refused,
        (SelfTested | Canary, Step::Shadow) => Shadow,
        (SelfTested | Shadow, Step::Canary) => Canary,
        (SelfTested | Shadow | Canary, Step::Promote) => Active,
        (Shadow | Canary, Step::Stop) => SelfTested,
        (Active, Step::Disable) => Draining,
        (Draining, Step::Drained) => Retired,
        (Draining | Retired, Step::RollBack) => Active,
        _ => return None,
    };
    Some(to)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEPS: [Step; 11] = [
        Step::Verify,
        Step::Compile,
        Step::SelfTest,
        Step::Refuse,
        Step::Shadow,
        Step::Canary,
        Step::Promote,
        Step::Stop,
        Step::Drained,
        Step::RollBack,
        Step::Disable,
    ];

    fn self_tested(versions: &mut Versions) -> VersionNumber {
        let version = versions.upload();
        for step in [Step::Verify, Step::Compile, Step::SelfTest] {
            versions.apply(version, step).unwrap();
        }
        version
    }

    #[test]
    fn a_version_takes_over_and_is_rolled_back() {
        let mut versions = Versions::default();
        let first = self_tested(&mut versions);
        assert_eq!(versions.apply(first, Step::Canary), Err(StepError::NoActive(first)));
        versions.apply(first, Step::Promote).unwrap();
        let second = self_tested(&mut versions);
        versions.apply(second, Step::Shadow).unwrap();
        versions.apply(second, Step::Canary).unwrap();
        let running = Running { active: Some(1), canary: Some(2), shadow: None, previous: None };
        assert_eq!(versions.running(), running);
        let changes = versions.apply(second, Step::Promote).unwrap();
        assert_eq!(
            changes,
            [
                StageChange { version: 2, from: Stage::Canary, to: Stage::Active },
                StageChange { version: 1, from: Stage::Active, to: Stage::Draining },
            ]
        );
        assert_eq!(versions.running().previous, Some(first));
        versions.apply(first, Step::Drained).unwrap();
        versions.apply(first, Step::RollBack).unwrap();
        assert_eq!(versions.stage(second), Some(Stage::Draining));
        assert_eq!(versions.running().active, Some(first));
    }

    #[test]
    fn disabling_ends_what_compares_with_it() {
        let mut versions = Versions::default();
        let first = self_tested(&mut versions);
        versions.apply(first, Step::Promote).unwrap();
        let second = self_tested(&mut versions);
        versions.apply(second, Step::Canary).unwrap();
        assert_eq!(versions.apply(first, Step::Disable).unwrap().len(), 2);
        assert_eq!(versions.running(), Running::default());
        assert_eq!(versions.stage(second), Some(Stage::SelfTested));
    }

    proptest! {
        #[test]
        fn any_steps_keep_the_invariants(
            script in prop::collection::vec((0_u32..6, prop::sample::select(&STEPS[..])), 0..200)
        ) {
            let mut versions = Versions::default();
            let mut passed = BTreeMap::new();
            for (version, step) in script {
                if version == 0 {
                    versions.upload();
                    continue;
                }
                let before = versions.clone();
                let refused_before = before.stage(version) == Some(Stage::Refused);
                match versions.apply(version, step) {
                    Err(_) => prop_assert_eq!(&before, &versions),
                    Ok(changes) => {
                        prop_assert!(!refused_before, "a refused version stays refused");
                        prop_assert_eq!(changes[0].version, version);
                        if changes[0].to == Stage::SelfTested && step == Step::SelfTest {
                            passed.insert(version, true);
                        }
                    }
                }
                for stage in [Stage::Active, Stage::Canary, Stage::Shadow] {
                    let count = versions.iter().filter(|(_, it)| *it == stage).count();
                    prop_assert!(count <= 1, "{stage:?} {count} times");
                }
                let running = versions.running();
                prop_assert!(running.active.is_some() || running.canary.is_none());
                prop_assert!(running.active.is_some() || running.shadow.is_none());
                prop_assert_ne!(running.active.unwrap_or(0), running.previous.unwrap_or(u32::MAX));
                for runs in [running.active, running.canary, running.shadow, running.previous] {
                    prop_assert!(runs.is_none_or(|it| passed.contains_key(&it)));
                }
            }
        }
    }
}
