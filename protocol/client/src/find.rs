//! Finding messages by id and by key over all shards, and offsets by time.
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use futures_util::StreamExt;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Covered, Find, FindCursor, Found, FoundMessage, Seek, Sought, Wanted};
use yard_wire::{Code, QueueIndex, QueueOffset, ShardId, Timestamp, limits};

use crate::client::{Inner, Resend, unexpected};
use crate::{Client, Error};

/// Shards or queues that are asked at the same time.
const SEARCHES_MAX: usize = 16;

/// Where a search over all shards goes on: at a place of each shard that is not finished. Its
/// text, for example `0:3.4096+1:-`, can be kept and read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchCursor(BTreeMap<ShardId, Option<FindCursor>>);

impl fmt::Display for SearchCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (shard, place)) in self.0.iter().enumerate() {
            let plus = if at == 0 { "" } else { "+" };
            match place {
                Some(FindCursor { segment, offset }) => {
                    write!(f, "{plus}{shard}:{segment}.{offset}")?;
                }
                None => write!(f, "{plus}{shard}:-")?,
            }
        }
        Ok(())
    }
}

impl FromStr for SearchCursor {
    type Err = Error;

    /// Reads the text of a cursor.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for what is none.
    fn from_str(text: &str) -> Result<Self, Error> {
        let read = |part: &str| {
            let (shard, place) = part.split_once(':')?;
            let place = match place {
                "-" => None,
                place => {
                    let (segment, offset) = place.split_once('.')?;
                    let (segment, offset) = (segment.parse().ok()?, offset.parse().ok()?);
                    Some(FindCursor { segment, offset })
                }
            };
            Some((ShardId(shard.parse().ok()?), place))
        };
        let parts: Option<Vec<_>> = text.split('+').map(read).collect();
        let cursor = parts.map(|parts| Self(parts.into_iter().collect()));
        cursor.filter(|cursor| cursor.to_string() == text).ok_or_else(|| {
            let detail = format!("{text:?} is not where a search has ended");
            Error::new(Code::BadArgument, detail)
        })
    }
}

/// What a search came to so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchResult {
    /// The messages found, by the time at which they were stored.
    pub messages: Vec<FoundMessage>,
    /// What was looked at, over all shards.
    pub covered: Covered,
    /// Where to go on; `None` when everything was looked at.
    pub next: Option<SearchCursor>,
}

impl Client {
    /// Looks for messages by id or by key: in every shard that may hold one, and in each as far
    /// as the broker's budget for one request goes. Gives at most `count` messages over all
    /// shards, 1 to 1,024; where there are more shards than that, the others come next. Goes on
    /// at `after`, which an earlier call has given as [`SearchResult::next`]. That there is no
    /// message is not known before `next` is `None`.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::BadArgument`] for a time that ends before it begins;
    /// [`Code::ReadFailed`]; or a code of the client from 801 on.
    pub async fn find(
        &self,
        wanted: Wanted,
        after: Option<SearchCursor>,
        count: u32,
    ) -> Result<SearchResult, Error> {
        let inner = self.inner();
        let mut left = match after {
            Some(cursor) => cursor.0,
            None => inner.shards_of(&wanted).await?.into_iter().map(|at| (at, None)).collect(),
        };
        // So that no more come than were asked for, each shard that is asked gets its share.
        let count = count.clamp(1, limits::FIND_RECORDS_MAX);
        let asked: Vec<_> = left.iter().take(count as usize).map(|(at, on)| (*at, *on)).collect();
        let share = count / (asked.len() as u32).max(1);
        let mut answers = futures_util::stream::iter(asked)
            .map(|(shard, after)| {
                let wanted = wanted.clone();
                async move { (shard, inner.find_in(shard, wanted, after, share).await) }
            })
            .buffer_unordered(SEARCHES_MAX);
        let (mut messages, mut covered) = (Vec::new(), Covered::default());
        while let Some((shard, answer)) = answers.next().await {
            let found = answer?;
            messages.extend(found.messages);
            covered = covered.and(found.covered);
            match found.next {
                Some(place) => left.insert(shard, Some(place)),
                None => left.remove(&shard),
            };
        }
        messages.sort_by(|a, b| {
            let key = |m: &FoundMessage| (m.stored, m.queue, m.offset);
            key(a).cmp(&key(b)).then_with(|| a.topic.cmp(&b.topic))
        });
        let next = (!left.is_empty()).then_some(SearchCursor(left));
        Ok(SearchResult { messages, covered, next })
    }

