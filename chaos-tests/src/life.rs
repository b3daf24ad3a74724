//! The life of an environment with five hosts, stage by stage, with the leading manager killed on the way.
//!
//! Each stage does one thing as a user would. Afterwards it is counted with other means what there is: names of hosts,
//! nodes of the swarm, engines, agents, namespaces, networks, services. Whatever a killed leader left half done, or its
//! successor did a second time, is one too few or one too many there.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::alter;
use crate::lab::Lab;
use crate::steps::{self, Kill, Place};
use crate::story;

const ENVIRONMENT: &str = "prod";

/// What the template of the environment asks for.
const SWARM_MANAGERS: usize = 3;

const STACK: &str = "whoami";

/// One thing that is done.
pub struct Stage {
    /// What happens.
    pub title: &'static str,
    /// Hosts are broken on purpose: then some operations fail for a good reason, and others bring it about later.
    breaks_hosts: bool,
    /// Later stages do not need it.
    pub stands_alone: bool,
    act: fn(&mut Life<'_>) -> Result<()>,
}

impl Stage {
    const fn new(title: &'static str, act: fn(&mut Life<'_>) -> Result<()>) -> Stage {
        Stage { title, breaks_hosts: false, stands_alone: false, act }
    }

    const fn breaking_hosts(self) -> Stage {
        Stage { breaks_hosts: true, ..self }
    }

    const fn standing_alone(self) -> Stage {
        Stage { stands_alone: true, ..self }
    }
}

/// All of them, in an order in which each finds what it needs.
pub const STAGES: &[Stage] = &[
    Stage::new("an environment with five hosts", create),
    Stage::new("a sixth host", grow),
    Stage::new("a label for a host", label).standing_alone(),
    Stage::new("a host's network checked", check).standing_alone(),
    Stage::new("a stack", deploy),
    Stage::new("a host evacuated and back", evacuate),
    Stage::new("an environment at rest and back", rest).standing_alone(),
    Stage::new("a host on another machine", reprovision).standing_alone(),
    Stage::new("a host in another one's place", replace).standing_alone(),
    Stage::new("tasks spread after a host has come", rebalance).standing_alone(),
    Stage::new("a new password for a registry", log_in).standing_alone(),
    Stage::new("no stack", undeploy),
    Stage::new("networks for smaller packets", narrow).standing_alone(),
    Stage::new("a machine with another address", readdress).standing_alone(),
    Stage::new("another version of every engine", upgrade).standing_alone(),
    Stage::new("every key of a locked swarm replaced", rotate).standing_alone(),
    Stage::new("a locked manager that starts anew", unlock).breaking_hosts().standing_alone(),
    Stage::new("a swarm manager removed", shrink),
    Stage::new("the swarm rescued after its majority was lost", rescue).breaking_hosts().standing_alone(),
    Stage::new("the swarm restored after all managers were lost", restore).breaking_hosts().standing_alone(),
    Stage::new("a machine that its driver cannot remove at first", leave_behind)
        .breaking_hosts()
        .standing_alone(),
    Stage::new("nothing is left", remove),
];

/// An environment that is lived through.
pub struct Life<'a> {
    lab: &'a Lab,
    files: tempfile::TempDir,
    /// The hosts that are wished at present, by name.
    hosts: BTreeSet<String>,
    stacks: BTreeSet<String>,
}

