//! Users whose passwords are compared here, with argon2id (RFC 9106).

use std::sync::LazyLock;

use argon2::password_hash::{PasswordHash, SaltString};
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use async_trait::async_trait;
use skep_model::Refusal;
use skep_model::access::{self, LOCAL};
use skep_model::name::Name;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::Provider;
use crate::Api;
use crate::problem::{Code, Problem, Reply};

/// Shorter ones are guessed (NIST SP 800-63B asks for at least 8).
const PASSWORD_CHARS_MIN: usize = 10;

/// Longer ones are no passwords.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// Each comparison takes 19 MiB and some 20 ms of a processor; more at once would stand in the way of everything else.
static COMPARISONS: Semaphore = Semaphore::const_new(2);

/// What the password of nobody is compared with, so that a name that nobody has takes as long.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash("nobody").unwrap_or_default());

/// The accounts of this cluster.
pub(super) struct Local;

#[async_trait]
impl Provider for Local {
    fn name(&self) -> &'static str {
        LOCAL
    }

    fn about(&self) -> &'static str {
        "Users of this cluster, with passwords that only it knows"
    }

    async fn user(&self, api: &Api, name: &str, password: &str) -> Reply<Option<Name>> {
        let view = api.ledger().fresh_view().await?;
        // What cannot be a name is nobody's, and must not get into a key.
        let name = Name::parse("a user", name).ok();
        let user = match name.map(|name| access::find_user(&view, name.as_str())).transpose() {
            Ok(user) => user
                .map(|user| user.record)
                .filter(|user| user.provider == LOCAL && user.disabled_at.is_none()),
            Err(Refusal::NotFound { .. }) => None,
            Err(refusal) => return Err(refusal.into()),
        };
        let known = user.as_ref().map_or_else(|| NOBODY.clone(), |user| user.password.clone());
        let password = password.to_owned();
        let same = apart(move || {
            let known = PasswordHash::new(&known);
            known.is_ok_and(|known| Argon2::default().verify_password(password.as_bytes(), &known).is_ok())
        })
        .await?;
        Ok(user.filter(|_| same).map(|user| user.name))
    }
}

/// What is kept of a password, if it is a good one.
pub(crate) async fn password_hash(password: &str) -> Reply<String> {
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        let refusal = Refusal::InvalidValue {
            what: "a password",
            value: format!("{} characters long", password.chars().count()),
            allowed: format!(
                "use at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
            ),
        };
        return Err(refusal.into());
    }
    let password = password.to_owned();
    apart(move || hash(&password)).await?.ok_or_else(failed)
}

fn hash(password: &str) -> Option<String> {
    let salt = SaltString::encode_b64(&skep_wire::random::bytes::<16>()).ok()?;
    Argon2::default().hash_password(password.as_bytes(), &salt).ok().map(|hash| hash.to_string())
}

/// Away from the threads that answer requests.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Reply<T> {
    // Never closed.
    let _place = COMPARISONS.acquire().await.map_err(|_| failed())?;
    spawn_blocking(work).await.map_err(|_| failed())
}

fn failed() -> Box<Problem> {
    Problem::new(Code::SecretUnreadable, "the password could not be hashed")
}
