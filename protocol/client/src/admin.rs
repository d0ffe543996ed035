//! Operations: what operators run, and what applications may run as well.
use bytes::Bytes;
use yard_wire::Wire;
use yard_wire::operation::{Operate, Operation, Risk};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::Call;

use crate::client::Resend;
use crate::{Client, Error};

/// Runs operations of the catalogue; made by [`Client::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs an operation with its arguments as a type, for example
    /// [`yard_wire::operation::TopicCreate`].
    ///
    /// # Errors
    /// As [`Admin::call_raw`]; [`yard_wire::Code::BadReply`] when the result cannot be read.
    pub async fn call<T: Operate>(&self, args: T) -> Result<T::Result, Error> {
        let result = self.call_raw(T::OPERATION, args.to_bytes()).await?;
        T::Result::from_bytes(result).map_err(|e| Error::bad_reply(&e))
    }

    /// Runs an operation with encoded arguments and gives the encoded result.
    ///
    /// An operation that only reads is asked again until the request timeout of the client. Any
    /// other is sent once: after [`yard_wire::Code::Disconnected`] or
    /// [`yard_wire::Code::TimedOut`] it is not known whether it was done, unless the detail says
    /// that it was not sent.
    ///
    /// # Errors
    /// What the broker refuses with, or a code of the client from 801 on.
    pub async fn call_raw(&self, operation: Operation, args: Bytes) -> Result<Bytes, Error> {
        let request = Request::Call(Call { operation: operation as u16, args });
        let resend = match operation.risk() {
            Risk::Reads => Resend::Always,
            Risk::Adds | Risk::Changes | Risk::Removes => Resend::OnlyIfNotSent,
        };
        let shard = yard_wire::ShardId(0);
        match self.client.inner().ask(shard, None, request, resend).await? {
            Reply::Call(called) => Ok(called.result),
            other => Err(crate::client::unexpected(&other)),
        }
    }
}
