//! The data folder: its lock, its shape, its keys.
//!
//! ```text
//!   DIR/lock             held while a broker runs on the folder
//!   DIR/broker.toml      what the first start decided: format, shards; whether it is over
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
use yard_store::FileName;
use yard_transport::tls::{Authority, ServerIdentity, TlsError, new_key_and_request};
use yard_transport::{RESET_KEY_BYTES, new_reset_key};

use crate::boot::StartError;
use crate::config::Settings;

const FORMAT: u32 = 1;
/// What the first start decided.
const BROKER_FILE: &str = "broker.toml";
/// Shards of a new folder, where the settings do not say.
pub(crate) const SHARDS: u16 = 1;

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
    /// The log of every shard was made: one that is not there any more was lost. Until then the
    /// first start is not over, and may be made again.
    #[serde(default)]
    logs_made: bool,
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
/// [`StartError`] when its file is of no use, or its logs are not those that the file counts.
pub(crate) fn shards_of(folder: &Path) -> Result<Option<u16>, StartError> {
    let held = logs_in(folder)?;
    match BrokerFile::read(folder)? {
        Some(file) => file.check(folder, &held).map(|()| Some(file.shards)),
        None if held.is_empty() => Ok(None),
        None => Err(StartError::Unnumbered { path: folder.join(BROKER_FILE), shards: held }),
    }
}

/// The folder of a shard's log.
pub(crate) fn shard_folder(data: &Path, shard: u16) -> PathBuf {
    data.join(format!("shard-{shard}"))
}

/// The shards whose folders hold files of a log, in order.
fn logs_in(data: &Path) -> Result<Vec<u16>, StartError> {
    let mut held = Vec::new();
    for item in fs::read_dir(data).map_err(file_error(data))? {
        let name = item.map_err(file_error(data))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("shard-"));
        let Some(shard) = number.and_then(|number| number.parse::<u16>().ok()) else { continue };
        let path = shard_folder(data, shard);
        // Another way to write the number is another folder.
        if path.file_name() == Some(&name) && path.is_dir() && holds_log(&path)? {
            held.push(shard);
        }
    }
    held.sort_unstable();
    Ok(held)
}

