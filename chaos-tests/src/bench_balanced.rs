//! `make bench-balanced`: clients behind HAProxy while one manager is stopped and one is killed every 20 seconds, for two
//! minutes.
//!
//! Written into the benchmark's summary, beside what the other targets have been measured as.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use skep_chaos_tests::{balanced, summary};

const CLIENTS: usize = 64;
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_secs(20);

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
    println!("{CLIENTS} clients behind HAProxy, {ROUNDS} rounds of {} s\n", ROUND.as_secs());
    let measured = balanced::storm(CLIENTS, ROUNDS, ROUND)?;
    println!("\n{measured:#}");
    let sum = |key: &str| {
        measured[key].as_array().into_iter().flatten().filter_map(|each| each.as_u64()).sum::<u64>()
    };
    let (on_stop, on_kill) = (sum("failed_on_stop"), sum("failed_on_kill"));
    let pass = on_stop == 0 && on_kill <= (CLIENTS * ROUNDS) as u64;
    let finding = json!({
        "measured": { "failed_on_stop": on_stop, "failed_on_kill": on_kill },
        "target": { "failed_on_stop": 0, "failed_on_kill": "only what was under way at the one that died" },
        "pass": pass,
        "detail": measured,
    });
    println!("written: {}", summary::write(out, "P15", finding)?.display());
    ensure!(pass, "missed");
    Ok(())
}
