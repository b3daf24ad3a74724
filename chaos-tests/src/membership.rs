//! Managers without hosts, each a `skep server` of its own that was started by hand: for what `skep dev` does not do,
//! which is to change who belongs to the cluster. Needs no root.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Ran, ran, skep};
use crate::process::{self, Access, Process};

/// Where managers listen. Linux gives ports from 32768 on to outgoing connections (`ip_local_port_range`).
const PORTS: Range<u16> = 15_000..32_000;

/// How far apart two processes of one moment begin to look for ports.
const PORTS_PER_PROCESS: u32 = 64;

/// A cluster whose managers come and go. Dropping it ends all of them.
pub struct Managers {
    /// First, so that they have ended when their folders go.
    running: BTreeMap<String, Process>,
    dir: TempDir,
    binary: PathBuf,
    urls: Arc<Mutex<Vec<String>>>,
}

/// A client that writes all the time.
pub struct Writer {
    stop: Arc<AtomicBool>,
    writing: JoinHandle<Result<Vec<String>>>,
}

impl Managers {
    /// Founds a cluster of one manager, `m1`.
    pub fn found() -> Result<Managers> {
        let dir = tempfile::tempdir().context("making a folder")?;
        let mut managers = Managers { dir, binary: skep()?, running: BTreeMap::new(), urls: Arc::default() };
        managers.start("m1", &["--admin-token"])?;
        managers.wait_for("the first manager to answer", |managers| {
            Ok(managers.client(&["cluster", "status", "-q"])?.code.eq(&0).then_some(()))
        })?;
        Ok(managers)
    }

    /// Founds a cluster and lets managers join it until it has so many voters: `m1`, `m2`, …
    pub fn of(count: usize) -> Result<Managers> {
        let mut managers = Managers::found()?;
        let names: Vec<_> = (2..=count).map(|number| format!("m{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        managers.join(&names, "voter")?;
        managers.wait_for_voters(count)?;
        Ok(managers)
    }

    /// Lets managers join with one token.
    pub fn join(&mut self, names: &[&str], role: &str) -> Result<()> {
        let uses = names.len().to_string();
        let token = self.json(&["cluster", "join-command", "--role", role, "--uses", &uses])?;
        let managers = token["join"].as_array().context("a token without managers")?;
        let managers: Vec<_> = managers.iter().filter_map(Value::as_str).collect();
        let token = token["token"].as_str().context("a token without its text")?.to_owned();
        for name in names {
            self.start(name, &["--join", &managers.join(","), "--token", &token, "--name", name])?;
        }
        Ok(())
    }

    /// Starts a manager on its folder.
    pub fn start(&mut self, name: &str, more: &[&str]) -> Result<()> {
        let (command, api) = self.server(name, more)?;
        self.running.insert(name.to_owned(), Process::start(command, &self.log(name))?);
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        if !urls.contains(&api) {
            urls.push(api);
        }
        Ok(())
    }

    /// Runs a manager that is expected to end by itself.
    pub fn run(&self, name: &str, more: &[&str]) -> Result<Ran> {
        ran(self.server(name, more)?.0)
    }

    /// The command, and where the manager's API will be. The ports are chosen once and kept in the folder's name
    /// file, because a joiner that repeats its request must repeat them.
    fn server(&self, name: &str, more: &[&str]) -> Result<(Command, String)> {
        let data = self.data(name);
        fs::create_dir_all(&data).context("making a data folder")?;
        let ports = self.dir.path().join(format!("{name}.ports"));
        if !ports.exists() {
            fs::write(&ports, format!("{} {}", free_port()?, free_port()?)).context("keeping ports")?;
        }
        let text = fs::read_to_string(&ports).context("reading ports")?;
        let (peer, api) = text.split_once(' ').context("reading ports")?;
        let mut command = Command::new(&self.binary);
        command.arg("server").arg("--data-dir").arg(&data).args(more);
        command.args(["--peer-port", peer, "--api-port", api]);
        Ok((command, format!("https://127.0.0.1:{api}")))
    }

    /// Ends a manager without a warning.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        self.running.remove(name).with_context(|| format!("{name} does not run"))?.kill()
    }

    /// Waits until a manager has ended by itself.
    pub fn ended(&mut self, name: &str) -> Result<ExitStatus> {
        let status = self.wait_for(&format!("{name} to end"), |managers| {
            managers.running.get_mut(name).context("it does not run")?.ended()
        })?;
        self.running.remove(name);
        Ok(status)
    }

    /// Waits for so many voters that all answer.
    pub fn wait_for_voters(&mut self, count: usize) -> Result<()> {
        self.wait_for(&format!("{count} voters that answer"), |managers| {
            let status = managers.json(&["cluster", "status"])?;
            let members = status["members"].as_array().cloned().unwrap_or_default();
            let votes = |member: &Value| member["role"] == "voter" && member["state"] != "unreachable";
            let all = members.len() == count && members.iter().all(votes);
            Ok((all && !status["leader"].is_null()).then_some(()))
        })
    }

    /// What the cluster says about a manager.
    pub fn member(&self, name: &str) -> Result<Value> {
        let status = self.json(&["cluster", "status"])?;
        let members = status["members"].as_array().context("a status without members")?;
        members.iter().find(|member| member["name"] == name).cloned().with_context(|| format!("no {name}"))
    }

    /// The leader's name.
    pub fn leader(&mut self) -> Result<String> {
        self.wait_for("a leader", |managers| {
            Ok(managers.json(&["cluster", "status"])?["leader"].as_str().map(str::to_owned))
        })
    }

    /// Runs a client command to its end.
    pub fn client(&self, arguments: &[&str]) -> Result<Ran> {
        client(&self.binary, self.dir.path(), &self.urls, arguments)
    }

    /// Runs a client command and reads what it prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let ran = self.client(&[arguments, &["-o", "json"]].concat())?;
        if ran.code != 0 {
            bail!("skep {} ended with {}: {}", arguments.join(" "), ran.code, ran.stderr);
        }
        serde_json::from_str(&ran.stdout).context("reading the client's answer")
    }

