//! The few things done to files and folders directly, with the syncs that make them last.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use crate::durable::FileList;
use crate::error::{Result, StorageError};

/// Creates a folder that may be there already, durably.
pub(crate) fn ensure_folder(path: &Path) -> Result<()> {
    let doing = "create a folder";
    fs::create_dir_all(path).map_err(StorageError::io(doing, path))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_one(parent),
        _ => Ok(()),
    }
}

/// How long the list is that RocksDB keeps of a database's files; none if there is no such list.
pub(crate) fn list_of(database: &Path) -> Option<FileList> {
    let name = fs::read_to_string(database.join("CURRENT")).ok()?;
    let number = name.trim_end().strip_prefix("MANIFEST-")?.parse().ok()?;
    let bytes = fs::metadata(database.join(name.trim_end())).ok()?.len();
    Some(FileList { number, bytes: u32::try_from(bytes).ok()? })
}

/// Keeps two processes from opening one store.
///
/// Why not RocksDB's own: its refusal is a sentence in an I/O error, and it comes only after other files
/// were looked at.
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock of the store in `dir`, or refuses at once.
    pub(crate) fn take(dir: &Path) -> Result<Lock> {
        let path = dir.join("lock");
        let doing = "take the lock of the store";
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StorageError::io(doing, &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => Err(StorageError::io(doing, &path)(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough while a child process that is just being started has it as well.
        let _ = self.0.unlock();
    }
}

/// Syncs every file of a flat folder, then the folder.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    for name in names(folder)? {
        sync_one(&folder.join(name))?;
    }
    sync_one(folder)
}

/// Syncs one file, or the list of names of one folder.
pub(crate) fn sync_one(path: &Path) -> Result<()> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(StorageError::io("sync a file", path))
}

/// Removes a folder and what is in it; one that is gone already is fine.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StorageError::io("remove a folder", path)(error))
        }
        _ => Ok(()),
    }
}

/// The names in a folder, sorted; those that are not Unicode are not ours and left out.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    };
    read().map_err(StorageError::io("list a folder", folder))
}