    /// The offset of the first message of a queue that was stored at `time` or later, by the
    /// broker's clock, and where the queue begins and ends. Where there is none, it is the end.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], [`Code::QueueOutOfRange`], [`Code::ReadFailed`], or a code of the
    /// client from 801 on.
    pub async fn seek(
        &self,
        topic: &str,
        queue: QueueIndex,
        time: Timestamp,
    ) -> Result<Sought, Error> {
        self.inner().seek(topic, queue, time).await
    }
}

impl Inner {
    /// The shards that may hold what is looked for.
    async fn shards_of(&self, wanted: &Wanted) -> Result<Vec<ShardId>, Error> {
        match wanted {
            Wanted::Id(_) => self.all_shards().await,
            Wanted::Key { topic, .. } => Ok(self.find_route(topic).await?.shards.clone()),
        }
    }

    async fn find_in(
        &self,
        shard: ShardId,
        wanted: Wanted,
        after: Option<FindCursor>,
        records_max: u32,
    ) -> Result<Found, Error> {
        let bytes_max = limits::FIND_BYTES_MAX;
        let request = Request::Find(Find { shard, wanted, after, records_max, bytes_max });
        match self.ask(shard, Some(shard.0), request, Resend::Always).await? {
            Reply::Find(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// The offset of each queue at a time, in the order of the queues.
    pub(crate) async fn seek_all(
        &self,
        topic: &str,
        queues: usize,
        time: Timestamp,
    ) -> Result<Vec<(QueueIndex, QueueOffset)>, Error> {
        let queues = (0..queues).map(|queue| QueueIndex(queue as u16));
        let mut searches = futures_util::stream::iter(queues)
            .map(|queue| async move {
                let sought = self.seek(topic, queue, time).await?;
                Ok::<_, Error>((queue, sought.offset))
            })
            .buffer_unordered(SEARCHES_MAX);
        let mut offsets = Vec::new();
        while let Some(found) = searches.next().await {
            offsets.push(found?);
        }
        offsets.sort_unstable();
        Ok(offsets)
    }

    pub(crate) async fn seek(
        &self,
        topic: &str,
        queue: QueueIndex,
        time: Timestamp,
    ) -> Result<Sought, Error> {
        let request = |shard| Request::Seek(Seek { shard, topic: topic.to_owned(), queue, time });
        match self.ask_queue(topic, queue, request).await? {
            Reply::Seek(sought) => Ok(sought),
            other => Err(unexpected(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let place = |segment, offset| Some(FindCursor { segment, offset });
        let check = |parts: &[(u16, Option<FindCursor>)], text: &str| {
            let cursor = SearchCursor(parts.iter().map(|(s, at)| (ShardId(*s), *at)).collect());
            assert_eq!(cursor.to_string(), text);
            assert_eq!(text.parse(), Ok(cursor), "{text}");
        };
        check(&[(0, place(3, 4_096))], "0:3.4096");
        check(
            &[(0, None), (1, place(0, 0)), (63, place(u32::MAX, 7))],
            "0:-+1:0.0+63:4294967295.7",
        );
        for text in ["", "0", "0:", "0:3", "0:3.", "0:3.x", "a:-", "0:-+", "1:-+0:-", "0:-+0:-"] {
            let error = text.parse::<SearchCursor>().unwrap_err();
            assert_eq!(error.code, Code::BadArgument, "{text:?}");
        }
    }
}
