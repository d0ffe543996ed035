//! What only the operating system can do: the one place of this crate that calls it directly.
#![expect(unsafe_code, reason = "std sets no thread's priority")]

/// How early a thread of the broker runs when more want to than there are processors. A thread
/// that everybody waits for must not stand in line with a hundred that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The writer and the syncer of a shard: short turns, and every request waits for them.
    Log,
    /// The threads of the network.
    Network,
}

impl Priority {
    fn niceness(self) -> libc::c_int {
        match self {
            Self::Log => -15,
            Self::Network => -5,
        }
    }
}

/// Gives the calling thread a priority, where this process may: as root, or with
/// `CAP_SYS_NICE`, or within `RLIMIT_NICE`. Elsewhere it keeps the one it has.
pub fn prefer(priority: Priority) {
    // Where the default was changed from outside, whoever did that has decided.
    // SAFETY: the call takes and returns numbers; 0 means the calling thread.
    let inherited = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if inherited != 0 {
        return;
    }
    // SAFETY: as above.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, priority.niceness()) };
    if result != 0 {
        tracing::debug!(?priority, "threads keep their priority: this process may not raise it");
    }
}
