//! Environment templates: what a new environment starts from.

mod document;
mod rancher;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

pub use document::{Document, reference};

use crate::name::Name;
use crate::options::Options;
use crate::{CLUSTER, Refusal, Ruling};

/// Swarm quorums that make sense: odd, and small enough that agreement stays quick.
pub const SWARM_MANAGERS_ALLOWED: &[u8] = &[1, 3, 5, 7];

/// What a template keeps that says nothing: one may be lost.
const SWARM_MANAGERS_USUAL: u8 = 3;

/// What a template says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Unique in the cluster.
    pub name: Name,
    /// One line for people who choose.
    pub description: String,
    /// May everybody use it?
    pub public: bool,
    /// How many swarm managers the environment keeps.
    pub swarm_managers: u8,
    /// The host label over whose values the swarm managers are spread.
    #[serde(default)]
    pub spread_over: Option<String>,
    /// What packets between the environment's hosts may have; none: as much as the narrowest of their links carries.
    pub mtu: Option<u16>,
    /// What else is wished for the environment's networks.
    #[serde(default)]
    pub options: Options,
    /// When it was imported; absent for the built-in ones.
    pub created_at: Option<Timestamp>,
}

impl Record for Template {
    const TABLE: &'static str = "template";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.name.to_string()
    }
}

/// The templates that every cluster has: name, description, swarm managers.
const BUILT_IN: &[(&str, &str, u8)] = &[
    ("default", "A swarm of three managers; further hosts become workers", 3),
    ("single", "A swarm of one manager, for trying things out", 1),
];

/// Reads a template document (YAML). `named` is its name if the document has none.
pub fn parse(document: &str, named: Option<&str>, now: Timestamp) -> Ruling<Document> {
    document::parse(document, named, now)
}

/// The template as a document that is read back as it is.
pub fn write(template: &Template) -> String {
    document::write(template)
}

/// Adds a template, or puts it in the place of another of its name if `replace` says so. Environments that were made from
/// that one stay as they are until somebody applies it (see [`crate::differences`]).
pub fn import(tx: &mut Tx<'_>, document: &str, named: Option<&str>, replace: bool) -> Ruling<Imported> {
    let Document { template, notes } = parse(document, named, tx.now())?;
    let name = &template.name;
    if built_in(name.as_str()).is_some() {
        return Err(Refusal::BuiltIn { name: name.to_string(), cannot: "replaced" });
    }
    if !replace && tx.get::<Template>(CLUSTER, name.as_str())?.is_some() {
        return Err(Refusal::NameTaken { what: "a template", name: name.to_string(), scope: None });
    }
    tx.put(&template);
    Ok(Imported { template, notes })
}

/// What an import has come to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Imported {
    /// The template.
    pub template: Template,
    /// Parts of a foreign document that are not needed here, and why.
    pub notes: Vec<String>,
}

/// Lets a template go. Environments that were made from it stay as they are.
pub fn remove(tx: &mut Tx<'_>, name: &str) -> Ruling<Template> {
    let template = self::named(tx, name)?;
    if template.created_at.is_none() {
        return Err(Refusal::BuiltIn { name: name.to_owned(), cannot: "removed" });
    }
    tx.delete::<Template>(CLUSTER, name);
    Ok(template)
}

/// The template of that name, imported or built in.
pub fn named(tx: &mut Tx<'_>, name: &str) -> Ruling<Template> {
    known(tx, name)?.ok_or_else(|| Refusal::NotFound { what: "template", name: name.to_owned(), scope: None })
}

/// Like [`named`], for those who can do without.
pub fn known(tx: &mut Tx<'_>, name: &str) -> Ruling<Option<Template>> {
    Ok(tx.get::<Template>(CLUSTER, name)?.map(|stored| stored.record).or_else(|| built_in(name)))
}

/// All templates with the revision that wrote them (zero for built-in ones), in the order of their names.
pub fn list(view: &View) -> Ruling<Vec<(Template, u64)>> {
    let mut templates: Vec<_> = view
        .list::<Template>(CLUSTER)?
        .into_iter()
        .map(|stored| (stored.record, stored.revision))
        .chain(BUILT_IN.iter().filter_map(|(name, ..)| Some((built_in(name)?, 0))))
        .collect();
    templates.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    Ok(templates)
}

