//! Who reads by offset.
use std::time::Duration;

use yard_checker::{Queue, Scan, Stored};
use yard_client::{Client, Error, QueueIndex, QueueOffset, Record};
use yard_sim::Random;
use yard_wire::limits::FETCH_RECORDS_MAX;

use super::{Crew, TOPIC, named};

/// What somebody read, to be compared with what is there at the end.
pub(crate) type Reads = Vec<(u16, Stored)>;

/// Reads queues by offset now and then until the run ends.
pub(crate) async fn look(
    mut crew: Crew,
    client: Client,
    mut random: Random,
) -> Result<Reads, Error> {
    let mut reads = Vec::new();
    loop {
        let pause = Duration::from_millis(random.range(1, 1 + crew.plan.sending_ms / 4));
        let is_over = tokio::time::timeout(pause, crew.ends.wait_for(|ends| *ends)).await.is_ok();
        if is_over {
            return Ok(reads);
        }
        let queue = random.below(crew.plan.queues.into()) as u16;
        let from = QueueOffset(random.below(8));
        match client.fetch(TOPIC, QueueIndex(queue), from, 8).await {
            Ok(fetched) => reads.extend(stored(&fetched)?.map(|stored| (queue, stored))),
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
    }
}

fn stored(fetched: &yard_client::Fetched) -> Result<impl Iterator<Item = Stored> + use<>, Error> {
    let one = |fetched: &yard_client::FetchedRecord| {
        let malformed =
            |malformed: yard_wire::Malformed| malformed.refusal(yard_client::Code::BadReply);
        let record = Record::parse(fetched.record.clone()).map_err(malformed)?;
        let (producer, seq, hash) = named(&record);
        Ok(Stored { offset: fetched.offset.0, producer, seq, hash })
    };
    let all: Result<Vec<Stored>, Error> = fetched.records.iter().map(one).collect();
    Ok(all?.into_iter())
}

/// Reads a whole queue of a topic, as the checker wants it at the end.
pub(crate) async fn scan(
    crew: &Crew,
    client: &Client,
    topic: &str,
    queue: Queue,
) -> Result<Scan, Error> {
    let (at, index) = (crew.recorder.now(), QueueIndex(queue.index as u16));
    let mut scan = Scan { queue, at, start: 0, messages: Vec::new() };
    let mut from = QueueOffset(0);
    loop {
        let fetched = client.fetch(topic, index, from, FETCH_RECORDS_MAX).await?;
        scan.start = fetched.first.0;
        scan.messages.extend(stored(&fetched)?);
        match fetched.records.last() {
            Some(last) => from = QueueOffset(last.offset.0 + 1),
            None => return Ok(scan),
        }
    }
}
