//! The main job, end to end, stage by stage: what the demo tells and the end-to-end test insists on.
//!
//! Each stage does something the way a user would and then verifies it with other means. Stages that only measure are
//! told by the demo and left out of the test, because a busy machine is no bug.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::{LOGGED, Lab, Wish, ran};
use crate::speed::{self, Took};

/// The environment that the story is about.
const ENVIRONMENT: &str = "prod";

/// Kills of the leader for the median.
const KILLS: usize = 5;

/// Rounds of the comparison with a script, alternating.
const ROUNDS: usize = 3;

/// In each of them.
const HOSTS: usize = 3;

/// One stage of the story.
pub struct Stage {
    /// What happens.
    pub title: &'static str,
    /// Does it only measure?
    pub measures: bool,
    /// Does it, verifies it, and says what was seen.
    pub tell: fn(&mut Story) -> Result<String>,
}

/// The whole story, in order.
pub const STAGES: &[Stage] = &[
    Stage { title: "three managers elect a leader", measures: false, tell: elect },
    Stage {
        title: "an environment with three hosts; the leader is killed meanwhile",
        measures: false,
        tell: provision,
    },
    Stage {
        title: "the hosts are one swarm of three managers, each made once",
        measures: false,
        tell: verify_swarm,
    },
    Stage { title: "an image is loaded into every host", measures: false, tell: load_image },
    Stage { title: "a recipe with three replicas runs and answers", measures: false, tell: deploy },
    Stage { title: "every replica tells the same state", measures: false, tell: read_everywhere },
    Stage { title: "a host is evacuated and takes tasks again", measures: false, tell: evacuate },
    Stage { title: "a host is removed and the swarm goes on", measures: false, tell: remove_host },
    Stage { title: "a manager's memory", measures: true, tell: memory },
    Stage { title: "leader killed, until the next accepted write", measures: true, tell: failover },
    Stage { title: "the environment is removed and nothing is left", measures: false, tell: remove },
    Stage {
        title: "three hosts in a swarm, against a script doing it by hand",
        measures: true,
        tell: compare,
    },
];

/// A story being told.
pub struct Story {
    lab: Lab,
    files: tempfile::TempDir,
    writes: usize,
}

impl Story {
    /// Starts the cluster that the story is told with.
    pub fn begin(name: &str, port: u16) -> Result<Story> {
        let files = tempfile::tempdir().context("making a folder")?;
        Ok(Story { lab: Lab::start(&Wish { log: LOGGED, ..Wish::new(name, 3, port)? })?, files, writes: 0 })
    }

    /// The cluster.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Stops the cluster and insists that nothing is left.
    pub fn end(self) -> Result<()> {
        self.lab.stop()
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// A small write through the command line; how long it took until it was accepted.
    fn write(&mut self) -> Result<Duration> {
        self.writes += 1;
        let name = format!("probe-{}", self.writes);
        let file = self.file("template.yml", &format!("name: {name}\nswarm: {{managers: 1}}\n"))?;
        let since = Instant::now();
        self.lab.succeed(&["template", "import", &file.display().to_string()])?;
        Ok(since.elapsed())
    }

    fn hosts(&self, environment: &str) -> Result<Vec<Value>> {
        let listed = self.lab.json(&["host", "ls", "-e", environment])?;
        Ok(listed["items"].as_array().cloned().unwrap_or_default())
    }

    fn operations(&self, kind: &str) -> Result<Vec<Value>> {
        let listed = self.lab.json(&["op", "ls"])?;
        let all = listed["items"].as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().filter(|operation| operation["type"] == kind).collect())
    }
}

fn elect(story: &mut Story) -> Result<String> {
    let leader = story.lab.leader()?;
    let status = story.lab.json(&["cluster", "status"])?;
    ensure!(status["voters"] == 3, "there are {} voters", status["voters"]);
    story.write()?;
    Ok(format!("{leader} leads; {} may fail", status["failure_tolerance"]))
}

fn provision(story: &mut Story) -> Result<String> {
    let create = ["env", "create", ENVIRONMENT, "--template", "default", "--hosts", "3", "--driver", "local"];
    let mut creating = story.lab.spawn(&create)?;
    // In the middle: a machine was asked for, and not everything is done.
    story.lab.wait_for("the provisioning to be under way", || {
        let begun = |operation: &Value| operation["steps"][0]["attempt"].as_u64() > Some(0);
        Ok(story.operations("create-host")?.iter().any(begun).then_some(()))
    })?;
    let leader = story.lab.leader()?;
    ensure!(creating.try_wait()?.is_none(), "the environment was there before the leader could be killed");
    story.lab.sigkill(&leader)?;
    let accepted = story.write()?;
    finished(creating)?;
    let mut owners: Vec<String> = vec![];
    for operation in story.operations("create-host")?.iter().chain(&story.operations("form-swarm")?) {
        let by = operation["attempts_by_node"].as_object().into_iter().flatten();
        owners.extend(by.map(|(node, _)| node.clone()));
    }
    owners.sort();
    owners.dedup();
    ensure!(owners.iter().any(|owner| *owner != leader), "only {leader} has worked: {owners:?}");
    Ok(format!(
        "{leader} was killed, the next write was accepted after {}; worked on by {}",
        seconds(accepted),
        owners.join(", ")
    ))
}

