//! What runs on a host, killed and started again as a supervisor would do it.
//!
//! Hosts of the driver `local` have no supervisor, and real ones have: what a machine's systemd does is done here, with
//! the same command line, environment and namespaces.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The namespaces that a host's processes have of their own, as /proc and `nsenter` name them.
const NAMESPACES: [(&str, &str); 3] = [("net", "--net"), ("uts", "--uts"), ("mnt", "--mount")];

/// A process that every host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The Docker engine.
    Engine,
    /// The agent.
    Agent,
}

impl Part {
    /// Tells it by its command line.
    pub(crate) fn is_it(self) -> fn(&[&str]) -> bool {
        match self {
            Part::Engine => |words| words.first().is_some_and(|program| program.ends_with("dockerd")),
            Part::Agent => |words| matches!(words, [program, "agent", ..] if program.ends_with("skep")),
        }
    }
}

/// A process that runs on a host.
pub struct Running {
    pid: Pid,
    again: Again,
}

/// How a process was started. Its namespaces stay as long as this does.
pub struct Again {
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    namespaces: Vec<(&'static str, File)>,
}

impl Running {
    pub(crate) fn of(pid: Pid) -> Result<Running> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            let bytes = fs::read(&path).with_context(|| format!("reading {path}"))?;
            let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            Ok::<_, anyhow::Error>(words.map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        let pair = |word: Vec<u8>| {
            let at = word.iter().position(|byte| *byte == b'=')?;
            Some((OsString::from_vec(word[..at].to_vec()), OsString::from_vec(word[at + 1..].to_vec())))
        };
        let namespace = |(name, option): (&str, &'static str)| {
            let path = format!("/proc/{pid}/ns/{name}");
            Ok((option, File::open(&path).with_context(|| format!("opening {path}"))?))
        };
        let again = Again {
            words: read("cmdline")?.into_iter().map(OsString::from_vec).collect(),
            environment: read("environ")?.into_iter().filter_map(pair).collect(),
            namespaces: NAMESPACES.into_iter().map(namespace).collect::<Result<_>>()?,
        };
        Ok(Running { pid, again })
    }

    /// Ends it without a warning.
    pub fn kill(self) -> Result<Again> {
        kill(self.pid, Signal::SIGKILL).context("killing a process of a host")?;
        Ok(self.again)
    }
}

impl Again {
    /// Starts the same once more. It belongs to the host: it ends with it.
    pub fn start(&self) -> Result<()> {
        let mut command = Command::new("nsenter");
        for (option, namespace) in &self.namespaces {
            command.arg(format!("{option}=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
        }
        command
            .arg("setsid")
            .args(&self.words)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().context("starting a process of a host again").map(drop)
    }
}
