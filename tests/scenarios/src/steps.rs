//! The registry of steps: what may be written, in how many words, under which names, on which
//! hosts. One row adds one; the match in `run.rs` asks for what it does.
use crate::host::Kind;

/// Whether a step says what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A step without one would check nothing.
    Must,
    /// It may; without one the step must go well.
    May,
}

/// How a step is written.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Its first word.
    pub verb: Verb,
    /// The words after it. One that ends with `...` stands for one or more, one with `?` for one or
    /// none.
    pub words: &'static [&'static str],
    /// Words with names that may follow; `*` at the end of one stands for anything, `*` alone says
    /// that somebody else checks them.
    pub named: &'static [&'static str],
    /// Whether an arrow must follow.
    pub answer: Answer,
    /// Hosts that cannot do it.
    pub not_on: &'static [Kind],
    /// What it does.
    pub says: &'static str,
}

macro_rules! steps {
    ($( $name:ident $text:literal [$($word:literal),*] [$($named:literal),*] $answer:ident
        [$($not:ident),*] $says:literal; )*) => {
        /// What a step does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Verb { $(
            #[doc = $says]
            $name,
        )* }

        impl Verb {
            /// The word.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $( Self::$name => $text ),* }
            }
        }

        /// Every form of a step.
        pub const FORMS: &[Form] = &[ $( Form {
            verb: Verb::$name,
            words: &[$($word),*],
            named: &[$($named),*],
            answer: Answer::$answer,
            not_on: &[$(Kind::$not),*],
            says: $says,
        } ),* ];
    };
}

