//! What a command line asks to be measured.
use std::path::PathBuf;
use std::time::Duration;

use yard_client::Ack;
use yard_client::wire::batch;
use yard_client::wire::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BODY_BYTES_MAX, LANE_BATCHES_IN_FLIGHT_MAX, QUEUES_MAX,
    SHARDS_MAX,
};
use yard_client::wire::{frame, record};

use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::text;

/// Bytes of a batch at most, unless set or a message is larger: the client's default.
const BATCH_BYTES: u64 = 256 << 10;
/// Bytes of a request to produce that are not its batch: place, nodes, floor, length.
const PRODUCE_BYTES: usize = 16;
/// The body of a message begins with its number and the time at which it was due.
pub(crate) const STAMP_BYTES: usize = 16;
/// Shortest lateness that can be asked for, and the longest.
const LAG: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Sending, pipelined.
    Produce,
    /// Receiving what is there, everything acknowledged; or fetching it.
    Consume,
    /// Both at once.
    EndToEnd,
    /// One message in flight, each answered.
    RoundTrip,
    /// Connections that do nothing.
    Idle,
}

impl What {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::EndToEnd => "e2e",
            Self::RoundTrip => "rr",
            Self::Idle => "idle",
        }
    }

    fn read(word: &str) -> Result<Self, String> {
        let all = [Self::Produce, Self::Consume, Self::EndToEnd, Self::RoundTrip, Self::Idle];
        let found = all.into_iter().find(|what| what.word() == word);
        found.ok_or_else(|| format!("takes produce, consume, e2e, rr or idle, not {word:?}"))
    }
}

/// What is measured, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) what: What,
    pub(crate) body_bytes: usize,
    pub(crate) batch: usize,
    batch_bytes_max: usize,
    pub(crate) connections: usize,
    pub(crate) queues: u16,
    pub(crate) streams: u16,
    pub(crate) in_flight: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) rounds: usize,
    pub(crate) ack: Ack,
    pub(crate) messages: Option<u64>,
    pub(crate) fetch: bool,
    pub(crate) groups: usize,
    pub(crate) commit: bool,
    pub(crate) limits: bool,
    /// The broker of the context is measured.
    pub(crate) running: bool,
    pub(crate) dir: PathBuf,
    pub(crate) shards: u16,
    pub(crate) segment_bytes: u64,
    pub(crate) lag_max: Duration,
    /// Where the history goes.
    pub(crate) record: Option<PathBuf>,
}

/// A number that the command line has checked against its bounds.
fn whole<T: TryFrom<u64>>(
    written: &Written,
    name: &str,
    bounds: (u64, u64),
    default: u64,
) -> Result<T, Failure> {
    let number = written.number(name, bounds.0, bounds.1)?.unwrap_or(default);
    Ok(T::try_from(number).ok().expect("its bounds fit its type"))
}

