//! Scenarios as requests of the protocol: what the shipped client does for an application, without
//! its network. Numbering and messages are the client's own code.
//!
//! ```text
//!   step ──► Wired ── requests ──► Line: a bare shard, or one in the simulator
//!              ▲                     │
//!              └── answers, pushes ──┘
//! ```
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_client::SeekTo;
use yard_client::lane::LaneCore;
use yard_wire::batch::{self, BatchHeader};
use yard_wire::operation::{
    GroupInfo, GroupReport, Operate, Operation, TenantAdd, TenantAdded, TopicInfo, TopicReport,
};
use yard_wire::record::RecordParts;
use yard_wire::request::{Push, Reply, Request};
use yard_wire::requests::{
    Call, Credit, Extend, Fetch, Fetched, Find, FindRoute, FoundMessage, HeldRange, MoveGroup,
    Produce, Produced, Seek, Settle, SettleRange, Sought, Start, TopicRoute, TxVerdict, Verdict,
    Wanted,
};
use yard_wire::{
    Code, MessageId, QueueIndex, QueueOffset, Refusal, Sequence, ShardId, SubscriptionId, TenantId,
    Timestamp, TopicId, TxId, Wire,
};

use crate::host::{
    Asked, Beginning, Change, Decision, Ending, Host, Kind, Moved, Numbered, Opinion, Outcome,
    Outgoing, Producing, Received, Stored, Subscription, of_the_client,
};
use crate::member::{Member, Taken};
use crate::run::TENANT;
use crate::units::Place;
use sending::Lasting;
use transacting::Transacting;

mod sending;
mod transacting;

/// The only shard.
pub(crate) const SHARD: ShardId = ShardId(0);
/// Times that a request is sent whose connection is lost under it.
const ATTEMPTS: usize = 20;
/// Moments in which something that is expected may still arrive.
const LINGERS_MAX: usize = 10;
/// Bytes that a fetch asks for.
const FETCH_BYTES: u32 = 4 << 20;

/// What may happen to a request, and nobody sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// It arrives once, and is answered.
    Once,
    /// It may arrive again later.
    Again,
    /// The broker may die under it, too: nobody is subscribed, and it may be asked again.
    Dies,
}

/// A broker of one shard, and connections to it.
pub trait Line {
    /// Which host it is.
    fn kind(&self) -> Kind;
    /// The broker's clock.
    fn now(&self) -> Timestamp;
    /// A new connection.
    fn connect(&mut self, tenant: TenantId) -> u64;
    /// A connection ends.
    fn close(&mut self, session: u64);
    /// Sends a request and waits for its answer. `None`: the broker is gone, and with it all
    /// connections.
    fn ask(&mut self, session: u64, request: Request, care: Care) -> Option<Outcome<Reply>>;
    /// What has arrived unasked, when nothing is under way any more.
    fn pushes(&mut self) -> Vec<(u64, Push)>;
    /// Something may happen that nobody sees; also an end of all connections, where nobody holds
    /// anything. True when they are gone.
    fn trouble(&mut self, nothing_held: bool) -> bool;
    /// A moment passes in which something may arrive that is due; false where that is exact.
    fn linger(&mut self) -> bool {
        false
    }
    /// Time passes, in milliseconds.
    fn advance(&mut self, ms: u64);
    /// The broker ends and starts again.
    fn restart(&mut self, ending: Ending);
    /// The disk has no room, or has some again.
    fn fill_disk(&mut self, full: bool);
}

/// A host that speaks the protocol over a line.
pub struct Wired<L> {
    line: L,
    tenants: BTreeMap<String, TenantId>,
    /// The connection of each tenant for all but subscriptions.
    sessions: BTreeMap<String, u64>,
    lanes: BTreeMap<sending::Lane, LaneCore>,
    /// Producers that last, by their names.
    producers: BTreeMap<String, Lasting>,
    members: Vec<Member>,
    transacting: Transacting,
    /// Nobody reaches the broker.
    is_down: bool,
    /// Decides where nothing else does.
    turn: u64,
}

