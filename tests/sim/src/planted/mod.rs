//! Bugs that are planted on purpose, each as a wrapper around the shard; see PLANTED.md.
mod image;

use std::collections::BTreeSet;

use yard_broker::{DeliverItem, Event, Origin, SessionId};
use yard_checker::CrashKind;
use yard_shard::Output;
use yard_store::disk::lying::LyingDisk;
use yard_store::{Io, IoDone};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Deliver, Settle, SettleRange, Verdict};
use yard_wire::{Correlation, ProducerId, QueueOffset, Sequence, TenantId, batch};

use crate::base::Base;

macro_rules! plants {
    ($( $variant:ident $name:literal $seeds:literal )*) => {
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

            /// Seeds in which it must be caught.
            #[must_use]
            pub fn seeds_max(self) -> u64 {
                match self { $( Self::$variant => $seeds, )* }
            }
        }
    };
}

plants! {
    AckBeforeSync "ack-before-sync" 100
    SyncSkipped "sync-skipped" 100
    FirstSyncSkipped "first-sync-skipped" 1_000
    FailedSyncIgnored "failed-sync-ignored" 500
    WrittenBeforeWrite "written-before-write" 500
    SettledBeforeDurable "settled-before-durable" 500
    DeliveredBeforeCommit "delivered-before-commit" 500
    RecoveryDropsLast "recovery-drops-last" 100
    RecoveryAcceptsTorn "recovery-accepts-torn" 1_000
    CheckpointTooNew "checkpoint-too-new" 1_000
    NumberingNotRestored "numbering-not-restored" 500
    ProgressNotRestored "progress-not-restored" 100
    FloorIgnored "floor-ignored" 500
    SegmentNameNotDurable "segment-name-not-durable" 500
    SettledOnDelivery "settled-on-delivery" 100
    CloseNotTold "close-not-told" 100
    NackSettles "nack-settles" 100
    AttemptNotCounted "attempt-not-counted" 100
    AnswersSwapped "answers-swapped" 100
    ClientRenumbers "client-renumbers" 100
}

/// What a planted bug remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Segments that were synced, by shard.
    synced: BTreeSet<(usize, u32)>,
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
        (Plant::AckBeforeSync | Plant::DeliveredBeforeCommit, Io::SyncGroup { group, .. }) => {
            Some(IoDone::Synced { group: *group })
        }
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
    let really = yard_store::io::perform(disk, io);
    if told_early { Report::Altered { really, told: None } } else { Report::Honest(really) }
}

/// Changes an I/O before it is queued; `before` is the state of the checkpoint before.
pub(crate) fn alter_io(base: &Base, io: Io, before: &mut Option<Vec<u8>>) -> Io {
    match io {
        Io::WriteCheckpoint { bytes } if base.has(Plant::CheckpointTooNew) => {
            let bytes = image::exchange_state(&bytes, before);
            Io::WriteCheckpoint { bytes }
        }
        other => other,
    }
}

/// Changes a request on its way to the shard.
pub(crate) fn alter_request(base: &Base, life: u32, request: &mut Request) {
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

/// Changes what a shard wants.
pub(crate) fn alter_outputs(base: &Base, outputs: &mut [Output]) {
    match base.plant {
        Some(Plant::AttemptNotCounted) => {
            for output in outputs {
                if let Output::Deliver { items, .. } = output {
                    let first = |item: &mut DeliverItem| item.attempt = 1;
                    items.iter_mut().for_each(first);
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
        Some(Plant::RecoveryAcceptsTorn) => image::seal_torn_group(disk),
        _ => {}
    }
}
