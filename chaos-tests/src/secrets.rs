//! What no log may hold: whatever a cluster has written is looked through when it ends.
//!
//! Every cluster has real secrets: tokens of people, of managers and of hosts, private keys, those of its swarms. All of
//! them can be told by how they look, so nothing has to be planted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

/// How secrets begin: API keys, device codes, tokens of hosts and managers, swarms' join tokens and unlock keys.
const BEGINNINGS: &[&str] = &["skp_", "skd_", "skr_", "skj_", "skh_", "SWMTKN-1-", "SWMKEY-1-"];

/// Shorter ones are spoken of, not told: `skp_…`, or the id of a token.
const CHARACTERS_MIN: usize = 40;

/// What else is secret: keys, and what passwords are kept as.
const WORDS: &[&str] = &["PRIVATE KEY-----", "$argon2id$"];

/// Where logs are not to be looked for: a store's own, which hold what is stored, and what containers have.
const NOT_INTO: &[&str] = &["db", "data-root", "docker", "identity", "backups", "snapshots"];

/// Fails if this text holds a secret; says where, and how it begins.
pub fn none_in(place: &str, text: &str) -> Result<()> {
    for line in text.lines() {
        if let Some(beginning) = found(line) {
            bail!("a secret was written down in {place}: {beginning}… in: {line}");
        }
    }
    Ok(())
}

/// Fails if a log below this folder holds a secret, or if there is none: then it lies where nobody looks.
pub fn none_logged_below(folder: &Path) -> Result<()> {
    let logs = logs(folder)?;
    ensure!(!logs.is_empty(), "there is no log below {}", folder.display());
    logs.iter().try_for_each(|log| none_logged_in(log))
}

/// Fails if this log holds a secret.
pub fn none_logged_in(log: &Path) -> Result<()> {
    let text = fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    none_in(&log.to_string_lossy(), &String::from_utf8_lossy(&text))
}

/// How the secret in this line begins, if there is one.
fn found(line: &str) -> Option<&'static str> {
    let long = |beginning: &&&str| {
        line.match_indices(**beginning).any(|(at, _)| {
            let rest = line[at..].bytes();
            rest.take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.+/".contains(byte)).count()
                >= CHARACTERS_MIN
        })
    };
    BEGINNINGS.iter().find(long).or_else(|| WORDS.iter().find(|word| line.contains(**word))).copied()
}

/// Files named `log` or `*.log`.
fn logs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        // What a cluster keeps comes and goes while it runs.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.with_context(|| format!("looking into {}", folder.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().with_context(|| format!("looking at {}", path.display()))?;
            if kind.is_dir() && !NOT_INTO.iter().any(|not| name == *not) {
                open.push(path);
            } else if kind.is_file() && (name == "log" || path.extension().is_some_and(|end| end == "log")) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_how_they_look() {
        let swarm = "SWMTKN-1-49nj1cmql0jkz5s954yi3oex3nedyz0fb0xx14ie39trti4wxv-8vxv8rssmk743ojnwacrr2e7c";
        let token = format!("skp_tok_{}_{}", "1".repeat(32), "a".repeat(48));
        for secret in [swarm, &token, "-----BEGIN PRIVATE KEY-----", "$argon2id$v=19$m=19456"] {
            assert!(none_in("m1", &format!("WARN joining with {secret}: refused")).is_err(), "{secret}");
        }
        for harmless in ["a token looks like skp_…", "skj_c1.7f.…", "host_01a22660b1587289a5c139c36948b942"]
        {
            none_in("m1", harmless).expect(harmless);
        }
    }

    #[test]
    fn logs_are_found_and_stores_are_not_looked_into() {
        let folder = tempfile::tempdir().expect("a folder");
        for inner in ["m1/raft/db", "hosts/h1"] {
            fs::create_dir_all(folder.path().join(inner)).expect("a folder");
        }
        for file in ["m1/log", "m1/raft/db/000004.log", "hosts/h1/agent.log", "m1/server.toml"] {
            fs::write(folder.path().join(file), "SWMKEY-1-7c37Cc8654o6p38HnroywCi19pllOnGtbdEZEgtKxZu8")
                .expect("writes");
        }
        let mut found = logs(folder.path()).expect("looks");
        found.sort();
        assert_eq!(found, ["hosts/h1/agent.log", "m1/log"].map(|log| folder.path().join(log)));
        none_logged_below(folder.path()).expect_err("there is one");
        none_logged_below(&folder.path().join("m1/raft")).expect_err("there is no log");
    }
}
