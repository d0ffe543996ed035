//! Names of properties that mean something to clients and, some of them, to the broker. Those that
//! begin with `$` are the system's: applications set them through functions, never by name.
//! [`crate::record::KEY`] and [`crate::record::ORDER`] belong to them.

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