fn unexpected(reply: &Reply) -> Refusal {
    Refusal::new(Code::BadReply, format!("{reply:?}"))
}

impl<L: Line> Wired<L> {
    /// A host over a line whose broker has nothing yet.
    #[must_use]
    pub fn new(line: L) -> Self {
        Self {
            line,
            tenants: BTreeMap::from([(TENANT.to_owned(), TenantId(0))]),
            sessions: BTreeMap::new(),
            lanes: BTreeMap::new(),
            producers: BTreeMap::new(),
            members: Vec::new(),
            transacting: Transacting::default(),
            is_down: false,
            turn: 0,
        }
    }

    fn tenant_id(&self, tenant: &str) -> Outcome<TenantId> {
        let unknown = || Refusal::new(Code::UnknownTenant, tenant);
        self.tenants.get(tenant).copied().ok_or_else(unknown)
    }

    fn session(&mut self, tenant: &str) -> Outcome<u64> {
        let id = self.tenant_id(tenant)?;
        let line = &mut self.line;
        Ok(*self.sessions.entry(tenant.to_owned()).or_insert_with(|| line.connect(id)))
    }

    /// Nobody is subscribed or asked: whatever dies now, nobody gets anything twice or misses it.
    fn has_no_members(&self) -> bool {
        let is_none = self.members.iter().all(|member| member.subscription.is_none());
        is_none && self.transacting.asks_nobody()
    }

    /// Sends a request that may be sent again, until it is answered.
    fn ask(&mut self, tenant: &str, request: &Request, may_die: bool) -> Outcome<Reply> {
        if self.is_down {
            return Err(Refusal::new(Code::Disconnected, "the broker is down"));
        }
        for _ in 0..ATTEMPTS {
            let session = self.session(tenant)?;
            let care = if may_die && self.has_no_members() { Care::Dies } else { Care::Once };
            match self.line.ask(session, request.clone(), care) {
                Some(answer) => return answer,
                None => self.reconnect(),
            }
        }
        Err(Refusal::new(Code::TimedOut, "the broker does not come back"))
    }

    fn operate<O: Operate>(&mut self, tenant: &str, arguments: &O) -> Outcome<O::Result> {
        let result = self.call(tenant, O::OPERATION, arguments.to_bytes())?;
        O::Result::from_bytes(result).map_err(|malformed| malformed.refusal(Code::BadReply))
    }

