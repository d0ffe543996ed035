//! A process, QUIC and the shipped client as the host of a scenario.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use yard_client::wire::operation::Operation;
use yard_client::wire::record::Record;
use yard_client::wire::request::{Reply, Request};
use yard_client::wire::requests::{
    Fetched, FoundMessage, Produced, Sought, TxBegin, TxDecide, Verdict, Wanted,
};
use yard_client::wire::{QueueIndex, QueueOffset, Refusal, ShardId, Timestamp};
use yard_client::{
    Ack, AckNodes, Client, Code, Context, Error, SeekTo, SendResult, TxId, TxVerdict,
};
use yard_it::raw::{Answer, Raw, RawWindows};
use yard_it::server::patient;
use yard_it::wait::PATIENCE;
use yard_it::{Failed, Server, tenant};
use yard_scenarios::Kind;
use yard_scenarios::host::{
    Asked, Beginning, Change, Decision, Ending, Exchange, Host, Moved, Numbered, Opinion, Outcome,
    Outgoing, Producing, Reading, Received, Stored, Subscription,
};
use yard_scenarios::rows::Row;
use yard_scenarios::run::TENANT;
use yard_scenarios::units::Place;
use yard_scenarios::wired::batch_of;

use crate::lasting::Lasting;
use crate::member::Member;
use crate::program;
use crate::transacting::{Answerer, Transacting};

/// How far behind the scenario's time a host may be for what did not happen to count. No scenario
/// looks nearer than half a second before something is due.
const BEHIND_MAX: Duration = Duration::from_millis(400);
/// The same before it lets any time pass: nothing is due so soon.
const BEGINNING: Duration = Duration::from_secs(1);
/// The pause before each look at what follows from earlier steps by itself, and how many there are.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = (PATIENCE.as_millis() / LOOK_PAUSE.as_millis()) as u32;
/// How long an answer to a request is waited for that nobody gives.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The process.
pub(crate) enum Broker<'a> {
    /// Of this scenario alone.
    Own(Box<Server>),
    /// Of many.
    Shared(&'a Server),
}

impl Broker<'_> {
    fn server(&self) -> &Server {
        match self {
            Self::Own(server) => server,
            Self::Shared(server) => server,
        }
    }
}

/// The host. See the module.
pub(crate) struct Real<'a> {
    runtime: Handle,
    broker: Broker<'a>,
    /// Sets the names of its tenants apart.
    number: usize,
    operator: Client,
    contexts: BTreeMap<String, Context>,
    clients: BTreeMap<String, Client>,
    members: BTreeMap<String, (String, Member)>,
    transacting: Transacting,
    lasting: Lasting,
    began: Instant,
    /// Time that the scenario has let pass.
    passed: Duration,
}

/// What came of a message. One that was sent again by the client itself is no duplicate.
fn stored(message: &Outgoing, sent: SendResult) -> Stored {
    let SendResult { id, queue, offset, duplicate, .. } = sent;
    Stored { id, queue, offset, duplicate: duplicate && message.dedupe.is_some() }
}

fn refusal(error: Error) -> Refusal {
    Refusal::new(error.code, error.detail)
}

fn failed(failed: Failed) -> Refusal {
    Refusal::new(Code::Internal, failed.0)
}

impl<'a> Real<'a> {
    pub(crate) fn new(runtime: Handle, broker: Broker<'a>, number: usize) -> Self {
        let operator = runtime.block_on(broker.server().client("operator"));
        let mut host = Self {
            runtime,
            broker,
            number,
            operator: operator.expect("the broker answers"),
            contexts: BTreeMap::new(),
            clients: BTreeMap::new(),
            members: BTreeMap::new(),
            transacting: Transacting::default(),
            lasting: Lasting::default(),
            began: Instant::now(),
            passed: Duration::ZERO,
        };
        host.add(TENANT, &format!("t{number}"), false).expect("a tenant can be added");
        host.began = Instant::now();
        host
    }

    fn add(&mut self, name: &str, own: &str, auto: bool) -> Outcome<()> {
        let context = self.broker.server().context().expect("the broker has started");
        let adding = tenant::add(&self.operator, &context, own, auto);
        let context = self.runtime.block_on(adding).map_err(refusal)?;
        self.contexts.insert(name.to_owned(), context);
        Ok(())
    }

    fn connect(&self, tenant: &str, name: &str) -> Outcome<Client> {
        let unknown = || Refusal::new(Code::UnknownTenant, tenant);
        let context = self.contexts.get(tenant).ok_or_else(unknown)?.clone();
        let connecting = patient(context).name(name).connect();
        self.runtime.block_on(connecting).map_err(refusal)
    }

