//! Where topics are.
use crate::{ShardId, TopicId};

message! {
    /// Ask where topics are.
    pub struct FindRoute {
        /// Names of topics, at most [`crate::limits::ROUTE_TOPICS_MAX`]; none asks for the nodes
        /// alone.
        pub topics: Vec<String>,
    }

    /// Where the topics are that were asked for.
    pub struct Route {
        /// The brokers, with the shards that each leads.
        pub nodes: Vec<Node>,
        /// One answer a topic, in the order asked; `None` where the tenant has no such topic.
        pub topics: Vec<Option<TopicRoute>>,
    }

    /// One broker.
    pub struct Node {
        /// Number of the broker in its cluster.
        pub node: u32,
        /// Addresses at which clients reach it, `host:port`, best first.
        pub addresses: Vec<String>,
        /// Shards that it leads.
        pub shards: Vec<ShardId>,
    }

    /// One topic.
    pub struct TopicRoute {
        /// Its name.
        pub name: String,
        /// Its id, which the records of its messages carry.
        pub topic: TopicId,
        /// The shard of each queue, queue 0 first.
        pub shards: Vec<ShardId>,
        /// How many queues the topic was created with. Messages with an order group, a key or a
        /// dedupe key go to these, so that it stays in its queue when queues are added.
        pub created_queues: u16,
        /// Version of the metadata that says so; a higher one is newer.
        pub version: u64,
    }
}
