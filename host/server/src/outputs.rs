//! What a shard's outputs become: answers, deliveries, reads.
use std::sync::Arc;

use bytes::Bytes;
use yard_broker::{Event, PolicyQuestion, Reads, Ticket};
use yard_shard::{FetchPlan, Input, Output};
use yard_store::IndexRead;
use yard_transport::CONTROL;
use yard_wire::request::{Push, Reply};
use yard_wire::requests::Ended;
use yard_wire::{RecordPlace, ShardId};

use crate::deliver::{self, FetchJob, Job};
use crate::dispatch::METADATA;
use crate::find;
use crate::hub::{Hub, OWN_SESSION};
use crate::policy;
use crate::writer::Outputs;

/// The outputs of one shard.
pub(crate) struct ShardOutputs {
    /// The process.
    pub hub: Arc<Hub>,
    /// The shard.
    pub shard: ShardId,
}

impl ShardOutputs {
    fn read_labels(&self, ticket: Ticket, reads: Reads, plan: FetchPlan) {
        let (hub, shard) = (Arc::clone(&self.hub), usize::from(self.shard.0));
        let readers = self.hub.logs[shard].readers.clone();
        let read_labels = move || {
            let log = &hub.logs[shard];
            let disk = log.disk.as_ref();
            let read = |places: &[RecordPlace], each: &mut dyn FnMut(&[u8])| {
                log.cache.read(disk, places, each)
            };
            let found = plan.labels(disk, &reads, read);
            let (places, labels) = found.unwrap_or_else(|error| {
                tracing::error!(shard, %error, "what messages say could not be read");
                Default::default()
            });
            hub.inboxes[shard].put_first(Input::Labels { ticket, places, labels });
        };
        readers.spawn_on(read_labels, &self.hub.runtime);
    }

    fn read_index(&self, ticket: Ticket, read: IndexRead) {
        let (hub, shard) = (Arc::clone(&self.hub), usize::from(self.shard.0));
        let readers = self.hub.logs[shard].readers.clone();
        let read_index = move || {
            let places = yard_store::read::index(hub.logs[shard].disk.as_ref(), &read);
            let places = places.unwrap_or_else(|error| {
                tracing::error!(shard, %error, "the queue index could not be read");
                Vec::new()
            });
            hub.inboxes[shard].put_first(Input::Index { ticket, places });
        };
        readers.spawn_on(read_index, &self.hub.runtime);
    }
}

impl Outputs for ShardOutputs {
    fn group(&mut self, segment: u32, offset: u32, bytes: &Bytes) {
        let log = &self.hub.logs[usize::from(self.shard.0)];
        log.cache.put_group(segment, offset, bytes.clone());
    }

    fn put(&mut self, output: Output) {
        match output {
            Output::Reply { origin, result } if origin.session == OWN_SESSION => {
                self.hub.answer_fan_out(origin.correlation.0, result);
            }
            Output::Reply { origin, result: result @ Ok(Reply::Find(_)) } => {
                // It holds bodies: copying them into a frame is not for the writer.
                let hub = Arc::clone(&self.hub);
                self.hub.runtime.spawn(async move { hub.reply(origin, result) });
            }
            Output::Reply { origin, result } => self.hub.reply(origin, result),
            Output::Broadcast(change) => self.hub.broadcast(&change),
            Output::AskPolicy(asked) => match *asked {
                PolicyQuestion::Retry(asked) => policy::retry::ask(&self.hub, self.shard, asked),
                PolicyQuestion::Check(asked) => policy::check::ask(&self.hub, self.shard, asked),
            },
            Output::EnsureTopic { tenant, name } => {
                let metadata = self.hub.inbox(METADATA).expect("there is a shard");
                metadata.put_first(Input::Event(Event::EnsureTopic { tenant, name }));
            }
            Output::Notify { to, notice } => {
                let shard = self.hub.inbox(to).expect("a notice goes to one of the shards");
                shard.put_first(Input::Event(Event::Notice(notice)));
            }
            Output::TxCheck { session, check } => {
                if let Some(session) = self.hub.session(session.0) {
                    session.handle.push(CONTROL, &Push::TxCheck(check));
                }
            }
            Output::Deliver { session, subscription, topic, queue, items, asking } => {
                let shard = self.shard;
                let job = Job { shard, subscription, queue, items, topic, asking };
                deliver::deliver(&self.hub, session, job);
            }
            Output::Fetch { origin, from, first, end, bytes_max, plan } => {
                let shard = self.shard;
                let job = FetchJob { origin, shard, from, first, end, bytes_max, plan };
                deliver::fetch(&self.hub, job);
            }
            Output::ReadIndex { ticket, read } => self.read_index(ticket, read),
            Output::ReadLabels { ticket, reads, plan } => self.read_labels(ticket, reads, plan),
            Output::Find { asked, plan } => find::find(&self.hub, self.shard, asked, plan),
            Output::Seek { origin, first, end, plan } => {
                find::seek(&self.hub, self.shard, origin, (first, end), plan);
            }
            Output::Ended { session, subscription, why } => {
                if let Some(session) = self.hub.session(session.0) {
                    let ended = Ended { shard: self.shard, subscription, why };
                    session.handle.push(CONTROL, &Push::Ended(ended));
                }
            }
            Output::Io(_) | Output::WakeAt(_) => unreachable!("the writer keeps these itself"),
        }
    }
}
