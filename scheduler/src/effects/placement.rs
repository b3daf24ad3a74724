//! On how many nodes of a swarm a global service runs: on every one that takes tasks and satisfies its constraints.
//!
//! Docker tells how many tasks such a service has, but not how many it is going to have; right after the service was
//! made that is none. So it is counted here, as the swarm's own orchestrator does it.

use std::net::IpAddr;

use bollard::models::{Node, NodeSpecAvailabilityEnum, NodeSpecRoleEnum, NodeState};

/// Nodes that run a task of a global service with these constraints.
pub(super) fn eligible(nodes: &[Node], constraints: &[String]) -> u64 {
    nodes.iter().filter(|node| fits(node, constraints)).count() as u64
}

/// Could a task with these constraints run on the node?
pub(super) fn fits(node: &Node, constraints: &[String]) -> bool {
    takes_tasks(node) && constraints.iter().all(|constraint| holds(constraint, node))
}

pub(super) fn takes_tasks(node: &Node) -> bool {
    let down = node.status.as_ref().and_then(|status| status.state) == Some(NodeState::DOWN);
    let availability = node.spec.as_ref().and_then(|spec| spec.availability);
    !down && !matches!(availability, Some(NodeSpecAvailabilityEnum::DRAIN | NodeSpecAvailabilityEnum::PAUSE))
}

/// A constraint that nobody understands holds nowhere; the swarm sees it the same way.
fn holds(constraint: &str, node: &Node) -> bool {
    let (key, wanted, value) = match (constraint.split_once("!="), constraint.split_once("==")) {
        (Some((key, value)), _) => (key.trim(), false, value.trim()),
        (None, Some((key, value))) => (key.trim(), true, value.trim()),
        (None, None) => return false,
    };
    match matches(key, value, node) {
        Some(is_so) => is_so == wanted,
        None => false,
    }
}

/// Does the node have this value? `None` if nodes have no such thing. Names of labels are exact, everything else is
/// the same in capitals.
fn matches(key: &str, value: &str, node: &Node) -> Option<bool> {
    let spec = node.spec.as_ref();
    let description = node.description.as_ref();
    let platform = description.and_then(|description| description.platform.as_ref());
    let is = |found: Option<&str>| Some(found.unwrap_or_default().eq_ignore_ascii_case(value));
    if let Some(label) = after(key, "node.labels.") {
        let labels = spec.and_then(|spec| spec.labels.as_ref());
        return is(labels.and_then(|labels| labels.get(label)).map(String::as_str));
    }
    if let Some(label) = after(key, "engine.labels.") {
        let engine = description.and_then(|description| description.engine.as_ref());
        let labels = engine.and_then(|engine| engine.labels.as_ref());
        return is(labels.and_then(|labels| labels.get(label)).map(String::as_str));
    }
    match key.to_ascii_lowercase().as_str() {
        "node.id" => is(node.id.as_deref()),
        "node.hostname" => is(description.and_then(|description| description.hostname.as_deref())),
        "node.ip" => Some(within(node.status.as_ref()?.addr.as_deref()?, value)),
        "node.role" => is(Some(match spec.and_then(|spec| spec.role) {
            Some(NodeSpecRoleEnum::MANAGER) => "manager",
            _ => "worker",
        })),
        "node.platform.os" => is(platform.and_then(|platform| platform.os.as_deref())),
        "node.platform.arch" => is(platform.and_then(|platform| platform.architecture.as_deref())),
        _ => None,
    }
}

fn after<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    let head = key.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &key[prefix.len()..]).filter(|rest| !rest.is_empty())
}

/// Is the address the one that is meant, or in the network that is meant (`10.0.0.0/8`)?
fn within(address: &str, meant: &str) -> bool {
    let (network, bits) = match meant.split_once('/') {
        Some((network, bits)) => (network, bits.parse().ok()),
        None => (meant, Some(u32::MAX)),
    };
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let parsed = (address.parse().map(number), network.parse().map(number), bits);
    let (Ok((address, length)), Ok((network, network_length)), Some(bits)) = parsed else {
        return false;
    };
    let host_bits = length - bits.min(length);
    let prefix = |number: u128| number.checked_shr(host_bits).unwrap_or(0);
    length == network_length && prefix(address) == prefix(network)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes() -> Vec<Node> {
        let node = |id: &str, role: &str, availability: &str, state: &str, zone: &str, address: &str| {
            json!({
                "ID": id,
                "Spec": {"Role": role, "Availability": availability, "Labels": {"zone": zone}},
                "Description": {"Hostname": id, "Platform": {"OS": "linux", "Architecture": "x86_64"},
                                "Engine": {"Labels": {"disk": "ssd"}}},
                "Status": {"State": state, "Addr": address},
            })
        };
        let all = json!([
            node("n1", "manager", "active", "ready", "a", "10.0.0.1"),
            node("n2", "worker", "active", "ready", "b", "10.0.0.2"),
            node("n3", "worker", "active", "ready", "b", "10.1.0.3"),
            node("n4", "worker", "drain", "ready", "b", "10.1.0.4"),
            node("n5", "worker", "active", "down", "b", "10.1.0.5"),
        ]);
        serde_json::from_value(all).expect("nodes as an engine tells them")
    }

    #[test]
    fn only_nodes_count_that_take_tasks_and_satisfy_every_constraint() {
        for (constraints, expected) in [
            (&[][..], 3),
            (&["node.role == worker"], 2),
            (&["node.role!=worker"], 1),
            (&["node.labels.zone==b"], 2),
            (&["node.labels.zone == b", "node.ip==10.0.0.0/16"], 1),
            (&["node.labels.missing != x"], 3),
            (&["node.labels.missing == x"], 0),
            (&["node.hostname==N1"], 1),
            (&["node.id==n5"], 0),
            (&["node.platform.arch==x86_64", "node.platform.os==linux"], 3),
            (&["engine.labels.disk==ssd"], 3),
            (&["node.ip==10.1.0.3"], 1),
            (&["node.colour==blue"], 0),
            (&["nonsense"], 0),
        ] {
            let constraints: Vec<String> = constraints.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(eligible(&nodes(), &constraints), expected, "{constraints:?}");
        }
    }
}
