//! Signing in on a machine without a browser, or without a password: it shows a short code, and somebody who is signed in elsewhere
//! says that it may come in (RFC 8628).
//!
//! ```text
//!   asked ──► open ──┬── approved ──► exchanged for a session, once
//!                    ├── denied
//!                    └── ended after ten minutes
//! ```
//! The long code is the device's secret, the short one is what people type. Neither is stored, only what recognizes them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use super::{ActsAs, Caller, Token, TokenWish, User, create_token};
use crate::name::Name;
use crate::{CLUSTER, Refusal, Ruling};

/// How long a code waits: long enough to walk to another machine.
pub const DEVICE_LOGIN_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// What every long code begins with, so that secret scanners recognize it.
pub const DEVICE_CODE_PREFIX: &str = "skd_";

/// Devices that wait at one time. Anybody may ask, so there is an end to it.
const DEVICE_LOGINS_MAX: usize = 500;

/// What is kept of how a device calls itself.
const CLIENT_CHARS_MAX: usize = 100;

/// A device that wants to come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLogin {
    /// The public part of the long code.
    pub id: String,
    /// SHA-256 of the long code.
    hash: Vec<u8>,
    /// What recognizes the short code.
    user_code: Vec<u8>,
    /// How the device calls itself.
    pub client: String,
    /// From where it has asked; empty if that is not known.
    pub address: String,
    /// When it has asked.
    pub created_at: Timestamp,
    /// When the codes end.
    pub expires_at: Timestamp,
    /// What somebody has said to it.
    pub approval: Approval,
}

/// What somebody has said to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody has said anything.
    Open,
    /// It may come in, and may what they may.
    Granted(ActsAs),
    /// It may not.
    Denied,
}

impl Record for DeviceLogin {
    const TABLE: &'static str = "device-login";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.clone()
    }
}

/// A device asks; everything secret is minted by the caller.
#[derive(Debug, Clone)]
pub struct DeviceWish {
    /// The public part of the long code.
    pub id: String,
    /// SHA-256 of the long code.
    pub hash: Vec<u8>,
    /// What recognizes the short code.
    pub user_code: Vec<u8>,
    /// How the device calls itself.
    pub client: String,
    /// From where it asks, if that is known.
    pub address: String,
}

/// The id and the hash of a long code; `None` if it cannot be one.
pub fn parse_device_code(code: &str) -> Option<(String, Vec<u8>)> {
    super::token::id_and_hash(DEVICE_CODE_PREFIX, code)
}

/// Lets a device wait for somebody. Those whose time is over go.
pub fn ask_for_device(tx: &mut Tx<'_>, wish: &DeviceWish) -> Ruling<DeviceLogin> {
    if wish.client.chars().count() > CLIENT_CHARS_MAX || wish.client.chars().any(char::is_control) {
        return Err(Refusal::InvalidValue {
            what: "the name of a client",
            value: wish.client.chars().filter(|c| !c.is_control()).take(CLIENT_CHARS_MAX).collect(),
            allowed: format!("use at most {CLIENT_CHARS_MAX} visible characters"),
        });
    }
    let waiting = sweep(tx)?;
    if waiting.len() >= DEVICE_LOGINS_MAX {
        return Err(Refusal::TooMany { what: "devices that wait to come in", limit: DEVICE_LOGINS_MAX });
    }
    // As good as never: two of some 10^10 codes. Whoever approves one of them would not know which.
    if waiting.iter().any(|login| login.user_code == wish.user_code) {
        return Err(Refusal::NameTaken { what: "a device code", name: "this".into(), scope: None });
    }
    let now = tx.now();
    let login = DeviceLogin {
        id: wish.id.clone(),
        hash: wish.hash.clone(),
        user_code: wish.user_code.clone(),
        client: wish.client.clone(),
        address: wish.address.clone(),
        created_at: now,
        expires_at: now.checked_add(DEVICE_LOGIN_LIFE).unwrap_or(Timestamp::MAX),
        approval: Approval::Open,
    };
    tx.put(&login);
    Ok(login)
}

/// The device that shows this short code.
pub fn find_device_login(
    view: &View,
    code: &str,
    user_code: &[u8],
    now: Timestamp,
) -> Ruling<Stored<DeviceLogin>> {
    let all = view.list::<DeviceLogin>(CLUSTER)?;
    all.into_iter().find(|login| login.shows(user_code, now)).ok_or_else(|| not_found(code))
}

