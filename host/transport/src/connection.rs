//! The life of one connection, from its handshake to its end.
//!
//! ```text
//! handshake ► control stream: preamble, hello ► service.welcome ► streams, a task each
//!     │                 │                             │                  │
//!     └─ handshake_ms ──┴───── preamble_ms ───────────┘                  └ one that breaks the
//!        to all of it          on the stream                               protocol ends all
//! ```
use std::sync::Arc;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use yard_wire::frame::{Class, Frame, Preamble, Role};
use yard_wire::request::{Kind, Reply, Request};
use yard_wire::requests::{Hello, Welcome};
use yard_wire::{Code, Refusal};

use crate::config::milliseconds;
use crate::endpoint::{Handshaking, Shared};
use crate::gate;
use crate::outgoing::{self, Outgoing};
use crate::reader::{End, Patience, Reader};
use crate::service::{Peer, Service};
use crate::session::{self, CONTROL, SessionHandle};
use crate::tls::identity_of;

/// How long a refused peer may take to confirm that it has the refusal, in milliseconds.
const LINGER_MS: u32 = 500;

/// What a task of a connection does at its end.
type Ended = (Role, Result<(), End>);

/// Serves a connection until its end.
pub(crate) async fn serve<S: Service>(
    shared: Arc<Shared<S>>,
    connecting: quinn::Connecting,
    handshaking: Handshaking,
) {
    let deadline = Instant::now() + milliseconds(shared.config.handshake_ms);
    let Ok(Ok(connection)) = timeout_at(deadline, connecting).await else {
        shared.counters.handshakes_failed.add();
        return;
    };
    let _lifeline = Lifeline(connection.clone());
    let greeted = hello(&shared, &connection, deadline).await;
    drop(handshaking);
    let end = match greeted {
        Ok(greeted) => {
            shared.counters.sessions.add();
            run(&shared, &connection, greeted).await
        }
        Err(end) => end,
    };
    match end {
        End::Broken(refusal) => {
            shared.counters.closed_by_code.add();
            tracing::debug!(peer = %connection.remote_address(), %refusal, "connection closed");
            session::close(&connection, &refusal);
        }
        End::Gone => connection.close(VarInt::from_u32(0), b""),
    }
}

/// Closes a connection whose task is unwinding; others are closed before this is dropped.
struct Lifeline(Connection);

impl Drop for Lifeline {
    fn drop(&mut self) {
        session::close(&self.0, &failed());
    }
}

fn failed() -> Refusal {
    Refusal::new(Code::Internal, "the broker failed while it served this connection")
}

/// Tells the service that a session is gone, whatever ended it.
struct Farewell<S: Service> {
    shared: Arc<Shared<S>>,
    session: SessionHandle,
}

impl<S: Service> Drop for Farewell<S> {
    fn drop(&mut self) {
        self.session.end();
        self.shared.service.closed(self.session.id());
    }
}

/// A connection whose hello was answered.
struct Greeted<S: Service> {
    farewell: Farewell<S>,
    reader: Reader,
    send: SendStream,
}

async fn hello<S: Service>(
    shared: &Arc<Shared<S>>,
    connection: &Connection,
    deadline: Instant,
) -> Result<Greeted<S>, End> {
    let accepted = timeout_at(deadline, connection.accept_bi()).await;
    let (mut send, receive) = accepted.map_err(|_| no_hello())?.map_err(|_| End::Gone)?;
    let config = &shared.config;
    let deadline = deadline.min(Instant::now() + milliseconds(config.preamble_ms));
    let mut reader = Reader::new(receive, Patience::new(config));
    let preamble = reader.preamble(deadline).await?;
    if preamble.role != Role::Control {
        let detail = "the first stream of a connection must be a control stream";
        return Err(End::Broken(Refusal::new(Code::WrongStream, detail)));
    }
    let frame = reader.first_frame(deadline).await?;
    let hello = read_hello(&frame)?;
    let session = SessionHandle::new(shared.next_session(), connection.clone(), config);
    let correlation = frame.correlation;
    match welcome(shared, connection, &hello, &session) {
        Ok(welcome) => {
            let farewell = Farewell { shared: shared.clone(), session: session.clone() };
            reader.trust();
            let streams = u32::from(config.lanes_max) + 1;
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
            session.open_window(0);
            session.open(CONTROL).expect("a new session has no stream open");
            let reply = outgoing::answer(frame.kind, correlation, Ok(Reply::Hello(welcome)));
            // A peer decides how much of an answer it lets in, also how little.
            let written = timeout_at(deadline, send.write_chunk(reply)).await;
            written.map_err(|_| unread())?.map_err(|_| End::Gone)?;
            Ok(Greeted { farewell, reader, send })
        }
        Err(refusal) => {
            // First as an answer, which a client can read, then as the end of the connection.
            let reply = outgoing::answer(frame.kind, correlation, Err(refusal.clone()));
            let written = timeout_at(deadline, send.write_chunk(reply)).await;
            if matches!(written, Ok(Ok(()))) && send.finish().is_ok() {
                let _confirmed = timeout(milliseconds(LINGER_MS), send.stopped()).await;
            }
            Err(End::Broken(refusal))
        }
    }
}

fn no_hello() -> End {
    End::Broken(Refusal::new(Code::TooSlow, "no hello arrived in time"))
}

fn unread() -> End {
    End::Broken(Refusal::new(Code::TooSlow, "the answer to the hello was not let in in time"))
}

