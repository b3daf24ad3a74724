//! Where the host is, seen from this agent: here, or around the container in which the agent runs.
//!
//! An agent in a container shares the host's network and processes, but not its files. What is meant for the host is done
//! through the host's first process.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The host's files, as its first process sees them.
const FIRST_PROCESS_ROOT: &str = "/proc/1/root";

/// How this agent gets to its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entrance {
    /// It is there.
    #[default]
    Here,
    /// It runs in a container, and the host's first process can be seen from it.
    FirstProcess,
}

impl Entrance {
    /// The root of the host's files.
    pub(crate) fn root(self) -> &'static Path {
        Path::new(match self {
            Entrance::Here => "/",
            Entrance::FirstProcess => FIRST_PROCESS_ROOT,
        })
    }

    /// A path of the host, as this agent must name it.
    pub(crate) fn path(self, path: PathBuf) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(below) => self.root().join(below),
            Err(_) => path,
        }
    }

    /// A command that runs this program on the host.
    pub(crate) fn command(self, program: &str) -> Command {
        match self {
            Entrance::Here => Command::new(program),
            Entrance::FirstProcess => {
                let mut enter = Command::new("nsenter");
                enter.args(["-t", "1", "-m", "-u", "-i", "-n", "--", program]);
                enter
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_container_the_host_is_entered() {
        let data = || PathBuf::from("/var/lib/docker");
        assert_eq!(Entrance::Here.path(data()), data());
        assert_eq!(Entrance::FirstProcess.path(data()), PathBuf::from("/proc/1/root").join("var/lib/docker"));
        let command = Entrance::FirstProcess.command("df");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(
            (command.get_program().to_string_lossy().as_ref(), words.join(" ").as_str()),
            ("nsenter", "-t 1 -m -u -i -n -- df")
        );
        assert_eq!(Entrance::Here.command("df").get_program(), "df");
    }
}