    /// The names of all templates, as one manager has them.
    pub fn templates(&self, name: &str) -> Result<Vec<String>> {
        let url = self.member(name)?["api_url"].as_str().context("no address")?.to_owned();
        let only = Arc::new(Mutex::new(vec![url]));
        let listed = client(
            &self.binary,
            self.dir.path(),
            &only,
            &["template", "ls", "-q", "--consistency", "stale"],
        )?;
        Ok(listed.stdout.lines().map(str::to_owned).collect())
    }

    /// Imports a template.
    pub fn import(&self, name: &str) -> Result<()> {
        import(&self.binary, self.dir.path(), &self.urls, name)
    }

    /// Starts a client that imports one template after the other until it is stopped.
    pub fn keep_writing(&self) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let (binary, dir) = (self.binary.clone(), self.dir.path().to_owned());
        let (stopped, urls) = (stop.clone(), self.urls.clone());
        let writing = std::thread::spawn(move || {
            let mut written = vec![];
            while !stopped.load(Ordering::SeqCst) {
                let name = format!("w-{}", written.len());
                import(&binary, &dir, &urls, &name)?;
                written.push(name);
            }
            Ok(written)
        });
        Writer { stop, writing }
    }

    /// A manager's data folder.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a manager has logged so far.
    pub fn said(&self, name: &str) -> String {
        fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// Clients do not ask this manager any more.
    pub fn forget_url(&self, name: &str) {
        let text = fs::read_to_string(self.dir.path().join(format!("{name}.ports"))).unwrap_or_default();
        if let Some((_, api)) = text.split_once(' ') {
            let gone = format!("https://127.0.0.1:{api}");
            self.urls.lock().unwrap_or_else(PoisonError::into_inner).retain(|url| *url != gone);
        }
    }

    /// Waits until `look` finds something; says what was missing otherwise.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Managers) -> Result<Option<T>>,
    ) -> Result<T> {
        let logs: Vec<PathBuf> = self.running.keys().map(|name| self.log(name)).collect();
        process::wait_for(what, || look(self), || process::tails(logs.iter().map(PathBuf::as_path)))
    }
}

impl Writer {
    /// Stops it; answers what was acknowledged, or the first write that was not.
    pub fn stop(self) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::SeqCst);
        self.writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    }
}

/// A port that nobody has, from below those that outgoing connections are given: a manager's port stays free while the
/// manager does not run.
fn free_port() -> Result<u16> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(PORTS_PER_PROCESS);
    for _ in 0..count {
        let tried = first.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(tried).context("counting ports")?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

fn import(binary: &Path, dir: &Path, urls: &Mutex<Vec<String>>, name: &str) -> Result<()> {
    let file = dir.join(format!("{name}.yml"));
    fs::write(&file, format!("name: {name}\nswarm:\n  managers: 1\n")).context("writing a template")?;
    let imported = client(binary, dir, urls, &["template", "import", &file.display().to_string()])?;
    fs::remove_file(&file).context("removing a template's file")?;
    match imported.code {
        0 => Ok(()),
        code => bail!("importing {name} ended with {code}: {}", imported.stderr),
    }
}

fn client(binary: &Path, dir: &Path, urls: &Mutex<Vec<String>>, arguments: &[&str]) -> Result<Ran> {
    let urls = urls.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (ca, token) = (dir.join("m1/identity/ca.pem"), dir.join("m1/admin-token"));
    Access { binary: binary.to_owned(), urls, ca, token }.run(arguments)
}
