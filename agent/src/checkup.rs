//! What the agent of this machine has and needs, looked at beside the one that runs: nothing is changed, and nothing is locked.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Instant, SystemTime};

use futures::future::join_all;
use skep_wire::pki::{self, ALPN_AGENT, PkiError};

use crate::engine::Engine;
use crate::state::{KEY, LOCK, Membership};
use crate::{AgentError, Entrance, files, link};

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// `membership`, `certificate`, `key`, `process`, `manager` or `engine`.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What helps; empty if nothing has to be done.
    pub fix: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Good.
    Ok,
    /// Works, and should not stay so.
    Warning,
    /// Does not work.
    Error,
}

impl Checked {
    fn ok(check: &'static str, message: impl Into<String>) -> Checked {
        Checked { check, verdict: Verdict::Ok, message: message.into(), fix: String::new() }
    }

    fn warning(check: &'static str, message: impl Into<String>, fix: &str) -> Checked {
        Checked { verdict: Verdict::Warning, fix: fix.into(), ..Checked::ok(check, message) }
    }

    fn error(check: &'static str, message: impl Into<String>, fix: &str) -> Checked {
        Checked { verdict: Verdict::Error, ..Checked::warning(check, message, fix) }
    }
}

/// Looks at everything.
pub async fn check_up(state_dir: &Path, docker_socket: &Path) -> Vec<Checked> {
    let mut checked = vec![];
    match Membership::of(state_dir) {
        Ok(Some(membership)) => {
            checked.push(member(&membership));
            checked.push(certificate(&membership));
            checked.push(key(&state_dir.join(KEY)));
            checked.push(process(&state_dir.join(LOCK)));
            checked.extend(managers(state_dir, &membership).await);
        }
        Ok(None) => checked.push(Checked::error(
            "membership",
            format!("this machine is no host: {} has no membership.json", state_dir.display()),
            "make it one: skep host register prints the command; if the agent keeps its things elsewhere, say where: --state-dir",
        )),
        Err(error) => {
            let fix = "only root may read it: sudo skep doctor agent; if it is damaged, register the machine again";
            checked.push(Checked::error("membership", error.to_string(), fix));
        }
    }
    checked.push(engine(docker_socket).await);
    checked
}

fn member(membership: &Membership) -> Checked {
    let Membership { host_id, cluster, .. } = membership;
    match membership.removed {
        false => Checked::ok("membership", format!("{host_id} of cluster {cluster}")),
        true => Checked::error(
            "membership",
            format!("{host_id} was removed from cluster {cluster}"),
            "add the machine again: skep host register prints the command",
        ),
    }
}

fn certificate(membership: &Membership) -> Checked {
    match days_left(&membership.certificate_pem) {
        Ok(days) if days > 0.0 => Checked::ok("certificate", format!("valid for {days:.0} more days")),
        Ok(days) => Checked::error(
            "certificate",
            format!("has ended {:.0} days ago", -days),
            "the agent asks for another when it reaches a manager: see the checks of the managers, and is the clock right?",
        ),
        Err(error) => {
            Checked::error("certificate", error.to_string(), "register the machine again: skep host register")
        }
    }
}

fn days_left(certificate_pem: &str) -> Result<f64, PkiError> {
    let (_, end) = pki::validity(certificate_pem)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok((end as f64 - now.as_secs_f64()) / 86_400.0)
}

fn key(file: &Path) -> Checked {
    let shown = file.display();
    match fs::metadata(file) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 == 0 => Checked::ok("key", shown.to_string()),
        Ok(_) => Checked::warning(
            "key",
            format!("others can read {shown}"),
            "chmod 600 it; if somebody may have read it, remove the host and register the machine again",
        ),
        Err(error) => Checked::error(
            "key",
            format!("{shown}: {error}"),
            "without it the host cannot show who it is: register the machine again",
        ),
    }
}

fn process(lock: &Path) -> Checked {
    match holder(lock) {
        Some(process) => Checked::ok("process", format!("runs as process {process}")),
        None => Checked::warning(
            "process",
            "no agent runs here",
            "systemctl start skep-agent; why it has stopped: journalctl -u skep-agent",
        ),
    }
}

