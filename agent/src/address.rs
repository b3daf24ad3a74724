//! Under which address a host is known: the one that it reaches the managers from, unless somebody chose another.

use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// The address at which the other hosts of the environment reach this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressChoice {
    /// This one; it need not be on an interface of this machine, for instance behind a one-to-one NAT.
    Ip(IpAddr),
    /// Whatever address the interface has, looked up anew for every link.
    Interface(String),
}

impl FromStr for AddressChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<AddressChoice, Infallible> {
        Ok(text.parse().map_or_else(|_| AddressChoice::Interface(text.to_owned()), AddressChoice::Ip))
    }
}

/// The chosen address. If none was chosen, the one that the host had before, as long as it has it; otherwise `route`, from
/// which the managers are reached: a host with several addresses must not change with every manager that it is linked to.
pub(crate) fn chosen(
    choice: Option<&AddressChoice>,
    before: Option<IpAddr>,
    route: IpAddr,
) -> Result<IpAddr, NoAddress> {
    match choice {
        None => {
            let still = |before: &IpAddr| is_here(*before);
            Ok(before.filter(still).unwrap_or(route))
        }
        Some(AddressChoice::Ip(address)) => Ok(*address),
        Some(AddressChoice::Interface(name)) => of_interface(name, &interfaces()?),
    }
}

/// Does an interface of this machine have the address? If that cannot be found out, it is believed.
pub(crate) fn is_here(address: IpAddr) -> bool {
    interfaces().map_or(true, |all| all.iter().any(|(_, known)| *known == address))
}

/// Every address of this machine, with the interface that has it.
pub(crate) fn interfaces() -> Result<Vec<(String, IpAddr)>, NoAddress> {
    let all = getifaddrs().map_err(|error| NoAddress::Unreadable(error.to_string()))?;
    Ok(all.filter_map(|one| Some((one.interface_name, ip(one.address?)?))).collect())
}

/// IPv4 first: it is what swarms are made with.
fn of_interface(name: &str, all: &[(String, IpAddr)]) -> Result<IpAddr, NoAddress> {
    let own = || all.iter().filter(|(interface, _)| interface == name).map(|(_, address)| *address);
    let routable = |address: &IpAddr| match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    own().find(IpAddr::is_ipv4).or_else(|| own().find(routable)).ok_or_else(|| {
        let mut known: Vec<_> = all.iter().map(|(interface, _)| interface.clone()).collect();
        known.dedup();
        NoAddress::Missing { name: name.to_owned(), known: known.join(", ") }
    })
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAddress {
    /// It may get one.
    #[error("interface {name} has no address; there are: {known}")]
    Missing { name: String, known: String },
    #[error("listing the interfaces: {0}")]
    Unreadable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_looked_up_and_an_address_is_taken_as_it_is() {
        let all: Vec<(String, IpAddr)> = [
            ("lo", "127.0.0.1"),
            ("eth0", "fe80::1"),
            ("eth0", "fd00::5"),
            ("eth1", "fe80::2"),
            ("eth1", "10.0.0.7"),
        ]
        .map(|(name, address)| (name.to_owned(), address.parse().expect("an address")))
        .into();
        assert_eq!(of_interface("eth1", &all).expect("found").to_string(), "10.0.0.7");
        assert_eq!(of_interface("eth0", &all).expect("found").to_string(), "fd00::5");
        let missing = of_interface("wlan0", &all).expect_err("there is none").to_string();
        assert_eq!(missing, "interface wlan0 has no address; there are: lo, eth0, eth1");

        let route = "192.0.2.1".parse().expect("an address");
        assert_eq!(chosen(None, None, route).expect("the route's"), route);
        let (there, gone) = ([127, 0, 0, 1].into(), [192, 0, 2, 99].into());
        assert_eq!(chosen(None, Some(there), route).expect("as before"), there);
        assert_eq!(chosen(None, Some(gone), route).expect("the route's"), route);
        let choice = "10.1.1.1".parse().expect("never fails");
        assert_eq!(chosen(Some(&choice), Some(there), route).expect("as it is").to_string(), "10.1.1.1");
    }
}
