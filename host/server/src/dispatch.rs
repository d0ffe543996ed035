//! Which request goes where. If you debug a request, start here.
use std::sync::Arc;
use std::time::Instant;

use yard_abi::manifest::Point;
use yard_broker::{Event, Origin, SessionId};
use yard_shard::Input;
use yard_transport::{Incoming, Peer, Service, SessionHandle};
use yard_wire::expression::{Filter, PluginFilter};
use yard_wire::operation::{
    Arguments, GroupInfo, GroupReport, GroupRm, GroupSet, Operation, PluginPush, TopicSet, TxSet,
};
use yard_wire::plugin_use::{PluginChoice, PluginUse};
use yard_wire::request::{Reply, Request, Right};
use yard_wire::requests::{Call, Called, HeldRange, Hello, SettleRange, Start, Wanted, Welcome};
use yard_wire::retry::RetryPolicy;
use yard_wire::transaction::CheckPolicy;
use yard_wire::units::AgeLimit;
use yard_wire::{Code, Correlation, Refusal, ShardId, Wire, dedupe, limits};

use crate::before::{self, Lines, Produce};
use crate::deliver::Lanes;
use crate::fan_out::{self, Asker, FanOut};
use crate::hub::{Hub, Session};
use crate::inbox::{Hurry, Inbox};

/// Name and version, as the hello tells them.
pub(crate) const BROKER: &str = concat!("switchyard/", env!("CARGO_PKG_VERSION"));
/// The shard that owns topics and tenants.
pub(crate) const METADATA: ShardId = ShardId(0);

/// The broker behind the transport.
pub(crate) struct Dispatch {
    /// The process.
    pub hub: Arc<Hub>,
}

impl Service for Dispatch {
    fn welcome(
        &self,
        peer: &Peer,
        hello: &Hello,
        session: SessionHandle,
    ) -> Result<Welcome, Refusal> {
        let (tenant, tenant_name, operator) = match &peer.identity {
            Some(identity) => {
                let name = identity.tenant.clone();
                let tenant = self.hub.tenant(&name).ok_or(Code::UnknownTenant)?;
                (tenant, name, identity.operator)
            }
            None if self.hub.dev && peer.is_loopback() => {
                let (tenant, name) = Hub::default_tenant();
                (tenant, name.to_owned(), true)
            }
            None => return Err(Code::NoCertificate.into()),
        };
        if self.hub.is_crowded(tenant) {
            let detail = "this tenant has as many connections as it may";
            return Err(Refusal::new(Code::LimitReached, detail));
        }
        if hello.client.len() > limits::NAME_BYTES_MAX {
            return Err(Refusal::new(Code::BadArgument, "the client's name is too long"));
        }
        let welcome = Welcome {
            broker: BROKER.to_owned(),
            session: session.id(),
            tenant,
            tenant_name: tenant_name.clone(),
            frame_bytes_max: limits::FRAME_BYTES_MAX as u32,
            lanes_max: self.hub.lanes_max,
            now: self.hub.wall.now(),
            features: 0,
        };
        self.hub.open_session(Session {
            handle: session,
            tenant,
            tenant_name,
            operator,
            client: hello.client.clone(),
            library: hello.library.clone(),
            connected: self.hub.wall.now(),
            lanes: Lanes::default(),
            lines: Lines::default(),
            reads: self.hub.reads(tenant),
        });
        Ok(welcome)
    }

    fn allowed(&self, session: &SessionHandle, right: Right) -> bool {
        match right {
            Right::Operate => {
                self.hub.session(session.id()).is_some_and(|session| session.operator)
            }
            // Rights within a tenant are not granted one by one yet: its certificate has all.
            Right::Connect | Right::Consume | Right::Manage | Right::Produce | Right::Read => true,
        }
    }

    fn pace(&self, session: &SessionHandle, bytes: usize) -> Option<Instant> {
        let tenant = self.hub.session(session.id())?.tenant;
        self.hub.fairness.pace(tenant, bytes, Instant::now())
    }

    fn request(
        &self,
        session: &SessionHandle,
        stream: u16,
        correlation: Correlation,
        request: Incoming,
    ) {
        let origin = Origin { session: SessionId(session.id()), stream, correlation };
        if let Err(refusal) = self.route(origin, request) {
            session.reply(stream, correlation, Err(refusal));
        }
    }

    fn closed(&self, session: u64) {
        self.hub.close_session(session);
    }
}

