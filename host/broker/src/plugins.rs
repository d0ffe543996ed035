//! The operations of the catalogue that concern plugins. What a file is, and whether it may run, is
//! found out before it comes here; here is decided which version of a name does.
use bytes::Bytes;
use yard_wire::operation::{
    PluginCanary, PluginDistrust, PluginGet, PluginPromote, PluginRm, PluginShadow, PluginTrust,
};
use yard_wire::plugin::{
    Blob, Digest, PluginCopy, PluginDifferenceRow, PluginKeyRow, PluginLogRow, PluginReport,
    PluginRow, PluginVersionRow,
};
use yard_wire::request::Reply;
use yard_wire::{TenantId, Timestamp, limits};

use crate::broker::{Broker, METADATA_SHARD};
use crate::effect::Effect;
use crate::event::Origin;
use crate::meta::{MetaChange, Plugin, PluginFile, PluginVersion, Trial, TrialKind, TrustedKey};
use crate::operate::{Outcome, called, check_note, listed};
use crate::refusal::{BadArgument, LimitReached, OperateError};

/// The point of plugins that can be asked without effect.
const FILTER: &str = "filter";

/// A plugin's file that was checked and may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The name in its manifest.
    pub name: String,
    /// What its author calls the version.
    pub label: String,
    /// Its points, joined by commas.
    pub points: String,
    /// SHA-256 of the file.
    pub hash: Digest,
    /// The file.
    pub file: Bytes,
    /// The key that signed it; none: nobody did.
    pub signer: Digest,
    /// The version that is active goes on.
    pub inactive: bool,
}

impl Broker {
    /// A plugin was pushed and checked.
    pub(crate) fn plugin_pushed(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        pushed: Pushed,
        effects: &mut Vec<Effect>,
    ) {
        match self.add_version(tenant, pushed) {
            Ok((changes, reply)) if changes.is_empty() => {
                Self::reply_durable(origin, reply, effects);
            }
            Ok((changes, reply)) => Self::append_meta(changes, origin, reply, effects),
            Err(error) => effects.push(Effect::Reply { origin, result: Err(error.into()) }),
        }
    }

    fn add_version(
        &self,
        tenant: TenantId,
        pushed: Pushed,
    ) -> Result<(Vec<MetaChange>, Reply), OperateError> {
        let Pushed { name, label, points, hash, file, signer, inactive } = pushed;
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        yard_wire::name::check(&name).map_err(OperateError::BadName)?;
        assert!(file.len() <= limits::PLUGIN_BYTES_MAX, "a file that was checked is bounded");
        let known = self.meta.plugins.get(tenant, &name);
        let mut plugin = known.cloned().unwrap_or_else(|| new_plugin(tenant, &name));
        // The same file again is the version that it is, so that a push can be repeated.
        let same = plugin.versions.iter().find(|version| version.hash == hash);
        let number = same.map_or(plugin.next, |version| version.number);
        if same.is_none() {
            self.check_plugin_room(tenant, known, file.len() as u64)?;
            plugin.next += 1;
            plugin.versions.push(PluginVersion {
                number,
                hash,
                bytes: u32::try_from(file.len()).expect("bounded above"),
                label,
                points,
                signer,
                pushed: self.now,
            });
        }
        if !inactive {
            activate(&mut plugin, number);
        }
        if known == Some(&plugin) {
            return Ok((Vec::new(), called(&plugin_row(&plugin))));
        }
        let plugin = self.changed(plugin);
        let reply = called(&plugin_row(&plugin));
        let file = (!self.meta.plugins.has_file(hash)).then_some(PluginFile { hash, bytes: file });
        let put = MetaChange::PluginPut(plugin);
        Ok((file.map(MetaChange::PluginFile).into_iter().chain([put]).collect(), reply))
    }

