//! The settings of a client, and how it finds its first broker.
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use yard_quic::TransportOptions;
use yard_wire::Code;
use yard_wire::limits::{LANES_MAX, NAME_BYTES_MAX};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{FindRoute, Hello, Route};

use super::{Client, Inner, Wall, unexpected};
use crate::backoff::Backoff;
use crate::clock::BrokerClock;
use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::link::{Dialer, Streams};
use crate::random::Random;
use crate::tls;
use crate::topology::Topology;
use crate::trace::Propagation;
use crate::{Context, Error, Surroundings, TlsOptions, TracePropagator};

/// One address gets this long to answer the first time.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Settings of a client; made by [`Client::builder`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    bootstrap: Vec<String>,
    tls: TlsOptions,
    name: String,
    /// `None`: as many as the path asks for.
    streams: Option<u16>,
    transport: TransportOptions,
    connect_timeout: Duration,
    request_timeout: Duration,
    delivery_timeout: Duration,
    propagation: Propagation,
    /// `None`: this machine.
    surroundings: Option<Arc<dyn Surroundings>>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            tls: TlsOptions::default(),
            name: "yard-client".to_owned(),
            streams: None,
            transport: TransportOptions::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(120),
            propagation: Propagation::default(),
            surroundings: None,
        }
    }
}

