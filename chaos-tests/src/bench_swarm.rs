//! `make bench-swarm`: five hosts and a swarm of three managers from nothing, and one host more, beside a script (P7).
//!
//! Written into the benchmark's summary, beside what the other targets have been measured as.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::unistd::Uid;
use serde_json::{Value, json};
use skep_chaos_tests::lab::{LOGGED, Lab, Wish};
use skep_chaos_tests::speed::{self, Took};
use skep_chaos_tests::{steps, summary};

const LAB: &str = "bench-swarm";
const PORT: u16 = 19_543;

const HOSTS: usize = 5;

const ROUNDS: usize = 5;

/// Of the script's time.
const SWARM_MAX: f64 = 1.5;
const ONE_MORE_MAX: f64 = 1.3;

fn main() -> ExitCode {
    let out = std::env::args().nth(1).unwrap_or_else(|| "target/bench".into());
    match run(Path::new(&out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(out: &Path) -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("Docker engines in network namespaces need root: sudo make bench-swarm");
    }
    println!("{HOSTS} hosts, three of them swarm managers, and one host more: {ROUNDS} rounds\n");
    println!("{:<8} {:>18} {:>18} {:>22}", "round", "swarm", "one more", "(script: engines)");
    let lab = Lab::start(&Wish { log: LOGGED, ..Wish::new(LAB, 3, PORT)? })?;
    let measured = rounds(&lab);
    let ended = lab.stop();
    let finding = measured?;
    ended?;
    println!("\nP7: measured {} · target {}", finding["measured"], finding["target"]);
    let file = summary::write(out, "P7", finding)?;
    println!("written: {}", file.display());
    Ok(())
}

fn rounds(lab: &Lab) -> Result<Value> {
    let (mut ours, mut theirs, mut steps) = (vec![], vec![], json!({}));
    for round in 0..ROUNDS {
        let mut script = || -> Result<()> {
            theirs.push(told("script", round, speed::by_hand(HOSTS)?));
            Ok(())
        };
        // Each goes first as often as the other.
        if round % 2 == 0 {
            script()?;
        }
        let name = format!("speed-{round}");
        let took = speed::with_skep(lab, &name, HOSTS, || {
            steps = taken_by_steps(lab, &name)?;
            Ok(())
        })?;
        ours.push(told("skep", round, took));
        if round % 2 == 1 {
            script()?;
        }
    }
    let swarm = speed::ratio(&ours, &theirs, |took| took.swarm);
    let one_more = speed::ratio(&ours, &theirs, |took| took.one_more);
    Ok(json!({
        "measured": { "swarm_ratio": rounded(swarm), "one_more_ratio": rounded(one_more) },
        "target": { "swarm_ratio": SWARM_MAX, "one_more_ratio": ONE_MORE_MAX },
        "pass": swarm <= SWARM_MAX && one_more <= ONE_MORE_MAX,
        "detail": {
            "hosts": HOSTS,
            "swarm_managers": 3,
            "skep": detail(&ours),
            "script": detail(&theirs),
            "seconds_of_steps_in_the_last_round": steps,
        },
    }))
}

fn told(who: &str, round: usize, took: Took) -> Took {
    let s = |duration: Duration| format!("{:.2} s", duration.as_secs_f64());
    let engines = took.engines.map(s).unwrap_or_default();
    println!(
        "{:<8} {:>18} {:>18} {:>22}",
        format!("{who} {}", round + 1),
        s(took.swarm),
        s(took.one_more),
        engines
    );
    took
}

fn detail(took: &[Took]) -> Value {
    let all = |of: fn(&Took) -> Duration| {
        took.iter().map(|took| rounded(of(took).as_secs_f64())).collect::<Vec<_>>()
    };
    json!({
        "swarm_s": all(|took| took.swarm),
        "one_more_s": all(|took| took.one_more),
        "swarm_median_s": rounded(speed::median(took.iter().map(|took| took.swarm.as_secs_f64()))),
        "one_more_median_s": rounded(speed::median(took.iter().map(|took| took.one_more.as_secs_f64()))),
    })
}

/// Where the time went: the longest that each step has taken in any operation of the environment.
fn taken_by_steps(lab: &Lab, environment: &str) -> Result<Value> {
    let mut longest: BTreeMap<String, f64> = BTreeMap::new();
    for operation in steps::operations(lab)?.iter().filter(|operation| operation["env"] == environment) {
        for step in operation["steps"].as_array().into_iter().flatten() {
            let name = format!(
                "{}: {}",
                operation["type"].as_str().unwrap_or("?"),
                step["name"].as_str().unwrap_or("?")
            );
            if let (Some(from), Some(to)) = (seconds(&step["started_at"]), seconds(&step["ended_at"])) {
                let taken = longest.entry(name).or_default();
                *taken = taken.max(rounded(to - from));
            }
        }
    }
    Ok(json!(longest))
}

/// Of the hour, of a time as the API writes it; enough for a difference of seconds.
fn seconds(time: &Value) -> Option<f64> {
    let (_, clock) = time.as_str()?.split_once('T')?;
    let mut parts = clock.trim_end_matches('Z').splitn(3, ':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some(hours * 3_600.0 + minutes * 60.0 + seconds)
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
