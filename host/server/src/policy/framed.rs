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
use yard_abi::{Delivery, FrameBuilder, Room};
use yard_wasm::canary::Traffic;
use yard_wasm::{Ask, Batch, Binding, HealthEvent, Hold, Poison, Turn, Usage, Worker};
use yard_wire::record::Record;
use yard_wire::{Code, Refusal, TenantId};

use super::ask::{Asked, Unanswered, wait_ms};
use super::journal::Journal;
use super::pool::{Job, Next};
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
        ask: &Ask<'_>,
        binding: &Arc<Binding>,
        batch: &Batch<'_>,
        progress: &mut Self::Progress,
    ) -> Turn;

    /// The version that answers, once it is chosen.
    fn version(progress: &Self::Progress) -> Option<u32>;

    /// Changes of health, after every turn.
    fn take_events(progress: &mut Self::Progress) -> Vec<HealthEvent>;

    /// What the plugin said of these records; `None`: they are asked about again.
    ///
    /// # Errors
    /// A refusal of all records.
    fn answered(
        at: &mut At<'_>,
        records: &[Record],
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
    pub(super) ask: &'a Ask<'a>,
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
        version: u32,
        (messages, well): (usize, usize),
        poison: &[Poison],
        usage: &Usage,
    ) {
        self.journal.frame(&self.asked.whose, version, (messages, well), poison, usage);
    }
}

/// What comes of records, of each in their order.
pub(super) type Outs<T> = Result<Vec<T>, Refusal>;

/// Records on a worker.
pub(super) struct Framed<S: Stage> {
    asked: Asked,
    tenant: TenantId,
    records: Vec<Record>,
    needs: Arc<Needs>,
    journal: Arc<Journal>,
    to: Option<oneshot::Sender<Outs<S::Out>>>,
    frame: Option<(FrameBuilder, u32)>,
    progress: S::Progress,
    outs: Vec<S::Out>,
}

impl<S: Stage> Framed<S> {
    pub(super) fn new(
        asked: Asked,
        tenant: TenantId,
        records: Vec<Record>,
        (needs, journal): (Arc<Needs>, Arc<Journal>),
        to: oneshot::Sender<Outs<S::Out>>,
    ) -> Self {
        assert!(!records.is_empty(), "a plugin looks at something");
        let (frame, progress, outs) = (None, S::Progress::default(), Vec::new());
        Self { asked, tenant, records, needs, journal, to: Some(to), frame, progress, outs }
    }

    /// Fills a frame with the next records, one at least.
    fn fill(&self, body_bytes: u32) -> Result<FrameBuilder, Refusal> {
        let mut frame = FrameBuilder::new(body_bytes);
        for record in &self.records[self.outs.len()..] {
            let delivery = Delivery { queue: record.queue().0.into(), ..Delivery::default() };
            match frame.push(record.bytes(), delivery) {
                Ok(Room::Taken) => {}
                Ok(Room::Full) => break,
                Err(error) => {
                    let detail = format!("plugin {}: {error}", self.asked.whose.1);
                    return Err(Refusal::new(Code::Internal, detail));
                }
            }
        }
        assert!(frame.count() > 0, "an empty frame takes any message");
        Ok(frame)
    }

    fn finish(&mut self, result: Outs<S::Out>) -> Next {
        if let Some(to) = self.to.take() {
            // Whoever asked may have gone.
            let _ = to.send(result);
        }
        Next::Done
    }

    fn at<'a>(&'a self, ask: &'a Ask<'a>, worker: &'a mut PolicyWorker) -> At<'a> {
        At { asked: &self.asked, ask, worker, journal: &self.journal }
    }

    /// Nobody says anything about what is left.
    fn unanswered(&mut self, ask: &Ask<'_>, worker: &mut PolicyWorker, why: Unanswered) -> Next {
        let out = S::unanswered(&self.at(ask, worker), why);
        let outs = out.map(|out| {
            let mut outs = std::mem::take(&mut self.outs);
            outs.resize(self.records.len(), out);
            outs
        });
        self.finish(outs)
    }

    fn body_bytes(
        &self,
        worker: &mut PolicyWorker,
        ask: &Ask<'_>,
        version: Option<u32>,
    ) -> Result<u32, Unanswered> {
        let known = (&*self.needs, &*self.journal);
        self.asked.body_bytes(worker, ask, S::POINT, version, known)
    }

    /// Takes in what the plugin said of a frame.
    fn answered(&mut self, ask: &Ask<'_>, worker: &mut PolicyWorker, count: usize) -> Next {
        let progress = std::mem::take(&mut self.progress);
        let begin = self.outs.len();
        let records = &self.records[begin..begin + count];
        match S::answered(&mut self.at(ask, worker), records, &progress) {
            Err(refusal) => self.finish(Err(refusal)),
            Ok(None) => Next::Again,
            Ok(Some(outs)) => {
                assert_eq!(outs.len(), count, "something comes of each record");
                self.outs.extend(outs);
                if self.outs.len() < self.records.len() {
                    return Next::Again;
                }
                let outs = std::mem::take(&mut self.outs);
                self.finish(Ok(outs))
            }
        }
    }
}

impl<S: Stage> Job<PolicyWorker> for Framed<S> {
    fn step(&mut self, worker: &mut PolicyWorker) -> Next {
        let now_ms = crate::time::now().0;
        let first = &self.records[self.outs.len()];
        let traffic = Traffic::Queue { topic: first.topic().0, queue: first.queue().0.into() };
        let ask = Ask { tenant: self.tenant, plugin: self.asked.plugin, traffic, now_ms };
        let (frame, body_bytes) = match self.frame.take() {
            Some(frame) => frame,
            None => match self.body_bytes(worker, &ask, None) {
                Ok(body_bytes) => match self.fill(body_bytes) {
                    Ok(frame) => (frame, body_bytes),
                    Err(refusal) => return self.finish(Err(refusal)),
                },
                Err(why) => return self.unanswered(&ask, worker, why),
            },
        };
        let batch = Batch::new(&frame);
        let (binding, progress) = (&self.asked.binding, &mut self.progress);
        let turn = S::turn(&mut worker.plugins, &ask, binding, &batch, progress);
        let events = S::take_events(&mut self.progress);
        worker.heard(&self.asked.whose, events);
        if let Some(version) = S::version(&self.progress) {
            // The version that answers may have been published after the frame was made.
            match self.body_bytes(worker, &ask, Some(version)) {
                Ok(wanted) if wanted > body_bytes => {
                    self.progress = S::Progress::default();
                    return Next::Again;
                }
                Ok(_) => {}
                Err(why) => return self.unanswered(&ask, worker, why),
            }
        }
        match turn {
            Turn::More => {
                self.frame = Some((frame, body_bytes));
                Next::Again
            }
            Turn::Done => self.answered(&ask, worker, batch.count()),
            Turn::Held { until_ms, hold } => {
                let wait_ms = wait_ms(until_ms, now_ms);
                let why = match hold {
                    Hold::Budget | Hold::NoRoom => Unanswered::Busy { wait_ms },
                    Hold::Plugin(_) => Unanswered::Held { wait_ms },
                };
                self.unanswered(&ask, worker, why)
            }
            Turn::Absent => self.unanswered(&ask, worker, Unanswered::Absent),
        }
    }
}
