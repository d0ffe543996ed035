//! What a plugin may be given besides its arguments: log, clock, state and metrics, each linked
//! only where the manifest asked for it and the tenant granted it.
//!
//! Every call from a guest costs fuel, so that asking the host for much is as bounded as computing
//! much.
use std::collections::BTreeSet;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};
use yard_abi::manifest::Capability;
use yard_abi::verdict::{self, KEY_BYTES_MAX};
use yard_abi::{frame::FRAME_MESSAGES_MAX, wit};

use crate::fault::{Fault, FaultKind};
use crate::guest::Guest;

mod kv;
mod log;
mod metrics;

pub use kv::KvStores;
pub(crate) use kv::{Kv, KvFull};
pub(crate) use log::Log;
pub use log::{Level, LogLine, LogLines};
pub use metrics::{Metric, Metrics};

/// Fuel of a call from the guest, whatever it is.
const CALL_FUEL: u64 = 500;
/// Fuel of a line of the log.
const LINE_FUEL: u64 = 5_000;
/// Fuel of looking up a key, or a metric.
const KEY_FUEL: u64 = 3_000;
/// Fuel of a byte that the guest hands over.
const BYTE_FUEL: u64 = 2;

/// What a call from a guest ends in, when it does not return: the fault of the whole call.
type Called<T> = wasmtime::Result<T>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "guests make them, by their numbers")]
enum WitLevel {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl From<WitLevel> for Level {
    fn from(level: WitLevel) -> Self {
        match level {
            WitLevel::Debug => Self::Debug,
            WitLevel::Info => Self::Info,
            WitLevel::Warn => Self::Warn,
            WitLevel::Error => Self::Error,
        }
    }
}

/// Links these capabilities and nothing else.
pub(crate) fn link(
    linker: &mut Linker<Guest>,
    capabilities: &BTreeSet<Capability>,
) -> wasmtime::Result<()> {
    for capability in capabilities {
        let name = format!("{}/{}@{}", wit::PACKAGE, capability.name(), wit::VERSION);
        let mut instance = linker.instance(&name)?;
        match capability {
            Capability::Log => instance.func_wrap("write", write)?,
            Capability::Clock => instance.func_wrap("now-ms", now_ms)?,
            Capability::Kv => {
                instance.func_wrap("get-many", get_many)?;
                instance.func_wrap("put-if-absent-many", put_if_absent_many)?;
                instance.func_wrap("incr", incr)?;
            }
            Capability::Metrics => {
                instance.func_wrap("add", add)?;
                instance.func_wrap("observe", observe)?;
            }
        }
    }
    Ok(())
}

/// Burns fuel for what the host does; the call ends where there is too little.
fn charge(store: &mut StoreContextMut<'_, Guest>, fuel: u64) -> Called<()> {
    if !store.data().metering.has_fuel() {
        return Ok(());
    }
    let left = store.get_fuel()?;
    store.set_fuel(left.saturating_sub(fuel))?;
    if left < fuel { Err(wasmtime::Trap::OutOfFuel.into()) } else { Ok(()) }
}

fn bad(says: &str) -> wasmtime::Error {
    Fault::new(FaultKind::BadAnswer, says).into()
}

fn write(mut store: StoreContextMut<'_, Guest>, (level, line): (WitLevel, String)) -> Called<()> {
    charge(&mut store, LINE_FUEL + BYTE_FUEL * line.len() as u64)?;
    store.data_mut().log.write(level.into(), &line);
    Ok(())
}

fn now_ms(mut store: StoreContextMut<'_, Guest>, (): ()) -> Called<(u64,)> {
    charge(&mut store, CALL_FUEL)?;
    Ok((store.data().now_ms,))
}

/// The keys of a list; how many there are is for the list to say.
fn keys(list: &[u8]) -> Called<Vec<&[u8]>> {
    let mut count = 0;
    let mut rest = list;
    while let Some((head, after)) = rest.split_first_chunk::<2>() {
        rest = after.get(usize::from(u16::from_le_bytes(*head))..).unwrap_or_default();
        count += 1;
        if count > FRAME_MESSAGES_MAX as u32 {
            return Err(bad("a key list for `kv` has more than 256 keys"));
        }
    }
    verdict::keys(list, count).map_err(|error| bad(&format!("a key list for `kv`: {error}")))
}

fn keys_fuel(list: &[u8], keys: usize) -> u64 {
    CALL_FUEL + KEY_FUEL * keys as u64 + BYTE_FUEL * list.len() as u64
}

fn get_many(mut store: StoreContextMut<'_, Guest>, (list,): (Vec<u8>,)) -> Called<(Vec<u8>,)> {
    let keys = keys(&list)?;
    charge(&mut store, keys_fuel(&list, keys.len()))?;
    let guest = store.data();
    let values = guest.kv.get_many(&keys, guest.now_ms);
    Ok((verdict::put_counts(values),))
}

fn put_if_absent_many(
    mut store: StoreContextMut<'_, Guest>,
    (list, ttl_ms): (Vec<u8>, u64),
) -> Called<(Vec<u8>,)> {
    let keys = keys(&list)?;
    charge(&mut store, keys_fuel(&list, keys.len()))?;
    let guest = store.data();
    let mut bitmap = verdict::BitmapBuilder::new(keys.len() as u32);
    for (index, key) in keys.iter().enumerate() {
        let is_new = guest.kv.put_if_absent(key, ttl_ms, guest.now_ms, &guest.limits)?;
        bitmap.set(index, is_new);
    }
    Ok((bitmap.into_bytes(),))
}

fn incr(
    mut store: StoreContextMut<'_, Guest>,
    (key, by, ttl_ms): (Vec<u8>, i64, u64),
) -> Called<(i64,)> {
    charge(&mut store, keys_fuel(&key, 1))?;
    if key.len() > KEY_BYTES_MAX {
        return Err(bad("a key of `kv` has more than 1024 bytes"));
    }
    let guest = store.data();
    Ok((guest.kv.incr(&key, by, ttl_ms, guest.now_ms, &guest.limits)?,))
}

fn add(mut store: StoreContextMut<'_, Guest>, (name, by): (String, u64)) -> Called<()> {
    charge(&mut store, KEY_FUEL + BYTE_FUEL * name.len() as u64)?;
    store.data_mut().metrics.add(&name, by);
    Ok(())
}

fn observe(mut store: StoreContextMut<'_, Guest>, (name, value): (String, f64)) -> Called<()> {
    charge(&mut store, KEY_FUEL + BYTE_FUEL * name.len() as u64)?;
    store.data_mut().metrics.observe(&name, value);
    Ok(())
}
