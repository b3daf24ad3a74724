//! `skep snapshot restore`: a new cluster from a backup, as data folders that managers can be started on.
//!
//! Nothing that exists is touched: the folders are written under another name and get theirs when all of them are
//! complete. The new cluster has the old one's name, authority and registration key, so hosts know it again; its epoch
//! is higher and its managers' numbers are new, so nothing of the old cluster can take part in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use skep_backup::{BackupError, Header, Reader, RecoveryKey, Secrets, Totals};
use skep_cli::{GlobalFlags, Output, Restore};
use skep_ledger::{ReadError, Tx, Txn, View};
use skep_model::{access, manager};
use skep_raft::{Restoration, RestorePoint};
use skep_wire::pki::Identity;
use skep_wire::random;

use crate::config::{self, ServerConfig, TimingPreset};
use crate::founding::{self, Founding, FoundingManager, Inherited, TOKEN_FILE};

/// For mistakes on the command line and in the file, as everywhere in the client.
const USAGE: u8 = 2;

/// Runs the command.
pub(crate) fn run(command: &Restore, flags: &GlobalFlags) -> ExitCode {
    match restore(command, flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.downcast_ref::<BackupError>().and_then(BackupError::code);
            let code = code.map_or(String::new(), |code| format!("[{code}]"));
            eprintln!("error{code}: {error:#}\n  now         nothing was written");
            ExitCode::from(USAGE)
        }
    }
}

fn restore(command: &Restore, flags: &GlobalFlags) -> Result<()> {
    let managers = founding::founders(&command.managers)?;
    if command.out.exists() {
        bail!("{} exists already: name a folder that does not", command.out.display());
    }
    let key = recovery_key(command)?;
    let backup = open(&command.file, &key)?;
    let header = backup.header().clone();
    let unfinished = unfinished(&command.out)?;
    let made = Unfinished(&unfinished);
    let timing = if command.wan { TimingPreset::Wan } else { TimingPreset::Lan };
    found(&unfinished, &header, backup.secrets(), timing, &managers)?;
    drop(backup);
    let totals = fill(&unfinished, &command.file, &key, &header, &managers)?;
    fs::rename(&unfinished, &command.out).with_context(|| format!("naming {}", command.out.display()))?;
    std::mem::forget(made);
    if let Some(parent) = command.out.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent).and_then(|parent| parent.sync_all()).context("syncing the new folder's name")?;
    }
    tell(command, flags, &header, &totals, &managers);
    Ok(())
}

/// Removed again unless everything was completed.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // What cannot be removed lies under a name that says what it is.
        let _ = fs::remove_dir_all(self.0);
    }
}

/// Beside the folder that is wished for, so that the last step is one renaming.
fn unfinished(out: &Path) -> Result<PathBuf> {
    let name = out.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} cannot be the name of a folder", out.display()))?;
    let folder = out.with_file_name(format!(".{name}.unfinished-{}", &random::name()[..8]));
    founding::make_private_folder(&folder)?;
    Ok(folder)
}

fn recovery_key(command: &Restore) -> Result<RecoveryKey> {
    let from_variable =
        || std::env::var_os("SKEP_RECOVERY_KEY_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = command.recovery_key_file.clone().or_else(from_variable);
    let path =
        path.context("the backup is encrypted: name the recovery key's file with --recovery-key-file")?;
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    RecoveryKey::parse_file(&text).with_context(|| format!("in {}", path.display()))
}

fn open(path: &Path, key: &RecoveryKey) -> Result<Reader<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Reader::open(BufReader::new(file), key).with_context(|| format!("reading {}", path.display()))
}

/// The folders without the state: identities and configurations.
fn found(
    out: &Path,
    header: &Header,
    secrets: &Secrets,
    timing: TimingPreset,
    managers: &[FoundingManager],
) -> Result<()> {
    let registration_key = config::bytes_of_hex(&secrets.registration_key)
        .and_then(|bytes| bytes.try_into().ok())
        .context("the backup's registration key is not one")?;
    let authority = Identity {
        cluster: header.cluster.clone(),
        ca_pem: secrets.ca_pem.clone(),
        ca_key_pem: secrets.ca_key_pem.clone(),
        manager_pem: String::new(),
        manager_key_pem: String::new(),
        registration_key,
    };
    let founding = Founding {
        timing,
        // Nobody may be left who could sign in.
        admin_token: true,
        inherited: Some(Inherited { authority, first_node: header.highest_node + 1 }),
        ..Founding::of(&header.cluster)
    };
    founding::found(out, &founding, managers).map(drop)
}