impl Plan {
    pub(crate) fn read(written: &Written, has_context: bool) -> Result<Self, Failure> {
        let what = written.read("what", What::read)?.unwrap_or(What::Produce);
        let size = written.read("size", yard_server::config::read_bytes);
        let body_bytes = usize::try_from(size?.unwrap_or(1 << 10)).unwrap_or(usize::MAX);
        if !(STAMP_BYTES..=BODY_BYTES_MAX).contains(&body_bytes) {
            let why = format!("takes {STAMP_BYTES} to {BODY_BYTES_MAX} bytes, not {body_bytes}");
            return Err(bad_argument("size", &why));
        }
        let in_flight = if what == What::RoundTrip { 1 } else { 8 };
        let ack = written.read("ack", text::read_ack)?.map_or(Ack::Synced, |(place, _)| place);
        let seconds = |name| written.read(name, read_seconds);
        let plan = Self {
            what,
            body_bytes,
            batch_bytes_max: batch_bytes(written)?,
            batch: whole(written, "batch", (1, BATCH_RECORDS_MAX as u64), 1_024)?,
            connections: whole(written, "connections", (1, 10_000), 1)?,
            queues: whole(written, "queues", (1, QUEUES_MAX.into()), 8)?,
            streams: super::super::streams(written)?.unwrap_or(1),
            in_flight: whole(
                written,
                "in_flight",
                (1, LANE_BATCHES_IN_FLIGHT_MAX as u64),
                in_flight,
            )?,
            rate: written.read("rate", text::read_rate)?,
            seconds: seconds("seconds")?.unwrap_or(Duration::from_secs(5)),
            warm_up: seconds("warm_up")?.unwrap_or_default(),
            rounds: whole(written, "rounds", (1, 1_000), 1)?,
            ack,
            messages: written.number("messages", 1, u64::MAX)?,
            fetch: written.switch("fetch"),
            groups: whole(written, "groups", (0, 1_000), 0)?,
            commit: written.switch("commit"),
            limits: !written.switch("no_limits"),
            running: written.switch("running") || has_context,
            dir: written.text("dir").map_or_else(|| PathBuf::from("."), PathBuf::from),
            shards: whole(written, "shards", (1, SHARDS_MAX.into()), 1)?,
            segment_bytes: written
                .read("segment_bytes", yard_server::config::read_bytes)?
                .unwrap_or(64 << 20),
            lag_max: written
                .read("lag_max", |text| text::read_duration(text, LAG.0, LAG.1))?
                .unwrap_or(LAG.0),
            record: written.text("record").map(PathBuf::from),
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Failure> {
        if self.seconds.is_zero() {
            return Err(bad_argument("seconds", "is more than 0"));
        }
        let paced = matches!(self.what, What::Produce | What::EndToEnd);
        if self.rate.is_some() && !paced {
            let why =
                format!("{} has no rate: it goes as fast as it is answered", self.what.word());
            return Err(bad_argument("rate", &why));
        }
        if self.commit && self.what != What::RoundTrip {
            return Err(bad_argument("commit", "is for rr"));
        }
        if self.fetch && self.what != What::Consume {
            return Err(bad_argument("fetch", "is for consume"));
        }
        if self.groups > 0 && self.what != What::EndToEnd {
            return Err(bad_argument("groups", "is for e2e"));
        }
        if self.messages.is_some() && self.what != What::Consume {
            return Err(bad_argument("messages", "is for consume"));
        }
        if self.record.is_some() && matches!(self.what, What::RoundTrip | What::Idle) {
            return Err(bad_argument("record", "is for produce, consume and e2e"));
        }
        Ok(())
    }

    /// Bytes of a message as it is sent and stored.
    pub(crate) fn record_bytes(&self) -> usize {
        record::HEADER_BYTES + self.body_bytes
    }

    /// Bytes of a batch at most.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.batch_bytes_max.max(self.record_bytes() + batch::HEADER_BYTES).min(BATCH_BYTES_MAX)
    }

    /// Messages of a full batch, as the client's lane forms it; a fetch asks for as many.
    pub(crate) fn batch_records(&self) -> usize {
        let full = (self.batch_bytes() - batch::HEADER_BYTES) / self.record_bytes();
        let most = if matches!(self.what, What::RoundTrip) { 1 } else { full };
        most.clamp(1, self.batch)
    }

    /// Bytes of a frame that carries a full batch.
    pub(crate) fn frame_bytes(&self) -> usize {
        let records = self.batch_records() * self.record_bytes();
        frame::HEADER_BYTES + PRODUCE_BYTES + batch::HEADER_BYTES + records
    }

    /// Data streams of a connection that carry something: a queue stays on its stream.
    pub(crate) fn lanes(&self) -> usize {
        usize::from(self.streams.min(self.queues))
    }

    /// Bytes of messages that a producer may have waiting: what is in flight, and as much again,
    /// so that the next batches are always full.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let in_flight = self.lanes() * self.in_flight * self.batch_bytes();
        (2 * in_flight).clamp(1 << 20, 64 << 20)
    }
}

fn batch_bytes(written: &Written) -> Result<usize, Failure> {
    let bytes = written.read("batch_bytes", yard_server::config::read_bytes)?;
    let bytes = bytes.unwrap_or(BATCH_BYTES);
    let fits = |bytes: &usize| (batch::HEADER_BYTES..=BATCH_BYTES_MAX).contains(bytes);
    usize::try_from(bytes).ok().filter(fits).ok_or_else(|| {
        let why = format!("takes {} to {BATCH_BYTES_MAX} bytes, not {bytes}", batch::HEADER_BYTES);
        bad_argument("batch_bytes", &why)
    })
}

fn read_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("takes seconds, 0 to 86400, not {text:?}"))
}
