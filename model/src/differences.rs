//! How an environment differs from what its template says by now, and its swarm from what is wished for it.
//!
//! ```text
//!   template ──(apply takes it over)──► wishes of the environment ──(update-environment)──► its swarm
//!       └───── first part of the plan ──────┘          └───────── second part ─────────────────┘
//! ```
//! Options that were said for the environment itself do not follow the template unless somebody says so.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use skep_ledger::Tx;

use crate::environment::{self, Environment};
use crate::host::Host;
use crate::ids::OperationId;
use crate::networks::{self, wanted};
use crate::operation::{Operation, workflow};
use crate::options::{Options, suits};
use crate::template::{self, Template};
use crate::{CLUSTER, Refusal, Ruling, operation};

/// An option that templates say and environments follow.
pub struct Followed {
    /// As a template's document has it.
    pub name: &'static str,
    of_environment: fn(&Environment) -> String,
    of_template: fn(&Template) -> String,
    take: fn(&mut Environment, &Template),
    way: fn(&Environment) -> (Way, &'static str),
}

/// How a difference is brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Applying the plan does it, and nothing that runs is disturbed.
    Live,
    /// A host gets it when it joins the swarm the next time.
    NextJoin,
    /// What exists has to be made anew, by somebody.
    Rebuild,
    /// It stays: it was said for the environment itself.
    Kept,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs: an option, or a network of the swarm.
    pub what: String,
    /// How it is.
    pub is: String,
    /// How it would be.
    pub would_be: String,
    /// How that is brought about.
    pub way: Way,
    /// In words.
    pub how: String,
}

/// Every option that environments follow, in the order of the template's document.
pub const FOLLOWED: &[Followed] = &[
    Followed {
        name: "swarm.managers",
        of_environment: |environment| environment.swarm_managers.to_string(),
        of_template: |template| template.swarm_managers.to_string(),
        take: |environment, template| environment.swarm_managers = template.swarm_managers,
        way: |_| (Way::Live, "hosts are promoted or demoted, one at a time"),
    },
    Followed {
        name: "swarm.spread",
        of_environment: |environment| label(environment.spread_over.as_deref()),
        of_template: |template| label(template.spread_over.as_deref()),
        take: |environment, template| environment.spread_over.clone_from(&template.spread_over),
        way: |_| (Way::Live, "hosts are promoted and demoted, one at a time"),
    },
    Followed {
        name: "network.mtu",
        of_environment: |environment| mtu(environment.mtu),
        of_template: |template| mtu(template.mtu),
        take: |environment, template| environment.mtu = template.mtu,
        way: |_| (Way::Live, "for networks that are made from now on"),
    },
    Followed {
        name: "network.encrypted",
        of_environment: |environment| environment.options.encrypted.to_string(),
        of_template: |template| template.options.encrypted.to_string(),
        take: |environment, template| environment.options.encrypted = template.options.encrypted,
        way: |_| (Way::Live, "for networks that are made from now on"),
    },
    Followed {
        name: "network.addressPools",
        of_environment: |environment| ranges(&environment.options.address_pools),
        of_template: |template| ranges(&template.options.address_pools),
        take: |environment, template| {
            environment.options.address_pools.clone_from(&template.options.address_pools)
        },
        way: pools,
    },
    Followed {
        name: "network.subnetSize",
        of_environment: |environment| size(environment.options.subnet_size),
        of_template: |template| size(template.options.subnet_size),
        take: |environment, template| environment.options.subnet_size = template.options.subnet_size,
        way: pools,
    },
    Followed {
        name: "nfs",
        of_environment: |environment| server(&environment.options),
        of_template: |template| server(&template.options),
        take: |environment, template| environment.options.nfs.clone_from(&template.options.nfs),
        way: |_| (Way::Live, "for volumes that are made from now on, once every host has tried it"),
    },
];

/// A swarm is told its pools when it is begun.
fn pools(environment: &Environment) -> (Way, &'static str) {
    match environment.swarm.is_some() {
        true => (Way::Rebuild, "a swarm is told that when it is begun: create another environment"),
        false => (Way::Live, "when the swarm is begun"),
    }
}

/// The whole plan. Without a template there is only its second part.
pub fn plan(environment: &Environment, template: Option<&Template>, hosts: &[Host]) -> Vec<Difference> {
    let mut plan: Vec<Difference> =
        template.into_iter().flat_map(|template| from_template(environment, template)).collect();
    plan.extend(in_the_swarm(environment, hosts));
    plan
}

/// What applying takes over.
fn from_template(environment: &Environment, template: &Template) -> Vec<Difference> {
    let differs = |option: &&Followed| (option.of_environment)(environment) != (option.of_template)(template);
    let line = |option: &Followed| {
        let (way, how) = match environment.own.contains(option.name) {
            true => (
                Way::Kept,
                "it was said for this environment; to follow the template again, name it: --follow",
            ),
            false => (option.way)(environment),
        };
        Difference {
            what: option.name.to_owned(),
            is: (option.of_environment)(environment),
            would_be: (option.of_template)(template),
            way,
            how: how.to_owned(),
        }
    };
    FOLLOWED.iter().filter(differs).map(line).collect()
}

