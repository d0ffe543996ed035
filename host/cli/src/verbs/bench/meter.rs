//! What processes use: processor time and memory.
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};
use yard_client::Client;
use yard_client::wire::operation::BrokerInfo;

use super::figures::Window;

/// Microseconds of a tick of `/proc`. Source: USER_HZ, 100 on every Linux.
const TICK_US: u64 = 10_000;
/// So often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A process that can be looked at.
#[derive(Clone, Debug)]
pub(crate) enum Process {
    /// One of this machine.
    Here(u32),
    /// A broker that says it itself.
    Broker(Client),
}

/// Processor time since the start of a process, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    user_us: u64,
    system_us: u64,
}

/// What a process used in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Used {
    /// Of user and system, in milliseconds. A process that only says the sum has all under user.
    pub(crate) cpu_user_ms: f64,
    pub(crate) cpu_system_ms: f64,
    /// Most anonymous memory.
    pub(crate) rss_anon_bytes_max: u64,
}

impl Used {
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.cpu_user_ms + self.cpu_system_ms
    }
}

impl Process {
    pub(crate) fn this() -> Self {
        Self::Here(std::process::id())
    }

    async fn cpu(&self) -> Cpu {
        match self {
            Self::Here(pid) => {
                let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                read_stat(&text).unwrap_or_default()
            }
            Self::Broker(client) => {
                let info = client.admin().call(BrokerInfo {}).await;
                Cpu { user_us: info.map_or(0, |info| info.cpu_us), system_us: 0 }
            }
        }
    }

    /// Anonymous memory now; 0 where nobody says.
    pub(crate) async fn rss_anon_bytes(&self) -> u64 {
        match self {
            Self::Here(pid) => {
                let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                read_rss_anon(&text).unwrap_or_default()
            }
            Self::Broker(client) => {
                let info = client.admin().call(BrokerInfo {}).await;
                info.map_or(0, |info| info.rss_anon_bytes)
            }
        }
    }

    /// Looks at the process while the window lasts.
    pub(crate) async fn watch(self, window: Window) -> Used {
        sleep_until(window.begin.into()).await;
        let before = self.cpu().await;
        let max = Arc::new(AtomicU64::new(self.rss_anon_bytes().await));
        let looking = async {
            loop {
                sleep(LOOK).await;
                max.fetch_max(self.rss_anon_bytes().await, Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = looking => {}
            () = sleep_until(Instant::from_std(window.end)) => {}
        }
        self.used_since(before, max.load(Ordering::Relaxed)).await
    }

    async fn used_since(&self, before: Cpu, rss_anon_bytes_max: u64) -> Used {
        let after = self.cpu().await;
        let ms = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1_000.0;
        Used {
            cpu_user_ms: ms(before.user_us, after.user_us),
            cpu_system_ms: ms(before.system_us, after.system_us),
            rss_anon_bytes_max,
        }
    }
}

/// Looks at a process until it is told to stop.
pub(crate) struct Watch {
    process: Process,
    before: Cpu,
    max: u64,
}

impl Watch {
    pub(crate) async fn begin(process: Process) -> Self {
        let (before, max) = (process.cpu().await, process.rss_anon_bytes().await);
        Self { process, before, max }
    }

    pub(crate) async fn end(self) -> Used {
        let max = self.max.max(self.process.rss_anon_bytes().await);
        self.process.used_since(self.before, max).await
    }

    /// Looks on until `work` is done.
    pub(crate) async fn during<T>(mut self, work: impl Future<Output = T>) -> (T, Used) {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return (done, self.end().await),
                () = sleep(LOOK) => self.max = self.max.max(self.process.rss_anon_bytes().await),
            }
        }
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`; the second may hold anything in parentheses.
fn read_stat(text: &str) -> Option<Cpu> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut us = || Some(fields.next()?.parse::<u64>().ok()? * TICK_US);
    Some(Cpu { user_us: us()?, system_us: us()? })
}

fn read_rss_anon(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 123 45 0 0 20";
        let cpu = read_stat(stat).expect("complete");
        assert_eq!((cpu.user_us, cpu.system_us), (1_230_000, 450_000));
        assert!(read_stat("7 (x) S 1").is_none());
        assert_eq!(read_rss_anon("VmRSS:\t 9 kB\nRssAnon:\t     12 kB\n"), Some(12 << 10));
        assert_eq!(read_rss_anon("VmRSS:\t 9 kB\n"), None);
    }
}
