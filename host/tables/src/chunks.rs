//! A list that grows at its end and never moves what it holds, but for the first few.
use std::ops::{Index, IndexMut};

/// Items of a chunk.
const CHUNK_ITEMS: usize = 1_024;

/// The list.
#[derive(Debug)]
pub struct Chunks<T> {
    /// All but the last are full.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunks<T> {
    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let last = self.chunks.last().map_or(CHUNK_ITEMS, Vec::len);
        self.chunks.len() * CHUNK_ITEMS + last - CHUNK_ITEMS
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds an item at the end: its number is how many there were.
    pub fn push(&mut self, item: T) {
        let room = match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK_ITEMS => return last.push(item),
            Some(_) => CHUNK_ITEMS,
            // The first one grows: there may be a few items only.
            None => 1,
        };
        let mut chunk = Vec::with_capacity(room);
        chunk.push(item);
        self.chunks.push(chunk);
    }

    /// The items in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// The items in the order of their numbers, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }
}

/// # Panics
/// When there is no item with the number.
impl<T> Index<usize> for Chunks<T> {
    type Output = T;
    fn index(&self, number: usize) -> &T {
        &self.chunks[number / CHUNK_ITEMS][number % CHUNK_ITEMS]
    }
}

/// # Panics
/// When there is no item with the number.
impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        &mut self.chunks[number / CHUNK_ITEMS][number % CHUNK_ITEMS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_what_a_list_does() {
        let (mut chunks, mut model) = (Chunks::default(), Vec::new());
        assert_eq!((chunks.len(), chunks.is_empty()), (0, true));
        for number in 0..3 * CHUNK_ITEMS + 7 {
            chunks.push(number);
            model.push(number);
            assert_eq!(chunks.len(), model.len());
            chunks[number / 2] += 1;
            model[number / 2] += 1;
        }
        chunks.iter_mut().for_each(|item| *item *= 3);
        model.iter_mut().for_each(|item| *item *= 3);
        assert!(chunks.iter().eq(&model) && !chunks.is_empty());
        assert!((0..model.len()).all(|number| chunks[number] == model[number]));
    }

    #[test]
    fn what_it_holds_stays_where_it_is() {
        let mut chunks = Chunks::default();
        (0..2 * CHUNK_ITEMS).for_each(|number| chunks.push(number));
        let places: Vec<*const usize> = chunks.iter().map(std::ptr::from_ref).collect();
        (0..CHUNK_ITEMS).for_each(|number| chunks.push(number));
        assert!(
            places.iter().copied().eq(chunks.iter().take(places.len()).map(std::ptr::from_ref))
        );
    }
}