/// What is wished already and not so yet.
fn in_the_swarm(environment: &Environment, hosts: &[Host]) -> Vec<Difference> {
    let Some(made_for) = environment.networks.made_for else { return vec![] };
    let wanted = wanted(environment, hosts);
    let mut lines = vec![];
    if made_for != wanted {
        lines.push(Difference {
            what: "overlay networks".into(),
            is: made_for.to_string(),
            would_be: wanted.to_string(),
            way: Way::Live,
            how: "networks that are made from now on".into(),
        });
    }
    if let Some(ingress) = environment.networks.ingress.filter(|ingress| *ingress != wanted) {
        lines.push(Difference {
            what: "ingress network".into(),
            is: ingress.to_string(),
            would_be: wanted.to_string(),
            way: Way::Live,
            how: "it is made anew, unless a service publishes ports through it by then: such a service must be removed first"
                .into(),
        });
    }
    let joined = hosts.iter().filter(|host| host.membership.is_some() && host.removal.is_none());
    lines.extend(joined.filter_map(|host| bridge(environment, hosts, host)));
    let managers = hosts.iter().filter(|host| host.is_swarm_manager() && host.removal.is_none()).count();
    if managers != usize::from(environment.swarm_managers) {
        lines.push(Difference {
            what: "swarm managers".into(),
            is: managers.to_string(),
            would_be: environment.swarm_managers.to_string(),
            way: Way::Live,
            how: "as far as there are hosts for it; Skep goes on trying by itself".into(),
        });
    }
    lines
}

fn bridge(environment: &Environment, hosts: &[Host], host: &Host) -> Option<Difference> {
    let is = host.networks?.bridge_mtu?;
    let settled = Environment {
        networks: networks::Networks {
            made_for: Some(wanted(environment, hosts)),
            ..environment.networks.clone()
        },
        ..environment.clone()
    };
    let would_be = networks::bridge_mtu(&settled, hosts, host);
    (is != would_be).then(|| Difference {
        what: format!("docker_gwbridge of {}", host.name),
        is: is.to_string(),
        would_be: would_be.to_string(),
        way: Way::NextJoin,
        how: "tasks hold it while the host is in the swarm".into(),
    })
}

/// Takes over what the template says by now, but for what the environment was told itself; `follow` names options that are
/// to follow it again. `seen`: the revision of the plan that was decided on.
pub fn apply(
    tx: &mut Tx<'_>,
    reference: &str,
    follow: &BTreeSet<String>,
    seen: Option<u64>,
    id: OperationId,
) -> Ruling<Operation> {
    let mut environment = environment::awake(tx, reference)?;
    if let Some(unknown) = follow.iter().find(|name| FOLLOWED.iter().all(|option| option.name != **name)) {
        let known: Vec<&str> = FOLLOWED.iter().map(|option| option.name).collect();
        let allowed = format!("templates say {}", known.join(", "));
        return Err(Refusal::InvalidValue { what: "an option", value: format!("'{unknown}'"), allowed });
    }
    let template = template::known(tx, environment.template.as_str())?;
    if let Some(expected) = seen {
        unchanged_since(tx, &environment, expected)?;
    }
    environment.own.retain(|name| !follow.contains(name));
    // A template that is gone says nothing any more; what is wished already is brought about all the same.
    for template in template.iter() {
        for option in FOLLOWED {
            if !environment.own.contains(option.name) && (option.way)(&environment).0 == Way::Live {
                (option.take)(&mut environment, template);
            }
        }
    }
    environment.options.check()?;
    let hosts: Vec<Host> =
        tx.list::<Host>(environment.id.as_str())?.into_iter().map(|stored| stored.record).collect();
    suits(&environment, &hosts)?;
    tx.put(&environment);
    let subject = environment::swarm(&environment);
    operation::start(tx, id, workflow::UPDATE_ENVIRONMENT, subject, Some(&environment), None)
}

fn unchanged_since(tx: &mut Tx<'_>, environment: &Environment, expected: u64) -> Ruling<()> {
    let environment_revision =
        tx.get::<Environment>(CLUSTER, environment.id.as_str())?.map_or(0, |stored| stored.revision);
    let template_revision =
        tx.get::<Template>(CLUSTER, environment.template.as_str())?.map_or(0, |stored| stored.revision);
    let things = [
        (format!("environment '{}'", environment.name), environment_revision),
        (format!("template '{}'", environment.template), template_revision),
    ];
    match things.into_iter().find(|(_, revision)| *revision > expected) {
        None => Ok(()),
        Some((what, revision)) => Err(Refusal::Outdated { what, expected, revision }),
    }
}

fn label(label: Option<&str>) -> String {
    label.unwrap_or("none").to_owned()
}

fn mtu(mtu: Option<u16>) -> String {
    mtu.map_or_else(|| "auto".to_owned(), |mtu| mtu.to_string())
}

fn server(options: &Options) -> String {
    options.nfs.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn ranges(ranges: &[crate::subnet::Subnet]) -> String {
    match ranges.is_empty() {
        true => "Docker's own".to_owned(),
        false => ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn size(size: Option<u8>) -> String {
    size.map_or_else(|| "Docker's own".to_owned(), |size| size.to_string())
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Way::Live => "live",
            Way::NextJoin => "next-join",
            Way::Rebuild => "rebuild",
            Way::Kept => "kept",
        })
    }
}

#[cfg(test)]
#[path = "differences_tests.rs"]
mod tests;