    /// The broker, where it is this scenario's alone.
    fn own(&mut self) -> &mut Server {
        match &mut self.broker {
            Broker::Own(server) => server,
            Broker::Shared(_) => unreachable!("who ends the broker has one of its own"),
        }
    }

    fn client(&mut self, tenant: &str) -> Outcome<Client> {
        if !self.clients.contains_key(tenant) {
            let client = self.connect(tenant, "scenario")?;
            self.clients.insert(tenant.to_owned(), client);
        }
        Ok(self.clients[tenant].clone())
    }

    /// Sends a request as it is.
    fn raw(&mut self, tenant: &str, request: &Request) -> Outcome<Reply> {
        let unknown = || Refusal::new(Code::UnknownTenant, tenant);
        let context = self.contexts.get(tenant).ok_or_else(unknown)?;
        let asked = self.runtime.block_on(async {
            let raw = Raw::connect(context, RawWindows::default()).await?;
            let (_control, mut data, _) = raw.welcomed().await?;
            let answer = data.ask(5, request).await?;
            raw.close();
            Ok(answer)
        });
        match asked.map_err(failed)? {
            Answer::Reply(reply) => Ok(reply),
            Answer::Refused(refusal) => Err(refusal),
            other => Err(Refusal::new(Code::BadReply, format!("{other:?}"))),
        }
    }

    fn with<T>(
        &mut self,
        tenant: &str,
        ask: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Outcome<T> {
        let client = self.client(tenant)?;
        self.runtime.clone().block_on(ask(client)).map_err(refusal)
    }

    fn of<T>(
        &mut self,
        member: &str,
        ask: impl AsyncFnOnce(&mut Member) -> Result<T, Error>,
    ) -> Outcome<T> {
        let unknown = || Refusal::new(Code::UnknownSubscription, member);
        let runtime = self.runtime.clone();
        let (_, member) = self.members.get_mut(member).ok_or_else(unknown)?;
        runtime.block_on(ask(member)).map_err(refusal)
    }
}

impl Host for Real<'_> {
    fn kind(&self) -> Kind {
        Kind::Real
    }

