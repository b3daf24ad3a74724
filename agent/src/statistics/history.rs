//! The samples of the last hour: pushed at one end, dropped at the other.
//!
//! All series share one list of times, so that a sample that is missing somewhere is a gap there and nowhere a shift.

use std::collections::{BTreeMap, VecDeque};

use skep_wire::statistics::{CONTAINERS_SAMPLED_MAX, SAMPLES_MAX, packed};

/// CPU, memory used and total, disk used and total, bytes received and sent in each second.
pub(super) const HOST_VALUES: usize = 7;

/// CPU, memory used, bytes received and sent in each second.
pub(super) const CONTAINER_VALUES: usize = 4;

/// What was measured at one moment; `None` is a gap.
pub(super) type Values<const N: usize> = [Option<u64>; N];

/// Rows of packed values, as many as there are times or fewer: those of the newest times.
type Rows<const N: usize> = VecDeque<[u64; N]>;

/// What is kept of the last hour.
#[derive(Default)]
pub(super) struct History {
    pub(super) times_ms: VecDeque<u64>,
    pub(super) host: Rows<HOST_VALUES>,
    pub(super) containers: BTreeMap<String, Kept>,
    pub(super) left_out: usize,
}

/// What is kept of a container.
pub(super) struct Kept {
    pub(super) about: About,
    pub(super) memory_limit: Option<u64>,
    pub(super) rows: Rows<CONTAINER_VALUES>,
    /// Samples since it was last seen running.
    away: usize,
}

/// A container by its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) service: String,
    pub(super) task: String,
}

/// A running container at one moment.
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) about: About,
    pub(super) memory_limit: Option<u64>,
    pub(super) values: Values<CONTAINER_VALUES>,
}

/// Everything at one moment.
pub(super) struct Sample {
    pub(super) at_ms: u64,
    pub(super) host: Values<HOST_VALUES>,
    /// Running containers; at most [`CONTAINERS_SAMPLED_MAX`].
    pub(super) containers: Vec<Seen>,
    /// Running containers beyond those; `None` if the engine has not said which ones run.
    pub(super) left_out: Option<usize>,
}

impl History {
    /// Running containers in the order in which they are to be asked: those first of which something is kept, so that a
    /// crowd does not change from sample to sample.
    pub(super) fn known_first<C>(&self, running: Vec<C>, id: impl Fn(&C) -> &str) -> Vec<C> {
        let (mut known, new): (Vec<C>, Vec<C>) =
            running.into_iter().partition(|container| self.containers.contains_key(id(container)));
        known.extend(new);
        known
    }

    /// Adds a sample; what is older than an hour goes.
    pub(super) fn record(&mut self, sample: Sample) {
        self.times_ms.push_back(sample.at_ms);
        self.host.push_back(sample.host.map(packed));
        while self.times_ms.len() > SAMPLES_MAX {
            self.times_ms.pop_front();
            self.host.pop_front();
        }
        let samples = self.times_ms.len();
        for kept in self.containers.values_mut() {
            kept.away += 1;
        }
        for seen in sample.containers {
            self.see(seen);
        }
        for kept in self.containers.values_mut().filter(|kept| kept.away > 0) {
            kept.rows.push_back([0; CONTAINER_VALUES]);
        }
        self.containers.retain(|_, kept| kept.away < SAMPLES_MAX);
        for kept in self.containers.values_mut() {
            kept.rows.drain(..kept.rows.len().saturating_sub(samples));
        }
        self.left_out = sample.left_out.unwrap_or(self.left_out);
    }

    fn see(&mut self, seen: Seen) {
        if !self.containers.contains_key(&seen.id) {
            self.make_room();
        }
        let kept = self.containers.entry(seen.id).or_insert_with(|| Kept {
            about: About::default(),
            memory_limit: None,
            rows: Rows::new(),
            away: 0,
        });
        kept.away = 0;
        kept.about = seen.about;
        kept.memory_limit = seen.memory_limit.or(kept.memory_limit);
        kept.rows.push_back(seen.values.map(packed));
    }

    /// A container that crashes again and again is a new one each time: those that ended first go first.
    fn make_room(&mut self) {
        while self.containers.len() >= CONTAINERS_SAMPLED_MAX {
            let longest_away = self.containers.iter().max_by_key(|(_, kept)| kept.away);
            let Some(id) = longest_away.map(|(id, _)| id.clone()) else { return };
            self.containers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: &str, cpu: Option<u64>) -> Seen {
        let about = About { name: format!("{id}-name"), ..About::default() };
        Seen { id: id.into(), about, memory_limit: None, values: [cpu, None, None, None] }
    }

    fn sample(at_ms: u64, containers: Vec<Seen>) -> Sample {
        Sample { at_ms, host: [Some(at_ms); HOST_VALUES], containers, left_out: Some(0) }
    }

    fn cpu(history: &History, id: &str) -> Vec<u64> {
        history.containers[id].rows.iter().map(|row| row[0]).collect()
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut history = History::default();
        for at in 0..SAMPLES_MAX as u64 + 40 {
            history.record(sample(at, vec![seen("a", Some(at))]));
        }
        assert_eq!((history.times_ms.len(), history.times_ms[0]), (SAMPLES_MAX, 40));
        assert_eq!((history.host.len(), history.host[0][0]), (SAMPLES_MAX, 41));
        let a = cpu(&history, "a");
        assert_eq!((a.len(), a[0], a.last()), (SAMPLES_MAX, 41, Some(&(SAMPLES_MAX as u64 + 40))));
    }

    #[test]
    fn a_container_that_is_gone_leaves_gaps_and_goes_after_the_hour() {
        let mut history = History::default();
        history.record(sample(0, vec![seen("a", Some(7))]));
        history.record(sample(1, vec![]));
        history.record(sample(2, vec![seen("a", None), seen("b", Some(0))]));
        history.record(sample(3, vec![seen("a", Some(9)), seen("b", Some(1))]));
        assert_eq!(cpu(&history, "a"), [8, 0, 0, 10]);
        assert_eq!(cpu(&history, "b"), [1, 2], "the values of the newest times");
        for at in 4..SAMPLES_MAX as u64 + 3 {
            history.record(sample(at, vec![seen("b", Some(1))]));
        }
        assert!(history.containers.contains_key("a"), "it is seen on the first sample still");
        history.record(sample(999, vec![seen("b", Some(1))]));
        assert_eq!(history.containers.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn containers_that_crash_again_and_again_do_not_fill_the_memory() {
        let mut history = History::default();
        for at in 0..300 {
            history.record(sample(at, vec![seen("steady", Some(1)), seen(&format!("crash-{at:03}"), None)]));
        }
        assert_eq!(history.containers.len(), CONTAINERS_SAMPLED_MAX);
        assert!(history.containers.contains_key("steady") && history.containers.contains_key("crash-299"));
        assert!(!history.containers.contains_key("crash-000"), "the oldest have gone");
        let asked = history.known_first(vec!["new", "steady"], |id| id);
        assert_eq!(asked, ["steady", "new"]);
    }

    #[test]
    fn an_engine_that_does_not_answer_leaves_gaps_and_what_was_known() {
        let mut history = History::default();
        history.record(Sample { left_out: Some(3), ..sample(0, vec![seen("a", Some(1))]) });
        history.record(Sample { left_out: None, ..sample(1, vec![]) });
        assert_eq!((history.left_out, cpu(&history, "a")), (3, vec![2, 0]));
        assert_eq!(history.containers["a"].about.name, "a-name");
    }
}
