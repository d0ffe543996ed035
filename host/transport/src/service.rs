//! What stands behind the transport: whoever decides who may enter and answers requests.
use std::net::SocketAddr;
use std::time::Instant;

use yard_wire::batch::Batch;
use yard_wire::request::{Request, Right};
use yard_wire::requests::{AckNodes, AckPlace, Hello, Welcome};
use yard_wire::{Correlation, Refusal, Sequence};

use crate::session::SessionHandle;
use crate::tls::PeerIdentity;

/// Who knocks.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it comes from. It may move later: see [`SessionHandle::address`].
    pub address: SocketAddr,
    /// What its certificate says; `None` where it has none.
    pub identity: Option<PeerIdentity>,
}

impl Peer {
    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// A request that arrived whole, may be made, and is well-formed.
#[derive(Debug)]
pub enum Incoming {
    /// A batch to store; every byte of it was checked.
    Produce {
        /// Where the bytes must be before the answer.
        place: AckPlace,
        /// On how many nodes they must be before the answer.
        nodes: AckNodes,
        /// See [`yard_wire::requests::Produce::floor`].
        floor: Sequence,
        /// The batch.
        batch: Batch,
        /// What the request took on the wire, for admission.
        bytes: usize,
    },
    /// Any other request, but never a hello and never a produce.
    Request(Request),
}

/// Answers the requests of all connections. No method may block or wait: a slow one holds up
/// every connection on its thread.
pub trait Service: Send + Sync + 'static {
    /// A peer said hello. `Welcome::session` is best `session.id()`. The session may be used
    /// once this has returned `Ok`; [`Service::closed`] is then called exactly once.
    ///
    /// # Errors
    /// The refusal that the peer is told before its connection is closed; for a peer without an
    /// identity that is [`yard_wire::Code::NoCertificate`].
    fn welcome(
        &self,
        peer: &Peer,
        hello: &Hello,
        session: SessionHandle,
    ) -> Result<Welcome, Refusal>;

    /// Whether the session holds a right. Asked exactly once for every request, before
    /// [`Service::request`]; for an operators' call with the right of its operation.
    fn allowed(&self, session: &SessionHandle, right: Right) -> bool;

    /// When a request of so many bytes may go on; `None`: now. Asked once for every produce
    /// request, before its contents are looked at; until then the stream is not read, so that
    /// flow control holds the sender back. The default holds nobody back.
    fn pace(&self, session: &SessionHandle, bytes: usize) -> Option<Instant> {
        let _ = (session, bytes);
        None
    }

    /// A request. It must be answered by exactly one [`SessionHandle::reply`] with this stream
    /// and correlation, from any thread, also where the correlation is 0 and nothing is sent.
    fn request(
        &self,
        session: &SessionHandle,
        stream: u16,
        correlation: Correlation,
        request: Incoming,
    );

    /// The connection of a session is gone. Replies and deliveries to it go nowhere.
    fn closed(&self, session: u64);
}
