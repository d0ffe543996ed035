//! What only the operating system can do: the one place of this crate that calls it directly.
#![expect(unsafe_code, reason = "std sets no thread's priority and knows no processor time")]

/// How early a thread of the broker runs when more want to than there are processors. A thread
/// that everybody waits for must not stand in line with a hundred that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The writer and the syncer of a shard: short turns, and every request waits for them.
    Log,
    /// The threads of the network.
    Network,
    /// The threads on which plugins run: whatever a tenant has them do, the others come first.
    Policy,
}

impl Priority {
    fn niceness(self) -> libc::c_int {
        match self {
            Self::Log => -15,
            Self::Network => -5,
            Self::Policy => 5,
        }
    }
}

/// The lowest of the real-time priorities: whoever sets one from outside goes before.
const REAL_TIME_PRIORITY: libc::c_int = 1;

/// Gives the calling thread a priority, where this process may: as root, or with
/// `CAP_SYS_NICE`, or within `RLIMIT_RTPRIO` or `RLIMIT_NICE`. Elsewhere it keeps the one it has.
pub fn prefer(priority: Priority) {
    if priority == Priority::Policy {
        run_after_equals();
    }
    // Where the default was changed from outside, whoever did that has decided.
    // SAFETY: the call takes and returns numbers; 0 means the calling thread.
    let inherited = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: as above.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if inherited != 0 || policy != libc::SCHED_OTHER {
        return;
    }
    if priority == Priority::Log && is_made_real_time() {
        return;
    }
    // SAFETY: as above.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, priority.niceness()) };
    if result != 0 {
        tracing::debug!(?priority, "threads keep their priority: this process may not raise it");
    }
}

/// Gives memory back that was needed once and is free now, where the allocator would keep it for
/// later. Takes milliseconds, in which nobody gets memory.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call concerns memory that is free; it takes and returns numbers.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Processor time of this process since its start, of user and system, in microseconds; 0 where
/// the system does not say.
#[must_use]
pub fn cpu_us() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for writes of one `rusage`, and nobody else has it.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if result != 0 {
        return 0;
    }
    // SAFETY: zeroes are a valid `rusage`, and so is what the call has written over them.
    let usage = unsafe { usage.assume_init() };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    us(usage.ru_utime) + us(usage.ru_stime)
}

/// Use of the disk that holds `path`, in percent, rounded up, as `df` shows it; `None` where the
/// system does not say.
#[must_use]
pub fn disk_used_percent(path: &std::path::Path) -> Option<u8> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero and outlives the call; the pointer is valid for writes of
    // one `statvfs`, and nobody else has it.
    let result = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: zeroes are a valid `statvfs`, and so is what the call has written over them.
    let found = unsafe { found.assume_init() };
    let used = u128::from(found.f_blocks.saturating_sub(found.f_bfree));
    let all = used + u128::from(found.f_bavail);
    let percent = (used * 100).checked_div(all).unwrap_or(0);
    let exact = all == 0 || (used * 100).is_multiple_of(all);
    u8::try_from(percent + u128::from(!exact)).ok()
}

/// Memory that this process has for itself, in bytes: what is neither a file nor shared. 0 where
/// the system does not say.
#[must_use]
pub fn rss_anon_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Lets the calling thread run as soon as there is something to do for it. At any niceness a
/// thread that wakes up waits for the running one to use up its turn: 4 ms, forty times as long
/// as a sync. What it can take is bounded: by what the network's threads give it to do, which do
/// not run at this priority, and by the system, which keeps 5 % for others (`sched(7)`).
fn is_made_real_time() -> bool {
    let parameters = libc::sched_param { sched_priority: REAL_TIME_PRIORITY };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call reads the structure, which outlives it; 0 means the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

/// Where this process was given a real-time priority from outside: lets the calling thread run
/// before the others of the same priority, which otherwise keep their processors for as long as
/// they like. Elsewhere it does nothing.
pub fn run_before_equals() {
    move_real_time(1);
}

/// The same, but lets the calling thread run after them: for what takes long and nobody waits for.
pub fn run_after_equals() {
    move_real_time(-1);
}

/// Lets the calling thread run only while nobody else wants its processor, and stop at once when
/// somebody does: for a child that works for minutes on what a tenant has sent. At any niceness
/// whoever wakes up would wait for it up to 4 ms.
pub fn run_last() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads the structure, which outlives it; 0 means the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } != 0 {
        tracing::debug!("the system does not let this thread be the last one");
    }
}

/// Moves the calling thread by so many real-time priorities, where the process was given one.
fn move_real_time(steps: libc::c_int) {
    let mut given = std::mem::MaybeUninit::<libc::sched_param>::zeroed();
    // SAFETY: the pointer is valid for writes of one `sched_param`; 0 means the calling thread.
    let (policy, result) =
        unsafe { (libc::sched_getscheduler(0), libc::sched_getparam(0, given.as_mut_ptr())) };
    if result != 0 || !matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR) {
        return;
    }
    // SAFETY: zeroes are a valid `sched_param`, and so is what the call has written over them.
    let mut wanted = unsafe { given.assume_init() };
    wanted.sched_priority = (wanted.sched_priority + steps).max(REAL_TIME_PRIORITY);
    // SAFETY: the pointer is valid for reads of one `sched_param`.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const wanted) };
    if result != 0 {
        tracing::debug!("a thread keeps its real-time priority: this process may not change it");
    }
}
