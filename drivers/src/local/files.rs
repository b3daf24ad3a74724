//! Files that are either as they were or as they should be, and locks between processes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::DriverError;

/// Held while a cluster chooses its network: two clusters with different folders could choose the same one
/// between looking at the routes and making the bridge.
pub(super) const COMPUTER_LOCK: &str = "/run/skep-local.lock";

/// An exclusive lock between processes; dropping it gives it back, and so does dying.
pub(super) struct Lock {
    _file: File,
}

/// Waits for the lock. Its file may be removed by whoever holds it.
pub(super) fn lock(path: &Path) -> Result<Lock, DriverError> {
    let trying = "locking";
    make_parent(path)?;
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(io_error(trying, path))?;
        file.lock().map_err(io_error(trying, path))?;
        // The one before us may have removed the file: then ours is a lock on nothing that others see.
        let ours = file.metadata().map_err(io_error(trying, path))?;
        if fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            return Ok(Lock { _file: file });
        }
    }
}

/// Reads a JSON file; `None` if there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DriverError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("reading", path)(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| DriverError::Corrupt { path: path.to_owned(), source })
}

/// Writes a JSON file that only its owner may read. Interrupted, the file is as it was before.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), DriverError> {
    make_parent(path)?;
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| DriverError::Corrupt { path: path.to_owned(), source })?;
    let aside = path.with_extension("json.new");
    let attempt = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    attempt().map_err(io_error("writing", path))
}

/// Removes a file or a whole folder; nothing there is success.
pub(super) fn remove(path: &Path) -> Result<(), DriverError> {
    let attempt = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match attempt {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn make_folder(path: &Path) -> Result<(), DriverError> {
    fs::create_dir_all(path).map_err(io_error("making the folder", path))
}

/// The names in a folder; a folder that is not there is empty.
pub(super) fn names(path: &Path) -> Result<Vec<String>, DriverError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("listing", path)(error)),
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

pub(super) fn io_error(trying: &'static str, path: &Path) -> impl Fn(io::Error) -> DriverError {
    move |source| DriverError::Io { trying, path: path.to_owned(), source }
}

fn make_parent(path: &Path) -> Result<(), DriverError> {
    path.parent().map_or(Ok(()), make_folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_written_file_is_for_its_owner_only_and_reads_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/value.json");
        assert_eq!(read::<u32>(&path).expect("nothing is fine"), None);
        write(&path, &7_u32).expect("write");
        assert_eq!(read::<u32>(&path).expect("read"), Some(7));
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(names(&folder.path().join("deep")).expect("names"), ["value.json"]);
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_taken_on_the_new_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let first = lock(&path).expect("first");
        let waiting = {
            let path = path.clone();
            std::thread::spawn(move || lock(&path).map(|_held| path.exists()))
        };
        remove(&path).expect("the holder may remove it");
        drop(first);
        assert!(waiting.join().expect("no panic").expect("second"), "the second holds a file others see");
    }

    #[test]
    fn removing_nothing_is_fine() {
        let folder = tempfile::tempdir().expect("a folder");
        remove(&folder.path().join("nothing")).expect("success");
    }
}
