//! Bugs that are planted on purpose, each as a wrapper around the shard; see PLANTED.md.
mod contended;
mod features;
mod image;

pub(crate) use image::group_ends;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use yard_broker::{
    CheckFate, DeliverItem, Event, Label, NoticeWhat, OrderKey, Origin, Reads, SessionId,
};
use yard_checker::CrashKind;
use yard_shard::Output;
use yard_store::disk::FileName;
use yard_store::disk::lying::LyingDisk;
use yard_store::{Io, IoDone, ShardState};
use yard_wire::limits::SETTLE_RANGES_MAX;
use yard_wire::operation::{DelayCancelled, GroupSet, Operation, TxList};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Deliver, Settle, SettleRange, Verdict};
use yard_wire::retry::Attempts;
use yard_wire::{
    Correlation, DedupeKey, Epoch, ProducerId, QueueIndex, QueueOffset, RecordPlace, Sequence,
    SubscriptionId, TenantId, Wire, batch,
};

use crate::base::Base;

macro_rules! plants {
    ($( $variant:ident $name:literal $finder:ident $cases:literal )*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Plant { $( #[doc = $name] $variant, )* }

        impl Plant {
            /// Every bug, in the order of PLANTED.md.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// Its name in PLANTED.md.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// The campaign that must find it.
            #[must_use]
            pub fn finder(self) -> Finder {
                match self { $( Self::$variant => Finder::$finder, )* }
            }

            /// Seeds, states or cases of its campaign in which it must be caught.
            #[must_use]
            pub fn cases_max(self) -> u64 {
                match self { $( Self::$variant => $cases, )* }
            }
        }
    };
}

/// A campaign, by what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// The simulator: seeds.
    Sim,
    /// Power cuts: states.
    Powercut,
    /// Damage: flipped bits and cut files.
    Damage,
}

plants! {
    AckBeforeSync "ack-before-sync" Sim 100
    SyncSkipped "sync-skipped" Sim 100
    FirstSyncSkipped "first-sync-skipped" Sim 1_000
    FailedSyncIgnored "failed-sync-ignored" Sim 500
    WrittenBeforeWrite "written-before-write" Sim 500
    SettledBeforeDurable "settled-before-durable" Sim 500
    DeliveredBeforeCommit "delivered-before-commit" Sim 500
    RecoveryDropsLast "recovery-drops-last" Sim 100
    RecoveryAcceptsTorn "recovery-accepts-torn" Sim 1_000
    CheckpointTooNew "checkpoint-too-new" Sim 1_000
    NumberingNotRestored "numbering-not-restored" Sim 500
    ProgressNotRestored "progress-not-restored" Sim 100
    FloorIgnored "floor-ignored" Sim 500
    SegmentNameNotDurable "segment-name-not-durable" Sim 500
    SettledOnDelivery "settled-on-delivery" Sim 100
    CloseNotTold "close-not-told" Sim 100
    NackSettles "nack-settles" Sim 100
    AttemptNotCounted "attempt-not-counted" Sim 100
    AnswersSwapped "answers-swapped" Sim 100
    ClientRenumbers "client-renumbers" Sim 100
    NextGroupBeforeSync "next-group-before-sync" Sim 1_000
    RecoveryTrustsPageCache "recovery-trusts-page-cache" Sim 2_000
    RecoveryNotSynced "recovery-not-synced" Sim 1_000
    RecoveryRepeatsLast "recovery-repeats-last" Sim 100
    ShortWriteIgnored "short-write-ignored" Sim 100
    AttemptsLostInCrash "attempts-lost-in-crash" Sim 500
    DuplicateMisplaced "duplicate-misplaced" Sim 500
    SettleCutShort "settle-cut-short" Sim 100
    ItemsReversed "items-reversed" Sim 100
    BodiesShifted "bodies-shifted" Sim 100
    FetchSkips "fetch-skips" Sim 100
    SealedIndexShifted "sealed-index-shifted" Sim 500
    FlushAfterSync "flush-after-sync" Powercut 10_000
    RenameBeforeSync "rename-before-sync" Powercut 10_000
    DamageTruncates "damage-truncates" Damage 100
    DamageUnreported "damage-unreported" Damage 100
    BodyCrcIgnored "body-crc-ignored" Damage 1_000
    IndexCrcIgnored "index-crc-ignored" Damage 1_000
    OffsetsSlide "offsets-slide" Damage 1_000
    TailCutTooFar "tail-cut-too-far" Damage 1_000
    EndsForgotten "ends-forgotten" Damage 100
    ReleasedEarly "released-early" Sim 500
    DeadLetterForgotten "dead-letter-forgotten" Sim 100
    AttemptsUnlimited "attempts-unlimited" Sim 100
    CancelMadeUp "cancel-made-up" Sim 500
    IdRenewed "id-renewed" Sim 100
    CommitHalved "commit-halved" Sim 500
    RollbackReleased "rollback-released" Sim 100
    UndecidedHidden "undecided-hidden" Sim 500
    OrderGroupsSplit "order-groups-split" Sim 100
    KeysDropped "keys-dropped" Sim 100
    OriginalMistaken "original-mistaken" Sim 500
    KeysShifted "keys-shifted" Sim 500
    CheckGuessed "check-guessed" Sim 500
    SettledKeysForgotten "settled-keys-forgotten" Sim 500
    KeysMistaken "keys-mistaken" Sim 100
    KeysScattered "keys-scattered" Sim 500
    StreamOvertaken "stream-overtaken" Sim 500
    VerdictsShifted "verdicts-shifted" Sim 100
    ReceiptsReversed "receipts-reversed" Sim 100
    HoldForgotten "hold-forgotten" Sim 500
    FailuresForgotten "failures-forgotten" Sim 100
    SupersededSettles "superseded-settles" Sim 100
    DecisionTaken "decision-taken-twice" Sim 500
    EpochForgotten "epoch-forgotten" Sim 500
    OriginalForgotten "original-forgotten" Sim 500
    SettingUndone "setting-undone" Sim 500
    NameShared "name-shared" Sim 500
    MoveUnseen "move-unseen" Sim 500
    OwnersMixed "owners-mixed" Sim 500
    UnreadOvertaken "unread-overtaken" Sim 500
    ExpiredComesAgain "expired-comes-again" Sim 100
    ExpiredAsAcked "expired-as-acked" Sim 100
    ExpiryBroughtForward "expiry-brought-forward" Sim 100
    BroadcastShared "broadcast-shared" Sim 100
    ExtensionForgotten "extension-forgotten" Sim 500
    ProducersMerged "producers-merged" Sim 500
    ForeignDecides "foreign-decides" Sim 500
    RemovalMadeUp "removal-made-up" Sim 500
    RemovalForgotten "removal-forgotten" Sim 500
    LatestForgotten "latest-forgotten" Sim 500
    PriorityLost "priority-lost" Sim 100
    PackingLost "packing-lost" Sim 100
    LifeMisplaced "life-misplaced" Sim 100
    LifeOfNobody "life-of-nobody" Sim 500
    AllTraced "all-traced" Sim 100
    OlderStores "older-self-stores" Sim 500
    CountTooHigh "count-too-high" Sim 500
    CountNotRestored "count-not-restored" Sim 500
}

/// One group in so many is written by half.
const SHORT_ONE_IN: u64 = 5;

/// What a planted bug remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Segments that were synced, by shard.
    synced: BTreeSet<(usize, u32)>,
    /// Which delivery of each message was the last, by who has it.
    attempts: BTreeMap<(SubscriptionId, QueueIndex, u64), u32>,
    /// Of each producer with a name, the newest epoch that has sent something.
    epochs: BTreeMap<ProducerId, Epoch>,
}

