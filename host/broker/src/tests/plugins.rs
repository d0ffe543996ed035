//! Plugins in the metadata: versions, which of them decides, keys, limits; after a restart as well.
use bytes::Bytes;
use yard_wire::operation::{
    Operate, PluginCanary, PluginDisable, PluginInfo, PluginKeys, PluginLs, PluginPromote,
    PluginRm, PluginRollback, PluginShadow, PluginTrust,
};
use yard_wire::plugin::{Digest, PluginRow};
use yard_wire::{Code, TenantId, limits};

use super::world::{self, World, answer, config, origin};
use crate::{Event, MetaChange, Pushed};

const TENANT: TenantId = TenantId(0);

fn call<T: Operate>(world: &mut World, arguments: &T) -> Result<T::Result, Code> {
    world::call(world, arguments).map_err(|refusal| refusal.code)
}

fn push(world: &mut World, name: &str, file: u8, inactive: bool) -> Result<PluginRow, Code> {
    push_of(world, name, "filter", file, inactive)
}

fn push_of(
    world: &mut World,
    name: &str,
    points: &str,
    file: u8,
    inactive: bool,
) -> Result<PluginRow, Code> {
    let pushed = Pushed {
        name: name.to_owned(),
        label: format!("1.0.{file}"),
        points: points.to_owned(),
        hash: Digest([file; 32]),
        file: Bytes::from(vec![file; 1_000]),
        signer: Digest::default(),
        inactive,
    };
    let pushed = Box::new(pushed);
    world.handle(Event::PluginPushed { origin: origin(1), tenant: TENANT, pushed });
    answer(world).map_err(|refusal| refusal.code)
}

/// Active version, version on trial, state.
fn state(row: &PluginRow) -> (u32, u32, &str) {
    (row.active, row.trial, &row.state)
}

fn name() -> String {
    "letters".to_owned()
}

#[test]
fn only_filters_are_tried_without_effect() {
    let mut world = World::new(config(0, 1));
    for file in [1, 2] {
        push_of(&mut world, "keys", "dedupe,interceptor", file, file == 2).unwrap();
        push_of(&mut world, "both", "dedupe,filter", file + 2, file == 2).unwrap();
    }
    let shadow =
        |name: &str| PluginShadow { name: name.into(), share: 100, ..PluginShadow::default() };
    assert_eq!(call(&mut world, &shadow("keys")), Err(Code::PluginState));
    assert_eq!(state(&call(&mut world, &shadow("both")).unwrap()), (1, 2, "active"));
    let canary = PluginCanary { name: "keys".into(), share: 10, ..PluginCanary::default() };
    assert_eq!(state(&call(&mut world, &canary).unwrap()), (1, 2, "active"));
}

#[test]
fn versions_are_numbered_tried_promoted_and_taken_back() {
    let mut world = World::new(config(0, 1));
    let row = push(&mut world, "letters", 1, true).unwrap();
    assert_eq!(state(&row), (0, 0, "uploaded"));
    let listed = call(&mut world, &PluginLs {}).unwrap();
    assert_eq!(listed, std::slice::from_ref(&row), "the answer is what was written down");
    assert_ne!(row.changed_ms.0, 0);
    let tried = PluginShadow { name: name(), share: 100, ..PluginShadow::default() };
    assert_eq!(call(&mut world, &tried), Err(Code::PluginState), "beside nothing");
    assert_eq!(state(&push(&mut world, "letters", 1, false).unwrap()), (1, 0, "active"));
    let row = push(&mut world, "letters", 2, true).unwrap();
    assert_eq!((state(&row), row.versions), ((1, 0, "active"), 2));
    let row = call(&mut world, &tried).unwrap();
    assert_eq!((state(&row), row.on.as_str()), ((1, 2, "active"), "shadow 100 %"));
    for (share, version, code) in
        [(0, Some(2), Code::BadArgument), (101, Some(2), Code::BadArgument)]
            .into_iter()
            .chain([(10, Some(1), Code::PluginState), (10, Some(9), Code::UnknownPlugin)])
    {
        let canary = PluginCanary { name: name(), version, share, ..PluginCanary::default() };
        assert_eq!(call(&mut world, &canary), Err(code), "{share} {version:?}");
    }
    let canary = PluginCanary { name: name(), share: 10, ..PluginCanary::default() };
    assert_eq!(state(&call(&mut world, &canary).unwrap()), (1, 2, "active"));
    world.restart();
    let promote = PluginPromote { name: name(), version: None };
    assert_eq!(state(&call(&mut world, &promote).unwrap()), (2, 0, "active"));
    let back = PluginRollback { name: name() };
    assert_eq!(state(&call(&mut world, &back).unwrap()), (1, 0, "active"));
    assert_eq!(state(&call(&mut world, &back).unwrap()), (2, 0, "active"), "and forth");
    let disable = PluginDisable { name: name() };
    assert_eq!(state(&call(&mut world, &disable).unwrap()), (2, 0, "disabled"));
    let gone = PluginRm { name: name(), version: Some(1) };
    assert_eq!(call(&mut world, &gone), Err(Code::PluginState), "it was active before");
    world.compare_with_log();
    let report = call(&mut world, &PluginInfo { name: name() }).unwrap();
    let versions: Vec<(u32, u32)> = report.versions.iter().map(|v| (v.version, v.bytes)).collect();
    assert_eq!(versions, [(1, 1_000), (2, 1_000)]);
    assert!(call(&mut world, &PluginRm { name: name(), version: None }).is_ok());
    assert_eq!(call(&mut world, &PluginInfo { name: name() }), Err(Code::UnknownPlugin));
    assert_eq!(call(&mut world, &PluginLs {}).unwrap(), []);
    world.compare_with_log();
    let row = push(&mut world, "letters", 3, false).unwrap();
    assert_eq!((state(&row), row.versions), ((1, 0, "active"), 1), "a new plugin of the name");
}

