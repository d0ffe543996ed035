//! The broker's own upper bounds; those of the protocol are in `yard_wire::limits`.
use yard_wire::limits;

/// Index entries that a group's cursor asks for at once.
pub(crate) const PREFETCH_MAX: u32 = 256;
/// Messages of credit that are worth a delivery where a filter is asked: what it did not want gives
/// credit back in pieces, and a delivery for each piece would be judged, written and settled by
/// itself, the next one in smaller pieces. A quarter of what the subscription began with, if that
/// is less; of bytes likewise.
pub(crate) const CREDIT_PIECE: (u32, u32) = (PREFETCH_MAX, limits::DELIVER_BYTES_MAX as u32);
/// Smaller pieces of credit wait for more so long at most, in milliseconds.
pub(crate) const CREDIT_WAIT_MS: u64 = 2;
/// Unsettled messages of a group in one queue that were delivered before or are leased now; at
/// this many, no new ones are delivered until some are settled. So a consumer that sends
/// everything back does not make the broker remember a whole backlog.
pub(crate) const UNSETTLED_MAX: usize = 262_144;
/// Messages of a queue that are put in line behind those of their order groups, while members hold
/// order groups that could go on: others with credit get what is found among so many. Where
/// nothing can go on, because order groups wait or have stopped, [`UNSETTLED_MAX`] is the bound.
pub(crate) const ORDER_AHEAD_MAX: usize = 16_384;
/// Messages that become dead letters by one entry.
pub(crate) const BURIAL_MAX: u32 = 256;
/// Messages that are passed on to another topic by one entry.
pub(crate) const DRAIN_MAX: u32 = 1_000;
/// Queues of groups of which messages are read at a time to be passed on, 4 MiB of each at most.
pub(crate) const DRAIN_QUESTIONS_MAX: usize = 8;
/// How often it is looked whether a group has settled what was passed on, in milliseconds.
pub(crate) const RETURN_LOOK_MS: u64 = 100;
/// When a message could not become a dead letter, or not be passed on, it is tried again after
/// this, in milliseconds: its topic is not there yet, the index could not be read, or the disk is
/// full.
pub(crate) const ERRAND_RETRY_MS: u64 = 1_000;
/// Topics of one tenant up to which the system makes its own: it finds room where the tenant
/// has used all of its.
pub(crate) const SYSTEM_TOPICS_MAX: usize = limits::TOPICS_MAX + limits::GROUPS_MAX;
/// Bytes of error texts that are kept for the messages of a group in one queue that came back, a
/// text counted for each message that has it; of those beyond, the text is not kept. Without texts
/// a message that came back takes some 80 bytes.
pub(crate) const ERRORS_BYTES_MAX: usize = 16 << 20;
/// Steps in one entry of a group's progress.
pub(crate) const STEPS_MAX: usize = 65_536;
/// Queues of groups that one tick looks after; the rest is looked after a millisecond later.
pub(crate) const TICK_QUEUES_MAX: usize = 4_096;
/// When the index could not be read, it is asked again after this, in milliseconds.
pub(crate) const LOCATE_RETRY_MS: u64 = 1_000;
/// A producer that is refused because the disk is nearly full asks again after this, in
/// milliseconds.
pub(crate) const DISK_FULL_WAIT_MS: u32 = 1_000;
/// While a topic's backlog is full, it is looked at again after this, in milliseconds: it costs a
/// look at every queue of every group of the topic.
pub(crate) const BACKLOG_LOOK_MS: u32 = 100;
/// Where the disk has no room for what a message's last attempt came to, it is delivered again
/// after this, in milliseconds.
pub(crate) const DEAD_RETRY_MS: u64 = 1_000;
/// Messages that failed and are asked about together.
pub(crate) const RETRY_ASK_MAX: usize = 256;
/// A plugin's answer about a message that failed, or about a transaction, counts for so long, in
/// milliseconds.
pub(crate) const POLICY_ANSWER_MS_MAX: u64 = 5_000;
/// Messages that have stopped order groups that one list tells of, in each shard.
pub(crate) const STOPPED_ROWS_MAX: usize = 1_000;
/// Ranges of dead letters that one list tells of.
pub(crate) const DLQ_ROWS_MAX: usize = 1_000;
/// Ranges of dead letters of one queue that were dealt with and lie apart: some 40 bytes each.
pub(crate) const DLQ_RANGES_MAX: usize = 262_144;
/// Tenants of an installation.
pub(crate) const TENANTS_MAX: usize = 10_000;
/// Queues of one tenant's topics, added up.
pub(crate) const TOPIC_QUEUES_MAX: usize = 1_000_000;
/// Queues of one tenant's groups in one shard, added up: each may come to hold progress.
pub(crate) const GROUP_QUEUES_MAX: usize = 1_000_000;
/// Queues of groups that one report looks at: some milliseconds, in which nobody else is served.
pub(crate) const REPORT_QUEUES_MAX: usize = 65_536;
/// Bytes of a remark on a topic.
pub(crate) const NOTE_BYTES_MAX: usize = 1_024;
/// Bytes of an operation's result, so that it fits a frame.
pub(crate) const RESULT_BYTES_MAX: usize = 4 << 20;
/// Places of earlier batches that a shard remembers for duplicates, over all producers. About
/// 100 MiB.
pub(crate) const ANSWERS_PLACED_MAX: usize = 4_000_000;
/// Dedupe keys that a shard remembers: some 170 bytes of memory each.
pub(crate) const DEDUPE_KEYS_MAX: usize = 4_000_000;
/// Those of one tenant.
pub(crate) const DEDUPE_KEYS_OF_TENANT_MAX: usize = 2_000_000;
/// Business keys that a shard remembers of all groups of one tenant, some 170 bytes of memory each;
/// beyond that the group that settles more forgets its oldest.
pub(crate) const SETTLED_KEYS_OF_TENANT_MAX: usize = 2_000_000;
/// Messages of a queue that wait because their business keys are in somebody's hands; at this many
/// no others are looked at until one of those is settled, or its lease ends.
pub(crate) const KEYS_BEHIND_MAX: usize = 16_384;
/// A producer that is refused because no more keys can be remembered asks again after this, in
/// milliseconds.
pub(crate) const DEDUPE_WAIT_MS: u32 = 1_000;
/// Keys that were remembered for long enough are looked for at this interval, in milliseconds,
pub(crate) const SWEEP_MS: u64 = 10_000;
/// in so many topics, and so many groups, at a time,
pub(crate) const SWEEP_OWNERS_MAX: usize = 4_096;
/// and so many are forgotten at a time.
pub(crate) const FORGOTTEN_MAX: usize = 65_536;
/// Events of traced messages of one tenant that are noted in one step of a shard; what is beyond is
/// left out.
pub(crate) const TRACE_NOTES_MAX: usize = 4_096;
/// And in one second: some 3 MB of the log, whatever share of its topics is traced.
pub(crate) const TRACE_NOTES_OF_SECOND_MAX: usize = 16_384;
/// Bytes of the text of such a note: with the rest it has some 1,300 at most, and 200 mostly.
pub(crate) const TRACE_DETAIL_BYTES_MAX: usize = 512;
/// Messages of a range that are looked at whether they are traced: more at once are settled by what
/// retention takes away only.
pub(crate) const TRACE_RANGE_MAX: u64 = limits::CREDIT_MESSAGES_MAX as u64;
/// A day in milliseconds.
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// The notes of a tenant are kept for so long, in milliseconds: 3 days,
pub(crate) const TRACE_RETAIN_MS: u64 = 3 * DAY_MS;
/// and so many bytes of them, over all shards: some 300,000.
pub(crate) const TRACE_RETAIN_BYTES: u64 = 64 << 20;
/// Where there is no topic for notes yet, it is asked for at this interval, in milliseconds.
pub(crate) const TRACE_ASK_MS: u64 = 1_000;
/// Lives that a shard looks for at once; one more ends the oldest.
pub(crate) const TRACES_ASKED_MAX: usize = 256;
/// Rows of one life; what is beyond is left out.
pub(crate) const TRACE_ROWS_MAX: usize = 2_000;
/// Delayed messages that wait in one shard: at most 200 bytes of memory each.
pub(crate) const DELAYED_MAX: u64 = 4_000_000;
/// Those of one tenant.
pub(crate) const DELAYED_OF_TENANT_MAX: u64 = 2_000_000;
/// Delayed messages that one tick releases; the rest is released a millisecond later.
pub(crate) const TICK_RELEASES_MAX: usize = 4_000;
/// What could not be released, on a full disk, is tried again after this, in milliseconds.
pub(crate) const RELEASE_RETRY_MS: u64 = 1_000;
/// Delayed messages that one list looks at: some milliseconds, in which nobody else is served.
pub(crate) const DELAY_SCAN_MAX: usize = 65_536;
/// Rows of one list of delayed messages.
pub(crate) const DELAY_ROWS_MAX: u32 = 1_000;
/// Prepared messages that wait in one shard for their transactions: at most 250 bytes of memory
/// each.
pub(crate) const PREPARED_MAX: u64 = 2_000_000;
/// Those of one tenant.
pub(crate) const PREPARED_OF_TENANT_MAX: u64 = 500_000;
/// Transactions that are open in one shard: at most 1 KiB of memory each.
pub(crate) const TX_OPEN_MAX: usize = 200_000;
/// Those of one tenant.
pub(crate) const TX_OPEN_OF_TENANT_MAX: usize = 50_000;
/// Outcomes that are remembered of a producer, so that the same decision is answered again.
pub(crate) const TX_OUTCOMES_MAX: usize = 1_024;
/// Producers of a tenant without an open transaction whose outcomes are remembered; the longest
/// silent is forgotten first.
pub(crate) const TX_PRODUCERS_MAX: usize = 1_024;
/// Checks of a transaction at most.
pub(crate) const TX_CHECKS_MAX: u16 = 1_000;
/// Rows of one list of transactions.
pub(crate) const TX_ROWS_MAX: u32 = 1_000;
/// Transactions that one list looks at: some milliseconds, in which nobody else is served.
pub(crate) const TX_SCAN_MAX: usize = 65_536;
/// Transactions that one tick looks after; the rest is looked after a millisecond later.
pub(crate) const TICK_TX_MAX: usize = 1_000;
/// What a shard was told about a transaction and has not answered is told again after this, in
/// milliseconds.
pub(crate) const NOTICE_RETRY_MS: u64 = 1_000;
/// A shard with prepared messages asks for the decision after this, in milliseconds: told it is by
/// itself, so that this is for what came late or was lost.
pub(crate) const ASK_MS: u64 = 10_000;
/// And again after this, in milliseconds, while the transaction is open.
pub(crate) const ASK_AGAIN_MS: u64 = 60_000;
/// And after this, where the coordinator does not know it: a tenant can send many such.
pub(crate) const ORPHAN_ASK_MS: u64 = 600_000;
/// Producer groups of one connection in one shard.
pub(crate) const JOINED_GROUPS_MAX: usize = 64;
/// In debug builds the whole state is checked again when events that looked at so many things each
/// would have looked at all of it: a check costs an event the same however large the state is,
const CHECKED_OF_EVENT: u64 = 2;
/// and it comes after so many events at the latest.
const CHECKED_EVERY_EVENTS: u64 = 16_384;
/// Groups of which the size is looked at.
pub(crate) const SIZED_GROUPS_MAX: usize = 512;

