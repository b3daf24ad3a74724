//! Ports that a service publishes: the short form `"8080:80/udp"` and the long form with keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::node::{Node, Value};
use super::quantity::Misfit;
use super::reader::{Key, Reader, read, refused};

/// A port of the service's containers, and where the world finds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The port in the container.
    pub target: u16,
    /// The port on the hosts. None: Swarm picks one.
    pub published: Option<u16>,
    /// Which transport.
    #[serde(default)]
    pub protocol: Protocol,
    /// On which hosts it can be reached.
    #[serde(default)]
    pub mode: PortMode,
}

/// The transport of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// On which hosts a published port can be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortMode {
    /// On every host of the swarm; Swarm's routing mesh finds a task.
    #[default]
    Ingress,
    /// Only on hosts that run a task of the service.
    Host,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

const PROTOCOLS: &[(&str, Protocol)] =
    &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
const MODES: &[(&str, PortMode)] = &[("ingress", PortMode::Ingress), ("host", PortMode::Host)];

/// The long form of a port.
pub(super) const PORT_KEYS: &[Key<PortDraft>] = &[
    read("target", "the port in the container", |cx, node, draft| draft.target = cx.value(node, number)),
    read("published", "the port on the hosts; without it Swarm picks one", |cx, node, draft| {
        draft.port.published = cx.value(node, number);
    }),
    read("protocol", "`tcp` (default), `udp` or `sctp`", |cx, node, draft| {
        draft.port.protocol = cx.choice(node, PROTOCOLS).unwrap_or_default();
    }),
    read("mode", "`ingress` (default) or `host`", |cx, node, draft| {
        draft.port.mode = cx.choice(node, MODES).unwrap_or_default();
    }),
    refused("host_ip", "Swarm publishes on all addresses of a host", "leave it out; filter with a firewall"),
    refused("name", "Swarm does not know names of ports", "leave it out or write a comment"),
    refused(
        "app_protocol",
        "Swarm does not know protocols of applications",
        "leave it out or write a comment",
    ),
];

#[derive(Default)]
pub(super) struct PortDraft {
    port: Port,
    target: Option<u16>,
}

impl Port {
    /// Either form. None if it could not be understood, which has then been said.
    pub(super) fn read(cx: &mut Reader<'_>, node: &Node) -> Option<Port> {
        if !matches!(node.value, Value::Map(_)) {
            return cx.value(node, short);
        }
        let mut draft = PortDraft::default();
        let before = cx.error_count();
        cx.keys(node, PORT_KEYS, &mut draft);
        let Some(target) = draft.target else {
            if cx.error_count() == before {
                cx.fail_hint(node, "the port in the container is missing", "add 'target: 80'");
            }
            return None;
        };
        Some(Port { target, ..draft.port })
    }
}

/// `80`, `8080:80`, `8080:80/udp`
fn short(text: &str) -> Result<Port, Misfit> {
    let (ports, protocol) = match text.split_once('/') {
        Some((ports, protocol)) => (ports, self::protocol(protocol)?),
        None => (text, Protocol::Tcp),
    };
    let (published, target) = match ports.rsplit_once(':') {
        Some((published, target)) => (Some(published), target),
        None => (None, ports),
    };
    if published.is_some_and(|published| published.contains(':')) {
        return Err(Misfit::new(
            format!("'{text}' names an address; Swarm publishes on all addresses of a host"),
            "leave the address out",
        ));
    }
    let target = number(target)?;
    let published = published.map(number).transpose()?;
    Ok(Port { target, published, protocol, mode: PortMode::Ingress })
}

fn protocol(text: &str) -> Result<Protocol, Misfit> {
    let found = PROTOCOLS.iter().find(|(word, _)| *word == text).map(|(_, protocol)| *protocol);
    found.ok_or_else(|| Misfit::new(format!("'{text}' is not a protocol"), "write tcp, udp or sctp"))
}

fn number(text: &str) -> Result<u16, Misfit> {
    if text.contains('-') {
        return Err(Misfit::new(
            format!("'{text}' is a range; ranges of ports are not supported yet"),
            "write one line per port",
        ));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse().ok().filter(|port| *port > 0) } else { None };
    port.ok_or_else(|| Misfit::new(format!("'{text}' is not a port"), "write a number from 1 to 65535"))
}
