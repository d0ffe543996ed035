//! The listening side: which connections are taken up, and how all of them end.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quinn::{Endpoint, Incoming, TokioRuntime, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use yard_wire::{Code, Refusal};

use crate::config::{TransportConfig, milliseconds};
use crate::connection;
use crate::counters::{Counters, Counts};
use crate::service::Service;
use crate::tls::{ServerIdentity, TlsError};

/// How long a shutdown waits for connections to say goodbye, in milliseconds.
const SHUTDOWN_MS: u32 = 200;

/// Why a transport could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Keys and certificates are not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running endpoint. Dropped without a shutdown, its connections end without a code.
pub struct Transport {
    endpoint: Endpoint,
    config: Arc<TransportConfig>,
    counters: Arc<Counters>,
    acceptor: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// What the connections of one endpoint have in common.
pub(crate) struct Shared<S> {
    pub(crate) config: Arc<TransportConfig>,
    pub(crate) service: Arc<S>,
    pub(crate) counters: Arc<Counters>,
    next_session: AtomicU64,
    handshaking: Arc<AtomicU32>,
}

/// One connection that has not said hello.
pub(crate) struct Handshaking(Arc<AtomicU32>);

impl Handshaking {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Shared<S> {
    pub(crate) fn next_session(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }
}

impl Transport {
    /// Listens, and serves every connection until the shutdown. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`StartError`] when the address or the certificates cannot be used.
    pub fn start<S: Service>(
        config: TransportConfig,
        identity: &ServerIdentity,
        service: Arc<S>,
    ) -> Result<Self, StartError> {
        let address = config.listen;
        let server = Some(config.server(identity)?);
        let endpoint = config.bind().and_then(|socket| {
            Endpoint::new(config.endpoint(), server, socket, Arc::new(TokioRuntime))
        });
        let endpoint = endpoint.map_err(|source| StartError::Listen { address, source })?;
        Ok(Self::serve(config, service, endpoint))
    }

    /// The same on an endpoint from outside, such as one on a simulated network, made from
    /// [`TransportConfig::endpoint`] and [`TransportConfig::server`].
    pub fn serve<S: Service>(config: TransportConfig, service: Arc<S>, endpoint: Endpoint) -> Self {
        let config = Arc::new(config);
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            config: config.clone(),
            service,
            counters: counters.clone(),
            next_session: AtomicU64::new(1),
            handshaking: Arc::default(),
        });
        let acceptor = tokio::spawn(accept(endpoint.clone(), shared));
        Self { endpoint, config, counters, acceptor: Mutex::new(Some(acceptor)) }
    }

    /// The address that the transport listens on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Uses other certificates for connections from now on.
    ///
    /// # Errors
    /// [`TlsError`] when they are not usable; the old ones stay.
    pub fn set_identity(&self, identity: &ServerIdentity) -> Result<(), TlsError> {
        self.endpoint.set_server_config(Some(self.config.server(identity)?));
        Ok(())
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.read(self.endpoint.open_connections())
    }

    /// Takes up no more connections, closes all with the code of `why`, and returns when every
    /// session has ended, at the latest after 200 ms.
    pub async fn shutdown(&self, why: &Refusal) {
        self.endpoint.close(VarInt::from_u32(why.code as u32), why.detail.as_bytes());
        let acceptor = self.acceptor.lock().expect("no code panics while it holds the lock").take();
        let ended = async {
            if let Some(acceptor) = acceptor {
                let _panicked = acceptor.await;
            }
            self.endpoint.wait_idle().await;
        };
        if timeout(milliseconds(SHUTDOWN_MS), ended).await.is_err() {
            tracing::debug!("some peers have not confirmed the end of their connections");
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(Code::ShuttingDown as u32), b"");
    }
}

async fn accept<S: Service>(endpoint: Endpoint, shared: Arc<Shared<S>>) {
    let mut connections: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = connections.join_next() => note(&shared.counters, &ended),
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                if let Some(connecting) = admit(&shared, incoming, connections.len()) {
                    let handshaking = Handshaking::new(&shared.handshaking);
                    connections.spawn(connection::serve(shared.clone(), connecting, handshaking));
                }
            }
        }
    }
    while let Some(ended) = connections.join_next().await {
        note(&shared.counters, &ended);
    }
}

/// A panic ends its own connection only, and is counted.
fn note(counters: &Counters, ended: &Result<(), tokio::task::JoinError>) {
    if ended.as_ref().is_err_and(tokio::task::JoinError::is_panic) {
        counters.panics.add();
    }
}

/// Takes up a connection, or sends it away before it costs anything.
fn admit<S>(
    shared: &Shared<S>,
    incoming: Incoming,
    connections: usize,
) -> Option<quinn::Connecting> {
    let handshaking = shared.handshaking.load(Ordering::Relaxed);
    let config = &shared.config;
    if connections >= config.connections_max as usize || handshaking >= config.handshakes_max {
        shared.counters.refused.add();
        incoming.refuse();
        return None;
    }
    let is_unproven = !incoming.remote_address_validated() && incoming.may_retry();
    if is_unproven && handshaking >= config.handshakes_before_retry {
        shared.counters.retried.add();
        // It failed only if this address had proven itself, which was just looked at.
        let _retried = incoming.retry();
        return None;
    }
    shared.counters.accepted.add();
    incoming.accept().ok()
}
