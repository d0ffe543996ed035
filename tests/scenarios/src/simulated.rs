//! A broker in the simulator, and what goes wrong with it on the way without anybody seeing it:
//! frames that are late, lost, out of order or sent again by somebody, a slow disk, syncs that
//! fail, deaths in the middle of a request and between two.
use yard_sim::stage::{End, Mishap, Stage};
use yard_wire::request::{Push, Reply, Request};
use yard_wire::{TenantId, Timestamp};

use crate::filter::wants;
use crate::host::{Ending, Kind, Outcome};
use crate::wired::{Care, Line};

/// Outputs of the broker in which it dies under a request.
const OUTPUTS_MAX: u64 = 12;
/// Times as long as a slow disk takes: a step stays below a quarter of a second.
const SLOWER_MAX: u64 = 10;

/// How long a moment is: work takes time there, and what is due is so much later.
const LINGER_MS: u64 = 20;

/// What went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mishaps {
    /// Ends of the broker between steps.
    pub ends: u64,
    /// Ends of the broker, and failed syncs, under a request.
    pub under_requests: u64,
}

/// The broker. See the module.
pub struct Simulated {
    stage: Stage,
    mishaps: Mishaps,
}

impl Simulated {
    /// A broker without anything, by this seed, in segments of so many bytes.
    #[must_use]
    pub fn new(seed: u64, segment_bytes: u64) -> Self {
        Self { stage: Stage::new(seed, segment_bytes, wants), mishaps: Mishaps::default() }
    }

    /// What went wrong so far.
    #[must_use]
    pub fn mishaps(&self) -> Mishaps {
        self.mishaps
    }

    fn mishap(&mut self, care: Care) -> Option<Mishap> {
        let stage = &mut self.stage;
        let mishap = match (stage.below(10), care) {
            (0, Care::Dies) => Mishap::Dies(End::Process, 1 + stage.below(OUTPUTS_MAX)),
            (1, Care::Dies) => Mishap::Dies(End::Power, 1 + stage.below(OUTPUTS_MAX)),
            (2, Care::Dies) => Mishap::SyncFails,
            (3, _) => return Some(Mishap::SlowDisk(2 + stage.below(SLOWER_MAX - 1))),
            _ => return None,
        };
        self.mishaps.under_requests += 1;
        Some(mishap)
    }
}

impl Line for Simulated {
    fn kind(&self) -> Kind {
        Kind::Simulated
    }

    fn now(&self) -> Timestamp {
        self.stage.now()
    }

    fn connect(&mut self, tenant: TenantId) -> u64 {
        self.stage.connect(tenant)
    }

    fn close(&mut self, session: u64) {
        self.stage.close(session);
    }

    fn ask(&mut self, session: u64, request: Request, care: Care) -> Option<Outcome<Reply>> {
        let mishap = self.mishap(care);
        self.stage.ask(session, request, care != Care::Once, mishap)
    }

    fn pushes(&mut self) -> Vec<(u64, Push)> {
        self.stage.unasked()
    }

    fn trouble(&mut self, nothing_held: bool) -> bool {
        let end = match self.stage.below(8) {
            0 => End::ShutDown,
            1 => End::Process,
            2 => End::Power,
            _ => return false,
        };
        if nothing_held {
            self.mishaps.ends += 1;
            self.stage.end(end);
        }
        nothing_held
    }

    fn linger(&mut self) -> bool {
        self.stage.linger(LINGER_MS);
        true
    }

    fn advance(&mut self, ms: u64) {
        self.stage.advance(ms);
    }

    fn restart(&mut self, ending: Ending) {
        self.stage.end(match ending {
            Ending::Stop => End::ShutDown,
            Ending::Kill => End::Process,
            Ending::Power => End::Power,
        });
    }

    fn fill_disk(&mut self, full: bool) {
        self.stage.fill_disk(full);
    }
}
