//! The index that a linearizable read has to wait for, shared by all who wait for one.
//!
//! Only the leader knows it, and only after a quorum has confirmed that it still leads. Readers that come while it is
//! being asked for wait for the next answer, and get it together: the one on its way may be older than their question.
//!
//! Of three voters, the leader and one follower are a quorum, so one word of a follower is the confirmation, and Raft
//! itself need not be asked:
//!
//! - Readers at a follower: it says with its question in which term it follows the leader and has voted for nobody later.
//! - Readers at the leader: it asks one follower the same.
//!
//! Why that is enough: when the follower says so, after the reads have begun, it has promised nothing to a later leader,
//! and when the leader answers, neither has the leader. A later leader needs one of the two, so there was none yet. And
//! a leader that has applied an entry of its own term has applied all that earlier leaders have acknowledged; what it
//! has acknowledged itself it had applied before.
//!
//! Questions and answers of one manager go over one [`Line`], as long as it asks the same other one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use skep_ledger::{Feed, Revision, Term};
use skep_wire::channels::Purpose;
use skep_wire::proto::peer::{ConfirmReply, ConfirmRequest, ReadIndexReply, ReadIndexRequest};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::ballot::Ballot;
use crate::network::Network;
use crate::replica::Replica;
use crate::types::Raft;

/// A read index is cheap to ask for again, and a lost one must not hold a reader up.
const TRY_MAX: Duration = Duration::from_millis(500);

/// A follower that does not confirm within this time is not waited for; another one is asked.
const CONFIRM_MAX: Duration = Duration::from_millis(50);

type Answer = Result<Revision, String>;

/// Where readers ask. The asking ends with the last handle.
pub(crate) struct ReadIndexes(mpsc::UnboundedSender<oneshot::Sender<Answer>>);

impl ReadIndexes {
    pub(crate) fn start(raft: Raft, network: Network, standing: Standing, lease: bool) -> ReadIndexes {
        let (readers, asked) = mpsc::unbounded_channel();
        tokio::spawn(answer_together(
            Leader { raft, network, standing, lease, to_leader: None, to_follower: None },
            asked,
        ));
        ReadIndexes(readers)
    }

