//! All levels of a recipe as one list, for those who ask about keys without reading any.
//!
//! "It belongs under …" and the reference page walk it.

use super::reader::{Key, Treatment};
use super::{RECIPE_KEYS, deploy, healthcheck, network, port, service, volume};

/// One level: where it is, and what may stand there.
pub(super) struct Level {
    pub(super) place: &'static str,
    pub(super) rows: fn() -> Vec<Row>,
}

/// One key, without the type of what it is read into.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) fate: Fate,
}

pub(super) enum Fate {
    Understood { about: &'static str },
    Refused { because: &'static str, instead: &'static str },
    NotYet,
}

/// From the outside to the inside, in the order of the reference page.
pub(super) const LEVELS: &[Level] = &[
    level("top level", || rows(RECIPE_KEYS)),
    level("services.NAME", || rows(service::SERVICE_KEYS)),
    level("services.NAME.ports[]", || rows(port::PORT_KEYS)),
    level("services.NAME.networks.NETWORK", || rows(service::ATTACHMENT_KEYS)),
    level("services.NAME.volumes[]", || rows(volume::MOUNT_KEYS)),
    level("services.NAME.volumes[].volume", || rows(volume::MOUNT_VOLUME_KEYS)),
    level("services.NAME.healthcheck", || rows(healthcheck::HEALTHCHECK_KEYS)),
    level("services.NAME.deploy", || rows(deploy::DEPLOY_KEYS)),
    level("services.NAME.deploy.update_config", || rows(deploy::UPDATE_KEYS)),
    level("services.NAME.deploy.rollback_config", || rows(deploy::ROLLBACK_KEYS)),
    level("services.NAME.deploy.restart_policy", || rows(deploy::RESTART_KEYS)),
    level("services.NAME.deploy.placement", || rows(deploy::PLACEMENT_KEYS)),
    level("services.NAME.deploy.placement.preferences[]", || rows(deploy::PREFERENCE_KEYS)),
    level("services.NAME.deploy.resources", || rows(deploy::RESOURCES_KEYS)),
    level("services.NAME.deploy.resources.limits", || rows(deploy::LIMITS_KEYS)),
    level("services.NAME.deploy.resources.reservations", || rows(deploy::RESERVATIONS_KEYS)),
    level("networks.NETWORK", || rows(network::NETWORK_KEYS)),
    level("networks.NETWORK.external", || rows(network::EXTERNAL_KEYS)),
    level("volumes.VOLUME", || rows(volume::VOLUME_KEYS)),
];

const fn level(place: &'static str, rows: fn() -> Vec<Row>) -> Level {
    Level { place, rows }
}

/// Every level with every key and what becomes of it, in Markdown. The reference page ends with it.
pub fn reference() -> String {
    LEVELS.iter().map(table).collect()
}

fn table(level: &Level) -> String {
    let mut table = format!("\n### {}\n\n| key | understood | |\n|---|---|---|\n", level.place);
    for row in (level.rows)() {
        let (verdict, text) = match row.fate {
            Fate::Understood { about } => ("yes", about.to_owned()),
            Fate::Refused { because, instead } => ("no", format!("{because}: {instead}")),
            Fate::NotYet => ("not yet", String::new()),
        };
        table.push_str(&format!("| `{}` | {verdict} | {text} |\n", row.name));
    }
    table
}

/// The level that a key was meant for, if it is understood on exactly one.
pub(super) fn home_of(key: &str) -> Option<&'static str> {
    let understood = |level: &&Level| {
        (level.rows)().iter().any(|row| row.name == key && matches!(row.fate, Fate::Understood { .. }))
    };
    let mut homes = LEVELS.iter().filter(understood);
    match (homes.next(), homes.next()) {
        (Some(home), None) => Some(home.place),
        _ => None,
    }
}

fn rows<T>(keys: &'static [Key<T>]) -> Vec<Row> {
    let row = |key: &Key<T>| {
        let fate = match key.treatment {
            Treatment::Read { about, .. } => Fate::Understood { about },
            Treatment::Refused { because, instead } => Fate::Refused { because, instead },
            Treatment::NotYet => Fate::NotYet,
        };
        Row { name: key.name, fate }
    };
    keys.iter().map(row).collect()
}