fn built_in(name: &str) -> Option<Template> {
    let (name, description, swarm_managers) = BUILT_IN.iter().find(|(known, ..)| *known == name)?;
    Some(Template {
        name: Name::parse("a template", name).ok()?,
        description: (*description).to_owned(),
        public: true,
        swarm_managers: *swarm_managers,
        spread_over: None,
        mtu: None,
        options: Options::default(),
        created_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &str) -> Document {
        parse(document, None, Timestamp::UNIX_EPOCH).expect("is fine")
    }

    fn refused(document: &str) -> String {
        parse(document, None, Timestamp::UNIX_EPOCH).expect_err("is refused").to_string()
    }

    #[test]
    fn a_short_document_gets_the_defaults() {
        let template = read("name: small\n").template;
        assert_eq!((template.swarm_managers, template.mtu, template.public), (3, None, true));
        assert_eq!(template.options, Options::default());
    }

    #[test]
    fn managers_are_spread_over_a_label_that_could_be_one() {
        let template = read("name: x\nswarm: {spread: zone}\n").template;
        assert_eq!((template.swarm_managers, template.spread_over.as_deref()), (3, Some("zone")));
        let text = refused("name: x\nswarm:\n  spread: a zone\n");
        assert!(text.contains("line 3: swarm.spread") && text.contains("'a zone'"), "{text}");
    }

    #[test]
    fn everything_that_is_wrong_is_named_with_its_line_and_what_to_write() {
        let text = refused(
            "name: Big\nswarm:\n  managers: 2\n  workers: 2\nnetwork:\n  mtu: 100\n  addressPools: [10.20.1.0/16]\nengine: {}\n",
        );
        for said in [
            "line 1: name: ",
            "such as big",
            "line 3: swarm.managers",
            "[1, 3, 5, 7]",
            "line 4: swarm.workers: unknown key",
            "line 6: network.mtu",
            "1280 to 9000",
            "line 7: network.addressPools[0]",
            "write 10.20.0.0/16",
            "line 8: engine: not possible",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn what_fits_by_itself_must_fit_together() {
        assert!(refused("name: x\nnetwork: {subnetSize: 26}\n").contains("name a pool as well"));
        let two = "name: x\nnetwork: {addressPools: [10.20.0.0/16, 10.20.4.0/22]}\n";
        assert!(refused(two).contains("overlaps with 10.20.4.0/22"));
        let narrow = "name: x\nnetwork: {addressPools: [10.20.0.0/26]}\n";
        assert!(refused(narrow).contains("networks of /24"));
    }

    #[test]
    fn what_is_written_is_read_back_and_written_the_same() {
        for document in [
            "name: small\n",
            "name: x\ndescription: 'costs $5: \"all\" in # one'\nisPublic: false\nswarm: {managers: 5, spread: zone}\n\
             network: {mtu: 1400, encrypted: true, addressPools: [10.20.0.0/16, 10.30.0.0/16], subnetSize: 26}\n\
             nfs: {server: files, path: /export, options: 'nfsvers=4,hard'}\n",
        ] {
            let template = read(&document.replace("$5", "$$5")).template;
            let written = write(&template);
            let again = read(&written).template;
            assert_eq!(again, template, "{written}");
            assert_eq!(write(&again), written);
        }
    }

    #[test]
    fn a_template_of_rancher_is_read_as_far_as_it_means_something() {
        let document = "isPublic: \"true\"\nstacks:\n- name: healthcheck\n  template_id: library:infra*healthcheck\n\
                        - name: ipsec\n  answers:\n    DOCKER_BRIDGE: docker0\n    MTU: \"1400\"\n    \
                        RANCHER_DEBUG: false\n    SUBNET: 10.42.0.0/16\n  template_id: library:infra*ipsec\n- name: nfs\n  answers:\n    MOUNT_DIR: /exports\n    MOUNT_OPTS: \"\"\n    \
                        NFS_SERVER: 10.0.0.2\n    NFS_VERS: nfsvers=4\n    RANCHER_DEBUG: \"false\"\n  template_id: library:infra*nfs\n";
        let Document { template, notes } =
            parse(document, Some("swarm-x"), Timestamp::UNIX_EPOCH).expect("is read");
        assert_eq!((template.name.as_str(), template.public, template.mtu), ("swarm-x", true, Some(1_400)));
        assert!(template.options.encrypted);
        let nfs = template.options.nfs.as_ref().expect("a server");
        assert_eq!(nfs.to_string(), "10.0.0.2:/exports (nfsvers=4)");
        assert_eq!(
            template.options.address_pools.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.42.0.0/16"]
        );
        assert_eq!(notes.len(), 1, "{notes:?}");

        let unknown = "name: x\nstacks:\n- name: cattle\n  template_id: library:infra*cattle\n- name: ipsec\n  \
                       template_id: library:infra*ipsec\n  answers: {COLOUR: red}\n";
        let text = refused(unknown);
        assert!(text.contains("line 3: stacks[0]") && text.contains("skep up"), "{text}");
        assert!(text.contains("line 7: stacks[1]") && text.contains("COLOUR"), "{text}");
    }

    #[test]
    fn every_built_in_template_is_well_formed_and_can_be_exported() {
        for (name, ..) in BUILT_IN {
            let template = built_in(name).expect("is well formed");
            assert_eq!(read(&write(&template)).template.swarm_managers, template.swarm_managers, "{name}");
        }
    }

    #[test]
    fn the_reference_page_has_every_key() {
        let page = std::include_str!("../../docs/reference/template.md");
        assert!(page.ends_with(&reference()), "docs/reference/template.md ends with:\n{}", reference());
    }
}
