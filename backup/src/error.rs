//! What can be wrong with a backup or a key, each with a code that stays.

use std::io;

use skep_codes::Code;

/// The result of a call of this crate.
pub type Result<T, E = BackupError> = std::result::Result<T, E>;

/// Why a backup could not be written or read. Which file it is, the caller knows and says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It was never a backup.
    #[error("this is not a backup of Skep: {0}")]
    NotABackup(String),
    /// It is encrypted to somebody else.
    #[error("this recovery key does not open it: the backup was encrypted to another key")]
    WrongKey,
    /// A newer version wrote it.
    #[error("it is in format {found}, and this version reads up to format {supported}")]
    NewerFormat {
        /// The format it is in.
        found: u8,
        /// The newest format that this version reads.
        supported: u8,
    },
    /// It is not what was written, or not all of it.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// What was given as a key is none.
    #[error("this is not a {what}: {detail}")]
    InvalidKey {
        /// Which kind of key was expected.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// There is nobody who could read it.
    #[error("a backup needs at least one recipient")]
    NoRecipient,
    /// The file system or a pipe refused or failed.
    #[error(transparent)]
    Io(io::Error),
}

impl BackupError {
    /// Its code; none for what is not about backups.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            BackupError::NotABackup(_) => Some(Code::NotABackup),
            BackupError::WrongKey => Some(Code::WrongRecoveryKey),
            BackupError::NewerFormat { .. } => Some(Code::NewerBackupFormat),
            BackupError::Damaged(_) => Some(Code::DamagedBackup),
            BackupError::InvalidKey { .. } => Some(Code::InvalidRecoveryKey),
            BackupError::NoRecipient | BackupError::Io(_) => None,
        }
    }

    pub(crate) fn damaged(detail: impl Into<String>) -> BackupError {
        BackupError::Damaged(detail.into())
    }
}

/// Readers speak `io::Error`; what a layer below has found is taken out of it again.
impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> BackupError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return BackupError::damaged("it ends too early");
        }
        match error.downcast::<BackupError>() {
            Ok(found) => found,
            Err(error) => BackupError::Io(error),
        }
    }
}

impl From<BackupError> for io::Error {
    fn from(error: BackupError) -> io::Error {
        match error {
            BackupError::Io(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}
