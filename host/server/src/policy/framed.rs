//! Records on their way through a plugin before they are stored, frame by frame and turn by turn.
//!
//! ```text
//!   records ─► frame of at most 256, 64 KiB ─► one call a turn ─┬─ more ──► next turn, same frame
//!                    ▲                                          ├─ done ──► answers, next frame
//!                    └──────────────────────────────────────────┘ nobody ─► as the point says
//! ```
use std::sync::Arc;

use tokio::sync::oneshot;
use yard_abi::manifest::Point;
use yard_abi::{Delivery, FrameBuilder, Room, View};
use yard_wasm::canary::Traffic;
use yard_wasm::{
    Ask, Batch, Binding, Fault, HealthEvent, Hold, Poison, Role, Turn, Usage, Worker, early,
};
use yard_wire::record::Record;
use yard_wire::{Code, Refusal, TenantId};

use super::ask::{Asked, Unanswered, wait_ms};
use super::journal::Journal;
use super::pool::{Job, Next};
use super::sides::{QueueOf, Sides};
use super::{Needs, PolicyWorker};

/// A point before the inbox: what it makes of records.
pub(super) trait Stage: Send + 'static {
    /// What comes of a record.
    type Out: Clone + Send + 'static;
    /// A frame on its way.
    type Progress: Default + Send;

    /// Which point it is.
    const POINT: Point;

    /// One turn of a frame.
    fn turn(
        plugins: &mut Worker,
        ask: &Ask,
        binding: &Arc<Binding>,
        batch: &Batch<'_>,
        progress: &mut Self::Progress,
    ) -> Turn;

    /// The version that answers, and in which part, once it is chosen.
    fn version(progress: &Self::Progress) -> Option<(u32, Role)>;

    /// Changes of health, after every turn.
    fn take_events(progress: &mut Self::Progress) -> Vec<HealthEvent>;

    /// What the plugin said of these records; `None`: they are asked about again.
    ///
    /// # Errors
    /// A refusal of all records.
    fn answered(
        at: &mut At<'_>,
        records: &[&Record],
        progress: &Self::Progress,
    ) -> Result<Option<Vec<Self::Out>>, Refusal>;

    /// What becomes of each record about which nobody says anything.
    ///
    /// # Errors
    /// A refusal of all records.
    fn unanswered(at: &At<'_>, why: Unanswered) -> Result<Self::Out, Refusal>;
}

/// Who is asked, and where.
pub(super) struct At<'a> {
    pub(super) asked: &'a Asked,
    pub(super) ask: &'a Ask,
    pub(super) worker: &'a mut PolicyWorker,
    pub(super) journal: &'a Journal,
}

impl At<'_> {
    /// Name of the plugin.
    pub(super) fn name(&self) -> &str {
        &self.asked.whose.1
    }

    /// A refusal of what the plugin says nothing about, for a while.
    pub(super) fn held(&self, wait_ms: u32) -> Refusal {
        let detail = format!("plugin {}, which is before the topic, does not run", self.name());
        Refusal::after(Code::PluginNotRunning, wait_ms, detail)
    }

    /// Counts a frame, of which so many messages came out well.
    pub(super) fn count(
        &self,
        (version, role): (u32, Role),
        (messages, well): (usize, usize),
        (poison, canary_fault): (&[Poison], Option<&(u32, Fault)>),
        usage: &Usage,
    ) {
        let whose = &self.asked.whose;
        self.journal.frame(whose, version, (messages, well), poison, usage);
        let did = (messages as u64, poison.len() as u64, usage.spent_ns);
        self.journal.weigh(whose, role, did, canary_fault);
    }
}

/// What comes of records, of each in their order.
pub(super) type Outs<T> = Result<Vec<T>, Refusal>;

/// Records that one version is to see.
struct Part {
    frame: FrameBuilder,
    /// Their numbers among all.
    numbers: Vec<usize>,
    traffic: Traffic,
}

/// Records on a worker.
pub(super) struct Framed<S: Stage> {
    asked: Asked,
    tenant: TenantId,
    records: Vec<Record>,
    /// Queues of their topic.
    queues: u16,
    needs: Arc<Needs>,
    journal: Arc<Journal>,
    to: Option<oneshot::Sender<Outs<S::Out>>>,
    part: Option<Part>,
    progress: S::Progress,
    outs: Vec<Option<S::Out>>,
}

impl<S: Stage> Framed<S> {
    pub(super) fn new(
        asked: Asked,
        tenant: TenantId,
        (records, queues): (Vec<Record>, u16),
        (needs, journal): (Arc<Needs>, Arc<Journal>),
        to: oneshot::Sender<Outs<S::Out>>,
    ) -> Self {
        assert!(!records.is_empty(), "a plugin looks at something");
        let (part, progress, outs) = (None, S::Progress::default(), vec![None; records.len()]);
        let to = Some(to);
        Self { asked, tenant, records, queues, needs, journal, to, part, progress, outs }
    }