fn holds_log(path: &Path) -> Result<bool, StartError> {
    for item in fs::read_dir(path).map_err(file_error(path))? {
        let name = item.map_err(file_error(path))?.file_name();
        if name.to_str().and_then(FileName::parse).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl BrokerFile {
    fn read(folder: &Path) -> Result<Option<Self>, StartError> {
        let path = folder.join(BROKER_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path)(error)),
        };
        let file: Self = toml::from_str(&text)
            .map_err(|e| StartError::Unreadable { path: path.clone(), why: e.to_string() })?;
        if file.format != FORMAT {
            return Err(StartError::Format { path, format: file.format });
        }
        Ok(Some(file))
    }

    fn write(&self, folder: &Path) -> Result<(), StartError> {
        let text = toml::to_string(self).expect("two numbers and a truth are TOML");
        write_private(&folder.join(BROKER_FILE), text.as_bytes())
    }

    /// Holds the logs that are there against what it says.
    fn check(&self, folder: &Path, held: &[u16]) -> Result<(), StartError> {
        let beyond: Vec<u16> = held.iter().copied().filter(|it| *it >= self.shards).collect();
        if !beyond.is_empty() {
            let path = folder.join(BROKER_FILE);
            return Err(StartError::LogsBeyond { path, fixed: self.shards, shards: beyond });
        }
        let gone: Vec<u16> = (0..self.shards).filter(|it| !held.contains(it)).collect();
        if self.logs_made && !gone.is_empty() {
            return Err(StartError::LogMissing { path: folder.to_owned(), shards: gone });
        }
        Ok(())
    }
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

    /// Decides the number of shards at the first start and holds to it afterwards; says it.
    ///
    /// # Errors
    /// [`StartError::Shards`] where it was another than is wanted, [`StartError::Format`] where the
    /// folder was written by another version, and one of its own where the logs that are there are
    /// not those that there should be.
    pub(crate) fn fix_shards(&self, wanted: Option<u16>) -> Result<u16, StartError> {
        let held = logs_in(&self.path)?;
        if let Some(file) = BrokerFile::read(&self.path)? {
            file.check(&self.path, &held)?;
            let fixed = file.shards;
            return match wanted.filter(|wanted| *wanted != fixed) {
                Some(wanted) => Err(StartError::Shards { fixed, wanted }),
                None => Ok(fixed),
            };
        }
        let shards = wanted.unwrap_or(SHARDS);
        // The file is older than any log, so where there are logs it was lost.
        if !held.is_empty() && !held.iter().copied().eq(0..shards) {
            let path = self.path.join(BROKER_FILE);
            return Err(StartError::Unnumbered { path, shards: held });
        }
        BrokerFile { format: FORMAT, shards, logs_made: false }.write(&self.path)?;
        Ok(shards)
    }

    /// The logs of all shards are made: from here on one that is not there was lost. Where one has
    /// no file yet, nothing is noted.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn note_logs(&self) -> Result<(), StartError> {
        let Some(file) = BrokerFile::read(&self.path)?.filter(|file| !file.logs_made) else {
            return Ok(());
        };
        if logs_in(&self.path)?.into_iter().eq(0..file.shards) {
            BrokerFile { logs_made: true, ..file }.write(&self.path)?;
        }
        Ok(())
    }

    /// The folder of one shard's log.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn shard(&self, shard: u16) -> Result<PathBuf, StartError> {
        let path = shard_folder(&self.path, shard);
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
            (Some(certificate), Some(key)) => Some(authority(certificate, key)?),
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
        let authority = authority(&at("authority.pem"), &at("authority.key"))?;
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

