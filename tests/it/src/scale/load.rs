//! A connection that makes topics and fills them as fast as the broker takes it. It speaks raw
//! frames: what a client's library spends on a topic is not what is measured.
use std::time::{Duration, Instant};

use quinn::SendStream;
use tokio::sync::Semaphore;
use yard_client::wire::batch::{self, BatchHeader};
use yard_client::wire::operation::{Operation, TopicCreate, TopicRow};
use yard_client::wire::record::RecordParts;
use yard_client::wire::request::{Reply, Request};
use yard_client::wire::requests::Call;
use yard_client::wire::{MessageId, ProducerId, Sequence, Timestamp, TopicId, Wire};

use crate::raw::{self, Answer, Raw, RawReceiver, RawStream, RawWindows};
use crate::server::Server;
use crate::{Failed, Seeded};

/// Requests that may be unanswered, and bytes of batches among them.
const UNANSWERED_MAX: usize = 256;
const UNANSWERED_BYTES_MAX: usize = 1 << 20;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a message's body.
    pub(super) body_bytes: usize,
    /// Messages of a batch.
    pub(super) batch_messages: usize,
    /// Topics of a batch; each message's is drawn at random.
    pub(super) batch_topics: usize,
}

impl Shape {
    fn window(&self) -> usize {
        let batch_bytes = self.batch_messages * (self.body_bytes + 100);
        (UNANSWERED_BYTES_MAX / batch_bytes).clamp(2, UNANSWERED_MAX / 4)
    }

    /// Batches of so many bytes of bodies.
    pub(super) fn batches(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.batch_messages * self.body_bytes)
    }
}

/// A stream of requests and their answers.
struct Line {
    send: SendStream,
    receiver: RawReceiver,
    /// Number of the next request; the hello had the first.
    next: u64,
}

/// A connection with one producer.
pub(super) struct Load {
    raw: Raw,
    control: Line,
    data: Line,
    producer: ProducerId,
    sequence: u64,
    random: Seeded,
}

impl Line {
    fn new(stream: RawStream) -> Self {
        let (send, receiver) = stream.into_halves();
        Self { send, receiver, next: 2 }
    }

    /// Sends `count` requests, at most `window` ahead of their answers; `take` is given the good
    /// ones by number.
    async fn ask_all(
        &mut self,
        (count, window): (usize, usize),
        mut make: impl FnMut(usize) -> Request,
        mut take: impl FnMut(usize, Reply) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let free = Semaphore::new(window);
        let first = self.next;
        self.next += count as u64;
        let (send, receiver) = (&mut self.send, &mut self.receiver);
        let sending = async {
            for number in 0..count {
                let permit = free.acquire().await.expect("nobody closes it");
                permit.forget();
                let bytes = raw::request_bytes(first + number as u64, &make(number));
                let sent = send.write_all(&bytes).await;
                sent.map_err(|error| Failed(format!("a request was not sent: {error}")))?;
            }
            Ok(())
        };
        let receiving = async {
            for _ in 0..count {
                match receiver.numbered().await? {
                    (number, Answer::Reply(reply)) => take((number - first) as usize, reply)?,
                    (_, other) => return Err(Failed(format!("no answer: {other:?}"))),
                }
                free.add_permits(1);
            }
            Ok(())
        };
        tokio::try_join!(sending, receiving).map(|_| ())
    }
}

impl Load {
    pub(super) async fn connect(server: &Server, seed: u64) -> Result<Self, Failed> {
        let raw = Raw::connect(&server.context()?, RawWindows::default()).await?;
        let (control, data, _welcome) = raw.welcomed().await?;
        let mut random = Seeded::new(seed);
        let producer = ProducerId(random.next_u64());
        let (control, data) = (Line::new(control), Line::new(data));
        Ok(Self { raw, control, data, producer, sequence: 0, random })
    }

    pub(super) fn close(self) {
        self.raw.close();
    }

    /// Creates topics of one queue; returns their ids.
    pub(super) async fn create_topics(&mut self, count: usize) -> Result<Vec<TopicId>, Failed> {
        let mut topics = vec![TopicId(0); count];
        let make = |number: usize| {
            let name = format!("scale-{number:07}");
            let args = TopicCreate { name, queues: 1, ..TopicCreate::default() }.to_bytes();
            Request::Call(Call { operation: Operation::TopicCreate as u16, args })
        };
        let take = |number: usize, reply: Reply| {
            let Reply::Call(called) = reply else {
                return Err(Failed(format!("no topic: {reply:?}")));
            };
            let row = TopicRow::from_bytes(called.result);
            topics[number] = row.map_err(|error| Failed(error.to_string()))?.id;
            Ok(())
        };
        self.control.ask_all((count, UNANSWERED_MAX), make, take).await?;
        Ok(topics)
    }

    /// Stores so many batches, synced; returns how long it took.
    pub(super) async fn produce(
        &mut self,
        topics: &[TopicId],
        shape: Shape,
        batches: usize,
    ) -> Result<Duration, Failed> {
        let mut random = self.random.part(self.sequence);
        self.produce_to(shape, batches, || topics[random.within(0..topics.len() as u64) as usize])
            .await
    }

    /// Stores one message after another in each topic, `times` over.
    pub(super) async fn touch(&mut self, topics: &[TopicId], times: usize) -> Result<(), Failed> {
        let shape = Shape { body_bytes: 16, batch_messages: 500, batch_topics: 500 };
        let batches = (topics.len() * times).div_ceil(shape.batch_messages);
        let mut turn = topics.iter().cycle();
        let next = || *turn.next().expect("there is a topic");
        self.produce_to(shape, batches, next).await.map(|_| ())
    }

    async fn produce_to(
        &mut self,
        shape: Shape,
        batches: usize,
        mut next_topic: impl FnMut() -> TopicId,
    ) -> Result<Duration, Failed> {
        let (producer, mut sequence) = (self.producer, self.sequence);
        self.sequence += (batches * shape.batch_messages) as u64;
        let body = vec![7; shape.body_bytes];
        let mut records = Vec::new();
        let make = |_| {
            records.clear();
            let header =
                BatchHeader { producer, sequence: Sequence(sequence), ..BatchHeader::default() };
            let each = shape.batch_messages.div_ceil(shape.batch_topics);
            let mut topic = TopicId(0);
            for number in 0..shape.batch_messages {
                if number % each == 0 {
                    topic = next_topic();
                }
                let id = u128::from(producer.0) << 64 | u128::from(sequence);
                let id = MessageId::new(Timestamp(1_700_000_000_000), id);
                let parts = RecordParts { topic, id, body: &body, ..RecordParts::default() };
                parts.encode(&mut records).expect("small parts are within limits");
                sequence += 1;
            }
            raw::produce(batch::encode(&header, shape.batch_messages, &records))
        };
        let take = |_, reply| match reply {
            Reply::Produce(produced) if !produced.duplicate => Ok(()),
            other => Err(Failed(format!("not stored: {other:?}"))),
        };
        let began = Instant::now();
        self.data.ask_all((batches, shape.window()), make, take).await?;
        Ok(began.elapsed())
    }
}