    /// An index that contains every write that was acknowledged before this call.
    pub(crate) async fn next(&self) -> Answer {
        let ended = || "this replica has stopped".to_owned();
        let (reader, answer) = oneshot::channel();
        self.0.send(reader).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

async fn answer_together(mut leader: Leader, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Answer>>) {
    let mut readers = Vec::new();
    while asked.recv_many(&mut readers, usize::MAX).await > 0 {
        let answer = timeout(TRY_MAX, leader.read_index()).await.unwrap_or_else(|_| {
            Err(format!("the leader was not confirmed within {} ms", TRY_MAX.as_millis()))
        });
        for reader in readers.drain(..) {
            // A reader that has gone needs no answer.
            let _ = reader.send(answer.clone());
        }
    }
}

/// The way to whoever leads.
struct Leader {
    raft: Raft,
    network: Network,
    standing: Standing,
    /// See [`crate::ReplicaConfig::lease_reads`].
    lease: bool,
    /// While another manager leads.
    to_leader: Option<Line<ReadIndexRequest, Streaming<ReadIndexReply>>>,
    /// While this one does. The follower that confirmed last is asked first, so that a silent one delays one round of
    /// readers and not all.
    to_follower: Option<Line<ConfirmRequest, Streaming<ConfirmReply>>>,
}

impl Leader {
    async fn read_index(&mut self) -> Answer {
        let leader = self.raft.metrics().borrow_watched().current_leader;
        let leader = leader.ok_or("there is no leader")?;
        if leader != self.network.node {
            return self.ask(leader).await.map_err(|status| status.message().to_owned());
        }
        if !self.lease
            && let Some(index) = self.confirmed_by_one().await
        {
            return Ok(index);
        }
        let policy = if self.lease { ReadPolicy::LeaseRead } else { ReadPolicy::ReadIndex };
        let linearizer = self.raft.get_read_linearizer(policy).await;
        Ok(linearizer.map_err(|error| error.to_string())?.read_log_id().index())
    }

    async fn ask(&mut self, leader: u64) -> Result<Revision, Status> {
        let mut client = self.network.client(leader, Purpose::Heartbeat)?;
        let follows_in_term = self.standing.ballot.follows(leader);
        let question = ReadIndexRequest { node: self.network.node, follows_in_term };
        let open = async move |questions| client.read_index(questions).await;
        Ok(ask_over(&mut self.to_leader, leader, question, open).await?.index)
    }

    /// The index, if one follower is enough and says at once that it follows.
    async fn confirmed_by_one(&mut self) -> Option<Revision> {
        let own = self.network.node;
        let term = self.standing.ballot.follows(own)?;
        let mut voters = voters_if_two_are_a_quorum(&self.raft)?;
        if !voters.remove(&own) {
            return None;
        }
        let first = self.to_follower.as_ref().map(|line| line.to);
        for follower in asked_first(voters, first) {
            let question = ConfirmRequest { leader: own, term };
            if let Ok(Ok(true)) = timeout(CONFIRM_MAX, self.follows(follower, question)).await {
                return self.standing.index_in(term, own);
            }
        }
        None
    }

    async fn follows(&mut self, follower: u64, question: ConfirmRequest) -> Result<bool, Status> {
        let mut client = self.network.client(follower, Purpose::Heartbeat)?;
        let open = async move |questions| client.confirm(questions).await;
        Ok(ask_over(&mut self.to_follower, follower, question, open).await?.follows)
    }
}

/// Questions to one other manager, one at a time, and their answers. One stream each way costs less than a request of
/// its own for each question, and there are thousands a second.
struct Line<Question, Answers> {
    to: u64,
    questions: mpsc::UnboundedSender<Question>,
    answers: Answers,
}

type Questions<Question> = UnboundedReceiverStream<Question>;

impl<Question, Told, Answers> Line<Question, Answers>
where
    Answers: Stream<Item = Result<Told, Status>> + Unpin,
{
    /// The answer, and the line for the next question. A line whose answer nobody has waited for is gone: the next
    /// question would get an answer from before it was asked.
    async fn ask(mut self, question: Question) -> Result<(Line<Question, Answers>, Told), Status> {
        let ended = || Status::unavailable("the other manager has ended the conversation");
        self.questions.send(question).map_err(|_| ended())?;
        let answer = self.answers.next().await.ok_or_else(ended)??;
        Ok((self, answer))
    }
}

/// Asks over the line that is there, or over a new one if that leads elsewhere or has ended.
async fn ask_over<Question: Copy, Told, Answers>(
    line: &mut Option<Line<Question, Answers>>,
    to: u64,
    question: Question,
    open: impl AsyncFnOnce(Questions<Question>) -> Result<Response<Answers>, Status>,
) -> Result<Told, Status>
where
    Answers: Stream<Item = Result<Told, Status>> + Unpin,
{
    if let Some(there) = line.take().filter(|line| line.to == to)
        && let Ok((there, answer)) = there.ask(question).await
    {
        *line = Some(there);
        return Ok(answer);
    }
    let (questions, asked) = mpsc::unbounded_channel();
    let answers = open(Questions::new(asked)).await?.into_inner();
    let (new, answer) = Line { to, questions, answers }.ask(question).await?;
    *line = Some(new);
    Ok(answer)
}

/// How far this replica is, and whom it follows.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) ballot: Ballot,
    /// See [`crate::state_machine::StateMachine::applied_term`].
    pub(crate) applied_term: Arc<AtomicU64>,
    pub(crate) feed: Arc<Feed>,
}

impl Standing {
    /// The index for readers, if this replica, `own`, still leads in `term` and has applied an entry of it.
    fn index_in(&self, term: Term, own: u64) -> Option<Revision> {
        let applied = self.applied_term.load(Ordering::Acquire) == term;
        let leads = self.ballot.follows(own) == Some(term);
        (applied && leads).then(|| *self.feed.latest().borrow())
    }
}

/// The voters, if any two of them can agree on everything.
fn voters_if_two_are_a_quorum(raft: &Raft) -> Option<BTreeSet<u64>> {
    let metrics = raft.metrics();
    let now = metrics.borrow_watched();
    match now.membership_config.membership().get_joint_config().as_slice() {
        [voters] if voters.len() <= 3 => Some(voters.clone()),
        _ => None,
    }
}

fn asked_first(followers: BTreeSet<u64>, first: Option<u64>) -> impl Iterator<Item = u64> {
    let known = first.filter(|first| followers.contains(first));
    known.into_iter().chain(followers.into_iter().filter(move |follower| Some(*follower) != first))
}

impl Replica {
    /// The index for a follower's readers; only the leader can say.
    pub(crate) async fn read_index_for(&self, request: ReadIndexRequest) -> Answer {
        let own = self.identity().1;
        if let Some(term) = request.follows_in_term
            && let Some(voters) = voters_if_two_are_a_quorum(self.raft())
            && request.node != own
            && voters.contains(&request.node)
            && voters.contains(&own)
            && let Some(index) = self.standing().index_in(term, own)
        {
            return Ok(index);
        }
        if !self.is_leader() {
            return Err(format!("manager {own} does not lead"));
        }
        // It was let in when it opened its stream, and may have been removed since.
        if !self.members_now().contains_key(&request.node) {
            return Err(format!("manager {} does not belong to the cluster", request.node));
        }
        self.read_indexes().next().await
    }

