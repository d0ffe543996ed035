//! The verdicts of one batch: bit i is message i, lowest first, as plugins return them.
use yard_abi::Malformed;
use yard_abi::frame::FRAME_MESSAGES_MAX;
use yard_abi::verdict::Bitmap;

/// Bytes of a full bitmap.
const BITMAP_BYTES_MAX: usize = FRAME_MESSAGES_MAX.div_ceil(8);
const WORDS: usize = BITMAP_BYTES_MAX / 8;

const _: () = assert!(WORDS * 64 == FRAME_MESSAGES_MAX);

/// A set of messages of one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits([u64; WORDS]);

impl Bits {
    /// Reads the bitmap of a plugin for `count` messages.
    ///
    /// # Errors
    /// Those of [`Bitmap::parse`].
    pub fn read(bitmap: &[u8], count: u32) -> Result<Self, Malformed> {
        assert!(count as usize <= FRAME_MESSAGES_MAX, "a batch has no more messages");
        Bitmap::parse(bitmap, count)?;
        let mut bytes = [0; BITMAP_BYTES_MAX];
        bytes[..bitmap.len()].copy_from_slice(bitmap);
        let mut bits = Self::default();
        for (to, from) in bits.0.iter_mut().zip(bytes.as_chunks().0) {
            *to = u64::from_le_bytes(*from);
        }
        Ok(bits)
    }

    /// The first `count` messages.
    #[must_use]
    pub fn first(count: usize) -> Self {
        let mut bits = Self::default();
        for (index, word) in bits.0.iter_mut().enumerate() {
            let of_word = count.saturating_sub(index * 64).min(64);
            *word = if of_word == 64 { u64::MAX } else { (1 << of_word) - 1 };
        }
        bits
    }

    /// Whether message `index` is in the set.
    #[must_use]
    pub fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    /// Adds message `index`.
    pub fn add(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// The set without message `index`.
    #[must_use]
    pub fn without(mut self, index: usize) -> Self {
        self.0[index / 64] &= !(1 << (index % 64));
        self
    }

    /// Adds the messages of `other`, which were counted from message `from` on.
    pub(crate) fn add_from(&mut self, other: &Self, from: usize) {
        if from == 0 {
            *self = self.zip(*other, |one, two| one | two);
        } else {
            other.iter().for_each(|index| self.add(from + index));
        }
    }

    /// Messages in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Messages in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.zip(other, |one, two| one & two)
    }

    /// Messages in one set only.
    #[must_use]
    pub fn differing(self, other: Self) -> Self {
        self.zip(other, |one, two| one ^ two)
    }

    /// The messages in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.0.into_iter().enumerate();
        words.flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                let lowest = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(index * 64 + lowest)
            })
        })
    }

    fn zip(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|index| combine(self.0[index], other.0[index])))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bitmap_is_read_whole() {
        assert_eq!(Bits::read(&[], 0), Ok(Bits::default()));
        assert_eq!(Bits::read(&[0b101], 3).map(|it| it.iter().collect()), Ok(vec![0, 2]));
        assert_eq!(Bits::read(&[255; 32], 256), Ok(Bits::first(256)));
        for (bitmap, count) in [(&[0b1000_u8][..], 3), (&[], 3), (&[0, 0], 8)] {
            assert!(Bits::read(bitmap, count).is_err(), "{bitmap:?} for {count}");
        }
    }

    proptest! {
        #[test]
        fn sets_are_what_was_added(indices in prop::collection::btree_set(0_usize..256, 0..256)) {
            let mut bits = Bits::default();
            indices.iter().for_each(|index| bits.add(*index));
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), Vec::from_iter(indices.clone()));
            prop_assert_eq!(bits.count(), indices.len());
            prop_assert_eq!(bits.differing(Bits::first(256)).count(), 256 - indices.len());
        }
    }
}
