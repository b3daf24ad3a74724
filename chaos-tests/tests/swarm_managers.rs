//! The swarm's managers and its hosts are kept as wished although machines die, and nobody has to ask for it. What the
//! command line says is checked with `docker`.

use std::time::Instant;

use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish};

const ENVIRONMENT: &str = "prod";

fn hosts(lab: &Lab) -> Vec<Value> {
    let listed = lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
    listed["items"].as_array().cloned().unwrap_or_default()
}

fn find<'a>(hosts: &'a [Value], name: &str) -> Option<&'a Value> {
    hosts.iter().find(|host| host["metadata"]["name"] == name)
}

fn id<'a>(hosts: &'a [Value], name: &str) -> &'a str {
    find(hosts, name).expect("is listed")["metadata"]["id"].as_str().expect("has an id")
}

/// Every node of the swarm with its state and its part, as `docker node ls` has it, in order.
fn nodes(lab: &Lab, witness: &str) -> Vec<String> {
    let format = "{{.Hostname}} {{.Status}} {{.ManagerStatus}}";
    // While managers elect a leader, nobody answers.
    let listed = lab.docker(witness, &["node", "ls", "--format", format]).unwrap_or_default();
    // Which of them leads is the swarm's own business.
    let mut nodes: Vec<String> =
        listed.lines().map(|line| line.trim().replace("Leader", "Reachable")).collect();
    nodes.sort();
    nodes
}

fn wait_for_nodes(lab: &Lab, witness: &str, wanted: &[&str]) {
    let begun = Instant::now();
    let mut seen = vec![];
    let waited = lab.wait_for("the nodes to be as wished", || {
        seen = nodes(lab, witness);
        Ok((seen == wanted).then_some(()))
    });
    waited.unwrap_or_else(|error| {
        let operations = lab.succeed(&["op", "ls"]).unwrap_or_else(|error| format!("{error:#}"));
        panic!("{error:#}: {seen:#?} instead of {wanted:#?}\n{operations}")
    });
    println!("{wanted:?} after {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn a_dead_swarm_manager_is_replaced_by_a_worker_and_where_that_is_wished_by_a_new_machine() {
    let lab = Lab::start(&Wish::new("keepers", 1, 28_743).expect("a wish")).expect("a manager starts");
    let create = ["env", "create", ENVIRONMENT, "-t", "default", "--hosts", "4", "--driver", "local"];
    lab.succeed(&[&create[..], &["--manager-patience", "10s"]].concat()).expect("four hosts");
    let before = hosts(&lab);
    let is_manager = |host: &&Value| host["status"]["swarm"]["role"] == "manager";
    let name = |host: &Value| host["metadata"]["name"].as_str().expect("has a name").to_owned();
    let managers: Vec<String> = before.iter().filter(is_manager).map(name).collect();
    let workers: Vec<String> = before.iter().filter(|host| !is_manager(host)).map(name).collect();
    assert_eq!((managers.len(), workers.len()), (3, 1), "{managers:?} {workers:?}");
    let (dead, spare, witness) = (&managers[0], &workers[0], id(&before, &managers[1]));

    lab.switch_off(id(&before, dead)).expect("a machine loses power");
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let as_lines = |dead_is: &str| {
        let mut lines = vec![format!("{dead} {dead_is}"), format!("{spare} Ready Reachable")];
        lines.extend(managers[1..].iter().map(|name| format!("{name} Ready Reachable")));
        sorted(lines)
    };
    let wanted = as_lines("Down");
    wait_for_nodes(&lab, witness, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    let operations = lab.json(&["op", "ls"]).expect("lists the operations");
    let reasons: Vec<&str> = operations["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|operation| operation["reason"].as_str())
        .collect();
    let because = format!("host {dead}, a manager of the swarm, is ");
    assert!(reasons.iter().any(|reason| reason.starts_with(&because)), "{reasons:?}");

    lab.switch_on(id(&before, dead)).expect("it has power again");
    let wanted = as_lines("Ready");
    wait_for_nodes(&lab, witness, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    lab.wait_for("the environment to be active", || {
        let environment = lab.json(&["env", "inspect", ENVIRONMENT])?;
        Ok((environment["status"]["state"] == "active").then_some(()))
    })
    .expect("all is well");

    lab.succeed(&["env", "update", ENVIRONMENT, "--host-patience", "10s"]).expect("is wished");
    let lost = &managers[2];
    lab.switch_off(id(&before, lost)).expect("another machine loses power, for ever");
    let wanted = sorted(vec![
        format!("{dead} Ready Reachable"),
        format!("{} Ready Reachable", managers[1]),
        format!("{spare} Ready Reachable"),
        // It has its place and none of its tasks: the next number is free.
        "prod-5 Ready".to_owned(),
    ]);
    wait_for_nodes(&lab, witness, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    lab.wait_for("the lost machine to be given back", || {
        let gone = find(&hosts(&lab), lost).is_none();
        Ok((gone && (lab.engines(), lab.namespaces()) == (4, 4)).then_some(()))
    })
    .expect("nothing is left of it, and one machine was made");

    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    lab.stop().expect("nothing is left");
}
