//! Environment templates: what a new environment starts from.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use crate::name::Name;
use crate::{CLUSTER, Refusal, Ruling};

/// Swarm quorums that make sense: odd, and small enough that agreement stays quick.
pub const SWARM_MANAGERS_ALLOWED: &[u8] = &[1, 3, 5, 7];

/// The smallest MTU that IPv6 permits and the largest that jumbo frames use.
const MTU_ALLOWED: std::ops::RangeInclusive<u16> = 1280..=9000;

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
    /// MTU of the environment's networks, where the engine's default does not fit.
    pub mtu: Option<u16>,
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

/// The file format. Unknown keys are errors that name key and line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default = "yes")]
    is_public: bool,
    #[serde(default)]
    swarm: SwarmDocument,
    #[serde(default)]
    network: NetworkDocument,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwarmDocument {
    managers: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkDocument {
    mtu: Option<u16>,
}

impl Default for SwarmDocument {
    fn default() -> SwarmDocument {
        SwarmDocument { managers: 3 }
    }
}

fn yes() -> bool {
    true
}

/// Reads a template document (YAML).
pub fn parse(document: &str, now: Timestamp) -> Ruling<Template> {
    let document: Document = serde_saphyr::from_str(document)
        .map_err(|error| Refusal::InvalidTemplate { detail: error.to_string() })?;
    let managers = document.swarm.managers;
    if !SWARM_MANAGERS_ALLOWED.contains(&managers) {
        return Err(Refusal::InvalidValue {
            what: "swarm.managers",
            value: managers.to_string(),
            allowed: format!("use one of {SWARM_MANAGERS_ALLOWED:?}"),
        });
    }
    if let Some(mtu) = document.network.mtu.filter(|mtu| !MTU_ALLOWED.contains(mtu)) {
        return Err(Refusal::InvalidValue {
            what: "network.mtu",
            value: mtu.to_string(),
            allowed: format!("use {} to {}", MTU_ALLOWED.start(), MTU_ALLOWED.end()),
        });
    }
    Ok(Template {
        name: Name::parse("a template", &document.name)?,
        description: document.description,
        public: document.is_public,
        swarm_managers: managers,
        mtu: document.network.mtu,
        created_at: Some(now),
    })
}

/// Adds a template; its name must be free.
pub fn import(tx: &mut Tx<'_>, document: &str) -> Ruling<Template> {
    let template = parse(document, tx.now())?;
    let taken = built_in(template.name.as_str()).is_some()
        || tx.get::<Template>(CLUSTER, template.name.as_str())?.is_some();
    if taken {
        return Err(Refusal::NameTaken { what: "a template", name: template.name.to_string(), scope: None });
    }
    tx.put(&template);
    Ok(template)
}

/// The template of that name, imported or built in.
pub fn named(tx: &mut Tx<'_>, name: &str) -> Ruling<Template> {
    match tx.get::<Template>(CLUSTER, name)? {
        Some(stored) => Ok(stored.record),
        None => built_in(name).ok_or_else(|| Refusal::NotFound {
            what: "template",
            name: name.to_owned(),
            scope: None,
        }),
    }
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
        mtu: None,
        created_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(document: &str) -> String {
        parse(document, Timestamp::UNIX_EPOCH).expect_err("is refused").to_string()
    }

    #[test]
    fn a_short_document_gets_the_defaults() {
        let template = parse("name: small\n", Timestamp::UNIX_EPOCH).expect("is fine");
        assert_eq!((template.swarm_managers, template.mtu, template.public), (3, None, true));
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
        let text = refused("name: x\nswarm:\n  managers: 3\n  workers: 2\n");
        assert!(text.contains("workers") && text.contains('4'), "{text}");
    }

    #[test]
    fn an_even_number_of_managers_is_refused() {
        assert!(refused("name: x\nswarm: {managers: 2}\n").contains("swarm.managers cannot be 2"));
    }

    #[test]
    fn every_built_in_template_is_well_formed() {
        for (name, ..) in BUILT_IN {
            assert!(built_in(name).is_some(), "{name}");
        }
    }
}
