//! Who may come in: API tokens, stored only as hashes.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use crate::{CLUSTER, Ruling};

/// What every token begins with, so that secret scanners recognize it.
pub const TOKEN_PREFIX: &str = "skp_";

/// An API token: `skp_<id>_<secret>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The public part.
    pub id: String,
    /// SHA-256 of the whole token.
    pub hash: Vec<u8>,
    /// Who speaks with it.
    pub principal: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Record for Token {
    const TABLE: &'static str = "token";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.clone()
    }
}

/// The id and the hash of a token's text; `None` if it cannot be one.
pub fn parse(token: &str) -> Option<(String, Vec<u8>)> {
    let (id, secret) = token.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    (plain(id) && plain(secret)).then(|| (id.to_owned(), digest(&SHA256, token.as_bytes()).as_ref().to_vec()))
}

/// Records the administrator's token of a new cluster. Repeating it changes nothing; a second administrator token
/// is not made this way.
pub fn bootstrap(tx: &mut Tx<'_>, id: &str, hash: &[u8]) -> Ruling<bool> {
    if !tx.list::<Token>(CLUSTER)?.is_empty() {
        return Ok(false);
    }
    let created_at = tx.now();
    tx.put(&Token { id: id.into(), hash: hash.into(), principal: "admin".into(), created_at });
    Ok(true)
}

/// Admits another administrator, beside those that are known: whoever restores a cluster may have lost their tokens.
pub fn admit_administrator(tx: &mut Tx<'_>, id: &str, hash: &[u8]) -> Ruling<()> {
    let created_at = tx.now();
    tx.put(&Token { id: id.into(), hash: hash.into(), principal: "admin".into(), created_at });
    Ok(())
}

/// Whose token this is. Takes as long for a wrong secret as for a right one.
pub fn principal(view: &View, token: &str) -> Ruling<Option<String>> {
    let Some((id, hash)) = parse(token) else {
        return Ok(None);
    };
    let Some(known) = view.get::<Token>(CLUSTER, &id)? else {
        return Ok(None);
    };
    let same = verify_slices_are_equal(&known.hash, &hash).is_ok();
    Ok(same.then(|| known.principal.clone()))
}
