//! A template as a file: YAML of Skep's own, or as Rancher 1.6 exports its environment templates.
//!
//! Every key is understood or refused with its line, the reason and what to write instead, all at once. What is written
//! out is read back as the same template, byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::{Template, rancher};
use crate::name::Name;
use crate::nfs::Nfs;
use crate::options::{self, Options};
use crate::recipe::node;
use crate::recipe::quantity::{Misfit, boolean};
use crate::recipe::reader::{Key, Reader, Treatment, read, refused};
use crate::subnet::Subnet;
use crate::{Refusal, Ruling, placement};

/// One line for people who choose.
const DESCRIPTION_CHARS_MAX: usize = 200;

/// What was read, with what of it is not kept as it was written.
#[derive(Debug)]
pub struct Document {
    /// The template.
    pub template: Template,
    /// What people should know: parts of a foreign file that are not needed here.
    pub notes: Vec<String>,
}

/// A template while it is read.
#[derive(Default)]
pub(super) struct Draft {
    name: Option<String>,
    description: String,
    public: Option<bool>,
    pub(super) swarm_managers: Option<u8>,
    spread_over: Option<String>,
    /// `auto` is `Some(None)`.
    pub(super) mtu: Option<Option<u16>>,
    pub(super) options: Options,
    pub(super) nfs: Option<NfsDraft>,
    pub(super) notes: Vec<String>,
}

/// An NFS server while it is read.
#[derive(Default)]
pub(super) struct NfsDraft {
    pub(super) server: String,
    pub(super) path: String,
    pub(super) options: Vec<String>,
}

/// The top level of a template.
pub(super) const TEMPLATE_KEYS: &[Key<Draft>] = &[
    read("name", "unique in the cluster; needed", |cx, node, draft| draft.name = cx.value(node, name)),
    read("description", "one line for people who choose", |cx, node, draft| {
        draft.description = cx.value(node, description).unwrap_or_default();
    }),
    read("isPublic", "`true` (default) or `false`", |cx, node, draft| draft.public = cx.value(node, boolean)),
    read("swarm", "see the level below", |cx, node, draft| cx.keys(node, SWARM_KEYS, draft)),
    read("network", "see the level below", |cx, node, draft| cx.keys(node, NETWORK_KEYS, draft)),
    read("nfs", "where volumes of driver `nfs` lie; see the level below", |cx, node, draft| {
        draft.nfs.get_or_insert_default();
        cx.keys(node, NFS_KEYS, draft);
    }),
    read("stacks", "infrastructure of Rancher 1.6, as far as it means something here", rancher::read_stacks),
    refused(
        "engine",
        "whoever makes a machine sets up its engine",
        "give options to the driver: skep driver ls",
    ),
];

/// Its swarm.
const SWARM_KEYS: &[Key<Draft>] = &[
    read("managers", "1, 3 (default), 5 or 7", |cx, node, draft| {
        draft.swarm_managers =
            cx.value(node, |text| ruled(text, options::swarm_managers, "write 1, 3, 5 or 7"));
    }),
    read("spread", "a host label: managers are spread over its values", |cx, node, draft| {
        draft.spread_over = cx.value(node, label);
    }),
];

/// Its networks.
const NETWORK_KEYS: &[Key<Draft>] = &[
    read(
        "mtu",
        "the largest packets between hosts; `auto` (default): what the narrowest link carries",
        |cx, node, draft| {
            draft.mtu = cx.value(node, mtu);
        },
    ),
    read("encrypted", "`true` encrypts overlay networks from host to host", |cx, node, draft| {
        draft.options.encrypted = cx.value(node, boolean).unwrap_or_default();
    }),
    read(
        "addressPools",
        "ranges out of which the swarm takes networks, such as `10.20.0.0/16`",
        |cx, node, draft| {
            cx.each_item(node, |cx, item| draft.options.address_pools.extend(cx.value(item, range)));
        },
    ),
    read("subnetSize", "the prefix of each network taken out of a pool; default 24", |cx, node, draft| {
        draft.options.subnet_size = cx.value(node, |text| ruled(text, |_| Ok(()), "write bits, such as 24"));
    }),
];

/// Its NFS server.
const NFS_KEYS: &[Key<Draft>] = &[
    read("server", "its name or address; needed", |cx, node, draft| {
        draft.nfs.get_or_insert_default().server = cx.text(node).unwrap_or_default();
    }),
    read("path", "what it exports; needed", |cx, node, draft| {
        draft.nfs.get_or_insert_default().path = cx.text(node).unwrap_or_default();
    }),
    read("options", "as `mount -o` takes them, such as `nfsvers=4,hard`", |cx, node, draft| {
        draft.nfs.get_or_insert_default().options.extend(cx.text(node));
    }),
];