impl<'a> Life<'a> {
    /// Nothing is there yet.
    pub fn new(lab: &'a Lab) -> Result<Life<'a>> {
        let files = tempfile::tempdir().context("making a folder")?;
        Ok(Life { lab, files, hosts: BTreeSet::new(), stacks: BTreeSet::new() })
    }

    /// Lives through one stage, kills the leader at the first step that is wanted, and counts what there is.
    pub fn live(&mut self, stage: &Stage, wanted: impl Fn(&Place) -> bool + Send) -> Result<Option<Kill>> {
        let lab = self.lab;
        let before: BTreeSet<String> = ids(&steps::operations(lab)?);
        let killed = steps::with_kill(lab, wanted, || (stage.act)(self))?;
        let outcome = self.verify(stage, &before);
        let after = || killed.as_ref().map_or_else(|| "nobody killed".to_owned(), Kill::to_string);
        outcome.with_context(|| format!("stage '{}', {}", stage.title, after()))?;
        Ok(killed)
    }

    fn verify(&self, stage: &Stage, before: &BTreeSet<String>) -> Result<()> {
        self.lab.wait_for("everything to be as it is wished", || {
            self.counted()?;
            Ok(Some(()))
        })?;
        steps::nobody_works(self.lab)?;
        let new =
            steps::operations(self.lab)?.into_iter().filter(|operation| !before.contains(&id_of(operation)));
        let failed: Vec<Value> = new.filter(|operation| operation["state"] != "succeeded").collect();
        let told: Vec<String> = failed.iter().map(steps::told).collect();
        ensure!(
            stage.breaks_hosts || failed.is_empty(),
            "nothing was wrong with the hosts, and yet: {told:?}"
        );
        Ok(())
    }

    /// Everything once, and nothing besides.
    fn counted(&self) -> Result<()> {
        let wished = self.hosts.len();
        for (what, count) in [
            ("engines", self.lab.engines()),
            ("agents", self.lab.agents()),
            ("namespaces", self.lab.namespaces()),
        ] {
            ensure!(count == wished, "{count} {what} for {wished} hosts");
        }
        if self.hosts.is_empty() {
            let left = self.lab.json(&["env", "ls"])?;
            ensure!(left["items"].as_array().is_some_and(Vec::is_empty), "there is still {left}");
            return Ok(());
        }
        let listed = self.listed()?;
        same("hosts", listed.iter().map(name_of), &self.hosts)?;
        let other = listed.iter().find(|host| host["status"]["state"] != "active");
        ensure!(
            other.is_none(),
            "{} is {}",
            other.map(name_of).unwrap_or_default(),
            other.unwrap_or(&Value::Null)["status"]
        );
        let witness = self.swarm_manager()?;
        self.nodes(&witness)?;
        self.networks_and_services(&witness)
    }

    /// What a swarm manager says about the nodes: `name status part`.
    fn nodes(&self, witness: &str) -> Result<()> {
        let format = "{{.Hostname}} {{.Status}} {{.ManagerStatus}}";
        let told = self.lab.docker(witness, &["node", "ls", "--format", format])?;
        let lines: Vec<&str> = told.lines().map(str::trim).collect();
        let names = lines.iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned());
        same("nodes", names, &self.hosts)?;
        let ready = lines.iter().filter(|line| line.contains(" Ready")).count();
        let leading = lines.iter().filter(|line| line.ends_with("Leader")).count();
        let managing = leading + lines.iter().filter(|line| line.ends_with("Reachable")).count();
        let wanted = SWARM_MANAGERS.min(self.hosts.len());
        ensure!(
            (ready, leading, managing) == (self.hosts.len(), 1, wanted),
            "{wanted} managers and {} ready nodes are wished, and docker node ls shows:\n{told}",
            self.hosts.len()
        );
        Ok(())
    }

    fn networks_and_services(&self, witness: &str) -> Result<()> {
        let networks = ["network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}}"];
        let networks = self.lab.docker(witness, &networks)?;
        let wished = self.stacks.iter().map(|stack| format!("{stack}_{stack}")).chain(["ingress".to_owned()]);
        same("networks", networks.lines().map(str::to_owned), &wished.collect())?;
        let services = self.lab.docker(witness, &["service", "ls", "--format", "{{.Name}} {{.Replicas}}"])?;
        let wished = self.stacks.iter().map(|stack| format!("{stack}_{stack} 3/3"));
        same("services", services.lines().map(str::to_owned), &wished.collect())
    }

    fn listed(&self) -> Result<Vec<Value>> {
        let listed = self.lab.json(&["host", "ls", "-e", ENVIRONMENT])?;
        Ok(listed["items"].as_array().cloned().unwrap_or_default())
    }

    fn host(&self, name: &str) -> Result<Value> {
        let found = self.listed()?.into_iter().find(|host| name_of(host) == name);
        found.with_context(|| format!("{name} is not listed"))
    }

    /// Some host that is a swarm manager by its own engine's word.
    fn swarm_manager(&self) -> Result<String> {
        self.swarm_managers()?.into_iter().next().map(|(_, id)| id).context("no host is a swarm manager")
    }

    /// Names and ids of those that are.
    fn swarm_managers(&self) -> Result<Vec<(String, String)>> {
        let asked = ["info", "--format", "{{.Swarm.ControlAvailable}}"];
        let manages =
            |host: &Value| self.lab.docker(&host_id(host), &asked).is_ok_and(|told| told.trim() == "true");
        let all = self.listed()?;
        Ok(all.iter().filter(|host| manages(host)).map(|host| (name_of(host), host_id(host))).collect())
    }

