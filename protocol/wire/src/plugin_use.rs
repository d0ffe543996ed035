//! Which plugin a topic or a group uses at a point, and with which settings.
//!
//! ```text
//!   NAME                               retry-ladder
//!   NAME(SETTING=VALUE & …)            redact(remove=card, iban & body-digits=12)
//! ```
//!
//! Values may have spaces and commas in them, as settings of plugins do, and no `&`.
use std::fmt;

use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::limits::{PLUGIN_SETTINGS_MAX, PLUGIN_USE_BYTES_MAX};
use crate::operation::Arg;
use crate::value::{ToValue, Value};
use crate::{Code, Refusal, name};

/// A plugin by its name, and what it is set to. Text of at most [`PLUGIN_USE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginUse {
    plugin: String,
    settings: Vec<(String, String)>,
}

fn bad(why: impl fmt::Display) -> Refusal {
    Refusal::new(Code::BadPluginUse, format!("a plugin and its settings: {why}"))
}

fn too_long(bytes: usize) -> Refusal {
    bad(format!("{bytes} bytes, the limit is {PLUGIN_USE_BYTES_MAX}"))
}

impl PluginUse {
    /// Reads `NAME` or `NAME(SETTING=VALUE & SETTING=VALUE)`.
    ///
    /// # Errors
    /// [`Code::BadPluginUse`] with what is wrong.
    pub fn read(text: &str) -> Result<Self, Refusal> {
        if text.len() > PLUGIN_USE_BYTES_MAX {
            mark!(PolicyLong);
            return Err(too_long(text.len()));
        }
        let text = text.trim();
        let (plugin, settings) = match text.split_once('(') {
            Some((plugin, rest)) => {
                let inner = rest.strip_suffix(')');
                let unclosed = || bad(format!("{text:?} does not end with the ) of its settings"));
                (plugin.trim_end(), inner.ok_or_else(unclosed)?)
            }
            None => (text, ""),
        };
        name::check(plugin).map_err(|refusal| bad(refusal.detail))?;
        let pairs = settings.split('&').map(str::trim).filter(|pair| !pair.is_empty());
        let settings: Vec<(String, String)> = pairs.map(setting).collect::<Result<_, _>>()?;
        if settings.len() > PLUGIN_SETTINGS_MAX {
            let count = settings.len();
            mark!(PolicySettings);
            return Err(bad(format!("{count} settings, the limit is {PLUGIN_SETTINGS_MAX}")));
        }
        let twice = settings
            .iter()
            .enumerate()
            .find(|(at, (name, _))| settings[..*at].iter().any(|(other, _)| other == name));
        if let Some((_, (name, _))) = twice {
            mark!(PolicyTwice);
            return Err(bad(format!("{name:?} is set twice")));
        }
        let used = Self { plugin: plugin.to_owned(), settings };
        let bytes = used.to_string().len();
        if bytes > PLUGIN_USE_BYTES_MAX { Err(too_long(bytes)) } else { Ok(used) }
    }

    /// Name of the plugin.
    #[must_use]
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// Names and values, in the order in which they were written.
    #[must_use]
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }
}

fn setting(pair: &str) -> Result<(String, String), Refusal> {
    let (name, value) =
        pair.split_once('=').ok_or_else(|| bad(format!("{pair:?}: expected SETTING=VALUE")))?;
    let (name, value) = (name.trim_end(), value.trim_start());
    if name.is_empty() || value.contains(['(', ')']) {
        mark!(PolicyPair);
        return Err(bad(format!("{pair:?}: expected SETTING=VALUE, without brackets")));
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl fmt::Display for PluginUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plugin)?;
        if self.settings.is_empty() {
            return Ok(());
        }
        let pairs = self.settings.iter().map(|(name, value)| format!("{name}={value}"));
        write!(f, "({})", pairs.collect::<Vec<_>>().join(" & "))
    }
}

/// As its text.
impl Wire for PluginUse {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_string().put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let text = String::take(input)?;
        // Only as it is written by programs: blanks that people may leave would be lost here.
        let used = Self::read(&text).ok().filter(|used| used.to_string() == text);
        let value = text.len() as u64;
        used.ok_or(Malformed::Field { what: "plugin and its settings", value })
    }
}

/// What is written where there is to be none.
const NONE: &str = "none";

/// A plugin at a point of a topic, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginChoice(pub Option<PluginUse>);

impl Wire for PluginChoice {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        <Option<PluginUse> as Wire>::take(input).map(Self)
    }
}

impl Arg for PluginChoice {
    const KIND: &'static str = "PLUGIN|none";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        match text {
            Some(NONE) => Ok(Self(None)),
            Some(text) => PluginUse::read(text).map(|used| Self(Some(used))),
            None => Err(crate::operation::bad(name, Self::KIND, text)),
        }
    }
}

impl ToValue for PluginChoice {
    fn to_value(&self) -> Value {
        match &self.0 {
            None => Value::Null,
            Some(used) => Value::Text(used.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: Result<&str, &str>) {
        match (PluginUse::read(text), shown) {
            (Ok(used), Ok(shown)) => {
                assert_eq!(used.to_string(), shown, "{text}");
                assert_eq!(PluginUse::read(shown).as_ref(), Ok(&used), "{text}");
                assert_eq!(PluginUse::from_bytes(used.to_bytes()).as_ref(), Ok(&used));
            }
            (Err(refusal), Err(part)) => {
                assert_eq!(refusal.code, Code::BadPluginUse, "{text}");
                assert!(refusal.detail.contains(part), "{text}: {refusal}");
            }
            (read, _) => panic!("{text}: {read:?}, expected {shown:?}"),
        }
    }

    #[test]
    fn plugins_and_their_settings_are_read_and_shown() {
        check("retry-ladder", Ok("retry-ladder"));
        check(" redact ( ) ", Ok("redact"));
        check("redact(remove=card, iban)", Ok("redact(remove=card, iban)"));
        check("r( a = 1&b=x=y & )", Ok("r(a=1 & b=x=y)"));
        check("r(a=)", Ok("r(a=)"));
        for wrong in ["", "(", "r(a=1", "r(a=1) b"] {
            assert!(PluginUse::read(wrong).is_err(), "{wrong:?}");
        }
        check("r(a=1", Err("does not end with"));
        check("r(a)", Err("expected SETTING=VALUE"));
        check("r(=1)", Err("expected SETTING=VALUE"));
        check("r(a=(1))", Err("without brackets"));
        check("r(a=1 & a=2)", Err("set twice"));
        check("../r", Err("not usable"));
        let many: Vec<String> = (0..=PLUGIN_SETTINGS_MAX).map(|n| format!("s{n}=1")).collect();
        check(&format!("r({})", many.join("&")), Err("settings, the limit is"));
        check(&"r".repeat(PLUGIN_USE_BYTES_MAX + 1), Err("bytes, the limit is"));
    }

    #[test]
    fn none_is_a_choice() {
        let read = |text: &str| PluginChoice::parse("interceptor", Some(text)).ok();
        assert_eq!(read("none"), Some(PluginChoice(None)));
        assert_eq!(read("none").map(|it| it.to_value()), Some(Value::Null));
        let some = read("redact(mask=a)").expect("a plugin");
        assert_eq!(some.to_value(), Value::Text("redact(mask=a)".to_owned()));
        assert_eq!(PluginChoice::from_bytes(some.to_bytes()), Ok(some));
        assert_eq!(PluginChoice::parse("interceptor", None).ok(), None);
    }
}
