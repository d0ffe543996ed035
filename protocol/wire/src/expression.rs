//! What a subscription's filter expression says, as far as the broker itself reads it.
//!
//! | dialect | text | who decides |
//! |---|---|---|
//! | `all` | nothing | nobody: every message is delivered |
//! | `tag` | `A \|\| B`, or `*` | the broker, by exact comparison |
//! | `sql` | a predicate over properties | the plugin `filter-sql` |
//! | `sql-rocketmq` | the same as RocketMQ reads it | the plugin `filter-sql` |
//! | `plugin` | `NAME` or `NAME(ARGUMENTS)` | the tenant's plugin of this name, or the system's |
use crate::requests::Expression;
use crate::{Code, Refusal, limits, name};

/// The first-party plugin that decides about both dialects of SQL.
pub const SQL_PLUGIN: &str = "filter-sql";
/// What plugins of the system are told to choose a dialect by.
pub const DIALECT_SETTING: &str = "dialect";
/// Tags in one expression.
pub const TAGS_MAX: usize = 256;

word! {
    /// The language of a filter expression.
    pub enum Dialect {
        /// Every message.
        All = 0 "all",
        /// Tags, joined by `||`.
        Tag = 1 "tag",
        /// SQL's conditions over the properties of a message.
        Sql = 2 "sql",
        /// The same, with the rules of RocketMQ where they differ.
        SqlRocketmq = 3 "sql-rocketmq",
        /// A plugin by its name.
        Plugin = 4 "plugin",
    }
}

/// An expression that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every message is wanted.
    All,
    /// Messages with one of these tags are wanted.
    Tags(Tags),
    /// A plugin decides.
    Plugin(PluginFilter),
}

/// The tags that are wanted; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags(Vec<String>);

/// Which plugin decides, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginFilter {
    /// Name of the plugin.
    pub plugin: String,
    /// What the plugin is to read: the text of the expression, or the plugin's arguments.
    pub expression: String,
    /// The dialect of the expression, where the plugin knows several.
    pub dialect: Option<Dialect>,
}

impl Tags {
    /// Whether a message with this tag is wanted. A message without a tag has the empty one.
    #[must_use]
    pub fn holds(&self, tag: &str) -> bool {
        self.0.iter().any(|wanted| wanted == tag)
    }
}

impl Filter {
    /// Reads an expression; none means every message.
    ///
    /// # Errors
    /// [`Code::UnsupportedExpression`] for an unknown dialect; [`Code::BadExpression`] for a text
    /// that the broker can see to be wrong, or longer than [`limits::EXPRESSION_BYTES_MAX`]; what
    /// a plugin thinks of its expression is for it to say.
    pub fn read(expression: Option<&Expression>) -> Result<Self, Refusal> {
        let Some(Expression { dialect, text }) = expression else { return Ok(Self::All) };
        if text.len() > limits::EXPRESSION_BYTES_MAX {
            mark!(ExpressionLong);
            let max = limits::EXPRESSION_BYTES_MAX;
            return Err(bad(format!("it has {} bytes, the limit is {max}", text.len())));
        }
        let Some(known) = Dialect::parse(dialect) else {
            let known: Vec<&str> = Dialect::ALL.iter().map(|dialect| dialect.text()).collect();
            let detail = format!(
                "the dialect {:?} is not known here; known are {}",
                dialect.chars().take(40).collect::<String>(),
                known.join(", ")
            );
            mark!(ExpressionDialect);
            return Err(Refusal::new(Code::UnsupportedExpression, detail));
        };
        match known {
            Dialect::All => Ok(Self::All),
            Dialect::Tag => tags(text),
            Dialect::Sql | Dialect::SqlRocketmq => Ok(Self::Plugin(PluginFilter {
                plugin: SQL_PLUGIN.to_owned(),
                expression: text.clone(),
                dialect: Some(known),
            })),
            Dialect::Plugin => plugin(text),
        }
    }
}

fn bad(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::BadExpression, format!("the filter expression cannot be used: {why}"))
}

