//! Tries the commands that the documents show, as far as that is harmless.
//!
//! ```text
//!   skep …     with --help behind it: does the command exist, and does it know these flags and values?
//!   make …     as a dry run: does the target exist?
//!   others     not tried, and only a few are expected
//! ```
//! Blocks marked with `<!-- run by CI -->` are run as they stand. What a whole lab is needed for is tried by the
//! end-to-end test of `chaos-tests`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::document::{self, CommandLine};
use crate::finding::Finding;
use crate::repository::Repository;

const RULE: &str = "commands";

/// The documents that people follow command by command.
const DOCUMENTS: &[&str] = &["README.md", "CONTRIBUTING.md", "deploy/README.md"];

/// What readers also do and what cannot go out of date with our code.
const UNTRIED: &[&str] =
    &["cargo", "cd", "curl", "docker", "export", "git", "install", "source", "sudo", "systemctl", ".ci/run"];

pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let programs = folder_of_programs()?;
    ensure!(programs.join("skep").is_file(), "there is no skep in {}: run `make build`", programs.display());
    let mut findings = vec![];
    for file in DOCUMENTS.iter().filter_map(|path| repository.file(path)) {
        for command in document::commands(file) {
            for script in scripts(&command) {
                if let Err(said) = try_out(&script, repository, &programs)? {
                    let problem = format!("`{script}` fails: {said}");
                    let fix = "correct the document, or the program if the document is right";
                    findings.push(Finding::new(RULE, &file.path, command.line, problem, fix));
                }
            }
        }
    }
    Ok(findings)
}

/// What is run in order to try a command: the whole, or each part of a pipe for itself.
fn scripts(command: &CommandLine) -> Vec<String> {
    match command.run {
        true => vec![command.text.clone()],
        false => command.text.split(" | ").filter_map(harmless).collect(),
    }
}

fn harmless(part: &str) -> Option<String> {
    let part = part.trim().trim_start_matches("sudo ");
    let program = part.split_whitespace().next()?;
    match program {
        "skep" => Some(format!("{part} --help")),
        "make" => Some(format!("{part} --dry-run")),
        _ if UNTRIED.contains(&program) => None,
        _ => Some(format!("command -v {program}")),
    }
}

/// The programs of the workspace lie beside this one.
fn folder_of_programs() -> Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program")?;
    Ok(this.parent().context("finding the folder of this program")?.to_owned())
}

/// `Err` with what it said if it failed.
fn try_out(script: &str, repository: &Repository, programs: &std::path::Path) -> Result<Result<(), String>> {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(&repository.root)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .context("starting bash")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing").to_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(said) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(text: &str, run: bool) -> Vec<String> {
        scripts(&CommandLine { text: text.into(), line: 1, run })
    }

    #[test]
    fn commands_are_made_harmless_unless_their_block_is_marked() {
        assert_eq!(tried("skep env create demo -t x", false), ["skep env create demo -t x --help"]);
        assert_eq!(tried("sudo skep dev", false), ["skep dev --help"]);
        assert_eq!(
            tried("examples/a.sh | skep image load -", false),
            ["command -v examples/a.sh", "skep image load - --help"]
        );
        assert_eq!(tried("make demo ONCE=1", false), ["make demo ONCE=1 --dry-run"]);
        assert_eq!(tried("curl http://10.0.0.1", false), Vec::<String>::new());
        assert_eq!(tried("skep --help", true), ["skep --help"]);
    }

    #[test]
    fn a_failing_command_tells_what_it_said() {
        let repository = Repository { root: std::env::temp_dir(), ..Repository::default() };
        let nowhere = std::path::Path::new("");
        let failed = try_out("echo 'no such flag' >&2; false", &repository, nowhere).expect("bash runs");
        assert_eq!(failed, Err("no such flag".to_owned()));
        assert_eq!(try_out("true", &repository, nowhere).expect("bash runs"), Ok(()));
    }
}
