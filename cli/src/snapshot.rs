//! `skep snapshot`: backups of the whole cluster.
//!
//! `save`, `ls`, `schedule`, `rm` and `new-key` ask the managers. `inspect` and `verify` read a file here, without any
//! manager: after a disaster there is none. `restore` writes data folders of managers, so it is in the program that
//! contains the manager.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use skep_backup::{BackupError, Header, Reader, RecoveryKey, Totals, recipients_of};
use skep_codes::Code;

use crate::client::Payload;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::{Noun, Verbs};
use crate::session::Session;
use crate::settings;
use crate::table::{Column, Show};
use crate::value::{bytes, text_at};

pub(crate) const SNAPSHOT: Noun = Noun {
    word: "snapshot",
    path: &["snapshots"],
    name: "/metadata/name",
    columns: &[
        Column::new("ID", Show::Text("/metadata/name")),
        Column::new("STATE", Show::State("/status/state")),
        Column::new("MANAGER", Show::Text("/status/manager")),
        Column::new("REVISION", Show::Text("/status/revision")),
        Column::wide("EPOCH", Show::Text("/status/epoch")),
        Column::new("SIZE", Show::Bytes("/status/bytes")),
        Column::wide("ROWS", Show::Text("/status/rows")),
        Column::new("AGE", Show::Age("/metadata/created_at")),
        Column::new("PATH", Show::Free("/status/path")),
    ],
    when_none: "No backup yet. Save one: skep snapshot save FILE",
};

const SCHEDULE: &[&str] = &["v1", "snapshot-schedules", "default"];

/// What a command on a local file can end with.
const LOCAL: &[Exit] = &[Exit::Done, Exit::Usage, Exit::Interrupted];

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Save a backup of the whole cluster, read back and verified
    #[command(
        before_long_help = "Examples:\n  skep snapshot save skep.backup\n  skep snapshot save skep.backup --stale     in an outage: what one manager has\n  skep snapshot save                         keep it on a manager, among the scheduled ones",
        after_long_help = exit::help(exit::WRITES)
    )]
    Save(Save),
    /// List the backups that managers keep, and say how the schedule fares (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep snapshot ls\n  skep snapshot ls -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Show what a backup file contains, without secrets
    #[command(
        before_long_help = "Examples:\n  skep snapshot inspect skep.backup --recovery-key-file recovery-key",
        after_long_help = exit::help(LOCAL)
    )]
    Inspect(LocalFile),
    /// Restore a backup file into memory and compare it with what was written
    #[command(
        before_long_help = "Examples:\n  skep snapshot verify skep.backup --recovery-key-file recovery-key",
        after_long_help = exit::help(LOCAL)
    )]
    Verify(LocalFile),
    /// Write the data folders of a new cluster with the state of a backup; changes nothing that exists
    #[command(
        before_long_help = "Examples:\n  skep snapshot restore skep.backup --recovery-key-file recovery-key --out founders --manager m1=10.0.0.11 --manager m2=10.0.0.12 --manager m3=10.0.0.13",
        after_long_help = exit::help(LOCAL)
    )]
    Restore(Restore),
    /// Show or change when backups are taken by themselves
    #[command(
        before_long_help = "Examples:\n  skep snapshot schedule\n  skep snapshot schedule --every 6h --keep 10\n  skep snapshot schedule --directory /mnt/backups\n  skep snapshot schedule --off",
        after_long_help = exit::help(exit::WRITES)
    )]
    Schedule(Schedule),
    /// Remove backups that managers keep
    #[command(
        before_long_help = "Examples:\n  skep snapshot rm snap_0198f2c1d0f07b1cbe0b7f4d8f6a5b3c",
        after_long_help = exit::help(exit::WRITES)
    )]
    Rm {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Make a recovery key for the backups from now on; older ones keep theirs
    #[command(
        name = "new-key",
        before_long_help = "Examples:\n  skep snapshot new-key recovery-key\n  skep snapshot new-key deputy-key --add     a second person who can restore",
        after_long_help = exit::help(exit::WRITES)
    )]
    NewKey {
        /// Where to write it; must not exist
        file: PathBuf,
        /// Beside the keys that are in use, instead of in their place
        #[arg(long)]
        add: bool,
    },
}