/// What a request takes while it waits, beyond what every request does.
fn cost_bytes(request: &Request) -> usize {
    match request {
        Request::Find(find) => match &find.wanted {
            Wanted::Id(_) => 0,
            Wanted::Key { topic, key, .. } => topic.len() + key.len(),
        },
        Request::Extend(extend) => extend.ranges.len() * size_of::<HeldRange>(),
        Request::MoveGroup(request) => request.to.len() * 16,
        Request::JoinProducers(request) => request.group.len(),
        Request::TxBegin(request) => request.group.len() + request.note.len(),
        Request::TxDecide(request) => request.group.len(),
        Request::FindRoute(find) => find.topics.iter().map(|topic| 32 + topic.len()).sum(),
        Request::Settle(settle) => settle.ranges.iter().map(range_bytes).sum(),
        Request::Subscribe(subscribe) => match &subscribe.start {
            Start::Earliest | Start::Latest => 0,
            Start::Offsets(offsets) => offsets.len() * 16,
        },
        Request::Call(_)
        | Request::Credit(_)
        | Request::Fetch(_)
        | Request::Hello(_)
        | Request::OpenProducer(_)
        | Request::Produce(_)
        | Request::Seek(_)
        | Request::Unsubscribe(_) => 0,
    }
}

fn range_bytes(range: &SettleRange) -> usize {
    size_of::<SettleRange>() + range.error.as_ref().map_or(0, String::len)
}

/// The plugins that arguments put somewhere, and where.
fn plugins_of(arguments: &Arguments) -> Vec<(Point, PluginUse)> {
    let before = |interceptor: &Option<PluginUse>, dedupe: &Option<PluginUse>| {
        let interceptor = interceptor.clone().map(|used| (Point::Interceptor, used));
        let dedupe = dedupe.clone().map(|used| (Point::Dedupe, used));
        interceptor.into_iter().chain(dedupe).collect()
    };
    match arguments {
        Arguments::GroupSet(GroupSet { retry: Some(RetryPolicy::Plugin(used)), .. }) => {
            vec![(Point::Retry, used.clone())]
        }
        Arguments::TxSet(TxSet { check: Some(CheckPolicy::Plugin(used)), .. }) => {
            vec![(Point::TxnCheck, used.clone())]
        }
        Arguments::TopicCreate(create) => before(&create.interceptor.0, &create.dedupe_plugin.0),
        Arguments::TopicSet(TopicSet { interceptor, dedupe_plugin, .. }) => {
            let chosen = |choice: &Option<PluginChoice>| choice.clone().and_then(|it| it.0);
            before(&chosen(interceptor), &chosen(dedupe_plugin))
        }
        _ => Vec::new(),
    }
}

/// Lets a topic remember keys for as long as its plugin wants them, unless somebody says otherwise.
fn set_window(arguments: &mut Arguments, ttl_ms: u64) -> Result<(), Refusal> {
    let window = match arguments {
        Arguments::TopicCreate(create) => &mut create.dedupe_window,
        Arguments::TopicSet(set) => &mut set.dedupe_window,
        other => unreachable!("{:?} has no dedupe plugin", other.operation()),
    };
    if window.is_none() {
        let says = |refusal: Refusal| {
            let detail = format!("what the dedupe plugin wants: {}", refusal.detail);
            Refusal::new(Code::BadPluginUse, detail)
        };
        dedupe::check_window(ttl_ms).map_err(says)?;
        *window = Some(AgeLimit(ttl_ms));
    }
    Ok(())
}

/// Arguments as a shard gets them.
fn encoded(arguments: &Arguments) -> Call {
    let mut args = Vec::new();
    arguments.put(&mut args);
    Call { operation: arguments.operation() as u16, args: args.into() }
}

