//! `make chaos-hosts`: the leading manager is killed at every step of every operation, with real engines.
//!
//! Lives of an environment, one after another. In each stage of each life the leader is killed once, at a step at which
//! nobody was killed before, until none is left. The exit code is 0 only if everything was as wished after every stage,
//! and the steps of every workflow that there is were among them: a new workflow that no stage brings about is named.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use nix::unistd::Uid;
use skep_chaos_tests::lab::{Lab, Wish};
use skep_chaos_tests::life::{Life, STAGES};
use skep_chaos_tests::steps::{self, Kill, Place};
use skep_scheduler::workflows::WORKFLOWS;

const LAB: &str = "chaos-hosts";
const PORT: u16 = 19_443;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if let Some(unknown) = std::env::args().nth(1) {
        bail!("'{unknown}' is not understood: nothing can be chosen here, see 'make help'");
    }
    if !Uid::effective().is_root() {
        bail!("Docker engines in network namespaces need root: sudo make chaos-hosts");
    }
    println!("The leader is killed at every step: three managers, five hosts, three swarm managers.\n");
    let since = Instant::now();
    let lab = Lab::start(&Wish::new(LAB, 3, PORT)?)?;
    let mut matrix = Matrix::default();
    let outcome = matrix.fill(&lab);
    matrix.tell();
    let ended = lab.stop();
    println!("after {:.0} min", since.elapsed().as_secs_f64() / 60.0);
    outcome.and(ended)
}

/// Every step that was seen, and who was killed at it.
#[derive(Default)]
struct Matrix {
    known: BTreeSet<Place>,
    killed: BTreeMap<Place, Kill>,
    /// By stage: a stage in which nobody can be killed any more need not be repeated if it stands for itself.
    exhausted: BTreeSet<&'static str>,
}

impl Matrix {
    fn fill(&mut self, lab: &Lab) -> Result<()> {
        loop {
            let before = self.killed.len();
            let mut life = Life::new(lab)?;
            for stage in STAGES {
                if stage.stands_alone && self.exhausted.contains(stage.title) {
                    continue;
                }
                let since = Instant::now();
                let killed = life.live(stage, |place| !self.killed.contains_key(place))?;
                self.known.extend(steps::places(&steps::operations(lab)?));
                match killed {
                    Some(kill) => {
                        println!("✓ {:<48} {:>5.1} s  {kill}", stage.title, since.elapsed().as_secs_f64());
                        self.killed.insert(kill.place.clone(), kill);
                    }
                    None => drop(self.exhausted.insert(stage.title)),
                }
            }
            if self.killed.len() == before {
                break;
            }
        }
        let written = WORKFLOWS
            .iter()
            .flat_map(|workflow| workflow.steps.iter().map(|step| Place::new(workflow.name, step.name)));
        self.known.extend(written);
        let spared = self.known.iter().filter(|place| !self.killed.contains_key(place));
        let spared: Vec<String> = spared.map(Place::to_string).collect();
        ensure!(spared.is_empty(), "nobody was killed at: {}; see the stages in life.rs", spared.join("; "));
        Ok(())
    }

    fn tell(&self) {
        let during = self.killed.values().filter(|kill| kill.during).count();
        println!(
            "\n{} of {} steps: {during} leaders killed while the step was being done, {} right after",
            self.killed.len(),
            self.known.len(),
            self.killed.len() - during
        );
    }
}
