//! One segment, every byte of it.
use bytes::Bytes;
use yard_wire::GroupNumber;

use super::queues::Queues;
use super::survey::Surveyed;
use super::walk::Walk;
use super::{Counts, Damage, Link, Span};
use crate::derived::KeyBuilder;
use crate::disk::Disk;
use crate::format::keys::KeyHead;
use crate::format::segment::HEADER_BYTES;
use crate::format::sidecar::{Line, SidecarHeader};

/// What a segment holds.
pub struct Examined {
    /// The segment.
    pub segment: Surveyed,
    /// Its first whole group, with the chain before it.
    pub first: Option<Link>,
    /// Its last whole group.
    pub last: Option<Link>,
    /// Where the first begins.
    pub(super) begin: u64,
    /// Byte after the last.
    pub end: u64,
    /// Byte after the last group that a later one in this segment proves to be durable.
    pub proven_end: u64,
    /// That group.
    pub proven: Option<Link>,
    /// The last whole group holds nothing: it was written to prove the one before.
    pub is_idle: bool,
    /// Bytes behind the last group, up to the last that is not zero.
    pub loose: u64,
    /// Byte after the last that is not zero, whatever it belongs to.
    pub filled: u64,
    /// What was found whole.
    pub counts: Counts,
    /// What was not.
    pub damage: Vec<Damage>,
    /// End and chain of the group that was asked for, if it is here.
    pub seen: Option<(u64, u64)>,
    /// Its entries say that the segments below this one are gone.
    pub(super) retired: u32,
    pub(super) queues: Queues,
    pub(super) keys: Vec<KeyBuilder>,
    /// All that they are made of could be read: releases refer to other segments.
    pub(super) keys_are_known: bool,
    /// The lowest segment that its releases refer to.
    pub(super) refers_from: Option<u32>,
    /// What the sidecar of a damaged segment says that it held.
    pub(super) claims: Vec<Span>,
}

/// Checks every group of a segment, its entries, its messages, and the order of all of them. With
/// `wanted`, says what there is of this group.
#[must_use]
pub fn examine(disk: &dyn Disk, segment: &Surveyed, wanted: Option<GroupNumber>) -> Examined {
    examine_with(disk, segment, wanted, &[])
}

/// As [`examine`], and makes these parts of the key index again meanwhile.
pub(super) fn examine_with(
    disk: &dyn Disk,
    segment: &Surveyed,
    wanted: Option<GroupNumber>,
    parts: &[KeyHead],
) -> Examined {
    let mut walk = Walk::new(disk, segment, None);
    assert!(segment.bytes() >= HEADER_BYTES as u64, "a segment has a header");
    walk.wanted = wanted;
    let part = |head: &KeyHead| KeyBuilder::of_part(segment.header, head.from, head.to);
    walk.keys = parts.iter().map(part).collect();
    walk.run();
    assert!(walk.proven_end <= walk.end, "what is proven is whole");
    let Walk { first, last, seen, begin, end, proven_end, proven, is_idle, .. } = walk;
    let Walk { loose, filled, counts, damage, retired, queues, keys, .. } = walk;
    assert!(filled >= end, "groups are not zero");
    let Walk { keys_are_known, refers_from, .. } = walk;
    let segment = *segment;
    let claims = Vec::new();
    Examined {
        segment,
        first,
        last,
        begin,
        end,
        proven_end,
        proven,
        is_idle,
        loose,
        filled,
        counts,
        damage,
        seen,
        retired,
        queues,
        keys,
        keys_are_known,
        refers_from,
        claims,
    }
}

impl Examined {
    /// Nothing can be said of the group before its first whole one.
    pub(super) fn is_broken_before(&self) -> bool {
        self.first.is_none() || self.begin > HEADER_BYTES as u64
    }

    /// Nothing can be said of the group after its last whole one.
    pub(super) fn is_broken_after(&self) -> bool {
        self.last.is_none() || self.damage.last().is_some_and(|last| last.offset >= self.end)
    }

    /// Gives away the queue index that belongs to the segment once it is sealed; `None` when it
    /// holds no group, or not all of what it held.
    pub(super) fn take_index(&mut self, lost: &[Line]) -> Option<Bytes> {
        let (first, last) = (self.first?, self.last?);
        assert!(first.group <= last.group, "groups are in order");
        assert!(self.end > self.begin, "a group has bytes");
        let header = SidecarHeader {
            shard: self.segment.header.shard,
            segment: self.segment.segment(),
            salt: self.segment.salt(),
            last_group: last.group,
            chain: last.chain,
            last_stored: last.stored,
            stored_base: first.stored,
            end: self.end,
            refers_from: self.refers_from,
        };
        if !self.damage.is_empty() {
            return None;
        }
        Some(self.queues.take_file(header, lost)?.encode())
    }
}
