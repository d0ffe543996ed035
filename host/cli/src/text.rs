//! Texts that people write on a command line, and quantities as they read them.
use std::time::{Duration, SystemTime};

use yard_client::wire::{QueueOffset, Timestamp};
use yard_client::{Ack, AckNodes, DELAY_LEVELS, Start};
pub(crate) use yard_console::show::text::{
    bytes, covered, instant, read_time, visible, visible_lines,
};

/// Reads `earliest`, `latest`, an offset, a time or an age.
pub(crate) fn read_from(text: &str, now: Timestamp) -> Result<Start, String> {
    let wanted = || {
        format!(
            "takes earliest, latest, an offset, a time (2013-01-01T10:00:00Z) or an age (15m), \
                 not {text:?}"
        )
    };
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(Start::Offset(QueueOffset(offset)));
    }
    read_time(text, now).map(Start::Time).ok_or_else(wanted)
}

/// Reads a duration within bounds.
pub(crate) fn read_duration(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let ms = yard_server::config::read_duration_ms(text).ok();
    let within = ms.map(Duration::from_millis).filter(|found| (min..=max).contains(found));
    within.ok_or_else(|| {
        format!("takes a duration from {} to {}, not {text:?}", duration(min), duration(max))
    })
}

/// When messages are to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// So long after they are sent.
    After(Duration),
    /// At this instant.
    At(SystemTime),
}

/// Reads a duration, or `level:N` as RocketMQ counts them.
pub(crate) fn read_delay(text: &str) -> Result<Delay, String> {
    let wanted = || {
        let levels = DELAY_LEVELS.len();
        format!("takes a duration (30s), or level:1 to level:{levels}, not {text:?}")
    };
    if let Some(level) = text.strip_prefix("level:") {
        let level = level.parse::<usize>().ok().and_then(|level| level.checked_sub(1));
        let delay = level.and_then(|level| DELAY_LEVELS.get(level)).ok_or_else(wanted)?;
        return Ok(Delay::After(*delay));
    }
    let delay_ms = yard_server::config::read_duration_ms(text).map_err(|_| wanted())?;
    Ok(Delay::After(Duration::from_millis(delay_ms)))
}

/// Reads the instant at which messages are to be delivered.
pub(crate) fn read_at(text: &str) -> Result<Delay, String> {
    let wanted = || format!("takes a time (2026-12-24T18:00:00Z), not {text:?}");
    let time: jiff::Timestamp = text.parse().map_err(|_| wanted())?;
    Ok(Delay::At(time.into()))
}

/// A duration of whole seconds as it is written.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        seconds if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Reads a rate in messages a second.
pub(crate) fn read_rate(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let rate = text.parse().ok().filter(|rate| plain && (0.001..=10_000_000.0).contains(rate));
    rate.ok_or_else(|| format!("takes messages a second, 0.001 to 10000000, not {text:?}"))
}

/// Reads an acknowledgement level: `synced`, `written+quorum`.
pub(crate) fn read_ack(text: &str) -> Result<(Ack, AckNodes), String> {
    let (place, nodes) = text.split_once('+').unwrap_or((text, AckNodes::One.text()));
    Ack::parse(place).zip(AckNodes::parse(nodes)).ok_or_else(|| {
        format!("takes memory, written or synced, alone or with +quorum or +all, not {text:?}")
    })
}

/// A rate of messages in the unit that people would choose.
pub(crate) fn rate(a_second: f64) -> String {
    match a_second {
        rate if rate >= 10_000.0 => format!("{:.0} k/s", rate / 1_000.0),
        rate if rate >= 1_000.0 => format!("{:.1} k/s", rate / 1_000.0),
        rate if rate >= 10.0 => format!("{rate:.0}/s"),
        rate => format!("{rate:.1}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_messages_are_delivered() {
        let after = |seconds| Some(Delay::After(Duration::from_secs(seconds)));
        let cases = [
            ("30s", after(30)),
            ("2h", after(7_200)),
            ("level:1", after(1)),
            ("level:3", after(10)),
            ("level:18", after(7_200)),
            ("level:0", None),
            ("level:19", None),
            ("level:", None),
            ("later", None),
            ("1970-01-01T00:00:05Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read_delay(text).ok(), expected, "{text}");
        }
        let at = Delay::At(SystemTime::UNIX_EPOCH + Duration::from_secs(5));
        assert_eq!(read_at("1970-01-01T00:00:05Z"), Ok(at));
        assert!(read_at("5s").is_err());
    }

    #[test]
    fn where_a_group_begins() {
        let now = Timestamp(1_000_000);
        let cases = [
            ("earliest", Some(Start::Earliest)),
            ("latest", Some(Start::Latest)),
            ("0", Some(Start::Offset(QueueOffset(0)))),
            ("123", Some(Start::Offset(QueueOffset(123)))),
            ("15m", Some(Start::Time(Timestamp(100_000)))),
            ("2d", Some(Start::Time(Timestamp(0)))),
            ("1970-01-01T00:00:01Z", Some(Start::Time(Timestamp(1_000)))),
            ("1970-01-01T01:00:01+01:00", Some(Start::Time(Timestamp(1_000)))),
            ("1969-01-01T00:00:01Z", None),
            ("2013-01-01", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read_from(text, now).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn rates() {
        let cases = [
            ("5", Some(5.0)),
            ("0.5", Some(0.5)),
            ("10000000", Some(1e7)),
            ("0", None),
            ("-1", None),
            ("inf", None),
            ("1e3", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read_rate(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(43_200));
        let cases = [("1s", Some(1)), ("12h", Some(43_200)), ("2m", Some(120)), ("30", None)];
        for (text, expected) in cases {
            let found = read_duration(text, min, max).ok();
            assert_eq!(found, expected.map(Duration::from_secs), "{text:?}");
        }
        let why = read_duration("13h", min, max).expect_err("too long");
        assert_eq!(why, "takes a duration from 1s to 12h, not \"13h\"");
        assert_eq!(duration(Duration::from_secs(90)), "90s");
    }

    #[test]
    fn acknowledgements() {
        let cases = [
            ("synced", Some((Ack::Synced, AckNodes::One))),
            ("memory", Some((Ack::Memory, AckNodes::One))),
            ("written+quorum", Some((Ack::Written, AckNodes::Quorum))),
            ("synced+all", Some((Ack::Synced, AckNodes::All))),
            ("synced+", None),
            ("quorum", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read_ack(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn quantities() {
        assert_eq!([rate(105_000.0), rate(1_500.0), rate(5.0)], ["105 k/s", "1.5 k/s", "5.0/s"]);
    }
}
