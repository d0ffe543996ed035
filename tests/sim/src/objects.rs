//! Small objects that clerks contend for, and the search for an order in which what they were told
//! is right; see [`yard_linear`]. Objects are numbered by the span of time that they belong to.
use yard_linear::{Histories, Judged, fence, key, lock, name, position, settings, transaction};

use crate::base::Base;

/// What was asked of every object.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub transactions: Histories<transaction::Ask, transaction::Answer>,
    pub keys: Histories<u128, key::Answer>,
    pub positions: Histories<u64, position::Answer>,
    pub settings: Histories<settings::Ask, (u32, u64)>,
    pub names: Histories<name::Ask, name::Answer>,
    pub locks: Histories<lock::Ask, ()>,
    pub fences: Histories<u32, fence::Answer>,
}

impl Objects {
    /// Judges all of them.
    ///
    /// # Errors
    /// The kind of the first that is wrong, and what was asked of it.
    fn judge(&self) -> Result<Judged, (&'static str, String)> {
        let kinds = [
            ("transaction", self.transactions.judge::<transaction::Transaction>()),
            ("dedupe key", self.keys.judge::<key::Key>()),
            ("position", self.positions.judge::<position::Position>()),
            ("settings", self.settings.judge::<settings::Settings>()),
            ("topic name", self.names.judge::<name::Name>()),
            ("queue of one's own", self.locks.judge::<lock::Lock>()),
            ("epoch", self.fences.judge::<fence::Fence>()),
        ];
        let mut sum = Judged::default();
        for (kind, judged) in kinds {
            sum += judged.map_err(|wrong| (kind, wrong))?;
        }
        Ok(sum)
    }
}

/// A run is over: every object is judged.
pub(crate) fn check(base: &mut Base) -> Judged {
    base.objects.judge().unwrap_or_else(|(kind, wrong)| {
        base.fail(|| format!("{kind}, {wrong}"));
        Judged::default()
    })
}