    fn now(&mut self) -> Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(now.expect("it is after 1970").as_millis() as u64)
    }

    fn looks_again(&mut self, looks: u32) -> bool {
        std::thread::sleep(LOOK_PAUSE);
        looks < LOOKS_MAX
    }

    fn kept_time(&mut self) -> bool {
        let kept = if self.passed.is_zero() { BEGINNING } else { self.passed + BEHIND_MAX };
        self.began.elapsed() < kept
    }

    fn call(&mut self, tenant: &str, operation: Operation, args: Bytes) -> Outcome<Bytes> {
        self.with(tenant, async |client| client.admin().call_raw(operation, args).await)
    }

    fn add_tenant(&mut self, name: &str, auto_create_topics: bool) -> Outcome<()> {
        let own = format!("t{}-{name}", self.number);
        self.add(name, &own, auto_create_topics)
    }

    fn send(&mut self, tenant: &str, message: &Outgoing) -> Outcome<Stored> {
        let open = message.tx.and_then(|tx| self.transacting.open.get(&tx));
        if let Some(open) = open {
            let sent = self.runtime.block_on(open.send(&message.topic, message.message()));
            return sent.map(|sent| stored(message, sent)).map_err(refusal);
        }
        if let Some(name) = &message.by {
            let producer = self.lasting.producer(name);
            let sent = self.runtime.block_on(producer.send(message.message()));
            return sent.map(|sent| stored(message, sent)).map_err(refusal);
        }
        self.with(tenant, async |client| {
            let mut producer = client.producer(&message.topic);
            producer = producer.ack(message.place.unwrap_or(Ack::Synced));
            producer = producer.nodes(message.nodes.unwrap_or(AckNodes::One));
            if let Some(compression) = message.compression() {
                producer = producer.compress(compression);
            }
            let said = message.message();
            let said = message.tx.map_or(said.clone(), |tx| said.prepared(tx));
            let sent = producer.build().await?.send(said).await?;
            Ok(stored(message, sent))
        })
    }

    fn producer(&mut self, tenant: &str, name: &str, how: &Producing) -> Outcome<Vec<u64>> {
        let client = self.client(tenant)?;
        let making = self.lasting.produce(&client, name, how);
        self.runtime.block_on(making).map_err(refusal)
    }

    fn one_way(&mut self, producer: &str, body: Bytes, queue: Option<u16>) -> Outcome<()> {
        let message = yard_client::Message::new(body);
        let message = queue.map_or(message.clone(), |queue| message.queue(queue));
        self.lasting.producer(producer).send_one_way(message).map(drop).map_err(refusal)
    }

    fn flush(&mut self, producer: &str) -> Outcome<()> {
        self.runtime.block_on(self.lasting.producer(producer).flush()).map_err(refusal)
    }

    fn produce(&mut self, tenant: &str, batch: &Numbered) -> Outcome<Produced> {
        let route = self.with(tenant, async |client| client.route(&batch.topic).await)?;
        let shard = route.shards.get(usize::from(batch.queue.0)).copied().unwrap_or_default();
        let produce = batch_of(batch, route.topic, shard)?;
        match self.raw(tenant, &Request::Produce(produce))? {
            Reply::Produce(produced) => Ok(produced),
            other => Err(Refusal::new(Code::BadReply, format!("{other:?}"))),
        }
    }

    fn subscribe(&mut self, tenant: &str, member: &str, how: &Subscription) -> Outcome<()> {
        let client = self.connect(tenant, member)?;
        let begun = self.runtime.block_on(Member::begin(client, member, how));
        let begun = begun.map_err(refusal)?;
        self.members.insert(member.to_owned(), (tenant.to_owned(), begun));
        Ok(())
    }

    fn receive(&mut self, member: &str, wanted: usize) -> Outcome<Vec<Received>> {
        self.of(member, async |member| member.receive(wanted, PATIENCE).await)
    }

    fn settle(&mut self, member: &str, place: Place, opinion: &Opinion) -> Outcome<()> {
        self.of(member, async |member| member.settle(place, opinion).await)
    }

    fn extend(
        &mut self,
        member: &str,
        place: Place,
        attempt: Option<u32>,
        lease_ms: u64,
    ) -> Outcome<()> {
        self.of(member, async |member| member.extend(place, attempt, lease_ms).await)
    }

    fn keep(&mut self, member: &str, place: Place) -> Outcome<()> {
        self.of(member, async |member| member.keep(place))
    }

    fn handle(
        &mut self,
        member: &str,
        wanted: usize,
        error: Option<&str>,
    ) -> Outcome<Vec<Received>> {
        self.of(member, async |member| member.handle(wanted, error).await)
    }

    fn reader(
        &mut self,
        tenant: &str,
        reader: &str,
        topic: &str,
        queues: &[QueueIndex],
    ) -> Outcome<()> {
        let client = self.client(tenant)?;
        let assigning = self.lasting.assign(&client, (reader, topic), queues);
        self.runtime.block_on(assigning).map_err(refusal)
    }

    fn read(&mut self, reader: &str, max: u32) -> Outcome<Vec<(Place, Record)>> {
        let read = self.runtime.block_on(self.lasting.reader(reader).read(max));
        let messages = read.map_err(refusal)?.into_iter();
        Ok(messages.map(|read| ((read.queue, read.offset), read.record)).collect())
    }

    fn reads(&mut self, reader: &str, queue: QueueIndex, reading: Reading) -> Outcome<()> {
        let reader = self.lasting.reader(reader);
        match reading {
            Reading::From(offset) => reader.seek(queue, offset),
            Reading::Paused => reader.pause(queue),
            Reading::Resumed => reader.resume(queue),
        }
        .map_err(refusal)
    }

    fn forge(&mut self, _: &str, _: &str, _: Place, _: Verdict) -> Outcome<()> {
        unreachable!("the step says that it is not for this host")
    }

    fn change(&mut self, member: &str, change: Change) -> Outcome<()> {
        let unknown = || Refusal::new(Code::UnknownSubscription, member);
        let tenant = self.members.get(member).map(|(tenant, _)| tenant.clone());
        let other = self.client(&tenant.ok_or_else(unknown)?)?;
        self.of(member, async |member| match change {
            Change::Leave => member.leave().await,
            Change::Kill => {
                member.kill(other).await;
                Ok(())
            }
            Change::Pause => {
                member.pause().await;
                Ok(())
            }
            Change::Resume => {
                member.resume().await;
                Ok(())
            }
        })
    }

    fn fetch(
        &mut self,
        tenant: &str,
        (topic, queue): (&str, QueueIndex),
        from: QueueOffset,
        max: u32,
    ) -> Outcome<Fetched> {
        self.with(tenant, async |client| client.fetch(topic, queue, from, max).await)
    }

    fn seek(
        &mut self,
        tenant: &str,
        (topic, queue): (&str, QueueIndex),
        at: Timestamp,
    ) -> Outcome<Sought> {
        self.with(tenant, async |client| client.seek(topic, queue, at).await)
    }

    fn find(&mut self, tenant: &str, wanted: &Wanted) -> Outcome<Vec<FoundMessage>> {
        self.with(tenant, async |client| {
            let (mut found, mut next) = (Vec::new(), None);
            loop {
                let part = client.find(wanted.clone(), next, 100).await?;
                found.extend(part.messages);
                next = part.next;
                if next.is_none() {
                    return Ok(found);
                }
            }
        })
    }

    fn move_group(
        &mut self,
        tenant: &str,
        group: &str,
        topic: &str,
        to: &SeekTo,
    ) -> Outcome<Vec<Moved>> {
        self.with(tenant, async |client| {
            let admin = client.admin();
            let plan = admin.plan_seek(topic, group, to).await?;
            let report = admin.seek_group(&plan).await?;
            let queues = report.queues.into_iter().map(|sought| match sought.error {
                Some(error) => Err(error),
                None => Ok((sought.planned.queue, sought.planned.before, sought.planned.to)),
            });
            queues.collect()
        })
    }

    fn begin(&mut self, tenant: &str, beginning: &Beginning) -> Outcome<TxId> {
        let Beginning { group, note, named } = beginning.clone();
        if let Some((producer, epoch, number)) = named {
            let tx = TxId { coordinator: ShardId(0), producer, epoch, number };
            let request = Request::TxBegin(TxBegin { tx, group, note });
            return self.raw(tenant, &request).map(|_| tx);
        }
        let client = self.client(tenant)?;
        let beginning = self.transacting.begin(client, (tenant, group), note);
        self.runtime.block_on(beginning).map_err(refusal)
    }

    fn decide(&mut self, tenant: &str, decision: &Decision) -> Outcome<()> {
        let Decision { tx, group, check, is_forged, commit } = decision.clone();
        let open = if is_forged { None } else { self.transacting.open.remove(&tx) };
        if let Some(open) = open {
            return self.runtime.block_on(async {
                if commit { open.commit().await } else { open.rollback().await }.map_err(refusal)
            });
        }
        let verdict = if commit { TxVerdict::Commit } else { TxVerdict::Rollback };
        let request = Request::TxDecide(TxDecide { tx, group, verdict, check });
        self.raw(tenant, &request).map(drop)
    }

    fn join(&mut self, tenant: &str, producer: &str, group: &str) -> Outcome<()> {
        let client = self.connect(tenant, producer)?;
        let joining = Answerer::join(client, group);
        let answerer = self.runtime.block_on(joining).map_err(refusal)?;
        self.transacting.answerers.insert(producer.to_owned(), answerer);
        Ok(())
    }

    fn asked(&mut self, producer: &str, wanted: usize) -> Outcome<Vec<Asked>> {
        let answerer = self.transacting.answerers.get_mut(producer).expect("it has joined");
        Ok(self.runtime.block_on(answerer.asked(wanted, PATIENCE)))
    }

    fn answer(&mut self, producer: &str, asked: &Asked, verdict: TxVerdict) -> Outcome<()> {
        let answerer = self.transacting.answerers.get_mut(producer).expect("it has joined");
        answerer.answer(asked, verdict);
        Ok(())
    }

    fn advance(&mut self, ms: u64) {
        let time = Duration::from_millis(ms);
        self.passed += time;
        std::thread::sleep(time);
    }

    fn restart(&mut self, ending: Ending) {
        self.down(ending);
        self.up();
    }

    fn down(&mut self, ending: Ending) {
        let (runtime, server) = (self.runtime.clone(), self.own());
        runtime.block_on(async {
            match ending {
                Ending::Stop => server.stop().await,
                // What a machine loses with its power only a disk in memory can tell.
                Ending::Kill | Ending::Power => server.kill9(),
            }
            .expect("the broker ends");
        });
    }

    fn up(&mut self) {
        let (runtime, server) = (self.runtime.clone(), self.own());
        runtime.block_on(server.restart()).expect("the broker starts");
        runtime.block_on(async {
            for (_, member) in self.members.values_mut() {
                member.come_back().await;
            }
        });
    }

    fn fill_disk(&mut self, _full: bool) {
        unreachable!("the step says that it is not for this host")
    }

    fn exchange(&mut self, tenant: &str, exchange: &Exchange) -> Outcome<Bytes> {
        let client = self.client(tenant)?;
        let message = yard_client::Message::new(exchange.body.clone());
        let member = exchange.member.as_ref().and_then(|name| self.members.get_mut(name));
        let timeout = if member.is_some() { PATIENCE } else { REQUEST_TIMEOUT };
        let asked = self.runtime.block_on(async {
            let asking = client.request(&exchange.topic, message, timeout);
            let answering = async {
                if let Some((_, member)) = member {
                    member.answer(&exchange.reply).await;
                }
            };
            tokio::join!(asking, answering).0
        });
        asked.map(|response| response.body().clone()).map_err(refusal)
    }

    fn program(&mut self, tenant: &str, words: &[&str]) -> Outcome<Vec<Row>> {
        let unknown = || Refusal::new(Code::UnknownTenant, tenant);
        let context = self.contexts.get(tenant).ok_or_else(unknown)?.clone();
        program::run(context, words).map_err(failed)?
    }
}
