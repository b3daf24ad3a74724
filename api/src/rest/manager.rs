//! Managers that come, go and change their parts: join tokens, actions, and what the managers do by themselves.
//!
//! Apart from `cluster.rs`, which only shows and answers without a leader; everything here changes something.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_model::manager::{self, ManagerRole, TokenWish};
use skep_model::sans;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed, answered};
use crate::cluster::{ClusterStatus, MemberAction};
use crate::dress::At;
use crate::extract::{Place, Read, Reading, Reference};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Refused, Reply};
use crate::rest::List;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(tokens, create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(autopilot, set_autopilot))
        .routes(routes!(sans, set_sans))
        .routes(routes!(transfer_leader))
        .routes(routes!(rotate_certificates))
        .routes(routes!(drain))
        .routes(routes!(resume))
        .routes(routes!(promote))
        .routes(routes!(remove))
}

/// With what a new manager joins.
#[derive(Debug, Serialize, ToSchema)]
struct JoinToken {
    /// Names it.
    id: String,
    /// `voter`, or `standby`: receives everything and does not vote.
    role: &'static str,
    /// How many more may join with it.
    uses_left: u32,
    /// When it ends.
    expires_at: Timestamp,
    /// The token itself; only in the answer to whoever made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Peer addresses of the present managers, for the joiner to ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    join: Vec<String>,
}

/// A join token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct JoinTokenWish {
    /// `voter` (the default) or `standby`.
    #[schema(value_type = Option<String>, example = "voter", pattern = "^(voter|standby)$")]
    role: Option<ManagerRole>,
    /// How long it is valid; an hour if nothing is said.
    #[schema(minimum = 1, maximum = 86400)]
    ttl_seconds: Option<u32>,
    /// How many may join with it; one if nothing is said.
    #[schema(minimum = 1, maximum = 9)]
    uses: Option<u32>,
}

/// What the managers do by themselves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Autopilot {
    /// After how long a dead voter is removed, if at least three voters stay and one more of them may fail. Null:
    /// never.
    #[schema(minimum = 60, maximum = 31_536_000)]
    remove_dead_after_seconds: Option<u64>,
}

/// The names under which clients know the cluster, beside the managers' own addresses.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Sans {
    /// DNS names and IP addresses, of a load balancer for instance; managers have them in their certificates within
    /// seconds.
    #[schema(max_items = 32)]
    names: Vec<SanName>,
}

/// A DNS name or an IP address, without a scheme or a port.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(example = "skep.example.com", min_length = 1, max_length = 253, pattern = "^[0-9A-Za-z.:-]+$")]
struct SanName(String);

/// Who shall lead.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TransferWish {
    /// Its name or number; null lets the furthest one lead.
    to: Option<String>,
}

/// Whose certificate shall be replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateWish {
    /// Its name or number; null means every manager.
    member: Option<String>,
}

impl JoinToken {
    fn new(token: &manager::JoinToken) -> JoinToken {
        JoinToken {
            id: token.id.clone(),
            role: match token.role {
                ManagerRole::Voter => "voter",
                ManagerRole::Standby => "standby",
            },
            uses_left: token.uses_left,
            expires_at: token.expires_at,
            token: None,
            join: vec![],
        }
    }
}

impl From<manager::Autopilot> for Autopilot {
    fn from(autopilot: manager::Autopilot) -> Autopilot {
        Autopilot { remove_dead_after_seconds: autopilot.remove_dead_after_seconds }
    }
}

impl From<sans::Sans> for Sans {
    fn from(sans: sans::Sans) -> Sans {
        Sans { names: sans.names.into_iter().map(SanName).collect() }
    }
}

/// Lists the join tokens.
#[utoipa::path(get, path = "/v1/cluster/join-tokens", operation_id = "list_join_tokens",
    params(Reading, Paging), responses((status = 200, body = List<JoinToken>, description = "All of them"), Refused))]
async fn tokens(ReadList(view, listing): ReadList) -> Reply<Page> {
    let items: Vec<_> = manager::tokens(&view)?.iter().map(JoinToken::new).collect();
    listing.page(view.revision(), items, &["expires_at", "id"])
}

