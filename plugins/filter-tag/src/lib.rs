//! Filter by tag: `A || B` gives messages whose tag is `A` or `B`, `*` or nothing gives all.
//!
//! Tags are compared byte by byte. The broker's index compares hashes first, where it can; this is
//! what decides. Source of the rules: RocketMQ's tag expressions.
#![deny(missing_docs)]

use switchyard_plugin::abi::message::is_same;
use switchyard_plugin::prelude::*;

manifest! {
    says: "Messages with one of the tags of an expression such as A || B.",
    points: ["filter"],
    properties: "none",
    tests: "tests/vectors.json",
}
filter!(type TagFilter);

/// Tags of one expression; a filter of more is slow to judge and hard to read.
pub const TAGS_MAX: usize = 256;

/// The tags that a subscription wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFilter {
    /// All messages, without a tag too.
    All,
    /// Messages with one of these, in order and each once.
    Some(Vec<Box<[u8]>>),
}

impl Filter for TagFilter {
    fn compile(expression: &str, _: &Config) -> Result<Self, String> {
        let expression = expression.trim();
        if expression.is_empty() || expression == "*" {
            return Ok(Self::All);
        }
        let tags = expression.split("||").map(str::trim).filter(|tag| !tag.is_empty());
        let mut tags: Vec<Box<[u8]>> = tags.map(|tag| tag.as_bytes().into()).collect();
        tags.sort();
        tags.dedup();
        match tags.len() {
            0 => Err(format!("`{expression}` names no tag: expected A || B, or *")),
            1..=TAGS_MAX => Ok(Self::Some(tags)),
            found => Err(format!("{found} tags, the limit is {TAGS_MAX}")),
        }
    }

    fn keep(&self, message: &Message<'_>) -> bool {
        let Self::Some(tags) = self else { return true };
        let tag = message.packed().tag();
        // A few are compared faster than they are searched.
        if tags.len() <= 8 {
            return tags.iter().any(|wanted| is_same(wanted, tag));
        }
        tags.binary_search_by(|wanted| (**wanted).cmp(tag)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, tag: &str, expect: bool) {
        let filter = TagFilter::compile(expression, &Config::default()).expect("an expression");
        let message = Message::builder().tag(tag).build();
        assert_eq!(filter.keep(&message), expect, "`{tag}` by `{expression}`");
    }

    #[test]
    fn expressions() {
        check("A || B", "A", true);
        check("A || B", "B", true);
        check("A||B", "C", false);
        check(" A ", "A", true);
        check("A", "a", false);
        check("A", "", false);
        check("*", "", true);
        check("", "anything", true);
        check("A || || B", "B", true);
        check("A B", "A B", true);
        // Equal by the hash that RocketMQ's index compares.
        check("Aa", "BB", false);
    }

    #[test]
    fn many_tags_are_searched() {
        let expression: Vec<String> = (0..100).map(|tag| format!("t{tag}")).collect();
        for tag in 0..110 {
            check(&expression.join(" || "), &format!("t{tag}"), tag < 100);
        }
    }

    #[test]
    fn what_names_no_tag_or_too_many_is_refused() {
        let compile = |expression: &str| TagFilter::compile(expression, &Config::default());
        assert!(compile("||").expect_err("no tag").contains("names no tag"));
        let many: Vec<String> = (0..=TAGS_MAX).map(|tag| tag.to_string()).collect();
        assert!(compile(&many.join("||")).expect_err("too many").contains("limit"));
    }
}
