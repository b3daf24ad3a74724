//! Who may do what.
//!
//! ```text
//!   token ─► caller ─┬─► what everybody with an account may
//!                    ├─► role bindings of the user ──────┐
//!                    └─► role bindings of its groups ────┴─► grants ─► verdict (allow, forbid, hide)
//! ```
//!
//! A permission is one kind of thing that can be done (`manage:host`), a role is a set of them, and a role binding gives a
//! role to a user or a group, in one environment or in the whole cluster. The roles of environments are those of
//! Rancher 1.6 with its matrix (its documentation, "Environments", "Permissions Key").
//!
//! Nobody gives away more than they have: whoever binds a role, or makes a key with one, holds all of its permissions
//! there (as in Kubernetes, "privilege escalation prevention").

mod binding;
mod caller;
mod device;
mod grants;
mod group;
mod permission;
mod role;
mod setup;
mod token;
mod user;

pub(crate) use binding::environment_gone;
pub use binding::{Binding, Scope, Subject, bind, bindings_of, members, own, unbind};
pub use caller::{Caller, again, caller, caller_depends_on};
pub use device::{
    Approval, DEVICE_CODE_PREFIX, DEVICE_LOGIN_LIFE, DeviceLogin, DeviceWish, ask_for_device,
    decide_about_device, device_logins_are_over, exchange_device, find_device_login, parse_device_code,
    sweep_device_logins,
};
pub use grants::{Grants, Verdict};
pub use group::{Group, add_member, create_group, find_group, groups, remove_group, remove_member};
pub use permission::{Permission, Reach};
pub use role::{Role, RoleWish, find_role, remove_role, roles, set_role};
pub use setup::{
    SETUP, SETUP_CODE_CHARS, Setup, SetupState, bootstrap_setup, ensure_setup_code, renew_setup, set_up,
    setup_code, setup_code_hash, setup_state,
};
pub use token::{
    ActsAs, TOKEN_LIFE_MAX, TOKEN_PREFIX, Token, TokenKind, TokenOwner, TokenWish, admit_administrator,
    bootstrap, create_token, find_token, parse, revoke_token, rotate_token, tokens, used,
};
pub(crate) use user::ensure_administrator;
pub use user::{
    LOCAL, User, UserWish, create_user, disable_user, enable_user, find_user, remove_user, set_password,
    users,
};
