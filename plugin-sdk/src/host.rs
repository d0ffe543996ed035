//! The functions of the host: those of a broker in a guest, stand-ins of the same meaning in a
//! native test.

#[cfg(target_arch = "wasm32")]
mod way {
    use crate::guest::capabilities::switchyard::plugin;
    use crate::log::Level;

    pub(crate) use plugin::clock::now_ms;
    pub(crate) use plugin::kv::{get_many, incr, put_if_absent_many};
    pub(crate) use plugin::metrics::{add, observe};

    pub(crate) fn write(level: Level, line: &str) {
        let level = match level {
            Level::Debug => plugin::log::Level::Debug,
            Level::Info => plugin::log::Level::Info,
            Level::Warn => plugin::log::Level::Warn,
            Level::Error => plugin::log::Level::Error,
        };
        plugin::log::write(level, line);
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod way {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use yard_abi::verdict::{self, BitmapBuilder};

    use crate::log::Level;

    /// What the host of a test has; each thread has its own, as each test has its thread.
    #[derive(Debug, Default)]
    pub(crate) struct Host {
        pub(crate) lines: Vec<(Level, String)>,
        pub(crate) now_ms: u64,
        pub(crate) counters: BTreeMap<String, u64>,
        pub(crate) observed: BTreeMap<String, Vec<f64>>,
        keys: BTreeMap<Vec<u8>, Entry>,
    }

    #[derive(Debug)]
    struct Entry {
        value: i64,
        expires_ms: u64,
    }

    thread_local! {
        static HOST: RefCell<Host> = RefCell::new(Host::default());
    }

    pub(crate) fn with<T>(ask: impl FnOnce(&mut Host) -> T) -> T {
        HOST.with_borrow_mut(ask)
    }

    pub(crate) fn write(level: Level, line: &str) {
        with(|host| host.lines.push((level, line.to_owned())));
    }

    pub(crate) fn now_ms() -> u64 {
        with(|host| host.now_ms)
    }

    pub(crate) fn add(name: &str, by: u64) {
        with(|host| *host.counters.entry(name.to_owned()).or_default() += by);
    }

    pub(crate) fn observe(name: &str, value: f64) {
        with(|host| host.observed.entry(name.to_owned()).or_default().push(value));
    }

    fn keys(list: &[u8]) -> Vec<Vec<u8>> {
        let mut count = 0;
        let mut rest = list;
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            rest = &after[usize::from(u16::from_le_bytes(*length))..];
            count += 1;
        }
        let keys = verdict::keys(list, count).expect("a key list");
        keys.into_iter().map(<[u8]>::to_vec).collect()
    }

    pub(crate) fn get_many(list: &[u8]) -> Vec<u8> {
        let keys = keys(list);
        with(|host| {
            verdict::put_counts(keys.iter().map(|key| host.live(key).map(|entry| entry.value)))
        })
    }

    pub(crate) fn put_if_absent_many(list: &[u8], ttl_ms: u64) -> Vec<u8> {
        let keys = keys(list);
        let mut bitmap = BitmapBuilder::new(keys.len() as u32);
        with(|host| {
            for (index, key) in keys.into_iter().enumerate() {
                let is_absent = host.live(&key).is_none();
                if is_absent {
                    let expires_ms = host.now_ms.saturating_add(ttl_ms);
                    host.keys.insert(key, Entry { value: 0, expires_ms });
                }
                bitmap.set(index, is_absent);
            }
        });
        bitmap.into_bytes()
    }

    pub(crate) fn incr(key: &[u8], by: i64, ttl_ms: u64) -> i64 {
        with(|host| {
            let value = host.live(key).map_or(0, |entry| entry.value).saturating_add(by);
            let expires_ms = host.now_ms.saturating_add(ttl_ms);
            host.keys.insert(key.to_vec(), Entry { value, expires_ms });
            value
        })
    }

    impl Host {
        fn live(&self, key: &[u8]) -> Option<&Entry> {
            self.keys.get(key).filter(|entry| entry.expires_ms > self.now_ms)
        }
    }
}

pub(crate) use way::*;
