//! Every upper bound of the protocol, with the relations between them.

/// Bytes of a message's body. Source: RocketMQ's default `maxMessageSize`.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of a message's properties, names, values and their lengths included.
pub const PROPERTIES_BYTES_MAX: usize = 64 << 10;
/// Properties of a message, keys, order group and the like included.
pub const PROPERTIES_MAX: usize = 1_024;
/// Bytes of a tag.
pub const TAG_BYTES_MAX: usize = 255;
/// Bytes of the name of a topic, a group or a tenant. Source: RocketMQ's topic limit.
pub const NAME_BYTES_MAX: usize = 127;
/// Bytes of any other text in a request.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Records of one batch.
pub const BATCH_RECORDS_MAX: usize = 16_384;
/// Releases of one entry of the log.
pub const RELEASES_MAX: usize = 1_000;
/// Bytes of the notes that one release adds to a record, names, values and lengths included.
pub const NOTES_BYTES_MAX: usize = 4 << 10;
/// How far away the delivery of a message may be, in milliseconds: 400 days.
pub const DELAY_MS_MAX: u64 = 400 * 24 * 60 * 60 * 1_000;
/// Bytes of a dedupe key.
pub const DEDUPE_KEY_BYTES_MAX: usize = 256;
/// For how long the dedupe keys of a topic are remembered, in milliseconds: at least this,
pub const DEDUPE_WINDOW_MS_MIN: u64 = 1_000;
/// at most this: 7 days,
pub const DEDUPE_WINDOW_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;
/// and this when nobody says otherwise: an hour.
pub const DEDUPE_WINDOW_MS_DEFAULT: u64 = 60 * 60 * 1_000;
/// Dedupe keys of a topic that are remembered, at most.
pub const DEDUPE_COUNT_MAX: u64 = 1_000_000;
/// The same when nobody says otherwise.
pub const DEDUPE_COUNT_DEFAULT: u64 = 100_000;
/// Bytes of one batch, header included.
pub const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX - 64;
/// Bytes of one frame, header included, once a connection has said hello.
pub const FRAME_BYTES_MAX: usize = 5 << 20;
/// Bytes of one frame before the hello: an unknown peer costs no more.
pub const FRAME_BYTES_MAX_BEFORE_HELLO: usize = 4 << 10;
/// Queues of a topic. Source: RocketMQ's largest system topic.
pub const QUEUES_MAX: u16 = 1_024;
/// Queues of a topic when nobody says otherwise.
pub const QUEUES_DEFAULT: u16 = 8;
/// Topics of one tenant.
pub const TOPICS_MAX: usize = 100_000;
/// Groups of one tenant in one shard.
pub const GROUPS_MAX: usize = 100_000;
/// Data streams of one connection, and so lanes of one producer in one shard.
pub const LANES_MAX: u16 = 32;
/// Shards of one broker.
pub const SHARDS_MAX: u16 = 64;
/// Batches that a lane may have in flight. The broker remembers the answers of as many.
pub const LANE_BATCHES_IN_FLIGHT_MAX: usize = 64;
/// Producers whose numbering a shard remembers; the longest silent is forgotten first.
pub const PRODUCERS_MAX: usize = 100_000;
/// Subscriptions of one connection in one shard.
pub const SUBSCRIPTIONS_MAX: usize = 1_024;
/// Messages of credit that a subscription may hold.
pub const CREDIT_MESSAGES_MAX: u32 = 65_536;
/// Bytes of credit that a subscription may hold.
pub const CREDIT_BYTES_MAX: u32 = 64 << 20;
/// Bytes of records in one deliver frame, unless a single record is larger.
pub const DELIVER_BYTES_MAX: usize = 256 << 10;
/// Records in one deliver frame.
pub const DELIVER_RECORDS_MAX: usize = 1_024;
/// Ranges in one settle request.
pub const SETTLE_RANGES_MAX: usize = 4_096;
/// Bytes of records in one fetch reply, unless a single record is larger.
pub const FETCH_BYTES_MAX: u32 = 4 << 20;
/// Records in one fetch reply.
pub const FETCH_RECORDS_MAX: u32 = 16_384;
/// Bytes of records in one answer to a search, unless a single record is larger.
pub const FIND_BYTES_MAX: u32 = 512 << 10;
/// Records in one answer to a search.
pub const FIND_RECORDS_MAX: u32 = 1_024;
/// Shortest lease, in milliseconds.
pub const LEASE_MS_MIN: u32 = 1_000;
/// Longest lease, in milliseconds. Source: RocketMQ's largest invisible time, 12 hours.
pub const LEASE_MS_MAX: u32 = 12 * 60 * 60 * 1_000;
/// Lease when the consumer names none, in milliseconds.
pub const LEASE_MS_DEFAULT: u32 = 30_000;
/// Deliveries of a message to a group that names no number, the first included. Source: RocketMQ,
/// 16 retries.
pub const ATTEMPTS_DEFAULT: u32 = 17;
/// Delays in a list of a retry policy.
pub const RETRY_DELAYS_MAX: usize = 64;
/// How long a message of an ordered topic that failed waits unless set, in milliseconds. Source:
/// RocketMQ, `suspendCurrentQueueTimeMillis`.
pub const ORDER_RETRY_MS_DEFAULT: u32 = 1_000;
/// Longest delay of a retry policy, in milliseconds: 30 days.
pub const RETRY_DELAY_MS_MAX: u32 = 30 * 24 * 60 * 60 * 1_000;
/// Bytes of the error text of a nack or reject.
pub const ERROR_TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of all error texts of a settle request.
pub const SETTLE_ERRORS_BYTES_MAX: usize = 1 << 20;
/// Bytes that a packed body may become: as many as a body that was never packed may have.
pub const UNPACKED_BYTES_MAX: usize = BODY_BYTES_MAX;
/// How many times as large as it is a packed body may become.
pub const UNPACK_RATIO_MAX: usize = 1_024;
/// Highest priority of a message; 0 is the lowest. Source: RocketMQ's RIP-80.
pub const PRIORITY_MAX: u8 = 9;
/// Topics in one route request.
pub const ROUTE_TOPICS_MAX: usize = 1_000;
/// Bytes of the note of a transaction.
pub const TX_NOTE_BYTES_MAX: usize = 255;
/// Prepared messages of one transaction in one shard: one entry of the log makes them visible.
pub const TX_MESSAGES_MAX: usize = RELEASES_MAX;
/// Shortest time between two checks of a transaction, in milliseconds.
pub const CHECK_MS_MIN: u32 = 100;
/// Longest time between two checks of a transaction, in milliseconds: a day.
pub const CHECK_MS_MAX: u32 = 24 * 60 * 60 * 1_000;
/// Bytes of the text of a filter expression.
pub const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// Bytes of a plugin's WebAssembly. Source: what a plugin written in a compiled language needs, ten
/// times and more; it fits one request.
pub const PLUGIN_BYTES_MAX: usize = 4 << 20;
/// Bytes of all plugins of one tenant, every version of each.
pub const PLUGIN_TENANT_BYTES_MAX: u64 = 32 << 20;
/// Bytes of all plugins of a broker: they are part of the state that is saved with the metadata.
pub const PLUGIN_TOTAL_BYTES_MAX: u64 = 256 << 20;
/// Plugins of one tenant.
pub const PLUGINS_MAX: usize = 1_000;
/// Versions that are kept of a plugin.
pub const PLUGIN_VERSIONS_MAX: usize = 32;
/// Bytes of what is written to name a plugin of a topic or a group, with its settings.
pub const PLUGIN_USE_BYTES_MAX: usize = 4 << 10;
/// Settings of a plugin of a topic or a group.
pub const PLUGIN_SETTINGS_MAX: usize = 32;
/// Keys that a tenant trusts.
pub const PLUGIN_KEYS_MAX: usize = 32;
/// A peer that is silent for this long is dead, in milliseconds.
pub const IDLE_MS_DEFAULT: u32 = 30_000;

