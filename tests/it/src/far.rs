//! A broker at the other end of a line that is made worse on purpose.
use std::path::Path;

use yard_client::ClientBuilder;
use yard_client::transport::Controller;
use yard_relay::{Relay, Weather};

use crate::Failed;
use crate::server::{Reserved, Server, ServerOptions, free_address, patient};

/// A broker behind a relay, which clients are told to connect to.
pub(crate) struct Far {
    pub(crate) relay: Relay,
    pub(crate) server: Server,
    controller: Controller,
    _reserved: Reserved,
}

impl Far {
    /// Starts both, with this controller on the broker's side; the weather is that of each
    /// direction, by a seed.
    pub(crate) async fn start(
        yard: &Path,
        controller: Controller,
        (weather, seed): (Weather, u64),
    ) -> Result<Self, Failed> {
        let reserved = free_address()?;
        let address = reserved.address;
        let relay = Relay::start(address, weather, seed)?;
        let mut options = ServerOptions::new(yard.to_owned());
        options.address = Some(address);
        let flags = ["--controller", controller.name(), "--advertise"];
        options.flags = flags.map(str::to_owned).into();
        options.flags.push(relay.address().to_string());
        let server = Server::start(options).await?;
        Ok(Self { relay, server, controller, _reserved: reserved })
    }

    /// Settings of a client that comes through the relay.
    pub(crate) fn builder(&self, name: &str) -> Result<ClientBuilder, Failed> {
        let mut context = self.server.context()?;
        context.addresses = vec![self.relay.address().to_string()];
        context.controller = self.controller;
        Ok(patient(context).name(name))
    }
}
