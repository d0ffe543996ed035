//! The data folder: its lock, its shape, its keys.
//!
//! ```text
//!   DIR/lock             held while a broker runs on the folder
//!   DIR/broker.toml      what the first start decided: format, shards
//!   DIR/reset.key        secret that lets clients notice a restart at once
//!   DIR/shard-0/ …       the log of each shard, see host/store/FORMAT.md
//!   DIR/tls/             development mode: authority, broker's and operator's certificates
//!   DIR/context.toml     development mode: how to connect
//! ```
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use yard_transport::tls::{Authority, ServerIdentity, new_key_and_request};
use yard_transport::{RESET_KEY_BYTES, new_reset_key};

use crate::boot::StartError;
use crate::config::Settings;

const FORMAT: u32 = 1;
/// What the first start decided.
const BROKER_FILE: &str = "broker.toml";

/// What a client needs to connect; the contents of a context file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Addresses to try, `host:port`.
    pub addresses: Vec<String>,
    /// Name that the broker's certificate must have.
    pub server_name: String,
    /// Tenant of the certificate, for people.
    pub tenant: String,
    /// Authority that signed the broker's certificate, PEM.
    pub authority: String,
    /// The client's certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The key of that certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct BrokerFile {
    format: u32,
    shards: u16,
}

/// An open data folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// Keys and certificates of a broker.
pub(crate) struct Keys {
    /// What it shows and whom it lets in.
    pub server: ServerIdentity,
    /// Signs tenants' certificates, where it may.
    pub authority: Option<Authority>,
    /// Certificate and key of the operator that development mode makes.
    pub operator: Option<(String, String)>,
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::File { path, source }
}

fn read(path: &Path) -> Result<String, StartError> {
    fs::read_to_string(path).map_err(file_error(path))
}

/// How many shards a data folder has; `None` when it was never used as one.
///
/// # Errors
/// [`StartError`] when its file is of no use.
pub(crate) fn shards_of(folder: &Path) -> Result<Option<u16>, StartError> {
    let path = folder.join(BROKER_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(&path)(error)),
    };
    let file: BrokerFile = toml::from_str(&text)
        .map_err(|e| StartError::Unreadable { path: path.clone(), why: e.to_string() })?;
    if file.format != FORMAT {
        return Err(StartError::Format { path, format: file.format });
    }
    Ok(Some(file.shards))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StartError> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The name is durable when its folder is.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(file_error(path))
}

