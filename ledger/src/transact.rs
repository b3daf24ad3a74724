//! Deciding and proposing, again and again until nothing that was read has changed.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Ledger, Outcome, ReadError, RequestId, Revision, Term, Tx, Txn, Unavailable, View};

/// How often a rule is decided anew when others change what it read. Each round loses only to a round that won, so
/// this many in a row means a hot spot that waiting would not cure.
pub const TRANSACT_ATTEMPTS_MAX: u32 = 32;

/// Who asks, and in which term. For one call of [`transact`]: whoever may have to ask again keeps the id, and makes a
/// [`Request::repeatable`] of it each time.
#[derive(Debug, Default)]
pub struct Request {
    /// Repeating a request with the same id changes things once.
    id: RequestId,
    /// Refuse the change in any other term; set by the scheduler.
    fence: Option<Term>,
    /// Could it have been answered before? Nobody else knows an id that is made here, so its answer need not be remembered.
    may_be_repeated: bool,
}

impl Request {
    /// A new request without a fence.
    pub fn new() -> Request {
        Request::default()
    }

    /// A request with an id that its sender may use again.
    pub fn repeatable(id: RequestId) -> Request {
        Request { id, fence: None, may_be_repeated: true }
    }

    /// A new request that only the leader of `term` may bring through.
    pub fn fenced(term: Term) -> Request {
        Request { fence: Some(term), ..Request::new() }
    }
}

/// A rule's answer, now true on a quorum of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<A> {
    /// What the rule answered.
    pub answer: A,
    /// The revision of the change; of the view, if there was nothing to change.
    pub revision: Revision,
    /// The request had been answered before, with this.
    pub replayed: bool,
}

/// Why a change did not come about.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E> {
    /// The rule says no. Nothing is changed.
    #[error("{0}")]
    Refused(E),
    /// Others kept changing what the rule read. Nothing is changed.
    #[error("{what} kept changing; gave up after {TRANSACT_ATTEMPTS_MAX} attempts")]
    Conflict {
        /// What the last attempt lost to.
        what: String,
    },
    /// The term of the request is over. Nothing is changed.
    #[error("another term has begun: {0}")]
    Fenced(Term),
    /// The replicas could not be asked.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The state could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Lets `rule` decide on this replica's view and commits what it wrote if nothing that it read has changed.
///
/// The first try is on the local view, which costs nothing; a refusal decided there may be out of date, so it is
/// decided once more on a fresh one before anybody hears of it.
pub async fn transact<A, E>(
    ledger: &dyn Ledger,
    request: Request,
    mut rule: impl FnMut(&mut Tx<'_>) -> Result<A, E> + Send,
) -> Result<Committed<A>, TransactError<E>>
where
    A: Serialize + DeserializeOwned + Send,
    E: Send,
{
    let mut lost_to = String::new();
    for attempt in 0..TRANSACT_ATTEMPTS_MAX {
        let view = if attempt == 0 { ledger.view() } else { ledger.fresh_view().await? };
        // A repeated request is answered before its rule is asked: what the first one did may make the rule refuse.
        if request.may_be_repeated
            && let Some((revision, bytes)) = view.answered(request.id)?
        {
            return replayed(revision, &bytes);
        }
        let decided = {
            let mut tx = Tx::new(&view, ledger.now());
            match rule(&mut tx) {
                Ok(answer) => {
                    let remembered = match request.may_be_repeated {
                        true => serde_json::to_vec(&answer).map_err(ReadError::new)?,
                        // Whoever asked is still here, and knows.
                        false => vec![],
                    };
                    (answer, tx.finish(request.id, request.fence, remembered))
                }
                Err(_) if attempt == 0 => continue,
                Err(refusal) => return Err(TransactError::Refused(refusal)),
            }
        };
        let (answer, txn) = decided;
        let Some(txn) = txn else {
            // "Nothing to do" may be out of date as well.
            if attempt == 0 {
                continue;
            }
            return Ok(Committed { answer, revision: view.revision(), replayed: false });
        };
        match ledger.propose(txn).await? {
            Outcome::Committed(revision) => {
                return Ok(Committed { answer, revision, replayed: false });
            }
            Outcome::Replayed(revision, bytes) if request.may_be_repeated => {
                return replayed(revision, &bytes);
            }
            // It was sent again on its way, and both have arrived.
            Outcome::Replayed(revision, _) if lost_to.is_empty() => {
                return Ok(Committed { answer, revision, replayed: false });
            }
            Outcome::Replayed(..) => {
                let told = "an earlier attempt, which was told to have lost, has come through after all";
                return Err(Unavailable::Unknown(told.into()).into());
            }
            Outcome::Fenced(term) => return Err(TransactError::Fenced(term)),
            Outcome::Conflict(what, _) => lost_to = what,
            Outcome::Nothing => lost_to = "an entry without a transaction".into(),
        }
    }
    Err(TransactError::Conflict { what: lost_to })
}

/// Lets `rule` decide on a view and answers with the transaction that [`transact`] would propose, for a state that no
/// replica runs on yet. `None` if there is nothing to change.
pub fn decide<A, E>(
    view: &View,
    now: jiff::Timestamp,
    rule: impl FnOnce(&mut Tx<'_>) -> Result<A, E>,
) -> Result<Option<Txn>, E> {
    let mut tx = Tx::new(view, now);
    rule(&mut tx)?;
    Ok(tx.finish(RequestId::new(), None, vec![]))
}

fn replayed<A: DeserializeOwned, E>(
    revision: Revision,
    bytes: &[u8],
) -> Result<Committed<A>, TransactError<E>> {
    let answer = serde_json::from_slice(bytes).map_err(ReadError::new)?;
    Ok(Committed { answer, revision, replayed: true })
}
