//! A sorted map in large pages, for tables of which every entry counts.
//!
//! ```text
//!   pages:  key 0 ─► [(0, …) (1, …) … (255, …)]   key 256 ─► [(256, …) …]   …
//! ```
//!
//! A `BTreeMap` that was filled in order is half empty, a page of this one is full: keys that come
//! in order are pushed to the last page. Others split a page that is full. And its nodes are small:
//! what was allocated and freed between them stays with the process.
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Entries of a page.
const PAGE_MAX: usize = 256;
/// Entries that a page has room for beyond those that it holds.
const SPARE: usize = 16;

/// The map. Keys and values are small: they are moved when others are inserted.
#[derive(Debug)]
pub struct Paged<K, V> {
    /// By a key that is not larger than those of the page, and larger than all before it.
    pages: BTreeMap<K, Vec<(K, V)>>,
    len: usize,
}

impl<K, V> Default for Paged<K, V> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), len: 0 }
    }
}

impl<K: Copy + Ord, V> Paged<K, V> {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let (_, page) = self.pages.range(..=key).next_back()?;
        let at = page.binary_search_by_key(key, |(key, _)| *key).ok()?;
        Some(&page[at].1)
    }

    /// The value of a key, which is the default where there was none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let (begin, at) = self.find(key).unwrap_or_else(|_| self.place(key, V::default()));
        let page = self.pages.get_mut(&begin).expect("found just now");
        &mut page[at].1
    }

    /// Returns the value that was there before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(key) {
            Ok((begin, at)) => {
                let page = self.pages.get_mut(&begin).expect("found just now");
                Some(std::mem::replace(&mut page[at].1, value))
            }
            Err(()) => {
                self.place(key, value);
                None
            }
        }
    }

    /// Takes an entry out; returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (begin, at) = self.find(*key).ok()?;
        let page = self.pages.get_mut(&begin).expect("found just now");
        let (_, value) = page.remove(at);
        if page.is_empty() {
            self.pages.remove(&begin);
        }
        self.len -= 1;
        Some(value)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pages.values().flatten().map(|(key, value)| (key, value))
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries in a range, in order.
    ///
    /// # Panics
    /// When the range ends before it begins.
    pub fn range(&self, range: RangeInclusive<K>) -> impl Iterator<Item = (&K, &V)> {
        let (start, end) = range.into_inner();
        assert!(start <= end, "a range has an order");
        let before = self.pages.range(..=start).next_back().map(|(begin, _)| *begin);
        let pages = self.pages.range(before.unwrap_or(start)..=end).map(|(_, page)| page);
        let wanted = pages.flat_map(move |page| {
            let from = page.partition_point(|(key, _)| *key < start);
            &page[from..page.partition_point(|(key, _)| *key <= end)]
        });
        wanted.map(|(key, value)| (key, value))
    }

    /// Where a key is: its page, and the place there.
    fn find(&self, key: K) -> Result<(K, usize), ()> {
        let (begin, page) = self.pages.range(..=key).next_back().ok_or(())?;
        let at = page.binary_search_by_key(&key, |(key, _)| *key).map_err(|_| ())?;
        Ok((*begin, at))
    }

    /// Inserts a key that is not there; returns where it is then.
    fn place(&mut self, key: K, value: V) -> (K, usize) {
        self.len += 1;
        let mut begin = match self.pages.range(..=key).next_back() {
            Some((begin, _)) => *begin,
            // It comes before all others: the first page begins with it from now on.
            None => {
                let first = self.pages.pop_first().map(|(_, page)| page).unwrap_or_default();
                self.pages.insert(key, first);
                key
            }
        };
        let page = self.pages.get_mut(&begin).expect("found or made just now");
        let mut at = page.partition_point(|(held, _)| *held < key);
        assert!(page.get(at).is_none_or(|(held, _)| *held != key), "the key is new");
        if page.len() == PAGE_MAX {
            if at == PAGE_MAX {
                // Where keys come in order, the new page will be full as well.
                let is_last = self.pages.range(key..).next().is_none();
                let mut page = Vec::with_capacity(if is_last { PAGE_MAX } else { SPARE });
                page.push((key, value));
                self.pages.insert(key, page);
                return (key, 0);
            }
            let upper = page.split_off(PAGE_MAX / 2);
            page.shrink_to_fit();
            let middle = upper[0].0;
            self.pages.insert(middle, upper);
            if at > PAGE_MAX / 2 {
                (begin, at) = (middle, at - PAGE_MAX / 2);
            }
        }
        let page = self.pages.get_mut(&begin).expect("found or made just now");
        if page.len() == page.capacity() {
            page.reserve_exact(SPARE.min(PAGE_MAX - page.len()));
        }
        page.insert(at, (key, value));
        (begin, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Like a `BTreeMap` that is told the same.
    #[test]
    fn does_what_a_sorted_map_does() {
        let (mut paged, mut model) = (Paged::default(), BTreeMap::new());
        let mut random = 7u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        for step in 0..40_000u64 {
            // Many keys, then few.
            let key = below(if step < 20_000 { 5_000 } else { 300 });
            match below(6) {
                0 | 1 => assert_eq!(paged.insert(key, step), model.insert(key, step)),
                2 => {
                    *paged.entry(key) += step;
                    *model.entry(key).or_default() += step;
                }
                3 => assert_eq!(paged.remove(&key), model.remove(&key)),
                4 => {
                    let range = key..=key + below(100);
                    assert!(paged.range(range.clone()).eq(model.range(range)), "step {step}");
                }
                _ => {}
            }
            assert_eq!(paged.get(&key), model.get(&key));
            assert_eq!(paged.len(), model.len());
        }
        assert!(paged.iter().eq(model.iter()) && !paged.is_empty());
        assert!(paged.pages.values().all(|page| page.len() <= PAGE_MAX));
    }

    #[test]
    fn pages_are_full_where_keys_come_in_order() {
        let mut paged = Paged::default();
        (0..100 * PAGE_MAX as u64).for_each(|key| assert_eq!(paged.insert(key, key), None));
        assert_eq!(paged.pages.len(), 100);
        let room: usize = paged.pages.values().map(Vec::capacity).sum();
        assert_eq!(room, paged.len(), "no place is empty");
    }
}