    fn skep(&self, arguments: &[&str]) -> Result<()> {
        self.lab.succeed(&[arguments, &["-e", ENVIRONMENT]].concat()).map(drop)
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.display().to_string())
    }

    fn becomes(&self, host: &str, state: &str) -> Result<()> {
        self.lab.wait_for(&format!("{host} to be {state}"), || {
            Ok((self.host(host)?["status"]["state"] == state).then_some(()))
        })
    }

    /// How many operations of this workflow have come to a good end so far.
    fn succeeded(&self, workflow: &str) -> Result<usize> {
        let done = |operation: &&Value| operation["type"] == workflow && operation["state"] == "succeeded";
        Ok(steps::operations(self.lab)?.iter().filter(done).count())
    }

    fn lock(&self, on_or_off: &str) -> Result<()> {
        self.lab.succeed(&["env", "update", ENVIRONMENT, "--autolock", on_or_off]).map(drop)
    }

    fn add(&mut self, names: &[&str]) -> Result<()> {
        self.hosts.extend(names.iter().map(|name| (*name).to_owned()));
        self.skep(&[&["host", "create", "--driver", "local"], names].concat())
    }

    fn take_out(&mut self, names: &[&str]) -> Result<()> {
        self.hosts.retain(|host| !names.contains(&host.as_str()));
        self.skep(&[&["host", "rm", "-y"], names].concat())
    }
}

fn create(life: &mut Life<'_>) -> Result<()> {
    life.hosts = (1..=5).map(|number| format!("{ENVIRONMENT}-{number}")).collect();
    let create = ["env", "create", ENVIRONMENT, "--template", "default", "--hosts", "5", "--driver", "local"];
    life.lab.succeed(&create).map(drop)
}

fn grow(life: &mut Life<'_>) -> Result<()> {
    life.add(&["prod-6"])
}

fn label(life: &mut Life<'_>) -> Result<()> {
    life.skep(&["host", "label", "prod-6", "rack=b"])?;
    life.lab.wait_for("the label on the node", || {
        let inspect = ["node", "inspect", "prod-6", "--format", "{{.Spec.Labels.rack}}"];
        Ok((life.lab.docker(&life.swarm_manager()?, &inspect)?.trim() == "b").then_some(()))
    })
}

fn deploy(life: &mut Life<'_>) -> Result<()> {
    let archive = life.files.path().join("image.tar");
    story::build_root_file_system(life.files.path(), &archive)?;
    life.skep(&["image", "load", &archive.display().to_string(), "--import", "skep-demo/busybox:1"])?;
    let recipe = life.file("whoami.yml", include_str!("../../examples/whoami/compose.yml"))?;
    life.stacks.insert(STACK.to_owned());
    life.skep(&["up", "-f", &recipe, "--stack", STACK])
}

fn evacuate(life: &mut Life<'_>) -> Result<()> {
    life.skep(&["host", "evacuate", "prod-2"])?;
    let left = life.lab.docker(&host_id(&life.host("prod-2")?), &["ps", "--quiet"])?;
    ensure!(left.trim().is_empty(), "the command has ended, and containers still run: {left}");
    life.skep(&["host", "uncordon", "prod-2"])
}

fn check(life: &mut Life<'_>) -> Result<()> {
    life.skep(&["host", "check", "prod-6"])
}

fn rest(life: &mut Life<'_>) -> Result<()> {
    life.lab.succeed(&["env", "pause", ENVIRONMENT, "--yes"])?;
    for host in life.listed()? {
        let left = life.lab.docker(&host_id(&host), &["ps", "--quiet"])?;
        ensure!(left.trim().is_empty(), "it rests, and containers run on {}: {left}", name_of(&host));
    }
    life.lab.succeed(&["env", "activate", ENVIRONMENT]).map(drop)
}

fn reprovision(life: &mut Life<'_>) -> Result<()> {
    let node = |life: &Life<'_>| Ok(life.host("prod-4")?["status"]["swarm"]["node"].clone());
    let before: Result<Value> = node(life);
    life.skep(&["host", "reprovision", "prod-4", "-y"])?;
    ensure!(before? != node(life)?, "prod-4 is the node that it was");
    Ok(())
}

fn replace(life: &mut Life<'_>) -> Result<()> {
    life.hosts.remove("prod-5");
    life.hosts.insert("prod-9".to_owned());
    life.skep(&["host", "replace", "prod-5", "--with", "prod-9", "-y"])
}

