//! Why a record waits, and what else its header says of it.

/// Why a record is not delivered as soon as it is stored, and whether it is compared with earlier
/// ones before: bits, none for most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(pub(super) u32);

impl Flags {
    /// It goes to its queue at once.
    pub const NONE: Self = Self(0);
    /// It goes to its queue at the instant that its property [`super::DUE`] names.
    pub const DELAYED: Self = Self(1);
    /// Its transaction is open.
    pub const PREPARED: Self = Self(2);
    /// It is stored only if no other with the same [`super::DEDUPE`] was stored lately.
    pub const DEDUPE: Self = Self(4);

    /// The bits as the record has them; `None` when there are others.
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        let known = Self::DELAYED.0 | Self::PREPARED.0 | Self::DEDUPE.0;
        (bits & !known == 0).then_some(Self(bits))
    }

    /// The bits of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the record waits for a release.
    #[must_use]
    pub fn is_parked(self) -> bool {
        self.0 & (Self::DELAYED.0 | Self::PREPARED.0) != 0
    }
}
