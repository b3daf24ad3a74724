//! How much one of those who ask may ask for: no script, however wrong, takes a manager from all others.
//!
//! | limit      | of whom     | what                                                          | beyond it |
//! |------------|-------------|---------------------------------------------------------------|-----------|
//! | `reads`    | a principal | requests that change nothing, a second                        | SKP-1407  |
//! | `writes`   | a principal | all others, a second                                          | SKP-1407  |
//! | `joins`    | an address  | scripts, and as many programs, for new hosts, a minute        | SKP-1407  |
//! | `watches`  | a principal | streams of changes, and requests that wait for one, at a time | SKP-1408  |
//! | `sessions` | a principal | commands and logs of hosts, at a time                         | SKP-1408  |
//!
//! Each manager counts by itself: what somebody may ask of the cluster is up to as many times as much as it has managers.
//! Whoever acts as the cluster is not limited: the founders' token is there for the day on which everything else has gone wrong.

mod buckets;
mod seats;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use skep_model::access::{ActsAs, Caller};

use crate::Api;
use crate::problem::{Code, Problem, Reply};
use buckets::{Buckets, Taken};
pub use seats::{Seat, Seats};

/// How much of a rate may come at once: a screen that is opened, or a script's first second, asks for a lot.
const BURST_SECONDS: u32 = 5;

/// Over which time new hosts are counted: a rack's machines come together, and then for long none.
const JOINS_SECONDS: u32 = 60;

/// What a rate allows (draft-ietf-httpapi-ratelimit-headers).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it.
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// The limits of one manager, as `[limits]` in `server.toml` says them; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Requests of a principal that change nothing, a second.
    pub reads_per_second: u32,
    /// Its other requests, a second.
    pub writes_per_second: u32,
    /// Scripts, and as many programs, for new hosts that one address fetches in a minute.
    pub joins_per_minute: u32,
    /// Streams of changes and requests that wait for one, of a principal at a time.
    pub watches: u32,
    /// Commands and logs of hosts, of a principal at a time.
    pub sessions: u32,
    /// Connections of one address to the API port at a time.
    pub connections_per_address: u32,
}

impl Default for LimitsConfig {
    /// Enough for whoever is not a mistake: the console asks ten times a second at most.
    fn default() -> LimitsConfig {
        LimitsConfig {
            reads_per_second: 200,
            writes_per_second: 20,
            joins_per_minute: 30,
            watches: 50,
            sessions: 20,
            // A quarter of the places; a load balancer that passes connections on is one address, see `trusted_proxies`.
            connections_per_address: 2_048,
        }
    }
}

/// What requests are counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// They change nothing.
    Reads,
    /// They may.
    Writes,
}

/// What there is only so much of at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtOnce {
    /// Streams of changes, and requests that wait for one.
    Watches,
    /// Commands and logs of hosts.
    Sessions,
}

/// What those who ask have left.
#[derive(Clone)]
pub(crate) struct Limits(Arc<Counted>);

struct Counted {
    reads: Option<Buckets<String>>,
    writes: Option<Buckets<String>>,
    joins: Option<Buckets<(IpAddr, &'static str)>>,
    watches: Seats<String>,
    sessions: Seats<String>,
}

/// How a principal stands with a rate, for the headers of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    name: &'static str,
    quota: u32,
    window_seconds: u32,
    remaining: u32,
}

impl Class {
    /// What a method of HTTP promises.
    pub(crate) fn of(method: &Method) -> Class {
        if method.is_safe() { Class::Reads } else { Class::Writes }
    }
}

impl Standing {
    /// Says it in the answer.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let Standing { name, quota, window_seconds, remaining } = *self;
        let policy = format!("\"{name}\";q={quota};w={window_seconds}");
        let left = format!("\"{name}\";r={remaining};t={}", self.full_in_seconds());
        for (header, text) in [(POLICY, policy), (LEFT, left)] {
            headers.extend(HeaderValue::from_str(&text).map(|value| (header, value)));
        }
    }

    /// When all of it is there again, if nothing is asked.
    fn full_in_seconds(&self) -> u64 {
        let missing = u64::from(self.quota.saturating_sub(self.remaining));
        (missing * u64::from(self.window_seconds)).div_ceil(u64::from(self.quota).max(1))
    }
}

