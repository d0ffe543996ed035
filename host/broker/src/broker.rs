//! The broker: its state, the way in, and what the log makes of it.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use yard_tables::Paged;
use yard_wire::batch::{Batch, BatchHeader};
use yard_wire::record::Record;
use yard_wire::release::Target;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::AckPlace;
use yard_wire::share::Share;
use yard_wire::{
    Code, Malformed, QueueIndex, QueueOffset, Refusal, ShardId, SubscriptionId, TenantId,
    Timestamp, TopicId,
};

use crate::bounds::{ASK_MS, STEPS_MAX};
use crate::effect::Effect;
use crate::entry::{Entry, GroupCreated, GroupId, Outcome, Progress, Step};
use crate::errands::Errands;
use crate::event::{Applied, Event, Origin, QueueTail, SessionId, Ticket};
use crate::group::claims::SettledKeys;
use crate::group::{Ends, Groups};
use crate::meta::MetaChange;
use crate::meta_table::{MetaTable, queues_on};
use crate::policy::PolicyAnswer;
use crate::producer::Producers;
use crate::refusal::{NoTopic, OperateError};
use crate::retention::{DiskLevel, Headroom};
use crate::retry::mix;
use crate::saving::Snapshot;
use crate::subscribe::Joining;
use crate::timers::{At, Timers};
use crate::trace::{NOTING, Traces};
use crate::transaction::Transactions;
use crate::windows::{First, Windows};

/// The shard whose log holds the metadata.
pub(crate) const METADATA_SHARD: ShardId = ShardId(0);

/// What a broker must know from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Its shard.
    pub shard: ShardId,
    /// How many shards the installation has: 1 to [`yard_wire::limits::SHARDS_MAX`].
    pub shards: u16,
    /// Randomness, so that subscriptions have other numbers than in an earlier run.
    pub seed: u64,
    /// Whether entries are kept on other nodes as well, so that more than one can be promised.
    pub replicated: bool,
}

/// Counts, for looking at them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tenants known.
    pub tenants: u64,
    /// Topics known.
    pub topics: u64,
    /// Groups, each topic of a group counted.
    pub groups: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Messages that a subscription holds a lease of.
    pub leased: u64,
    /// Producers whose numbering is remembered.
    pub producers: u64,
    /// Delayed messages that wait.
    pub delayed: u64,
    /// Transactions that this shard coordinates, until every shard has carried out what was
    /// decided.
    pub transactions: u64,
    /// Those of them that wait for an operator.
    pub undecided: u64,
    /// Prepared messages that wait for their transactions.
    pub prepared: u64,
}

/// The decisions of one shard.
#[derive(Debug)]
pub struct Broker {
    pub(crate) config: BrokerConfig,
    // Durable: follows from the entries of the log.
    /// In the metadata shard; the others are told when they start, and of every change.
    pub(crate) meta: MetaTable,
    pub(crate) producers: Producers,
    pub(crate) groups: Groups,
    /// Topics that were removed: their messages go.
    pub(crate) removed: BTreeSet<TopicId>,
    pub(crate) timers: Timers,
    pub(crate) transactions: Transactions,
    pub(crate) windows: Windows<TopicId, First>,
    pub(crate) settled_keys: SettledKeys,
    // Volatile: lost with the process.
    pub(crate) ends: Paged<(TopicId, QueueIndex), Ends>,
    /// Of queues that lose messages just now, below which offset; see [`Broker::retiring`].
    pub(crate) going: BTreeMap<(TopicId, QueueIndex), QueueOffset>,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, (SessionId, GroupId)>,
    pub(crate) sessions: BTreeMap<SessionId, BTreeSet<SubscriptionId>>,
    /// Questions to the index that were not answered yet.
    pub(crate) tickets: BTreeMap<Ticket, (GroupId, QueueIndex)>,
    /// The queues of groups in which something happens by itself, by the next such instant.
    pub(crate) dues: BTreeSet<(Timestamp, GroupId, QueueIndex)>,
    /// Subscriptions of which credit waits for more, and until when.
    pub(crate) withheld: BTreeSet<(Timestamp, SubscriptionId)>,
    /// Who joins the group whose entry is being appended.
    pub(crate) joining: Option<Joining>,
    /// Groups that may have something to deliver.
    pub(crate) to_pump: BTreeSet<GroupId>,
    /// What becomes dead letters.
    pub(crate) burials: Errands,
    /// What is passed on to other topics.
    pub(crate) drains: Errands,
    /// Groups that are to return to their own topics.
    pub(crate) returning: BTreeSet<GroupId>,
    /// Which topics are traced, and what is noted just now.
    pub(crate) traces: Traces,
    /// Groups that are behind what their queues still hold, which the log does not say yet.
    pub(crate) to_trim: BTreeSet<GroupId>,
    /// Subscriptions that the broker ended and nobody was told of, with their topics.
    pub(crate) ended: Vec<(SessionId, SubscriptionId, TopicId)>,
    /// Of topics with a limit of backlog, as far as somebody has looked.
    pub(crate) headroom: BTreeMap<TopicId, Headroom>,
    pub(crate) disk: DiskLevel,
    pub(crate) next_subscription: SubscriptionId,
    pub(crate) next_ticket: Ticket,
    /// The latest time seen.
    pub(crate) now: Timestamp,
    /// A tick is wanted at this instant, whatever else is due.
    wake_wanted: Option<Timestamp>,
    /// The tick that was asked for last and has not come.
    wake_announced: Option<Timestamp>,
    pub(crate) events: u64,
    /// The event after which the whole state is checked next.
    pub(crate) checked_at: u64,
}

