//! Backups of this cluster, written by a manager: on request, and by the schedule on the leader.
//!
//! ```text
//!   view of the state ─► encrypted file ─► synced ─► read back from its first byte to its last ─► handed over, or kept
//! ```
//! Reading back is the restore without its last step: every row is decrypted, decoded, counted and compared, one at a
//! time, so that a manager needs no more memory for a large state than for a small one. Managers have no recovery key;
//! for that one look each file is also encrypted to a key that lives in this process until the file was read back.
//!
//! Kept files are removed by the manager that has them, when their record says so, and never for any other reason.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use jiff::Timestamp;
use skep_api::{MadeSnapshot, SnapshotFailure, Snapshots};
use skep_backup::{BackupError, Header, Reader, Recipient, RecoveryKey, Secrets, Writer};
use skep_ledger::{Ledger, Request, Term, transact};
use skep_model::ids::SnapshotId;
use skep_model::manager;
use skep_model::snapshot::{self, Snapshot};
use skep_raft::{Export, Replica};
use skep_wire::pki::Identity;
use skep_wire::random;
use tempfile::NamedTempFile;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

/// The folder in the data folder where backups are kept, unless the schedule names another.
const KEPT: &str = "snapshots-out";

/// What a kept backup's name begins and ends with.
const NAME_BEGIN: &str = "skep-";
const NAME_END: &str = ".backup";

/// What the name of a file begins with that was not read back yet.
const UNFINISHED: &str = ".skep-snapshot-";

/// Between two looks at the schedule. The shortest one is five minutes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How rows that belong to no object are called in a backup's table of contents.
const BOOKKEEPING: &str = "(bookkeeping)";

/// Makes backups on this manager.
pub(crate) struct Backups {
    replica: Replica,
    identity: Identity,
    manager: String,
    spool: PathBuf,
    kept: PathBuf,
    /// Held while one is made: two at a time would be twice the load for the same content.
    making: Mutex<()>,
}

/// A backup that was written and read back.
struct Written {
    file: NamedTempFile,
    header: Header,
    rows: u64,
    file_bytes: u64,
    sha256: String,
}

impl Backups {
    pub(crate) fn new(replica: Replica, identity: Identity, manager: &str, data: &Path) -> Backups {
        // Recorded for people on other machines, so it is said in full.
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        let (spool, kept) = (data.join("spool"), data.join(KEPT));
        for folder in [&spool, &kept] {
            remove_unfinished(folder);
        }
        Backups { replica, identity, manager: manager.to_owned(), spool, kept, making: Mutex::default() }
    }