/// After how many events a state of this size is checked again.
pub(crate) fn events_until_check(size: u64) -> u64 {
    (size / CHECKED_OF_EVENT).clamp(1, CHECKED_EVERY_EVENTS)
}

/// Bytes of one encoded step.
const STEP_BYTES_MAX: usize = 43;
/// Bytes of the step of one acked message, and of its business key.
const KEYED_STEP_BYTES: usize = 19 + 26;

const _: () = {
    // A settle request makes at most one step for each message, so it is one entry, all or none.
    assert!(STEPS_MAX >= limits::CREDIT_MESSAGES_MAX as usize);
    let errors_max = limits::SETTLE_ERRORS_BYTES_MAX + 4 * limits::SETTLE_RANGES_MAX;
    assert!(STEPS_MAX * STEP_BYTES_MAX + errors_max + 64 <= limits::BATCH_BYTES_MAX);
    assert!(STEPS_MAX * KEYED_STEP_BYTES + errors_max + 64 <= limits::BATCH_BYTES_MAX);
    assert!(KEYS_BEHIND_MAX + (PREFETCH_MAX as usize) < UNSETTLED_MAX);
    assert!(SETTLED_KEYS_OF_TENANT_MAX as u64 > limits::DEDUPE_COUNT_MAX, "a group has its window");
    assert!(DLQ_RANGES_MAX > STEPS_MAX, "one request can be done");
    assert!(ORDER_AHEAD_MAX + (PREFETCH_MAX as usize) < UNSETTLED_MAX);
    assert!(BURIAL_MAX as usize <= limits::RELEASES_MAX);
    assert!(DRAIN_MAX as usize <= limits::RELEASES_MAX);
    assert!(RESULT_BYTES_MAX + 1_024 < limits::FRAME_BYTES_MAX);
    assert!(UNSETTLED_MAX >= limits::CREDIT_MESSAGES_MAX as usize);
    // A tenant has as many topics as it may when nobody says how many queues.
    assert!(TOPIC_QUEUES_MAX >= limits::TOPICS_MAX * limits::QUEUES_DEFAULT as usize);
    // A group of the largest topic can be looked at.
    assert!(REPORT_QUEUES_MAX >= limits::QUEUES_MAX as usize);
    // An id (32 digits), a place (48) and a name of a topic fit thrice.
    assert!(DELAY_ROWS_MAX as usize * 1_024 <= RESULT_BYTES_MAX);
    assert!(DELAYED_OF_TENANT_MAX < DELAYED_MAX, "one tenant does not fill a shard");
    assert!(PREPARED_OF_TENANT_MAX < PREPARED_MAX, "one tenant does not fill a shard");
    assert!(TX_OPEN_OF_TENANT_MAX < TX_OPEN_MAX, "one tenant does not fill a shard");
    // A name (47 digits), a group and a note fit thrice; messages have an id and a topic.
    assert!(TX_ROWS_MAX as usize * 2_048 <= RESULT_BYTES_MAX);
    assert!(limits::TX_MESSAGES_MAX <= limits::RELEASES_MAX);
    assert!(DEDUPE_KEYS_OF_TENANT_MAX < DEDUPE_KEYS_MAX, "one tenant does not fill a shard");
    // Three names (127 bytes each), an id and numbers stand beside the text.
    assert!(TRACE_NOTES_MAX <= limits::BATCH_RECORDS_MAX);
    assert!(TRACE_NOTES_MAX * (TRACE_DETAIL_BYTES_MAX + 600) <= limits::BATCH_BYTES_MAX);
    assert!(TRACE_ROWS_MAX * (TRACE_DETAIL_BYTES_MAX + 600) <= RESULT_BYTES_MAX);
    assert!(DEDUPE_KEYS_OF_TENANT_MAX as u64 > limits::DEDUPE_COUNT_MAX, "a topic has its window");
};
