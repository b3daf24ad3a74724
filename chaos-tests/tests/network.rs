//! The network between hosts, broken and changed: what is noticed, what is held back, what comes back by itself. With real
//! engines; what the command line says is checked with `docker`.

use std::fs;

use anyhow::Result;
use serde_json::Value;
use skep_chaos_tests::alter;
use skep_chaos_tests::lab::{Lab, Wish};

const ENVIRONMENT: &str = "net";

/// An environment on a lab of its own.
struct Site {
    lab: Lab,
}

impl Site {
    /// With so many hosts, of which so many are to be swarm managers.
    fn start(name: &str, port: u16, managers: usize, hosts: usize) -> Site {
        let site = Site { lab: Lab::start(&Wish::new(name, 1, port).expect("a wish")).expect("a manager") };
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("template.yml");
        fs::write(&file, format!("name: few\nswarm: {{managers: {managers}}}\n")).expect("writes");
        site.skep(&["template", "import", &file.display().to_string()]);
        let hosts = hosts.to_string();
        site.skep(&["env", "create", ENVIRONMENT, "-t", "few", "--hosts", &hosts, "--driver", "local"]);
        site
    }

    fn skep(&self, arguments: &[&str]) -> String {
        self.lab.succeed(arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// `skep host …` in the environment.
    fn host(&self, arguments: &[&str]) -> String {
        self.skep(&[&["host"], arguments, &["-e", ENVIRONMENT]].concat())
    }

    fn hosts(&self) -> Vec<Value> {
        let listed = self.lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
        listed["items"].as_array().cloned().unwrap_or_default()
    }

    fn named(&self, name: &str) -> Value {
        let host = self.hosts().into_iter().find(|host| host["metadata"]["name"] == name);
        host.unwrap_or_else(|| panic!("{name} is not listed"))
    }

    /// Waits until the host is as it should be.
    fn wait(&self, what: &str, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let seen = self.lab.wait_for(what, || Ok(Some(self.named(name)).filter(|host| is(host))));
        seen.unwrap_or_else(|error| {
            let operations = self.skep(&["op", "ls"]);
            panic!("{error:#}\n{:#}\n{operations}\n{}", self.named(name), self.doctor().1)
        })
    }

    fn wait_active(&self, name: &str) -> Value {
        self.wait(&format!("{name} to be active"), name, is_active)
    }

    /// Runs a command in the network of a host.
    fn inside(&self, host: &Value, command: &str) {
        alter::in_network_of(host, command).unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn readdress(&self, host: &Value) -> String {
        alter::readdress(host).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Hostname, status and role of every node, as this host's engine lists them.
    fn nodes(&self, witness: &Value) -> Result<Vec<String>> {
        let format = "{{.Hostname}} {{.Status}} {{.ManagerStatus}}";
        let listed = self.lab.docker(&text(witness, "/metadata/id"), &["node", "ls", "--format", format])?;
        let mut nodes: Vec<String> = listed.lines().map(|line| line.trim().to_owned()).collect();
        nodes.sort();
        Ok(nodes)
    }

    fn wait_nodes(&self, witness: &Value, expected: &[&str]) {
        let look = || Ok((self.nodes(witness)? == expected).then_some(()));
        let seen = self.lab.wait_for("the swarm's nodes", look);
        seen.unwrap_or_else(|error| panic!("{error:#}: {:#?}", self.nodes(witness)));
    }

    fn docker(&self, host: &Value, arguments: &[&str]) -> String {
        let told = self.lab.docker(&text(host, "/metadata/id"), arguments);
        told.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Codes that `skep doctor` finds, and everything that it says.
    fn doctor(&self) -> (Vec<String>, String) {
        let ran = self.lab.skep(&["doctor", "env", ENVIRONMENT, "-o", "json"]).expect("runs");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let findings = report["findings"].as_array().cloned().unwrap_or_default();
        (findings.iter().map(|finding| text(finding, "/code")).collect(), ran.stdout)
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn is_active(host: &Value) -> bool {
    host["status"]["state"] == "active" && text(host, "/status/message").is_empty()
}

fn is_held_for(host: &Value, code: &str) -> bool {
    host["status"]["swarm"].is_null() && text(host, "/status/network/held_back").starts_with(code)
}

#[test]
fn a_host_that_the_swarm_could_not_reach_is_held_back_and_joins_by_itself_when_it_can() {
    let site = Site::start("held", 28_643, 1, 1);
    let first = site.named("net-1");
    site.inside(&first, "iptables -I INPUT -p tcp --dport 2377 -j DROP");
    site.host(&["create", "net-2", "--driver", "local", "--detach"]);
    let held = site.wait("net-2 to be held back", "net-2", |host| is_held_for(host, "SKF-202"));
    assert_eq!(held["status"]["network"]["peers"], serde_json::json!(["net-1"]));
    let why = text(&held, "/status/message");
    assert!(why.contains("2377/tcp") && why.contains("--skip-preflight"), "cause and ways out: {why}");
    assert_eq!(site.nodes(&first).expect("lists"), ["net-1 Ready Leader"]);
    site.inside(&first, "iptables -D INPUT -p tcp --dport 2377 -j DROP");
    site.wait_active("net-2");

    // A person knows better.
    site.inside(&first, "iptables -I INPUT -p udp --dport 7946 -j DROP");
    site.host(&["create", "net-3", "--driver", "local", "--option", "mtu=1400", "--detach"]);
    site.wait("net-3 to be held back", "net-3", |host| is_held_for(host, "SKF-204"));
    site.host(&["check", "net-3", "--skip-preflight"]);
    site.wait("net-3 to join", "net-3", |host| host["status"]["swarm"]["ready"] == true);
    site.inside(&first, "iptables -D INPUT -p udp --dport 7946 -j DROP");
    site.wait_nodes(&first, &["net-1 Ready Leader", "net-2 Ready", "net-3 Ready"]);

    // What does not hold is told: its interface carries less than overlay networks need.
    let (codes, report) = site.doctor();
    assert!(codes.contains(&"SKF-211".to_owned()) && !codes.contains(&"SKF-204".to_owned()), "{report}");
    site.host(&["check", "net-3"]);
    let told = site.named("net-3");
    let findings = told["status"]["network"]["findings"].as_array().cloned().unwrap_or_default();
    assert!(findings.iter().any(|found| found["code"] == "SKF-211" && found["holds"] == false), "{told:#}");

    // Cut off for a while, it comes back as the same node.
    let node = text(&told, "/status/swarm/node");
    site.inside(&told, "ip link set eth0 down");
    site.wait("net-3 to be missed", "net-3", |host| host["status"]["agent"]["connected"] == false);
    site.inside(&told, "ip link set eth0 up");
    let back = site.wait("net-3 to be back", "net-3", |host| host["status"]["state"] == "active");
    assert_eq!(text(&back, "/status/swarm/node"), node);

    // The same name on another machine is another node, and nothing is left of the one before.
    site.host(&["label", "net-2", "rack=b"]);
    site.host(&["rm", "net-2", "--yes"]);
    site.host(&["create", "net-2", "--driver", "local"]);
    site.wait_nodes(&first, &["net-1 Ready Leader", "net-2 Ready", "net-3 Ready"]);
    let labels = site.docker(&first, &["node", "inspect", "net-2", "--format", "{{len .Spec.Labels}}"]);
    assert_eq!(labels.trim(), "0", "labels of a host that was removed");
    site.lab.stop().expect("nothing is left");
}

#[test]
fn a_worker_and_the_only_manager_of_a_swarm_get_other_addresses_and_are_what_they_were() {
    let site = Site::start("readdress", 28_653, 1, 2);
    let (manager, worker) = match site.named("net-1").pointer("/status/swarm/role") {
        Some(role) if role == "manager" => ("net-1", "net-2"),
        _ => ("net-2", "net-1"),
    };
    let (leads, works) = (format!("{manager} Ready Leader"), format!("{worker} Ready"));
    let mut expected = [leads.as_str(), works.as_str()];
    expected.sort_unstable();
    let first = site.named(manager);
    site.host(&["label", worker, "rack=b"]);
    site.docker(&first, &["node", "update", "--label-add", "disk=ssd", worker]);
    site.host(&["cordon", worker]);
    let is_as_before = |witness: &Value| {
        let format = "{{.Spec.Labels.rack}} {{.Spec.Labels.disk}} {{.Spec.Availability}}";
        let told = site.docker(witness, &["node", "inspect", worker, "--format", format]);
        assert_eq!(told.trim(), "b ssd pause");
    };
    is_as_before(&first);

    let there = |name: &str, address: &str| {
        site.wait(&format!("{name} to be a node at {address}"), name, |host| {
            let node = &host["status"]["swarm"];
            host["status"]["address"] == address
                && node["address"] == address
                && node["ready"] == true
                && host["status"]["operation"].is_null()
        })
    };
    let before = site.named(worker);
    let address = site.readdress(&before);
    let moved = there(worker, &address);
    assert_ne!(moved["status"]["swarm"]["node"], before["status"]["swarm"]["node"], "it has joined anew");
    is_as_before(&first);
    site.wait_nodes(&first, &expected);

    let address = site.readdress(&first);
    let moved = there(manager, &address);
    assert_eq!(moved["status"]["swarm"]["node"], first["status"]["swarm"]["node"], "it knows what it knew");
    let looked_for = ["node", "inspect", "self", "--format", "{{.ManagerStatus.Addr}}"];
    assert_eq!(
        site.docker(&moved, &looked_for).trim(),
        format!("{address}:2377"),
        "other managers would join"
    );
    is_as_before(&moved);
    site.lab.stop().expect("nothing is left");
}

#[test]
fn one_of_three_swarm_managers_gets_another_address_and_is_a_manager_again() {
    let site = Site::start("readdress3", 28_663, 3, 3);
    let leads = |host: &Value| host["status"]["swarm"]["leader"] == true;
    let (leader, others): (Vec<Value>, Vec<Value>) = site.hosts().into_iter().partition(leads);
    let (moves, witness) = (&leader[0], &others[0]);
    let name = text(moves, "/metadata/name");
    let address = site.readdress(moves);
    let moved = site.wait("the manager to be one again", &name, |host| {
        let node = &host["status"]["swarm"];
        node["address"] == address.as_str() && node["role"] == "manager" && is_active(host)
    });
    assert_ne!(moved["status"]["swarm"]["node"], moves["status"]["swarm"]["node"], "it has joined anew");
    let nodes = site.nodes(witness).expect("lists");
    let agree =
        nodes.iter().filter(|node| node.ends_with("Ready Reachable") || node.ends_with("Ready Leader"));
    assert_eq!((nodes.len(), agree.count()), (3, 3), "{nodes:?}");
    site.lab.stop().expect("nothing is left");
}
