//! `make demo`: tells the story on this machine, with a line per stage.
//!
//! With `--once` the whole story, then everything is removed; the exit code is 0 only if every stage was verified.
//! Without it the story up to a running stack; then the cluster is yours until Ctrl-C, which removes it.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Uid;
use skep_chaos_tests::story::{STAGES, Story};

/// Ports that nothing else on a developer's machine is likely to use.
const PORT: u16 = 18_443;

/// The last stage that leaves a running stack behind.
const PLAYGROUND: &str = "every replica tells the same state";

fn main() -> ExitCode {
    let once = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--once" => true,
        other => {
            eprintln!("skep-demo: '{}' is not understood; there is only --once", other.join(" "));
            return ExitCode::from(2);
        }
    };
    let told = stop_asked().and_then(|asked| tell(once, &asked));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell(once: bool, asked: &mpsc::Receiver<()>) -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("the demo starts Docker engines in network namespaces, which needs root: sudo make demo");
    }
    let since = Instant::now();
    println!("Skep on this machine: three managers, three hosts, one stack.\n");
    let mut story = Story::begin("demo", PORT)?;
    let outcome = stages(&mut story, once, asked);
    if outcome.is_ok() && !once {
        play(&story, asked);
    }
    print!("\ncleaning up … ");
    // Only decoration: the text comes a moment later otherwise.
    let _ = std::io::stdout().flush();
    let ended = story.end();
    println!("done after {:.0} s altogether", since.elapsed().as_secs_f64());
    outcome.and(ended)
}

fn stages(story: &mut Story, once: bool, asked: &mpsc::Receiver<()>) -> Result<()> {
    for stage in STAGES {
        let since = Instant::now();
        let seen = (stage.tell)(story).with_context(|| format!("stage '{}'", stage.title))?;
        println!("✓ {:<64} {:>6.1} s", stage.title, since.elapsed().as_secs_f64());
        println!("    {seen}");
        if asked.try_recv().is_ok() {
            bail!("interrupted");
        }
        if !once && stage.title == PLAYGROUND {
            return Ok(());
        }
    }
    println!("\nevery stage was verified");
    Ok(())
}

fn play(story: &Story, asked: &mpsc::Receiver<()>) {
    println!("\nIt is yours now. In another terminal:");
    for (name, value) in story.lab().settings() {
        println!("  export {name}={value}");
    }
    println!("  export SKEP_ENV=prod");
    println!("  skep cluster status · skep host ls · skep ps · skep op ls");
    println!("\nCtrl-C stops everything and removes it.");
    // An error means that nobody can ask any more; then it is over too.
    let _ = asked.recv();
}

/// Says when Ctrl-C was pressed; a stage under way is finished first, so that everything can be removed in order.
fn stop_asked() -> Result<mpsc::Receiver<()>> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("waiting for signals")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            println!("\nstopping after this stage");
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