impl Folder {
    /// Opens a folder, or makes it. Only one process can have it open.
    ///
    /// # Errors
    /// [`StartError::InUse`], or what the file system says.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(path).map_err(file_error(path))?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&lock_path).map_err(file_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(file_error(&lock_path)(source)),
        }
    }

    /// Decides the number of shards at the first start and holds to it afterwards.
    ///
    /// # Errors
    /// [`StartError::Shards`] where it was another, [`StartError::Format`] where the folder was
    /// written by another version.
    pub(crate) fn fix_shards(&self, shards: u16) -> Result<(), StartError> {
        match shards_of(&self.path)? {
            None => {
                let file = BrokerFile { format: FORMAT, shards };
                let text = toml::to_string(&file).expect("two numbers are TOML");
                write_private(&self.path.join(BROKER_FILE), text.as_bytes())
            }
            Some(fixed) if fixed != shards => Err(StartError::Shards { fixed, wanted: shards }),
            Some(_) => Ok(()),
        }
    }

    /// The folder of one shard's log.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn shard(&self, shard: u16) -> Result<PathBuf, StartError> {
        let path = self.path.join(format!("shard-{shard}"));
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(&path).map_err(file_error(&path))?;
        Ok(path)
    }

    /// Where compiled plugins are kept: they can be made again at any time.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.path.join("plugins")
    }

    /// The secret behind stateless resets, made at the first start. One that cannot be read is
    /// replaced: it costs the clients of the process before a few seconds, no more.
    ///
    /// # Errors
    /// What the file system says when a new one cannot be written.
    pub(crate) fn reset_key(&self) -> Result<[u8; RESET_KEY_BYTES], StartError> {
        let path = self.path.join("reset.key");
        if let Some(key) = fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok()) {
            return Ok(key);
        }
        let key = new_reset_key().map_err(file_error(&path))?;
        write_private(&path, &key)?;
        Ok(key)
    }

    /// Reads the keys that the settings name, or, in development mode, makes them once.
    ///
    /// # Errors
    /// [`StartError`] for files that cannot be read or do not fit together.
    pub(crate) fn keys(&self, settings: &Settings) -> Result<Keys, StartError> {
        if settings.dev && settings.tls_certificate.is_none() {
            return self.dev_keys(settings);
        }
        let named = |path: &Option<PathBuf>| match path {
            Some(path) => read(path),
            None => Err(StartError::NoCertificates),
        };
        let server = ServerIdentity {
            certificate_pem: named(&settings.tls_certificate)?,
            key_pem: named(&settings.tls_key)?,
            client_authority_pem: named(&settings.client_authority)?,
        };
        let authority = match (&settings.authority_certificate, &settings.authority_key) {
            (Some(certificate), Some(key)) => {
                Some(Authority::load(&read(certificate)?, &read(key)?)?)
            }
            _ => None,
        };
        Ok(Keys { server, authority, operator: None })
    }

    fn dev_keys(&self, settings: &Settings) -> Result<Keys, StartError> {
        let tls = self.path.join("tls");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&tls).map_err(file_error(&tls))?;
        let at = |name: &str| tls.join(name);
        if !at("authority.pem").exists() {
            let authority = Authority::create()?;
            write_private(&at("authority.key"), authority.key_pem().as_bytes())?;
            write_private(&at("authority.pem"), authority.certificate_pem().as_bytes())?;
        }
        let authority =
            Authority::load(&read(&at("authority.pem"))?, &read(&at("authority.key"))?)?;
        // The names may have changed since the last start, and a signature costs nothing.
        let (certificate_pem, key_pem) = authority.issue_server(&server_names(settings))?;
        if !at("operator.pem").exists() {
            let (key, request) = new_key_and_request()?;
            let certificate = authority.issue_tenant(&request, "default", true)?;
            write_private(&at("operator.key"), key.as_bytes())?;
            write_private(&at("operator.pem"), certificate.as_bytes())?;
        }
        let operator = (read(&at("operator.pem"))?, read(&at("operator.key"))?);
        let server = ServerIdentity {
            certificate_pem,
            key_pem,
            client_authority_pem: authority.certificate_pem().to_owned(),
        };
        Ok(Keys { server, authority: Some(authority), operator: Some(operator) })
    }

    /// Writes how to connect, for development mode.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn write_context(&self, connection: &Connection) -> Result<(), StartError> {
        let text = toml::to_string(connection).expect("texts are TOML");
        write_private(&self.path.join("context.toml"), text.as_bytes())
    }
}

/// Names and addresses under which a broker of development mode is reached.
fn server_names(settings: &Settings) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let listen = settings.listen.ip();
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    if let Some((host, _)) = settings.advertise.as_deref().and_then(|a| a.rsplit_once(':')) {
        names.push(host.trim_matches(['[', ']']).to_owned());
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_used_by_one_broker_with_one_number_of_shards() {
        let path = std::env::temp_dir().join(format!("yard-folder-{}", std::process::id()));
        let folder = Folder::open(&path).unwrap();
        assert!(matches!(Folder::open(&path), Err(StartError::InUse { .. })));
        folder.fix_shards(2).unwrap();
        folder.fix_shards(2).unwrap();
        let error = folder.fix_shards(3).unwrap_err();
        assert!(matches!(error, StartError::Shards { fixed: 2, wanted: 3 }), "{error}");
        drop(folder);
        Folder::open(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