/// Makes a join token.
#[utoipa::path(post, path = "/v1/cluster/join-tokens", operation_id = "create_join_token",
    params(Changing, Keyed), request_body = JoinTokenWish,
    responses(
    (status = 201, body = JoinToken, description = "Made; the token is shown this once"),
    (status = 200, body = JoinToken, description = "Dry run: what would be made, without the token"),
    Refused,
))]
async fn create_token(State(api): State<Api>, asked: Asked<JoinTokenWish>) -> Reply<Response> {
    let life = asked.wish.ttl_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
    let wish = TokenWish {
        id: Uuid::now_v7().simple().to_string(),
        role: asked.wish.role.unwrap_or_default(),
        life: life.unwrap_or(manager::JOIN_TOKEN_LIFE),
        uses: asked.wish.uses.unwrap_or(1),
    };
    let rule = |tx: &mut skep_ledger::Tx<'_>| manager::create_token(tx, &wish);
    if asked.change.is_dry_run() {
        let rehearsed = api.rehearse(&asked.change, rule).await?;
        return Ok(At(rehearsed.revision, Json(JoinToken::new(&rehearsed.answer))).into_response());
    }
    let committed = api.commit(&asked.change, rule).await?;
    let mut token = JoinToken::new(&committed.answer);
    // The id of the first answer, if this one repeats it: the same id is the same token.
    token.token = Some(api.parts.cluster.join_token(&token.id));
    let members = api.parts.cluster.status().await.members;
    let reachable = members.into_iter().filter(|member| member.state != "unreachable");
    token.join = reachable.filter_map(|member| member.peer_address).collect();
    let location = [(header::LOCATION, format!("/v1/cluster/join-tokens/{}", token.id))];
    Ok(answered(&committed, (StatusCode::CREATED, location, Json(token))))
}

/// Makes a join token worthless.
#[utoipa::path(delete, path = "/v1/cluster/join-tokens/{token}", operation_id = "revoke_join_token",
    params(Changing, Keyed, ("token" = String, Path, description = "Its id")),
    responses((status = 200, body = JoinToken, description = "Revoked; as it was"), Refused))]
async fn revoke_token(
    State(api): State<Api>,
    Place(id): Place<Reference>,
    change: Change,
) -> Reply<Response> {
    let rule = |tx: &mut skep_ledger::Tx<'_>| manager::revoke_token(tx, &id);
    if change.is_dry_run() {
        let rehearsed = api.rehearse(&change, rule).await?;
        return Ok(At(rehearsed.revision, Json(JoinToken::new(&rehearsed.answer))).into_response());
    }
    let committed = api.commit(&change, rule).await?;
    Ok(answered(&committed, Json(JoinToken::new(&committed.answer))))
}

/// Shows what the managers do by themselves.
#[utoipa::path(get, path = "/v1/cluster/autopilot", operation_id = "show_autopilot",
    params(Reading), responses((status = 200, body = Autopilot, description = "As it is"), Refused))]
async fn autopilot(Read(view): Read) -> Reply<At<Json<Autopilot>>> {
    Ok(At(view.revision(), Json(manager::autopilot(&view)?.into())))
}

/// Sets what the managers do by themselves.
#[utoipa::path(put, path = "/v1/cluster/autopilot", operation_id = "set_autopilot",
    params(Changing, Keyed), request_body = Autopilot,
    responses((status = 200, body = Autopilot, description = "Set, or with a dry run as it would be"), Refused))]
async fn set_autopilot(State(api): State<Api>, asked: Asked<Autopilot>) -> Reply<Response> {
    let wish = manager::Autopilot { remove_dead_after_seconds: asked.wish.remove_dead_after_seconds };
    let rule = |tx: &mut skep_ledger::Tx<'_>| manager::set_autopilot(tx, &wish);
    let shown = |set: &manager::Autopilot, _| (StatusCode::OK, Autopilot::from(set.clone()));
    api.done(&asked.change, rule, shown).await
}

/// Shows under which names clients know the cluster.
#[utoipa::path(get, path = "/v1/cluster/sans", operation_id = "show_sans",
    params(Reading), responses((status = 200, body = Sans, description = "As they are"), Refused))]
async fn sans(Read(view): Read) -> Reply<At<Json<Sans>>> {
    Ok(At(view.revision(), Json(sans::get(&view)?.unwrap_or_default().into())))
}

/// Sets under which names clients know the cluster, all of them at once.
///
/// Each manager renews its certificate within seconds; nothing is interrupted.
#[utoipa::path(put, path = "/v1/cluster/sans", operation_id = "set_sans",
    params(Changing, Keyed), request_body = Sans,
    responses((status = 200, body = Sans, description = "Set, or with a dry run as it would be"), Refused))]
