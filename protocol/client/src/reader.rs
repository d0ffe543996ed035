//! Reading queues by their numbers, without a group: nothing is leased or settled, and how far it
//! has come only the application knows.
//!
//! ```text
//!   share ── strategy, members, which of them ──► assign ── queues ──► read, in turns
//! ```
use std::collections::BTreeMap;

use tracing::Instrument;
use yard_wire::record::Record;
use yard_wire::{Code, QueueIndex, QueueOffset, Timestamp};

use crate::assign::{MemberAt, QueueAt, Strategy, assign};
use crate::{Client, Error, spans};

/// A message that was read.
#[derive(Clone, Debug)]
pub struct ReadMessage {
    /// Its queue.
    pub queue: QueueIndex,
    /// Its place in the queue.
    pub offset: QueueOffset,
    /// When the broker stored it, by the broker's clock.
    pub stored: Timestamp,
    /// The record as it is stored; its body may be packed, see
    /// [`crate::compress::plain_body`].
    pub record: Record,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    next: QueueOffset,
    is_paused: bool,
}

/// Reads queues of a topic; made by [`Client::reader`]. It has none until some are assigned.
#[derive(Clone, Debug)]
pub struct Reader {
    client: Client,
    topic: String,
    places: BTreeMap<QueueIndex, Place>,
    /// The queue whose turn it is, or the next one behind it that is read.
    turn: QueueIndex,
}

impl Reader {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self { client, topic, places: BTreeMap::new(), turn: QueueIndex(0) }
    }

    /// Reads these queues from now on, and no others. Those that it has stay where they are; others
    /// begin at their oldest message, unless [`Reader::seek`] says otherwise.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], [`Code::QueueOutOfRange`], or a code of the client from 801 on;
    /// then nothing has changed.
    pub async fn assign(&mut self, queues: &[QueueIndex]) -> Result<(), Error> {
        let mut places = BTreeMap::new();
        for queue in queues {
            let place = match self.places.get(queue) {
                Some(place) => *place,
                None => {
                    let sought = self.client.seek(&self.topic, *queue, Timestamp(0)).await?;
                    Place { next: sought.first, is_paused: false }
                }
            };
            places.insert(*queue, place);
        }
        self.places = places;
        Ok(())
    }

    /// Reads its share of the topic's queues, as it has them now: that of the member `me`, by a
    /// strategy that all members use with the same list of members. Who comes or goes is for the
    /// application to find out; then each member shares anew. Gives the queues, in order.
    ///
    /// No broker says where its queues stand. By [`Strategy::Rack`] and [`Strategy::Near`] members
    /// that name racks cannot share here: an application that knows where which shard of
    /// [`Client::route`] stands calls [`assign`] with that, then [`Reader::assign`].
    ///
    /// # Errors
    /// [`Code::UnknownStrategy`] for these; as [`assign`]; [`Code::BadArgument`] where `me` is none
    /// of the members; as [`Reader::assign`].
    pub async fn share(
        &mut self,
        strategy: Strategy,
        me: &str,
        members: &[MemberAt],
    ) -> Result<Vec<QueueIndex>, Error> {
        check_racks(strategy, members)?;
        let count = self.client.route(&self.topic).await?.shards.len();
        let at = |queue: usize| QueueAt { queue: QueueIndex(queue as u16), rack: String::new() };
        let queues: Vec<QueueAt> = (0..count).map(at).collect();
        let own = assign(strategy, &queues, members)?.remove(me);
        let own = own.ok_or_else(|| {
            Error::new(Code::BadArgument, format!("{me:?} is none of the members"))
        })?;
        self.assign(&own).await?;
        Ok(own)
    }

    /// The queues that it reads, in order, and where each goes on.
    pub fn places(&self) -> impl Iterator<Item = (QueueIndex, QueueOffset)> {
        self.places.iter().map(|(queue, place)| (*queue, place.next))
    }

    /// Goes on elsewhere in a queue. [`Client::seek`] finds the offset of a time.
    ///
    /// # Errors
    /// [`Code::QueueOutOfRange`] where the queue is not assigned.
    pub fn seek(&mut self, queue: QueueIndex, offset: QueueOffset) -> Result<(), Error> {
        self.place(queue)?.next = offset;
        Ok(())
    }

    /// Does not read a queue until [`Reader::resume`].
    ///
    /// # Errors
    /// As [`Reader::seek`].
    pub fn pause(&mut self, queue: QueueIndex) -> Result<(), Error> {
        self.place(queue)?.is_paused = true;
        Ok(())
    }

    /// Reads a queue again.
    ///
    /// # Errors
    /// As [`Reader::seek`].
    pub fn resume(&mut self, queue: QueueIndex) -> Result<(), Error> {
        self.place(queue)?.is_paused = false;
        Ok(())
    }

    fn place(&mut self, queue: QueueIndex) -> Result<&mut Place, Error> {
        let unknown = || Error::new(Code::QueueOutOfRange, format!("queue {queue} is not read"));
        self.places.get_mut(&queue).ok_or_else(unknown)
    }

    /// The next messages of one of its queues, at most `count` of them and at most 4 MiB unless a
    /// single one is larger; queues take turns. Nothing where none has more: it does not wait.
    ///
    /// # Errors
    /// As [`Client::fetch`]; the queue stays where it is. After [`Code::OffsetOutOfRange`] what
    /// came next is no longer held: seek further on.
    pub async fn read(&mut self, count: u32) -> Result<Vec<ReadMessage>, Error> {
        let span = spans::receive(&self.topic, None);
        let read = self.read_next(count).instrument(span.clone()).await;
        spans::received(&span, read.as_deref());
        read
    }

    async fn read_next(&mut self, count: u32) -> Result<Vec<ReadMessage>, Error> {
        let turn = self.turn;
        let open = self.places.iter().filter(|(_, place)| !place.is_paused);
        let (before, behind): (Vec<_>, Vec<_>) =
            open.map(|(queue, place)| (*queue, place.next)).partition(|(queue, _)| *queue < turn);
        for (queue, next) in behind.into_iter().chain(before) {
            self.turn = QueueIndex(queue.0.saturating_add(1));
            let fetched = self.client.fetch(&self.topic, queue, next, count).await?;
            let Some(last) = fetched.records.last() else { continue };
            self.place(queue)?.next = QueueOffset(last.offset.0 + 1);
            let messages = fetched.records.into_iter().map(|found| {
                let record = Record::parse(found.record)
                    .map_err(|malformed| malformed.refusal(Code::BadReply))?;
                Ok(ReadMessage { queue, offset: found.offset, stored: found.stored, record })
            });
            return messages.collect();
        }
        Ok(Vec::new())
    }
}

/// Without racks of the queues, one strategy would give nobody a queue, and the other would give
/// them to whoever is far away.
fn check_racks(strategy: Strategy, members: &[MemberAt]) -> Result<(), Error> {
    let needs_racks = matches!(strategy, Strategy::Rack | Strategy::Near);
    match members.iter().find(|member| needs_racks && !member.rack.is_empty()) {
        Some(MemberAt { name, rack, .. }) => {
            let detail =
                format!("member {name:?} stands in {rack:?}; where queues do is not known");
            Err(Error::new(Code::UnknownStrategy, detail))
        }
        None => Ok(()),
    }
}