/// Refuses a request: where the refusal speaks of what an earlier request may have appended just
/// now, when that is durable. Otherwise a power cut could make it untrue.
pub(crate) fn refused(origin: Origin, refusal: Refusal) -> Effect {
    let speaks_of_it = [
        Code::ProducerFenced,
        Code::TopicExists,
        Code::TransactionFinished,
        Code::UnknownGroup,
        Code::UnknownTopic,
    ]
    .contains(&refusal.code);
    let result = Err(refusal);
    if speaks_of_it {
        return Effect::ReplyAfter { origin, place: AckPlace::Synced, result };
    }
    Effect::Reply { origin, result }
}

impl Broker {
    /// An empty broker: the default tenant, nothing else.
    ///
    /// # Panics
    /// When the shard is not one of the shards.
    #[must_use]
    pub fn new(config: BrokerConfig) -> Self {
        assert!(config.shard.0 < config.shards, "the shard is one of the shards");
        assert!(config.shards <= yard_wire::limits::SHARDS_MAX, "shards are bounded");
        Self {
            config,
            meta: MetaTable::new(config.seed),
            producers: Producers::new(),
            groups: Groups::default(),
            removed: BTreeSet::new(),
            timers: Timers::default(),
            transactions: Transactions::default(),
            windows: Windows::default(),
            settled_keys: SettledKeys::default(),
            ends: Paged::default(),
            going: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            sessions: BTreeMap::new(),
            tickets: BTreeMap::new(),
            dues: BTreeSet::new(),
            withheld: BTreeSet::new(),
            joining: None,
            to_pump: BTreeSet::new(),
            burials: Errands::default(),
            drains: Errands::default(),
            returning: BTreeSet::new(),
            traces: Traces::default(),
            to_trim: BTreeSet::new(),
            ended: Vec::new(),
            headroom: BTreeMap::new(),
            disk: DiskLevel::default(),
            next_subscription: SubscriptionId(first_subscription(config.seed)),
            next_ticket: Ticket(1),
            now: Timestamp(0),
            wake_wanted: None,
            wake_announced: None,
            events: 0,
            checked_at: 0,
        }
    }