fn finished(mut child: Child) -> Result<()> {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).context("reading what the client said")?;
    }
    let status = child.wait().context("waiting for the client")?;
    ensure!(status.success(), "the client ended with {status}: {said}");
    Ok(())
}

fn verify_swarm(story: &mut Story) -> Result<String> {
    let hosts = story.hosts(ENVIRONMENT)?;
    ensure!(hosts.len() == 3, "{} hosts are listed", hosts.len());
    let witness = id(&hosts[0])?;
    let format = "{{.Hostname}} {{.Status}} {{.ManagerStatus}}";
    let listed = story.lab.docker(witness, &["node", "ls", "--format", format])?;
    let nodes: Vec<_> = listed.lines().collect();
    let managers = nodes
        .iter()
        .filter(|line| line.contains("Ready") && (line.ends_with("Leader") || line.ends_with("Reachable")));
    ensure!(nodes.len() == 3 && managers.count() == 3, "docker node ls shows:\n{listed}");
    ensure!(story.lab.engines() == 3, "{} engines run, three were wished", story.lab.engines());
    for operation in story.operations("create-host")? {
        ensure!(operation["state"] == "succeeded", "{} {}", operation["target"], operation["state"]);
    }
    Ok("docker node ls: three managers Ready; three engines run".to_owned())
}

