//! Where machines come from.
//!
//! A driver makes, finds and gives back machines; it knows nothing of workflows, swarms or who wished for
//! the machine. Every driver is one entry of [`DRIVERS`], and everything that offers, checks, documents or
//! tests drivers walks that slice.
//!
//! The one promise all drivers keep: a machine belongs to a [`MachineKey`], and however often, from however
//! many managers and after whatever interruption `ensure` is called, one key has at most one machine.

mod error;
pub mod local;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use error::DriverError;

/// Every place machines can come from, in the order in which people are offered them.
pub const DRIVERS: &[DriverKind] = &[local::KIND];

/// What is known of a driver before it is asked for anything.
pub struct DriverKind {
    /// The word people write for it.
    pub name: &'static str,
    /// One sentence for lists and help.
    pub description: &'static str,
    /// What can be asked of a machine of this driver.
    pub options: &'static [DriverOption],
    /// Says whether it can work here, and if not, what to do.
    pub available: fn(&DriverConfig) -> Result<(), DriverError>,
    /// Makes the driver. Cheap: nothing is touched before the first call.
    pub build: fn(&DriverConfig) -> Arc<dyn Driver>,
}

/// One option of a driver.
pub struct DriverOption {
    /// The word people write for it.
    pub name: &'static str,
    /// One sentence for help.
    pub help: &'static str,
    /// What holds if nothing is written.
    pub default: &'static str,
    /// Refuses a value that cannot work, with what would.
    pub check: fn(&str) -> Result<(), &'static str>,
}

/// What a driver needs to know of the manager it runs in.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The cluster the machines belong to.
    pub cluster: String,
    /// The program that a machine runs as its agent.
    pub skep_binary: PathBuf,
    /// Where drivers that keep things on this computer keep them, e.g. `/var/lib/skep-local`.
    pub root: PathBuf,
}

/// Whose machine it is. The only thing by which a machine is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineKey {
    /// The cluster.
    pub cluster: String,
    /// The id of the host the machine is for, e.g. `host_0198…`.
    pub host: String,
}

/// What kind of machine is wanted.
#[derive(Clone, Debug)]
pub struct MachineWish {
    /// Whose it will be.
    pub key: MachineKey,
    /// Its host name.
    pub name: String,
    /// Options of the driver, checked by [`check`].
    pub options: BTreeMap<String, String>,
    /// What its agent needs to join.
    pub join: JoinFile,
}

/// What an agent reads once to find its managers and to register. Holds a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinFile {
    /// The cluster to join.
    pub cluster: String,
    /// The host it is.
    pub host_id: String,
    /// Peer addresses of the managers.
    pub managers: Vec<String>,
    /// The certificate of the cluster's CA.
    pub ca_pem: String,
    /// The one-time token.
    pub token: String,
}

/// A machine that exists, or is half made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Whose it is.
    pub key: MachineKey,
    /// Its host name.
    pub name: String,
    /// What the place it comes from calls it.
    pub id: String,
    /// Where it can be reached by other machines of its environment.
    pub address: IpAddr,
}

/// What has become of a machine that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// It runs, as far as the place it comes from can see.
    Running,
    /// It is there and does not run.
    Stopped,
    /// There is no such machine.
    Gone,
    /// This manager cannot say.
    Unknown,
}

/// A place where machines come from.
#[async_trait]
pub trait Driver: Send + Sync {
    /// The machine of this key, also when it is only half made.
    async fn find(&self, key: &MachineKey) -> Result<Option<Machine>, DriverError>;

    /// Makes the machine, or completes it, or finds that it is there.
    ///
    /// Safe when an earlier try died half-way and when another process tries at the same time. Does not wait
    /// until Docker on it is ready: its agent says that.
    async fn ensure(&self, wish: &MachineWish) -> Result<Machine, DriverError>;

    /// Gives the machine back with everything that was made for it. Nothing there is success.
    async fn release(&self, key: &MachineKey) -> Result<(), DriverError>;

    /// Lets the machine go as it is: it stays, with all that runs on it, and is nobody's of ours from then on. No key finds
    /// it, none of these functions touches it, and its key cannot be used again. Nothing there is success.
    async fn forget(&self, key: &MachineKey) -> Result<(), DriverError>;

    /// What has become of the machine of this key: asked when its agent is silent.
    async fn state(&self, key: &MachineKey) -> Result<MachineState, DriverError>;