/// Where a backup goes.
#[derive(Debug, Args)]
pub struct Save {
    /// Where to write it; must not exist. Without a file a manager keeps it
    file: Option<PathBuf>,
    /// Fetch a backup that a manager keeps instead of making one
    #[arg(long, value_name = "ID", requires = "file")]
    id: Option<String>,
    /// Of what one manager has, without asking the others: in an outage
    #[arg(long, requires = "file")]
    stale: bool,
}

/// A backup file and the key to it.
#[derive(Debug, Args)]
pub struct LocalFile {
    /// The backup
    pub(crate) file: PathBuf,
    /// The file with the recovery key [env: SKEP_RECOVERY_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    recovery_key_file: Option<PathBuf>,
}

/// A new cluster from a backup.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    pub file: PathBuf,
    /// The file with the recovery key [env: SKEP_RECOVERY_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub recovery_key_file: Option<PathBuf>,
    /// The folder in which each manager's data folder is written; must not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// A manager of the new cluster and the address at which others reach it; 1, 3, 5 or 7 times
    #[arg(long = "manager", value_name = "NAME=ADDRESS", required = true)]
    pub managers: Vec<String>,
    /// For managers in different places: more patience with the network
    #[arg(long)]
    pub wan: bool,
}

/// Changes of the schedule.
#[derive(Debug, Args)]
pub struct Schedule {
    /// How often (30m, 12h)
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// How many are kept
    #[arg(long, value_name = "COUNT")]
    keep: Option<u32>,
    /// A folder that every manager has; 'default' means snapshots-out in each manager's data folder
    #[arg(long, value_name = "DIR")]
    directory: Option<String>,
    /// Take backups
    #[arg(long, conflicts_with = "off")]
    on: bool,
    /// Take no more backups
    #[arg(long)]
    off: bool,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Save(Save { file: Some(file), id, stale }) => save(&file, id.as_deref(), stale, session).await,
        Verb::Save(_) => keep(session).await,
        Verb::Ls => list(session).await,
        Verb::Inspect(wish) => inspect(&wish, session),
        Verb::Verify(wish) => verify(&wish, session),
        Verb::Restore(_) => Err(Failure::usage(
            "a restore writes the data folders of managers, and this program is the client alone",
            "run it with the program that managers are run with",
        )),
        Verb::Schedule(wish) => schedule(wish, session).await,
        Verb::Rm { ids } => remove(&ids, session).await,
        Verb::NewKey { file, add } => new_key(&file, add, session).await,
    }
}

async fn save(file: &Path, id: Option<&str>, stale: bool, session: &Session) -> Result<(), Failure> {
    refuse_existing(file)?;
    let path = SNAPSHOT.at(&[id.unwrap_or("now"), "content"], session)?;
    let query: &[(&str, &str)] = if stale { &[("consistency", "stale")] } else { &[] };
    let mut download = session.client()?.download(&path, query).await?;
    let revision = download.header("skep-snapshot-revision");
    let expected = download.header("skep-snapshot-sha256");
    let failed = |source| Failure::File { doing: format!("write {}", file.display()), source };
    let mut part = Part::beside(file).map_err(failed)?;
    let (mut digest, mut count) = (Context::new(&SHA256), 0_u64);
    while let Some(chunk) = download.chunk().await? {
        digest.update(&chunk);
        count += chunk.len() as u64;
        part.file.write_all(&chunk).map_err(failed)?;
    }
    let sha256: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if sha256 != expected {
        return Err(
            download.unreadable("what arrived is not what the manager has verified; nothing was saved")
        );
    }
    part.keep(file).map_err(failed)?;
    let sentence = format!("Saved and verified snapshot to revision {revision} ({})\n", bytes(count));
    match session.output(Output::Table) {
        Output::Json => session.print_json(&json!({
            "file": file, "revision": revision.parse::<u64>().ok(), "bytes": count, "sha256": sha256,
            "epoch": download.header("skep-snapshot-epoch").parse::<u64>().ok(),
            "rows": download.header("skep-snapshot-rows").parse::<u64>().ok(),
        })),
        Output::Name => session.screen.result(&format!("{}\n", file.display())),
        _ => session.screen.result(&sentence),
    }
    Ok(())
}