    /// Takes in what happened and lists what must be done, in order.
    ///
    /// `now` is wall time; where it goes backwards, the latest time seen is used instead.
    pub fn handle(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        self.events += 1;
        // Somebody is still joining: the group's entry could not be appended, and it was told.
        self.joining = None;
        self.wake_wanted = None;
        self.traces.begin(&event);
        match event {
            Event::Produce { origin, tenant, place, nodes, floor, batch } => {
                let ack = (place, nodes);
                self.produce(origin, tenant, ack, floor, batch, effects);
            }
            Event::Request { origin, tenant, request } => {
                self.request(origin, tenant, request, effects);
            }
            Event::PluginPushed { origin, tenant, pushed } => {
                self.plugin_pushed(origin, tenant, *pushed, effects);
            }
            Event::SessionClosed(session) => {
                self.session_closed(session, effects);
                self.traces.leave(session);
                self.transactions.leave(session);
            }
            Event::Committed(tails) => self.committed(&tails),
            Event::Located { ticket, places, labels } => {
                self.located(ticket, &places, &labels, effects);
            }
            Event::Found { asked, findings } => self.found(asked, findings, effects),
            Event::Gap { ticket, until } => self.met_gap(ticket, until, effects),
            Event::Unreadable { session, subscription, queue, offset } => {
                self.unreadable((session, subscription), queue, offset, effects);
            }
            Event::Judged(judged) => self.judged(&judged, effects),
            Event::Held(held) => self.hold_back(&held),
            Event::PolicyAnswered(PolicyAnswer::Retry(answer)) => {
                self.retry_answered(&answer, effects);
            }
            Event::PolicyAnswered(PolicyAnswer::Check(answer)) => {
                self.check_answered(&answer, effects);
            }
            Event::NotRecorded { progress, unanswered, wait_ms } => {
                self.not_recorded(&progress, unanswered, wait_ms);
            }
            Event::Metadata(change) => self.learn(&change, effects),
            Event::Tick => {
                self.tick(effects);
                self.give_withheld();
                self.release_due(effects);
                self.forward(effects);
                self.end_returns(effects);
                self.tick_transactions(effects);
                self.sweep_windows(effects);
            }
            Event::Notice(notice) => self.noticed(notice, effects),
            Event::Parked(targets) => self.timers.lie(&targets),
            Event::EnsureTopic { tenant, name } => self.ensure_topic(tenant, &name, effects),
            Event::Trimmed(firsts) => self.trimmed(&firsts),
            Event::Retired { below } => self.retired(below),
            Event::Disk(level) => self.disk = level,
        }
        self.finish(effects);
    }

    fn request(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let done: Result<(), Refusal> = match request {
            Request::FindRoute(request) => {
                self.find_route(origin, tenant, request, effects).map_err(Refusal::from)
            }
            Request::Call(call) => self.call(origin, tenant, call, effects),
            Request::Subscribe(request) => {
                self.subscribe(origin, tenant, request, effects).map_err(Refusal::from)
            }
            Request::Credit(request) => {
                self.credit(origin, &request, effects).map_err(Refusal::from)
            }
            Request::Unsubscribe(request) => {
                self.unsubscribe(origin, &request, effects).map_err(Refusal::from)
            }
            Request::Settle(request) => {
                self.settle(origin, &request, effects).map_err(Refusal::from)
            }
            Request::Extend(request) => {
                self.extend(origin, &request, effects).map_err(Refusal::from)
            }
            Request::MoveGroup(request) => {
                self.move_group(origin, tenant, request, effects).map_err(Refusal::from)
            }
            Request::Fetch(request) => {
                self.fetch(origin, tenant, request, effects).map_err(Refusal::from)
            }
            Request::Find(request) => {
                self.find(origin, tenant, request, effects).map_err(Refusal::from)
            }
            Request::Seek(request) => {
                self.seek(origin, tenant, request, effects).map_err(Refusal::from)
            }
            Request::OpenProducer(request) => {
                self.open_producer(origin, tenant, &request, effects).map_err(Refusal::from)
            }
            Request::JoinProducers(request) => {
                self.join_producers(origin, tenant, request, effects).map_err(Refusal::from)
            }
            Request::TxBegin(request) => {
                self.tx_begin(origin, tenant, request, effects).map_err(Refusal::from)
            }
            Request::TxDecide(request) => {
                self.tx_decide(origin, tenant, &request, effects).map_err(Refusal::from)
            }
            Request::Hello(_) | Request::Produce(_) => Err(OperateError::NotOurs.into()),
        };
        if let Err(refusal) = done {
            effects.push(refused(origin, refusal));
        }
    }

