//! How often somebody has tried to come in and failed: passwords and codes are not guessed at this door.
//!
//! Each manager counts by itself, so the limit is at most as many times as high as there are managers.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::problem::{Code, Problem, Reply};

/// Failures within [`WINDOW`] from one address at one door.
const FAILURES_MAX: usize = 5;

/// Failures within [`WINDOW`] at one door, from wherever: many addresses guess together.
const FAILURES_PER_DOOR_MAX: usize = 50;

/// How long a failure counts.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// To sign in to this account.
    Account(String),
    /// To become the first administrator.
    Setup,
    /// To have a device wait; each counts, because each is kept.
    NewDevice,
    /// To find a device by its short code, as this principal.
    Device(String),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Account(name) => write!(f, "have tried to sign in as '{name}' within a minute and failed"),
            Door::Setup => f.write_str("have tried setup codes within a minute, and they were wrong"),
            Door::NewDevice => f.write_str("devices have asked for codes within a minute"),
            Door::Device(_) => f.write_str("short codes were tried within a minute that nobody has"),
        }
    }
}

type Key = (Door, Option<IpAddr>);

/// The failures that still count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Arc<Mutex<HashMap<Key, Vec<Timestamp>>>>);

impl Attempts {
    /// May it be tried once more?
    pub(crate) fn may_try(&self, door: &Door, from: Option<IpAddr>, now: Timestamp) -> Reply<()> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |times: &Vec<Timestamp>| times.iter().filter(|at| counts(**at, now)).count();
        let here = failed.get(&(door.clone(), from)).map_or(0, recent);
        let anywhere: usize =
            failed.iter().filter(|((known, _), _)| known == door).map(|(_, times)| recent(times)).sum();
        if here < FAILURES_MAX && anywhere < FAILURES_PER_DOOR_MAX {
            return Ok(());
        }
        let wait = u64::try_from(WINDOW.as_secs()).unwrap_or_default();
        let problem = Problem::new(Code::TooManyAttempts, format!("too many {door}"));
        Err(problem.retry_after(wait).hinting("wait a minute"))
    }

    /// It was tried in vain.
    pub(crate) fn failed(&self, door: &Door, from: Option<IpAddr>, now: Timestamp) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, times| times.iter().any(|at| counts(*at, now)));
        let times = failed.entry((door.clone(), from)).or_default();
        times.retain(|at| counts(*at, now));
        times.push(now);
    }
}

fn counts(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Door {
        Door::Account("ann".into())
    }

    fn ben() -> Door {
        Door::Account("ben".into())
    }

    #[test]
    fn after_five_failures_an_address_waits_a_minute_and_others_do_not() {
        let (attempts, now) = (Attempts::default(), Timestamp::UNIX_EPOCH);
        let (here, there) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        for _ in 0..5 {
            attempts.may_try(&ann(), here, now).expect("may be tried");
            attempts.failed(&ann(), here, now);
        }
        let refused = attempts.may_try(&ann(), here, now).expect_err("was tried often enough");
        assert_eq!(refused.code, "SKP-1105");
        attempts.may_try(&ann(), there, now).expect("is another address");
        attempts.may_try(&ben(), here, now).expect("is another account");
        attempts.may_try(&ann(), here, now + WINDOW).expect("a minute later");
    }

    #[test]
    fn an_account_is_not_guessed_at_from_many_addresses() {
        let (attempts, now) = (Attempts::default(), Timestamp::UNIX_EPOCH);
        for number in 0..50 {
            attempts.failed(&ann(), Some(IpAddr::from([10, 0, 0, number])), now);
        }
        assert!(attempts.may_try(&ann(), Some(IpAddr::from([10, 0, 1, 0])), now).is_err());
        attempts.failed(&ben(), None, now + WINDOW);
        assert_eq!(
            attempts.0.lock().expect("nobody has panicked").len(),
            1,
            "what does not count any more is forgotten"
        );
    }
}
