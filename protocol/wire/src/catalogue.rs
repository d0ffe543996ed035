//! The verbs of the command line: every operation, and what a client composes of requests.
use crate::operation::{Field, Operation, Presence, Risk};
use crate::request::Right;

/// How a verb is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// By one call of an operation.
    Operation(Operation),
    /// By the program, out of requests or without a broker.
    Program(Program),
}

/// A verb that is more than one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Measure a broker beside the limits of the machine.
    Bench,
    /// Choose the context that later commands use.
    ContextUse,
    /// List saved contexts.
    ContextLs,
    /// Everything in one process, to try it.
    Dev,
    /// Drop dead letters.
    DlqDrop,
    /// Show dead letters.
    DlqPeek,
    /// Send dead letters again.
    DlqResend,
    /// Show the page of an error code.
    Explain,
    /// Read from an offset.
    Fetch,
    /// Let a group go on from elsewhere.
    GroupSeek,
    /// Copy the logs of a data folder.
    LogBackup,
    /// Show what lies in a log.
    LogDump,
    /// Put right what follows from a log.
    LogRepair,
    /// Make a data folder out of a backup.
    LogRestore,
    /// Check every byte of a log.
    LogVerify,
    /// Show a message by its id.
    MsgShow,
    /// Measure a plugin.
    PluginBench,
    /// Build a plugin.
    PluginBuild,
    /// Begin a plugin.
    PluginNew,
    /// Try a filter on what a topic holds.
    PluginReplay,
    /// Try a plugin's examples.
    PluginTest,
    /// Send lines.
    Pub,
    /// Answer requests.
    Reply,
    /// Send a message and wait for the reply.
    Request,
    /// Run a script against a broker.
    Run,
    /// Run a broker.
    Serve,
    /// Run scripts line by line.
    Sh,
    /// Step through a run of the simulator.
    SimShow,
    /// Receive.
    Sub,
    /// Find messages by a key.
    TopicFind,
    /// Show one message of a queue.
    TopicPeek,
}

/// One verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// How it is carried out.
    pub runs: Runs,
    /// The words that call it, noun first.
    pub words: &'static [&'static str],
    /// What it does, in a sentence.
    pub help: &'static str,
    /// A command line that works.
    pub example: &'static str,
    /// The right that it needs at the broker.
    pub right: Right,
    /// What a mistake could cost.
    pub risk: Risk,
    /// Its arguments, in order.
    pub fields: &'static [Field],
}

/// Every verb: the composed ones, then the operations.
pub fn verbs() -> impl Iterator<Item = Verb> {
    COMPOSED.iter().copied().chain(Operation::ALL.iter().map(|operation| Verb {
        runs: Runs::Operation(*operation),
        words: operation.words(),
        help: operation.help(),
        example: operation.example(),
        right: operation.right(),
        risk: operation.risk(),
        fields: operation.fields(),
    }))
}

const fn arg(
    name: &'static str,
    kind: &'static str,
    presence: Presence,
    help: &'static str,
) -> Field {
    Field { name, help, kind, presence }
}

use Presence::{Default, Optional, Required, Rest, Switch};

const PLUGIN_MESSAGES: Field = arg(
    "messages",
    "FILE",
    Optional,
    "Messages, a JSON object a line with tag, properties, body, as in examples of a manifest.",
);
const PLUGIN_FILTER: Field =
    arg("filter", "TEXT", Optional, "The expression that the plugin is given.");
const PLUGIN_DIALECT: Field =
    arg("dialect", "DIALECT", Optional, "The setting `dialect`, where the plugin has one.");
const DLQ_TAG: Field = arg("tag", "TAG", Optional, "With this tag only.");
const DLQ_KEY: Field = arg("key", "KEY", Optional, "With this key only.");
const DLQ_REASON: Field = arg(
    "reason",
    "REASON",
    Optional,
    "Only those that are there for: rejected, failed, \
        lease-ended, poisoned, policy.",
);
const DLQ_FROM: Field =
    arg("from", "TIME|AGE", Optional, "Dead since then or later: 2013-01-01T10:00:00Z or 2h.");
const DLQ_TO: Field = arg("to", "TIME|AGE", Optional, "Dead before then.");

