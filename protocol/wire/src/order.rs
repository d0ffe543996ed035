//! What a topic promises about the order of its messages, as data. What it comes to is decided by
//! the broker.
use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::limits::{ORDER_RETRY_MS_DEFAULT, RETRY_DELAY_MS_MAX};
use crate::operation::{Arg, bad};
use crate::units::{MILLISECONDS, in_unit, read_duration_ms};
use crate::value::{ToValue, Value};
use crate::{Code, Refusal};

word! {
    /// What a topic promises about the order in which a group gets its messages.
    #[derive(Default)]
    pub enum TopicType {
        /// Nothing: members of a group share its messages one by one.
        #[default]
        Normal = 0 "normal",
        /// Messages of an order group come in the order of their queue, to one member at a time;
        /// those that name none are one order group in each queue.
        Ordered = 1 "ordered",
    }
}

word! {
    /// What becomes of an order group when one of its messages has failed for the last time.
    #[derive(Default)]
    pub enum AfterLast {
        /// The message becomes a dead letter, and the next one follows.
        #[default]
        GoOn = 0 "go-on",
        /// The order group stops until somebody unblocks it.
        Stop = 1 "stop",
    }
}

word! {
    /// What becomes of a message that has stopped its order group, when somebody unblocks it.
    #[derive(Default)]
    pub enum Unblock {
        /// It is delivered once more; if that fails, the order group stops again.
        #[default]
        Retry = 0 "retry",
        /// It becomes a dead letter, and the next one follows.
        Bury = 1 "bury",
    }
}

impl Arg for TopicType {
    const KIND: &'static str = "normal|ordered";
    fn parse(_: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let text = text.unwrap_or_default();
        Self::parse(text).ok_or_else(|| {
            let short: String = text.chars().take(80).collect();
            let detail = format!("{short:?} is none of {}", <Self as Arg>::KIND);
            Refusal::new(Code::UnknownTopicType, detail)
        })
    }
}

impl Arg for AfterLast {
    const KIND: &'static str = "go-on|stop";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        text.and_then(Self::parse).ok_or_else(|| bad(name, <Self as Arg>::KIND, text))
    }
}

impl Arg for Unblock {
    const KIND: &'static str = "retry|bury";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        text.and_then(Self::parse).ok_or_else(|| bad(name, <Self as Arg>::KIND, text))
    }
}

impl ToValue for TopicType {
    fn to_value(&self) -> Value {
        Value::Text(self.text().to_owned())
    }
}

impl ToValue for AfterLast {
    fn to_value(&self) -> Value {
        Value::Text(self.text().to_owned())
    }
}

impl ToValue for Unblock {
    fn to_value(&self) -> Value {
        Value::Text(self.text().to_owned())
    }
}

/// How long a message of an ordered topic that failed waits until it comes again, in milliseconds:
/// 1 to [`RETRY_DELAY_MS_MAX`]. Its default is RocketMQ's (`suspendCurrentQueueTimeMillis`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderRetry(pub u32);

impl Default for OrderRetry {
    fn default() -> Self {
        Self(ORDER_RETRY_MS_DEFAULT)
    }
}

impl OrderRetry {
    /// Whether it is within its bounds.
    #[must_use]
    pub fn is_valid(self) -> bool {
        (1..=RETRY_DELAY_MS_MAX).contains(&self.0)
    }
}

impl Wire for OrderRetry {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        u32::take(input).map(Self)
    }
}

impl Arg for OrderRetry {
    const KIND: &'static str = "DURATION";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let read = text.and_then(|text| read_duration_ms(text).ok());
        let retry = read.and_then(|ms| u32::try_from(ms).ok()).map(Self);
        retry.filter(|retry| retry.is_valid()).ok_or_else(|| bad(name, Self::KIND, text))
    }
}

impl ToValue for OrderRetry {
    fn to_value(&self) -> Value {
        Value::Text(in_unit(self.0.into(), MILLISECONDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_others_refused_with_their_codes() {
        let read = |text| <TopicType as Arg>::parse("type", Some(text));
        assert_eq!(read("ordered"), Ok(TopicType::Ordered));
        let refusal = read("fifo").unwrap_err();
        assert_eq!(refusal.code, Code::UnknownTopicType);
        assert_eq!(refusal.detail, "\"fifo\" is none of normal|ordered");
        let retry = |text| OrderRetry::parse("order_retry", Some(text));
        assert_eq!(retry("1s"), Ok(OrderRetry::default()));
        assert_eq!(retry("20ms"), Ok(OrderRetry(20)));
        for wrong in ["0s", "1", "500d", ""] {
            assert_eq!(retry(wrong).unwrap_err().code, Code::BadArgument, "{wrong}");
        }
        let then = <Unblock as Arg>::parse("then", Some("skip")).unwrap_err();
        assert_eq!(then.code, Code::BadArgument);
    }
}
