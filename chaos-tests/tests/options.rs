//! What an environment is told about its networks reaches every network of every host, on a network of 1400 bytes.

use std::net::TcpListener;

use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish, ran};

const ENVIRONMENT: &str = "narrow";

const IMAGE: &str = "skep-test/busybox:1";

/// Free on whatever network the labs themselves are.
const POOL: &str = "10.199.0.0/16";

/// What the links of the hosts carry.
const LINK_BYTES: u64 = 1_400;

/// A tunnel's header.
const VXLAN_BYTES: u64 = 50;

/// More than a packet holds, so that packets are as large as they may be.
const PAYLOAD_BYTES: &str = "200000";

fn hosts(lab: &Lab) -> Vec<Value> {
    let listed = lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
    listed["items"].as_array().cloned().unwrap_or_default()
}

fn id(host: &Value) -> &str {
    host["metadata"]["id"].as_str().expect("has an id")
}

/// The size of packets that a network was made for, as the engine of a host says it.
fn made_for(lab: &Lab, host: &Value, network: &str) -> String {
    let option = "{{index .Options \"com.docker.network.driver.mtu\"}}";
    let shown = lab.docker(id(host), &["network", "inspect", network, "--format", option]);
    shown.unwrap_or_else(|error| format!("{error:#}")).trim().to_owned()
}

/// Two services, one task on each host: one serves a large file, the other fetches it.
fn recipe() -> String {
    let service = |name: &str, host: &str, command: &str| {
        format!(
            "  {name}:\n    image: {IMAGE}\n    command: [sh, -c, '{command}']\n    stop_grace_period: 1s\n    \
             networks: [wide]\n    deploy:\n      endpoint_mode: dnsrr\n      placement:\n        constraints: \
             ['node.hostname == {host}']\n"
        )
    };
    let serve = format!("head -c {PAYLOAD_BYTES} /dev/zero > /www/large; httpd -f -p 80 -h /www");
    let wait = "sleep 1000";
    format!(
        "services:\n{}{}networks:\n  wide: {{}}\n",
        service("from", "narrow-1", &serve),
        service("to", "narrow-2", wait)
    )
}

/// Runs a shell line in the one container of a service.
fn inside(lab: &Lab, host: &Value, service: &str, line: &str) -> anyhow::Result<String> {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let container = lab.docker(id(host), &["ps", "--quiet", "--filter", &filter])?;
    anyhow::ensure!(!container.trim().is_empty(), "no container of {service}");
    lab.docker(id(host), &["exec", container.trim(), "sh", "-c", line])
}

fn load_image(lab: &Lab) {
    let files = tempfile::tempdir().expect("a folder");
    let archive = files.path().join("image.tar");
    let script = format!(
        "{}/../examples/busybox-image.sh",
        std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests")
    );
    let mut make = std::process::Command::new("sh");
    make.args(["-c", "\"$0\" > \"$1\"", &script]).arg(&archive);
    let made = ran(make).expect("runs");
    assert_eq!(made.code, 0, "{}", made.stderr);
    let archive = archive.display().to_string();
    lab.succeed(&["image", "load", &archive, "--import", IMAGE, "-e", ENVIRONMENT]).expect("an image");
}

/// A port where nobody listens, and one where somebody listens who is no NFS server.
fn a_server_that_hosts_cannot_use_is_refused_with_their_names(lab: &Lab, hosts: &[Value]) {
    let address = hosts[1]["status"]["address"].as_str().expect("has an address");
    let wish = |server: &str| {
        let nfs = format!("server={server},path=/exports");
        lab.skep(&["env", "update", ENVIRONMENT, "--nfs", &nfs]).expect("runs")
    };
    let closed = wish(address);
    assert!(closed.code == 5 && closed.stderr.contains("SKP-2441"), "{closed:?}");
    for said in ["on narrow-1 it is not reached", "on narrow-2 it is not reached", "refused"] {
        assert!(closed.stderr.contains(said), "{said}: {closed:?}");
    }
    let (network, _) = address.rsplit_once('.').expect("an IPv4 address");
    let gateway = format!("{network}.1");
    let listener = TcpListener::bind((gateway.as_str(), 2049)).expect("the port is free");
    let listens = wish(&gateway);
    drop(listener);
    assert!(listens.code == 5 && listens.stderr.contains("SKP-2441"), "{listens:?}");
    assert!(listens.stderr.contains("on narrow-1 it is reached, but"), "{listens:?}");
    let shown = lab.json(&["env", "inspect", ENVIRONMENT]).expect("shows");
    assert_eq!(shown["spec"]["nfs"], Value::Null, "nothing is changed");

    let recipe = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "services:\n  db:\n    image: {IMAGE}\n    volumes: ['data:/data']\nvolumes:\n  data: {{driver: nfs}}\n"
    );
    std::fs::write(recipe.path(), text).expect("written");
    let file = recipe.path().display().to_string();
    let up = lab.skep(&["up", "-f", &file, "--stack", "files", "-e", ENVIRONMENT]).expect("runs");
    assert!(up.code == 5 && up.stderr.contains("SKP-1344"), "{up:?}");
}

