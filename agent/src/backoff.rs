//! In which order managers are dialled, and how long to wait in between: thousands of agents lose their
//! manager at the same moment and must not all arrive at the next one together, again and again.

use std::time::Duration;

use skep_wire::random;

const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The next manager to dial and when. The first retry is at once and elsewhere; after that every wait
/// is random below a bound that doubles.
#[derive(Default)]
pub struct Dialing {
    failures: u32,
    /// Managers of this round that were not dialled yet; the next one is last.
    round: Vec<String>,
    last: Option<String>,
}

impl Dialing {
    /// The next manager, and how long to wait before dialling it.
    pub fn next(&mut self, managers: &[String]) -> Option<(String, Duration)> {
        self.round.retain(|manager| managers.contains(manager));
        if self.round.is_empty() {
            self.round = managers.to_vec();
            random::shuffle(&mut self.round);
            // The one that has just failed is dialled last.
            self.round.sort_by_key(|manager| self.last.as_ref() != Some(manager));
        }
        let manager = self.round.pop()?;
        self.last = Some(manager.clone());
        Some((manager, self.wait()))
    }

    /// The manager answered.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.round.clear();
    }

    /// The manager could not be dialled, or the link to it was lost.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    fn wait(&self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let bound = WAIT_MIN.saturating_mul(2u32.saturating_pow(doublings.min(16) + 1)).min(WAIT_MAX);
        let span = bound.saturating_sub(WAIT_MIN).as_millis() as u64;
        WAIT_MIN + Duration::from_millis(random::below(span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managers() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    #[test]
    fn the_first_retry_is_at_once_and_elsewhere() {
        let mut dialing = Dialing::default();
        let (first, wait) = dialing.next(&managers()).expect("a manager");
        assert_eq!(wait, Duration::ZERO);
        dialing.succeeded();
        dialing.failed();
        let (second, wait) = dialing.next(&managers()).expect("a manager");
        assert_eq!(wait, Duration::ZERO);
        assert_ne!(first, second);
    }

    #[test]
    fn every_manager_is_dialled_in_every_round() {
        let mut dialing = Dialing::default();
        for _ in 0..5 {
            let mut round: Vec<_> = (0..3)
                .map(|_| {
                    dialing.failed();
                    dialing.next(&managers()).expect("a manager").0
                })
                .collect();
            round.sort_unstable();
            assert_eq!(round, managers());
        }
    }

    #[test]
    fn waits_are_within_their_bounds() {
        let mut dialing = Dialing::default();
        for failures in 0..100 {
            let (_, wait) = dialing.next(&managers()).expect("a manager");
            match failures {
                0 | 1 => assert_eq!(wait, Duration::ZERO),
                _ => assert!((WAIT_MIN..=WAIT_MAX).contains(&wait), "{wait:?}"),
            }
            dialing.failed();
        }
    }

    #[test]
    fn without_managers_there_is_nothing_to_dial() {
        assert!(Dialing::default().next(&[]).is_none());
    }
}
