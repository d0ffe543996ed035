//! A client that wants what other clerks want at the same time: the same transaction decided, the
//! same name, the same key, the same group moved. Who of them gets what is judged by a search.
use std::collections::BTreeMap;

use yard_broker::SessionId;
use yard_linear::{Ticket, transaction};
use yard_wire::limits::DEDUPE_WINDOW_MS_MAX;
use yard_wire::operation::TopicCreate;
use yard_wire::plugin_use::PluginChoice;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::FindRoute;
use yard_wire::units::AgeLimit;
use yard_wire::{Code, Correlation, Epoch, Refusal, Sequence, ShardId, TopicId};

mod answers;
mod owner;
mod questions;

use super::{Link, call, plugin};
use crate::agenda::{MS, Micros};
use crate::base::{Base, Phase};
use crate::network::ToClient;
use crate::random::Random;
use questions::transacting;

/// The topic of all clerks.
const TOPIC: &str = "clerks";
/// The group of their transactions. None of its producers can be asked.
const GROUP: &str = "clerks";
/// So long clerks contend for the same objects.
const SPAN: Micros = 700 * MS;
/// An answer that does not come is not waited for any longer.
const PATIENCE: Micros = 700 * MS;
/// A transaction that is unknown so often was never begun: whatever was on its way has arrived.
const VAIN_MAX: u32 = 4;
/// Time between two such questions.
const VAIN_PAUSE: Micros = 1_000 * MS;

/// What it has asked.
enum Asked {
    /// That there be a topic.
    Home,
    /// Where it is.
    Route,
    /// About the transaction of a span.
    Transaction(Ticket, u64, transaction::Ask),
    Key(Ticket),
    Position(Ticket),
    Settings(Ticket),
    Name(Ticket),
    /// To store under an epoch; whether somebody sends the same once more.
    Fence {
        ticket: Ticket,
        is_replayed: bool,
    },
}

/// An epoch under which it stores.
#[derive(Clone, Copy)]
struct Turn {
    span: u64,
    epoch: Epoch,
    next: Sequence,
}

/// A clerk.
pub(crate) struct Clerk {
    pub(super) link: Link,
    random: Random,
    /// Which clerk it is.
    number: u64,
    /// The topic, and the shard of its queue.
    home: Option<(TopicId, ShardId)>,
    asked: Option<(Correlation, Asked, Micros)>,
    /// Transactions that it may have begun, by their spans, and how often one was unknown since
    /// nothing goes wrong any more.
    begun: BTreeMap<u64, u32>,
    /// That they be rolled back, until there is an answer: to ask once more in the same words is
    /// no other operation, and the search for an order takes longer with each that has none.
    closing: BTreeMap<u64, Ticket>,
    turn: Option<Turn>,
    /// The one under which it is storing.
    going: Option<Turn>,
    /// How often it has taken its turn.
    turns: u32,
    owner: owner::Owner,
}

