//! Seals secrets of the managed environments before they enter a transaction, and opens them for those who use them.
//!
//! ```text
//!   registration key (every manager has it) ─ HKDF ─► sealing key ─ AES-256-GCM ─► envelope ─► log, tables, backups
//!
//!   envelope:  format (1) │ id of the key (4) │ nonce (12) │ ciphertext and tag
//! ```
//! The key is derived and not made: every manager has what it is derived from since the cluster was founded, joined,
//! restored or reset from its peers. So a cluster that is older than this code needs nobody to make a key, and there can
//! never be two. The id in the envelope tells a later key from this one.
//!
//! Why a crate of its own: the arrows say who may open envelopes. The model and the log see bytes.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, MAX_TAG_LEN, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;

/// Length of what the key is derived from, and of the key.
pub const KEY_BYTES: usize = 32;

/// What an envelope of this kind begins with.
const FORMAT: u8 = 1;

/// Length of a key's id: tells the few keys of one cluster apart, and says nothing about them.
const KEY_ID_BYTES: usize = 4;

/// Length of what stands before the ciphertext.
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;

/// The cluster's key, with which secrets are sealed.
pub struct SealingKey {
    id: [u8; KEY_ID_BYTES],
    aead: RandomizedNonceKey,
    fingerprints: hmac::Key,
}

/// A secret in clear. It is never printed by accident, and cannot be written down.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why an envelope could not be opened. Says nothing about what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was made by a newer version, or is no envelope.
    #[error("it is not sealed in a way that this version knows")]
    Format,
    /// This cluster has no such key.
    #[error("it is sealed with another key than this cluster's")]
    OtherKey,
    /// It was changed, or belongs to something else.
    #[error("it was changed since it was sealed, or belongs to something else")]
    Forged,
    /// The key could not be used; the cryptographic library does not say why.
    #[error("the sealing key cannot be used")]
    Key,
}

impl SealingKey {
    /// The sealing key of a cluster whose managers share `secret`.
    pub fn derive(secret: &[u8; KEY_BYTES], cluster: &str) -> Result<SealingKey, SealError> {
        let extracted = Salt::new(HKDF_SHA256, cluster.as_bytes()).extract(secret);
        let derive = |purpose: &str| {
            let mut key = [0; KEY_BYTES];
            let derived = extracted
                .expand(&[purpose.as_bytes()], HKDF_SHA256)
                .and_then(|key_for| key_for.fill(&mut key));
            derived.map(|()| key).map_err(|_| SealError::Key)
        };
        let key = derive("skep: secrets of environments, 1")?;
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest(&SHA256, &key).as_ref()[..KEY_ID_BYTES]);
        Ok(SealingKey {
            id,
            aead: RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| SealError::Key)?,
            fingerprints: hmac::Key::new(hmac::HMAC_SHA256, &derive("skep: fingerprints, 1")?),
        })
    }

    /// Seals a secret. `what` says what it is and whose; only with the same words can it be opened.
    pub fn seal(&self, what: &str, secret: &Secret) -> Result<Vec<u8>, SealError> {
        let mut text = Vec::with_capacity(secret.0.len() + MAX_TAG_LEN);
        text.extend_from_slice(secret.0.as_bytes());
        let sealed = self.aead.seal_in_place_append_tag(Aad::from(what.as_bytes()), &mut text);
        let nonce = sealed.map_err(|_| SealError::Key)?;
        let nonce: &[u8; NONCE_LEN] = nonce.as_ref();
        let mut envelope = Vec::with_capacity(HEAD_BYTES + text.len());
        envelope.push(FORMAT);
        envelope.extend_from_slice(&self.id);
        envelope.extend_from_slice(nonce);
        envelope.extend_from_slice(&text);
        Ok(envelope)
    }

    /// Opens what was sealed with the same words.
    pub fn open(&self, what: &str, envelope: &[u8]) -> Result<Secret, SealError> {
        if envelope.len() < HEAD_BYTES || envelope[0] != FORMAT {
            return Err(SealError::Format);
        }
        let (head, text) = envelope.split_at(HEAD_BYTES);
        let (id, nonce) = head[1..].split_at(KEY_ID_BYTES);
        if id != self.id {
            return Err(SealError::OtherKey);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Format)?;
        let mut text = text.to_vec();
        let opened = self.aead.open_in_place(nonce, Aad::from(what.as_bytes()), &mut text);
        let opened = opened.map_err(|_| SealError::Forged)?;
        String::from_utf8(opened.to_vec()).map(Secret).map_err(|_| SealError::Forged)
    }

    /// Tells whether two secrets are the same to those who have the key, and nothing to those who have not: unlike a plain
    /// hash it cannot be guessed at.
    pub fn fingerprint(&self, bytes: &[u8]) -> [u8; KEY_BYTES] {
        let mut fingerprint = [0; KEY_BYTES];
        fingerprint.copy_from_slice(hmac::sign(&self.fingerprints, bytes).as_ref());
        fingerprint
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; KEY_BYTES] = [7; KEY_BYTES];

    fn key() -> SealingKey {
        SealingKey::derive(&SECRET, "c1").expect("derives")
    }

    #[test]
    fn every_manager_of_a_cluster_opens_what_another_has_sealed() {
        let envelope = key().seal("unlock key of env_1", &Secret::new("SWMKEY-1-abc")).expect("seals");
        assert_eq!(key().open("unlock key of env_1", &envelope).expect("opens").reveal(), "SWMKEY-1-abc");
        let again = key().seal("unlock key of env_1", &Secret::new("SWMKEY-1-abc")).expect("seals");
        assert_ne!(envelope, again, "equal secrets do not look alike");
    }

    #[test]
    fn an_envelope_does_not_open_elsewhere_or_with_another_key_or_after_a_change() {
        let envelope = key().seal("password of env_1", &Secret::new("hunter2")).expect("seals");
        assert_eq!(key().open("password of env_2", &envelope), Err(SealError::Forged));
        for other in [SealingKey::derive(&SECRET, "c2"), SealingKey::derive(&[8; KEY_BYTES], "c1")] {
            assert_eq!(
                other.expect("derives").open("password of env_1", &envelope),
                Err(SealError::OtherKey)
            );
        }
        for at in 0..envelope.len() {
            let mut changed = envelope.clone();
            changed[at] ^= 1;
            assert!(key().open("password of env_1", &changed).is_err(), "byte {at}");
            assert!(key().open("password of env_1", &envelope[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn neither_the_secret_nor_the_key_is_printed() {
        let envelope = key().seal("password", &Secret::new("hunter2")).expect("seals");
        assert!(!envelope.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(format!("{:?} {:?}", Secret::new("hunter2"), key()), "(secret) SealingKey");
    }

    #[test]
    fn a_fingerprint_depends_on_the_key() {
        let other = SealingKey::derive(&[8; KEY_BYTES], "c1").expect("derives");
        assert_eq!(key().fingerprint(b"a"), key().fingerprint(b"a"));
        assert_ne!(key().fingerprint(b"a"), key().fingerprint(b"b"));
        assert_ne!(key().fingerprint(b"a"), other.fingerprint(b"a"));
    }

    /// Envelopes outlive the version that has made them.
    #[test]
    fn an_envelope_of_this_version_opens_for_ever() {
        assert_eq!(key().open("a test", &unhex(ENVELOPE)).expect("opens").reveal(), "kept");
    }

    const ENVELOPE: &str = "01885e4929000102030405060708090a0bcb52bd943d03ed0f2a3788bf89f93645c86e6520";

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }
}
