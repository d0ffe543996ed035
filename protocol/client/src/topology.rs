//! Which nodes there are, which shards each leads, and the way to each.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use yard_wire::requests::Node;
use yard_wire::{Code, ShardId};

use crate::Error;
use crate::connection::Connection;
use crate::link::{Dialer, Link, PathReport};

#[derive(Debug, Default)]
struct State {
    links: BTreeMap<u32, Arc<Link>>,
    leaders: BTreeMap<ShardId, u32>,
}

/// The nodes as the newest route shows them.
#[derive(Debug)]
pub(crate) struct Topology {
    dialer: Arc<Dialer>,
    /// The address that worked first: a node that cannot be reached where it says it is may be
    /// reached there.
    bootstrap: String,
    state: Mutex<State>,
}

impl Topology {
    pub(crate) fn new(dialer: Arc<Dialer>, bootstrap: String) -> Self {
        Self { dialer, bootstrap, state: Mutex::default() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned state is a whole one.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in a route. `first` is the connection that it came over, the first time.
    pub(crate) fn update(&self, nodes: &[Node], mut first: Option<Arc<Connection>>, seed: u64) {
        self.with(|state| {
            if nodes.is_empty() {
                return;
            }
            state.links.retain(|number, _| nodes.iter().any(|node| node.node == *number));
            state.leaders.clear();
            for node in nodes {
                state.leaders.extend(node.shards.iter().map(|shard| (*shard, node.node)));
                let mut addresses = node.addresses.clone();
                let is_first = nodes.len() == 1 || addresses.contains(&self.bootstrap);
                if nodes.len() == 1 && !addresses.contains(&self.bootstrap) {
                    addresses.push(self.bootstrap.clone());
                }
                match state.links.get(&node.node) {
                    Some(link) => link.set_addresses(addresses),
                    None => {
                        let connection = first.take_if(|_| is_first);
                        let seed = seed ^ u64::from(node.node);
                        let link = Link::start(self.dialer.clone(), addresses, connection, seed);
                        state.links.insert(node.node, Arc::new(link));
                    }
                }
            }
        });
    }

    /// The way to the node that leads a shard; to any node where the leader is not known.
    pub(crate) fn link(&self, shard: ShardId) -> Result<Arc<Link>, Error> {
        self.with(|state| {
            let leader = state.leaders.get(&shard).and_then(|node| state.links.get(node));
            leader.or_else(|| state.links.values().next()).cloned()
        })
        .ok_or_else(|| Error::new(Code::Closed, "the client was closed"))
    }

    pub(crate) fn paths(&self) -> Vec<PathReport> {
        self.with(|state| state.links.values().map(|link| link.report()).collect())
    }

    pub(crate) fn clear(&self) {
        self.with(|state| *state = State::default());
    }
}