impl Dispatch {
    fn route(&self, origin: Origin, request: Incoming) -> Result<(), Refusal> {
        let session = self.hub.session(origin.session.0).ok_or(Code::Closed)?;
        let tenant = session.tenant;
        let request = match request {
            Incoming::Produce { place, nodes, floor, batch, bytes } => {
                let produce = Produce { origin, place, nodes, floor, batch, bytes };
                return before::put(&self.hub, &session, produce);
            }
            Incoming::Request(request) => request,
        };
        if let Request::Settle(settle) = &request {
            session.lanes.settled((settle.shard, settle.subscription), &settle.ranges);
        }
        let shard = match &request {
            Request::Call(call) => return self.call(&session, origin, call),
            Request::Credit(credit) => credit.shard,
            Request::Extend(extend) => extend.shard,
            Request::Fetch(fetch) => fetch.shard,
            Request::Find(find) => find.shard,
            Request::FindRoute(_) => METADATA,
            Request::JoinProducers(request) => request.shard,
            Request::MoveGroup(request) => request.shard,
            Request::OpenProducer(request) => request.shard,
            Request::Seek(seek) => seek.shard,
            Request::Settle(settle) => settle.shard,
            Request::Subscribe(subscribe) => subscribe.shard,
            Request::TxBegin(request) => request.tx.coordinator,
            Request::TxDecide(request) => request.tx.coordinator,
            Request::Unsubscribe(unsubscribe) => unsubscribe.shard,
            Request::Hello(_) | Request::Produce(_) => {
                return Err(Refusal::new(Code::WrongStream, "not expected here"));
            }
        };
        if let Request::Unsubscribe(ended) = &request {
            session.lanes.ended(ended.shard, ended.subscription);
        }
        if let Request::Credit(_) | Request::Unsubscribe(_) = &request {
            // What makes room is never refused for want of room: a refused credit would be lost,
            // because nobody waits for its answer.
            let inbox = self.inbox(shard)?;
            let event = Event::Request { origin, tenant, request };
            inbox.put_after(tenant, Input::Event(event));
            return Ok(());
        }
        if let Request::Subscribe(subscribe) = &request
            && let Filter::Plugin(filter) = Filter::read(subscribe.expression.as_ref())?
        {
            self.subscribe_when_read(session, origin, filter, request);
            return Ok(());
        }
        let bytes = cost_bytes(&request);
        self.offer(&session, shard, bytes, Event::Request { origin, tenant, request })
    }

    /// Lets a plugin read the expression before its subscription begins: what it says of it is the
    /// answer.
    fn subscribe_when_read(
        &self,
        session: Arc<Session>,
        origin: Origin,
        filter: PluginFilter,
        request: Request,
    ) {
        let hub = Arc::clone(&self.hub);
        let too = Self { hub: Arc::clone(&hub) };
        self.hub.runtime.spawn(async move {
            let tenant = session.tenant;
            let read = hub.policies.check(tenant, filter).await;
            let Request::Subscribe(subscribe) = &request else {
                unreachable!("only a subscription has an expression");
            };
            let (shard, bytes) = (subscribe.shard, cost_bytes(&request));
            let event = Event::Request { origin, tenant, request };
            if let Err(refusal) = read.and_then(|()| too.offer(&session, shard, bytes, event)) {
                hub.reply(origin, Err(refusal));
            }
        });
    }

    fn offer(
        &self,
        session: &Session,
        shard: ShardId,
        bytes: usize,
        event: Event,
    ) -> Result<(), Refusal> {
        self.inbox(shard)?.offer(session.tenant, bytes, Hurry::Urgent, Input::Event(event))
    }

    fn inbox(&self, shard: ShardId) -> Result<&Arc<Inbox>, Refusal> {
        self.hub.inbox(shard).ok_or_else(|| before::no_shard(shard))
    }

