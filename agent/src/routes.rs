//! Which networks the host reaches otherwise than by its default route: no swarm may take addresses out of them.

use std::net::Ipv4Addr;

/// Routers have thousands of routes, hosts a handful; the first ones are as good as any for finding an overlap.
const ROUTES_MAX: usize = 64;

/// Docker's own networks: it chooses others by itself where they would be in the way.
const DOCKERS_OWN: &[&str] = &["docker0", "docker_gwbridge"];

/// Networks that somebody has made with Docker are called so.
const DOCKERS_BRIDGE: &str = "br-";

/// Reads the kernel's table as `/proc/net/route` has it. What does not look like a route is none.
pub(crate) fn of_table(table: &str) -> Vec<String> {
    let mut routes: Vec<String> = table.lines().skip(1).filter_map(route).collect();
    routes.sort();
    routes.dedup();
    routes.truncate(ROUTES_MAX);
    routes
}

/// `eth0 0000600A 00000000 0001 0 0 0 00FFFFFF 0 0 0`: interface, network, gateway, flags, three numbers, mask.
fn route(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (interface, network, mask) = (fields.first()?, address(fields.get(1)?)?, address(fields.get(7)?)?);
    let length = mask.to_bits().count_ones();
    let is_dockers = DOCKERS_OWN.contains(interface) || interface.starts_with(DOCKERS_BRIDGE);
    (length > 0 && *interface != "lo" && !is_dockers).then(|| format!("{network}/{length}"))
}

/// Eight digits, in the order in which the processor keeps bytes.
fn address(hex: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(hex, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0101600A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001600A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
br-0123456789ab\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
tun0\t0000140A\t0101600A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read_without_the_default_and_dockers_own() {
        assert_eq!(of_table(TABLE), ["10.20.0.0/16", "10.96.1.0/24"]);
    }

    #[test]
    fn what_is_no_table_has_no_routes() {
        assert_eq!(of_table(""), Vec::<String>::new());
        assert_eq!(of_table("heading\neth0 zz\n\n"), Vec::<String>::new());
    }
}
