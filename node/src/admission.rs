//! How a manager is let in, from the cluster's side: the door that joiners knock at, and the leader's decision.
//!
//! ```text
//!   joiner ─ skep-join/1 ─► any manager ─ gRPC ─► leader: token or former certificate ─► number (ledger) ─► learner
//!                                                                                  (Raft) ─► certificate, keys
//! ```
//! Each step finds done what was done before, so a joiner that was interrupted asks again with the same key and gets
//! the same number.

use std::time::Duration;

use skep_ledger::{Request as Change, TransactError, transact};
use skep_model::manager::{self, Admission, Candidate, Standing};
use skep_raft::ManagerNode;
use skep_wire::framing::{MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::pki::{self, JoinToken, Joiner, PeerName, Role};
use skep_wire::proto::peer::members_server::Members as MembersRpc;
use skep_wire::proto::peer::{
    ActReply, ActRequest, Empty, JoinReply, JoinRequest, Joined, MemberRefusal, join_reply::Outcome,
};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use crate::config::TimingPreset;
use crate::members::{Members, changed, code, refusal};

/// A joiner that has not said what it wants by then is none.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// The leader's decision needs two agreements of the replicas.
const DECISION_MAX: Duration = Duration::from_secs(15);

/// Marks the refusal that tells a removed manager what has happened to it.
pub(crate) const REMOVED_MARK: &str = "skep-removed";

impl Members {
    /// Serves one joiner. `was` is the number in the certificate that it has shown.
    pub(crate) async fn serve_join<Io>(&self, mut io: Io, was: Option<u64>)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let read = timeout(REQUEST_MAX, read_message::<JoinRequest, _>(&mut io, MESSAGE_BYTES_MAX)).await;
        let Ok(Ok(request)) = read else {
            return tracing::debug!("a connection for joining brought no request");
        };
        // What a joiner says about its past counts only as far as its certificate says it too.
        let outcome = self.pass_on(JoinRequest { replaces: was, ..request }).await;
        let reply = JoinReply {
            outcome: Some(match outcome {
                Ok(joined) => Outcome::Joined(joined),
                Err(refused) => {
                    tracing::info!(code = refused.code, reason = refused.message, "a joiner was refused");
                    Outcome::Refused(refused)
                }
            }),
        };
        // Whether the joiner got it or not: it asks again if it did not.
        let _ = (write_message(&mut io, &reply, MESSAGE_BYTES_MAX).await, io.shutdown().await);
    }

    async fn pass_on(&self, request: JoinRequest) -> Result<Joined, MemberRefusal> {
        let no_leader = || refusal(code::NOT_LEADER, "no manager leads at present");
        let leader = self.replica.leader_id().ok_or_else(no_leader)?;
        if leader == self.config.node {
            return self.admit(request).await;
        }
        let lost = |why: String| refusal(code::UNKNOWN, format!("the leader, manager {leader}: {why}"));
        let mut client = self.client(leader).map_err(lost)?;
        match timeout(DECISION_MAX, client.join(request)).await {
            Ok(Ok(reply)) => match reply.into_inner().outcome {
                Some(Outcome::Joined(joined)) => Ok(joined),
                Some(Outcome::Refused(refused)) => Err(refused),
                None => Err(lost("an answer that neither accepts nor refuses".into())),
            },
            Ok(Err(status)) => Err(lost(status.message().to_owned())),
            Err(_) => Err(lost(format!("no decision within {} s", DECISION_MAX.as_secs()))),
        }
    }

    /// The leader's decision.
    async fn admit(&self, request: JoinRequest) -> Result<Joined, MemberRefusal> {
        if !self.replica.is_leader() {
            return Err(refusal(code::NOT_LEADER, "this manager does not lead any more"));
        }
        let refused = |error: &dyn std::fmt::Display| refusal(code::REFUSED, error.to_string());
        let node = self.addresses(&request)?;
        let key_hash = pki::request_key_hash(&request.csr_pem).map_err(|error| refused(&error))?;
        let token = self.token(&request)?;
        let _one_at_a_time = self.changing.lock().await;
        if let (None, Some(former)) = (&token, request.replaces) {
            self.may_come_back(former, &key_hash).await?;
        }
        let present = self.replica.members_now();
        let members: Vec<_> =
            present.iter().map(|(number, member)| (*number, member.node.name.clone())).collect();
        let by = match (&token, request.replaces) {
            (Some(token), _) => Admission::Token(&token.id),
            (None, Some(former)) => Admission::Former(former),
            (None, None) => return Err(refusal(code::REFUSED, "a join token is needed")),
        };
        let candidate = Candidate { name: &request.name, key_hash: &key_hash, by, members: &members };
        let admitted = transact(&*self.ledger, Change::new(), |tx| manager::admit(tx, &candidate)).await;
        let row = match admitted {
            Ok(committed) => committed.answer,
            Err(TransactError::Refused(refusal)) => return Err(refused(&refusal)),
            Err(error) => return Err(refusal(code::UNKNOWN, error.to_string())),
        };
        let node = ManagerNode { name: row.name.clone(), ..node };
        self.replica.admit(row.number, node.clone(), row.replaces).await.map_err(changed)?;
        tracing::info!(member = row.number, name = row.name, replaces = row.replaces, "a manager was let in");
        self.welcome(&request.csr_pem, row.number, &node).map_err(|error| refused(&error))
    }

    /// Has the former member the right to come back, and can it be done without?
    async fn may_come_back(&self, former: u64, key_hash: &[u8]) -> Result<(), MemberRefusal> {
        let rows = manager::list(&self.ledger.view()).unwrap_or_default();
        let known = rows.iter().any(|row| row.key_hash == key_hash && row.standing == Standing::Admitted);
        match known {
            true => Ok(()),
            false => self.replica.may_remove(former).await.map_err(changed),
        }
    }

    fn token(&self, request: &JoinRequest) -> Result<Option<JoinToken>, MemberRefusal> {
        if request.token.is_empty() {
            return Ok(None);
        }
        let identity = self.identity.now();
        let ours = |token: &JoinToken| {
            token.cluster == identity.cluster && token.is_derived_from(&identity.registration_key)
        };
        let token = JoinToken::parse(Joiner::Manager, &request.token).filter(ours);
        token
            .map(Some)
            .ok_or_else(|| refusal(code::REFUSED, skep_model::Refusal::JoinTokenUseless.to_string()))
    }

    fn addresses(&self, request: &JoinRequest) -> Result<ManagerNode, MemberRefusal> {
        let JoinRequest { peer_address, api_url, .. } = request;
        let has_port = |address: &str| {
            address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        if !has_port(peer_address) {
            let why = format!("the peer address '{peer_address}' is not HOST:PORT");
            return Err(refusal(code::REFUSED, why));
        }
        if !api_url.strip_prefix("https://").is_some_and(has_port) {
            return Err(refusal(
                code::REFUSED,
                format!("the API's address '{api_url}' is not https://HOST:PORT"),
            ));
        }
        Ok(ManagerNode {
            name: request.name.clone(),
            peer_address: peer_address.clone(),
            api_url: api_url.clone(),
        })
    }

    fn welcome(&self, csr_pem: &str, number: u64, node: &ManagerNode) -> Result<Joined, pki::PkiError> {
        let identity = self.identity.now();
        let api = node.api_url.trim_start_matches("https://").to_owned();
        let mut addresses = vec![node.peer_address.clone(), api];
        addresses.extend(self.shared_names()?);
        Ok(Joined {
            node: number,
            name: node.name.clone(),
            certificate_pem: identity.authority()?.sign_manager_csr(csr_pem, number, &addresses)?,
            ca_pem: identity.ca_pem,
            ca_key_pem: identity.ca_key_pem,
            registration_key: identity.registration_key.to_vec(),
            lease_reads: self.config.lease_reads,
            timing: match self.config.timing {
                TimingPreset::Lan => "lan".into(),
                TimingPreset::Wan => "wan".into(),
            },
            drain_delay_secs: self.config.drain_delay_secs,
            epoch: self.replica.epoch(),
        })
    }

    /// Turns removed managers away, on each request: their certificates are valid, and their connections may be older
    /// than their removal.
    pub(crate) fn turn_away(
        self: &Arc<Self>,
    ) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + use<> {
        let outcasts = self.outcasts.subscribe();
        move |request| {
            let who = request.extensions().get::<PeerName>().map(|name| name.role.clone());
            match who {
                Some(Role::Manager(number)) if outcasts.borrow().contains(&number) => {
                    let why = format!("manager {number} was removed from the cluster");
                    let mut status = Status::permission_denied(why);
                    status.metadata_mut().insert(REMOVED_MARK, tonic::metadata::MetadataValue::from(number));
                    Err(status)
                }
                _ => Ok(request),
            }
        }
    }
}

/// The service behind the peer port.
pub(crate) struct MembersService(pub(crate) Arc<Members>);

#[tonic::async_trait]
impl MembersRpc for MembersService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let outcome = match self.0.admit(request.into_inner()).await {
            Ok(joined) => Outcome::Joined(joined),
            Err(refused) => Outcome::Refused(refused),
        };
        Ok(Response::new(JoinReply { outcome: Some(outcome) }))
    }

    async fn act(&self, request: Request<ActRequest>) -> Result<Response<ActReply>, Status> {
        let refused = self.0.act_here(request.into_inner()).await.err();
        Ok(Response::new(ActReply { refused }))
    }

    async fn removed(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.0.expelled.send_replace(true);
        Ok(Response::new(Empty {}))
    }

    async fn belongs(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}
