//! The sidecars of sealed segments: loaded when they fit, made again when they do not.
use super::Repair;
use super::scan::{SegmentReader, disk_error};
use crate::disk::{Disk, FileName};
use crate::error::OpenError;
use crate::format::HeadError;
use crate::format::segment::{self, SegmentHeader};
use crate::format::sidecar::{self, DirectorySpan, LINE_BYTES, Line, SidecarHeader};
use crate::index::QueueIndexes;
use crate::store::{Cursor, Sealing};

/// Head and directory of the sidecar of this segment; `None` when it is missing, damaged or of
/// another segment.
pub(crate) fn read(
    disk: &dyn Disk,
    segment: &SegmentHeader,
) -> Result<Option<(SidecarHeader, Vec<Line>)>, OpenError> {
    let Some((header, span)) = read_header(disk, segment)? else {
        return Ok(None);
    };
    let name = FileName::Index(segment.segment);
    let bytes = disk.len(name).map_err(disk_error(name))?;
    let directory = (span.lines as u64) * LINE_BYTES as u64;
    let head = sidecar::HEADER_BYTES as u64;
    if bytes != span.file_bytes || head + directory > bytes {
        yard_wire::mark!(SidecarCut);
        return Ok(None);
    }
    let mut directory = vec![0; directory as usize];
    disk.read_at(name, head, &mut directory).map_err(disk_error(name))?;
    Ok(span.decode(&directory).map(|lines| (header, lines)))
}

/// Head of the sidecar of this segment; `None` as for [`read`].
pub(crate) fn read_header(
    disk: &dyn Disk,
    segment: &SegmentHeader,
) -> Result<Option<(SidecarHeader, DirectorySpan)>, OpenError> {
    let name = FileName::Index(segment.segment);
    let bytes = match disk.len(name) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk_error(name)(error)),
    };
    if bytes < sidecar::HEADER_BYTES as u64 {
        yard_wire::mark!(SidecarShort);
        return Ok(None);
    }
    let mut head = [0; sidecar::HEADER_BYTES];
    disk.read_at(name, 0, &mut head).map_err(disk_error(name))?;
    match sidecar::decode_header(&head) {
        Ok((header, span)) => {
            let whose = (header.shard, header.segment, header.salt);
            let fits = whose == (segment.shard, segment.segment, segment.salt);
            Ok(fits.then_some((header, span)))
        }
        Err(HeadError::Damaged) => {
            yard_wire::mark!(SidecarDamaged);
            Ok(None)
        }
        Err(HeadError::Version(version)) => {
            yard_wire::mark!(SidecarVersion);
            Err(OpenError::Version { name, version })
        }
    }
}

/// Whether the first group of `next` follows what the sidecar says was the last of its segment.
pub(super) fn is_followed_by(
    disk: &dyn Disk,
    sidecar: &SidecarHeader,
    next: &SegmentHeader,
) -> Result<bool, OpenError> {
    let front = SegmentReader::new(disk, *next).header(segment::HEADER_BYTES as u64);
    let front = front.map_err(disk_error(FileName::Segment(next.segment)))?;
    Ok(front.is_some_and(|header| {
        header.group.0.checked_sub(1) == Some(sidecar.last_group.0)
            && header.previous_chain == sidecar.chain
    }))
}

/// The cursor after the segment of a sidecar.
pub(super) fn cursor_after(sidecar: &SidecarHeader) -> Cursor {
    Cursor {
        next_group: sidecar.last_group.0 + 1,
        chain: sidecar.chain,
        stored: sidecar.last_stored,
        // Whatever it was: a group of a later segment follows.
        empty: false,
    }
}

/// Makes the sidecar of a scanned segment be there and moves its index out of memory. When the
/// disk does not take it, it stays in memory, and the store tries again.
pub(super) fn ensure(
    disk: &dyn Disk,
    header: &SidecarHeader,
    index: &mut QueueIndexes,
    repairs: &mut Vec<Repair>,
) -> Result<Option<Sealing>, OpenError> {
    let segment = header.segment;
    assert!(index.stored_base(segment).is_some(), "the segment was scanned");
    let name = FileName::Index(segment);
    let (file, places) = index.sidecar(*header);
    let bytes = file.encode();
    let there = match disk.len(name) {
        Ok(length) if length == bytes.len() as u64 => {
            let mut found = vec![0; bytes.len()];
            disk.read_at(name, 0, &mut found).map_err(disk_error(name))?;
            found == bytes
        }
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(disk_error(name)(error)),
    };
    if !there {
        if disk.replace(name, &bytes).is_err() {
            yard_wire::mark!(SidecarRefused);
            return Ok(Some(Sealing { index: file, places, failed: true }));
        }
        yard_wire::mark!(SidecarRebuilt);
        repairs.push(Repair::IndexRebuilt { segment });
    }
    index.leave_memory(&places);
    Ok(None)
}
