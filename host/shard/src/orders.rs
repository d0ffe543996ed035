//! Which order groups records belong to: said by the records themselves, so whoever reads finds it
//! out, and the bytes are in memory when they are delivered next.
use yard_broker::{OrderKey, Reading};
use yard_store::ReadError;
use yard_store::disk::Disk;
use yard_wire::RecordPlace;

use crate::output::FetchPlan;

/// Bytes of records that are read for one question, unless the first is larger.
const READ_BYTES_MAX: u64 = 4 << 20;

impl FetchPlan {
    /// Where the records are, and what `reading` finds out of each: of as many as fit one answer,
    /// at least one. `read` gives records to a function, in order. Of a damaged record nothing is
    /// found out: who delivers it finds that it is lost.
    ///
    /// # Errors
    /// [`ReadError`] when the index or the first record cannot be read.
    pub fn orders(
        self,
        reading: Reading,
        disk: &dyn Disk,
        mut read: impl FnMut(&[RecordPlace], &mut dyn FnMut(&[u8])) -> Result<(), ReadError>,
    ) -> Result<(Vec<RecordPlace>, Vec<OrderKey>), ReadError> {
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
        let mut orders = Vec::with_capacity(places.len());
        if read(&places, &mut |record| orders.push(reading.of(record))).is_err() {
            orders.clear();
            for place in &places {
                let mut order = OrderKey::NONE;
                let one = std::slice::from_ref(place);
                match read(one, &mut |record| order = reading.of(record)) {
                    Ok(()) => orders.push(order),
                    Err(ReadError::Damaged { .. }) => orders.push(OrderKey::NONE),
                    Err(error) if orders.is_empty() => return Err(error),
                    Err(_) => break,
                }
            }
            places.truncate(orders.len());
        }
        assert_eq!(places.len(), orders.len(), "each record has an order group");
        Ok((places, orders))
    }
}
