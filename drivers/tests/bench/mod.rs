//! How to look at a driver's machines from outside.

pub(crate) mod local;

use std::time::{Duration, Instant};

use skep_drivers::{DriverConfig, Machine, MachineKey};

pub(crate) use local::LocalBench;

/// Generous, because the computer that runs the tests may be busy with other things.
const DEADLINE: Duration = Duration::from_secs(60);

/// A way to damage a machine.
pub(crate) type Fault = (&'static str, Box<dyn Fn(&Machine) + Send + Sync>);
/// A point in the making of a machine that can be seen from outside.
pub(crate) type Stage = (&'static str, Box<dyn Fn(&MachineKey) -> bool + Send + Sync>);

/// What the contract needs from a driver's surroundings. Dropped, it removes all that was made.
pub(crate) trait Bench: Send + Sync {
    /// What the driver is built with.
    fn config(&self) -> &DriverConfig;
    /// Everything of the machine is there exactly once; else what is not.
    fn made_once(&self, machine: &Machine) -> Result<(), String>;
    /// Its engine answers, soon.
    fn works(&self, machine: &Machine) -> Result<(), String>;
    /// Leaves work on it that its removal must end.
    fn use_it(&self, machine: &Machine);
    /// Nothing of the machine is left; else what is.
    fn nothing_left(&self, key: &MachineKey) -> Result<(), String>;
    /// Ways in which a machine is only half there.
    fn faults(&self) -> Vec<Fault>;
    /// Points at which the manager may be killed.
    fn stages(&self) -> Vec<Stage>;
}

/// The bench of this driver.
pub(crate) fn of(driver: &str) -> Box<dyn Bench> {
    match driver {
        "local" => Box::new(LocalBench::new()),
        other => panic!("driver {other} has no bench: add one, so that its promises are tried"),
    }
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    soon(|| if so() { Ok(()) } else { Err(String::new()) }).unwrap_or_else(|_| panic!("never: {what}"));
}

/// Waits until it is so, and tells what was missing last if it is never.
pub(crate) fn soon(mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Err(missing) if Instant::now() > deadline => return Err(missing),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
            Ok(()) => return Ok(()),
        }
    }
}
