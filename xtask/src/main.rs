//! The rules of the repository as code, so that a reviewer need not know them by heart.
//!
//! ```text
//!   cargo xtask tidy       looks at every file; says file, line, rule and what to do
//!   cargo xtask commands   tries the commands that the documents show, as far as that is harmless
//! ```
//!
//! Neither writes anything. What `rustfmt`, `clippy` or a test can say is not said here again.

mod checks;
mod commands;
mod document;
mod finding;
mod repository;
mod rust;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::finding::Finding;
use crate::repository::Repository;

/// One thing to ask for on the command line.
struct Task {
    name: &'static str,
    about: &'static str,
    run: fn(&Repository) -> Result<Vec<Finding>>,
}

const TASKS: &[Task] = &[
    Task { name: "tidy", about: "checks the rules of the repository", run: tidy },
    Task { name: "commands", about: "tries the commands that the documents show", run: commands::check },
];

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The number of findings.
fn run() -> Result<usize> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name] = arguments.as_slice() else { bail!("name one task:{}", task_list()) };
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        bail!("there is no task '{name}':{}", task_list());
    };
    let repository = Repository::around(&std::env::current_dir().context("finding the working directory")?)?;
    let findings = (task.run)(&repository)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("{name}: nothing to complain about"),
        count => println!("{name}: {count} to repair"),
    }
    Ok(findings.len())
}

fn tidy(repository: &Repository) -> Result<Vec<Finding>> {
    let mut findings = vec![];
    for check in checks::CHECKS {
        findings.extend((check.run)(repository).with_context(|| format!("checking '{}'", check.rule))?);
    }
    Ok(findings)
}

fn task_list() -> String {
    TASKS.iter().map(|task| format!("\n  cargo xtask {:<10} {}", task.name, task.about)).collect()
}
