//! Which processes are ours, and how they are ended.
//!
//! A process is ours if its environment says so (`SKEP_LOCAL=<tag>/<host id>`, inherited from the engine by its
//! containerd and shims), or if it is in a control group of ours (containers). Both are read anew before every
//! signal: a number noted down earlier may by now be somebody else's process.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::{HostLayout, Layout};
use crate::DriverError;

/// Says whose a process is.
pub(super) const MARK: &str = "SKEP_LOCAL";
/// Says what it was started as.
pub(super) const ROLE: &str = "SKEP_LOCAL_ROLE";

/// How long an agent and an engine may take to end by themselves. Their machine is going away, so there is
/// nothing worth a longer wait.
const END_BY_THEMSELVES_WITHIN: Duration = Duration::from_secs(3);
/// SIGKILL takes effect within milliseconds unless a process hangs in the kernel.
const END_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What is started on a machine, with all that comes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// dockerd, its containerd, shims and helpers.
    Engine,
    /// The agent.
    Agent,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Role::Engine => "engine",
            Role::Agent => "agent",
        }
    }
}

/// Whose processes are meant: a whole cluster's, a host's, or one part of a host.
pub(super) struct Owner {
    mark: String,
    control_group: String,
    role: Option<Role>,
}

/// How to end processes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Ask what was started to end, and help after a while.
    Asked,
    /// Like a power cut.
    AtOnce,
}

/// A process that is ours, as it was when it was looked at.
#[derive(Clone, Copy, Debug)]
struct Found {
    pid: Pid,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What was started: dockerd or the agent.
    Leader,
    /// What came from it.
    Helper,
    /// A process in a container.
    Container,
}

impl Owner {
    pub(super) fn cluster(layout: &Layout) -> Owner {
        Owner { mark: layout.mark(), control_group: layout.control_group(), role: None }
    }

    pub(super) fn host(host: &HostLayout) -> Owner {
        Owner { mark: host.mark().to_owned(), control_group: host.control_group().to_owned(), role: None }
    }

    pub(super) fn part(host: &HostLayout, role: Role) -> Owner {
        Owner { role: Some(role), ..Owner::host(host) }
    }

    /// The mark of a cluster ends in `/` and means every host's; a host's means itself only.
    fn owns_mark(&self, mark: &str) -> bool {
        mark == self.mark || (self.mark.ends_with('/') && mark.starts_with(&self.mark))
    }

