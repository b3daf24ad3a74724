//! The repository as the checks see it: every text file, read once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::rust::RustFile;

/// Folders without anything of ours in them.
const SKIPPED_FOLDERS: &[&str] = &[".git", "target", "node_modules"];

/// All text files, in the order of their paths.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// Where it lies; empty in tests.
    pub(crate) root: PathBuf,
    /// The files.
    pub(crate) files: Vec<File>,
}

/// One text file.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with slashes.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its folder, which is also what the documents call it.
    pub(crate) folder: String,
    /// Path of its manifest.
    pub(crate) manifest: String,
    /// The manifest's content.
    pub(crate) table: toml::Table,
}

impl Repository {
    /// Reads the repository that contains a folder.
    pub(crate) fn around(folder: &Path) -> Result<Repository> {
        let holds_workspace = |folder: &&Path| folder.join("Cargo.lock").is_file();
        let Some(root) = folder.ancestors().find(holds_workspace) else {
            bail!("{} is not inside the repository: there is no Cargo.lock above it", folder.display());
        };
        let mut files = vec![];
        read_folder(root, root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Repository { root: root.to_owned(), files })
    }

    /// A repository of a test's own making.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Repository {
        let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
        Repository { root: PathBuf::new(), files: files.iter().map(file).collect() }
    }

    /// The file at a path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Is there a file, or a folder with files, at that path?
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = |file: &File| file.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        // What is not text, e.g. a picture, is not among the files but on the disk.
        self.files.iter().any(|file| file.path == path || below(file))
            || (!self.root.as_os_str().is_empty() && self.root.join(path).exists())
    }

    /// All files with that ending.
    pub(crate) fn ending<'r>(&'r self, ending: &'r str) -> impl Iterator<Item = &'r File> {
        self.files.iter().filter(move |file| file.path.ends_with(ending))
    }

    /// All Rust files.
    pub(crate) fn rust_files(&self) -> Result<Vec<RustFile>> {
        self.ending(".rs").map(|file| RustFile::read(&file.path, &file.text)).collect()
    }

    /// All packages of the workspace, as the root's manifest lists them.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        let root = self.manifest("Cargo.toml")?;
        let members = root.get("workspace").and_then(|workspace| workspace.get("members"));
        let members = members.and_then(toml::Value::as_array).context("Cargo.toml lists no members")?;
        members
            .iter()
            .filter_map(toml::Value::as_str)
            .map(|folder| {
                let manifest = format!("{folder}/Cargo.toml");
                Ok(Package { folder: folder.to_owned(), table: self.manifest(&manifest)?, manifest })
            })
            .collect()
    }

    fn manifest(&self, path: &str) -> Result<toml::Table> {
        let file = self.file(path).with_context(|| format!("there is no {path}"))?;
        file.text.parse().with_context(|| format!("reading {path}"))
    }
}

impl File {
    /// Its lines with their numbers, counted from one.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The first line that contains a text, or the first line.
    pub(crate) fn line_with(&self, text: &str) -> usize {
        self.lines().find(|(_, line)| line.contains(text)).map_or(1, |(number, _)| number)
    }
}

fn read_folder(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading the folder {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading the folder {}", folder.display()))?;
        let kind = entry.file_type().with_context(|| format!("looking at {}", entry.path().display()))?;
        let name = entry.file_name();
        if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
            read_folder(root, &entry.path(), files)?;
        } else if kind.is_file() {
            let bytes =
                fs::read(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
            let path = entry.path();
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File { path, text });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_from_anywhere_inside_it() {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["model/src", "target", ".git"] {
            fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        for path in ["Cargo.lock", "model/src/host.rs", "target/left.rs", ".git/HEAD"] {
            fs::write(root.path().join(path), "text").expect("a file");
        }
        fs::write(root.path().join("picture.png"), [0xff, 0xfe]).expect("a file");
        let repository = Repository::around(&root.path().join("model")).expect("is one");
        let paths: Vec<_> = repository.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["Cargo.lock", "model/src/host.rs"]);
        assert!(repository.has("model/") && repository.has("picture.png") && !repository.has("mod"));
    }
}