fn expect_mtus(lab: &Lab) {
    for host in hosts(lab) {
        let name = &host["metadata"]["name"];
        for network in ["docker_gwbridge", "ingress", "bridge"] {
            assert_eq!(made_for(lab, &host, network), LINK_BYTES.to_string(), "{network} of {name}");
        }
        let networks = &host["status"]["networks"];
        let told = ["engine_mtu", "bridge_mtu", "environment_mtu"].map(|field| networks[field].as_u64());
        assert_eq!(told, [Some(LINK_BYTES); 3], "{name}: {networks}");
        assert_eq!(host["status"]["inventory"]["mtu"].as_u64(), Some(LINK_BYTES), "{name}");
        assert_eq!(host["status"]["message"], "", "{name}");
    }
}

#[test]
fn a_narrow_network_is_measured_and_reaches_every_network_and_large_packets_pass() {
    let lab = Lab::start(&Wish::new("options", 1, 28_743).expect("a wish")).expect("a manager starts");
    let create = ["env", "create", ENVIRONMENT, "-t", "single", "--hosts", "2", "--driver", "local"];
    let wishes = ["--option", "mtu=1400", "--address-pool", POOL, "--subnet-size", "26"];
    lab.succeed(&[&create[..], &wishes].concat()).expect("two hosts");
    load_image(&lab);
    let recipe_file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(recipe_file.path(), recipe()).expect("written");
    let file = recipe_file.path().display().to_string();
    lab.succeed(&["up", "-f", &file, "--stack", "bulk", "-e", ENVIRONMENT]).expect("a stack");

    expect_mtus(&lab);
    let all = hosts(&lab);
    assert_eq!(made_for(&lab, &all[0], "bulk_wide"), LINK_BYTES.to_string());
    let subnet = ["network", "inspect", "bulk_wide", "--format", "{{(index .IPAM.Config 0).Subnet}}"];
    let subnet = lab.docker(id(&all[0]), &subnet).expect("inspects");
    assert!(subnet.starts_with("10.199.") && subnet.trim().ends_with("/26"), "out of the pool: {subnet}");

    // Docker takes the tunnel's header off by itself.
    let interface =
        inside(&lab, &all[1], "bulk_to", "cat /sys/class/net/eth0/mtu").expect("has an interface");
    assert_eq!(interface.trim(), (LINK_BYTES - VXLAN_BYTES).to_string());
    let fetch =
        format!("printf 'GET /large HTTP/1.0\\r\\n\\r\\n' | nc from 80 | tail -c {PAYLOAD_BYTES} | wc -c");
    let fetched = lab.wait_for("the large file from the other host", || {
        let fetched = inside(&lab, &all[1], "bulk_to", &fetch)?;
        Ok((fetched.trim() == PAYLOAD_BYTES).then_some(fetched))
    });
    fetched.expect("large packets pass");

    // A later wish changes what is not in use, and says what the swarm cannot change any more.
    lab.succeed(&["env", "update", ENVIRONMENT, "--mtu", "1380"]).expect("is brought about");
    // A worker has no ingress network again before a service publishes something.
    let manager = all.iter().find(|host| host["status"]["swarm"]["role"] == "manager").expect("manages");
    lab.wait_for("the ingress network of before to be gone from the manager", || {
        Ok((made_for(&lab, manager, "ingress") == "1380").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}", made_for(&lab, manager, "ingress")));
    assert_eq!(made_for(&lab, &all[0], "bulk_wide"), LINK_BYTES.to_string(), "a network in use stays");
    let refused = lab.skep(&["env", "update", ENVIRONMENT, "--address-pool", "10.198.0.0/16"]).expect("runs");
    assert!(refused.code == 5 && refused.stderr.contains("SKP-1308"), "{refused:?}");
    let encrypted = lab.skep(&["env", "update", ENVIRONMENT, "--encrypted", "on"]).expect("runs");
    let can = all.iter().all(|host| host["status"]["inventory"]["features"]["xfrm"] != Value::Bool(false));
    assert_eq!(encrypted.code == 0, can, "{encrypted:?}");
    assert!(
        can || (encrypted.stderr.contains("SKP-1341") && encrypted.stderr.contains("narrow-1")),
        "{encrypted:?}"
    );

    a_server_that_hosts_cannot_use_is_refused_with_their_names(&lab, &all);
    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    lab.stop().expect("nothing is left");
}
