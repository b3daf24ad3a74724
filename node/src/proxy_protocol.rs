//! The PROXY protocol: what a load balancer says before anything else about the client whose connection it passes on
//! (HAProxy, "The PROXY protocol, versions 1 and 2"). Pure; reading is in [`opening`](crate::opening).
//!
//! Version 2 is what HAProxy sends, version 1 what nginx does. Strict: what is not one of them to the last byte is refused, so
//! that nothing a client sends can be taken for what its load balancer says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What version 2 begins with. No protocol that is spoken on any port begins so.
pub(crate) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, and the length of what follows.
pub(crate) const HEAD_BYTES: usize = 16;

/// What follows: two addresses, and what else the load balancer tells; with a client's certificate that is some hundred bytes.
pub(crate) const REST_BYTES_MAX: usize = 2_048;

/// What version 1 begins with.
pub(crate) const WORD: &[u8] = b"PROXY ";

/// The longest line that version 1 has, with its end.
pub(crate) const LINE_BYTES_MAX: usize = 107;

/// Versions and commands, in one byte.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Families with the transport TCP, in one byte.
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Why something is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the PROXY header {0}")]
pub(crate) struct Malformed(&'static str);

/// The beginning of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    command: u8,
    family: u8,
    /// How many bytes follow.
    pub(crate) rest_bytes: usize,
}

/// Reads the beginning of version 2.
pub(crate) fn head(bytes: &[u8; HEAD_BYTES]) -> Result<Head, Malformed> {
    let [.., command, family, high, low] = *bytes;
    if bytes[..SIGNATURE.len()] != SIGNATURE {
        return Err(Malformed("does not begin as one of version 2 does"));
    }
    if ![LOCAL, PROXY].contains(&command) {
        return Err(Malformed("is of another version, or has an unknown command"));
    }
    if command == PROXY && ![UNSPECIFIED, TCP4, TCP6].contains(&family) {
        return Err(Malformed("tells of something else than TCP"));
    }
    let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
    if rest_bytes > REST_BYTES_MAX {
        return Err(Malformed("is too long"));
    }
    Ok(Head { command, family, rest_bytes })
}

impl Head {
    /// The client, from what follows the beginning; `None` if the load balancer speaks for itself.
    pub(crate) fn client(self, rest: &[u8]) -> Result<Option<IpAddr>, Malformed> {
        if rest.len() != self.rest_bytes {
            return Err(Malformed("is cut off"));
        }
        if self.command == LOCAL {
            return Ok(None);
        }
        let short = Malformed("is too short for its addresses");
        // Source, destination, and a port of two bytes each; then what is not of interest here.
        let (client, additions) = match self.family {
            TCP4 => {
                let source = rest.first_chunk::<4>().ok_or(short)?;
                (Some(IpAddr::V4(Ipv4Addr::from(*source))), rest.get(12..).ok_or(short)?)
            }
            TCP6 => {
                let source = rest.first_chunk::<16>().ok_or(short)?;
                (Some(IpAddr::V6(Ipv6Addr::from(*source)).to_canonical()), rest.get(36..).ok_or(short)?)
            }
            _ => (None, rest),
        };
        well_formed(additions)?;
        Ok(client)
    }
}

/// Additions have a kind, a length of two bytes, and as many bytes.
fn well_formed(mut additions: &[u8]) -> Result<(), Malformed> {
    while let Some((_, after)) = additions.split_first() {
        let cut_off = Malformed("has an addition that is cut off");
        let (length, value) = after.split_first_chunk::<2>().ok_or(cut_off)?;
        additions = value.get(usize::from(u16::from_be_bytes(*length))..).ok_or(cut_off)?;
    }
    Ok(())
}

