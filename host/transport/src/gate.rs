//! From a frame to a request that the service may see: what every request must pass, in order.
//!
//! ```text
//! frame ► class ► pace ► kind ► stream ► body ► right ► batch and checksums ► budget ► service
//!           │              │       │       │      │              │
//!        closes          Unknown  Wrong  Malformed Forbidden  MalformedBatch,
//!      connection        Request  Stream  Frame               BadChecksum
//! ```
use yard_wire::batch::Batch;
use yard_wire::frame::{Class, Frame, Role};
use yard_wire::limits;
use yard_wire::operation::Operation;
use yard_wire::request::{Kind, Request, Right};
use yard_wire::requests::Produce;
use yard_wire::{Code, Refusal};

use crate::outgoing::Outgoing;
use crate::reader::{End, Received, budget};
use crate::service::{Incoming, Service};
use crate::session::{CONTROL, SessionHandle};

/// Bytes that an answer without a large part takes at most.
pub(crate) const SMALL_ANSWER_BYTES: u32 = 4 << 10;
/// Bytes that the answer to a route request usually takes at most.
const ROUTE_ANSWER_BYTES: u32 = 256 << 10;
/// Bytes that the result of an operation usually takes at most.
const CALL_ANSWER_BYTES: u32 = 1 << 20;

/// Sees one frame through: it is passed to the service or refused.
///
/// # Errors
/// [`End::Broken`] when the peer broke the protocol beyond that one request.
pub(crate) async fn admit<S: Service>(
    service: &S,
    session: &SessionHandle,
    stream: u16,
    outgoing: &Outgoing,
    received: Received,
) -> Result<(), End> {
    let Received { frame, permit } = received;
    if frame.class != Class::Request {
        let detail = format!("a client sends requests, not a {}", frame.class);
        return Err(End::Broken(Refusal::new(Code::MalformedFrame, detail)));
    }
    let correlation = frame.correlation;
    let _waiting = session.session().wait();
    let slot = outgoing.slot().await.map_err(|_| End::Gone)?;
    outgoing.begin(correlation, frame.kind, vec![slot])?;
    if frame.kind == Kind::Produce as u16
        && let Some(until) = service.pace(session, frame.body.len())
    {
        tokio::time::sleep_until(until.into()).await;
    }
    match check(service, session, stream, frame) {
        Ok(request) => {
            let wanted = cost_bytes(&request).min(session.session().budget_bytes);
            // What does not suffice is given back first: two that hold and wait wait for ever.
            let held = permit.filter(|held| held.num_permits() >= wanted as usize);
            let held = match held {
                Some(held) => held,
                None => budget(session.session(), wanted).await?,
            };
            outgoing.charge(correlation, held);
            service.request(session, stream, correlation, request);
        }
        Err(refusal) => session.reply(stream, correlation, Err(refusal)),
    }
    Ok(())
}

fn check<S: Service>(
    service: &S,
    session: &SessionHandle,
    stream: u16,
    frame: Frame,
) -> Result<Incoming, Refusal> {
    let bytes = frame.body.len() + yard_wire::frame::HEADER_BYTES;
    let Some(kind) = Kind::from_number(frame.kind) else {
        let detail = format!("no request has the number {}", frame.kind);
        return Err(Refusal::new(Code::UnknownRequest, detail));
    };
    let role = if stream == CONTROL { Role::Control } else { Role::Data };
    if kind.role() != role {
        let detail =
            format!("{} belongs on a {} stream, this is a {role}", kind.name(), kind.role());
        return Err(Refusal::new(Code::WrongStream, detail));
    }
    if kind == Kind::Hello {
        let detail = "this connection has said hello already";
        return Err(Refusal::new(Code::WrongStream, detail));
    }
    let request = Request::from_body(kind, frame.body)
        .map_err(|malformed| malformed.refusal(Code::MalformedFrame))?;
    let right = right(&request)?;
    if !service.allowed(session, right) {
        let detail = format!("{} needs the right to {right}", kind.name());
        return Err(Refusal::new(Code::Forbidden, detail));
    }
    let Request::Produce(Produce { place, nodes, floor, batch }) = request else {
        return Ok(Incoming::Request(request));
    };
    let batch = Batch::parse(batch).map_err(|malformed| malformed.refusal(Code::MalformedBatch))?;
    batch.check_words()?;
    Ok(Incoming::Produce { place, nodes, floor, batch, bytes })
}

/// The right that a request needs: for an operators' call, its operation's.
fn right(request: &Request) -> Result<Right, Refusal> {
    let Request::Call(call) = request else {
        return Ok(request.kind().right());
    };
    let operation = Operation::from_number(call.operation).ok_or_else(|| {
        let detail = format!("no operation has the number {}", call.operation);
        Refusal::new(Code::UnknownRequest, detail)
    })?;
    Ok(operation.right())
}

/// What a request and its answer take of the connection's budget.
fn cost_bytes(request: &Incoming) -> u32 {
    match request {
        Incoming::Produce { bytes, .. } => *bytes as u32 + SMALL_ANSWER_BYTES,
        Incoming::Request(request) => match request {
            Request::Fetch(fetch) => {
                fetch.bytes_max.clamp(SMALL_ANSWER_BYTES, limits::FETCH_BYTES_MAX)
            }
            Request::Find(find) => find.bytes_max.clamp(SMALL_ANSWER_BYTES, limits::FIND_BYTES_MAX),
            Request::FindRoute(_) => ROUTE_ANSWER_BYTES,
            Request::Call(_) => CALL_ANSWER_BYTES,
            Request::Settle(settle) => {
                // A range that was not settled has 22 bytes in the answer at most.
                SMALL_ANSWER_BYTES + 22 * settle.ranges.len() as u32
            }
            Request::Extend(extend) => SMALL_ANSWER_BYTES + 22 * extend.ranges.len() as u32,
            // Of each queue the answer says more than the request.
            Request::MoveGroup(request) => SMALL_ANSWER_BYTES + 26 * request.to.len() as u32,
            Request::Hello(_)
            | Request::Seek(_)
            | Request::Subscribe(_)
            | Request::Credit(_)
            | Request::Unsubscribe(_)
            | Request::JoinProducers(_)
            | Request::OpenProducer(_)
            | Request::TxBegin(_)
            | Request::TxDecide(_)
            | Request::Produce(_) => SMALL_ANSWER_BYTES,
        },
    }
}
