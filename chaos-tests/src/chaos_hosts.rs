//! `make chaos-hosts`: the leading manager is killed at every step of every operation, with real engines.
//!
//! Lives of an environment, one after another. In each stage of each life the leader is killed once, at a step at which
//! nobody was killed before, until none is left. The exit code is 0 only if everything was as wished after every stage,
//! and the steps of every workflow that there is were among them: a new workflow that no stage brings about is named.
//!
//! With words (`make chaos-hosts STAGES='engine keys'`) only those of the stages that others do not need are lived through
//! in whose titles one of them is.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use nix::unistd::Uid;
use skep_chaos_tests::lab::{LOGGED, Lab, Wish};
use skep_chaos_tests::life::{Life, STAGES, Stage};
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
    if !Uid::effective().is_root() {
        bail!("Docker engines in network namespaces need root: sudo make chaos-hosts");
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut matrix = Matrix { stages: chosen(&words)?, ..Matrix::default() };
    println!("The leader is killed at every step: three managers, five hosts, three swarm managers.\n");
    let since = Instant::now();
    let lab = Lab::start(&Wish { log: LOGGED, ..Wish::new(LAB, 3, PORT)? })?;
    let outcome = matrix.fill(&lab);
    matrix.tell();
    let ended = lab.stop();
    println!("after {:.0} min", since.elapsed().as_secs_f64() / 60.0);
    outcome.and(ended)
}

/// The stages that are lived through.
fn chosen(words: &[String]) -> Result<Vec<&'static Stage>> {
    let has = |word: &String| STAGES.iter().any(|stage| stage.stands_alone && stage.title.contains(&**word));
    if let Some(unknown) = words.iter().find(|word| !has(word)) {
        let titles: Vec<_> =
            STAGES.iter().filter(|stage| stage.stands_alone).map(|stage| stage.title).collect();
        bail!("no stage that can be chosen has '{unknown}' in its title; there are: {}", titles.join(", "));
    }
    let is_meant = |stage: &&Stage| {
        !stage.stands_alone || words.is_empty() || words.iter().any(|word| stage.title.contains(&**word))
    };
    Ok(STAGES.iter().filter(is_meant).collect())
}

/// Every step that was seen, and who was killed at it.
#[derive(Default)]
struct Matrix {
    stages: Vec<&'static Stage>,
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
            for stage in self.stages.clone() {
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
        if self.stages.len() < STAGES.len() {
            return Ok(());
        }
        let written = WORKFLOWS
            .iter()
            .flat_map(|workflow| workflow.steps.iter().map(|step| Place::new(workflow.name, step.name)));
        self.known.extend(written);
        ensure!(
            self.spared().is_empty(),
            "there are steps at which nobody was killed: see the stages in life.rs"
        );
        Ok(())
    }

    /// Steps at which nobody was killed.
    fn spared(&self) -> Vec<String> {
        let spared = self.known.iter().filter(|place| !self.killed.contains_key(place));
        spared.map(Place::to_string).collect()
    }

    fn tell(&self) {
        let during = self.killed.values().filter(|kill| kill.during).count();
        println!(
            "\n{} of {} steps: {during} leaders killed while the step was being done, {} right after",
            self.killed.len(),
            self.known.len(),
            self.killed.len() - during
        );
        for spared in self.spared() {
            println!("nobody killed at {spared}");
        }
    }
}
