//! Slowing the tenant that takes more than its share, while others are there and the machine is
//! short of time.
//!
//! ```text
//!   probe ──► how late is this process? ─┐
//!   paces ──► who sends how much? ───────┴─► rates ──► a stream of a limited tenant is read later,
//!                                                      so QUIC's flow control holds its sender
//! ```
//!
//! The inbox shares out the log; it cannot share out what is spent before: packets, decryption,
//! checksums, the tasks of a hundred connections. A tenant alone is never slowed. Of several, some
//! are, at once to their even share and then by a factor a turn, until requests are in time again;
//! then they get back a little each turn. Nobody is slowed below an eighth of its even share of
//! what the machine was seen to carry. Who comes to others begins with an even share.
//!
//! Who? Lateness has other causes than senders: plugins, their compilers, the reading of old
//! messages, other programs. So who sends no more than was carried in time before is not
//! suspected; of the others those are that send the most beyond it. A suspicion is tried: the
//! suspect is slowed for a second. Only if requests are late less often by then, it is held;
//! otherwise it goes free, and what it sent counts as carried. What was carried is remembered of
//! who leaves and comes again.
//!
//! ```text
//!            late, and sends more than         late less often than before
//!   free ──► was carried           ──► tried ──► held ──► free, when it uses little of its rate
//!     ▲                                  │ no
//!     └───────── after 2 s ◄── cleared ◄─┘
//! ```
//!
//! Source of the shape: additive increase, multiplicative decrease (Chiu and Jain, 1989), with
//! lateness as the signal, as in Nichols and Jacobson, "Controlling Queue Delay" (2012).
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use yard_wire::TenantId;

use crate::hub::lock;

/// How often the rates are set, in milliseconds.
const TURN_MS: u64 = 25;
/// How often lateness is measured, in milliseconds: some times a turn.
const PROBE_MS: u64 = 2;
/// How often a broker to which nobody sends looks whether the process ends, in milliseconds.
const IDLE_MS: u64 = 1_000;
/// Who comes to others may begin with so much whatever they send, in bytes a second.
const RATE_FIRST: f64 = 32_000_000.0;
/// A tenant that has sent within so many turns is there.
const PRESENT_TURNS: u32 = 20;
/// Later than this, on average over a turn, the machine is short of time, in microseconds.
const LATE_US: u64 = 500;
/// What the rate of whoever is slowed is multiplied by when it is.
const SLOWER: f64 = 0.7;
/// What a rate is multiplied by when it is not.
const FASTER: f64 = 1.004;
/// The same of one that came to others and is not suspected: twice as much in a second.
const FASTER_FREE: f64 = 1.018;
/// What a tenant keeps of its even share of the capacity, however late the process runs.
const SHARE_KEPT: f64 = 0.125;
/// What the capacity that was seen is multiplied by each turn: half of it is gone in 7 seconds.
const FADES: f64 = 0.9975;
/// The share of what was sent before in what is sent lately, each turn: a burst is no capacity.
const SMOOTH: f64 = 0.9;
/// The same of what is compared with what was carried: who is held up for a moment sends a burst
/// afterwards, and no more than before over a second.
const SMOOTH_LONG: f64 = 0.975;
/// How long it is looked at before something is said of it, in turns: a second.
const LOOK_TURNS: u32 = 40;
/// A look with no more turns that were late than this was in time.
const LOOK_LATE_MAX: u32 = 1;
/// What was carried in time is multiplied by with each look: a tenth is forgotten in 100 seconds.
const CARRIED_FADES: f64 = 0.999;
/// Who was slowed in vain is left alone for so many turns: it sends what has piled up meanwhile.
const CLEARED_TURNS: u32 = 2 * LOOK_TURNS;
/// Who sends so many times what was carried in time may be why requests are late.
const SUSPECT: f64 = 1.1;
/// Somebody is suspected when at least this share of turns is late lately: three in a row. One that
/// is late now and then is not worth a trial, and would judge of none.
const LATE_OFTEN: f64 = 0.25;
/// A suspect is held if requests are late in so much of the turns in which they were.
const BETTER: f64 = 0.5;
/// The machine carries at least so much, in bytes a second.
const RATE_MIN: f64 = 256_000.0;
/// A limited tenant may have so much time saved up, in milliseconds.
const BURST_MS: u64 = 5;