impl Clerk {
    /// A clerk with this number among the clients; its numbers are drawn from nobody else's.
    #[must_use]
    pub(crate) fn new(client: usize, seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed ^ 0x434c_4552_4b2e_2e2e ^ number << 32);
        Self {
            link: Link::new(client),
            owner: owner::Owner::new(client, random.split()),
            random,
            number,
            home: None,
            asked: None,
            begun: BTreeMap::new(),
            closing: BTreeMap::new(),
            turn: None,
            going: None,
            turns: 0,
        }
    }

    /// Whether it has nothing open.
    pub(super) fn is_done(&self) -> bool {
        self.begun.values().all(|vain| *vain >= VAIN_MAX)
    }

    pub(super) fn work(&mut self, base: &mut Base) {
        if self.link.session.is_none() || base.phase > Phase::Drain {
            return;
        }
        self.asked.take_if(|(_, _, until)| *until <= base.now);
        let mut pause = self.random.range(10 * MS, 60 * MS);
        if base.phase == Phase::Storm {
            if self.asked.is_none() {
                self.ask(base);
            }
            if let Some((_, shard)) = self.home {
                self.owner.work(base, &mut self.link, shard);
            }
        } else if self.asked.is_none() {
            self.ask_to_close(base);
            let is_known = self.begun.values().all(|vain| *vain > 0);
            pause = if is_known { VAIN_PAUSE } else { pause };
        }
        self.link.work_at(base, base.now + pause);
    }

    fn ask(&mut self, base: &mut Base) {
        let Some(home) = self.home else { return self.ask_for_home(base) };
        let span = base.now / SPAN;
        let asked = match self.random.below(6) {
            0 => self.about_transaction(base, span),
            1 => self.about_key(base, span, home),
            2 => self.about_position(base, span, home),
            3 => self.about_settings(base, span),
            4 => self.about_name(base, span),
            _ => self.about_fence(base, span, home),
        };
        if let Some((stream, request, asked)) = asked {
            self.send(base, stream, request, asked);
        }
    }

    fn ask_for_home(&mut self, base: &mut Base) {
        let dedupe_plugin = PluginChoice(base.plan.keys_by_plugin.then(|| plugin("keys")));
        let create = TopicCreate {
            name: TOPIC.to_owned(),
            queues: 1,
            // No clock is set that far ahead.
            dedupe_window: Some(AgeLimit(DEDUPE_WINDOW_MS_MAX)),
            dedupe_plugin,
            ..TopicCreate::default()
        };
        self.send(base, 0, call(&create), Asked::Home);
    }

    fn send(&mut self, base: &mut Base, stream: u16, request: Request, mut asked: Asked) {
        let correlation = self.link.request(base, stream, request);
        if let Asked::Fence { is_replayed, .. } = &mut asked {
            *is_replayed = self.link.is_replayed;
        }
        let correlation = correlation.expect("it asks while it is connected");
        self.asked = Some((correlation, asked, base.now + PATIENCE));
    }

    pub(super) fn drain(&mut self, base: &mut Base) {
        self.begun.values_mut().for_each(|vain| *vain = 0);
        self.work(base);
    }

    /// Rolls back what it may have begun.
    fn ask_to_close(&mut self, base: &mut Base) {
        let open = self.begun.iter().filter(|(_, vain)| **vain < VAIN_MAX);
        let next = open.min_by_key(|(_, vain)| **vain).map(|(span, _)| *span);
        let Some(span) = next else { return };
        let (ask, transactions) = (transaction::Ask::Rollback, &mut base.objects.transactions);
        let ticket = self.closing.entry(span);
        let ticket = *ticket.or_insert_with(|| transactions.invoked(span, base.now, ask));
        let (stream, request, asked) = transacting(base, ticket, span, ask, false);
        self.send(base, stream, request, asked);
    }

    pub(super) fn lost(&mut self, base: &mut Base) {
        self.asked = None;
        (self.turn, self.going) = (None, None);
        self.owner.lost(base);
    }

    pub(super) fn receive(&mut self, base: &mut Base, session: SessionId, frame: ToClient) {
        match frame {
            ToClient::Reply(correlation, result) => {
                if self.owner.answered(base, correlation, &result) {
                    return;
                }
                let asked = self.asked.take_if(|(asked, ..)| *asked == correlation);
                if let Some((_, asked, _)) = asked {
                    self.answered(base, asked, result);
                }
            }
            ToClient::Deliver { deliver, .. } => {
                if self.owner.takes(base, &deliver) {
                    self.owner.die(base, self.link.client, session);
                }
            }
            ToClient::Ended(ended) => base.fail(|| format!("a clerk's group has ended: {ended:?}")),
            ToClient::TxCheck(check) => {
                base.fail(|| format!("a clerk is asked about {}", check.tx))
            }
        }
    }

    fn found_home(&mut self, base: &mut Base, result: Result<Reply, Refusal>) {
        match result {
            Ok(Reply::Call(_)) => {
                let find = Request::FindRoute(FindRoute { topics: vec![TOPIC.to_owned()] });
                self.send(base, 0, find, Asked::Route);
            }
            Ok(Reply::FindRoute(route)) => {
                let route = route.topics.into_iter().flatten().next();
                self.home = route.map(|route| (route.topic, route.shards[0]));
            }
            other => base.fail(|| format!("a clerk's topic: {other:?}")),
        }
    }
}

/// Whether a refusal leaves open what came of the request.
fn says_nothing(refusal: &Refusal) -> bool {
    let codes = [Code::LogFenced, Code::DiskFull, Code::Busy, Code::PluginNotRunning];
    codes.contains(&refusal.code)
}
