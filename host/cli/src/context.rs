//! Saved connection contexts: where a broker is, and who the user is there.
//!
//! ```text
//!   $YARD_HOME, else $XDG_CONFIG_HOME/yard, else ~/.config/yard
//!   ├── contexts/NAME.toml    mode 0600: it may hold a private key
//!   └── current               the name of the context that is used when none is given
//! ```
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{env, process};

use serde::{Deserialize, Serialize};
use yard_client::Context;
use yard_client::transport::Controller;
use yard_client::wire::name;

use crate::failure::Failure;

const EXTENSION: &str = ".toml";

/// A context as it is in its file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<String>,
    #[serde(default)]
    tenant: String,
    authority: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// `cubic` or `bbr`; `cubic` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<String>,
}

impl TryFrom<Saved> for Context {
    type Error = String;

    fn try_from(saved: Saved) -> Result<Self, String> {
        let controller = match saved.controller {
            Some(name) => name.parse().map_err(|why| format!("controller: {why}"))?,
            None => Controller::default(),
        };
        Ok(Self {
            addresses: saved.addresses,
            authority_pem: saved.authority,
            certificate_pem: saved.certificate,
            key_pem: saved.key,
            server_name: saved.server_name,
            tenant: saved.tenant,
            controller,
        })
    }
}

impl From<Context> for Saved {
    fn from(context: Context) -> Self {
        Self {
            addresses: context.addresses,
            server_name: context.server_name,
            tenant: context.tenant,
            authority: context.authority_pem,
            certificate: context.certificate_pem,
            key: context.key_pem,
            controller: Some(context.controller)
                .filter(|chosen| *chosen != Controller::default())
                .map(|chosen| chosen.name().to_owned()),
        }
    }
}

/// The folder of saved contexts.
#[derive(Debug)]
pub(crate) struct Contexts {
    home: PathBuf,
}

/// One saved context, for a list.
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) current: bool,
    pub(crate) path: PathBuf,
    /// The context, or why its file cannot be used.
    pub(crate) context: Result<Context, String>,
}

impl Contexts {
    /// The folder of this user.
    pub(crate) fn of_user() -> Result<Self, Failure> {
        let folder = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = folder("YARD_HOME")
            .or_else(|| folder("XDG_CONFIG_HOME").map(|folder| folder.join("yard")))
            .or_else(|| folder("HOME").map(|folder| folder.join(".config/yard")));
        let none = || Failure::local("no folder for contexts: set YARD_HOME, or HOME");
        home.map(|home| Self { home }).ok_or_else(none)
    }

    /// The context that a command uses: the one given by name or path, else the current one.
    pub(crate) fn load(&self, given: Option<&str>) -> Result<Context, Failure> {
        let path = match given {
            Some(path) if is_path(path) => PathBuf::from(path),
            Some(name) => self.known(name)?,
            None => self.known(&self.current().ok_or_else(no_context)?)?,
        };
        read(&path).map_err(|why| unusable(&path, &why))
    }

    /// Saves a context under a name; returns its file.
    pub(crate) fn save(&self, name: &str, context: Context) -> Result<PathBuf, Failure> {
        let path = self.path(name)?;
        write(&path, context)?;
        Ok(path)
    }

    /// Makes a saved context the one that later commands use.
    pub(crate) fn choose(&self, name: &str) -> Result<(), Failure> {
        self.known(name)?;
        let path = self.home.join("current");
        replace(&path, format!("{name}\n").as_bytes()).map_err(|why| unwritable(&path, &why))
    }

    /// Makes a saved context the one that later commands use, unless they use one that was chosen
    /// otherwise: one that is saved and that is not of `own`. Whether they use this one.
    pub(crate) fn choose_unless_chosen(&self, name: &str, own: &[&str]) -> Result<bool, Failure> {
        let current = self.current().filter(|current| self.known(current).is_ok());
        let is_chosen = current.is_some_and(|current| !own.contains(&&current[..]));
        if !is_chosen {
            self.choose(name)?;
        }
        Ok(!is_chosen && of_environment().is_none())
    }

    /// The context of this name, if one is saved and can be read.
    pub(crate) fn find(&self, name: &str) -> Option<Context> {
        read(&self.path(name).ok()?).ok()
    }

    /// Every saved context, by name.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let current = self.current();
        let mut listed: Vec<Listed> = self
            .names()
            .into_iter()
            .map(|name| {
                let path = self.folder().join(format!("{name}{EXTENSION}"));
                let current = current.as_deref() == Some(&name);
                let context = read(&path);
                Listed { name, current, path, context }
            })
            .collect();
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        listed
    }

    fn folder(&self) -> PathBuf {
        self.home.join("contexts")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let name = |entry: fs::DirEntry| {
            let file = entry.file_name().into_string().ok()?;
            file.strip_suffix(EXTENSION).filter(|name| name::check(name).is_ok()).map(str::to_owned)
        };
        entries.filter_map(name).collect()
    }

    /// The name of the context that is used when none is given.
    pub(crate) fn current(&self) -> Option<String> {
        let text = fs::read_to_string(self.home.join("current")).ok()?;
        Some(text.trim().to_owned())
    }

    fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        name::check(name)?;
        Ok(self.folder().join(format!("{name}{EXTENSION}")))
    }

    /// The file of a name that must be saved.
    fn known(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name)?;
        if path.exists() {
            return Ok(path);
        }
        let mut names = self.names();
        names.sort();
        let saved = if names.is_empty() { "none".into() } else { names.join(", ") };
        let folder = self.folder();
        Err(Failure::local(format!(
            "no context is saved as {name:?} in {} (saved: {saved})",
            folder.display()
        )))
    }
}