    fn call(&self, session: &Arc<Session>, origin: Origin, call: &Call) -> Result<(), Refusal> {
        let operation = Operation::from_number(call.operation).ok_or_else(|| {
            Refusal::new(Code::UnknownRequest, format!("operation {}", call.operation))
        })?;
        let arguments = Arguments::from_bytes(operation, call.args.clone())
            .map_err(|e| e.refusal(Code::MalformedFrame))?;
        if operation == Operation::ClientLs {
            let only = (!session.operator).then_some(session.tenant);
            let result = self.hub.client_rows(only).to_bytes();
            self.hub.reply(origin, Ok(Reply::Call(Called { result })));
            return Ok(());
        }
        let arguments = match arguments {
            Arguments::PluginLogs(of) => {
                let lines = self.hub.policies.log_of(session.tenant, &of.name);
                if lines.is_empty() {
                    // Whether there is such a plugin is known to the metadata.
                    self.spread(session, origin, call, Arguments::PluginLogs(of));
                } else {
                    let result = lines.to_bytes();
                    self.hub.reply(origin, Ok(Reply::Call(Called { result })));
                }
                return Ok(());
            }
            Arguments::PluginDifferences(of) => {
                let rows = self.hub.policies.differences_of(session.tenant, &of.name);
                if rows.is_empty() {
                    self.spread(session, origin, call, Arguments::PluginDifferences(of));
                } else {
                    let result = rows.to_bytes();
                    self.hub.reply(origin, Ok(Reply::Call(Called { result })));
                }
                return Ok(());
            }
            Arguments::PluginPush(push) => return self.push(session, origin, push),
            other => other,
        };
        if let Arguments::TenantAdd(add) = &arguments {
            // Before anything is stored: a tenant without its certificate would be of no use.
            fan_out::check_certificate_request(&self.hub, &add.request)?;
        }
        if let Arguments::GroupRm(remove) = arguments {
            self.remove_group(session, origin, remove);
            return Ok(());
        }
        let plugins = plugins_of(&arguments);
        if plugins.is_empty() {
            self.spread(session, origin, call, arguments);
            return Ok(());
        }
        // Before anything is stored: what the plugin says of its settings is the answer.
        let (hub, session) = (Arc::clone(&self.hub), Arc::clone(session));
        self.hub.runtime.spawn(async move {
            let mut arguments = arguments;
            for (point, used) in plugins {
                let checked = hub.policies.check_use(session.tenant, point, &used).await;
                let taken = checked.and_then(|ttl_ms| match ttl_ms {
                    Some(ttl_ms) => set_window(&mut arguments, ttl_ms),
                    None => Ok(()),
                });
                if let Err(refusal) = taken {
                    return hub.reply(origin, Err(refusal));
                }
            }
            Self { hub }.spread(&session, origin, &encoded(&arguments), arguments);
        });
        Ok(())
    }

    /// Gives an operation to its shard, or to all of them.
    fn spread(&self, session: &Session, origin: Origin, call: &Call, arguments: Arguments) {
        let operation = arguments.operation();
        let everywhere = fan_out::asks_every_shard(operation);
        let shards = if everywhere { self.hub.inboxes.len() } else { 1 };
        let fan_out = FanOut::new(Asker::Client(origin), session.tenant, arguments, shards);
        let asked = self.hub.start_fan_out(fan_out);
        for shard in (0..shards).map(|n| ShardId(n as u16)) {
            let request = Request::Call(call.clone());
            let event = Event::Request { origin: asked, tenant: session.tenant, request };
            if let Err(refusal) = self.offer(session, shard, call.args.len(), event) {
                self.hub.answer_fan_out(asked.correlation.0, Err(refusal));
            }
        }
    }

    /// Has a group removed that has no members in any shard: none forgets it where another refuses.
    fn remove_group(&self, session: &Arc<Session>, origin: Origin, remove: GroupRm) {
        let (hub, session) = (Arc::clone(&self.hub), Arc::clone(session));
        self.hub.runtime.spawn(async move {
            let ask = Arguments::GroupInfo(GroupInfo { name: remove.name.clone() });
            let report = hub.ask_shards(session.tenant, ask).await;
            let members = report.ok().and_then(|it| GroupReport::from_bytes(it).ok());
            let members = members.map_or(0, |report| report.members.len());
            if members > 0 {
                let detail = format!("group {:?} is consumed with", remove.name);
                return hub.reply(origin, Err(Refusal::new(Code::GroupHasMembers, detail)));
            }
            let arguments = Arguments::GroupRm(remove);
            Self { hub }.spread(&session, origin, &encoded(&arguments), arguments);
        });
    }

    /// Finds out whether a plugin may run, and gives it to the metadata if it may.
    fn push(&self, session: &Session, origin: Origin, push: PluginPush) -> Result<(), Refusal> {
        let (hub, tenant) = (Arc::clone(&self.hub), session.tenant);
        self.inbox(METADATA)?;
        self.hub.runtime.spawn(async move {
            // The file is not needed for the answer.
            let arguments = Arguments::PluginPush(PluginPush::default());
            let fan_out = FanOut::new(Asker::Client(origin), tenant, arguments, 1);
            let pushed = hub.policies.admit(tenant, push).await;
            let origin = hub.start_fan_out(fan_out);
            let offered = pushed.and_then(|pushed| {
                let bytes = pushed.file.len();
                let event = Event::PluginPushed { origin, tenant, pushed: Box::new(pushed) };
                let inbox = hub.inbox(METADATA).ok_or(Code::Internal)?;
                inbox.offer(tenant, bytes, Hurry::Urgent, Input::Event(event))
            });
            if let Err(refusal) = offered {
                hub.answer_fan_out(origin.correlation.0, Err(refusal));
            }
        });
        Ok(())
    }
}