const COMPOSED: &[Verb] = &[
    Verb {
        runs: Runs::Program(Program::Dev),
        words: &["dev"],
        help: "Run a broker, a producer and a live tail in one process, to try it.",
        example: "yard dev",
        right: Right::Connect,
        risk: Risk::Adds,
        fields: &[
            arg("data", "DIR", Optional, "Keep the data here instead of in a temporary folder."),
            arg("listen", "ADDR", Default("127.0.0.1:7420"), "Address to listen on."),
            arg("rate", "NUMBER", Default("5"), "Messages a second of the demo producer."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Serve),
        words: &["serve"],
        help: "Run a broker.",
        example: "yard serve --dev --data ./data",
        right: Right::Connect,
        risk: Risk::Adds,
        fields: &[
            arg("config", "FILE", Optional, "Settings, TOML. Environment and flags override it."),
            arg("data", "DIR", Optional, "Folder of the logs and of what the broker keeps."),
            arg("listen", "ADDR", Optional, "Address to listen on."),
            arg("advertise", "ADDR", Optional, "Address that clients are told to connect to."),
            arg("shards", "NUMBER", Optional, "Commit logs, 1 to 64; fixed by the first start."),
            arg("segment_bytes", "SIZE", Optional, "Size of a log segment, for example 64MiB."),
            arg("dev", "", Switch, "Make authority and certificates under the data folder."),
            arg(
                "plugins_require_signed",
                "",
                Switch,
                "Take plugins only when they are signed by a key that their tenant trusts.",
            ),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Pub),
        words: &["pub"],
        help: "Send lines as messages.",
        example: "yard pub orders --from orders.ndjson --key .id --tag .kind",
        right: Right::Produce,
        risk: Risk::Adds,
        fields: &[
            arg("topic", "TOPIC", Required, "Topic to send to."),
            arg("message", "TEXT", Optional, "Send this one message; not with --from."),
            arg("from", "FILE|-", Default("-"), "File of lines, .gz read as it is; - is stdin."),
            arg("rate", "NUMBER", Optional, "Messages a second; as fast as possible without."),
            arg("tag", "TEXT|.FIELD", Optional, "Tag of the messages, or the field it is in."),
            arg("key", "TEXT|.FIELD", Optional, "Key of the messages, or the field it is in."),
            arg("order", "TEXT|.FIELD", Optional, "Order group, or the field it is in."),
            arg(
                "dedupe",
                ".FIELD,...",
                Optional,
                "Fields that make messages the same: stored once.",
            ),
            arg("props", "all|a,b", Optional, "Fields that become properties; null is left out."),
            arg("queue", "NUMBER", Optional, "Send to this queue only."),
            arg(
                "delay",
                "DELAY",
                Optional,
                "Deliver so much later: 30s, or level:3 of RocketMQ's.",
            ),
            arg("at", "TIME", Optional, "Deliver then: 2026-12-24T18:00:00Z; not with --delay."),
            arg(
                "ack",
                "LEVEL",
                Default("synced"),
                "memory, written or synced, then +quorum, +all.",
            ),
            arg(
                "streams",
                "NUMBER",
                Optional,
                "Data streams to spread the work over; without, 1 and more as packets are lost.",
            ),
            arg("timeout", "DURATION", Default("2m"), "How long each message is tried again."),
            arg("compress", "lz4|zstd", Optional, "Pack bodies of 4 KiB and more, if that helps."),
            arg("priority", "NUMBER", Optional, "0 to 9: chooses among the topic's queues."),
            arg("expires", "DURATION", Optional, "Nobody wants the messages after this any more."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Request),
        words: &["request"],
        help: "Send a message and wait for the reply to it.",
        example: "yard request quotes how-much --timeout 2s",
        right: Right::Produce,
        risk: Risk::Adds,
        fields: &[
            arg("topic", "TOPIC", Required, "Topic to send to."),
            arg("message", "TEXT", Required, "Body of the message."),
            arg("key", "TEXT", Optional, "Key of the message."),
            arg("tag", "TEXT", Optional, "Tag of the message."),
            arg("timeout", "DURATION", Default("5s"), "How long the reply is waited for."),
            arg("raw", "", Switch, "Print the body of the reply only."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Reply),
        words: &["reply"],
        help: "Answer requests, each with its own body or with the same text.",
        example: "yard reply quotes --message 42",
        right: Right::Consume,
        risk: Risk::Changes,
        fields: &[
            arg("topic", "TOPIC", Required, "Topic that the requests are sent to."),
            arg("group", "GROUP", Default("replies"), "Group that shares the requests."),
            arg("message", "TEXT", Optional, "Body of each reply; without, that of the request."),
            arg("count", "NUMBER", Optional, "End after this many replies."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Sub),
        words: &["sub"],
        help: "Receive messages for a group and acknowledge them.",
        example: "yard sub orders --group billing --from earliest",
        right: Right::Consume,
        risk: Risk::Changes,
        fields: &[
            arg("topic", "TOPIC", Required, "Topic to receive from."),
            arg("group", "GROUP", Optional, "Group to receive for; without, one of its own."),
            arg("broadcast", "MEMBER", Optional, "Get every message, as this member of the group."),
            arg(
                "drop_failed",
                "",
                Switch,
                "With --broadcast: what cannot be printed does not come again.",
            ),
            arg("exclusive", "", Switch, "Have queues of its own, as all members of the group."),
            arg(
                "from",
                "WHERE",
                Default("latest"),
                "Start of a new group: earliest, latest, \
                an offset, a time (2013-01-01T10:00:00Z), or an age (15m).",
            ),
            arg("filter", "TEXT", Optional, "Receive only messages that this expression wants."),
            arg(
                "dialect",
                "DIALECT",
                Default("sql"),
                "Language of the filter: tag, sql, sql-rocketmq, or plugin for NAME(ARGUMENTS).",
            ),
            arg("until_end", "", Switch, "End when the group has settled what is there now."),
            arg("raw", "", Switch, "Print bodies only, a line each."),
            arg("count", "NUMBER", Optional, "End after this many messages."),
            arg("lease", "DURATION", Default("30s"), "How long a message may be held."),
            arg(
                "streams",
                "NUMBER",
                Optional,
                "Data streams to spread the work over; without, 1 and more as packets are lost.",
            ),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Fetch),
        words: &["fetch"],
        help: "Read messages of a queue from an offset on, without a group.",
        example: "yard fetch orders --queue 3 --from 1000 --count 10",
        right: Right::Read,
        risk: Risk::Reads,
        fields: &[
            arg("topic", "TOPIC", Required, "Topic to read."),
            arg("queue", "NUMBER", Default("0"), "Queue to read."),
            arg("from", "OFFSET", Default("0"), "Offset of the first message."),
            arg("time", "TIME|AGE", Optional, "Begin at what was stored then; not with --from."),
            arg("count", "NUMBER", Default("10"), "Messages at most."),
            arg("raw", "", Switch, "Print bodies only, a line each."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::GroupSeek),
        words: &["group", "seek"],
        help: "Let a group go on from elsewhere; it is created if it does not exist.",
        example: "yard group seek billing orders --to 2h --plan",
        right: Right::Manage,
        risk: Risk::Changes,
        fields: &[
            arg("group", "GROUP", Required, "Name of the group."),
            arg("topic", "TOPIC", Required, "Name of the topic."),
            arg(
                "to",
                "WHERE",
                Optional,
                "earliest, latest, an offset, a time (2013-01-01T10:00:00Z), or an age (15m).",
            ),
            arg("like", "GROUP", Optional, "Where another group is."),
            arg("skip", "NUMBER", Optional, "So many messages further on in each queue."),
            arg("queue", "NUMBER", Optional, "In this queue only."),
            arg("plan", "", Switch, "Show what would change, and change nothing."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::MsgShow),
        words: &["msg", "show"],
        help: "Show the message with an id, wherever it is.",
        example: "yard msg show 018f3a5c7e9b00112233445566778899",
        right: Right::Read,
        risk: Risk::Reads,
        fields: &[
            arg("id", "ID", Required, "Id of the message: 32 hexadecimal digits."),
            arg("raw", "", Switch, "Print the body only."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::TopicFind),
        words: &["topic", "find"],
        help: "Find messages of a topic by one of their keys.",
        example: "yard topic find orders --key order-17 --from 2h",
        right: Right::Read,
        risk: Risk::Reads,
        fields: &[
            arg("topic", "TOPIC", Required, "Topic to look in."),
            arg("key", "KEY", Optional, "The key, as it was sent; must be given."),
            arg("from", "TIME|AGE", Optional, "Stored then or later: 2013-01-01T10:00:00Z or 2h."),
            arg("to", "TIME|AGE", Optional, "Stored before then."),
            arg("after", "CURSOR", Optional, "Go on where an earlier search said that it ended."),
            arg("count", "NUMBER", Default("100"), "Messages at most."),
            arg("raw", "", Switch, "Print bodies only, a line each."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::TopicPeek),
        words: &["topic", "peek"],
        help: "Show one message of a queue, without a group.",
        example: "yard topic peek orders --queue 3 --time 15m",
        right: Right::Read,
        risk: Risk::Reads,
        fields: &[
            arg("topic", "TOPIC", Required, "Topic to read."),
            arg("queue", "NUMBER", Default("0"), "Queue to read."),
            arg("offset", "OFFSET", Optional, "Offset of the message; this or --time."),
            arg("time", "TIME|AGE", Optional, "The first stored then or later; this or --offset."),
            arg("raw", "", Switch, "Print the body only."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Sh),
        words: &["sh"],
        help: "Open the console: scripts against a broker, line by line.",
        example: "yard sh -c topics()",
        right: Right::Connect,
        risk: Risk::Removes,
        fields: &[
            arg(
                "c",
                "SCRIPT",
                Optional,
                "Run this script and end; without, stdin where it is piped.",
            ),
            arg("dry", "", Switch, "Show what plans would do, and do nothing."),
            arg("i_mean_it", "", Switch, "Let a plan remove more than one thing."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Run),
        words: &["run"],
        help: "Run a script of the console; what follows FILE are the script's own arguments.",
        example: "yard run widen.rhai --topic orders --queues 32",
        right: Right::Connect,
        risk: Risk::Removes,
        fields: &[
            arg("file", "FILE", Required, "The script. It says in its head what it takes."),
            arg("dry", "", Switch, "Show what plans would do, and do nothing."),
            arg("i_mean_it", "", Switch, "Let a plan remove more than one thing."),
            arg("args", "ARGS", Rest, "Arguments of the script, for example --topic orders."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::DlqPeek),
        words: &["dlq", "peek"],
        help: "Show dead letters of a group that wait; nothing changes.",
        example: "yard dlq peek billing --reason failed --count 5",
        right: Right::Read,
        risk: Risk::Reads,
        fields: &[
            arg("group", "GROUP", Required, "Group whose dead letters they are."),
            DLQ_TAG,
            DLQ_KEY,
            DLQ_REASON,
            DLQ_FROM,
            DLQ_TO,
            arg("count", "NUMBER", Default("10"), "Messages at most."),
            arg("raw", "", Switch, "Print bodies only, a line each."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::DlqResend),
        words: &["dlq", "resend"],
        help: "Show how many dead letters would be sent again, or send them.",
        example: "yard dlq resend billing --reason failed --apply",
        right: Right::Manage,
        risk: Risk::Changes,
        fields: &[
            arg("group", "GROUP", Required, "Group whose dead letters they are."),
            DLQ_TAG,
            DLQ_KEY,
            DLQ_REASON,
            DLQ_FROM,
            DLQ_TO,
            arg("count", "NUMBER", Optional, "Messages at most; all of them without."),
            arg("topic", "TOPIC", Optional, "Send to this topic instead of their own."),
            arg("apply", "", Switch, "Do it; without, they are counted."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::DlqDrop),
        words: &["dlq", "drop"],
        help: "Show how many dead letters would be dropped, or drop them.",
        example: "yard dlq drop billing --tag test --apply",
        right: Right::Manage,
        risk: Risk::Removes,
        fields: &[
            arg("group", "GROUP", Required, "Group whose dead letters they are."),
            DLQ_TAG,
            DLQ_KEY,
            DLQ_REASON,
            DLQ_FROM,
            DLQ_TO,
            arg("count", "NUMBER", Optional, "Messages at most; all of them without."),
            arg("apply", "", Switch, "Do it; without, they are counted."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Bench),
        words: &["bench"],
        help: "Measure a broker, with the limits of the machine in the same run.",
        example: "yard bench produce --size 1024 --seconds 10",
        right: Right::Manage,
        risk: Risk::Adds,
        fields: BENCH,
    },
    Verb {
        runs: Runs::Program(Program::PluginNew),
        words: &["plugin", "new"],
        help: "Begin a plugin: a project that builds, tests and can be pushed.",
        example: "yard plugin new big-orders",
        right: Right::Connect,
        risk: Risk::Adds,
        fields: &[
            arg("name", "NAME", Required, "Name of the plugin, and of its new folder."),
            arg("sdk", "DIR", Optional, "Folder of the SDK; that of this program unless given."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::PluginBuild),
        words: &["plugin", "build"],
        help: "Build the plugin of a folder.",
        example: "yard plugin build --dir big-orders",
        right: Right::Connect,
        risk: Risk::Adds,
        fields: &[arg("dir", "DIR", Default("."), "Folder of the project.")],
    },
    Verb {
        runs: Runs::Program(Program::PluginTest),
        words: &["plugin", "test"],
        help: "Check a plugin as a push does, and try its examples, without a broker.",
        example: "yard plugin test big-orders.wasm --messages orders.jsonl",
        right: Right::Connect,
        risk: Risk::Reads,
        fields: &[
            arg("wasm", "FILE", Required, "The plugin."),
            PLUGIN_MESSAGES,
            PLUGIN_FILTER,
            PLUGIN_DIALECT,
        ],
    },
    Verb {
        runs: Runs::Program(Program::PluginBench),
        words: &["plugin", "bench"],
        help: "Measure what a message costs at each point of a plugin, without a broker.",
        example: "yard plugin bench big-orders.wasm --messages orders.jsonl",
        right: Right::Connect,
        risk: Risk::Reads,
        fields: &[
            arg("wasm", "FILE", Required, "The plugin."),
            PLUGIN_MESSAGES,
            PLUGIN_FILTER,
            PLUGIN_DIALECT,
            arg("rounds", "NUMBER", Default("9"), "Rounds, 1 to 1,000; the median counts."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::PluginReplay),
        words: &["plugin", "replay"],
        help: "Show what a filter would have decided about messages that a topic holds.",
        example: "yard plugin replay big-orders.wasm orders --since 24h",
        right: Right::Read,
        risk: Risk::Reads,
        fields: &[
            arg("wasm", "FILE", Required, "The plugin."),
            arg("topic", "TOPIC", Required, "Topic to read."),
            arg("since", "TIME|AGE", Optional, "Messages stored then or later; all without."),
            PLUGIN_FILTER,
            PLUGIN_DIALECT,
            arg(
                "against",
                "VERSION|none",
                Default("none"),
                "Version of the plugin at the broker to compare with, by its number.",
            ),
        ],
    },
    Verb {
        runs: Runs::Program(Program::ContextLs),
        words: &["context", "ls"],
        help: "List the saved connection contexts.",
        example: "yard context ls",
        right: Right::Connect,
        risk: Risk::Reads,
        fields: &[],
    },
    Verb {
        runs: Runs::Program(Program::ContextUse),
        words: &["context", "use"],
        help: "Choose the context that later commands use.",
        example: "yard context use dev",
        right: Right::Connect,
        risk: Risk::Changes,
        fields: &[arg("name", "NAME", Required, "Name of a saved context.")],
    },
    Verb {
        runs: Runs::Program(Program::SimShow),
        words: &["sim", "show"],
        help: "Step through the event log of a run of the simulator.",
        example: "yard sim show run.log --step 4711",
        right: Right::Connect,
        risk: Risk::Reads,
        fields: &[
            arg("file", "FILE", Required, "What `cargo xtask sim --seed S --trace FILE` wrote."),
            arg("step", "NUMBER", Optional, "This step only."),
            arg("from", "NUMBER", Optional, "Steps from this one on."),
            arg("to", "NUMBER", Optional, "Steps up to this one."),
            arg("find", "TEXT", Optional, "Steps with this text in them only."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::LogVerify),
        words: &["log", "verify"],
        help: "Check every byte of the logs in a folder; writes nothing.",
        example: "yard log verify ./data",
        right: Right::Connect,
        risk: Risk::Reads,
        fields: &[
            arg("dir", "DIR", Required, "Data folder, the folder of one shard, or a backup."),
            arg("compare", "", Switch, "Also time reading and one checksum, for comparison."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::LogDump),
        words: &["log", "dump"],
        help: "Show what lies in the logs of a folder, in order; writes nothing.",
        example: "yard log dump ./data --segment 3 --limit 100 --bodies",
        right: Right::Connect,
        risk: Risk::Reads,
        fields: &[
            arg("dir", "DIR", Required, "Data folder, the folder of one shard, or a backup."),
            arg("segment", "NUMBER", Optional, "This segment only."),
            arg("from", "POSITION", Default("0"), "Log position to begin at."),
            arg("limit", "NUMBER", Default("1000"), "Lines at most."),
            arg("bodies", "", Switch, "Show bodies and the contents of entries too."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::LogRepair),
        words: &["log", "repair"],
        help: "Show what could be put right without touching a log, or do it.",
        example: "yard log repair ./data --apply",
        right: Right::Connect,
        risk: Risk::Changes,
        fields: &[
            arg("dir", "DIR", Required, "Data folder, or the folder of one shard."),
            arg("apply", "", Switch, "Do it; without, the plan is shown."),
            arg("accept_loss", "", Switch, "Go on without a segment that is gone for good."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::LogBackup),
        words: &["log", "backup"],
        help: "Copy the logs of a data folder, also while a broker runs on it.",
        example: "yard log backup ./data ./backup",
        right: Right::Connect,
        risk: Risk::Adds,
        fields: &[
            arg("data", "DATA", Required, "Data folder."),
            arg("target", "TARGET", Required, "New folder, or an earlier backup of the same."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::LogRestore),
        words: &["log", "restore"],
        help: "Make a data folder out of a backup, after verifying all of it.",
        example: "yard log restore ./backup ./data",
        right: Right::Connect,
        risk: Risk::Adds,
        fields: &[
            arg("backup", "BACKUP", Required, "Folder of the backup."),
            arg("data", "DATA", Required, "Folder that is not there yet, or empty."),
        ],
    },
    Verb {
        runs: Runs::Program(Program::Explain),
        words: &["explain"],
        help: "Show what an error code means and what to do.",
        example: "yard explain E0301",
        right: Right::Connect,
        risk: Risk::Reads,
        fields: &[arg("code", "CODE", Required, "The code, for example E0301.")],
    },
];

const BENCH: &[Field] = &[
    arg(
        "what",
        "WHAT",
        Required,
        "produce, consume, e2e (both at once), rr (one message in flight) or idle (connections).",
    ),
    arg("size", "SIZE", Default("1KiB"), "Bytes of a message's body."),
    arg("batch", "NUMBER", Default("1024"), "Messages of a batch, or of a fetch, at most."),
    arg("batch_bytes", "SIZE", Default("256KiB"), "Bytes of a batch at most."),
    arg("connections", "NUMBER", Default("1"), "Connections of producers, and of consumers."),
    arg("queues", "NUMBER", Default("8"), "Queues of the topic."),
    arg("streams", "NUMBER", Default("1"), "Data streams of a connection."),
    arg(
        "in_flight",
        "NUMBER",
        Optional,
        "Batches of a stream that wait for an answer: 8; with rr messages of a connection: 1.",
    ),
    arg(
        "rate",
        "NUMBER",
        Optional,
        "Messages a second, over all connections, sent when they are due whatever the answers \
         do; as fast as possible without.",
    ),
    arg("seconds", "NUMBER", Default("5"), "Seconds that are measured in each round."),
    arg("warm_up", "NUMBER", Default("1"), "Seconds before them that are not."),
    arg("rounds", "NUMBER", Default("1"), "Rounds of broker, raw QUIC and raw disk, in turn."),
    arg("ack", "LEVEL", Default("synced"), "memory, written or synced."),
    arg("messages", "NUMBER", Optional, "Messages to consume; without, what --seconds produce."),
    arg("fetch", "", Switch, "Consume by fetching, without a group."),
    arg("groups", "NUMBER", Default("0"), "Further groups that follow the topic meanwhile."),
    arg("commit", "", Switch, "Raw QUIC answers rr after a group commit to the disk."),
    arg("no_limits", "", Switch, "Measure the broker only."),
    arg("running", "", Switch, "Measure the broker of the context, not one started for this."),
    arg("dir", "DIR", Optional, "Where a temporary folder may be made; here unless given."),
    arg("shards", "NUMBER", Default("1"), "Commit logs of the broker that is started."),
    arg("segment_bytes", "SIZE", Default("64MiB"), "Size of its log segments."),
    arg("lag_max", "DURATION", Default("2ms"), "With --rate: how late the client itself may be."),
    arg("record", "FILE", Optional, "Keep what happened, for the checker of histories."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_required_arguments_come_first() {
        let all: Vec<_> = verbs().collect();
        for (at, verb) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|v| v.words != verb.words), "{:?}", verb.words);
            let required = verb.fields.iter().map(|f| f.presence == Required);
            assert!(required.is_sorted_by(|a, b| a >= b), "{:?}", verb.words);
            assert!(verb.example.starts_with("yard "), "{:?}", verb.words);
        }
    }
}
