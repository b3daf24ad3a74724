//! Whether this replica leads, and whether Raft has ended, for the rest of the process.
//!
//! openraft's metrics change with every entry. One task looks at them, beside openraft itself, and wakes others only
//! when something has changed that they ask for: waking a thread costs more than a small transaction.

use openraft::async_runtime::WatchReceiver as _;
use skep_ledger::Term;
use tokio::sync::watch;

use crate::replica::Replica;
use crate::types::Raft;

/// What is known about one replica's Raft.
pub(crate) struct Leadership {
    term: watch::Receiver<Option<Term>>,
    ended: watch::Receiver<Option<String>>,
}

impl Leadership {
    /// Follows a Raft from now on.
    pub(crate) fn of(raft: &Raft) -> Leadership {
        let mut metrics = raft.metrics();
        let (tell_term, term) = watch::channel(None);
        let (tell_end, ended) = watch::channel(None);
        tokio::spawn(async move {
            let reason = loop {
                let (leads, end) = {
                    let now = metrics.borrow_watched();
                    let applied = now.last_applied.as_ref().map(|log_id| log_id.committed_leader_id().term);
                    let leads = now.state.is_leader()
                        && now.last_quorum_acked.is_some()
                        && applied == Some(now.current_term);
                    (
                        leads.then_some(now.current_term),
                        now.running_state.as_ref().err().map(ToString::to_string),
                    )
                };
                tell_term.send_if_modified(|known| std::mem::replace(known, leads) != leads);
                if let Some(reason) = end {
                    break reason;
                }
                if metrics.changed().await.is_err() {
                    break "openraft has ended".into();
                }
            };
            // openraft ends with a last word that it no longer leads, but a panic in it has none.
            tell_term.send_replace(None);
            tell_end.send_replace(Some(reason));
            // Nobody is told that there is nothing more to hear as long as somebody listens.
            tokio::join!(tell_term.closed(), tell_end.closed());
        });
        Leadership { term, ended }
    }
}

impl Replica {
    /// `Some(term)` while this replica leads, a quorum has confirmed it, and it has applied everything up to its
    /// own term: the scheduler's sign to work.
    pub fn leadership(&self) -> watch::Receiver<Option<Term>> {
        self.followed().term.clone()
    }

    /// Resolves when openraft has stopped for good, with the reason: the process must end then.
    pub async fn stopped(&self) -> String {
        let mut ended = self.followed().ended.clone();
        let reason = ended.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "openraft has ended".into())
    }
}
