//! What the system gives this program as randomness: always the same. The standard library asks it
//! for the keys of its hash tables, and tokio draws from those in which order things wake up. TLS
//! asks the kernel itself and gets the real thing.
#![expect(unsafe_code, reason = "the library's function is replaced by one of its name")]

use std::ffi::{c_uint, c_void};
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
