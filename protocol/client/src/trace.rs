//! The trace that a message belongs to, as the W3C writes it: carried as the properties
//! `traceparent` and `tracestate`, which other systems read as well.
//!
//! The client makes spans with `tracing`, and knows no exporter. Whoever exports says by a
//! [`TracePropagator`] which trace a span belongs to.
use std::fmt;
use std::sync::Arc;

use tracing::Span;

use crate::{Delivery, Message};

/// Which trace a message belongs to, and by which of its spans it was sent.
///
/// Source: W3C Trace Context, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
    /// Whether it is recorded, and bits to come.
    pub flags: u8,
}

impl TraceContext {
    /// Reads `traceparent`. `None` for what is none: by the specification it counts as absent then.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_lower_hex = |part: &str, digits: usize| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.len() == digits && part.bytes().all(is_digit)
        };
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_well_formed = is_lower_hex(version, 2)
            && is_lower_hex(trace, 32)
            && is_lower_hex(span, 16)
            && is_lower_hex(flags, 2);
        // Later versions may add parts, version 00 has none, and ff is none.
        let is_over = version != "00" || parts.next().is_none();
        if !is_well_formed || version == "ff" || !is_over {
            return None;
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace, 16).ok()?,
            span_id: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }

    /// Whether whoever sent it records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, flags } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

/// Ties the spans of `tracing` to those of whoever exports them; some lines with
/// `tracing-opentelemetry`. Given to [`crate::ClientBuilder::propagate`].
pub trait TracePropagator: Send + Sync {
    /// The context of the span in which a message is sent; `None`: the message carries none.
    fn context_of(&self, span: &Span) -> Option<TraceContext>;

    /// What goes with that context as `tracestate`: 1 to 512 printable ASCII characters. None
    /// unless said otherwise.
    fn state_of(&self, span: &Span) -> Option<String> {
        let _ = span;
        None
    }

    /// A message is handled in `span`, and was sent in `parent`, with this `tracestate`.
    fn continue_from(&self, span: &Span, parent: TraceContext, state: Option<&str>);
}

/// A propagator, or none.
#[derive(Clone, Default)]
pub(crate) struct Propagation(Option<Arc<dyn TracePropagator>>);

impl fmt::Debug for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Propagation(set)" } else { "Propagation(none)" })
    }
}

impl Propagation {
    pub(crate) fn by(propagator: Arc<dyn TracePropagator>) -> Self {
        Self(Some(propagator))
    }

    /// The message, in the trace of the span that the caller is in.
    pub(crate) fn attach(&self, message: Message) -> Message {
        let Some(propagator) = &self.0 else { return message };
        let span = Span::current();
        let Some(context) = propagator.context_of(&span) else { return message };
        let state = propagator.state_of(&span).filter(|state| is_state(state));
        let message = message.trace(context);
        match state {
            Some(state) => message.trace_state(state),
            None => message,
        }
    }

    /// The message, in the trace of the one that it answers: where nobody knows of spans, that is
    /// passed on as it is.
    pub(crate) fn answer(&self, message: Message, request: &Delivery) -> Message {
        let context = request.trace().filter(|_| self.0.is_none() && !message.has_trace());
        match (context, request.trace_state()) {
            (Some(context), Some(state)) => message.trace(context).trace_state(state),
            (Some(context), None) => message.trace(context),
            (None, _) => message,
        }
    }

    /// A message is handled in a span.
    pub(crate) fn continue_from(&self, span: &Span, delivery: &Delivery) {
        if let (Some(propagator), Some(parent)) = (&self.0, delivery.trace()) {
            propagator.continue_from(span, parent, delivery.trace_state());
        }
    }
}

/// Characters of a `tracestate` that is passed on. Source: W3C Trace Context, section 3.3.1.5:
/// vendors should propagate at least 512.
const STATE_CHARS_MAX: usize = 512;

/// Whether a text can be a `tracestate`; what its parts mean is its vendors' business.
pub(crate) fn is_state(text: &str) -> bool {
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
    (1..=STATE_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_written_is_read() {
        let context = TraceContext::parse(TEXT).unwrap();
        assert_eq!((context.span_id, context.flags), (0xb7ad_6b71_6920_3331, 1));
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), TEXT);
        let later = format!("01{}-more", &TEXT[2..]);
        assert_eq!(TraceContext::parse(&later), Some(context), "a later version with more in it");
    }

    #[test]
    fn what_is_not_a_context_is_none() {
        let changed = |from: &str, to: &str| TEXT.replacen(from, to, 1);
        for text in [
            "",
            "00",
            &changed("00-", "ff-"),
            &changed("0af7", "0AF7"),
            &changed("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &changed("b7ad6b7169203331", &"0".repeat(16)),
            &changed("-01", "-1"),
            &changed("-01", "-01-x"),
            &changed("0af7", "+af7"),
            &changed("0af7", "é"),
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_state_is_not_passed_on() {
        let check = |text: &str, expect: bool| assert_eq!(is_state(text), expect, "{text:?}");
        check("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true);
        check(&"x".repeat(512), true);
        check(&"x".repeat(513), false);
        check("", false);
        check("a=é", false);
        check("a=1\nb=2", false);
    }

    /// Says of every span that it is this one.
    struct Always(Option<&'static str>);

    impl TracePropagator for Always {
        fn context_of(&self, _: &Span) -> Option<TraceContext> {
            TraceContext::parse(TEXT)
        }
        fn state_of(&self, _: &Span) -> Option<String> {
            self.0.map(str::to_owned)
        }
        fn continue_from(&self, _: &Span, _: TraceContext, _: Option<&str>) {}
    }

    #[test]
    fn a_message_carries_the_context_of_its_span_and_a_state_that_is_one() {
        let attached = |state| Propagation::by(Arc::new(Always(state))).attach(Message::new("x"));
        let context = TraceContext::parse(TEXT).unwrap();
        assert_eq!(attached(Some("a=1")), Message::new("x").trace(context).trace_state("a=1"));
        assert_eq!(attached(None), Message::new("x").trace(context));
        assert_eq!(attached(Some("a\n")), Message::new("x").trace(context));
        assert_eq!(Propagation::default().attach(Message::new("x")), Message::new("x"));
    }
}
