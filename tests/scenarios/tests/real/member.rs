//! A consumer of a scenario: the shipped one, on a connection of its own.
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use yard_client::wire::operation::GroupInfo;
use yard_client::wire::requests::Verdict;
use yard_client::{Broadcast, Client, Code, Consumer, Delivery, Error, Kept, Start};
use yard_it::wait::{PATIENCE, until};
use yard_scenarios::host::{From, Opinion, Received, Subscription};
use yard_scenarios::units::Place;

/// A consumer.
pub(crate) struct Member {
    name: String,
    group: String,
    client: Client,
    consumer: Option<Consumer>,
    /// The latest delivery of each place, and whether it was settled.
    deliveries: BTreeMap<Place, (Delivery, bool)>,
    /// Deliveries before those, by their attempts.
    earlier: BTreeMap<(Place, u32), Delivery>,
    /// What it works on.
    kept: BTreeMap<Place, Kept>,
}

fn received(delivery: &Delivery) -> Received {
    Received {
        place: (delivery.queue(), delivery.offset()),
        attempt: delivery.attempt(),
        record: delivery.record().clone(),
    }
}

impl Member {
    pub(crate) async fn begin(
        client: Client,
        name: &str,
        how: &Subscription,
    ) -> Result<Self, Error> {
        let start = match &how.from {
            From::Start(yard_client::wire::requests::Start::Earliest) => Start::Earliest,
            From::Start(yard_client::wire::requests::Start::Latest) => Start::Latest,
            From::Start(yard_client::wire::requests::Start::Offsets(offsets)) => {
                Start::Offsets(offsets.clone())
            }
            From::Time(at) => Start::Time(*at),
        };
        let mut builder = client.consumer(&how.topic, &how.group).name(name).start(start);
        builder = builder.lease(Duration::from_millis(how.lease_ms.into()));
        if how.credit.is_some() || how.bytes.is_some() {
            builder = builder.credit(how.credit.unwrap_or(4_096), how.bytes.unwrap_or(8 << 20));
        }
        if let Some(expression) = &how.expression {
            builder = builder.expression(&expression.dialect, &expression.text);
        }
        if how.exclusive {
            builder = builder.exclusive();
        }
        let mut group = how.group.clone();
        if let Some(member) = &how.broadcast {
            let broadcast = Broadcast::to(member);
            let drops = how.drops_failed;
            builder = builder.broadcast(if drops { broadcast.drop_failed() } else { broadcast });
            group = format!("{group}.{member}");
        }
        let consumer = Some(builder.build().await?);
        let (name, deliveries, earlier) = (name.to_owned(), BTreeMap::new(), BTreeMap::new());
        let kept = BTreeMap::new();
        Ok(Self { name, group, client, consumer, deliveries, earlier, kept })
    }

    /// Messages that the broker has leased to it; none where it is no member now.
    async fn leased(&self) -> Result<Option<u64>, Error> {
        let info = GroupInfo { name: self.group.clone() };
        let report = match self.client.admin().call(info).await {
            Err(error) if error.code == Code::UnknownGroup => return Ok(None),
            other => other?,
        };
        let own: Vec<u64> = report
            .members
            .iter()
            .filter(|row| row.member == self.name)
            .map(|row| row.in_flight)
            .collect();
        Ok((!own.is_empty()).then(|| own.iter().sum()))
    }

    /// Waits until it is a member, or no longer.
    async fn is_member(&self, wanted: bool) {
        let what = format!("{} is a member: {wanted}", self.name);
        let looked = until(&what, || async {
            let is = self.leased().await.ok()?.is_some();
            (is == wanted).then_some(())
        });
        looked.await.expect("the group changes");
    }

    fn take(&mut self, delivery: Delivery) -> Received {
        let received = received(&delivery);
        if let Some((before, _)) = self.deliveries.insert(received.place, (delivery, false)) {
            self.earlier.insert((received.place, before.attempt()), before);
        }
        received
    }