const _: () = {
    let record_max =
        crate::record::HEADER_BYTES + TAG_BYTES_MAX + PROPERTIES_BYTES_MAX + BODY_BYTES_MAX;
    // The largest record fits the largest batch, and the largest batch fits a frame.
    assert!(record_max + crate::batch::HEADER_BYTES <= BATCH_BYTES_MAX);
    assert!(BATCH_BYTES_MAX + crate::frame::HEADER_BYTES + 16 <= FRAME_BYTES_MAX);
    assert!(FETCH_BYTES_MAX as usize + crate::frame::HEADER_BYTES < FRAME_BYTES_MAX);
    // A single record larger than a reply's budget still fits the frame that carries it.
    assert!(record_max + 64 + crate::frame::HEADER_BYTES <= FRAME_BYTES_MAX);
    // So does an answer to a search, whose messages have the name of their topic each.
    let named = FIND_RECORDS_MAX as usize * (NAME_BYTES_MAX + 64);
    assert!(record_max + named + crate::frame::HEADER_BYTES <= FRAME_BYTES_MAX);
    assert!(FIND_BYTES_MAX as usize <= record_max);
    assert!(FRAME_BYTES_MAX_BEFORE_HELLO < FRAME_BYTES_MAX);
    assert!(QUEUES_DEFAULT <= QUEUES_MAX);
    assert!(LEASE_MS_MIN <= LEASE_MS_DEFAULT && LEASE_MS_DEFAULT <= LEASE_MS_MAX);
    // A property's length and a tag's length are written in 16 bits.
    assert!(PROPERTIES_BYTES_MAX <= 1 << 16 && TAG_BYTES_MAX < 1 << 16);
    assert!(DELIVER_BYTES_MAX <= CREDIT_BYTES_MAX as usize);
    assert!(ERROR_TEXT_BYTES_MAX <= SETTLE_ERRORS_BYTES_MAX);
    assert!(ERROR_TEXT_BYTES_MAX <= PROPERTIES_BYTES_MAX / 2 && ERROR_TEXT_BYTES_MAX < 1 << 16);
    // A plugin with its signature and name is one request.
    assert!(PLUGIN_BYTES_MAX + 4_096 <= FRAME_BYTES_MAX);
    assert!(PLUGIN_BYTES_MAX as u64 <= PLUGIN_TENANT_BYTES_MAX);
};
