//! Changes to machines and their engines that come from outside of Skep.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::{Lab, ran};

/// An engine that is the computer's own with another version in it, and does not start on one host while a file is there.
const ENGINE: &str = r#"#!/bin/sh
here=$(dirname "$0")
if [ "$1" != --version ] && [ -e "$here/broken" ] && [ "$(cat /proc/sys/kernel/hostname)" = prod-2 ]; then
    echo "this engine is broken here" >&2
    exit 1
fi
exec "$here/own/dockerd" "$@"
"#;

/// Writes the computer's own engine with another version in it, as long as its own.
const MAKE_ENGINE: &str = r#"
LC_ALL=C sed "s/$1/$2/g" "$(command -v dockerd)" > "$3/own/dockerd.new"
chmod 755 "$3/dockerd" "$3/own/dockerd.new"
mv "$3/own/dockerd.new" "$3/own/dockerd"
"$3/dockerd" --version"#;

/// Puts an engine of the next version where the driver looks for it; answers the version and the folder.
pub fn next_engine(lab: &Lab, now: &str) -> Result<(String, PathBuf)> {
    let digits = now.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(now.len());
    // As long as before, so that it fits into the program.
    let next = format!("{}9{}", &now[..digits - 1], &now[digits..]);
    ensure!(next != now, "there is no next version of the same length: {now}");
    let folder = lab.hosts_folder().join("engines").join(&next);
    fs::create_dir_all(folder.join("own")).context("making the engine's folder")?;
    fs::write(folder.join("dockerd"), ENGINE).context("writing the engine")?;
    let mut made = Command::new("sh");
    made.args(["-ec", MAKE_ENGINE, "sh", &now.replace('.', r"\."), &next]).arg(&folder);
    let made = ran(made)?;
    ensure!(made.code == 0 && made.stdout.contains(&next), "making another engine: {made:?}");
    Ok((next, folder))
}

/// Runs a command in the network of a host, as the API shows it.
pub fn in_network_of(host: &Value, command: &str) -> Result<()> {
    let machine = host["status"]["machine"].as_str().context("the host has no machine")?;
    let mut inside = Command::new("nsenter");
    inside.arg(format!("--net=/run/netns/{machine}")).args(command.split(' '));
    let ran = ran(inside)?;
    ensure!(ran.code == 0, "{command}: {}", ran.stderr);
    Ok(())
}

/// Gives the machine another address, as a new lease would; answers it.
pub fn readdress(host: &Value) -> Result<String> {
    let before = host["status"]["address"].as_str().context("the host has no address")?;
    let (network, last) = before.rsplit_once('.').context("the host's address is none of IPv4")?;
    let after = format!("{network}.{}", last.parse::<u8>().context("the host's address")? + 40);
    in_network_of(host, &format!("ip addr add {after}/24 dev eth0"))?;
    in_network_of(host, &format!("ip addr del {before}/24 dev eth0"))?;
    // The first address takes the others with it unless they are promoted.
    in_network_of(host, &format!("ip addr replace {after}/24 dev eth0"))?;
    Ok(after)
}