    /// The next message, if it is here already.
    async fn at_hand(&mut self) -> Option<Result<Delivery, Error>> {
        let consumer = self.consumer.as_mut()?;
        let mut next = Box::pin(consumer.recv());
        poll_fn(|context| match Pin::new(&mut next).poll(context) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// So many messages, queue by queue; fewer when they do not come for `patience`.
    pub(crate) async fn receive(
        &mut self,
        wanted: usize,
        patience: Duration,
    ) -> Result<Vec<Received>, Error> {
        if wanted == 0 {
            return self.nothing().await;
        }
        let mut taken = Vec::new();
        while taken.len() < wanted {
            let Some(consumer) = self.consumer.as_mut() else { break };
            match tokio::time::timeout(patience, consumer.recv()).await {
                Ok(delivery) => {
                    let delivery = delivery?;
                    taken.push(self.take(delivery));
                }
                Err(_late) => break,
            }
        }
        taken.sort_by_key(|received| received.place.0);
        Ok(taken)
    }

    /// What is here although nothing should be. Nothing is on its way when the broker has leased
    /// no more to it than it has taken.
    async fn nothing(&mut self) -> Result<Vec<Received>, Error> {
        loop {
            if let Some(delivery) = self.at_hand().await {
                let delivery = delivery?;
                return Ok(vec![self.take(delivery)]);
            }
            let held = self.deliveries.values().filter(|(_, settled)| !settled).count();
            match self.leased().await? {
                Some(leased) if leased <= held as u64 => return Ok(Vec::new()),
                // It is about to subscribe again.
                None if self.consumer.as_ref().is_none_or(Consumer::is_paused) => {
                    return Ok(Vec::new());
                }
                Some(_) | None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    fn delivery(&self, place: Place, attempt: Option<u32>) -> Result<&Delivery, Error> {
        let unknown = || Error::new(Code::Internal, "it took no such message: `not on real`?");
        let latest = self.deliveries.get(&place).map(|(delivery, _)| delivery);
        let is_it = |it: &&Delivery| attempt.is_none_or(|attempt| it.attempt() == attempt);
        let earlier = || self.earlier.get(&(place, attempt?));
        latest.filter(is_it).or_else(earlier).ok_or_else(unknown)
    }

    pub(crate) fn keep(&mut self, place: Place) -> Result<(), Error> {
        let kept = self.delivery(place, None)?.keep();
        self.kept.insert(place, kept);
        Ok(())
    }

    /// Has a handler take so many messages; what it is given beyond those it gives back.
    pub(crate) async fn handle(
        &mut self,
        wanted: usize,
        error: Option<&str>,
    ) -> Result<Vec<Received>, Error> {
        let Some(consumer) = self.consumer.as_mut() else { return Ok(Vec::new()) };
        let (given, beyond) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let handled = Cell::new(0);
        {
            let (given, beyond, handled) = (&given, &beyond, &handled);
            let handler = |delivery: Delivery| async move {
                if given.borrow().len() == wanted {
                    beyond.borrow_mut().push(delivery);
                    return pending().await;
                }
                given.borrow_mut().push(received(&delivery));
                handled.set(handled.get() + 1);
                error.map_or(Ok(()), Err)
            };
            let mut running = pin!(consumer.run(1, handler));
            // What a handler has come to is noted in the poll in which it ends.
            let all = poll_fn(|context| match running.as_mut().poll(context) {
                Poll::Ready(ended) => Poll::Ready(ended),
                Poll::Pending if handled.get() == wanted => Poll::Ready(Ok(())),
                Poll::Pending => Poll::Pending,
            });
            tokio::time::timeout(PATIENCE, all).await.unwrap_or(Ok(()))?;
        }
        for delivery in beyond.into_inner() {
            delivery.release().await?;
        }
        Ok(given.into_inner())
    }

    pub(crate) async fn settle(&mut self, place: Place, opinion: &Opinion) -> Result<(), Error> {
        self.kept.remove(&place);
        let delivery = self.delivery(place, opinion.attempt)?;
        let attempt = delivery.attempt();
        let delay = opinion.delay_ms.map(|ms| Duration::from_millis(ms.into()));
        let settled = match (opinion.verdict, &opinion.error) {
            (Verdict::Ack, _) => delivery.ack().await,
            (Verdict::Nack, None) => delivery.nack(delay).await,
            (Verdict::Nack, Some(error)) => delivery.nack_because(delay, error).await,
            (Verdict::Reject, None) => delivery.reject().await,
            (Verdict::Reject, Some(error)) => delivery.reject_because(error).await,
            (Verdict::Release, _) => delivery.release().await,
            (Verdict::Expire, _) => unreachable!("no step says so"),
        };
        if let Some((latest, is_settled)) = self.deliveries.get_mut(&place) {
            *is_settled |= latest.attempt() == attempt;
        }
        settled
    }

    pub(crate) async fn extend(
        &mut self,
        place: Place,
        attempt: Option<u32>,
        lease_ms: u64,
    ) -> Result<(), Error> {
        let lease = Duration::from_millis(lease_ms);
        self.delivery(place, attempt)?.extend(lease).await.map(|_| ())
    }

    pub(crate) async fn leave(&mut self) -> Result<(), Error> {
        self.deliveries.clear();
        match self.consumer.take() {
            Some(consumer) => consumer.close().await,
            None => Ok(()),
        }
    }

    /// Its connection ends; `other` finds out that the broker knows.
    pub(crate) async fn kill(&mut self, other: Client) {
        self.client.close().await;
        self.deliveries.clear();
        self.consumer = None;
        self.client = other;
        self.is_member(false).await;
    }

    pub(crate) async fn pause(&mut self) {
        self.deliveries.clear();
        self.consumer.as_ref().into_iter().for_each(Consumer::pause);
        self.is_member(false).await;
    }

    pub(crate) async fn resume(&mut self) {
        self.consumer.as_ref().into_iter().for_each(Consumer::resume);
        self.is_member(true).await;
    }

    /// The broker was started again: what was held is not its own any more.
    pub(crate) async fn come_back(&mut self) {
        self.deliveries.clear();
        if self.consumer.as_ref().is_some_and(|consumer| !consumer.is_paused()) {
            self.is_member(true).await;
        }
    }

    /// Answers the next message.
    pub(crate) async fn answer(&mut self, reply: &Result<bytes::Bytes, String>) {
        let Some(consumer) = self.consumer.as_mut() else { return };
        let Ok(request) = consumer.recv().await else { return };
        let answered = match reply {
            Ok(body) => self.client.reply(&request, yard_client::Message::new(body.clone())).await,
            Err(why) => self.client.reply_failed(&request, why).await,
        };
        if answered.is_ok() {
            request.ack().await.expect("it is held");
        }
    }
}
