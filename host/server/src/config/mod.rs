//! The settings of a broker: one table, from which the struct, its reading and its reference come.
//!
//! ```text
//!   file (TOML) ─┐
//!   environment ─┼─► texts by name, later ones win ─► every text is read ─► relations ─► Settings
//!   flags ───────┘    (layers.rs)                      (read.rs)
//! ```
//!
//! Everything wrong is found before anything is reported, so that one start shows every mistake.
//!
//! Start reading at the table, `settings!`.
mod layers;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use yard_transport::Controller;
use yard_wire::limits;

pub use layers::{Layer, environment, file};
pub use yard_wire::units::{read_bytes, read_duration_ms};

/// What a change of a setting needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing more than SIGHUP.
    Reload,
    /// A restart of the broker.
    Restart,
    /// It is fixed by the first start on a data folder.
    Never,
}

/// One setting, as the reference shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the file; in the environment `YARD_` and the name in capitals.
    pub name: &'static str,
    /// What may be written, for example `SIZE`.
    pub kind: &'static str,
    /// What it is when nobody says otherwise; `None`: nothing.
    pub default: Option<&'static str>,
    /// What it is in development mode, where that differs.
    pub dev: Option<&'static str>,
    /// What it means.
    pub doc: &'static str,
    /// What a change of it needs.
    pub change: Change,
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written: a file, `environment`, `flags`; or `settings` for a relation.
    pub origin: String,
    /// The name as it was written there.
    pub name: String,
    /// What is wrong, in a sentence.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, self.name, self.detail)
    }
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+
        $name:ident : $type:ty = $default:expr, dev $dev:expr, $kind:literal, $read:path,
            $change:ident;
    )*) => {
        /// The settings of a broker, read and checked.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings { $( $(#[doc = $doc])+ pub $name: $type ),* }

        impl Settings {
            /// Every setting, in the order of the reference.
            pub const KEYS: &'static [Key] = &[$( Key {
                name: stringify!($name),
                kind: $kind,
                default: $default,
                dev: $dev,
                doc: concat!($($doc),+).trim_ascii(),
                change: Change::$change,
            } ),*];

            /// Reads every setting; what cannot be read has its default and is a problem.
            fn read(texts: &layers::Texts, problems: &mut Vec<Problem>) -> Self {
                let mut keys = Self::KEYS.iter();
                Self { $( $name: {
                    let key = keys.next().expect("one key a setting");
                    read::setting(key, texts, $read, problems)
                } ),* }
            }
        }
    };
}

settings! {
    /// Folder of the logs and of what the broker keeps.
    data: PathBuf = Some("yard-data"), dev None, "DIR", read::path, Restart;
    /// Address to listen on.
    listen: std::net::SocketAddr = Some("127.0.0.1:7420"), dev None, "ADDR", read::address, Restart;
    /// Address that clients are told to connect to, where it is not the one listened on.
    advertise: Option<String> = None, dev None, "HOST:PORT", read::optional_host, Restart;
    /// Commit logs, 1 to 64; as many as the data folder has unless set, 1 in a new one.
    shards: Option<u16> = None, dev None, "NUMBER", read::optional_shards, Never;
    /// Size of a log segment, 1MiB to 2GiB.
    segment_bytes: u64 = Some("128MiB"), dev Some("64MiB"), "SIZE", read::segment, Restart;
    /// Hour of the day, UTC, in which messages are removed that topics' limits expire, 0 to 23;
    /// none: at any time.
    retention_hour: Option<u8> = None, dev None, "0-23", read::optional_hour, Restart;
    /// Use of the disk, in percent, from which on expired messages are removed at any hour, and at
    /// a higher cost; 100: never.
    disk_expire_percent: u8 = Some("75"), dev Some("100"), "PERCENT", read::percent, Restart;
    /// Use of the disk, in percent, from which on batches are refused; 100: never. Reading,
    /// settling and removing go on.
    disk_refuse_percent: u8 = Some("90"), dev Some("100"), "PERCENT", read::percent, Restart;
    /// A connection that is silent for this long is closed.
    idle_ms: u32 = Some("30s"), dev None, "DURATION", read::idle, Restart;
    /// Certificate of the broker, PEM. In development mode it is made.
    tls_certificate: Option<PathBuf> = None, dev None, "FILE", read::optional_path, Restart;
    /// Key of the broker's certificate, PEM.
    tls_key: Option<PathBuf> = None, dev None, "FILE", read::optional_path, Restart;
    /// Authority that signed the certificates of clients, PEM.
    client_authority: Option<PathBuf> = None, dev None, "FILE", read::optional_path, Restart;
    /// Authority with which the broker signs certificates of new tenants, PEM.
    authority_certificate: Option<PathBuf> = None, dev None, "FILE", read::optional_path, Restart;
    /// Key of that authority, PEM.
    authority_key: Option<PathBuf> = None, dev None, "FILE", read::optional_path, Restart;
    /// Development mode: authority and certificates are made under the data folder.
    dev: bool = Some("false"), dev None, "true|false", read::switch, Restart;
    /// Data streams that a connection may open, 1 to 32.
    lanes: u16 = Some("32"), dev None, "NUMBER", read::lanes, Restart;
    /// Bytes of requests that wait for a shard, for each tenant; beyond it the tenant is told to
    /// wait. 6MiB to 1GiB.
    inbox_bytes: u64 = Some("8MiB"), dev None, "SIZE", read::inbox, Restart;
    /// How sending is paced: `cubic`, or `bbr` for lines that lose packets at random.
    controller: Controller = Some("cubic"), dev None, "cubic|bbr", read::controller, Restart;
    /// Largest UDP payload that is looked for on a path and let in, 1200 to 65507. What a path
    /// carries is found out by sending; 6500 suits networks with jumbo frames.
    mtu_bytes_max: u16 = Some("1452"), dev None, "NUMBER", read::mtu, Restart;
    /// What a client may send ahead on one stream, 64KiB to 2000000.
    stream_window_bytes: u32 = Some("1250000"), dev None, "SIZE", read::stream_window, Restart;
    /// What a client may send ahead on all its streams, 64KiB to 1GiB.
    receive_window_bytes: u32 = Some("8MiB"), dev None, "SIZE", read::window, Restart;
    /// What is sent to a client ahead of its confirmation, 64KiB to 1GiB.
    send_window_bytes: u32 = Some("8MiB"), dev None, "SIZE", read::window, Restart;
    /// Threads that run plugins, 1 to 64; as many as processors unless set.
    plugin_workers: Option<u16> = None, dev None, "NUMBER", read::optional_workers, Restart;
    /// Plugins of all tenants must be signed by a key that their tenant trusts.
    plugins_require_signed: bool = Some("false"), dev None, "true|false", read::switch, Restart;
    /// Messages that an expression in SQL judges for a tenant before it gets code of its own, which
    /// judges as the plugin does; `never`: none does.
    sql_code_after: Option<u64> = Some("1000000"), dev None, "NUMBER|never",
        read::optional_messages, Restart;
    /// Buffers of the UDP socket, each direction; smaller ones lose packets in bursts. The log
    /// says when the system gives less. 0 to 1GiB.
    socket_buffer_bytes: u32 = Some("4MiB"), dev None, "SIZE", read::socket_buffer, Restart;
}