/// What is thought of a tenant while requests are late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Standing {
    #[default]
    Free,
    /// It is slowed to see whether that helps.
    Tried {
        turns: u32,
        late: u32,
        /// What it sent before, in bytes a second, and the share of turns that were late.
        sent: f64,
        late_before: f64,
    },
    /// It did help.
    Held,
    /// It did not: it is not suspected for a while.
    Cleared { turns: u32 },
}

impl Standing {
    fn is_slowed(self) -> bool {
        match self {
            Self::Tried { .. } | Self::Held => true,
            Self::Free | Self::Cleared { .. } => false,
        }
    }
}

/// What one tenant sends, and how fast it may.
#[derive(Debug, Default)]
struct Pace {
    /// Bytes since the last turn.
    bytes: u64,
    /// Turns since it sent something.
    silent_turns: u32,
    /// Bytes a second; `None`: as fast as it can.
    rate: Option<f64>,
    /// What it sent lately, in bytes a second.
    recent: f64,
    /// The same over a longer time.
    usual: f64,
    /// Bytes since the last look.
    looked_bytes: u64,
    /// The most that it sent while it was free over a look that was in time, in bytes a second;
    /// fades.
    carried: f64,
    standing: Standing,
    /// When everything that was let in so far will have been sent at the rate.
    paid_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Paces {
    of: BTreeMap<TenantId, Pace>,
    /// What was carried of tenants that are not there, unless it is too little to be suspected.
    left: BTreeMap<TenantId, f64>,
    /// What all tenants together sent lately, in bytes a second.
    sent: f64,
    /// The most that it was seen to be; fades.
    capacity: f64,
    /// The share of turns that were late lately.
    late: f64,
    look: Look,
}

/// What was seen since the last look.
#[derive(Debug, Default)]
struct Look {
    late: u32,
    time: Duration,
}

impl Pace {
    /// How much of what it sends may be why requests are late and nobody has suspected yet: what
    /// is beyond what was carried, in bytes a second.
    fn beyond(&self, least: f64) -> f64 {
        if self.standing != Standing::Free || self.recent <= least {
            return 0.0;
        }
        (self.usual - self.carried * SUSPECT).max(0.0)
    }

    /// Decides after a trial.
    fn judge(&mut self, was_late: bool) {
        if let Standing::Cleared { turns } = &mut self.standing {
            *turns += 1;
            if *turns == CLEARED_TURNS {
                self.standing = Standing::Free;
            }
        }
        let Standing::Tried { turns, late, sent, late_before } = &mut self.standing else { return };
        *turns += 1;
        // In the first half what had piled up is still worked off.
        *late += u32::from(was_late && *turns > LOOK_TURNS / 2);
        if *turns < LOOK_TURNS {
            return;
        }
        let late_now = f64::from(*late) / f64::from(LOOK_TURNS / 2);
        if late_now <= *late_before * BETTER {
            tracing::debug!(late_before, late_now, "a tenant is slowed");
            self.standing = Standing::Held;
            // It sent that much before as well, but who was there with it?
            self.carried = 0.0;
        } else {
            tracing::debug!(late_before, late_now, "a tenant was slowed in vain");
            self.carried = self.carried.max(*sent);
            self.rate = None;
            self.standing = Standing::Cleared { turns: 0 };
        }
    }
}

impl Paces {
    /// Notes one more turn; after some, what was carried in time.
    fn look(&mut self, turn: Duration, late: bool) {
        self.late = self.late * SMOOTH + f64::from(u8::from(late)) * (1.0 - SMOOTH);
        self.look.late += u32::from(late);
        self.look.time += turn;
        if self.look.time < Duration::from_millis(TURN_MS) * LOOK_TURNS {
            return;
        }
        let Look { late, time, .. } = std::mem::take(&mut self.look);
        for pace in self.of.values_mut() {
            let sent = std::mem::take(&mut pace.looked_bytes) as f64 / time.as_secs_f64();
            // Of one that is slowed it says nothing that others are in time.
            let is_carried = late <= LOOK_LATE_MAX && !pace.standing.is_slowed();
            let in_time = if is_carried { sent } else { 0.0 };
            pace.carried = (pace.carried * CARRIED_FADES).max(in_time);
        }
        self.left.retain(|_, carried| {
            *carried *= CARRIED_FADES;
            *carried > RATE_MIN
        });
    }