async fn keep(session: &Session) -> Result<(), Failure> {
    let path = SNAPSHOT.at(&[], session)?;
    let kept = session.client()?.write(Method::POST, &path, &[], Payload::Patience).await?;
    session.print_done(&SNAPSHOT, &kept, "kept and verified");
    Ok(())
}

async fn list(session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let all = client.list(&SNAPSHOT.at(&[], session)?, &[]).await?;
    session.print_list(&SNAPSHOT, &all);
    if session.output(Output::Table) != Output::Json {
        let schedule = client.get(SCHEDULE, &[]).await?;
        if let Some(warning) = warning(&schedule) {
            session.screen.note(&warning);
        }
    }
    Ok(())
}

/// What is wrong with the schedule, if anything is.
fn warning(schedule: &Value) -> Option<String> {
    let recipients = schedule["spec"]["recipients"].as_array().map_or(0, Vec::len);
    if recipients == 0 {
        return Some(
            "warning: there is no recovery key, so no backup is taken: skep snapshot new-key FILE".into(),
        );
    }
    if schedule["spec"]["enabled"] == false {
        return Some("warning: no backup is taken by itself: skep snapshot schedule --on".into());
    }
    let why = text_at(schedule, "/status/error")?;
    let when = text_at(schedule, "/status/last_attempt_at").unwrap_or_default();
    Some(format!("warning: the last scheduled backup failed ({when}): {why}"))
}

async fn schedule(wish: Schedule, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let mut schedule = client.get(SCHEDULE, &[]).await?;
    let Schedule { every, keep, directory, on, off } = wish;
    if every.is_some() || keep.is_some() || directory.is_some() || on || off {
        let spec = &mut schedule["spec"];
        if let Some(every) = every {
            spec["every_minutes"] = json!(minutes(&every)?);
        }
        if let Some(keep) = keep {
            spec["keep"] = json!(keep);
        }
        if let Some(directory) = directory {
            spec["directory"] = if directory == "default" { Value::Null } else { json!(directory) };
        }
        if on || off {
            spec["enabled"] = json!(on);
        }
        schedule = client.write(Method::PUT, SCHEDULE, &[], Payload::Json(spec)).await?;
    }
    match session.output(Output::Table) {
        Output::Json => session.print_json(&schedule),
        Output::Name => session.screen.result("default\n"),
        _ => session.screen.result(&described(&schedule)),
    }
    if let Some(warning) = warning(&schedule) {
        session.screen.note(&warning);
    }
    Ok(())
}

fn described(schedule: &Value) -> String {
    let text = |pointer: &str| text_at(schedule, pointer).unwrap_or_else(|| "-".into());
    let minutes = schedule["spec"]["every_minutes"].as_u64().unwrap_or_default();
    let every = match (minutes / 60, minutes % 60) {
        (hours, 0) => format!("every {hours} h"),
        _ => format!("every {minutes} min"),
    };
    let recipients: Vec<&str> =
        schedule["spec"]["recipients"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "Schedule       {}, {every}, {} are kept\n\
         Directory      {}\n\
         Recovery keys  {}\n\
         Last verified  {}, revision {}\n",
        if schedule["spec"]["enabled"] == true { "on" } else { "off" },
        text("/spec/keep"),
        text_at(schedule, "/spec/directory")
            .unwrap_or_else(|| "snapshots-out in each manager's data folder".into()),
        recipients.join(", "),
        text("/status/last_success_at"),
        text("/status/last_success_revision"),
    )
}

