//! What a crash leaves on the disk, and what a power cut takes from it.

use std::fs;
use std::path::{Path, PathBuf};

/// What happens to the files when the process has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disaster {
    /// Nothing.
    Killed,
    /// Everything after the last completed sync is gone.
    PowerCut,
    /// About half of what came after the last completed sync is gone.
    Torn,
}

/// The write-ahead log that was written to, and how much of it a sync covers that begins now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    name: String,
    bytes: u64,
}

impl Covered {
    /// Nothing if there is no log yet.
    pub(crate) fn now(root: &Path) -> Covered {
        let Some(path) = live_log(&root.join("store")) else {
            return Covered::default();
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Covered { name, bytes: fs::metadata(&path).map_or(0, |file| file.len()) }
    }

    /// Keeps it as what the last completed sync covered, unless a later sync covered more.
    pub(crate) fn note(&self, root: &Path) {
        let known = Covered::noted(root);
        if (known.name.as_str(), known.bytes) < (self.name.as_str(), self.bytes) {
            // Renamed into place: the process may die at any moment, and half a note would be a wrong one.
            let draft = root.join("synced.draft");
            fs::write(&draft, format!("{} {}", self.name, self.bytes)).expect("a note");
            fs::rename(draft, root.join("synced")).expect("the note");
        }
    }

    fn noted(root: &Path) -> Covered {
        let note = fs::read_to_string(root.join("synced")).unwrap_or_default();
        match note.split_once(' ') {
            Some((name, bytes)) => {
                Covered { name: name.to_owned(), bytes: bytes.parse().expect("a number of bytes") }
            }
            None => Covered::default(),
        }
    }
}

/// Lets the disaster happen to the store that a dead child has left, or to a copy of it. None if it makes no
/// difference: nothing had been written since the last sync.
pub(crate) fn strike(root: &Path, disaster: Disaster) -> Option<PathBuf> {
    let original = root.join("store");
    if disaster == Disaster::Killed {
        return Some(original);
    }
    let log = live_log(&original)?;
    let name = log.file_name()?;
    let bytes = fs::metadata(&log).expect("the log").len();
    let noted = Covered::noted(root);
    // A log that was begun after the last sync: none of it is certain.
    let synced = if noted.name == name.to_string_lossy() { noted.bytes } else { 0 };
    let kept = match disaster {
        Disaster::Torn => synced + (bytes - synced) / 2,
        _ => synced,
    };
    if synced == bytes {
        return None;
    }
    let copy = root.join(format!("{disaster:?}"));
    copy_folder(&original, &copy);
    let file = fs::File::options().write(true).open(copy.join("db").join(name)).expect("the log");
    file.set_len(kept).expect("the log is cut");
    Some(copy)
}

/// The newest write-ahead log. Older ones were synced when it was begun or are not needed any more.
fn live_log(store: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(store.join("db")).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
