//! What names a manager's certificate has: its own addresses, and those under which clients know the cluster.

use std::net::IpAddr;

use skep_raft::ManagerNode;

/// The names in a certificate that are not the manager's own.
pub(crate) fn shared(present: &[String], own: &ManagerNode) -> Vec<String> {
    present.iter().filter(|name| !is_own(name, own)).cloned().collect()
}

/// What the certificate should have: its own names stay, of the others it has those that are wanted.
pub(crate) fn addresses(present: &[String], own: &ManagerNode, wanted: &[String]) -> Vec<String> {
    let stay = present.iter().filter(|name| is_own(name, own));
    let come = wanted.iter().filter(|name| !is_own(name, own) || !present.contains(name));
    stay.chain(come).cloned().collect()
}

fn is_own(name: &str, own: &ManagerNode) -> bool {
    let loopback = || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    name == "localhost"
        || loopback()
        || [own.peer_address.as_str(), own.api_url.trim_start_matches("https://")]
            .iter()
            .any(|address| host(address).eq_ignore_ascii_case(name))
}

/// Of `host:port`, where an IPv6 address is in brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn own() -> ManagerNode {
        ManagerNode {
            name: "m1".into(),
            peer_address: "10.0.0.11:8444".into(),
            api_url: "https://[fd00::11]:8443".into(),
        }
    }

    #[test]
    fn own_names_stay_and_the_others_are_those_that_are_wanted() {
        let present =
            names(&["10.0.0.11", "fd00::11", "localhost", "127.0.0.1", "old.example.com", "10.0.0.99"]);
        assert_eq!(shared(&present, &own()), ["old.example.com", "10.0.0.99"]);
        let wanted = names(&["new.example.com", "10.0.0.99", "10.0.0.11"]);
        let then = addresses(&present, &own(), &wanted);
        let own_names = ["10.0.0.11", "fd00::11", "localhost", "127.0.0.1"];
        assert_eq!(then, [&own_names[..], &["new.example.com", "10.0.0.99"]].concat());
        assert_eq!(addresses(&then, &own(), &wanted), then, "and then it is as it should be");
        assert_eq!(addresses(&then, &own(), &[]), own_names);
    }
}
