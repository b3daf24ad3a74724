//! The highest term that this host has obeyed. A leader that was replaced and does not know it yet
//! carries a lower one, and is refused even if no manager noticed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{AgentError, files};

/// What is remembered, in memory and on disk. Clones share it.
#[derive(Clone)]
pub(crate) struct Terms {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    highest: Mutex<u64>,
}

/// Why a term was not obeyed.
#[derive(Debug)]
pub(crate) enum TermRefusal {
    /// A higher one was obeyed.
    Lower { obeyed: u64 },
    /// It could not be written down, and after a restart a lower one would be obeyed again.
    NotKept(AgentError),
}

impl Terms {
    pub(crate) fn load(path: PathBuf) -> Result<Terms, AgentError> {
        let highest = match files::read(&path)? {
            None => 0,
            Some(bytes) => String::from_utf8_lossy(&bytes).trim().parse().map_err(|_| {
                AgentError::Content { path: path.clone(), reason: "it is not a number".into() }
            })?,
        };
        Ok(Terms { shared: Arc::new(Shared { path, highest: Mutex::new(highest) }) })
    }

    /// Obeys the term or refuses it. A new term is on disk before this returns.
    pub(crate) async fn obey(&self, term: u64) -> Result<(), TermRefusal> {
        let shared = self.shared.clone();
        // Writing waits for the disk.
        let obeyed = tokio::task::spawn_blocking(move || shared.obey(term)).await;
        obeyed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

impl Shared {
    fn obey(&self, term: u64) -> Result<(), TermRefusal> {
        // The number is changed in one step, so a panic elsewhere does not spoil it.
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        if term < *highest {
            return Err(TermRefusal::Lower { obeyed: *highest });
        }
        if term > *highest {
            files::replace(&self.path, format!("{term}\n").as_bytes()).map_err(TermRefusal::NotKept)?;
            *highest = term;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lower_terms_are_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("term");
        let terms = Terms::load(path.clone()).expect("loaded");
        terms.obey(5).await.expect("first");
        terms.obey(5).await.expect("again");
        terms.obey(7).await.expect("higher");

        let terms = Terms::load(path).expect("loaded again");
        assert!(matches!(terms.obey(6).await, Err(TermRefusal::Lower { obeyed: 7 })));
        terms.obey(7).await.expect("the same");
    }

    #[tokio::test]
    async fn a_term_that_cannot_be_kept_is_not_obeyed() {
        let dir = tempfile::tempdir().expect("a folder");
        let terms = Terms::load(dir.path().join("missing").join("term")).expect("loaded");
        assert!(matches!(terms.obey(1).await, Err(TermRefusal::NotKept(_))));
    }
}