/// The context that the environment names: it wins over the current one.
pub(crate) fn of_environment() -> Option<String> {
    env::var("YARD_CONTEXT").ok().filter(|given| !given.is_empty())
}

/// A text with a slash, or that ends in `.toml`, is the path of a file; any other is a name.
fn is_path(given: &str) -> bool {
    given.contains('/') || given.ends_with(EXTENSION)
}

/// Writes a context to a file of any path, readable by its owner only.
pub(crate) fn write(path: &Path, context: Context) -> Result<(), Failure> {
    let text = toml::to_string(&Saved::from(context)).expect("texts and lists are valid TOML");
    replace(path, text.as_bytes()).map_err(|why| unwritable(path, &why))
}

fn read(path: &Path) -> Result<Context, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let saved: Saved =
        toml::from_str(&text).map_err(|error| error.to_string().trim_end().to_owned())?;
    if saved.addresses.is_empty() {
        return Err("it names no address".into());
    }
    saved.try_into()
}

/// Writes a file at once or not at all, readable by its owner only.
fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let file = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let new = folder.join(format!(".{file}.{}", process::id()));
    // Left behind by an earlier process of the same id, and perhaps not private.
    let _ = fs::remove_file(&new);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(contents).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn no_context() -> Failure {
    Failure::local(
        "no connection context: start a broker with `yard dev`, give --context FILE, \
         or choose one with `yard context use NAME`",
    )
}

fn unusable(path: &Path, why: &str) -> Failure {
    Failure::local(format!("the context {} cannot be used: {why}", path.display()))
}

fn unwritable(path: &Path, why: &io::Error) -> Failure {
    Failure::local(format!("{} cannot be written: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn sample() -> Context {
        Context {
            addresses: vec!["127.0.0.1:7420".into()],
            authority_pem: "-----BEGIN\nA\n-----END\n".into(),
            certificate_pem: Some("c\n".into()),
            key_pem: Some("k\n".into()),
            server_name: Some("yard".into()),
            tenant: "default".into(),
            controller: Controller::Bbr,
        }
    }

    fn folder(name: &str) -> Contexts {
        let home = env::temp_dir().join(format!("yard-contexts-{}-{name}", process::id()));
        let _ = fs::remove_dir_all(&home);
        Contexts { home }
    }

    #[test]
    fn what_is_saved_is_loaded_by_name_by_path_and_as_current() {
        let contexts = folder("load");
        assert!(contexts.load(None).is_err() && contexts.load(Some("dev")).is_err());
        let path = contexts.save("dev", sample()).expect("saved");
        assert!(contexts.load(None).is_err(), "saving alone does not choose");
        contexts.choose("dev").expect("chosen");
        let path_text = path.to_str().expect("UTF-8");
        for given in [None, Some("dev"), Some(path_text)] {
            assert_eq!(contexts.load(given).ok(), Some(sample()), "{given:?}");
        }
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let listed = contexts.list();
        assert_eq!((listed.len(), &listed[0].name[..], listed[0].current), (1, "dev", true));
        let files = fs::read_dir(contexts.folder()).expect("there").count();
        assert_eq!(files, 1, "no temporary file is left");
        fs::remove_dir_all(&contexts.home).expect("removed");
    }

    #[test]
    fn a_context_that_was_chosen_is_not_replaced_by_one_that_only_started() {
        let contexts = folder("chosen");
        for name in ["acme", "dev", "serve"] {
            contexts.save(name, sample()).expect("saved");
        }
        let check = |current: Option<&str>, expected: &str| {
            let _ = fs::remove_file(contexts.home.join("current"));
            if let Some(name) = current {
                fs::write(contexts.home.join("current"), name).expect("written");
            }
            contexts.choose_unless_chosen("dev", &["dev", "serve"]).expect("saved");
            assert_eq!(contexts.current().as_deref(), Some(expected), "{current:?}");
        };
        check(None, "dev");
        check(Some("serve"), "dev");
        check(Some("dev"), "dev");
        check(Some("lost"), "dev");
        check(Some("acme"), "acme");
        fs::remove_dir_all(&contexts.home).expect("removed");
    }

    #[test]
    fn names_never_lead_out_of_the_folder() {
        let contexts = folder("names");
        for name in ["../x", "", ".", "a b"] {
            assert!(contexts.save(name, sample()).is_err(), "{name:?}");
            assert!(contexts.choose(name).is_err(), "{name:?}");
        }
        assert!(is_path("a/b") && is_path("x.toml") && !is_path("dev"));
    }

    const RENO: &str = "addresses = ['a']\nauthority = ''\ncontroller = 'reno'";

    #[test]
    fn a_file_that_is_no_context_says_why() {
        let contexts = folder("broken");
        let path = contexts.save("x", sample()).expect("saved");
        for text in ["addresses = []\nauthority = ''", "nonsense", "adresses = ['a']", RENO] {
            fs::write(&path, text).expect("written");
            assert!(contexts.load(Some("x")).is_err(), "{text}");
            assert!(contexts.list()[0].context.is_err());
        }
        fs::remove_dir_all(&contexts.home).expect("removed");
    }
}