fn load_image(story: &mut Story) -> Result<String> {
    let archive = story.files.path().join("image.tar");
    build_root_file_system(story.files.path(), &archive)?;
    let archive = archive.display().to_string();
    story.lab.succeed(&["image", "load", &archive, "--import", "skep-demo/busybox:1", "-e", ENVIRONMENT])?;
    for host in story.hosts(ENVIRONMENT)? {
        let listed =
            story.lab.docker(id(&host)?, &["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])?;
        ensure!(listed.contains("skep-demo/busybox:1"), "{} has only: {listed}", host["metadata"]["name"]);
    }
    Ok("skep-demo/busybox:1 on three hosts".into())
}

/// A small root file system of Debian's `busybox-static`: no registry is needed.
pub(crate) fn build_root_file_system(folder: &std::path::Path, archive: &std::path::Path) -> Result<()> {
    let script = r#"set -eu
cd "$1"; mkdir -p root/bin root/www root/tmp
cp "$(command -v busybox)" root/bin/busybox
for applet in sh httpd sleep nc cat ls ip echo hostname; do ln -sf busybox "root/bin/$applet"; done
tar -C root -cf "$2" ."#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(folder).arg(archive);
    let built = ran(command)?;
    ensure!(built.code == 0, "building the image's files: {}", built.stderr);
    Ok(())
}

fn deploy(story: &mut Story) -> Result<String> {
    let recipe = story.file("whoami.yml", include_str!("../../examples/whoami/compose.yml"))?;
    let recipe = recipe.display().to_string();
    story.lab.succeed(&["up", "-f", &recipe, "--stack", "whoami", "-e", ENVIRONMENT])?;
    let mut answers: Vec<String> = vec![];
    for host in story.hosts(ENVIRONMENT)? {
        let address = host["status"]["address"].as_str().context("a host without an address")?;
        let answer = story.lab.wait_for("an answer over HTTP", || Ok(get(address, 8080).ok()))?;
        answers.push(answer);
    }
    answers.sort();
    answers.dedup();
    ensure!(answers.len() == 3, "three replicas should answer, each with its own name: {answers:?}");
    let tasks = story.lab.json(&["ps", "whoami", "-e", ENVIRONMENT])?;
    let running =
        tasks["items"].as_array().into_iter().flatten().filter(|task| task["state"] == "running").count();
    ensure!(running == 3, "{running} tasks run");
    Ok("three replicas on three hosts answer over HTTP, each with its own name".into())
}

fn get(address: &str, port: u16) -> Result<String> {
    let address: SocketAddr = format!("{address}:{port}").parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") && !body.trim().is_empty() => Ok(body.trim().to_owned()),
        _ => bail!("{address} answered: {answer}"),
    }
}

fn read_everywhere(story: &mut Story) -> Result<String> {
    story.lab.all_managers_caught_up()?;
    let urls = story.lab.urls();
    ensure!(urls.len() == 3, "{} managers", urls.len());
    // Agents report meanwhile: what is compared was told of one revision.
    for noun in ["host", "stack"] {
        let list = |url: &String| story.lab.json(&[noun, "ls", "-e", ENVIRONMENT, "--url", url]);
        let told = story.lab.wait_for("an answer of one revision from each manager", || {
            let told = urls.iter().map(list).collect::<Result<Vec<_>>>()?;
            let revision = &told[0]["revision"];
            Ok((revision.is_u64() && told.iter().all(|one| one["revision"] == *revision)).then_some(told))
        })?;
        ensure!(told.iter().all(|one| *one == told[0]), "the managers tell different things: {told:#?}");
    }
    Ok("hosts and stacks are the same on each".into())
}

fn evacuate(story: &mut Story) -> Result<String> {
    let name = format!("{ENVIRONMENT}-2");
    story.lab.succeed(&["host", "label", &name, "rack=b", "-e", ENVIRONMENT])?;
    story.lab.succeed(&["host", "evacuate", &name, "-e", ENVIRONMENT])?;
    let hosts = story.hosts(ENVIRONMENT)?;
    let host = hosts.iter().find(|host| host["metadata"]["name"] == *name).context("the host is gone")?;
    ensure!(host["status"]["state"] == "drained", "it is {}", host["status"]["state"]);
    let left = story.lab.docker(id(host)?, &["ps", "--quiet"])?;
    ensure!(left.trim().is_empty(), "containers still run on {name}: {left}");
    let format = "{{.Spec.Availability}} {{.Spec.Labels.rack}}";
    let node = ["node", "inspect", &name, "--format", format];
    let shown = story.lab.docker(id(&hosts[0])?, &node)?;
    ensure!(shown.trim() == "drain b", "docker node inspect shows: {shown}");
    story.lab.succeed(&["host", "uncordon", &name, "-e", ENVIRONMENT])?;
    let shown = story.lab.docker(id(&hosts[0])?, &node)?;
    ensure!(shown.trim() == "active b", "docker node inspect shows: {shown}");
    Ok(format!("no container was left on {name} while it was drained; it kept its label"))
}

fn remove_host(story: &mut Story) -> Result<String> {
    let name = format!("{ENVIRONMENT}-3");
    story.lab.succeed(&["host", "rm", &name, "-y", "-e", ENVIRONMENT])?;
    let hosts = story.hosts(ENVIRONMENT)?;
    ensure!(
        hosts.len() == 2 && story.lab.engines() == 2,
        "{} hosts, {} engines",
        hosts.len(),
        story.lab.engines()
    );
    let listed = story.lab.docker(id(&hosts[0])?, &["node", "ls", "--format", "{{.Hostname}}"])?;
    ensure!(listed.lines().count() == 2 && !listed.contains(&name), "docker node ls shows:\n{listed}");
    Ok(format!("{name} left the swarm, its machine is gone"))
}

fn memory(story: &mut Story) -> Result<String> {
    let status = story.lab.json(&["cluster", "status"])?;
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let most = members.iter().filter_map(|member| member["resident_bytes"].as_u64()).max();
    let most_mib = most.context("no manager told its memory")? / (1024 * 1024);
    Ok(format!("at most {most_mib} MiB resident (wanted: 80 MiB)"))
}

fn failover(story: &mut Story) -> Result<String> {
    let mut taken = vec![];
    for _ in 0..KILLS {
        story.lab.all_managers_caught_up()?;
        let leader = story.lab.leader()?;
        story.lab.sigkill(&leader)?;
        taken.push(story.write()?);
    }
    story.lab.all_managers_caught_up()?;
    let (median, all) = (median(&taken), each(&taken));
    Ok(format!("median {} of {KILLS} (wanted: 1 s): {all}", seconds(median)))
}

fn remove(story: &mut Story) -> Result<String> {
    story.lab.succeed(&["stack", "rm", "whoami", "-y", "-e", ENVIRONMENT])?;
    story.lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT])?;
    let left = story.lab.json(&["env", "ls"])?;
    ensure!(left["items"].as_array().is_some_and(Vec::is_empty), "still there: {left}");
    ensure!(story.lab.engines() == 0, "{} engines are left", story.lab.engines());
    Ok("no environment, no engine".into())
}

fn compare(story: &mut Story) -> Result<String> {
    let (mut ours, mut theirs) = (vec![], vec![]);
    for round in 0..ROUNDS {
        theirs.push(speed::by_hand(HOSTS)?);
        ours.push(speed::with_skep(&story.lab, &format!("speed-{round}"), HOSTS, || Ok(()))?);
    }
    let all = |took: &[Took]| each(&took.iter().map(|took| took.swarm).collect::<Vec<_>>());
    Ok(format!(
        "skep {} s, script {} s: {:.2} x (wanted: 1.5 x)",
        all(&ours),
        all(&theirs),
        speed::ratio(&ours, &theirs, |took| took.swarm)
    ))
}

fn id(host: &Value) -> Result<&str> {
    host["metadata"]["id"].as_str().context("a host without an id")
}

fn median(taken: &[Duration]) -> Duration {
    let mut sorted = taken.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn each(taken: &[Duration]) -> String {
    taken.iter().map(|one| format!("{:.2}", one.as_secs_f64())).collect::<Vec<_>>().join(" ")
}