impl Settings {
    /// Reads settings from layers; a later layer wins over an earlier one.
    ///
    /// # Errors
    /// Every problem that was found, in the order of the layers, then of the reference.
    pub fn from_layers(layers: &[Layer]) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let texts = layers::merge(layers, &mut problems);
        let settings = Self::read(&texts, &mut problems);
        if problems.is_empty() {
            settings.check(&mut problems);
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// Settings of a broker in development mode on this folder; everything else is default.
    #[must_use]
    pub fn for_dev(data: PathBuf, listen: std::net::SocketAddr) -> Self {
        let layer = Layer::flags([("dev", "true".to_owned())]);
        let defaults = Self::from_layers(&[layer]).expect("the defaults of the table are valid");
        Self { data, listen, ..defaults }
    }

    /// What holds between settings.
    fn check(&self, problems: &mut Vec<Problem>) {
        let mut problem = |name: &str, detail: &str| {
            let (origin, name) = ("settings".to_owned(), name.to_owned());
            problems.push(Problem { origin, name, detail: detail.to_owned() });
        };
        let pairs = [
            ("tls_certificate", &self.tls_certificate, "tls_key", &self.tls_key),
            (
                "authority_certificate",
                &self.authority_certificate,
                "authority_key",
                &self.authority_key,
            ),
        ];
        for (one, first, other, second) in pairs {
            if first.is_some() != second.is_some() {
                let (missing, given) = if first.is_some() { (other, one) } else { (one, other) };
                problem(missing, &format!("it is needed together with {given}"));
            }
        }
        if self.disk_expire_percent > self.disk_refuse_percent {
            problem("disk_expire_percent", "it cannot be above disk_refuse_percent");
        }
        if self.dev {
            return;
        }
        let how = "it is needed, unless dev is true";
        if self.tls_certificate.is_none() && self.tls_key.is_none() {
            problem("tls_certificate", how);
        }
        if self.client_authority.is_none() {
            problem("client_authority", how);
        }
    }
}

/// Smallest inbox of a tenant: it must hold the largest frame.
const INBOX_BYTES_MIN: u64 = 6 << 20;
/// Smallest segment: one that holds a batch would do, a million make no sense.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Largest segment: places in it have 32 bits, and a group may pass its end.
const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// Largest inbox of a tenant.
const INBOX_BYTES_MAX: u64 = 1 << 30;
/// Shortest silence that ends a connection, in milliseconds.
const IDLE_MS_MIN: u64 = 1_000;
/// Longest silence that ends a connection, in milliseconds.
const IDLE_MS_MAX: u64 = 60 * 60 * 1_000;

const _: () = assert!(INBOX_BYTES_MIN > limits::FRAME_BYTES_MAX as u64);
