//! Who follows changes here, counted: each stream holds a connection and a buffer for as long as its client likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skep_model::access::Caller;

use crate::Api;
use crate::limits::{AtOnce, Seat};
use crate::problem::{Code, Problem, Reply};

/// Streams and long polls of one manager. Twice what a cluster of 10 000 hosts has people and programs for; each takes
/// about 50 KiB with its connection.
pub const WATCHES_MAX: usize = 4_096;

/// The kinds that are counted apart.
pub(crate) const KINDS: &[&str] = &["event", "operation", "poll"];

/// What a client does for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A stream of changes.
    Event,
    /// A stream that follows one operation.
    Operation,
    /// A request that waits for a change.
    Poll,
}

/// How many there are of each kind, in the order of [`KINDS`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Watches(Arc<[AtomicUsize; 3]>);

/// A place among them; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    watches: Watches,
    kind: Kind,
}

impl Watches {
    /// A place, if there is one.
    pub(crate) fn enter(&self, kind: Kind) -> Reply<Place> {
        // Two that enter at once may both see the last place; one too many does no harm.
        let all: usize = self.counts().map(|(_, count)| count).sum();
        if all >= WATCHES_MAX {
            let detail = format!("this manager serves {all} watches, and takes no more than {WATCHES_MAX}");
            return Err(Problem::new(Code::TooManyWatches, detail).hinting("ask another manager"));
        }
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
        Ok(Place { watches: self.clone(), kind })
    }

    /// How many there are of each kind.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        KINDS.iter().copied().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

impl Api {
    /// A place for somebody who follows changes, if the manager and whoever it is may have one more.
    pub(crate) fn watch_place(&self, caller: &Caller, kind: Kind) -> Reply<(Place, Seat<String>)> {
        let seat = self.seat(caller, AtOnce::Watches)?;
        Ok((self.parts.metrics.watches.enter(kind)?, seat))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watches.0[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_takes_so_many_watches_and_no_more() {
        let watches = Watches::default();
        let mut places: Vec<_> = (0..WATCHES_MAX)
            .map(|number| watches.enter(if number % 2 == 0 { Kind::Event } else { Kind::Poll }))
            .collect::<Result<_, _>>()
            .expect("there is room");
        let refused = watches.enter(Kind::Operation).expect_err("it is full");
        assert_eq!((refused.status, refused.code.as_str()), (429, "SKP-1404"));
        places.pop();
        drop(watches.enter(Kind::Operation).expect("one has left"));
        drop(places);
        assert!(watches.counts().all(|(_, count)| count == 0));
    }
}