    /// What is left to do after every event.
    fn finish(&mut self, effects: &mut Vec<Effect>) {
        for id in std::mem::take(&mut self.to_trim) {
            self.append_trims(id, effects);
        }
        for (session, subscription, topic) in std::mem::take(&mut self.ended) {
            let why = NoTopic::Numbered(topic).into();
            effects.push(Effect::Ended { session, subscription, why });
        }
        for id in std::mem::take(&mut self.to_pump) {
            self.pump(id, effects);
        }
        self.bury(effects);
        self.trace(effects);
        let due = self.dues.first().map(|(due, _, _)| *due);
        let (prepared, open) = (self.timers.prepared.next_ask(), self.transactions.next_due());
        let swept = [self.windows.sweep_at(self.now), self.settled_keys.sweep_at(self.now)];
        let swept = swept.into_iter().flatten().chain(self.next_of_drains()).min();
        let credit = self.withheld.first().map(|(at, _)| *at);
        let wakes = [due, credit, self.wake_wanted, self.timers.next_due(), prepared, open, swept];
        let next = wakes.into_iter().flatten().min();
        if let Some(next) = next.filter(|next| self.wake_announced.is_none_or(|at| *next < at)) {
            self.wake_announced = Some(next);
            effects.push(Effect::WakeAt(next));
        }
        if cfg!(debug_assertions) {
            self.check_in_time();
        }
    }