/// What came of an I/O.
#[derive(Debug)]
pub(crate) enum Report {
    /// The shard hears what happened.
    Honest(IoDone),
    /// The shard hears something else, or has heard it already.
    Altered { really: IoDone, told: Option<IoDone> },
}

/// What is told of an I/O before it is done.
pub(crate) fn early_report(base: &Base, io: &Io) -> Option<IoDone> {
    match (base.plant?, io) {
        (
            Plant::AckBeforeSync | Plant::DeliveredBeforeCommit | Plant::NextGroupBeforeSync,
            Io::SyncGroup { group, .. },
        ) => Some(IoDone::Synced { group: *group }),
        (Plant::WrittenBeforeWrite, Io::WriteGroup { group, .. }) => {
            Some(IoDone::Written { group: *group })
        }
        _ => None,
    }
}

/// Does an I/O, or what the bug does instead.
pub(crate) fn perform(base: &mut Base, disk: &LyingDisk, shard: usize, io: &Io) -> Report {
    let told_early = early_report(base, io).is_some();
    if let Io::SyncGroup { group, segment } = io {
        let first = base.memory.synced.insert((shard, *segment));
        let skipped = match base.plant {
            Some(Plant::SyncSkipped) => true,
            Some(Plant::FirstSyncSkipped) => first,
            _ => false,
        };
        if skipped {
            let (really, told) =
                (IoDone::Failed { group: *group }, IoDone::Synced { group: *group });
            return Report::Altered { really, told: Some(told) };
        }
        let really = yard_store::io::perform(disk, io);
        if base.has(Plant::FailedSyncIgnored) {
            return Report::Altered { really, told: Some(IoDone::Synced { group: *group }) };
        }
        return if told_early {
            Report::Altered { really, told: None }
        } else {
            Report::Honest(really)
        };
    }
    let short = short_write(base, io);
    let really = yard_store::io::perform(disk, short.as_ref().unwrap_or(io));
    if told_early { Report::Altered { really, told: None } } else { Report::Honest(really) }
}