steps! {
    Topic "topic" ["NAME"] ["*"] May []
        "creates a topic, of one queue unless said otherwise: `yard topic create`";
    Yard "yard" ["NOUN", "VERB", "ARGUMENT...?"] ["*"] May []
        "runs an operation of the catalogue; its rows are compared in the fields that are named";
    Tenant "tenant" ["NAME"] ["auto"] May []
        "adds a tenant; `auto=true`: topics are created on first use";
    As "as" ["TENANT"] [] May []
        "is this tenant from now on";
    Send "send" ["TOPIC", "BODY"]
        ["key", "tag", "order", "queue", "delay", "at", "expires", "priority", "prop.*", "ack",
         "nodes", "compress", "dedupe", "tx", "times", "as", "by"] May []
        "sends as a producer does: `queue@offset`, or `waits`; `as=` gives its id a name, `by=` is a
         producer that lasts. Where a message with its `dedupe=` is there already: place and `id=`
         of that, `duplicate=true`";
    Produce "produce" ["PRODUCER", "TOPIC/QUEUE", "BODY..."]
        ["seq", "epoch", "lane", "floor", "ack", "nodes", "shard", "prop.*"] May []
        "sends a batch that is numbered by hand; properties as they are, `$` ones too";
    Producer "producer" ["NAME", "TOPIC"]
        ["within", "buffer", "linger", "selector", "identity"] May []
        "is a producer that lasts. It gives a message up that is not stored `within=` so long; its
         `buffer=`, `linger=`, `selector=` (`length` of the body, or a queue) and `identity=` only
         the client has. Of an identity: how many messages were stored under it, queue by queue";
    OneWay "one-way" ["PRODUCER", "BODY..."] ["queue"] May [Bare, Simulated]
        "sends without waiting for room or for an answer";
    Flush "flush" ["PRODUCER"] [] May [Bare, Simulated]
        "waits until all that a producer was given is stored or refused";
    Subscribe "subscribe" ["MEMBER", "GROUP", "TOPIC"]
        ["start", "lease", "credit", "bytes", "filter.*", "broadcast", "drop-failed",
         "exclusive"] May []
        "begins to receive, from the oldest message on unless `start=` says otherwise; in broadcast
         `drop-failed=true` drops what a handler fails on";
    Receive "receive" ["MEMBER"] [] Must []
        "takes what has arrived: `queue@offset body attempt=2 …`, or `nothing`";
    Ack "ack" ["MEMBER", "WHAT..."] ["attempt"] May []
        "settles: bodies, places, or `all`; the latest delivery of each unless `attempt=` says
         which";
    Nack "nack" ["MEMBER", "WHAT..."] ["delay", "error", "attempt"] May []
        "gives back: it comes again by the group's retry policy, or after this delay";
    Reject "reject" ["MEMBER", "WHAT..."] ["error", "attempt"] May []
        "makes a dead letter of it";
    Release "release" ["MEMBER", "WHAT..."] ["attempt"] May []
        "gives back what was not begun: it comes again at once, and no attempt is counted";
    Extend "extend" ["MEMBER", "WHAT", "DURATION"] ["attempt"] May []
        "holds it for so long from now on";
    Keep "keep" ["MEMBER", "WHAT..."] [] May []
        "works on it until it is settled: its lease is extended as time passes";
    Handle "handle" ["MEMBER", "BODY..."] ["error"] May [Bare, Simulated]
        "has a handler take exactly these messages, in this order: it goes well, or fails so";
    Forge "forge" ["MEMBER", "VERDICT", "OTHER", "QUEUE@OFFSET"] [] May [Real]
        "settles what another member holds, under the other's number";
    Leave "leave" ["MEMBER"] [] May []
        "ends a consumer in good order";
    Kill "kill" ["MEMBER"] [] May []
        "ends its connection without a word";
    Pause "pause" ["WHO", "QUEUE?"] [] May []
        "a member receives nothing until `resume`; a reader does not read this queue";
    Resume "resume" ["WHO", "QUEUE?"] [] May []
        "receives, or reads, again";
    Reader "reader" ["NAME", "TOPIC", "QUEUE...?"] [] May [Bare, Simulated]
        "reads these queues and no others from now on, without a group";
    Read "read" ["READER"] ["max"] Must [Bare, Simulated]
        "takes the next messages of one of its queues, in turns";
    Place "place" ["READER", "QUEUE@OFFSET"] [] May [Bare, Simulated]
        "lets a reader go on elsewhere";
    Fetch "fetch" ["TOPIC/QUEUE", "OFFSET"] ["max"] Must []
        "reads without a group: `offset body`";
    Seek "seek" ["TOPIC/QUEUE", "TIME"] [] Must []
        "finds the first offset that was stored then or later";
    Find "find" ["id|key", "WORD..."] [] Must []
        "looks a message up: `id ID`, `key TOPIC KEY`";
    Move "move" ["GROUP", "TOPIC", "TO..."] [] May []
        "lets a group go on elsewhere: earliest, latest, an offset, `queue@offset`…, a time,
         `like GROUP`, `skip N`";
    Begin "begin" ["TRANSACTION", "GROUP"] ["note", "producer", "epoch", "number"] May []
        "begins a transaction of a producer group; `{TRANSACTION}` is its name at the broker, and
         `send … tx=TRANSACTION` sends in it";
    Commit "commit" ["TRANSACTION"] ["group", "check"] May []
        "lets its messages become visible; `group=` and `check=` as somebody else would say them";
    Rollback "rollback" ["TRANSACTION"] ["group", "check"] May []
        "drops its messages";
    Join "join" ["PRODUCER", "GROUP"] [] May []
        "is a producer that may be asked about the open transactions of the group";
    Asked "asked" ["PRODUCER"] [] Must []
        "takes what it was asked: `TRANSACTION check=2 note=…`, or `nothing`";
    Answer "answer" ["PRODUCER", "TRANSACTION", "VERDICT"] [] May []
        "answers: commit, rollback or unknown";
    Advance "advance" ["DURATION"] [] May []
        "lets time pass";
    Restart "restart" ["stop|kill|power"] [] May []
        "ends the broker and starts it again; members come back";
    Down "down" ["stop|kill|power"] [] May []
        "ends the broker; nobody is there until `up`";
    Up "up" [] [] May []
        "starts it again; members come back";
    Disk "disk" ["full|room"] [] May [Real]
        "takes all room from the disk, or gives it back";
    Request "request" ["TOPIC", "BODY"] ["by", "reply", "fail"] Must [Bare, Simulated]
        "asks, has a member answer, and gives the reply";
    Program "program" ["WORD..."] [] Must [Bare, Simulated]
        "runs the program `yard` with these words: what it prints as JSON, a row an object, and
         `exit=` where that is not 0";
    Assign "assign" ["STRATEGY", "QUEUES"] ["member", "rack"] Must []
        "assigns so many queues to members: `member=NAME`, `member=NAME:RACK:0,3`";
}

impl Form {
    /// The form of a first word.
    #[must_use]
    pub fn of(verb: &str) -> Option<&'static Form> {
        FORMS.iter().find(|form| form.verb.text() == verb)
    }

    /// As it is shown: the verb, its words, its names.
    #[must_use]
    pub fn shown(&self) -> String {
        let words = self.words.iter().map(|word| format!(" {word}"));
        let named = self.named.iter().map(|name| format!(" [{name}=]"));
        format!("{}{}", self.verb.text(), words.chain(named).collect::<String>())
    }

    /// Whether so many words may follow the verb.
    #[must_use]
    pub fn takes(&self, words: usize) -> bool {
        let optional = self.words.iter().filter(|word| word.ends_with('?')).count();
        let many = self.words.iter().any(|word| word.contains("..."));
        words + optional >= self.words.len() && (many || words <= self.words.len())
    }

    /// Whether a word may have this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.named.iter().any(|known| match known.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *known,
        })
    }
}
