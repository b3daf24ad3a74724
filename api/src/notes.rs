//! When tokens were used, collected and written down together now and then: a write for every read would be too much.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use skep_ledger::{Request, transact};
use skep_model::access::{self, Caller};
use tokio::time::{interval, timeout};

use crate::Api;

/// How exactly it is known when a token was used last.
const NOTED_EVERY: SignedDuration = SignedDuration::from_mins(10);

/// How long what was collected waits for company.
const COLLECTED_FOR: Duration = Duration::from_secs(60);

/// What cannot be written in time is left to the next use.
const WRITING_MAX: Duration = Duration::from_secs(10);

/// Tokens that were used, and when last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<BTreeMap<String, Timestamp>>>);

impl Notes {
    /// A token is used now.
    pub(crate) fn used(&self, caller: &Caller, now: Timestamp) {
        let is_known = |at| now.duration_since(at) < NOTED_EVERY;
        if !caller.last_used_at.is_some_and(is_known) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(caller.token.clone(), now);
        }
    }

    fn taken(&self) -> BTreeMap<String, Timestamp> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Api {
    /// Writes down what was collected, for ever.
    pub(crate) async fn keep_notes(self) {
        let mut due = interval(COLLECTED_FOR);
        // The first is due at once, and nothing was used yet.
        due.tick().await;
        loop {
            due.tick().await;
            self.note_uses().await;
            if self.parts.cluster.is_leader() {
                self.forget_devices().await;
            }
        }
    }

    /// Writes down when tokens were used, as far as that is news.
    pub async fn note_uses(&self) {
        let uses = self.notes.taken();
        if uses.is_empty() {
            return;
        }
        let noting = transact(self.ledger(), Request::new(), |tx| access::used(tx, &uses));
        if !matches!(timeout(WRITING_MAX, noting).await, Ok(Ok(_))) {
            tracing::debug!(tokens = uses.len(), "their uses could not be noted; the next ones will be");
        }
    }
}