/// The process that holds a lock, as the kernel says: trying to lock it could keep out an agent that starts just now.
fn holder(lock: &Path) -> Option<u32> {
    let inode = fs::metadata(lock).ok()?.st_ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| held(line, &inode))
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF`; see proc_locks(5).
fn held(line: &str, inode: &str) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let ("FLOCK", Some(process)) = (words.next()?, words.nth(2)) else { return None };
    let (_, of) = words.next()?.rsplit_once(':')?;
    (of == inode).then(|| process.parse().ok())?
}

/// An agent needs one of them. All are asked at the same time: one that is gone is waited for.
async fn managers(state_dir: &Path, membership: &Membership) -> Vec<Checked> {
    let asked = membership.managers.iter().map(async |manager| {
        let began = Instant::now();
        let answer = reached(state_dir, membership, manager).await;
        (manager, answer.map(|()| began.elapsed().as_millis()))
    });
    let answers = join_all(asked).await;
    let is_one_enough = answers.iter().any(|(_, answer)| answer.is_ok());
    let fix = "does that manager run, and does a firewall let its port for managers and agents through?";
    let told = answers.into_iter().map(|(manager, answer)| match answer {
        Ok(milliseconds) => Checked::ok("manager", format!("{manager} answers in {milliseconds} ms")),
        Err(why) if is_one_enough => Checked::warning("manager", format!("{manager}: {why}"), fix),
        Err(why) => Checked::error("manager", format!("{manager}: {why}"), fix),
    });
    told.collect()
}

async fn reached(state_dir: &Path, membership: &Membership, manager: &str) -> Result<(), String> {
    let key = files::read(&state_dir.join(KEY)).map_err(|error: AgentError| error.to_string())?;
    let key = String::from_utf8(key.unwrap_or_default()).map_err(|error| error.to_string())?;
    let certified = (membership.certificate_pem.as_str(), key.as_str());
    let tls = pki::client_config(&membership.ca_pem, Some(certified), &[ALPN_AGENT]);
    let tls = tls.map_err(|error| error.to_string())?;
    link::dial(manager, &membership.cluster, tls).await.map(drop).map_err(|error| error.to_string())
}

async fn engine(socket: &Path) -> Checked {
    match Engine::new(socket.to_owned(), Entrance::Here).probe().await {
        Ok(version) => Checked::ok("engine", format!("Docker {} at {}", version.version, socket.display())),
        Err(why) => Checked::error(
            "engine",
            format!("{}: {why}", socket.display()),
            "systemctl start docker; if its socket is elsewhere, say where: --docker-socket",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateDir;

    fn verdicts(checked: &[Checked]) -> Vec<(&str, Verdict)> {
        checked.iter().map(|checked| (checked.check, checked.verdict)).collect()
    }

    #[tokio::test]
    async fn a_machine_that_is_no_host_is_told_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let checked = check_up(&folder.path().join("agent"), &folder.path().join("docker.sock")).await;
        assert_eq!(verdicts(&checked), [("membership", Verdict::Error), ("engine", Verdict::Error)]);
        assert!(checked.iter().all(|checked| !checked.fix.is_empty()), "{checked:?}");
        assert!(!folder.path().join("agent").exists(), "nothing is made");
    }

    #[tokio::test]
    async fn a_host_without_managers_is_told_which_ones_it_tried() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("opened");
        let authority = pki::Authority::create("c1").expect("an authority");
        let request = pki::certificate_request(&state.key_pem().expect("a key"), "h1").expect("a request");
        // Nobody listens on the port for discarded data.
        let membership = Membership {
            cluster: "c1".into(),
            host_id: "h1".into(),
            managers: vec!["127.0.0.1:9".into()],
            ca_pem: authority.ca_pem().into(),
            certificate_pem: authority.sign_host_csr(&request, "h1").expect("signed"),
            token: None,
            address: None,
            removed: false,
        };
        state.save(&membership).expect("saved");
        let check = || check_up(folder.path(), Path::new("/nowhere/docker.sock"));
        let running = check().await;
        let expected = [
            ("membership", Verdict::Ok),
            ("certificate", Verdict::Ok),
            ("key", Verdict::Ok),
            ("process", Verdict::Ok),
            ("manager", Verdict::Error),
            ("engine", Verdict::Error),
        ];
        assert_eq!(verdicts(&running), expected, "{running:?}");
        assert!(running[3].message.contains(&std::process::id().to_string()), "{running:?}");
        assert!(running[4].message.contains("127.0.0.1:9"), "{running:?}");
        drop(state);
        fs::set_permissions(folder.path().join(KEY), fs::Permissions::from_mode(0o644)).expect("is there");
        let stopped = check().await;
        assert_eq!(stopped[2].verdict, Verdict::Warning, "{stopped:?}");
        assert_eq!(stopped[3].verdict, Verdict::Warning, "{stopped:?}");
    }
}
