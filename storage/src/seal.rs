//! Says, in the folder of a snapshot, which files it has, how long each is, and what is in all but its tables.
//!
//! Why it is needed: the database's list of its files has a checksum per record, and a list that ends early is taken
//! for one that was not written further; so is one in which a flipped bit makes a record longer than what is left. A
//! snapshot with such a list is a whole database of an earlier moment, perhaps with tables of two moments, and nothing
//! about it looks wrong. The database in use has the durability mark against that (see `durable.rs`); a snapshot has
//! this.

use std::fs;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};

use crate::error::{Result, StorageError};
use crate::files;

const SEAL: &str = "seal";

/// The last line, so that a seal that ends early is recognised.
const END: &str = "end";

/// Notes the files of a finished folder. The caller syncs it with the others.
pub(crate) fn put(folder: &Path) -> Result<()> {
    let path = folder.join(SEAL);
    fs::write(&path, describe(folder, &files::names(folder)?)?)
        .map_err(StorageError::io("seal a checkpoint", &path))
}

/// Refuses a folder whose files are not those that were noted. What was added later, such as a diary, is of no account.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let doing = "check the seal of a checkpoint";
    let damaged = |detail: String| StorageError::Corrupt { doing, detail };
    let path = folder.join(SEAL);
    let sealed =
        fs::read_to_string(&path).map_err(|error| damaged(format!("{}: {error}", path.display())))?;
    let names: Vec<String> =
        sealed.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name.to_owned()).collect();
    if !sealed.ends_with(&format!("{END}\n")) {
        return Err(damaged(format!("{} is not whole", path.display())));
    }
    let found = describe(folder, &names).map_err(|error| damaged(error.in_full()))?;
    if found != sealed {
        return Err(damaged(format!("the files in {} are not as they were", folder.display())));
    }
    Ok(())
}

/// Each file's length, and the SHA-256 of what is in it. Tables are large, and their own checksums cover all of them.
fn describe(folder: &Path, names: &[String]) -> Result<String> {
    let mut text = String::new();
    for name in names {
        let path = folder.join(name);
        let failed = StorageError::io("look at a file", &path);
        if name.ends_with(".sst") {
            let bytes = fs::metadata(&path).map_err(failed)?.len();
            text.push_str(&format!("{name} {bytes}\n"));
        } else {
            let content = fs::read(&path).map_err(failed)?;
            let sum = digest(&SHA256, &content);
            let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{name} {} {sum}\n", content.len()));
        }
    }
    Ok(text + END + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_became_shorter_breaks_the_seal_and_a_new_one_does_not() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("a"), "12345").expect("written");
        put(dir.path()).expect("sealed");
        fs::write(dir.path().join("diary"), "x").expect("written");
        check(dir.path()).expect("whole");
        fs::write(dir.path().join("a"), "1234").expect("written");
        assert!(matches!(check(dir.path()), Err(StorageError::Corrupt { .. })));
    }

    #[test]
    fn a_list_of_files_that_says_something_else_breaks_the_seal() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("MANIFEST-1"), "12345").expect("written");
        put(dir.path()).expect("sealed");
        check(dir.path()).expect("whole");
        fs::write(dir.path().join("MANIFEST-1"), "12845").expect("written");
        assert!(matches!(check(dir.path()), Err(StorageError::Corrupt { .. })));
    }

    #[test]
    fn a_seal_that_ends_early_is_broken() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("a"), "12345").expect("written");
        put(dir.path()).expect("sealed");
        for text in ["", "a 5\n", "end"] {
            fs::write(dir.path().join(SEAL), text).expect("written");
            assert!(check(dir.path()).is_err(), "{text:?}");
        }
    }
}