    /// Follows the schedule while this manager leads, and removes what has to go from this manager's disk. Never ends.
    pub(crate) async fn run(self: Arc<Backups>, leadership: watch::Receiver<Option<Term>>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let term = *leadership.borrow();
            if let Err(error) = self.sweep(term).await {
                tracing::warn!(error, "kept backups could not be looked through");
            }
            if let Some(term) = term
                && snapshot::is_due(&self.replica.view(), self.replica.epoch(), self.replica.now())
                    == Ok(true)
            {
                self.follow(term).await;
            }
        }
    }

    async fn follow(&self, term: Term) {
        match self.keep_in(Request::fenced(term)).await {
            Ok(kept) => tracing::info!(
                path = kept.path,
                revision = kept.snapshot_revision,
                bytes = kept.file_bytes,
                "a scheduled backup was written and verified"
            ),
            Err(error) => {
                tracing::error!(%error, "the scheduled backup failed");
                let why = error.to_string();
                let noted =
                    transact(&self.replica, Request::fenced(term), |tx| snapshot::failed(tx, &why)).await;
                if let Err(error) = noted {
                    tracing::warn!(%error, "the failure of the backup could not be recorded");
                }
            }
        }
    }

    /// Removes the files whose records say so, and records of managers that are gone with their disks.
    async fn sweep(&self, term: Option<Term>) -> Result<(), String> {
        let all = snapshot::list(&self.replica.view()).map_err(|error| error.to_string())?;
        let going: Vec<Snapshot> =
            all.into_iter().map(|(known, _)| known).filter(|known| known.removal).collect();
        let others = going.iter().any(|known| known.manager != self.manager);
        let managers = match term.is_some() && others {
            true => self.replica.status().await.members.into_iter().map(|member| member.name).collect(),
            false => vec![],
        };
        for known in going {
            if known.manager == self.manager {
                remove_kept(Path::new(&known.path))
                    .map_err(|error| format!("removing {}: {error}", known.path))?;
            } else if managers.is_empty() || managers.contains(&known.manager) {
                continue;
            }
            let removed =
                transact(&self.replica, Request::new(), |tx| snapshot::removed(tx, &known.id)).await;
            removed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn keep_in(&self, request: Request) -> Result<Snapshot, SnapshotFailure> {
        let directory = self.directory()?;
        let written = self.write(true, directory.clone()).await?;
        let id = SnapshotId::new(Uuid::now_v7());
        let header = &written.header;
        let name =
            format!("{NAME_BEGIN}{}-e{}-r{}-{id}{NAME_END}", header.cluster, header.epoch, header.revision);
        let path = directory.join(name);
        let snapshot = Snapshot {
            id,
            manager: self.manager.clone(),
            path: path.display().to_string(),
            created_at: header.created_at,
            verified_at: Timestamp::now(),
            epoch: header.epoch,
            snapshot_revision: header.revision,
            rows: written.rows,
            file_bytes: written.file_bytes,
            sha256: written.sha256,
            removal: false,
        };
        let place = || -> io::Result<()> {
            written.file.persist_noclobber(&path).map_err(|error| error.error)?;
            File::open(&directory)?.sync_all()
        };
        place().map_err(|error| SnapshotFailure::Failed(format!("naming {}: {error}", path.display())))?;
        // A file that could not be recorded is left: it may be recorded after all, and a backup too many harms nobody.
        transact(&self.replica, request, |tx| snapshot::taken(tx, &snapshot))
            .await
            .map_err(|error| SnapshotFailure::Failed(format!("recording the backup: {error}")))?;
        Ok(snapshot)
    }

    /// A folder that people have named must exist: below a mount point that is not mounted is the wrong disk.
    fn directory(&self) -> Result<PathBuf, SnapshotFailure> {
        let schedule =
            snapshot::schedule(&self.replica.view()).map_err(|_| SnapshotFailure::NoRecoveryKey)?;
        let Some(wished) = schedule.directory.map(PathBuf::from) else {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.kept);
            made.map_err(|error| {
                SnapshotFailure::Failed(format!("making {}: {error}", self.kept.display()))
            })?;
            return Ok(self.kept.clone());
        };
        match wished.is_dir() {
            true => Ok(wished),
            false => Err(SnapshotFailure::Failed(format!(
                "there is no folder {} on manager {}; it is never made, because it may be a disk that is not mounted",
                wished.display(),
                self.manager
            ))),
        }
    }

    async fn write(&self, fresh: bool, directory: PathBuf) -> Result<Written, SnapshotFailure> {
        let _one_at_a_time = self.making.lock().await;
        let mut export = self.replica.export(fresh).await?;
        // Looked for afterwards, so that every number in the export is among them.
        let managers = manager::list(&self.replica.view())
            .map_err(|error| SnapshotFailure::Failed(error.to_string()))?;
        export.highest_node =
            managers.iter().map(|given| given.number).chain([export.highest_node]).max().unwrap_or(0);
        let recipients = self.recipients()?;
        let (identity, manager) = (self.identity.clone(), self.manager.clone());
        let writing =
            tokio::task::spawn_blocking(move || write(&export, recipients, &identity, &manager, &directory));
        let written = writing.await.map_err(|error| SnapshotFailure::Failed(error.to_string()))?;
        written.map_err(|error| SnapshotFailure::Failed(format!("writing the backup: {error}")))
    }

    fn recipients(&self) -> Result<Vec<Recipient>, SnapshotFailure> {
        let schedule =
            snapshot::schedule(&self.replica.view()).map_err(|_| SnapshotFailure::NoRecoveryKey)?;
        let recipients: Result<Vec<Recipient>, _> =
            schedule.recipients.iter().map(|text| text.parse()).collect();
        match recipients {
            Ok(recipients) if !recipients.is_empty() => Ok(recipients),
            Ok(_) => Err(SnapshotFailure::NoRecoveryKey),
            Err(error) => Err(SnapshotFailure::Failed(format!("reading the schedule: {error}"))),
        }
    }
}

