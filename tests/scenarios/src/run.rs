//! Scenarios at work: a step becomes a call of the host, and what comes of it is compared.
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use yard_client::assign::{MemberAt, QueueAt, Strategy, assign};
use yard_wire::operation::{Operation, Presence, Risk};
use yard_wire::requests::{TxVerdict, Verdict, Wanted};
use yard_wire::value::Value;
use yard_wire::{Code, MessageId, QueueIndex, QueueOffset, Refusal, Timestamp, TxId};

use crate::host::{Asked, Change, Decision, Ending, Exchange, Host, Opinion, Outcome};
use crate::read;
use crate::rows::{self, Row};
use crate::scenario::{Scenario, Step};
use crate::steps::Verb;
use crate::units::{self, Place, duration_ms, number, queue_of};
use crate::words::Word;

mod clients;

/// The tenant that a scenario begins with.
pub const TENANT: &str = "default";

/// A step that went otherwise than its scenario says, or that cannot be done.
#[derive(Clone, Debug)]
pub struct Failure {
    file: String,
    line: usize,
    row: Option<usize>,
    says: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if let Some(row) = self.row {
            write!(f, " (row of line {row})")?;
        }
        write!(f, ": {}", self.says)
    }
}

/// What a run counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Steps that were taken.
    pub steps: usize,
    /// Of them, those that say that nothing comes, where the host did not keep the time that the
    /// scenario counts on: they say nothing.
    pub not_judged: usize,
}

/// What came of a step, if it went well.
enum Came {
    Rows(Vec<Row>),
    Result(Value),
}

/// A message that a member took.
struct Held {
    place: Place,
    body: String,
    settled: bool,
}

/// A scenario that is carried out.
pub(crate) struct Run<'a> {
    host: &'a mut dyn Host,
    tenant: String,
    pub(crate) began: Timestamp,
    /// What names stand for: ids of messages, and names that transactions have at the broker.
    ids: BTreeMap<String, String>,
    /// Transactions by their names here, each with its group.
    transactions: BTreeMap<String, (TxId, String)>,
    /// Who may be asked, and the last question about each transaction.
    producers: BTreeMap<String, BTreeMap<TxId, Asked>>,
    members: BTreeMap<String, Vec<Held>>,
    /// Members that receive nothing any more, or not now.
    silent: Vec<String>,
}

/// Why a step could not even be tried.
type Unusable = String;
type Tried<T> = Result<Outcome<T>, Unusable>;

/// Carries a scenario out.
///
/// # Errors
/// The first step that goes otherwise.
pub fn run(scenario: &Scenario, host: &mut dyn Host) -> Result<Counts, Failure> {
    let began = host.now();
    let mut run = Run {
        host,
        tenant: TENANT.to_owned(),
        began,
        ids: BTreeMap::new(),
        transactions: BTreeMap::new(),
        producers: BTreeMap::new(),
        members: BTreeMap::new(),
        silent: Vec::new(),
    };
    let mut counts = Counts::default();
    for step in &scenario.steps {
        counts.steps += 1;
        let failure = |says| {
            let (file, line, row) = (scenario.file.clone(), step.line, step.row);
            Failure { file, line, row, says }
        };
        let is_judged = run.step(step).map_err(failure)?;
        counts.not_judged += usize::from(!is_judged);
    }
    let line = scenario.steps.last().map_or(1, |step| step.line);
    run.nothing_left().map_err(|says| Failure {
        file: scenario.file.clone(),
        line,
        row: None,
        says,
    })?;
    Ok(counts)
}

