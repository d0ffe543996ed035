//! What the disk does for a program that writes next to nothing, while a broker uses it: small
//! writes, each synced, beside the broker's data. A broker's figure is read beside this one.
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Failed, Scratch};

/// Bytes of a write: a page.
const PAGE: usize = 4_096;
/// The file is written over from its begin again.
const PAGES: u64 = 1_024;
/// Between a write that was synced and the next one.
const REST: Duration = Duration::from_millis(5);
/// A sync that takes longer is a stall.
const STALL: Duration = Duration::from_millis(50);

/// Writes and syncs until it is asked.
#[derive(Debug)]
pub(super) struct Beside {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Syncs, Failed>>,
}

/// What the disk did.
#[derive(Debug)]
pub(super) struct Syncs {
    took: Vec<Duration>,
}

impl Beside {
    /// Begins, in a folder of its own where brokers have theirs.
    pub(super) fn begin() -> Result<Self, Failed> {
        let scratch = Scratch::new("beside")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || write(&scratch, &stopped));
        Ok(Self { stop, thread })
    }

    /// Ends, and tells.
    pub(super) fn end(self) -> Result<Syncs, Failed> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Failed("the writer beside panicked".to_owned()))?
    }
}

fn write(scratch: &Scratch, stopped: &AtomicBool) -> Result<Syncs, Failed> {
    let path = scratch.path().join("pages");
    let file = File::create(&path).map_err(Failed::file(&path))?;
    let page = [0x5a; PAGE];
    for at in 0..PAGES {
        file.write_all_at(&page, at * PAGE as u64).map_err(Failed::file(&path))?;
    }
    file.sync_all().map_err(Failed::file(&path))?;
    let mut took = Vec::new();
    for at in (0..PAGES).cycle() {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        file.write_all_at(&page, at * PAGE as u64).map_err(Failed::file(&path))?;
        file.sync_data().map_err(Failed::file(&path))?;
        took.push(began.elapsed());
        std::thread::sleep(REST);
    }
    took.sort_unstable();
    Ok(Syncs { took })
}

impl fmt::Display for Syncs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
        let at = |share: usize| self.took.get(self.took.len() * share / 100).copied();
        let stalled = self.took.iter().filter(|took| **took > STALL);
        let (p50, most) = (at(50).unwrap_or_default(), self.took.last().copied());
        write!(
            out,
            "a page and a sync: p50 {:.2} ms, most {:.0} ms; {} of {} took over {} ms, {:.0} ms \
             in all",
            ms(p50),
            ms(most.unwrap_or_default()),
            stalled.clone().count(),
            self.took.len(),
            STALL.as_millis(),
            ms(stalled.sum()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_told_by_number_and_by_time() {
        let ms = [1, 1, 2, 60, 340].map(Duration::from_millis);
        let text = Syncs { took: ms.to_vec() }.to_string();
        assert!(
            text.contains("p50 2.00 ms, most 340 ms; 2 of 5 took over 50 ms, 400 ms"),
            "{text}"
        );
    }
}
