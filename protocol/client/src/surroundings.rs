//! What a client takes from outside, where that is not the machine that it runs on.
use std::fmt;
use std::io;

use yard_wire::Timestamp;

/// A world in which a client lives instead of on the machine: its network, its clock on the wall,
/// its randomness. With all of them from a seed, on a runtime whose time is paused, a client does
/// the same again. For [`crate::ClientBuilder::within`].
///
/// TLS draws its own random numbers all the same: packets are of equal sizes at equal times, and
/// of other bytes.
pub trait Surroundings: fmt::Debug + Send + Sync + 'static {
    /// An endpoint with these settings on a new socket of the world's network. Called once for
    /// each client.
    ///
    /// # Errors
    /// When there is no socket to be had.
    fn endpoint(&self, config: quinn::EndpointConfig) -> io::Result<quinn::Endpoint>;

    /// Where the random numbers of the next client begin: of its messages' names, and of its
    /// pauses. Other for each client, or names are given twice.
    fn seed(&self) -> u128;

    /// The clock on the wall, in milliseconds since 1970.
    fn wall(&self) -> Timestamp;
}
