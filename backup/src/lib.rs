//! The file format of backups: written, encrypted, read back and checked.
//!
//! Why a crate of its own: managers write backups, people inspect, verify and restore them on a computer where no
//! manager runs, and a file must be readable by every later version. So the format is here alone, bytes in and bytes
//! out, without a database, a network or a word of what the rows mean.
//!
//! ```text
//!   age file (age-encryption.org/v1, X25519 recipients)      `seal.rs`
//!     └ "skep backup", format                                `format.rs`
//!       header    whose state, up to which revision, when
//!       secrets   what a new cluster needs so that its hosts find it to be the same cluster
//!       rows …    in the order of their keys, table by table
//!       trailer   how many of each, and the SHA-256 of all before
//! ```
//!
//! The outer form is that of the program `age`: should Skep be gone, `age -d -i recovery-key FILE` still opens it.
//! Each 64 KiB are authenticated by the encryption, so a flipped bit is found where it is; the trailer finds what is
//! missing, and what the writer itself got wrong.
//!
//! Managers know only the public recipients. They can write backups and cannot read them: whoever breaks into one
//! manager does not get the history of the cluster.

mod error;
mod format;
mod key;
mod reader;
mod seal;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{BackupError, Result};
pub use format::{FORMAT, Header, Secrets, Totals};
pub use key::{Recipient, RecoveryKey};
pub use reader::{Reader, TableRows, recipients_of};
pub use seal::{open, seal};
pub use writer::Writer;