#[async_trait]
impl Snapshots for Backups {
    async fn make(&self, fresh: bool) -> Result<MadeSnapshot, SnapshotFailure> {
        let written = self.write(fresh, self.spool.clone()).await?;
        let mut file = written.file.into_file();
        file.rewind().map_err(|error| SnapshotFailure::Failed(format!("reading the backup: {error}")))?;
        Ok(MadeSnapshot {
            file,
            revision: written.header.revision,
            epoch: written.header.epoch,
            rows: written.rows,
            file_bytes: written.file_bytes,
            sha256: written.sha256,
        })
    }

    async fn keep(&self) -> Result<Snapshot, SnapshotFailure> {
        self.keep_in(Request::new()).await
    }

    fn open(&self, snapshot: &Snapshot) -> io::Result<File> {
        File::open(&snapshot.path)
    }
}

fn write(
    export: &Export,
    mut recipients: Vec<Recipient>,
    identity: &Identity,
    manager: &str,
    directory: &Path,
) -> Result<Written, BackupError> {
    let look = RecoveryKey::generate();
    recipients.push(look.recipient());
    let header = Header {
        cluster: identity.cluster.clone(),
        epoch: export.epoch,
        revision: export.revision,
        term: export.term,
        highest_node: export.highest_node,
        created_at: Timestamp::now(),
        manager: manager.to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let secrets = Secrets {
        ca_pem: identity.ca_pem.clone(),
        ca_key_pem: identity.ca_key_pem.clone(),
        registration_key: random::hex(&identity.registration_key),
    };
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
    let mut writer = Writer::begin(BufWriter::new(file.as_file()), &recipients, &header, &secrets)?;
    for row in export.rows() {
        let (key, value) = row.map_err(io::Error::other)?;
        writer.put(skep_ledger::table_of(&key).unwrap_or(BOOKKEEPING), &key, &value)?;
    }
    let (output, written) = writer.finish()?;
    output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;

    let mut input = Counted { input: file.reopen()?, bytes: 0, digest: Digest::new(&SHA256) };
    let reader = Reader::open(&mut input, &look)?;
    let same = *reader.header() == header && *reader.secrets() == secrets;
    if !same || reader.verify()? != written {
        return Err(BackupError::Damaged("what was read back is not what was written".into()));
    }
    let sha256 = random::hex(input.digest.finish().as_ref());
    Ok(Written { file, header, rows: written.rows, file_bytes: input.bytes, sha256 })
}

/// Counts and hashes what is read through it.
struct Counted<R> {
    input: R,
    bytes: u64,
    digest: Digest,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.bytes += count as u64;
        self.digest.update(&into[..count]);
        Ok(count)
    }
}

/// Removes what a process left that was ended while it wrote a backup.
fn remove_unfinished(folder: &Path) {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in names.filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED)) {
        if let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "an unfinished backup could not be removed");
        }
    }
}

/// Removes a file that is called as backups are called; one that is gone is fine.
fn remove_kept(path: &Path) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.starts_with(NAME_BEGIN) || !name.ends_with(NAME_END) {
        return Err(io::Error::other("it is not called as backups are called"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
