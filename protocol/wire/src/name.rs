//! Names of topics, groups and tenants: 1 to 127 of `a-z A-Z 0-9 . _ -`, not beginning with a dot.
//!
//! Names never become paths: on disk there are numbers only. The rule still leaves out what would
//! be dangerous in a path, a terminal or a log.
use crate::limits::NAME_BYTES_MAX;
use crate::{Code, Refusal};

/// The topics of the system begin so: no application's name does, see [`check`].
const SYSTEM_PREFIX: char = '$';
/// The dead letters of a group are in the topic of this prefix and the group's name.
pub const DEAD_PREFIX: &str = "$dead.";
/// What is noted of messages that are traced is in this topic of their tenant.
pub const TRACE_TOPIC: &str = "$trace";

/// The groups of readers that gave no name begin so.
const TEMPORARY_PREFIX: &str = "tail-";
/// Behind it are so many hexadecimal digits, in lower case.
const TEMPORARY_DIGITS: usize = 8;

/// The name of a temporary group, made of a random number. Nobody waits for what such a group has
/// not read: it holds up neither producers nor what removes old messages.
#[must_use]
pub fn temporary_group(random: u32) -> String {
    let name = format!("{TEMPORARY_PREFIX}{random:0TEMPORARY_DIGITS$x}");
    debug_assert!(is_temporary_group(&name), "it is known by its name");
    name
}

/// Whether a group is temporary, see [`temporary_group`].
#[must_use]
pub fn is_temporary_group(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_prefix(TEMPORARY_PREFIX)
        .is_some_and(|digits| digits.len() == TEMPORARY_DIGITS && digits.bytes().all(is_digit))
}

/// Whether a topic is the system's: applications read it, and nothing else.
#[must_use]
pub fn is_system(name: &str) -> bool {
    name.starts_with(SYSTEM_PREFIX)
}

/// Checks a name.
///
/// # Errors
/// [`Code::BadName`], saying which rule the name breaks.
pub fn check(name: &str) -> Result<(), Refusal> {
    let problem = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("it has {} bytes, the limit is {NAME_BYTES_MAX}", name.len())
    } else if name.starts_with('.') {
        "it begins with a dot".to_owned()
    } else if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        format!("it has the character {bad:?}; allowed are a-z A-Z 0-9 . _ -")
    } else {
        return Ok(());
    };
    mark!(NameUnusable);
    Err(Refusal::new(Code::BadName, format!("the name {:?} is not usable: {problem}", clip(name))))
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn clip(name: &str) -> String {
    name.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_groups_are_known_by_their_names() {
        for random in [0, 7, u32::MAX] {
            let name = temporary_group(random);
            assert!(is_temporary_group(&name) && check(&name).is_ok(), "{name}");
        }
        for other in ["tail-", "tail-1234567", "tail-123456789", "tail-1234567G", "Tail-12345678"] {
            assert!(!is_temporary_group(other), "{other}");
        }
    }

    #[test]
    fn names() {
        for good in ["a", "orders", "a.b-c_D9", &"x".repeat(127)] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "x".repeat(128);
        assert!(is_system(DEAD_PREFIX) && check(&format!("{DEAD_PREFIX}g")).is_err());
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "a\n", "é", "a\0", &long] {
            assert_eq!(check(bad).unwrap_err().code, Code::BadName, "{bad:?}");
        }
    }
}
