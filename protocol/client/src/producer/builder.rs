//! The settings of a producer.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use yard_wire::batch::HEADER_BYTES;
use yard_wire::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, LANE_BATCHES_IN_FLIGHT_MAX, LANES_MAX,
};
use yard_wire::requests::{AckNodes, AckPlace};
use yard_wire::{Code, ProducerId};

use super::{Numbering, Producer, Routing, Selector, Shared};
use crate::compress::Compression;
use crate::lane::LaneOptions;
use crate::{Client, Error, Message};

/// Bytes of records that may wait for an answer, unless set.
const BUFFER_BYTES_DEFAULT: usize = 32 << 20;
/// The most that may be set.
const BUFFER_BYTES_MAX: usize = 1 << 30;

/// Settings of a producer; made by [`Client::producer`].
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    client: Client,
    topic: String,
    options: LaneOptions,
    buffer_bytes: usize,
    compression: Option<Compression>,
    selector: Option<Selector>,
    identity: Option<String>,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        let delivery_ms = client.inner().delivery_timeout.as_millis() as u64;
        let options = LaneOptions { delivery_ms: delivery_ms.max(1), ..LaneOptions::default() };
        let (buffer_bytes, compression) = (BUFFER_BYTES_DEFAULT, None);
        let (selector, identity) = (None, None);
        Self { client, topic, options, buffer_bytes, compression, selector, identity }
    }

    /// Where the bytes of a message must be on a broker before it counts as sent:
    /// [`AckPlace::Synced`] unless set.
    #[must_use]
    pub fn ack(mut self, place: AckPlace) -> Self {
        self.options.place = place;
        self
    }

    /// On how many nodes they must be: [`AckNodes::One`] unless set.
    #[must_use]
    pub fn nodes(mut self, nodes: AckNodes) -> Self {
        self.options.nodes = nodes;
        self
    }

    /// Bytes of a batch at most, unless a single message is larger: 256 KiB unless set; at most
    /// 5 MiB less 64 bytes.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.options.batch_bytes_max = bytes;
        self
    }

    /// Messages of a batch at most: 1,024 unless set; 1 to 16,384.
    #[must_use]
    pub fn batch_records(mut self, records: usize) -> Self {
        self.options.batch_records_max = records;
        self
    }

    /// How long a batch waits for more messages, in milliseconds: 0 unless set, which sends at
    /// once while fewer than [`ProducerBuilder::in_flight`] batches wait for an answer.
    #[must_use]
    pub fn linger_ms(mut self, ms: u64) -> Self {
        self.options.linger_ms = ms;
        self
    }

    /// Batches of a lane that may wait for an answer: 8 unless set; 1 to 64.
    #[must_use]
    pub fn in_flight(mut self, batches: usize) -> Self {
        self.options.in_flight_max = batches;
        self
    }

    /// Bytes of messages that may wait for an answer before [`Producer::enqueue`] waits: 32 MiB
    /// unless set; 64 KiB to 1 GiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// How long a message is sent again and again before it is given up: the client's
    /// [`crate::ClientBuilder::delivery_timeout`] unless set; at least 1 ms.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.options.delivery_ms = timeout.as_millis() as u64;
        self
    }

    /// Packs bodies, where that makes them smaller: not unless set. The call that enqueues a
    /// message does it. Consumers get the bodies as they were.
    #[must_use]
    pub fn compress(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Chooses the queue of each message that names none, of so many queues: instead of its order
    /// group, its key or its turn. To be quick, and always the same for messages that shall stay in
    /// order. A queue that there is not is refused as one that is named would be.
    #[must_use]
    pub fn selector(
        mut self,
        select: impl Fn(&Message, u16) -> u16 + Send + Sync + 'static,
    ) -> Self {
        self.selector = Some(Selector(Arc::new(select)));
        self
    }

    /// Gives the producer a name under which it goes on after a restart of its process: without one
    /// it is somebody new each time. The name stands for one producer of the topic in its tenant; 1
    /// to 127 of `a-z A-Z 0-9 . _ -`, not beginning with a dot.
    ///
    /// - Once it is built, the broker stores nothing more of those that were built under the name
    ///   before, wherever they run: what they send, and what was on its way, is refused with
    ///   [`Code::ProducerFenced`].
    /// - [`Producer::sent_before`] then says how many messages these have stored in each queue.
    ///   They are the first ones, in the order in which [`Producer::enqueue`] took them, which is
    ///   that of the calls where each is awaited before the next: where a message fails, all
    ///   behind it in its queue fail as well, and what comes later, with the same code; then the
    ///   producer is to be built anew. So an application that has the same messages for a queue
    ///   again, in the same order, leaves out so many and sends the others, and each is stored
    ///   once. This holds for what is acknowledged from disk: [`AckPlace::Synced`], as it is
    ///   unless set.
    ///
    /// A shard remembers 100,000 producers, those without a name among them, and forgets first the
    /// one that was silent for longest, of the tenant that has most. A name that was forgotten
    /// refuses nobody until it is built again, and then [`Producer::sent_before`] is 0. What may
    /// have been sent under another name, or so long ago, is known by a dedupe key:
    /// [`Message::dedupe`].
    #[must_use]
    pub fn identity(mut self, name: impl Into<String>) -> Self {
        self.identity = Some(name.into());
        self
    }

    fn check(&self) -> Result<(), Error> {
        let options = &self.options;
        let check = |what: &str, found: usize, min: usize, max: usize| {
            if (min..=max).contains(&found) {
                return Ok(());
            }
            let detail = format!("{what} is {found}; it may be {min} to {max}");
            Err(Error::new(Code::BadArgument, detail))
        };
        check("batch_bytes", options.batch_bytes_max, HEADER_BYTES, BATCH_BYTES_MAX)?;
        check("batch_records", options.batch_records_max, 1, BATCH_RECORDS_MAX)?;
        check("in_flight", options.in_flight_max, 1, LANE_BATCHES_IN_FLIGHT_MAX)?;
        check("buffer_bytes", self.buffer_bytes, 64 << 10, BUFFER_BYTES_MAX)?;
        check("delivery_timeout", options.delivery_ms as usize, 1, usize::MAX)
    }

    /// Asks for the topic's route and makes the producer. With an identity every shard is asked as
    /// well: one that does not answer keeps it from being built.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for settings out of bounds; [`Code::BadName`] for the name of an
    /// identity; [`Code::UnknownTopic`]; [`Code::DiskFull`] where an identity cannot be recorded;
    /// [`Code::Closed`]; or a code of the client from 801 on.
    pub async fn build(self) -> Result<Producer, Error> {
        self.check()?;
        if let Some(name) = &self.identity {
            yard_wire::name::check(name)?;
        }
        let inner = self.client.inner();
        let route = inner.find_route(&self.topic).await?;
        let (numbering, lanes) = match &self.identity {
            None => (Numbering::anew(ProducerId(inner.random.next_u64())), inner.streams.wanted()),
            // Queues never change their lanes then, so what a lane has stored is theirs.
            Some(name) => (Numbering::open(inner, route.topic, name).await?, LANES_MAX),
        };
        let route_is_old = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            client: inner.clone(),
            topic: self.topic.into(),
            options: LaneOptions { ends_at_failure: self.identity.is_some(), ..self.options },
            compression: self.compression,
            selector: self.selector,
            numbering,
            budget: Arc::new(Semaphore::new(self.buffer_bytes)),
            budget_bytes: self.buffer_bytes,
            routing: Mutex::new(Routing::new(route, &inner.random, lanes)),
            route_is_old: route_is_old.clone(),
            health: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
        });
        let weak = Arc::downgrade(&shared);
        tokio::spawn(Shared::keep_route(weak, route_is_old, inner.closing()));
        Ok(Producer { shared })
    }
}