    /// Who is slowed next: of those who are suspected already the one that sends the most, while
    /// there is something left to take from it, then whoever of the others is suspected of most.
    fn suspect(&self, least: f64) -> Option<TenantId> {
        let is_suspect = |pace: &Pace| pace.standing.is_slowed() && pace.recent > least;
        let found = self.of.iter().filter(|(_, pace)| is_suspect(pace));
        let is_tried = self.late >= LATE_OFTEN;
        let free = self.of.iter().filter(|(_, pace)| is_tried && pace.beyond(least) > 0.0);
        let found = found.max_by(|(_, a), (_, b)| a.recent.total_cmp(&b.recent));
        let free = || free.max_by(|(_, a), (_, b)| a.beyond(least).total_cmp(&b.beyond(least)));
        found.or_else(free).map(|(tenant, _)| *tenant)
    }
}

/// The paces of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    paces: Mutex<Paces>,
    /// Somebody came who was not there.
    came: Notify,
}

impl Fairness {
    /// Notes a request of so many bytes; the instant before which it should not be let in, for a
    /// tenant that is limited.
    pub(crate) fn pace(&self, tenant: TenantId, bytes: usize, now: Instant) -> Option<Instant> {
        let mut paces = lock(&self.paces);
        if !paces.of.contains_key(&tenant) {
            self.came.notify_one();
            // Who comes to others begins with an even share, or with what was carried when it was
            // there before, and is given more when there is.
            let present = paces.of.len() as f64;
            let share = (paces.capacity / (present + 1.0)).max(RATE_FIRST);
            let carried = paces.left.remove(&tenant).unwrap_or_default();
            let rate = (present > 0.0).then_some(share.max(carried * SUSPECT));
            paces.of.insert(tenant, Pace { rate, carried, ..Pace::default() });
        }
        let pace = paces.of.get_mut(&tenant).expect("it was there or inserted");
        pace.bytes += bytes as u64;
        let rate = pace.rate?;
        let saved = now.checked_sub(Duration::from_millis(BURST_MS)).unwrap_or(now);
        let begin = pace.paid_until.map_or(saved, |until| until.max(saved));
        pace.paid_until = Some(begin + Duration::from_secs_f64(bytes as f64 / rate));
        (begin > now).then_some(begin)
    }

    /// Sets the rates for the next turn, by what was sent in `turn` and by how late things were.
    fn set_rates(&self, turn: Duration, late: bool) {
        if turn < Duration::from_millis(TURN_MS) {
            // Too short to tell a rate from a burst: it counts in the next one.
            return;
        }
        let mut paces = lock(&self.paces);
        let seconds = turn.as_secs_f64();
        let sent = |pace: &Pace| pace.bytes as f64 / seconds;
        for pace in paces.of.values_mut() {
            pace.silent_turns = if pace.bytes > 0 { 0 } else { pace.silent_turns + 1 };
            pace.looked_bytes += pace.bytes;
            let sent = sent(pace);
            let before = if pace.recent > 0.0 { pace.recent } else { sent };
            pace.recent = before * SMOOTH + sent * (1.0 - SMOOTH);
            let before = if pace.usual > 0.0 { pace.usual } else { sent };
            pace.usual = before * SMOOTH_LONG + sent * (1.0 - SMOOTH_LONG);
        }
        let Paces { of, left, .. } = &mut *paces;
        for (tenant, pace) in of.extract_if(.., |_, pace| pace.silent_turns >= PRESENT_TURNS) {
            if pace.carried > RATE_MIN {
                left.insert(tenant, pace.carried);
            }
        }
        let all: f64 = paces.of.values().map(sent).sum();
        paces.sent = paces.sent * SMOOTH + all * (1.0 - SMOOTH);
        paces.capacity = (paces.capacity * FADES).max(paces.sent).max(RATE_MIN);
        let present = paces.of.len().max(1) as f64;
        let least = (paces.capacity / present * SHARE_KEPT).max(RATE_MIN);
        paces.look(turn, late);
        let alone = paces.of.len() < 2;
        let one = if late && !alone { paces.suspect(least) } else { None };
        let (share, late_before) = (paces.capacity / present, paces.late);
        for (tenant, pace) in &mut paces.of {
            let sent = sent(pace);
            let slower = one == Some(*tenant);
            if slower && pace.standing == Standing::Free {
                let (sent, turns) = (pace.recent, 0);
                pace.standing = Standing::Tried { turns, late: 0, sent, late_before };
            }
            pace.rate = match pace.rate {
                _ if alone => None,
                rate if slower && sent > least => {
                    let now = rate.map_or(sent, |rate| rate.min(sent)).min(share);
                    Some((now * SLOWER).max(least))
                }
                Some(rate) if late => Some(rate),
                // A tenant that does not use its rate is not held by it. A turn without bytes
                // says nothing of who sends large batches.
                Some(rate) if rate > 4.0 * pace.recent.max(sent).max(least) => None,
                Some(rate) if pace.standing == Standing::Free => Some(rate * FASTER_FREE),
                Some(rate) => Some(rate * FASTER),
                None => None,
            };
            pace.judge(late);
            if pace.rate.is_none() {
                if pace.standing.is_slowed() {
                    pace.standing = Standing::Free;
                }
                pace.paid_until = None;
            }
            pace.bytes = 0;
        }
    }
}