fn minutes(text: &str) -> Result<u64, Failure> {
    let wrong = || Failure::usage(format!("--every {text}: this is no time"), "write it as 30m or 12h");
    let duration = settings::duration(text).ok_or_else(wrong)?;
    match duration.as_secs() % 60 {
        0 if duration >= Duration::from_secs(60) => Ok(duration.as_secs() / 60),
        _ => Err(Failure::usage(format!("--every {text}: whole minutes only"), "write it as 30m or 12h")),
    }
}

async fn remove(ids: &[String], session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    session.confirm(&format!("{} will be removed, with the file on its manager", ids.join(", "))).await?;
    for id in ids {
        let path = SNAPSHOT.at(&[SNAPSHOT.named(id)?], session)?;
        let going = client.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
        session.print_done(&SNAPSHOT, &going, "is being removed");
    }
    Ok(())
}

async fn new_key(file: &Path, add: bool, session: &Session) -> Result<(), Failure> {
    refuse_existing(file)?;
    let client = session.client()?;
    let schedule = client.get(SCHEDULE, &[]).await?;
    let key = RecoveryKey::generate();
    let recipient = key.recipient().to_string();
    let mut spec = schedule["spec"].clone();
    let known = spec["recipients"].as_array().cloned().unwrap_or_default();
    spec["recipients"] =
        json!(if add { [known, vec![json!(recipient)]].concat() } else { vec![json!(recipient)] });
    // First the key is safe, then it is used.
    write_key(file, &key)
        .map_err(|source| Failure::File { doing: format!("write {}", file.display()), source })?;
    client.write(Method::PUT, SCHEDULE, &[], Payload::Json(&spec)).await?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&json!({"file": file, "recipient": recipient})),
        Output::Name => session.screen.result(&format!("{recipient}\n")),
        _ => session.screen.result(&format!(
            "Backups are encrypted to {recipient} from now on. Move {} to a safe place: they can be read with it and \
             with nothing else.\n",
            file.display()
        )),
    }
    Ok(())
}

fn write_key(file: &Path, key: &RecoveryKey) -> io::Result<()> {
    let text = format!(
        "# Recovery key of a Skep cluster: opens its backups; without it nobody can.\n# public key: {}\n{}\n",
        key.recipient(),
        key.reveal()
    );
    let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    output.write_all(text.as_bytes())?;
    output.sync_all()
}

fn inspect(wish: &LocalFile, session: &Session) -> Result<(), Failure> {
    let Some(key) = key_file(wish, session) else {
        // Says what is no backup at all.
        opened(&wish.file)
            .and_then(|file| recipients_of(file).map_err(|error| unusable(&wish.file, &error)))?;
        return Err(Failure::usage(
            format!(
                "{} is encrypted, and nothing in it can be seen without the recovery key",
                wish.file.display()
            ),
            "name the recovery key's file with --recovery-key-file to see what is in it",
        ));
    };
    let key = read_key(&key)?;
    let reader = Reader::open(BufReader::new(opened(&wish.file)?), &key);
    let reader = reader.map_err(|error| unusable(&wish.file, &error))?;
    let header = reader.header().clone();
    let totals = reader.verify().map_err(|error| unusable(&wish.file, &error))?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&document(&header, &totals)),
        Output::Name => session.screen.result(&format!("{}\n", header.cluster)),
        _ => session.screen.result(&contents(&header, &totals)),
    }
    Ok(())
}

