//! Reading the text of a setting. Every reader says what may be written when it cannot.
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use yard_transport::{
    Controller, MTU_BYTES_MAX, MTU_BYTES_MIN, STREAM_WINDOW_BYTES_MAX, WINDOW_BYTES_MIN,
};
use yard_wire::limits;
use yard_wire::units::{read_bytes, read_duration_ms};

use super::layers::Texts;
use super::{Key, Problem};

/// Reads one setting: what was written, else the default of the mode.
///
/// # Panics
/// When a default of the table cannot be read: a mistake of the table, which a test finds.
pub(super) fn setting<T>(
    key: &Key,
    texts: &Texts,
    read: fn(Option<&str>) -> Result<T, String>,
    problems: &mut Vec<Problem>,
) -> T {
    let dev = texts.get("dev").is_some_and(|written| written.text == "true");
    let default = if dev { key.dev.or(key.default) } else { key.default };
    let otherwise = || read(default).expect("the defaults of the table are valid");
    let Some(written) = texts.get(key.name) else {
        return otherwise();
    };
    read(Some(&written.text)).unwrap_or_else(|detail| {
        let (origin, name) = (written.origin.clone(), written.name.clone());
        problems.push(Problem { origin, name, detail });
        otherwise()
    })
}

fn given(text: Option<&str>) -> Result<&str, String> {
    match text {
        Some("") => Err("it is empty".into()),
        Some(text) => Ok(text),
        None => Err("it is missing".into()),
    }
}

pub(super) fn path(text: Option<&str>) -> Result<PathBuf, String> {
    given(text).map(PathBuf::from)
}

pub(super) fn optional_path(text: Option<&str>) -> Result<Option<PathBuf>, String> {
    text.map(|text| path(Some(text))).transpose()
}

/// `host:port`; a name is looked up, the first address that it has is taken.
pub(super) fn address(text: Option<&str>) -> Result<SocketAddr, String> {
    let text = given(text)?;
    let wanted = || format!("it takes an address like 127.0.0.1:7420, not {text:?}");
    text.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(wanted)
}

pub(super) fn optional_host(text: Option<&str>) -> Result<Option<String>, String> {
    let Some(text) = text else { return Ok(None) };
    let parts = text.rsplit_once(':');
    let port = parts.and_then(|(_, port)| port.parse::<u16>().ok());
    match (parts, port) {
        (Some((host, _)), Some(1..)) if !host.is_empty() => Ok(Some(text.to_owned())),
        _ => Err(format!("it takes host:port, not {text:?}")),
    }
}

pub(super) fn switch(text: Option<&str>) -> Result<bool, String> {
    match given(text)? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("it takes true or false, not {other:?}")),
    }
}

fn count(text: Option<&str>, max: u16) -> Result<u16, String> {
    let text = given(text)?;
    let within = text.parse().ok().filter(|number| (1..=max).contains(number));
    within.ok_or_else(|| format!("it takes a number from 1 to {max}, not {text:?}"))
}

/// Use of a disk; 100 means that it never comes to that.
pub(super) fn percent(text: Option<&str>) -> Result<u8, String> {
    let text = given(text)?;
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let within = number.filter(|percent| (1..=100).contains(percent));
    within.ok_or_else(|| format!("it takes a number from 1 to 100, not {text:?}"))
}

pub(super) fn optional_hour(text: Option<&str>) -> Result<Option<u8>, String> {
    let Some(text) = text else { return Ok(None) };
    let within = text.parse().ok().filter(|hour| *hour < 24);
    within.map(Some).ok_or_else(|| format!("it takes an hour from 0 to 23, not {text:?}"))
}

/// Most threads that run plugins.
const WORKERS_MAX: u16 = 64;

pub(super) fn optional_workers(text: Option<&str>) -> Result<Option<u16>, String> {
    text.map(|text| count(Some(text), WORKERS_MAX)).transpose()
}

pub(super) fn optional_messages(text: Option<&str>) -> Result<Option<u64>, String> {
    match given(text)? {
        "never" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("it takes a number, not {text:?}")),
    }
}

pub(super) fn optional_shards(text: Option<&str>) -> Result<Option<u16>, String> {
    text.map(|text| count(Some(text), limits::SHARDS_MAX)).transpose()
}

pub(super) fn lanes(text: Option<&str>) -> Result<u16, String> {
    count(text, limits::LANES_MAX)
}

fn bounded(found: u64, text: &str, min: (u64, &str), max: (u64, &str)) -> Result<u64, String> {
    if (min.0..=max.0).contains(&found) {
        Ok(found)
    } else {
        Err(format!("{text} is outside its bounds, {} to {}", min.1, max.1))
    }
}

pub(super) fn segment(text: Option<&str>) -> Result<u64, String> {
    let text = given(text)?;
    let (min, max) = (super::SEGMENT_BYTES_MIN, super::SEGMENT_BYTES_MAX);
    bounded(read_bytes(text)?, text, (min, "1MiB"), (max, "2GiB"))
}

pub(super) fn inbox(text: Option<&str>) -> Result<u64, String> {
    let text = given(text)?;
    let (min, max) = (super::INBOX_BYTES_MIN, super::INBOX_BYTES_MAX);
    bounded(read_bytes(text)?, text, (min, "6MiB"), (max, "1GiB"))
}

pub(super) fn idle(text: Option<&str>) -> Result<u32, String> {
    let text = given(text)?;
    let (min, max) = (super::IDLE_MS_MIN, super::IDLE_MS_MAX);
    let found = bounded(read_duration_ms(text)?, text, (min, "1s"), (max, "1h"))?;
    Ok(u32::try_from(found).expect("an hour of milliseconds fits 32 bits"))
}

pub(super) fn controller(text: Option<&str>) -> Result<Controller, String> {
    given(text)?.parse()
}

pub(super) fn mtu(text: Option<&str>) -> Result<u16, String> {
    let text = given(text)?;
    let within = text.parse().ok().filter(|bytes| (MTU_BYTES_MIN..=MTU_BYTES_MAX).contains(bytes));
    within.ok_or_else(|| {
        format!("it takes a number from {MTU_BYTES_MIN} to {MTU_BYTES_MAX}, not {text:?}")
    })
}

fn small_size(text: Option<&str>, min: (u32, &str), max: (u32, &str)) -> Result<u32, String> {
    let text = given(text)?;
    let (min, max) = ((min.0.into(), min.1), (max.0.into(), max.1));
    let found = bounded(read_bytes(text)?, text, min, max)?;
    Ok(u32::try_from(found).expect("the upper bound has 32 bits"))
}

pub(super) fn stream_window(text: Option<&str>) -> Result<u32, String> {
    small_size(text, (WINDOW_BYTES_MIN, "64KiB"), (STREAM_WINDOW_BYTES_MAX, "2000000"))
}

pub(super) fn window(text: Option<&str>) -> Result<u32, String> {
    small_size(text, (WINDOW_BYTES_MIN, "64KiB"), (1 << 30, "1GiB"))
}

pub(super) fn socket_buffer(text: Option<&str>) -> Result<u32, String> {
    small_size(text, (0, "0"), (1 << 30, "1GiB"))
}
