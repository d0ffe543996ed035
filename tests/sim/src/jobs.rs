//! Numbered pieces of work on several threads.
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Works on 0 up to `count` on so many threads, and adds up what comes of each, in any order.
/// After a piece that breaks off nothing more is begun.
pub fn share_out<T: Default + Send>(
    (jobs, count): (usize, u64),
    work: impl Fn(u64) -> ControlFlow<T, T> + Sync,
    add: impl Fn(&mut T, T) + Sync,
) -> T {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let all = Mutex::new(T::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let done = work(number);
                    stop.fetch_or(done.is_break(), Ordering::Relaxed);
                    let (ControlFlow::Continue(part) | ControlFlow::Break(part)) = done;
                    if let Ok(mut all) = all.lock() {
                        add(&mut all, part);
                    }
                }
            });
        }
    });
    all.into_inner().unwrap_or_default()
}