async fn set_sans(State(api): State<Api>, asked: Asked<Sans>) -> Reply<Response> {
    let wish: Vec<String> = asked.wish.names.into_iter().map(|name| name.0).collect();
    let rule = |tx: &mut skep_ledger::Tx<'_>| sans::set(tx, &wish);
    let shown = |set: &sans::Sans, _| (StatusCode::OK, Sans::from(set.clone()));
    api.done(&asked.change, rule, shown).await
}

/// Lets another manager lead.
#[utoipa::path(post, path = "/v1/cluster/actions/transfer-leader", operation_id = "transfer_leader",
    params(Changing, Keyed), request_body = TransferWish,
    responses((status = 200, body = ClusterStatus, description = "Done; the cluster as it is now"), Refused))]
async fn transfer_leader(State(api): State<Api>, asked: Asked<TransferWish>) -> Reply<Acted> {
    act(&api, MemberAction::TransferLeader(asked.wish.to), &asked.change).await
}

/// Replaces certificates; nothing is interrupted.
#[utoipa::path(post, path = "/v1/cluster/actions/rotate-certificates", operation_id = "rotate_certificates",
    params(Changing, Keyed), request_body = RotateWish,
    responses((status = 200, body = ClusterStatus, description = "Done; the cluster as it is now"), Refused))]
async fn rotate_certificates(State(api): State<Api>, asked: Asked<RotateWish>) -> Reply<Acted> {
    act(&api, MemberAction::RotateCertificate(asked.wish.member), &asked.change).await
}

/// Lets a manager serve nothing new, and not lead; load balancers see it at once.
#[utoipa::path(post, path = "/v1/cluster/members/{member}/actions/drain", operation_id = "drain_member",
    params(Changing, Keyed, ("member" = String, Path, description = "Its name or number")),
    responses((status = 200, body = ClusterStatus, description = "Done; the cluster as it is now"), Refused))]
async fn drain(State(api): State<Api>, Place(member): Place<Reference>, change: Change) -> Reply<Acted> {
    act(&api, MemberAction::Drain(member.to_string()), &change).await
}

/// Lets a drained manager serve again.
#[utoipa::path(post, path = "/v1/cluster/members/{member}/actions/resume", operation_id = "resume_member",
    params(Changing, Keyed, ("member" = String, Path, description = "Its name or number")),
    responses((status = 200, body = ClusterStatus, description = "Done; the cluster as it is now"), Refused))]
async fn resume(State(api): State<Api>, Place(member): Place<Reference>, change: Change) -> Reply<Acted> {
    act(&api, MemberAction::Resume(member.to_string()), &change).await
}

/// Lets a standby manager vote.
#[utoipa::path(post, path = "/v1/cluster/members/{member}/actions/promote", operation_id = "promote_member",
    params(Changing, Keyed, ("member" = String, Path, description = "Its name or number")),
    responses((status = 200, body = ClusterStatus, description = "Done; the cluster as it is now"), Refused))]
async fn promote(State(api): State<Api>, Place(member): Place<Reference>, change: Change) -> Reply<Acted> {
    act(&api, MemberAction::Promote(member.to_string()), &change).await
}

/// Takes a manager out of the cluster, for ever; refused if the others could not agree without it.
#[utoipa::path(post, path = "/v1/cluster/members/{member}/actions/remove", operation_id = "remove_member",
    params(Changing, Keyed, ("member" = String, Path, description = "Its name or number")),
    responses((status = 200, body = ClusterStatus, description = "Done; the cluster as it is now"), Refused))]
async fn remove(State(api): State<Api>, Place(member): Place<Reference>, change: Change) -> Reply<Acted> {
    act(&api, MemberAction::Remove(member.to_string()), &change).await
}

type Acted = At<Json<ClusterStatus>>;

/// All of these bring a state about and find it there when they are repeated; so they need no memory of requests.
async fn act(api: &Api, action: MemberAction, change: &Change) -> Reply<Acted> {
    api.parts.cluster.act(action, change.is_dry_run()).await?;
    let status = api.parts.cluster.status().await;
    Ok(At(status.revision, Json(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_token_does_not_show_its_secret() {
        let at = Timestamp::UNIX_EPOCH;
        let token = manager::JoinToken {
            id: "t1".into(),
            role: ManagerRole::Standby,
            uses_left: 1,
            expires_at: at,
            created_at: at,
        };
        let shown = serde_json::to_value(JoinToken::new(&token)).expect("serializes");
        assert_eq!(shown["role"], "standby");
        assert!(shown.get("token").is_none());
    }
}