/// The first half of a group, where the rest of a write is forgotten.
fn short_write(base: &Base, io: &Io) -> Option<Io> {
    let Io::WriteGroup { group, segment, offset, bytes } = io else { return None };
    let is_short = base.has(Plant::ShortWriteIgnored) && group.0.is_multiple_of(SHORT_ONE_IN);
    is_short.then(|| Io::WriteGroup {
        group: *group,
        segment: *segment,
        offset: *offset,
        bytes: bytes.slice(..bytes.len() / 2),
    })
}

/// Whether answers wait for the real sync.
pub(crate) fn holds_answers(base: &Base) -> bool {
    base.has(Plant::DeliveredBeforeCommit) || base.has(Plant::NextGroupBeforeSync)
}

/// Changes an I/O before it is queued; `before` is the state of the checkpoint before.
pub(crate) fn alter_io(base: &Base, mut io: Io, before: &mut Option<ShardState>) -> Io {
    if let Io::WriteCheckpoint { state, .. } = &mut io
        && base.has(Plant::CheckpointTooNew)
        && let Some(old) = before.replace(state.clone())
    {
        *state = old;
    }
    io
}

/// Changes a request on its way to the shard.
pub(crate) fn alter_request(base: &mut Base, life: u32, request: &mut Request) {
    if base.has(Plant::OlderStores) {
        features::make_newest(&mut base.memory.epochs, request);
    }
    contended::alter_request(base, request);
    features::alter_request(base, request);
    match (base.plant, request) {
        (Some(Plant::NumberingNotRestored), Request::Produce(produce)) => {
            if let Ok((mut header, count)) = batch::parse_header(&produce.batch) {
                header.producer = ProducerId(header.producer.0 ^ u64::from(life) << 40);
                let records = &produce.batch[batch::HEADER_BYTES..];
                produce.batch = batch::encode(&header, count, records);
                // A producer that nobody knows begins where it says that it begins.
                produce.floor = header.sequence;
            }
        }
        (Some(Plant::FloorIgnored), Request::Produce(produce)) => produce.floor = Sequence(0),
        (Some(Plant::ProgressNotRestored), Request::Subscribe(subscribe)) => {
            subscribe.group = format!("{}.{life}", subscribe.group);
        }
        (Some(Plant::SettleCutShort), Request::Settle(settle)) => {
            for range in &mut settle.ranges {
                if range.verdict == Verdict::Ack {
                    range.to.0 -= 1;
                }
            }
            settle.ranges.retain(|range| range.from < range.to);
        }
        (Some(Plant::SupersededSettles), Request::Settle(settle)) => {
            let by = settle.subscription;
            let ranges = std::mem::take(&mut settle.ranges);
            let held = ranges.iter().flat_map(|range| as_held(&base.memory, by, range));
            settle.ranges = held.collect();
        }
        (Some(Plant::KeysDropped), Request::Produce(produce)) if life > 1 => {
            produce.batch = image::drop_keys(&produce.batch);
        }
        (Some(Plant::ReleasedEarly), Request::Produce(produce)) => {
            produce.batch = image::bring_forward(&produce.batch);
        }
        (Some(Plant::AttemptsUnlimited), Request::Call(call)) => {
            if call.operation == Operation::GroupSet as u16
                && let Ok(mut set) = GroupSet::from_bytes(call.args.clone())
            {
                set.max_attempts = Some(Attempts(0));
                call.args = set.to_bytes();
            }
        }
        (Some(Plant::DeadLetterForgotten), Request::Settle(settle)) => {
            for range in &mut settle.ranges {
                if range.verdict == Verdict::Reject {
                    range.verdict = Verdict::Ack;
                }
            }
        }
        (Some(Plant::NackSettles), Request::Settle(settle)) => {
            for range in &mut settle.ranges {
                if range.verdict == Verdict::Nack {
                    range.verdict = Verdict::Ack;
                }
            }
        }
        _ => {}
    }
}

