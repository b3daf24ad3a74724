//! The recovery key and its public half, spelled as the program `age` spells them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};

use crate::error::{BackupError, Result};

/// Both halves of a key are this long.
pub(crate) const KEY_BYTES: usize = 32;

const SECRET_PREFIX: &str = "age-secret-key-";
const PUBLIC_PREFIX: &str = "age";

const RECOVERY_KEY: &str = "recovery key";
const RECIPIENT: &str = "recipient";

/// What opens backups: `AGE-SECRET-KEY-1…`. Shown once to the person who keeps it, and stored nowhere by managers.
pub struct RecoveryKey {
    secret: [u8; KEY_BYTES],
    recipient: Recipient,
}

/// To whom backups are encrypted: `age1…`. Public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Recipient(pub(crate) [u8; KEY_BYTES]);

impl RecoveryKey {
    /// A new key.
    ///
    /// # Panics
    /// Only if the operating system has no randomness to give; nothing can be trusted then.
    #[must_use]
    pub fn generate() -> RecoveryKey {
        let mut secret = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut secret).expect("the operating system provides randomness");
        RecoveryKey::of(secret).expect("any 32 bytes are a key of X25519")
    }

    /// Reads a key file: comments begin with `#`, and the first other line is the key.
    ///
    /// # Errors
    /// [`BackupError::InvalidKey`] says what is wrong, without repeating the key.
    pub fn parse_file(text: &str) -> Result<RecoveryKey> {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        line.ok_or_else(|| invalid(RECOVERY_KEY, "the file has no line with a key"))?.parse()
    }

    /// The public half.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        self.recipient
    }

    /// The key as text. The caller shows it once or writes it where only its owner reads.
    #[must_use]
    pub fn reveal(&self) -> String {
        encode(SECRET_PREFIX, &self.secret).to_uppercase()
    }

    pub(crate) fn private(&self) -> Result<PrivateKey> {
        PrivateKey::from_private_key(&X25519, &self.secret)
            .map_err(|_| invalid(RECOVERY_KEY, "its bytes are no key of X25519"))
    }

    fn of(secret: [u8; KEY_BYTES]) -> Result<RecoveryKey> {
        let mut key = RecoveryKey { secret, recipient: Recipient([0; KEY_BYTES]) };
        let public = key.private()?.compute_public_key();
        let public = public.ok().and_then(|public| public.as_ref().try_into().ok());
        key.recipient = Recipient(public.ok_or_else(|| invalid(RECOVERY_KEY, "it has no public half"))?);
        Ok(key)
    }
}

impl FromStr for RecoveryKey {
    type Err = BackupError;

    fn from_str(text: &str) -> Result<RecoveryKey> {
        RecoveryKey::of(decode(RECOVERY_KEY, SECRET_PREFIX, text)?)
    }
}

/// Never the secret: keys end up in logs through `Debug`.
impl fmt::Debug for RecoveryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RecoveryKey(for {})", self.recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&encode(PUBLIC_PREFIX, &self.0))
    }
}

impl FromStr for Recipient {
    type Err = BackupError;

    fn from_str(text: &str) -> Result<Recipient> {
        Ok(Recipient(decode(RECIPIENT, PUBLIC_PREFIX, text)?))
    }
}

fn encode(prefix: &str, bytes: &[u8]) -> String {
    bech32::encode::<Bech32>(Hrp::parse_unchecked(prefix), bytes).expect("32 bytes are not too long")
}

fn decode(what: &'static str, prefix: &'static str, text: &str) -> Result<[u8; KEY_BYTES]> {
    let begins_with =
        format!("{}1", if what == RECOVERY_KEY { prefix.to_uppercase() } else { prefix.into() });
    let checked = CheckedHrpstring::new::<Bech32>(text.trim())
        .map_err(|_| invalid(what, format!("it should begin with {begins_with} and have no typing error")))?;
    if checked.hrp().to_lowercase() != prefix {
        return Err(invalid(what, format!("it should begin with {begins_with}")));
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().map_err(|_| invalid(what, "it has another length"))
}

fn invalid(what: &'static str, detail: impl Into<String>) -> BackupError {
    BackupError::InvalidKey { what, detail: detail.into() }
}