/// Somebody says whether it may come in. Whoever has let it in may think better of it until it has come.
pub fn decide_about_device(
    tx: &mut Tx<'_>,
    by: &Caller,
    (code, user_code): (&str, &[u8]),
    may_come_in: bool,
) -> Ruling<DeviceLogin> {
    let now = tx.now();
    let all = tx.list::<DeviceLogin>(CLUSTER)?;
    let login =
        all.into_iter().find(|login| login.shows(user_code, now)).ok_or_else(|| not_found(code))?.record;
    let wanted = if may_come_in { Approval::Granted(by.acts_as.clone()) } else { Approval::Denied };
    let open = match &login.approval {
        Approval::Open => true,
        Approval::Granted(acts_as) => !may_come_in && *acts_as == by.acts_as,
        Approval::Denied => false,
    };
    if !open && login.approval != wanted {
        return Err(Refusal::WrongState {
            what: "the device".into(),
            cannot: if may_come_in { "approved" } else { "denied" },
            state: if login.approval == Approval::Denied { "denied" } else { "approved by somebody else" }
                .into(),
            why: "begin again on the device: skep login URL --device".into(),
        });
    }
    let login = DeviceLogin { approval: wanted, ..login };
    tx.put(&login);
    Ok(login)
}

/// Gives a device the session that somebody has approved, once.
pub fn exchange_device(tx: &mut Tx<'_>, id: &str, hash: &[u8], session: &TokenWish) -> Ruling<Token> {
    let now = tx.now();
    let login = tx.get::<DeviceLogin>(CLUSTER, id)?.map(|login| login.record);
    let is_its = |login: &DeviceLogin| verify_slices_are_equal(&login.hash, hash).is_ok();
    let login = login.filter(|login| is_its(login) && now < login.expires_at);
    let login = login.ok_or(Refusal::DeviceCodeUseless)?;
    let acts_as = match login.approval {
        Approval::Open => return Err(Refusal::AuthorizationPending),
        Approval::Denied => return Err(Refusal::AccessDenied),
        Approval::Granted(acts_as) => acts_as,
    };
    let by = match &acts_as {
        ActsAs::User(name) => {
            let user = tx.get::<User>(CLUSTER, name.as_str())?;
            let user = user.filter(|user| user.disabled_at.is_none()).ok_or(Refusal::AccessDenied)?;
            Caller::administrator(user.name.as_str())
        }
        ActsAs::Cluster => Caller::administrator(super::role::ADMIN),
        // Its keys cannot make others like themselves.
        ActsAs::Environment { .. } => return Err(Refusal::AccessDenied),
    };
    let name = format!("{} from {}", login.client, login.address);
    let name = name.trim_end_matches(" from ").trim().chars().take(CLIENT_CHARS_MAX).collect();
    let token = create_token(tx, &by, &TokenWish { acts_as, name, ..session.clone() })?;
    tx.delete::<DeviceLogin>(CLUSTER, id);
    Ok(token)
}

/// Forgets the devices whose time is over.
pub fn sweep_device_logins(tx: &mut Tx<'_>) -> Ruling<()> {
    sweep(tx).map(drop)
}

/// Is there anything to sweep?
pub fn device_logins_are_over(view: &View, now: Timestamp) -> Ruling<bool> {
    Ok(view.list::<DeviceLogin>(CLUSTER)?.iter().any(|login| login.expires_at <= now))
}

fn sweep(tx: &mut Tx<'_>) -> Ruling<Vec<Stored<DeviceLogin>>> {
    let now = tx.now();
    let all = tx.list::<DeviceLogin>(CLUSTER)?;
    let (over, waiting): (Vec<_>, Vec<_>) = all.into_iter().partition(|login| login.expires_at <= now);
    for login in over {
        tx.delete::<DeviceLogin>(CLUSTER, &login.id);
    }
    Ok(waiting)
}

/// Whom a user has let in, and who has not come yet, comes no more.
pub(super) fn user_gone(tx: &mut Tx<'_>, user: &Name) -> Ruling<()> {
    let is_its = |login: &DeviceLogin| matches!(&login.approval, Approval::Granted(ActsAs::User(name)) if name == user);
    for login in tx.list::<DeviceLogin>(CLUSTER)?.into_iter().filter(|login| is_its(login)) {
        tx.put(&DeviceLogin { approval: Approval::Denied, ..login.record });
    }
    Ok(())
}

impl DeviceLogin {
    fn shows(&self, user_code: &[u8], now: Timestamp) -> bool {
        now < self.expires_at && verify_slices_are_equal(&self.user_code, user_code).is_ok()
    }
}

fn not_found(code: &str) -> Refusal {
    Refusal::NotFound { what: "device code", name: code.to_owned(), scope: None }
}