/// A settlement of whatever deliveries of its messages were the last.
fn as_held(memory: &Memory, by: SubscriptionId, range: &SettleRange) -> Vec<SettleRange> {
    let is_large = range.to.0.saturating_sub(range.from.0) > SETTLE_RANGES_MAX as u64;
    if range.from >= range.to || is_large {
        return vec![range.clone()];
    }
    let offsets = (range.from.0..range.to.0).map(|offset| {
        let last = memory.attempts.get(&(by, range.queue, offset));
        let (from, to) = (QueueOffset(offset), QueueOffset(offset + 1));
        let attempt = last.copied().unwrap_or(range.attempt);
        SettleRange { from, to, attempt, ..range.clone() }
    });
    offsets.collect()
}

/// Changes what a shard wants.
pub(crate) fn alter_outputs(base: &mut Base, life: u32, outputs: &mut [Output]) {
    contended::alter_outputs(base, outputs);
    features::alter_outputs(base, life, outputs);
    let lives_again = life > 1;
    match base.plant {
        Some(Plant::AttemptNotCounted) => outputs.iter_mut().for_each(call_first),
        Some(Plant::AttemptsLostInCrash) if lives_again => {
            outputs.iter_mut().for_each(call_first);
        }
        Some(Plant::SupersededSettles) => {
            for output in outputs {
                let Output::Deliver { subscription, queue, items, .. } = output else { continue };
                let attempts = &mut base.memory.attempts;
                attempts.extend(
                    items.iter().map(|item| ((*subscription, *queue, item.offset.0), item.attempt)),
                );
            }
        }
        Some(Plant::ItemsReversed) => {
            for output in outputs {
                if let Output::Deliver { items, .. } = output {
                    items.reverse();
                }
            }
        }
        Some(Plant::DuplicateMisplaced) => {
            for output in outputs {
                if let Output::Reply { result: Ok(Reply::Produce(produced)), .. } = output
                    && produced.duplicate
                {
                    produced.placed.iter_mut().for_each(|placed| placed.first.0 += 1);
                }
            }
        }
        Some(Plant::OriginalMistaken) => {
            for output in outputs {
                if let Output::Reply { result: Ok(Reply::Produce(produced)), .. } = output {
                    produced.originals.iter_mut().for_each(|original| original.id.0[15] ^= 1);
                }
            }
        }
        Some(Plant::CancelMadeUp) => {
            for output in outputs {
                if let Output::Reply { result: Ok(Reply::Call(called)), .. } = output
                    && let Ok(mut cancelled) = DelayCancelled::from_bytes(called.result.clone())
                {
                    cancelled.cancelled = true;
                    called.result = cancelled.to_bytes();
                }
            }
        }
        Some(Plant::CommitHalved) => outputs.iter_mut().for_each(|output| {
            if let Output::Notify { to, notice } = output
                && let NoticeWhat::Decided { commit } = &mut notice.what
            {
                *commit &= *to == notice.from;
            }
        }),
        Some(Plant::RollbackReleased) => outputs.iter_mut().for_each(|output| {
            if let Output::Notify { notice, .. } = output
                && let NoticeWhat::Decided { commit } = &mut notice.what
            {
                *commit = true;
            }
        }),
        Some(Plant::UndecidedHidden) => {
            for output in outputs {
                if let Output::Reply { result: Ok(Reply::Call(called)), .. } = output
                    && let Ok(mut list) = TxList::from_bytes(called.result.clone())
                {
                    list.rows.clear();
                    called.result = list.to_bytes();
                }
            }
        }
        Some(Plant::AnswersSwapped) => {
            let mut origins = outputs.iter_mut().filter_map(produced_origin);
            if let (Some(one), Some(other)) = (origins.next(), origins.next()) {
                std::mem::swap(one, other);
            }
        }
        _ => {}
    }
}

