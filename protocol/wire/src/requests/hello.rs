//! The first request of a connection.
use crate::{TenantId, Timestamp};

message! {
    /// Who the client is. Its tenant is not said here: the certificate says it.
    pub struct Hello {
        /// A name for people, at most 127 bytes: shown by `yard client ls`.
        pub client: String,
        /// Name and version of the client library.
        pub library: String,
        /// Features that the client can use; none are defined yet.
        pub features: u64,
    }

    /// What the client must know about the broker.
    pub struct Welcome {
        /// Name and version of the broker.
        pub broker: String,
        /// Number of the connection, as `yard client ls` shows it.
        pub session: u64,
        /// Tenant of the connection.
        pub tenant: TenantId,
        /// Name of that tenant.
        pub tenant_name: String,
        /// Largest frame that the broker takes, in bytes.
        pub frame_bytes_max: u32,
        /// Data streams that the connection may open.
        pub lanes_max: u16,
        /// The broker's clock.
        pub now: Timestamp,
        /// Features that both sides can use.
        pub features: u64,
    }
}
