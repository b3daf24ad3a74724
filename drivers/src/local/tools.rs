//! Runs the system's own programs: `ip`, `iptables` and their like.
//!
//! Programs instead of netlink: what this driver does can be repeated by hand from its error messages, and the
//! time goes into Docker engines, not into a dozen short processes.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::DriverError;

/// What must be installed, and the Debian package it is in.
pub(super) const NEEDED: &[(&str, &str)] = &[
    ("dockerd", "docker.io"),
    ("containerd", "docker.io"),
    ("runc", "docker.io"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
];

/// Searched after `PATH`: a login shell's path often lacks the folders with the system's tools.
const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The search path for everything that is started.
pub(super) fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{SYSTEM_FOLDERS}"),
        _ => SYSTEM_FOLDERS.to_owned(),
    }
}

/// Where a program is.
pub(super) fn find(tool: &str) -> Option<PathBuf> {
    search_path().split(':').map(|folder| PathBuf::from(folder).join(tool)).find(|path| path.is_file())
}

/// Runs a program to its end and gives what it printed.
pub(super) fn run(trying: &'static str, program: &str, arguments: &[&str]) -> Result<String, DriverError> {
    run_with_input(trying, program, arguments, "")
}

/// Runs several `ip` commands in one process; the first that fails ends it.
pub(super) fn ip_batch(
    trying: &'static str,
    arguments: &[&str],
    commands: &[String],
) -> Result<(), DriverError> {
    let arguments = [arguments, &["-batch", "-"]].concat();
    run_with_input(trying, "ip", &arguments, &(commands.join("\n") + "\n")).map(drop)
}

fn run_with_input(
    trying: &'static str,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Result<String, DriverError> {
    let failed = |detail: String| DriverError::Command {
        trying,
        command: [&[program], arguments, &input.lines().collect::<Vec<_>>()].concat().join(" "),
        detail,
    };
    let output = execute(program, arguments, input).map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(failed(if said.is_empty() { output.status.to_string() } else { said }))
}

fn execute(program: &str, arguments: &[&str], input: &str) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early closes its input; what it says on stderr is the better message.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_says_what_was_tried_and_what_it_said() {
        let error =
            run("testing", "sh", &["-c", "echo broken >&2; exit 3"]).expect_err("it fails").to_string();
        assert!(error.contains("testing") && error.contains("broken"), "{error}");
    }

    #[test]
    fn a_missing_program_is_an_error_not_a_panic() {
        assert!(run("testing", "skep-no-such-program", &[]).is_err());
        assert!(find("skep-no-such-program").is_none());
        assert!(find("sh").is_some());
    }
}
