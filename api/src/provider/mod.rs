//! Who says that somebody is who they say they are: one file per provider of identities.
//!
//! To add one (OAuth2/OIDC, FIWARE, Keystone, LDAP): a file here, and its line in [`PROVIDERS`].

mod local;

use async_trait::async_trait;
use skep_model::name::Name;

use crate::Api;
use crate::problem::Reply;

pub(crate) use local::password_hash;

/// A provider of identities.
#[async_trait]
pub(crate) trait Provider: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// One sentence about it.
    fn about(&self) -> &'static str;

    /// The user who has this name and this password; `None` if there is none. Takes as long for a name that nobody has as
    /// for one that somebody has.
    async fn user(&self, api: &Api, name: &str, password: &str) -> Reply<Option<Name>>;
}

/// All of them, in the order in which they are asked.
pub(crate) const PROVIDERS: &[&dyn Provider] = &[&local::Local];