fn verify(wish: &LocalFile, session: &Session) -> Result<(), Failure> {
    let (header, totals, rows) = restored(&wish.file, &required_key(wish, session)?)?;
    if rows.len() as u64 != totals.rows {
        return Err(unusable(&wish.file, &BackupError::Damaged("rows have the same key".into())));
    }
    match session.output(Output::Table) {
        Output::Json => session.print_json(&document(&header, &totals)),
        Output::Name => session.screen.result(&format!("{}\n", header.cluster)),
        _ => session.screen.result(&format!(
            "Verified: {} rows of cluster {} at revision {} were restored into memory\n",
            totals.rows, header.cluster, header.revision
        )),
    }
    Ok(())
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Restores a backup into memory.
fn restored(path: &Path, key: &RecoveryKey) -> Result<(Header, Totals, Rows), Failure> {
    let file = opened(path)?;
    let restore = || -> skep_backup::Result<_> {
        let mut reader = Reader::open(BufReader::new(file), key)?;
        let mut rows = Rows::new();
        while let Some(chunk) = reader.next_rows()? {
            rows.extend(chunk.rows);
        }
        let totals = reader.totals().cloned().unwrap_or_default();
        Ok((reader.header().clone(), totals, rows))
    };
    restore().map_err(|error| unusable(path, &error))
}

fn document(header: &Header, totals: &Totals) -> Value {
    json!({"header": header, "contents": totals})
}

fn contents(header: &Header, totals: &Totals) -> String {
    let mut text = format!(
        "Cluster    {}, epoch {}\n\
         Revision   {}, term {}\n\
         Taken      {} by manager {} ({})\n\
         Contents   {} rows, {}\n",
        header.cluster,
        header.epoch,
        header.revision,
        header.term,
        header.created_at,
        header.manager,
        header.version,
        totals.rows,
        bytes(totals.bytes),
    );
    for (table, rows) in &totals.tables {
        text.push_str(&format!("  {rows:>8}  {table}\n"));
    }
    text
}

/// The flag, then the variable.
fn key_file(wish: &LocalFile, session: &Session) -> Option<PathBuf> {
    wish.recovery_key_file.clone().or_else(|| session.settings.recovery_key_file.clone())
}

/// The key without which nothing can be done.
pub(crate) fn required_key(wish: &LocalFile, session: &Session) -> Result<RecoveryKey, Failure> {
    let file = key_file(wish, session).ok_or_else(|| {
        Failure::usage("the backup is encrypted", "name the recovery key's file with --recovery-key-file")
    })?;
    read_key(&file)
}

fn read_key(path: &Path) -> Result<RecoveryKey, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|source| Failure::File { doing: format!("read {}", path.display()), source })?;
    RecoveryKey::parse_file(&text).map_err(|error| unusable(path, &error))
}

fn opened(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|source| Failure::File { doing: format!("read {}", path.display()), source })
}

pub(crate) fn unusable(path: &Path, error: &BackupError) -> Failure {
    let fix = match error {
        BackupError::WrongKey => "use the key that was in use when the backup was taken",
        BackupError::NewerFormat { .. } => "use the version of skep that wrote it, or a newer one",
        BackupError::Damaged(_) => "use another backup: skep snapshot ls",
        BackupError::InvalidKey { .. } => "give the file that 'skep init' or 'skep snapshot new-key' wrote",
        _ => "give a file that 'skep snapshot save', the schedule or 'skep env backup' wrote",
    };
    let code = error.code().unwrap_or(Code::DamagedBackup);
    Failure::BadFile { code, what: format!("{}: {error}", path.display()), fix }
}

pub(crate) fn refuse_existing(file: &Path) -> Result<(), Failure> {
    match file.symlink_metadata() {
        Ok(_) => Err(Failure::usage(
            format!("{} exists already; it is not overwritten", file.display()),
            "choose another name",
        )),
        Err(_) => Ok(()),
    }
}

/// A file that gets its name when it is complete.
pub(crate) struct Part {
    pub(crate) file: File,
    path: PathBuf,
}

impl Part {
    pub(crate) fn beside(file: &Path) -> io::Result<Part> {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("it is not a name of a file"))?;
        let path = file.with_file_name(format!(".{name}.part-{}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Part { file, path })
    }

    /// Linked and not renamed: a link does not replace a file that has come meanwhile.
    pub(crate) fn keep(self, file: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::hard_link(&self.path, file)?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // The finished file has a name of its own by then.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
