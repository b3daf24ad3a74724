//! How often somebody has tried to sign in and failed: passwords are not guessed at this door.
//!
//! Each manager counts by itself, so the limit is at most as many times as high as there are managers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::problem::{DoorCode, Problem, Reply};

/// Failures within [`WINDOW`] from one address for one account.
const FAILURES_MAX: usize = 5;

/// Failures within [`WINDOW`] for one account, from wherever: many addresses guess together.
const FAILURES_PER_ACCOUNT_MAX: usize = 50;

/// How long a failure counts.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

type Key = (String, Option<IpAddr>);

/// The failures that still count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Arc<Mutex<HashMap<Key, Vec<Timestamp>>>>);

impl Attempts {
    /// May it be tried once more?
    pub(crate) fn may_try(&self, account: &str, from: Option<IpAddr>, now: Timestamp) -> Reply<()> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |times: &Vec<Timestamp>| times.iter().filter(|at| counts(**at, now)).count();
        let here = failed.get(&(account.to_owned(), from)).map_or(0, recent);
        let anywhere: usize =
            failed.iter().filter(|((known, _), _)| known == account).map(|(_, times)| recent(times)).sum();
        if here < FAILURES_MAX && anywhere < FAILURES_PER_ACCOUNT_MAX {
            return Ok(());
        }
        let detail = format!("too many have tried to sign in as '{account}' within a minute and failed");
        let wait = u64::try_from(WINDOW.as_secs()).unwrap_or_default();
        Err(Problem::new(DoorCode::TooManyAttempts, detail).retry_after(wait).hinting("wait a minute"))
    }

    /// It was tried in vain.
    pub(crate) fn failed(&self, account: &str, from: Option<IpAddr>, now: Timestamp) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, times| times.iter().any(|at| counts(*at, now)));
        let times = failed.entry((account.to_owned(), from)).or_default();
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

    #[test]
    fn after_five_failures_an_address_waits_a_minute_and_others_do_not() {
        let (attempts, now) = (Attempts::default(), Timestamp::UNIX_EPOCH);
        let (here, there) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        for _ in 0..5 {
            attempts.may_try("ann", here, now).expect("may be tried");
            attempts.failed("ann", here, now);
        }
        let refused = attempts.may_try("ann", here, now).expect_err("was tried often enough");
        assert_eq!(refused.code, "SKP-1105");
        attempts.may_try("ann", there, now).expect("is another address");
        attempts.may_try("ben", here, now).expect("is another account");
        attempts.may_try("ann", here, now + WINDOW).expect("a minute later");
    }

    #[test]
    fn an_account_is_not_guessed_at_from_many_addresses() {
        let (attempts, now) = (Attempts::default(), Timestamp::UNIX_EPOCH);
        for number in 0..50 {
            attempts.failed("ann", Some(IpAddr::from([10, 0, 0, number])), now);
        }
        assert!(attempts.may_try("ann", Some(IpAddr::from([10, 0, 1, 0])), now).is_err());
        attempts.failed("ben", None, now + WINDOW);
        assert_eq!(
            attempts.0.lock().expect("nobody has panicked").len(),
            1,
            "what does not count any more is forgotten"
        );
    }
}