impl Limits {
    pub(crate) fn new(config: &LimitsConfig) -> Limits {
        let rate = |name, per_second: u32| {
            Buckets::new(name, per_second.saturating_mul(BURST_SECONDS), BURST_SECONDS)
        };
        Limits(Arc::new(Counted {
            reads: rate("reads", config.reads_per_second),
            writes: rate("writes", config.writes_per_second),
            joins: Buckets::new("joins", config.joins_per_minute, JOINS_SECONDS),
            watches: Seats::new(config.watches),
            sessions: Seats::new(config.sessions),
        }))
    }
}

impl Api {
    /// Takes one request from what a principal has left of a rate. How it stands then belongs into the answer, whatever that is.
    pub(crate) fn spend(&self, caller: &Caller, class: Class) -> (Option<Standing>, Reply<()>) {
        let Counted { reads, writes, .. } = &*self.limits.0;
        let buckets = if class == Class::Reads { reads } else { writes };
        let Some(buckets) = buckets.as_ref().filter(|_| is_limited(caller)) else { return (None, Ok(())) };
        let (standing, taken) = buckets.take(&caller.principal);
        (Some(standing), self.or_limited(buckets.name(), &caller.principal, standing, taken))
    }

    /// Takes one of the scripts or programs for new hosts that an address may fetch.
    pub(crate) fn spend_join(&self, from: Option<IpAddr>, what: &'static str) -> Reply<()> {
        let (Some(buckets), Some(from)) = (&self.limits.0.joins, from) else { return Ok(()) };
        let (standing, taken) = buckets.take(&(network(from), what));
        self.or_limited(buckets.name(), &from, standing, taken)
    }

    /// A place for something that lasts; given back when it is dropped.
    pub(crate) fn seat(&self, caller: &Caller, what: AtOnce) -> Reply<Seat<String>> {
        let (seats, name, words) = match what {
            AtOnce::Watches => (&self.limits.0.watches, "watches", "watches"),
            AtOnce::Sessions => (&self.limits.0.sessions, "sessions", "commands and logs of hosts"),
        };
        if !is_limited(caller) {
            return Ok(Seat::default());
        }
        seats.take(&caller.principal).ok_or_else(|| {
            self.parts.metrics.limited(name);
            let detail = format!(
                "{} has {} {words} open at this manager, and may have no more at a time",
                caller.principal,
                seats.limit()
            );
            Problem::new(Code::TooManyAtOnce, detail).hinting("close one of them")
        })
    }

    fn or_limited(
        &self,
        name: &'static str,
        who: &dyn fmt::Display,
        standing: Standing,
        taken: Taken,
    ) -> Reply<()> {
        let Err(wait) = taken else { return Ok(()) };
        self.parts.metrics.limited(name);
        let Standing { quota, window_seconds, .. } = standing;
        let detail = format!("{who} may ask for {quota} {name} within {window_seconds} s, and has");
        // Rounded up: whoever comes back then is let in.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Err(Problem::new(Code::RateLimited, detail).retry_after(seconds.max(1)).hinting(
            "wait as long as Retry-After says; the limits are in [limits] of the manager's server.toml",
        ))
    }
}

fn is_limited(caller: &Caller) -> bool {
    caller.acts_as != ActsAs::Cluster
}

/// Who has one address of IPv6 has as many as they like; what is given to one of them is a network (RFC 6177).
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_told_in_the_words_of_the_draft() {
        let standing = Standing { name: "writes", quota: 100, window_seconds: 5, remaining: 37 };
        let mut headers = HeaderMap::new();
        standing.tell(&mut headers);
        assert_eq!(headers[POLICY], "\"writes\";q=100;w=5");
        assert_eq!(headers[LEFT], "\"writes\";r=37;t=4", "63 of 100 come back in 3.15 s");
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        let address = |text: &str| -> IpAddr { text.parse().expect("is one") };
        assert_eq!(network(address("2001:db8:1:2:3::4")), network(address("2001:db8:1:2:ffff::1")));
        assert_ne!(network(address("2001:db8:1:2::1")), network(address("2001:db8:1:3::1")));
        assert_ne!(network(address("10.0.0.1")), network(address("10.0.0.2")));
    }
}
