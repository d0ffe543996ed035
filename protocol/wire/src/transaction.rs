//! The name of a transaction: which shard decides about it, who began it, and which of theirs it
//! is. Every prepared record carries it as the property `$tx`.
//!
//! ```text
//!   0001-8f14e45fceea167a-00000000-000000000000002a
//!   │    │                │        └ number: 0, 1, 2 … of this producer and epoch
//!   │    │                └ epoch of the producer
//!   │    └ producer: a random number that the client draws
//!   └ the shard that decides: its coordinator
//! ```
use std::fmt;

use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::operation::{Arg, bad};
use crate::plugin_use::PluginUse;
use crate::units::{MILLISECONDS, in_unit, read_duration_ms};
use crate::value::{ToValue, Value};
use crate::{Epoch, ProducerId, Refusal, ShardId, limits};

/// Bytes of the name as a text.
pub const TX_TEXT_BYTES: usize = 47;

/// The name of a transaction, unique in its tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId {
    /// The shard that decides about it.
    pub coordinator: ShardId,
    /// Who began it.
    pub producer: ProducerId,
    /// Incarnation of the producer.
    pub epoch: Epoch,
    /// Number of the transaction: no other one of this producer and epoch has it.
    pub number: u64,
}

impl TxId {
    /// Reads what `Display` writes: hexadecimal digits in four groups; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TX_TEXT_BYTES {
            return None;
        }
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_hex = part.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
            is_hex.then(|| u64::from_str_radix(part, 16).ok())?
        };
        let coordinator = ShardId(u16::try_from(part(4)?).ok()?);
        let producer = ProducerId(part(16)?);
        let epoch = Epoch(u32::try_from(part(8)?).ok()?);
        let number = part(16)?;
        Some(Self { coordinator, producer, epoch, number })
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { coordinator, producer, epoch, number } = self;
        let (shard, producer, epoch) = (coordinator.0, producer.0, epoch.0);
        write!(f, "{shard:04x}-{producer:016x}-{epoch:08x}-{number:016x}")
    }
}

impl Wire for TxId {
    fn put(&self, out: &mut Vec<u8>) {
        self.coordinator.put(out);
        self.producer.put(out);
        self.epoch.put(out);
        self.number.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self {
            coordinator: ShardId::take(input)?,
            producer: ProducerId::take(input)?,
            epoch: Epoch::take(input)?,
            number: u64::take(input)?,
        })
    }
}

impl ToValue for TxId {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Arg for TxId {
    const KIND: &'static str = "TRANSACTION";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let kind = "a TRANSACTION as `yard tx ls` shows it";
        text.and_then(Self::parse).ok_or_else(|| bad(name, kind, text))
    }
}

/// A span of time, in milliseconds, that is never 0: at most [`limits::CHECK_MS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckSpan(pub u32);

impl CheckSpan {
    fn checked(ms: u64) -> Option<Self> {
        let bounds = u64::from(limits::CHECK_MS_MIN)..=u64::from(limits::CHECK_MS_MAX);
        bounds.contains(&ms).then_some(Self(ms as u32))
    }
}

impl Default for CheckSpan {
    fn default() -> Self {
        Self(limits::CHECK_MS_MIN)
    }
}

impl Wire for CheckSpan {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let ms = u32::take(input)?;
        let wrong = Malformed::Field { what: "time between checks", value: ms.into() };
        Self::checked(ms.into()).ok_or(wrong)
    }
}

impl ToValue for CheckSpan {
    fn to_value(&self) -> Value {
        Value::Text(in_unit(self.0.into(), MILLISECONDS))
    }
}

impl Arg for CheckSpan {
    const KIND: &'static str = "DURATION";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let read = |text: &str| read_duration_ms(text).ok().and_then(Self::checked);
        text.and_then(read).ok_or_else(|| bad(name, "a DURATION of 100ms to 1d", text))
    }
}

/// When producers are asked about their open transactions. Source of the defaults: RocketMQ's
/// `transactionTimeOut` (6 s) and `transactionCheckMax` (15), a check a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The first time so long after the transaction began.
    pub first: CheckSpan,
    /// Again so long after each time.
    pub every: CheckSpan,
    /// So often at most; then it waits for an operator.
    pub max: u16,
}

