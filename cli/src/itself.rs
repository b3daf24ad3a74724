//! What the program tells about itself: help, completions, manual pages. They need no server and no settings.

use std::path::Path;

use clap_complete::Shell;

use crate::Command;
use crate::help::help;
use crate::live;

/// What a command tells about the program with these commands; `None` if it is none of these commands. `Err` says what is wrong.
pub fn told_by_itself(root: &mut clap::Command, command: &Command) -> Option<Result<String, String>> {
    match command {
        Command::Help { words } => Some(help(root, words).map(|text| format!("{}\n", text.trim_end()))),
        Command::Completion { shell, live: true } => {
            let script = live::script(&shell.to_string());
            Some(script.ok_or_else(|| format!("there is no live completion for {shell}")))
        }
        Command::Completion { shell, live: false } => Some(Ok(completion(root, *shell))),
        Command::Man { dir } => Some(manual(root.clone(), dir)),
        _ => None,
    }
}

fn completion(root: &mut clap::Command, shell: Shell) -> String {
    let mut script = vec![];
    clap_complete::generate(shell, root, "skep", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn manual(root: clap::Command, dir: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("writing manual pages into {}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(root, dir).map_err(failed)?;
    Ok(format!("Manual pages are in {}; read them with: man {}/skep.1\n", dir.display(), dir.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::ClientLine;

    #[test]
    fn every_shell_completes_and_every_command_has_a_page() {
        use clap::ValueEnum as _;
        for shell in Shell::value_variants() {
            let script = completion(&mut ClientLine::command(), *shell);
            assert!(script.contains("cordon"), "{shell}");
            assert!(
                live::script(&shell.to_string()).is_some_and(|script| script.contains("COMPLETE")),
                "{shell}"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        manual(ClientLine::command(), dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("skep-host-cordon.1")).unwrap();
        assert!(page.contains("SYNOPSIS") && page.contains("take no more"), "{page}");
    }
}