impl ClientBuilder {
    /// Addresses of brokers, `host:port`, tried in turn; the first that answers says where all
    /// the others are.
    #[must_use]
    pub fn bootstrap<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.bootstrap = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// Whom to trust and who the client is.
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = tls;
        self
    }

    /// Addresses, TLS options and congestion controller of a saved context.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        let Context { addresses, authority_pem, certificate_pem, key_pem, server_name, .. } =
            context;
        let tls = TlsOptions { authority_pem, certificate_pem, key_pem, server_name };
        self.transport.controller = context.controller;
        self.bootstrap(addresses).tls(tls)
    }

    /// Name of the client for people, as `yard client ls` shows it: at most 127 bytes.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Data streams of each connection, 1 to 32; the broker may allow fewer. Unless set, there is
    /// 1, which is best on a good network, and more as packets are lost on a long way: they keep
    /// queues from waiting for each other's lost packets. A number that is set stays.
    #[must_use]
    pub fn streams(mut self, streams: u16) -> Self {
        self.streams = Some(streams);
        self
    }

    /// How QUIC is used: congestion controller, windows, packet sizes, buffers. All of it is about
    /// what this client sends and lets in; the broker has settings of its own.
    #[must_use]
    pub fn transport(mut self, options: TransportOptions) -> Self {
        self.transport = options;
        self
    }

    /// Bytes that the broker may have on their way on one stream: 1,250,000 unless set; 64 KiB to
    /// 2,000,000.
    #[must_use]
    pub fn stream_window_bytes(mut self, bytes: u32) -> Self {
        self.transport.stream_window_bytes = bytes;
        self
    }

    /// Bytes that may be on their way on one connection, each way: 8 MiB unless set; at least
    /// 64 KiB.
    #[must_use]
    pub fn connection_window_bytes(mut self, bytes: u32) -> Self {
        self.transport.receive_window_bytes = bytes;
        self.transport.send_window_bytes = bytes;
        self
    }

    /// How long [`ClientBuilder::connect`] tries: 10 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take, reconnecting included: 10 s unless set.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a message is sent again and again before it is given up: 120 s unless set; a
    /// producer may have its own.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Who knows which trace a span belongs to: messages then carry that of the span in which they
    /// are sent, and are handled in spans that continue theirs.
    #[must_use]
    pub fn propagate(mut self, propagator: Arc<dyn TracePropagator>) -> Self {
        self.propagation = Propagation::by(propagator);
        self
    }

    /// Lives in a world from outside instead of on this machine: for simulations.
    #[must_use]
    pub fn within(mut self, surroundings: Arc<dyn Surroundings>) -> Self {
        self.surroundings = Some(surroundings);
        self
    }

    /// The endpoints: for IPv4 and, where the system has it, IPv6.
    fn endpoints(&self) -> Result<Vec<quinn::Endpoint>, Error> {
        let no_socket = |error| {
            let detail = format!("no UDP socket could be opened: {error}");
            Error::new(Code::Disconnected, detail)
        };
        if let Some(surroundings) = &self.surroundings {
            let mut config = quinn::EndpointConfig::default();
            self.transport.endpoint(&mut config);
            return Ok(vec![surroundings.endpoint(config).map_err(no_socket)?]);
        }
        let first = self.transport.bind((Ipv4Addr::UNSPECIFIED, 0).into()).map_err(no_socket)?;
        let second = self.transport.bind((Ipv6Addr::UNSPECIFIED, 0).into());
        Ok([Some(first), second.ok()].into_iter().flatten().collect())
    }

    fn check(&self) -> Result<(), Error> {
        let bad = |detail: String| Err(Error::new(Code::BadArgument, detail));
        if self.bootstrap.is_empty() {
            return bad("no address of a broker was given".into());
        }
        if let Some(streams) = self.streams.filter(|streams| !(1..=LANES_MAX).contains(streams)) {
            return bad(format!("{streams} data streams; there may be 1 to {LANES_MAX}"));
        }
        if self.name.len() > NAME_BYTES_MAX {
            return bad(format!("the name of the client has more than {NAME_BYTES_MAX} bytes"));
        }
        if let Err(why) = self.transport.check() {
            return bad(why);
        }
        if self.request_timeout.is_zero() || self.delivery_timeout.is_zero() {
            return bad("a timeout is longer than nothing".into());
        }
        Ok(())
    }

    /// Connects. Must be called within a tokio runtime, on which the client then lives.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for settings out of bounds and PEM texts that cannot be read;
    /// [`Code::Untrusted`] when the broker's certificate is not valid; [`Code::NoCertificate`] or
    /// [`Code::UnknownTenant`] when the client's is not; [`Code::Disconnected`] when no broker
    /// answered in time.
    pub async fn connect(self) -> Result<Client, Error> {
        self.check()?;
        let provider = tls::provider();
        let random = match &self.surroundings {
            Some(surroundings) => Random::new(surroundings.seed()),
            None => Random::from_system(&provider)?,
        };
        let config = tls::client_config(&self.tls, &self.transport, provider)?;
        let endpoints = self.endpoints()?;
        let streams = Arc::new(self.streams.map_or_else(Streams::adapted, Streams::fixed));
        let clock = Arc::new(BrokerClock::new(self.surroundings.clone()));
        let dialer = Arc::new(Dialer {
            endpoints: endpoints.clone(),
            config,
            server_name: self.tls.server_name.clone(),
            hello: Hello {
                client: self.name.clone(),
                library: concat!("yard-client ", env!("CARGO_PKG_VERSION")).to_owned(),
                features: 0,
            },
            streams: streams.clone(),
            clock: clock.clone(),
        });
        let (address, connection, route) = self.first(&dialer, random.next_u64()).await?;
        let (alive, all_ended) = mpsc::channel(1);
        let inner = Inner {
            topology: Topology::new(dialer, address),
            random,
            name: self.name,
            streams,
            request_timeout: self.request_timeout,
            delivery_timeout: self.delivery_timeout,
            clock: clock.clone(),
            propagation: self.propagation,
            endpoints,
            closing: watch::Sender::new(false),
            alive: Mutex::new(Some(alive)),
            all_ended: tokio::sync::Mutex::new(all_ended),
            routes: Mutex::new(BTreeMap::new()),
            started: Instant::now(),
            wall: Wall::new(&clock),
        };
        if route.nodes.is_empty() {
            return Err(Error::new(Code::BadReply, "the broker knows of no node"));
        }
        inner.learn(route, Some(connection));
        Ok(Client { inner: Arc::new(inner), exchange: Arc::new(Exchange::default()) })
    }

    async fn first(
        &self,
        dialer: &Dialer,
        seed: u64,
    ) -> Result<(String, Arc<Connection>, Route), Error> {
        let deadline = Instant::now() + self.connect_timeout;
        let mut backoff = Backoff::new(seed);
        loop {
            let mut may_change = false;
            let mut last = None;
            for address in &self.bootstrap {
                let left = deadline.saturating_duration_since(Instant::now());
                let found = async {
                    let connection = dialer.dial(address, ATTEMPT.min(left)).await?;
                    let route = find_nodes(&connection, ATTEMPT.min(left)).await?;
                    Ok::<_, Error>((address.clone(), connection, route))
                };
                match found.await {
                    Ok(found) => return Ok(found),
                    Err(error) => {
                        may_change |= error.is_retryable();
                        last = Some(error);
                    }
                }
            }
            let error = last.expect("there is at least one address");
            let wait = backoff.next();
            if !may_change || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

async fn find_nodes(connection: &Connection, timeout: Duration) -> Result<Route, Error> {
    let request = Request::FindRoute(FindRoute { topics: Vec::new() });
    match connection.ask(None, &request, timeout).await {
        Ok(Reply::FindRoute(route)) => Ok(route),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => Err(error.into()),
    }
}
