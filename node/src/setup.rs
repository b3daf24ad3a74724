//! The setup code at a manager: printed while nobody has used it, then forgotten.
//!
//! Every founder has the same code in a file of its own, so it does not matter which of them is started first, or looked at. What they
//! agree on is its hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use skep_ledger::{Ledger, Request, RequestId, Tx, transact};
use skep_model::access::{self, SETUP, SetupState};
use skep_model::audit::{self, Entry, Outcome};
use skep_wire::random;
use uuid::Uuid;

use crate::config::Founder;
use crate::founding::write_secret;

/// Where the code is, in a founder's data folder and beside those folders, readable by their owner only.
pub(crate) const SETUP_CODE_FILE: &str = "setup-code";

/// Before it is tried again to find out how far the cluster is.
const RETRY: Duration = Duration::from_millis(500);

/// A new code, and what is kept of it.
pub(crate) fn new_code() -> Result<(String, Vec<u8>)> {
    let code = access::setup_code(&random::bytes());
    let hash = access::setup_code_hash(&code).context("making a setup code")?;
    Ok((code, hash))
}

/// Puts a new code into a data folder; what it is recognized by is to be agreed on.
pub(crate) fn renew(data: &Path) -> Result<Vec<u8>> {
    let (code, hash) = new_code()?;
    let file = data.join(SETUP_CODE_FILE);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", file.display()));
        }
        _ => write_secret(&file, &code)?,
    }
    Ok(hash)
}

/// Makes a renewed code count, prints the code of this manager, and forgets it when somebody has used it.
pub(crate) async fn follow(ledger: Arc<dyn Ledger>, data: PathBuf, me: Founder, renewed: Option<Vec<u8>>) {
    if let Some(hash) = renewed {
        make_count(&*ledger, &me, &hash).await;
    }
    let file = data.join(SETUP_CODE_FILE);
    let Ok(code) = fs::read_to_string(&file) else { return };
    let mut printed = false;
    loop {
        let mut changes = ledger.feed().latest();
        match state(&*ledger).await {
            Some(SetupState::Done) => break,
            Some(SetupState::Open) => {
                if !printed {
                    eprintln!("{}", told(code.trim(), &me.api_url, &data));
                    printed = true;
                }
                // The sender lives as long as the replica, which lives as long as this process.
                if changes.changed().await.is_err() {
                    return;
                }
            }
            Some(SetupState::Unfounded) | None => tokio::time::sleep(RETRY).await,
        }
    }
    match fs::remove_file(&file) {
        Ok(()) => tracing::info!("the cluster has an administrator: the setup code was forgotten"),
        Err(error) => {
            tracing::warn!(%error, "the setup code is worth nothing any more, and its file could not be removed")
        }
    }
}

/// Local once somebody is administrator, because that stays so; else what the managers agree on.
async fn state(ledger: &dyn Ledger) -> Option<SetupState> {
    if let Ok(SetupState::Done) = access::setup_state(&ledger.view()) {
        return Some(SetupState::Done);
    }
    let fresh = ledger.fresh_view().await.ok()?;
    access::setup_state(&fresh).ok()
}

async fn make_count(ledger: &dyn Ledger, me: &Founder, hash: &[u8]) {
    let id = RequestId::new();
    let rule = |tx: &mut Tx<'_>| {
        let at = tx.now();
        audit::record(
            tx,
            &Entry {
                id: audit::entry_id(at, &Uuid::now_v7().simple().to_string()),
                at,
                principal: SETUP.into(),
                token: String::new(),
                address: String::new(),
                call: "skep server --new-setup-code".into(),
                route: String::new(),
                about: String::new(),
                operation: String::new(),
                request: String::new(),
                node: me.name.clone(),
                outcome: Outcome::Done,
                code: String::new(),
                count: 1,
            },
        );
        access::renew_setup(tx, hash)
    };
    while let Err(error) = transact(ledger, Request::repeatable(id), rule).await {
        tracing::debug!(%error, "the new setup code does not count yet");
        tokio::time::sleep(RETRY).await;
    }
}

/// For a console: what it is for, and the next command.
pub(crate) fn told(code: &str, api_url: &str, data: &Path) -> String {
    format!(
        "\nWhoever has this setup code becomes administrator, once:\n\n    {code}\n\n\
         skep login {api_url} --ca-file {}\n",
        data.join("identity/ca.pem").display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use skep_ledger::MemoryLedger;
    use skep_model::access::UserWish;
    use skep_model::ids::UserId;

    use super::*;

    #[tokio::test]
    async fn a_code_is_kept_for_its_owner_until_somebody_is_administrator() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let file = dir.path().join(SETUP_CODE_FILE);
        let first = renew(dir.path()).expect("writes");
        let hash = renew(dir.path()).expect("writes once more");
        assert_ne!(first, hash);
        let code = fs::read_to_string(&file).expect("is there");
        assert_eq!(access::setup_code_hash(&code), Some(hash.clone()));
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);

        let ledger = MemoryLedger::new();
        let me = Founder {
            id: 1,
            name: "m1".into(),
            peer_address: "127.0.0.1:8444".into(),
            api_url: "https://127.0.0.1:8443".into(),
        };
        let following = tokio::spawn(follow(ledger.clone(), dir.path().into(), me, Some(hash.clone())));
        let mut changes = ledger.feed().latest();
        while access::setup_state(&ledger.view()) != Ok(SetupState::Open) {
            changes.changed().await.expect("the ledger lives");
        }
        assert!(file.exists());
        let wish = UserWish {
            id: UserId::new(Uuid::now_v7()),
            name: "ann".into(),
            password: "x".into(),
            admin: true,
        };
        let set_up = transact(&*ledger, Request::new(), |tx| access::set_up(tx, Some(&hash), &wish));
        assert_eq!(set_up.await.expect("comes in").answer.name.as_str(), "ann");
        following.await.expect("ends by itself");
        assert!(!file.exists(), "what was spent is forgotten");
    }
}