    /// Asks for a tick at this instant at the latest.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wake_wanted = Some(self.wake_wanted.map_or(at, |wanted| wanted.min(at)));
    }

    /// The tick that was asked for has come.
    pub(crate) fn woken(&mut self) {
        self.wake_announced = None;
    }

    /// Appends what became of messages of a group. Nobody waits for it.
    pub(crate) fn append_steps(&self, id: GroupId, steps: &[Step], effects: &mut Vec<Effect>) {
        let tenant = self.groups.get(id).expect("the caller has the group").tenant;
        for steps in steps.chunks(STEPS_MAX) {
            let (steps, errors) = (steps.to_vec(), Vec::new());
            let progress = Progress { group: id, steps, errors };
            effects.push(Effect::Append {
                entry: Entry::Progress { tenant, progress },
                then: Vec::new(),
            });
        }
    }

    /// Answers when everything so far is durable: the answer speaks of something that an earlier
    /// request may have appended just now.
    pub(crate) fn reply_durable(origin: Origin, reply: Reply, effects: &mut Vec<Effect>) {
        let result = Ok(reply);
        effects.push(Effect::ReplyAfter { origin, place: AckPlace::Synced, result });
    }

    pub(crate) fn ends_of(&self, topic: TopicId, queue: QueueIndex) -> Ends {
        self.ends.get(&(topic, queue)).copied().unwrap_or_default()
    }

    /// Makes an entry of the log part of the durable state: live, right after it was appended, and
    /// at recovery, one after another.
    pub fn apply(&mut self, entry: &Entry, applied: &Applied) {
        match entry {
            Entry::Batch { tenant, batch } => {
                self.apply_batch(*tenant, batch.header(), batch.count(), applied);
                let ask_at = self.now.plus_ms(ASK_MS);
                let parked = batch.parked();
                parked.for_each(|(_, record)| self.timers.arrive(*tenant, &record, ask_at));
                self.note_stored(*tenant, batch, applied);
            }
            Entry::Deduped { tenant, deduped } => {
                self.apply_deduped(*tenant, &deduped.header, &deduped.dedupe, applied);
                let parked = deduped.batch.iter().flat_map(Batch::parked);
                let ask_at = self.now.plus_ms(ASK_MS);
                parked.for_each(|(_, record)| self.timers.arrive(*tenant, &record, ask_at));
                if let Some(batch) = &deduped.batch {
                    self.note_stored(*tenant, batch, applied);
                }
            }
            Entry::Forget { forgotten } => {
                for (topic, count) in forgotten {
                    self.windows.forget(*topic, *count);
                }
            }
            Entry::ForgetSettled { forgotten } => {
                forgotten.iter().for_each(|(id, count)| self.settled_keys.forget(*id, *count));
            }
            Entry::Settled { tenant, settled } => {
                self.remember_settled(*tenant, settled, applied.stored);
                self.apply_progress(&settled.progress);
            }
            Entry::Group { tenant, created } => self.apply_created(*tenant, created),
            Entry::Progress { progress, .. } => self.apply_progress(progress),
            Entry::Release { tenant, items, settle, dues, tx } => {
                // What became visible is told by the log, as of a batch.
                match tx {
                    Some(tx) => self.timers.settle((*tenant, *tx), true, dues),
                    None => dues.iter().for_each(|it| {
                        self.timers.remove((it.due, At::from(it)));
                    }),
                }
                match settle {
                    Some(progress) if progress.is_forwarded() => {
                        self.apply_forwarded(progress, items, applied);
                    }
                    Some(progress) => self.apply_progress(progress),
                    None => {}
                }
            }
            Entry::Cancel { cancelled, .. } => {
                if let Some(delayed) = self.timers.remove((cancelled.due, At::from(cancelled))) {
                    self.windows.cancelled(delayed.topic, |first| first.id == delayed.id);
                }
            }
            Entry::Tx { tenant, entry } => self.apply_tx(*tenant, entry),
            Entry::Incarnation { tenant, producer, epoch } => {
                self.producers.open((*tenant, *producer), *epoch);
            }
            Entry::Move { moved, .. } => self.apply_move(moved),
            Entry::Drain { tenant, entry } => self.apply_drain(*tenant, entry),
            Entry::Meta { changes } => changes.iter().for_each(|change| self.apply_change(change)),
        }
    }

    /// Takes in a change of the metadata, and with it that something is gone.
    fn apply_change(&mut self, change: &MetaChange) {
        self.apply_meta(change);
        match change {
            MetaChange::TopicRemoved { topic, .. } => self.drop_topic(*topic),
            MetaChange::GroupRemoved { tenant, name } => self.drop_group(*tenant, name),
            _ => {}
        }
    }

    /// Takes in a group that begins, and whoever waited for that.
    fn apply_created(&mut self, tenant: TenantId, created: &GroupCreated) {
        if self.groups.get(created.group).is_some() {
            return;
        }
        let queues = self.queue_count_here(created.topic);
        self.groups.create(tenant, created, queues);
        assert!(self.groups.get(created.group).is_some(), "a group that was created is there");
        // It may be behind from the beginning.
        self.headroom.remove(&created.topic);
        let joining = self.joining.take();
        if let Some(joining) = joining.filter(|joining| joining.group == created.group) {
            self.join(joining);
        }
    }

    pub(crate) fn apply_progress(&mut self, progress: &Progress) {
        let Some(group) = self.groups.get_mut(progress.group) else {
            return;
        };
        let errors: Vec<Arc<str>> =
            progress.errors.iter().map(|text| Arc::from(text.as_str())).collect();
        group.apply(&progress.steps, &errors);
        let is_drained = group.drain.is_some();
        if group.live.is_some() {
            self.to_pump.insert(progress.group);
            for step in &progress.steps {
                self.list_due(progress.group, step.queue);
            }
        }
        for step in &progress.steps {
            if let Outcome::Doomed { .. } | Outcome::Dead | Outcome::Trimmed = step.outcome {
                self.list_burial(progress.group, step.queue);
            }
            if is_drained {
                self.list_drain(progress.group, step.queue);
            }
        }
    }

    /// A record of a batch that is parked, at recovery; live, `Event::Parked` tells where it lies.
    pub fn apply_parked(&mut self, tenant: TenantId, target: Target, record: &Record) {
        assert!(record.flags().is_parked(), "others have their place");
        self.timers.arrive(tenant, record, Timestamp(0));
        self.timers.lie(&[target]);
    }

    /// As [`Broker::apply`] for a batch, but for its parked records: of the others the header and
    /// the number of records are enough, see [`yard_wire::batch::parse_header`].
    pub fn apply_batch(
        &mut self,
        tenant: TenantId,
        header: &BatchHeader,
        count: usize,
        applied: &Applied,
    ) {
        assert!(count >= 1, "a batch has records");
        if header.producer == NOTING {
            return;
        }
        self.producers.apply(tenant, header, count, (&applied.placed, &[]));
    }

    /// How many queues of a topic this shard holds, as far as it knows the topic.
    pub(crate) fn queue_count_here(&self, topic: TopicId) -> usize {
        self.meta.topic(topic).map_or(0, |topic| queues_on(topic, self.config.shard).count())
    }

    /// Takes in a change of the metadata; the queues of the topic's groups are counted anew.
    fn apply_meta(&mut self, change: &MetaChange) {
        let topic = match change {
            MetaChange::GroupPut(settings) => return self.put_group(settings),
            MetaChange::GroupRemoved { tenant, name } => {
                return self.forget_settings(*tenant, name);
            }
            MetaChange::TenantPut(_)
            | MetaChange::ChecksPut(_)
            | MetaChange::PluginFile(_)
            | MetaChange::PluginPut(_)
            | MetaChange::PluginRemoved { .. }
            | MetaChange::KeyPut(_)
            | MetaChange::KeyRemoved { .. } => return self.meta.apply(change.clone()),
            MetaChange::TopicPut(topic) => topic.topic,
            MetaChange::TopicRemoved { topic, .. } => *topic,
        };
        self.headroom.remove(&topic);
        if let MetaChange::TopicPut(topic) = change {
            self.topic_is_there(&topic.name);
            self.traces.set(topic.topic, topic.settings.trace);
        } else {
            self.traces.set(topic, Share(0));
        }
        let before = self.queue_count_here(topic);
        self.meta.apply(change.clone());
        let after = self.queue_count_here(topic);
        self.groups.resize(topic, before, after);
    }

    /// Drops what is known about a topic that was removed, its groups' progress included.
    fn drop_topic(&mut self, topic: TopicId) {
        yard_wire::mark!(TopicRemoved);
        self.removed.insert(topic);
        self.timers.drop_topic(topic);
        self.windows.drop_owner(topic);
        self.end_members_of(topic);
        for id in self.groups.of_topic(topic) {
            self.forget_group(id);
        }
    }

    /// Ends every subscription to a topic that was removed, and forgets where its queues end.
    fn end_members_of(&mut self, topic: TopicId) {
        let live: Vec<GroupId> = self.groups.live_of_topic(topic).collect();
        for id in live {
            self.land(id);
            let group = self.groups.get_mut(id).expect("a listed group exists");
            let live = group.live.take().expect("it is listed as live");
            self.groups.set_live(id, false);
            for (subscription, member) in live.members {
                self.forget_subscription(subscription);
                yard_wire::mark!(TopicRemovedFromMember);
                self.ended.push((member.session, subscription, topic));
            }
        }
        let all = (topic, QueueIndex(0))..=(topic, QueueIndex(u16::MAX));
        let known: Vec<_> = self.ends.range(all).map(|(key, _)| *key).collect();
        for key in known {
            self.ends.remove(&key);
        }
    }

    /// Takes in a change of the metadata in a shard that does not own it.
    fn learn(&mut self, change: &MetaChange, effects: &mut Vec<Effect>) {
        assert!(self.config.shard != METADATA_SHARD, "the metadata shard tells, it is not told");
        self.apply_meta(change);
        // What was due may have waited for its topic.
        self.timers.ask_again();
        self.drains.hurry();
        let MetaChange::TopicRemoved { topic, version } = change else {
            return;
        };
        self.end_members_of(*topic);
        // Topics may have been removed while this shard was down, or its disk full.
        let held = self.ends.iter().map(|((topic, _), _)| *topic).chain(self.groups.topics());
        let held = held.chain(self.timers.topics());
        let unknown =
            |topic: &TopicId| self.meta.topic(*topic).is_none() && !self.removed.contains(topic);
        let gone: BTreeSet<TopicId> = held.filter(unknown).collect();
        for topic in gone {
            yard_wire::mark!(TopicRemovedElsewhere);
            let changes = vec![MetaChange::TopicRemoved { topic, version: *version }];
            effects.push(Effect::Append { entry: Entry::Meta { changes }, then: Vec::new() });
        }
    }

    fn trimmed(&mut self, firsts: &[(TopicId, QueueIndex, QueueOffset)]) {
        for (topic, queue, first) in firsts {
            if self.meta.topic(*topic).is_none() {
                continue;
            }
            let ends = self.ends.entry((*topic, *queue));
            ends.first = ends.first.max(*first);
            ends.end = ends.end.max(ends.first);
            let first = ends.first;
            for id in self.groups.of_topic(*topic) {
                yard_wire::mark!(TrimmedGroup);
                self.trim_flight(id, *queue, first);
            }
        }
    }

    /// Places in segments that are gone are asked for anew.
    fn retired(&mut self, below: u32) {
        let live: Vec<GroupId> = self.groups.live().collect();
        for id in live {
            let group = self.groups.get_mut(id).expect("a listed group exists");
            let mut forgotten = Vec::new();
            for (queue, state) in &mut group.queues {
                if state.flight.as_mut().is_some_and(|flight| flight.retired(below)) {
                    forgotten.push(*queue);
                }
            }
            for queue in forgotten {
                group.live.as_mut().expect("the group is live").make_available(queue);
                self.to_pump.insert(id);
            }
        }
    }

    fn trim_flight(&mut self, id: GroupId, queue: QueueIndex, first: QueueOffset) {
        let group = self.groups.get_mut(id).expect("a listed group exists");
        let Some(state) = group.queues.get_mut(&queue) else {
            return;
        };
        if state.progress.settled_below() < first {
            self.to_trim.insert(id);
        }
        let (Some(flight), Some(live)) = (&mut state.flight, &mut group.live) else {
            return;
        };
        flight.trim(first, |subscription, count| live.leases_ended(subscription, count));
        live.make_available(queue);
        self.to_pump.insert(id);
        self.list_due(id, queue);
    }

    /// Records that a group passed over what its queues do not hold any more.
    fn append_trims(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get(id) else {
            return;
        };
        let mut steps = Vec::new();
        for (queue, state) in &group.queues {
            let from = state.progress.settled_below();
            let to = self.ends_of(group.topic, *queue).first;
            if from < to {
                steps.push(Step { queue: *queue, from, to, outcome: Outcome::Trimmed });
            }
        }
        self.append_steps(id, &steps, effects);
    }

    /// Call once, when every entry of the log was applied: where each queue begins and ends.
    /// Returns the queues that end later than that: of which a group has more behind it than the
    /// log knows, because what was in it was lost.
    pub fn recovered(
        &mut self,
        tails: Vec<QueueTail>,
        firsts: Vec<(TopicId, QueueIndex, QueueOffset)>,
    ) -> Vec<QueueTail> {
        assert!(self.subscriptions.is_empty(), "nobody subscribes before the log was read");
        for (topic, queue, first) in firsts {
            self.ends.insert((topic, queue), Ends { first, end: first });
        }
        for QueueTail { topic, queue, end } in tails {
            let ends = self.ends.entry((topic, queue));
            ends.end = ends.end.max(end);
        }
        let mut ahead = BTreeMap::new();
        for (id, group) in self.groups.iter() {
            for (queue, state) in &group.queues {
                let progress = &state.progress;
                let place = (group.topic, *queue);
                let Ends { first, end } = self.ends.get(&place).copied().unwrap_or_default();
                if progress.settled_below() < first {
                    self.to_trim.insert(id);
                }
                if progress.touched_end() > end {
                    let end = progress.touched_end();
                    self.ends.insert(place, Ends { first, end });
                    ahead.insert(place, end);
                }
            }
        }
        for (topic, queue, tail) in self.drain_tails() {
            let Ends { first, end } = self.ends_of(topic, queue);
            if tail > end {
                self.ends.insert((topic, queue), Ends { first, end: tail });
                ahead.insert((topic, queue), tail);
            }
        }
        self.list_burials();
        self.list_drains();
        self.check();
        let tail = |((topic, queue), end)| QueueTail { topic, queue, end };
        ahead.into_iter().map(tail).collect()
    }

    /// The durable state at this moment. Costs little: what is large is shared until it changes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        crate::snapshot::of(self)
    }

    /// A broker with the durable state of a snapshot.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not a snapshot of this shard.
    pub fn restore(config: BrokerConfig, snapshot: Bytes) -> Result<Self, Malformed> {
        crate::snapshot::read(config, snapshot)
    }

    /// The metadata as changes, for the other shards when they start.
    #[must_use]
    pub fn metadata(&self) -> Vec<MetaChange> {
        self.meta.changes()
    }

    /// Counts, for looking at them. Costs a look at every group.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let live = self.groups.iter().filter_map(|(_, group)| group.live.as_ref());
        let leased = live.flat_map(|live| live.members.values());
        Stats {
            tenants: self.meta.tenants().len() as u64,
            topics: self.meta.topic_count() as u64,
            groups: self.groups.len() as u64,
            subscriptions: self.subscriptions.len() as u64,
            leased: leased.map(|member| u64::from(member.leased)).sum(),
            producers: self.producers.len() as u64,
            delayed: self.timers.len() as u64,
            transactions: self.transactions.len() as u64,
            undecided: self.transactions.undecided(),
            prepared: self.timers.prepared.len() as u64,
        }
    }
}

/// Where subscriptions are numbered from. Runs begin at different places, so that a number of an
/// earlier run that a client still holds is unknown and never somebody's.
fn first_subscription(seed: u64) -> u64 {
    // The upper half is random, the lower is for counting; the sign bit stays clear.
    (mix(seed) >> 1) & !0xffff_ffff | 1
}
