//! State that a plugin keeps with the host: small, in memory, and everything in it expires.
//!
//! One store a tenant and plugin, used by all workers and all versions; it is gone when the
//! process ends. Only cold points may ask for it, so its lock is on no hot path.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use yard_wire::TenantId;

use crate::limits::Limits;
use crate::table::PluginId;

/// What a key costs besides its bytes, which are held twice.
const OVERHEAD_BYTES: usize = 64;

/// A plugin's state has its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`kv` is full: {keys} keys, {bytes} bytes")]
pub(crate) struct KvFull {
    /// Keys that it holds.
    keys: usize,
    /// Bytes that they take.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: BTreeMap<Arc<[u8]>, (i64, u64)>,
    by_expiry: BTreeSet<(u64, Arc<[u8]>)>,
    bytes: usize,
}

/// The state of one plugin of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Kv {
    entries: Mutex<Entries>,
}

impl Kv {
    fn entries(&self, now_ms: u64) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.expire(now_ms);
        entries
    }

    /// The value of each key that is there; 0 where it was put without one.
    pub(crate) fn get_many(&self, keys: &[&[u8]], now_ms: u64) -> Vec<Option<i64>> {
        let entries = self.entries(now_ms);
        keys.iter().map(|key| entries.by_key.get(*key).map(|(value, _)| *value)).collect()
    }

    /// Puts a key; `false` when it is there already.
    pub(crate) fn put_if_absent(
        &self,
        key: &[u8],
        ttl_ms: u64,
        now_ms: u64,
        limits: &Limits,
    ) -> Result<bool, KvFull> {
        let mut entries = self.entries(now_ms);
        if entries.by_key.contains_key(key) {
            return Ok(false);
        }
        entries.put(key, 0, expiry(ttl_ms, now_ms, limits), limits)?;
        Ok(true)
    }

    /// Adds to a key's value, which is 0 where it is absent; its time begins anew.
    pub(crate) fn incr(
        &self,
        key: &[u8],
        by: i64,
        ttl_ms: u64,
        now_ms: u64,
        limits: &Limits,
    ) -> Result<i64, KvFull> {
        let mut entries = self.entries(now_ms);
        let value = entries.by_key.get(key).map_or(0, |(value, _)| *value).saturating_add(by);
        entries.put(key, value, expiry(ttl_ms, now_ms, limits), limits)?;
        Ok(value)
    }
}

fn expiry(ttl_ms: u64, now_ms: u64, limits: &Limits) -> u64 {
    now_ms.saturating_add(ttl_ms.min(limits.kv_ttl_ms_max).max(1))
}

impl Entries {
    fn put(
        &mut self,
        key: &[u8],
        value: i64,
        expires_ms: u64,
        limits: &Limits,
    ) -> Result<(), KvFull> {
        let bytes = key.len() + OVERHEAD_BYTES;
        let full = KvFull { keys: self.by_key.len(), bytes: self.bytes };
        let old = self.by_key.get_key_value(key).map(|(key, (_, at))| (*at, Arc::clone(key)));
        let key = match old {
            Some(old) => {
                self.by_expiry.remove(&old);
                old.1
            }
            None if full.keys >= limits.kv_keys_max => return Err(full),
            None if self.bytes + bytes > limits.kv_bytes_max => return Err(full),
            None => {
                self.bytes += bytes;
                Arc::from(key)
            }
        };
        self.by_expiry.insert((expires_ms, Arc::clone(&key)));
        self.by_key.insert(key, (value, expires_ms));
        assert_eq!(self.by_key.len(), self.by_expiry.len(), "each key expires once");
        Ok(())
    }

    fn expire(&mut self, now_ms: u64) {
        while self.by_expiry.first().is_some_and(|(at, _)| *at <= now_ms) {
            let (_, key) = self.by_expiry.pop_first().expect("the set has a first entry");
            self.by_key.remove(&key);
            self.bytes -= key.len() + OVERHEAD_BYTES;
        }
    }
}

/// The state of all plugins.
#[derive(Debug, Default)]
pub struct KvStores {
    stores: Mutex<BTreeMap<(TenantId, PluginId), Arc<Kv>>>,
}

impl KvStores {
    pub(crate) fn open(&self, tenant: TenantId, plugin: PluginId) -> Arc<Kv> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(stores.entry((tenant, plugin)).or_default())
    }

    /// Forgets the state of a plugin that was removed. Instances that still run keep theirs.
    pub fn forget(&self, plugin: PluginId) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|(_, of), _| *of != plugin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        kv_keys_max: 3,
        kv_bytes_max: 10 + 3 * OVERHEAD_BYTES,
        kv_ttl_ms_max: 100,
        ..Limits::DEFAULT
    };

    #[test]
    fn keys_expire() {
        let kv = Kv::default();
        assert_eq!(kv.put_if_absent(b"a", 50, 0, &LIMITS), Ok(true));
        assert_eq!(kv.put_if_absent(b"a", 50, 49, &LIMITS), Ok(false));
        assert_eq!(kv.put_if_absent(b"a", u64::MAX, 50, &LIMITS), Ok(true));
        assert_eq!(kv.get_many(&[b"a", b"b"], 149), [Some(0), None]);
        assert_eq!(kv.get_many(&[b"a", b"b"], 150), [None, None], "no key stays for ever");
    }

    #[test]
    fn counting_begins_the_time_anew() {
        let kv = Kv::default();
        assert_eq!(kv.incr(b"a", 5, 10, 0, &LIMITS), Ok(5));
        assert_eq!(kv.incr(b"a", -7, 10, 9, &LIMITS), Ok(-2));
        assert_eq!(kv.get_many(&[b"a"], 18), [Some(-2)]);
        assert_eq!(kv.incr(b"a", i64::MIN, 10, 18, &LIMITS), Ok(i64::MIN));
        assert_eq!(kv.incr(b"a", 1, 10, 28, &LIMITS), Ok(1));
    }

    #[test]
    fn it_is_bounded_in_keys_and_bytes() {
        let kv = Kv::default();
        for key in [b"a", b"b", b"c"] {
            assert_eq!(kv.put_if_absent(key, 10, 0, &LIMITS), Ok(true));
        }
        let full = KvFull { keys: 3, bytes: 3 + 3 * OVERHEAD_BYTES };
        assert_eq!(kv.put_if_absent(b"d", 10, 0, &LIMITS), Err(full));
        assert_eq!(kv.incr(b"a", 1, 10, 0, &LIMITS), Ok(1), "what is there can be counted");
        assert_eq!(kv.put_if_absent(b"d", 10, 10, &LIMITS), Ok(true), "room comes back");
        let large = [0; 20 + 2 * OVERHEAD_BYTES];
        assert!(kv.put_if_absent(&large, 10, 10, &LIMITS).is_err());
    }

    #[test]
    fn plugins_share_no_state() {
        let stores = KvStores::default();
        let (one, two) = (TenantId(1), TenantId(2));
        let plugin = PluginId(9);
        stores.open(one, plugin).put_if_absent(b"a", 10, 0, &LIMITS).unwrap();
        assert_eq!(stores.open(one, plugin).get_many(&[b"a"], 0), [Some(0)]);
        assert_eq!(stores.open(two, plugin).get_many(&[b"a"], 0), [None]);
        stores.forget(plugin);
        assert_eq!(stores.open(one, plugin).get_many(&[b"a"], 0), [None]);
    }
}