    /// Gives the machine an engine of this version, where engines are this driver's business: then the answer is true. Where
    /// it is false, the agent on the machine changes what is installed there. Safe to repeat, like `ensure`.
    async fn change_engine(&self, _key: &MachineKey, _version: &str) -> Result<bool, DriverError> {
        Ok(false)
    }

    /// Starts the machine's engine anew, where engines are this driver's business: then the answer is true. Where it is false,
    /// the agent on the machine does it. Each call is another start.
    async fn restart_engine(&self, _key: &MachineKey) -> Result<bool, DriverError> {
        Ok(false)
    }

    /// Every machine of this cluster.
    async fn list(&self) -> Result<Vec<Machine>, DriverError>;
}

/// The driver of this name.
pub fn kind(name: &str) -> Option<&'static DriverKind> {
    DRIVERS.iter().find(|kind| kind.name == name)
}

/// Says whether a machine could be asked for like this: the driver is known and works here, and every option
/// is one of its own with a value that makes sense.
pub fn check(
    config: &DriverConfig,
    name: &str,
    options: &BTreeMap<String, String>,
) -> Result<(), DriverError> {
    let kind = kind(name).ok_or_else(|| DriverError::UnknownDriver {
        name: name.to_owned(),
        known: names(DRIVERS.iter().map(|kind| kind.name)),
    })?;
    check_options(kind, options)?;
    (kind.available)(config)
}

fn check_options(kind: &DriverKind, options: &BTreeMap<String, String>) -> Result<(), DriverError> {
    options.iter().try_for_each(|(option, value)| check_option(kind, option, value))
}

fn check_option(kind: &DriverKind, name: &str, value: &str) -> Result<(), DriverError> {
    let Some(option) = kind.options.iter().find(|option| option.name == name) else {
        return Err(DriverError::UnknownOption {
            driver: kind.name,
            option: name.to_owned(),
            known: names(kind.options.iter().map(|option| option.name)),
        });
    };
    (option.check)(value).map_err(|expected| DriverError::InvalidOption {
        driver: kind.name,
        option: option.name,
        value: value.to_owned(),
        expected,
    })
}

fn names(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

impl fmt::Debug for JoinFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Wishes end up in logs; the token must not.
        f.debug_struct("JoinFile")
            .field("cluster", &self.cluster)
            .field("host_id", &self.host_id)
            .field("managers", &self.managers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DriverConfig {
        DriverConfig {
            cluster: "test".to_owned(),
            skep_binary: "/bin/true".into(),
            root: "/tmp/skep-local-test".into(),
        }
    }

    fn refused(driver: &str, options: &[(&str, &str)]) -> DriverError {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&config(), driver, &options).expect_err("it should be refused")
    }

    #[test]
    fn an_unknown_driver_lists_the_known_ones() {
        let error = refused("clould", &[]);
        for kind in DRIVERS {
            assert!(error.to_string().contains(kind.name), "{error}");
        }
        assert!(!error.retryable());
    }

    #[test]
    fn an_unknown_option_lists_the_known_ones_of_every_driver() {
        for kind in DRIVERS {
            let error = refused(kind.name, &[("colour", "blue")]).to_string();
            assert!(error.contains("colour") && error.contains(kind.name), "{error}");
            for option in kind.options {
                assert!(error.contains(option.name), "{error}");
            }
        }
    }

    #[test]
    fn defaults_pass_their_own_check() {
        for option in DRIVERS.iter().flat_map(|kind| kind.options) {
            assert_eq!((option.check)(option.default), Ok(()), "{}", option.name);
        }
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_with_what_would() {
        let error = refused("local", &[("mtu", "large")]).to_string();
        assert!(error.contains("mtu") && error.contains("large") && error.contains("1500"), "{error}");
    }

    #[test]
    fn names_are_unique() {
        for (at, one) in DRIVERS.iter().enumerate() {
            assert!(DRIVERS[..at].iter().all(|other| other.name != one.name), "{}", one.name);
        }
    }

    #[test]
    fn a_wish_does_not_print_its_token() {
        let join = JoinFile {
            cluster: "c".into(),
            host_id: "h".into(),
            managers: vec![],
            ca_pem: "pem".into(),
            token: "secret-token".into(),
        };
        assert!(!format!("{join:?}").contains("secret-token"));
    }
}
