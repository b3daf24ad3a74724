//! A range of IPv4 addresses, as `10.20.0.0/16`: parsed once, never wrong afterwards.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of addresses. Its first address has no bits behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: Ipv4Addr,
    length: u8,
}

impl Subnet {
    /// The bits that all of its addresses share.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Do they share an address?
    pub fn overlaps(self, other: Subnet) -> bool {
        let mask = mask(self.length.min(other.length));
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }

    /// Is the address one of its own?
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.length) == self.address.to_bits()
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or_default()
}

impl FromStr for Subnet {
    type Err = String;

    /// The error says what would do.
    fn from_str(text: &str) -> Result<Subnet, String> {
        let parts = text.split_once('/').and_then(|(address, length)| {
            Some((
                address.parse::<Ipv4Addr>().ok()?,
                length.parse::<u8>().ok().filter(|length| *length <= 32)?,
            ))
        });
        let Some((address, length)) = parts else {
            return Err("write an IPv4 range, such as 10.20.0.0/16".into());
        };
        let first = Ipv4Addr::from_bits(address.to_bits() & mask(length));
        match first == address {
            true => Ok(Subnet { address, length }),
            false => Err(format!("the range of that length begins at {first}: write {first}/{length}")),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;
    fn try_from(text: String) -> Result<Subnet, String> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("is a range")
    }

    #[test]
    fn ranges_overlap_if_they_share_an_address() {
        for (one, other, overlap) in [
            ("10.20.0.0/16", "10.20.3.0/24", true),
            ("10.20.3.0/24", "10.20.0.0/16", true),
            ("10.20.0.0/16", "10.21.0.0/16", false),
            ("0.0.0.0/0", "10.21.0.0/16", true),
            ("10.0.0.1/32", "10.0.0.1/32", true),
        ] {
            assert_eq!(subnet(one).overlaps(subnet(other)), overlap, "{one} {other}");
        }
        assert!(subnet("10.20.0.0/16").contains([10, 20, 255, 255].into()));
        assert!(!subnet("10.20.0.0/16").contains([10, 21, 0, 0].into()));
    }

    #[test]
    fn what_is_no_range_is_told_what_would_be() {
        assert_eq!(
            "10.20.1.0/16".parse::<Subnet>().expect_err("is refused"),
            "the range of that length begins at 10.20.0.0: write 10.20.0.0/16"
        );
        for text in ["", "10.20.0.0", "10.20.0.0/33", "fd00::/8", "10.20/16"] {
            assert!(text.parse::<Subnet>().expect_err("is refused").contains("10.20.0.0/16"), "{text}");
        }
    }
}
