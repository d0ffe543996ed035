//! What most plugins use: `use switchyard_plugin::prelude::*;`.

pub use crate::{
    Answer, Attempt, Config, Dedupe, Fate, Filter, Half, Interceptor, Message, MessageBuilder,
    Needs, Next, OnDuplicate, Patch, Policy, Retry, TxnCheck,
};
pub use crate::{dedupe, filter, interceptor, manifest, retry, txn_check};
