//! The packets of a probe, and how they look to a raw socket.

use std::net::Ipv4Addr;

/// Bytes that name a probe.
pub(super) const RUN_BYTES: usize = 8;

/// Begins every datagram. Neither the kernel's VXLAN (whose first byte must have the bit 0x08) nor Docker's gossip
/// takes it for theirs.
pub(super) const MAGIC: [u8; 8] = *b"SKEP-net";

/// IPv4 and UDP in front of a datagram's payload.
pub(super) const HEADERS_BYTES: usize = 28;

/// The smallest packet that still says whose it is.
pub(super) const PACKET_BYTES_MIN: usize = HEADERS_BYTES + MAGIC.len() + RUN_BYTES + 4;

/// The largest that IPv4 knows.
pub(super) const PACKET_BYTES_MAX: usize = 65_535;

/// As much of a packet as is looked at: an IP header with all options, and what is of interest behind it.
pub(super) const LOOKED_AT_BYTES: usize = 128;

/// A packet as it arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// A datagram of some probe.
    Datagram { run: [u8; RUN_BYTES], sender: u32, from: Ipv4Addr, port: u16, bytes: u32 },
    /// Somebody wants to connect.
    Connection { from: Ipv4Addr, port: u16 },
}

/// The payload of a datagram that makes a packet of this size, headers included.
pub(super) fn payload(run: [u8; RUN_BYTES], sender: u32, packet_bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(packet_bytes);
    payload.extend_from_slice(&MAGIC);
    payload.extend_from_slice(&run);
    payload.extend_from_slice(&sender.to_be_bytes());
    payload.resize(packet_bytes.saturating_sub(HEADERS_BYTES).max(payload.len()), 0);
    payload
}

/// Reads what a raw IPv4 socket has received; the end of a long packet may be missing. `None` if it is nothing of
/// interest.
pub(super) fn parse(packet: &[u8]) -> Option<Packet> {
    let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
    let bytes = u32::from(u16_at(packet, 2)?);
    let from = Ipv4Addr::from(u32_at(packet, 12)?);
    let body = packet.get(header_bytes..)?;
    let port = u16_at(body, 2)?;
    match packet.get(9)? {
        17 => {
            let payload = body.get(8..)?;
            let run = payload.strip_prefix(&MAGIC)?.get(..RUN_BYTES)?.try_into().ok()?;
            let sender = u32_at(payload, MAGIC.len() + RUN_BYTES)?;
            Some(Packet::Datagram { run, sender, from, port, bytes })
        }
        // SYN without ACK.
        6 if body.get(13)? & 0x12 == 0x02 => Some(Packet::Connection { from, port }),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: [u8; RUN_BYTES] = *b"12345678";

    /// An IPv4 packet from 10.0.0.7 with this body.
    fn ip(protocol: u8, options: usize, body: &[u8]) -> Vec<u8> {
        let header_bytes = 20 + options;
        let mut packet = vec![0; header_bytes];
        packet[0] = 0x40 | (header_bytes / 4) as u8;
        packet[2..4].copy_from_slice(&((header_bytes + body.len()) as u16).to_be_bytes());
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[10, 0, 0, 7]);
        packet.extend_from_slice(body);
        packet
    }

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut body = vec![0x80, 0, 0x12, 0xb5, 0, 0, 0, 0];
        body.extend_from_slice(payload);
        body
    }

    #[test]
    fn a_datagram_says_whose_it_is_and_how_large_also_behind_options_and_cut_off() {
        for options in [0, 40] {
            let whole = ip(17, options, &udp(&payload(RUN, 3, 1400)));
            let seen = parse(&whole[..LOOKED_AT_BYTES]);
            let from = Ipv4Addr::new(10, 0, 0, 7);
            let bytes = 1400 + options as u32;
            assert_eq!(seen, Some(Packet::Datagram { run: RUN, sender: 3, from, port: 4789, bytes }));
        }
    }

    #[test]
    fn only_the_beginning_of_a_connection_counts() {
        for (flags, counts) in [(0x02, true), (0xc2, true), (0x12, false), (0x10, false), (0x04, false)] {
            let mut body = vec![0; 20];
            body[2..4].copy_from_slice(&2377_u16.to_be_bytes());
            body[13] = flags;
            assert_eq!(parse(&ip(6, 0, &body)).is_some(), counts, "{flags:#x}");
        }
    }

    #[test]
    fn whatever_else_arrives_is_nothing_of_ours() {
        let foreign = udp(b"\x08\x00\x00\x00some frame of an overlay network");
        for packet in [&[][..], &[0x4f], &ip(17, 0, &foreign), &ip(17, 0, &udp(&MAGIC)), &ip(1, 0, &[0; 40])]
        {
            assert_eq!(parse(packet), None);
        }
    }

    #[test]
    fn a_small_packet_still_says_whose_it_is() {
        assert_eq!(payload(RUN, 1, 0).len() + HEADERS_BYTES, PACKET_BYTES_MIN);
    }
}
