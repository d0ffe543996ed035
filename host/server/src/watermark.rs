//! How full the disk is, told to the shards when it passes one of two marks.
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

use yard_broker::{DiskLevel, Event};
use yard_shard::Input;

use crate::config::Settings;
use crate::hub::Hub;
use crate::os;

/// How often somebody looks. At 1 GB/s a disk fills by 5 GB meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A mark counts as left when use is so many percent below it, so that nobody is refused and let
/// in by turns.
const LEFT_PERCENT: u8 = 1;

/// The marks of a disk, in percent of use.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    path: PathBuf,
    expire: u8,
    refuse: u8,
}

impl Marks {
    /// Those of the settings, for the disk of the data folder.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            path: settings.data.clone(),
            expire: settings.disk_expire_percent,
            refuse: settings.disk_refuse_percent,
        }
    }

    /// The level at this use, after another one.
    fn level(&self, used: u8, before: DiskLevel) -> DiskLevel {
        let at = |mark: u8, level| {
            let below = if before >= level { LEFT_PERCENT } else { 0 };
            mark < 100 && used >= mark.saturating_sub(below)
        };
        if at(self.refuse, DiskLevel::Refuse) {
            DiskLevel::Refuse
        } else if at(self.expire, DiskLevel::Expire) {
            DiskLevel::Expire
        } else {
            DiskLevel::Low
        }
    }
}

/// Looks for as long as the broker runs, and does not keep its files open longer.
pub(crate) async fn run(hub: Weak<Hub>, marks: Marks) {
    let mut before = DiskLevel::Low;
    let mut turns = tokio::time::interval(LOOK_EVERY);
    loop {
        turns.tick().await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(used) = os::disk_used_percent(&marks.path) else { continue };
        let level = marks.level(used, before);
        if level == before {
            continue;
        }
        tracing::warn!(used, ?before, ?level, "the use of the disk has passed a mark");
        before = level;
        for inbox in &hub.inboxes {
            inbox.put_first(Input::Event(Event::Disk(level)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_passed_upwards_at_once_and_downwards_a_little_later() {
        use DiskLevel::{Expire, Low, Refuse};
        let marks = |expire, refuse| Marks { path: PathBuf::new(), expire, refuse };
        let check = |marks: Marks, used, before, expected| {
            assert_eq!(marks.level(used, before), expected, "{used} after {before:?}");
        };
        check(marks(75, 90), 74, Low, Low);
        check(marks(75, 90), 75, Low, Expire);
        check(marks(75, 90), 74, Expire, Expire);
        check(marks(75, 90), 73, Expire, Low);
        check(marks(75, 90), 90, Low, Refuse);
        check(marks(75, 90), 89, Refuse, Refuse);
        check(marks(75, 90), 89, Expire, Expire);
        check(marks(75, 90), 88, Refuse, Expire);
        check(marks(100, 100), 100, Low, Low);
        check(marks(75, 100), 100, Low, Expire);
    }
}