impl Default for Checks {
    fn default() -> Self {
        Self { first: CheckSpan(6_000), every: CheckSpan(60_000), max: 15 }
    }
}

impl Wire for Checks {
    fn put(&self, out: &mut Vec<u8>) {
        self.first.put(out);
        self.every.put(out);
        self.max.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self {
            first: CheckSpan::take(input)?,
            every: CheckSpan::take(input)?,
            max: u16::take(input)?,
        })
    }
}

/// Who says first what becomes of a transaction that nobody has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CheckPolicy {
    /// Producers of its group are asked.
    #[default]
    Native,
    /// A plugin says; producers are asked where it says so, or says nothing.
    Plugin(PluginUse),
}

const NATIVE: &str = "native";
const PLUGIN: &str = "plugin:";

impl CheckPolicy {
    /// The plugin, if it is one.
    #[must_use]
    pub fn plugin(&self) -> Option<&PluginUse> {
        match self {
            Self::Native => None,
            Self::Plugin(used) => Some(used),
        }
    }
}

impl fmt::Display for CheckPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str(NATIVE),
            Self::Plugin(used) => write!(f, "{PLUGIN}{used}"),
        }
    }
}

/// As the plugin, if it is one.
impl Wire for CheckPolicy {
    fn put(&self, out: &mut Vec<u8>) {
        self.plugin().cloned().put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let used = <Option<PluginUse> as Wire>::take(input)?;
        Ok(used.map_or(Self::Native, Self::Plugin))
    }
}

impl ToValue for CheckPolicy {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Arg for CheckPolicy {
    const KIND: &'static str = "native|plugin:NAME";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        match text {
            Some(NATIVE) => Ok(Self::Native),
            Some(text) => match text.strip_prefix(PLUGIN) {
                Some(used) => PluginUse::read(used).map(Self::Plugin),
                None => Err(bad(name, Self::KIND, Some(text))),
            },
            None => Err(bad(name, Self::KIND, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_checks_is_read_and_shown() {
        for text in ["native", "plugin:txn-check", "plugin:txn-check(commit=paid = 1)"] {
            let read = CheckPolicy::parse("check", Some(text)).expect("a policy");
            assert_eq!(read.to_value(), Value::Text(text.to_owned()));
            assert_eq!(CheckPolicy::from_bytes(read.to_bytes()), Ok(read));
        }
        for (wrong, code) in [
            ("", crate::Code::BadArgument),
            ("txn-check", crate::Code::BadArgument),
            ("plugin:", crate::Code::BadPluginUse),
            ("plugin:a(b", crate::Code::BadPluginUse),
        ] {
            let refused = CheckPolicy::parse("check", Some(wrong)).expect_err("no policy");
            assert_eq!(refused.code, code, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_read_as_it_was_written_and_nothing_else_is() {
        let tx = TxId {
            coordinator: ShardId(63),
            producer: ProducerId(0x8f14_e45f_ceea_167a),
            epoch: Epoch(7),
            number: u64::MAX - 1,
        };
        let text = tx.to_string();
        assert_eq!(text, "003f-8f14e45fceea167a-00000007-fffffffffffffffe");
        assert_eq!((text.len(), TxId::parse(&text)), (TX_TEXT_BYTES, Some(tx)));
        assert_eq!(TxId::from_bytes(tx.to_bytes()), Ok(tx));
        for bad in [
            "",
            "003F-8f14e45fceea167a-00000007-fffffffffffffffe",
            "003f-8f14e45fceea167a-00000007-ffffffffffffffff0",
            "003f-8f14e45fceea167a-0000007-0fffffffffffffffe",
            "003f-8f14e45fceea167a-+0000007-fffffffffffffffe",
            "003f 8f14e45fceea167a-00000007-fffffffffffffffe",
        ] {
            assert_eq!(TxId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_between_checks_are_bounded() {
        let check = |text: &str, expected: Option<u32>| {
            let read = <CheckSpan as Arg>::parse("first", Some(text)).ok();
            assert_eq!(read.map(|span| span.0), expected, "{text}");
        };
        check("6s", Some(6_000));
        check("1d", Some(limits::CHECK_MS_MAX));
        check("2d", None);
        check("0s", None);
        check("50ms", None);
        check("6", None);
        assert!(CheckSpan::from_bytes(0u32.to_bytes()).is_err());
    }
}
