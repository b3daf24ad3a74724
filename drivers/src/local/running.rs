//! Whether a machine's engine and agent run, known without a gap.
//!
//! A program that is looked for among the processes is invisible for a moment: between the fork in the manager
//! and the exec that gives it its own environment. A manager killed just then leaves a program that starts a
//! little later, and whoever looked meanwhile would start a second one.
//!
//! So each program gets a locked file as its standard input. The lock passes from the manager to the child with
//! the fork, stays with it through every exec, and is given back by the kernel when it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use super::files;
use super::layout::HostLayout;
use super::processes::{self, Manner, Owner, Role};
use crate::DriverError;

/// A child is marked as soon as it has become `setsid`, its first program; a loaded computer may let it wait.
const MARKED_WITHIN: Duration = Duration::from_secs(2);
/// What is killed gives its lock back at once; `processes::end` has its own, longer limit.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// The right to start the program of this role, to be given to it; `None` if it runs.
pub(super) fn to_start(host: &HostLayout, role: Role) -> Result<Option<File>, DriverError> {
    let deadline = Instant::now() + MARKED_WITHIN;
    let owner = Owner::part(host, role);
    loop {
        if let Some(lock) = try_lock(host, role)? {
            // What runs without the lock has lost its folder or its engine; it is not to be joined by another.
            processes::end(&owner, Manner::AtOnce)?;
            return Ok(Some(lock));
        }
        if processes::is_running(&owner) {
            return Ok(None);
        }
        if Instant::now() > deadline {
            // Something that came from the program has outlived it.
            processes::end(&owner, Manner::AtOnce)?;
            return wait_for(host, role).map(Some);
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Ends everything on the machine, also what is only just being started. Its folder is there, and nobody else
/// is starting anything.
pub(super) fn end(host: &HostLayout, manner: Manner) -> Result<usize, DriverError> {
    let mut count = processes::end(&Owner::host(host), manner)?;
    for role in [Role::Engine, Role::Agent] {
        if host.run_lock(role).exists() && try_lock(host, role)?.is_none() {
            let deadline = Instant::now() + MARKED_WITHIN;
            while try_lock(host, role)?.is_none() && Instant::now() < deadline {
                count += processes::end(&Owner::part(host, role), Manner::AtOnce)?;
                std::thread::sleep(LOOK_AGAIN_AFTER);
            }
            wait_for(host, role)?;
        }
    }
    Ok(count)
}

fn wait_for(host: &HostLayout, role: Role) -> Result<File, DriverError> {
    let deadline = Instant::now() + GIVEN_BACK_WITHIN;
    loop {
        match try_lock(host, role)? {
            Some(lock) => return Ok(lock),
            None if Instant::now() > deadline => {
                let source = std::io::ErrorKind::WouldBlock.into();
                return Err(files::io_error("waiting for the end of what holds", &host.run_lock(role))(
                    source,
                ));
            }
            None => std::thread::sleep(LOOK_AGAIN_AFTER),
        }
    }
}

fn try_lock(host: &HostLayout, role: Role) -> Result<Option<File>, DriverError> {
    let path = host.run_lock(role);
    let trying = "locking";
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(files::io_error(trying, &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(files::io_error(trying, &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::DriverConfig;
    use crate::local::layout::Layout;

    #[test]
    fn the_lock_stays_with_the_child_until_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let config =
            DriverConfig { cluster: "c".into(), skep_binary: "/bin/true".into(), root: folder.path().into() };
        let host = Layout::of(&config).host("host_1");
        files::make_folder(host.folder()).expect("its folder");

        let lock = try_lock(&host, Role::Agent).expect("no error").expect("nobody has it");
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::from(lock)).spawn().expect("a child");
        assert!(try_lock(&host, Role::Agent).expect("no error").is_none(), "the child has it");
        assert!(try_lock(&host, Role::Engine).expect("no error").is_some(), "the other is another");
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(wait_for(&host, Role::Agent).is_ok(), "it is given back");
    }
}