fn read_hello(frame: &Frame) -> Result<Hello, Refusal> {
    if frame.class != Class::Request || frame.kind != Kind::Hello as u16 {
        return Err(Refusal::from(Code::HelloExpected));
    }
    match Request::from_body(Kind::Hello, frame.body.clone()) {
        Ok(Request::Hello(hello)) => Ok(hello),
        Ok(_) => Err(Refusal::from(Code::HelloExpected)),
        Err(malformed) => Err(malformed.refusal(Code::MalformedFrame)),
    }
}

fn welcome<S: Service>(
    shared: &Shared<S>,
    connection: &Connection,
    hello: &Hello,
    session: &SessionHandle,
) -> Result<Welcome, Refusal> {
    let certificates = connection.peer_identity();
    let certificates =
        certificates.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let identity = match certificates.as_deref().and_then(|chain| chain.first()) {
        Some(certificate) => Some(identity_of(certificate).ok_or_else(|| {
            let detail = "the client certificate names no tenant, or more than one";
            Refusal::new(Code::UnknownTenant, detail)
        })?),
        None => None,
    };
    let peer = Peer { address: connection.remote_address(), identity };
    shared.service.welcome(&peer, hello, session.clone())
}

async fn run<S: Service>(
    shared: &Arc<Shared<S>>,
    connection: &Connection,
    greeted: Greeted<S>,
) -> End {
    let Greeted { farewell, reader, send } = greeted;
    let session = &farewell.session;
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    tasks.spawn(control(shared.clone(), session.clone(), send, reader));
    let end = accept_lanes(shared, connection, session, &mut tasks).await;
    // Only then the farewell: a request that a task is passing on must not come after it.
    tasks.shutdown().await;
    end
}

async fn accept_lanes<S: Service>(
    shared: &Arc<Shared<S>>,
    connection: &Connection,
    session: &SessionHandle,
    tasks: &mut JoinSet<Ended>,
) -> End {
    let mut lanes = 0;
    loop {
        tokio::select! {
            biased;
            Some(ended) = tasks.join_next() => match ended {
                Ok((Role::Control, Ok(()))) => return End::Gone,
                Ok((Role::Data, Ok(()) | Err(End::Gone))) => {}
                Ok((Role::Data | Role::Control, Err(end))) => return end,
                Err(ended) => {
                    if ended.is_panic() {
                        shared.counters.panics.add();
                    }
                    return End::Broken(failed());
                }
            },
            accepted = connection.accept_bi() => {
                let Ok((send, receive)) = accepted else { return End::Gone };
                lanes = (lanes + 1).min(u32::from(shared.config.lanes_max));
                session.open_window(lanes);
                tasks.spawn(lane(shared.clone(), session.clone(), send, receive));
            }
        }
    }
}

async fn control<S: Service>(
    shared: Arc<Shared<S>>,
    session: SessionHandle,
    send: SendStream,
    reader: Reader,
) -> Ended {
    let outgoing = session.outgoing(CONTROL).expect("every session has a control stream");
    (Role::Control, converse(&*shared.service, &session, CONTROL, outgoing, reader, send).await)
}

async fn lane<S: Service>(
    shared: Arc<Shared<S>>,
    session: SessionHandle,
    send: SendStream,
    receive: RecvStream,
) -> Ended {
    let deadline = Instant::now() + milliseconds(shared.config.preamble_ms);
    let mut reader = Reader::new(receive, Patience::new(&shared.config));
    reader.trust();
    let preamble = match reader.preamble(deadline).await {
        Ok(preamble) => preamble,
        Err(end) => return (Role::Data, Err(end)),
    };
    let stream = u16::from(preamble.lane) + 1;
    let outgoing = match preamble.role {
        Role::Data => session.open(stream),
        Role::Control => None,
    };
    let Some(outgoing) = outgoing else {
        return (Role::Data, Err(End::Broken(refused_stream(&preamble))));
    };
    let result = converse(&*shared.service, &session, stream, outgoing, reader, send).await;
    session.lane_ends(stream);
    outgoing.end();
    (Role::Data, result)
}

fn refused_stream(preamble: &Preamble) -> Refusal {
    let detail = match preamble.role {
        Role::Control => "a connection has one control stream, its first".to_owned(),
        Role::Data => {
            format!("lane {} was opened before, or the broker has fewer lanes", preamble.lane)
        }
    };
    Refusal::new(Code::WrongStream, detail)
}

/// Reads and writes one stream, until the client has sent all and every answer is written.
async fn converse<S: Service>(
    service: &S,
    session: &SessionHandle,
    stream: u16,
    outgoing: &Outgoing,
    mut reader: Reader,
    mut send: SendStream,
) -> Result<(), End> {
    let read = async {
        while let Some(received) = reader.frame(session.session()).await? {
            gate::admit(service, session, stream, outgoing, received).await?;
            // A client that always has a frame ready must not starve the writer.
            tokio::task::consume_budget().await;
        }
        session.lane_ends(stream);
        outgoing.finish();
        Ok::<(), End>(())
    };
    let write = async {
        while let Some(mut gathered) = outgoing.gather().await {
            send.write_all_chunks(&mut gathered.chunks).await.map_err(|_| End::Gone)?;
            drop(gathered.permits);
        }
        Ok::<(), End>(())
    };
    tokio::try_join!(read, write)?;
    let _already_closed = send.finish();
    Ok(())
}
