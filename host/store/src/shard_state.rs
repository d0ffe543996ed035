//! The state of a shard that is to be saved.
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// The state of a shard at one moment. It becomes bytes where it is written: with a large one that
/// takes its time, and the log does not wait for it.
#[derive(Clone)]
pub struct ShardState(Arc<Put>);

type Put = dyn Fn(&mut Vec<u8>) + Send + Sync;

impl ShardState {
    /// A state that `put` appends to what it is given: each time the same bytes.
    #[must_use]
    pub fn new(put: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(put))
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        self.0(&mut out);
        Bytes::from(out)
    }
}

impl From<Bytes> for ShardState {
    fn from(bytes: Bytes) -> Self {
        Self::new(move |out| out.extend_from_slice(&bytes))
    }
}

impl fmt::Debug for ShardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardState")
    }
}

/// They are equal when their bytes are.
impl PartialEq for ShardState {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Eq for ShardState {}
