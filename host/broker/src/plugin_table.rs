//! The plugins of all tenants, with their files, and the keys that tenants trust.
//!
//! ```text
//!   PluginTable ─┬─ plugins   tenant, name ─► Plugin: versions, which decides, which is tried
//!                ├─ files     SHA-256 ─► the bytes of a file, kept while a version has it
//!                └─ keys      tenant, key ─► TrustedKey
//! ```
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use yard_wire::TenantId;
use yard_wire::plugin::Digest;

use crate::meta::{MetaChange, Plugin, PluginFile, TrustedKey};

/// What is known about plugins.
#[derive(Debug, Default)]
pub(crate) struct PluginTable {
    plugins: BTreeMap<(TenantId, String), Plugin>,
    files: BTreeMap<Digest, Bytes>,
    keys: BTreeMap<(TenantId, Digest), TrustedKey>,
}

impl PluginTable {
    /// A plugin of this tenant.
    pub(crate) fn get(&self, tenant: TenantId, name: &str) -> Option<&Plugin> {
        self.plugins.get(&(tenant, name.to_owned()))
    }

    /// The plugins of one tenant, by name.
    pub(crate) fn of_tenant(&self, tenant: TenantId) -> impl Iterator<Item = &Plugin> {
        let plugins = self.plugins.range((tenant, String::new())..);
        plugins.take_while(move |((of, _), _)| *of == tenant).map(|(_, plugin)| plugin)
    }

    /// The keys that a tenant trusts.
    pub(crate) fn keys_of(&self, tenant: TenantId) -> impl Iterator<Item = &TrustedKey> {
        let keys = self.keys.range((tenant, Digest::default())..);
        keys.take_while(move |((of, _), _)| *of == tenant).map(|(_, key)| key)
    }

    /// A key that a tenant trusts.
    pub(crate) fn key(&self, tenant: TenantId, key: Digest) -> Option<&TrustedKey> {
        self.keys.get(&(tenant, key))
    }

    /// Bytes of all files that are kept.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files.values().map(|file| file.len() as u64).sum()
    }

    /// Whether a file is kept already.
    pub(crate) fn has_file(&self, hash: Digest) -> bool {
        self.files.contains_key(&hash)
    }

    /// The bytes of a file.
    pub(crate) fn file(&self, hash: Digest) -> Option<&Bytes> {
        self.files.get(&hash)
    }

    pub(crate) fn put_file(&mut self, file: &PluginFile) {
        // Copied: it may be a part of a large piece of the log, which is not to stay for it.
        self.files.entry(file.hash).or_insert_with(|| Bytes::copy_from_slice(&file.bytes));
    }

    pub(crate) fn put(&mut self, plugin: &Plugin) {
        let key = (plugin.tenant, plugin.name.clone());
        if self.plugins.get(&key).is_some_and(|known| known.version > plugin.version) {
            return;
        }
        self.plugins.insert(key, plugin.clone());
        self.forget_files();
    }

    pub(crate) fn remove(&mut self, tenant: TenantId, name: &str, version: u64) {
        let key = (tenant, name.to_owned());
        if self.plugins.get(&key).is_some_and(|plugin| plugin.version < version) {
            self.plugins.remove(&key);
        }
        self.forget_files();
    }

    pub(crate) fn trust(&mut self, key: &TrustedKey) {
        self.keys.insert((key.tenant, key.key), key.clone());
    }

    pub(crate) fn distrust(&mut self, tenant: TenantId, key: &Digest) {
        self.keys.remove(&(tenant, *key));
    }

    /// Keeps the files of versions that there are.
    fn forget_files(&mut self) {
        let versions = self.plugins.values().flat_map(|plugin| &plugin.versions);
        let known: BTreeSet<Digest> = versions.map(|version| version.hash).collect();
        self.files.retain(|hash, _| known.contains(hash));
    }

    /// Everything, as changes: the files of a plugin right before it, because a plugin makes those
    /// be forgotten that none has yet.
    pub(crate) fn changes(&self) -> impl Iterator<Item = MetaChange> {
        let of = |plugin: &Plugin| {
            let file = |hash: Digest| {
                let bytes = self.files.get(&hash)?.clone();
                Some(MetaChange::PluginFile(PluginFile { hash, bytes }))
            };
            let hashes: BTreeSet<Digest> = plugin.versions.iter().map(|v| v.hash).collect();
            let files = hashes.into_iter().filter_map(file);
            files.chain([MetaChange::PluginPut(plugin.clone())]).collect::<Vec<_>>()
        };
        let keys = self.keys.values().cloned().map(MetaChange::KeyPut);
        self.plugins.values().flat_map(of).chain(keys)
    }

    pub(crate) fn check(&self) {
        for ((tenant, name), plugin) in &self.plugins {
            assert_eq!((plugin.tenant, &plugin.name), (*tenant, name), "a plugin is found");
            assert!(!plugin.versions.is_empty(), "a plugin has a version");
            let numbers = plugin.versions.iter().map(|version| version.number);
            assert!(numbers.clone().is_sorted_by(|a, b| a < b), "versions are numbered upwards");
            assert!(numbers.max() < Some(plugin.next), "the next number is new");
            let trial = plugin.trial.map_or(0, |trial| trial.version);
            for used in [plugin.active, plugin.previous, trial] {
                assert!(used == 0 || plugin.version(used).is_some(), "what is used is there");
            }
            for version in &plugin.versions {
                let found = self.files.get(&version.hash).map(Bytes::len);
                assert_eq!(found, Some(version.bytes as usize), "a version has its file");
            }
        }
    }
}
