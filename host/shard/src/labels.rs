//! What records say that decides about their delivery: whoever reads finds it out, and the bytes
//! are in memory when they are delivered next.
use yard_broker::{Label, Reads};
use yard_store::ReadError;
use yard_store::disk::Disk;
use yard_wire::RecordPlace;

use crate::output::FetchPlan;

/// Bytes of records that are read for one question, unless the first is larger.
const READ_BYTES_MAX: u64 = 4 << 20;

impl FetchPlan {
    /// Where the records are, and what each says: of as many as fit one answer, at least one.
    /// `read` gives records to a function, in order. A damaged record says nothing: who delivers
    /// it finds that it is lost.
    ///
    /// # Errors
    /// [`ReadError`] when the index or the first record cannot be read.
    pub fn labels(
        self,
        disk: &dyn Disk,
        reads: &Reads,
        mut read: impl FnMut(&[RecordPlace], &mut dyn FnMut(&[u8])) -> Result<(), ReadError>,
    ) -> Result<(Vec<RecordPlace>, Vec<Label>), ReadError> {
        let mut places = match self {
            Self::Records(places) => places,
            Self::Index(entries) => yard_store::read::index(disk, &entries)?,
        };
        let mut bytes = 0;
        let fits = places.iter().take_while(|place| {
            bytes += u64::from(place.bytes);
            bytes <= READ_BYTES_MAX
        });
        let count = fits.count().max(1);
        places.truncate(count);
        let peek = |record: &[u8]| Label::peek(record, reads);
        let mut labels = Vec::with_capacity(places.len());
        if read(&places, &mut |record| labels.push(peek(record))).is_err() {
            labels.clear();
            for place in &places {
                let mut label = Label::default();
                let one = std::slice::from_ref(place);
                match read(one, &mut |record| label = peek(record)) {
                    Ok(()) => labels.push(label),
                    Err(ReadError::Damaged { .. }) => labels.push(Label::default()),
                    Err(error) if labels.is_empty() => return Err(error),
                    Err(_) => break,
                }
            }
            places.truncate(labels.len());
        }
        assert_eq!(places.len(), labels.len(), "each record says something or nothing");
        Ok((places, labels))
    }
}