/// Where tasks are to be spread, that is begun when all has been calm for a while.
fn rebalance(life: &mut Life<'_>) -> Result<()> {
    let wish = |wish: &str| life.lab.succeed(&["env", "update", ENVIRONMENT, "--rebalance", wish]).map(drop);
    wish("on")?;
    let before = life.succeeded("rebalance-swarm")?;
    life.skep(&["host", "create", "prod-11", "--driver", "local"])?;
    life.hosts.insert("prod-11".to_owned());
    life.lab
        .wait_for("tasks to be spread", || Ok((life.succeeded("rebalance-swarm")? > before).then_some(())))?;
    wish("off")?;
    life.take_out(&["prod-11"])
}

/// The image is on the hosts already, so no registry is asked: what is looked at is the login, which a service carries along.
fn log_in(life: &mut Life<'_>) -> Result<()> {
    const SERVER: &str = "registry.example:5000";
    let archive = life.files.path().join("registry-image.tar");
    story::build_root_file_system(life.files.path(), &archive)?;
    let image = format!("{SERVER}/app:1");
    life.skep(&["image", "load", &archive.display().to_string(), "--import", &image])?;
    let log_in = |password: &str| {
        let password = life.file("password", password)?;
        let login = ["registry", "login", SERVER, "--user", "ci", "--password-file", &password];
        life.skep(&[&login[..], &["--no-check"]].concat())
    };
    log_in("first")?;
    let recipe = format!(
        "services: {{app: {{image: '{image}', command: [sleep, '100000'], stop_grace_period: 1s}}}}\n"
    );
    let recipe = life.file("app.yml", &recipe)?;
    life.skep(&["up", "-f", &recipe, "--stack", "app"])?;
    let before = life.succeeded("give-logins")?;
    log_in("second")?;
    life.lab.wait_for("the service to have the new login", || {
        Ok((life.succeeded("give-logins")? > before).then_some(()))
    })?;
    life.skep(&["stack", "rm", "app", "-y"])?;
    life.skep(&["registry", "logout", SERVER])
}

fn readdress(life: &mut Life<'_>) -> Result<()> {
    let address = alter::readdress(&life.host("prod-6")?)?;
    life.lab.wait_for("prod-6 to be a node at its new address", || {
        let host = life.host("prod-6")?;
        let node = &host["status"]["swarm"];
        Ok((node["address"] == *address && node["ready"] == true && host["status"]["operation"].is_null())
            .then_some(()))
    })
}

fn upgrade(life: &mut Life<'_>) -> Result<()> {
    let version = |life: &Life<'_>| {
        let version =
            life.lab.docker(&life.swarm_manager()?, &["version", "--format", "{{.Server.Version}}"]);
        version.map(|version| version.trim().to_owned())
    };
    let (next, _) = alter::next_engine(life.lab, &version(life)?)?;
    life.lab.succeed(&["env", "upgrade", ENVIRONMENT, "--to", &next])?;
    ensure!(version(life)? == next, "the engine is what it was");
    Ok(())
}

fn undeploy(life: &mut Life<'_>) -> Result<()> {
    life.stacks.remove(STACK);
    life.skep(&["stack", "rm", STACK, "-y"])
}

fn shrink(life: &mut Life<'_>) -> Result<()> {
    let managers = life.swarm_managers()?;
    let (name, _) = managers.last().context("no host is a swarm manager")?;
    life.take_out(&[name.as_str()])
}

fn narrow(life: &mut Life<'_>) -> Result<()> {
    life.lab.succeed(&["env", "update", ENVIRONMENT, "--mtu", "1380"])?;
    let option = "{{index .Options \"com.docker.network.driver.mtu\"}}";
    let inspect = ["network", "inspect", "ingress", "--format", option];
    life.lab.wait_for("the ingress network to be made for them", || {
        Ok((life.lab.docker(&life.swarm_manager()?, &inspect)?.trim() == "1380").then_some(()))
    })
}

fn rotate(life: &mut Life<'_>) -> Result<()> {
    let keys = |life: &Life<'_>| {
        let manager = life.swarm_manager()?;
        let asked: [&[&str]; 3] =
            [&["swarm", "join-token", "-q", "worker"], &["swarm", "ca"], &["swarm", "unlock-key", "-q"]];
        asked.iter().map(|asked| life.lab.docker(&manager, asked)).collect::<Result<Vec<_>>>()
    };
    life.lock("on")?;
    let before = keys(life)?;
    for rotate in ["rotate-tokens", "rotate-ca", "rotate-unlock-key"] {
        life.lab.succeed(&["env", rotate, ENVIRONMENT])?;
    }
    let after = keys(life)?;
    ensure!(before.iter().zip(&after).all(|(before, after)| before != after), "a key is what it was");
    life.lock("off")
}

