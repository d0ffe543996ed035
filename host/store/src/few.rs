//! A list that mostly has one item, which then needs no memory of its own.
use std::ops::{Deref, DerefMut};

/// The list.
#[derive(Debug)]
pub(crate) enum Few<T> {
    One(T),
    Other(Vec<T>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Other(Vec::new())
    }
}

impl<T> Few<T> {
    /// Adds an item at the end. Room is made for few more: there are many such lists.
    pub(crate) fn push(&mut self, item: T) {
        match std::mem::take(self) {
            Self::One(first) => *self = Self::Other(vec![first, item]),
            Self::Other(items) if items.is_empty() => *self = Self::One(item),
            Self::Other(mut items) => {
                if items.len() == items.capacity() {
                    items.reserve_exact(1 + items.len() / 4);
                }
                items.push(item);
                *self = Self::Other(items);
            }
        }
    }

    /// Keeps the items that `wanted` says.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        *self = match std::mem::take(self) {
            Self::One(item) if wanted(&item) => Self::One(item),
            Self::One(_) => Self::default(),
            Self::Other(mut items) => {
                items.retain(wanted);
                if items.len() == 1 {
                    items.pop().map_or_else(Self::default, Self::One)
                } else {
                    Self::Other(items)
                }
            }
        };
    }

    /// Takes the last item away.
    pub(crate) fn pop(&mut self) -> Option<T> {
        match std::mem::take(self) {
            Self::One(item) => Some(item),
            Self::Other(mut items) => {
                let last = items.pop();
                *self = Self::Other(items);
                last
            }
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Other(items) => items,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(item) => std::slice::from_mut(item),
            Self::Other(items) => items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_what_a_list_does() {
        let (mut few, mut model) = (Few::default(), Vec::new());
        for (step, adds) in [3, 0, 1, 7, 2, 20].into_iter().enumerate() {
            for number in 0..adds {
                few.push(number);
                model.push(number);
                assert_eq!(&few[..], &model[..]);
            }
            if let Some(last) = few.last_mut() {
                *last += 100;
            }
            if let Some(last) = model.last_mut() {
                *last += 100;
            }
            for _ in 0..adds - adds.min(step) {
                assert_eq!(few.pop(), model.pop());
                assert_eq!(&few[..], &model[..]);
            }
        }
        while !model.is_empty() {
            assert_eq!(few.pop(), model.pop());
        }
        assert_eq!(few.pop(), None);
    }
}