    fn route(&mut self, tenant: &str, topic: &str) -> Outcome<TopicRoute> {
        let request = Request::FindRoute(FindRoute { topics: vec![topic.to_owned()] });
        match self.ask(tenant, &request, true)? {
            Reply::FindRoute(route) => {
                let found = route.topics.into_iter().flatten().next();
                found.ok_or_else(|| Refusal::new(Code::UnknownTopic, topic))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// All connections are gone: what members held is no longer theirs, and they come back.
    fn reconnect(&mut self) {
        self.sessions.clear();
        self.lanes.values_mut().for_each(LaneCore::on_disconnect);
        self.lanes.values_mut().for_each(LaneCore::on_connect);
        self.join_again();
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            let was_there = member.subscription.is_some();
            member.lose();
            if was_there {
                self.subscribe_again(at);
            }
        }
    }

    fn subscribe_again(&mut self, at: usize) {
        if let Err(refusal) = self.begin(at) {
            self.members[at].ended = Some(refusal);
        }
    }

    /// Subscribes a member on a connection of its own.
    fn begin(&mut self, at: usize) -> Outcome<()> {
        for _ in 0..ATTEMPTS {
            let tenant = self.tenant_id(&self.members[at].tenant)?;
            let session = self.line.connect(tenant);
            let request = self.members[at].request(SHARD);
            match self.line.ask(session, Request::Subscribe(request), Care::Once) {
                None => self.sessions.clear(),
                Some(Ok(Reply::Subscribe(subscribed))) => {
                    self.members[at].begins(session, &subscribed);
                    return Ok(());
                }
                Some(Ok(other)) => return Err(unexpected(&other)),
                Some(Err(refusal)) => {
                    self.line.close(session);
                    return Err(refusal);
                }
            }
        }
        Err(Refusal::new(Code::TimedOut, "the broker does not come back"))
    }

    /// Takes in what has arrived.
    fn collect(&mut self) {
        loop {
            let pushes = self.line.pushes();
            if pushes.is_empty() {
                return;
            }
            for (session, push) in pushes {
                if let Push::TxCheck(check) = push {
                    self.transacting.take(session, check);
                    continue;
                }
                let found = self.members.iter().position(|member| member.session == session);
                let Some(at) = found else { continue };
                match push {
                    Push::Deliver(deliver) => self.members[at].take(deliver),
                    Push::Ended(ended) if ended.why.code.is_retryable() => {
                        self.members[at].lose();
                        self.line.close(session);
                        self.subscribe_again(at);
                    }
                    Push::Ended(ended) => {
                        self.members[at].lose();
                        self.members[at].ended = Some(ended.why);
                    }
                    Push::TxCheck(_) => unreachable!("it was taken before"),
                }
            }
        }
    }

    fn member(&self, name: &str) -> Outcome<usize> {
        let found = self.members.iter().rposition(|member| member.name == name);
        found.ok_or_else(|| Refusal::new(Code::UnknownSubscription, name))
    }

    /// Sends a request of a member that must not be sent twice.
    fn ask_as(&mut self, at: usize, request: Request) -> Outcome<Reply> {
        let session = self.members[at].session;
        let gone = || Refusal::new(Code::Disconnected, "the broker is gone");
        if self.is_down {
            return Err(gone());
        }
        self.line.ask(session, request, Care::Once).unwrap_or_else(|| Err(gone()))
    }

    fn subscription(&self, at: usize) -> Outcome<SubscriptionId> {
        let lost = || Refusal::new(Code::LeaseLost, "the subscription has ended");
        self.members[at].subscription.ok_or_else(lost)
    }

    fn settle_range(
        &mut self,
        at: usize,
        subscription: SubscriptionId,
        (queue, from): Place,
        opinion: &Opinion,
    ) -> Outcome<()> {
        let Opinion { attempt, verdict, delay_ms, error } = opinion.clone();
        let attempt = attempt.unwrap_or_else(|| self.members[at].latest((queue, from)));
        let to = QueueOffset(from.0 + 1);
        let range = SettleRange { queue, from, to, attempt, verdict, delay_ms, error };
        let request = Settle { shard: SHARD, subscription, ranges: vec![range] };
        match self.ask_as(at, Request::Settle(request))? {
            Reply::Settle(settled) if settled.done > 0 => Ok(()),
            Reply::Settle(settled) => Err(not_held(&settled.other, attempt)),
            other => Err(unexpected(&other)),
        }
    }

    /// When the lease of something that a member works on is to be extended next.
    fn next_extension(&self) -> Option<u64> {
        let members = self.members.iter().filter(|_| !self.is_down);
        members.filter_map(|member| member.keeping.due_ms()).min()
    }

    fn extend_what_is_kept(&mut self) {
        let now_ms = self.line.now().0;
        for at in 0..self.members.len() {
            let (subscription, lease_ms) =
                (self.members[at].subscription, self.members[at].lease_ms());
            let ranges = self.members[at].keeping.take_due(now_ms, lease_ms.into());
            let Some(subscription) = subscription.filter(|_| !ranges.is_empty()) else { continue };
            let request = Extend { shard: SHARD, subscription, lease_ms, ranges };
            if let Ok(Reply::Extend(extended)) = self.ask_as(at, Request::Extend(request)) {
                self.members[at].keeping.answered(&extended);
            }
        }
    }

    fn offsets_at(
        &mut self,
        (tenant, topic): (&str, &str),
        queues: usize,
        at: Timestamp,
    ) -> Outcome<Vec<(QueueIndex, QueueOffset)>> {
        let queues = (0..queues).map(|queue| QueueIndex(queue as u16));
        queues.map(|queue| Ok((queue, self.seek(tenant, (topic, queue), at)?.offset))).collect()
    }

    /// Where a group is to go on, queue by queue, as the client plans it.
    fn plan(
        &mut self,
        tenant: &str,
        (group, topic): (&str, &str),
        to: &SeekTo,
    ) -> Outcome<Vec<(QueueIndex, QueueOffset)>> {
        yard_wire::name::check(group)?;
        let report: TopicReport = self.operate(tenant, &TopicInfo { name: topic.to_owned() })?;
        if let SeekTo::Offsets(offsets) = to
            && let Some((queue, _)) =
                offsets.iter().find(|(queue, _)| usize::from(queue.0) >= report.queues.len())
        {
            return Err(Refusal::new(Code::QueueOutOfRange, queue.to_string()));
        }
        let times = match to {
            SeekTo::Time(at) => self.offsets_at((tenant, topic), report.queues.len(), *at)?,
            _ => Vec::new(),
        };
        let asked = if let SeekTo::Like(other) = to { other } else { group };
        let known = self.operate(tenant, &GroupInfo { name: asked.to_owned() });
        let known: Option<GroupReport> = match known {
            Err(refusal) if asked != group => return Err(refusal),
            other => other.ok(),
        };
        let settled = |queue: QueueIndex, first: QueueOffset| {
            let rows = known.iter().flat_map(|known| &known.queues);
            let mut rows = rows.filter(|row| row.topic == topic && row.queue == queue);
            rows.next().map_or(first, |row| row.settled_below)
        };
        let offset = |row: &yard_wire::operation::QueueRow| match to {
            SeekTo::Earliest => Some(row.first),
            SeekTo::Latest => Some(row.end),
            SeekTo::Offset(offset) => Some(*offset),
            SeekTo::Offsets(offsets) => {
                offsets.iter().find(|(queue, _)| *queue == row.queue).map(|(_, offset)| *offset)
            }
            SeekTo::Time(_) => times.iter().find(|(queue, _)| *queue == row.queue).map(|it| it.1),
            SeekTo::Like(_) => Some(settled(row.queue, row.first)),
            SeekTo::Skip(count) => {
                Some(QueueOffset((settled(row.queue, row.first).0 + count).min(row.end.0)))
            }
        };
        let rows = report.queues.iter();
        Ok(rows.filter_map(|row| Some((row.queue, offset(row)?))).collect())
    }

    /// Takes what has arrived at a member, and settles what it passes over: how much that was.
    fn take_arrived(&mut self, at: usize, messages: &mut Vec<Received>) -> Outcome<usize> {
        let now = self.line.now();
        let Taken { messages: taken, passed_over } = self.members[at].take_inbox(now);
        messages.extend(taken);
        for (place, verdict) in &passed_over {
            let subscription = self.subscription(at)?;
            let verdict = *verdict;
            let opinion = Opinion { attempt: None, verdict, delay_ms: None, error: None };
            self.settle_range(at, subscription, *place, &opinion)?;
        }
        let (messages, bytes) = self.members[at].give_back();
        if messages > 0
            && let Some(subscription) = self.members[at].subscription
        {
            let credit = Credit { shard: SHARD, subscription, messages, bytes };
            self.ask_as(at, Request::Credit(credit))?;
        }
        Ok(passed_over.len())
    }
}

/// Operations that come to the same when they are done twice.
fn is_resendable(operation: Operation) -> bool {
    use yard_wire::operation::Risk;
    let again = [Operation::TopicCreate, Operation::TopicSet, Operation::GroupSet];
    operation.risk() == Risk::Reads || again.contains(&operation)
}

impl<L: Line> Host for Wired<L> {
    fn kind(&self) -> Kind {
        self.line.kind()
    }

    fn now(&mut self) -> Timestamp {
        self.line.now()
    }

    fn begin_step(&mut self) {
        if self.is_down {
            return;
        }
        self.collect();
        let nothing_held = self.members.iter().all(Member::holds_nothing);
        let nothing_held = nothing_held && self.transacting.asks_nobody();
        if self.line.trouble(nothing_held) {
            self.reconnect();
        }
    }

    fn call(&mut self, tenant: &str, operation: Operation, args: Bytes) -> Outcome<Bytes> {
        let request = Request::Call(Call { operation: operation as u16, args });
        match self.ask(tenant, &request, is_resendable(operation))? {
            Reply::Call(called) => Ok(called.result),
            other => Err(unexpected(&other)),
        }
    }

    fn add_tenant(&mut self, name: &str, auto_create_topics: bool) -> Outcome<()> {
        let arguments =
            TenantAdd { name: name.to_owned(), auto_create_topics, request: String::new() };
        let added: TenantAdded = self.operate(TENANT, &arguments)?;
        self.tenants.insert(name.to_owned(), added.id);
        Ok(())
    }

    fn send(&mut self, tenant: &str, message: &Outgoing) -> Outcome<Stored> {
        let pushed = match &message.by {
            Some(name) => {
                let lasting = self.lasting(name, &message.topic)?;
                self.push(tenant, message, (&lasting.route, lasting.within_ms))?
            }
            None => {
                let route = self.route(tenant, &message.topic)?;
                self.push(tenant, message, (&route, None))?
            }
        };
        self.pump(tenant, &pushed)
    }

    fn producer(&mut self, tenant: &str, name: &str, how: &Producing) -> Outcome<Vec<u64>> {
        if how.is_the_clients() {
            return of_the_client();
        }
        let (topic, within_ms) = (how.topic.clone(), how.within_ms);
        let route = self.route(tenant, &topic)?;
        self.producers.insert(name.to_owned(), Lasting { topic, route, within_ms });
        Ok(Vec::new())
    }

    fn produce(&mut self, tenant: &str, batch: &Numbered) -> Outcome<Produced> {
        let topic = self.route(tenant, &batch.topic)?.topic;
        let request = Request::Produce(batch_of(batch, topic, SHARD)?);
        match self.ask(tenant, &request, false)? {
            Reply::Produce(produced) => Ok(produced),
            other => Err(unexpected(&other)),
        }
    }

    fn subscribe(&mut self, tenant: &str, member: &str, how: &Subscription) -> Outcome<()> {
        if how.drops_failed {
            return of_the_client();
        }
        crate::filter::check(how.expression.as_ref())?;
        let route = self.route(tenant, &how.topic)?;
        let start = match &how.from {
            crate::host::From::Start(start) => start.clone(),
            crate::host::From::Time(at) => {
                let queues = route.shards.len();
                Start::Offsets(self.offsets_at((tenant, &how.topic), queues, *at)?)
            }
        };
        self.members.push(Member::new(tenant, member, how, start));
        let at = self.members.len() - 1;
        let begun = self.begin(at);
        if begun.is_err() {
            self.members.pop();
        }
        begun
    }

    fn receive(&mut self, member: &str, wanted: usize) -> Outcome<Vec<Received>> {
        let at = self.member(member)?;
        let mut taken = Vec::new();
        for _ in 0..LINGERS_MAX {
            self.collect();
            let passed_over = self.take_arrived(at, &mut taken)?;
            let is_enough = taken.len() >= wanted && (wanted > 0 || passed_over == 0);
            if is_enough || (passed_over == 0 && !self.line.linger()) {
                break;
            }
        }
        taken.sort_by_key(|received| received.place.0);
        match self.members[at].ended.clone() {
            Some(refusal) if taken.is_empty() => Err(refusal),
            Some(_) | None => Ok(taken),
        }
    }

    fn settle(&mut self, member: &str, place: Place, opinion: &Opinion) -> Outcome<()> {
        let at = self.member(member)?;
        self.members[at].note_settled(place, opinion.attempt)?;
        let subscription = self.subscription(at)?;
        self.members[at].let_go(place);
        if let Verdict::Nack | Verdict::Reject = opinion.verdict {
            self.members[at].note_failed(place);
        }
        let settled = self.settle_range(at, subscription, place, opinion);
        let is_over =
            |code| matches!(code, Code::LeaseLost | Code::LeaseSuperseded | Code::LeaseForged);
        if settled.as_ref().is_err_and(|refusal| !is_over(refusal.code)) {
            self.members[at].note_refused(place);
        }
        settled
    }

    fn extend(
        &mut self,
        member: &str,
        (queue, from): Place,
        attempt: Option<u32>,
        lease_ms: u64,
    ) -> Outcome<()> {
        let at = self.member(member)?;
        let lease_ms = u32::try_from(lease_ms).unwrap_or(u32::MAX);
        let attempt = attempt.unwrap_or_else(|| self.members[at].latest((queue, from)));
        let ranges = vec![HeldRange { queue, from, to: QueueOffset(from.0 + 1), attempt }];
        let subscription = self.subscription(at)?;
        let request = Extend { shard: SHARD, subscription, lease_ms, ranges };
        match self.ask_as(at, Request::Extend(request))? {
            Reply::Extend(extended) if extended.done > 0 => Ok(()),
            Reply::Extend(extended) => Err(match extended.spent.is_empty() {
                true => not_held(&extended.other, attempt),
                false => Refusal::new(Code::HeldTooLong, "it is held for as long as may be"),
            }),
            other => Err(unexpected(&other)),
        }
    }

    fn keep(&mut self, member: &str, place: Place) -> Outcome<()> {
        let (at, now) = (self.member(member)?, self.line.now());
        self.subscription(at)?;
        self.members[at].keep(place, now);
        Ok(())
    }

    fn forge(&mut self, member: &str, other: &str, place: Place, verdict: Verdict) -> Outcome<()> {
        let (at, other) = (self.member(member)?, self.member(other)?);
        let subscription = self.subscription(other)?;
        self.settle_range(
            at,
            subscription,
            place,
            &Opinion { attempt: None, verdict, delay_ms: None, error: None },
        )
    }

    fn change(&mut self, member: &str, change: Change) -> Outcome<()> {
        self.collect();
        let at = self.member(member)?;
        if change == Change::Resume {
            return self.begin(at);
        }
        let (session, subscription) = (self.members[at].session, self.members[at].subscription);
        if let Some(subscription) = subscription.filter(|_| change != Change::Kill) {
            let request = yard_wire::requests::Unsubscribe { shard: SHARD, subscription };
            self.ask_as(at, Request::Unsubscribe(request))?;
        }
        self.members[at].lose();
        self.line.close(session);
        Ok(())
    }

    fn fetch(
        &mut self,
        tenant: &str,
        (topic, queue): (&str, QueueIndex),
        from: QueueOffset,
        max: u32,
    ) -> Outcome<Fetched> {
        let topic = topic.to_owned();
        let (shard, records_max, bytes_max) = (SHARD, max, FETCH_BYTES);
        let request = Fetch { shard, topic, queue, from, records_max, bytes_max };
        match self.ask(tenant, &Request::Fetch(request), true)? {
            Reply::Fetch(fetched) => Ok(fetched),
            other => Err(unexpected(&other)),
        }
    }

    fn seek(
        &mut self,
        tenant: &str,
        (topic, queue): (&str, QueueIndex),
        time: Timestamp,
    ) -> Outcome<Sought> {
        let request = Seek { shard: SHARD, topic: topic.to_owned(), queue, time };
        match self.ask(tenant, &Request::Seek(request), true)? {
            Reply::Seek(sought) => Ok(sought),
            other => Err(unexpected(&other)),
        }
    }

    fn find(&mut self, tenant: &str, wanted: &Wanted) -> Outcome<Vec<FoundMessage>> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (wanted, records_max, bytes_max) = (wanted.clone(), 100, 1 << 18);
            let request = Find { shard: SHARD, wanted, after, records_max, bytes_max };
            match self.ask(tenant, &Request::Find(request), true)? {
                Reply::Find(part) => {
                    found.extend(part.messages);
                    after = part.next;
                }
                other => return Err(unexpected(&other)),
            }
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    fn move_group(
        &mut self,
        tenant: &str,
        group: &str,
        topic: &str,
        to: &SeekTo,
    ) -> Outcome<Vec<Moved>> {
        let to = self.plan(tenant, (group, topic), to)?;
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let request = Request::MoveGroup(MoveGroup { shard: SHARD, group, topic, to });
        match self.ask(tenant, &request, false)? {
            Reply::MoveGroup(moved) => {
                let queues = moved.queues.iter();
                Ok(queues.map(|moved| (moved.queue, moved.before, moved.after)).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    fn begin(&mut self, tenant: &str, beginning: &Beginning) -> Outcome<TxId> {
        self.begin_transaction(tenant, beginning)
    }

    fn decide(&mut self, tenant: &str, decision: &Decision) -> Outcome<()> {
        self.decide_transaction(tenant, decision)
    }

    fn join(&mut self, tenant: &str, producer: &str, group: &str) -> Outcome<()> {
        self.join_producers(tenant, producer, group)
    }

    fn asked(&mut self, producer: &str, wanted: usize) -> Outcome<Vec<Asked>> {
        Ok(self.take_checks(producer, wanted))
    }

    fn answer(&mut self, producer: &str, asked: &Asked, verdict: TxVerdict) -> Outcome<()> {
        self.answer_check(producer, asked, verdict)
    }

    fn advance(&mut self, ms: u64) {
        self.collect();
        let until = self.line.now().plus_ms(ms);
        while let Some(due_ms) = self.next_extension().filter(|due_ms| *due_ms <= until.0) {
            self.line.advance(due_ms.saturating_sub(self.line.now().0));
            self.collect();
            self.extend_what_is_kept();
            if self.next_extension().is_some_and(|next_ms| next_ms <= due_ms) {
                // What is due is not taken: nothing is extended any more.
                break;
            }
        }
        self.line.advance(until.0 - self.line.now().0);
    }

    fn restart(&mut self, ending: Ending) {
        self.collect();
        self.line.restart(ending);
        self.reconnect();
    }

    fn down(&mut self, ending: Ending) {
        self.collect();
        // It starts at once, and nobody finds out before it is up.
        self.line.restart(ending);
        self.is_down = true;
        self.sessions.clear();
        self.lanes.values_mut().for_each(LaneCore::on_disconnect);
    }

    fn up(&mut self) {
        self.is_down = false;
        self.reconnect();
    }

    fn fill_disk(&mut self, full: bool) {
        self.line.fill_disk(full);
    }
}

/// The request that a batch which is numbered by hand comes to.
///
/// # Errors
/// When a body is too large.
pub fn batch_of(batch: &Numbered, topic: TopicId, shard: ShardId) -> Outcome<Produce> {
    let mut records = Vec::new();
    let properties: Vec<(&str, &str)> =
        batch.properties.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    for (at, body) in batch.bodies.iter().enumerate() {
        let number = batch.header.sequence.0 + at as u64;
        let id = MessageId::new(Timestamp(7), u128::from(batch.header.producer.0 << 32 | number));
        let queue = batch.queue;
        let properties = &properties[..];
        let parts = RecordParts { topic, queue, id, properties, body, ..RecordParts::default() };
        parts.encode(&mut records)?;
    }
    let shard = if batch.names_shard { batch.header.shard } else { shard };
    let header = BatchHeader { shard, ..batch.header };
    let (place, nodes, floor) = (batch.place, batch.nodes, Sequence(batch.floor));
    Ok(Produce { place, nodes, floor, batch: batch::encode(&header, batch.bodies.len(), &records) })
}

/// Why a delivery was neither settled nor extended.
fn not_held(other: &[HeldRange], attempt: u32) -> Refusal {
    let code = other.first().map_or(Code::LeaseLost, |held| held.refuses(attempt));
    Refusal::new(code, format!("attempt {attempt} of it is not held"))
}