/// Sets the rates, turn by turn, for as long as anybody else holds `fairness`.
pub(crate) async fn run(fairness: Arc<Fairness>) {
    while Arc::strong_count(&fairness) > 1 {
        let began = Instant::now();
        let present = lock(&fairness.paces).of.len();
        if present == 0 {
            // An idle broker sleeps.
            let came = fairness.came.notified();
            let _ = tokio::time::timeout(Duration::from_millis(IDLE_MS), came).await;
            fairness.set_rates(began.elapsed(), false);
            continue;
        }
        let mut probes = 0u32;
        let mut late = Duration::ZERO;
        while began.elapsed() < Duration::from_millis(TURN_MS) {
            late += lateness().await;
            probes += 1;
        }
        let late_us = (late / probes.max(1)).as_micros() as u64;
        fairness.set_rates(began.elapsed(), late_us > LATE_US);
    }
}

/// How much later than asked for this task runs: by the timer, and behind the tasks that are
/// ready.
async fn lateness() -> Duration {
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(PROBE_MS)).await;
    tokio::task::yield_now().await;
    // The timer counts whole milliseconds and begins in the middle of one.
    began.elapsed().saturating_sub(Duration::from_millis(PROBE_MS + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISY: TenantId = TenantId(1);
    const QUIET: TenantId = TenantId(2);
    const TURN: Duration = Duration::from_millis(TURN_MS);

    fn rate(fairness: &Fairness, tenant: TenantId) -> Option<f64> {
        lock(&fairness.paces).of.get(&tenant).and_then(|pace| pace.rate)
    }

    fn turn(fairness: &Fairness, noisy: usize, quiet: usize, late: bool) {
        let now = Instant::now();
        for (tenant, bytes) in [(NOISY, noisy), (QUIET, quiet)] {
            if bytes > 0 {
                fairness.pace(tenant, bytes, now);
            }
        }
        fairness.set_rates(TURN, late);
    }

    #[test]
    fn a_tenant_alone_is_never_slowed() {
        let fairness = Fairness::default();
        for _ in 0..100 {
            turn(&fairness, 10 << 20, 0, true);
            assert_eq!(rate(&fairness, NOISY), None);
        }
    }

    #[test]
    fn the_largest_is_slowed_and_keeps_a_part_of_its_share_of_the_capacity() {
        let fairness = Fairness::default();
        let mut sent = 11 << 20;
        for _ in 0..50 {
            turn(&fairness, sent, 0, true);
        }
        let mut after = |late: &dyn Fn(usize) -> bool| {
            for _ in 0..100 {
                turn(&fairness, sent, 1 << 20, late(sent));
                let rate = rate(&fairness, NOISY).expect("limited");
                sent = (rate * TURN.as_secs_f64()) as usize;
            }
            sent as f64 / f64::from(1 << 20)
        };
        let mib = after(&|sent| sent > 1 << 20);
        assert!((0.6..1.1).contains(&mib), "{mib} MiB a turn are in time");
        let mib = after(&|_| true);
        let quiet = rate(&fairness, QUIET).is_none_or(|rate| rate >= RATE_FIRST);
        assert!(quiet, "only the largest is slowed");
        // The capacity was 12 MiB a turn and has faded; an eighth of the half is kept.
        assert!((0.4..0.8).contains(&mib), "{mib} MiB a turn beside 1 MiB");
    }

    /// Whoever is slowed, requests are late: somebody else is why.
    #[test]
    fn who_is_not_why_goes_free_and_is_left_alone() {
        let fairness = Fairness::default();
        let mut slowed = 0;
        for _ in 0..20 * LOOK_TURNS {
            turn(&fairness, 10 << 20, 1 << 20, true);
            slowed += u32::from(rate(&fairness, NOISY).is_some());
        }
        // One trial; a tenth of what it sent is forgotten in 95 looks.
        assert_eq!(slowed, LOOK_TURNS - 1);
    }

    /// A tenant that was carried in time is not slowed for another that comes and is late.
    #[test]
    fn what_was_carried_in_time_is_not_suspected() {
        let fairness = Fairness::default();
        for _ in 0..2 * LOOK_TURNS {
            turn(&fairness, 10 << 20, 0, false);
        }
        for _ in 0..LOOK_TURNS / 2 {
            turn(&fairness, 10 << 20, 4 << 20, true);
            assert_eq!(rate(&fairness, NOISY), None, "it sends what was carried");
        }
        let standing = lock(&fairness.paces).of[&QUIET].standing;
        assert!(matches!(standing, Standing::Tried { .. }), "who came is, though it sends less");
    }

    /// Who was silent for a while, or connected anew, is still known.
    #[test]
    fn what_was_carried_is_remembered_of_who_left() {
        let fairness = Fairness::default();
        for _ in 0..2 * LOOK_TURNS {
            turn(&fairness, 10 << 20, 0, false);
        }
        (0..=PRESENT_TURNS).for_each(|_| turn(&fairness, 0, 1 << 20, false));
        assert!(!lock(&fairness.paces).of.contains_key(&NOISY), "it is not there");
        for _ in 0..LOOK_TURNS / 2 {
            turn(&fairness, 10 << 20, 4 << 20, true);
            let paces = lock(&fairness.paces);
            assert_eq!(paces.of[&NOISY].standing, Standing::Free);
            let rate = paces.of[&NOISY].rate.unwrap_or(f64::INFINITY) * TURN.as_secs_f64();
            assert!(rate >= f64::from(10 << 20), "{rate}: it may send what it sent before");
        }
    }

    /// What piles up while a tenant is held up comes in a burst, and is no flood.
    #[test]
    fn who_catches_up_is_not_suspected() {
        let fairness = Fairness::default();
        for _ in 0..2 * LOOK_TURNS {
            turn(&fairness, 10 << 20, 1 << 20, false);
        }
        for _ in 0..4 {
            for sent in [0, 0, 0, 40 << 20] {
                turn(&fairness, sent, 1 << 20, true);
                assert_eq!(lock(&fairness.paces).of[&NOISY].standing, Standing::Free);
            }
        }
        // The same after a trial, which holds it up for a second.
        let fairness = Fairness::default();
        let standing = || lock(&fairness.paces).of[&NOISY].standing;
        turn(&fairness, 10 << 20, 1 << 20, true);
        for _ in 0..2 * LOOK_TURNS {
            if matches!(standing(), Standing::Cleared { .. }) {
                break;
            }
            turn(&fairness, 10 << 20, 1 << 20, true);
        }
        for _ in 1..CLEARED_TURNS {
            turn(&fairness, 30 << 20, 1 << 20, true);
            assert_eq!(rate(&fairness, NOISY), None);
        }
        (0..2).for_each(|_| turn(&fairness, 30 << 20, 1 << 20, true));
        assert!(rate(&fairness, NOISY).is_some(), "it goes on for longer than that");
    }

    /// A flood that stops and begins again is suspected again, whatever it sent while it was held.
    #[test]
    fn a_flood_that_was_held_is_no_habit() {
        let fairness = Fairness::default();
        let mut sent = 10 << 20;
        for _ in 0..4 * LOOK_TURNS {
            turn(&fairness, sent, 1 << 20, sent > 6 << 20);
            let rate = rate(&fairness, NOISY).unwrap_or(f64::INFINITY);
            sent = (10 << 20).min((rate * TURN.as_secs_f64()) as usize);
        }
        assert_eq!(lock(&fairness.paces).of[&NOISY].standing, Standing::Held);
        (0..=PRESENT_TURNS).for_each(|_| turn(&fairness, 0, 1 << 20, false));
        (0..3).for_each(|_| turn(&fairness, 10 << 20, 1 << 20, true));
        let standing = lock(&fairness.paces).of[&NOISY].standing;
        assert!(matches!(standing, Standing::Tried { .. }), "{standing:?}");
    }

    /// Two floods: when the first has nothing left to give, the second is looked at.
    #[test]
    fn a_second_flood_is_slowed_as_well() {
        let fairness = Fairness::default();
        let mut sent = (10 << 20, 8 << 20);
        let part = |rate: Option<f64>, all: usize| {
            rate.map_or(all, |rate| all.min((rate * TURN.as_secs_f64()) as usize))
        };
        for _ in 0..4 * LOOK_TURNS {
            // In time as long as both together send no more than 6 MiB.
            turn(&fairness, sent.0, sent.1, sent.0 + sent.1 > 6 << 20);
            sent.0 = part(rate(&fairness, NOISY), 10 << 20);
            sent.1 = part(rate(&fairness, QUIET), 8 << 20);
        }
        assert!(sent.0 + sent.1 <= 7 << 20, "{sent:?}");
        let held = |tenant| lock(&fairness.paces).of[&tenant].standing == Standing::Held;
        assert!(held(NOISY) || held(QUIET));
    }

    #[test]
    fn what_is_in_time_again_is_given_back() {
        let fairness = Fairness::default();
        (0..3).for_each(|_| turn(&fairness, 10 << 20, 1 << 20, true));
        assert!(rate(&fairness, NOISY).is_some());
        for _ in 0..2_000 {
            turn(&fairness, 10 << 20, 1 << 20, false);
        }
        assert_eq!(rate(&fairness, NOISY), None);
    }

    /// Large batches are let in now and then, and nothing comes between them.
    #[test]
    fn who_sends_large_batches_is_held_all_the_same() {
        let fairness = Fairness::default();
        let batch = |number: u32| if number.is_multiple_of(4) { 40 << 20 } else { 0 };
        (0..5).for_each(|number| turn(&fairness, batch(number), 1 << 20, true));
        for number in 5..LOOK_TURNS + 5 {
            assert!(rate(&fairness, NOISY).is_some(), "in time since it is slowed");
            turn(&fairness, batch(number), 1 << 20, false);
        }
        assert_eq!(lock(&fairness.paces).of[&NOISY].standing, Standing::Held);
    }

    #[test]
    fn a_limited_tenant_waits_in_proportion() {
        let fairness = Fairness::default();
        for _ in 0..10 {
            turn(&fairness, 10 << 20, 1 << 20, true);
        }
        let rate = rate(&fairness, NOISY).expect("limited");
        // Later than everything that was let in so far takes.
        let now = Instant::now() + Duration::from_secs(60);
        let second = rate as usize;
        assert_eq!(fairness.pace(NOISY, second, now), None, "what is saved up is let in");
        let until = fairness.pace(NOISY, second, now).expect("a second was taken");
        let wait = until - now;
        assert!((0.9..1.01).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(fairness.pace(QUIET, 1 << 10, now), None);
    }

    #[test]
    fn a_tenant_that_left_is_forgotten() {
        let fairness = Fairness::default();
        turn(&fairness, 10 << 20, 1 << 20, true);
        for _ in 0..PRESENT_TURNS {
            turn(&fairness, 10 << 20, 0, true);
        }
        assert_eq!(rate(&fairness, NOISY), None);
        assert_eq!(lock(&fairness.paces).of.len(), 1);
    }
}