/// Writes the state into each folder. The backup is read anew for each, and none is complete before all of it was read
/// and found to be whole.
fn fill(
    out: &Path,
    file: &Path,
    key: &RecoveryKey,
    header: &Header,
    managers: &[FoundingManager],
) -> Result<Totals> {
    let mut change: Option<Txn> = None;
    let mut totals = None;
    for manager in managers {
        let folder = out.join(&manager.name);
        let config = ServerConfig::load(&folder)?;
        let point = RestorePoint {
            revision: header.revision,
            term: header.term,
            epoch: header.epoch + 1,
            managers: config.founding_nodes(),
        };
        let mut backup = open(file, key)?;
        let mut restoration = Restoration::begin(&folder.join("raft"), &header.cluster, config.node)?;
        while let Some(chunk) = backup.next_rows().with_context(|| format!("reading {}", file.display()))? {
            restoration.put(chunk.rows)?;
        }
        totals = backup.totals().cloned();
        restoration.finish(&point, |view| {
            if change.is_none() {
                change = succession(view, header, &config)?;
            }
            change.clone().ok_or_else(|| ReadError::new("the administrator's token is known already"))
        })?;
    }
    totals.context("there is no manager to restore to")
}

/// What is different in the new cluster: a new administrator's token beside the old ones, because whoever restores may
/// have nothing else, and every number of the old managers turned away for ever.
fn succession(view: &View, header: &Header, config: &ServerConfig) -> Result<Option<Txn>, ReadError> {
    let token = config
        .admin_token
        .as_ref()
        .ok_or_else(|| ReadError::new("a founder has no administrator's token"))?;
    let hash = token.hash().map_err(ReadError::new)?;
    let known = manager::list(view).map_err(ReadError::new)?;
    let rule = |tx: &mut Tx<'_>| {
        for number in 1..=header.highest_node {
            let row = known.iter().find(|row| row.number == number);
            let name = row.map_or_else(|| format!("m{number}"), |row| row.name.clone());
            manager::remove(tx, number, &name)?;
        }
        access::admit_administrator(tx, &token.id, &hash)
    };
    skep_ledger::decide(view, Timestamp::now(), rule).map_err(ReadError::new)
}

fn tell(
    command: &Restore,
    flags: &GlobalFlags,
    header: &Header,
    totals: &Totals,
    managers: &[FoundingManager],
) {
    let out = &command.out;
    let token = out.join(TOKEN_FILE);
    if flags.output == Some(Output::Json) {
        let folders: BTreeMap<&str, PathBuf> =
            managers.iter().map(|manager| (manager.name.as_str(), out.join(&manager.name))).collect();
        let told = serde_json::json!({
            "cluster": header.cluster, "epoch": header.epoch + 1, "revision": header.revision,
            "created_at": header.created_at, "rows": totals.rows, "folders": folders, "token_file": token,
        });
        return println!("{told:#}");
    }
    println!(
        "Restored cluster {} to revision {} of {} ({} rows), as epoch {}, for {} managers.",
        header.cluster,
        header.revision,
        header.created_at,
        totals.rows,
        header.epoch + 1,
        managers.len()
    );
    println!(
        "Make sure that no manager of the old cluster runs any more. Then carry each folder to its machine:"
    );
    for manager in managers {
        println!("  {} -> /var/lib/skep on {}", out.join(&manager.name).display(), manager.peer.ip());
    }
    println!("Then on each machine: skep server --data-dir /var/lib/skep");
    println!("A new administrator's token is in {}; the old tokens are valid too.", token.display());
    println!(
        "Hosts find the new managers by themselves where an address is an old one; see docs/how-to/back-up-and-restore.md"
    );
}