/// `A || B`; `*`, or nothing, is every message. Source: RocketMQ's tag expressions.
fn tags(text: &str) -> Result<Filter, Refusal> {
    let mut tags: Vec<String> = Vec::new();
    for tag in text.split("||").map(str::trim) {
        if tag == "*" || text.trim().is_empty() {
            return Ok(Filter::All);
        }
        if tag.is_empty() {
            mark!(ExpressionEmptyTag);
            return Err(bad(format!("there is nothing beside a || of {text:?}")));
        }
        if tag.len() > limits::TAG_BYTES_MAX {
            mark!(ExpressionLongTag);
            let max = limits::TAG_BYTES_MAX;
            return Err(bad(format!("a tag has {} bytes, the limit is {max}", tag.len())));
        }
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
    if tags.len() > TAGS_MAX {
        mark!(ExpressionTags);
        return Err(bad(format!("it has {} tags, the limit is {TAGS_MAX}", tags.len())));
    }
    Ok(Filter::Tags(Tags(tags)))
}

/// `NAME` or `NAME(ARGUMENTS)`.
fn plugin(text: &str) -> Result<Filter, Refusal> {
    let text = text.trim();
    let (plugin, arguments) = match text.split_once('(') {
        Some((plugin, rest)) => {
            let arguments = rest.strip_suffix(')');
            let unclosed = || bad(format!("{text:?} does not end with the ) of its arguments"));
            (plugin.trim_end(), arguments.ok_or_else(unclosed)?)
        }
        None => (text, ""),
    };
    name::check(plugin).map_err(|refusal| bad(refusal.detail))?;
    let (plugin, expression) = (plugin.to_owned(), arguments.to_owned());
    Ok(Filter::Plugin(PluginFilter { plugin, expression, dialect: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dialect: &str, text: &str) -> Result<Filter, Code> {
        let expression = Expression { dialect: dialect.into(), text: text.into() };
        Filter::read(Some(&expression)).map_err(|refusal| refusal.code)
    }

    fn tagged(tags: &[&str]) -> Result<Filter, Code> {
        Ok(Filter::Tags(Tags(tags.iter().map(|&tag| tag.to_owned()).collect())))
    }

    #[test]
    fn expressions_are_read_by_their_dialect() {
        let by = |plugin: &str, expression: &str, dialect| {
            let (plugin, expression) = (plugin.to_owned(), expression.to_owned());
            Ok(Filter::Plugin(PluginFilter { plugin, expression, dialect }))
        };
        assert_eq!(Filter::read(None), Ok(Filter::All));
        assert_eq!(read("all", "whatever"), Ok(Filter::All));
        for every in ["*", "", "  ", " * ", "a || *"] {
            assert_eq!(read("tag", every), Ok(Filter::All), "{every:?}");
        }
        assert_eq!(read("tag", "a"), tagged(&["a"]));
        assert_eq!(read("tag", " a||b || a "), tagged(&["a", "b"]));
        assert_eq!(read("tag", "a ||"), Err(Code::BadExpression));
        assert_eq!(read("tag", &"x".repeat(256)), Err(Code::BadExpression));
        let many: Vec<String> = (0..=TAGS_MAX).map(|n| format!("t{n}")).collect();
        assert_eq!(read("tag", &many.join("||")), Err(Code::BadExpression));
        assert_eq!(read("sql", "a > 1"), by(SQL_PLUGIN, "a > 1", Some(Dialect::Sql)));
        let rocketmq = by(SQL_PLUGIN, "a > 1", Some(Dialect::SqlRocketmq));
        assert_eq!(read("sql-rocketmq", "a > 1"), rocketmq);
        assert_eq!(read("plugin", "big-orders"), by("big-orders", "", None));
        assert_eq!(read("plugin", "big(a(1), b)"), by("big", "a(1), b", None));
        for wrong in ["", "(", "big(1", "big(1) and", "../x", "a b"] {
            assert_eq!(read("plugin", wrong), Err(Code::BadExpression), "{wrong:?}");
        }
        assert_eq!(read("xpath", "a"), Err(Code::UnsupportedExpression));
        let long = "a".repeat(limits::EXPRESSION_BYTES_MAX + 1);
        assert_eq!(read("sql", &long), Err(Code::BadExpression));
    }

    /// These two have the same 32-bit hash in Java.
    #[test]
    fn tags_are_compared_exactly() {
        let Ok(Filter::Tags(tags)) = read("tag", "Aa || other") else { panic!("tags") };
        assert!(tags.holds("Aa") && tags.holds("other"));
        assert!(!tags.holds("BB") && !tags.holds("aa") && !tags.holds(""));
    }
}
