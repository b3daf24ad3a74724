//! The folder `<data>/identity/` in which a manager keeps who it is.
//!
//! ```text
//!   cluster            the cluster's id
//!   ca.pem  ca.key     the cluster's authority
//!   manager.pem .key   this manager's certificate and key
//!   registration.key   what the hosts' one-time tokens are derived from
//! ```
//!
//! Every manager has the authority's and the registration's key, so every manager can admit a host.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::authority::addresses;
use super::token::{REGISTRATION_KEY_BYTES, RegistrationKey};
use super::{Authority, Certified, PkiError, Role, peer_identity};

/// Who a manager is, with everything needed to show it.
#[derive(Clone)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: String,
    /// The authority's certificate.
    pub ca_pem: String,
    /// The authority's secret key.
    pub ca_key_pem: String,
    /// This manager's certificate.
    pub manager_pem: String,
    /// This manager's secret key.
    pub manager_key_pem: String,
    /// What the hosts' one-time tokens are derived from.
    pub registration_key: RegistrationKey,
}

impl Identity {
    /// The first manager of a new cluster.
    pub fn create(cluster: &str, node: u64, addresses: &[String]) -> Result<Identity, PkiError> {
        let authority = Authority::create(cluster)?;
        let manager = authority.issue_manager(node, addresses)?;
        Ok(Identity::new(&authority, manager, crate::random::bytes()))
    }

    /// The names and IP addresses in this manager's certificate, without its names inside the cluster.
    pub fn addresses(&self) -> Result<Vec<String>, PkiError> {
        addresses(&self.manager_pem)
    }

    /// Another manager of the same cluster.
    pub fn for_manager(&self, node: u64, addresses: &[String]) -> Result<Identity, PkiError> {
        let authority = self.authority()?;
        let manager = authority.issue_manager(node, addresses)?;
        Ok(Identity::new(&authority, manager, self.registration_key))
    }

    /// Reads the folder.
    pub fn load(data: &Path) -> Result<Identity, PkiError> {
        let dir = folder(data);
        let cluster = read(&dir.join(CLUSTER))?.trim().to_owned();
        Ok(Identity {
            cluster,
            ca_pem: read(&dir.join(CA))?,
            ca_key_pem: read(&dir.join(CA_KEY))?,
            manager_pem: read(&dir.join(MANAGER))?,
            manager_key_pem: read(&dir.join(MANAGER_KEY))?,
            registration_key: read_registration_key(&dir.join(REGISTRATION_KEY))?,
        })
    }

    /// Writes the folder. Each file is replaced as a whole; the certificate comes last, so that a folder
    /// with a certificate is a complete one.
    pub fn save(&self, data: &Path) -> Result<(), PkiError> {
        let dir = folder(data);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(failed("making", &dir))?;
        replace(&dir.join(CLUSTER), format!("{}\n", self.cluster).as_bytes(), PUBLIC)?;
        replace(&dir.join(CA), self.ca_pem.as_bytes(), PUBLIC)?;
        replace(&dir.join(CA_KEY), self.ca_key_pem.as_bytes(), SECRET)?;
        replace(&dir.join(REGISTRATION_KEY), &self.registration_key, SECRET)?;
        replace(&dir.join(MANAGER_KEY), self.manager_key_pem.as_bytes(), SECRET)?;
        replace(&dir.join(MANAGER), self.manager_pem.as_bytes(), PUBLIC)
    }

    /// Whether the folder has been written.
    pub fn exists(data: &Path) -> bool {
        folder(data).join(MANAGER).exists()
    }

    /// The cluster's authority.
    pub fn authority(&self) -> Result<Authority, PkiError> {
        Authority::load(&self.cluster, &self.ca_pem, &self.ca_key_pem)
    }

    /// This manager's node id, as its certificate says.
    pub fn node(&self) -> Result<u64, PkiError> {
        let certificate = CertificateDer::from_pem_slice(self.manager_pem.as_bytes()).map_err(|error| {
            PkiError::Pem { what: "the manager's certificate", reason: error.to_string() }
        })?;
        match peer_identity(&[certificate])?.role {
            Role::Manager(node) => Ok(node),
            Role::Host(host) => Err(PkiError::Name(format!("it is host {host}'s, not a manager's"))),
        }
    }

    fn new(authority: &Authority, manager: Certified, registration_key: RegistrationKey) -> Identity {
        Identity {
            cluster: authority.cluster().to_owned(),
            ca_pem: authority.ca_pem().to_owned(),
            ca_key_pem: authority.key_pem().to_owned(),
            manager_pem: manager.certificate_pem,
            manager_key_pem: manager.key_pem,
            registration_key,
        }
    }
}

const CLUSTER: &str = "cluster";
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const MANAGER: &str = "manager.pem";
const MANAGER_KEY: &str = "manager.key";
const REGISTRATION_KEY: &str = "registration.key";

const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

fn folder(data: &Path) -> PathBuf {
    data.join("identity")
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(failed("reading", path))
}

fn read_registration_key(path: &Path) -> Result<RegistrationKey, PkiError> {
    let bytes = fs::read(path).map_err(failed("reading", path))?;
    bytes.try_into().map_err(|_| PkiError::Content { path: path.to_owned(), expected: EXPECTED_KEY })
}

const EXPECTED_KEY: &str = "a registration key of 32 bytes";
const _: () = assert!(REGISTRATION_KEY_BYTES == 32, "the text above says so");

/// After a crash the file is the old one or the new one, never a part.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let new = path.with_extension("new");
    // A left-over of a crash may have other permissions.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed("removing", &new)(error));
        }
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new);
    let mut file = file.map_err(failed("creating", &new))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("writing", &new))?;
    fs::rename(&new, path).map_err(failed("replacing", path))?;
    if let Some(dir) = path.parent() {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("syncing", dir))?;
    }
    Ok(())
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_identity_is_read_as_it_was_written_and_its_keys_are_private() {
        let data = tempfile::tempdir().expect("a folder");
        assert!(!Identity::exists(data.path()));
        let identity = Identity::create("c1", 2, &["10.90.0.2".into()]).expect("created");
        identity.save(data.path()).expect("saved");
        identity.save(data.path()).expect("saved again");
        assert!(Identity::exists(data.path()));

        let loaded = Identity::load(data.path()).expect("loaded");
        assert_eq!(loaded.cluster, "c1");
        assert_eq!(loaded.node().expect("a manager"), 2);
        assert_eq!(loaded.registration_key, identity.registration_key);
        assert_eq!(loaded.manager_key_pem, identity.manager_key_pem);
        for key in [CA_KEY, MANAGER_KEY, REGISTRATION_KEY] {
            let mode = fs::metadata(folder(data.path()).join(key)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, SECRET, "{key}");
        }
    }

    #[test]
    fn another_manager_shares_the_cluster_and_not_the_key() {
        let first = Identity::create("c1", 1, &[]).expect("created");
        let second = first.for_manager(2, &[]).expect("issued");
        assert_eq!(second.node().expect("a manager"), 2);
        assert_eq!(second.ca_pem, first.ca_pem);
        assert_eq!(second.registration_key, first.registration_key);
        assert_ne!(second.manager_key_pem, first.manager_key_pem);
    }
}
