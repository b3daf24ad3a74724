//! Which network and which address: pure choices, given what is taken.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Second bytes of the networks that are chosen from: 10.90.0.0/16 to 10.99.0.0/16.
const SECOND_BYTE_MIN: u8 = 90;
const SECOND_BYTE_MAX: u8 = 99;
/// The managers' end of the bridge.
const GATEWAY: u8 = 1;
/// Below it is room for things that people put on the bridge by hand, a registry for example.
const HOST_MIN: u8 = 10;
/// A /24 ends at 254; 241 machines are more than one computer carries.
const HOST_MAX: u8 = 250;
/// How many machines one network can have.
pub(super) const HOSTS_MAX: usize = (HOST_MAX - HOST_MIN + 1) as usize;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: Ipv4Addr,
    length: u8,
}

impl Subnet {
    /// Where the managers listen.
    pub fn gateway(&self) -> Ipv4Addr {
        self.with(GATEWAY)
    }

    /// How many leading bits all its addresses share.
    pub fn length(&self) -> u8 {
        self.length
    }

    pub(super) fn overlaps(&self, other: &Subnet) -> bool {
        let shared = self.length.min(other.length);
        masked(self.base, shared) == masked(other.base, shared)
    }

    fn with(&self, last: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.base.octets();
        Ipv4Addr::new(a, b, c, last)
    }
}

/// The first network that overlaps with none of the taken ones. Where the search begins depends on the tag,
/// so that clusters that come and go do not inherit each other's addresses.
pub(super) fn choose_subnet(tag: &str, taken: &[Subnet]) -> Option<Subnet> {
    let count = u32::from(SECOND_BYTE_MAX - SECOND_BYTE_MIN + 1) * 256;
    let start = u32::from_str_radix(tag, 16).unwrap_or(0);
    (0..count)
        .map(|step| (start % count + step) % count)
        .map(|at| {
            let [_, _, second, third] = at.to_be_bytes();
            Subnet { base: Ipv4Addr::new(10, SECOND_BYTE_MIN + second, third, 0), length: 24 }
        })
        .find(|subnet| !taken.iter().any(|other| other.overlaps(subnet)))
}

/// The next free address after the one that was given out last, round and round: an engine that is gone is
/// still remembered by its swarm for a while, and its address must not soon mean another machine.
pub(super) fn choose_host(subnet: &Subnet, last: Option<u8>, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let first = last.map_or(HOST_MIN, |last| last.saturating_add(1).max(HOST_MIN));
    (first..=HOST_MAX)
        .chain(HOST_MIN..=HOST_MAX)
        .map(|last| subnet.with(last))
        .find(|address| !taken.contains(address))
}

/// A link address made from the IPv4 address. A machine that is made again keeps it, so its neighbours'
/// tables stay right.
pub(super) fn link_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    // 02 marks an address that no manufacturer gave out.
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn masked(address: Ipv4Addr, length: u8) -> u32 {
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    address.to_bits() & mask
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

impl FromStr for Subnet {
    type Err = String;

    /// As `ip route` writes it: `10.90.1.0/24`, or one address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (base, length) = text.split_once('/').unwrap_or((text, "32"));
        let base = base.parse().map_err(|_| format!("{text:?} is not an IPv4 network"))?;
        match length.parse() {
            Ok(length) if length <= 32 => Ok(Subnet { base, length }),
            _ => Err(format!("{text:?} is not an IPv4 network")),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a network")
    }

    #[test]
    fn a_taken_network_is_passed_over() {
        let free = choose_subnet("00000000", &[]).expect("all are free");
        assert_eq!(free, subnet("10.90.0.0/24"));
        let next = choose_subnet("00000000", &[subnet("10.90.0.0/23")]).expect("most are free");
        assert_eq!(next, subnet("10.90.2.0/24"));
        assert_eq!(next.gateway(), Ipv4Addr::new(10, 90, 2, 1));
        assert_eq!(choose_subnet("ffffffff", &[subnet("10.0.0.0/8")]), None);
    }

    #[test]
    fn one_address_inside_is_enough_to_be_taken() {
        let at = choose_subnet("00000000", &[subnet("10.90.0.77")]).expect("most are free");
        assert_eq!(at, subnet("10.90.1.0/24"));
        assert!(subnet("0.0.0.0/0").overlaps(&at));
    }

    #[test]
    fn every_choice_is_inside_the_range() {
        for tag in ["00000000", "12345678", "deadbeef", "ffffffff"] {
            let chosen = choose_subnet(tag, &[]).expect("all are free");
            let [a, b, _, d] = chosen.base.octets();
            assert!(a == 10 && (90..=99).contains(&b) && d == 0, "{chosen}");
        }
    }

    #[test]
    fn addresses_go_round_before_one_is_used_again() {
        let net = subnet("10.95.3.0/24");
        let address = |last| Ipv4Addr::new(10, 95, 3, last);
        assert_eq!(choose_host(&net, None, &BTreeSet::new()), Some(address(10)));
        assert_eq!(choose_host(&net, Some(10), &BTreeSet::new()), Some(address(11)));
        assert_eq!(choose_host(&net, Some(250), &BTreeSet::from([address(10)])), Some(address(11)));
        let all = (HOST_MIN..=HOST_MAX).map(address).collect();
        assert_eq!(choose_host(&net, Some(30), &all), None);
    }

    #[test]
    fn what_is_no_network_is_not_read_as_one() {
        for text in ["default", "10.90.0.0/33", "10.90.0/24", "fe80::/64"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