fn unlock(life: &mut Life<'_>) -> Result<()> {
    life.lock("on")?;
    let managers = life.swarm_managers()?;
    let (_, id) = managers.last().context("no host is a swarm manager")?;
    life.lab.sigkill_engine(id)?;
    life.lab.switch_on(id)?;
    life.lab.wait_for("the manager to be one again", || {
        Ok(life.swarm_managers()?.iter().any(|(_, manager)| manager == id).then_some(()))
    })?;
    life.lock("off")
}

/// The engines of two of three swarm managers end, and stay dead.
fn rescue(life: &mut Life<'_>) -> Result<()> {
    let managers = life.swarm_managers()?;
    let [(survivor, _), lost @ ..] = managers.as_slice() else { bail!("no host is a swarm manager") };
    for (name, id) in lost {
        life.lab.sigkill_engine(id)?;
        life.becomes(name, "engine-down")?;
    }
    life.skep(&["env", "rescue", ENVIRONMENT, "--from", survivor, "--confirm", ENVIRONMENT])?;
    let lost: Vec<&str> = lost.iter().map(|(name, _)| name.as_str()).collect();
    life.take_out(&lost)?;
    life.add(&["prod-7", "prod-8"])
}

/// The machines of all swarm managers are lost. What the backup does not know is who has come since; nobody has.
fn restore(life: &mut Life<'_>) -> Result<()> {
    let file = |name: &str| life.files.path().join(name).display().to_string();
    let (key, backup) = (file("recovery-key"), file("swarm-state"));
    life.lab.succeed(&["snapshot", "new-key", &key])?;
    life.lab.succeed(&["env", "backup", ENVIRONMENT, &backup])?;
    let managers = life.swarm_managers()?;
    for (name, id) in &managers {
        life.lab.switch_off(id)?;
        life.becomes(name, "unreachable")?;
    }
    life.hosts.insert("prod-10".to_owned());
    life.skep(&["host", "create", "prod-10", "--driver", "local", "--detach"])?;
    life.becomes("prod-10", "joining")?;
    let restore = ["env", "restore", ENVIRONMENT, &backup, "--to", "prod-10", "--recovery-key-file", &key];
    life.lab.succeed(&[&restore[..], &["--confirm", ENVIRONMENT]].concat())?;
    let lost: Vec<&str> = managers.iter().map(|(name, _)| name.as_str()).collect();
    life.take_out(&lost)
}

/// An environment of its own goes, though the driver cannot read what it wrote about the machine; the machine goes when
/// it can.
fn leave_behind(life: &mut Life<'_>) -> Result<()> {
    const NAME: &str = "spare";
    let create = ["env", "create", NAME, "--template", "single", "--hosts", "1", "--driver", "local"];
    life.lab.succeed(&create)?;
    let listed = life.lab.json(&["host", "ls", "-e", NAME])?;
    let folder = life.lab.host_folder(&host_id(&listed["items"][0]))?;
    let claim = folder.join("machine.json");
    let written = std::fs::read(&claim).with_context(|| format!("reading {}", claim.display()))?;
    std::fs::write(&claim, "{").with_context(|| format!("damaging {}", claim.display()))?;
    let removed = life.lab.skep(&["env", "rm", NAME, "--confirm", NAME])?;
    ensure!(removed.stderr.contains("left behind"), "what is left is told: {removed:?}");
    std::fs::write(&claim, written).with_context(|| format!("mending {}", claim.display()))?;
    life.lab.wait_for("the machine to go", || Ok((!folder.exists()).then_some(())))
}

fn remove(life: &mut Life<'_>) -> Result<()> {
    life.hosts.clear();
    life.lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).map(drop)
}

fn same(what: &str, found: impl Iterator<Item = String>, wished: &BTreeSet<String>) -> Result<()> {
    // As a list: a set would hide what is there twice.
    let mut found: Vec<String> = found.collect();
    found.sort();
    ensure!(found.iter().eq(wished), "{what}: {wished:?} are wished, there are {found:?}");
    Ok(())
}

fn ids(operations: &[Value]) -> BTreeSet<String> {
    operations.iter().map(id_of).collect()
}

fn id_of(operation: &Value) -> String {
    operation["id"].as_str().unwrap_or_default().to_owned()
}

fn name_of(host: &Value) -> String {
    host["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn host_id(host: &Value) -> String {
    host["metadata"]["id"].as_str().unwrap_or_default().to_owned()
}
