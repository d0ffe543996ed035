//! What only the operating system can do: the one place of this crate that calls it directly.
#![expect(unsafe_code, reason = "std sets no thread's priority and knows no processor time")]

use std::cell::Cell;
use std::io;
use std::thread::{Builder, JoinHandle};

/// How early a thread of the broker runs when more want to than there are processors. A thread
/// that everybody waits for must not stand in line with a hundred that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The writer and the syncer of a shard, and who ends calls of plugins that take too long:
    /// short turns, and everybody waits for them.
    Log,
    /// What a shard has done beside its log: the next segment, indexes, checkpoints. Its writer
    /// waits for them at last.
    Background,
    /// The threads of the network.
    Network,
    /// The threads that read the log for those who are behind: there are more of them than
    /// processors, because they wait for the disk, and all of them may have work at once.
    Reader,
    /// The threads on which plugins run and are made ready: whatever a tenant has them do, the
    /// others come first.
    Policy,
}

impl Priority {
    fn niceness(self) -> libc::c_int {
        match self {
            Self::Log => -15,
            Self::Background | Self::Network => -5,
            Self::Policy | Self::Reader => 5,
        }
    }
}

/// The lowest of the real-time priorities: whoever sets one from outside goes before.
const REAL_TIME_PRIORITY: libc::c_int = 1;

/// Gives the calling thread a priority, where this process may: as root, or with
/// `CAP_SYS_NICE`, or within `RLIMIT_RTPRIO` or `RLIMIT_NICE`. Elsewhere it keeps the one it has.
///
/// A thread that was given one before gets the other instead, so that a runtime may give all its
/// threads the first and those that only read the second; it costs nothing to ask again.
pub fn prefer(priority: Priority) {
    thread_local! {
        static GIVEN: Cell<Option<Priority>> = const { Cell::new(None) };
    }
    let given = GIVEN.replace(Some(priority));
    if given == Some(priority) {
        return;
    }
    match priority {
        Priority::Background => run_after_equals(),
        Priority::Policy | Priority::Reader => leave_real_time(),
        Priority::Log | Priority::Network => {}
    }
    if priority != Priority::Log {
        ask_the_disk_like_others();
    }
    // Where the default was changed from outside, whoever did that has decided.
    // SAFETY: the call takes and returns numbers; 0 means the calling thread.
    let inherited = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: as above.
    let policy = unsafe { libc::sched_getscheduler(0) };
    let default = given.map_or(0, Priority::niceness);
    if inherited != default || policy != libc::SCHED_OTHER {
        return;
    }
    if priority == Priority::Log && is_made_real_time() {
        return;
    }
    // SAFETY: as above.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, priority.niceness()) };
    let niceness = if result == 0 { priority.niceness() } else { inherited };
    if result != 0 {
        tracing::debug!(?priority, "threads keep their priority: this process may not raise it");
    }
    if priority == Priority::Network {
        take_short_turns(niceness);
    }
}

/// Starts a thread with a name and a priority.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn(
    name: String,
    priority: Priority,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).spawn(move || {
        prefer(priority);
        run();
    })
}

/// What the system is told of how a thread runs (`sched_setattr(2)`).
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// How long a thread of the network runs before others are looked at, in nanoseconds: the least
/// that the system takes.
const SHORT_TURN_NS: u64 = 100_000;

/// Lets the calling thread, of this niceness, run for short turns. Since Linux 6.12 one that wakes
/// up and wants little goes before one that is in the middle of a long turn, instead of waiting up
/// to 3 ms for its end; older ones take no notice.
fn take_short_turns(nice: libc::c_int) {
    let size = size_of::<Attributes>() as u32;
    let policy = libc::SCHED_OTHER as u32;
    let attributes = Attributes {
        size,
        policy,
        flags: 0,
        nice,
        priority: 0,
        runtime_ns: SHORT_TURN_NS,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the call reads the structure, which outlives it and tells its size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result != 0 {
        tracing::debug!("the system gives this thread no short turns");
    }
}

/// Gives each thread that is started from now on memory of its own to allocate from, where the
/// allocator would have eight of them a processor share: a thread that runs behind others may lose
/// its processor while it allocates, and who shares with it waits, for milliseconds.
pub fn share_no_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes and returns numbers.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) } == 0 {
        tracing::debug!("the allocator lets threads share memory");
    }
}

/// More than the broker has threads.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 256;

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
fn run_after_equals() {
    move_real_time(-1);
}

/// Takes a real-time priority that the process was given from outside back from the calling
/// thread: what tenants have it do may last, and would keep the system itself from its work, the
/// writing of files among it.
fn leave_real_time() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the calls take numbers and read the structure, which outlives them; 0 means the
    // calling thread.
    let result = unsafe {
        match libc::sched_getscheduler(0) {
            libc::SCHED_FIFO | libc::SCHED_RR => {
                libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters)
            }
            _ => 0,
        }
    };
    if result != 0 {
        tracing::debug!("a thread keeps its real-time priority: this process may not change it");
    }
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

/// Has the disk serve the calling thread like any other. A thread at a real-time priority has its
/// requests served as such, and a scheduler of disks that knows of it (`mq-deadline`) lets none of
/// the others begin while one is under way: whoever reads an index record by record would keep
/// those that deliver from reading at all.
fn ask_the_disk_like_others() {
    let (who, priority) = (IOPRIO_WHO_PROCESS, IOPRIO_BEST_EFFORT);
    // SAFETY: the call takes and returns numbers; 0 means the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, who, 0, priority) };
    if result != 0 {
        tracing::debug!("the disk serves this thread as its priority says");
    }
}

/// What `ioprio_set(2)` calls a thread.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// The class of those without a right to be first, and its middle level (`ioprio_set(2)`).
const IOPRIO_BEST_EFFORT: libc::c_int = 2 << 13 | 4;

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
