//! What the system gives this program as randomness: always the same. The standard library asks it
//! for the keys of its hash tables, and tokio draws from those in which order things wake up. TLS
//! asks the kernel itself and gets the real thing, once for this process and all its copies.
#![expect(unsafe_code, reason = "the library's functions are replaced by some of their names")]

use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use yard_sim::Random;

/// How many numbers were drawn.
static DRAWN: AtomicU64 = AtomicU64::new(0);

/// In place of the C library's function, for everything that is linked into this program.
///
/// # Safety
/// `buffer` is valid for writes of `bytes` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, bytes: usize, _: c_uint) -> isize {
    // SAFETY: the caller says that it is.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), bytes) };
    for part in buffer.chunks_mut(8) {
        let number = DRAWN.fetch_add(1, Ordering::Relaxed);
        part.copy_from_slice(&Random::new(number).word().to_le_bytes()[..part.len()]);
    }
    bytes as isize
}

/// In place of the C library's function: as the kernel does it, but that no memory is wiped in
/// copies of this process. By such memory the library of TLS finds out that it was copied, and then
/// collects entropy anew, for longer than most runs take. No copy has secrets.
///
/// # Safety
/// As the C library's: the mapping is the caller's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn madvise(start: *mut c_void, bytes: usize, advice: c_int) -> c_int {
    if advice == libc::MADV_WIPEONFORK {
        // SAFETY: it is this thread's own.
        unsafe { *libc::__errno_location() = libc::EINVAL };
        return -1;
    }
    // SAFETY: the caller says that it is.
    unsafe { libc::syscall(libc::SYS_madvise, start, bytes, advice) as c_int }
}