impl Run<'_> {
    /// Takes a step. False where what did not happen says nothing.
    fn step(&mut self, step: &Step) -> Result<bool, String> {
        self.host.begin_step();
        let step = self.named(step);
        let mut looks = 0;
        loop {
            let judged = self.try_step(&step);
            if judged.is_ok() || !only_reads(&step) || !self.host.looks_again(looks) {
                return judged;
            }
            looks += 1;
        }
    }

    fn try_step(&mut self, step: &Step) -> Result<bool, String> {
        let came = self.take(step)?;
        let expected = step.expected.as_deref();
        match (step.refused(), came) {
            (Some(code), Err(refusal)) if refusal.code == code => Ok(true),
            (_, Err(refusal)) => Err(format!("it was refused: {refusal}")),
            (Some(code), Ok(_)) => Err(format!("it was not refused with {}", code.label())),
            (None, Ok(_)) if expected.is_none() => Ok(true),
            (None, Ok(Came::Result(value))) => {
                rows::compare_result(expected.unwrap_or_default(), &value).map(|()| true)
            }
            (None, Ok(Came::Rows(rows))) => {
                let expected = expected.unwrap_or_default();
                let is_nothing = rows::is_nothing(expected);
                if is_nothing && !self.host.kept_time() {
                    return Ok(false);
                }
                rows::compare(expected, &rows).map(|()| true)
            }
        }
    }

    /// The step with the ids that messages of the run have.
    fn named(&self, step: &Step) -> Step {
        let mut step = step.clone();
        let fill = |text: &mut String| {
            for (name, id) in &self.ids {
                *text = text.replace(&format!("{{{name}}}"), id);
            }
        };
        step.words.iter_mut().for_each(fill);
        step.named.iter_mut().for_each(|(_, value)| fill(value));
        let said = step.expected.iter_mut().flatten().flatten();
        said.for_each(|word| fill(&mut word.text));
        step
    }

    fn take(&mut self, step: &Step) -> Tried<Came> {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        match step.form.verb {
            Verb::Topic | Verb::Yard => self.operate(step, &words),
            Verb::Send => self.send(step, &words),
            Verb::Produce => self.produce(step, &words),
            Verb::Subscribe => self.subscribe(step, &words),
            Verb::Receive => self.receive(step, words[0]),
            Verb::Ack => self.settle(step, &words, Verdict::Ack),
            Verb::Nack => self.settle(step, &words, Verdict::Nack),
            Verb::Reject => self.settle(step, &words, Verdict::Reject),
            Verb::Release => self.settle(step, &words, Verdict::Release),
            Verb::Extend => {
                let place = self.what(words[0], words[1])?;
                let lease_ms = duration_ms(words[2])?;
                let attempt = step.get("attempt").map(units::number).transpose()?;
                let mut extend = |at: &Place| self.host.extend(words[0], *at, attempt, lease_ms);
                Ok(done(place.iter().try_for_each(&mut extend)))
            }
            Verb::Forge => {
                let verdict = Verdict::parse(words[1]).ok_or("a verdict is ack, nack or reject")?;
                let place = units::place(words[3]).ok_or("a place is queue@offset")?;
                Ok(done(self.host.forge(words[0], words[2], place, verdict)))
            }
            Verb::Leave => Ok(self.change(words[0], Change::Leave)),
            Verb::Kill => Ok(self.change(words[0], Change::Kill)),
            Verb::Pause if words.len() == 1 => Ok(self.change(words[0], Change::Pause)),
            Verb::Resume if words.len() == 1 => Ok(self.change(words[0], Change::Resume)),
            Verb::Keep => self.keep(&words),
            Verb::Producer
            | Verb::OneWay
            | Verb::Flush
            | Verb::Handle
            | Verb::Reader
            | Verb::Read
            | Verb::Place
            | Verb::Pause
            | Verb::Resume
            | Verb::Program => self.as_the_client(step, &words),
            Verb::Fetch => self.fetch(step, &words),
            Verb::Seek => self.seek(&words),
            Verb::Find => self.find(&words),
            Verb::Move => self.move_group(&words),
            Verb::Request => self.request(step, &words),
            Verb::Assign => assign_queues(step, &words),
            Verb::Begin => self.begin(step, &words),
            Verb::Commit => self.decide(step, words[0], true),
            Verb::Rollback => self.decide(step, words[0], false),
            Verb::Join => Ok(self.join(&words)),
            Verb::Asked => self.asked(step, words[0]),
            Verb::Answer => self.answer(&words),
            Verb::Tenant
            | Verb::As
            | Verb::Advance
            | Verb::Restart
            | Verb::Down
            | Verb::Up
            | Verb::Disk => self.surroundings(step, &words),
        }
    }

    fn surroundings(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        match step.form.verb {
            Verb::Tenant => {
                return Ok(done(self.host.add_tenant(words[0], step.get("auto") == Some("true"))));
            }
            Verb::As => self.tenant = words[0].to_owned(),
            Verb::Advance => self.host.advance(duration_ms(words[0])?),
            Verb::Restart => self.host.restart(ending(words[0])?),
            Verb::Down => self.host.down(ending(words[0])?),
            Verb::Up => self.host.up(),
            _ => self.host.fill_disk(match words[0] {
                "full" => true,
                "room" => false,
                other => return Err(format!("{other:?}: it takes full or room")),
            }),
        }
        Ok(done(Ok(())))
    }

    fn operate(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let arguments = if step.form.verb == Verb::Topic { words } else { &words[2..] };
        let operation =
            operation_of(step).ok_or_else(|| format!("there is no operation {words:?}"))?;
        let fields = operation.fields();
        let required = fields.iter().filter(|field| field.presence == Presence::Required);
        let required: Vec<&str> = required.map(|field| field.name).collect();
        if arguments.len() != required.len() {
            return Err(format!("it takes {required:?}, in this order"));
        }
        let mut written: BTreeMap<String, String> = BTreeMap::new();
        if step.form.verb == Verb::Topic {
            written.insert("queues".to_owned(), "1".to_owned());
        }
        for (name, value) in &step.named {
            let name = name.replace('-', "_");
            if !fields.iter().any(|field| field.name == name) {
                return Err(format!("{:?} has no argument {name}", operation.words()));
            }
            written.insert(name, value.clone());
        }
        let placed = required.iter().zip(arguments);
        written.extend(placed.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        let args = match operation.encode_args(&|name| written.get(name).cloned()) {
            Ok(args) => args,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let called = self.host.call(&self.tenant, operation, args);
        called.map_or_else(
            |refusal| Ok(Err(refusal)),
            |result| match operation.decode_result(result) {
                Ok(value) => Ok(Ok(Came::Result(value))),
                Err(malformed) => Err(malformed.to_string()),
            },
        )
    }

    fn send(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let times: u64 = step.get("times").map_or(Ok(1), number)?;
        let mut rows = Vec::new();
        for turn in 0..times {
            let body = words[1].replace("{n}", &turn.to_string());
            let mut message = read::outgoing(step, (words[0], &body), self.began)?;
            message.tx =
                step.get("tx").map(|name| self.transaction(name)).transpose()?.map(|it| it.0);
            match self.host.send(&self.tenant, &message) {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(stored) => {
                    if let Some(name) = step.get("as") {
                        self.ids.insert(name.to_owned(), stored.id.to_string());
                    }
                    rows.push(Row::sent(&stored));
                }
            }
        }
        Ok(Ok(Came::Rows(rows)))
    }

    fn produce(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let batch = read::numbered(step, words)?;
        let produced = match self.host.produce(&self.tenant, &batch) {
            Ok(produced) => produced,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let ranges = produced.placed.iter().map(|placed| {
            let (queue, first) = (placed.queue, placed.first.0);
            format!("{queue}@{first}..{}", first + u64::from(placed.count))
        });
        let mut row = Row::of(ranges);
        row.usual = vec![("duplicate", produced.duplicate.to_string(), "false")];
        Ok(Ok(Came::Rows(vec![row])))
    }

    fn subscribe(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let how = read::subscription(step, words, self.began)?;
        let subscribed = self.host.subscribe(&self.tenant, words[0], &how);
        if subscribed.is_ok() {
            self.members.entry(words[0].to_owned()).or_default();
            self.silent.retain(|silent| silent != words[0]);
        }
        Ok(done(subscribed))
    }

    fn receive(&mut self, step: &Step, member: &str) -> Tried<Came> {
        let expected = step.expected.as_deref().unwrap_or_default();
        let wanted = if rows::is_nothing(expected) { 0 } else { expected.len() };
        self.known(member)?;
        let received = match self.host.receive(member, wanted) {
            Ok(received) => received,
            Err(refusal) => {
                self.silent.push(member.to_owned());
                return Ok(Err(refusal));
            }
        };
        let rows: Vec<Row> = received.iter().map(Row::received).collect();
        let held = rows.iter().zip(&received).map(|(row, received)| {
            let body = row.words[0].clone();
            Held { place: received.place, body, settled: false }
        });
        self.members.entry(member.to_owned()).or_default().extend(held);
        Ok(Ok(Came::Rows(rows)))
    }

    fn known(&self, member: &str) -> Result<&Vec<Held>, String> {
        self.members.get(member).ok_or_else(|| format!("nobody is called {member}"))
    }

    /// The messages that are meant: by their body, their place, or all that were not settled.
    fn what(&self, member: &str, text: &str) -> Result<Vec<Place>, String> {
        let held = self.known(member)?;
        if text == "all" {
            let unsettled = held.iter().filter(|held| !held.settled);
            return Ok(unsettled.map(|held| held.place).collect());
        }
        let by_body = held.iter().rev().find(|held| held.body == text).map(|held| held.place);
        let place = by_body.or_else(|| units::place(text));
        let place = place.ok_or_else(|| format!("{member} has taken no message {text:?}"))?;
        Ok(vec![place])
    }

    fn settle(&mut self, step: &Step, words: &[&str], verdict: Verdict) -> Tried<Came> {
        let delay_ms = step.get("delay").map(duration_ms).transpose()?;
        let delay_ms = delay_ms.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
        let error = step.get("error").map(str::to_owned);
        let attempt = step.get("attempt").map(units::number).transpose()?;
        let opinion = Opinion { attempt, verdict, delay_ms, error };
        let member = words[0];
        for text in &words[1..] {
            for place in self.what(member, text)? {
                if let Err(refusal) = self.host.settle(member, place, &opinion) {
                    return Ok(Err(refusal));
                }
                if attempt.is_some() {
                    continue;
                }
                let held = self.members.get_mut(member).into_iter().flatten();
                let latest = held.rev().find(|held| held.place == place);
                latest.into_iter().for_each(|held| held.settled = true);
            }
        }
        Ok(done(Ok(())))
    }

    fn change(&mut self, member: &str, change: Change) -> Outcome<Came> {
        match change {
            Change::Resume => self.silent.retain(|silent| silent != member),
            Change::Leave | Change::Kill | Change::Pause => self.silent.push(member.to_owned()),
        }
        // What it held is somebody else's now.
        for held in self.members.get_mut(member).into_iter().flatten() {
            held.settled = true;
        }
        done(self.host.change(member, change))
    }

    fn fetch(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let queue = queue_of(words[0])?;
        let max = step.get("max").map_or(Ok(1_000), number)?;
        let mut from = QueueOffset(number(words[1])?);
        let mut rows: Vec<Row> = Vec::new();
        // An answer may hold less than there is.
        while (rows.len() as u32) < max {
            let left = max - rows.len() as u32;
            let fetched = match self.host.fetch(&self.tenant, queue, from, left) {
                Ok(fetched) => fetched,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let Some(last) = fetched.records.last() else { break };
            from = QueueOffset(last.offset.0 + 1);
            for record in &fetched.records {
                rows.push(Row::fetched(queue.1, record)?);
            }
        }
        Ok(Ok(Came::Rows(rows)))
    }

    fn seek(&mut self, words: &[&str]) -> Tried<Came> {
        let (queue, at) = (queue_of(words[0])?, read::instant(words[1], self.began)?);
        Ok(self.host.seek(&self.tenant, queue, at).map(|sought| {
            let mut row = Row::of([sought.offset.to_string()]);
            let number = |name: &str, value: QueueOffset| (name.to_owned(), value.to_string());
            row.fields = vec![number("first", sought.first), number("end", sought.end)];
            Came::Rows(vec![row])
        }))
    }

    fn find(&mut self, words: &[&str]) -> Tried<Came> {
        let wanted = match words {
            ["id", id] => {
                let id = MessageId::parse(id).ok_or_else(|| format!("{id:?} is no id"))?;
                Wanted::Id(id)
            }
            ["key", topic, key] => {
                let (topic, key) = ((*topic).to_owned(), (*key).to_owned());
                Wanted::Key { topic, key, from: Timestamp(0), to: Timestamp(u64::MAX) }
            }
            _ => return Err("it takes `id ID` or `key TOPIC KEY`".to_owned()),
        };
        match self.host.find(&self.tenant, &wanted) {
            Err(refusal) => Ok(Err(refusal)),
            Ok(found) => {
                let rows = found.iter().map(Row::found).collect::<Result<_, _>>();
                rows.map(|rows| Ok(Came::Rows(rows)))
            }
        }
    }

    fn move_group(&mut self, words: &[&str]) -> Tried<Came> {
        let to = read::seek_to(&words[2..], self.began)?;
        let moved = self.host.move_group(&self.tenant, words[0], words[1], &to);
        Ok(moved.map(|moved| {
            let row = |(queue, before, to): (QueueIndex, QueueOffset, QueueOffset)| {
                Row::of([queue.to_string(), before.to_string(), "to".to_owned(), to.to_string()])
            };
            Came::Rows(moved.into_iter().map(row).collect())
        }))
    }

    fn request(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let reply = match (step.get("reply"), step.get("fail")) {
            (_, Some(why)) => Err(why.to_owned()),
            (reply, None) => Ok(Bytes::copy_from_slice(reply.unwrap_or_default().as_bytes())),
        };
        let exchange = Exchange {
            topic: words[0].to_owned(),
            body: Bytes::copy_from_slice(words[1].as_bytes()),
            member: step.get("by").map(str::to_owned),
            reply,
        };
        let answered = self.host.exchange(&self.tenant, &exchange);
        Ok(answered.map(|body| Came::Rows(vec![Row::of([rows::body_text(&body)])])))
    }

    /// A transaction by its name here, and its group.
    pub(crate) fn transaction(&self, name: &str) -> Result<(TxId, String), Unusable> {
        let unknown = || format!("no transaction {name} has begun");
        self.transactions.get(name).cloned().ok_or_else(unknown)
    }

    fn begin(&mut self, step: &Step, words: &[&str]) -> Tried<Came> {
        let beginning = read::beginning(step, words[1])?;
        Ok(self.host.begin(&self.tenant, &beginning).map(|tx| {
            let name = words[0].to_owned();
            self.ids.insert(name.clone(), tx.to_string());
            self.transactions.insert(name, (tx, beginning.group));
            Came::Rows(Vec::new())
        }))
    }

    fn decide(&mut self, step: &Step, name: &str, commit: bool) -> Tried<Came> {
        let (tx, own) = self.transaction(name)?;
        let (group, check) = (step.get("group"), step.get("check"));
        let decision = Decision {
            tx,
            group: group.map_or(own, str::to_owned),
            check: check.map_or(Ok(0), number)?,
            is_forged: group.or(check).is_some(),
            commit,
        };
        Ok(done(self.host.decide(&self.tenant, &decision)))
    }

    fn join(&mut self, words: &[&str]) -> Outcome<Came> {
        let joined = self.host.join(&self.tenant, words[0], words[1]);
        self.producers.entry(words[0].to_owned()).or_default();
        done(joined)
    }

    fn asked(&mut self, step: &Step, producer: &str) -> Tried<Came> {
        let expected = step.expected.as_deref().unwrap_or_default();
        let wanted = if rows::is_nothing(expected) { 0 } else { expected.len() };
        if !self.producers.contains_key(producer) {
            return Err(format!("no producer is called {producer}"));
        }
        let asked = match self.host.asked(producer, wanted) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let rows = asked.iter().map(|asked| {
            let known = self.transactions.iter().find(|(_, (tx, _))| *tx == asked.tx);
            Row::asked(known.map_or_else(|| asked.tx.to_string(), |it| it.0.clone()), asked)
        });
        let rows = rows.collect();
        let last = asked.into_iter().map(|asked| (asked.tx, asked));
        self.producers.entry(producer.to_owned()).or_default().extend(last);
        Ok(Ok(Came::Rows(rows)))
    }

    fn answer(&mut self, words: &[&str]) -> Tried<Came> {
        let (tx, _) = self.transaction(words[1])?;
        let verdict = TxVerdict::parse(words[2]).ok_or("it takes commit, rollback or unknown")?;
        let asked = self.producers.get(words[0]).and_then(|asked| asked.get(&tx));
        let asked = asked.ok_or_else(|| format!("{} was not asked about it", words[0]))?;
        Ok(done(self.host.answer(words[0], asked, verdict)))
    }

    /// What arrived and was not said is as wrong as what was said and did not arrive.
    fn nothing_left(&mut self) -> Result<(), String> {
        let members: Vec<String> = self.members.keys().cloned().collect();
        for member in members.into_iter().filter(|member| !self.silent.contains(member)) {
            let left = self.host.receive(&member, 0);
            let rows: Vec<Row> = left.unwrap_or_default().iter().map(Row::received).collect();
            if !rows.is_empty() && self.host.kept_time() {
                let says = rows::compare(&[], &rows).expect_err("there are rows");
                return Err(format!("at the end, {member}: {says}"));
            }
        }
        for producer in self.producers.keys().cloned().collect::<Vec<_>>() {
            let asked = self.host.asked(&producer, 0).unwrap_or_default();
            if let Some(Asked { tx, check, .. }) = asked.first()
                && self.host.kept_time()
            {
                return Err(format!("at the end, {producer} was asked about {tx}, check={check}"));
            }
        }
        Ok(())
    }
}

fn ending(word: &str) -> Result<Ending, Unusable> {
    match word {
        "stop" => Ok(Ending::Stop),
        "kill" => Ok(Ending::Kill),
        "power" => Ok(Ending::Power),
        other => Err(format!("{other:?}: it takes stop, kill or power")),
    }
}

/// Whether a step changes nothing, so that it may be taken until it says what it should.
fn only_reads(step: &Step) -> bool {
    match step.form.verb {
        Verb::Fetch | Verb::Seek | Verb::Find => true,
        Verb::Yard => operation_of(step).is_some_and(|operation| operation.risk() == Risk::Reads),
        _ => false,
    }
}

/// The operation that a step runs, by its words.
fn operation_of(step: &Step) -> Option<Operation> {
    let names: Vec<&str> = match step.form.verb {
        Verb::Topic => vec!["topic", "create"],
        _ => step.words.iter().take(2).map(String::as_str).collect(),
    };
    Operation::ALL.iter().copied().find(|operation| operation.words() == names)
}

fn done(outcome: Outcome<()>) -> Outcome<Came> {
    outcome.map(|()| Came::Rows(Vec::new()))
}

/// `NAME`, or `NAME:RACK:QUEUE,QUEUE`.
fn member_at(text: &str) -> Result<MemberAt, String> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default().to_owned();
    let rack = parts.next().unwrap_or_default().to_owned();
    let queues = parts.next().unwrap_or_default().split(',').filter(|text| !text.is_empty());
    let queues = queues.map(|text| number(text).map(QueueIndex)).collect::<Result<_, _>>()?;
    Ok(MemberAt { name, rack, queues })
}

fn assign_queues(step: &Step, words: &[&str]) -> Tried<Came> {
    let all = |name: &'static str| {
        step.named.iter().filter(move |(own, _)| own == name).map(|(_, value)| value)
    };
    let refused = |error: yard_client::Error| Refusal::new(error.code, error.detail);
    let count: u16 = number(words[1])?;
    let racks: Vec<&String> = all("rack").collect();
    let rack = |at: u16| racks.get(usize::from(at)).map_or(String::new(), |rack| (*rack).clone());
    let queues: Vec<QueueAt> =
        (0..count).map(|at| QueueAt { queue: QueueIndex(at), rack: rack(at) }).collect();
    let members: Vec<MemberAt> = all("member").map(|it| member_at(it)).collect::<Result<_, _>>()?;
    let assigned =
        Strategy::named(words[0]).and_then(|strategy| assign(strategy, &queues, &members));
    Ok(assigned.map_err(refused).map(|assigned| {
        let row = |(name, queues): (String, Vec<QueueIndex>)| {
            let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
            let queues = if queues.is_empty() { "none".to_owned() } else { queues.join(",") };
            Row::of([name, queues])
        };
        Came::Rows(assigned.into_iter().map(row).collect())
    }))
}

/// Whether a line names a code as it is called.
pub(crate) fn check_code(expected: &[Vec<Word>], code: Code) -> Result<(), String> {
    let said: Vec<&str> = expected.iter().flatten().map(|word| word.text.as_str()).collect();
    let label = code.label();
    if said == [label.as_str(), code.name()] {
        return Ok(());
    }
    Err(format!("a refusal is written `-> {label} {}`", code.name()))
}