/// The client, from a line of version 1 with its end; `None` if the load balancer does not know.
pub(crate) fn client_of_line(line: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    let wrong = Malformed("is no line of version 1");
    let text = line.strip_suffix(b"\r\n").and_then(|text| std::str::from_utf8(text).ok()).ok_or(wrong)?;
    let words: Vec<&str> = text.split(' ').collect();
    let (four, source, destination, ports) = match words[..] {
        ["PROXY", "UNKNOWN", ..] => return Ok(None),
        ["PROXY", "TCP4", source, destination, from, to] => (true, source, destination, [from, to]),
        ["PROXY", "TCP6", source, destination, from, to] => (false, source, destination, [from, to]),
        _ => return Err(wrong),
    };
    let address = |text: &str| text.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == four);
    let (source, _) = address(source).zip(address(destination)).ok_or(wrong)?;
    let port = |text: &str| text.parse::<u16>().is_ok_and(|port| port.to_string() == text);
    if ports.into_iter().all(port) { Ok(Some(source.to_canonical())) } else { Err(wrong) }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2 as HAProxy writes it, with an addition.
    pub(crate) fn header(source: IpAddr) -> Vec<u8> {
        let (family, mut rest) = match source {
            IpAddr::V4(source) => (TCP4, [source.octets(), [10, 0, 0, 1]].concat()),
            IpAddr::V6(source) => (TCP6, [source.octets(), [0; 16]].concat()),
        };
        rest.extend([0x9c, 0x40, 0x20, 0xfb]);
        rest.extend([0x04, 0x00, 0x03, 1, 2, 3]);
        written(PROXY, family, &rest)
    }

    pub(crate) fn local() -> Vec<u8> {
        written(LOCAL, UNSPECIFIED, &[])
    }

    fn written(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("is short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn read(bytes: &[u8]) -> Result<Option<IpAddr>, Malformed> {
        let (first, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(Malformed("is cut off"))?;
        head(first)?.client(rest)
    }

    #[test]
    fn the_client_is_read_and_a_check_of_the_load_balancer_itself_names_none() {
        for (text, shown) in
            [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7"), ("::ffff:192.0.2.7", "192.0.2.7")]
        {
            let shown = shown.parse().expect("is one");
            assert_eq!(read(&header(text.parse().expect("is one"))), Ok(Some(shown)), "{text}");
        }
        assert_eq!(read(&local()), Ok(None));
        assert_eq!(read(&written(PROXY, UNSPECIFIED, &[])), Ok(None));
    }

    #[test]
    fn what_is_not_a_header_is_refused() {
        let good = header("192.0.2.7".parse().expect("is one"));
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            bytes
        };
        for (what, wrong) in [
            ("another version", changed(12, 0x11)),
            ("an unknown command", changed(12, 0x22)),
            ("UDP", changed(13, 0x12)),
            ("a socket of Unix", changed(13, 0x31)),
            ("longer than it is", changed(15, 200)),
            ("too long", changed(14, 0xff)),
            ("too short for its addresses", written(PROXY, TCP4, &[1, 2, 3, 4])),
            ("an addition that is cut off", written(PROXY, TCP4, &[0; 14])),
            ("another signature", changed(0, b'\n')),
        ] {
            assert!(read(&wrong).is_err(), "{what}");
        }
    }

    #[test]
    fn lines_of_version_1_are_read_as_strictly() {
        let client = |line: &str| client_of_line(line.as_bytes());
        let four = "192.0.2.7".parse().ok();
        assert_eq!(client("PROXY TCP4 192.0.2.7 10.0.0.1 40000 8443\r\n"), Ok(four));
        assert_eq!(client("PROXY TCP6 2001:db8::7 ::1 1 2\r\n"), Ok("2001:db8::7".parse().ok()));
        assert_eq!(client("PROXY UNKNOWN\r\n"), Ok(None));
        for wrong in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 40000 8443\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 40000 8443",
            "PROXY TCP4 192.0.2.7 10.0.0.1 40000 99999\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 40000 +1\r\n",
            "PROXY TCP4 2001:db8::7 10.0.0.1 40000 8443\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 40000 8443\r\n",
            "PROXY TCP4  192.0.2.7 10.0.0.1 40000 8443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 40000 8443 x\r\n",
            "POST / HTTP/1.1\r\n",
            "\r\n",
        ] {
            assert!(client(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_client_comes_through(address: IpAddr) {
            prop_assert_eq!(read(&header(address)), Ok(Some(address.to_canonical())));
        }

        #[test]
        fn no_bytes_do_harm_and_none_that_are_missing_are_read(bytes: Vec<u8>, cut in 0_usize..40) {
            let _ = read(&bytes);
            let _ = client_of_line(&bytes);
            let whole = header("192.0.2.7".parse().expect("is one"));
            prop_assert!(cut >= whole.len() || read(&whole[..cut]).is_err());
            let _ = read(&[&SIGNATURE[..], &bytes].concat());
        }
    }
}
