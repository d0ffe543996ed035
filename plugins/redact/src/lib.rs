//! Redaction: what nobody should read does not get into the log.
//!
//! Properties are removed or masked by name, and long runs of digits in a body (numbers of cards
//! and accounts) are masked but for their last four. A body that is longer than a plugin may see
//! is refused when bodies are to be looked at: half a redaction is none.
#![deny(missing_docs)]

use switchyard_plugin::prelude::*;

manifest! {
    says: "Removes and masks properties, and masks long numbers in bodies.",
    points: ["interceptor"],
    capabilities: ["log"],
    config: [
        { name: "remove", says: "properties to remove, with commas between" },
        { name: "mask", says: "properties whose values become ***, with commas between" },
        { name: "body-digits", kind: "integer", says: "mask runs of at least so many digits" },
    ],
    tests: "tests/vectors.json",
}
interceptor!(type Redact);

/// What a masked value becomes.
const MASK: &str = "***";
/// Digits at the end of a run that stay, so that people can tell numbers apart.
const DIGITS_KEPT: usize = 4;
/// The shortest run that may be asked for: shorter ones are everywhere.
pub const BODY_DIGITS_MIN: usize = 6;

/// What is redacted.
#[derive(Clone, Debug)]
pub struct Redact {
    remove: Vec<String>,
    mask: Vec<String>,
    body_digits: Option<usize>,
}

impl Interceptor for Redact {
    fn open(config: &Config) -> Result<Self, String> {
        let body_digits = config.parse("body-digits")?;
        if body_digits.is_some_and(|digits| digits < BODY_DIGITS_MIN) {
            return Err(format!("body-digits is at least {BODY_DIGITS_MIN}"));
        }
        let (remove, mask) = (names(config.get("remove"))?, names(config.get("mask"))?);
        if remove.is_empty() && mask.is_empty() && body_digits.is_none() {
            return Err("nothing is redacted: set remove, mask or body-digits".to_owned());
        }
        Ok(Self { remove, mask, body_digits })
    }

    fn needs(&self) -> Needs {
        if self.body_digits.is_some() { Needs::body() } else { Needs::default() }
    }

    fn apply(&self, message: &Message<'_>) -> Answer {
        let packed = message.packed();
        let is_there = |name: &&String| packed.property(name.as_bytes()).is_some();
        let mut patch = Patch::default();
        for name in self.remove.iter().filter(is_there) {
            patch = patch.remove(name);
        }
        for name in self.mask.iter().filter(is_there) {
            patch = patch.set(name, MASK);
        }
        if let Some(least) = self.body_digits {
            if packed.body_is_cut() {
                let bytes = packed.body_bytes();
                return Answer::Reject(format!("a body of {bytes} bytes cannot be redacted"));
            }
            if let Some(body) = masked_digits(packed.body(), least) {
                patch = patch.body(body);
            }
        }
        if patch.is_empty() { Answer::Pass } else { Answer::Replace(patch) }
    }
}

fn names(list: Option<&str>) -> Result<Vec<String>, String> {
    let names = list.unwrap_or_default().split(',').map(str::trim).filter(|it| !it.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    match names.iter().find(|name| name.starts_with('$')) {
        Some(name) => Err(format!("`{name}` is the broker's and stays")),
        None => Ok(names),
    }
}

/// The body with its long numbers masked; none when there are none.
fn masked_digits(body: &[u8], least: usize) -> Option<Vec<u8>> {
    let mut masked: Option<Vec<u8>> = None;
    let mut start = 0;
    for end in 0..=body.len() {
        if body.get(end).is_some_and(u8::is_ascii_digit) {
            continue;
        }
        if end - start >= least {
            masked.get_or_insert_with(|| body.to_vec())[start..end - DIGITS_KEPT].fill(b'*');
        }
        start = end + 1;
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(settings: &[(&str, &str)], message: &MessageBuilder) -> Answer {
        let redact = Redact::open(&settings.iter().copied().collect()).expect("settings");
        redact.apply(&message.build())
    }

    #[test]
    fn properties_are_removed_and_masked() {
        let message = Message::builder().property("card", 1).property("name", "n");
        let settings = [("remove", "card, iban"), ("mask", "name")];
        let expect = Patch::default().remove("card").set("name", MASK);
        assert_eq!(apply(&settings, &message), Answer::Replace(expect));
        assert_eq!(apply(&settings, &Message::builder().property("x", 1)), Answer::Pass);
    }

    #[test]
    fn long_numbers_in_bodies_are_masked() {
        let check = |body: &str, expect: Option<&str>| {
            let answer = apply(&[("body-digits", "6")], &Message::builder().body(body));
            let replace = |body: &str| Answer::Replace(Patch::default().body(body));
            assert_eq!(answer, expect.map_or(Answer::Pass, replace), "{body}");
        };
        check("4111111111111111", Some("************1111"));
        check("a 123456 b 1234567", Some("a **3456 b ***4567"));
        check("12345 6789", None);
        check("", None);
    }

    #[test]
    fn a_body_that_cannot_be_seen_whole_is_refused() {
        let long = Message::builder().body(vec![b'x'; (1 << 20) + 1]);
        let refused = Answer::Reject("a body of 1048577 bytes cannot be redacted".to_owned());
        assert_eq!(apply(&[("body-digits", "6")], &long), refused);
        assert_eq!(apply(&[("remove", "a")], &long), Answer::Pass);
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let open = |settings: &[(&str, &str)]| Redact::open(&settings.iter().copied().collect());
        assert!(open(&[]).expect_err("nothing").contains("nothing is redacted"));
        assert!(open(&[("body-digits", "5")]).expect_err("short").contains("at least 6"));
        assert!(open(&[("remove", "$key")]).expect_err("broker's").contains("stays"));
    }
}
