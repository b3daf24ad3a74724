//! Small files that are replaced as a whole and can be read by their owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::AgentError;

/// The file's bytes, or `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, AgentError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading", path)(error)),
    }
}

/// After a crash the file is the old one or the new one, never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let new = path.with_extension("new");
    // A left-over of a crash may have other permissions.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removing", &new)(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let mut file = file.map_err(failed("creating", &new))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("writing", &new))?;
    fs::rename(&new, path).map_err(failed("replacing", path))?;
    let Some(dir) = path.parent() else { return Ok(()) };
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("syncing", dir))
}

pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AgentError {
    let path = path.to_owned();
    move |source| AgentError::File { doing, path, source }
}