/// Reads a template. `named` is its name if the document has none.
pub(super) fn parse(text: &str, named: Option<&str>, now: Timestamp) -> Ruling<Document> {
    let invalid = |errors: Vec<crate::recipe::RecipeError>| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Refusal::InvalidTemplate { detail: errors.join("\n") }
    };
    let root = node::read(text).map_err(|error| invalid(vec![error]))?;
    // Whoever has variables has filled them in before: a template holds for everybody.
    let variables = BTreeMap::new();
    let mut cx = Reader::of_another_document(&variables);
    let mut draft = Draft::default();
    cx.keys(&root, TEMPLATE_KEYS, &mut draft);
    if draft.name.is_none() && named.is_none() && cx.error_count() == 0 {
        cx.fail_hint(&root, "the template has no name", "add 'name: NAME'");
    }
    cx.into_errors().map_err(invalid)?;
    draft.options.nfs = draft.nfs.map(|nfs| {
        let options: Vec<String> = nfs.options.into_iter().filter(|option| !option.is_empty()).collect();
        Nfs { server: nfs.server, path: nfs.path, options: options.join(",") }
    });
    draft.options.check()?;
    let name = draft.name.as_deref().or(named).unwrap_or_default();
    Ok(Document {
        template: Template {
            name: Name::parse("a template", name)?,
            description: draft.description,
            public: draft.public.unwrap_or(true),
            swarm_managers: draft.swarm_managers.unwrap_or(super::SWARM_MANAGERS_USUAL),
            spread_over: draft.spread_over,
            mtu: draft.mtu.flatten(),
            options: draft.options,
            created_at: Some(now),
        },
        notes: draft.notes,
    })
}

/// Writes a template so that it is read back as it is. Every option stands there, so that nobody has to know defaults.
pub(super) fn write(template: &Template) -> String {
    let Template { name, description, public, swarm_managers, spread_over, mtu, options, created_at: _ } =
        template;
    let Options { encrypted, address_pools, subnet_size, nfs } = options;
    let mut text = format!("name: {name}\n");
    // Writing to a string cannot fail.
    if !description.is_empty() {
        let _ = writeln!(text, "description: {}", quoted(description));
    }
    let _ = writeln!(text, "isPublic: {public}\nswarm:\n  managers: {swarm_managers}");
    if let Some(label) = spread_over {
        let _ = writeln!(text, "  spread: {}", quoted(label));
    }
    let mtu = mtu.map_or_else(|| "auto".to_owned(), |mtu| mtu.to_string());
    let _ = writeln!(text, "network:\n  mtu: {mtu}\n  encrypted: {encrypted}");
    if !address_pools.is_empty() {
        let _ = writeln!(text, "  addressPools:");
        for pool in address_pools {
            let _ = writeln!(text, "    - {pool}");
        }
    }
    if let Some(size) = subnet_size {
        let _ = writeln!(text, "  subnetSize: {size}");
    }
    if let Some(Nfs { server, path, options }) = nfs {
        let _ = writeln!(text, "nfs:\n  server: {}\n  path: {}", quoted(server), quoted(path));
        if !options.is_empty() {
            let _ = writeln!(text, "  options: {}", quoted(options));
        }
    }
    text
}

/// In double quotes YAML reads what JSON writes. A dollar sign is written twice, because one begins a variable.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace('$', "$$")).to_string()
}

fn name(text: &str) -> Result<String, Misfit> {
    let parsed = Name::parse("a template", text);
    parsed.map(|_| text.to_owned()).map_err(|error| {
        Misfit::new(error.to_string(), format!("write it in small letters, such as {}", small(text)))
    })
}

/// The nearest name that can be one.
fn small(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let small: String = text.chars().map(letter).take(63).collect();
    match small.trim_matches('-') {
        "" => "my-template".into(),
        small => small.to_owned(),
    }
}

fn description(text: &str) -> Result<String, Misfit> {
    match text.chars().count() <= DESCRIPTION_CHARS_MAX && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(Misfit::new(
            "it is too long for a line",
            format!("write one line of at most {DESCRIPTION_CHARS_MAX} characters"),
        )),
    }
}

fn label(text: &str) -> Result<String, Misfit> {
    let hint = "write the key of a label, such as zone";
    placement::check_key(text)
        .map(|()| text.to_owned())
        .map_err(|refusal| Misfit::new(refusal.to_string(), hint))
}

pub(super) fn mtu(text: &str) -> Result<Option<u16>, Misfit> {
    match text {
        "auto" => Ok(None),
        text => ruled(text, options::mtu, "write bytes, such as 1400, or auto").map(Some),
    }
}

pub(super) fn range(text: &str) -> Result<Subnet, Misfit> {
    text.parse().map_err(|hint: String| Misfit::new(format!("'{text}' is no range of addresses"), hint))
}

/// A number that a rule of the environment's options allows.
pub(super) fn ruled<N: std::str::FromStr + Copy>(
    text: &str,
    rule: fn(N) -> Ruling<()>,
    hint: &str,
) -> Result<N, Misfit> {
    let number: N = text.parse().map_err(|_| Misfit::new(format!("'{text}' does not do"), hint))?;
    rule(number).map(|()| number).map_err(|refusal| Misfit::new(refusal.to_string(), hint))
}

/// Every key and what it means, in Markdown. The reference page ends with it.
pub fn reference() -> String {
    let levels =
        [("top level", TEMPLATE_KEYS), ("swarm", SWARM_KEYS), ("network", NETWORK_KEYS), ("nfs", NFS_KEYS)];
    levels.iter().map(|(place, keys)| table(place, keys)).collect()
}

fn table(place: &str, keys: &[Key<Draft>]) -> String {
    let mut table = format!("\n### {place}\n\n| key | understood | |\n|---|---|---|\n");
    for key in keys {
        let _ = match &key.treatment {
            Treatment::Read { about, .. } => writeln!(table, "| `{}` | yes | {about} |", key.name),
            Treatment::Refused { because, instead } => {
                writeln!(table, "| `{}` | no | {because}: {instead} |", key.name)
            }
            Treatment::NotYet => writeln!(table, "| `{}` | not yet | |", key.name),
        };
    }
    table
}
