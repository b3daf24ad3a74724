//! The one-time token with which a host asks for its first certificate.
//!
//! It is derived from a key that every manager has, so every manager knows every host's token and
//! neither tokens nor their hashes are stored or replicated. That a token is used once is the rule of
//! whoever answers registrations: it remembers for which public key.

use aws_lc_rs::hmac;

/// Length of the key that the tokens are derived from: as long as the hash, more adds nothing.
pub const REGISTRATION_KEY_BYTES: usize = 32;

/// The key that the tokens are derived from.
pub type RegistrationKey = [u8; REGISTRATION_KEY_BYTES];

/// The token of this host.
pub fn registration_token(key: &RegistrationKey, cluster: &str, host_id: &str) -> String {
    let tag = hmac::sign(&hmac_key(key), &signed_text(cluster, host_id));
    format!("{PREFIX}{}", crate::random::hex(tag.as_ref()))
}

/// Whether this is the token of this host. Takes equally long for every wrong token of the right length.
pub fn verify_registration_token(key: &RegistrationKey, cluster: &str, host_id: &str, token: &str) -> bool {
    let Some(tag) = token.strip_prefix(PREFIX).and_then(unhex) else {
        return false;
    };
    hmac::verify(&hmac_key(key), &signed_text(cluster, host_id), &tag).is_ok()
}

/// Tells people and secret scanners what they have found.
const PREFIX: &str = "skr_";

fn hmac_key(key: &RegistrationKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

/// The parts are separated by a byte that none of them can contain.
fn signed_text(cluster: &str, host_id: &str) -> Vec<u8> {
    ["register", cluster, host_id].join("\0").into_bytes()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: RegistrationKey = [3; REGISTRATION_KEY_BYTES];

    #[test]
    fn a_token_is_good_for_its_own_host_and_cluster_only() {
        let token = registration_token(&KEY, "c1", "h1");
        assert_eq!(token, registration_token(&KEY, "c1", "h1"), "every manager derives the same");
        assert!(verify_registration_token(&KEY, "c1", "h1", &token));
        assert!(!verify_registration_token(&KEY, "c1", "h2", &token));
        assert!(!verify_registration_token(&KEY, "c2", "h1", &token));
        assert!(!verify_registration_token(&[4; REGISTRATION_KEY_BYTES], "c1", "h1", &token));
    }

    #[test]
    fn nonsense_is_not_a_token() {
        let token = registration_token(&KEY, "c1", "h1");
        for wrong in [
            "",
            "skr_",
            "skr_zz",
            "skr_\u{e4}\u{e4}",
            &token[..token.len() - 2],
            &token[4..],
            &format!("{token}00"),
        ] {
            assert!(!verify_registration_token(&KEY, "c1", "h1", wrong), "{wrong:?}");
        }
    }
}
