//! From counters that only grow to rates: arithmetic without a clock.

use std::collections::BTreeMap;
use std::time::Duration;

/// 100 % in the unit in which shares are kept, a hundredth of a percent: people want one digit behind the point.
pub(super) const WHOLE: u64 = 10_000;

/// Bytes that an interface has received and sent since it came up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// The counters of several interfaces by their names.
pub(super) type Interfaces = BTreeMap<String, Traffic>;

/// How much a counter has grown; `None` if it began anew.
pub(super) fn growth(before: u64, now: u64) -> Option<u64> {
    now.checked_sub(before)
}

/// `part` of `whole` in hundredths of a percent, `times` over; `None` without a whole.
pub(super) fn share(part: u64, whole: u64, times: u64) -> Option<u64> {
    let share = u128::from(part) * u128::from(WHOLE) * u128::from(times);
    u64::try_from(share.checked_div(u128::from(whole))?).ok()
}

/// Bytes in each second, received and sent. Interfaces that have come or gone meanwhile do not count: their counters tell of
/// another time. `None` if no interface was there both times, or one began to count anew.
pub(super) fn traffic_rate(before: &Interfaces, now: &Interfaces, elapsed: Duration) -> Option<Traffic> {
    let mut grown: Option<Traffic> = None;
    for (name, now) in now {
        let Some(before) = before.get(name) else { continue };
        let sum = grown.unwrap_or_default();
        grown = Some(Traffic {
            received: sum.received.saturating_add(growth(before.received, now.received)?),
            sent: sum.sent.saturating_add(growth(before.sent, now.sent)?),
        });
    }
    let grown = grown?;
    Some(Traffic { received: per_second(grown.received, elapsed)?, sent: per_second(grown.sent, elapsed)? })
}

fn per_second(grown: u64, elapsed: Duration) -> Option<u64> {
    u64::try_from((u128::from(grown) * 1000).checked_div(elapsed.as_millis())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(counters: &[(&str, u64, u64)]) -> Interfaces {
        let traffic = |(name, received, sent): &(&str, u64, u64)| {
            ((*name).to_owned(), Traffic { received: *received, sent: *sent })
        };
        counters.iter().map(traffic).collect()
    }

    #[test]
    fn rates_come_from_interfaces_that_were_there_both_times() {
        let ten = Duration::from_secs(10);
        for (before, now, elapsed, expected) in [
            (&[("a", 100, 10)][..], &[("a", 1100, 30)][..], ten, Some((100, 2))),
            // Another one has come, with all that it had counted before.
            (&[("a", 0, 0)], &[("a", 1000, 0), ("b", 9_999_999, 9)], ten, Some((100, 0))),
            (&[("a", 0, 0), ("b", 5, 5)], &[("a", 1000, 0)], ten, Some((100, 0))),
            (&[("a", 0, 0), ("b", 0, 0)], &[("a", 1000, 10), ("b", 1000, 10)], ten, Some((200, 2))),
            // Began anew, gone, never there, no time.
            (&[("a", 5000, 0)], &[("a", 10, 0)], ten, None),
            (&[("a", 0, 0)], &[("b", 0, 0)], ten, None),
            (&[], &[], ten, None),
            (&[("a", 0, 0)], &[("a", 1, 1)], Duration::ZERO, None),
        ] {
            let rate = traffic_rate(&interfaces(before), &interfaces(now), elapsed);
            assert_eq!(rate.map(|rate| (rate.received, rate.sent)), expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn a_share_has_two_digits_behind_the_point_and_needs_a_whole() {
        for (part, whole, times, expected) in [
            (1, 3, 1, Some(3333)),
            (0, 10, 4, Some(0)),
            (10, 10, 4, Some(40_000)),
            (1, 0, 1, None),
            (u64::MAX, u64::MAX, 8, Some(80_000)),
        ] {
            assert_eq!(share(part, whole, times), expected);
        }
    }
}