    /// Does this replica follow that leader, and nobody later?
    pub(crate) fn confirms(&self, request: ConfirmRequest) -> bool {
        self.standing().ballot.follows(request.leader) == Some(request.term)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::stream::BoxStream;
    use tokio::sync::Semaphore;

    use super::*;

    /// Another manager that answers a question with the same number, once it is allowed to.
    struct Echo(Arc<Semaphore>);

    type Answers = BoxStream<'static, Result<u64, Status>>;

    impl Echo {
        async fn hear(&self, questions: Questions<u64>) -> Result<Response<Answers>, Status> {
            let allowed = self.0.clone();
            let answers = questions.then(move |question| {
                let allowed = allowed.clone();
                async move { allowed.acquire().await.map(|_| question).map_err(|_| Status::aborted("gone")) }
            });
            Ok(Response::new(answers.boxed()))
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one() {
        let (mut line, echo) = (None, Echo(Arc::new(Semaphore::new(0))));
        let first = ask_over(&mut line, 2, 1, async |questions| echo.hear(questions).await);
        assert!(first.now_or_never().is_none(), "not allowed yet");
        echo.0.add_permits(1);
        for question in [2, 3] {
            let answer = ask_over(&mut line, 2, question, async |questions| echo.hear(questions).await).await;
            assert_eq!(answer.expect("answered"), question);
        }
    }

    #[tokio::test]
    async fn a_line_that_has_ended_or_leads_elsewhere_is_opened_anew() {
        let (mut line, mut opened) = (None, vec![]);
        let mut ask = async |to, alive: bool| {
            let echo = Echo(Arc::new(Semaphore::new(1)));
            let hear = async |questions| {
                opened.push(to);
                echo.hear(questions).await
            };
            let answer = ask_over(&mut line, to, 7, hear).await;
            if !alive {
                echo.0.close();
            }
            assert_eq!(answer.expect("answered"), 7);
        };
        ask(2, true).await;
        ask(2, false).await;
        ask(3, false).await;
        ask(3, true).await;
        assert_eq!(opened, [2, 3, 3]);
    }

    #[test]
    fn who_confirmed_last_is_asked_first_and_the_others_after_it() {
        let asked = |first| asked_first(BTreeSet::from([1, 2, 3]), first).collect::<Vec<_>>();
        assert_eq!(asked(Some(3)), [3, 1, 2]);
        assert_eq!(asked(Some(1)), [1, 2, 3]);
        assert_eq!(asked(None), [1, 2, 3]);
        assert_eq!(asked(Some(9)), [1, 2, 3], "one that is no voter any more");
    }
}
