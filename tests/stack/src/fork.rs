//! Copies of this process, which has one thread.
#![expect(unsafe_code, reason = "the standard library has no word for it")]

use std::io::{self, Read, Write};

use yard_stack::Copied;

/// Does the work in a copy of this process; what it came to, and how the copy ended. Nobody else
/// notices: the copy ends without any of what this process does at its end.
///
/// # Errors
/// When the system makes no copy.
pub(crate) fn in_copy(work: &dyn Fn() -> String) -> io::Result<Copied> {
    let (mut from, mut to) = io::pipe()?;
    // SAFETY: a copy has the thread that asks for it and no other; this process has no other
    // either, so no lock is held in the copy by a thread that is not there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(from);
            let is_said = to.write_all(work().as_bytes()).is_ok();
            // SAFETY: it ends this copy, and does not return.
            unsafe { libc::_exit(i32::from(!is_said)) }
        }
        child => {
            drop(to);
            let (mut said, mut status) = (Vec::new(), 0);
            from.read_to_end(&mut said)?;
            // SAFETY: `status` is valid for a write as long as the call lasts.
            let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
            if ended == child {
                Ok(Copied { status, said })
            } else {
                Err(io::Error::last_os_error())
            }
        }
    }
}