    /// Fills a frame with the next records of one side, one at least.
    fn fill(&self, view: View, sides: &Sides) -> Result<Part, Refusal> {
        let mut frame = FrameBuilder::of(view);
        let (mut numbers, mut first) = (Vec::new(), None);
        let left = self.records.iter().enumerate().filter(|(at, _)| self.outs[*at].is_none());
        for (at, record) in early(left, view, |(_, record)| record.bytes()) {
            let queue = record.queue().0;
            let of = QueueOf { topic: record.topic(), queue, queues: self.queues };
            let traffic = sides.traffic(of, record.bytes());
            let side = sides.is_canarys(&traffic);
            if first.is_some_and(|(_, other)| other != side) {
                continue;
            }
            let delivery = Delivery { queue: queue.into(), ..Delivery::default() };
            match frame.push(record.bytes(), delivery) {
                Ok(Room::Taken) => {
                    numbers.push(at);
                    first.get_or_insert((traffic, side));
                }
                Ok(Room::Full) => break,
                Err(error) => {
                    let detail = format!("plugin {}: {error}", self.asked.whose.1);
                    return Err(Refusal::new(Code::Internal, detail));
                }
            }
        }
        let (traffic, _) = first.expect("an empty frame takes any message");
        Ok(Part { frame, numbers, traffic })
    }

    fn finish(&mut self, result: Outs<S::Out>) -> Next {
        if let Some(to) = self.to.take() {
            // Whoever asked may have gone.
            let _ = to.send(result);
        }
        Next::Done
    }

    fn at<'a>(&'a self, ask: &'a Ask, worker: &'a mut PolicyWorker) -> At<'a> {
        At { asked: &self.asked, ask, worker, journal: &self.journal }
    }

    /// Nobody says anything about what is left.
    fn unanswered(&mut self, ask: &Ask, worker: &mut PolicyWorker, why: Unanswered) -> Next {
        let out = S::unanswered(&self.at(ask, worker), why);
        let outs = out.map(|nobody| {
            let outs = std::mem::take(&mut self.outs);
            outs.into_iter().map(|out| out.unwrap_or_else(|| nobody.clone())).collect()
        });
        self.finish(outs)
    }

    fn view(
        &self,
        worker: &mut PolicyWorker,
        ask: &Ask,
        version: Option<u32>,
    ) -> Result<View, Unanswered> {
        let known = (&*self.needs, &*self.journal);
        self.asked.view(worker, ask, S::POINT, version, known)
    }

    /// Takes in what the plugin said of a frame.
    fn answered(&mut self, ask: &Ask, worker: &mut PolicyWorker, numbers: &[usize]) -> Next {
        let progress = std::mem::take(&mut self.progress);
        let records: Vec<&Record> = numbers.iter().map(|at| &self.records[*at]).collect();
        match S::answered(&mut self.at(ask, worker), &records, &progress) {
            Err(refusal) => self.finish(Err(refusal)),
            Ok(None) => Next::Again,
            Ok(Some(outs)) => {
                assert_eq!(outs.len(), numbers.len(), "something comes of each record");
                for (at, out) in numbers.iter().zip(outs) {
                    self.outs[*at] = Some(out);
                }
                if self.outs.iter().any(Option::is_none) {
                    return Next::Again;
                }
                let outs = std::mem::take(&mut self.outs);
                self.finish(Ok(outs.into_iter().flatten().collect()))
            }
        }
    }

    /// One turn of a frame.
    fn turn(&mut self, worker: &mut PolicyWorker, ask: &Ask, part: Part, sides: &Sides) -> Next {
        let batch = Batch::new(&part.frame);
        let is_begun = S::version(&self.progress).is_some();
        let (binding, progress) = (&self.asked.binding, &mut self.progress);
        let turn = S::turn(&mut worker.plugins, ask, binding, &batch, progress);
        let events = S::take_events(&mut self.progress);
        worker.heard(&self.asked.whose, events);
        if !is_begun && !sides.holds(&worker.plugins) {
            // Others may go together by now.
            self.progress = S::Progress::default();
            return Next::Again;
        }
        if let Some((version, _)) = S::version(&self.progress) {
            // The version that answers may have been published after the frame was made.
            match self.view(worker, ask, Some(version)) {
                Ok(wanted) if !part.frame.view().covers(wanted) => {
                    self.progress = S::Progress::default();
                    return Next::Again;
                }
                Ok(_) => {}
                Err(why) => return self.unanswered(ask, worker, why),
            }
        }
        match turn {
            Turn::More => {
                self.part = Some(part);
                Next::Again
            }
            Turn::Done => self.answered(ask, worker, &part.numbers),
            Turn::Held { until_ms, hold } => {
                let wait_ms = wait_ms(until_ms, ask.now_ms);
                let why = match hold {
                    Hold::Budget | Hold::NoRoom => Unanswered::Busy { wait_ms },
                    Hold::Plugin(_) => Unanswered::Held { wait_ms },
                };
                self.unanswered(ask, worker, why)
            }
            Turn::Blind => {
                if let Some((version, _)) = S::version(&self.progress) {
                    self.needs.put(&self.asked, version, part.frame.view().with_properties());
                }
                self.progress = S::Progress::default();
                Next::Again
            }
            Turn::Absent => self.unanswered(ask, worker, Unanswered::Absent),
        }
    }
}

impl<S: Stage> Job<PolicyWorker> for Framed<S> {
    fn step(&mut self, worker: &mut PolicyWorker) -> Next {
        let now_ms = crate::time::now().0;
        let (tenant, plugin) = (self.tenant, self.asked.plugin);
        let ask = |traffic| Ask { tenant, plugin, traffic, now_ms };
        let sides = Sides::of(&mut worker.plugins, plugin);
        let part = match self.part.take() {
            Some(part) => part,
            None => match self.view(worker, &ask(Traffic::ALONE), None) {
                Ok(view) => match self.fill(view, &sides) {
                    Ok(part) => part,
                    Err(refusal) => return self.finish(Err(refusal)),
                },
                Err(why) => return self.unanswered(&ask(Traffic::ALONE), worker, why),
            },
        };
        self.turn(worker, &ask(part.traffic), part, &sides)
    }
}