/// The authority in these files.
fn authority(certificate: &Path, key: &Path) -> Result<Authority, StartError> {
    Authority::load(&read(certificate)?, &read(key)?).map_err(|error| {
        let is_of_key = matches!(error, TlsError::Pem { what: "private key" });
        let path = if is_of_key { key } else { certificate }.to_owned();
        StartError::Unreadable { path, why: error.to_string() }
    })
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
    use yard_wire::Code;

    use super::*;

    /// A data folder that is gone when the test is.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("yard-folder-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn open(&self) -> Folder {
            Folder::open(&self.0).unwrap()
        }

        /// What a start comes to, up to where the first client is let in.
        fn start(&self, wanted: Option<u16>) -> Result<u16, StartError> {
            let folder = self.open();
            let shards = folder.fix_shards(wanted)?;
            for shard in 0..shards {
                fs::write(folder.shard(shard)?.join("log-0000000000"), b"head").unwrap();
            }
            folder.note_logs()?;
            Ok(shards)
        }

        #[track_caller]
        fn refuses(&self, wanted: Option<u16>, code: Code, sentence: &str) {
            let looked = shards_of(&self.0).err().map(|error| error.to_string());
            let error = self.open().fix_shards(wanted).unwrap_err();
            assert_eq!(error.code(), Some(code), "{error}");
            let found = error.to_string().replace(&*self.0.to_string_lossy(), "DIR");
            assert_eq!(found, sentence);
            let told = looked.is_some() || matches!(error, StartError::Shards { .. });
            assert!(told, "the tools refuse it as well");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_folder_is_used_by_one_broker_with_one_number_of_shards() {
        let at = Scratch::new("one");
        let folder = at.open();
        assert!(matches!(Folder::open(&at.0), Err(StartError::InUse { .. })));
        assert_eq!(folder.fix_shards(Some(2)).unwrap(), 2);
        assert_eq!(folder.fix_shards(Some(2)).unwrap(), 2);
        assert_eq!(folder.fix_shards(None).unwrap(), 2, "the folder's own number");
        let error = folder.fix_shards(Some(3)).unwrap_err();
        assert!(matches!(error, StartError::Shards { fixed: 2, wanted: 3 }), "{error}");
        assert_eq!(error.code(), Some(Code::ShardsDiffer));
        drop(folder);
        at.open();
        assert_eq!(Scratch::new("new").start(None).unwrap(), SHARDS);
    }

    #[test]
    fn a_log_that_is_gone_refuses_the_start() {
        let gone = "DIR had logs of its own for shard-1, and they are gone: look whether their \
                    disks are mounted, bring them back, or restore a backup";
        let at = Scratch::new("gone");
        assert_eq!(at.start(Some(2)).unwrap(), 2);
        assert_eq!(at.start(None).unwrap(), 2);
        let (log, lock) = (at.0.join("shard-1/log-0000000000"), at.0.join("shard-1/lock"));
        fs::write(lock, b"").unwrap();
        fs::remove_file(&log).unwrap();
        at.refuses(None, Code::LogMissing, gone);
        fs::remove_dir_all(at.0.join("shard-1")).unwrap();
        at.refuses(Some(2), Code::LogMissing, gone);
        assert!(!at.0.join("shard-1").exists(), "nothing was made");
        let single = Scratch::new("gone-single");
        single.start(None).unwrap();
        fs::remove_dir_all(single.0.join("shard-0")).unwrap();
        single.refuses(None, Code::LogMissing, &gone.replace("shard-1", "shard-0"));
    }

    #[test]
    fn a_first_start_that_crashed_is_made_again() {
        let at = Scratch::new("first");
        let folder = at.open();
        folder.fix_shards(Some(2)).unwrap();
        // One log is made, of the other the folder; then the power goes.
        fs::write(folder.shard(0).unwrap().join("log-0000000000"), b"head").unwrap();
        folder.shard(1).unwrap();
        folder.note_logs().unwrap();
        drop(folder);
        assert_eq!(at.start(None).unwrap(), 2);
        fs::remove_dir_all(at.0.join("shard-1")).unwrap();
        assert!(at.open().fix_shards(None).is_err(), "from then on it is over");
    }

    #[test]
    fn logs_that_nothing_counts_refuse_the_start() {
        let at = Scratch::new("unnumbered");
        at.start(Some(2)).unwrap();
        fs::remove_file(at.0.join(BROKER_FILE)).unwrap();
        let lost = "DIR/broker.toml is missing, but there are logs in shard-0, shard-1: bring it \
                    back, or give their number with --shards when all of them are there";
        for wanted in [None, Some(1), Some(3)] {
            at.refuses(wanted, Code::ShardsDiffer, lost);
        }
        assert!(!at.0.join(BROKER_FILE).exists(), "nothing was decided");
        assert_eq!(at.start(Some(2)).unwrap(), 2, "whoever knows it says it");
        fs::write(at.0.join(BROKER_FILE), "format = 1\nshards = 1\n").unwrap();
        let beyond = "DIR/broker.toml says that there are 1 shards, but there are logs in \
                      shard-1 too";
        at.refuses(None, Code::ShardsDiffer, beyond);
    }

    #[test]
    fn keys_that_were_cut_off_are_named() {
        let at = Scratch::new("keys");
        let settings = Settings::for_dev(at.0.clone(), ([127, 0, 0, 1], 0).into());
        let folder = at.open();
        folder.keys(&settings).map(|_| ()).unwrap();
        for (name, what) in [("authority.pem", "certificate"), ("authority.key", "private key")] {
            let path = at.0.join("tls").join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            let error = folder.keys(&settings).map(|_| ()).unwrap_err().to_string();
            assert_eq!(error, format!("{}: the PEM text holds no {what}", path.display()));
            fs::write(&path, whole).unwrap();
        }
    }
}
