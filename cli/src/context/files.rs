//! The files that contexts are kept in: the user's configuration file, and the folders of tokens and authorities beside it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Table};

use crate::failure::Failure;
use crate::session::Session;

/// Where imported contexts have their authorities, beside the configuration file.
pub(super) const AUTHORITIES: &str = "authorities";

pub(super) fn config(session: &Session) -> Result<&Path, Failure> {
    let config = session.settings.config.as_deref();
    config.ok_or_else(|| {
        Failure::usage("there is no home directory with a configuration", "set SKEP_CONFIG_HOME")
    })
}

/// A name of a context is a name of a file as well.
pub(super) fn plain(name: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !name.is_empty() && name.chars().all(allowed) {
        true => Ok(()),
        false => Err(Failure::usage(
            format!("'{name}' cannot be the name of a context"),
            "use letters, digits, '-' and '_': --context NAME",
        )),
    }
}

pub(super) fn token_file(config: &Path, name: &str) -> PathBuf {
    beside(config).join("tokens").join(name)
}

pub(super) fn beside(config: &Path) -> &Path {
    config.parent().unwrap_or(Path::new("."))
}

pub(super) fn forget_token(config: &Path, name: &str) -> Result<(), Failure> {
    forget(&token_file(config, name))
}

/// Removes an authority that came with an imported context; any other file is somebody else's.
pub(super) fn forget_authority(config: &Path, file: &str) -> Result<(), Failure> {
    match Path::new(file).parent() == Some(Path::new(AUTHORITIES)) {
        true => forget(&beside(config).join(file)),
        false => Ok(()),
    }
}

fn forget(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(writing(file)(error)),
        _ => Ok(()),
    }
}

pub(super) fn context_of<'d>(document: &'d mut DocumentMut, name: &str) -> &'d mut Table {
    let contexts = document.entry("contexts").or_insert_with(|| {
        let mut contexts = Table::new();
        contexts.set_implicit(true);
        Item::Table(contexts)
    });
    let context = &mut contexts[name];
    let table = std::mem::take(context).into_table().unwrap_or_default();
    *context = Item::Table(table);
    // It was made one just now.
    context.as_table_mut().expect("is a table")
}

pub(super) fn change(config: &Path, change: impl FnOnce(&mut DocumentMut)) -> Result<(), Failure> {
    let text = match fs::read_to_string(config) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(Failure::File { doing: format!("read {}", config.display()), source }),
    };
    let mut document: DocumentMut = text.parse().map_err(|error| {
        Failure::usage(format!("{} is not TOML: {error}", config.display()), "mend it, or move it away")
    })?;
    change(&mut document);
    keep_private(config, &document.to_string()).map_err(writing(config))
}

/// Writes a file at once or not at all, for nobody else to read.
pub(super) fn keep_private(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let beside = path.with_extension("part");
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

pub(super) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Failure + use<> {
    let doing = format!("write {}", path.display());
    move |source| Failure::File { doing, source }
}