#[test]
fn a_file_comes_with_the_version_that_has_it_and_goes_with_it() {
    let mut world = World::new(config(0, 1));
    push(&mut world, "one", 1, false).unwrap();
    push(&mut world, "two", 1, false).unwrap();
    let files = |world: &World| {
        let changes = world.broker.metadata().into_iter();
        let files = changes.filter(|change| matches!(change, MetaChange::PluginFile(_)));
        files.count()
    };
    assert_eq!(world.broker.meta.plugins.file_bytes(), 1_000, "a file is kept once");
    assert_eq!(files(&world), 2, "and told with each plugin");
    world.restart();
    assert_eq!(world.broker.meta.plugins.file_bytes(), 1_000);
    for name in ["one", "two"] {
        let name = name.to_owned();
        call(&mut world, &PluginDisable { name: name.clone() }).unwrap();
        assert_eq!(world.broker.meta.plugins.file_bytes(), 1_000);
        call(&mut world, &PluginRm { name, version: None }).unwrap();
    }
    assert_eq!(world.broker.meta.plugins.file_bytes(), 0);
    // Nothing of it is stored where the disk is full.
    world.full = true;
    assert_eq!(push(&mut world, "one", 1, false), Err(Code::DiskFull));
    world.full = false;
    world.compare_with_log();
    assert_eq!(world.broker.meta.plugins.file_bytes(), 0);
}

#[test]
fn versions_and_keys_are_bounded() {
    let mut world = World::new(config(0, 1));
    for file in 1..=limits::PLUGIN_VERSIONS_MAX as u8 {
        push(&mut world, "many", file, true).unwrap();
    }
    assert_eq!(push(&mut world, "many", 99, true), Err(Code::LimitReached));
    assert_eq!(push(&mut world, "many", 5, true).unwrap().versions, 32, "it is there already");
    let rm = PluginRm { name: "many".to_owned(), version: Some(5) };
    assert_eq!(call(&mut world, &rm).unwrap().versions, 31);
    assert_eq!(push(&mut world, "many", 99, true).unwrap().versions, 32);
    let trust = |key| PluginTrust { key: Digest([key; 32]), note: "author".to_owned() };
    assert_eq!(call(&mut world, &trust(0)), Err(Code::BadArgument));
    for key in 1..=limits::PLUGIN_KEYS_MAX as u8 {
        assert_eq!(call(&mut world, &trust(key)).unwrap().len(), usize::from(key));
    }
    assert_eq!(call(&mut world, &trust(99)), Err(Code::LimitReached));
    assert_eq!(call(&mut world, &trust(1)).unwrap().len(), limits::PLUGIN_KEYS_MAX);
    world.restart();
    assert_eq!(call(&mut world, &PluginKeys {}).unwrap().len(), limits::PLUGIN_KEYS_MAX);
}
