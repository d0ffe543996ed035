//! The files and packages that the rules are about.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::source::Source;
use crate::run::{Failed, Workspace};

/// One file of the repository.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) bytes: usize,
    /// None when it is not text.
    pub(crate) text: Option<String>,
    /// Of a `.rs` file: what is in it, or why it cannot be read.
    pub(crate) source: Option<Result<Source, String>>,
    /// All of it is test code.
    pub(crate) test: bool,
}

impl File {
    fn new(path: String, content: Vec<u8>) -> File {
        let bytes = content.len();
        let text = String::from_utf8(content).ok();
        let rust = text.as_deref().filter(|_| path.ends_with(".rs"));
        let source = rust.map(Source::parse);
        let test = path.starts_with("tests/") || path.contains("/tests/");
        File { path, bytes, text, source, test }
    }

    /// Whether it is in this folder, or anywhere for the folder "".
    pub(crate) fn is_in(&self, folder: &str) -> bool {
        let rest = self.path.strip_prefix(folder);
        rest.is_some_and(|rest| folder.is_empty() || rest.starts_with('/'))
    }

    /// Files that other programs write and tests compare with; rules about text are not for them.
    pub(crate) fn is_golden(&self) -> bool {
        self.is_in("tests/golden")
    }

    pub(crate) fn is_markdown(&self) -> bool {
        self.path.ends_with(".md") && !self.is_golden()
    }
}

/// How a package needs another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

/// A dependency on a package, ours or of somebody else.
pub(crate) struct Arrow {
    pub(crate) to: String,
    pub(crate) kind: Kind,
}

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Folder from the root.
    pub(crate) folder: String,
    pub(crate) arrows: Vec<Arrow>,
}

/// Everything that the rules look at.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    pub(crate) packages: Vec<Package>,
}

impl Tree {
    /// Reads the repository: what git tracks, and what it would track if one added it.
    pub(crate) fn load(workspace: &Workspace) -> Result<Tree, Failed> {
        let root = &workspace.root;
        let mut files = Vec::new();
        for path in listed_by_git(root).unwrap_or_else(|| walked(root)) {
            let place = root.join(&path);
            if !place.is_file() {
                continue; // deleted and not yet committed, or a link that leads nowhere
            }
            let content = fs::read(&place);
            let content = content.map_err(|error| Failed(format!("{path}: {error}.")))?;
            files.push(File::new(path, content));
        }
        let packages = packages(&workspace.metadata()?, root)?;
        let mut tree = Tree { files, packages };
        tree.mark_test_modules();
        Ok(tree)
    }

    /// A tree of these files, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| File::new((*path).to_owned(), (*text).into());
        let mut tree = Tree { files: files.iter().map(file).collect(), packages: Vec::new() };
        tree.mark_test_modules();
        tree
    }

    /// The Rust files that could be read, with what is in them.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&File, &Source)> {
        let readable = |file: &&File| matches!(file.source, Some(Ok(_)));
        self.files.iter().filter(readable).filter_map(|file| {
            let source = file.source.as_ref()?.as_ref().ok()?;
            Some((file, source))
        })
    }

    /// Whether there is a file or a folder of this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path || file.is_in(path))
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// `#[cfg(test)] mod tests;` makes test code of `tests.rs` and of what is below `tests/`.
    fn mark_test_modules(&mut self) {
        let mut places = BTreeSet::new();
        for (file, source) in self.sources() {
            let stem = file.path.trim_end_matches(".rs");
            let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
            let base = if matches!(name, "lib" | "main" | "mod") { folder } else { stem };
            places.extend(source.test_modules.iter().map(|module| format!("{base}/{module}")));
        }
        for file in &mut self.files {
            let stem = file.path.trim_end_matches(".rs");
            let is_test = places.contains(stem) || places.iter().any(|place| file.is_in(place));
            file.test |= is_test;
        }
    }
}

/// The files by git's word, or None where there is no git or no repository.
fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    // In a container, the checkout often belongs to another user, which git refuses by default.
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]);
    let output = git.current_dir(root).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let paths: BTreeSet<&str> = text.split('\0').filter(|path| !path.is_empty()).collect();
    (!paths.is_empty()).then(|| paths.into_iter().map(str::to_owned).collect())
}

/// The files of an unpacked archive: all but what is built.
fn walked(root: &Path) -> Vec<String> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == ".git" || (folder.is_empty() && name.starts_with("target")) {
                continue;
            }
            let path = format!("{folder}{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(format!("{path}/")),
                Ok(_) => drop(paths.insert(path)),
                Err(_) => {}
            }
        }
    }
    paths.into_iter().collect()
}

/// The packages in the answer of `cargo metadata`.
fn packages(metadata: &serde_json::Value, root: &Path) -> Result<Vec<Package>, Failed> {
    let listed = metadata["packages"].as_array();
    let listed = listed.ok_or_else(|| Failed("cargo metadata lists no packages.".to_owned()))?;
    let mut packages = Vec::new();
    for package in listed {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let folder = Path::new(text("manifest_path")).parent().unwrap_or(root);
        let folder = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let arrows = dependencies.map(|dependency| Arrow {
            to: dependency["name"].as_str().unwrap_or_default().to_owned(),
            kind: match dependency["kind"].as_str() {
                Some("dev") => Kind::Dev,
                Some("build") => Kind::Build,
                _ => Kind::Normal,
            },
        });
        packages.push(Package { name: text("name").to_owned(), folder, arrows: arrows.collect() });
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_test_module_is_test_code() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "#[cfg(test)] mod tests; mod b;"),
            ("a/src/tests.rs", ""),
            ("a/src/tests/more.rs", ""),
            ("a/src/b.rs", "#[cfg(test)] mod model;"),
            ("a/src/b/model.rs", ""),
            ("a/src/b/other.rs", ""),
            ("tests/it/src/lib.rs", ""),
        ]);
        let production = tree.files.iter().filter(|file| !file.test);
        let production: Vec<&str> = production.map(|file| file.path.as_str()).collect();
        assert_eq!(production, ["a/src/lib.rs", "a/src/b.rs", "a/src/b/other.rs"]);
    }

    #[test]
    fn packages_come_with_folder_and_kinds_of_arrows() {
        let metadata = serde_json::json!({"packages": [{
            "name": "yard-a", "manifest_path": "/r/host/a/Cargo.toml",
            "dependencies": [
                {"name": "b", "kind": null}, {"name": "c", "kind": "dev"},
                {"name": "d", "kind": "build"},
            ],
        }]});
        let packages = packages(&metadata, Path::new("/r")).expect("packages are listed");
        assert_eq!((packages[0].name.as_str(), packages[0].folder.as_str()), ("yard-a", "host/a"));
        let kinds: Vec<Kind> = packages[0].arrows.iter().map(|arrow| arrow.kind).collect();
        assert_eq!(kinds, [Kind::Normal, Kind::Dev, Kind::Build]);
    }

    #[test]
    fn folders_are_not_prefixes_of_names() {
        let tree = Tree::of(&[("host/store2/a.md", "")]);
        assert!(tree.has("host") && tree.has("host/store2") && !tree.has("host/store"));
    }
}
