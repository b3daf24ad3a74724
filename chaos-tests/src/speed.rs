//! How long a swarm takes, beside a shell script that makes the same by hand.
//!
//! Engines get the same namespaces, mounts and options on both sides, so the difference is Skep's own. Rounds alternate
//! and neighbours are compared: the machine is not the same from one minute to the next.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::lab::{Lab, ran};

/// The yardstick.
const BY_HAND: &str = include_str!("../by-hand.sh");

/// What one side has taken.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// From nothing to a swarm whose nodes are all ready.
    pub swarm: Duration,
    /// From there to one host more.
    pub one_more: Duration,
    /// Until all engines answered; the script alone can say that.
    pub engines: Option<Duration>,
}

/// Makes a swarm of so many hosts with the script, three of them managers, adds one more, and removes it.
pub fn by_hand(hosts: usize) -> Result<Took> {
    let mut command = Command::new("bash");
    command.args(["-c", BY_HAND, "by-hand.sh", &hosts.to_string()]);
    let ran = ran(command)?;
    ensure!(ran.code == 0, "the script ended with {}: {}", ran.code, ran.stderr);
    let figure = |name: &str| {
        let line = ran.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let seconds = line.and_then(|figure| figure.trim().parse().ok());
        seconds
            .map(Duration::from_secs_f64)
            .with_context(|| format!("the script did not say {name}: {}", ran.stdout))
    };
    Ok(Took {
        swarm: figure("swarm_ready_seconds")?,
        one_more: figure("one_more_seconds")?,
        engines: Some(figure("engines_ready_seconds")?),
    })
}

/// The same with Skep: an environment of that name, one host more, removed. `look` sees it before it is removed.
pub fn with_skep(lab: &Lab, name: &str, hosts: usize, look: impl FnOnce() -> Result<()>) -> Result<Took> {
    let count = hosts.to_string();
    let since = Instant::now();
    lab.succeed(&["env", "create", name, "--template", "default", "--hosts", &count, "--driver", "local"])?;
    let swarm = since.elapsed();
    let since = Instant::now();
    lab.succeed(&["host", "create", "one-more", "--driver", "local", "-e", name])?;
    let one_more = since.elapsed();
    look()?;
    lab.succeed(&["env", "rm", name, "--confirm", name])?;
    Ok(Took { swarm, one_more, engines: None })
}

/// The one in the middle.
pub fn median(taken: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = taken.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// How often the first is the second: the median of the neighbours' ratios.
pub fn ratio(ours: &[Took], theirs: &[Took], of: fn(&Took) -> Duration) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| of(ours).as_secs_f64() / of(theirs).as_secs_f64()))
}