/// Every delivery of it is the first.
fn call_first(output: &mut Output) {
    if let Output::Deliver { items, .. } = output {
        items.iter_mut().for_each(|item: &mut DeliverItem| item.attempt = 1);
    }
}

/// Changes the records that were read for a delivery.
pub(crate) fn alter_records(base: &Base, records: &mut [Bytes]) {
    if base.has(Plant::BodiesShifted) && !records.is_empty() {
        records.rotate_left(1);
    }
    features::alter_records(base, records);
    if base.has(Plant::IdRenewed) {
        records.iter_mut().for_each(image::renew_id);
    }
}

/// Changes the places that were read of the index of a sealed segment.
pub(crate) fn alter_index(base: &Base, places: &mut [RecordPlace]) {
    if base.has(Plant::SealedIndexShifted) && !places.is_empty() {
        places.rotate_left(1);
    }
}

/// Changes what was read of records: each message has an order group of its own, or a key that is
/// another in each life, or that of all others.
pub(crate) fn alter_labels(
    base: &Base,
    life: u32,
    reads: &Reads,
    places: &[RecordPlace],
    labels: &mut [Label],
) {
    for (place, label) in places.iter().zip(labels) {
        let own = || OrderKey::named(&format!("{}-{}", place.segment, place.offset));
        match (base.plant, &mut label.key) {
            (Some(Plant::OrderGroupsSplit), _) => label.order = own(),
            (Some(Plant::KeysScattered), _) if reads.keys => label.order = own(),
            (Some(Plant::SettledKeysForgotten), Some(key)) => key.0[0] ^= life as u8,
            (Some(Plant::KeysMistaken), Some(key)) => *key = DedupeKey::default(),
            _ => {}
        }
    }
}

/// Changes the keys that a plugin gives the messages of a batch: each gets that of the next.
pub(crate) fn alter_keys(base: &Base, keys: &mut [(u32, DedupeKey)]) {
    if base.has(Plant::KeysShifted)
        && let [first, .., last] = keys
    {
        std::mem::swap(&mut first.1, &mut last.1);
    }
}

/// Changes what a filter says of messages: each gets the answer to the one before.
pub(crate) fn alter_verdicts(base: &Base, wanted: &mut [bool]) {
    if base.has(Plant::VerdictsShifted) && !wanted.is_empty() {
        wanted.rotate_right(1);
    }
}

/// What is decided about a transaction about which a plugin says nothing.
pub(crate) fn guess(base: &Base) -> Option<CheckFate> {
    base.has(Plant::CheckGuessed).then_some(CheckFate::Commit)
}

