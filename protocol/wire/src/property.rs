//! Names of properties that mean something to clients and, some of them, to the broker. Those that
//! begin with `$` are the system's: applications set them through functions, never by name.
//! [`crate::record::KEY`] and [`crate::record::ORDER`] belong to them.
use crate::record::{DEDUPE, DUE, KEY, ORDER, TX};
use crate::{Code, Refusal};

/// From when on nobody wants the message: milliseconds since 1970 UTC, in decimal. Whoever receives
/// it later settles it with [`crate::requests::Verdict::Expire`] and passes it over.
pub const EXPIRES: &str = "$expires";
/// How the body is packed: the name of the algorithm, a blank, the bytes that it has when it is
/// unpacked, in decimal; for example `zstd 40960`.
pub const ENCODING: &str = "$enc";
/// Priority, a digit. Whoever sent the message chose its queue by it.
pub const PRIORITY: &str = "$priority";
/// Where a reply is wanted: name of a topic, a blank, number of a queue.
pub const REPLY_TO: &str = "$reply-to";
/// Ties a reply to its request: 32 hexadecimal digits that whoever asked has drawn.
pub const CORRELATION: &str = "$correlation";
/// In a reply: the request could not be done, and the body says why.
pub const FAILED: &str = "$failed";
/// Who changed the message before it was stored: the name of a plugin, a slash, the number of its
/// version.
pub const REPLACED: &str = "$replaced";
/// Nobody has compared the message with those before it: the name of the plugin that should have
/// said by what. See `docs/dedupe.md`.
pub const UNCHECKED: &str = "$unchecked";
/// Trace of the request that the message belongs to. Source: W3C Trace Context, `traceparent`.
pub const TRACE_PARENT: &str = "traceparent";
/// What systems that trace add to it. Source: W3C Trace Context, `tracestate`.
pub const TRACE_STATE: &str = "tracestate";

/// The system's names that a producer may bring, because it has functions that set them. All
/// others are written by brokers only: [`REPLACED`], and what is said of dead letters.
const OF_PRODUCERS: [&str; 11] =
    [KEY, ORDER, DUE, TX, DEDUPE, EXPIRES, ENCODING, PRIORITY, REPLY_TO, CORRELATION, FAILED];

/// Checks the name of a property that an application has chosen.
///
/// # Errors
/// [`Code::ReservedProperty`] where it begins with `$`.
pub fn check_own_name(name: &str) -> Result<(), Refusal> {
    if !name.starts_with('$') {
        return Ok(());
    }
    mark!(PropertyReserved);
    let short: String = name.chars().take(80).collect();
    let detail = format!("the property {short:?}: names that begin with $ are reserved");
    Err(Refusal::new(Code::ReservedProperty, detail))
}

/// Checks the name of a property that a producer has sent.
///
/// # Errors
/// [`Code::ReservedProperty`] where it is one of the system's that only brokers write.
pub fn check_sent_name(name: &str) -> Result<(), Refusal> {
    if OF_PRODUCERS.contains(&name) { Ok(()) } else { check_own_name(name) }
}

/// Checks a tag; none, which is empty, may be.
///
/// # Errors
/// [`Code::BadTag`] where it is blank, or has a bar or a control character in it: expressions join
/// tags by `||`, so nobody could ask for it.
pub fn check_tag(tag: &str) -> Result<(), Refusal> {
    let is_blank = !tag.is_empty() && tag.trim().is_empty();
    if !is_blank && !tag.contains(|c: char| c == '|' || c.is_control()) {
        return Ok(());
    }
    mark!(TagUnusable);
    let short: String = tag.chars().take(255).collect();
    let detail = format!("the tag {short:?} is blank, or has a | or a control character in it");
    Err(Refusal::new(Code::BadTag, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_systems_names_that_producers_set_may_be_sent() {
        let check = |name: &str, own: bool, sent: bool| {
            assert_eq!(check_own_name(name).is_ok(), own, "{name}");
            let found = check_sent_name(name);
            assert_eq!(found.is_ok(), sent, "{name}");
            let code = found.err().map(|refusal| refusal.code);
            assert!(code.is_none_or(|code| code == Code::ReservedProperty), "{name}");
        };
        check("region", true, true);
        check("", true, true);
        check(TRACE_PARENT, true, true);
        for name in OF_PRODUCERS {
            check(name, false, true);
        }
        check(REPLACED, false, false);
        check("$dead.reason", false, false);
        check("$", false, false);
    }

    #[test]
    fn tags_are_what_somebody_could_ask_for() {
        for tag in ["", "red", "two words", "\u{e9}t\u{e9}"] {
            assert_eq!(check_tag(tag), Ok(()), "{tag:?}");
        }
        for tag in [" ", "a|b", "a||b", "a\tb", "\u{7f}"] {
            assert_eq!(
                check_tag(tag).map_err(|refusal| refusal.code),
                Err(Code::BadTag),
                "{tag:?}"
            );
        }
    }
}