    fn check_plugin_room(
        &self,
        tenant: TenantId,
        known: Option<&Plugin>,
        bytes: u64,
    ) -> Result<(), OperateError> {
        let full = |what: &'static str, max: usize| {
            Err(OperateError::LimitReached(LimitReached { what, max }))
        };
        let table = &self.meta.plugins;
        if known.is_none() && table.of_tenant(tenant).count() >= limits::PLUGINS_MAX {
            return full("plugins of the tenant", limits::PLUGINS_MAX);
        }
        let versions = known.map_or(0, |plugin| plugin.versions.len());
        if versions >= limits::PLUGIN_VERSIONS_MAX {
            return full("versions of the plugin", limits::PLUGIN_VERSIONS_MAX);
        }
        let of_tenant: u64 = table.of_tenant(tenant).map(Plugin::bytes).sum();
        if of_tenant + bytes > limits::PLUGIN_TENANT_BYTES_MAX {
            return full("bytes of the tenant's plugins", limits::PLUGIN_TENANT_BYTES_MAX as usize);
        }
        if table.file_bytes() + bytes > limits::PLUGIN_TOTAL_BYTES_MAX {
            return full("bytes of all plugins", limits::PLUGIN_TOTAL_BYTES_MAX as usize);
        }
        Ok(())
    }

    /// The file of a version: the one that decides, where none is named.
    pub(crate) fn plugin_get(
        &self,
        tenant: TenantId,
        arguments: &PluginGet,
    ) -> Result<Outcome, OperateError> {
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        let name = &arguments.name;
        let plugin = self.plugin_named(tenant, name)?;
        let number = arguments.version.unwrap_or(plugin.active);
        let missing = || OperateError::NoPlugin(format!("{name}, version {number}"));
        let version = plugin.version(number).ok_or_else(missing)?;
        let file = self.meta.plugins.file(version.hash).expect("a version has its file");
        let (name, hash, wasm) = (name.clone(), version.hash, Blob(file.clone()));
        Ok(Outcome::Now(called(&PluginCopy { name, version: number, hash, wasm })))
    }

    fn plugin_named(&self, tenant: TenantId, name: &str) -> Result<&Plugin, OperateError> {
        let plugin = self.meta.plugins.get(tenant, name);
        plugin.ok_or_else(|| OperateError::NoPlugin(name.to_owned()))
    }

    /// A plugin that an operation changes, where plugins are changed.
    fn plugin_to_change(&self, tenant: TenantId, name: &str) -> Result<&Plugin, OperateError> {
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        self.plugin_named(tenant, name)
    }

    /// As it is written down.
    fn changed(&self, mut plugin: Plugin) -> Plugin {
        plugin.changed = self.now;
        plugin.version = self.meta.next_version();
        plugin
    }

    fn put_plugin(&self, old: &Plugin, new: Plugin) -> Outcome {
        if new == *old {
            return Outcome::Unchanged(called(&plugin_row(old)));
        }
        let new = self.changed(new);
        let reply = called(&plugin_row(&new));
        Outcome::Change(MetaChange::PluginPut(new), reply)
    }

    pub(crate) fn plugin_ls(&self, tenant: TenantId) -> Result<Outcome, OperateError> {
        let plugins = self.meta.plugins.of_tenant(tenant);
        listed(plugins.map(plugin_row).map(Ok)).map(Outcome::Now)
    }

    pub(crate) fn plugin_info(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Outcome, OperateError> {
        let plugin = self.plugin_named(tenant, name)?;
        let row = |version: &PluginVersion| PluginVersionRow {
            version: version.number,
            label: version.label.clone(),
            hash: version.hash,
            bytes: version.bytes,
            points: version.points.clone(),
            signer: version.signer,
            pushed_ms: version.pushed,
        };
        let versions = plugin.versions.iter().map(row).collect();
        // What they did is known to whoever runs them.
        let (plugin, runs, metrics) = (plugin_row(plugin), Vec::new(), Vec::new());
        let report = PluginReport { plugin, versions, runs, metrics };
        Ok(Outcome::Now(called(&report)))
    }

    /// That there is such a plugin. What it wrote is known to whoever runs it, and is told without
    /// asking here where there is something.
    pub(crate) fn plugin_logs(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Outcome, OperateError> {
        self.plugin_named(tenant, name)?;
        Ok(Outcome::Now(called(&Vec::<PluginLogRow>::new())))
    }

    pub(crate) fn plugin_differences(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Outcome, OperateError> {
        self.plugin_named(tenant, name)?;
        Ok(Outcome::Now(called(&Vec::<PluginDifferenceRow>::new())))
    }

    pub(crate) fn plugin_promote(
        &self,
        tenant: TenantId,
        arguments: &PluginPromote,
    ) -> Result<Outcome, OperateError> {
        let old = self.plugin_to_change(tenant, &arguments.name)?;
        let tried = old.trial.map(|trial| trial.version);
        let number = version_of(old, arguments.version.or(tried))?;
        let mut plugin = old.clone();
        activate(&mut plugin, number);
        Ok(self.put_plugin(old, plugin))
    }

    pub(crate) fn plugin_rollback(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Outcome, OperateError> {
        let old = self.plugin_to_change(tenant, name)?;
        let mut plugin = old.clone();
        if plugin.trial.take().is_none() {
            if old.previous == 0 {
                let why = "no version was active before";
                return Err(OperateError::PluginState { name: name.to_owned(), why });
            }
            activate(&mut plugin, old.previous);
        }
        Ok(self.put_plugin(old, plugin))
    }

    pub(crate) fn plugin_disable(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Outcome, OperateError> {
        let old = self.plugin_to_change(tenant, name)?;
        let plugin = Plugin { disabled: true, trial: None, ..old.clone() };
        Ok(self.put_plugin(old, plugin))
    }

    pub(crate) fn plugin_rm(
        &self,
        tenant: TenantId,
        arguments: &PluginRm,
    ) -> Result<Outcome, OperateError> {
        let old = self.plugin_to_change(tenant, &arguments.name)?;
        let name = || old.name.clone();
        let Some(number) = arguments.version else {
            if old.active != 0 && !old.disabled {
                let why = "a version is active; disable the plugin first";
                return Err(OperateError::PluginState { name: name(), why });
            }
            let (tenant, version) = (old.tenant, self.meta.next_version());
            let reply = called(&plugin_row(old));
            return Ok(Outcome::Change(
                MetaChange::PluginRemoved { tenant, name: name(), version },
                reply,
            ));
        };
        version_of(old, Some(number))?;
        let tried = old.trial.map(|trial| trial.version);
        if number == old.active || number == old.previous || Some(number) == tried {
            let why = "the version is active, was so before, or is on trial";
            return Err(OperateError::PluginState { name: name(), why });
        }
        let mut plugin = old.clone();
        plugin.versions.retain(|version| version.number != number);
        if plugin.versions.is_empty() {
            let why = "it is the only version; remove the plugin";
            return Err(OperateError::PluginState { name: name(), why });
        }
        Ok(self.put_plugin(old, plugin))
    }

    pub(crate) fn plugin_shadow(
        &self,
        tenant: TenantId,
        arguments: &PluginShadow,
    ) -> Result<Outcome, OperateError> {
        let PluginShadow { name, version, share } = arguments;
        self.plugin_try(tenant, name, *version, TrialKind::Shadow, *share, Timestamp(0))
    }

    pub(crate) fn plugin_canary(
        &self,
        tenant: TenantId,
        arguments: &PluginCanary,
    ) -> Result<Outcome, OperateError> {
        let PluginCanary { name, version, share, bake } = arguments;
        let until = bake.get().map_or(Timestamp(0), |ms| self.now.plus_ms(ms));
        self.plugin_try(tenant, name, *version, TrialKind::Canary, *share, until)
    }

    fn plugin_try(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<u32>,
        kind: TrialKind,
        share: u16,
        until: Timestamp,
    ) -> Result<Outcome, OperateError> {
        let old = self.plugin_to_change(tenant, name)?;
        let number = version_of(old, version)?;
        let refuse = |why| Err(OperateError::PluginState { name: name.to_owned(), why });
        if !(1..=100).contains(&share) {
            let detail = format!("a share of {share} percent: 1 to 100");
            return Err(OperateError::BadArgument(BadArgument(detail)));
        }
        if old.active == 0 || old.disabled {
            return refuse("no version is active that it could be tried beside");
        }
        if number == old.active {
            return refuse("the version is the active one");
        }
        let tried = old.version(number).expect("the version was found above");
        let is_filter = tried.points.split(',').any(|point| point == FILTER);
        if kind == TrialKind::Shadow && !is_filter {
            return refuse("only filters can be tried without effect");
        }
        let trial = Some(Trial { version: number, kind, share, until });
        Ok(self.put_plugin(old, Plugin { trial, ..old.clone() }))
    }

    pub(crate) fn plugin_trust(
        &self,
        tenant: TenantId,
        arguments: &PluginTrust,
    ) -> Result<Outcome, OperateError> {
        let PluginTrust { key, note } = arguments;
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        check_note(note)?;
        if key.is_none() {
            let detail = "a key of zeros is none".to_owned();
            return Err(OperateError::BadArgument(BadArgument(detail)));
        }
        let table = &self.meta.plugins;
        let known = table.key(tenant, *key);
        if known.is_none() && table.keys_of(tenant).count() >= limits::PLUGIN_KEYS_MAX {
            let fact = LimitReached { what: "trusted keys", max: limits::PLUGIN_KEYS_MAX };
            return Err(OperateError::LimitReached(fact));
        }
        let added = known.map_or(self.now, |known| known.added);
        let trusted = TrustedKey { tenant, key: *key, note: note.clone(), added };
        let others = table.keys_of(tenant).filter(|other| other.key != *key);
        let rows: Vec<PluginKeyRow> = others.chain([&trusted]).map(key_row).collect();
        let reply = called(&rows);
        if known == Some(&trusted) {
            return Ok(Outcome::Unchanged(reply));
        }
        Ok(Outcome::Change(MetaChange::KeyPut(trusted), reply))
    }

    pub(crate) fn plugin_distrust(
        &self,
        tenant: TenantId,
        arguments: &PluginDistrust,
    ) -> Result<Outcome, OperateError> {
        let key = arguments.key;
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        let table = &self.meta.plugins;
        let left = table.keys_of(tenant).filter(|other| other.key != key);
        let rows: Vec<PluginKeyRow> = left.map(key_row).collect();
        if table.key(tenant, key).is_none() {
            return Ok(Outcome::Unchanged(called(&rows)));
        }
        Ok(Outcome::Change(MetaChange::KeyRemoved { tenant, key }, called(&rows)))
    }

    pub(crate) fn plugin_keys(&self, tenant: TenantId) -> Result<Outcome, OperateError> {
        let keys = self.meta.plugins.keys_of(tenant);
        listed(keys.map(key_row).map(Ok)).map(Outcome::Now)
    }
}

fn new_plugin(tenant: TenantId, name: &str) -> Plugin {
    Plugin {
        tenant,
        name: name.to_owned(),
        versions: Vec::new(),
        active: 0,
        previous: 0,
        disabled: false,
        trial: None,
        next: 1,
        changed: Timestamp(0),
        version: 0,
    }
}

/// Makes a version the one that decides.
fn activate(plugin: &mut Plugin, number: u32) {
    assert!(plugin.version(number).is_some(), "what is made active is there");
    if plugin.active != number {
        plugin.previous = plugin.active;
        plugin.active = number;
    }
    plugin.disabled = false;
    plugin.trial = None;
}

/// The version that is meant: the newest where none is named.
fn version_of(plugin: &Plugin, wanted: Option<u32>) -> Result<u32, OperateError> {
    let newest = plugin.versions.last().map(|version| version.number);
    let number = wanted.or(newest).expect("a plugin has a version");
    match plugin.version(number) {
        Some(version) => Ok(version.number),
        None => Err(OperateError::NoPlugin(format!("{} version {number}", plugin.name))),
    }
}

fn plugin_row(plugin: &Plugin) -> PluginRow {
    let state = match plugin {
        Plugin { disabled: true, .. } => "disabled",
        Plugin { active: 0, .. } => "uploaded",
        _ => "active",
    };
    let shown = plugin.version(plugin.active).or(plugin.versions.last());
    let trial = plugin.trial.map(|trial| format!("{} {} %", trial.kind, trial.share));
    PluginRow {
        name: plugin.name.clone(),
        state: state.to_owned(),
        active: plugin.active,
        points: shown.map(|version| version.points.clone()).unwrap_or_default(),
        trial: plugin.trial.map_or(0, |trial| trial.version),
        on: trial.unwrap_or_default(),
        versions: u32::try_from(plugin.versions.len()).expect("versions are bounded"),
        changed_ms: plugin.changed,
    }
}

fn key_row(key: &TrustedKey) -> PluginKeyRow {
    PluginKeyRow { key: key.key, note: key.note.clone(), added_ms: key.added }
}
