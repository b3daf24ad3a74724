//! Whose word counts about where a client is: load balancers that `server.toml` names, and nobody else.
//!
//! ```text
//!   connection from …                │ client is …
//!   ─────────────────────────────────┼──────────────────────────────────────────────────────────────────
//!   somebody                         │ that somebody, whatever headers say
//!   a trusted proxy, PROXY header    │ whom that header names
//!   a trusted proxy, HTTP header     │ the last one in it that is not a trusted proxy
//! ```
//! The last one, because everything before it is what a client may have written itself.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether trusted proxies begin connections with a PROXY header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProxyProtocol {
    /// They do not; one that comes is refused.
    #[default]
    Off,
    /// They may.
    Optional,
    /// They do; a connection of theirs without one is closed.
    Required,
}

/// In which header trusted proxies say for whom they ask. Only one counts: of the other a proxy does not take away what a
/// client has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardedHeader {
    /// `X-Forwarded-For: 192.0.2.7, 10.0.0.5`
    #[default]
    XForwardedFor,
    /// `Forwarded: for=192.0.2.7, for="[2001:db8::7]:4711"` (RFC 7239)
    Forwarded,
}

/// One address, or all of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Network(IpNet);

/// The trusted proxies of a manager, and what they say about clients.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<Network>,
    pub(crate) protocol: ProxyProtocol,
    pub(crate) header: ForwardedHeader,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        let network = address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            format!("'{text}' is neither an address nor a network: write 10.0.0.5 or 10.1.0.0/16")
        })?;
        if network.addr() != network.network() {
            return Err(format!("'{text}' is an address within a network: write {}", network.trunc()));
        }
        Ok(Network(network))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Network, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Network(network) = self;
        match network.prefix_len() == network.max_prefix_len() {
            true => write!(f, "{}", network.addr()),
            false => write!(f, "{network}"),
        }
    }
}

impl Proxies {
    /// Is it one of them?
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|Network(network)| network.contains(&address))
    }

    /// Whether a connection from there may, or must, begin with a PROXY header.
    pub(crate) fn protocol_of(&self, address: IpAddr) -> ProxyProtocol {
        if self.trusts(address) { self.protocol } else { ProxyProtocol::Off }
    }

    /// For whom a request is made that came from `from`.
    pub(crate) fn client(&self, from: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = from;
        if !self.trusts(client) {
            return client;
        }
        for hop in self.hops(headers).into_iter().rev() {
            // Whatever was written in front of something that cannot be read is not to be believed either.
            let Some(hop) = hop else { break };
            client = hop;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// From the client to the last proxy but one, each of which may be unreadable.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        // Several headers are one list (RFC 9110, 5.3).
        let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
        let parts = values.flat_map(|value| split(value, ','));
        parts
            .map(|part| match self.header {
                ForwardedHeader::XForwardedFor => address(part),
                ForwardedHeader::Forwarded => address_for(part),
            })
            .collect()
    }
}

/// `for=192.0.2.7;proto=https`
fn address_for(element: &str) -> Option<IpAddr> {
    let pairs = split(element, ';').into_iter().filter_map(|pair| pair.trim().split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = named.next()?;
    // One that is there twice means nothing.
    if named.next().is_some() { None } else { address(value.trim().trim_matches('"')) }
}

/// An address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

/// The parts between separators that are not within quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|character| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("is an address")
    }

    fn proxies(header: ForwardedHeader) -> Proxies {
        let trusted = ["10.0.0.5", "10.1.0.0/16", "fd00::/8"].map(|text| text.parse().expect("is a network"));
        Proxies { trusted: trusted.to_vec(), protocol: ProxyProtocol::Off, header }
    }

    fn client(header: ForwardedHeader, from: &str, lines: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("is a header");
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("is a name"),
                value.parse().expect("is one"),
            );
        }
        proxies(header).client(ip(from), &headers)
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_the_last_hop_that_is_none_of_them() {
        for (from, lines, expected) in [
            ("192.0.2.1", &["x-forwarded-for: 198.51.100.9"][..], "192.0.2.1"),
            ("10.0.0.6", &["x-forwarded-for: 198.51.100.9"], "10.0.0.6"),
            ("10.0.0.5", &[], "10.0.0.5"),
            ("10.0.0.5", &["x-forwarded-for: 198.51.100.9"], "198.51.100.9"),
            ("10.0.0.5", &["x-forwarded-for: 203.0.113.1, 198.51.100.9"], "198.51.100.9"),
            ("10.0.0.5", &["x-forwarded-for: 203.0.113.1, 198.51.100.9, 10.1.2.3"], "198.51.100.9"),
            ("10.0.0.5", &["x-forwarded-for: 203.0.113.1", "x-forwarded-for: 198.51.100.9"], "198.51.100.9"),
            ("10.0.0.5", &["x-forwarded-for: 198.51.100.9:4711"], "198.51.100.9"),
            ("fd00::5", &["x-forwarded-for: 2001:db8::7"], "2001:db8::7"),
            ("10.0.0.5", &["x-forwarded-for: [2001:db8::7]:4711"], "2001:db8::7"),
            // What cannot be read ends the way back.
            ("10.0.0.5", &["x-forwarded-for: 198.51.100.9, unknown"], "10.0.0.5"),
            ("10.0.0.5", &["x-forwarded-for: 198.51.100.9, , 10.1.2.3"], "10.1.2.3"),
            // The other header is a client's.
            ("10.0.0.5", &["forwarded: for=203.0.113.1"], "10.0.0.5"),
        ] {
            assert_eq!(client(ForwardedHeader::XForwardedFor, from, lines), ip(expected), "{from} {lines:?}");
        }
    }

    #[test]
    fn the_header_of_the_standard_is_read_where_it_is_wished() {
        for (line, expected) in [
            ("forwarded: for=192.0.2.7", "192.0.2.7"),
            ("forwarded: For=\"[2001:db8::7]:4711\";proto=https", "2001:db8::7"),
            ("forwarded: for=203.0.113.1, proto=https;for=192.0.2.7;by=10.0.0.5", "192.0.2.7"),
            ("forwarded: for=\"203.0.113.1, for=203.0.113.2\", for=192.0.2.7", "192.0.2.7"),
            ("forwarded: for=192.0.2.7, for=_hidden", "10.0.0.5"),
            ("forwarded: for=192.0.2.7;for=203.0.113.1", "10.0.0.5"),
            ("x-forwarded-for: 203.0.113.1", "10.0.0.5"),
        ] {
            assert_eq!(client(ForwardedHeader::Forwarded, "10.0.0.5", &[line]), ip(expected), "{line}");
        }
    }

    #[test]
    fn networks_are_written_as_they_are_read_and_nonsense_is_named() {
        for text in ["10.0.0.5", "10.1.0.0/16", "2001:db8::/32", "::1"] {
            assert_eq!(text.parse::<Network>().expect("is one").to_string(), text);
        }
        for (wrong, words) in
            [("10.0.0", "write 10.0.0.5"), ("proxy.local", "write"), ("10.1.2.3/16", "10.1.0.0/16")]
        {
            let refused = wrong.parse::<Network>().expect_err("is none");
            assert!(refused.contains(wrong) && refused.contains(words), "{refused}");
        }
    }
}