/// Changes the places that a fetch reads.
pub(crate) fn alter_fetch(base: &Base, places: &mut Vec<RecordPlace>) {
    if base.has(Plant::FetchSkips) && places.len() > 1 {
        places.remove(0);
    }
}

/// Whether a start leaves out a write to a segment, and its syncs.
pub(crate) fn omits_in_start(base: &Base) -> (bool, bool) {
    (base.has(Plant::RecoveryTrustsPageCache), base.has(Plant::RecoveryNotSynced))
}

fn produced_origin(output: &mut Output) -> Option<&mut Origin> {
    match output {
        Output::Reply { origin, result: Ok(Reply::Produce(_)) } => Some(origin),
        _ => None,
    }
}

/// The settlement that a bug makes of a delivery.
pub(crate) fn ack_of_delivery(base: &Base, session: SessionId, deliver: &Deliver) -> Option<Event> {
    if !base.has(Plant::SettledOnDelivery) {
        return None;
    }
    let ranges = deliver.messages.iter().map(|message| SettleRange {
        queue: deliver.queue,
        from: message.offset,
        to: QueueOffset(message.offset.0 + 1),
        attempt: message.attempt,
        verdict: Verdict::Ack,
        delay_ms: None,
        error: None,
    });
    let request = Request::Settle(Settle {
        shard: deliver.shard,
        subscription: deliver.subscription,
        ranges: ranges.collect(),
    });
    let origin = Origin { session, stream: 1, correlation: Correlation(0) };
    Some(Event::Request { origin, tenant: TenantId(0), request })
}

/// Changes what a crash leaves behind.
pub(crate) fn alter_crash(base: &Base, disk: &LyingDisk, kind: CrashKind) {
    if base.has(Plant::SegmentNameNotDurable) && kind == CrashKind::Power {
        image::remove_newest(disk);
    }
}

/// Changes what a shard finds when it is opened.
pub(crate) fn alter_image(base: &Base, disk: &LyingDisk, life: u32) {
    match base.plant {
        Some(Plant::RecoveryDropsLast) if life > 0 => image::drop_last_group(disk),
        Some(Plant::RecoveryRepeatsLast) if life > 0 => image::repeat_last_group(disk),
        Some(Plant::RecoveryAcceptsTorn) => image::seal_torn_group(disk),
        _ => {}
    }
}

/// Changes files in which a byte was damaged; where it lies in a record, that record is named.
pub(crate) fn alter_damaged(
    plant: Option<Plant>,
    files: &mut BTreeMap<FileName, Vec<u8>>,
    (name, byte): (FileName, usize),
    record: Option<Range<u64>>,
) {
    let (Some(plant), FileName::Segment(_)) = (plant, name) else { return };
    let Some(file) = files.get_mut(&name) else { return };
    match (plant, record) {
        (Plant::DamageTruncates, _) => file[byte..].fill(0),
        (Plant::BodyCrcIgnored, Some(record)) => {
            image::excuse_body(&mut file[record.start as usize..record.end as usize]);
        }
        _ => {}
    }
}

/// Changes a log that was cut short.
pub(crate) fn alter_cut(plant: Option<Plant>, disk: &LyingDisk) {
    if plant == Some(Plant::TailCutTooFar) {
        image::drop_last_group(disk);
    }
}

/// Changes files of a log whose last groups were erased.
pub(crate) fn alter_erased(plant: Option<Plant>, files: &mut BTreeMap<FileName, Vec<u8>>) {
    if plant == Some(Plant::EndsForgotten)
        && let Some(saved) = files.get_mut(&FileName::Checkpoint)
    {
        image::forget_ends(saved);
    }
}

/// Changes places that were read of a sealed index, when that was damaged.
pub(crate) fn alter_trusted(plant: Option<Plant>, damaged: FileName, places: &mut [RecordPlace]) {
    if plant == Some(Plant::IndexCrcIgnored) && matches!(damaged, FileName::Index(_)) {
        places.rotate_left(1);
    }
}