    fn owns_group(&self, group: &str) -> bool {
        group.strip_prefix(&self.control_group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Containers belong to the engine.
    fn owns_containers(&self) -> bool {
        self.role != Some(Role::Agent)
    }
}

/// Whether what was started in this part is still running.
pub(super) fn is_running(owner: &Owner) -> bool {
    find(owner).iter().any(|found| found.kind == Kind::Leader)
}

/// Whether any process is the owner's.
pub(super) fn any(owner: &Owner) -> bool {
    !find(owner).is_empty()
}

/// Ends all processes of the owner and waits until none is left; says how many there were.
pub(super) fn end(owner: &Owner, manner: Manner) -> Result<usize, DriverError> {
    let count = find(owner).len();
    if manner == Manner::Asked {
        ask(owner);
    }
    let deadline = Instant::now() + END_WITHIN;
    loop {
        let found = find(owner);
        if found.is_empty() {
            return Ok(count);
        }
        if Instant::now() > deadline {
            return Err(DriverError::StillRunning {
                owner: owner.mark.clone(),
                pids: found.iter().map(|found| found.pid.as_raw()).collect(),
                seconds: END_WITHIN.as_secs(),
            });
        }
        for found in found {
            signal(owner, found.pid, Signal::SIGKILL);
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Asks the leaders to end, once (an engine that is asked three times breaks off), and waits a while.
///
/// Containers are not asked: an engine waits ten seconds for each that does not listen, and with them gone it
/// ends at once.
fn ask(owner: &Owner) {
    for found in find(owner) {
        match found.kind {
            Kind::Leader => signal(owner, found.pid, Signal::SIGTERM),
            Kind::Container => signal(owner, found.pid, Signal::SIGKILL),
            Kind::Helper => {}
        }
    }
    let deadline = Instant::now() + END_BY_THEMSELVES_WITHIN;
    while is_running(owner) && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

fn find(owner: &Owner) -> Vec<Found> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| look_at(owner, Pid::from_raw(pid)))
        .collect()
}

/// The process, if it is the owner's. One that has ended and waits to be collected is nobody's.
fn look_at(owner: &Owner, pid: Pid) -> Option<Found> {
    if pid == Pid::this() {
        return None;
    }
    let stat = Stat::of(pid)?;
    if stat.ended {
        return None;
    }
    let kind = match marked_role(owner, pid) {
        // containerd leads a session of its own, and its shims are in it.
        Some(role) if role == Role::Engine.as_str() && stat.name.starts_with("containerd") => Kind::Helper,
        Some(_) if stat.session == pid => Kind::Leader,
        Some(_) => Kind::Helper,
        None if is_container(owner, pid) => Kind::Container,
        None => return None,
    };
    Some(Found { pid, kind })
}

/// What the process was started as, if its environment says that it is the owner's.
fn marked_role(owner: &Owner, pid: Pid) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let environment = String::from_utf8_lossy(&environment);
    let value =
        |name: &str| environment.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
    let role = value(ROLE)?;
    let wanted = owner.role.is_none_or(|wanted| wanted.as_str() == role);
    (wanted && owner.owns_mark(value(MARK)?)).then(|| role.to_owned())
}

fn is_container(owner: &Owner, pid: Pid) -> bool {
    owner.owns_containers()
        && fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .any(|group| owner.owns_group(group))
}

/// Signals the process if it still is the owner's.
fn signal(owner: &Owner, pid: Pid, signal: Signal) {
    if look_at(owner, pid).is_none() {
        return;
    }
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(pid = pid.as_raw(), %error, "a process could not be signalled"),
    }
}

/// The few words of `/proc/<pid>/stat` that matter here.
struct Stat {
    name: String,
    ended: bool,
    session: Pid,
}

impl Stat {
    fn of(pid: Pid) -> Option<Stat> {
        Stat::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (name) state ppid pgrp session …`; the name may hold spaces and brackets.
    fn read(text: &str) -> Option<Stat> {
        let (head, tail) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = tail.split(' ').collect();
        Some(Stat {
            name: head.split_once('(')?.1.to_owned(),
            ended: matches!(*fields.first()?, "Z" | "X"),
            session: Pid::from_raw(fields.get(3)?.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(mark: &str, group: &str) -> Owner {
        Owner { mark: mark.into(), control_group: group.into(), role: None }
    }

    #[test]
    fn a_cluster_owns_its_hosts_and_a_host_only_itself() {
        let cluster = owner("aabbccdd/", "/skep-aabbccdd");
        assert!(cluster.owns_mark("aabbccdd/host_1") && cluster.owns_mark("aabbccdd/host_2"));
        assert!(!cluster.owns_mark("aabbccde/host_1"));
        let host = owner("aabbccdd/host_1", "/skep-aabbccdd/1");
        assert!(host.owns_mark("aabbccdd/host_1"));
        assert!(!host.owns_mark("aabbccdd/host_11"));
    }

    #[test]
    fn groups_are_compared_name_by_name() {
        let host = owner("aabbccdd/host_1", "/skep-aabbccdd/1");
        assert!(host.owns_group("/skep-aabbccdd/1") && host.owns_group("/skep-aabbccdd/1/0123"));
        assert!(!host.owns_group("/skep-aabbccdd/11/0123"));
        assert!(!host.owns_group("/user/skep-aabbccdd/1"));
    }

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = Stat::read("42 (a) R (b)) S 1 42 41 0 -1").expect("readable");
        assert_eq!(stat.name, "a) R (b)");
        assert!(!stat.ended);
        assert_eq!(stat.session, Pid::from_raw(41));
        assert!(Stat::read("43 (x) Z 1 43 43 0").expect("readable").ended);
    }

    #[test]
    fn this_process_is_never_found() {
        assert!(look_at(&owner("x/", "/"), Pid::this()).is_none());
    }
}
